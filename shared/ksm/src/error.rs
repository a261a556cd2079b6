//! What can go wrong with a call to Keeper, and what it means for the caller.

use std::time::Duration;

/// Why a call to Keeper failed. Texts of the server are shortened and cleaned; payloads, values and query
/// strings of URLs never get in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No connection.
    #[error("cannot connect to {host}: {reason}")]
    Connect {
        /// Host that was called.
        host: String,
        /// The cause, in the transport's words.
        reason: String,
    },
    /// The proxy gives no connection.
    #[error("the proxy {proxy} gives no connection to {host}: {reason}")]
    Proxy {
        /// Host that was called.
        host: String,
        /// Host and port of the proxy.
        proxy: String,
        /// What it does.
        reason: String,
    },
    /// The proxy demands a user name and password.
    #[error(
        "the proxy {proxy} demands a user name and password (status 407), and none are ever sent: let it pass calls \
         of this cluster to {host} without, or set keeper.security/proxy to one that does"
    )]
    ProxyAuthentication {
        /// Host that was called.
        host: String,
        /// Host and port of the proxy.
        proxy: String,
    },
    /// A TLS certificate that we have no reason to trust.
    #[error(
        "the certificate of {host} is not trusted: {reason}. Where a proxy inspects TLS, add its CA with \
         ca-cert-secret or ca-cert-configmap"
    )]
    Untrusted {
        /// Host that was called.
        host: String,
        /// The cause, in the verifier's words.
        reason: String,
    },
    /// No complete answer within the deadline.
    #[error("{host} gave no complete answer within {} s", after.as_secs())]
    Timeout {
        /// Host that was called.
        host: String,
        /// The deadline.
        after: Duration,
    },
    /// An answer that breaks off, or is not what it should be.
    #[error("the answer of {host} is broken: {reason}")]
    Broken {
        /// Host that was called.
        host: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A server or gateway in trouble: status 408 or 5xx.
    #[error("{host} answered with status {status}")]
    Server {
        /// Host that was called.
        host: String,
        /// HTTP status.
        status: u16,
    },
    /// Too many calls: 403 `throttled`, or 429.
    #[error("Keeper throttles this application: too many calls from devices that share one config")]
    Throttled {
        /// How long the server asks us to wait.
        retry_after: Option<Duration>,
    },
    /// Keeper knows us no longer, or from this address not.
    #[error(
        "Keeper denied access: {message}. Check that the device still exists, that a folder or record is \
         shared with its application, and that its IP lock allows this cluster"
    )]
    AccessDenied {
        /// The server's words.
        message: String,
    },
    /// The client version that we announce is not on the server's list.
    #[error("Keeper does not accept the client version {sent}: {message}")]
    InvalidClientVersion {
        /// What was sent.
        sent: String,
        /// The server's words.
        message: String,
    },
    /// The server asks for another server key, and we can't follow.
    #[error("Keeper asks for server key {asked} instead of {ours}, {}", cure(*custom))]
    ServerKey {
        /// The id that was asked for.
        asked: String,
        /// The id that we used.
        ours: u32,
        /// Whether the config has a key of its own.
        custom: bool,
    },
    /// Any other refusal.
    #[error("Keeper refused the request (status {status}, {code}): {message}")]
    Rejected {
        /// HTTP status.
        status: u16,
        /// `result_code` or `error` of the answer.
        code: String,
        /// The server's words.
        message: String,
    },
    /// An answer or a file over its limit.
    #[error("{what} is larger than {limit} bytes")]
    TooLarge {
        /// What it is.
        what: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// A file that can't be had now; its URL may have expired.
    #[error("the file {file} cannot be downloaded: {reason}")]
    FileUnavailable {
        /// The file's name.
        file: String,
        /// What happened.
        reason: String,
    },
    /// The proxy's address.
    #[error(
        "the proxy's address cannot be used: it is http:// or https://, a host and a port, without user name or password"
    )]
    ProxyAddress,
    /// The extra trust roots.
    #[error("the extra CA certificates cannot be used: {0}")]
    ExtraCa(String),
    /// Something on our own side that never should happen, such as no randomness.
    #[error("cannot prepare a request: {0}")]
    Local(String),
}

/// The classes of errors that callers treat alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Network, time-out, a server in trouble, or a broken answer: later may be better.
    Unreachable,
    /// Wait, then try again.
    Throttled,
    /// Keeper doesn't let us in: permanent until someone changes it in Keeper.
    Denied,
    /// Something is set wrongly: permanent until someone changes it here.
    Config,
    /// An answer or a file over its limit: permanent until it shrinks.
    TooLarge,
}

impl Error {
    /// The class of this error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Connect { .. }
            | Self::Proxy { .. }
            | Self::Untrusted { .. }
            | Self::Timeout { .. }
            | Self::Broken { .. }
            | Self::Server { .. }
            | Self::FileUnavailable { .. }
            | Self::Local(_) => ErrorKind::Unreachable,
            Self::Throttled { .. } => ErrorKind::Throttled,
            Self::AccessDenied { .. } => ErrorKind::Denied,
            Self::InvalidClientVersion { .. }
            | Self::ServerKey { .. }
            | Self::Rejected { .. }
            | Self::ProxyAuthentication { .. }
            | Self::ProxyAddress
            | Self::ExtraCa(_) => ErrorKind::Config,
            Self::TooLarge { .. } => ErrorKind::TooLarge,
        }
    }

    /// Whether the same call may succeed later, without anybody changing anything.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind(), ErrorKind::Unreachable | ErrorKind::Throttled)
    }

    /// How long the server asks us to wait, if it said so.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Throttled { retry_after } => *retry_after,
            _ => None,
        }
    }
}

fn cure(custom: bool) -> &'static str {
    if custom {
        "but the device config has a serverPublicKey of its own: give it the key that is asked for"
    } else {
        "which this version does not know: update it, or add the key as serverPublicKey to the device config"
    }
}

/// Text from outside as it may stand in a message: without control characters, at most 200 characters.
pub(crate) fn clean(text: &str) -> String {
    const MAX_CHARS: usize = 200;
    let printable = |c: &char| !c.is_control() && !is_bidi_control(*c);
    let mut chars = text.trim().chars().filter(printable);
    let mut out: String = chars.by_ref().take(MAX_CHARS).collect();
    if chars.next().is_some() {
        out.push('…');
    }
    out
}

/// Characters that reorder what stands around them on a terminal.
fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_is_cleaned_and_shortened() {
        assert_eq!(
            clean(" Signature\r\n is\u{1b}[31m\u{202e} invalid\0 "),
            "Signature is[31m invalid"
        );
        let long = clean(&"ü".repeat(300));
        assert_eq!(long.chars().count(), 201);
        assert!(long.ends_with('…'));
    }
}
