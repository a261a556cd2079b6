//! Flux: its source-controller, kustomize-controller and helm-controller; and what they say of their objects.

use keeper_e2e::{try_kubectl, until};
use serde_json::{Value, json};

use crate::controllers::{Controllers, Kinds, folder_of, kubectl};
use crate::repository::{Block, Repository, blocks};
use crate::tool::Tool;

const PAGE: &str = "docs/flux.md";
const OWN: &str = "--namespace=flux-system";
/// In the order in which one takes up what the one before has.
const OBJECTS: [(&str, &str); 5] = [
    ("gitrepository", "fleet"),
    ("kustomization", "infrastructure"),
    ("helmchart", "flux-system-keeper-injector"),
    ("helmrelease", "keeper-injector"),
    ("kustomization", "apps"),
];
const ARTIFACTS: &str = "127.0.0.1:9391";

pub(crate) struct Flux {
    controllers: Controllers,
    _kinds: Kinds,
    blocks: Vec<Block>,
    refreshes: u32,
}

impl Flux {
    /// Without anything to sync.
    pub(crate) fn start() -> Self {
        let programs = [
            "source-controller",
            "kustomize-controller",
            "helm-controller",
        ];
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "flux-system"}});
        let _ = try_kubectl(&["apply", "--filename=-"], Some(&namespace.to_string()))
            .expect_success("a namespace");
        let kinds = Kinds::install(&programs.map(folder_of));
        let mut controllers = Controllers::new();
        let dir = controllers.dir().display().to_string();
        for (i, program) in programs.into_iter().enumerate() {
            let variables = [
                "RUNTIME_NAMESPACE=flux-system".to_owned(),
                format!("TMPDIR={dir}"),
            ];
            let metrics = format!("--metrics-addr=127.0.0.1:{}", 9392 + 2 * i);
            let health = format!("--health-addr=127.0.0.1:{}", 9393 + 2 * i);
            let storage = format!("--storage-path={dir}");
            let address = format!("--storage-addr={ARTIFACTS}");
            let advertised = format!("--storage-adv-addr={ARTIFACTS}");
            let mut command = vec![program, &metrics, &health, "--requeue-dependency=2s"];
            if program == "source-controller" {
                command.extend([storage.as_str(), &address, &advertised]);
            }
            controllers.start(program, &variables, &command);
        }
        controllers.wait_for(ARTIFACTS);
        Self {
            controllers,
            _kinds: kinds,
            blocks: blocks(PAGE),
            refreshes: 0,
        }
    }

    /// What the page has in Git, with these values beside its own.
    pub(crate) fn add_to(&self, repository: &Repository, values: &Value) {
        let [_, place] = self.files();
        let release = self.blocks.iter().find(|block| block.place == place);
        let mut release: Value = serde_saphyr::from_str(&release.unwrap().text).unwrap();
        json_patch::merge(&mut release["spec"]["values"], values);
        // JSON is YAML.
        repository.write(place, &release.to_string());
    }

    /// What the page applies by hand: from then on it syncs.
    pub(crate) fn begin(&self) {
        let mut by_hand = self.blocks.iter();
        let by_hand = by_hand
            .find(|block| block.place == "kubectl apply")
            .unwrap();
        let apply = ["apply", "--filename=-"];
        let _ = try_kubectl(&apply, Some(&by_hand.text)).expect_success(PAGE);
    }

    fn object(kind: &str, name: &str) -> Value {
        let told = try_kubectl(&["get", kind, name, OWN, "--output=json"], None).stdout;
        serde_json::from_str(&told).unwrap_or_default()
    }
}

impl Tool for Flux {
    fn refresh(&mut self) {
        self.refreshes += 1;
        let request = self.refreshes.to_string();
        for (kind, name) in OBJECTS {
            let annotation = format!("reconcile.fluxcd.io/requestedAt={request}");
            let annotate = ["annotate", kind, name, OWN, "--overwrite", &annotation];
            if !try_kubectl(&annotate, None).success {
                // What makes it is not that far yet.
                continue;
            }
            until(&format!("Flux to look at {kind}/{name}"), 240, || {
                self.controllers.must_run();
                let object = Self::object(kind, name);
                let handled = &object["status"]["lastHandledReconcileAt"];
                // What waits for something else says so instead.
                (handled == request.as_str() || ready(&object) == Some(false)).then_some(())
            });
        }
    }

    fn differences(&self) -> Vec<String> {
        let difference = |(kind, name): (&str, &str)| {
            let object = Self::object(kind, name);
            let conditions = object["status"]["conditions"].as_array().cloned();
            let conditions = conditions.unwrap_or_default();
            let is_ready = conditions
                .iter()
                .any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
            let is_seen =
                object["status"]["observedGeneration"] == object["metadata"]["generation"];
            (!(is_ready && is_seen)).then(|| format!("{kind}/{name}: {}", json!(conditions)))
        };
        OBJECTS.into_iter().filter_map(difference).collect()
    }

    fn revision(&self) -> Vec<String> {
        let revision = |(kind, name): (&str, &str)| {
            let status = &Self::object(kind, name)["status"];
            let of = [
                &status["lastAppliedRevision"],
                &status["artifact"]["revision"],
            ];
            let revision = of.into_iter().find_map(Value::as_str)?;
            // main@sha1:…
            revision.rsplit(':').next().map(str::to_owned)
        };
        let with_revision = OBJECTS.into_iter();
        let with_revision = with_revision.filter(|(kind, _)| !kind.starts_with("helm"));
        with_revision
            .map(|object| revision(object).unwrap_or_default())
            .collect()
    }

    fn done(&self) -> Value {
        let release = Self::object("helmrelease", "keeper-injector");
        let corrected = "--field-selector=reason=DriftCorrected";
        let corrections = keeper_e2e::kubectl(&["get", "events", OWN, corrected, "--output=name"]);
        json!([release["status"]["history"][0]["version"], corrections])
    }

    fn files(&self) -> [&'static str; 2] {
        [
            "apps/deployment.yaml",
            "infrastructure/keeper-injector.yaml",
        ]
    }

    fn end(&mut self) {
        for name in ["apps", "infrastructure"] {
            kubectl(&["delete", "kustomization", name, OWN, "--timeout=180s"]);
        }
        until("Flux to uninstall the chart", 180, || {
            self.controllers.must_run();
            let left = try_kubectl(&["get", "helmreleases", OWN, "--output=name"], None);
            left.stdout.is_empty().then_some(())
        });
    }
}

/// What the condition Ready says, if it is known.
fn ready(object: &Value) -> Option<bool> {
    let mut conditions = object["status"]["conditions"].as_array()?.iter();
    let ready = conditions.find(|condition| condition["type"] == "Ready")?;
    match ready["status"].as_str()? {
        "True" => Some(true),
        "False" => Some(false),
        _ => None,
    }
}

impl Drop for Flux {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (kind, name) in OBJECTS {
                eprintln!("{kind}/{name}: {}", Self::object(kind, name)["status"]);
            }
        }
        for (kind, name) in OBJECTS {
            let patch = r#"--patch={"metadata": {"finalizers": null}}"#;
            let _ = try_kubectl(&["patch", kind, name, OWN, "--type=merge", patch], None);
        }
        let _ = try_kubectl(
            &["delete", "namespace", "flux-system", "--wait=false"],
            None,
        );
    }
}
