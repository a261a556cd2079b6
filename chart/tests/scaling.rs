//! Autoscalers: one at most, and then the Deployment states no number.

use serde_json::{Value, json};

use crate::helm::{refusal, render};

const KEDA: &str =
    "{keda: {enabled: true, prometheus: {serverAddress: 'http://prometheus.monitoring.svc:9090'}}}";

#[test]
fn an_autoscaler_looks_at_cpu_memory_and_a_metric_of_the_pods() {
    let objects =
        render("{autoscaling: {enabled: true, podMetric: {name: admissions_per_second}}}");
    let deployment = objects.the("Deployment");
    assert_eq!(deployment["spec"]["replicas"], Value::Null);
    let spec = &objects.the("HorizontalPodAutoscaler")["spec"];
    assert_eq!(spec["scaleTargetRef"]["kind"], "Deployment");
    assert_eq!(
        spec["scaleTargetRef"]["name"],
        deployment["metadata"]["name"]
    );
    assert_eq!(
        (&spec["minReplicas"], &spec["maxReplicas"]),
        (&json!(2), &json!(6))
    );
    let resource = |name, percent| json!({"type": "Resource", "resource": {"name": name, "target": {"type": "Utilization", "averageUtilization": percent}}});
    assert_eq!(
        spec["metrics"],
        json!([
            resource("cpu", 70),
            resource("memory", 80),
            {"type": "Pods", "pods": {"metric": {"name": "admissions_per_second"}, "target": {"type": "AverageValue", "averageValue": "100"}}},
        ])
    );
    assert_eq!(spec["behavior"]["scaleUp"]["stabilizationWindowSeconds"], 0);
    assert_eq!(
        spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"],
        300
    );
    let only_cpu =
        render("{autoscaling: {enabled: true, targetMemoryUtilizationPercentage: null}}");
    let metrics = &only_cpu.the("HorizontalPodAutoscaler")["spec"]["metrics"];
    assert_eq!(metrics, &json!([resource("cpu", 70)]));
}

#[test]
fn keda_asks_prometheus() {
    let objects = render(KEDA);
    let deployment = objects.the("Deployment");
    assert_eq!(deployment["spec"]["replicas"], Value::Null);
    let spec = &objects.the("ScaledObject")["spec"];
    assert_eq!(
        spec["scaleTargetRef"]["name"],
        deployment["metadata"]["name"]
    );
    assert_eq!(
        (&spec["pollingInterval"], &spec["cooldownPeriod"]),
        (&json!(30), &json!(300))
    );
    let trigger = &spec["triggers"][0];
    assert_eq!(trigger["type"], "prometheus");
    let query = trigger["metadata"]["query"].as_str().unwrap();
    assert!(query.contains("histogram_quantile(0.95"), "{query}");
    assert_eq!(trigger["metadata"]["threshold"], "0.1");
    assert_eq!(trigger["authenticationRef"], Value::Null);
}

#[test]
fn without_one_there_is_none() {
    let objects = render("{}");
    assert!(objects.of("HorizontalPodAutoscaler").is_empty());
    assert!(objects.of("ScaledObject").is_empty());
}

#[test]
fn the_budget_follows_the_least_number_of_pods() {
    for (values, budgets) in [
        ("{replicaCount: 1, autoscaling: {enabled: true}}", 1),
        ("{autoscaling: {enabled: true, minReplicas: 1}}", 0),
        (
            &KEDA.replace("enabled: true", "enabled: true, minReplicas: 1"),
            0,
        ),
    ] {
        assert_eq!(
            render(values).of("PodDisruptionBudget").len(),
            budgets,
            "{values}"
        );
    }
}

#[test]
fn what_could_not_scale_is_refused() {
    for (values, told) in [
        (
            "{autoscaling: {enabled: true}, keda: {enabled: true, prometheus: {serverAddress: 'http://p'}}}",
            "autoscaling.enabled and keda.enabled exclude each other",
        ),
        (
            "{keda: {enabled: true}}",
            "keda.enabled needs keda.prometheus.serverAddress",
        ),
        ("{keda: {minReplicas: 0}}", "/keda/minReplicas"),
        (
            "{leaderElection: {trafficToLeaderOnly: true}, autoscaling: {enabled: true}}",
            "autoscaling.enabled is in vain",
        ),
        (
            "{leaderElection: {trafficToLeaderOnly: true}, keda: {enabled: true}}",
            "keda.enabled is in vain",
        ),
        (
            "{autoscaling: {enabled: true, minReplicas: 7}}",
            "autoscaling.maxReplicas is less",
        ),
        (
            "{autoscaling: {enabled: true, targetCPUUtilizationPercentage: null, targetMemoryUtilizationPercentage: null}}",
            "needs something to scale by",
        ),
        (
            "{autoscaling: {enabled: true}, resources: {requests: {cpu: null}}}",
            "autoscaling by cpu needs resources.requests.cpu",
        ),
    ] {
        let message = refusal(values);
        assert!(message.contains(told), "{values}\n{message}");
    }
}
