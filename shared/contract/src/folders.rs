//! The folder that a pod asks for: `folder` or `folder-uid`, and where its files go.

use std::collections::BTreeMap;

use keeper_notation::FolderPath;

use crate::agent_config::FolderRef;
use crate::annotations::PREFIX;
use crate::layout;
use crate::path::CleanPath;
use crate::problem::{Findings, Reason, quoted};

/// One folder that is asked for.
#[derive(Debug)]
pub(crate) struct FolderRequest {
    /// Annotation without prefix; in a `config` with the place.
    pub(crate) annotation: String,
    pub(crate) folder: FolderRef,
    /// The directory for its files.
    pub(crate) path: CleanPath,
}

impl FolderRequest {
    /// Who is to blame for the path, without prefix.
    pub(crate) fn path_annotation(&self) -> &str {
        match self.annotation.as_str() {
            "folder" | "folder-uid" => "folder-path",
            elsewhere => elsewhere,
        }
    }
}

/// Reads the folder of a pod's annotations.
pub(crate) fn read(
    annotations: &BTreeMap<&str, &str>,
    findings: &mut Findings,
) -> Vec<FolderRequest> {
    let path = directory(annotations.get("folder-path").copied(), findings);
    let asked = match (annotations.get("folder"), annotations.get("folder-uid")) {
        (Some(_), Some(_)) => {
            findings.problem(
                "folder-uid",
                Reason::Conflict,
                format_args!("excludes {PREFIX}folder: remove one of them"),
            );
            return Vec::new();
        }
        (Some(text), None) => named("folder", by_path(text), findings),
        (None, Some(text)) => named("folder-uid", by_uid(text), findings),
        (None, None) => {
            if annotations.contains_key("folder-path") {
                findings.problem(
                    "folder-path",
                    Reason::Conflict,
                    format_args!(
                        "is where the files of {PREFIX}folder go: set that too, or remove it"
                    ),
                );
            }
            return Vec::new();
        }
    };
    let (Some((annotation, folder)), Some(path)) = (asked, path) else {
        return Vec::new();
    };
    vec![FolderRequest {
        annotation: annotation.to_owned(),
        folder,
        path,
    }]
}

/// The folder that an annotation names, and which that is.
fn named(
    annotation: &'static str,
    folder: Result<FolderRef, String>,
    findings: &mut Findings,
) -> Option<(&'static str, FolderRef)> {
    folder
        .map(|folder| (annotation, folder))
        .map_err(|why| findings.problem(annotation, Reason::BadSelection, why))
        .ok()
}

fn directory(text: Option<&str>, findings: &mut Findings) -> Option<CleanPath> {
    match text.unwrap_or(layout::DEFAULT_OUTPUT_DIR).parse() {
        Ok(path) => Some(path),
        Err(error) => {
            findings.problem("folder-path", Reason::BadPath, error);
            None
        }
    }
}

/// A folder by its path, or its UID.
///
/// # Errors
/// What is wrong with it, and the cure.
pub(crate) fn by_path(text: &str) -> Result<FolderRef, String> {
    let path = text.trim().parse::<FolderPath>();
    path.map(FolderRef::Path).map_err(|error| {
        format!(
            "{}: {error}: write the names from the shared folder down, such as Production/Databases, or a UID",
            quoted(text)
        )
    })
}

/// A folder by its UID.
///
/// # Errors
/// What is wrong with it, and the cure.
pub(crate) fn by_uid(text: &str) -> Result<FolderRef, String> {
    let uid = text.trim();
    let is_uid = uid
        .parse::<FolderPath>()
        .is_ok_and(|path| path.uid().is_some());
    match is_uid {
        true => Ok(FolderRef::Uid(uid.to_owned())),
        false => Err(format!(
            "{} is no UID, which is 22 characters of A-Z, a-z, 0-9, - and _: correct it, or name the folder by its path",
            quoted(uid)
        )),
    }
}
