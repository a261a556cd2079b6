//! The annotations whose value is one of a few words, and the list of containers.

use std::fmt;
use std::str::FromStr;

use crate::problem::quoted;
use crate::scalars::ScalarError;

/// Where our containers stand among the pod's init containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InitPosition {
    /// Before them: they have the files.
    First,
    /// Behind them: they don't.
    Last,
}

/// How outputs outside the default directory reach the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountMode {
    /// By a mount over their directory.
    Directory,
    /// Each by a mount of its own.
    File,
}

/// Whether our containers run as the application's user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameUser {
    /// Where the pod states one that isn't root.
    Auto,
    /// In any case.
    Always,
    /// Never.
    Never,
}

/// How environment variables reach a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnvMethod {
    /// The first that fits.
    Auto,
    /// Its command is started through `keeper-exec`.
    Exec,
    /// Kubernetes reads them from a file.
    FileKeyRef,
}

/// A type whose values are words.
trait Word: Copy + PartialEq + 'static {
    const ALL: &'static [(&'static str, Self)];
    /// The words as a message lists them.
    const WORDS: &'static str;

    fn read(text: &str) -> Result<Self, ScalarError> {
        let text = text.trim();
        let found = Self::ALL.iter().find(|(word, _)| *word == text);
        found
            .map(|(_, value)| *value)
            .ok_or_else(|| ScalarError::Choice(quoted(text), Self::WORDS))
    }

    fn word(self) -> &'static str {
        let found = Self::ALL.iter().find(|(_, value)| *value == self);
        found.map_or("", |(word, _)| word)
    }
}

impl Word for InitPosition {
    const ALL: &'static [(&'static str, Self)] = &[("first", Self::First), ("last", Self::Last)];
    const WORDS: &'static str = "first, last";
}

impl Word for MountMode {
    const ALL: &'static [(&'static str, Self)] =
        &[("directory", Self::Directory), ("file", Self::File)];
    const WORDS: &'static str = "directory, file";
}

impl Word for SameUser {
    const ALL: &'static [(&'static str, Self)] = &[
        ("auto", Self::Auto),
        ("true", Self::Always),
        ("false", Self::Never),
    ];
    const WORDS: &'static str = "auto, true, false";
}

impl Word for EnvMethod {
    const ALL: &'static [(&'static str, Self)] = &[
        ("auto", Self::Auto),
        ("exec", Self::Exec),
        ("file-key-ref", Self::FileKeyRef),
    ];
    const WORDS: &'static str = "auto, exec, file-key-ref";
}

/// Names of containers, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerNames(Vec<String>);

impl ContainerNames {
    /// Whether `name` is one of them.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        // They are sorted.
        self.0
            .binary_search_by(|one| one.as_str().cmp(name))
            .is_ok()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

/// A text that is no list of containers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0} is no list of containers: write names from the pod's spec, separated by commas, or leave it out for all of them"
)]
pub struct ContainerNamesError(String);

impl FromStr for ContainerNames {
    type Err = ContainerNamesError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let mut names: Vec<String> = Vec::new();
        for name in text.split(',').map(str::trim).filter(|n| !n.is_empty()) {
            if name.len() > 63 || !name.bytes().all(known) {
                return Err(ContainerNamesError(quoted(name)));
            }
            names.push(name.to_owned());
        }
        names.sort_unstable();
        names.dedup();
        if names.is_empty() {
            return Err(ContainerNamesError(quoted(text)));
        }
        Ok(Self(names))
    }
}

impl fmt::Display for ContainerNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

macro_rules! words {
    ($($type:ty),+) => { $(
        impl FromStr for $type {
            type Err = ScalarError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::read(text)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.word())
            }
        }
    )+ };
}

words!(InitPosition, MountMode, SameUser, EnvMethod);

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trips<T: FromStr + fmt::Display>(good: &[(&str, &str)], bad: &[&str]) {
        for (text, shown) in good {
            let value: T = text.parse().unwrap_or_else(|_| panic!("{text}"));
            assert_eq!(value.to_string(), *shown);
            let again: T = shown.parse().unwrap_or_else(|_| panic!("{shown}"));
            assert_eq!(again.to_string(), *shown);
        }
        for text in bad {
            assert!(text.parse::<T>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn values_of_each_type() {
        round_trips::<InitPosition>(&[(" first ", "first"), ("last", "last")], &["", "Last"]);
        round_trips::<MountMode>(
            &[("directory", "directory"), ("file", "file")],
            &["", "dir"],
        );
        round_trips::<EnvMethod>(
            &[
                ("auto", "auto"),
                ("exec", "exec"),
                ("file-key-ref", "file-key-ref"),
            ],
            &["", "fileKeyRef"],
        );
        round_trips::<SameUser>(
            &[("auto", "auto"), ("true", "true"), ("false", "false")],
            &["", "yes"],
        );
        round_trips::<ContainerNames>(
            &[("app", "app"), (" b , a,b,", "a,b")],
            &["", " , ", "App", "a b", "a/b", "ä"],
        );
        assert!("x".repeat(63).parse::<ContainerNames>().is_ok());
        assert!("x".repeat(64).parse::<ContainerNames>().is_err());
    }
}
