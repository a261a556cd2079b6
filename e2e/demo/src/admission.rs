//! The API server's part: an AdmissionReview over TLS, and what comes back.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use json_patch::Patch;
use reqwest::{Certificate, Client};
use serde_json::{Value, json};

/// Namespace of the demo's pod.
pub(crate) const NAMESPACE: &str = "shop";

/// Sends pods to a webhook as an API server does.
pub(crate) struct ApiServer {
    client: Client,
    url: String,
}

/// What the webhook answered.
pub(crate) enum Answer {
    /// The pod is admitted, changed by this patch (which may be empty).
    Allowed { patch: Patch, warnings: Vec<String> },
    /// The pod is refused, with this message.
    Denied(String),
}

impl ApiServer {
    /// `ca` is what the webhook configuration's `caBundle` would hold.
    pub(crate) fn trusting(ca: &str, address: &str) -> anyhow::Result<Self> {
        let client = Client::builder()
            .tls_certs_only([Certificate::from_pem(ca.as_bytes())?])
            .https_only(true)
            .no_proxy()
            .timeout(Duration::from_secs(10))
            .build()?;
        Ok(Self {
            client,
            url: format!("https://{address}/mutate"),
        })
    }

    /// One admission of `pod`.
    pub(crate) async fn admit(&self, uid: &str, pod: &Value) -> anyhow::Result<Answer> {
        let answer = self
            .client
            .post(&self.url)
            .header("content-type", "application/json")
            .body(review(uid, pod).to_string())
            .send()
            .await?
            .error_for_status()?
            .text()
            .await?;
        read(uid, &serde_json::from_str(&answer)?)
    }
}

/// The pod that a workload's controller would make of its template.
pub(crate) fn pod_of(workload: &Value) -> anyhow::Result<Value> {
    let template = workload
        .pointer("/spec/template")
        .context("the example has no pod template")?;
    let name = workload
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .context("the example has no name")?;
    let mut metadata = template.get("metadata").cloned().unwrap_or(json!({}));
    // A pod of a ReplicaSet has neither name nor UID when it is admitted.
    if let Some(metadata) = metadata.as_object_mut() {
        metadata.insert("generateName".to_owned(), json!(format!("{name}-5d8f-")));
        metadata.insert("namespace".to_owned(), json!(NAMESPACE));
    }
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": template.get("spec"),
    }))
}

fn review(uid: &str, pod: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": uid,
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "requestKind": {"group": "", "version": "v1", "kind": "Pod"},
            "requestResource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": NAMESPACE,
            "operation": "CREATE",
            "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller"},
            "object": pod,
            "oldObject": null,
            "dryRun": false,
            "options": {"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions"},
        },
    })
}

fn read(uid: &str, review: &Value) -> anyhow::Result<Answer> {
    let response = review
        .get("response")
        .context("no response in the answer")?;
    ensure!(
        response.get("uid").and_then(Value::as_str) == Some(uid),
        "the answer is to another request"
    );
    if response.get("allowed").and_then(Value::as_bool) != Some(true) {
        let message = response
            .pointer("/status/message")
            .and_then(Value::as_str)
            .context("a denial without a message")?;
        return Ok(Answer::Denied(message.to_owned()));
    }
    let patch = match response.get("patch").and_then(Value::as_str) {
        None => Patch::default(),
        Some(encoded) => serde_json::from_slice(&STANDARD.decode(encoded)?)?,
    };
    let warnings = response.get("warnings").and_then(Value::as_array);
    Ok(Answer::Allowed {
        patch,
        warnings: warnings
            .into_iter()
            .flatten()
            .filter_map(|warning| Some(warning.as_str()?.to_owned()))
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_becomes_a_pod_as_a_controller_would_make_it() {
        let pod = pod_of(&json!({
            "metadata": {"name": "orders"},
            "spec": {"template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": []}}},
        }));
        assert_eq!(
            pod.unwrap(),
            json!({
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "generateName": "orders-5d8f-",
                    "namespace": NAMESPACE,
                    "labels": {"a": "b"},
                },
                "spec": {"containers": []},
            })
        );
    }

    #[test]
    fn an_answer_to_another_request_is_refused() {
        let answer = json!({"response": {"uid": "2", "allowed": true}});
        assert!(read("1", &answer).is_err());
        assert!(
            matches!(read("2", &answer), Ok(Answer::Allowed { patch, .. }) if patch.0.is_empty())
        );
    }

    #[test]
    fn a_denial_without_a_message_is_an_error() {
        let denial =
            |status: Value| json!({"response": {"uid": "1", "allowed": false, "status": status}});
        assert!(read("1", &denial(json!({}))).is_err());
        let answer = read("1", &denial(json!({"message": "no"})));
        assert!(matches!(answer, Ok(Answer::Denied(message)) if message == "no"));
    }
}
