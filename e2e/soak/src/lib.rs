//! The soak's two halves without any I/O: a [`Script`] of faults and vault edits at random from a seed, and the
//! [`Model`] that says what a pod may have published while they happen.
//!
//! The model knows nothing of how the agent works. It has the vault's history and the promises: a file holds what
//! the vault held when Keeper last answered, a failure changes nothing, a selection keeps to its record, and a call
//! comes in time.

mod model;
mod script;
mod vault;

pub use model::{Answer, Model};
pub use script::{Action, Script, Stage};
pub use vault::{LINES, Line, OUTPUTS, Output, Part, Record, Vault};
