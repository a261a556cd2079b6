//! Things that go wrong on demand.
//!
//! A fault names what happens, and optionally for which endpoint, which client, and how many requests. The
//! oldest one that fits a request is used up by it; delays add up with whatever else happens.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Endpoint name by which faults and counts mean downloads of attachments.
pub const FILE_ENDPOINT: &str = "file";

/// One thing that goes wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Fault {
    /// What happens.
    pub kind: FaultKind,
    /// How many requests it happens to; until it is cleared, where this is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// Only to requests for this endpoint (`get_secret`, `get_folders`, `file`, …).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Only to requests of the client of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
}

/// What happens to a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub enum FaultKind {
    /// Any status with any body.
    Status {
        /// HTTP status.
        status: u16,
        /// Body, as it stands.
        #[serde(default)]
        body: String,
        /// `Content-Type`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        content_type: Option<String>,
        /// Further headers.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        headers: Vec<(String, String)>,
    },
    /// 403 `throttled`, with `retry_after` in seconds if it is given.
    Throttled {
        /// Seconds; a number or text, sent as it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after: Option<serde_json::Value>,
    },
    /// 429 from the edge, not JSON, with a `Retry-After` header if it is given.
    TooManyRequests {
        /// Text of the header.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after: Option<String>,
    },
    /// 502 with a gateway's text.
    BadGateway,
    /// 401 `key`: use the server key of this id.
    Key {
        /// The id that the client is told.
        key_id: u32,
    },
    /// 403 `invalid_client_version`.
    InvalidClientVersion,
    /// 403 `access_denied`.
    AccessDenied {
        /// The message; that of an unknown client, where it is left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
    /// The answer comes so many milliseconds later. Adds to other faults.
    Latency {
        /// Milliseconds.
        ms: u64,
    },
    /// No answer ever comes.
    Hang,
    /// The connection is reset.
    Reset,
    /// The connection ends in the middle of the body.
    Truncate,
    /// Half of the body comes, then nothing more.
    Stall,
    /// One bit of the sealed answer is wrong.
    CorruptTag,
    /// 200 with bytes that are no sealed answer.
    Garbage,
    /// 200 with an empty body.
    Empty,
    /// 200 with a correctly sealed answer of this text.
    Plaintext {
        /// What is sealed.
        text: String,
    },
    /// 200 with so many bytes of filler.
    Huge {
        /// Bytes.
        bytes: u64,
        /// Whether `Content-Length` says so beforehand.
        #[serde(default)]
        declared: bool,
    },
    /// The TLS certificate is one of an authority that nobody knows. Ends the connections that are open, and
    /// counts new ones; `endpoint` and `client` don't apply.
    UntrustedCertificate,
}

impl Fault {
    /// A fault of this kind for every request, until it is cleared.
    #[must_use]
    pub fn new(kind: FaultKind) -> Self {
        Self {
            kind,
            times: None,
            endpoint: None,
            client: None,
        }
    }

    /// Only for the next `times` requests that fit.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// Only for this endpoint.
    #[must_use]
    pub fn on(mut self, endpoint: &str) -> Self {
        self.endpoint = Some(endpoint.to_owned());
        self
    }

    /// Only for the client of this name.
    #[must_use]
    pub fn for_client(mut self, client: &str) -> Self {
        self.client = Some(client.to_owned());
        self
    }

    fn fits(&self, endpoint: &str, client: Option<&str>) -> bool {
        self.kind != FaultKind::UntrustedCertificate
            && self.endpoint.as_deref().is_none_or(|e| e == endpoint)
            && self.client.as_deref().is_none_or(|c| Some(c) == client)
    }
}

/// The faults that are set.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults(Vec<Fault>);

/// What happens to one request.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Struck {
    pub(crate) delay: Duration,
    pub(crate) kind: Option<FaultKind>,
}

impl Faults {
    pub(crate) fn add(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn list(&self) -> &[Fault] {
        &self.0
    }

    /// Takes what happens to a request.
    pub(crate) fn strike(&mut self, endpoint: &str, client: Option<&str>) -> Struck {
        let mut struck = Struck::default();
        for fault in &mut self.0 {
            if !fault.fits(endpoint, client) || fault.times == Some(0) {
                continue;
            }
            match &fault.kind {
                FaultKind::Latency { ms } => {
                    struck.delay = struck.delay.saturating_add(Duration::from_millis(*ms));
                }
                _ if struck.kind.is_some() => continue,
                kind => struck.kind = Some(kind.clone()),
            }
            use_up(fault);
        }
        self.drop_used();
        struck
    }

    /// Takes whether the next connection gets a certificate that nobody trusts.
    pub(crate) fn strike_connection(&mut self) -> bool {
        let wanted = |fault: &&mut Fault| fault.kind == FaultKind::UntrustedCertificate;
        let found = self.0.iter_mut().find(wanted).map(use_up).is_some();
        self.drop_used();
        found
    }

    fn drop_used(&mut self) {
        self.0.retain(|fault| fault.times != Some(0));
    }
}

fn use_up(fault: &mut Fault) {
    if let Some(times) = &mut fault.times {
        *times = times.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(faults: &mut Faults, endpoint: &str, client: Option<&str>) -> Option<FaultKind> {
        faults.strike(endpoint, client).kind
    }

    #[test]
    fn a_fault_happens_as_often_as_it_says() {
        let mut faults = Faults::default();
        faults.add(Fault::new(FaultKind::Hang).times(2));
        faults.add(Fault::new(FaultKind::Reset));
        let mut next = || kind(&mut faults, "get_secret", None);
        assert_eq!(next(), Some(FaultKind::Hang));
        assert_eq!(next(), Some(FaultKind::Hang));
        assert_eq!(next(), Some(FaultKind::Reset));
        assert_eq!(next(), Some(FaultKind::Reset));
        faults.clear();
        assert_eq!(kind(&mut faults, "get_secret", None), None);
    }

    #[test]
    fn endpoint_and_client_must_fit() {
        let mut faults = Faults::default();
        faults.add(
            Fault::new(FaultKind::Hang)
                .on("file")
                .for_client("a")
                .times(1),
        );
        assert_eq!(kind(&mut faults, "get_secret", Some("a")), None);
        assert_eq!(kind(&mut faults, "file", Some("b")), None);
        assert_eq!(kind(&mut faults, "file", None), None);
        assert_eq!(kind(&mut faults, "file", Some("a")), Some(FaultKind::Hang));
        assert!(faults.list().is_empty());
    }

    #[test]
    fn delays_add_to_each_other_and_to_the_rest() {
        let mut faults = Faults::default();
        faults.add(Fault::new(FaultKind::Latency { ms: 10 }));
        faults.add(Fault::new(FaultKind::BadGateway).times(1));
        faults.add(Fault::new(FaultKind::Latency { ms: 5 }).times(1));
        let struck = faults.strike("get_secret", None);
        assert_eq!(struck.delay, Duration::from_millis(15));
        assert_eq!(struck.kind, Some(FaultKind::BadGateway));
        let struck = faults.strike("get_secret", None);
        assert_eq!(
            struck,
            Struck {
                delay: Duration::from_millis(10),
                kind: None
            }
        );
    }

    #[test]
    fn certificates_are_a_matter_of_connections() {
        let mut faults = Faults::default();
        faults.add(Fault::new(FaultKind::UntrustedCertificate).times(1));
        assert_eq!(kind(&mut faults, "get_secret", None), None);
        assert!(faults.strike_connection());
        assert!(!faults.strike_connection());
    }

    #[test]
    fn faults_are_read_from_json_and_strange_ones_refused() {
        let fault: Fault = serde_json::from_str(
            r#"{"kind":{"throttled":{"retryAfter":"7"}},"times":2,"endpoint":"get_secret"}"#,
        )
        .unwrap();
        assert_eq!(fault.times, Some(2));
        assert_eq!(
            fault.kind,
            FaultKind::Throttled {
                retry_after: Some("7".into())
            }
        );
        let fault: Fault = serde_json::from_str(r#"{"kind":"hang"}"#).unwrap();
        assert_eq!(fault, Fault::new(FaultKind::Hang));
        for text in [
            r#"{"kind":"burn"}"#,
            r#"{"kind":"hang","tmies":1}"#,
            r#"{}"#,
        ] {
            assert!(serde_json::from_str::<Fault>(text).is_err(), "{text}");
        }
    }
}
