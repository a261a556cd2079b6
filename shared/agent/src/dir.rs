//! A directory handled through its descriptor, one name at a time: nothing that lies in it, least of all a
//! symlink, can lead us elsewhere.
//!
//! Paths are relative and clean; each part of one is opened without following a symlink.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::{Errno, Result};

/// Mode of directories where nothing else is said: open to every UID, as the application's may not be ours.
const DIR_MODE: Mode = Mode::from_raw_mode(0o755);
/// Nobody but us reads a file before it is finished.
const UNFINISHED_MODE: Mode = Mode::from_raw_mode(0o600);
const PERMISSIONS: u32 = 0o777;
/// Trees of ours are a few levels deep; a deeper one is left alone.
const MAX_DEPTH: usize = 64;
/// Names that are looked at in one go: who may write to a directory may put any number of them there.
const MAX_NAMES: usize = 10_000;

const OPEN_DIR: OFlags = OFlags::DIRECTORY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
/// Written in place, from the beginning.
const REWRITE_FILE: OFlags = OPEN_FILE.union(OFlags::WRONLY);
/// NONBLOCK: a FIFO in a file's place must not hang us.
const OPEN_FILE: OFlags = OFlags::NOFOLLOW
    .union(OFlags::CLOEXEC)
    .union(OFlags::NONBLOCK);
const CREATE_FILE: OFlags = OFlags::WRONLY
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// An open directory.
#[derive(Debug)]
pub(crate) struct Dir {
    fd: OwnedFd,
    /// Mode of the directories that are made in it.
    inner_mode: Mode,
}

impl Dir {
    /// Opens a directory by its whole path, symlinks included: for the root of a volume.
    pub(crate) fn open_root(path: &Path) -> Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Self {
            fd,
            inner_mode: DIR_MODE,
        })
    }

    /// The same directory; those that are made in it, at any depth, get this mode.
    pub(crate) fn making(&self, mode: u32) -> Result<Self> {
        Ok(Self {
            inner_mode: Mode::from_raw_mode(mode & PERMISSIONS),
            ..self.try_clone()?
        })
    }

    /// Bytes that fit into its file system, if that can be told.
    pub(crate) fn capacity(&self) -> Option<u64> {
        let about = rustix::fs::fstatvfs(&self.fd).ok()?;
        Some(about.f_blocks.saturating_mul(about.f_frsize))
    }

    /// Opens the directory `name` in this one.
    pub(crate) fn open(&self, name: impl AsRef<OsStr>) -> Result<Self> {
        let fd = rustix::fs::openat(&self.fd, name.as_ref(), OPEN_DIR, Mode::empty())?;
        Ok(Self { fd, ..*self })
    }

    /// Opens the directory at `path`, and makes the parts that are not there.
    ///
    /// What is there stays as it is: the kubelet may have made it first, with its own owner and mode.
    pub(crate) fn make(&self, path: &str) -> Result<Self> {
        path.split('/')
            .try_fold(self.try_clone()?, |dir, name| dir.make_one(name))
    }

    /// Opens a regular file for reading.
    pub(crate) fn open_file(&self, path: &str) -> Result<File> {
        self.open_regular(path, OPEN_FILE)
    }

    /// Opens a regular file for writing over what is in it.
    pub(crate) fn rewrite_file(&self, path: &str) -> Result<File> {
        self.open_regular(path, REWRITE_FILE)
    }

    fn open_regular(&self, path: &str, flags: OFlags) -> Result<File> {
        let (parent, name) = self.parent(path, Self::open)?;
        let fd = rustix::fs::openat(&parent.fd, name, flags, Mode::empty())?;
        match FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) {
            FileType::RegularFile => Ok(File::from(fd)),
            _ => Err(Errno::INVAL),
        }
    }

    /// Creates a file that must not be there yet, and the directories that lead to it. It is readable only
    /// for us until [`set_mode`] is called.
    pub(crate) fn create_file(&self, path: &str) -> Result<File> {
        let (parent, name) = self.parent(path, Self::make_one)?;
        let fd = rustix::fs::openat(&parent.fd, name, CREATE_FILE, UNFINISHED_MODE)?;
        Ok(File::from(fd))
    }

    /// The target of the symlink at `path`.
    pub(crate) fn read_link(&self, path: &str) -> Result<OsString> {
        let (parent, name) = self.parent(path, Self::open)?;
        let target = rustix::fs::readlinkat(&parent.fd, name, Vec::new())?;
        Ok(OsStr::from_bytes(target.as_bytes()).to_owned())
    }

    /// Makes `path` a symlink to `target` in one step, over whatever has that name but a directory, and the
    /// directories that lead to it. `scratch` is a name of ours for the moment between.
    pub(crate) fn symlink_over(&self, target: &str, path: &str, scratch: &str) -> Result<()> {
        let (parent, name) = self.parent(path, Self::make_one)?;
        self.unlink(scratch)?;
        rustix::fs::symlinkat(target, &self.fd, scratch)?;
        rustix::fs::renameat(&self.fd, scratch, &parent.fd, name).inspect_err(|_| {
            // Worth nothing without the rename; what can't be removed now goes at the next start.
            let _ = self.unlink(scratch);
        })
    }

    /// Renames within this directory.
    pub(crate) fn rename(&self, from: &str, to: &str) -> Result<()> {
        rustix::fs::renameat(&self.fd, from, &self.fd, to)
    }

    /// Moves the file `from` of this directory to `path` of another, and makes the directories that lead to it.
    pub(crate) fn rename_into(&self, from: &str, other: &Self, path: &str) -> Result<()> {
        let (parent, name) = other.parent(path, Self::make_one)?;
        rustix::fs::renameat(&self.fd, from, &parent.fd, name)
    }

    /// Whether anything is at `path`.
    pub(crate) fn holds(&self, path: &str) -> bool {
        self.parent(path, Self::open).is_ok_and(|(parent, name)| {
            rustix::fs::statat(&parent.fd, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
        })
    }

    /// The names in this directory that are wanted, or the first of them if there are very many.
    pub(crate) fn names(&self, wanted: impl Fn(&OsStr) -> bool) -> Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." && wanted(name) {
                names.push(name.to_owned());
            }
            if names.len() >= MAX_NAMES {
                break;
            }
        }
        Ok(names)
    }

    /// Removes the file at `path`; that it is not there is no error.
    pub(crate) fn unlink(&self, path: &str) -> Result<()> {
        let (parent, name) = match self.parent(path, Self::open) {
            Err(Errno::NOENT) => return Ok(()),
            parent => parent?,
        };
        match rustix::fs::unlinkat(&parent.fd, name, AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            result => result,
        }
    }

    /// Removes `name` and, if it is a directory, everything in it.
    pub(crate) fn remove(&self, name: &OsStr) -> Result<()> {
        self.remove_to_depth(name, MAX_DEPTH)
    }

    fn remove_to_depth(&self, name: &OsStr, depth: usize) -> Result<()> {
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            // What unlinking a directory ends in depends on the file system.
            Err(Errno::ISDIR | Errno::PERM) if depth > 0 => {}
            Err(error) => return Err(error),
        }
        let dir = self.open(name)?;
        for inner in dir.names(|_| true)? {
            dir.remove_to_depth(&inner, depth - 1)?;
        }
        rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR)
    }

    /// The directory that the last part of `path` is in, each step taken by `step`, and that part.
    fn parent<'p>(
        &self,
        path: &'p str,
        step: impl Fn(&Self, &'p str) -> Result<Self>,
    ) -> Result<(Self, &'p str)> {
        let (parents, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut steps = parents.split('/').filter(|part| !part.is_empty());
        let parent = steps.try_fold(self.try_clone()?, |dir, name| step(&dir, name))?;
        Ok((parent, name))
    }

    fn make_one(&self, name: &str) -> Result<Self> {
        match rustix::fs::mkdirat(&self.fd, name, self.inner_mode) {
            Ok(()) => {
                let made = self.open(name)?;
                made.undo_umask();
                Ok(made)
            }
            Err(Errno::EXIST) => self.open(name),
            Err(error) => Err(error),
        }
    }

    /// A umask may have taken bits that the application needs. Only then is the mode set, and setgid kept:
    /// under an fsGroup that is what gives the files their group. A failure is no error: where the
    /// directory can't be used, the next step says so.
    fn undo_umask(&self) {
        let Ok(stat) = rustix::fs::fstat(&self.fd) else {
            return;
        };
        if stat.st_mode & PERMISSIONS != self.inner_mode.as_raw_mode() {
            let special = Mode::from_raw_mode(stat.st_mode & 0o7000);
            let _ = rustix::fs::fchmod(&self.fd, special | self.inner_mode);
        }
    }

    pub(crate) fn try_clone(&self) -> Result<Self> {
        let fd = rustix::io::fcntl_dupfd_cloexec(self.fd.as_fd(), 0)?;
        Ok(Self { fd, ..*self })
    }
}

/// Gives a finished file its permission bits.
pub(crate) fn set_mode(file: &File, mode: u32) -> Result<()> {
    rustix::fs::fchmod(file, Mode::from_raw_mode(mode & PERMISSIONS))
}

/// Size and permission bits of a file.
pub(crate) fn size_and_mode(file: &File) -> Result<(u64, u32)> {
    let stat = rustix::fs::fstat(file)?;
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    Ok((size, stat.st_mode & PERMISSIONS))
}
