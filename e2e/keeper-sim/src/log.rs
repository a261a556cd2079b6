//! What was asked, by whom and how often.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

/// Requests that are remembered; older ones are forgotten.
const REMEMBERED: usize = 10_000;

/// Name under which calls without a known client are counted.
pub const UNKNOWN_CLIENT: &str = "unknown";

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was answered.
    Answered,
    /// It was refused: bad request, unknown client, wrong signature or key, and so on.
    Refused,
    /// It was refused by the throttle rule.
    Throttled,
    /// A fault was set for it.
    Faulted,
}

/// One request as it came in.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoggedRequest {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// Endpoint name; `file` for downloads.
    pub endpoint: String,
    /// Name of the client, if it is known.
    pub client: Option<String>,
    /// The client id that the payload names.
    pub client_id: Option<String>,
    /// Header names in lower case and values.
    pub headers: Vec<(String, String)>,
    /// The decrypted payload.
    pub payload: Option<serde_json::Value>,
    /// How it ended.
    pub outcome: Outcome,
    /// Status of the answer; 0 if there was none.
    pub status: u16,
}

impl LoggedRequest {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

/// How many calls of one kind there were, by their end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Count {
    /// All of them.
    pub total: u64,
    /// Those that were answered.
    pub answered: u64,
    /// Those that were refused.
    pub refused: u64,
    /// Those that the throttle rule refused.
    pub throttled: u64,
    /// Those that a fault was set for.
    pub faulted: u64,
}

/// Call counts by client name and endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Calls(pub BTreeMap<String, BTreeMap<String, Count>>);

impl Calls {
    /// Counts of one client at one endpoint.
    #[must_use]
    pub fn of(&self, client: &str, endpoint: &str) -> Count {
        let count = self.0.get(client).and_then(|by| by.get(endpoint));
        count.copied().unwrap_or_default()
    }

    /// Calls of all clients to one endpoint.
    #[must_use]
    pub fn to(&self, endpoint: &str) -> u64 {
        let counts = self.0.values().filter_map(|by| by.get(endpoint));
        counts.map(|count| count.total).sum()
    }

    /// All calls.
    #[must_use]
    pub fn total(&self) -> u64 {
        let counts = self.0.values().flat_map(BTreeMap::values);
        counts.map(|count| count.total).sum()
    }
}

/// Counts and recent requests.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) calls: Calls,
    requests: VecDeque<LoggedRequest>,
}

impl Log {
    pub(crate) fn add(&mut self, request: LoggedRequest) {
        let client = request.client.as_deref().unwrap_or(UNKNOWN_CLIENT);
        let endpoints = self.calls.0.entry(client.to_owned()).or_default();
        let count = endpoints.entry(request.endpoint.clone()).or_default();
        count.total += 1;
        match request.outcome {
            Outcome::Answered => count.answered += 1,
            Outcome::Refused => count.refused += 1,
            Outcome::Throttled => count.throttled += 1,
            Outcome::Faulted => count.faulted += 1,
        }
        if self.requests.len() >= REMEMBERED {
            self.requests.pop_front();
        }
        self.requests.push_back(request);
    }

    pub(crate) fn requests(&self) -> Vec<LoggedRequest> {
        self.requests.iter().cloned().collect()
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(client: Option<&str>, outcome: Outcome) -> LoggedRequest {
        LoggedRequest {
            at_ms: 0,
            endpoint: "get_secret".into(),
            client: client.map(Into::into),
            client_id: None,
            headers: vec![("publickeyid".into(), "99".into())],
            payload: None,
            outcome,
            status: 200,
        }
    }

    #[test]
    fn calls_are_counted_by_client_endpoint_and_end() {
        let mut log = Log::default();
        log.add(request(Some("a"), Outcome::Answered));
        log.add(request(Some("a"), Outcome::Throttled));
        log.add(request(None, Outcome::Refused));
        let count = log.calls.of("a", "get_secret");
        assert_eq!((count.total, count.answered, count.throttled), (2, 1, 1));
        assert_eq!(log.calls.of(UNKNOWN_CLIENT, "get_secret").refused, 1);
        assert_eq!(
            (
                log.calls.to("get_secret"),
                log.calls.to("file"),
                log.calls.total()
            ),
            (3, 0, 3)
        );
        assert_eq!(log.requests()[0].header("PublicKeyId"), Some("99"));
        log.clear();
        assert_eq!(log.calls.total(), 0);
    }

    #[test]
    fn memory_is_bounded() {
        let mut log = Log::default();
        for _ in 0..REMEMBERED + 5 {
            log.add(request(None, Outcome::Answered));
        }
        assert_eq!(log.requests.len(), REMEMBERED);
        assert_eq!(log.calls.total(), REMEMBERED as u64 + 5);
    }
}
