//! A decrypted record: its text in one buffer that is wiped on drop, and views into it.
//!
//! Values are never typed or copied: field types are open-ended, and numbers keep their spelling and objects
//! their order (protocol section 8).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::secret::SecretText;
use crate::vault::SkipReason;
use crate::{File, Uid, json};

/// Longest JSON text of one value.
const MAX_VALUE_BYTES: usize = 1024 * 1024;
/// Deepest nesting of a record's JSON.
const MAX_DEPTH: usize = 64;
/// Longest title, and longest type.
const MAX_TITLE_BYTES: usize = 64 * 1024;

/// A record that decrypted.
pub struct Record {
    pub(crate) uid: Uid,
    pub(crate) revision: u64,
    pub(crate) title: String,
    pub(crate) record_type: String,
    pub(crate) folder_uid: Option<Uid>,
    pub(crate) inner_folder_uid: Option<Uid>,
    pub(crate) files: Vec<File>,
    text: Zeroizing<Vec<u8>>,
}

/// What stands beside the text of a record in Keeper's answer.
pub(crate) struct Envelope {
    pub(crate) uid: Uid,
    pub(crate) revision: u64,
    pub(crate) folder_uid: Option<Uid>,
    pub(crate) inner_folder_uid: Option<Uid>,
    pub(crate) files: Vec<File>,
}

/// The fields and notes of a record, as views into its text.
#[derive(Debug, Default)]
pub struct Content<'a> {
    /// Standard fields.
    pub fields: Vec<Field<'a>>,
    /// Custom fields.
    pub custom: Vec<Field<'a>>,
    /// The notes, if the record has any member of that name that is not null.
    pub notes: Option<Value<'a>>,
    pub(crate) title: Option<Value<'a>>,
    pub(crate) record_type: Option<Value<'a>>,
}

/// One field of a record.
#[derive(Debug)]
pub struct Field<'a> {
    /// The field's type, such as `login`.
    pub field_type: Cow<'a, str>,
    /// The label; an empty one is none.
    pub label: Option<Cow<'a, str>>,
    /// Its values; an unset field has none.
    pub values: Vec<Value<'a>>,
}

/// One value: any JSON.
#[derive(Clone, Copy, Deserialize)]
pub struct Value<'a>(#[serde(borrow)] &'a RawValue);

impl Record {
    /// Takes over a decrypted text, if it is a record.
    pub(crate) fn new(envelope: Envelope, text: Zeroizing<Vec<u8>>) -> Result<Self, SkipReason> {
        let content = Content::parse(&text).ok_or(SkipReason::NotARecord)?;
        let depth = std::str::from_utf8(&text).map_or(usize::MAX, json::depth);
        let fields = content.fields.iter().chain(&content.custom);
        let mut values = fields.flat_map(|field| &field.values).chain(&content.notes);
        let name = |value: Option<Value<'_>>| {
            value
                .and_then(|value| json::string(value.0))
                .map(|text| text.expose().to_owned())
                .unwrap_or_default()
        };
        let (title, record_type) = (name(content.title), name(content.record_type));
        if depth > MAX_DEPTH
            || values.any(|value| value.0.get().len() > MAX_VALUE_BYTES)
            || title.len().max(record_type.len()) > MAX_TITLE_BYTES
        {
            return Err(SkipReason::TooLarge);
        }
        drop(content);
        let Envelope {
            uid,
            revision,
            folder_uid,
            inner_folder_uid,
            files,
        } = envelope;
        Ok(Self {
            uid,
            revision,
            title,
            record_type,
            folder_uid,
            inner_folder_uid,
            files,
            text,
        })
    }

    /// The record's UID.
    #[must_use]
    pub fn uid(&self) -> Uid {
        self.uid
    }

    /// Grows with every change of the record.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The title, untrimmed; empty if the record has none.
    #[must_use]
    pub fn title(&self) -> &str {
        &self.title
    }

    /// The record's type, such as `login`.
    #[must_use]
    pub fn record_type(&self) -> &str {
        &self.record_type
    }

    /// The shared folder through which the record reached us, if it did through one.
    #[must_use]
    pub fn folder_uid(&self) -> Option<Uid> {
        self.folder_uid
    }

    /// The folder that the record lies in: a sub-folder, or else the shared folder.
    #[must_use]
    pub fn location(&self) -> Option<Uid> {
        self.inner_folder_uid.or(self.folder_uid)
    }

    /// Attachments.
    #[must_use]
    pub fn files(&self) -> &[File] {
        &self.files
    }

    /// The fields and notes. Parses the text, so keep the result while you need it.
    #[must_use]
    pub fn content(&self) -> Content<'_> {
        // The same bytes parsed when the record was made.
        Content::parse(&self.text).unwrap_or_default()
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("uid", &self.uid)
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct RawRecord<'a> {
    #[serde(borrow, default)]
    title: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "type")]
    record_type: Option<&'a RawValue>,
    #[serde(borrow, default)]
    fields: Option<&'a RawValue>,
    #[serde(borrow, default)]
    custom: Option<&'a RawValue>,
    #[serde(borrow, default)]
    notes: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawField<'a> {
    #[serde(borrow, default, rename = "type")]
    field_type: Option<&'a RawValue>,
    #[serde(borrow, default)]
    label: Option<&'a RawValue>,
    #[serde(borrow, default)]
    value: Option<&'a RawValue>,
}

impl<'a> Content<'a> {
    fn parse(text: &'a [u8]) -> Option<Self> {
        let raw: RawRecord<'a> = serde_json::from_slice(text).ok()?;
        let value = |raw: Option<&'a RawValue>| raw.filter(|raw| raw.get() != "null").map(Value);
        Some(Self {
            fields: fields(raw.fields)?,
            custom: fields(raw.custom)?,
            notes: value(raw.notes),
            title: value(raw.title),
            record_type: value(raw.record_type),
        })
    }
}

fn fields(raw: Option<&RawValue>) -> Option<Vec<Field<'_>>> {
    let Some(raw) = raw.filter(|raw| raw.get() != "null") else {
        return Some(Vec::new());
    };
    let list: Vec<RawField<'_>> = serde_json::from_str(raw.get()).ok()?;
    Some(list.into_iter().map(Field::from).collect())
}

impl<'a> From<RawField<'a>> for Field<'a> {
    fn from(raw: RawField<'a>) -> Self {
        let name = |raw: Option<&'a RawValue>| -> Option<Cow<'a, str>> {
            serde_json::from_str::<Name<'a>>(raw?.get())
                .ok()
                .map(|name| name.0)
        };
        // No array is no value, as in the SDKs.
        let values: Vec<&'a RawValue> = raw
            .value
            .and_then(|raw| serde_json::from_str(raw.get()).ok())
            .unwrap_or_default();
        Self {
            field_type: name(raw.field_type).unwrap_or_default(),
            label: name(raw.label).filter(|label| !label.is_empty()),
            values: values.into_iter().map(Value).collect(),
        }
    }
}

impl Field<'_> {
    /// Whether `name` is the field's type or label.
    #[must_use]
    pub fn is_called(&self, name: &str) -> bool {
        self.field_type == name || self.label.as_deref() == Some(name)
    }

    /// The label and the type.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.label.as_deref().into_iter().chain([&*self.field_type])
    }
}

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Value<'a> {
    /// The text of a JSON string; the JSON text, without white space between its tokens, of anything else.
    #[must_use]
    pub fn text(&self) -> SecretText<'a> {
        self.string().unwrap_or_else(|| json::compact(self.0))
    }

    /// The JSON text as it was written.
    #[must_use]
    pub fn expose_json(&self) -> &'a str {
        self.0.get()
    }

    /// The JSON text without white space between its tokens.
    #[must_use]
    pub fn compact_json(&self) -> SecretText<'a> {
        json::compact(self.0)
    }

    /// Whether it is JSON's `null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.0.get() == "null"
    }

    /// The text, if it is a JSON string.
    #[must_use]
    pub fn string(&self) -> Option<SecretText<'a>> {
        json::string(self.0)
    }

    /// The members, if it is an object; the later one of two with the same name.
    #[must_use]
    pub fn members(&self) -> Option<BTreeMap<Cow<'a, str>, Self>> {
        self.parsed('{')
    }

    /// The elements, if it is an array.
    #[must_use]
    pub fn elements(&self) -> Option<Vec<Self>> {
        self.parsed('[')
    }

    fn parsed<T: Deserialize<'a>>(&self, first: char) -> Option<T> {
        let json = self.0.get();
        json.starts_with(first)
            .then(|| serde_json::from_str(json).ok())?
    }

    /// A member of an object.
    pub(crate) fn member(&self, name: &str) -> Option<Self> {
        self.members()?.get(name).copied()
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}
