//! The directories that are published, and what of the pod's own is near them.
//!
//! A directory is mounted whole over the parent of its outputs, so that all of them change at once; nested ones are
//! one directory, the topmost. What the pod itself mounts decides the rest: below a directory of ours it gets a mount
//! point, above it is in the way, and exactly there it must be a volume in memory, which we then publish into.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::agent_config::{Directory, Place};
use crate::choices::MountMode;
use crate::layout;
use crate::outputs::Placed;
use crate::path::{CleanPath, PathError, PathRef};
use crate::pod::{Container, Mount, Pod};
use crate::problem::{Findings, Reason, quoted};

/// Where Kubernetes may mount a token after we have seen the pod, by both names that the place usually has.
const LATE_MOUNTS: [PathRef<'_>; 2] = [
    PathRef::written("/var/run/secrets/kubernetes.io/serviceaccount"),
    PathRef::written("/run/secrets/kubernetes.io/serviceaccount"),
];
const DEFAULT: PathRef<'_> = PathRef::written(layout::DEFAULT_OUTPUT_DIR);

/// What is to be published, and where.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Site<'a> {
    /// The annotation that says where, without prefix.
    pub(crate) annotation: &'a str,
    pub(crate) path: PathRef<'a>,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A file at the path.
    File,
    /// Files in the directory at the path, whose names only the vault knows.
    Folder,
}

/// The place of a file or folder.
#[derive(Debug)]
pub(crate) struct Seat {
    /// Index into the directories.
    pub(crate) directory: usize,
    /// Relative to that directory; empty: that directory itself.
    pub(crate) path: String,
}

/// A volume of the pod's own that we publish into.
#[derive(Debug)]
pub(crate) struct PodVolume {
    pub(crate) name: String,
    pub(crate) sub_path: Option<String>,
    /// Where our containers mount it.
    pub(crate) at: String,
}

/// Gives each of `sites` its seat, and adds the directories to `placed`. No two files have one path.
pub(crate) fn seat(
    sites: &[Site<'_>],
    mode: MountMode,
    pod: &Pod<'_>,
    targets: &[Container<'_>],
    findings: &mut Findings,
    placed: &mut Placed,
) -> Vec<Option<Seat>> {
    let mounts = Mounts::of(targets);
    let homes: Vec<_> = sites
        .iter()
        .map(|site| home(site, mode, &mounts, findings))
        .collect();
    let roots = roots(sites, &homes);
    let outputs = sites
        .iter()
        .filter(|site| site.kind == Kind::File)
        .map(|site| (site.path, site.annotation))
        .collect();
    refuse_last_words(&roots, targets, findings);
    let mut points = mount_points(&roots, &outputs, &mounts, findings);
    let mut indexes = BTreeMap::new();
    let mut used = BTreeSet::new();
    for (path, root) in &roots {
        let index = placed.directories.len();
        let mut directory = Directory {
            mount_path: path.as_str().to_owned(),
            sub_path: format!("{}/{index}", layout::DIRECTORY_SUB_PATH),
            place: Place::Shared,
            mount_points: points.remove(path).unwrap_or_default(),
        };
        match root.cover {
            None => root.warn_of_what_is_hidden(*path, findings),
            Some(cover) if cover != *path => {
                let how = "which would lie over";
                mounts.conflict(root.annotation, cover, how, *path, findings);
            }
            Some(_) => {
                let at = format!("{}/{index}", layout::POD_VOLUMES_DIR);
                let theirs = mounts.at(*path);
                if let Some(mount) = pod_volume(*path, root, theirs, pod, &mut used, findings) {
                    placed.volumes.push(PodVolume {
                        name: mount.volume.to_owned(),
                        sub_path: mount.sub_path.map(str::to_owned),
                        at: at.clone(),
                    });
                }
                directory.sub_path = String::new();
                directory.place = Place::PodVolume(at);
            }
        }
        placed.directories.push(directory);
        indexes.insert((*path, false), index);
    }
    for home in homes.iter().flatten().filter(|home| home.single) {
        if let Entry::Vacant(entry) = indexes.entry((home.base, true)) {
            let index = *entry.insert(placed.directories.len());
            placed.directories.push(Directory {
                mount_path: home.base.as_str().to_owned(),
                sub_path: format!("{}/{index}", layout::FILE_SUB_PATH),
                place: Place::Files,
                mount_points: Vec::new(),
            });
        }
    }
    let seat = |(site, home): (&Site<'_>, &Option<Home<'_>>)| {
        let home = home.as_ref()?;
        let base = match home.single {
            true => home.base,
            false => home.root(&roots)?,
        };
        Some(Seat {
            path: site.path.below(base)?.to_owned(),
            directory: *indexes.get(&(base, home.single))?,
        })
    };
    sites.iter().zip(&homes).map(seat).collect()
}

/// What the pod mounts, by path.
struct Mounts<'a>(BTreeMap<CleanPath, Vec<(&'a str, Mount<'a>)>>);

impl<'a> Mounts<'a> {
    fn of(targets: &[Container<'a>]) -> Self {
        let mut mounts: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for container in targets {
            for (mount, path) in container.mounts() {
                let at = mounts.entry(path).or_default();
                at.push((container.name(), mount));
            }
        }
        Self(mounts)
    }

    /// What is mounted exactly there, with the container's name.
    fn at(&self, path: PathRef<'_>) -> &[(&'a str, Mount<'a>)] {
        self.0.get(path.as_str()).map_or(&[], Vec::as_slice)
    }

    /// The lowest mount that `path` is in.
    fn cover(&self, path: PathRef<'_>) -> Option<PathRef<'_>> {
        let above = [PathRef::ROOT].into_iter().chain(path.from_the_top());
        let found = above.filter_map(|above| self.0.get_key_value(above.as_str()));
        found.last().map(|(at, _)| at.as_path())
    }

    /// A mount below `path`.
    fn below(&self, path: PathRef<'_>) -> Option<PathRef<'_>> {
        let first = format!("{}/", path.as_str());
        let from = (Bound::Included(first.as_str()), Bound::Unbounded);
        let (at, _) = self.0.range::<str, _>(from).next()?;
        at.as_str().starts_with(&first).then_some(at.as_path())
    }
}

/// The directory that a file or folder belongs to, before nested ones are made one.
struct Home<'a> {
    base: PathRef<'a>,
    /// The pod's own mount that it is in.
    cover: Option<PathRef<'a>>,
    /// Whether the file is mounted by itself.
    single: bool,
}

fn home<'a>(
    site: &Site<'a>,
    mode: MountMode,
    mounts: &'a Mounts<'_>,
    findings: &mut Findings,
) -> Option<Home<'a>> {
    let is_default = site.path.below(DEFAULT).is_some();
    let parent = match site.kind {
        Kind::File => site.path.parent(),
        Kind::Folder => site.path,
    };
    if mode == MountMode::File && site.kind == Kind::File && !is_default {
        let near = mounts.cover(site.path);
        if let Some(at) = near.or_else(|| mounts.below(site.path)) {
            mounts.conflict(
                site.annotation,
                at,
                "which excludes a file mounted at",
                site.path,
                findings,
            );
            return None;
        }
        return Some(Home {
            base: parent,
            cover: None,
            single: true,
        });
    }
    if parent.is_system() {
        let shown = quoted(site.path.as_str());
        let error = match site.kind {
            Kind::File => PathError::System(shown, quoted(parent.as_str())),
            Kind::Folder => PathError::SystemDirectory(shown),
        };
        findings.problem(site.annotation, Reason::BadPath, error);
        return None;
    }
    let cover = mounts.cover(parent);
    // Everything in the default directory is one, but for what is in a mount of the pod's own below it.
    let holds_default = |cover| DEFAULT.below(cover).is_some();
    let base = match is_default && cover.is_none_or(holds_default) {
        true => DEFAULT,
        false => parent,
    };
    Some(Home {
        base,
        cover,
        single: false,
    })
}

/// A published directory.
struct Root<'a> {
    /// The first annotation that asks for a file in it.
    annotation: &'a str,
    cover: Option<PathRef<'a>>,
}

/// The published directories by path.
type Roots<'a> = BTreeMap<PathRef<'a>, Root<'a>>;

/// The topmost directories.
fn roots<'a>(sites: &[Site<'a>], homes: &[Option<Home<'a>>]) -> Roots<'a> {
    let swapped = |home: &&Home<'a>| !home.single;
    let bases: BTreeSet<_> = homes
        .iter()
        .flatten()
        .filter(swapped)
        .map(|home| (home.cover, home.base))
        .collect();
    let mut roots = BTreeMap::new();
    for (site, home) in sites.iter().zip(homes) {
        let Some(home) = home.as_ref().filter(swapped) else {
            continue;
        };
        let mut above = home.base.from_the_top();
        if let Some(top) = above.find(|above| bases.contains(&(home.cover, *above))) {
            roots.entry(top).or_insert(Root {
                annotation: site.annotation,
                cover: home.cover,
            });
        }
    }
    roots
}

impl<'a> Home<'a> {
    fn root(&self, roots: &Roots<'a>) -> Option<PathRef<'a>> {
        let mut above = self.base.from_the_top();
        above.find(|above| {
            roots
                .get(above)
                .is_some_and(|root| root.cover == self.cover)
        })
    }
}

impl Root<'_> {
    fn warn_of_what_is_hidden(&self, path: PathRef<'_>, findings: &mut Findings) {
        if path != DEFAULT {
            findings.warn(
                self.annotation,
                format_args!(
                    "what the image has in {} is hidden by the directory of the secrets",
                    quoted(path.as_str())
                ),
            );
        }
    }
}

impl Mounts<'_> {
    fn conflict(
        &self,
        annotation: &str,
        at: PathRef<'_>,
        how: &str,
        path: PathRef<'_>,
        findings: &mut Findings,
    ) {
        for (container, mount) in self.at(at) {
            findings.problem(
                annotation,
                Reason::MountConflict,
                format_args!(
                    "container {} mounts volume {} at {}, {how} {}: move that mount, or the output",
                    quoted(container),
                    quoted(mount.volume),
                    quoted(at.as_str()),
                    quoted(path.as_str())
                ),
            );
        }
    }
}

/// The pod's own volume that all containers mount at `path`, if it is one to publish into.
fn pod_volume<'a>(
    path: PathRef<'_>,
    root: &Root<'_>,
    mounts: &[(&'a str, Mount<'a>)],
    pod: &Pod<'_>,
    used: &mut BTreeSet<&'a str>,
    findings: &mut Findings,
) -> Option<Mount<'a>> {
    let (container, mount) = mounts.first()?;
    let at = quoted(path.as_str());
    let here = format!(
        "container {} mounts volume {} at {at}, where the secrets go",
        quoted(container),
        quoted(mount.volume)
    );
    let mut wrong = |why: &str| {
        let message = format_args!("{here}, {why}, or remove that mount");
        findings.problem(root.annotation, Reason::MountConflict, message);
    };
    if let Some((other, _)) = mounts.iter().find(|(_, other)| other != mount) {
        wrong(&format!(
            "and container {} mounts another there: mount the same one in both",
            quoted(other)
        ));
        return None;
    }
    if mount.is_expanded {
        wrong("with subPathExpr: write subPath");
        return None;
    }
    if !pod.is_in_memory(mount.volume) {
        wrong("and secrets are kept in memory only: give that volume emptyDir: {medium: Memory}");
        return None;
    }
    if !used.insert(mount.volume) {
        wrong("and publishing twice into one volume would mix them up: use another one");
        return None;
    }
    Some(*mount)
}

/// The kubelet mounts a file for a container's last words, which can't be made where we mount.
fn refuse_last_words(roots: &Roots<'_>, targets: &[Container<'_>], findings: &mut Findings) {
    for container in targets {
        let Some(at) = container.termination_message() else {
            continue;
        };
        if let Some(root) = at
            .as_path()
            .from_the_top()
            .find_map(|above| roots.get(&above))
        {
            findings.problem(
                root.annotation,
                Reason::MountConflict,
                format_args!(
                    "container {} has its terminationMessagePath, {}, in the directory of this output: move one of them",
                    quoted(container.name()),
                    quoted(at.as_str())
                ),
            );
        }
    }
}

/// The pod's own mounts below the published directories, relative to them: the agent makes these places.
fn mount_points<'r>(
    roots: &Roots<'r>,
    outputs: &BTreeMap<PathRef<'_>, &str>,
    mounts: &'r Mounts<'_>,
    findings: &mut Findings,
) -> BTreeMap<PathRef<'r>, Vec<String>> {
    let mut points: BTreeMap<_, Vec<String>> = BTreeMap::new();
    let late = LATE_MOUNTS
        .into_iter()
        .filter(|at| mounts.at(*at).is_empty());
    for at in mounts.0.keys().map(CleanPath::as_path).chain(late) {
        let above = at.parent().from_the_top();
        let above = above.filter_map(|dir| roots.get_key_value(&dir));
        let Some((dir, root)) = above.last() else {
            continue;
        };
        let relative = at.below(*dir).unwrap_or_default();
        let mut conflict = |annotation, how: &str| {
            for (container, mount) in mounts.at(at) {
                findings.problem(
                    annotation,
                    Reason::MountConflict,
                    format_args!(
                        "container {} mounts volume {} at {}, {how}",
                        quoted(container),
                        quoted(mount.volume),
                        quoted(at.as_str())
                    ),
                );
            }
        };
        if relative.split('/').any(|part| part.starts_with("..")) {
            conflict(
                root.annotation,
                "and names that begin with `..` are the injector's own there: move it",
            );
        } else if let Some(output) = at.from_the_top().find_map(|above| outputs.get(&above)) {
            conflict(output, "in the way of this output: move one of them");
        } else {
            points.entry(*dir).or_default().push(relative.to_owned());
        }
    }
    points
}

#[cfg(test)]
mod tests {
    use crate::path::CleanPath;

    /// The rest is tested from the outside, by `tests/admission`.
    #[test]
    fn the_token_is_where_outputs_may_not_be() {
        for at in super::LATE_MOUNTS {
            let parsed: CleanPath = at.as_str().parse().unwrap();
            assert_eq!(parsed.as_path(), at);
            assert!(parsed.check_output().is_err());
        }
    }
}
