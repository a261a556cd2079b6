//! Publishing: all files of a directory change at once, or not at all.
//!
//! The scheme is the kubelet's own for Secret volumes. The files of a publication lie in a directory
//! `..<time>_<random>`; the symlink `..data` names the current one and is swapped in a single rename; each
//! visible name is a link through `..data`. So a certificate and its key never disagree, nobody sees half a
//! file, and the output directory itself, which is mounted into the application, stays the same inode.
//!
//! A publication that changes nothing touches nothing. Names that begin with `..` are ours; nothing else is
//! ever removed, but the link of a file that the caller names as gone; and no symlink that lies there is followed.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::io::Errno;

use crate::dir::{Dir, set_mode, size_and_mode};
use crate::staged::{Staged, copy, errno, same};

const DATA: &str = "..data";
const DATA_SCRATCH: &str = "..data_tmp";
const LINK_SCRATCH: &str = "..link_tmp";

/// One file of a publication.
#[derive(Debug)]
pub(crate) struct Planned<'a> {
    /// Path below the output directory, clean and relative.
    pub path: &'a str,
    /// Permission bits.
    pub mode: u32,
    /// Its bytes.
    pub content: Content<'a>,
}

/// The bytes of a planned file.
pub(crate) enum Content<'a> {
    /// These.
    New(&'a [u8]),
    /// Those of a file that is on the volume already.
    Staged(&'a Staged),
    /// What is published now, if anything: this file could not be made anew.
    LastGood,
    /// None: the file is to go.
    Gone,
}

impl std::fmt::Debug for Content<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::New(_) => "New(<redacted>)",
            Self::Staged(_) => "Staged",
            Self::LastGood => "LastGood",
            Self::Gone => "Gone",
        })
    }
}

/// What a publication did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Published {
    /// Everything was there already; nothing was touched.
    Unchanged,
    /// One swap, in which this many files are new, have new content, or are gone.
    Changed(usize),
}

/// Why nothing was published; what was published before is still there.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The volume is full.
    #[error(
        "no space left for {path}: raise the annotation keeper.security/tmpfs-size, or select less"
    )]
    NoSpace {
        /// The application's path of the file.
        path: String,
    },
    /// The pod's own volume is full.
    #[error(
        "no space left for {path} in the pod's own volume: raise its sizeLimit, select less, or leave that mount to the injector"
    )]
    PodVolumeFull {
        /// The application's path of the file.
        path: String,
    },
    /// Something of somebody else's is in the way, in the pod's own volume.
    #[error(
        "{path} is taken in the pod's own volume by what belongs to another user: remove it there, or choose another path"
    )]
    Taken {
        /// The application's path of the file.
        path: String,
    },
    /// The system refused.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The application's path of the file or directory.
        path: String,
        /// The system's answer.
        source: Errno,
    },
    /// A path that is not clean and relative, or lies where the pod mounts something of its own.
    #[error("{path} is no path that can be published")]
    BadPath {
        /// The application's path of the file.
        path: String,
    },
}

/// An output directory.
#[derive(Debug)]
pub(crate) struct Publisher {
    dir: Dir,
    /// Where the application sees it, for messages.
    mount_path: String,
    mount_points: Vec<String>,
}

impl Publisher {
    /// Takes `dir` for an output directory, makes the mount points in it, and removes what an earlier process left
    /// half done.
    pub(crate) fn open(
        dir: Dir,
        mount_path: &str,
        mount_points: &[String],
    ) -> Result<Self, PublishError> {
        let publisher = Self {
            mount_points: mount_points.to_vec(),
            ..Self::existing(dir, mount_path)
        };
        for mount_point in mount_points {
            let path = publisher.visible(mount_point);
            let (clean, at) = (is_clean(mount_point), path.as_str());
            if !clean {
                return Err(PublishError::BadPath { path });
            }
            publisher
                .dir
                .make(mount_point)
                .map_err(|e| error("make the mount point", at, e))?;
        }
        publisher.remove_leftovers()?;
        Ok(publisher)
    }

    /// An output directory as it is, to look at: nothing in it is made or removed.
    pub(crate) fn existing(dir: Dir, mount_path: &str) -> Self {
        Self {
            dir,
            mount_path: mount_path.trim_end_matches('/').to_owned(),
            mount_points: Vec::new(),
        }
    }

    /// When the generation was written in which the file at `path` is published now.
    pub(crate) fn published_at(&self, path: &str) -> Option<SystemTime> {
        let file = self.current()?.open_file(path).ok()?;
        file.metadata().ok()?.modified().ok()
    }

    /// Publishes `files`, which are all files of this directory, in one swap. `now` and `random` name the
    /// generation: in a container neither is unique alone.
    ///
    /// # Errors
    /// Nothing has changed then, with one exception: if only a visible link of a new file could not be
    /// made, the other files are new.
    pub(crate) fn publish(
        &self,
        files: &[Planned<'_>],
        now: SystemTime,
        random: u64,
    ) -> Result<Published, PublishError> {
        let (gone, kept): (Vec<_>, Vec<_>) = files.iter().partition(|file| file.is_gone());
        let (links, old_links) = (self.links(&kept)?, self.links(&gone)?);
        let current = self.current();
        let changes = |file: &&Planned<'_>| match &current {
            Some(generation) => file.differs(generation),
            None => file.is_new(),
        };
        let changed = files.iter().filter(changes).count();
        if changed > 0 {
            self.swap(files, current.as_ref(), &generation(now, random))?;
        }
        self.link(&links)?;
        self.unlink(&old_links, &links)?;
        Ok(match changed {
            0 => Published::Unchanged,
            files => Published::Changed(files),
        })
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

    /// Whether the visible name `path` leads to a published file.
    #[must_use]
    pub(crate) fn is_published(&self, path: &str) -> bool {
        self.current()
            .is_some_and(|dir| dir.open_file(path).is_ok())
    }

    /// Name of the published generation; empty if there is none.
    pub(crate) fn generation(&self) -> String {
        let name = self.dir.read_link(DATA).unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Removes generations that nothing refers to, and whatever else an interrupted publication left. To be
    /// called some seconds after a swap: a reader may be between looking up a path and opening it.
    ///
    /// # Errors
    /// If something of ours can't be removed.
    pub(crate) fn remove_leftovers(&self) -> Result<(), PublishError> {
        let failed = |e| error("clean", &self.mount_path, e);
        let current = self.dir.read_link(DATA).ok();
        let is_left = |name: &OsStr| {
            let ours = name.as_encoded_bytes().starts_with(b"..");
            ours && name != DATA && Some(name) != current.as_deref()
        };
        for name in self.dir.names(is_left).map_err(failed)? {
            match self.dir.remove(&name) {
                // What somebody else has put there is not what we left.
                Err(Errno::PERM | Errno::ACCESS) => {}
                result => result.map_err(failed)?,
            }
        }
        Ok(())
    }

    /// Writes a new generation and makes it the current one.
    fn swap(
        &self,
        files: &[Planned<'_>],
        current: Option<&Dir>,
        name: &str,
    ) -> Result<(), PublishError> {
        let written = self.write_generation(files, current, name).and_then(|()| {
            self.dir
                .symlink_over(name, DATA, DATA_SCRATCH)
                .map_err(|e| error("publish in", &self.mount_path, e))
        });
        written.inspect_err(|_| {
            // Frees the space at once. If that fails too, the next start cleans up.
            let _ = self.dir.remove(name.as_ref());
        })
    }

    fn write_generation(
        &self,
        files: &[Planned<'_>],
        current: Option<&Dir>,
        name: &str,
    ) -> Result<(), PublishError> {
        let generation = self
            .dir
            .make(name)
            .map_err(|e| error("write in", &self.mount_path, e))?;
        for file in files {
            write(&generation, file, current)
                .map_err(|e| error("write", &self.visible(file.path), e))?;
        }
        Ok(())
    }

    /// The published generation, if `..data` is a link to one of ours.
    fn current(&self) -> Option<Dir> {
        let target = self.dir.read_link(DATA).ok()?;
        let name = target.to_str()?;
        if !name.starts_with("..") || name == ".." || name.contains('/') {
            return None;
        }
        self.dir.open(name).ok()
    }

    /// The visible links: name to target. A link stands as high in the tree as it can; only directories that
    /// lead to a mount point of the pod's own have to be real ones.
    fn links(&self, files: &[&Planned<'_>]) -> Result<BTreeMap<String, String>, PublishError> {
        let mut links = BTreeMap::new();
        for file in files {
            let bad_path = || PublishError::BadPath {
                path: self.visible(file.path),
            };
            if !is_clean(file.path) {
                return Err(bad_path());
            }
            let ends = file.path.match_indices('/').map(|(at, _)| at);
            let (depth, link) = ends
                .chain([file.path.len()])
                .filter_map(|end| file.path.get(..end))
                .enumerate()
                .find(|(_, prefix)| !self.leads_to_mount_point(prefix))
                .ok_or_else(bad_path)?;
            let target = format!("{}{DATA}/{link}", "../".repeat(depth));
            links.insert(link.to_owned(), target);
        }
        Ok(links)
    }

    fn leads_to_mount_point(&self, path: &str) -> bool {
        self.mount_points.iter().any(|mount_point| {
            mount_point
                .strip_prefix(path)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    /// Makes the visible links that are missing or wrong. After the swap, so that none ever dangles; a file
    /// that has never been published gets none.
    fn link(&self, links: &BTreeMap<String, String>) -> Result<(), PublishError> {
        let Some(current) = self.current() else {
            return Ok(());
        };
        for (link, target) in links {
            if current.holds(link) {
                self.link_one(link, target)
                    .map_err(|e| error("link", &self.visible(link), e))?;
            }
        }
        Ok(())
    }

    /// Removes the visible links of files that are gone, where nothing else needs them.
    fn unlink(
        &self,
        old: &BTreeMap<String, String>,
        links: &BTreeMap<String, String>,
    ) -> Result<(), PublishError> {
        let current = self.current();
        for (link, target) in old {
            let is_needed =
                links.contains_key(link) || current.as_ref().is_some_and(|dir| dir.holds(link));
            let is_ours = self
                .dir
                .read_link(link)
                .is_ok_and(|found| found == target.as_str());
            if is_ours && !is_needed {
                self.dir
                    .unlink(link)
                    .map_err(|e| error("remove", &self.visible(link), e))?;
            }
        }
        Ok(())
    }

    fn link_one(&self, link: &str, target: &str) -> Result<(), Errno> {
        if self.dir.read_link(link).is_ok_and(|found| found == target) {
            return Ok(());
        }
        self.dir.symlink_over(target, link, LINK_SCRATCH)
    }

    fn visible(&self, path: &str) -> String {
        format!("{}/{path}", self.mount_path)
    }
}

impl Planned<'_> {
    fn is_new(&self) -> bool {
        matches!(self.content, Content::New(_) | Content::Staged(_))
    }

    fn is_gone(&self) -> bool {
        matches!(self.content, Content::Gone)
    }

    /// Whether publishing this file changes what is published in `generation`.
    fn differs(&self, generation: &Dir) -> bool {
        match (&self.content, generation.open_file(self.path)) {
            (Content::LastGood, _) => false,
            (Content::Gone, _) => generation.holds(self.path),
            (Content::New(_) | Content::Staged(_), Err(_)) => true,
            (Content::New(_) | Content::Staged(_), Ok(mut file)) => !self.is_in(&mut file),
        }
    }

    /// Whether `file` holds what is new, in the mode that it is to have.
    pub(crate) fn is_in(&self, file: &mut File) -> bool {
        let Ok((size, mode)) = size_and_mode(file) else {
            return false;
        };
        let is_same = match &self.content {
            Content::New(bytes) if size == bytes.len() as u64 => same(file, &mut &**bytes),
            Content::Staged(staged) => match staged.open() {
                Ok(mut new) => same(file, &mut new),
                Err(_) => return false,
            },
            Content::New(_) | Content::LastGood | Content::Gone => return false,
        };
        mode == self.mode && is_same.unwrap_or(false)
    }
}

/// Writes a file of a generation; `current` is the one before.
fn write(generation: &Dir, planned: &Planned<'_>, current: Option<&Dir>) -> Result<(), Errno> {
    let create = || generation.create_file(planned.path);
    let file = match planned.content {
        Content::New(bytes) => {
            let mut file = create()?;
            file.write_all(bytes).map_err(errno)?;
            file
        }
        Content::LastGood => {
            let Some(Ok(mut old)) = current.map(|dir| dir.open_file(planned.path)) else {
                return Ok(());
            };
            let mut file = create()?;
            copy(&mut old, &mut file).map_err(errno)?;
            file
        }
        Content::Staged(staged) => return staged.move_to(generation, planned.path, planned.mode),
        Content::Gone => return Ok(()),
    };
    set_mode(&file, planned.mode)
}

/// A path below a directory without empty parts, `.` or `..`, and not one of our own names.
pub(crate) fn is_clean(path: &str) -> bool {
    !path.starts_with("..") && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

fn generation(now: SystemTime, random: u64) -> String {
    let millis = now.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis());
    format!("..{millis}_{random:016x}")
}

pub(crate) fn error(action: &'static str, path: &str, source: Errno) -> PublishError {
    let path = path.to_owned();
    match source {
        Errno::NOSPC | Errno::DQUOT => PublishError::NoSpace { path },
        source => PublishError::Io {
            action,
            path,
            source,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    use super::*;

    struct Fixture {
        volume: tempfile::TempDir,
        publisher: Publisher,
    }

    fn fixture(mount_points: &[&str]) -> Fixture {
        let volume = tempfile::tempdir().unwrap();
        let publisher = open(volume.path(), mount_points).unwrap();
        Fixture { volume, publisher }
    }

    fn open(volume: &Path, mount_points: &[&str]) -> Result<Publisher, PublishError> {
        let mount_points: Vec<String> = mount_points.iter().map(ToString::to_string).collect();
        let dir = Dir::open_root(volume).unwrap().make("dirs/0").unwrap();
        Publisher::open(dir, "/keeper/secrets/", &mount_points)
    }

    fn new<'a>(path: &'a str, content: &'a str) -> Planned<'a> {
        Planned {
            path,
            mode: 0o444,
            content: Content::New(content.as_bytes()),
        }
    }

    fn last_good(path: &str) -> Planned<'_> {
        Planned {
            content: Content::LastGood,
            ..new(path, "")
        }
    }

    impl Fixture {
        fn dir(&self) -> PathBuf {
            self.volume.path().join("dirs/0")
        }

        fn publish(&self, files: &[Planned<'_>], round: u64) -> Result<Published, PublishError> {
            let now = UNIX_EPOCH + Duration::from_secs(1_763_700_000 + round);
            self.publisher.publish(files, now, round)
        }

        fn read(&self, path: &str) -> Option<String> {
            fs::read_to_string(self.dir().join(path)).ok()
        }

        /// Name, inode and times of everything below, without following links.
        fn snapshot(&self) -> Vec<(PathBuf, u64, i64, i64, i64, i64)> {
            let mut out = Vec::new();
            let mut todo = vec![self.dir()];
            while let Some(path) = todo.pop() {
                let meta = fs::symlink_metadata(&path).unwrap();
                if meta.is_dir() {
                    todo.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
                }
                let (mtime, ctime) = (meta.mtime(), meta.ctime());
                out.push((
                    path,
                    meta.ino(),
                    mtime,
                    meta.mtime_nsec(),
                    ctime,
                    meta.ctime_nsec(),
                ));
            }
            out.sort();
            out
        }

        fn generations(&self) -> usize {
            let names = fs::read_dir(self.dir()).unwrap();
            names
                .filter(|entry| entry.as_ref().unwrap().file_type().unwrap().is_dir())
                .count()
        }
    }

    #[test]
    fn files_appear_change_and_stay() {
        let it = fixture(&[]);
        let first = [new("a.json", "1"), new("sub/b", "x"), new("sub/c", "y")];
        assert_eq!(it.publish(&first, 1).unwrap(), Published::Changed(3));
        assert_eq!(it.read("a.json").as_deref(), Some("1"));
        assert_eq!(it.read("sub/b").as_deref(), Some("x"));
        let link = fs::read_link(it.dir().join("sub")).unwrap();
        assert_eq!(link, Path::new("..data/sub"));

        let before = it.snapshot();
        assert_eq!(it.publish(&first, 2).unwrap(), Published::Unchanged);
        assert_eq!(
            it.snapshot(),
            before,
            "an unchanged publication touches nothing"
        );

        let inode = fs::metadata(it.dir()).unwrap().ino();
        let second = [new("a.json", "22"), new("sub/b", "x"), new("sub/c", "y")];
        assert_eq!(it.publish(&second, 3).unwrap(), Published::Changed(1));
        assert_eq!(it.read("a.json").as_deref(), Some("22"));
        assert_eq!(fs::metadata(it.dir()).unwrap().ino(), inode);
        assert_eq!(it.generations(), 2, "a reader may still be in the old one");
        it.publisher.remove_leftovers().unwrap();
        assert_eq!(it.generations(), 1);
        assert_eq!(it.read("sub/c").as_deref(), Some("y"));
    }

    #[test]
    fn same_size_other_bytes_other_mode_and_large_files_are_changes() {
        let it = fixture(&[]);
        let large = "x".repeat(100_000);
        let larger = format!("{}y", &large[1..]);
        it.publish(&[new("a", "abc"), new("b", &large)], 1).unwrap();
        let same = it.publish(&[new("a", "abc"), new("b", &large)], 2);
        assert_eq!(same.unwrap(), Published::Unchanged);
        let other = it.publish(&[new("a", "abd"), new("b", &larger)], 3);
        assert_eq!(other.unwrap(), Published::Changed(2));
        let mut private = new("a", "abd");
        private.mode = 0o440;
        let other = it.publish(&[private, new("b", &larger)], 4);
        assert_eq!(other.unwrap(), Published::Changed(1));
        let mode = |path| {
            fs::metadata(it.dir().join(path))
                .unwrap()
                .permissions()
                .mode()
                & 0o7777
        };
        assert_eq!(
            (mode("a"), mode("b"), mode("..data")),
            (0o440, 0o444, 0o755)
        );
    }

    #[test]
    fn what_failed_keeps_its_last_good_bytes() {
        let it = fixture(&[]);
        let none = it.publish(&[last_good("a"), last_good("b/c")], 1).unwrap();
        assert_eq!(none, Published::Unchanged);
        assert_eq!(it.read("a"), None);
        assert_eq!(it.generations(), 0, "nothing to publish makes nothing");

        it.publish(&[new("a", "1"), last_good("b/c")], 2).unwrap();
        assert_eq!(it.read("a").as_deref(), Some("1"));
        assert!(
            fs::symlink_metadata(it.dir().join("b")).is_err(),
            "no link to nothing"
        );

        it.publish(&[last_good("a"), new("b/c", "2")], 3).unwrap();
        assert_eq!(
            (it.read("a").as_deref(), it.read("b/c").as_deref()),
            (Some("1"), Some("2"))
        );
        let kept = it.publish(&[last_good("a"), last_good("b/c")], 4).unwrap();
        assert_eq!(kept, Published::Unchanged);
        assert!(it.publisher.is_published("b/c"));
        assert!(!it.publisher.is_published("b/d"));
    }

    #[test]
    fn a_path_to_a_mount_point_is_made_of_real_directories() {
        let it = fixture(&["extra", "deep/er/mount"]);
        let files = [
            new("a", "1"),
            new("deep/b", "2"),
            new("deep/er/c", "3"),
            new("deep/x/y", "4"),
        ];
        it.publish(&files, 1).unwrap();
        it.publisher.remove_leftovers().unwrap();
        for real in ["extra", "deep", "deep/er", "deep/er/mount"] {
            let meta = fs::symlink_metadata(it.dir().join(real)).unwrap();
            assert!(meta.is_dir(), "{real}");
        }
        let link = |path| fs::read_link(it.dir().join(path)).unwrap();
        assert_eq!(link("deep/er/c"), Path::new("../../..data/deep/er/c"));
        assert_eq!(link("deep/x"), Path::new("../..data/deep/x"));
        for (path, content) in [
            ("a", "1"),
            ("deep/b", "2"),
            ("deep/er/c", "3"),
            ("deep/x/y", "4"),
        ] {
            assert_eq!(it.read(path).as_deref(), Some(content), "{path}");
        }
        let before = it.snapshot();
        assert_eq!(it.publish(&files, 2).unwrap(), Published::Unchanged);
        assert_eq!(it.snapshot(), before);
        let under = it.publish(&[new("extra", "")], 3);
        assert!(matches!(under, Err(PublishError::BadPath { .. })));
    }

    #[test]
    fn paths_that_are_not_clean_are_refused() {
        let it = fixture(&[]);
        for path in [
            "", "/a", "a/", "a//b", ".", "a/./b", "../a", "a/../b", "..data", "..x/y",
        ] {
            let refused = it.publish(&[new(path, "")], 1).unwrap_err();
            assert!(matches!(refused, PublishError::BadPath { .. }), "{path}");
        }
        assert!(open(it.volume.path(), &["../../x"]).is_err());
        assert_eq!(it.generations(), 0);
    }

    #[test]
    fn leftovers_go_at_the_start_and_nothing_else_does() {
        let it = fixture(&[]);
        it.publish(&[new("a", "1")], 1).unwrap();
        let dir = it.dir();
        fs::create_dir_all(dir.join("..1763_dead/sub/deep")).unwrap();
        fs::write(dir.join("..1763_dead/sub/deep/f"), "x").unwrap();
        fs::write(dir.join("foreign"), "x").unwrap();
        symlink("..1763_dead", dir.join("..data_tmp")).unwrap();
        symlink("/etc", dir.join("..link_tmp")).unwrap();
        open(it.volume.path(), &[]).unwrap();
        let mut names: Vec<_> = fs::read_dir(&dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let generation = "..1763700001000_0000000000000001";
        assert_eq!(names, [generation, "..data", "a", "foreign"]);
        assert_eq!(it.read("a").as_deref(), Some("1"));
        assert!(Path::new("/etc/passwd").exists());
    }

    #[test]
    fn nothing_that_lies_there_is_followed() {
        let it = fixture(&[]);
        let outside = it.volume.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("a"), "theirs").unwrap();
        // A `..data` that leads elsewhere, and visible names that are taken.
        symlink(&outside, it.dir().join("..data")).unwrap();
        symlink(outside.join("a"), it.dir().join("a")).unwrap();
        fs::write(it.dir().join("b"), "file").unwrap();
        assert!(!it.publisher.is_published("a"));
        it.publish(&[new("a", "ours"), new("b", "ours")], 1)
            .unwrap();
        assert_eq!(it.read("a").as_deref(), Some("ours"));
        assert_eq!(it.read("b").as_deref(), Some("ours"));
        assert_eq!(fs::read_to_string(outside.join("a")).unwrap(), "theirs");
        // A file of the generation that became a link is not read, a FIFO not waited for.
        let generation = it
            .dir()
            .join(fs::read_link(it.dir().join("..data")).unwrap());
        fs::remove_file(generation.join("a")).unwrap();
        symlink(outside.join("a"), generation.join("a")).unwrap();
        let again = it.publish(&[last_good("a"), new("b", "2")], 2).unwrap();
        assert_eq!(again, Published::Changed(1));
        assert_eq!(it.read("a"), None);
    }

    #[test]
    fn a_name_that_is_a_directory_is_an_error_and_the_rest_is_published() {
        let it = fixture(&[]);
        fs::create_dir(it.dir().join("z")).unwrap();
        let error = it.publish(&[new("a", "1"), new("z", "2")], 1).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("cannot link /keeper/secrets/z: "),
            "{error}"
        );
        assert_eq!(it.read("a").as_deref(), Some("1"));
        assert!(it.dir().join("z").is_dir());
    }

    #[test]
    fn an_existing_directory_is_taken_as_it_is() {
        let volume = tempfile::tempdir().unwrap();
        let dir = volume.path().join("dirs/0");
        fs::create_dir_all(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o3777)).unwrap();
        let publisher = open(volume.path(), &[]).unwrap();
        publisher
            .publish(&[new("a/b", "1")], UNIX_EPOCH, 0)
            .unwrap();
        let mode = |path: &str| fs::metadata(dir.join(path)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(""), 0o3777);
        assert_eq!(mode("a"), 0o2755, "setgid goes down to what we make");
        assert_eq!(mode("a/b"), 0o444);
    }

    #[test]
    fn a_reader_never_sees_a_mixed_pair() {
        let it = fixture(&[]);
        it.publish(&[new("crt", "0"), new("key", "0")], 0).unwrap();
        let dir = it.dir();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut pairs = 0;
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    let before = fs::read_link(dir.join("..data")).unwrap();
                    let crt = fs::read_to_string(dir.join("crt"));
                    let key = fs::read_to_string(dir.join("key"));
                    if before == fs::read_link(dir.join("..data")).unwrap() {
                        assert_eq!(crt.unwrap(), key.unwrap());
                        pairs += 1;
                    }
                }
                pairs
            });
            for round in 1..=300 {
                let content = "x".repeat(usize::try_from(round).unwrap() * 50);
                it.publish(&[new("crt", &content), new("key", &content)], round)
                    .unwrap();
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(reader.join().unwrap() > 0);
        });
    }

    /// Set in a process that has a mount namespace of its own.
    const OWN_MOUNTS: &str = "KEEPER_TEST_OWN_MOUNTS";

    #[test]
    fn a_full_volume_keeps_what_is_published_and_names_the_cure() {
        if std::env::var_os(OWN_MOUNTS).is_some() {
            return in_a_volume_of_64_kib();
        }
        let this = "publish::tests::a_full_volume_keeps_what_is_published_and_names_the_cure";
        let output = std::process::Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", this])
            .env(OWN_MOUNTS, "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && text.contains("1 passed"),
            "{output:?}"
        );
    }

    fn in_a_volume_of_64_kib() {
        let volume = tempfile::tempdir().unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
            .arg(volume.path())
            .status()
            .unwrap();
        assert!(mounted.success());
        let publisher = open(volume.path(), &[]).unwrap();
        let it = Fixture { volume, publisher };
        it.publish(&[new("a", "small"), new("b", "1")], 1).unwrap();
        let large = "x".repeat(100_000);
        for round in 2..4 {
            let error = it
                .publish(&[new("a", &large), new("b", "2")], round)
                .unwrap_err();
            assert!(matches!(error, PublishError::NoSpace { .. }), "{error}");
            assert!(error.to_string().contains("/keeper/secrets/a"), "{error}");
            assert!(
                error.to_string().contains("keeper.security/tmpfs-size"),
                "{error}"
            );
            assert_eq!(
                (it.read("a").as_deref(), it.read("b").as_deref()),
                (Some("small"), Some("1"))
            );
            assert_eq!(it.generations(), 1, "the space is free again");
        }
        it.publish(&[new("a", "fits"), new("b", "2")], 4).unwrap();
        assert_eq!(it.read("a").as_deref(), Some("fits"));
    }
}
