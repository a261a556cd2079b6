//! The webhook's replicas, and a load of admissions on them. Who takes replicas away takes them from everybody: such tests
//! stand in programs of their own, and run one at a time.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use keeper_load::{Load, Plan};
use serde_json::{Value, json};

use crate::namespace::{kubectl, try_kubectl};
use crate::poll::until;
use crate::{Namespace, node, pods};

/// The namespace that the webhook runs in, as an argument of kubectl.
pub const OWN: &str = "--namespace=keeper-security";
const DEPLOYMENT: &str = "deployment/keeper-injector";
const SELECTOR: &str = "--selector=app.kubernetes.io/name=keeper-injector";

/// The webhook, held by one test at a time; as many replicas as before when the test is over.
#[derive(Debug)]
pub struct Webhook {
    _alone: MutexGuard<'static, ()>,
    replicas: u64,
}

/// One replica's pod.
#[derive(Debug, Clone)]
pub struct Replica(Value);

impl Webhook {
    /// Waits until no other test has it.
    ///
    /// # Panics
    /// If it isn't installed.
    #[must_use]
    pub fn take() -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let replicas = kubectl(&["get", DEPLOYMENT, OWN, "--output=jsonpath={.spec.replicas}"]);
        Self {
            _alone: alone,
            replicas: replicas.parse().expect("a number"),
        }
    }

    /// Another number of replicas, all of them ready.
    pub fn scale(&self, replicas: u64) {
        let _ = kubectl(&["scale", DEPLOYMENT, OWN, &format!("--replicas={replicas}")]);
        self.settle(replicas);
    }

    /// New pods in place of all there are.
    pub fn roll_out(&self) {
        let before = self.replicas().len() as u64;
        self.start_roll_out();
        let _ = kubectl(&["rollout", "status", DEPLOYMENT, OWN, "--timeout=120s"]);
        self.settle(before);
    }

    /// The beginning of that.
    pub fn start_roll_out(&self) {
        let _ = kubectl(&["rollout", "restart", DEPLOYMENT, OWN]);
    }

    /// Waits until there are so many replicas, all ready, and no other is left.
    pub fn settle(&self, replicas: u64) {
        until(
            "all replicas to be ready and the rest to be gone",
            180,
            || {
                let pods = self.replicas();
                let ready = pods.iter().filter(|pod| pod.is_ready()).count() as u64;
                (ready == replicas && pods.len() as u64 == replicas).then_some(())
            },
        );
    }

    /// All there are, those that are about to end too.
    #[must_use]
    pub fn replicas(&self) -> Vec<Replica> {
        Self::all()
    }

    /// The same, for somebody who only looks.
    ///
    /// # Panics
    /// If kubectl fails.
    #[must_use]
    pub fn all() -> Vec<Replica> {
        let list = kubectl(&["get", "pods", OWN, SELECTOR, "--output=json"]);
        let list: Value = serde_json::from_str(&list).expect("kubectl writes JSON");
        let items = list["items"].as_array().expect("a list").clone();
        items.into_iter().map(Replica).collect()
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for arguments in [
                &["get", "pods", OWN, "--output=wide"][..],
                &["get", "events", OWN, "--sort-by=.lastTimestamp"],
                &["logs", DEPLOYMENT, OWN, "--all-pods", "--tail=40"],
            ] {
                let said = try_kubectl(arguments, None);
                eprintln!("{}{}", said.stdout, said.stderr);
            }
            let replicas = format!("--replicas={}", self.replicas);
            let _ = try_kubectl(&["scale", DEPLOYMENT, OWN, &replicas], None);
            let status = ["rollout", "status", DEPLOYMENT, OWN, "--timeout=60s"];
            let _ = try_kubectl(&status, None);
        } else {
            self.scale(self.replicas);
        }
    }
}

impl Replica {
    /// The pod's name.
    ///
    /// # Panics
    /// If it has none.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0["metadata"]["name"].as_str().expect("a name")
    }

    /// Its address, once it has one.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.0["status"]["podIP"].as_str()?.parse().ok()
    }

    /// Whether it is meant to be asked.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let conditions = self.0["status"]["conditions"].as_array();
        self.0["metadata"]["deletionTimestamp"].is_null()
            && conditions
                .into_iter()
                .flatten()
                .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
    }

    /// How often its process was started again.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.0["status"]["containerStatuses"][0]["restartCount"]
            .as_u64()
            .unwrap_or_default()
    }

    /// Sends a signal to its process, such as `KILL`. False: there is none, or no more.
    ///
    /// # Panics
    /// If it can't be looked up.
    #[must_use]
    pub fn signal(&self, signal: &str) -> bool {
        let id = self.0["status"]["containerStatuses"][0]["containerID"].as_str();
        let Some(process) = id.and_then(node::try_process_of) else {
            return false;
        };
        node::try_exec(&["kill", &format!("-{signal}"), &process]).success
    }

    /// Asks the API server for its end, as a drain of its node does; whether the disruption budget lets it go.
    #[must_use]
    pub fn evict(&self) -> bool {
        let (name, namespace) = (self.name(), "keeper-security");
        let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": namespace}});
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/eviction");
        let arguments = ["create", "--raw", &path, "--filename=-"];
        try_kubectl(&arguments, Some(&eviction.to_string())).success
    }
}

/// Starts a load of so many admissions a second; one pod in `plain_each` is plain (0: none), the rest ask for injection.
///
/// # Panics
/// If there is no node.
#[must_use]
pub fn load(namespace: &Namespace, rate: u32, plain_each: u64) -> Load {
    let config = kubectl(&["config", "view", "--raw", "--output=json"]);
    let config: Value = serde_json::from_str(&config).expect("kubectl writes JSON");
    let text = |value: &Value| {
        value
            .as_str()
            .expect("the kubeconfig is complete")
            .to_owned()
    };
    let (server, token) = (
        text(&config["clusters"][0]["cluster"]["server"]),
        text(&config["users"][0]["user"]["token"]),
    );
    let generated = |mut pod: Value| {
        pod["metadata"] =
            json!({"generateName": "load-", "annotations": pod["metadata"]["annotations"]});
        pod
    };
    let secret = [("secret", "database-credentials")];
    Load::start(
        keeper_load::Node {
            network: &node::network(),
            server: &server,
            token: &token,
        },
        Plan {
            namespace: namespace.name().to_owned(),
            rate,
            plain_each,
            annotated: generated(pods::annotated("", &secret, "true")),
            plain: generated(pods::plain("", "true")),
        },
    )
}
