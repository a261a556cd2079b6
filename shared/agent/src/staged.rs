//! A file that waits in its output directory for the publication that takes it in: an attachment goes from memory to
//! the volume as soon as it is here, so that only one of them is in memory at a time.

use std::fs::File;
use std::io::{self, Read, Write as _};

use rustix::io::Errno;
use zeroize::Zeroizing;

use crate::dir::{Dir, set_mode};

const BUFFER: usize = 16 * 1024;

/// A file under a name of ours. It goes when it is dropped, unless a publication has taken it.
#[derive(Debug)]
pub(crate) struct Staged {
    dir: Dir,
    name: String,
}

impl Staged {
    /// Writes `bytes` to a new file in `dir`. `random` names it.
    pub(crate) fn write(dir: &Dir, random: u64, bytes: &[u8]) -> Result<Self, Errno> {
        let name = format!("..new_{random:016x}");
        let dir = dir.try_clone()?;
        let mut file = dir.create_file(&name)?;
        // From here on a failure leaves nothing behind.
        let staged = Self { dir, name };
        file.write_all(bytes).map_err(errno)?;
        Ok(staged)
    }

    /// Opens it to read.
    pub(crate) fn open(&self) -> Result<File, Errno> {
        self.dir.open_file(&self.name)
    }

    /// Moves it to `path` of a generation of the same volume.
    pub(crate) fn move_to(&self, generation: &Dir, path: &str, mode: u32) -> Result<(), Errno> {
        set_mode(&self.open()?, mode)?;
        self.dir.rename_into(&self.name, generation, path)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // What can't be removed now goes with the next publication's leftovers.
        let _ = self.dir.unlink(&self.name);
    }
}

/// Whether the rest of both holds the same bytes.
pub(crate) fn same(left: &mut impl Read, right: &mut impl Read) -> io::Result<bool> {
    let mut buffers = Zeroizing::new([[0; BUFFER]; 2]);
    let [a, b] = &mut *buffers;
    loop {
        let read = read_full(left, a)?;
        if read != read_full(right, b)? || a.get(..read) != b.get(..read) {
            return Ok(false);
        }
        if read == 0 {
            return Ok(true);
        }
    }
}

/// Copies the rest of a file.
pub(crate) fn copy(from: &mut impl Read, to: &mut File) -> io::Result<()> {
    let mut buffer = Zeroizing::new([0; BUFFER]);
    loop {
        let read = read_full(from, &mut *buffer)?;
        if read == 0 {
            return Ok(());
        }
        to.write_all(buffer.get(..read).unwrap_or_default())?;
    }
}

/// Fills the buffer, as far as there is something.
fn read_full(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match from.read(rest) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

pub(crate) fn errno(error: io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}
