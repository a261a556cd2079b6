//! The annotation `config`: files, folders and variables as YAML, with more to say of each than an annotation can. It
//! becomes the same requests.
//!
//! A text that is no document of ours (no YAML, an unknown key, a wrong type) is one problem. In one that is, everything
//! wrong is reported at once. Each problem has its key, line and column.

mod document;
mod entry;
mod folders;
mod keys;
mod parse;
mod place;
pub mod reference;
mod secrets;
#[cfg(test)]
mod tests;

use entry::Entry;
use secrets::Asked;

use crate::agent_config::Variables;
use crate::files::File;
use crate::folders::FolderRequest;
use crate::problem::Findings;

/// The annotation's name.
const CONFIG: &str = "config";

/// What a `config` asks for.
#[derive(Debug, Default)]
pub(crate) struct Config {
    pub(crate) files: Vec<File>,
    pub(crate) folders: Vec<FolderRequest>,
    pub(crate) variables: Vec<Variables>,
}

/// Reads a `config`; what is wrong is recorded, and left out.
pub(crate) fn read(text: &str, findings: &mut Findings) -> Config {
    let document::Document { secrets, folders } = match parse::parse(text) {
        Ok(document) => document,
        Err(parse::Fault {
            reason,
            place,
            message,
        }) => {
            let place = place.map_or(String::new(), |place| format!("{place}: "));
            findings.problem(CONFIG, reason, format_args!("{place}{message}"));
            return Config::default();
        }
    };
    let mut config = Config::default();
    for (i, secret) in secrets.unwrap_or_default().into_iter().enumerate() {
        let entry = Entry::new(format!("secrets[{i}]"), secret.referenced, findings);
        match secrets::read(entry, &secret.value) {
            Some(Asked::File(file)) => config.files.push(file),
            Some(Asked::Variables(variables)) => config.variables.push(variables),
            None => {}
        }
    }
    for (i, folder) in folders.unwrap_or_default().into_iter().enumerate() {
        let entry = Entry::new(format!("folders[{i}]"), folder.referenced, findings);
        config.folders.extend(folders::folder(entry, folder.value));
    }
    config
}
