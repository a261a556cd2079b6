//! Running the project's own commands.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// No command may take longer: it would hide which test hangs.
const LIMIT_SECONDS: &str = "300";

/// What a command left behind.
#[derive(Debug)]
pub struct Output {
    /// Whether it exited with 0.
    pub success: bool,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Output {
    /// Standard output of a command that must have succeeded.
    ///
    /// # Panics
    /// If it did not, with what it said.
    #[must_use]
    pub fn expect_success(self, what: &str) -> String {
        assert!(
            self.success,
            "{what} failed\n{}{}",
            self.stdout, self.stderr
        );
        self.stdout
    }
}

/// The root of the repository.
#[must_use]
pub fn repository() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests
        .ancestors()
        .nth(2)
        .expect("this crate stands two folders deep")
}

/// Runs a program of `e2e/cluster`, with `input` on its standard input.
pub(crate) fn run(
    program: &str,
    arguments: &[&str],
    environment: &[(&str, &str)],
    input: Option<&str>,
) -> Output {
    let mut child = Command::new("timeout")
        .arg(LIMIT_SECONDS)
        .arg(repository().join("e2e/cluster").join(program))
        .args(arguments)
        .envs(environment.iter().copied())
        .current_dir(repository())
        .stdin(if input.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the programs of e2e/cluster can be run");
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
        // A program that ends without reading says why itself.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().expect("its output can be read");
    Output {
        success: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
