//! The vault: folders, records and files with their keys, ready to be served.

pub(crate) mod edit;
mod file;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use crate::crypto::{self, CryptoError, Key};
use crate::json::Json;

pub use edit::{Change, Edit, EditError};
pub use file::{ClientEntry, FileEntry, FileQuirk, FolderQuirk, Mistake, RecordQuirk, VaultQuirk};
use file::{FolderEntry, RecordEntry, VaultFile};

/// Nesting of folders that is taken from a file.
const MAX_DEPTH: usize = 32;

/// Why a vault can't be loaded.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The file can't be read.
    #[error("{path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It isn't YAML, or not of the form of a vault.
    #[error("vault file: {0}")]
    Syntax(String),
    /// An entry can't be used.
    #[error("vault file: {at}: {problem}")]
    Entry {
        /// Path of folders and title.
        at: String,
        /// What is wrong with it.
        problem: String,
    },
    /// No keys could be made.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
}

/// A vault in memory. Everything in it is sealed anew for each answer.
#[derive(Debug, Clone)]
pub struct Vault {
    pub(crate) application: String,
    pub(crate) clients: Vec<ClientEntry>,
    pub(crate) client_versions: BTreeSet<String>,
    pub(crate) warnings: Vec<String>,
    pub(crate) quirks: BTreeSet<VaultQuirk>,
    /// Parents stand before their children.
    pub(crate) folders: Vec<Folder>,
    pub(crate) records: Vec<Record>,
    /// The revision of the latest change.
    pub(crate) revision: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Folder {
    pub(crate) uid: String,
    pub(crate) name: String,
    pub(crate) key: Key,
    pub(crate) parent: Option<String>,
    pub(crate) quirks: BTreeSet<FolderQuirk>,
}

#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) uid: String,
    pub(crate) key: Key,
    pub(crate) revision: u64,
    pub(crate) content: Json,
    /// UID of the folder that it is in; none for a record shared with the application itself.
    pub(crate) folder: Option<String>,
    pub(crate) files: Vec<File>,
    pub(crate) quirks: BTreeSet<RecordQuirk>,
}

#[derive(Debug, Clone)]
pub(crate) struct File {
    pub(crate) uid: String,
    pub(crate) key: Key,
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) kind: Option<String>,
    pub(crate) last_modified: Json,
    pub(crate) content: Vec<u8>,
    pub(crate) quirks: BTreeSet<FileQuirk>,
}

/// How the content of `path:` entries is found.
type Reader<'a> = &'a dyn Fn(&str) -> io::Result<Vec<u8>>;

impl Vault {
    /// Reads a vault file; `path` entries in it are relative to its directory.
    ///
    /// # Errors
    /// [`VaultError`], with the place of the mistake.
    pub fn load(path: &Path) -> Result<Self, VaultError> {
        let read = |source| VaultError::Read {
            path: path.to_owned(),
            source,
        };
        let yaml = std::fs::read_to_string(path).map_err(read)?;
        let directory = path.parent().unwrap_or(Path::new("."));
        Self::build(&yaml, &|name| std::fs::read(directory.join(name)))
    }

    /// Reads a vault from YAML text. It may not point to files.
    ///
    /// # Errors
    /// [`VaultError`], with the place of the mistake.
    pub fn parse(yaml: &str) -> Result<Self, VaultError> {
        Self::build(yaml, &no_files)
    }

    fn build(yaml: &str, read: Reader<'_>) -> Result<Self, VaultError> {
        let file: VaultFile = serde_saphyr::from_str_with_options(yaml, file::yaml_options())
            .map_err(|error| VaultError::Syntax(error.to_string()))?;
        let vault = Self {
            application: file.application,
            clients: file.clients,
            client_versions: file.client_versions,
            warnings: file.warnings,
            quirks: file.quirks,
            folders: Vec::new(),
            records: Vec::new(),
            revision: 1,
        };
        vault.check_clients()?;
        let mut builder = Builder {
            vault,
            seed: file.seed,
            read,
            uids: BTreeSet::new(),
        };
        for record in &file.records {
            builder.record(record, None, "")?;
        }
        for folder in &file.folders {
            builder.folder(folder, None, "", 0)?;
        }
        Ok(builder.vault)
    }

    fn check_clients(&self) -> Result<(), VaultError> {
        let mut names = BTreeSet::new();
        for client in &self.clients {
            let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if client.name.is_empty() || !client.name.chars().all(good) {
                return Err(VaultError::Entry {
                    at: format!("client `{}`", client.name),
                    problem: "a client's name is made of letters, digits, `-`, `_` and `.`".into(),
                });
            }
            if !names.insert(&client.name) {
                return Err(VaultError::Entry {
                    at: format!("client `{}`", client.name),
                    problem: "two clients have this name".into(),
                });
            }
        }
        Ok(())
    }

    pub(crate) fn folder(&self, uid: &str) -> Option<&Folder> {
        self.folders.iter().find(|folder| folder.uid == uid)
    }

    /// The shared folder at the top of the tree that `folder` is in.
    pub(crate) fn shared_root<'a>(&'a self, mut folder: &'a Folder) -> &'a Folder {
        // Parents stand before their children, so this ends.
        while let Some(parent) = folder.parent.as_deref().and_then(|uid| self.folder(uid)) {
            folder = parent;
        }
        folder
    }

    /// `Shared/Sub/…` of a folder.
    pub(crate) fn folder_path(&self, folder: &Folder) -> String {
        match folder.parent.as_deref().and_then(|uid| self.folder(uid)) {
            Some(parent) => format!("{}/{}", self.folder_path(parent), folder.name),
            None => folder.name.clone(),
        }
    }

    /// The first record that has an attachment of this UID, and the attachment.
    pub(crate) fn file(&self, uid: &str) -> Option<&File> {
        self.records
            .iter()
            .flat_map(|record| &record.files)
            .find(|file| file.uid == uid)
    }

    pub(crate) fn next_revision(&mut self) -> u64 {
        self.revision += 1;
        self.revision
    }
}

impl Record {
    pub(crate) fn title(&self) -> &str {
        self.content
            .get("title")
            .and_then(Json::as_str)
            .unwrap_or_default()
    }

    pub(crate) fn has(&self, quirk: RecordQuirk) -> bool {
        self.quirks.contains(&quirk)
    }

    /// The record's JSON with a `fileRef` field for its attachments, unless it states one itself.
    pub(crate) fn content_with_files(&self) -> Json {
        let mut content = self.content.clone();
        if self.files.is_empty() {
            return content;
        }
        if let Some(Json::Array(fields)) = content.entry("fields") {
            let stated = |field: &Json| field.get("type").and_then(Json::as_str) == Some("fileRef");
            if !fields.iter().any(stated) {
                let uids = self.files.iter().map(|file| Json::string(&file.uid));
                fields.push(file::new_field("fileRef", None, uids.collect()));
            }
        }
        content
    }
}

impl File {
    /// Makes an attachment of what was written about it.
    pub(crate) fn new(entry: &FileEntry, uid: String, read: Reader<'_>) -> Result<Self, FileError> {
        let content = match (&entry.text, &entry.base64, &entry.path, entry.size) {
            (Some(text), None, None, None) => text.clone().into_bytes(),
            (None, Some(base64), None, None) => {
                crypto::decode(&base64.split_whitespace().collect::<String>())
                    .map_err(|_| FileError::Problem("`base64` is not base64".into()))?
            }
            (None, None, Some(path), None) => {
                read(path).map_err(|e| FileError::Problem(format!("{path}: {e}")))?
            }
            (None, None, None, Some(size)) => b"0123456789abcdef"
                .iter()
                .copied()
                .cycle()
                .take(size)
                .collect(),
            _ => {
                return Err(FileError::Problem(
                    "exactly one of `text`, `base64`, `path` and `size` must say what is in it"
                        .into(),
                ));
            }
        };
        Ok(Self {
            uid,
            key: crypto::random()?,
            name: entry.name.clone(),
            title: entry.title.clone().unwrap_or_else(|| entry.name.clone()),
            kind: entry.kind.clone(),
            last_modified: entry
                .last_modified
                .clone()
                .unwrap_or_else(|| Json::Number(1_700_000_000_000_u64.into())),
            content,
            quirks: entry.quirks.clone(),
        })
    }
}

/// Why an attachment can't be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("{0}")]
    Problem(String),
    #[error(transparent)]
    Crypto(#[from] CryptoError),
}

pub(crate) fn no_files(_: &str) -> io::Result<Vec<u8>> {
    Err(io::Error::other("`path` can't be used here"))
}

/// A new random UID.
pub(crate) fn random_uid() -> Result<String, CryptoError> {
    Ok(uid_of(crypto::random()?))
}

/// 16 bytes as a UID that does not begin with `-` or `_`, as the SDKs make them.
fn uid_of(mut bytes: [u8; 16]) -> String {
    if bytes[0] & 0xf8 == 0xf8 {
        bytes[0] &= 0x7f;
    }
    crypto::b64url(&bytes)
}

/// Whether `text` has the form of a UID.
pub(crate) fn is_uid(text: &str) -> bool {
    text.len() == 22
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

struct Builder<'a> {
    vault: Vault,
    seed: String,
    read: Reader<'a>,
    uids: BTreeSet<String>,
}

impl Builder<'_> {
    fn folder(
        &mut self,
        entry: &FolderEntry,
        parent: Option<&str>,
        above: &str,
        depth: usize,
    ) -> Result<(), VaultError> {
        let at = format!("{above}{}", entry.name);
        if depth >= MAX_DEPTH {
            return Err(problem(&at, "folders are nested too deeply"));
        }
        if entry.name.is_empty() {
            return Err(problem(&at, "a folder needs a name"));
        }
        let uid = self.uid(entry.uid.as_deref(), "folder", &at, false)?;
        self.vault.folders.push(Folder {
            uid: uid.clone(),
            name: entry.name.clone(),
            key: crypto::random()?,
            parent: parent.map(str::to_owned),
            quirks: entry.quirks.clone(),
        });
        let below = format!("{at}/");
        for record in &entry.records {
            self.record(record, Some(&uid), &below)?;
        }
        for folder in &entry.folders {
            self.folder(folder, Some(&uid), &below, depth + 1)?;
        }
        Ok(())
    }

    fn record(
        &mut self,
        entry: &RecordEntry,
        folder: Option<&str>,
        above: &str,
    ) -> Result<(), VaultError> {
        let at = format!("{above}{}", entry.title);
        let quirk = |quirk| entry.quirks.contains(&quirk);
        if quirk(RecordQuirk::NoKey) && folder.is_some() {
            return Err(problem(&at, "`no-key` is for records outside folders"));
        }
        if quirk(RecordQuirk::FolderWrapped) && folder.is_none() {
            return Err(problem(&at, "`folder-wrapped` is for records in folders"));
        }
        let content = entry.content().map_err(|m| problem(&at, &m.0))?;
        let duplicate = quirk(RecordQuirk::Duplicate);
        let uid = self.uid(entry.uid.as_deref(), "record", &at, duplicate)?;
        let mut files = Vec::new();
        for file in &entry.files {
            let at = format!("{at}: file {}", file.name);
            let uid = self.uid(file.uid.as_deref(), "file", &at, false)?;
            files.push(
                File::new(file, uid, self.read).map_err(|error| match error {
                    FileError::Problem(text) => problem(&at, &text),
                    FileError::Crypto(error) => error.into(),
                })?,
            );
        }
        let revision = entry.revision.unwrap_or(1);
        self.vault.revision = self.vault.revision.max(revision);
        self.vault.records.push(Record {
            uid,
            key: crypto::random()?,
            revision,
            content,
            folder: folder.map(str::to_owned),
            files,
            quirks: entry.quirks.clone(),
        });
        Ok(())
    }

    /// The UID that was written, or one that follows from the seed and the place in the vault.
    fn uid(
        &mut self,
        given: Option<&str>,
        kind: &str,
        at: &str,
        repeats: bool,
    ) -> Result<String, VaultError> {
        if let Some(uid) = given {
            if !is_uid(uid) {
                return Err(problem(at, "a UID is 22 characters of `A-Z a-z 0-9 - _`"));
            }
            if !self.uids.insert(uid.to_owned()) && !repeats {
                return Err(problem(
                    at,
                    "its UID is already in use (see quirk `duplicate`)",
                ));
            }
            return Ok(uid.to_owned());
        }
        // Several entries may have one path: number them.
        let mut number = 0_u64;
        loop {
            let number_bytes = number.to_be_bytes();
            let parts = [
                self.seed.as_bytes(),
                kind.as_bytes(),
                at.as_bytes(),
                &number_bytes,
            ];
            let hash = crypto::sha256(&[
                &crypto::sha256(&[parts[0]]),
                parts[1],
                b"/",
                parts[2],
                parts[3],
            ]);
            let mut bytes = [0; 16];
            bytes.copy_from_slice(hash.split_at(16).0);
            let uid = uid_of(bytes);
            if self.uids.insert(uid.clone()) {
                return Ok(uid);
            }
            number += 1;
        }
    }
}

fn problem(at: &str, problem: &str) -> VaultError {
    VaultError::Entry {
        at: at.to_owned(),
        problem: problem.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YAML: &str = "
application: App
folders:
- name: Production
  folders:
  - name: Databases
    records: [{title: mysql, password: x}, {title: mysql, password: y}]
records:
- {title: flat, uid: AAAAAAAAAAAAAAAAAAAAAA, files: [{name: a, text: hello}, {name: b, size: 20}]}
";

    #[test]
    fn a_tree_becomes_lists_with_parents_first() {
        let vault = Vault::parse(YAML).unwrap();
        let paths: Vec<_> = vault.folders.iter().map(|f| vault.folder_path(f)).collect();
        assert_eq!(paths, ["Production", "Production/Databases"]);
        let databases = &vault.folders[1];
        assert_eq!(vault.shared_root(databases).name, "Production");
        assert_eq!(vault.records[1].folder.as_ref(), Some(&databases.uid));
        assert_eq!(vault.records[0].files[0].content, b"hello");
        assert_eq!(vault.records[0].files[1].content, b"0123456789abcdef0123");
    }

    #[test]
    fn uids_follow_from_seed_and_place() {
        let uids = |yaml: &str| -> Vec<String> {
            let vault = Vault::parse(yaml).unwrap();
            vault.records.iter().map(|r| r.uid.clone()).collect()
        };
        let first = uids(YAML);
        assert_eq!(first, uids(YAML));
        assert_ne!(first[1], first[2], "equal titles have different UIDs");
        assert!(first.iter().all(|uid| is_uid(uid)));
        assert_ne!(first[1], uids(&format!("seed: other\n{YAML}"))[1]);
    }

    #[test]
    fn derived_uids_do_not_begin_with_a_dash() {
        assert!(uid_of([0xff; 16]).starts_with('f'));
        assert!(uid_of([0xf8; 16]).starts_with('e'));
        assert!(uid_of([0xf7; 16]).starts_with('9'));
    }

    #[test]
    fn attachments_are_referred_to_by_a_field() {
        let vault = Vault::parse(YAML).unwrap();
        let record = &vault.records[0];
        let content = record.content_with_files().to_text();
        let expected = format!(
            r#"{{"type":"fileRef","value":["{}","{}"]}}"#,
            record.files[0].uid, record.files[1].uid
        );
        assert!(content.contains(&expected), "{content}");
    }

    #[test]
    fn mistakes_name_their_place() {
        for (yaml, part) in [
            ("records: [{title: A, uid: short}]", "A: a UID is 22"),
            (
                "records: [{title: A, uid: AAAAAAAAAAAAAAAAAAAAAA}, {title: B, uid: AAAAAAAAAAAAAAAAAAAAAA}]",
                "B: its UID is already in use",
            ),
            (
                "folders: [{name: F, records: [{title: A, quirks: [no-key]}]}]",
                "F/A: `no-key`",
            ),
            (
                "records: [{title: A, quirks: [folder-wrapped]}]",
                "A: `folder-wrapped`",
            ),
            (
                "folders: [{name: F, records: [{title: A, nope: x}]}]",
                "F/A: unknown key `nope`",
            ),
            (
                "records: [{title: A, files: [{name: f}]}]",
                "A: file f: exactly one",
            ),
            (
                "records: [{title: A, files: [{name: f, text: x, size: 1}]}]",
                "exactly one",
            ),
            (
                "records: [{title: A, files: [{name: f, base64: '?'}]}]",
                "not base64",
            ),
            (
                "records: [{title: A, files: [{name: f, path: x}]}]",
                "can't be used here",
            ),
            ("clients: [{name: a}, {name: a}]", "two clients"),
            ("clients: [{name: 'a b'}]", "letters, digits"),
            ("folders: [{name: ''}]", "needs a name"),
        ] {
            let error = Vault::parse(yaml).unwrap_err().to_string();
            assert!(error.contains(part), "{yaml}: {error}");
        }
    }

    #[test]
    fn the_documented_vault_is_a_vault() {
        let readme = include_str!("../../README.md");
        let block = readme.split("```yaml").nth(1).unwrap();
        let yaml = block.split("```").next().unwrap();
        let vault = Vault::parse(yaml).unwrap();
        assert_eq!(
            (
                vault.folders.len(),
                vault.records.len(),
                vault.clients.len()
            ),
            (2, 2, 2)
        );
    }

    #[test]
    fn the_example_vault_is_a_vault() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/vault.example.yaml");
        assert!(!Vault::load(Path::new(path)).unwrap().records.is_empty());
    }

    #[test]
    fn a_shortcut_may_repeat_a_uid() {
        let yaml = "records: [{title: A, uid: AAAAAAAAAAAAAAAAAAAAAA}, {title: B, uid: AAAAAAAAAAAAAAAAAAAAAA, quirks: [duplicate]}]";
        assert_eq!(Vault::parse(yaml).unwrap().records.len(), 2);
    }
}
