//! Keeper's identifiers of records, folders and files.

use std::fmt;
use std::str::FromStr;

const LEN: usize = 22;

/// A UID: 22 characters of the URL-safe base64 alphabet, 16 bytes (protocol section 1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uid([u8; LEN]);

/// A text that is no UID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a Keeper UID: 22 characters of A-Z, a-z, 0-9, - and _ are expected")]
pub struct InvalidUid;

impl Uid {
    /// The 22 characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only ASCII gets in.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl FromStr for Uid {
    type Err = InvalidUid;

    fn from_str(text: &str) -> Result<Self, InvalidUid> {
        let bytes: [u8; LEN] = text.as_bytes().try_into().map_err(|_| InvalidUid)?;
        let valid = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        if bytes.iter().all(valid) {
            Ok(Self(bytes))
        } else {
            Err(InvalidUid)
        }
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_twenty_two_characters_of_the_alphabet_are_a_uid() {
        let uid: Uid = "-z3kT0bXv9mWc5rLr2Hn_A".parse().unwrap();
        assert_eq!(uid.as_str(), "-z3kT0bXv9mWc5rLr2Hn_A");
        for text in [
            "",
            "Qz3kT0bXv9mWc5rLr2Hn8",
            "Qz3kT0bXv9mWc5rLr2Hn8AA",
            "Qz3kT0bXv9mWc5rLr2Hn8+",
            "Qz3kT0bXv9mWc5rLr2Hnüx",
        ] {
            assert_eq!(text.parse::<Uid>(), Err(InvalidUid), "{text}");
        }
    }
}
