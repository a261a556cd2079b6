//! The audit trail: one entry for each decision on a pod. Who asked, for which pod and which records, and what became of it;
//! never a value, a review, a patch, or a message that repeats an annotation.

mod entry;
mod text;

pub(crate) use entry::{Asker, Entry, Request, Subject, annotations};
pub(crate) use text::clip;

/// Where entries go: each is a line of the log.
#[derive(Debug, Default)]
pub(crate) struct Trail;

impl Trail {
    /// Takes one entry; never waits.
    pub(crate) fn record(&self, entry: &Entry<'_>, failed: bool) {
        let Ok(members) = keeper_telemetry::to_json(entry) else {
            return;
        };
        if failed {
            tracing::error!(members, "admission failed");
        } else {
            tracing::info!(members, "admission answered");
        }
    }
}
