//! Answers that are not 200 (protocol section 6): plain text or JSON, never encrypted.

use std::time::Duration;

use serde_json::value::RawValue;

use crate::error::clean;
use crate::transport::Answer;
use crate::wire::ErrorBody;
use crate::{Error, json};

/// A `retry_after` beyond this is cut: a server can slow us down, but not switch us off.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// What to do about an answer that is not 200.
pub(crate) enum Refusal {
    /// Use the server key of this id, and try again.
    Rotate(String),
    /// Give up.
    Error(Error),
}

/// What an answer that is not 200 means.
pub(crate) fn refusal(answer: &Answer, host: &str, client_version: &str) -> Refusal {
    let body: ErrorBody<'_> = serde_json::from_slice(&answer.body).unwrap_or_default();
    let text = |raw: Option<&RawValue>| -> String {
        let text = raw
            .filter(|raw| raw.get() != "null")
            .map(|raw| match json::string(raw) {
                Some(text) => text.into_owned().expose().to_owned(),
                None => raw.get().to_owned(),
            });
        text.unwrap_or_default()
    };
    let code = Some(text(body.result_code)).filter(|code| !code.is_empty());
    let code = code.unwrap_or_else(|| text(body.error));
    let message = clean(&text(body.message));
    let error = match (code.as_str(), answer.status) {
        ("key", _) => return Refusal::Rotate(text(body.key_id)),
        ("throttled", _) | (_, 429) => Error::Throttled {
            retry_after: seconds(&text(body.retry_after))
                .or(answer.retry_after)
                .map(|after| after.min(MAX_RETRY_AFTER)),
        },
        ("access_denied", _) => Error::AccessDenied { message },
        ("invalid_client_version" | "client_version", _) => Error::InvalidClientVersion {
            sent: clean(client_version),
            message: clean(&text(body.additional_info)),
        },
        (_, status @ (408 | 500..)) => Error::Server {
            host: host.to_owned(),
            status,
        },
        (_, status) => Error::Rejected {
            status,
            code: clean(&code),
            message,
        },
    };
    Refusal::Error(error)
}

/// A positive number of seconds, whole or not.
fn seconds(text: &str) -> Option<Duration> {
    let seconds: f64 = text.parse().ok()?;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|after| !after.is_zero())
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::ErrorKind;

    fn refused(status: u16, body: &str) -> Refusal {
        let answer = Answer {
            status,
            body: Zeroizing::new(body.as_bytes().to_vec()),
            retry_after: None,
        };
        refusal(&answer, "keeper.example", "mr0.0.1")
    }

    fn error(status: u16, body: &str) -> Error {
        match refused(status, body) {
            Refusal::Error(error) => error,
            Refusal::Rotate(id) => panic!("rotation to {id}"),
        }
    }

    #[test]
    fn throttling_and_its_delay() {
        let throttled = |extra: &str| {
            error(
                403,
                &format!(r#"{{"error":"throttled","message":"get_secret"{extra}}}"#),
            )
        };
        for (extra, seconds) in [
            ("", None),
            (r#","retry_after":17"#, Some(17.0)),
            (r#","retry_after":"17""#, Some(17.0)),
            (r#","retry_after":1.5"#, Some(1.5)),
            (r#","retry_after":1e30"#, None),
            (r#","retry_after":999999"#, Some(3600.0)),
            (r#","retry_after":0"#, None),
            (r#","retry_after":-5"#, None),
            (r#","retry_after":null"#, None),
            (r#","retry_after":"soon""#, None),
        ] {
            let error = throttled(extra);
            assert_eq!(
                error.retry_after(),
                seconds.map(Duration::from_secs_f64),
                "{extra}"
            );
            assert_eq!(
                (error.kind(), error.is_retryable()),
                (ErrorKind::Throttled, true)
            );
        }
        let answer = Answer {
            status: 429,
            body: Zeroizing::default(),
            retry_after: Some(Duration::from_secs(30)),
        };
        let Refusal::Error(error) = refusal(&answer, "h", "v") else {
            panic!()
        };
        assert_eq!(error.retry_after(), Some(Duration::from_secs(30)));
        assert_eq!(self::error(429, "slow down").kind(), ErrorKind::Throttled);
    }

    #[test]
    fn each_refusal_has_its_class() {
        use ErrorKind::{Config, Denied, Throttled, Unreachable};
        for (status, body, kind) in [
            (
                403,
                r#"{"error":"access_denied","message":"Signature is invalid"}"#,
                Denied,
            ),
            (
                403,
                r#"{"result_code":"invalid_client_version","error":"client_version","additional_info":"id"}"#,
                Config,
            ),
            // The result code wins.
            (
                403,
                r#"{"result_code":"throttled","error":"access_denied"}"#,
                Throttled,
            ),
            (403, r#"{"result_code":"","error":"access_denied"}"#, Denied),
            (
                403,
                r#"{"result_code":null,"error":"access_denied"}"#,
                Denied,
            ),
            (502, "Bad Gateway", Unreachable),
            (503, r#"{"error":"throttled"}"#, Throttled),
            (500, "", Unreachable),
            (408, "", Unreachable),
            (403, "<html>blocked</html>", Config),
            (404, "", Config),
            (302, "", Config),
            (400, r#"{"error":"bad_request"}"#, Config),
            (400, r#"["error"]"#, Config),
            (400, r#"{"error":{"a":1}}"#, Config),
        ] {
            assert_eq!(error(status, body).kind(), kind, "{status} {body}");
        }
    }

    #[test]
    fn messages_are_the_servers_cleaned_and_shortened() {
        let long = "x".repeat(5000);
        let error = error(
            403,
            &format!(r#"{{"error":"access_denied","message":"a\u0000\u001b[1mb {long}"}}"#),
        );
        let text = error.to_string();
        assert!(text.contains("a[1mb xxx") && text.len() < 600, "{text}");
        let error = self::error(
            403,
            r#"{"result_code":"invalid_client_version","additional_info":"invalid client version id: 5, mr0.0.1"}"#,
        );
        assert!(error.to_string().contains("mr0.0.1"), "{error}");
    }

    #[test]
    fn a_key_error_asks_for_rotation_whatever_its_status() {
        for (status, body, id) in [
            (
                401,
                r#"{"error":"key","key_id":9,"message":"invalid key id"}"#,
                "9",
            ),
            (400, r#"{"error":"key","key_id":"9"}"#, "9"),
            (403, r#"{"result_code":"key"}"#, ""),
        ] {
            assert!(
                matches!(refused(status, body), Refusal::Rotate(got) if got == id),
                "{body}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn no_refusal_panics(status in 100..1000_u16, bytes: Vec<u8>, text: String) {
            let answer = |body: Vec<u8>| Answer { status, body: Zeroizing::new(body), retry_after: None };
            refusal(&answer(bytes), "h", "v");
            refusal(&answer(format!("{{\"error\":{text}").into_bytes()), "h", "v");
            let text = serde_json::to_string(&text).unwrap_or_default();
            refusal(&answer(format!("{{\"retry_after\":{text},\"error\":\"throttled\"}}").into_bytes()), "h", "v");
        }
    }
}
