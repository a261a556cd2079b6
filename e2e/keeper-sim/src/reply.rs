//! What goes back to a client, refusals in the service's own form among it.

use std::time::Duration;

use hyper::StatusCode;
use hyper::body::Bytes;
use serde_json::{Value, json};

use crate::faults::FaultKind;

const LOCATION: &str = "default exception manager - api validation exception";
pub(crate) const UNKNOWN_CLIENT_MESSAGE: &str = "Unable to validate application access";
pub(crate) const BAD_SIGNATURE_MESSAGE: &str = "Signature is invalid";

/// One answer, or the lack of one.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) delay: Duration,
    pub(crate) ending: Ending,
}

/// How a request ends.
#[derive(Debug)]
pub(crate) enum Ending {
    /// An answer.
    Answer(Answer),
    /// Nothing, for ever.
    Hang,
    /// A connection reset.
    Reset,
    /// 200 and so many bytes of filler.
    Huge { bytes: u64, declared: bool },
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
    pub(crate) rest: Rest,
}

/// What comes of the second half of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    /// It follows.
    Sent,
    /// The connection ends before it.
    Cut,
    /// It never comes.
    Stalled,
}

impl Answer {
    pub(crate) fn bytes(body: impl Into<Bytes>) -> Self {
        Self {
            status: 200,
            content_type: "application/octet-stream".to_owned(),
            headers: Vec::new(),
            body: body.into(),
            rest: Rest::Sent,
        }
    }

    pub(crate) fn text(status: StatusCode, text: &str) -> Self {
        Self {
            status: status.as_u16(),
            content_type: "text/plain".to_owned(),
            ..Self::bytes(text.to_owned())
        }
    }

    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self {
            status,
            content_type: "application/json".to_owned(),
            ..Self::bytes(body.to_string())
        }
    }
}

/// Builds refusals for one request.
pub(crate) struct Refusals<'a> {
    pub(crate) hostname: &'a str,
    pub(crate) endpoint: &'a str,
    pub(crate) user_agent: &'a str,
}

impl Refusals<'_> {
    fn body(&self, error: &str, message: &str, additional_info: &str) -> Value {
        json!({
            "path": format!(
                "https://{}/api/rest/sm/v1/{}, POST, {}",
                self.hostname, self.endpoint, self.user_agent
            ),
            "additional_info": additional_info,
            "location": LOCATION,
            "error": error,
            "message": message,
        })
    }

    /// 401: the client must use another server key.
    pub(crate) fn key(&self, key_id: u32) -> Answer {
        // The real service sends no more than these three members.
        Answer::json(
            401,
            &json!({ "error": "key", "key_id": key_id, "message": "invalid key id" }),
        )
    }

    /// 400: the request isn't made as it should be.
    pub(crate) fn bad_request(&self, message: &str) -> Answer {
        Answer::json(400, &self.body("bad_request", message, ""))
    }

    /// 403: not this client, or not with this signature.
    pub(crate) fn access_denied(&self, message: &str) -> Answer {
        Answer::json(403, &self.body("access_denied", message, ""))
    }

    /// 403: a client version that isn't on the list.
    pub(crate) fn invalid_client_version(&self, version: &str) -> Answer {
        let info = format!("invalid client version id: 0, {version}");
        let message = "This client version can't be used. Please update your application.";
        let mut body = self.body("client_version", message, &info);
        if let Value::Object(members) = &mut body {
            members.insert("result_code".to_owned(), json!("invalid_client_version"));
        }
        Answer::json(403, &body)
    }

    /// 403: too many requests.
    pub(crate) fn throttled(&self, retry_after: Option<&Value>) -> Answer {
        let mut body = self.body("throttled", self.endpoint, "throttled");
        if let (Value::Object(members), Some(retry_after)) = (&mut body, retry_after) {
            members.insert("retry_after".to_owned(), retry_after.clone());
        }
        Answer::json(403, &body)
    }

    /// What a fault puts in the place of an answer; `None` for one that changes the true answer.
    pub(crate) fn fault(&self, kind: &FaultKind, client_version: &str) -> Option<Ending> {
        let answer = match kind {
            FaultKind::Status {
                status,
                body,
                content_type,
                headers,
            } => Answer {
                status: *status,
                content_type: content_type
                    .clone()
                    .unwrap_or_else(|| "text/plain".to_owned()),
                headers: headers.clone(),
                ..Answer::bytes(body.clone())
            },
            FaultKind::Throttled { retry_after } => self.throttled(retry_after.as_ref()),
            FaultKind::TooManyRequests { retry_after } => {
                let header = |value: &String| ("Retry-After".to_owned(), value.clone());
                Answer {
                    headers: retry_after.iter().map(header).collect(),
                    ..Answer::text(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests")
                }
            }
            FaultKind::BadGateway => Answer::text(StatusCode::BAD_GATEWAY, "Bad Gateway"),
            FaultKind::Key { key_id } => self.key(*key_id),
            FaultKind::InvalidClientVersion => self.invalid_client_version(client_version),
            FaultKind::AccessDenied { message } => {
                self.access_denied(message.as_deref().unwrap_or(UNKNOWN_CLIENT_MESSAGE))
            }
            FaultKind::Garbage => {
                Answer::bytes(b"\x00\xff<html>this is no sealed answer</html>".repeat(4))
            }
            FaultKind::Empty => Answer::bytes(Bytes::new()),
            FaultKind::Hang => return Some(Ending::Hang),
            FaultKind::Reset => return Some(Ending::Reset),
            FaultKind::Huge { bytes, declared } => {
                return Some(Ending::Huge {
                    bytes: *bytes,
                    declared: *declared,
                });
            }
            FaultKind::Latency { .. }
            | FaultKind::Truncate
            | FaultKind::Stall
            | FaultKind::CorruptTag
            | FaultKind::Plaintext { .. }
            | FaultKind::UntrustedCertificate => return None,
        };
        Some(Ending::Answer(answer))
    }
}

/// Changes a true answer as the fault says.
pub(crate) fn distort(answer: &mut Answer, kind: &FaultKind) {
    match kind {
        FaultKind::Truncate => answer.rest = Rest::Cut,
        FaultKind::Stall => answer.rest = Rest::Stalled,
        FaultKind::CorruptTag => {
            let mut body = answer.body.to_vec();
            if let Some(last) = body.last_mut() {
                *last ^= 1;
            }
            answer.body = body.into();
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSALS: Refusals<'_> = Refusals {
        hostname: "h:1",
        endpoint: "get_secret",
        user_agent: "ua",
    };

    fn body(answer: &Answer) -> Value {
        serde_json::from_slice(&answer.body).unwrap()
    }

    #[test]
    fn refusals_have_the_recorded_form() {
        let answer = REFUSALS.access_denied("no");
        assert_eq!(answer.status, 403);
        assert_eq!(
            body(&answer),
            json!({"path": "https://h:1/api/rest/sm/v1/get_secret, POST, ua", "additional_info": "",
                   "location": LOCATION, "error": "access_denied", "message": "no"})
        );
        let throttled = body(&REFUSALS.throttled(None));
        assert_eq!(
            (&throttled["error"], &throttled["message"]),
            (&json!("throttled"), &json!("get_secret"))
        );
        assert!(throttled.get("retry_after").is_none());
        assert_eq!(
            body(&REFUSALS.throttled(Some(&json!("7"))))["retry_after"],
            "7"
        );
        let version = body(&REFUSALS.invalid_client_version("zz1"));
        assert_eq!(
            (&version["result_code"], &version["error"]),
            (&json!("invalid_client_version"), &json!("client_version"))
        );
        let key = REFUSALS.key(9);
        assert_eq!(
            (key.status, body(&key)),
            (
                401,
                json!({"error": "key", "key_id": 9, "message": "invalid key id"})
            )
        );
    }

    #[test]
    fn faults_replace_or_distort_but_never_both() {
        let replaces = |kind: &FaultKind| REFUSALS.fault(kind, "").is_some();
        assert!(replaces(&FaultKind::Hang) && replaces(&FaultKind::Garbage));
        let mut answer = Answer::bytes(vec![0, 0]);
        for kind in [FaultKind::CorruptTag, FaultKind::Truncate] {
            assert!(!replaces(&kind));
            distort(&mut answer, &kind);
        }
        assert_eq!(
            (answer.body.as_ref(), answer.rest),
            (&[0, 1][..], Rest::Cut)
        );
    }
}
