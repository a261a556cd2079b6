//! The chart, tested on what helm renders from it: names that users type, rights, security, and that each value does
//! something. Run by `chart/test`, which puts the project's helm into `PATH`.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

mod admission;
mod audit;
mod backup;
mod certificates;
mod helm;
mod leader;
mod monitoring;
mod namespaces;
mod network;
mod notes;
mod program;
mod reference;
mod release;
mod revisions;
mod rights;
mod scaling;
mod values;
mod workload;
