//! Where in a `config` something stands, for messages: `secrets[2].path (line 9, column 11)`.

use std::fmt;

use serde_saphyr::Location;

use crate::quote::clip;

/// Longest path of keys that is shown, in characters.
const KEYS: usize = 80;

/// A place in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The keys that lead there; empty: the whole text.
    keys: String,
    line: u64,
    column: u64,
}

impl Place {
    pub(super) fn new(keys: &str, location: Location) -> Self {
        Self {
            keys: clip(keys, KEYS),
            line: location.line(),
            column: location.column(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { keys, line, column } = self;
        match keys.as_str() {
            "" => write!(f, "line {line}, column {column}"),
            keys => write!(f, "{keys} (line {line}, column {column})"),
        }
    }
}
