//! The check of what makes pods, Deployments and their like: always allowed, with what their pods' admission
//! would say as warnings. Nobody waits for it: whatever goes wrong in here, the object is written.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use keeper_contract::{Namespace, Workload};

use super::Admission;
use crate::audit::annotations;
use crate::review::{Answer, CheckOutcome, Pod, Question, Review, Unreadable};

/// What a check found.
struct Checked {
    outcome: CheckOutcome,
    warnings: Vec<String>,
    /// Why there was none, in words of ours.
    reason: Option<&'static str>,
}

impl Admission {
    /// Answers one review of something that makes pods.
    ///
    /// # Errors
    /// If there is nobody to answer.
    pub(crate) async fn check(&self, body: &[u8]) -> Result<Vec<u8>, Unreadable> {
        let started = Instant::now();
        let Review { uid, question, .. } = Review::parse(body)?;
        let (checked, subject) = match question {
            Ok(Question::Workload(subject)) => (self.workload(&subject).await, Some(subject)),
            Ok(Question::Pod(_) | Question::Other) => {
                (Checked::without("nothing that makes pods"), None)
            }
            Err(problem) => (Checked::failed(problem), None),
        };
        self.metrics.checked(checked.outcome);
        let taken = format!("{:.2}ms", started.elapsed().as_secs_f64() * 1e3);
        log(&uid, subject.as_ref(), &checked, &taken);
        let Checked {
            outcome, warnings, ..
        } = checked;
        let audit = annotations(&uid, outcome.as_str(), "", None);
        Ok(Answer::Allowed { warnings }.to_json(&uid, &audit))
    }

    async fn workload(&self, subject: &Pod) -> Checked {
        let Some(workload) = Workload::of(&subject.object) else {
            return Checked::without("nothing that makes pods");
        };
        let Ok(settings) = self.namespaces.get(&subject.namespace).await else {
            return Checked::failed("what its namespace says is not known");
        };
        let namespace = Namespace {
            name: &subject.namespace,
            settings: settings.as_deref(),
        };
        let advice = || {
            let decision = (self.decide)(&workload.pod(), namespace)?;
            Some(workload.advice(&decision).api_warnings(workload.kind()))
        };
        match catch_unwind(AssertUnwindSafe(advice)) {
            Ok(Some(warnings)) if warnings.is_empty() => Checked {
                outcome: CheckOutcome::Good,
                warnings,
                reason: None,
            },
            Ok(Some(warnings)) => Checked {
                outcome: CheckOutcome::Warned,
                warnings,
                reason: None,
            },
            Ok(None) => Checked::failed("the cluster's version is not known yet"),
            Err(_) => Checked::failed("a bug in keeper-injector"),
        }
    }
}

impl Checked {
    fn without(reason: &'static str) -> Self {
        Self {
            outcome: CheckOutcome::Skipped,
            warnings: Vec::new(),
            reason: Some(reason),
        }
    }

    fn failed(reason: &'static str) -> Self {
        Self {
            outcome: CheckOutcome::Error,
            ..Self::without(reason)
        }
    }
}

fn log(request_id: &str, subject: Option<&Pod>, checked: &Checked, duration: &str) {
    let outcome = checked.outcome.as_str();
    let namespace = subject.map(|subject| subject.namespace.as_str());
    let name = subject.map(|subject| subject.name.as_str());
    let kind = subject.and_then(|subject| Some(Workload::of(&subject.object)?.kind()));
    let reason = checked.reason;
    match checked.outcome {
        CheckOutcome::Error => tracing::warn!(
            request_id,
            namespace,
            kind,
            name,
            reason,
            duration,
            "workload not checked"
        ),
        CheckOutcome::Warned => tracing::info!(
            request_id,
            namespace,
            kind,
            name,
            outcome,
            warnings = checked.warnings.len(),
            duration,
            "workload checked"
        ),
        CheckOutcome::Good | CheckOutcome::Skipped => tracing::debug!(
            request_id,
            namespace,
            kind,
            name,
            outcome,
            reason,
            duration,
            "workload checked"
        ),
    }
}

#[cfg(test)]
mod tests {
    use keeper_contract::{Decision, SkipReason};
    use prometheus::{Registry, TextEncoder};
    use serde_json::{Value, json};

    use super::*;
    use crate::audit::Trail;
    use crate::metrics::Metrics;
    use crate::namespaces::Namespaces;

    async fn checked(
        decide: impl Fn(&Value, Namespace<'_>) -> Option<Decision> + Send + Sync + 'static,
        kind: &str,
        object: &Value,
    ) -> (Value, String) {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry).unwrap();
        let review = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": "u-1", "operation": "UPDATE", "namespace": "shop",
                "kind": {"group": "apps", "version": "v1", "kind": kind}, "object": object,
            },
        });
        let answer = Admission::new(
            Box::new(decide),
            Namespaces::silent(),
            metrics,
            Trail::default(),
        )
        .check(review.to_string().as_bytes())
        .await
        .unwrap();
        let text = TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap();
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        (answer["response"].clone(), text)
    }

    fn not_asked(_: &Value, namespace: Namespace<'_>) -> Option<Decision> {
        assert_eq!(namespace.name, "shop");
        Some(Decision::Skipped(SkipReason::NotAsked))
    }

    #[track_caller]
    fn assert_counted(metrics: &str, outcome: &str) {
        let line = format!("keeper_injector_checks_total{{outcome=\"{outcome}\"}} 1");
        assert!(metrics.contains(&line), "{line} is not in\n{metrics}");
        assert!(metrics.contains("keeper_injector_requests_total 0"));
        assert!(metrics.contains("keeper_injector_errors_total 0"));
    }

    #[tokio::test]
    async fn what_stands_in_the_wrong_place_is_warned_of_and_allowed() {
        let object = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "annotations": {"keeper.security/inject": "true"}},
            "spec": {"template": {"metadata": {}, "spec": {}}},
        });
        let (response, metrics) = checked(not_asked, "Deployment", &object).await;
        assert_eq!(response["allowed"], true);
        assert_eq!(
            response["warnings"],
            json!([
                "keeper.security/inject: not read on the Deployment itself, only on its pods: \
                    move to spec.template.metadata.annotations"
            ])
        );
        assert_eq!(response["auditAnnotations"]["outcome"], "warned");
        assert_counted(&metrics, "warned");
    }

    /// Nobody's Deployment waits for us, or fails for our mistakes.
    #[tokio::test]
    async fn whatever_happens_it_is_allowed_without_a_word() {
        let good = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {}});
        let panics = |_: &Value, _: Namespace<'_>| panic!("canary-4711");
        for (answer, outcome) in [
            (checked(not_asked, "Deployment", &good).await, "good"),
            (checked(panics, "Deployment", &good).await, "error"),
            (checked(|_, _| None, "Deployment", &good).await, "error"),
            (checked(not_asked, "Deployment", &json!([1])).await, "error"),
            (
                checked(not_asked, "Deployment", &json!({})).await,
                "skipped",
            ),
            (checked(not_asked, "Widget", &good).await, "skipped"),
        ] {
            let (response, metrics) = answer;
            assert_eq!(response["allowed"], true, "{outcome}");
            assert_eq!(response.get("warnings"), None, "{outcome}");
            assert_counted(&metrics, outcome);
        }
    }
}
