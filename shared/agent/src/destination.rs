//! Where the files of one directory go, of whatever kind it is.

use std::path::Path;
use std::time::SystemTime;

use keeper_contract::{AgentConfig, Directory, Place};
use rustix::io::Errno;

use crate::dir::Dir;
use crate::in_place::InPlace;
use crate::publish::{Planned, PublishError, Published, Publisher, error};

/// A directory that files are published in.
#[derive(Debug)]
pub(crate) enum Destination {
    /// Of the agents' volume.
    Shared(Publisher),
    /// Of single files in the agents' volume.
    Files(InPlace),
    /// The pod's own volume.
    PodVolume(Publisher),
}

impl Destination {
    /// Opens, or makes, the directory `index` of `config`. `volume` is the agents' own.
    ///
    /// # Errors
    /// A directory that can't be used.
    pub(crate) fn open(
        volume: &Dir,
        config: &AgentConfig,
        index: usize,
        directory: &Directory,
    ) -> Result<Self, PublishError> {
        let Directory {
            mount_path,
            sub_path,
            place,
            mount_points,
        } = directory;
        let failed = |e| error("open", mount_path, e);
        let mode = directory_mode(config);
        let made = || volume.making(mode)?.make(sub_path);
        match place {
            Place::Shared => {
                Publisher::open(made().map_err(failed)?, mount_path, mount_points).map(Self::Shared)
            }
            Place::Files => {
                let names = names(config, index);
                InPlace::open(
                    made().map_err(failed)?,
                    mount_path,
                    &names,
                    config.file_mode,
                )
                .map(Self::Files)
            }
            Place::PodVolume(at) => {
                let root = Dir::open_root(Path::new(at)).and_then(|dir| dir.making(mode));
                Publisher::open(root.map_err(failed)?, mount_path, mount_points)
                    .map(Self::PodVolume)
                    .map_err(in_pod_volume)
            }
        }
    }

    /// The directory as it is, to look at: nothing in it is made or removed.
    pub(crate) fn existing(
        volume: &Dir,
        config: &AgentConfig,
        index: usize,
        directory: &Directory,
    ) -> Option<Self> {
        let mount_path = &directory.mount_path;
        let opened = || {
            let mut parts = directory.sub_path.split('/');
            let first = volume.open(parts.next()?).ok()?;
            parts.try_fold(first, |dir, name| dir.open(name)).ok()
        };
        Some(match &directory.place {
            Place::Shared => Self::Shared(Publisher::existing(opened()?, mount_path)),
            Place::Files => {
                let names = names(config, index);
                Self::Files(InPlace::existing(opened()?, mount_path, &names))
            }
            Place::PodVolume(at) => {
                let root = Dir::open_root(Path::new(at)).ok()?;
                Self::PodVolume(Publisher::existing(root, mount_path))
            }
        })
    }

    /// Publishes `files`, which are all files of this directory.
    ///
    /// # Errors
    /// Those of [`Publisher::publish`] and [`InPlace::publish`].
    pub(crate) fn publish(
        &self,
        files: &[Planned<'_>],
        now: SystemTime,
        random: u64,
    ) -> Result<Published, PublishError> {
        match self {
            Self::Shared(publisher) => publisher.publish(files, now, random),
            Self::Files(files_in_place) => files_in_place.publish(files),
            Self::PodVolume(publisher) => {
                publisher.publish(files, now, random).map_err(in_pod_volume)
            }
        }
    }

    /// Whether a file is published at `path`.
    pub(crate) fn is_published(&self, path: &str) -> bool {
        match self {
            Self::Shared(publisher) | Self::PodVolume(publisher) => publisher.is_published(path),
            Self::Files(files) => files.published_at(path).is_some(),
        }
    }

    /// When what is published at `path` was written.
    pub(crate) fn published_at(&self, path: &str) -> Option<SystemTime> {
        match self {
            Self::Shared(publisher) | Self::PodVolume(publisher) => publisher.published_at(path),
            Self::Files(files) => files.published_at(path),
        }
    }

    /// Another text after each change; empty if nothing is published.
    pub(crate) fn generation(&self) -> String {
        match self {
            Self::Shared(publisher) | Self::PodVolume(publisher) => publisher.generation(),
            Self::Files(files) => files.generation(),
        }
    }

    /// Removes what the last publications replaced.
    ///
    /// # Errors
    /// If something of ours can't be removed.
    pub(crate) fn remove_leftovers(&self) -> Result<(), PublishError> {
        match self {
            Self::Shared(publisher) | Self::PodVolume(publisher) => publisher.remove_leftovers(),
            Self::Files(_) => Ok(()),
        }
    }
}

/// Directories are as open as the files in them: nobody else learns what there is.
fn directory_mode(config: &AgentConfig) -> u32 {
    match config.file_mode & 0o007 {
        0 => 0o750,
        _ => 0o755,
    }
}

fn names(config: &AgentConfig, index: usize) -> Vec<&str> {
    let outputs = config.outputs.iter();
    outputs
        .filter(|output| output.directory == index)
        .map(|output| output.path.as_str())
        .collect()
}

/// The same error with the cure for a volume that isn't ours.
fn in_pod_volume(error: PublishError) -> PublishError {
    match error {
        PublishError::NoSpace { path } => PublishError::PodVolumeFull { path },
        PublishError::Io {
            path,
            source: Errno::PERM | Errno::ACCESS | Errno::ISDIR | Errno::NOTDIR | Errno::LOOP,
            ..
        } => PublishError::Taken { path },
        other => other,
    }
}
