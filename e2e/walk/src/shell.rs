//! A reader's shell: a folder that has what a checkout has, and commands that run in it one after the other.

use crate::page::{Action, Command, Page, Step};
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// No block may take longer. Some wait for an alert.
const LIMIT: Duration = Duration::from_secs(600);
/// Between two looks at a command that runs.
const LOOK: Duration = Duration::from_millis(50);
/// Before a command that did not yet say what is waited for is run again.
const AGAIN: Duration = Duration::from_millis(500);
/// Within the folder; what is ours, and not the reader's.
const OURS: &str = ".walk";
/// What even a command that may fail must not say: it is written wrongly.
const WRONG: [&str; 4] = [
    "unknown flag",
    "unknown shorthand",
    "unknown command",
    "command not found",
];

/// The shell in which a page is walked.
#[derive(Debug)]
pub struct Shell {
    folder: TempDir,
    launcher: Vec<String>,
    variables: Vec<(String, String)>,
    names: Vec<(String, String)>,
}

/// A step of a page that did not do what the page says.
#[derive(Debug)]
pub struct Failure {
    /// The page.
    pub page: String,
    /// Its line.
    pub line: usize,
    /// What was otherwise.
    pub what: String,
    /// What was run.
    pub script: String,
    /// What it wrote.
    pub output: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            page,
            line,
            what,
            script,
            output,
        } = self;
        writeln!(f, "{page}:{line}: {what}")?;
        for line in script.lines() {
            writeln!(f, "  > {line}")?;
        }
        write!(f, "{output}")
    }
}

impl std::error::Error for Failure {}

impl Shell {
    /// A shell in a new folder that has what stands in the repository, as links.
    ///
    /// # Errors
    /// If the folder can't be made.
    pub fn new(root: &Path) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        for entry in fs::read_dir(root)? {
            let entry = entry?;
            if !entry.file_name().as_encoded_bytes().starts_with(b".") {
                symlink(entry.path(), folder.path().join(entry.file_name()))?;
            }
        }
        fs::create_dir(folder.path().join(OURS))?;
        fs::write(folder.path().join(OURS).join("state"), "")?;
        Ok(Self {
            folder,
            launcher: Vec::new(),
            variables: Vec::new(),
            names: Vec::new(),
        })
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Has the commands run by another one, where the reader would be.
    #[must_use]
    pub fn launched_by(mut self, launcher: &[&str]) -> Self {
        self.launcher = launcher.iter().copied().map(str::to_owned).collect();
        self
    }

    /// Gives the commands a variable.
    #[must_use]
    pub fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Says what stands for a word of the pages, as `let` does.
    #[must_use]
    pub fn with_name(mut self, name: &str, value: &str) -> Self {
        self.names.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Takes steps of a page, until one fails.
    ///
    /// # Errors
    /// The step that failed.
    pub fn walk<'a>(
        &self,
        page: &Page,
        steps: impl IntoIterator<Item = &'a Step>,
    ) -> Result<(), Failure> {
        for step in steps {
            let failure = |line, what: String, script: &str, output| Failure {
                page: page.path.clone(),
                line,
                what,
                script: script.to_owned(),
                output,
            };
            let hidden;
            let command = match &step.action {
                Action::Skip { .. } => continue,
                Action::File { path, text } => {
                    fs::write(self.folder().join(path), text)
                        .map_err(|e| failure(step.line, format!("{path}: {e}"), "", "".into()))?;
                    continue;
                }
                Action::Run(command) => command,
                Action::Also(script) => {
                    hidden = Command {
                        script: script.clone(),
                        ..Command::default()
                    };
                    &hidden
                }
            };
            let script = self.named(page, &command.script);
            let outcome = self
                .take(page, step.line, &script, command)
                .map_err(|e| failure(step.line, e.to_string(), &script, String::new()))?;
            if let Some((line, what)) = outcome.verdict(command, |text| self.named(page, text)) {
                let line = line.unwrap_or(step.line);
                return Err(failure(line, what, &script, outcome.output));
            }
        }
        Ok(())
    }

    /// A text in which names stand for what they mean.
    fn named(&self, page: &Page, text: &str) -> String {
        let names = page.names.iter().chain(&self.names);
        names.fold(text.to_owned(), |text, (name, value)| {
            replace_word(&text, name, value)
        })
    }

    /// Runs a block, again and again if it is to be waited for.
    fn take(
        &self,
        page: &Page,
        line: usize,
        script: &str,
        command: &Command,
    ) -> io::Result<Outcome> {
        let end = Instant::now() + LIMIT;
        loop {
            let outcome = self.run(page, line, script, command, end)?;
            if outcome.ended != Ended::Unsaid || Instant::now() + AGAIN > end {
                return Ok(outcome);
            }
            sleep(AGAIN);
        }
    }

    fn run(
        &self,
        page: &Page,
        line: usize,
        script: &str,
        command: &Command,
        end: Instant,
    ) -> io::Result<Outcome> {
        let ours = self.folder().join(OURS);
        let name = Path::new(&page.path).file_name().unwrap_or_default();
        let (file, output, failed) = (ours.join(name), ours.join("output"), ours.join("line"));
        // The block stands on the lines that it has in the page, so that bash's errors have them too.
        let prelude = if command.may_fail {
            format!("set +e; {PRELUDE}")
        } else {
            PRELUDE.to_owned()
        };
        let lines = "\n".repeat(line.saturating_sub(1).max(1));
        fs::write(&file, format!("{prelude}{lines}{script}"))?;
        fs::write(&failed, "")?;
        let mut words = self
            .launcher
            .iter()
            .map(String::as_str)
            .chain(["bash", "-Eeuo", "pipefail"]);
        let log = File::create(&output)?;
        let mut child = Running(
            std::process::Command::new(words.next().unwrap_or("bash"))
                .args(words)
                .arg(&file)
                .env("WALK", &ours)
                .envs(self.variables.iter().map(|(name, value)| (name, value)))
                .current_dir(self.folder())
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log)
                .process_group(0)
                .spawn()?,
        );
        let until = command.until.as_ref().map(|text| self.named(page, text));
        let read = || fs::read(&output).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let ended = loop {
            let status = child.0.try_wait()?;
            let said = match &until {
                Some(text) => read()?.contains(text),
                None => false,
            };
            match status {
                _ if said => break Ended::Said,
                Some(_) if until.is_some() => break Ended::Unsaid,
                Some(status) => break Ended::With(status),
                None if Instant::now() > end => break Ended::Late,
                None => sleep(LOOK),
            }
        };
        drop(child);
        Ok(Outcome {
            ended,
            output: read()?,
            line: fs::read_to_string(&failed)?.trim().parse().ok(),
        })
    }
}

/// What the shell of one block leaves for that of the next one; and the line of what failed.
const PRELUDE: &str = concat!(
    r#". "$WALK/state"; "#,
    r#"trap '{ export -p; declare -f; printf "cd %q\n" "$PWD"; } >"$WALK/state"' EXIT; "#,
    r#"trap 'printf %s "$LINENO" >"$WALK/line"' ERR;"#
);

/// A command with all that it started, which ends with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // What goes on in the background is the page's, and would outlive it.
        let group = format!("-{}", self.0.id());
        let _ = std::process::Command::new("kill")
            .args(["-KILL", "--", &group])
            .stderr(Stdio::null())
            .status();
        let _ = self.0.wait();
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Ended {
    With(ExitStatus),
    Said,
    Unsaid,
    Late,
}

/// What became of a block.
struct Outcome {
    ended: Ended,
    output: String,
    line: Option<usize>,
}

impl Outcome {
    /// What is not as the page says, and at which line if not the block's first.
    fn verdict(
        &self,
        command: &Command,
        named: impl Fn(&str) -> String,
    ) -> Option<(Option<usize>, String)> {
        let wrong = WRONG.iter().find(|text| self.output.contains(**text));
        match self.ended {
            Ended::Late => {
                return Some((None, format!("still running after {} s", LIMIT.as_secs())));
            }
            Ended::Unsaid => {
                let text = command.until.as_deref().unwrap_or_default();
                return Some((None, format!("did not say {text:?}")));
            }
            Ended::Said => {}
            Ended::With(_) if command.may_fail => {
                if let Some(wrong) = wrong {
                    return Some((self.line, format!("may fail, but not by {wrong:?}")));
                }
            }
            Ended::With(status) if command.fails == status.success() => {
                let what = if command.fails {
                    "was to fail".to_owned()
                } else {
                    format!("failed: {status}")
                };
                return Some((self.line, what));
            }
            Ended::With(_) => {}
        }
        let mut expected = command.expect.iter().map(|text| named(text));
        let missing = expected.find(|text| !self.output.contains(text.as_str()));
        missing.map(|text| (None, format!("did not say {text:?}")))
    }
}

/// Replaces a name wherever it is a word of its own.
fn replace_word(text: &str, name: &str, value: &str) -> String {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let mut replaced = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(name) {
        let inside = before.ends_with(word)
            || after.starts_with(word)
            || before.is_empty() && replaced.ends_with(word);
        replaced.push_str(before);
        replaced.push_str(if inside { name } else { value });
        rest = after;
    }
    replaced + rest
}
