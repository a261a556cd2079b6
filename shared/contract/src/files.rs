//! The files that a pod asks for: what `secret`, `secrets`, `secret-<name>` and `file-<name>` select, and where each
//! goes.

use std::collections::BTreeMap;
use std::fmt;

use keeper_notation::RecordRef;

use crate::agent_config::{Format, Selection};
use crate::annotations;
use crate::format::rendering;
use crate::path::{CleanPath, default_path, slug};
use crate::problem::{Findings, Reason, quoted};
use crate::scalars::FileMode;
use crate::selection::{self, SelectionError, Value};

/// One file that is asked for.
#[derive(Debug)]
pub(crate) struct File {
    /// Annotation without prefix; in a `config` with the place.
    pub(crate) annotation: String,
    pub(crate) selection: Selection,
    /// The fields of a record that it holds; empty: all of them.
    pub(crate) fields: Vec<String>,
    pub(crate) format: Format,
    /// The mode, where it has one of its own.
    pub(crate) mode: Option<FileMode>,
    pub(crate) path: CleanPath,
    /// Whether the path is written out.
    pub(crate) has_path: bool,
}

/// What is wrong with one value.
struct Wrong(Reason, String);

/// Reads the files of a pod's annotations, in the order of their names; `format` is the annotation of that
/// name.
pub(crate) fn read(
    annotations: &BTreeMap<&str, &str>,
    format: Option<Format>,
    findings: &mut Findings,
) -> Vec<File> {
    let mut files = Vec::new();
    for (annotation, text) in annotations {
        let mut take = |name, value| match file(annotation, name, value, format) {
            Ok(file) => files.push(file),
            Err(Wrong(reason, message)) => findings.problem(annotation, reason, message),
        };
        match *annotation {
            "secret" | "secrets" => {
                let mut values = selection::list(text).peekable();
                // An empty list is one empty selection, which says what is wrong.
                if values.peek().is_none() {
                    take(None, "");
                }
                values.for_each(|value| take(None, value));
            }
            other => match annotations::find(other) {
                Some((family, Some(name))) if family.name == "secret-<name>" => {
                    take(Some(name), text);
                }
                Some((family, Some(_))) if family.name == "file-<name>" => {
                    match attachment(annotation, text) {
                        Ok(file) => files.push(file),
                        Err(Wrong(reason, message)) => {
                            findings.problem(annotation, reason, message)
                        }
                    }
                }
                _ => {}
            },
        }
    }
    files
}

/// One file: `name` is what `secret-<name>` gives it.
fn file(
    annotation: &str,
    name: Option<&str>,
    text: &str,
    format: Option<Format>,
) -> Result<File, Wrong> {
    let wrong = |reason, why: &dyn fmt::Display| Wrong(reason, format!("{}: {why}", quoted(text)));
    let (selection, path) = match (selection::parse(text), name) {
        (Ok(Value::Selection(selection, path)), _) => (selection, path),
        (Ok(Value::PathOnly(path)), Some(name)) => {
            (Selection::Record(RecordRef::titled(name)), Some(path))
        }
        (Ok(Value::PathOnly(_)), None) => {
            let why = "a path without a selection: write <record>:/path";
            return Err(wrong(Reason::BadSelection, &why));
        }
        (Err(error @ (SelectionError::Path(_) | SelectionError::RelativePath(_))), _) => {
            return Err(Wrong(Reason::BadPath, error.to_string()));
        }
        (Err(error), _) => return Err(wrong(Reason::BadSelection, &error)),
    };
    let has_path = path.is_some();
    let path = match path {
        Some(path) => path,
        None => default_path(&default_name(&selection, name))
            .map_err(|error| wrong(Reason::BadPath, &error))?,
    };
    let fields = Vec::new();
    let format = rendering(None, &selection, &fields, format)
        .map_err(|error| wrong(Reason::Conflict, &error))?;
    Ok(File {
        annotation: annotation.to_owned(),
        selection,
        fields,
        format,
        mode: None,
        path,
        has_path,
    })
}

/// One attachment.
fn attachment(annotation: &str, text: &str) -> Result<File, Wrong> {
    let wrong = |reason, why: &dyn fmt::Display| Wrong(reason, format!("{}: {why}", quoted(text)));
    let (selection, path) = match selection::parse_attachment(text) {
        Ok(parsed) => parsed,
        Err(SelectionError::Path(error)) => return Err(Wrong(Reason::BadPath, error.to_string())),
        Err(error) => return Err(wrong(Reason::BadSelection, &error)),
    };
    let has_path = path.is_some();
    let path = match path {
        Some(path) => path,
        None => default_path(selection.attachment().unwrap_or_default())
            .map_err(|error| wrong(Reason::BadPath, &error))?,
    };
    Ok(File {
        annotation: annotation.to_owned(),
        selection,
        fields: Vec::new(),
        format: Format::Raw,
        mode: None,
        path,
        has_path,
    })
}

/// The file name of a selection without a path.
pub(crate) fn default_name(selection: &Selection, name: Option<&str>) -> String {
    match (selection, name) {
        (Selection::Record(record), _) => format!("{}.json", slug(&record.title())),
        (_, Some(name)) => name.to_owned(),
        (other, None) => slug(&other.record().title()),
    }
}
