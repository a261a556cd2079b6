//! Environment variables: the file that `keeper-exec` reads, and the one that Kubernetes reads by `fileKeyRef`.
//!
//! The first carries any value. The second has lines `NAME='value'` as the kubelet's `ParseEnv` takes them: there is no
//! way to write a single quote, an empty value counts as none, `\r` at the end of a line is lost and a line has at most
//! 64 KiB; and one value that it can't read costs the pod all of them. So they are refused here.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use keeper_contract::env_name::{check_vault_name, env_name};
use keeper_contract::{Naming, Variables};
use keeper_ksm::{Record, Value};
use zeroize::Zeroizing;

use super::{Buffer, RenderError, flat, with_members};

/// What `execve` takes in one string: 32 pages, its NUL byte included.
const MAX_ENTRY: usize = 128 * 1024;
/// Where the kubelet's reader of lines gives up.
const MAX_LINE: usize = 64 * 1024;
/// First byte of a variable that the pod's owner named, and of one that the vault named: `keeper-exec` lets only the first
/// replace a variable of the container's own.
const WRITTEN: &str = "+";
const FROM_VAULT: &str = "?";

/// The files while they are made.
#[derive(Default)]
pub(crate) struct Lines {
    exec: Option<Buffer>,
    file_key_ref: Option<Buffer>,
    /// The variables so far, and the fields that they are.
    names: BTreeMap<String, String>,
}

impl Lines {
    pub(crate) fn new(exec: bool, file_key_ref: bool) -> Self {
        Self {
            exec: exec.then(Buffer::default),
            file_key_ref: file_key_ref.then(Buffer::default),
            names: BTreeMap::new(),
        }
    }

    /// The files: the one for `keeper-exec`, then the one for Kubernetes, if they are there.
    pub(crate) fn into_files(self) -> Vec<Zeroizing<Vec<u8>>> {
        let files = [self.exec, self.file_key_ref];
        files
            .into_iter()
            .flatten()
            .map(Buffer::into_bytes)
            .collect()
    }
}

/// Adds the variables of a record.
///
/// # Errors
/// A field that is not there or has no value, a notation without exactly one, or what can't be a variable.
pub(crate) fn add_variables(
    lines: &mut Lines,
    record: &Record,
    variables: &Variables,
) -> Result<(), RenderError> {
    let Variables {
        selection,
        fields,
        naming,
        annotation: _,
    } = variables;
    with_members(record, selection, fields, |members| {
        for (field, values) in members {
            add(lines, field, values, naming, record.title())?;
        }
        Ok(())
    })
}

fn add(
    lines: &mut Lines,
    field: &str,
    values: &[Value<'_>],
    naming: &Naming,
    record: &str,
) -> Result<(), RenderError> {
    let (kind, name) = match naming {
        Naming::Written(name) => (WRITTEN, name.clone()),
        Naming::Prefix(prefix) => (FROM_VAULT, env_name(prefix, field)),
    };
    let unfit = |why: String| RenderError::Variable {
        what: format!(
            "the field `{field}` of the record `{record}` cannot be the variable `{name}`"
        ),
        why,
    };
    const RENAME: &str = "rename the field, select only the fields that you need, or set keeper.security/env-prefix (envPrefix in keeper.security/config)";
    if kind == FROM_VAULT {
        check_vault_name(&name).map_err(|why| unfit(format!("the name {why}; {RENAME}")))?;
    }
    match lines.names.entry(name.clone()) {
        Entry::Vacant(entry) => drop(entry.insert(format!("`{field}` of `{record}`"))),
        Entry::Occupied(entry) => {
            return Err(unfit(format!("that is {} already; {RENAME}", entry.get())));
        }
    }
    let mut value = Buffer::default();
    flat::text(&mut value, values);
    let value = value.as_str();
    if value.contains('\0') {
        return Err(unfit(
            "its value holds a NUL byte, which no environment can; use a file".to_owned(),
        ));
    }
    if name.len() + value.len() + 2 > MAX_ENTRY {
        return Err(unfit(
            "its value is longer than the 128 KiB that a variable may have; use a file".to_owned(),
        ));
    }
    if let Some(out) = &mut lines.exec {
        for part in [kind, &name, "=", value, "\0"] {
            out.push(part);
        }
    }
    if let Some(out) = &mut lines.file_key_ref {
        check_line(&name, value).map_err(|what| {
            unfit(format!(
                "its value {what}, which Kubernetes' fileKeyRef cannot carry; give the container its command and set keeper.security/env-method to exec, or change the value"
            ))
        })?;
        for part in [&name, "='", value, "'\n"] {
            out.push(part);
        }
    }
    Ok(())
}

/// What of a value the kubelet can't read.
fn check_line(name: &str, value: &str) -> Result<(), &'static str> {
    let longest = value.split('\n').map(str::len).max().unwrap_or(0);
    if value.is_empty() {
        Err("is empty")
    } else if value.contains('\'') {
        Err("holds a single quote")
    } else if value.contains("\r\n") {
        Err("holds a line that ends in a carriage return")
    } else if name.len() + "=''".len() + longest >= MAX_LINE {
        Err("has a line of 64 KiB or more")
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kubelet_cannot_read_is_refused() {
        let fits = "x".repeat(MAX_LINE - "A=''".len() - 1);
        for value in [
            "x",
            " ",
            "a b",
            "#",
            "\"$`\\",
            "a\nb\n",
            "\n",
            "\r",
            "x\r",
            "ü",
            &fits,
            &format!("{fits}\n{fits}"),
        ] {
            assert_eq!(check_line("A", value), Ok(()), "{:?}", value.get(..9));
        }
        for value in [
            "",
            "'",
            "it's",
            "a\r\nb",
            &format!("{fits}x"),
            &format!("a\n{fits}x\nb"),
        ] {
            assert!(check_line("A", value).is_err(), "{:?}", value.get(..9));
        }
    }
}
