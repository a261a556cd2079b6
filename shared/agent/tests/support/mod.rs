//! A pod on this machine: a keeper-sim, a volume, mounted files, and the agent's config.

pub(crate) mod virtual_host;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keeper_agent::schedule::{Grid, KeeperClock};
use keeper_agent::{Agent, Host, Metrics, Node, Pod, Refresh, Runner};
use keeper_contract::{
    AgentConfig, Auth, Directory, FolderOutput, FolderRef, Format, LogFormat, LogLevel, OnStale,
    Output, Place, Selection,
};
use keeper_sim::{Options, Sim, Vault};
use prometheus::{Registry, TextEncoder};

/// Frames short enough for a test to see some.
pub(crate) const FAST: Grid = Grid {
    frame: Duration::from_millis(300),
    window: Duration::from_millis(150),
};

pub(crate) struct Bench {
    pub(crate) sim: Sim,
    pub(crate) root: tempfile::TempDir,
    pub(crate) config: AgentConfig,
    pub(crate) registry: Registry,
    pub(crate) metrics: Metrics,
}

impl Bench {
    /// A pod that selects `outputs`, each `<selection> -> <path>`; an attachment is `<record> / <file>`.
    pub(crate) async fn new(vault: &str, outputs: &[&str]) -> Self {
        let sim = Sim::start(Vault::parse(vault).unwrap(), Options::default())
            .await
            .unwrap();
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("volume")).unwrap();
        fs::create_dir(root.path().join("auth")).unwrap();
        fs::write(
            root.path().join("auth/config"),
            sim.device_config().unwrap(),
        )
        .unwrap();
        fs::write(root.path().join("ca.crt"), sim.ca_pem()).unwrap();
        let path = |name: &str| root.path().join(name).display().to_string();
        let config = AgentConfig {
            auth: Auth::Secret {
                secret_name: "keeper-auth".into(),
                file: path("auth/config"),
            },
            ca_cert_file: Some(path("ca.crt")),
            proxy: None,
            directories: vec![Directory {
                mount_path: "/keeper/secrets".into(),
                sub_path: "dirs/0".into(),
                place: Place::Shared,
                mount_points: Vec::new(),
            }],
            outputs: outputs.iter().map(|text| output(text)).collect(),
            folders: Vec::new(),
            environment: None,
            refresh_interval_seconds: 1,
            fail_on_error: true,
            runs_to_completion: false,
            cache_seconds: 24 * 3600,
            on_stale: OnStale::Serve,
            strict_lookup: false,
            file_mode: 0o444,
            reload: None,
            metrics_port: None,
            log_level: LogLevel::Debug,
            log_format: LogFormat::Json,
        };
        let registry = Registry::new();
        let metrics = Metrics::register(&registry).unwrap();
        Self {
            sim,
            root,
            config,
            registry,
            metrics,
        }
    }

    /// Selects a folder, whose files go to the directory `path`.
    pub(crate) fn folder(&mut self, folder: &str, path: &str) {
        self.config.folders.push(FolderOutput {
            directory: 0,
            path: path.into(),
            folder: FolderRef::Path(folder.parse().unwrap()),
            annotation: "keeper.security/folder".into(),
        });
    }

    pub(crate) fn volume(&self) -> PathBuf {
        self.root.path().join("volume")
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.volume().join("dirs/0")
    }

    pub(crate) fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.dir().join(path)).ok()
    }

    /// An agent as a process of this pod has it.
    pub(crate) fn agent(&self) -> Agent {
        Agent::open(self.config.clone(), &self.volume(), self.metrics.clone())
            .unwrap()
            .0
    }

    /// What a process of this pod runs, in real time and fast frames.
    pub(crate) fn runner(&self) -> Runner {
        self.runner_on(Node, FAST)
    }

    /// What a process of this pod runs on `host`.
    pub(crate) fn runner_on<H: Host>(&self, host: H, grid: Grid) -> Runner<H> {
        let opened = Agent::open(self.config.clone(), &self.volume(), self.metrics.clone());
        let (agent, store) = opened.unwrap();
        let pod = Pod {
            name: "pod".into(),
            namespace: "default".into(),
            uid: "0b5a3c4e-7a31-4a1c-9d52-0a4d1f4f3b11".into(),
        };
        Runner::new(host, agent, store, &pod, grid, self.metrics.clone())
    }

    pub(crate) fn state(&self) -> serde_json::Value {
        let bytes = fs::read(self.volume().join("state/state.json")).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in\n{text}"))
            .parse()
            .unwrap()
    }

    pub(crate) fn calls(&self) -> u64 {
        self.sim.calls().to("get_secret")
    }
}

/// One refresh of an application that runs.
pub(crate) async fn refresh(agent: &mut Agent) -> Refresh {
    agent
        .refresh(&mut KeeperClock::default(), true, &Node)
        .await
}

/// The texts of all failures.
pub(crate) fn failures(refresh: &Refresh) -> Vec<String> {
    refresh.failures.iter().map(ToString::to_string).collect()
}

/// Polls until `condition` holds, and says what it was waiting for when it does not.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "no {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with(".."))
        .collect();
    names.sort();
    names
}

fn output(text: &str) -> Output {
    let (selection, path) = text.split_once(" -> ").unwrap();
    let (selection, format) = if let Some((record, file)) = selection.split_once(" / ") {
        let (record, file) = (record.parse().unwrap(), file.into());
        (Selection::File { record, file }, Format::Raw)
    } else if selection.contains("://") {
        (Selection::Notation(selection.parse().unwrap()), Format::Raw)
    } else if let Some((record, field)) = selection.split_once('[') {
        let record = record.parse().unwrap();
        let field = field.trim_end_matches(']').into();
        (Selection::Field { record, field }, Format::Raw)
    } else {
        (Selection::Record(selection.parse().unwrap()), Format::Json)
    };
    Output {
        directory: 0,
        path: path.into(),
        selection,
        fields: Vec::new(),
        format,
        mode: None,
        annotation: "keeper.security/secrets".into(),
    }
}
