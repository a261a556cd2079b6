//! `AdmissionReview` of `admission.k8s.io/v1` as bytes, in and out.
//!
//! The pod stays a JSON value: a typed round trip would lose fields that this build does not know.
//! See <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/>.

use std::fmt;

use keeper_contract::Workload;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::audit::Asker;

pub(crate) use self::answer::{Answer, CheckOutcome, EncodedPatch, Outcome};

mod answer;

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";
/// The API server's UIDs have 36 characters.
const MAX_UID: usize = 128;
/// Names of objects have at most 253 characters.
const MAX_NAME: usize = 253;

/// What the API server asks.
#[derive(Debug)]
pub(crate) struct Review {
    /// Identifies question and answer; our request id.
    pub(crate) uid: String,
    /// Who asked the API server.
    pub(crate) asker: Asker,
    /// The rest, or what is wrong with it.
    pub(crate) question: Result<Question, &'static str>,
}

/// What it is about.
#[derive(Debug)]
pub(crate) enum Question {
    /// A pod is created.
    Pod(Pod),
    /// Something that makes pods is created or changed.
    Workload(Pod),
    /// Something that our configurations do not ask for: another kind, operation or subresource.
    Other,
}

/// A pod on its way into the cluster, or what makes pods.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) namespace: String,
    /// Its name or, where the API server has yet to make one, the prefix for it.
    pub(crate) name: String,
    pub(crate) object: Value,
    pub(crate) dry_run: bool,
}

/// Why there is nobody to answer.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// Not JSON. The parser's own words would quote the body.
    #[error("the body is not JSON (line {line}, column {column})")]
    Json {
        /// Where parsing stopped.
        line: usize,
        /// Where parsing stopped.
        column: usize,
    },
    /// Without it no answer is possible.
    #[error("the body is not an AdmissionReview with a request.uid")]
    NoUid,
}

impl Review {
    /// Reads a review. Everything after the UID is reported in the answer.
    ///
    /// # Errors
    /// If there is no UID to answer to.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, Unreadable> {
        // What is UTF-8 as a whole is checked at once, and not text by text; what is not gets the parser's error.
        let review = match std::str::from_utf8(body) {
            Ok(text) => serde_json::from_str::<Body>(text),
            Err(_) => serde_json::from_slice(body),
        };
        let review = review.map_err(|error| {
            if error.is_data() {
                return Unreadable::NoUid;
            }
            Unreadable::Json {
                line: error.line(),
                column: error.column(),
            }
        })?;
        let uid = text(&review.request.uid);
        if !(1..=MAX_UID).contains(&uid.len()) || !uid.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Unreadable::NoUid);
        }
        Ok(Self {
            uid: uid.to_owned(),
            asker: Asker::read(&review.request.user_info),
            question: question(review),
        })
    }
}

fn question(review: Body) -> Result<Question, &'static str> {
    if text(&review.kind) != KIND || text(&review.api_version) != API_VERSION {
        return Err("this is not an AdmissionReview of admission.k8s.io/v1");
    }
    let request = review.request;
    let of = |member: &str| request.kind.get(member).map(text).unwrap_or_default();
    let (group, version, kind) = (of("group"), of("version"), of("kind"));
    let is_pod = (group, version, kind) == ("", "v1", "Pod");
    let asked: fn(Pod) -> Question = match text(&request.operation) {
        "CREATE" if is_pod => Question::Pod,
        "CREATE" | "UPDATE" if !is_pod && Workload::is_kind(group, kind) => Question::Workload,
        _ => return Ok(Question::Other),
    };
    if !text(&request.sub_resource).is_empty() {
        return Ok(Question::Other);
    }
    let namespace = text(&request.namespace);
    if !is_label(namespace) {
        return Err("the AdmissionReview names no namespace");
    }
    let object = request.object;
    if !object.is_object() {
        return Err(match is_pod {
            true => "the AdmissionReview holds no pod",
            false => "the AdmissionReview holds no object",
        });
    }
    let metadata = object.get("metadata");
    let name = ["name", "generateName"]
        .into_iter()
        .filter_map(|member| metadata?.get(member)?.as_str())
        .find(|name| !name.is_empty())
        .unwrap_or_default();
    Ok(asked(Pod {
        namespace: namespace.to_owned(),
        name: name.chars().take(MAX_NAME).collect(),
        dry_run: request.dry_run == Value::Bool(true),
        object,
    }))
}

/// A review, as far as it is read. Whatever stands in a member, there is an answer.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    #[serde(default)]
    kind: Value,
    #[serde(default)]
    api_version: Value,
    request: Request,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Request {
    uid: Value,
    kind: Value,
    operation: Value,
    sub_resource: Value,
    namespace: Value,
    user_info: Value,
    dry_run: Value,
    #[serde(deserialize_with = "without_managed_fields")]
    object: Value,
}

/// Empty: it is no string.
fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// An object without who wrote which field of it, which of a pod on its way in is often more than half, and nothing to us.
fn without_managed_fields<'de, D: Deserializer<'de>>(object: D) -> Result<Value, D::Error> {
    Without(&["metadata", "managedFields"]).deserialize(object)
}

/// A JSON value but for the member at a path.
struct Without<'p>(&'p [&'p str]);

impl<'de> DeserializeSeed<'de> for Without<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<Value, D::Error> {
        value.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Without<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = match self.0 {
                [first] if *first == name => {
                    members.next_value::<IgnoredAny>()?;
                    continue;
                }
                [first, below @ ..] if *first == name => members.next_value_seed(Without(below))?,
                _ => members.next_value()?,
            };
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Value, A::Error> {
        Value::deserialize(SeqAccessDeserializer::new(items))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_bool<E: de::Error>(self, truth: bool) -> Result<Value, E> {
        Ok(truth.into())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
}

/// Whether this can be a namespace's name; it may become part of a path.
fn is_label(name: &str) -> bool {
    let label = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len()) && name.bytes().all(label)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn review() -> Value {
        json!({
            "apiVersion": API_VERSION, "kind": KIND,
            "request": {
                "uid": "u-1", "operation": "CREATE", "namespace": "shop",
                "kind": {"group": "", "version": "v1", "kind": "Pod"},
                "object": {"metadata": {"generateName": "web-"}, "spec": {"unknownField": 1}},
            },
        })
    }

    /// The review with the value at `pointer` replaced, read again.
    fn with(pointer: &str, value: Value) -> Result<Review, Unreadable> {
        let mut review = review();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        review.pointer_mut(parent).unwrap()[key] = value;
        Review::parse(&serde_json::to_vec(&review).unwrap())
    }

    fn problem(pointer: &str, value: Value) -> &'static str {
        with(pointer, value).unwrap().question.unwrap_err()
    }

    #[test]
    fn reads_a_pod() {
        let review = with("/request/dryRun", json!(true)).unwrap();
        assert_eq!(review.uid, "u-1");
        let Ok(Question::Pod(pod)) = review.question else {
            panic!("{review:?}")
        };
        assert_eq!(
            (pod.namespace.as_str(), pod.name.as_str()),
            ("shop", "web-")
        );
        assert!(pod.dry_run);
        assert_eq!(pod.object["spec"]["unknownField"], 1);
    }

    #[test]
    fn who_wrote_which_field_is_not_read() {
        let mut whole = json!({
            "metadata": {"name": "web", "labels": {"managedFields": "a"}, "managedFields": [{}]},
            "managedFields": 1,
            "spec": {"metadata": {"managedFields": 2}},
        });
        let review = with("/request/object", whole.clone()).unwrap();
        let Ok(Question::Pod(pod)) = review.question else {
            panic!("{review:?}")
        };
        whole["metadata"]
            .as_object_mut()
            .unwrap()
            .remove("managedFields");
        assert_eq!(pod.object, whole);
        let odd = json!({"metadata": ["managedFields"]});
        let review = with("/request/object", odd.clone()).unwrap();
        assert!(matches!(review.question, Ok(Question::Pod(pod)) if pod.object == odd));
    }

    #[test]
    fn other_kinds_and_operations_are_not_for_us() {
        for (pointer, value) in [
            ("/request/operation", "UPDATE"),
            ("/request/kind/kind", "Deployment"),
            ("/request/kind/kind", "Service"),
            ("/request/kind/group", "apps"),
            ("/request/kind/version", "v2"),
            ("/request/subResource", "eviction"),
        ] {
            let review = with(pointer, json!(value)).unwrap();
            assert!(matches!(review.question, Ok(Question::Other)), "{pointer}");
        }
    }

    #[test]
    fn reads_what_makes_pods() {
        for operation in ["CREATE", "UPDATE"] {
            let mut review = review();
            review["request"]["operation"] = json!(operation);
            review["request"]["kind"] =
                json!({"group": "apps", "version": "v1", "kind": "Deployment"});
            let read = |review: &Value| Review::parse(review.to_string().as_bytes()).unwrap();
            assert!(matches!(read(&review).question, Ok(Question::Workload(_))));
            review["request"]["subResource"] = json!("scale");
            assert!(matches!(read(&review).question, Ok(Question::Other)));
        }
    }

    #[test]
    fn with_a_uid_there_is_an_answer_that_says_what_is_wrong() {
        assert_eq!(
            problem("/request/object", json!(null)),
            "the AdmissionReview holds no pod"
        );
        assert_eq!(
            problem("/request/object", json!([1])),
            "the AdmissionReview holds no pod"
        );
        assert_eq!(
            problem("/request/namespace", json!("")),
            "the AdmissionReview names no namespace"
        );
        let wrong = "this is not an AdmissionReview of admission.k8s.io/v1";
        assert_eq!(
            problem("/apiVersion", json!("admission.k8s.io/v1beta1")),
            wrong
        );
        assert_eq!(problem("/kind", json!(7)), wrong);
    }

    #[test]
    fn without_a_uid_there_is_nobody_to_answer() {
        for uid in [
            json!(null),
            json!(""),
            json!(5),
            json!("a b"),
            json!("x".repeat(129)),
        ] {
            assert_eq!(with("/request/uid", uid).unwrap_err(), Unreadable::NoUid);
        }
        for body in ["", "{", "null", "[]", "7", "{\"request\": []}"] {
            assert!(Review::parse(body.as_bytes()).is_err(), "{body}");
        }
        let deep = "[".repeat(100_000);
        let read = ["object", "uid", "userInfo"];
        let inside = read.map(|field| format!(r#"{{"request": {{"{field}": {deep}"#));
        for body in inside.iter().chain([&deep]) {
            let read = Review::parse(body.as_bytes());
            assert!(matches!(read, Err(Unreadable::Json { .. })), "{read:?}");
        }
    }

    #[test]
    fn a_parse_error_repeats_nothing_of_the_body() {
        let error = Review::parse(br#"{"request": {"uid": canary-4711}}"#).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the body is not JSON (line 1, column 21)"
        );
    }
}
