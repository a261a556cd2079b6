//! Where files go: at most one output for each path, none below another, and none that a mount of the
//! pod's own would hide.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::agent_config::{Directory, FolderOutput, Output};
use crate::annotations::PREFIX;
use crate::files::File;
use crate::folders::FolderRequest;
use crate::layout;
use crate::path::{CleanPath, PathError};
use crate::pod::Pod;
use crate::problem::{Findings, Reason, quoted};

/// Directories, outputs and folders of the agents' config; all empty if nothing is selected.
#[derive(Debug, Default)]
pub(crate) struct Placed {
    pub(crate) directories: Vec<Directory>,
    pub(crate) outputs: Vec<Output>,
    pub(crate) folders: Vec<FolderOutput>,
}

/// Gives files and folders their places.
pub(crate) fn place(
    files: Vec<File>,
    folders: Vec<FolderRequest>,
    pod: &Pod<'_>,
    findings: &mut Findings,
) -> Placed {
    let mut outputs: Vec<Output> = Vec::new();
    let mut taken: BTreeMap<String, String> = BTreeMap::new();
    for file in files {
        let path = match file.path.in_output_dir() {
            Ok(path) => path.to_owned(),
            Err(error) => {
                findings.problem(&file.annotation, reason_of(&error), error);
                continue;
            }
        };
        if let Some(first) = taken.get(&path) {
            findings.problem(
                &file.annotation,
                Reason::PathTaken,
                format_args!(
                    "{} is the output of {PREFIX}{first} already: give one of them a path of its own, such as :{}/x",
                    quoted(file.path.as_str()),
                    layout::DEFAULT_OUTPUT_DIR
                ),
            );
            continue;
        }
        taken.insert(path.clone(), file.annotation.clone());
        outputs.push(Output {
            directory: 0,
            path,
            selection: file.selection,
            fields: file.fields,
            format: file.format,
            mode: file.mode.map(|mode| mode.0),
            annotation: format!("{PREFIX}{}", file.annotation),
        });
    }
    for (path, annotation) in &taken {
        let above = parents(path).find_map(|parent| Some((parent, taken.get(parent)?)));
        if let Some((parent, other)) = above {
            findings.problem(
                annotation,
                Reason::PathTaken,
                format_args!(
                    "{} lies below {}, which is the file of {PREFIX}{other}: move one of them",
                    quoted(path),
                    quoted(parent)
                ),
            );
        }
    }
    let folders: Vec<FolderOutput> = folders
        .into_iter()
        .filter_map(|request| place_folder(request, &taken, findings))
        .collect();
    let first = outputs.first().map(|output| &output.annotation);
    let Some(first) = first.or(folders.first().map(|folder| &folder.annotation)) else {
        return Placed::default();
    };
    let directory = Directory {
        mount_path: layout::DEFAULT_OUTPUT_DIR.to_owned(),
        sub_path: format!("{}/0", layout::DIRECTORY_SUB_PATH),
        mount_points: mount_points(pod, first, &taken, &folders, findings),
    };
    Placed {
        directories: vec![directory],
        outputs,
        folders,
    }
}

/// A folder's files have names that only the vault knows: here it is only seen to it that there can be a directory.
fn place_folder(
    request: FolderRequest,
    taken: &BTreeMap<String, String>,
    findings: &mut Findings,
) -> Option<FolderOutput> {
    let path = match request.path.dir_in_output_dir() {
        Ok(path) => path.to_owned(),
        Err(error) => {
            findings.problem("folder-path", reason_of(&error), error);
            return None;
        }
    };
    let above = parents(&path)
        .chain([path.as_str()])
        .find_map(|parent| taken.get(parent));
    if let Some(other) = above {
        findings.problem(
            "folder-path",
            Reason::PathTaken,
            format_args!(
                "{} is, or lies below, the file of {PREFIX}{other}: move one of them",
                quoted(request.path.as_str())
            ),
        );
    }
    Some(FolderOutput {
        directory: 0,
        path,
        folder: request.folder,
        annotation: format!("{PREFIX}{}", request.annotation),
    })
}

fn reason_of(error: &PathError) -> Reason {
    match error {
        PathError::Elsewhere(_) => Reason::NotYet,
        _ => Reason::BadPath,
    }
}

/// The pod's own mounts below the published directory, relative to it.
fn mount_points(
    pod: &Pod<'_>,
    first: &str,
    outputs: &BTreeMap<String, String>,
    folders: &[FolderOutput],
    findings: &mut Findings,
) -> Vec<String> {
    let dir = CleanPath::lenient(layout::DEFAULT_OUTPUT_DIR);
    let first = first.trim_start_matches(PREFIX);
    let mut points = BTreeSet::new();
    for container in &pod.containers {
        let name = quoted(container.name());
        for (volume, path) in container.mounts() {
            let volume = quoted(volume);
            let at = quoted(path.as_str());
            match path.below(&dir) {
                Some("") => findings.problem(
                    first,
                    Reason::NotYet,
                    format_args!(
                        "container {name} mounts volume {volume} at {at}, where the secrets go: this version cannot publish into it, remove that mount"
                    ),
                ),
                Some(relative) if relative.split('/').any(|part| part.starts_with("..")) => findings.problem(
                    first,
                    Reason::MountConflict,
                    format_args!(
                        "container {name} mounts volume {volume} at {at}: names that begin with `..` are the injector's own, move it"
                    ),
                ),
                Some(relative) => match in_the_way(relative, outputs, folders) {
                    Some(annotation) => findings.problem(
                        annotation,
                        Reason::MountConflict,
                        format_args!(
                            "container {name} mounts volume {volume} at {at}, in the way of this output: move one of them"
                        ),
                    ),
                    None => drop(points.insert(relative.to_owned())),
                },
                None if dir.below(&path).is_some() => findings.problem(
                    first,
                    Reason::MountConflict,
                    format_args!(
                        "container {name} mounts volume {volume} at {at}, which would lie under {dir}: move that mount"
                    ),
                ),
                None => {}
            }
        }
    }
    points.into_iter().collect()
}

/// The annotation of an output that is at `mount`, below or above it, or of a folder whose directory is at it or
/// below.
fn in_the_way<'a>(
    mount: &str,
    outputs: &'a BTreeMap<String, String>,
    folders: &'a [FolderOutput],
) -> Option<&'a str> {
    let below = format!("{mount}/");
    let hidden = folders
        .iter()
        .find(|folder| folder.path == mount || folder.path.starts_with(&below));
    if let Some(folder) = hidden {
        return folder.annotation.strip_prefix(PREFIX);
    }
    let mut after = outputs.range::<str, _>((Bound::Included(below.as_str()), Bound::Unbounded));
    let lower = after.next().filter(|(path, _)| path.starts_with(&below));
    lower
        .map(|(_, annotation)| annotation)
        .or_else(|| outputs.get(mount))
        .or_else(|| parents(mount).find_map(|parent| outputs.get(parent)))
        .map(String::as_str)
}

/// The directories above a relative path.
fn parents(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').filter_map(|(at, _)| path.get(..at))
}
