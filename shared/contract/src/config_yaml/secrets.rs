//! An entry of `secrets`: a record, some of its fields, an attachment or a notation becomes a file; or, but for an
//! attachment, variables.

use std::collections::BTreeSet;

use keeper_notation::{Notation, RecordRef};
use serde_saphyr::Spanned;

use super::document::{Scalar, Secret};
use super::entry::Entry;
use crate::agent_config::{Format, Naming, Selection, Variables};
use crate::files::{File, default_name};
use crate::format::rendering;
use crate::path::{CleanPath, default_path};
use crate::problem::{Reason, quoted};
use crate::scalars::{EnvPrefix, FileMode};
use crate::selection::{self, Value};

/// What an entry asks for.
#[derive(Debug)]
pub(super) enum Asked {
    File(File),
    Variables(Variables),
}

/// What an entry asks for; none if something is wrong with it.
pub(super) fn read(mut entry: Entry<'_>, secret: &Secret) -> Option<Asked> {
    entry.not_yet("template", secret.template.as_ref());
    entry.not_yet_on("injectAsK8sSecret", secret.inject_as_k8s_secret.as_ref());
    entry.not_yet("k8sSecretName", secret.k8s_secret_name.as_ref());
    entry.not_yet("k8sSecretKeys", secret.k8s_secret_keys.as_ref());
    entry.not_yet("k8sSecretType", secret.k8s_secret_type.as_ref());

    let as_variables = entry.switch("injectAsEnvVars", secret.inject_as_env_vars.as_ref());
    let selection = selected(&mut entry, secret);
    let fields = names(&mut entry, secret.fields.as_ref());
    if let Some(selection @ Selection::Notation(_)) = &selection
        && selection.attachment().is_none()
    {
        let why = "a notation is one value: remove it, or select by `record`";
        entry.excluded("fields", secret.fields.as_ref(), why);
    }
    // What else may stand in the entry hangs on it.
    if as_variables? {
        variables(&mut entry, secret, selection, fields).map(Asked::Variables)
    } else {
        file(&mut entry, secret, selection, fields).map(Asked::File)
    }
}

/// The file that an entry asks for.
fn file(
    entry: &mut Entry<'_>,
    secret: &Secret,
    selection: Option<Selection>,
    fields: Vec<String>,
) -> Option<File> {
    let why = "is for the names of variables: set `injectAsEnvVars` to true too, or remove it";
    entry.excluded("envPrefix", secret.env_prefix.as_ref(), why);
    let stated: Option<CleanPath> = entry.parsed("path", secret.path.as_ref(), Reason::BadPath);
    let own = own_format(entry, secret.format.as_ref());
    let mode = file_mode(entry, secret.mode.as_ref());

    let selection = selection?;
    if selection.attachment().is_some() {
        let why = "an attachment is published as it is: remove it";
        entry.excluded("fields", secret.fields.as_ref(), why);
        entry.excluded("format", secret.format.as_ref(), why);
    }
    let format = rendering(own, &selection, &fields, None)
        .map_err(|_| {
            let why = "raw is for one value: name exactly one field under `fields`, or choose another format";
            entry.excluded("format", secret.format.as_ref(), why);
        })
        .ok()?;
    let path = match (stated, &secret.path) {
        (Some(path), _) => path,
        (None, Some(_)) => return None,
        (None, None) => {
            let name = match &selection {
                Selection::File { file, .. } => file.clone(),
                other => default_name(other, None),
            };
            default_path(&name)
                .map_err(|_| {
                    let name = quoted(&name);
                    let why = format!(
                        "its default file name would be {name}, which is not usable: add a `path`"
                    );
                    entry.problem(Reason::BadPath, why);
                })
                .ok()?
        }
    };
    Some(File {
        annotation: entry.origin(),
        selection,
        fields,
        format,
        mode,
        path,
        has_path: secret.path.is_some(),
    })
}

/// The variables that an entry asks for in place of a file.
fn variables(
    entry: &mut Entry<'_>,
    secret: &Secret,
    selection: Option<Selection>,
    fields: Vec<String>,
) -> Option<Variables> {
    let why = "is of a file, and with `injectAsEnvVars` there is none: remove it, or ask for the file in an entry of its own";
    entry.excluded("path", secret.path.as_ref(), why);
    entry.excluded("format", secret.format.as_ref(), why);
    entry.excluded("mode", secret.mode.as_ref(), why);
    let prefix: Option<EnvPrefix> =
        entry.parsed("envPrefix", secret.env_prefix.as_ref(), Reason::BadValue);

    let selection = selection?;
    if selection.attachment().is_some() {
        let why = "an attachment is no variable: select a field, or set `injectAsEnvVars` to false";
        entry.excluded("file", secret.file.as_ref(), why);
        entry.excluded("notation", secret.notation.as_ref(), why);
        return None;
    }
    let prefix = match (prefix, &secret.env_prefix) {
        (Some(prefix), _) => prefix.0,
        (None, Some(_)) => return None,
        (None, None) => String::new(),
    };
    Some(Variables {
        annotation: entry.origin(),
        selection,
        fields,
        naming: Naming::Prefix(prefix),
    })
}

/// What it selects, but for the fields.
fn selected(entry: &mut Entry<'_>, secret: &Secret) -> Option<Selection> {
    match (&secret.record, &secret.notation) {
        (Some(_), Some(notation)) => {
            entry.excluded(
                "notation",
                Some(notation),
                "excludes `record`: remove one of them",
            );
            None
        }
        (None, None) => {
            let why = "selects nothing: name a `record`, or a `notation`";
            entry.problem(Reason::BadSelection, why);
            None
        }
        (Some(record), None) => {
            let record = of_record(entry, record);
            let file = match &secret.file {
                None => return record.map(Selection::Record),
                Some(file) => file,
            };
            let name = file.value.trim();
            if name.is_empty() {
                let why = "name an attachment of the record, by its file name, title or UID";
                entry.problem_at("file", file, Reason::BadSelection, why);
                return None;
            }
            record.map(|record| Selection::File {
                record,
                file: name.to_owned(),
            })
        }
        (None, Some(notation)) => {
            let why =
                "belongs to a `record`: remove it, or write the notation as <record>/file/<file>";
            entry.excluded("file", secret.file.as_ref(), why);
            of_notation(entry, notation).map(Selection::Notation)
        }
    }
}

fn of_record(entry: &mut Entry<'_>, record: &Spanned<String>) -> Option<RecordRef> {
    let text = &record.value;
    let why = match selection::parse(text) {
        Ok(Value::Selection(Selection::Record(record), None)) => return Some(record),
        Ok(Value::Selection(_, Some(_))) => {
            "holds a path: write it under `path`, and a colon of a title as \\:".to_owned()
        }
        Ok(Value::PathOnly(_)) => "is a path: name the record by its title or UID".to_owned(),
        Ok(Value::Selection(Selection::Field { .. }, None)) => {
            "is one field of a record: name it under `fields`, and write brackets of a title as \\[ and \\]".to_owned()
        }
        Ok(Value::Selection(_, None)) => {
            "is a notation: write it under `notation`, and a slash of a title as \\/".to_owned()
        }
        Err(error) => format!("is no record: {error}"),
    };
    let message = format!("{} {why}", quoted(text));
    entry.problem_at("record", record, Reason::BadSelection, message);
    None
}

/// A notation, or base64 of one.
fn of_notation(entry: &mut Entry<'_>, notation: &Spanned<String>) -> Option<Notation> {
    let text = notation.value.trim();
    Notation::parse_encoded(text)
        .map_err(|error| {
            let message = format!("{}: {error}", quoted(text));
            entry.problem_at("notation", notation, Reason::BadSelection, message);
        })
        .ok()
}

/// The fields that are named, as they are written.
fn names(entry: &mut Entry<'_>, fields: Option<&Spanned<Vec<Spanned<String>>>>) -> Vec<String> {
    let Some(fields) = fields else {
        return Vec::new();
    };
    if fields.value.is_empty() {
        let why = "name a field, or remove it: without it all fields are taken";
        entry.problem_at("fields", fields, Reason::BadSelection, why);
    }
    let mut seen = BTreeSet::new();
    for (i, field) in fields.value.iter().enumerate() {
        let why = match field.value.as_str() {
            "" => "name a field by its label or type",
            name if !seen.insert(name) => "stands in the list already: remove it",
            _ => continue,
        };
        entry.problem_at(&format!("fields[{i}]"), field, Reason::BadSelection, why);
    }
    fields.value.iter().map(|f| f.value.clone()).collect()
}

fn own_format(entry: &mut Entry<'_>, format: Option<&Spanned<String>>) -> Option<Format> {
    if format.is_some_and(|format| format.value == "template") {
        entry.not_yet("format", format);
        return None;
    }
    entry.parsed("format", format, Reason::BadValue)
}

fn file_mode(entry: &mut Entry<'_>, mode: Option<&Spanned<Scalar>>) -> Option<FileMode> {
    let mode = mode?;
    let Scalar::Text(text) = &mode.value else {
        let why = "is read as a number without quotes: write it as \"0440\"";
        entry.problem_at("mode", mode, Reason::BadValue, why);
        return None;
    };
    text.parse()
        .map_err(|error| entry.problem_at("mode", mode, Reason::BadValue, error))
        .ok()
}
