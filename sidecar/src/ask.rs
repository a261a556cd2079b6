//! What a person or a script asks in the container of a process that runs: how the pod stands, and a refresh. Nothing here
//! reads a value.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use keeper_agent::request::Request;
use keeper_agent::status::{OutputStatus, Status};
use keeper_agent::{Node, Standing, environment, text};

use crate::Error;
use crate::cli::Output;

/// How long a process that isn't in a call may take to plan what was asked for.
const TAKEN_WITHIN: Duration = Duration::from_secs(5);

/// Prints how the pod stands; whether everything is published and good.
pub(crate) fn status(
    output: Output,
    volume: &Path,
    variable: impl Fn(&'static str) -> Option<String>,
) -> Result<bool, Error> {
    let (config, pod) = environment::read(variable)?;
    let status = Status::read(&config, &pod, volume, &Node)?;
    let printed = match output {
        Output::Table => table(&status),
        Output::Json => serde_json::to_string_pretty(&status)? + "\n",
    };
    io::stdout().write_all(printed.as_bytes())?;
    Ok(status.standing == Standing::Good)
}

/// Asks for a refresh and says when it will be, and, with a time to wait, what came of it; whether that was good.
pub(crate) fn refresh(wait: Option<Duration>, volume: &Path) -> Result<bool, Error> {
    let request = Request::make(volume, wait.unwrap_or(TAKEN_WITHIN))?;
    let due_in = text::duration(request.due_in);
    writeln!(io::stdout(), "the refresh is due in {due_in}")?;
    let Some(limit) = wait else {
        return Ok(true);
    };
    let outcome = request.outcome(limit)?;
    match outcome.error {
        None => writeln!(io::stdout(), "done, files changed: {}", outcome.changed)?,
        Some(error) => {
            writeln!(io::stderr(), "{error}")?;
            return Ok(false);
        }
    }
    Ok(true)
}

fn table(status: &Status) -> String {
    let standing = match status.standing {
        Standing::Pending => "not everything is published yet",
        Standing::Good => "everything is published and good",
        Standing::Stale => "stale: the published values are old, or Keeper denies access",
    };
    let mut text = format!("{standing}\n");
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<14}{value}");
    };
    line(
        "last success",
        ago(status.last_success_age_seconds, "never"),
    );
    if status.tries > 0 {
        line("failed calls", status.tries.to_string());
    }
    let next = status.next_call_in_seconds.map(Duration::from_secs);
    let next = next.map(|next| format!("in {}", text::duration(next)));
    line("next call", next.unwrap_or_else(|| "not planned".into()));
    let width = status.outputs.iter().map(|o| o.path.len()).max();
    let width = width.unwrap_or(0).max(4);
    let mut row = |path: &str, uid: &str, revision: &str, published: &str| {
        let _ = writeln!(
            text,
            "{path:<width$}  {uid:<22}  {revision:<10}  {published}"
        );
    };
    if !status.outputs.is_empty() {
        row("PATH", "RECORD", "REVISION", "PUBLISHED");
    }
    for output in &status.outputs {
        let OutputStatus {
            path,
            record_uid,
            revision,
            published_age_seconds,
        } = output;
        let revision = revision.map_or_else(|| "-".into(), |revision| revision.to_string());
        row(
            path,
            record_uid.as_deref().unwrap_or("-"),
            &revision,
            &ago(*published_age_seconds, "missing"),
        );
    }
    text
}

fn ago(seconds: Option<u64>, never: &str) -> String {
    seconds.map_or_else(
        || never.to_owned(),
        |seconds| format!("{} ago", text::duration(Duration::from_secs(seconds))),
    )
}
