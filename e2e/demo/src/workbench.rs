//! Where the demo finds what it runs, and where it puts what it makes.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

/// The repository, the built binaries, and a temporary directory that goes when this is dropped.
pub(crate) struct Workbench {
    repository: PathBuf,
    binaries: PathBuf,
    temporary: TempDir,
}

impl Workbench {
    /// Binaries are looked for beside this program's own.
    pub(crate) fn set_up() -> anyhow::Result<Self> {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let binaries = env::current_exe()?
            .parent()
            .context("this program has no directory")?
            .to_owned();
        let temporary = tempfile::Builder::new().prefix("keeper-demo-").tempdir()?;
        Ok(Self {
            repository: repository.canonicalize()?,
            binaries,
            temporary,
        })
    }

    /// A file of the repository.
    pub(crate) fn source(&self, path: &str) -> PathBuf {
        self.repository.join(path)
    }

    /// A place in the temporary directory.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.temporary.path().join(name)
    }

    /// A command that runs one of the project's binaries.
    pub(crate) fn command<Argument: AsRef<OsStr>>(
        &self,
        binary: &str,
        arguments: impl IntoIterator<Item = Argument>,
    ) -> anyhow::Result<Command> {
        let path = self.binaries.join(binary);
        ensure!(
            path.exists(),
            "{} isn't built; `make demo` builds it first",
            path.display()
        );
        let mut command = Command::new(path);
        command.args(arguments);
        Ok(command)
    }
}
