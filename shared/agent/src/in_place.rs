//! Files that the application mounts one by one (`mount-mode: file`). A mount is an inode, so that such a file can't
//! be replaced: it is rewritten in place, and who reads meanwhile may see some of the old and some of the new.
//!
//! Whatever mounts a file that isn't there makes a directory of its name, for good: so they are made, empty, before
//! anything else starts. One that has never been published has the modification time 0.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{FallocateFlags, Timespec, Timestamps};
use rustix::io::Errno;

use crate::dir::{Dir, set_mode, size_and_mode};
use crate::publish::{Content, Planned, PublishError, Published, error, is_clean};
use crate::staged::{Staged, copy, errno};

/// A directory of such files.
#[derive(Debug)]
pub(crate) struct InPlace {
    dir: Dir,
    /// Where the application sees it, for messages.
    mount_path: String,
    /// The files' names.
    names: Vec<String>,
}

impl InPlace {
    /// Makes the files `names` in `dir`, as far as they are not there.
    pub(crate) fn open(
        dir: Dir,
        mount_path: &str,
        names: &[&str],
        mode: u32,
    ) -> Result<Self, PublishError> {
        let files = Self::existing(dir, mount_path, names);
        files.remove_leftovers()?;
        for name in names {
            let path = files.visible(name);
            if !is_clean(name) {
                return Err(PublishError::BadPath { path });
            }
            files
                .make(name, mode)
                .map_err(|e| error("make the file", &path, e))?;
        }
        Ok(files)
    }

    /// The files as they are, to look at.
    pub(crate) fn existing(dir: Dir, mount_path: &str, names: &[&str]) -> Self {
        Self {
            dir,
            mount_path: mount_path.trim_end_matches('/').to_owned(),
            names: names.iter().map(ToString::to_string).collect(),
        }
    }

    /// Writes the files that have changed.
    ///
    /// # Errors
    /// The first one. The other files are written none the less; one that doesn't fit keeps what it holds.
    pub(crate) fn publish(&self, files: &[Planned<'_>]) -> Result<Published, PublishError> {
        let mut changed = 0;
        let mut failed = None;
        for file in files {
            let is_new = matches!(file.content, Content::New(_) | Content::Staged(_));
            if !is_new || self.holds(file) {
                continue;
            }
            match self.write(file) {
                Ok(()) => changed += 1,
                Err(source) => {
                    failed.get_or_insert(error("write", &self.visible(file.path), source));
                }
            }
        }
        match (failed, changed) {
            (Some(error), _) => Err(error),
            (None, 0) => Ok(Published::Unchanged),
            (None, changed) => Ok(Published::Changed(changed)),
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
        Staged::write(&self.dir, random, bytes).map_err(|e| error("write", &self.visible(path), e))
    }

    /// Removes what an interrupted publication left.
    ///
    /// # Errors
    /// If it can't be removed.
    fn remove_leftovers(&self) -> Result<(), PublishError> {
        let failed = |e| error("clean", &self.mount_path, e);
        let is_left = |name: &OsStr| name.as_encoded_bytes().starts_with(b"..");
        for name in self.dir.names(is_left).map_err(failed)? {
            self.dir.remove(&name).map_err(failed)?;
        }
        Ok(())
    }

    /// When the file at `path` was written last, if it has ever been published.
    pub(crate) fn published_at(&self, path: &str) -> Option<SystemTime> {
        let file = self.dir.open_file(path).ok()?;
        let at = file.metadata().ok()?.modified().ok()?;
        (at != UNIX_EPOCH).then_some(at)
    }

    /// A text that is another one after each change; empty if nothing is published.
    pub(crate) fn generation(&self) -> String {
        let at = |name: &String| self.published_at(name)?.duration_since(UNIX_EPOCH).ok();
        let sum = self.names.iter().filter_map(at).map(|at| at.as_nanos());
        match sum.fold(0, u128::wrapping_add) {
            0 => String::new(),
            sum => format!("{sum:x}"),
        }
    }

    fn make(&self, name: &str, mode: u32) -> Result<(), Errno> {
        match self.dir.create_file(name) {
            Ok(file) => {
                set_mode(&file, mode)?;
                mark_unpublished(&file)
            }
            // One of an earlier process, or what can't be used.
            Err(Errno::EXIST) => self.dir.open_file(name).map(drop),
            Err(error) => Err(error),
        }
    }

    fn holds(&self, planned: &Planned<'_>) -> bool {
        self.published_at(planned.path).is_some()
            && self
                .dir
                .open_file(planned.path)
                .is_ok_and(|mut file| planned.is_in(&mut file))
    }

    fn write(&self, planned: &Planned<'_>) -> Result<(), Errno> {
        match planned.content {
            Content::New(bytes) => self.rewrite(planned, &mut &*bytes, bytes.len() as u64),
            Content::Staged(staged) => {
                let mut new = staged.open()?;
                let (size, _) = size_and_mode(&new)?;
                self.rewrite(planned, &mut new, size)
            }
            Content::LastGood | Content::Gone => Ok(()),
        }
    }

    fn rewrite(&self, planned: &Planned<'_>, new: &mut impl Read, len: u64) -> Result<(), Errno> {
        // The mode that the application sees lets nobody write, not even us.
        let old = self.dir.open_file(planned.path)?;
        let (_, mode) = size_and_mode(&old)?;
        set_mode(&old, mode | 0o200)?;
        let mut file = self.dir.rewrite_file(planned.path)?;
        if len > 0 {
            // A volume that is full must say so before the first byte is touched.
            rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 0, len).inspect_err(|_| {
                let _ = set_mode(&file, mode);
            })?;
        }
        copy(new, &mut file).map_err(errno)?;
        // Sets the time, too, where nothing was written.
        file.set_len(len).map_err(errno)?;
        set_mode(&file, planned.mode)
    }

    fn visible(&self, path: &str) -> String {
        format!("{}/{path}", self.mount_path)
    }
}

fn mark_unpublished(file: &File) -> Result<(), Errno> {
    let never = Timespec::try_from(Duration::ZERO).map_err(|_| Errno::INVAL)?;
    let times = Timestamps {
        last_access: never,
        last_modification: never,
    };
    rustix::fs::futimens(file, &times)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read as _;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
    use std::path::{Path, PathBuf};

    use super::*;

    fn open(dir: &Path, names: &[&str]) -> Result<InPlace, PublishError> {
        InPlace::open(Dir::open_root(dir).unwrap(), "/etc", names, 0o440)
    }

    fn new<'a>(path: &'a str, content: &'a str) -> Planned<'a> {
        Planned {
            path,
            mode: 0o440,
            content: Content::New(content.as_bytes()),
        }
    }

    fn facts(path: PathBuf) -> (u64, u32, i64, i64) {
        let meta = fs::metadata(path).unwrap();
        (
            meta.ino(),
            meta.permissions().mode() & 0o7777,
            meta.mtime(),
            meta.mtime_nsec(),
        )
    }

    #[test]
    fn a_file_keeps_its_inode_and_is_touched_only_by_a_change() {
        let root = tempfile::tempdir().unwrap();
        let files = open(root.path(), &["a", "b"]).unwrap();
        let (inode, mode, mtime, _) = facts(root.path().join("a"));
        assert_eq!((mode, mtime), (0o440, 0));
        assert_eq!(files.published_at("a"), None);
        assert_eq!(files.generation(), "");

        // As a container has it that mounts the file.
        let mut held = fs::File::open(root.path().join("a")).unwrap();
        let both = [new("a", "a long first value"), new("b", "")];
        assert_eq!(files.publish(&both).unwrap(), Published::Changed(2));
        let mut seen = String::new();
        held.read_to_string(&mut seen).unwrap();
        assert_eq!(seen, "a long first value");
        assert!(files.published_at("b").is_some(), "an empty value is one");

        let (before, told) = (facts(root.path().join("a")), files.generation());
        assert_eq!((before.0, before.1), (inode, 0o440));
        assert_eq!(files.publish(&both).unwrap(), Published::Unchanged);
        let last_good = Planned {
            content: Content::LastGood,
            ..new("a", "")
        };
        let kept = files.publish(&[last_good, new("b", "")]);
        assert_eq!(kept.unwrap(), Published::Unchanged);
        assert_eq!(facts(root.path().join("a")), before);

        let shorter = files.publish(&[new("a", "short"), new("b", "")]);
        assert_eq!(shorter.unwrap(), Published::Changed(1));
        assert_eq!(fs::read_to_string(root.path().join("a")).unwrap(), "short");
        assert_eq!(facts(root.path().join("a")).0, inode);
        assert_ne!(files.generation(), told);

        // A process that comes later finds them published.
        let told = files.generation();
        let again = open(root.path(), &["a", "b"]).unwrap();
        assert_eq!(again.generation(), told);
        assert_eq!(
            again.publish(&[new("a", "short")]).unwrap(),
            Published::Unchanged
        );
    }

    #[test]
    fn a_staged_file_is_written_in_place_too_and_leaves_nothing_behind() {
        let root = tempfile::tempdir().unwrap();
        let files = open(root.path(), &["a"]).unwrap();
        let inode = facts(root.path().join("a")).0;
        for (round, want) in [(1, Published::Changed(1)), (2, Published::Unchanged)] {
            let staged = files.stage("a", b"an attachment", round).unwrap();
            let planned = Planned {
                content: Content::Staged(&staged),
                ..new("a", "")
            };
            assert_eq!(files.publish(&[planned]).unwrap(), want);
        }
        let written = fs::read_to_string(root.path().join("a")).unwrap();
        assert_eq!(written, "an attachment");
        assert_eq!(facts(root.path().join("a")).0, inode);
        // What a process leaves that is killed meanwhile goes at the next start.
        fs::write(root.path().join("..new_1"), "half").unwrap();
        open(root.path(), &["a"]).unwrap();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }

    #[test]
    fn another_mode_is_a_change() {
        let root = tempfile::tempdir().unwrap();
        let files = open(root.path(), &["a"]).unwrap();
        files.publish(&[new("a", "1")]).unwrap();
        let wider = Planned {
            mode: 0o444,
            ..new("a", "1")
        };
        assert_eq!(files.publish(&[wider]).unwrap(), Published::Changed(1));
        assert_eq!(facts(root.path().join("a")).1, 0o444);
    }

    #[test]
    fn what_is_no_file_of_ours_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        // As the kubelet makes it where a file is missing.
        fs::create_dir(root.path().join("dir")).unwrap();
        symlink("/etc/passwd", root.path().join("link")).unwrap();
        for name in ["dir", "link"] {
            let error = open(root.path(), &[name]).unwrap_err().to_string();
            assert!(error.contains(&format!("/etc/{name}")), "{error}");
        }
        for name in ["", "../x", "a/../b"] {
            let error = open(root.path(), &[name]).unwrap_err();
            assert!(matches!(error, PublishError::BadPath { .. }), "{name}");
        }
        // The others are written.
        let files = open(root.path(), &["a"]).unwrap();
        let error = files
            .publish(&[new("dir", "x"), new("a", "1")])
            .unwrap_err();
        assert!(error.to_string().contains("/etc/dir"), "{error}");
        assert_eq!(fs::read_to_string(root.path().join("a")).unwrap(), "1");
    }
}
