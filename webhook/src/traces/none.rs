//! A build without traces.

use std::time::Duration;

use crate::audit::Entry;

/// No traces.
#[derive(Default)]
pub(crate) struct Traces;

impl Traces {
    /// Says so if some are asked for.
    #[expect(
        clippy::unnecessary_wraps,
        reason = "the same as in a build that has them"
    )]
    pub(crate) fn from_environment() -> Result<Self, String> {
        if super::is_asked_for() {
            tracing::warn!("this build has no traces");
        }
        Ok(Self)
    }

    pub(crate) fn admission(&self, _: &Entry<'_>, _: bool, _: Duration, _: Option<&str>) {}

    #[expect(clippy::unused_async, reason = "the same as in a build that has them")]
    pub(crate) async fn finish(&self) {}
}
