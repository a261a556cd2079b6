//! From text to document, within limits: the text comes from whoever may create pods. What is no document is one problem,
//! with its place.

use serde::Deserialize as _;
use serde_path_to_error::{Segment, Track};
use serde_saphyr::{Error, Location, Options, UserMessageFormatter};

use super::document::Document;
use super::place::Place;
use crate::problem::Reason;
use crate::quote::clip;

/// The API server takes no more in all annotations of an object.
const MAX_BYTES: usize = 256 * 1024;
/// Longest message of the parser's that is repeated, in characters.
const MESSAGE: usize = 200;

/// Why a text is no document.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) reason: Reason,
    /// Where, if that is known.
    pub(super) place: Option<Place>,
    pub(super) message: String,
}

/// Parses; an empty text is an empty document.
pub(super) fn parse(text: &str) -> Result<Document, Fault> {
    if text.len() > MAX_BYTES {
        let message = format!(
            "takes {} bytes, at most {MAX_BYTES} fit into an annotation: select less",
            text.len()
        );
        return Err(Fault {
            reason: Reason::TooLarge,
            place: None,
            message,
        });
    }
    let mut keys = None;
    let document = serde_saphyr::with_deserializer_from_str_with_options(text, options(), |de| {
        let mut track = Track::new();
        let de = serde_path_to_error::Deserializer::new(de, &mut track);
        let document = Option::<Document>::deserialize(de);
        if document.is_err() {
            keys = Some(track.path());
        }
        document
    });
    match document {
        Ok(document) => Ok(document.unwrap_or_default()),
        Err(error) => {
            let keys = keys.iter().flat_map(|path| path.iter());
            Err(fault(error.without_snippet(), path(keys)))
        }
    }
}

/// A config that fits into the agents' environment is far below all of these. What an alias repeats is counted again.
fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_documents: 2,
            max_depth: 16,
            flow_nesting_limit: 16,
            max_events: 50_000,
            max_nodes: 50_000,
            max_total_scalar_bytes: 2 * MAX_BYTES,
            max_anchors: 1_000,
            max_aliases: 1_000,
            max_merge_keys: 1_000,
            max_recorded_anchor_events: 50_000,
            max_recorded_anchor_bytes: 2 * MAX_BYTES,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 50_000,
            max_replay_stack_depth: 8,
        },
        with_snippet: false,
    }
}

/// The keys that lead to a value, as `secrets[2].path`. A value with its place is a level of its own, which is left out.
fn path<'a>(segments: impl Iterator<Item = &'a Segment>) -> String {
    let mut path = String::new();
    for segment in segments {
        match segment {
            Segment::Seq { index } => path.push_str(&format!("[{index}]")),
            Segment::Map { key } if key != "value" => join(&mut path, key),
            Segment::Map { .. } | Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    path
}

fn join(path: &mut String, key: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(key);
}

fn fault(error: &Error, mut path: String) -> Fault {
    let location = error.location();
    let mut at_key = |key: &str| {
        // An unknown key ends the path already, unless it is called `value`.
        if path != key && !path.ends_with(&format!(".{key}")) {
            join(&mut path, key);
        }
    };
    let mut reason = Reason::BadValue;
    let message = match error {
        Error::AliasError { error, .. } => return fault(error, path),
        Error::SerdeUnknownField {
            field, expected, ..
        } => {
            at_key(field);
            let nearest = nearest(field, expected);
            format!("unknown key: did you mean {nearest}? Correct or remove it")
        }
        Error::DuplicateMappingKey { key, .. } => {
            key.as_deref().into_iter().for_each(&mut at_key);
            "the key is written twice: remove one of them".to_owned()
        }
        Error::Unexpected { expected, .. } => match *expected {
            "string scalar" => "a text belongs here".to_owned(),
            "sequence start" => "a list belongs here".to_owned(),
            "mapping start" => "keys and their values belong here".to_owned(),
            other => format!("expected {other}"),
        },
        Error::SerdeInvalidType { expected, .. } => format!("{expected} belongs here"),
        Error::UnknownAnchor { .. } => {
            "an alias, and there is no such anchor: quote a text that begins with an asterisk"
                .to_owned()
        }
        Error::MultipleDocuments { .. } => {
            "a second document begins here: write only one".to_owned()
        }
        Error::Budget { .. }
        | Error::AliasReplayCounterOverflow { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => {
            reason = Reason::TooLarge;
            "too much, too deeply nested, or repeated too often by aliases: write less".to_owned()
        }
        other => said(other),
    };
    Fault {
        reason,
        place: location.map(|location| Place::new(&path, location)),
        message,
    }
}

/// What the parser says, without the place that it adds.
fn said(error: &Error) -> String {
    let text = error.render_with_formatter(&UserMessageFormatter);
    let place = |l: Location| format!(" at line {}, column {}", l.line(), l.column());
    let place = error.location().map(place).unwrap_or_default();
    let text = text.strip_suffix(&place).unwrap_or(&text);
    match text.strip_prefix("duplicate field ") {
        Some(key) => format!("{key} is written twice, once by its other name: remove one of them"),
        None => clip(text, MESSAGE),
    }
}

/// The key that is most like `key`.
fn nearest<'a>(key: &str, known: &[&'a str]) -> &'a str {
    // Keys are short; this bounds the work on a hostile one.
    let key: String = key.chars().take(80).collect::<String>().to_lowercase();
    let likeness =
        |known: &str| strsim::normalized_damerau_levenshtein(&key, &known.to_lowercase());
    known
        .iter()
        .copied()
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
        .unwrap_or_default()
}
