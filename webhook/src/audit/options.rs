//! The audit sink's part of the command line.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use reqwest::Url;
use reqwest::header::HeaderName;

/// Options of the audit sink.
#[derive(Debug, Args)]
pub struct SinkOptions {
    /// Where audit entries are posted to, beside the log: an https address.
    #[arg(long = "audit-sink-url", value_name = "URL")]
    pub url: Option<SinkUrl>,
    /// A file with the token that the sink asks for; read again for each request.
    #[arg(long = "audit-sink-token-file", value_name = "FILE", requires = "url")]
    pub token_file: Option<PathBuf>,
    /// The header that carries the token.
    #[arg(
        long = "audit-sink-header",
        value_name = "NAME",
        default_value = "Authorization"
    )]
    pub header: HeaderName,
    /// The word before the token in that header; empty: the token alone.
    #[arg(long = "audit-sink-scheme", value_name = "WORD", default_value = "Bearer", value_parser = scheme)]
    pub scheme: String,
    /// Certificates in PEM that are trusted beside the built-in roots.
    #[arg(long = "audit-sink-ca-file", value_name = "FILE", requires = "url")]
    pub ca_file: Option<PathBuf>,
    /// What one request gets.
    #[arg(long = "audit-sink-timeout-seconds", value_name = "SECONDS", default_value = "5", value_parser = deadline)]
    pub deadline: Duration,
}

/// An https address without user name or password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkUrl(pub(crate) Url);

/// Why a text is no address of a sink. The address is not repeated: part of it may be a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SinkUrlError {
    /// No URL.
    #[error("not a URL: {0}")]
    Malformed(String),
    /// Entries name people and records.
    #[error("entries are sent over https only")]
    NotHttps,
    /// Everybody may read a command line.
    #[error("a user name or password in the address is read by everybody: put a token into a file")]
    UserInfo,
    /// Nobody would see it.
    #[error("a fragment (#) is never sent")]
    Fragment,
}

impl FromStr for SinkUrl {
    type Err = SinkUrlError;

    fn from_str(text: &str) -> Result<Self, SinkUrlError> {
        let url = Url::parse(text).map_err(|error| SinkUrlError::Malformed(error.to_string()))?;
        if url.scheme() != "https" {
            return Err(SinkUrlError::NotHttps);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(SinkUrlError::UserInfo);
        }
        if url.fragment().is_some() {
            return Err(SinkUrlError::Fragment);
        }
        Ok(Self(url))
    }
}

fn scheme(text: &str) -> Result<String, String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    match text.bytes().all(is_token) {
        true => Ok(text.to_owned()),
        false => Err("one word".to_owned()),
    }
}

fn deadline(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .filter(|seconds| (1..=60).contains(seconds))
        .map(Duration::from_secs)
        .ok_or_else(|| "seconds, from 1 to 60".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_without_credentials_is_an_address() {
        for good in [
            "https://siem.corp/ingest?source=k8s",
            "HTTPS://[fd00::1]:8088/x",
        ] {
            good.parse::<SinkUrl>().unwrap();
        }
        for (bad, why) in [
            ("http://siem.corp/", SinkUrlError::NotHttps),
            ("file:///etc/passwd", SinkUrlError::NotHttps),
            ("https://canary:canary@siem.corp/", SinkUrlError::UserInfo),
            ("https://siem.corp/#canary", SinkUrlError::Fragment),
        ] {
            let error = bad.parse::<SinkUrl>().unwrap_err();
            assert_eq!(error, why, "{bad}");
            assert!(!error.to_string().contains("canary"));
        }
        for bad in ["", "siem.corp", "https://", "https://a b/"] {
            assert!(
                matches!(bad.parse::<SinkUrl>(), Err(SinkUrlError::Malformed(_))),
                "{bad}"
            );
        }
    }
}
