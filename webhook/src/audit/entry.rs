//! One decision as the audit trail has it. Every text of others is bounded, so an entry is: no larger than the 16 KiB that
//! container runtimes put into one line of a log.

use keeper_contract::Asked;
use serde::Serialize;
use serde_json::{Map, Value};

use super::text::{Names, clip};

/// Room for one name, in bytes of JSON. Names of objects have at most 253 characters.
const NAME: usize = 256;

/// Who asked, as the API server says: whose request created the pod, mostly a controller's.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Asker {
    #[serde(rename = "user", skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(rename = "user_uid", skip_serializing_if = "String::is_empty")]
    uid: String,
    #[serde(skip_serializing_if = "Names::is_empty")]
    groups: Names,
    #[serde(skip_serializing_if = "is_zero")]
    groups_omitted: usize,
}

impl Asker {
    /// From the `userInfo` of a review. Its `extra` is left out: what an authenticator puts there may be a credential's.
    pub(crate) fn read(user_info: &Value) -> Self {
        let text = |key: &str| user_info.get(key)?.as_str();
        let groups = user_info.get("groups").and_then(Value::as_array);
        let groups: Names = groups
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        Self {
            name: clip(text("username").unwrap_or_default(), NAME),
            uid: clip(text("uid").unwrap_or_default(), NAME),
            groups_omitted: groups.omitted,
            groups,
        }
    }
}

/// The pod that it is about.
#[derive(Debug, Serialize)]
pub(crate) struct Subject {
    pub(crate) namespace: String,
    /// Its name or, where the API server has yet to make one, the prefix for it.
    pub(crate) pod: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner_kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner_name: Option<String>,
}

impl Subject {
    pub(crate) fn of(namespace: &str, name: &str, object: &Value) -> Self {
        let metadata = object.get("metadata");
        let owners = metadata.and_then(|metadata| metadata.get("ownerReferences"));
        let mut owners = owners.and_then(Value::as_array).into_iter().flatten();
        let controller = owners.find(|owner| owner.get("controller") == Some(&Value::Bool(true)));
        let text = |key: &str| Some(clip(controller?.get(key)?.as_str()?, NAME));
        Self {
            namespace: namespace.to_owned(),
            pod: clip(name, NAME),
            owner_kind: text("kind"),
            owner_name: text("name"),
        }
    }
}

/// What an injected pod asks Keeper for. A denied one's annotations may be anything, a secret that was pasted there too: they
/// are nowhere repeated.
#[derive(Debug, Serialize)]
pub(crate) struct Request {
    pub(crate) shape: String,
    outputs: usize,
    #[serde(skip_serializing_if = "String::is_empty")]
    auth_secret: String,
    records: Names,
    #[serde(skip_serializing_if = "is_zero")]
    records_omitted: usize,
    #[serde(skip_serializing_if = "Names::is_empty")]
    folders: Names,
    #[serde(skip_serializing_if = "is_zero")]
    folders_omitted: usize,
}

impl Request {
    pub(crate) fn new(shape: String, outputs: usize, asked: &Asked) -> Self {
        let names = |names: &[String]| names.iter().map(String::as_str).collect::<Names>();
        let (records, folders) = (names(&asked.records), names(&asked.folders));
        Self {
            shape,
            outputs,
            auth_secret: clip(&asked.auth_secret, NAME),
            records_omitted: records.omitted,
            records,
            folders_omitted: folders.omitted,
            folders,
        }
    }
}

/// One decision.
#[derive(Debug, Serialize)]
pub(crate) struct Entry<'a> {
    pub(crate) request_id: &'a str,
    #[serde(flatten)]
    pub(crate) asker: &'a Asker,
    #[serde(flatten)]
    pub(crate) subject: Option<&'a Subject>,
    pub(crate) outcome: &'static str,
    /// Why: words of ours, for a denial of a fixed set.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) reason: &'a str,
    #[serde(flatten)]
    pub(crate) request: Option<&'a Request>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) dry_run: bool,
    /// Of the webhook.
    pub(crate) version: &'static str,
    pub(crate) duration: String,
}

/// What the API server's own audit log is given beside what it knows: its event has the user and the pod already.
///
/// Keys are names as labels have them, values are strings; lists are JSON. The API server puts the webhook's name before each.
pub(crate) fn annotations(
    request_id: &str,
    outcome: &str,
    reason: &str,
    request: Option<&Request>,
) -> Value {
    let mut annotations = Map::new();
    let mut add = |key: &str, value: String| {
        if !value.is_empty() {
            annotations.insert(key.to_owned(), Value::String(value));
        }
    };
    add("request-id", request_id.to_owned());
    add("outcome", outcome.to_owned());
    add("reason", reason.to_owned());
    if let Some(request) = request {
        add("shape", request.shape.clone());
        add("auth-secret", request.auth_secret.clone());
        for (key, names, omitted) in [
            ("records", &request.records, request.records_omitted),
            ("folders", &request.folders, request.folders_omitted),
        ] {
            if !names.is_empty() {
                add(key, keeper_telemetry::to_json(names).unwrap_or_default());
            }
            if omitted > 0 {
                add(&format!("{key}-omitted"), omitted.to_string());
            }
        }
    }
    Value::Object(annotations)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The longest that anybody can make an entry.
    #[test]
    fn an_entry_is_bounded_and_shows_what_hides() {
        for text in ["x", "\"", "\u{202e}", "\u{e0041}", "\0", "漢"] {
            let long = text.repeat(100_000);
            let many = vec![long.clone(); 1000];
            let asker = Asker::read(&json!({
                "username": long, "uid": long, "groups": many, "extra": {"token": ["canary-4711"]},
            }));
            let object = json!({"metadata": {"ownerReferences": [
                {"kind": "Other", "name": "not the controller"},
                {"kind": long, "name": long, "controller": true},
            ]}});
            let subject = Subject::of(&"n".repeat(63), &long, &object);
            let asked = Asked {
                auth_secret: long,
                records: many.clone(),
                folders: many,
            };
            let request = Request::new("init_and_native".into(), usize::MAX, &asked);
            let entry = Entry {
                request_id: &"u".repeat(128),
                asker: &asker,
                subject: Some(&subject),
                outcome: "injected",
                reason: &"r".repeat(256),
                request: Some(&request),
                dry_run: true,
                version: env!("CARGO_PKG_VERSION"),
                duration: "12345.67ms".to_owned(),
            };
            let json = keeper_telemetry::to_json(&entry).unwrap();
            assert!(json.len() < 16_000, "{}", json.len());
            assert!(!json.chars().any(keeper_telemetry::is_hidden));
            assert!(!json.contains("canary"));
            let entry: Value = serde_json::from_str(&json).unwrap();
            let listed = entry["groups"].as_array().unwrap().len();
            assert_eq!(entry["groups_omitted"], 1000 - listed);
            assert!(entry["owner_kind"].as_str().unwrap().starts_with(text));
            let annotations = annotations("u-1", "injected", "", Some(&request));
            assert!(annotations.to_string().len() < 20_000);
        }
    }

    #[test]
    fn a_review_that_says_nothing_of_anybody_is_no_trouble() {
        for nobody in [
            json!(null),
            json!([1]),
            json!({"groups": "x", "username": 7}),
        ] {
            assert_eq!(Asker::read(&nobody), Asker::default());
        }
        let subject = Subject::of(
            "shop",
            "",
            &json!({"metadata": {"ownerReferences": {"a": 1}}}),
        );
        assert_eq!(
            keeper_telemetry::to_json(&subject).unwrap(),
            r#"{"namespace":"shop","pod":""}"#
        );
    }

    #[test]
    fn annotations_are_strings_under_keys_that_the_api_server_takes() {
        let asked = Asked {
            auth_secret: "keeper-auth".into(),
            records: vec!["Team/db".into(), "a,b".into()],
            folders: vec![],
        };
        let request = Request::new("native".into(), 2, &asked);
        assert_eq!(
            annotations("u-1", "injected", "", Some(&request)),
            json!({
                "request-id": "u-1", "outcome": "injected", "shape": "native",
                "auth-secret": "keeper-auth", "records": "[\"Team/db\",\"a,b\"]",
            })
        );
    }
}
