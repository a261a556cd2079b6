//! The first fetch as a step of its own: what the container `keeper-init` does before the application starts,
//! in pods whose sidecar can't hold the application back.

use std::time::Duration;

use keeper_agent::{Exit, Host, Runner};

/// How long the first fetch may take. All retries with their doubling ranges fit in: with a whole fleet on one
/// throttled client id, the last pod was served after 9 minutes in the simulation.
pub const LIMIT: Duration = Duration::from_secs(15 * 60);

/// Fetches and publishes once. What a process of this pod has published before is left as it is: the sidecar,
/// or the application, goes on with that.
///
/// # Errors
/// A failure that waiting can't cure, or the end of [`LIMIT`]. Where the pod may start without its secrets, the
/// first failure is none.
pub async fn first_fetch(runner: &mut Runner<impl Host>) -> Result<(), Exit> {
    runner.first_fetch(LIMIT).await
}
