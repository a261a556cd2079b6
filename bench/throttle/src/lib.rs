//! Fleets of pods that share one client id, under Keeper's throttle rule, in virtual time.
//!
//! Keeper forgets a client's calls only after ten seconds without any, so what one pod does is every pod's
//! affair, and no test of a single agent shows it. Here the agent's own `Schedule` and keeper-sim's own
//! `Throttle` meet, beside the two ways in which programs on the official SDKs behave. The results stand in
//! `docs/throttling.md`.

mod fleet;
mod plot;
mod pod;
mod random;
mod report;

pub use fleet::{Fleet, Outcome, Steady};
pub use pod::{Policy, Shape};
pub use report::Report;
