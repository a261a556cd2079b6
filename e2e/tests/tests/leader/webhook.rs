//! The webhook's replicas, as a test takes them.

use keeper_e2e::{kubectl, node, repository, try_kubectl, until};
use serde_json::Value;

const RELEASE: &str = "keeper-injector";
const OWN: &str = "--namespace=keeper-security";

/// The webhook, with two replicas and a quick election, as it was when the test is over.
pub(crate) struct Webhook {
    revision: String,
}

impl Webhook {
    pub(crate) fn with(values: &[&str]) -> Self {
        let status = node::client(&["helm", "status", RELEASE, OWN, "--output=json"]);
        let webhook = Self {
            revision: parsed(&status)["version"].to_string(),
        };
        let chart = repository().join("chart/keeper-injector");
        let chart = chart.to_str().unwrap();
        let mut set = vec![
            "replicaCount=2",
            "leaderElection.leaseDurationSeconds=5",
            "leaderElection.renewDeadlineSeconds=3",
            "leaderElection.retryPeriodSeconds=1",
        ];
        set.extend(values);
        let set = format!("--set={}", set.join(","));
        let _ = node::client(&[
            "helm",
            "upgrade",
            RELEASE,
            chart,
            OWN,
            "--reset-then-reuse-values",
            &set,
            "--wait",
            "--timeout=3m",
        ]);
        webhook.settled();
        webhook
    }

    /// Waits until there are just two replicas, both ready.
    pub(crate) fn settled(&self) {
        until("two replicas", 90, || {
            let pods = pods();
            (pods.len() == 2 && pods.iter().all(ready)).then_some(())
        });
    }

    /// The replica that holds the Lease.
    pub(crate) fn leader(&self) -> Replica {
        until("a leader", 60, holder)
    }

    /// Waits until a replica that runs holds the Lease, and it isn't that one. All the while at most one says that it leads.
    pub(crate) fn another_leader(&self, than: &Replica, seconds: u64) -> Replica {
        until("another leader", seconds, || {
            let leading = self.leading();
            assert!(leading.len() <= 1, "two lead: {leading:?}");
            holder()
                .filter(|holder| holder.identity != than.identity && leading.contains(&holder.pod))
        })
    }

    pub(crate) fn delete(&self, replica: &Replica) {
        let _ = kubectl(&["delete", "pod", &replica.pod, OWN, "--wait=false"]);
    }

    /// The pods that say by their metrics that they lead. (One that is stopped says nothing.)
    pub(crate) fn leading(&self) -> Vec<String> {
        let names = pods().iter().map(name).collect::<Vec<_>>();
        names
            .into_iter()
            .filter(|pod| {
                let path =
                    format!("/api/v1/namespaces/keeper-security/pods/{pod}:9090/proxy/metrics");
                let metrics = try_kubectl(&["get", "--raw", &path, "--request-timeout=2s"], None);
                metrics.stdout.contains("\nkeeper_injector_leader 1\n")
            })
            .collect()
    }

    /// The addresses that the Service leads to.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        let slices = kubectl(&[
            "get",
            "endpointslices",
            OWN,
            "--selector=kubernetes.io/service-name=keeper-injector-webhook",
            "--output=json",
        ]);
        let slices = parsed(&slices);
        let slices = slices["items"].as_array().unwrap();
        let endpoints = slices
            .iter()
            .flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten());
        endpoints
            .filter(|endpoint| endpoint["conditions"]["ready"] == true)
            .map(|endpoint| endpoint["addresses"][0].as_str().unwrap().to_owned())
            .collect()
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for pod in pods() {
                let name = name(&pod);
                let logs = try_kubectl(&["logs", &name, OWN, "--tail=40"], None);
                eprintln!("{name}\n{}{}", logs.stdout, logs.stderr);
            }
        }
        let rollback = [
            "helm",
            "rollback",
            RELEASE,
            &self.revision,
            OWN,
            "--wait",
            "--timeout=3m",
        ];
        let _ = node::client(&rollback);
    }
}

/// One replica, while it held the Lease.
#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) pod: String,
    pub(crate) identity: String,
}

impl Replica {
    /// The node's number of its process.
    pub(crate) fn process(&self) -> String {
        let id = "--output=jsonpath={.status.containerStatuses[0].containerID}";
        node::process_of(&kubectl(&["get", "pod", &self.pod, OWN, id]))
    }

    pub(crate) fn address(&self) -> String {
        let address = "--output=jsonpath={.status.podIP}";
        kubectl(&["get", "pod", &self.pod, OWN, address])
    }

    pub(crate) fn logs(&self) -> String {
        kubectl(&["logs", &self.pod, OWN])
    }
}

fn holder() -> Option<Replica> {
    let identity = "--output=jsonpath={.spec.holderIdentity}";
    let identity = kubectl(&["get", "lease", RELEASE, OWN, identity]);
    let (pod, _) = identity.split_once('_')?;
    let lives = pods().iter().any(|other| name(other) == pod);
    lives.then(|| Replica {
        pod: pod.to_owned(),
        identity: identity.clone(),
    })
}

fn pods() -> Vec<Value> {
    let selector = "--selector=app.kubernetes.io/name=keeper-injector";
    let list = parsed(&kubectl(&["get", "pods", OWN, selector, "--output=json"]));
    list["items"].as_array().unwrap().clone()
}

fn name(pod: &Value) -> String {
    pod["metadata"]["name"].as_str().unwrap().to_owned()
}

fn ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn parsed(json: &str) -> Value {
    serde_json::from_str(json).unwrap()
}
