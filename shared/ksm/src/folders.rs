//! The tree of folders (protocol section 10), for selections that name a folder path.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::crypto::{self, CannotOpen, Key};
use crate::error::clean;
use crate::lookup::{list, nearest};
use crate::vault::{SkippedItem, parse_answer, uid_of};
use crate::wire::{WireFolder, element};
use crate::{SkipReason, Skipped, Uid, encoding, json};

/// Deepest nesting of folders that is followed.
const MAX_DEPTH: usize = 64;

/// All folders that are shared with the application.
#[derive(Debug, Default)]
pub struct Folders {
    folders: BTreeMap<Uid, Folder>,
    /// What could not be read.
    pub skipped: Vec<Skipped>,
}

/// One folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// Its UID.
    pub uid: Uid,
    /// The folder that it lies in; none: a shared folder, the top of its tree.
    pub parent: Option<Uid>,
    /// Its name.
    pub name: String,
}

/// Why a folder can't be had. Names may be shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FolderError {
    /// There is none.
    #[error("no folder `{folder}` is shared with this application{}", hint(nearest, *unreadable))]
    NotFound {
        /// Its path or UID.
        folder: String,
        /// Like paths, the most like first.
        nearest: Vec<String>,
        /// How many folders could not be read; it might be one of these.
        unreadable: usize,
    },
    /// Several folders have this path.
    #[error(
        "several folders have the path `{folder}` ({}): name one by its UID",
        list(uids.iter().map(ToString::to_string))
    )]
    Ambiguous {
        /// The path.
        folder: String,
        /// All of them.
        uids: Vec<Uid>,
    },
    /// It is there, and can't be read.
    #[error("the folder {uid} cannot be read: {reason}")]
    Unreadable {
        /// Its UID.
        uid: Uid,
        /// Why.
        reason: SkipReason,
    },
}

#[derive(Deserialize)]
struct FolderData<'a> {
    #[serde(borrow, default)]
    name: Option<&'a RawValue>,
}

impl Folders {
    /// Opens the JSON of a `get_folders` answer; the error says what is wrong with it as a whole.
    pub(crate) fn open(answer: &[u8], app_key: &Key) -> Result<Self, &'static str> {
        let answer = parse_answer(answer)?;
        let mut out = Self::default();
        let mut wire = BTreeMap::new();
        for raw in answer.folders.unwrap_or_default() {
            let folder = element::<WireFolder<'_>>(raw).ok();
            let uid = folder.as_ref().and_then(|f| uid_of(f.folder_uid.as_ref()));
            match folder.zip(uid) {
                Some((folder, uid)) => {
                    wire.entry(uid).or_insert(folder);
                }
                None => out.skip(None, SkipReason::Malformed),
            }
        }
        let roots: HashMap<Uid, Key> = wire
            .iter()
            .filter(|(_, folder)| parent(folder).is_none())
            .filter_map(|(uid, folder)| Some((*uid, open_root(folder, app_key).ok()?)))
            .collect();
        for (uid, folder) in &wire {
            match open_folder(*uid, folder, &wire, &roots) {
                Ok(folder) => {
                    out.folders.insert(*uid, folder);
                }
                Err(reason) => out.skip(Some(*uid), reason),
            }
        }
        Ok(out)
    }

    /// All folders, ordered by UID.
    pub fn iter(&self) -> impl Iterator<Item = &Folder> {
        self.folders.values()
    }

    /// The folder with this UID.
    #[must_use]
    pub fn get(&self, uid: Uid) -> Option<&Folder> {
        self.folders.get(&uid)
    }

    /// The names from the shared folder down to this one.
    #[must_use]
    pub fn path(&self, uid: Uid) -> Option<Vec<&str>> {
        let mut names = Vec::new();
        let mut next = Some(uid);
        while let Some(uid) = next {
            let folder = self.folders.get(&uid)?;
            names.push(folder.name.as_str());
            // Circles were left out, but the parent of a folder may be one that did not open.
            next = folder.parent;
        }
        names.reverse();
        Some(names)
    }

    /// Whether the folder lies in `top`, at whatever depth, or is it.
    #[must_use]
    pub fn is_within(&self, uid: Uid, top: Uid) -> bool {
        let mut next = Some(uid);
        while let Some(uid) = next.filter(|uid| *uid != top) {
            next = self.folders.get(&uid).and_then(|folder| folder.parent);
        }
        next.is_some()
    }

    /// The folders with exactly this path. Names are not unique, so there can be several.
    #[must_use]
    pub fn resolve(&self, path: &[String]) -> Vec<Uid> {
        let is_wanted = |uid: &Uid| self.path(*uid).is_some_and(|names| names == path);
        self.folders.keys().copied().filter(is_wanted).collect()
    }

    /// The one folder with exactly this path.
    ///
    /// # Errors
    /// None, or several.
    pub fn find(&self, path: &[String]) -> Result<Uid, FolderError> {
        match self.resolve(path).as_slice() {
            [uid] => Ok(*uid),
            [] => Err(self.not_found(&path.join("/"))),
            several => Err(FolderError::Ambiguous {
                folder: clean(&path.join("/")),
                uids: several.to_vec(),
            }),
        }
    }

    /// Finds the folder with this UID.
    ///
    /// # Errors
    /// It is not there, or can't be read.
    pub fn find_uid(&self, uid: Uid) -> Result<Uid, FolderError> {
        let item = SkippedItem::Folder(Some(uid));
        let skipped = self.skipped.iter().find(|skipped| skipped.item == item);
        match (self.get(uid), skipped) {
            (Some(_), _) => Ok(uid),
            (None, Some(skipped)) => Err(FolderError::Unreadable {
                uid,
                reason: skipped.reason,
            }),
            (None, None) => Err(self.not_found(uid.as_str())),
        }
    }

    /// The error for a folder of this path or UID.
    #[must_use]
    pub fn not_found(&self, folder: &str) -> FolderError {
        let paths: Vec<String> = self
            .folders
            .keys()
            .filter_map(|uid| Some(self.path(*uid)?.join("/")))
            .collect();
        FolderError::NotFound {
            folder: clean(folder),
            nearest: nearest(folder, paths.iter().map(String::as_str)),
            unreadable: self.skipped.len(),
        }
    }

    fn skip(&mut self, uid: Option<Uid>, reason: SkipReason) {
        self.skipped.push(Skipped {
            item: SkippedItem::Folder(uid),
            reason,
        });
    }
}

fn hint(nearest: &[String], unreadable: usize) -> String {
    let mut out = String::new();
    if !nearest.is_empty() {
        out.push_str("; the nearest paths are ");
        out.push_str(&list(nearest.iter().cloned()));
    }
    if unreadable > 0 {
        out.push_str(&format!("; folders that could not be read: {unreadable}"));
    }
    out
}

fn parent<'a>(folder: &'a WireFolder<'_>) -> Option<&'a str> {
    folder.parent.as_deref().filter(|parent| !parent.is_empty())
}

/// Follows the parents to the shared folder at the top.
fn root_of(uid: Uid, wire: &BTreeMap<Uid, WireFolder<'_>>) -> Option<Uid> {
    let mut uid = uid;
    // A bound ends circles too.
    for _ in 0..MAX_DEPTH {
        match parent(wire.get(&uid)?) {
            None => return Some(uid),
            Some(parent) => uid = parent.parse().ok()?,
        }
    }
    None
}

fn open_root(folder: &WireFolder<'_>, app_key: &Key) -> Result<Key, CannotOpen> {
    let wrapped = folder.folder_key.as_deref().unwrap_or_default();
    crypto::gcm_open_key(app_key, encoding::decode(wrapped).ok_or(CannotOpen)?)
}

fn open_folder(
    uid: Uid,
    folder: &WireFolder<'_>,
    wire: &BTreeMap<Uid, WireFolder<'_>>,
    roots: &HashMap<Uid, Key>,
) -> Result<Folder, SkipReason> {
    let root = root_of(uid, wire).ok_or(SkipReason::Parents)?;
    let root_key = roots.get(&root).ok_or(SkipReason::Key)?;
    let decode = |text: Option<&str>| encoding::decode(text.unwrap_or_default());
    let key = if root == uid {
        root_key.clone()
    } else {
        // By the shared folder's key whatever the depth, not by the parent's.
        let wrapped = decode(folder.folder_key.as_deref()).ok_or(SkipReason::Key)?;
        crypto::cbc_open_key(root_key, wrapped).map_err(|CannotOpen| SkipReason::Key)?
    };
    let data = decode(folder.data.as_deref()).ok_or(SkipReason::Data)?;
    let data = crypto::cbc_open(&key, data).map_err(|CannotOpen| SkipReason::Data)?;
    let data: FolderData<'_> = serde_json::from_slice(&data).map_err(|_| SkipReason::Data)?;
    let name = data.name.and_then(json::string).ok_or(SkipReason::Data)?;
    Ok(Folder {
        uid,
        parent: parent(folder).and_then(|parent| parent.parse().ok()),
        name: name.expose().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::fixture::{app_key, cbc, gcm, key, uid};

    fn shared(label: &str, name: &str) -> Value {
        json!({
            "folderUid": uid(label).as_str(),
            "folderKey": gcm(&app_key(), *key(label)),
            "data": cbc(&key(label), json!({"name": name}).to_string()),
            "parent": null,
            "records": null,
        })
    }

    fn sub(label: &str, name: &str, root: &str, parent: &str) -> Value {
        json!({
            "folderUid": uid(label).as_str(),
            "folderKey": cbc(&key(root), *key(label)),
            "data": cbc(&key(label), json!({"name": name}).to_string()),
            "parent": uid(parent).as_str(),
            "records": null,
        })
    }

    fn open(folders: &[Value]) -> Folders {
        let answer = json!({"folders": folders, "records": null}).to_string();
        Folders::open(answer.as_bytes(), &app_key()).unwrap()
    }

    fn path(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn sub_folders_open_under_the_shared_folder_at_any_depth_and_in_any_order() {
        let folders = open(&[
            sub("c", "Deep", "a", "b"),
            sub("b", "Sub/1", "a", "a"),
            shared("a", "Prod"),
        ]);
        assert_eq!(folders.skipped, []);
        assert_eq!(folders.path(uid("c")), Some(vec!["Prod", "Sub/1", "Deep"]));
        assert_eq!(folders.get(uid("b")).unwrap().parent, Some(uid("a")));
        assert_eq!(folders.resolve(&path(&["Prod"])), [uid("a")]);
        assert_eq!(
            folders.resolve(&path(&["Prod", "Sub/1", "Deep"])),
            [uid("c")]
        );
        for wrong in [&["Deep"][..], &["prod"], &["Prod", "Deep"], &[]] {
            assert_eq!(folders.resolve(&path(wrong)), [], "{wrong:?}");
        }
    }

    #[test]
    fn names_may_repeat() {
        let folders = open(&[
            shared("a", "Prod"),
            sub("b", "X", "a", "a"),
            sub("c", "X", "a", "a"),
        ]);
        assert_eq!(folders.resolve(&path(&["Prod", "X"])), [uid("b"), uid("c")]);
    }

    #[test]
    fn a_folder_is_found_or_the_error_says_what_there_is() {
        let mut bad = shared("d", "D");
        bad["data"] = json!("AAAA");
        let folders = open(&[
            shared("a", "Production"),
            sub("b", "Databases", "a", "a"),
            sub("c", "Databases", "a", "a"),
            bad,
        ]);
        assert_eq!(folders.find(&path(&["Production"])), Ok(uid("a")));
        assert_eq!(folders.find_uid(uid("b")), Ok(uid("b")));
        let error = |names: &[&str]| folders.find(&path(names)).unwrap_err().to_string();
        assert_eq!(
            error(&["production"]),
            "no folder `production` is shared with this application; the nearest paths are `Production`, \
             `Production/Databases`; folders that could not be read: 1"
        );
        assert_eq!(
            error(&["Production", "Databases"]),
            format!(
                "several folders have the path `Production/Databases` (`{}`, `{}`): name one by its UID",
                uid("b"),
                uid("c")
            )
        );
        assert!(matches!(
            folders.find_uid(uid("d")),
            Err(FolderError::Unreadable { .. })
        ));
        assert!(matches!(
            folders.find_uid(uid("e")),
            Err(FolderError::NotFound { .. })
        ));
    }

    #[test]
    fn circles_and_unknown_parents_are_left_out() {
        let folders = open(&[
            shared("a", "Good"),
            sub("b", "circle", "a", "c"),
            sub("c", "circle", "a", "b"),
            sub("d", "own parent", "a", "d"),
            sub("e", "orphan", "a", "nobody"),
        ]);
        assert_eq!(folders.iter().count(), 1);
        let reasons: Vec<SkipReason> = folders.skipped.iter().map(|s| s.reason).collect();
        assert_eq!(reasons, [SkipReason::Parents; 4]);
    }

    #[test]
    fn one_bad_folder_hides_only_what_is_under_it() {
        let mut bad_name = shared("b", "B");
        bad_name["data"] = json!(cbc(&key("b"), "{}"));
        let mut bad_key = shared("c", "C");
        bad_key["folderKey"] = json!(gcm(&key("other"), *key("c")));
        let mut bad_sub = sub("e", "E", "a", "a");
        bad_sub["folderKey"] = json!(cbc(&key("a"), "not 32 bytes"));
        let folders = open(&[
            shared("a", "A"),
            bad_name,
            bad_key,
            sub("d", "D", "c", "c"),
            bad_sub,
            sub("f", "F", "b", "b"),
            json!(null),
            json!({"folderUid": "x"}),
        ]);
        let mut skipped: Vec<String> = folders.skipped.iter().map(ToString::to_string).collect();
        skipped.sort();
        let of = |label: &str, reason: SkipReason| format!("folder {}: {reason}", uid(label));
        let mut want = vec![
            of("b", SkipReason::Data),
            of("c", SkipReason::Key),
            of("d", SkipReason::Key),
            of("e", SkipReason::Key),
            format!("a folder without a valid UID: {}", SkipReason::Malformed),
            format!("a folder without a valid UID: {}", SkipReason::Malformed),
        ];
        want.sort();
        assert_eq!(skipped, want);
        // Its own name is known, but not where it lies.
        assert_eq!(folders.path(uid("f")), None);
        assert_eq!(folders.resolve(&path(&["F"])), []);
    }

    proptest::proptest! {
        #[test]
        fn no_parents_hang_or_panic(parents in proptest::collection::vec(proptest::option::of(0..12_u8), 12)) {
            let label = |n: usize| format!("f{n}");
            let list: Vec<Value> = parents
                .iter()
                .enumerate()
                .map(|(n, parent)| match parent {
                    None => shared(&label(n), "S"),
                    Some(parent) => sub(&label(n), "S", &label(0), &label(usize::from(*parent))),
                })
                .collect();
            let folders = open(&list);
            for folder in folders.iter() {
                assert!(folders.path(folder.uid).is_none_or(|path| path.len() <= 12));
            }
            assert_eq!(folders.iter().count() + folders.skipped.len(), 12);
        }
    }
}
