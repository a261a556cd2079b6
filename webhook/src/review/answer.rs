//! What the API server is told: the answer of an `AdmissionReview`, and how the question ended.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{API_VERSION, KIND};

/// How an admission ended: the label of `keeper_injector_admissions_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The pod is patched.
    Injected,
    /// The pod stays as it is.
    Skipped,
    /// The user made a mistake.
    Denied,
    /// We did, or whoever called us.
    Error,
}

impl Outcome {
    pub(crate) const ALL: [Self; 4] = [Self::Injected, Self::Skipped, Self::Denied, Self::Error];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Injected => "injected",
            Self::Skipped => "skipped",
            Self::Denied => "denied",
            Self::Error => "error",
        }
    }
}

/// How a check of something that makes pods ended: the label of `keeper_injector_checks_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CheckOutcome {
    /// There is nothing to say.
    Good,
    /// There are warnings.
    Warned,
    /// It is nothing that we look at.
    Skipped,
    /// We failed, or whoever called us.
    Error,
}

impl CheckOutcome {
    pub(crate) const ALL: [Self; 4] = [Self::Good, Self::Warned, Self::Skipped, Self::Error];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warned => "warned",
            Self::Skipped => "skipped",
            Self::Error => "error",
        }
    }
}

/// What the API server is told.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The pod may be created as it is.
    Unchanged,
    /// The object may be written as it is.
    Allowed {
        /// Shown to the user by kubectl.
        warnings: Vec<String>,
    },
    /// The pod may be created with these changes.
    Patched {
        /// JSON Patch.
        patch: EncodedPatch,
        /// Shown to the user by kubectl.
        warnings: Vec<String>,
    },
    /// The pod may not be created.
    Refused {
        /// HTTP status for the API server's client.
        code: u16,
        /// The `reason` of a Kubernetes `Status` that belongs to the code.
        reason: &'static str,
        /// What the user reads.
        message: String,
    },
}

impl Answer {
    /// The `AdmissionReview` to send, as JSON.
    ///
    /// `audit` are its audit annotations. The API server puts the webhook's name before their keys.
    pub(crate) fn to_json(&self, uid: &str, audit: &Value) -> Vec<u8> {
        let mut response = Response {
            uid,
            allowed: !matches!(self, Self::Refused { .. }),
            audit_annotations: audit,
            warnings: &[],
            status: None,
            patch_type: None,
            patch: None,
        };
        match self {
            Self::Unchanged => {}
            Self::Allowed { warnings } => response.warnings = warnings,
            Self::Patched { patch, warnings } => {
                response.warnings = warnings;
                response.patch_type = Some("JSONPatch");
                response.patch = Some(&patch.0);
            }
            Self::Refused {
                code,
                reason,
                message,
            } => {
                response.status = Some(Status {
                    status: "Failure",
                    code: *code,
                    reason,
                    message,
                });
            }
        }
        let review = AdmissionReview {
            api_version: API_VERSION,
            kind: KIND,
            response,
        };
        // Texts, numbers and lists of them always have a JSON form.
        serde_json::to_vec(&review).unwrap_or_default()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AdmissionReview<'a> {
    api_version: &'static str,
    kind: &'static str,
    response: Response<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    audit_annotations: &'a Value,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    warnings: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<&'a RawValue>,
}

/// A Kubernetes `Status` that says what failed.
#[derive(Serialize)]
struct Status<'a> {
    status: &'static str,
    code: u16,
    reason: &'static str,
    message: &'a str,
}

/// A JSON Patch as an answer has it: its JSON as Base64, in the quotes of a JSON string. It is most of an answer, and nothing in
/// it needs escaping, so it is copied as it is.
#[derive(Debug)]
pub(crate) struct EncodedPatch(Box<RawValue>);

impl EncodedPatch {
    /// # Errors
    /// None: Base64 in quotes is JSON.
    pub(crate) fn new(json: &str) -> serde_json::Result<Self> {
        let mut string = String::with_capacity(json.len().div_ceil(3) * 4 + 2);
        string.push('"');
        STANDARD.encode_string(json, &mut string);
        string.push('"');
        RawValue::from_string(string).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn answers_as_the_api_server_expects() {
        let audit = json!({"request-id": "u-1"});
        let sent = |answer: &Answer| -> Value {
            serde_json::from_slice(&answer.to_json("u-1", &audit)).unwrap()
        };
        let patched = Answer::Patched {
            patch: EncodedPatch::new("[]").unwrap(),
            warnings: vec!["w".into()],
        };
        assert_eq!(
            sent(&patched),
            json!({"apiVersion": API_VERSION, "kind": KIND, "response": {
                "uid": "u-1", "allowed": true, "patchType": "JSONPatch", "patch": "W10=",
                "warnings": ["w"],
                "auditAnnotations": {"request-id": "u-1"},
            }})
        );
        let refused = Answer::Refused {
            code: 422,
            reason: "Invalid",
            message: "no".into(),
        };
        assert_eq!(
            sent(&refused)["response"],
            json!({
                "uid": "u-1", "allowed": false,
                "status": {"status": "Failure", "code": 422, "reason": "Invalid", "message": "no"},
                "auditAnnotations": {"request-id": "u-1"},
            })
        );
        let unchanged = sent(&Answer::Unchanged);
        assert_eq!(unchanged["response"].get("patch"), None);
        assert_eq!(unchanged["response"]["allowed"], true);
    }
}
