//! Finding the record that a reference means, for plain selections and notations alike: by UID, else by
//! exact title, else by folder path and title.

use std::cmp::Ordering;

use keeper_notation::RecordRef;

use crate::error::clean;
use crate::{Folders, Record, SkipReason, Uid, Vault};

/// Titles that are compared when a record isn't found, and characters of each: untrusted input must not
/// cost seconds.
const MAX_COMPARED: usize = 10_000;
const MAX_COMPARED_CHARS: usize = 100;
/// Least likeness, from 0 to 1, of a title that is worth telling.
const MIN_LIKENESS: f64 = 0.7;

/// The record that a reference means.
#[derive(Debug)]
pub struct Match<'v> {
    /// The first in the order of UIDs, if there are several.
    pub record: &'v Record,
    /// The others that the reference fits as well, in the order of their UIDs.
    pub others: Vec<&'v Record>,
}

/// Why a reference means no record. Titles may be shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// Nothing fits.
    #[error("no record `{reference}` is shared with this application{}", hint(nearest, *unreadable))]
    NotFound {
        /// What was looked for.
        reference: String,
        /// Like titles, the most like first.
        nearest: Vec<String>,
        /// How many records and folders could not be read; it might be in one of these.
        unreadable: usize,
    },
    /// It is there, and can't be read.
    #[error("the record {uid} cannot be read: {reason}")]
    Unreadable {
        /// Its UID.
        uid: Uid,
        /// Why.
        reason: SkipReason,
    },
    /// Several fit where exactly one must.
    #[error(
        "several records fit `{reference}` ({}): name one by its UID",
        list(uids.iter().map(ToString::to_string))
    )]
    Ambiguous {
        /// What was looked for.
        reference: String,
        /// All that fit.
        uids: Vec<Uid>,
    },
}

impl Vault {
    /// Finds what `reference` means. `folders` are needed only for references with a folder path.
    ///
    /// # Errors
    /// [`LookupError::NotFound`], and [`LookupError::Unreadable`] for a UID whose record did not decrypt.
    pub fn find(
        &self,
        folders: Option<&Folders>,
        reference: &RecordRef,
    ) -> Result<Match<'_>, LookupError> {
        if let Some(uid) = reference.uid().and_then(|text| text.parse().ok()) {
            if let Some(record) = self.get(uid) {
                return Ok(Match {
                    record,
                    others: Vec::new(),
                });
            }
            if let Some(reason) = self.skipped_record(uid) {
                return Err(LookupError::Unreadable { uid, reason });
            }
        }
        let title = reference.title();
        let by_title = self.matching(|record| record.title() == title);
        by_title
            .or_else(|| self.in_folder(folders?, reference))
            .ok_or_else(|| self.not_found(reference))
    }

    /// The record with this UID.
    #[must_use]
    pub fn get(&self, uid: Uid) -> Option<&Record> {
        self.records.iter().find(|record| record.uid() == uid)
    }

    fn in_folder(&self, folders: &Folders, reference: &RecordRef) -> Option<Match<'_>> {
        let (path, title) = reference.folder_and_title()?;
        let wanted = folders.resolve(path);
        self.matching(|record| {
            record.title() == title && wanted.iter().any(|uid| self.is_in(record, *uid))
        })
    }

    fn matching(&self, fits: impl Fn(&Record) -> bool) -> Option<Match<'_>> {
        let mut found: Vec<&Record> = self.records.iter().filter(|record| fits(record)).collect();
        found.sort_unstable_by_key(|record| record.uid());
        let mut found = found.into_iter();
        Some(Match {
            record: found.next()?,
            others: found.collect(),
        })
    }

    fn not_found(&self, reference: &RecordRef) -> LookupError {
        let title = reference.title();
        let last = reference.folder_and_title().map(|(_, title)| title);
        let mut nearest = nearest(&title, self.records.iter().map(Record::title));
        if nearest.is_empty() {
            nearest = last
                .map(|last| self::nearest(last, self.records.iter().map(Record::title)))
                .unwrap_or_default();
        }
        LookupError::NotFound {
            reference: clean(&reference.to_string()),
            nearest,
            unreadable: self.unreadable_records(),
        }
    }
}

impl<'v> Match<'v> {
    /// The record, if it is the only one that fits.
    ///
    /// # Errors
    /// [`LookupError::Ambiguous`].
    pub fn only(self, reference: &RecordRef) -> Result<&'v Record, LookupError> {
        if self.others.is_empty() {
            return Ok(self.record);
        }
        let all = std::iter::once(self.record).chain(self.others);
        Err(LookupError::Ambiguous {
            reference: clean(&reference.to_string()),
            uids: all.map(Record::uid).collect(),
        })
    }
}

/// Up to three of `names` that are like `wanted`, the most like first.
pub(crate) fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let fold = |name: &str| -> String {
        let chars = name.chars().take(MAX_COMPARED_CHARS);
        chars.flat_map(char::to_lowercase).collect()
    };
    let wanted = fold(wanted);
    let mut scored: Vec<(f64, &str)> = names
        .take(MAX_COMPARED)
        .map(|name| (strsim::jaro_winkler(&wanted, &fold(name)), name))
        .filter(|(likeness, name)| *likeness >= MIN_LIKENESS && !name.is_empty())
        .collect();
    scored.sort_by(|(a, x), (b, y)| {
        b.partial_cmp(a)
            .unwrap_or(Ordering::Equal)
            .then_with(|| x.cmp(y))
    });
    scored.dedup_by_key(|(_, name)| *name);
    scored.iter().take(3).map(|(_, name)| clean(name)).collect()
}

/// Names for a message: quoted, separated by commas.
pub(crate) fn list(names: impl Iterator<Item = String>) -> String {
    let quoted: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

fn hint(nearest: &[String], unreadable: usize) -> String {
    let mut out = String::new();
    if !nearest.is_empty() {
        out.push_str("; the nearest titles are ");
        out.push_str(&list(nearest.iter().cloned()));
    }
    if unreadable > 0 {
        out.push_str(&format!(
            "; records or folders that could not be read: {unreadable}"
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fixture::{app_key, cbc, key, open, record, shared_folder, titled, uid, vault};

    fn reference(text: &str) -> RecordRef {
        text.parse().unwrap()
    }

    fn found(vault: &Vault, folders: Option<&Folders>, text: &str) -> Vec<Uid> {
        let found = vault.find(folders, &reference(text)).unwrap();
        let all = std::iter::once(found.record).chain(found.others);
        all.map(Record::uid).collect()
    }

    #[test]
    fn uid_then_title() {
        let uid_like = "ABCDEFGHIJKLMNOPQRSTUV";
        let a = uid("a");
        let vault = vault(&[
            ("b", &titled(a.as_str())),
            ("a", &titled("A")),
            ("c", &titled(uid_like)),
        ]);
        // A UID that is there wins over a title that looks the same.
        assert_eq!(found(&vault, None, a.as_str()), [a]);
        assert_eq!(found(&vault, None, uid_like), [uid("c")]);
        assert_eq!(found(&vault, None, "A"), [a]);
    }

    #[test]
    fn several_of_one_title_come_in_the_order_of_their_uids() {
        let vault = vault(&[
            ("z", &titled("Twin")),
            ("m", &titled("Twin")),
            ("a", &titled("Other")),
        ]);
        assert_eq!(found(&vault, None, "Twin"), [uid("m"), uid("z")]);
        let twin = reference("Twin");
        let error = vault.find(None, &twin).unwrap().only(&twin).unwrap_err();
        let uids = vec![uid("m"), uid("z")];
        assert_eq!(
            error,
            LookupError::Ambiguous {
                reference: "Twin".to_owned(),
                uids
            }
        );
        assert!(error.to_string().contains(uid("z").as_str()));
        let other = reference("Other");
        assert_eq!(
            vault
                .find(None, &other)
                .unwrap()
                .only(&other)
                .unwrap()
                .uid(),
            uid("a")
        );
    }

    #[test]
    fn a_folder_path_comes_last() {
        let mut in_sub = record("deep", &key("folder"), &titled("DB"));
        in_sub["innerFolderUid"] = json!(uid("sub").as_str());
        let in_top = record("top", &key("folder"), &titled("DB"));
        let slashed = record("slashed", &app_key(), &titled("Prod/Title"));
        let vault = open(&json!({
            "records": [slashed, record("loose", &app_key(), &titled("DB"))],
            "folders": [shared_folder("folder", json!([in_sub, in_top]))],
        }));
        let name =
            |label: &str, name: &str| json!(cbc(&key(label), json!({"name": name}).to_string()));
        let mut folder = shared_folder("folder", json!(null));
        folder["data"] = name("folder", "Prod");
        let sub = json!({
            "folderUid": uid("sub").as_str(), "parent": uid("folder").as_str(),
            "folderKey": cbc(&key("folder"), *key("sub")), "data": name("sub", "Sub"),
        });
        let folders = json!({"folders": [folder, sub]}).to_string();
        let folders = Folders::open(folders.as_bytes(), &app_key()).unwrap();
        let folders = Some(&folders);
        assert_eq!(found(&vault, folders, "Prod/DB"), [uid("top")]);
        assert_eq!(found(&vault, folders, "Prod/Sub/DB"), [uid("deep")]);
        assert_eq!(found(&vault, folders, "Prod/Title"), [uid("slashed")]);
        assert_eq!(found(&vault, folders, r"Prod\/Title"), [uid("slashed")]);
        for missing in ["Sub/DB", "prod/DB", "Prod/Sub", "Prod/Sub/Sub/DB"] {
            assert!(
                vault.find(folders, &reference(missing)).is_err(),
                "{missing}"
            );
        }
        assert!(vault.find(None, &reference("Prod/DB")).is_err());
    }

    #[test]
    fn what_is_not_found_comes_with_the_nearest_titles() {
        let titles = [
            "Orders DB",
            "orders db (old)",
            "Orders DB",
            "Payments",
            "Zebra",
            "Orders-DB",
            "",
        ];
        let labels = ["a", "b", "c", "d", "e", "f", "g"];
        let texts = titles.map(titled);
        let records: Vec<(&str, &str)> = labels
            .into_iter()
            .zip(texts.iter().map(String::as_str))
            .collect();
        let vault = vault(&records);
        let error = vault.find(None, &reference("Order DB")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no record `Order DB` is shared with this application; the nearest titles are `Orders DB`, \
             `Orders-DB`, `orders db (old)`"
        );
        let error = vault
            .find(None, &reference("Prod/Databases/Payment"))
            .unwrap_err();
        assert!(error.to_string().contains("`Payments`"), "{error}");
        let error = vault.find(None, &reference("qqq")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no record `qqq` is shared with this application"
        );
    }

    #[test]
    fn unreadable_is_not_the_same_as_not_there() {
        let mut bad = record("a", &app_key(), &titled("A"));
        bad["data"] = json!("AAAA");
        let vault = open(&json!({"records": [bad]}));
        let error = vault.find(None, &reference(uid("a").as_str())).unwrap_err();
        assert_eq!(
            error,
            LookupError::Unreadable {
                uid: uid("a"),
                reason: SkipReason::Data
            }
        );
        let error = vault.find(None, &reference("A")).unwrap_err();
        assert!(
            error.to_string().ends_with("that could not be read: 1"),
            "{error}"
        );
    }

    #[test]
    fn long_titles_cost_little_to_compare() {
        let long = "x".repeat(60_000);
        let names = std::iter::repeat_n(long.as_str(), 2 * MAX_COMPARED);
        let found = nearest(&"x".repeat(60_000), names);
        assert_eq!(found.len(), 1);
    }
}
