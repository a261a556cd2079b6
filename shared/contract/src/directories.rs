//! The directories that are published, and what of the pod's own is near them.
//!
//! A directory is mounted whole over the parent of its outputs, so that all of them change at once; nested ones are
//! one directory, the topmost. What the pod itself mounts decides the rest: below a directory of ours it gets a mount
//! point, above it is in the way, and exactly there it must be a volume in memory, which we then publish into.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use crate::agent_config::{Directory, Place};
use crate::choices::MountMode;
use crate::layout;
use crate::outputs::Placed;
use crate::path::{CleanPath, PathError};
use crate::pod::{Container, Mount, Pod};
use crate::problem::{Findings, Reason, quoted};

/// Where Kubernetes may mount a token after we have seen the pod, by both names that the place usually has.
const LATE_MOUNTS: [&str; 2] = [
    "/var/run/secrets/kubernetes.io/serviceaccount",
    "/run/secrets/kubernetes.io/serviceaccount",
];

/// What is to be published, and where.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Site<'a> {
    /// The annotation that says where, without prefix.
    pub(crate) annotation: &'a str,
    pub(crate) path: &'a CleanPath,
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
        .map(|site| (site.path.as_str(), site.annotation))
        .collect();
    refuse_last_words(&roots, targets, findings);
    let mut points = mount_points(&roots, &outputs, &mounts, findings);
    let mut indexes = BTreeMap::new();
    let mut used = BTreeSet::new();
    for (path, root) in &roots {
        let index = placed.directories.len();
        let mut directory = Directory {
            mount_path: path.clone(),
            sub_path: format!("{}/{index}", layout::DIRECTORY_SUB_PATH),
            place: Place::Shared,
            mount_points: points.remove(path.as_str()).unwrap_or_default(),
        };
        match root.cover {
            None => root.warn_of_what_is_hidden(path, findings),
            Some(cover) if cover != path => root.is_under(path, cover, &mounts, findings),
            Some(_) => {
                let at = format!("{}/{index}", layout::POD_VOLUMES_DIR);
                let theirs = mounts.at(path);
                if let Some(mount) = pod_volume(path, root, theirs, pod, &mut used, findings) {
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
        indexes.insert((path.clone(), false), index);
    }
    for home in homes.iter().flatten().filter(|home| home.single) {
        if let Entry::Vacant(entry) = indexes.entry((home.base.to_string(), true)) {
            let index = *entry.insert(placed.directories.len());
            placed.directories.push(Directory {
                mount_path: home.base.to_string(),
                sub_path: format!("{}/{index}", layout::FILE_SUB_PATH),
                place: Place::Files,
                mount_points: Vec::new(),
            });
        }
    }
    let seat = |(site, home): (&Site<'_>, &Option<Home<'_>>)| {
        let home = home.as_ref()?;
        let base = match home.single {
            true => home.base.to_string(),
            false => home.root(&roots)?.to_owned(),
        };
        Some(Seat {
            path: site.path.below(&CleanPath::lenient(&base))?.to_owned(),
            directory: *indexes.get(&(base, home.single))?,
        })
    };
    sites.iter().zip(&homes).map(seat).collect()
}

/// What the pod mounts, by path.
struct Mounts<'a>(BTreeMap<String, Vec<(&'a str, Mount<'a>)>>);

impl<'a> Mounts<'a> {
    fn of(targets: &[Container<'a>]) -> Self {
        let mut mounts: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for container in targets {
            for (mount, path) in container.mounts() {
                let at = mounts.entry(path.to_string()).or_default();
                at.push((container.name(), mount));
            }
        }
        Self(mounts)
    }

    /// What is mounted exactly there, with the container's name.
    fn at(&self, path: &str) -> &[(&'a str, Mount<'a>)] {
        self.0.get(path).map_or(&[], Vec::as_slice)
    }

    /// The lowest mount that `path` is in.
    fn cover(&self, path: &CleanPath) -> Option<&str> {
        let above = ["/"].into_iter().chain(path.from_the_top());
        let found = above.filter_map(|above| self.0.get_key_value(above));
        found.last().map(|(at, _)| at.as_str())
    }

    /// A mount below `path`.
    fn below(&self, path: &str) -> Option<&str> {
        let first = format!("{path}/");
        let (at, _) = self.0.range(first.clone()..).next()?;
        at.starts_with(&first).then_some(at.as_str())
    }
}

/// The directory that a file or folder belongs to, before nested ones are made one.
struct Home<'m> {
    base: CleanPath,
    /// The pod's own mount that it is in.
    cover: Option<&'m str>,
    /// Whether the file is mounted by itself.
    single: bool,
}

fn home<'m>(
    site: &Site<'_>,
    mode: MountMode,
    mounts: &'m Mounts<'_>,
    findings: &mut Findings,
) -> Option<Home<'m>> {
    let default = CleanPath::lenient(layout::DEFAULT_OUTPUT_DIR);
    let is_default = site.path.below(&default).is_some();
    let parent = match site.kind {
        Kind::File => site.path.parent(),
        Kind::Folder => site.path.clone(),
    };
    if mode == MountMode::File && site.kind == Kind::File && !is_default {
        let near = mounts.cover(site.path);
        if let Some(at) = near.or_else(|| mounts.below(site.path.as_str())) {
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
    let cover = mounts.cover(&parent);
    // Everything in the default directory is one, but for what is in a mount of the pod's own below it.
    let holds_default = |cover: &str| default.below(&CleanPath::lenient(cover)).is_some();
    let base = match is_default && cover.is_none_or(holds_default) {
        true => default,
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
    cover: Option<&'a str>,
}

/// The topmost directories, by path.
fn roots<'a>(sites: &[Site<'a>], homes: &[Option<Home<'a>>]) -> BTreeMap<String, Root<'a>> {
    let swapped = |home: &&Home<'a>| !home.single;
    let bases: BTreeSet<_> = homes
        .iter()
        .flatten()
        .filter(swapped)
        .map(|home| (home.cover, home.base.as_str()))
        .collect();
    let mut roots = BTreeMap::new();
    for (site, home) in sites.iter().zip(homes) {
        let Some(home) = home.as_ref().filter(swapped) else {
            continue;
        };
        let mut above = home.base.from_the_top();
        if let Some(top) = above.find(|above| bases.contains(&(home.cover, *above))) {
            roots.entry(top.to_owned()).or_insert(Root {
                annotation: site.annotation,
                cover: home.cover,
            });
        }
    }
    roots
}

impl Home<'_> {
    fn root<'r>(&self, roots: &'r BTreeMap<String, Root<'_>>) -> Option<&'r str> {
        let mut above = self.base.from_the_top();
        above.find_map(|above| {
            let (path, root) = roots.get_key_value(above)?;
            (root.cover == self.cover).then_some(path.as_str())
        })
    }
}

impl Root<'_> {
    fn warn_of_what_is_hidden(&self, path: &str, findings: &mut Findings) {
        if path != layout::DEFAULT_OUTPUT_DIR {
            findings.warn(
                self.annotation,
                format_args!(
                    "what the image has in {} is hidden by the directory of the secrets",
                    quoted(path)
                ),
            );
        }
    }

    fn is_under(&self, path: &str, cover: &str, mounts: &Mounts<'_>, findings: &mut Findings) {
        let path = CleanPath::lenient(path);
        mounts.conflict(
            self.annotation,
            cover,
            "which would lie over",
            &path,
            findings,
        );
    }
}

impl Mounts<'_> {
    fn conflict(
        &self,
        annotation: &str,
        at: &str,
        how: &str,
        path: &CleanPath,
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
                    quoted(at),
                    quoted(path.as_str())
                ),
            );
        }
    }
}

/// The pod's own volume that all containers mount at `path`, if it is one to publish into.
fn pod_volume<'a>(
    path: &str,
    root: &Root<'_>,
    mounts: &[(&'a str, Mount<'a>)],
    pod: &Pod<'_>,
    used: &mut BTreeSet<&'a str>,
    findings: &mut Findings,
) -> Option<Mount<'a>> {
    let (container, mount) = mounts.first()?;
    let at = quoted(path);
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
fn refuse_last_words(
    roots: &BTreeMap<String, Root<'_>>,
    targets: &[Container<'_>],
    findings: &mut Findings,
) {
    for container in targets {
        let Some(at) = container.termination_message() else {
            continue;
        };
        if let Some(root) = at.from_the_top().find_map(|above| roots.get(above)) {
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
    roots: &'r BTreeMap<String, Root<'_>>,
    outputs: &BTreeMap<&str, &str>,
    mounts: &Mounts<'_>,
    findings: &mut Findings,
) -> BTreeMap<&'r str, Vec<String>> {
    let mut points: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let late = LATE_MOUNTS
        .into_iter()
        .filter(|at| mounts.at(at).is_empty());
    for at in mounts.0.keys().map(String::as_str).chain(late) {
        let at = CleanPath::lenient(at);
        let parent = at.parent();
        let above = parent
            .from_the_top()
            .filter_map(|dir| roots.get_key_value(dir));
        let Some((dir, root)) = above.last() else {
            continue;
        };
        let relative = at.below(&CleanPath::lenient(dir)).unwrap_or_default();
        let mut conflict = |annotation, how: &str| {
            for (container, mount) in mounts.at(at.as_str()) {
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
        } else if let Some(output) = at.from_the_top().find_map(|above| outputs.get(above)) {
            conflict(output, "in the way of this output: move one of them");
        } else {
            points.entry(dir).or_default().push(relative.to_owned());
        }
    }
    points
}

#[cfg(test)]
mod tests {
    /// The rest is tested from the outside, by `tests/admission`.
    #[test]
    fn the_token_is_where_outputs_may_not_be() {
        for at in super::LATE_MOUNTS {
            assert!(
                at.parse::<crate::path::CleanPath>()
                    .unwrap()
                    .check_output()
                    .is_err()
            );
        }
    }
}
