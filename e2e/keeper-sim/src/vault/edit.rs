//! Changes to a running vault.

use serde::{Deserialize, Serialize};

use super::file::{is_field_type, new_field};
use super::{
    File, FileEntry, FileError, Folder, Record, RecordQuirk, Vault, is_uid, no_files, random_uid,
};
use crate::crypto::{self, CryptoError};
use crate::json::Json;

/// Titles that a message lists when a record isn't found.
const LISTED: usize = 20;

/// One change. Records are named by UID, title, or folder path and title; folders by UID or path.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(
    tag = "op",
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub enum Edit {
    /// Changes fields of a record.
    Set {
        /// Which record.
        record: String,
        /// What to change.
        changes: Vec<Change>,
    },
    /// Adds a record.
    Add {
        /// Its title.
        title: String,
        /// Its type; `login` where it is left out.
        #[serde(default, rename = "type")]
        kind: Option<String>,
        /// Its UID; random where it is left out.
        #[serde(default)]
        uid: Option<String>,
        /// The folder that it goes into; shared with the application itself where it is left out.
        #[serde(default)]
        folder: Option<String>,
        /// Its fields.
        #[serde(default)]
        changes: Vec<Change>,
    },
    /// Removes a record.
    Remove {
        /// Which record.
        record: String,
    },
    /// Moves a record to a folder, or out of all folders.
    Move {
        /// Which record.
        record: String,
        /// Where to; none for outside all folders.
        #[serde(default)]
        folder: Option<String>,
    },
    /// Makes a folder and what is missing above it.
    MakeFolder {
        /// Its path, which begins with the shared folder's name.
        path: String,
    },
    /// Gives a folder another name.
    RenameFolder {
        /// Which folder.
        folder: String,
        /// The new name.
        name: String,
    },
    /// Removes a folder, with what lies in it and below.
    RemoveFolder {
        /// Which folder.
        folder: String,
    },
    /// Adds an attachment, or replaces the one of the same name.
    Attach {
        /// Which record.
        record: String,
        /// The attachment.
        file: FileEntry,
    },
    /// Removes an attachment.
    Detach {
        /// Which record.
        record: String,
        /// Name of the attachment.
        file: String,
    },
}

/// A new value for one part of a record.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// `title`, `notes`, `type`, or a field: by label or type among the standard fields, then by label or
    /// type among the custom ones. A field that isn't there is added: as a standard one if this is a
    /// standard field type, else as a custom text field of this label.
    pub name: String,
    /// One value, or an array of all values.
    pub value: Json,
}

impl Change {
    /// A change to one text value.
    #[must_use]
    pub fn text(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            value: Json::string(value),
        }
    }
}

/// Why a change was refused. The vault is as it was.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// No such record.
    #[error("no record `{name}`; there are: {titles}")]
    NoRecord {
        /// What was looked for.
        name: String,
        /// The first titles that there are.
        titles: String,
    },
    /// Several records have this title.
    #[error("{count} records have the title `{name}`: use the UID")]
    Ambiguous {
        /// What was looked for.
        name: String,
        /// How many there are.
        count: usize,
    },
    /// No such folder.
    #[error("no folder `{0}`")]
    NoFolder(String),
    /// Anything else.
    #[error("{0}")]
    Invalid(String),
    /// No keys could be made.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
}

/// What a change touched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edited {
    /// UID of the record or folder.
    pub uid: String,
    /// The vault's revision after the change.
    pub revision: u64,
}

impl Vault {
    /// Makes one change and gives the record a new revision.
    ///
    /// # Errors
    /// [`EditError`]; nothing is changed then.
    pub fn edit(&mut self, edit: &Edit) -> Result<Edited, EditError> {
        let uid = match edit {
            Edit::Set { record, changes } => {
                let at = self.find(record)?;
                let mut content = self.record_at(at)?.content.clone();
                changes.iter().try_for_each(|c| apply(&mut content, c))?;
                let record = self.touch(at)?;
                record.content = content;
                record.uid.clone()
            }
            Edit::Add {
                title,
                kind,
                uid,
                folder,
                changes,
            } => self.add(
                title,
                kind.as_deref(),
                uid.as_deref(),
                folder.as_deref(),
                changes,
            )?,
            Edit::Remove { record } => {
                let at = self.find(record)?;
                self.next_revision();
                self.records.remove(at).uid
            }
            Edit::Move { record, folder } => {
                let at = self.find(record)?;
                let folder = self.optional_folder(folder.as_deref())?;
                let record = self.touch(at)?;
                record.folder = folder;
                record.uid.clone()
            }
            Edit::MakeFolder { path } => self.make_folder(path)?,
            Edit::RenameFolder { folder, name } => {
                let uid = self.find_folder(folder)?;
                if name.is_empty() {
                    return Err(EditError::Invalid("a folder needs a name".into()));
                }
                if let Some(folder) = self.folders.iter_mut().find(|f| f.uid == uid) {
                    folder.name.clone_from(name);
                }
                self.next_revision();
                uid
            }
            Edit::RemoveFolder { folder } => {
                let uid = self.find_folder(folder)?;
                self.remove_folder(&uid);
                self.next_revision();
                uid
            }
            Edit::Attach { record, file } => {
                let at = self.find(record)?;
                let file = new_file(file)?;
                let record = self.touch(at)?;
                match record.files.iter_mut().find(|old| old.name == file.name) {
                    Some(old) => *old = file,
                    None => record.files.push(file),
                }
                record.uid.clone()
            }
            Edit::Detach { record, file } => {
                let at = self.find(record)?;
                if !self
                    .record_at(at)?
                    .files
                    .iter()
                    .any(|old| old.name == *file)
                {
                    return Err(EditError::Invalid(format!(
                        "record `{record}` has no attachment `{file}`"
                    )));
                }
                let record = self.touch(at)?;
                record.files.retain(|old| old.name != *file);
                record.uid.clone()
            }
        };
        Ok(Edited {
            uid,
            revision: self.revision,
        })
    }

    /// Gives a record a quirk, or takes it away, and gives the record a new revision.
    pub(crate) fn set_quirk(
        &mut self,
        name: &str,
        quirk: RecordQuirk,
        on: bool,
    ) -> Result<(), EditError> {
        let at = self.find(name)?;
        let record = self.touch(at)?;
        if on {
            record.quirks.insert(quirk);
        } else {
            record.quirks.remove(&quirk);
        }
        Ok(())
    }

    /// UID of the record that `name` means.
    pub(crate) fn uid_of(&self, name: &str) -> Result<String, EditError> {
        Ok(self.record_at(self.find(name)?)?.uid.clone())
    }

    fn add(
        &mut self,
        title: &str,
        kind: Option<&str>,
        uid: Option<&str>,
        folder: Option<&str>,
        changes: &[Change],
    ) -> Result<String, EditError> {
        let folder = self.optional_folder(folder)?;
        let uid = match uid {
            Some(uid) if !is_uid(uid) => {
                return Err(EditError::Invalid(
                    "a UID is 22 characters of `A-Z a-z 0-9 - _`".into(),
                ));
            }
            Some(uid) if self.records.iter().any(|r| r.uid == uid) => {
                return Err(EditError::Invalid(format!("UID `{uid}` is already in use")));
            }
            Some(uid) => uid.to_owned(),
            None => random_uid()?,
        };
        let mut content = Json::Object(vec![
            ("title".to_owned(), Json::string(title)),
            ("type".to_owned(), Json::string(kind.unwrap_or("login"))),
            ("fields".to_owned(), Json::Array(Vec::new())),
            ("custom".to_owned(), Json::Array(Vec::new())),
        ]);
        changes.iter().try_for_each(|c| apply(&mut content, c))?;
        let key = crypto::random()?;
        let revision = self.next_revision();
        self.records.push(Record {
            uid: uid.clone(),
            key,
            revision,
            content,
            folder,
            files: Vec::new(),
            quirks: std::collections::BTreeSet::new(),
        });
        Ok(uid)
    }

    fn make_folder(&mut self, path: &str) -> Result<String, EditError> {
        if path.is_empty() || path.split('/').any(str::is_empty) {
            return Err(EditError::Invalid(format!("`{path}` is no folder path")));
        }
        let mut parent: Option<String> = None;
        for name in path.split('/') {
            let found = self
                .folders
                .iter()
                .find(|f| f.parent == parent && f.name == name)
                .map(|f| f.uid.clone());
            let uid = match found {
                Some(uid) => uid,
                None => {
                    let uid = random_uid()?;
                    self.folders.push(Folder {
                        uid: uid.clone(),
                        name: name.to_owned(),
                        key: crypto::random()?,
                        parent: parent.clone(),
                        quirks: std::collections::BTreeSet::new(),
                    });
                    self.next_revision();
                    uid
                }
            };
            parent = Some(uid);
        }
        parent.ok_or_else(|| EditError::NoFolder(path.to_owned()))
    }

    fn remove_folder(&mut self, uid: &str) {
        let mut removed = vec![uid.to_owned()];
        let mut next = 0;
        while let Some(uid) = removed.get(next).cloned() {
            let below = self
                .folders
                .iter()
                .filter(|f| f.parent.as_ref() == Some(&uid));
            removed.extend(below.map(|folder| folder.uid.clone()));
            next += 1;
        }
        self.folders.retain(|folder| !removed.contains(&folder.uid));
        let is_left =
            |record: &Record| !record.folder.as_ref().is_some_and(|f| removed.contains(f));
        self.records.retain(is_left);
    }

    /// Index of the record that `name` means.
    fn find(&self, name: &str) -> Result<usize, EditError> {
        if let Some(at) = self.records.iter().position(|r| r.uid == name) {
            return Ok(at);
        }
        let all = |matches: &dyn Fn(&Record) -> bool| -> Vec<usize> {
            let numbered = self.records.iter().enumerate();
            numbered
                .filter(|(_, r)| matches(r))
                .map(|(at, _)| at)
                .collect()
        };
        let mut found = all(&|record| record.title() == name);
        if found.is_empty() {
            found = all(&|record| self.record_path(record) == name);
        }
        match found.as_slice() {
            [at] => Ok(*at),
            [] => Err(EditError::NoRecord {
                name: name.to_owned(),
                titles: self.titles(),
            }),
            several => Err(EditError::Ambiguous {
                name: name.to_owned(),
                count: several.len(),
            }),
        }
    }

    /// Folder path and title of a record.
    pub(crate) fn record_path(&self, record: &Record) -> String {
        match record.folder.as_deref().and_then(|uid| self.folder(uid)) {
            Some(folder) => format!("{}/{}", self.folder_path(folder), record.title()),
            None => record.title().to_owned(),
        }
    }

    fn titles(&self) -> String {
        let titles: Vec<_> = self
            .records
            .iter()
            .take(LISTED)
            .map(|record| format!("`{}`", self.record_path(record)))
            .collect();
        titles.join(", ")
    }

    fn find_folder(&self, name: &str) -> Result<String, EditError> {
        let by_uid = self.folder(name);
        let found = by_uid.or_else(|| self.folders.iter().find(|f| self.folder_path(f) == name));
        found
            .map(|folder| folder.uid.clone())
            .ok_or_else(|| EditError::NoFolder(name.to_owned()))
    }

    fn optional_folder(&self, name: Option<&str>) -> Result<Option<String>, EditError> {
        name.map(|name| self.find_folder(name)).transpose()
    }

    fn record_at(&self, at: usize) -> Result<&Record, EditError> {
        self.records.get(at).ok_or_else(gone)
    }

    /// The record, with a new revision.
    fn touch(&mut self, at: usize) -> Result<&mut Record, EditError> {
        let revision = self.next_revision();
        let record = self.records.get_mut(at).ok_or_else(gone)?;
        record.revision = revision;
        Ok(record)
    }
}

fn gone() -> EditError {
    EditError::Invalid("the record is gone".into())
}

fn new_file(entry: &FileEntry) -> Result<File, EditError> {
    let uid = match &entry.uid {
        Some(uid) if !is_uid(uid) => {
            return Err(EditError::Invalid(
                "a UID is 22 characters of `A-Z a-z 0-9 - _`".into(),
            ));
        }
        Some(uid) => uid.clone(),
        None => random_uid()?,
    };
    File::new(entry, uid, &no_files).map_err(|error| match error {
        FileError::Problem(text) => EditError::Invalid(text),
        FileError::Crypto(error) => error.into(),
    })
}

fn apply(content: &mut Json, change: &Change) -> Result<(), EditError> {
    let malformed = || EditError::Invalid("the record's JSON has no lists of fields".to_owned());
    let name = change.name.as_str();
    if matches!(name, "title" | "notes" | "type") {
        if change.value.as_str().is_none() {
            return Err(EditError::Invalid(format!("`{name}` must be text")));
        }
        *content.entry(name).ok_or_else(malformed)? = change.value.clone();
        return Ok(());
    }
    let values = match &change.value {
        Json::Array(values) => values.clone(),
        one => vec![one.clone()],
    };
    for list in ["fields", "custom"] {
        for member in ["label", "type"] {
            let Some(Json::Array(fields)) = content.entry(list) else {
                continue;
            };
            let named = |field: &&mut Json| field.get(member).and_then(Json::as_str) == Some(name);
            if let Some(field) = fields.iter_mut().find(named) {
                *field.entry("value").ok_or_else(malformed)? = Json::Array(values);
                return Ok(());
            }
        }
    }
    let (list, field) = if is_field_type(name) {
        ("fields", new_field(name, None, values))
    } else {
        ("custom", new_field("text", Some(name), values))
    };
    let list = content.entry(list).ok_or_else(malformed)?;
    match list {
        Json::Array(fields) => fields.push(field),
        other => *other = Json::Array(vec![field]),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault() -> Vault {
        Vault::parse(
            "
folders:
- name: Prod
  folders: [{name: Sub, records: [{title: deep, login: d}]}]
  records: [{title: Twin}]
records:
- {title: A, uid: AAAAAAAAAAAAAAAAAAAAAA, login: l, custom: [{type: text, label: Env, value: x}]}
- {title: Twin}
",
        )
        .unwrap()
    }

    fn set(record: &str, changes: &[(&str, &str)]) -> Edit {
        Edit::Set {
            record: record.to_owned(),
            changes: changes.iter().map(|(n, v)| Change::text(*n, *v)).collect(),
        }
    }

    #[test]
    fn set_changes_what_is_there_and_adds_what_is_not() {
        let mut vault = vault();
        let edited = vault
            .edit(&set(
                "A",
                &[
                    ("login", "m"),
                    ("Env", "y"),
                    ("password", "p"),
                    ("New", "n"),
                    ("title", "B"),
                    ("notes", "o"),
                ],
            ))
            .unwrap();
        assert_eq!(
            edited,
            Edited {
                uid: "AAAAAAAAAAAAAAAAAAAAAA".into(),
                revision: 2
            }
        );
        let record = &vault.records[0];
        assert_eq!(record.revision, 2);
        assert_eq!(
            record.content.to_text(),
            concat!(
                r#"{"title":"B","type":"login","fields":[{"type":"login","value":["m"]},{"type":"password","value":["p"]}],"#,
                r#""custom":[{"type":"text","label":"Env","value":["y"]},{"type":"text","label":"New","value":["n"]}],"notes":"o"}"#
            )
        );
        assert_eq!(vault.records[1].revision, 1, "others keep theirs");
    }

    #[test]
    fn set_adds_lists_that_are_missing() {
        let mut vault = vault();
        vault.edit(&set("deep", &[("Env", "x")])).unwrap();
        let record = vault.records.iter().find(|r| r.title() == "deep").unwrap();
        assert!(
            record
                .content
                .to_text()
                .contains(r#""custom":[{"type":"text","label":"Env""#)
        );
    }

    #[test]
    fn a_refused_set_changes_nothing() {
        let mut vault = vault();
        let edit = Edit::Set {
            record: "A".into(),
            changes: vec![
                Change::text("login", "m"),
                Change {
                    name: "title".into(),
                    value: Json::Null,
                },
            ],
        };
        assert!(vault.edit(&edit).is_err());
        assert!(
            vault.records[0]
                .content
                .to_text()
                .contains(r#""value":["l"]"#)
        );
        assert_eq!((vault.revision, vault.records[0].revision), (1, 1));
    }

    #[test]
    fn records_are_found_by_uid_title_and_path() {
        let vault = vault();
        assert_eq!(vault.find("AAAAAAAAAAAAAAAAAAAAAA").unwrap(), 0);
        assert_eq!(vault.find("A").unwrap(), 0);
        assert_eq!(vault.find("Prod/Twin").unwrap(), 2);
        assert_eq!(vault.find("Prod/Sub/deep").unwrap(), 3);
        assert!(matches!(
            vault.find("Twin"),
            Err(EditError::Ambiguous { count: 2, .. })
        ));
        let error = vault.find("nope").unwrap_err().to_string();
        assert!(error.contains("`Prod/Sub/deep`"), "{error}");
    }

    #[test]
    fn add_move_and_remove() {
        let mut vault = vault();
        let add = Edit::Add {
            title: "N".into(),
            kind: None,
            uid: None,
            folder: Some("Prod/Sub".into()),
            changes: vec![Change::text("password", "p")],
        };
        let uid = vault.edit(&add).unwrap().uid;
        assert!(is_uid(&uid));
        let path = |vault: &Vault| {
            let record = vault.records.iter().find(|r| r.uid == uid).unwrap();
            (vault.record_path(record), record.revision)
        };
        assert_eq!(path(&vault), ("Prod/Sub/N".to_owned(), 2));
        let mut go = |folder: Option<&str>| {
            vault.edit(&Edit::Move {
                record: "N".into(),
                folder: folder.map(Into::into),
            })?;
            Ok::<_, EditError>(path(&vault))
        };
        assert_eq!(go(Some("Prod")).unwrap(), ("Prod/N".to_owned(), 3));
        assert_eq!(go(None).unwrap(), ("N".to_owned(), 4));
        assert!(matches!(go(Some("Nowhere")), Err(EditError::NoFolder(_))));
        vault
            .edit(&Edit::Remove {
                record: uid.clone(),
            })
            .unwrap();
        assert_eq!(vault.revision, 5);
        assert!(vault.edit(&Edit::Remove { record: uid }).is_err());
    }

    #[test]
    fn folders_are_made_with_what_is_above_them() {
        let mut vault = vault();
        let make = |path: &str| Edit::MakeFolder { path: path.into() };
        let uid = vault.edit(&make("Prod/New/Deep")).unwrap().uid;
        assert_eq!(
            vault.folder_path(vault.folder(&uid).unwrap()),
            "Prod/New/Deep"
        );
        assert_eq!(vault.edit(&make("Prod/New/Deep")).unwrap().uid, uid);
        assert!(vault.edit(&make("a//b")).is_err());
        let rename = Edit::RenameFolder {
            folder: "Prod".into(),
            name: "Live".into(),
        };
        vault.edit(&rename).unwrap();
        assert_eq!(vault.find("Live/Twin").unwrap(), 2);
        let remove = Edit::RemoveFolder {
            folder: "Live".into(),
        };
        vault.edit(&remove).unwrap();
        assert!(vault.find("Live/Twin").is_err());
        assert!(vault.folder(&uid).is_none(), "nor is there what was below");
        assert!(matches!(vault.edit(&remove), Err(EditError::NoFolder(_))));
    }

    #[test]
    fn attachments_come_change_and_go() {
        let mut vault = vault();
        let attach = |text: &str| Edit::Attach {
            record: "A".into(),
            file: FileEntry {
                name: "f".into(),
                text: Some(text.into()),
                ..FileEntry::default()
            },
        };
        vault.edit(&attach("one")).unwrap();
        let first = vault.records[0].files[0].uid.clone();
        vault.edit(&attach("two")).unwrap();
        assert_eq!(vault.records[0].files[0].content, b"two");
        assert_ne!(
            vault.records[0].files[0].uid, first,
            "a new content is a new file"
        );
        let detach = Edit::Detach {
            record: "A".into(),
            file: "f".into(),
        };
        vault.edit(&detach).unwrap();
        assert!(vault.records[0].files.is_empty());
        assert!(vault.edit(&detach).is_err());
    }

    #[test]
    fn edits_are_read_from_json_and_strange_ones_refused() {
        let edit: Edit = serde_json::from_str(
            r#"{"op":"set","record":"A","changes":[{"name":"login","value":["a","b"]}]}"#,
        )
        .unwrap();
        assert!(matches!(edit, Edit::Set { .. }));
        assert!(
            serde_json::from_str::<Edit>(r#"{"op":"set","record":"A","changes":[],"x":1}"#)
                .is_err()
        );
        assert!(serde_json::from_str::<Edit>(r#"{"op":"burn"}"#).is_err());
    }
}
