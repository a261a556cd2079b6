//! Keeper Notation and record references: the one grammar that annotations, the protocol's notation API
//! and the agents share. Pure: text in, types out.
//!
//! `contract` parses what a user wrote into these types, `ksm` evaluates them against a vault; both name
//! things through this crate so that there is one parser and one spelling.

pub mod escape;
mod folder;
mod notation;
mod record;

pub use folder::FolderPath;
pub use notation::{FieldSelector, Index, Notation, NotationError, Selector, is_selector_word};
pub use record::{RecordRef, RecordRefError};
