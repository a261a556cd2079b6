//! Argo CD: its application controller and its repo server, with a redis of Debian's; and what it says of its Applications.

use keeper_e2e::{try_kubectl, until};
use serde_json::{Value, json};

use crate::controllers::{Controllers, Kinds, folder_of, kubectl};
use crate::repository::{Block, Repository, blocks};
use crate::tool::Tool;

const PAGE: &str = "docs/argo-cd.md";
const OWN: &str = "--namespace=argocd";
const APPLICATIONS: [&str; 3] = ["fleet", "keeper-injector", "orders"];
const REDIS: &str = "127.0.0.1:9379";
const REPO_SERVER: &str = "127.0.0.1:9381";

pub(crate) struct ArgoCd {
    controllers: Controllers,
    _kinds: Kinds,
    blocks: Vec<Block>,
}

impl ArgoCd {
    /// As its own manifests configure it, and with what the page adds; without Applications.
    pub(crate) fn start() -> Self {
        let kinds = Kinds::install(&[folder_of("argocd")]);
        let blocks = blocks(PAGE);
        let argo = Self {
            controllers: Controllers::new(),
            _kinds: kinds,
            blocks,
        };
        argo.configure();
        argo.run()
    }

    /// What the page has in Git, and these values.
    pub(crate) fn add_to(&self, repository: &Repository, values: &Value) {
        let [_, file] = self.files();
        // JSON is YAML.
        repository.write(file, &values.to_string());
        for block in &self.blocks {
            if block.place.starts_with("argo-cd/") {
                repository.write(&block.place, &block.text);
            }
        }
    }

    /// What the page applies by hand: from then on it syncs.
    pub(crate) fn begin(&self) {
        let apply = ["apply", "--filename=-"];
        let fleet = self.block("kubectl apply");
        let _ = try_kubectl(&apply, Some(fleet)).expect_success("the Application fleet");
    }

    /// Writes into Git the other way of applying and comparing that the page shows.
    pub(crate) fn go_server_side(&self, repository: &Repository) {
        let place = "argo-cd/keeper-injector.yaml";
        let parse = |text| serde_saphyr::from_str::<Value>(text).unwrap();
        let mut application = parse(self.block(place));
        let fragment = parse(self.block("part of argo-cd/keeper-injector.yaml"));
        json_patch::merge(&mut application, &fragment);
        repository.write(place, &application.to_string());
    }

    fn block(&self, place: &str) -> &str {
        let found = self.blocks.iter().find(|block| block.place == place);
        &found.unwrap_or_else(|| panic!("{PAGE}: {place}")).text
    }

    fn configure(&self) {
        let labels = json!({"app.kubernetes.io/part-of": "argocd"});
        let object = |kind: &str, name: &str| json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "argocd", "labels": labels}});
        let project = json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "AppProject",
            "metadata": {"name": "default", "namespace": "argocd"},
            "spec": {
                "sourceRepos": ["*"],
                "destinations": [{"namespace": "*", "server": "*"}],
                "clusterResourceWhitelist": [{"group": "*", "kind": "*"}],
            },
        });
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "argocd"}});
        let config = object("ConfigMap", "argocd-cm");
        let mut secret = object("Secret", "argocd-secret");
        // With which the server, who isn't there, would sign its sessions.
        secret["stringData"] = json!({"server.secretkey": "nobody logs in"});
        for object in [namespace, config, secret, project] {
            let _ = try_kubectl(&["apply", "--filename=-"], Some(&object.to_string()))
                .expect_success("what Argo CD's manifests make");
        }
        let patch = self.block("kubectl patch configmap argocd-cm");
        let merge = ["patch", "configmap", "argocd-cm", OWN, "--type=merge"];
        kubectl(&[&merge[..], &["--patch", patch]].concat());
    }

    fn run(mut self) -> Self {
        let program = format!("{}/argocd", folder_of("argocd"));
        let dir = self.controllers.dir().display().to_string();
        let variables = |component: &str| {
            [
                format!("ARGOCD_BINARY_NAME={component}"),
                // Its cluster is that of the kubeconfig.
                "ARGOCD_FAKE_IN_CLUSTER=true".to_owned(),
                "ARGOCD_GPG_ENABLED=false".to_owned(),
                format!("ARGOCD_TLS_DATA_PATH={dir}"),
                format!("ARGOCD_SSH_DATA_PATH={dir}"),
                format!("ARGOCD_PLUGINSOCKFILEPATH={dir}"),
                format!("TMPDIR={dir}"),
            ]
        };
        let (host, port) = REDIS.split_once(':').unwrap();
        let redis = ["redis-server", "--bind", host, "--port", port, "--save", ""];
        self.controllers.start("redis", &[], &redis);
        self.controllers.wait_for(REDIS);
        let (host, port) = REPO_SERVER.split_once(':').unwrap();
        let common = [program.as_str(), "--logformat=text", "--redis", REDIS];
        let own = [
            "--address",
            host,
            "--port",
            port,
            "--metrics-address",
            host,
            "--metrics-port=9384",
        ];
        let variables_of = variables("argocd-repo-server");
        let command = [&common[..], &own].concat();
        self.controllers
            .start("repo-server", &variables_of, &command);
        self.controllers.wait_for(REPO_SERVER);
        let own = [
            OWN,
            "--repo-server",
            REPO_SERVER,
            "--metrics-port=9383",
            "--app-resync=10",
            "--app-resync-jitter=0",
        ];
        let variables_of = variables("argocd-application-controller");
        let command = [&common[..], &own].concat();
        self.controllers
            .start("application-controller", &variables_of, &command);
        self
    }

    fn application(name: &str) -> Value {
        let get = ["get", "application", name, OWN, "--output=json"];
        let told = try_kubectl(&get, None).stdout;
        serde_json::from_str(&told).unwrap_or_default()
    }
}

impl Tool for ArgoCd {
    fn refresh(&mut self) {
        self.controllers.must_run();
        let all = ["annotate", "applications", OWN, "--all", "--overwrite"];
        kubectl(&[&all[..], &["argocd.argoproj.io/refresh=hard"]].concat());
        let annotation = "/metadata/annotations/argocd.argoproj.io~1refresh";
        until("Argo CD to compare", 120, || {
            self.controllers.must_run();
            let done = |name| Self::application(name).pointer(annotation).is_none();
            APPLICATIONS.into_iter().all(done).then_some(())
        });
    }

    fn differences(&self) -> Vec<String> {
        let difference = |name| {
            let application = Self::application(name);
            let status = &application["status"];
            let is_well = status["sync"]["status"] == "Synced"
                && status["health"]["status"] == "Healthy"
                && status["conditions"].is_null();
            (!is_well).then(|| format!("{name}: {}", summary(status)))
        };
        APPLICATIONS.into_iter().filter_map(difference).collect()
    }

    fn revision(&self) -> Vec<String> {
        let revision = |name| {
            let revision = &Self::application(name)["status"]["sync"]["revision"];
            revision.as_str().unwrap_or_default().to_owned()
        };
        APPLICATIONS.into_iter().map(revision).collect()
    }

    fn done(&self) -> Value {
        let syncs = |name| {
            let status = &Self::application(name)["status"];
            json!([
                name,
                status["operationState"]["startedAt"],
                status["history"]
            ])
        };
        APPLICATIONS.into_iter().map(syncs).collect()
    }

    fn files(&self) -> [&'static str; 2] {
        ["orders/deployment.yaml", "keeper-injector/values.yaml"]
    }

    fn end(&mut self) {
        kubectl(&["delete", "application", "fleet", OWN, "--timeout=180s"]);
        let left = ["get", "applications", OWN, "--output=name"];
        assert_eq!(keeper_e2e::kubectl(&left), "");
    }
}

impl Drop for ArgoCd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let told = try_kubectl(&["get", "applications", OWN, "--output=yaml"], None);
            eprintln!("{}", told.stdout);
        }
        // Nobody is there any more who would take the finalizers away.
        for name in APPLICATIONS {
            let patch = r#"--patch={"metadata": {"finalizers": null}}"#;
            let free = ["patch", "application", name, OWN, "--type=merge", patch];
            let _ = try_kubectl(&free, None);
        }
        let _ = try_kubectl(&["delete", "namespace", "argocd", "--wait=false"], None);
    }
}

fn summary(status: &Value) -> Value {
    let resources = status["resources"].as_array().into_iter().flatten();
    let odd: Vec<_> = resources
        .filter(|resource| resource["status"] != "Synced")
        .collect();
    json!({
        "sync": status["sync"]["status"], "health": status["health"], "conditions": status["conditions"],
        "resources": odd, "operation": status["operationState"]["message"],
    })
}
