//! Secret-ness as a type: wiped when dropped, printed as `<redacted>`, and bytes only through a method
//! called by name.

use std::fmt;

use zeroize::Zeroizing;

const REDACTED: &str = "<redacted>";

/// Secret bytes, such as an attachment's content.
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Takes over `bytes`, which are wiped on drop.
    #[must_use]
    pub fn new(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

/// Secret text.
pub struct SecretString(Zeroizing<String>);

impl SecretString {
    /// Takes over `text`, which is wiped on drop.
    #[must_use]
    pub fn new(text: Zeroizing<String>) -> Self {
        Self(text)
    }

    /// The text.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

/// Secret text that is part of a record's buffer, or a copy of its own where the text there has escapes.
#[derive(Debug)]
pub enum SecretText<'a> {
    /// Lies in the buffer as it is.
    Borrowed(Redacted<'a>),
    /// Had escapes or white space to remove.
    Owned(SecretString),
}

/// Borrowed secret text that doesn't print itself.
#[derive(Clone, Copy)]
pub struct Redacted<'a>(&'a str);

impl fmt::Debug for Redacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl<'a> SecretText<'a> {
    pub(crate) fn borrowed(text: &'a str) -> Self {
        Self::Borrowed(Redacted(text))
    }

    pub(crate) fn owned(text: Zeroizing<String>) -> Self {
        Self::Owned(SecretString::new(text))
    }

    /// The text.
    #[must_use]
    pub fn expose(&self) -> &str {
        match self {
            Self::Borrowed(text) => text.0,
            Self::Owned(text) => text.expose(),
        }
    }

    /// The text with a life of its own.
    #[must_use]
    pub fn into_owned(self) -> SecretString {
        match self {
            Self::Borrowed(text) => SecretString::new(Zeroizing::new(text.0.to_owned())),
            Self::Owned(text) => text,
        }
    }
}
