//! What the chart makes in the namespaces of applications: quotas with room for us, and device configs from elsewhere.

use serde_json::json;

use crate::helm::{refusal, render};

#[test]
fn a_quota_has_room_for_what_is_injected() {
    let hard = |values: &str| render(values).the("ResourceQuota")["spec"]["hard"].clone();
    let shop =
        "{namespace: shop, pods: 100, requests: {cpu: '20', memory: 40Gi}, limits: {memory: 60Gi}}";
    assert_eq!(
        hard(&format!("{{resourceQuotas: [{shop}]}}")),
        json!({
            "pods": "100",
            "requests.cpu": "20500m",
            // 40Gi and 100 × 8Mi; 60Gi and 100 × (16Mi + 6Mi).
            "requests.memory": format!("{}Ki", 40 * 1024 * 1024 + 100 * 8 * 1024),
            "limits.memory": format!("{}Ki", 60 * 1024 * 1024 + 100 * 22 * 1024),
        })
    );
    let stated =
        "sidecarResources: {requests: {cpu: 0.01, memory: 10M}, limits: {cpu: 50m, memory: 32Mi}}";
    let quota =
        "{namespace: shop, pods: 10, requests: {memory: 1Gi}, limits: {cpu: '1', memory: 1Gi}}";
    assert_eq!(
        hard(&format!("{{resourceQuotas: [{quota}], {stated}}}")),
        json!({
            "pods": "10",
            // 10M is 9765.625Ki, and a quota that is short by a part of it refuses the last pod.
            "requests.memory": format!("{}Ki", 1024 * 1024 + 10 * 9766),
            "limits.cpu": "1500m",
            "limits.memory": format!("{}Ki", 1024 * 1024 + 10 * 32 * 1024),
        })
    );
    assert_eq!(
        hard("{resourceQuotas: [{namespace: shop, pods: 5}]}"),
        json!({"pods": "5"})
    );
    let message = refusal("{resourceQuotas: [{namespace: shop, pods: 5, limits: {cpu: '1'}}]}");
    assert!(
        message.contains("state sidecarResources.limits.cpu"),
        "{message}"
    );
}

#[test]
fn a_limit_range_lets_the_injected_containers_be_small() {
    let values = "{limitRanges: [{namespace: shop, default: {memory: 256Mi}, max: {memory: 4Gi}}]}";
    let objects = render(values);
    let range = objects.the("LimitRange");
    assert_eq!(range["metadata"]["namespace"], "shop");
    assert_eq!(
        range["spec"]["limits"],
        json!([{
            "type": "Container",
            "min": {"cpu": "5m", "memory": "8Mi"},
            "default": {"memory": "256Mi"},
            "max": {"memory": "4Gi"},
        }])
    );
}

#[test]
fn a_device_config_may_come_from_another_store() {
    let values = "{externalSecrets: [{namespace: shop, name: keeper-auth,
        secretStoreRef: {kind: ClusterSecretStore, name: vault}, remoteRef: {key: shop/keeper}}]}";
    let objects = render(values);
    let secret = objects.the("ExternalSecret");
    assert_eq!(secret["apiVersion"], "external-secrets.io/v1");
    assert_eq!(secret["metadata"]["namespace"], "shop");
    assert_eq!(
        secret["spec"],
        json!({
            "refreshInterval": "1h",
            "secretStoreRef": {"kind": "ClusterSecretStore", "name": "vault"},
            "target": {"name": "keeper-auth"},
            "data": [{"secretKey": "config", "remoteRef": {"key": "shop/keeper"}}],
        })
    );
}
