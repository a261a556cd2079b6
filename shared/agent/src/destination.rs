//! Where the files of one directory go, of whatever kind it is.

use std::path::Path;
use std::time::SystemTime;

use keeper_contract::{AgentConfig, Directory, Place};
use rustix::io::Errno;

use crate::dir::Dir;
use crate::in_place::InPlace;
use crate::publish::{Planned, PublishError, Published, Publisher, error};
use crate::staged::Staged;

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

    /// Writes a file of a publication to come, so that its bytes need not stay in memory. `random` names it.
    ///
    /// # Errors
    /// Nothing is left behind then.
    pub(crate) fn stage(
        &self,
        path: &str,
        bytes: &[u8],
        random: u64,
    ) -> Result<Staged, PublishError> {
        match self {
            Self::Shared(publisher) => publisher.stage(path, bytes, random),
            Self::Files(files) => files.stage(path, bytes, random),
            Self::PodVolume(publisher) => {
                publisher.stage(path, bytes, random).map_err(in_pod_volume)
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
    let own = config.outputs.iter().filter_map(|output| output.mode);
    match own.fold(config.file_mode, |all, mode| all | mode) & 0o007 {
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::time::UNIX_EPOCH;

    use serde_json::json;

    use super::*;
    use crate::publish::Content;

    fn config(file_mode: &str, directory: serde_json::Value) -> AgentConfig {
        let output = json!({"directory": 0, "path": "deep/a", "selection": {"record": "R"}, "format": "json", "annotation": "x"});
        let config = json!({
            "auth": {"method": "secret", "secretName": "s", "file": "/x"}, "directories": [directory],
            "outputs": [output], "refreshIntervalSeconds": 15, "failOnError": true, "cacheSeconds": 0,
            "onStale": "serve", "strictLookup": false, "fileMode": file_mode, "logLevel": "info", "logFormat": "json",
        });
        serde_json::from_value(config).unwrap()
    }

    fn open(volume: &Path, config: &AgentConfig) -> Result<Destination, PublishError> {
        let volume = Dir::open_root(volume).unwrap();
        Destination::open(&volume, config, 0, &config.directories[0])
    }

    fn publish(destination: &Destination, path: &str) -> Result<Published, PublishError> {
        let planned = Planned {
            path,
            mode: 0o440,
            content: Content::New(b"ours"),
        };
        destination.publish(&[planned], UNIX_EPOCH, 7)
    }

    /// A pod's own volume, and the config of an agent that publishes into it.
    fn pod_volume() -> (tempfile::TempDir, AgentConfig) {
        let theirs = tempfile::tempdir().unwrap();
        let place = json!({"podVolume": theirs.path()});
        let directory = json!({"mountPath": "/keeper/secrets", "subPath": "", "place": place});
        (theirs, config("0440", directory))
    }

    #[test]
    fn directories_are_as_open_as_their_files() {
        let shared = json!({"mountPath": "/data", "subPath": "dirs/0"});
        let single = json!({"mountPath": "/etc", "subPath": "dirs/0", "place": "files"});
        for (directory, file_mode, want) in [
            (&shared, "0440", 0o750),
            (&shared, "0444", 0o755),
            (&single, "0400", 0o750),
            (&single, "0404", 0o755),
        ] {
            let volume = tempfile::tempdir().unwrap();
            let destination = open(volume.path(), &config(file_mode, directory.clone())).unwrap();
            publish(&destination, "deep/a").unwrap();
            let mode = |path: &str| {
                let meta = fs::metadata(volume.path().join("dirs/0").join(path)).unwrap();
                meta.permissions().mode() & 0o7777
            };
            assert_eq!((mode(""), mode("deep")), (want, want), "{file_mode}");
            assert_eq!(mode("deep/a"), 0o440);
        }
    }

    #[test]
    fn what_lies_in_the_pods_own_volume_is_not_trusted() {
        let (theirs, config) = pod_volume();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("a"), "theirs").unwrap();
        let at = |name: &str| theirs.path().join(name);
        symlink(outside.path(), at("..data")).unwrap();
        symlink(outside.path(), at("deep")).unwrap();
        fs::create_dir(at("..old")).unwrap();
        symlink(outside.path(), at("..old/link")).unwrap();
        fs::write(at("mine"), "mine").unwrap();
        let volume = tempfile::tempdir().unwrap();
        let destination = open(volume.path(), &config).unwrap();
        assert!(!destination.is_published("a"), "that is not ours");
        publish(&destination, "deep/a").unwrap();
        assert_eq!(fs::read_to_string(at("deep/a")).unwrap(), "ours");
        assert_eq!(fs::read_to_string(at("mine")).unwrap(), "mine");
        assert_eq!(
            fs::read_to_string(outside.path().join("a")).unwrap(),
            "theirs"
        );
        // Another process of the pod, which only looks, sees the same.
        let root = Dir::open_root(volume.path()).unwrap();
        let seen = Destination::existing(&root, &config, 0, &config.directories[0]).unwrap();
        assert!(seen.published_at("deep/a").is_some());
        assert_eq!(seen.generation(), destination.generation());
    }

    #[test]
    fn what_is_in_the_way_in_the_pods_own_volume_is_named() {
        let (theirs, config) = pod_volume();
        fs::create_dir(theirs.path().join("a")).unwrap();
        let volume = tempfile::tempdir().unwrap();
        let destination = open(volume.path(), &config).unwrap();
        let error = publish(&destination, "a").unwrap_err();
        assert!(matches!(error, PublishError::Taken { .. }), "{error}");
        assert!(error.to_string().contains("/keeper/secrets/a"), "{error}");
    }

    #[test]
    fn errors_in_the_pods_own_volume_have_its_cure() {
        let path = || "/x".to_owned();
        let of = |source| PublishError::Io {
            action: "link",
            path: path(),
            source,
        };
        let full = in_pod_volume(PublishError::NoSpace { path: path() });
        assert!(full.to_string().contains("raise its sizeLimit"), "{full}");
        for source in [Errno::PERM, Errno::ACCESS, Errno::ISDIR] {
            assert!(matches!(
                in_pod_volume(of(source)),
                PublishError::Taken { .. }
            ));
        }
        assert!(matches!(
            in_pod_volume(of(Errno::IO)),
            PublishError::Io { .. }
        ));
    }
}
