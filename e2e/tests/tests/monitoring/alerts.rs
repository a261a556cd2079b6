//! Things are broken for real until an alert reaches Alertmanager; its runbook is followed; and it ends. Every command of every
//! runbook is run.

use crate::{EMPTY_WHILE_HEALTHY, OFTEN};
use keeper_e2e::{CLIENT, Monitoring, Namespace, kubectl, node, pods, reader, repository, until};
use keeper_walk::{Action, Page, pages};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::BTreeSet;

const DEPLOYMENT: &str = "deployment/keeper-injector";
const OWN: &str = "keeper-security";
const POD: &str = "orders";
/// As in production, but sooner.
const SOON: [&str; 6] = [
    "alerts.rules.KeeperSidecarRefreshFailures.duration=5s",
    "alerts.rules.KeeperSidecarStale.duration=5s",
    "alerts.rules.KeeperSidecarThrottled.duration=5s",
    "alerts.rules.KeeperInjectorDown.duration=5s",
    "alerts.rules.KeeperInjectorAbsent.duration=5s",
    "alerts.rules.KeeperInjectorReplicasLow.duration=5s",
];

#[test]
#[ignore = "takes minutes: `make alerts`"]
fn alerts_fire_their_runbooks_help_and_they_end() {
    let values: Vec<_> = OFTEN.iter().chain(&SOON).copied().collect();
    let watched = Watched {
        monitoring: Monitoring::start(&values),
        followed: RefCell::default(),
    };
    let [outage, withdrawn, crowded] = ["outage", "withdrawn", "crowded"].map(|name| {
        let namespace = Namespace::new(&format!("alerts-{name}"));
        let annotations = [
            ("secret-password", "database-credentials[password]"),
            ("refresh-interval", "15s"),
        ];
        namespace.apply(&pods::annotated(POD, &annotations, "exec sleep 3600"));
        namespace
    });
    for namespace in [&outage, &withdrawn, &crowded] {
        namespace.wait_for(&format!("pod/{POD}"), "condition=Ready", 60);
    }
    let everywhere = r#"up{job="keeper-injector-sidecar"} == 1"#;
    until("the sidecars to be scraped", 60, || {
        (watched.monitoring.query(everywhere).len() >= 3).then_some(())
    });

    reach_nobody(&outage, true);
    withdrawn.keeper().run(&["revoke", CLIENT]);
    crowded.keeper().run(&["fault", "throttled"]);

    watched.fires("KeeperSidecarStale", Some(&withdrawn));
    watched.follow("KeeperSidecarStale", "Diagnosis", &withdrawn);
    watched.fires("KeeperSidecarThrottled", Some(&crowded));
    watched.follow("KeeperSidecarThrottled", "Diagnosis", &crowded);
    crowded.keeper().run(&["fault", "clear"]);
    watched.fires("KeeperSidecarRefreshFailures", Some(&outage));
    watched.follow("KeeperSidecarRefreshFailures", "Diagnosis", &outage);
    for query in EMPTY_WHILE_HEALTHY {
        assert!(!watched.monitoring.query(query).is_empty(), "{query}");
    }
    for namespace in [&outage, &withdrawn] {
        let file = ["cat", "/keeper/secrets/password"];
        assert_eq!(namespace.exec(POD, pods::APP, &file), "first-password");
    }

    reach_nobody(&outage, false);
    withdrawn.keeper().run(&["unrevoke", CLIENT]);
    watched.follow("KeeperSidecarStale", "Cure", &withdrawn);
    watched.ends("KeeperSidecarStale", Some(&withdrawn));

    watched.webhook_alerts(&outage);

    // The longer the outage, the longer the pause before the next try; asking for one does not get around that.
    until("a refresh", 600, || {
        watched
            .monitoring
            .query(&format!(
                "time() - keeper_sidecar_last_success_timestamp_seconds{{namespace=\"{}\"}} < 60",
                outage.name()
            ))
            .pop()
    });
    watched.follow("KeeperSidecarRefreshFailures", "Cure", &outage);
    watched.ends("KeeperSidecarRefreshFailures", Some(&outage));

    // Those that nothing here sets off: promtool does, and their commands work.
    for alert in [
        "KeeperInjectorHighErrorRate",
        "KeeperInjectorElevatedErrorRate",
        "KeeperInjectorLatencyHigh",
        "KeeperInjectorCertificateExpiring",
    ] {
        for part in ["Diagnosis", "Cure"] {
            watched.follow(alert, part, &outage);
        }
    }
    assert_eq!(*watched.followed.borrow(), runbooks());
    scale(2);
}

/// All parts of runbooks that have commands.
fn runbooks() -> BTreeSet<(String, String)> {
    let mut parts = BTreeSet::new();
    for path in pages(repository()).unwrap() {
        if let Some(alert) = path.strip_prefix("docs/runbooks/") {
            let page = Page::read(repository(), &path).unwrap();
            let run = page
                .steps
                .into_iter()
                .filter(|step| matches!(step.action, Action::Run(_)));
            let alert = alert.trim_end_matches(".md");
            parts.extend(run.map(|step| (alert.to_owned(), step.section)));
        }
    }
    parts
}

struct Watched {
    monitoring: Monitoring,
    /// Parts of runbooks: the alert, and the heading.
    followed: RefCell<BTreeSet<(String, String)>>,
}

impl Watched {
    /// A pod that hangs, one that is missing, and none at all.
    fn webhook_alerts(&self, anywhere: &Namespace) {
        let stopped = first_webhook();
        let _ = node::exec(&["kill", "-STOP", &stopped]);
        self.fires("KeeperInjectorDown", Some(OWN));
        self.follow("KeeperInjectorDown", "Diagnosis", anywhere);
        // Its liveness probe would end it, too.
        let _ = node::exec(&["kill", "-KILL", &stopped]);
        self.follow("KeeperInjectorDown", "Cure", anywhere);
        self.ends("KeeperInjectorDown", Some(OWN));

        scale(1);
        self.fires("KeeperInjectorReplicasLow", Some(OWN));
        self.follow("KeeperInjectorReplicasLow", "Diagnosis", anywhere);
        self.follow("KeeperInjectorReplicasLow", "Cure", anywhere);
        self.ends("KeeperInjectorReplicasLow", Some(OWN));

        scale(0);
        self.fires("KeeperInjectorAbsent", None::<&str>);
        self.follow("KeeperInjectorAbsent", "Diagnosis", anywhere);
        self.follow("KeeperInjectorAbsent", "Cure", anywhere);
        self.ends("KeeperInjectorAbsent", None::<&str>);
    }

    fn fires(&self, alert: &str, namespace: Option<impl Name>) {
        let namespace = namespace.as_ref().map(Name::name);
        let found = until(&format!("{alert} in Alertmanager"), 300, || {
            self.monitoring.alert(alert, namespace)
        });
        let runbook = found["annotations"]["runbook_url"].as_str().unwrap();
        assert!(repository().join(runbook).is_file(), "{runbook}");
        assert!(found["annotations"]["summary"].is_string(), "{found}");
        eprintln!("fires: {alert} {}", found["annotations"]["description"]);
    }

    fn ends(&self, alert: &str, namespace: Option<impl Name>) {
        let namespace = namespace.as_ref().map(Name::name);
        until(&format!("the end of {alert}"), 300, || {
            let alert = self.monitoring.alert(alert, namespace);
            alert.is_none().then_some(())
        });
        eprintln!("ended: {alert}");
    }

    /// Runs the commands of a part of a runbook, for the pod of a namespace.
    fn follow(&self, alert: &str, part: &str, namespace: &Namespace) {
        let page = Page::read(repository(), &format!("docs/runbooks/{alert}.md")).unwrap();
        let reader = reader(namespace.name())
            .with_name("NAMESPACE", namespace.name())
            .with_name("POD", POD);
        if let Err(failure) = reader.walk(&page, page.section(part)) {
            panic!("{failure}");
        }
        if page
            .section(part)
            .any(|step| matches!(step.action, Action::Run(_)))
        {
            let part = (alert.to_owned(), part.to_owned());
            self.followed.borrow_mut().insert(part);
        }
    }
}

trait Name {
    fn name(&self) -> &str;
}

impl Name for &Namespace {
    fn name(&self) -> &str {
        Namespace::name(self)
    }
}

impl Name for &str {
    fn name(&self) -> &str {
        self
    }
}

/// Takes the Service's pods away, or gives them back: who calls is refused.
fn reach_nobody(namespace: &Namespace, nobody: bool) {
    let app = if nobody { "nobody" } else { "keeper-sim" };
    let patch = format!(r#"{{"spec": {{"selector": {{"app": "{app}"}}}}}}"#);
    namespace.kubectl(&["patch", "service", "keeper-sim", "--patch", &patch]);
}

fn scale(replicas: u32) {
    let own = format!("--namespace={OWN}");
    let replicas = format!("--replicas={replicas}");
    let _ = kubectl(&["scale", DEPLOYMENT, &own, &replicas]);
    let _ = kubectl(&["rollout", "status", DEPLOYMENT, &own, "--timeout=60s"]);
}

/// The process of a webhook pod, as the node numbers it.
fn first_webhook() -> String {
    let list = kubectl(&[
        "get",
        "pods",
        "--namespace=keeper-security",
        "--selector=app.kubernetes.io/name=keeper-injector",
        "--output=json",
    ]);
    let list: Value = serde_json::from_str(&list).unwrap();
    let id = &list["items"][0]["status"]["containerStatuses"][0]["containerID"];
    node::process_of(id.as_str().unwrap())
}
