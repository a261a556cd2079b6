//! Answers as the service writes them: which members there are, and in which encoding.
//!
//! The encodings are the ones that every official SDK reads: keys and data in padded base64, `appData` in
//! URL-safe base64 without padding. Every member is always there, `null` where there is nothing.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::crypto::{self, CryptoError, Key};
use crate::json::Json;
use crate::vault::{File, FileQuirk, Folder, FolderQuirk, Record, RecordQuirk, Vault, VaultQuirk};

/// Vault clients pad a record's text with spaces to at least so many bytes.
const PADDED: usize = 384;

type Result<T> = std::result::Result<T, CryptoError>;

/// What a payload says, whatever the endpoint. Lists may be missing, `null` or empty alike.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Payload {
    pub(crate) client_version: Option<String>,
    pub(crate) client_id: Option<String>,
    pub(crate) public_key: Option<String>,
    requested_records: Option<BTreeSet<String>>,
    requested_folders: Option<BTreeSet<String>>,
    request_links: Option<bool>,
}

/// The members of an answer that only a client that is just being bound gets.
#[derive(Debug, Default)]
pub(crate) struct Binding {
    encrypted_app_key: Option<String>,
    app_owner_public_key: Option<String>,
}

impl Binding {
    pub(crate) fn new(client_key: &Key, app_key: &Key, owner_point: &[u8]) -> Result<Self> {
        Ok(Self {
            encrypted_app_key: Some(crypto::b64(&crypto::gcm_seal(client_key, app_key)?)),
            app_owner_public_key: Some(crypto::b64(owner_point)),
        })
    }
}

/// Builds answers from a vault.
pub(crate) struct Answers<'a> {
    pub(crate) vault: &'a Vault,
    pub(crate) app_key: &'a Key,
    /// Where a client finds an attachment.
    pub(crate) file_url: &'a dyn Fn(&File) -> String,
}

impl Answers<'_> {
    /// The answer to `get_secret`.
    pub(crate) fn get_secret(&self, payload: &Payload, binding: Binding) -> Result<Value> {
        let vault = self.vault;
        let mut flat = Vec::new();
        let mut in_folders: Vec<(&Folder, Vec<Value>)> = vault
            .folders
            .iter()
            .filter(|folder| folder.parent.is_none())
            .map(|folder| (folder, Vec::new()))
            .collect();
        for record in &vault.records {
            if !self.requested(payload, record) {
                continue;
            }
            let folder = record.folder.as_deref().and_then(|uid| vault.folder(uid));
            let root = folder.map(|folder| vault.shared_root(folder));
            let (Some(folder), Some(root)) = (folder, root) else {
                flat.push(self.record(record, self.app_key, None, payload)?);
                continue;
            };
            if record.has(RecordQuirk::FolderWrapped) {
                flat.push(self.record(record, &root.key, Some(&root.uid), payload)?);
                continue;
            }
            let inner = (folder.uid != root.uid).then_some(folder.uid.as_str());
            let element = self.record(record, &root.key, inner, payload)?;
            if let Some((_, records)) = in_folders.iter_mut().find(|(f, _)| f.uid == root.uid) {
                records.push(element);
            }
        }
        let mut folders = Vec::new();
        for (folder, records) in in_folders {
            let wanted = set(&payload.requested_folders).is_none_or(|s| s.contains(&folder.uid));
            if wanted || !records.is_empty() {
                folders.push(json!({
                    "folderUid": folder.uid,
                    "folderKey": self.shared_folder_key(folder)?,
                    "data": null,
                    "parent": null,
                    "isEditable": true,
                    // Never null: Python and JavaScript skip such a folder.
                    "records": records,
                }));
            }
        }
        self.envelope(self.list(folders), self.list(flat), binding)
    }

    /// The answer to `get_folders`. A shared folder stands before its descendants: SDKs read in one pass.
    pub(crate) fn get_folders(&self) -> Result<Value> {
        let mut folders = Vec::new();
        for folder in &self.vault.folders {
            let key = match &folder.parent {
                None => self.shared_folder_key(folder)?,
                Some(_) => {
                    let root = self.vault.shared_root(folder);
                    let wrong = folder.quirks.contains(&FolderQuirk::CorruptKey);
                    let key = if wrong { crypto::random()? } else { root.key };
                    crypto::b64(&crypto::cbc_seal(&key, &folder.key)?)
                }
            };
            let wrong = folder.quirks.contains(&FolderQuirk::CorruptName);
            let name_key = if wrong { crypto::random()? } else { folder.key };
            let name = json!({ "name": folder.name }).to_string();
            folders.push(json!({
                "folderUid": folder.uid,
                "folderKey": key,
                "data": crypto::b64(&crypto::cbc_seal(&name_key, name.as_bytes())?),
                "parent": folder.parent,
                "isEditable": true,
                "records": null,
            }));
        }
        self.envelope(self.list(folders), Value::Null, Binding::default())
    }

    fn envelope(&self, folders: Value, records: Value, binding: Binding) -> Result<Value> {
        let app = json!({ "title": self.vault.application, "type": "app" }).to_string();
        let warnings = self.vault.warnings.iter().map(|w| json!(w)).collect();
        Ok(json!({
            "encryptedAppKey": binding.encrypted_app_key,
            "appOwnerPublicKey": binding.app_owner_public_key,
            "appData": crypto::b64url(&crypto::gcm_seal(self.app_key, app.as_bytes())?),
            "folders": folders,
            "records": records,
            "expiresOn": 0,
            "warnings": self.list(warnings),
            "extra": null,
        }))
    }

    fn requested(&self, payload: &Payload, record: &Record) -> bool {
        let by_uid = set(&payload.requested_records);
        let by_folder = set(&payload.requested_folders);
        let root = || {
            let folder = self.vault.folder(record.folder.as_deref()?)?;
            Some(&self.vault.shared_root(folder).uid)
        };
        by_uid.is_none_or(|uids| uids.contains(&record.uid))
            && by_folder.is_none_or(|uids| {
                let inner = record.folder.as_ref();
                inner.is_some_and(|uid| uids.contains(uid))
                    || root().is_some_and(|uid| uids.contains(uid))
            })
    }

    fn shared_folder_key(&self, folder: &Folder) -> Result<String> {
        let wrong = folder.quirks.contains(&FolderQuirk::CorruptKey);
        let key = if wrong {
            crypto::random()?
        } else {
            *self.app_key
        };
        Ok(crypto::b64(&crypto::gcm_seal(&key, &folder.key)?))
    }

    fn record(
        &self,
        record: &Record,
        wrapping: &Key,
        inner_folder: Option<&str>,
        payload: &Payload,
    ) -> Result<Value> {
        let bare = record.has(RecordQuirk::NoKey) && record.folder.is_none();
        let key = if bare { *self.app_key } else { record.key };
        let record_key = if bare {
            Value::Null
        } else {
            let wrong = record.has(RecordQuirk::CorruptKey);
            let wrapping = if wrong { crypto::random()? } else { *wrapping };
            json!(crypto::b64(&crypto::gcm_seal(&wrapping, &record.key)?))
        };
        let data_key = if record.has(RecordQuirk::CorruptData) {
            crypto::random()?
        } else {
            key
        };
        let mut files = Vec::new();
        for file in &record.files {
            files.push(self.file(file, &key)?);
        }
        let mut element = json!({
            "recordUid": record.uid,
            "recordKey": record_key,
            "data": crypto::b64(&crypto::gcm_seal(&data_key, self.text(record).as_bytes())?),
            "revision": record.revision,
            "isEditable": true,
            "files": self.list(files),
            "folderUid": null,
            "innerFolderUid": inner_folder,
        });
        if let (Some(true), Value::Object(members)) = (payload.request_links, &mut element) {
            members.insert("links".to_owned(), json!([]));
        }
        Ok(element)
    }

    fn text(&self, record: &Record) -> String {
        let mut text = record.content_with_files().to_text();
        if record.has(RecordQuirk::NotJson) {
            text.pop();
        }
        if !self.vault.quirks.contains(&VaultQuirk::NoPadding) {
            let missing = PADDED.saturating_sub(text.len());
            text.extend(std::iter::repeat_n(' ', missing));
        }
        text
    }

    fn file(&self, file: &File, record_key: &Key) -> Result<Value> {
        let metadata = Json::Object(vec![
            ("name".to_owned(), Json::string(&file.name)),
            ("title".to_owned(), Json::string(&file.title)),
            ("size".to_owned(), Json::Number(file.content.len().into())),
            ("lastModified".to_owned(), file.last_modified.clone()),
            (
                "type".to_owned(),
                file.kind.as_ref().map_or(Json::Null, Json::string),
            ),
        ]);
        let wrong = file.quirks.contains(&FileQuirk::CorruptMetadata);
        let data_key = if wrong { crypto::random()? } else { file.key };
        let url = (!file.quirks.contains(&FileQuirk::NoUrl)).then(|| (self.file_url)(file));
        Ok(json!({
            "fileUid": file.uid,
            "fileKey": crypto::b64(&crypto::gcm_seal(record_key, &file.key)?),
            "data": crypto::b64(&crypto::gcm_seal(&data_key, metadata.to_text().as_bytes())?),
            "url": url,
            "thumbnailUrl": null,
        }))
    }

    /// A list; `null` for an empty one, as the real service sends it.
    fn list(&self, items: Vec<Value>) -> Value {
        if items.is_empty() && !self.vault.quirks.contains(&VaultQuirk::EmptyLists) {
            Value::Null
        } else {
            Value::Array(items)
        }
    }
}

/// A filter; an empty one is none.
fn set(filter: &Option<BTreeSet<String>>) -> Option<&BTreeSet<String>> {
    filter.as_ref().filter(|uids| !uids.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const APP_KEY: Key = [7; 32];
    const UID: &str = "AAAAAAAAAAAAAAAAAAAAAA";

    fn payload(text: &str) -> Payload {
        serde_json::from_str(text).unwrap()
    }

    fn get_secret_with(yaml: &str, request: &str) -> Value {
        let vault = Vault::parse(yaml).unwrap();
        let answers = Answers {
            vault: &vault,
            app_key: &APP_KEY,
            file_url: &|file| format!("https://h/{}", file.uid),
        };
        answers
            .get_secret(&payload(request), Binding::default())
            .unwrap()
    }

    fn get_secret(yaml: &str) -> Value {
        get_secret_with(yaml, "{}")
    }

    fn get_folders(yaml: &str) -> Value {
        let vault = Vault::parse(yaml).unwrap();
        let answers = Answers {
            vault: &vault,
            app_key: &APP_KEY,
            file_url: &|_| String::new(),
        };
        answers.get_folders().unwrap()
    }

    fn open(key: &Key, value: &Value) -> Option<Vec<u8>> {
        let text = value.as_str()?;
        crypto::gcm_open(key, &crypto::decode(text).unwrap()).ok()
    }

    fn open_key(key: &Key, value: &Value) -> Option<Key> {
        open(key, value).map(|bytes| bytes.try_into().unwrap())
    }

    fn padded(value: &Value) -> bool {
        let text = value.as_str().unwrap();
        text.len().is_multiple_of(4) && !text.contains(['-', '_'])
    }

    #[test]
    fn an_empty_vault_has_every_member() {
        let answer = get_secret("application: App");
        let mut members: Vec<_> = answer
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        members.sort_unstable();
        assert_eq!(
            members,
            [
                "appData",
                "appOwnerPublicKey",
                "encryptedAppKey",
                "expiresOn",
                "extra",
                "folders",
                "records",
                "warnings"
            ]
        );
        assert_eq!(answer["expiresOn"], 0);
        for name in [
            "appOwnerPublicKey",
            "encryptedAppKey",
            "extra",
            "folders",
            "records",
            "warnings",
        ] {
            assert!(answer[name].is_null(), "{name}");
        }
        let app = answer["appData"].as_str().unwrap();
        assert!(!app.contains(['=', '+', '/']));
        assert_eq!(
            open(&APP_KEY, &answer["appData"]).unwrap(),
            br#"{"title":"App","type":"app"}"#
        );
        let answer = get_secret("quirks: [empty-lists]\nwarnings: [careful]");
        assert_eq!(
            (&answer["records"], &answer["warnings"]),
            (&json!([]), &json!(["careful"]))
        );
    }

    #[test]
    fn a_direct_record_opens_under_the_application_key() {
        let answer = get_secret(&format!(
            "records: [{{title: T, uid: {UID}, login: l, revision: 5}}]"
        ));
        let record = &answer["records"][0];
        assert_eq!(record["recordUid"], UID);
        assert_eq!(record["revision"], 5);
        for name in ["files", "folderUid", "innerFolderUid"] {
            assert!(
                record[name].is_null() && record.get(name).is_some(),
                "{name}"
            );
        }
        assert!(record.get("links").is_none());
        assert!(padded(&record["recordKey"]) && padded(&record["data"]));
        let key = open_key(&APP_KEY, &record["recordKey"]).unwrap();
        let text = String::from_utf8(open(&key, &record["data"]).unwrap()).unwrap();
        assert_eq!(text.len(), PADDED);
        assert_eq!(
            text.trim_end(),
            r#"{"title":"T","type":"login","fields":[{"type":"login","value":["l"]}]}"#
        );
    }

    #[test]
    fn padding_can_be_left_out_and_links_asked_for() {
        let yaml = "quirks: [no-padding]\nrecords: [{title: T}]";
        let answer = get_secret_with(yaml, r#"{"requestLinks":true}"#);
        let record = &answer["records"][0];
        let key = open_key(&APP_KEY, &record["recordKey"]).unwrap();
        assert!(open(&key, &record["data"]).unwrap().ends_with(b"}"));
        assert_eq!(record["links"], json!([]));
    }

    const TREE: &str = "
folders:
- {name: Empty}
- name: Shared
  records: [{title: top, uid: AAAAAAAAAAAAAAAAAAAAAA}]
  folders: [{name: Sub, folders: [{name: Deep, records: [{title: deep}]}]}]
";

    #[test]
    fn records_of_sub_folders_stand_in_their_shared_folder() {
        let answer = get_secret(TREE);
        assert!(answer["records"].is_null());
        let folders = answer["folders"].as_array().unwrap();
        assert_eq!(folders.len(), 2, "only shared folders");
        assert_eq!(folders[0]["records"], json!([]), "never null");
        let shared = &folders[1];
        assert!(shared["data"].is_null() && shared["parent"].is_null());
        let folder_key = open_key(&APP_KEY, &shared["folderKey"]).unwrap();
        let [top, deep] = shared["records"].as_array().unwrap().as_slice() else {
            panic!("two records")
        };
        assert!(top["innerFolderUid"].is_null());
        let tree = get_folders(TREE);
        assert_eq!(deep["innerFolderUid"], tree["folders"][3]["folderUid"]);
        for record in [top, deep] {
            let key = open_key(&folder_key, &record["recordKey"]).unwrap();
            assert!(open(&key, &record["data"]).is_some());
        }
    }

    #[test]
    fn folder_names_open_under_keys_that_the_root_wraps() {
        let answer = get_folders(TREE);
        let folders = answer["folders"].as_array().unwrap();
        let parent = |at: usize| folders[at]["parent"].as_str();
        let uid = |at: usize| folders[at]["folderUid"].as_str();
        assert_eq!(
            [parent(0), parent(1), parent(2), parent(3)],
            [None, None, uid(1), uid(2)]
        );
        let root = open_key(&APP_KEY, &folders[1]["folderKey"]).unwrap();
        let cbc = |key: &Key, value: &Value| {
            crypto::cbc_open(key, &crypto::decode(value.as_str().unwrap()).unwrap()).unwrap()
        };
        assert_eq!(cbc(&root, &folders[1]["data"]), br#"{"name":"Shared"}"#);
        for (at, name) in [(2, "Sub"), (3, "Deep")] {
            let key: Key = cbc(&root, &folders[at]["folderKey"]).try_into().unwrap();
            assert_eq!(
                cbc(&key, &folders[at]["data"]),
                format!(r#"{{"name":"{name}"}}"#).as_bytes()
            );
        }
        assert!(folders[1]["records"].is_null());
    }

    #[test]
    fn filters_choose_and_empty_ones_do_not() {
        let count = |request: &str| {
            let answer = get_secret_with(TREE, request);
            let folders = answer["folders"].as_array().cloned().unwrap_or_default();
            folders
                .iter()
                .map(|f| f["records"].as_array().unwrap().len())
                .sum::<usize>()
        };
        for all in [
            "{}",
            r#"{"requestedRecords":null}"#,
            r#"{"requestedRecords":[],"requestedFolders":[]}"#,
        ] {
            assert_eq!(count(all), 2, "{all}");
        }
        assert_eq!(count(&format!(r#"{{"requestedRecords":["{UID}"]}}"#)), 1);
        assert_eq!(
            count(r#"{"requestedRecords":["BBBBBBBBBBBBBBBBBBBBBB"]}"#),
            0
        );
        let shared = get_folders(TREE)["folders"][1]["folderUid"].clone();
        assert_eq!(
            count(&json!({ "requestedFolders": [shared] }).to_string()),
            2
        );
        let deep = get_folders(TREE)["folders"][3]["folderUid"].clone();
        assert_eq!(count(&json!({ "requestedFolders": [deep] }).to_string()), 1);
    }

    #[test]
    fn quirks_break_what_they_say_and_nothing_else() {
        let answer = get_secret(
            "
folders:
- {name: F, records: [{title: wrapped, quirks: [folder-wrapped]}]}
- {name: Bad, quirks: [corrupt-key]}
records:
- {title: data, quirks: [corrupt-data]}
- {title: key, quirks: [corrupt-key]}
- {title: bare, quirks: [no-key]}
- {title: text, quirks: [not-json]}
",
        );
        let [wrapped, data, key, bare, text]: [Value; 5] = {
            let mut records = answer["records"].as_array().unwrap().clone();
            records.rotate_left(4);
            records.try_into().unwrap()
        };
        let data_key = open_key(&APP_KEY, &data["recordKey"]).unwrap();
        assert!(open(&data_key, &data["data"]).is_none());
        assert!(open(&APP_KEY, &key["recordKey"]).is_none());
        assert!(bare["recordKey"].is_null());
        assert!(open(&APP_KEY, &bare["data"]).is_some());
        let text_key = open_key(&APP_KEY, &text["recordKey"]).unwrap();
        assert!(serde_json::from_slice::<Value>(&open(&text_key, &text["data"]).unwrap()).is_err());
        let folders = answer["folders"].as_array().unwrap();
        assert_eq!(wrapped["innerFolderUid"], folders[0]["folderUid"]);
        assert!(open(&APP_KEY, &wrapped["recordKey"]).is_none());
        let folder_key = open_key(&APP_KEY, &folders[0]["folderKey"]).unwrap();
        assert!(open(&folder_key, &wrapped["recordKey"]).is_some());
        assert!(open(&APP_KEY, &folders[1]["folderKey"]).is_none());
    }

    #[test]
    fn files_carry_metadata_under_their_own_key() {
        let answer = get_secret(
            "records: [{title: T, files: [{name: a.txt, title: A, text: hello, type: text/plain}, {name: b, text: x, quirks: [no-url, corrupt-metadata]}]}]",
        );
        let record = &answer["records"][0];
        let key = open_key(&APP_KEY, &record["recordKey"]).unwrap();
        let file = &record["files"][0];
        let file_key = open_key(&key, &file["fileKey"]).unwrap();
        assert_eq!(
            open(&file_key, &file["data"]).unwrap(),
            br#"{"name":"a.txt","title":"A","size":5,"lastModified":1700000000000,"type":"text/plain"}"#
        );
        assert_eq!(
            file["url"],
            format!("https://h/{}", file["fileUid"].as_str().unwrap())
        );
        let broken = &record["files"][1];
        assert!(broken["url"].is_null());
        let file_key = open_key(&key, &broken["fileKey"]).unwrap();
        assert!(open(&file_key, &broken["data"]).is_none());
    }
}
