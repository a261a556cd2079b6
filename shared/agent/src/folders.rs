//! The files of the folders that a pod selects: which records lie in one, under which names they are published, and
//! when a file goes.
//!
//! A file goes only when a whole answer shows that its record has left the folder. Whatever else may be wrong, with the
//! answer, the folder or a record, keeps what is published.

use std::collections::{BTreeMap, HashSet};

use keeper_contract::{AgentConfig, FolderOutput, FolderRef};
use keeper_ksm::{FolderError, Folders, LookupError, Record, SkippedItem, Uid, Vault};
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::names;
use crate::publish::{Content, Planned};
use crate::render::record_json;
use crate::state::{KnownFile, KnownFolder};

/// What is published of the folders.
#[derive(Debug, Default)]
pub(crate) struct Selected {
    known: Vec<KnownFolder>,
}

/// What is to be published of one folder.
pub(crate) struct Plan {
    /// Index into the config's folders.
    index: usize,
    /// None: it was never found.
    uid: Option<Uid>,
    files: Vec<File>,
    /// Paths of the files whose record has left.
    gone: Vec<String>,
}

struct File {
    known: KnownFile,
    path: String,
    /// None: what is published stays.
    bytes: Option<Zeroizing<Vec<u8>>>,
    /// An output of the pod's own, or one of its mounts, has the path.
    is_beaten: bool,
}

/// What one cycle brought.
pub(crate) struct Answers<'a> {
    pub(crate) vault: &'a Vault,
    /// The tree of folders, where it was asked for.
    pub(crate) tree: Option<&'a Folders>,
    /// Why there is none.
    pub(crate) tree_failure: Option<&'a keeper_ksm::Error>,
}

impl Selected {
    /// Goes on from what an earlier process published.
    pub(crate) fn set_known(&mut self, known: Vec<KnownFolder>) {
        self.known = known;
    }

    pub(crate) fn known(&self) -> &[KnownFolder] {
        &self.known
    }

    /// Whether the tree of folders is needed to find all of them.
    pub(crate) fn needs_tree(&self, config: &AgentConfig, vault: &Vault) -> bool {
        let mut folders = config.folders.iter().enumerate();
        folders.any(|(index, folder)| self.in_answer(index, folder, vault).is_none())
    }

    /// The published files: directory and path.
    pub(crate) fn published<'a>(
        &'a self,
        config: &'a AgentConfig,
    ) -> impl Iterator<Item = (usize, String, &'a KnownFile)> {
        self.known.iter().flat_map(move |known| {
            let folder = config.folders.get(known.index);
            known.files.iter().filter_map(move |file| {
                let folder = folder?;
                let path = path_of(folder, &file.name);
                let is_there = !is_beaten(config, folder.directory, &path);
                is_there.then_some((folder.directory, path, file))
            })
        })
    }

    /// What to publish of all folders.
    pub(crate) fn plan(
        &self,
        config: &AgentConfig,
        answers: &Answers<'_>,
        failures: &mut Vec<Failure>,
    ) -> Vec<Plan> {
        let mut plans = Vec::with_capacity(config.folders.len());
        // Names by place: two folders may be published into one directory.
        let mut taken: HashSet<String> = self
            .known
            .iter()
            .filter_map(|known| Some((config.folders.get(known.index)?, known)))
            .flat_map(|(folder, known)| known.files.iter().map(|file| place(folder, &file.name)))
            .collect();
        for (index, folder) in config.folders.iter().enumerate() {
            let known = self.known_of(index);
            let uid = self.find(index, folder, answers);
            let files = known.map_or(&[][..], |known| &known.files);
            let files = match uid {
                Ok(uid) => Files::of(folder, uid, answers.vault, files, failures, &mut taken),
                Err(failure) => {
                    failures.push(failure);
                    Files::kept(files)
                }
            };
            let uid = files.uid.or(known.map(|known| known.uid));
            let with_path = |(known, bytes): (KnownFile, _)| {
                let path = path_of(folder, &known.name);
                let is_beaten = is_beaten(config, folder.directory, &path);
                File {
                    known,
                    path,
                    bytes,
                    is_beaten,
                }
            };
            plans.push(Plan {
                index,
                uid,
                files: files.files.into_iter().map(with_path).collect(),
                gone: files
                    .gone
                    .iter()
                    .map(|name| path_of(folder, name))
                    .filter(|path| !is_beaten(config, folder.directory, path))
                    .collect(),
            });
        }
        plans
    }

    /// Takes note of what was published of a folder.
    pub(crate) fn note(&mut self, plan: Plan) {
        let index = plan.index;
        self.known.retain(|known| known.index != index);
        self.known.extend(plan.uid.map(|uid| KnownFolder {
            index,
            uid,
            files: plan.files.into_iter().map(|file| file.known).collect(),
        }));
        self.known.sort_unstable_by_key(|known| known.index);
    }

    fn known_of(&self, index: usize) -> Option<&KnownFolder> {
        self.known.iter().find(|known| known.index == index)
    }

    /// The folder, if records tell that it is there.
    fn in_answer(&self, index: usize, folder: &FolderOutput, vault: &Vault) -> Option<Uid> {
        let uid = match (self.known_of(index), &folder.folder) {
            (Some(known), _) => known.uid,
            (None, FolderRef::Uid(uid)) => uid.parse().ok()?,
            (None, FolderRef::Path(path)) => path.uid()?.parse().ok()?,
        };
        let is_there = vault.shared_folders.contains(&uid)
            || vault.records.iter().any(|record| vault.is_in(record, uid))
            || vault.unreadable_in(uid).next().is_some();
        is_there.then_some(uid)
    }

    fn find(
        &self,
        index: usize,
        folder: &FolderOutput,
        answers: &Answers<'_>,
    ) -> Result<Uid, Failure> {
        if let Some(uid) = self.in_answer(index, folder, answers.vault) {
            return Ok(uid);
        }
        let tree = answers.tree.ok_or_else(|| match answers.tree_failure {
            Some(error) => error.clone().into(),
            None => folder_failure(
                folder,
                Folders::default().not_found(&folder.folder.to_string()),
            ),
        })?;
        let known = self.known_of(index).map(|known| known.uid);
        let uid = look_up(folder, known, tree).map_err(|error| folder_failure(folder, error))?;
        // Its records may be missing because they came with a folder that can't be read.
        let unreadable = answers.vault.skipped.iter().find(|skipped| {
            matches!(skipped.item, SkippedItem::Folder(at) if at.is_none_or(|at| tree.is_within(uid, at)))
        });
        match unreadable {
            Some(skipped) => Err(folder_failure(
                folder,
                FolderError::Unreadable {
                    uid,
                    reason: skipped.reason,
                },
            )),
            None => Ok(uid),
        }
    }
}

impl Plan {
    /// The files as they are to be published. Those of a record that is torn stay.
    pub(crate) fn files(
        &self,
        mode: u32,
        is_torn: impl Fn(Uid) -> bool,
    ) -> impl Iterator<Item = Planned<'_>> {
        let planned = move |path, content| Planned {
            path,
            mode,
            content,
        };
        let files = self.files.iter().filter(|file| !file.is_beaten);
        let files = files.map(move |file| {
            let content = match &file.bytes {
                Some(bytes) if !is_torn(file.known.uid) => Content::New(bytes),
                _ => Content::LastGood,
            };
            planned(file.path.as_str(), content)
        });
        let gone = self.gone.iter();
        files.chain(gone.map(move |path| planned(path.as_str(), Content::Gone)))
    }

    /// How many of its files have new bytes.
    pub(crate) fn rendered(&self) -> usize {
        self.files
            .iter()
            .filter(|file| file.bytes.is_some())
            .count()
    }

    /// The config's directory that it goes to.
    pub(crate) fn directory(&self, config: &AgentConfig) -> Option<usize> {
        Some(config.folders.get(self.index)?.directory)
    }
}

/// The files of one folder, and the names of those that go.
struct Files {
    uid: Option<Uid>,
    files: Vec<(KnownFile, Option<Zeroizing<Vec<u8>>>)>,
    gone: Vec<String>,
}

impl Files {
    fn kept(known: &[KnownFile]) -> Self {
        Self {
            uid: None,
            files: known.iter().map(|file| (file.clone(), None)).collect(),
            gone: Vec::new(),
        }
    }

    fn of(
        folder: &FolderOutput,
        uid: Uid,
        vault: &Vault,
        known: &[KnownFile],
        failures: &mut Vec<Failure>,
        taken: &mut HashSet<String>,
    ) -> Self {
        let mut files = Vec::new();
        let mut gone = Vec::new();
        let unreadable: Vec<_> = vault.unreadable_in(uid).collect();
        for (uid, reason) in &unreadable {
            failures.push(Failure::Selection {
                annotation: folder.annotation.clone(),
                error: LookupError::Unreadable {
                    uid: *uid,
                    reason: *reason,
                },
            });
        }
        let mut records: BTreeMap<Uid, &Record> = vault
            .records_in(uid)
            .into_iter()
            .map(|record| (record.uid(), record))
            .collect();
        let mut kept_blindly = 0_usize;
        for file in known {
            match records.remove(&file.uid) {
                Some(record) => {
                    files.push((
                        KnownFile::of(record, file.name.clone()),
                        Some(record_json(record)),
                    ));
                }
                None if unreadable.iter().any(|(uid, _)| *uid == file.uid) => {
                    files.push((file.clone(), None));
                }
                None if vault.is_whole() => {
                    taken.remove(&place(folder, &file.name));
                    gone.push(file.name.clone());
                }
                None => {
                    kept_blindly += 1;
                    files.push((file.clone(), None));
                }
            }
        }
        if kept_blindly > 0 {
            tracing::warn!(
                annotation = folder.annotation,
                files = kept_blindly,
                "records seem to have left a folder, but the answer cannot be read whole: keeping their files"
            );
        }
        let new: Vec<(Uid, &str)> = records.values().map(|r| (r.uid(), r.title())).collect();
        let mut names_here: HashSet<String> = taken
            .iter()
            .filter_map(|taken| taken.strip_prefix(&place(folder, "")))
            .filter(|name| !name.contains('/'))
            .map(str::to_owned)
            .collect();
        for (record, name) in records.values().zip(names::assign(&new, &mut names_here)) {
            taken.insert(place(folder, &name));
            gone.retain(|gone| *gone != name);
            files.push((KnownFile::of(record, name), Some(record_json(record))));
        }
        Self {
            uid: Some(uid),
            files,
            gone,
        }
    }
}

impl KnownFile {
    fn of(record: &Record, name: String) -> Self {
        Self {
            uid: record.uid(),
            name,
            revision: record.revision(),
        }
    }
}

/// A folder keeps its UID as long as there is such a one; else the path counts.
fn look_up(folder: &FolderOutput, known: Option<Uid>, tree: &Folders) -> Result<Uid, FolderError> {
    if let Some(uid) = known {
        match (tree.find_uid(uid), &folder.folder) {
            (Err(FolderError::NotFound { .. }), FolderRef::Path(path)) => {
                let found = tree.find(path.names())?;
                tracing::info!(
                    annotation = folder.annotation,
                    gone = %uid,
                    folder = %found,
                    "a folder is gone, taking the one that has its path now"
                );
                return Ok(found);
            }
            (found, _) => return found,
        }
    }
    let by_uid = |uid: &str| uid.parse().ok().map(|uid| tree.find_uid(uid));
    match &folder.folder {
        FolderRef::Uid(uid) => by_uid(uid).unwrap_or_else(|| Err(tree.not_found(uid))),
        FolderRef::Path(path) => match path.uid().and_then(by_uid) {
            Some(found @ (Ok(_) | Err(FolderError::Unreadable { .. }))) => found,
            _ => tree.find(path.names()),
        },
    }
}

fn folder_failure(folder: &FolderOutput, error: FolderError) -> Failure {
    Failure::Folder {
        annotation: folder.annotation.clone(),
        error,
    }
}

/// The path of a file below the config's directory.
fn path_of(folder: &FolderOutput, name: &str) -> String {
    match folder.path.as_str() {
        "" => name.to_owned(),
        path => format!("{path}/{name}"),
    }
}

/// Directory and path in one text.
fn place(folder: &FolderOutput, name: &str) -> String {
    format!("{}:{}", folder.directory, path_of(folder, name))
}

/// Whether the path is, or leads to, an output of the pod's own, another folder's directory, or a mount.
fn is_beaten(config: &AgentConfig, directory: usize, path: &str) -> bool {
    let is_on_the_way = |to: &str| {
        to.strip_prefix(path)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let outputs = config.outputs.iter().map(|o| (o.directory, &o.path));
    let folders = config.folders.iter().map(|f| (f.directory, &f.path));
    let mounts = config.directories.get(directory);
    let mounts = mounts.into_iter().flat_map(|d| &d.mount_points);
    outputs
        .chain(folders)
        .filter(|(of, _)| *of == directory)
        .map(|(_, path)| path)
        .chain(mounts)
        .any(|path| is_on_the_way(path))
}
