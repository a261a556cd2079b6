//! The environment variables that a pod asks for: `env-<NAME>`, and `inject-env-vars` in place of files. Those of a
//! `config` are read with it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::agent_config::{Naming, Selection, Variables};
use crate::annotations::{self, PREFIX};
use crate::env_name::{check_vault_name, is_env_name};
use crate::files::File;
use crate::problem::{Findings, Reason, quoted};
use crate::selection::{self, Value};

/// Moves the files of `secret`, `secrets` and `secret-<name>` to variables, as the annotation
/// `inject-env-vars` asks for; those of others stay.
pub(crate) fn in_place_of_files(
    files: Vec<File>,
    prefix: &str,
    findings: &mut Findings,
) -> (Vec<File>, Vec<Variables>) {
    let mut variables = Vec::new();
    let mut kept = Vec::new();
    for file in files {
        let replaced = match annotations::find(&file.annotation) {
            Some((found, _)) => ["secret", "secrets", "secret-<name>"].contains(&found.name),
            None => false,
        };
        if !replaced {
            kept.push(file);
            continue;
        }
        if file.selection.attachment().is_some() {
            findings.problem(
                &file.annotation,
                Reason::Conflict,
                format_args!("an attachment is no variable: select a field, or remove {PREFIX}inject-env-vars"),
            );
            continue;
        }
        if file.has_path {
            findings.warn(
                &file.annotation,
                format_args!(
                    "with inject-env-vars there are variables and no files: the path {} is not used",
                    quoted(file.path.as_str())
                ),
            );
        }
        variables.push(Variables {
            annotation: file.annotation,
            selection: file.selection,
            fields: file.fields,
            naming: Naming::Prefix(prefix.to_owned()),
        });
    }
    (kept, variables)
}

/// Reads the variables of `env-<NAME>`.
pub(crate) fn read(annotations: &BTreeMap<&str, &str>, findings: &mut Findings) -> Vec<Variables> {
    let mut variables = Vec::new();
    for (annotation, text) in annotations {
        let Some((family, Some(name))) = annotations::find(annotation) else {
            continue;
        };
        if family.name != "env-<NAME>" {
            continue;
        }
        match written(annotation, name, text) {
            Ok(one) => variables.push(one),
            Err((reason, message)) => findings.problem(annotation, reason, message),
        }
    }
    variables
}

fn written(annotation: &str, name: &str, text: &str) -> Result<Variables, (Reason, String)> {
    if !is_env_name(name) {
        let why =
            "is no name of a variable: write letters, digits, `_`, `-` and `.`, and no digit first";
        return Err((Reason::BadValue, format!("{} {why}", quoted(name))));
    }
    let wrong = |why: &str| (Reason::BadSelection, format!("{}: {why}", quoted(text)));
    let selection = match selection::parse(text) {
        Ok(Value::Selection(selection, None)) => selection,
        Ok(Value::Selection(_, Some(_)) | Value::PathOnly(_)) => {
            return Err(wrong(
                "a variable has no path: remove it, or use secret-<name> for a file",
            ));
        }
        Err(error) => return Err(wrong(&error.to_string())),
    };
    if selection.attachment().is_some() {
        return Err(wrong(
            "an attachment is no variable: select a field, or use file-<name>",
        ));
    }
    if matches!(selection, Selection::Record(_)) {
        return Err(wrong(
            "a variable holds one field: write record[field], such as Orders DB[password]",
        ));
    }
    Ok(Variables {
        annotation: annotation.to_owned(),
        selection,
        fields: Vec::new(),
        naming: Naming::Written(name.to_owned()),
    })
}

/// What is wrong with the names that are known, whatever the containers are; gives these names, with the annotation of
/// each.
pub(crate) fn check<'v>(
    variables: &'v [Variables],
    findings: &mut Findings,
) -> BTreeMap<String, &'v str> {
    let mut sources = BTreeMap::new();
    for one in variables {
        for name in one.names().into_iter().flatten() {
            let annotation = one.annotation.as_str();
            let prefix = match annotation.starts_with("config: ") {
                true => "`envPrefix` there".to_owned(),
                false => format!("{PREFIX}env-prefix"),
            };
            if matches!(one.naming, Naming::Prefix(_))
                && let Err(why) = check_vault_name(&name)
            {
                findings.problem(
                    annotation,
                    Reason::Conflict,
                    format_args!(
                        "the name of the variable {} {why}: set {prefix}, or give it a name with {PREFIX}env-<NAME>",
                        quoted(&name)
                    ),
                );
            }
            match sources.entry(name) {
                Entry::Vacant(entry) => drop(entry.insert(annotation)),
                Entry::Occupied(entry) if *entry.get() == annotation => findings.problem(
                    annotation,
                    Reason::Conflict,
                    format_args!(
                        "two of its fields are the variable {}: remove one of them",
                        quoted(entry.key())
                    ),
                ),
                Entry::Occupied(entry) => findings.problem(
                    annotation,
                    Reason::Conflict,
                    format_args!(
                        "the variable {} is that of {PREFIX}{} already: remove one of them, or set {prefix}",
                        quoted(entry.key()),
                        entry.get()
                    ),
                ),
            }
        }
    }
    sources
}
