//! The audit trail: one entry for each decision on a pod. Who asked, for which pod and which records, and what became of it;
//! never a value, a review, a patch, or a message that repeats an annotation.

mod entry;
mod options;
mod sink;
mod text;

use std::sync::Arc;
use std::time::Duration;

use crate::traces::Traces;

pub(crate) use entry::{Asker, Entry, Request, Subject, annotations};
pub use options::{SinkOptions, SinkUrl, SinkUrlError};
pub(crate) use sink::{Queue, Sink, finish};
pub(crate) use text::clip;

/// Where entries go: each is a line of the log, goes to the sink, if there is one, and is told of in a span, if there are any.
#[derive(Default)]
pub(crate) struct Trail {
    pub(crate) sink: Option<Arc<Queue>>,
    pub(crate) traces: Arc<Traces>,
}

impl Trail {
    /// Takes one entry about a decision that took so long and is part of the trace `parent`; never waits.
    pub(crate) fn record(
        &self,
        entry: &Entry<'_>,
        failed: bool,
        taken: Duration,
        parent: Option<&str>,
    ) {
        self.traces.admission(entry, failed, taken, parent);
        let Ok(members) = keeper_telemetry::to_json(entry) else {
            return;
        };
        if failed {
            tracing::error!(members, "admission failed");
        } else {
            tracing::info!(members, "admission answered");
        }
        if let Some(sink) = &self.sink {
            sink.offer(line(&members, failed));
        }
    }
}

/// The same as the log has it, whatever the log's level and format are.
fn line(members: &str, failed: bool) -> String {
    let (level, message) = match failed {
        true => ("error", "admission failed"),
        false => ("info", "admission answered"),
    };
    let time = keeper_telemetry::timestamp();
    let members = members.strip_prefix('{').unwrap_or(members);
    format!(r#"{{"time":"{time}","level":"{level}","msg":"{message}",{members}"#)
}
