//! What one `get_secret` brought, decrypted (protocol section 7).
//!
//! A record, folder or file that can't be opened is listed with its reason and hides nothing else, so that
//! "not there" and "not readable" stay apart.

use std::collections::{HashMap, HashSet};
use std::fmt;

use serde_json::value::RawValue;

use crate::crypto::{self, CannotOpen, Key};
use crate::error::clean;
use crate::record::Envelope;
use crate::wire::{Answer, Str, WireFile, WireFolder, WireRecord, element};
use crate::{File, Record, Uid, encoding, json};

/// Most records or folders in one answer.
const MAX_ELEMENTS: usize = 100_000;
/// Most files of one record.
const MAX_FILES: usize = 1000;
/// Most warnings that are passed on.
const MAX_WARNINGS: usize = 20;

/// All records that one call brought.
#[derive(Debug, Default)]
pub struct Vault {
    /// Records that opened, each UID once, in the order of the answer.
    pub records: Vec<Record>,
    /// What did not open.
    pub skipped: Vec<Skipped>,
    /// The server's words to the operator.
    pub warnings: Vec<String>,
    /// Shared folders whose key opened.
    pub shared_folders: Vec<Uid>,
    /// When the device's access ends, in milliseconds since the epoch. Informational.
    pub expires_on: Option<u64>,
    /// Record and folder, where a record lies in a folder that it does not name itself: further places of one that
    /// came several times, and the places of those that did not open.
    elsewhere: Vec<(Uid, Uid)>,
    /// The answer holds more than is read.
    is_cut: bool,
}

/// A part of an answer that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// What it is, with its UID if it has one.
    pub item: SkippedItem,
    /// Why.
    pub reason: SkipReason,
}

/// What was skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SkippedItem {
    /// A record; none: not even its UID can be read.
    Record(Option<Uid>),
    /// A folder, with its records.
    Folder(Option<Uid>),
    /// A file of a record.
    File(Option<Uid>),
}

/// Why a part of an answer was skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum SkipReason {
    /// Not the shape that the protocol says.
    #[error("its entry in the answer is malformed")]
    Malformed,
    /// Its key doesn't open with the key above it.
    #[error("its key does not decrypt")]
    Key,
    /// Its data doesn't open with its key.
    #[error("its data does not decrypt")]
    Data,
    /// What was decrypted is no record.
    #[error("its decrypted data is not a record")]
    NotARecord,
    /// A value over 1 MiB, or JSON nested over 64 deep.
    #[error("it is larger or more deeply nested than any real record")]
    TooLarge,
    /// Its parents lead nowhere or in a circle.
    #[error("its parent folders lead nowhere")]
    Parents,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, uid) = match &self.item {
            SkippedItem::Record(uid) => ("record", uid),
            SkippedItem::Folder(uid) => ("folder", uid),
            SkippedItem::File(uid) => ("file", uid),
        };
        match uid {
            Some(uid) => write!(f, "{what} {uid}: {}", self.reason),
            None => write!(f, "a {what} without a valid UID: {}", self.reason),
        }
    }
}

impl Vault {
    /// Opens the JSON of a `get_secret` answer; the error says what is wrong with it as a whole.
    pub(crate) fn open(answer: &[u8], app_key: &Key) -> Result<Self, &'static str> {
        let answer = parse_answer(answer)?;
        let mut vault = Self {
            warnings: warnings(answer.warnings.as_deref()),
            expires_on: answer.expires_on.and_then(positive),
            ..Self::default()
        };
        let mut opener = Opener {
            vault: &mut vault,
            seen: HashSet::new(),
        };
        let folders = opener.folders(answer.folders.as_deref().unwrap_or_default(), app_key);
        opener.shared_records(
            answer.records.as_deref().unwrap_or_default(),
            app_key,
            &folders,
        );
        for (uid, key, folder) in &folders {
            let records = folder.records.as_deref().unwrap_or_default();
            opener.folder_records(records, *uid, key);
        }
        let seen = opener.seen;
        vault.elsewhere.sort_unstable();
        vault.elsewhere.dedup();
        // A second copy that opened makes up for a first one that did not.
        vault.skipped.retain(
            |skipped| !matches!(skipped.item, SkippedItem::Record(Some(uid)) if seen.contains(&uid)),
        );
        Ok(vault)
    }

    /// Whether every record of the answer opened: only then what is not here is not in Keeper.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        !self.is_cut && self.unreadable_records() == 0
    }

    /// Whether `record` lies in this folder itself, not in one below it.
    #[must_use]
    pub fn is_in(&self, record: &Record, folder: Uid) -> bool {
        record.location() == Some(folder)
            || self
                .elsewhere
                .binary_search(&(record.uid(), folder))
                .is_ok()
    }

    /// The records that lie in this folder itself, in the order of their UIDs.
    #[must_use]
    pub fn records_in(&self, folder: Uid) -> Vec<&Record> {
        let is_there = |record: &&Record| self.is_in(record, folder);
        let mut found: Vec<&Record> = self.records.iter().filter(is_there).collect();
        found.sort_unstable_by_key(|record| record.uid());
        found
    }

    /// The records of this folder itself that could not be read.
    pub fn unreadable_in(&self, folder: Uid) -> impl Iterator<Item = (Uid, SkipReason)> {
        self.skipped
            .iter()
            .filter_map(move |skipped| match skipped.item {
                SkippedItem::Record(Some(uid))
                    if self.elsewhere.binary_search(&(uid, folder)).is_ok() =>
                {
                    Some((uid, skipped.reason))
                }
                _ => None,
            })
    }

    /// Why the record with this UID is not among the records, if it came and could not be read.
    #[must_use]
    pub fn skipped_record(&self, uid: Uid) -> Option<SkipReason> {
        let wanted = SkippedItem::Record(Some(uid));
        let skipped = self.skipped.iter().find(|skipped| skipped.item == wanted)?;
        Some(skipped.reason)
    }

    /// How many records may be missing because they, or their folder, could not be read.
    pub(crate) fn unreadable_records(&self) -> usize {
        let is_file = |skipped: &&Skipped| matches!(skipped.item, SkippedItem::File(_));
        self.skipped.iter().filter(|s| !is_file(s)).count()
    }
}

/// Parses the envelope that `get_secret` and `get_folders` share, and bounds its lists.
pub(crate) fn parse_answer(answer: &[u8]) -> Result<Answer<'_>, &'static str> {
    let answer: Answer<'_> = if answer.trim_ascii_start().starts_with(b"{") {
        serde_json::from_slice(answer).map_err(|_| "its content is not the expected JSON")?
    } else {
        return Err("its content is not a JSON object");
    };
    let count = |list: &Option<Vec<_>>| list.as_ref().map_or(0, Vec::len);
    if count(&answer.folders).max(count(&answer.records)) > MAX_ELEMENTS {
        return Err("it lists over 100000 records or folders");
    }
    Ok(answer)
}

/// A shared folder with its opened key.
type OpenFolder<'a> = (Uid, Key, WireFolder<'a>);

struct Opener<'v> {
    vault: &'v mut Vault,
    /// Records that opened.
    seen: HashSet<Uid>,
}

impl Opener<'_> {
    fn folders<'a>(&mut self, list: &[&'a RawValue], app_key: &Key) -> Vec<OpenFolder<'a>> {
        let mut out = Vec::new();
        for raw in list {
            match open_folder(raw, app_key) {
                Ok(folder) => {
                    self.vault.shared_folders.push(folder.0);
                    out.push(folder);
                }
                Err((uid, reason)) => self.skip(SkippedItem::Folder(uid), reason),
            }
        }
        out
    }

    /// Records that are shared directly, or came in the flat form.
    fn shared_records(&mut self, list: &[&RawValue], app_key: &Key, folders: &[OpenFolder<'_>]) {
        let folder_keys: HashMap<Uid, &Key> =
            folders.iter().map(|(uid, key, _)| (*uid, key)).collect();
        for raw in list {
            self.record(raw, None, |record| {
                let inner = uid_of(record.inner_folder_uid.as_ref());
                // Some clients wrap the key of a flat record with its folder's key (section 7.3).
                let folder_key = inner.and_then(|uid| folder_keys.get(&uid));
                let keys = folder_key.into_iter().copied().chain([app_key]);
                match record.record_key.as_deref() {
                    None | Some("") => Ok(app_key.clone()),
                    Some(wrapped) => unwrap_key(wrapped, keys),
                }
            });
        }
    }

    fn folder_records(&mut self, list: &[&RawValue], folder: Uid, folder_key: &Key) {
        self.vault.is_cut |= list.len() > MAX_ELEMENTS;
        for raw in list.iter().take(MAX_ELEMENTS) {
            self.record(raw, Some(folder), |record| {
                let wrapped = record.record_key.as_deref().unwrap_or_default();
                unwrap_key(wrapped, [folder_key])
            });
        }
    }

    fn record(
        &mut self,
        raw: &RawValue,
        folder: Option<Uid>,
        key: impl FnOnce(&WireRecord<'_>) -> Result<Key, CannotOpen>,
    ) {
        let Ok(wire) = element::<WireRecord<'_>>(raw) else {
            return self.skip(SkippedItem::Record(None), SkipReason::Malformed);
        };
        let Some(uid) = uid_of(wire.record_uid.as_ref()) else {
            return self.skip(SkippedItem::Record(None), SkipReason::Malformed);
        };
        let inner = uid_of(wire.inner_folder_uid.as_ref());
        let place = inner.or(folder).map(|place| (uid, place));
        if self.seen.contains(&uid) {
            self.vault.elsewhere.extend(place);
            return;
        }
        if self.vault.records.len() >= MAX_ELEMENTS {
            self.vault.is_cut = true;
            return;
        }
        let item = SkippedItem::Record(Some(uid));
        let Ok(key) = key(&wire) else {
            self.vault.elsewhere.extend(place);
            return self.skip(item, SkipReason::Key);
        };
        let data = wire.data.as_deref().and_then(encoding::decode);
        let Ok(mut text) = data.map_or(Err(CannotOpen), |data| crypto::gcm_open(&key, data)) else {
            self.vault.elsewhere.extend(place);
            return self.skip(item, SkipReason::Data);
        };
        // Vault clients pad with spaces.
        while text.last() == Some(&b' ') {
            text.pop();
        }
        let envelope = Envelope {
            uid,
            revision: wire.revision.and_then(positive).unwrap_or_default(),
            folder_uid: folder,
            inner_folder_uid: inner,
            files: self.files(wire.files.as_deref().unwrap_or_default(), &key),
        };
        match Record::new(envelope, text) {
            Ok(record) => {
                self.seen.insert(uid);
                self.vault.records.push(record);
            }
            Err(reason) => {
                self.vault.elsewhere.extend(place);
                self.skip(item, reason);
            }
        }
    }

    fn files(&mut self, list: &[&RawValue], record_key: &Key) -> Vec<File> {
        let mut out = Vec::new();
        for raw in list.iter().take(MAX_FILES) {
            let wire = element::<WireFile<'_>>(raw).ok();
            let uid = wire
                .as_ref()
                .and_then(|wire| uid_of(wire.file_uid.as_ref()));
            match wire
                .zip(uid)
                .map(|(wire, uid)| File::open(uid, &wire, record_key))
            {
                Some(Ok(file)) => out.push(file),
                Some(Err(CannotOpen)) => self.skip(SkippedItem::File(uid), SkipReason::Data),
                None => self.skip(SkippedItem::File(uid), SkipReason::Malformed),
            }
        }
        out
    }

    fn skip(&mut self, item: SkippedItem, reason: SkipReason) {
        self.vault.skipped.push(Skipped { item, reason });
    }
}

fn open_folder<'a>(
    raw: &'a RawValue,
    app_key: &Key,
) -> Result<OpenFolder<'a>, (Option<Uid>, SkipReason)> {
    let folder: WireFolder<'a> = element(raw).map_err(|_| (None, SkipReason::Malformed))?;
    let uid = uid_of(folder.folder_uid.as_ref()).ok_or((None, SkipReason::Malformed))?;
    let key = unwrap_key(folder.folder_key.as_deref().unwrap_or_default(), [app_key])
        .map_err(|CannotOpen| (Some(uid), SkipReason::Key))?;
    Ok((uid, key, folder))
}

/// The wrapped key under the first key that opens it; GCM tells a wrong guess.
fn unwrap_key<'k>(
    wrapped: &str,
    keys: impl IntoIterator<Item = &'k Key>,
) -> Result<Key, CannotOpen> {
    let wrapped = encoding::decode(wrapped).ok_or(CannotOpen)?;
    keys.into_iter()
        .find_map(|key| crypto::gcm_open_key(key, wrapped.clone()).ok())
        .ok_or(CannotOpen)
}

pub(crate) fn uid_of(text: Option<&Str<'_>>) -> Option<Uid> {
    text?.parse().ok()
}

/// A number that some servers write as a fraction or a string.
fn positive(raw: &RawValue) -> Option<u64> {
    let text = json::string(raw);
    let number = text.as_ref().map_or(raw.get(), |text| text.expose());
    number.parse().ok().filter(|number| *number > 0)
}

fn warnings(list: Option<&[&RawValue]>) -> Vec<String> {
    let texts = list.unwrap_or_default().iter().take(MAX_WARNINGS);
    texts
        .filter_map(|raw| json::string(raw))
        .map(|text| clean(text.expose()))
        .collect()
}

#[cfg(test)]
mod tests;
