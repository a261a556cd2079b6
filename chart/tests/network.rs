//! NetworkPolicies: the ports and peers that are needed, and no others.

use serde_json::{Value, json};

use crate::helm::{Objects, render};

const ALL: &str = "{networkPolicy: {enabled: true, apiServer: {cidrs: [10.0.0.0/28]}, injectedPods: {namespaces: [shop, billing]}}}";

fn policy<'a>(objects: &'a Objects, namespace: &str) -> &'a Value {
    let policies = objects.of("NetworkPolicy");
    let found = policies
        .iter()
        .find(|policy| policy["metadata"]["namespace"] == namespace);
    &found.unwrap()["spec"]
}

fn dns() -> Value {
    json!({
        "to": [{
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
            "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
        }],
        "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}],
    })
}

/// A policy sees packets as they reach the pod: the Service's 443 is no port of it.
#[test]
fn the_webhook_is_reached_on_its_pods_port() {
    let objects = render(ALL);
    let spec = policy(&objects, "keeper-security");
    let deployment = &objects.the("Deployment")["spec"];
    assert_eq!(spec["podSelector"], deployment["selector"]);
    assert_eq!(spec["policyTypes"], json!(["Ingress", "Egress"]));
    let ports = &deployment["template"]["spec"]["containers"][0]["ports"];
    let api_server = json!([{"ipBlock": {"cidr": "10.0.0.0/28"}}]);
    assert_eq!(
        spec["ingress"],
        json!([
            {"ports": [{"port": ports[0]["containerPort"], "protocol": "TCP"}], "from": api_server},
            {
                "ports": [{"port": ports[1]["containerPort"], "protocol": "TCP"}],
                "from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
            },
        ])
    );
    let tcp = |port| json!({"port": port, "protocol": "TCP"});
    assert_eq!(
        spec["egress"],
        json!([{"ports": [tcp(443), tcp(6443)], "to": api_server}, dns()])
    );
}

#[test]
fn injected_pods_reach_names_and_keeper_but_no_private_address() {
    let objects = render(ALL);
    for namespace in ["shop", "billing"] {
        let spec = policy(&objects, namespace);
        assert_eq!(
            spec["podSelector"],
            json!({"matchLabels": {"keeper.security/injected": "true"}})
        );
        assert_eq!(spec["policyTypes"], json!(["Egress"]));
        assert_eq!(spec["egress"][0], dns());
        let keeper = &spec["egress"][1];
        assert_eq!(keeper["ports"], json!([{"port": 443, "protocol": "TCP"}]));
        let text = keeper["to"].to_string();
        for private in [
            "10.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "169.254.0.0/16",
            "fc00::/7",
        ] {
            assert!(text.contains(private), "{text}");
        }
        assert_eq!(spec["egress"].as_array().unwrap().len(), 2);
    }
}

#[test]
fn each_kind_is_asked_for_by_itself() {
    assert!(render("{}").of("NetworkPolicy").is_empty());
    assert_eq!(
        render("{networkPolicy: {enabled: true}}")
            .of("NetworkPolicy")
            .len(),
        1
    );
    let pods = render("{networkPolicy: {injectedPods: {namespaces: [shop]}}}");
    assert_eq!(pods.the("NetworkPolicy")["metadata"]["namespace"], "shop");
    let anywhere = render("{networkPolicy: {enabled: true}, metrics: {enabled: false}}");
    assert_eq!(
        anywhere.the("NetworkPolicy")["spec"]["ingress"],
        json!([{"ports": [{"port": 8443, "protocol": "TCP"}]}])
    );
}
