//! Pods behind a proxy, a real squid in the node's network; the client's own tests go further.

use keeper_e2e::{Manner, Namespace, Proxy, pods, until};
use serde_json::{Value, json};

const SECRET: (&str, &str) = ("secret-password", "database-credentials[password]");
const INTERVAL: (&str, &str) = ("refresh-interval", "15s");
const FILE: &str = "/keeper/secrets/password";

/// A pod with the secret, whose application just waits.
fn pod(name: &str, more: &[(&str, &str)]) -> Value {
    let annotations: Vec<_> = [SECRET, INTERVAL].iter().chain(more).copied().collect();
    pods::annotated(name, &annotations, "exec sleep 3600")
}

/// The pod with a resolver that nobody is: no name tells it anything.
fn without_names(mut pod: Value) -> Value {
    pod["spec"]["dnsPolicy"] = json!("None");
    pod["spec"]["dnsConfig"] = json!({"nameservers": ["127.0.0.1"]});
    pod
}

fn logged(namespace: &Namespace, pod: &str, text: &str) {
    until(text, 90, || {
        let logs = namespace.try_kubectl(&["logs", pod, "--container=keeper-sidecar"], None);
        logs.stdout.contains(text).then_some(())
    });
}

fn described(namespace: &Namespace, pod: &str, text: &str) {
    until(text, 120, || {
        let description = namespace.kubectl(&["describe", "pod", pod]);
        description.contains(text).then_some(())
    });
}

/// The proxied pod can't know Keeper's address, and one without the proxy finds nobody. What the chart's `noProxy` names is
/// called without it (`e2e/cluster/manifests/values.yaml`): squid, which doesn't know that name, is not asked.
#[test]
fn keeper_is_reached_through_the_proxy_alone_and_what_is_exempt_without() {
    let namespace = Namespace::new("proxy");
    let proxy = Proxy::start(&namespace, 3131, Manner::Plain);
    let url = proxy.url();
    let keeper = namespace.keeper_host();
    let exempt = format!("{keeper}.cluster.local");
    let config = namespace
        .keeper()
        .run(&["config"])
        .replace(&keeper, &exempt);
    namespace.apply(&json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "exempt"}, "stringData": {"config": config},
    }));
    namespace.apply(&without_names(pod("behind", &[("proxy", &url)])));
    namespace.apply(&without_names(pod("alone", &[])));
    namespace.apply(&pod("exempt", &[("proxy", &url), ("ksm-config", "exempt")]));

    namespace.wait_for("pod/behind", "condition=Ready", 90);
    let password = |pod: &str| namespace.exec(pod, pods::APP, &["cat", FILE]);
    assert_eq!(password("behind"), "first-password");
    namespace
        .keeper()
        .set("database-credentials", &["password=second-password"]);
    until("the new password in the file", 30, || {
        (password("behind") == "second-password").then_some(())
    });
    // Each call is logged when its connection ends, some seconds later.
    let target = format!("CONNECT {keeper}:443");
    until("both calls in squid's log", 30, || {
        let log = proxy.squid().access_log();
        let tunnels = log.lines().filter(|line| line.contains(&target));
        let open = tunnels.filter(|line| line.contains("TCP_TUNNEL/200"));
        (open.count() >= 2).then_some(())
    });

    logged(&namespace, "alone", &format!("cannot connect to {keeper}"));
    let alone = namespace.get("pod", "alone");
    assert!(pods::status(&alone, pods::APP)["containerID"].is_null());

    namespace.wait_for("pod/exempt", "condition=Ready", 90);
    until("the password by the exempt name", 30, || {
        (password("exempt") == "second-password").then_some(())
    });
    let log = proxy.squid().access_log();
    assert!(!log.contains(&exempt), "{log}");
}

/// With its CA from a Secret; `examples/proxy.yaml`, which the examples' test applies, takes it from a ConfigMap.
#[test]
fn a_proxy_that_inspects_tls_needs_its_ca_and_one_that_wants_a_password_is_refused() {
    let namespace = Namespace::new("inspected");
    let map = namespace.get("configmap", "keeper-ca");
    let servers_ca = map["data"]["ca.crt"].as_str().unwrap();
    let inspecting = Proxy::start(&namespace, 3132, Manner::Inspecting { servers_ca });
    let demanding = Proxy::start(&namespace, 3133, Manner::Demanding);
    namespace.apply(&json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "corporate"},
        "stringData": {"root.pem": inspecting.squid().ca()},
    }));
    let url = inspecting.url();
    let through = ("proxy", url.as_str());
    let ca = [("ca-cert-secret", "corporate"), ("ca-cert-key", "root.pem")];
    namespace.apply(&pod("distrustful", &[through]));
    namespace.apply(&pod("trusting", &[through, ca[0], ca[1]]));
    namespace.apply(&pod("refused", &[("proxy", &demanding.url())]));

    namespace.wait_for("pod/trusting", "condition=Ready", 90);
    assert_eq!(
        namespace.exec("trusting", pods::APP, &["cat", FILE]),
        "first-password"
    );
    // Squid has seen inside of the tunnel, but no value.
    until("the call in squid's log", 30, || {
        let log = inspecting.squid().access_log();
        log.contains("/api/rest/sm/v1/get_secret").then_some(())
    });

    let keeper = namespace.keeper_host();
    let untrusted = format!("the certificate of {keeper} is not trusted");
    let cure = "add its CA with ca-cert-secret or ca-cert-configmap";
    let password = format!(
        "the proxy {} demands a user name and password",
        demanding.address()
    );
    logged(&namespace, "distrustful", &untrusted);
    for (pod, text) in [
        ("distrustful", &untrusted[..]),
        ("distrustful", cure),
        ("refused", &password),
    ] {
        described(&namespace, pod, text);
    }
    for name in ["distrustful", "refused"] {
        let pod = namespace.get("pod", name);
        assert!(pods::status(&pod, pods::APP)["containerID"].is_null());
    }
}
