//! The small value types of annotations: booleans, names, ports and choices. Each knows its own cure.

use std::fmt;
use std::str::FromStr;

use crate::agent_config::{LogLevel, OnStale};
use crate::problem::quoted;

/// A value that is none of its type; the text names the cure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScalarError {
    /// Neither true nor false.
    #[error("{0} is neither \"true\" nor \"false\": write one of them")]
    Boolean(String),
    /// No name of a Kubernetes object. The value is not repeated: people paste configs here.
    #[error(
        "the value is not the name of a Secret or ConfigMap: write the name of one in the pod's namespace, lower-case letters, digits, `-` and `.`, at most 253; what it holds has no place in an annotation"
    )]
    ObjectName,
    /// No key of a Secret or ConfigMap.
    #[error(
        "{0} is no key of a Secret or ConfigMap: write one, letters, digits, `-`, `_` and `.`, at most 253"
    )]
    DataKey(String),
    /// No port.
    #[error("{0} is no port: write a number from 1 to 65535, or 0 for none")]
    Port(String),
    /// No file mode.
    #[error(
        "{0} is no file mode: write four octal digits, which let the owner read, such as \"0440\""
    )]
    FileMode(String),
    /// No beginning of a variable's name.
    #[error(
        "{0} is no prefix of variables: write letters, digits and `_`, at most 64, such as DB_"
    )]
    EnvPrefix(String),
    /// Not one of a list.
    #[error("{0} is not known here: write one of {1}")]
    Choice(String, &'static str),
}

/// `true` or `false`, in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Boolean(pub bool);

impl FromStr for Boolean {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim() {
            t if t.eq_ignore_ascii_case("true") => Ok(Self(true)),
            f if f.eq_ignore_ascii_case("false") => Ok(Self(false)),
            other => Err(ScalarError::Boolean(quoted(other))),
        }
    }
}

impl fmt::Display for Boolean {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What names of environment variables begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvPrefix(pub String);

impl FromStr for EnvPrefix {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let takes = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        match !text.is_empty() && text.len() <= 64 && text.bytes().all(takes) {
            true => Ok(Self(text.to_owned())),
            false => Err(ScalarError::EnvPrefix(quoted(text))),
        }
    }
}

impl fmt::Display for EnvPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Name of a Secret or ConfigMap: a DNS subdomain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectName(String);

impl FromStr for ObjectName {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let label = |label: &str| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        if text.len() <= 253 && text.split('.').all(label) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ScalarError::ObjectName)
        }
    }
}

impl ObjectName {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Key in a Secret or ConfigMap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataKey(String);

impl FromStr for DataKey {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if (1..=253).contains(&text.len())
            && !text.starts_with("..")
            && text != "."
            && text.bytes().all(known)
        {
            Ok(Self(text.to_owned()))
        } else {
            Err(ScalarError::DataKey(quoted(text)))
        }
    }
}

impl DataKey {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A TCP port; 0 stands for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port(pub u16);

impl FromStr for Port {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        // Rust's parser takes `+1`, a port has no sign.
        if !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(ScalarError::Port(quoted(text)));
        }
        text.parse()
            .map(Self)
            .map_err(|_| ScalarError::Port(quoted(text)))
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Permission bits of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileMode(pub u32);

impl FromStr for FileMode {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let octal = |digit: u8| (b'0'..=b'7').contains(&digit);
        // The agent reads what it has published, to tell whether it has changed.
        Some(text)
            .filter(|text| text.len() == 4 && text.bytes().all(octal))
            .and_then(|text| u32::from_str_radix(text, 8).ok())
            .filter(|mode| *mode <= 0o777 && mode & 0o400 != 0)
            .map(Self)
            .ok_or_else(|| ScalarError::FileMode(quoted(text)))
    }
}

impl fmt::Display for FileMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

/// How the refreshing container runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SidecarMode {
    /// The API server's version decides.
    Auto,
    /// An init container with `restartPolicy: Always`.
    Native,
    /// An init container and an ordinary one.
    Classic,
}

impl SidecarMode {
    const ALL: [Self; 3] = [Self::Auto, Self::Native, Self::Classic];

    fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Native => "native",
            Self::Classic => "classic",
        }
    }
}

impl FromStr for SidecarMode {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        Self::ALL
            .into_iter()
            .find(|mode| mode.as_str() == text)
            .ok_or_else(|| ScalarError::Choice(quoted(text), "auto, native, classic"))
    }
}

impl fmt::Display for SidecarMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl OnStale {
    const ALL: [Self; 2] = [Self::Serve, Self::Unready];

    fn as_str(self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::Unready => "unready",
        }
    }
}

impl FromStr for OnStale {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        Self::ALL
            .into_iter()
            .find(|choice| choice.as_str() == text)
            .ok_or_else(|| ScalarError::Choice(quoted(text), "serve, unready"))
    }
}

impl fmt::Display for OnStale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl LogLevel {
    const ALL: [Self; 4] = [Self::Debug, Self::Info, Self::Warn, Self::Error];

    fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

impl FromStr for LogLevel {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        Self::ALL
            .into_iter()
            .find(|level| level.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| ScalarError::Choice(quoted(text), "debug, info, warn, error"))
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trips<T: FromStr + fmt::Display>(good: &[&str], bad: &[&str]) {
        for text in good {
            let value: T = text.parse().unwrap_or_else(|_| panic!("{text}"));
            let shown = value.to_string();
            let again: T = shown.parse().unwrap_or_else(|_| panic!("{shown}"));
            assert_eq!(again.to_string(), shown);
            assert!(shown.eq_ignore_ascii_case(text.trim()), "{text}");
        }
        for text in bad {
            assert!(text.parse::<T>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn values_of_each_type() {
        round_trips::<Boolean>(
            &["true", "TRUE", "False", " true "],
            &["", "yes", "1", "on", "truefalse"],
        );
        round_trips::<ObjectName>(
            &["keeper-auth", "a.b", "x", "0"],
            &[
                "",
                "Keeper",
                "a_b",
                "a..b",
                "-a",
                "a-",
                ".",
                "a/b",
                "ä",
                r#"{"clientId":"x"}"#,
            ],
        );
        round_trips::<DataKey>(
            &["ca.crt", "CA_bundle-1", ".hidden"],
            &["", ".", "..", "..data", "a/b", "a b", "ä"],
        );
        round_trips::<Port>(&["0", "9790", "65535"], &["", "-1", "+1", "65536", "http"]);
        round_trips::<SidecarMode>(&["auto", "native", "classic"], &["", "Native", "side"]);
        round_trips::<FileMode>(
            &["0440", "0400", " 0755 "],
            &[
                "", "0", "440", "0040", "1777", "0448", "00440", "+444", "rw-r",
            ],
        );
        round_trips::<LogLevel>(
            &["debug", "INFO", "warn", "error"],
            &["", "trace", "warning"],
        );
        assert!("x".repeat(253).parse::<ObjectName>().is_ok());
        assert!("x".repeat(254).parse::<ObjectName>().is_err());
    }

    #[test]
    fn a_pasted_config_is_not_repeated() {
        let error = "eyJjbGllbnRJZCI6IngifQ=="
            .parse::<ObjectName>()
            .unwrap_err();
        assert!(!error.to_string().contains("eyJ"));
    }
}
