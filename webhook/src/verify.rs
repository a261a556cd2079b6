//! `keeper-webhook verify`: whether files are there and hold something. The chart's test pod runs it, in an image that
//! has no shell: only a pod that was injected has its files.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Runs the command to its end: a line for each file, without anything of what is in it.
pub(crate) fn main(files: &[PathBuf]) -> ExitCode {
    let (mut out, mut log) = (io::stdout().lock(), io::stderr().lock());
    let mut code = ExitCode::SUCCESS;
    for path in files {
        let _ = match has_content(path) {
            Ok(true) => writeln!(out, "{}: is there", path.display()),
            found => {
                code = ExitCode::FAILURE;
                let why = found.map_or_else(|error| error.to_string(), |_| "empty".to_owned());
                writeln!(
                    log,
                    "keeper-webhook: {}: {why}: this pod was not injected",
                    path.display()
                )
            }
        };
    }
    code
}

fn has_content(path: &Path) -> io::Result<bool> {
    Ok(File::open(path)?.read(&mut [0])? > 0)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_a_file_that_holds_something_counts() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &str| {
            let path = directory.path().join(name);
            fs::write(&path, content).unwrap();
            path
        };
        assert!(has_content(&file("full", "x")).unwrap());
        assert!(!has_content(&file("empty", "")).unwrap());
        assert!(has_content(&directory.path().join("none")).is_err());
        assert!(has_content(directory.path()).is_err(), "a directory");
    }
}
