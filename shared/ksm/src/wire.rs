//! The shapes of requests and answers as they are on the wire (protocol sections 5 to 10).
//!
//! Every member may be missing or null, and elements of lists are parsed one by one, so that one that is
//! malformed doesn't take the others with it.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

/// What a request says before it is sealed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Payload<'a> {
    pub(crate) client_version: &'a str,
    pub(crate) client_id: &'a str,
    /// Empty would mean "all" to some servers and is left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) requested_records: Vec<&'a str>,
}

/// Answer of `get_secret` and `get_folders`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Answer<'a> {
    #[serde(borrow, default)]
    pub(crate) folders: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    pub(crate) records: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    pub(crate) expires_on: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(crate) warnings: Option<Vec<&'a RawValue>>,
}

/// A folder with the records that it shares.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WireFolder<'a> {
    #[serde(borrow, default)]
    pub(crate) folder_uid: Option<Str<'a>>,
    #[serde(borrow, default)]
    pub(crate) folder_key: Option<Str<'a>>,
    #[serde(borrow, default)]
    pub(crate) data: Option<Str<'a>>,
    #[serde(borrow, default)]
    pub(crate) parent: Option<Str<'a>>,
    #[serde(borrow, default)]
    pub(crate) records: Option<Vec<&'a RawValue>>,
}

/// A record.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WireRecord<'a> {
    #[serde(borrow, default)]
    pub(crate) record_uid: Option<Str<'a>>,
    #[serde(borrow, default)]
    pub(crate) record_key: Option<Str<'a>>,
    #[serde(borrow, default)]
    pub(crate) data: Option<Str<'a>>,
    #[serde(borrow, default)]
    pub(crate) revision: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(crate) files: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    pub(crate) inner_folder_uid: Option<Str<'a>>,
}

/// An attachment.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WireFile<'a> {
    #[serde(borrow, default)]
    pub(crate) file_uid: Option<Str<'a>>,
    #[serde(borrow, default)]
    pub(crate) file_key: Option<Str<'a>>,
    #[serde(borrow, default)]
    pub(crate) data: Option<Str<'a>>,
    #[serde(borrow, default)]
    pub(crate) url: Option<Str<'a>>,
}

/// Body of an answer that is not 200. Numbers may come as text.
#[derive(Deserialize, Default)]
pub(crate) struct ErrorBody<'a> {
    #[serde(borrow, default)]
    pub(crate) result_code: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(crate) error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(crate) message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(crate) additional_info: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(crate) key_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(crate) retry_after: Option<&'a RawValue>,
}

/// A text that is borrowed where it has no escapes. (serde borrows a `Cow` only outside of an `Option`.)
pub(crate) struct Str<'a>(Cow<'a, str>);

impl Deref for Str<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Str<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StrVisitor;

        impl<'de> Visitor<'de> for StrVisitor {
            type Value = Str<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Str<'de>, E> {
                Ok(Str(Cow::Borrowed(text)))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Str<'de>, E> {
                Ok(Str(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(StrVisitor)
    }
}

/// `raw` as one of the list's elements.
pub(crate) fn element<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Result<T, serde_json::Error> {
    if raw.get().starts_with('{') {
        serde_json::from_str(raw.get())
    } else {
        // A sequence would be taken for a struct.
        Err(serde_json::Error::custom("not an object"))
    }
}
