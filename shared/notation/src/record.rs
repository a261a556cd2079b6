//! How a record is named.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};

use crate::escape::{BadEscape, escape, split_unescaped, unescape};

/// How a record is named: by UID, by title, or by folder path and title.
///
/// Holds the text between unescaped slashes, unescaped; never empty. Which of the three it means depends on
/// the vault, so that is decided where the vault is known.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct RecordRef {
    segments: Vec<String>,
}

/// Why a text names no record or folder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordRefError {
    /// A backslash before something else than a special character.
    #[error(transparent)]
    BadEscape(#[from] BadEscape),
    /// `a//b`, or a folder path that begins or ends with a slash.
    #[error("a folder name or title in the path is empty; write a slash of a name as \\/")]
    EmptySegment,
}

impl RecordRef {
    /// A record named by one whole title or UID.
    #[must_use]
    pub fn titled(title: impl Into<String>) -> Self {
        Self {
            segments: vec![title.into()],
        }
    }

    /// Takes segments that are still escaped. A lone empty segment is the record with an empty title.
    pub(crate) fn from_escaped(segments: &[&str]) -> Result<Self, RecordRefError> {
        if segments.is_empty() || (segments.len() > 1 && segments.contains(&"")) {
            return Err(RecordRefError::EmptySegment);
        }
        let segments = segments
            .iter()
            .map(|segment| Ok(unescape(segment)?.into_owned()))
            .collect::<Result<_, RecordRefError>>()?;
        Ok(Self { segments })
    }

    /// The whole text as a title.
    #[must_use]
    pub fn title(&self) -> String {
        self.segments.join("/")
    }

    /// The text as a UID, if it has the form of one: 22 characters of the URL-safe base64 alphabet.
    #[must_use]
    pub fn uid(&self) -> Option<&str> {
        as_uid(&self.segments)
    }

    /// The text as folder path, beginning with the shared folder's name, and title.
    #[must_use]
    pub fn folder_and_title(&self) -> Option<(&[String], &str)> {
        match self.segments.split_last() {
            Some((title, folder)) if !folder.is_empty() => Some((folder, title)),
            _ => None,
        }
    }
}

/// The only segment, if it has the form of a UID.
pub(crate) fn as_uid(segments: &[String]) -> Option<&str> {
    match segments {
        [only] if only.len() == 22 && only.bytes().all(is_uid_byte) => Some(only),
        _ => None,
    }
}

/// Escapes `names`, with slashes between.
pub(crate) fn write_path(names: &[String], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (i, name) in names.iter().enumerate() {
        if i > 0 {
            f.write_str("/")?;
        }
        f.write_str(&escape(name, &['/', '[', ']']))?;
    }
    Ok(())
}

fn is_uid_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

impl FromStr for RecordRef {
    type Err = RecordRefError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::from_escaped(&split_unescaped(text, '/'))
    }
}

impl fmt::Display for RecordRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_path(&self.segments, f)
    }
}

impl Serialize for RecordRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl TryFrom<String> for RecordRef {
    type Error = RecordRefError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> RecordRef {
        text.parse().unwrap()
    }

    #[test]
    fn a_title_a_uid_and_a_folder_path() {
        let title = parse(r"Orders \[prod\]");
        assert_eq!(
            (title.title().as_str(), title.uid()),
            ("Orders [prod]", None)
        );
        assert_eq!(
            parse("Qz3kT0bXv9mWc5rLr2Hn8A").uid(),
            Some("Qz3kT0bXv9mWc5rLr2Hn8A")
        );
        assert_eq!(parse("Qz3kT0bXv9mWc5rLr2Hn8+").uid(), None);
        let path = parse(r"Prod\/EU/Databases/mysql");
        let folder = ["Prod/EU".to_owned(), "Databases".to_owned()];
        assert_eq!(path.folder_and_title(), Some((folder.as_slice(), "mysql")));
        assert_eq!(path.title(), "Prod/EU/Databases/mysql");
    }

    #[test]
    fn empty_segments_are_refused_but_an_empty_title_is_not() {
        assert_eq!(parse("").title(), "");
        for text in ["a//b", "/a", "a/"] {
            assert_eq!(
                text.parse::<RecordRef>(),
                Err(RecordRefError::EmptySegment),
                "{text}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn display_and_parse_round_trip(segments in proptest::collection::vec(".{1,8}", 1..4)) {
            let record = RecordRef { segments };
            assert_eq!(record.to_string().parse(), Ok(record));
        }
    }
}
