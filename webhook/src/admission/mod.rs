//! One admission of a pod: from the body of a request to the body of its answer, counted and entered into the audit trail.

mod check;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use keeper_contract::{Decision, Namespace};
use serde_json::Value;

use crate::audit::{Entry, Request, Subject, Trail, annotations, clip};
use crate::metrics::{Metrics, reasons};
use crate::namespaces::Namespaces;
use crate::review::{Answer, EncodedPatch, Outcome, Pod, Question, Review, Unreadable};

/// Decides about a pod in a namespace; none: not ready to.
pub(crate) type Decide = dyn Fn(&Value, Namespace<'_>) -> Option<Decision> + Send + Sync;

/// Answers admission reviews.
pub(crate) struct Admission {
    decide: Box<Decide>,
    namespaces: Namespaces,
    metrics: Metrics,
    trail: Trail,
}

/// Room for a reason in the trail, in bytes.
const REASON: usize = 256;

/// An answer and what the trail says of it.
struct Verdict {
    outcome: Outcome,
    answer: Answer,
    /// Why, in words of ours.
    reason: String,
    /// What was injected, and what the pod will ask for.
    request: Option<Request>,
}

impl Admission {
    pub(crate) fn new(
        decide: Box<Decide>,
        namespaces: Namespaces,
        metrics: Metrics,
        trail: Trail,
    ) -> Self {
        Self {
            decide,
            namespaces,
            metrics,
            trail,
        }
    }

    /// What is counted of requests that never get here.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Answers one review. Whatever happens in here, there is an answer, if there is a UID to answer to. `parent` is the
    /// request's `traceparent`.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) async fn answer(
        &self,
        body: &[u8],
        parent: Option<&str>,
    ) -> Result<Vec<u8>, Unreadable> {
        let started = Instant::now();
        let Review {
            uid,
            asker,
            question,
        } = Review::parse(body)?;
        let (verdict, pod) = match question {
            Ok(Question::Pod(pod)) => (self.pod(&pod).await, Some(pod)),
            Ok(Question::Workload(_) | Question::Other) => {
                (Verdict::skipped("not the creation of a pod"), None)
            }
            Err(problem) => (on_error(400, "BadRequest", problem), None),
        };
        let Verdict {
            outcome,
            answer,
            reason,
            request,
        } = verdict;
        let reason = clip(&reason, REASON);
        let audit = annotations(&uid, outcome.as_str(), &reason, request.as_ref());
        let answer = answer.to_json(&uid, &audit);
        let taken = started.elapsed();
        self.metrics.answered(outcome, taken);
        let subject = pod.as_ref();
        let subject = subject.map(|pod| Subject::of(&pod.namespace, &pod.name, &pod.object));
        let entry = Entry {
            request_id: &uid,
            asker: &asker,
            subject: subject.as_ref(),
            outcome: outcome.as_str(),
            reason: &reason,
            request: request.as_ref(),
            dry_run: pod.is_some_and(|pod| pod.dry_run),
            version: env!("CARGO_PKG_VERSION"),
            duration: format!("{:.2}ms", taken.as_secs_f64() * 1e3),
        };
        self.trail
            .record(&entry, outcome == Outcome::Error, taken, parent);
        Ok(answer)
    }

    async fn pod(&self, pod: &Pod) -> Verdict {
        let settings = match self.namespaces.get(&pod.namespace).await {
            Ok(settings) => settings,
            Err(unknown) => return on_error(503, "ServiceUnavailable", &unknown.to_string()),
        };
        let namespace = Namespace {
            name: &pod.namespace,
            settings: settings.as_deref(),
        };
        let decide = || (self.decide)(&pod.object, namespace);
        let Ok(decision) = catch_unwind(AssertUnwindSafe(decide)) else {
            return on_error(
                500,
                "InternalError",
                "a bug in keeper-injector; its log has more",
            );
        };
        match decision {
            None => on_error(
                503,
                "ServiceUnavailable",
                "the injector is starting and does not know the cluster's version yet; try again",
            ),
            Some(Decision::Skipped(reason)) => Verdict::skipped(&reason.to_string()),
            Some(Decision::Injected(injection)) => {
                match injection.patch.as_json().map(EncodedPatch::new) {
                    Some(Ok(patch)) => Verdict {
                        outcome: Outcome::Injected,
                        answer: Answer::Patched {
                            patch,
                            warnings: injection.warnings,
                        },
                        reason: String::new(),
                        request: Some(Request::new(
                            injection.shape.to_string(),
                            injection.outputs,
                            &injection.asked,
                        )),
                    },
                    None | Some(Err(_)) => {
                        on_error(500, "InternalError", "the patch cannot be written as JSON")
                    }
                }
            }
            Some(Decision::Denied(denial)) => {
                self.metrics.denied(&denial);
                Verdict {
                    outcome: Outcome::Denied,
                    answer: Answer::Refused {
                        code: 422,
                        reason: "Invalid",
                        message: denial.to_string(),
                    },
                    reason: reasons(&denial).join(","),
                    request: None,
                }
            }
        }
    }
}

/// What happens to a pod when we fail: it is refused (fail closed).
///
/// The API server sends us only pods that ask for secrets, and such a pod never starts without them.
/// Whoever wants the opposite sets the configuration's `failurePolicy`, which covers also the case that
/// nobody answers at all.
fn on_error(code: u16, reason: &'static str, message: &str) -> Verdict {
    Verdict {
        outcome: Outcome::Error,
        answer: Answer::Refused {
            code,
            reason,
            message: message.to_owned(),
        },
        reason: message.to_owned(),
        request: None,
    }
}

impl Verdict {
    fn skipped(reason: &str) -> Self {
        Self {
            outcome: Outcome::Skipped,
            answer: Answer::Unchanged,
            reason: reason.to_owned(),
            request: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use keeper_contract::{Denial, Problem, Reason};
    use prometheus::{Registry, TextEncoder};
    use serde_json::json;

    use super::*;

    fn review(object: Value) -> Vec<u8> {
        json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": "u-1", "operation": "CREATE", "namespace": "shop",
                "kind": {"group": "", "version": "v1", "kind": "Pod"}, "object": object,
            },
        })
        .to_string()
        .into_bytes()
    }

    async fn answered(
        decide: impl Fn(&Value, Namespace<'_>) -> Option<Decision> + Send + Sync + 'static,
        body: &[u8],
    ) -> (Value, String) {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry).unwrap();
        let answer = Admission::new(
            Box::new(decide),
            Namespaces::silent(),
            metrics,
            Trail::default(),
        )
        .answer(body, None)
        .await
        .unwrap();
        let text = TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap();
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        (answer["response"].clone(), text)
    }

    #[track_caller]
    fn assert_counted(metrics: &str, line: &str) {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line} is not in\n{metrics}"
        );
    }

    #[tokio::test]
    async fn a_panic_is_an_answer_and_an_error() {
        let (response, metrics) = answered(
            |_, _| panic!("canary-4711"),
            &review(json!({"metadata": {}})),
        )
        .await;
        assert_eq!(response["allowed"], false);
        assert_eq!(response["status"]["code"], 500);
        assert!(!response.to_string().contains("canary"));
        assert_counted(&metrics, "keeper_injector_errors_total 1");
        assert_counted(&metrics, "keeper_injector_requests_total 1");
        assert_counted(
            &metrics,
            "keeper_injector_admissions_total{outcome=\"error\"} 1",
        );
    }

    #[tokio::test]
    async fn a_denial_is_not_an_error_and_counts_its_reasons_once() {
        let problem = |message: &str| Problem {
            annotation: "keeper.security/secret".into(),
            namespace: None,
            reason: Reason::BadValue,
            message: message.into(),
        };
        let problems = vec![problem("first"), problem("second")];
        let denial = Denial { problems };
        let text = denial.to_string();
        let decide = move |_: &Value, _: Namespace<'_>| Some(Decision::Denied(denial.clone()));
        let (response, metrics) = answered(decide, &review(json!({}))).await;
        assert_eq!(response["status"]["message"], text);
        assert_eq!(response["status"]["code"], 422);
        assert_counted(
            &metrics,
            "keeper_injector_denials_total{reason=\"bad_value\"} 1",
        );
        assert_counted(&metrics, "keeper_injector_errors_total 0");
        assert_counted(
            &metrics,
            "keeper_injector_admissions_total{outcome=\"denied\"} 1",
        );
        assert_counted(&metrics, "keeper_injector_latency_seconds_count 1");
    }

    #[tokio::test]
    async fn before_the_version_is_known_a_pod_is_refused() {
        let (response, _) = answered(|_, _| None, &review(json!({}))).await;
        assert_eq!(
            (&response["allowed"], &response["status"]["code"]),
            (&json!(false), &json!(503))
        );
    }

    #[tokio::test]
    async fn what_is_not_asked_for_passes_and_what_is_malformed_does_not() {
        let mut other: Value = serde_json::from_slice(&review(json!({}))).unwrap();
        other["request"]["operation"] = json!("UPDATE");
        let (response, metrics) = answered(|_, _| None, other.to_string().as_bytes()).await;
        assert_eq!(response["allowed"], true);
        assert_counted(
            &metrics,
            "keeper_injector_admissions_total{outcome=\"skipped\"} 1",
        );
        let (response, _) = answered(|_, _| None, &review(json!(null))).await;
        assert_eq!(
            response["status"]["message"],
            "the AdmissionReview holds no pod"
        );
    }
}
