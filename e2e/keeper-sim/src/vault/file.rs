//! The vault file: what a user writes, in YAML.
//!
//! Unknown keys are refused everywhere. Values that YAML would silently turn into something else (an unquoted
//! password of digits) are refused too, with the cure.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use crate::json::Json;

/// Field types whose values are strings, and which may stand as a short form in a record.
const TEXT_TYPES: &[&str] = &[
    "login",
    "password",
    "url",
    "email",
    "text",
    "multiline",
    "secret",
    "note",
    "oneTimeCode",
    "otp",
    "pinCode",
    "accountNumber",
    "licenseNumber",
    "directoryType",
    "databaseType",
    "wifiEncryption",
    "dropdown",
    "rbiUrl",
    "fileRef",
    "recordRef",
    "cardRef",
    "addressRef",
    "trafficEncryptionSeed",
];

/// The other field types that may stand as a short form.
const OTHER_TYPES: &[&str] = &[
    "date",
    "birthDate",
    "expirationDate",
    "checkbox",
    "isSSIDHidden",
    "name",
    "phone",
    "address",
    "host",
    "pamHostname",
    "keyPair",
    "paymentCard",
    "bankAccount",
    "securityQuestion",
    "schedule",
    "script",
    "passkey",
    "pamResources",
    "pamSettings",
    "pamRemoteBrowserSettings",
    "appFiller",
];

/// Field types whose value has a host name and a port.
const HOST_TYPES: &[&str] = &["host", "pamHostname"];

/// Whether `name` is a standard field type.
pub(crate) fn is_field_type(name: &str) -> bool {
    TEXT_TYPES.contains(&name) || OTHER_TYPES.contains(&name)
}

/// How vault files are read: `y` and `no` are text, and messages don't quote the file, which holds passwords.
pub(crate) fn yaml_options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        strict_booleans: true,
        with_snippet: false,
    }
}

/// The whole file.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct VaultFile {
    #[serde(default = "default_application")]
    pub(crate) application: String,
    #[serde(default)]
    pub(crate) seed: String,
    #[serde(default = "default_clients")]
    pub(crate) clients: Vec<ClientEntry>,
    #[serde(default)]
    pub(crate) client_versions: BTreeSet<String>,
    #[serde(default)]
    pub(crate) warnings: Vec<String>,
    #[serde(default)]
    pub(crate) folders: Vec<FolderEntry>,
    #[serde(default)]
    pub(crate) records: Vec<RecordEntry>,
    #[serde(default)]
    pub(crate) quirks: BTreeSet<VaultQuirk>,
}

fn default_application() -> String {
    "keeper-sim".to_owned()
}

fn default_clients() -> Vec<ClientEntry> {
    vec![ClientEntry {
        name: "default".to_owned(),
        token: false,
    }]
}

/// A device that may use the application.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ClientEntry {
    /// What it is called in configs, counts and faults.
    pub name: String,
    /// Whether it starts as a one-time token that nobody has redeemed yet.
    #[serde(default)]
    pub token: bool,
}

/// Ways in which the whole vault may depart from the common case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VaultQuirk {
    /// Record texts aren't padded with spaces.
    NoPadding,
    /// Empty lists are sent as `[]`, not as `null`.
    EmptyLists,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct FolderEntry {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) uid: Option<String>,
    #[serde(default)]
    pub(crate) folders: Vec<FolderEntry>,
    #[serde(default)]
    pub(crate) records: Vec<RecordEntry>,
    #[serde(default)]
    pub(crate) quirks: BTreeSet<FolderQuirk>,
}

/// Ways in which a folder may be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FolderQuirk {
    /// Its key does not decrypt.
    CorruptKey,
    /// Its name does not decrypt.
    CorruptName,
}

/// One record. Beside the named keys it may hold any standard field type as a short form.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RecordEntry {
    pub(crate) title: String,
    #[serde(default)]
    pub(crate) uid: Option<String>,
    #[serde(default = "default_type", rename = "type")]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) notes: Option<String>,
    #[serde(default)]
    pub(crate) revision: Option<u64>,
    #[serde(default)]
    pub(crate) fields: Vec<FieldEntry>,
    #[serde(default)]
    pub(crate) custom: Option<Vec<FieldEntry>>,
    #[serde(default)]
    pub(crate) files: Vec<FileEntry>,
    #[serde(default)]
    pub(crate) quirks: BTreeSet<RecordQuirk>,
    #[serde(flatten)]
    pub(crate) short: ShortFields,
}

fn default_type() -> String {
    "login".to_owned()
}

/// Ways in which a record may depart from the common case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordQuirk {
    /// Its data does not decrypt.
    CorruptData,
    /// Its key does not decrypt.
    CorruptKey,
    /// It has no key of its own: its data is sealed with the application's key. Only outside folders.
    NoKey,
    /// It is listed outside the folders, but its key is wrapped by the key of its folder.
    FolderWrapped,
    /// Its data decrypts to something that isn't JSON.
    NotJson,
    /// It may have the UID of a record before it, as a shortcut has.
    Duplicate,
}

/// A field in its full form.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct FieldEntry {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    label: Option<String>,
    #[serde(default)]
    value: Given,
    #[serde(default)]
    required: Given,
    #[serde(default)]
    privacy_screen: Given,
    #[serde(default)]
    enforce_generation: Given,
    #[serde(default)]
    complexity: Given,
}

/// A value that tells `null` from nothing at all.
#[derive(Debug, Default)]
struct Given(Option<Json>);

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Some(Json::deserialize(deserializer)?)))
    }
}

/// An attachment. Exactly one of `text`, `base64`, `path` and `size` says what is in it.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct FileEntry {
    /// File name, such as `tls.crt`.
    pub name: String,
    /// Title; the name, where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// UID; made up where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Media type.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Time of the last change in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<Json>,
    /// Content as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Content in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
    /// Content is in this file, beside the vault file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Content is so many bytes of filler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<usize>,
    /// How it departs from the common case.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub quirks: BTreeSet<FileQuirk>,
}

/// Ways in which an attachment may be broken.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum FileQuirk {
    /// It has no URL.
    NoUrl,
    /// Its URL answers 404.
    NotFound,
    /// Its URL answers 403, as an expired one does.
    Forbidden,
    /// The connection breaks off in the middle of its body.
    Truncated,
    /// Its content does not decrypt.
    Corrupt,
    /// Its metadata doesn't decrypt.
    CorruptMetadata,
}

/// Short forms in the order in which they were written.
#[derive(Debug, Default)]
pub(crate) struct ShortFields(Vec<(String, Json)>);

impl<'de> Deserialize<'de> for ShortFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = ShortFields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the members of a record")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ShortFields, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(ShortFields(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// A record whose text is not good, with the reason.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Mistake(pub(crate) String);

impl RecordEntry {
    /// The record's JSON, as it is sealed.
    pub(crate) fn content(&self) -> Result<Json, Mistake> {
        let mut fields = Vec::new();
        for (name, value) in &self.short.0 {
            fields.push(short_field(name, value)?);
        }
        fields.extend(self.fields.iter().map(FieldEntry::content));
        let mut members = vec![
            ("title".to_owned(), Json::string(&self.title)),
            ("type".to_owned(), Json::string(&self.kind)),
            ("fields".to_owned(), Json::Array(fields)),
        ];
        if let Some(custom) = &self.custom {
            let custom = custom.iter().map(FieldEntry::content).collect();
            members.push(("custom".to_owned(), Json::Array(custom)));
        }
        if let Some(notes) = &self.notes {
            members.push(("notes".to_owned(), Json::string(notes)));
        }
        Ok(Json::Object(members))
    }
}

impl FieldEntry {
    fn content(&self) -> Json {
        let mut members = vec![("type".to_owned(), Json::string(&self.kind))];
        if let Some(label) = &self.label {
            members.push(("label".to_owned(), Json::string(label)));
        }
        if let Some(value) = &self.value.0 {
            let value = match value {
                Json::Null | Json::Array(_) => value.clone(),
                one => Json::Array(vec![one.clone()]),
            };
            members.push(("value".to_owned(), value));
        }
        for (name, given) in [
            ("required", &self.required),
            ("privacyScreen", &self.privacy_screen),
            ("enforceGeneration", &self.enforce_generation),
            ("complexity", &self.complexity),
        ] {
            if let Some(value) = &given.0 {
                members.push((name.to_owned(), value.clone()));
            }
        }
        Json::Object(members)
    }
}

fn short_field(name: &str, value: &Json) -> Result<Json, Mistake> {
    if !is_field_type(name) {
        return Err(Mistake(format!(
            "unknown key `{name}`: it is neither a key of a record nor a standard field type; \
             write other fields under `custom`"
        )));
    }
    let values = match value {
        Json::Null => Vec::new(),
        Json::Array(items) => items.clone(),
        one => vec![one.clone()],
    };
    let mut converted = Vec::with_capacity(values.len());
    for value in values {
        converted.push(match value {
            Json::String(text) if HOST_TYPES.contains(&name) => host(&text),
            Json::String(_) => value,
            _ if TEXT_TYPES.contains(&name) => {
                return Err(Mistake(format!(
                    "`{name}` must be text: put the value in quotes"
                )));
            }
            other => other,
        });
    }
    Ok(new_field(name, None, converted))
}

/// `host:port` as the object that Keeper keeps; a port is a string there.
fn host(text: &str) -> Json {
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    let mut members = vec![("hostName".to_owned(), Json::string(host))];
    if !port.is_empty() {
        members.push(("port".to_owned(), Json::string(port)));
    }
    Json::Object(members)
}

/// A field's JSON.
pub(crate) fn new_field(kind: &str, label: Option<&str>, value: Vec<Json>) -> Json {
    let mut members = vec![("type".to_owned(), Json::string(kind))];
    if let Some(label) = label {
        members.push(("label".to_owned(), Json::string(label)));
    }
    members.push(("value".to_owned(), Json::Array(value)));
    Json::Object(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(yaml: &str) -> Result<String, String> {
        let entry: RecordEntry =
            serde_saphyr::from_str_with_options(yaml, yaml_options()).map_err(|e| e.to_string())?;
        entry
            .content()
            .map(|content| content.to_text())
            .map_err(|e| e.to_string())
    }

    #[test]
    fn short_forms_keep_their_order_and_take_lists_and_hosts() {
        assert_eq!(
            record("title: T\npassword: p\nlogin: l\nurl: [a, b]\noneTimeCode: []\nhost: db:5432\ncheckbox: true\ndate: 1700000000000\n").unwrap(),
            concat!(
                r#"{"title":"T","type":"login","fields":[{"type":"password","value":["p"]},"#,
                r#"{"type":"login","value":["l"]},{"type":"url","value":["a","b"]},"#,
                r#"{"type":"oneTimeCode","value":[]},{"type":"host","value":[{"hostName":"db","port":"5432"}]},"#,
                r#"{"type":"checkbox","value":[true]},{"type":"date","value":[1700000000000]}]}"#
            )
        );
    }

    #[test]
    fn full_forms_tell_missing_null_and_empty_apart() {
        let yaml = "title: T\ntype: x\nnotes: n\nlogin: l\nfields:\n- {type: text, label: A, value: v, required: true}\n- {type: text, value: [~]}\n- {type: text}\n- {type: text, value: []}\n- {type: text, value: ~}\ncustom: []\n";
        assert_eq!(
            record(yaml).unwrap(),
            concat!(
                r#"{"title":"T","type":"x","fields":[{"type":"login","value":["l"]},"#,
                r#"{"type":"text","label":"A","value":["v"],"required":true},{"type":"text","value":[null]},"#,
                r#"{"type":"text"},{"type":"text","value":[]},{"type":"text","value":null}],"custom":[],"notes":"n"}"#
            )
        );
    }

    #[test]
    fn yes_and_no_are_text() {
        assert!(
            record("title: T\npassword: no\n")
                .unwrap()
                .contains(r#"["no"]"#)
        );
    }

    #[test]
    fn messages_do_not_quote_the_file() {
        let yaml = "title: T\npassword: s3cret\nfields: 1\n";
        assert!(!record(yaml).unwrap_err().contains("s3cret"));
    }

    #[test]
    fn objects_keep_their_order() {
        let yaml = "title: T\nphone: {number: '1', ext: '', type: Home}\n";
        assert!(
            record(yaml)
                .unwrap()
                .contains(r#"{"number":"1","ext":"","type":"Home"}"#)
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (yaml, part) in [
            ("title: T\npassword: 1234\n", "`password` must be text"),
            ("title: T\npassword: true\n", "`password` must be text"),
            ("title: T\npasword: x\n", "`pasword`"),
            ("title: T\nfields:\n- {type: text, valeu: x}\n", "valeu"),
            ("title: T\nquirks: [odd]\n", "odd"),
            ("login: x\n", "title"),
            ("title: T\nfiles:\n- {name: x, txt: y}\n", "txt"),
        ] {
            let error = record(yaml).unwrap_err();
            assert!(error.contains(part), "{yaml}: {error}");
        }
    }

    #[test]
    fn unknown_keys_of_the_file_are_refused() {
        for yaml in [
            "record: []\n",
            "folders:\n- {name: x, record: []}\n",
            "clients:\n- {name: x, tokens: true}\n",
        ] {
            assert!(serde_saphyr::from_str::<VaultFile>(yaml).is_err(), "{yaml}");
        }
    }
}
