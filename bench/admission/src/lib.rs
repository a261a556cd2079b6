//! What the benchmark of the webhook is made of: a load of admission reviews in an open loop, and the floor, a
//! server that does the least that a webhook has to.
//!
//! The two programs of this crate are thin: `admission-load` and `admission-floor`. `bench/run --webhook` runs them.

mod exchange;
pub mod floor;
mod load;
mod samples;

pub use exchange::Target;
pub use load::{Load, Pace};
pub use samples::{Report, Samples};
