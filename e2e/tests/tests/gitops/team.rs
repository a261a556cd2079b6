//! A team that has its cluster from Git: what it puts there, and what it expects.

use std::collections::BTreeSet;
use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};

use keeper_e2e::{Namespace, kubectl, node, pods, repository, try_kubectl, until};
use serde_json::{Value, json};

use crate::repository::Repository;
use crate::tool::Tool;

const OWN: &str = "--namespace=keeper-security";
/// Where the application runs, as the pages say.
const ORDERS: &str = "orders";
const HOOKS: [&str; 2] = [
    "mutatingwebhookconfigurations",
    "validatingwebhookconfigurations",
];
/// What an installation consists of, in its namespace and beside namespaces.
const INSTALLED: &str = "deployments,pods,services,secrets,leases,roles,rolebindings,poddisruptionbudgets,serviceaccounts";
const CLUSTER_WIDE: &str = "mutatingwebhookconfigurations,validatingwebhookconfigurations,validatingadmissionpolicies,validatingadmissionpolicybindings,clusterroles,clusterrolebindings";

/// A cluster without the product, and with a namespace for an application: what pods need to call Keeper is in it, as a team would have
/// brought it in by other ways than Git. Afterwards the product is installed again as it was.
pub(crate) struct Team {
    namespace: Option<Namespace>,
    _alone: MutexGuard<'static, ()>,
}

impl Team {
    pub(crate) fn begin() -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": ORDERS}});
        until("the namespace of the test before to go", 120, || {
            let input = namespace.to_string();
            let created = try_kubectl(&["create", "--filename=-"], Some(&input));
            created.success.then_some(())
        });
        // Before the product goes: should something fail, it is installed again.
        let team = Self {
            namespace: Some(Namespace::of_manifest(ORDERS)),
            _alone: alone,
        };
        let uninstall = ["helm", "uninstall", "keeper-injector", OWN, "--wait"];
        let _ = node::try_client(&uninstall);
        let namespace = [
            "delete",
            "namespace",
            "keeper-security",
            "--ignore-not-found",
        ];
        let _ = kubectl(&namespace);
        team.nothing_is_left();
        team
    }

    /// Those that the product has on the node, and certificates that live for seconds.
    pub(crate) fn values() -> Value {
        let usual = repository().join("e2e/cluster/manifests/values.yaml");
        let mut values: Value =
            serde_saphyr::from_str(&fs::read_to_string(usual).unwrap()).unwrap();
        values["tls"] = json!({"auto": {"certificateLifetime": "30s", "caLifetime": "70s"}});
        values["replicaCount"] = json!(2);
        values
    }

    /// An example as it is, and a pod of its own, which is what injection changes.
    pub(crate) fn add_application(&self, git: &Repository, folder: &str) {
        let example = fs::read_to_string(repository().join("examples/deployment.yaml")).unwrap();
        let in_namespace = example.replacen(
            "metadata:\n  name: orders\n",
            &format!("metadata:\n  name: orders\n  namespace: {ORDERS}\n"),
            1,
        );
        assert_ne!(example, in_namespace);
        git.write(&format!("{folder}/deployment.yaml"), &in_namespace);
        let secret = [("secret", "database-credentials")];
        let mut pod = pods::annotated("console", &secret, "exec sleep 86400");
        pod["metadata"]["namespace"] = json!(ORDERS);
        git.write(&format!("{folder}/console.yaml"), &pod.to_string());
    }

    pub(crate) fn until_synced(&self, tool: &mut dyn Tool, commit: &str) {
        until("all to be in sync with the commit", 400, || {
            tool.refresh();
            let is_new = tool.revision().iter().all(|revision| revision == commit);
            let differences = tool.differences();
            if !(is_new && differences.is_empty()) {
                eprintln!("{commit}: {:?} {differences:?}", tool.revision());
                return None;
            }
            Some(())
        });
    }

    /// Pods were injected when they were first made: the webhook was there before them.
    pub(crate) fn everything_works(&self) {
        assert_eq!(self.password(), "first-password");
        let sets = self.namespace().kubectl(&[
            "get",
            "replicasets",
            "--output=name",
            "--selector=app=orders",
        ]);
        assert_eq!(sets.lines().count(), 1, "{sets}");
        let console = self.namespace().get("pod", "console");
        assert!(pods::injected(&console).count() > 0);
    }

    /// Certificates are renewed, their authority is rotated, secrets are refreshed, and the tool has nothing to do or to tell.
    pub(crate) fn stays_in_sync_while_all_changes(&self, tool: &mut dyn Tool) {
        let log = AuditLog::from_now();
        let done = tool.done();
        let mut kept: [BTreeSet<String>; 2] = Default::default();
        let mut passwords = 0;
        until(
            "three certificates, two authorities, two passwords",
            300,
            || {
                tool.refresh();
                assert_eq!(tool.differences(), Vec::<String>::new());
                let paths = [r"{.data.tls\.crt}", r"{.data.ca\.key}"];
                for (seen, path) in kept.iter_mut().zip(paths) {
                    let output = format!("--output=jsonpath={path}");
                    seen.insert(kubectl(&[
                        "get",
                        "secret",
                        "keeper-injector-tls",
                        OWN,
                        &output,
                    ]));
                }
                let password = format!("password-{passwords}");
                if passwords == 0 || self.password() == password {
                    passwords += 1;
                    let field = format!("password=password-{passwords}");
                    self.namespace()
                        .keeper()
                        .set("database-credentials", &[&field]);
                }
                (kept[0].len() >= 3 && kept[1].len() >= 2 && passwords > 2).then_some(())
            },
        );
        assert_eq!(tool.done(), done, "something was corrected");
        let writes = log.writes();
        assert_eq!(written_by_others(&writes), Vec::<String>::new());
        // That says something: the webhook's own write, of another authority, is among them.
        let ours = |event: &&Value| event["objectRef"]["resource"] == HOOKS[0];
        assert!(writes.iter().any(|event| ours(&event)));
    }

    /// An annotation of the application, and a value of the chart.
    pub(crate) fn changes_in_git_arrive(&self, git: &Repository, tool: &mut dyn Tool) {
        let [application, values] = tool.files();
        git.replace(
            application,
            "        keeper.security/refresh-interval: 15s\n",
            "        keeper.security/refresh-interval: 15s\n        keeper.security/secret-login: database-credentials[login]:/keeper/secrets/db-login\n",
        );
        git.replace(values, r#""replicaCount":2"#, r#""replicaCount":3"#);
        let commit = git.push("One more secret, and one more replica");
        self.until_synced(tool, &commit);
        self.namespace()
            .kubectl(&["rollout", "status", "deployment/orders", "--timeout=120s"]);
        assert_eq!(self.read("/keeper/secrets/db-login"), "orders");
        let replicas = "--output=jsonpath={.status.readyReplicas}";
        let replicas = kubectl(&["get", "deployment", "keeper-injector", OWN, replicas]);
        assert_eq!(replicas, "3");
        assert!(self.bundles().iter().all(|bundle| !bundle.is_empty()));
    }

    /// The tool looks, and what it does leaves the webhook's part alone.
    pub(crate) fn what_is_changed_by_hand_is_put_right(&self, tool: &mut dyn Tool) {
        let patch = r#"[{"op": "replace", "path": "/webhooks/0/timeoutSeconds", "value": 29}]"#;
        let object = [HOOKS[0], "keeper-injector"];
        let command = [&["patch"], &object[..], &["--type=json", "--patch", patch]].concat();
        let _ = kubectl(&command);
        until("the configuration to be as in Git", 180, || {
            tool.refresh();
            let path = "--output=jsonpath={.webhooks[0].timeoutSeconds}";
            (kubectl(&[&["get"], &object[..], &[path]].concat()) != "29").then_some(())
        });
        assert!(self.bundles().iter().all(|bundle| !bundle.is_empty()));
        let commit = tool.revision()[0].clone();
        self.until_synced(tool, &commit);
    }

    /// Of the product.
    pub(crate) fn nothing_is_left(&self) {
        until("nothing to be left of the product", 120, || {
            let own = kubectl(&["get", INSTALLED, OWN, "--output=name"]);
            let own = own.lines().filter(|name| *name != "serviceaccount/default");
            let all = kubectl(&["get", CLUSTER_WIDE, "--output=name"]);
            let ours = all.lines().filter(|name| name.contains("keeper"));
            own.chain(ours).next().is_none().then_some(())
        });
    }

    fn namespace(&self) -> &Namespace {
        self.namespace.as_ref().unwrap()
    }

    fn password(&self) -> String {
        self.read("/keeper/secrets/db-password")
    }

    fn read(&self, file: &str) -> String {
        self.namespace()
            .exec("deployment/orders", "app", &["cat", file])
    }

    /// What API servers are told to trust, for each of our configurations.
    fn bundles(&self) -> [String; 2] {
        let path = "--output=jsonpath={.webhooks[0].clientConfig.caBundle}";
        HOOKS.map(|kind| kubectl(&["get", kind, "keeper-injector", path]))
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.namespace = None;
        if std::thread::panicking() {
            // What a tool has made is not a release that helm could upgrade.
            let ours = "--selector=app.kubernetes.io/name=keeper-injector";
            let all = format!("{INSTALLED},{CLUSTER_WIDE}");
            let _ = try_kubectl(&["delete", &all, "--all-namespaces", ours], None);
        }
        let installed = node::install_chart();
        let is_well = installed.success || std::thread::panicking();
        assert!(is_well, "{}", installed.stderr);
    }
}

/// The API server's audit log, from some moment on.
struct AuditLog(usize);

impl AuditLog {
    fn from_now() -> Self {
        Self(text().len())
    }

    /// Requests that wrote something: of our configurations, in our namespace or in the application's.
    fn writes(&self) -> Vec<Value> {
        let text = text();
        let events = text[self.0..].lines().map(serde_json::from_str::<Value>);
        let mut events: Vec<Value> = events.map(Result::unwrap).collect();
        events.retain(is_write);
        events
    }
}

fn text() -> String {
    fs::read_to_string(node::logs().join("audit")).unwrap()
}

fn is_write(event: &Value) -> bool {
    let object = &event["objectRef"];
    let place = object["namespace"].as_str().unwrap_or_default();
    let uri = event["requestURI"].as_str().unwrap_or_default();
    let reads = ["get", "list", "watch"];
    !reads.iter().any(|verb| event["verb"] == *verb)
        && !uri.contains("dryRun=")
        // To read a file in a pod is to make one of these.
        && object["subresource"] != "exec"
        && (object["apiGroup"] == "admissionregistration.k8s.io" || [ORDERS, "keeper-security"].contains(&place))
}

/// By none of Kubernetes' own components, and by no service account: by a tool.
fn written_by_others(writes: &[Value]) -> Vec<String> {
    let is_other = |event: &&Value| {
        let user = event["user"]["username"].as_str().unwrap_or_default();
        !user.starts_with("system:")
    };
    let told = |event: &Value| {
        let [agent, verb, uri] = ["userAgent", "verb", "requestURI"].map(|part| &event[part]);
        format!("{agent} {verb} {uri}")
    };
    writes.iter().filter(is_other).map(told).collect()
}
