//! What people see of the demo: numbered steps, quoted text, and diffs, in colour on a terminal.

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};

use serde_json::Value;
use similar::{ChangeTag, TextDiff};

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";

/// A new step of the story.
pub(crate) fn step(title: &str) {
    line(&format!("\n{}", paint(BOLD, &format!("── {title}"))));
}

/// A sentence.
pub(crate) fn say(text: impl Display) {
    line(&format!("   {text}"));
}

/// Something that holds, as checked.
pub(crate) fn check(text: impl Display) {
    line(&format!("   {} {text}", paint(GREEN, "✓")));
}

/// Text that someone else wrote: a file, a log line, a message.
pub(crate) fn quote(text: &str) {
    for quoted in text.lines() {
        line(&format!("   {} {quoted}", paint(DIM, "│")));
    }
}

/// The end that nobody wanted.
pub(crate) fn failure(error: &anyhow::Error) {
    line(&format!("\n{} {error:#}", paint(RED, "the demo failed:")));
}

/// What changed between two objects, as YAML with three lines of context.
pub(crate) fn diff(before: &Value, after: &Value) -> anyhow::Result<()> {
    let (before, after) = (yaml(before)?, yaml(after)?);
    let changes = TextDiff::from_lines(&before, &after);
    for (n, group) in changes.grouped_ops(3).iter().enumerate() {
        if n > 0 {
            quote("  …");
        }
        for change in group.iter().flat_map(|op| changes.iter_changes(op)) {
            let text = change.value().trim_end_matches('\n');
            quote(&match change.tag() {
                ChangeTag::Equal => format!("  {text}"),
                ChangeTag::Insert => paint(GREEN, &format!("+ {text}")),
                ChangeTag::Delete => paint(RED, &format!("- {text}")),
            });
        }
    }
    Ok(())
}

/// An object as YAML.
pub(crate) fn yaml(value: &Value) -> anyhow::Result<String> {
    Ok(serde_saphyr::to_string(value)?)
}

fn paint(style: &str, text: &str) -> String {
    if io::stdout().is_terminal() {
        format!("\x1b[{style}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

/// Whoever closes the pipe has seen enough: the demo goes on and its exit code tells the rest.
fn line(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}
