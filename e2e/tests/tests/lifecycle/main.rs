//! An installation from its beginning to its end: upgrades and rollbacks under load, the scripts of `operations/`, backups, and a cluster
//! that was lost. (That an uninstalled chart leaves nothing behind is told in `outage`.)
//!
//! The tests change what everybody uses, so they run one at a time.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests fail by panicking, and a run tells what happened in it"
)]

mod backup;
mod drill;
mod product;
mod update;
mod upgrade;
