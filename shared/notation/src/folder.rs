//! How a folder is named by its path.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};

use crate::escape::{split_unescaped, unescape};
use crate::record::{RecordRefError, as_uid, write_path};

/// A folder's path: the names from the shared folder down to it. Never empty, nor any name in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct FolderPath {
    names: Vec<String>,
}

impl FolderPath {
    /// The names, the shared folder's first.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The text as a UID, if it has the form of one: 22 characters of the URL-safe base64 alphabet.
    #[must_use]
    pub fn uid(&self) -> Option<&str> {
        as_uid(&self.names)
    }
}

impl FromStr for FolderPath {
    type Err = RecordRefError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let names: Vec<String> = split_unescaped(text, '/')
            .into_iter()
            .map(|name| Ok(unescape(name)?.into_owned()))
            .collect::<Result<_, RecordRefError>>()?;
        if names.iter().any(String::is_empty) {
            return Err(RecordRefError::EmptySegment);
        }
        Ok(Self { names })
    }
}

impl fmt::Display for FolderPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_path(&self.names, f)
    }
}

impl Serialize for FolderPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl TryFrom<String> for FolderPath {
    type Error = RecordRefError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_hold_escaped_slashes_but_not_be_empty() {
        let path: FolderPath = r"Prod\/EU/Databases".parse().unwrap();
        assert_eq!(path.names(), ["Prod/EU", "Databases"]);
        assert_eq!(path.uid(), None);
        let uid: FolderPath = "Qz3kT0bXv9mWc5rLr2Hn8A".parse().unwrap();
        assert_eq!(uid.uid(), Some("Qz3kT0bXv9mWc5rLr2Hn8A"));
        for text in ["", "/a", "a/", "a//b"] {
            assert_eq!(
                text.parse::<FolderPath>(),
                Err(RecordRefError::EmptySegment),
                "{text}"
            );
        }
        assert!(r"a\q".parse::<FolderPath>().is_err());
    }

    proptest::proptest! {
        #[test]
        fn display_and_parse_round_trip(names in proptest::collection::vec(".{1,8}", 1..4)) {
            let path = FolderPath { names };
            assert_eq!(path.to_string().parse(), Ok(path));
        }
    }
}
