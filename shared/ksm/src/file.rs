//! Attachments of records (protocol section 9).

use std::fmt;

use serde::Deserialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::crypto::{self, CannotOpen, Key};
use crate::error::clean;
use crate::wire::{Str, WireFile};
use crate::{SecretBytes, Uid, encoding, json};

/// An attachment: its metadata, and what is needed to download and open it.
pub struct File {
    uid: Uid,
    name: String,
    title: String,
    size: Option<u64>,
    last_modified: Option<String>,
    url: Option<Zeroizing<String>>,
    key: Key,
}

/// Lenient: iOS clients write some numbers as fractions, and any member may be null or missing.
#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(borrow, default)]
    name: Option<&'a RawValue>,
    #[serde(borrow, default)]
    title: Option<&'a RawValue>,
    #[serde(borrow, default)]
    size: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "lastModified")]
    last_modified: Option<&'a RawValue>,
}

impl File {
    /// Opens key and metadata with the key of the record that the file belongs to.
    pub(crate) fn open(
        uid: Uid,
        wire: &WireFile<'_>,
        record_key: &Key,
    ) -> Result<Self, CannotOpen> {
        let part = |text: &Option<Str<'_>>| {
            let text = text.as_ref().ok_or(CannotOpen)?;
            encoding::decode(text).ok_or(CannotOpen)
        };
        let key = crypto::gcm_open_key(record_key, part(&wire.file_key)?)?;
        let metadata = crypto::gcm_open(&key, part(&wire.data)?)?;
        let metadata: Metadata<'_> = serde_json::from_slice(&metadata).map_err(|_| CannotOpen)?;
        let text = |raw: Option<&RawValue>| {
            raw.and_then(json::string)
                .map(|text| text.expose().to_owned())
                .unwrap_or_default()
        };
        let url = wire.url.as_ref().filter(|url| !url.is_empty());
        Ok(Self {
            uid,
            name: text(metadata.name),
            title: text(metadata.title),
            size: metadata.size.and_then(|raw| raw.get().parse().ok()),
            last_modified: metadata
                .last_modified
                .map(|raw| clean(raw.get()))
                .filter(|text| text != "null"),
            url: url.map(|url| Zeroizing::new(url.to_string())),
            key,
        })
    }

    /// The file's UID.
    #[must_use]
    pub fn uid(&self) -> Uid {
        self.uid
    }

    /// The file's name, such as `tls.crt`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The title that was given to it.
    #[must_use]
    pub fn title(&self) -> &str {
        &self.title
    }

    /// Declared size of the content in bytes.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// When it was last changed, as Keeper writes it: milliseconds, or by some clients seconds with a fraction.
    #[must_use]
    pub fn last_modified(&self) -> Option<&str> {
        self.last_modified.as_deref()
    }

    /// Whether `name` is the file's name, title or UID.
    #[must_use]
    pub fn is_called(&self, name: &str) -> bool {
        [self.name(), self.title(), self.uid.as_str()].contains(&name)
    }

    /// Where to get the content; a capability, so never to be logged.
    pub(crate) fn url(&self) -> Option<&str> {
        self.url.as_ref().map(|url| url.as_str())
    }

    /// Opens downloaded bytes in their own buffer.
    pub(crate) fn open_content(&self, body: Zeroizing<Vec<u8>>) -> Result<SecretBytes, CannotOpen> {
        crypto::gcm_open(&self.key, body).map(SecretBytes::new)
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File")
            .field("uid", &self.uid)
            .finish_non_exhaustive()
    }
}
