//! A pod, its node and its Keeper, and what goes wrong with them.

use std::future::Future;
use std::io::{self, Write};
use std::net::UdpSocket;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{fs, iter};

use keeper_agent::schedule::Grid;
use keeper_agent::wait::WaitError;
use keeper_agent::{Agent, Exit, Host as _, Metrics, Pod, Runner, wait};
use keeper_contract::LogFormat;
use keeper_sim::{Change, Edit, FaultKind, FileEntry, RecordQuirk};
use keeper_telemetry::LogLayer;
use prometheus::Registry;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::door::Door;
use crate::support::Bench;
use crate::support::virtual_host::VirtualHost;
use crate::table::Fault;

/// UID of the record that most faults strike.
pub(crate) const PAYMENTS: &str = "PPPPPPPPPPPPPPPPPPPPPP";
const ATTACHMENT: &str = "payments.txt";
const FOLDER: &str = "Team/Payments";
/// The record in it.
const IN_FOLDER: &str = "payment-keys";
/// What the three files hold. The last two are of one record.
pub(crate) const FIRST: [&str; 3] = [
    "orders-first-value",
    "payments-first-value",
    "account-first-value",
];
pub(crate) const SECOND: [&str; 3] = [
    "orders-second-value",
    "payments-second-value",
    "account-second-value",
];
/// Times are short, so that a test sees many of them pass.
pub(crate) const CACHE: Duration = Duration::from_secs(1800);
pub(crate) const INTERVAL: Duration = Duration::from_secs(300);
/// What `keeper-init` has.
const FIRST_FETCH: Duration = Duration::from_secs(15 * 60);
/// What a server that hangs is given; one that works has a busy machine.
const CALL_DEADLINE: Duration = Duration::from_secs(1);

pub(crate) struct World {
    pub(crate) bench: Bench,
    pub(crate) node: VirtualHost,
    fault: Fault,
    door: Option<Door>,
    config: String,
    log: Arc<Mutex<Vec<u8>>>,
    /// A DNS server that takes questions and says nothing.
    _silence: Option<UdpSocket>,
    _logging: tracing::subscriber::DefaultGuard,
}

/// A process of the pod. It dies when it is dropped.
pub(crate) struct Process(Pin<Box<dyn Future<Output = Result<(), Exit>>>>);

impl World {
    pub(crate) async fn new(fault: Fault) -> Self {
        let vault = format!(
            "folders:\n- {{name: Team, folders: [{{name: Payments, records: [{{title: {IN_FOLDER}, password: {1}, login: {2}}}]}}]}}\n\
             records:\n- {{title: Orders, password: {0}}}\n\
             - {{title: Payments, uid: {PAYMENTS}, password: {1}, login: {2}, files: [{{name: {ATTACHMENT}, text: {1}}}]}}\n\
             - {{title: Bystander, password: bystander-value}}\n",
            FIRST[0], FIRST[1], FIRST[2]
        );
        let mut outputs = vec!["Orders[password] -> orders".to_owned()];
        let payments = match fault {
            Fault::BadRecord => format!("{PAYMENTS}[password] -> payments"),
            Fault::BadDownload => format!("Payments / {ATTACHMENT} -> payments"),
            _ => "Payments[password] -> payments".to_owned(),
        };
        if fault != Fault::MissingFolder {
            outputs.extend([payments, "Payments[login] -> account".to_owned()]);
        }
        let outputs: Vec<&str> = outputs.iter().map(String::as_str).collect();
        let mut bench = Bench::new(&vault, &outputs).await;
        if fault == Fault::MissingFolder {
            bench.folder(FOLDER, "");
        }
        bench.config.refresh_interval_seconds = u32::try_from(INTERVAL.as_secs()).unwrap();
        bench.config.cache_seconds = CACHE.as_secs();
        if fault == Fault::FullVolume {
            mount_small(&bench.volume());
        }
        let silence =
            (fault == Fault::ResolverHang).then(|| UdpSocket::bind("127.0.0.1:53").unwrap());
        let mut config = bench.sim.device_config().unwrap();
        let mut door = None;
        if fault == Fault::ConnectionRefused {
            let open = Door::new(bench.sim.address()).await;
            let host = format!("localhost:{}", open.address.port());
            config = config.replace(bench.sim.hostname(), &host);
            door = Some(open);
        }
        let log = Arc::new(Mutex::new(Vec::new()));
        let layer = LogLayer::new(LogFormat::Json, &[], Shared(Arc::clone(&log)));
        let subscriber =
            tracing_subscriber::registry().with(layer.filtered(bench.config.log_level));
        let node = VirtualHost::new(&bench.sim, 1);
        let world = Self {
            bench,
            node,
            fault,
            door,
            config,
            log,
            _silence: silence,
            _logging: tracing::subscriber::set_default(subscriber),
        };
        world.mount_config(&world.config);
        world
    }

    /// What the native sidecar runs.
    pub(crate) fn sidecar(&mut self) -> Process {
        let mut runner = self.runner();
        Process(Box::pin(async move { runner.run(|_| {}).await }))
    }

    /// What `keeper-init` runs.
    pub(crate) fn init(&mut self) -> Process {
        let mut runner = self.runner();
        Process(Box::pin(
            async move { runner.first_fetch(FIRST_FETCH).await },
        ))
    }

    /// A process counts from zero.
    fn runner(&mut self) -> Runner<VirtualHost> {
        self.bench.registry = Registry::new();
        self.bench.metrics = Metrics::register(&self.bench.registry).unwrap();
        let (config, metrics) = (self.bench.config.clone(), self.bench.metrics.clone());
        let (mut agent, store) =
            Agent::open(config, &self.bench.volume(), metrics.clone()).unwrap();
        if matches!(self.fault, Fault::Hang | Fault::ResolverHang) {
            agent.set_call_deadline(CALL_DEADLINE);
        }
        let pod = Pod {
            name: "pod".into(),
            namespace: "default".into(),
            uid: "0b5a3c4e-7a31-4a1c-9d52-0a4d1f4f3b11".into(),
        };
        let node = self.node.clone();
        Runner::new(node, agent, store, &pod, Grid::STANDARD, metrics)
    }

    /// Lets the process live until `done` holds while it sleeps, or until it ends; then returns how. It gets `limit` of
    /// the node's time.
    pub(crate) async fn live(
        &self,
        process: &mut Process,
        what: &str,
        limit: Duration,
        mut done: impl FnMut(&Self) -> bool,
    ) -> Option<Result<(), Exit>> {
        let began = self.node.uptime();
        loop {
            tokio::select! {
                biased;
                ended = &mut process.0 => return Some(ended),
                () = self.node.asleep() => {}
                () = tokio::time::sleep(Duration::from_secs(60)) => {
                    panic!("{:?}: no sleep and no {what}:\n{}", self.fault, self.logged())
                }
            }
            if done(self) {
                return None;
            }
            assert!(
                self.node.uptime().saturating_sub(began) <= limit,
                "{:?}: no {what} within {limit:?}:\n{}",
                self.fault,
                self.logged()
            );
            self.node.end_sleep();
        }
    }

    /// The same for a process that must not end.
    pub(crate) async fn live_on(
        &self,
        process: &mut Process,
        what: &str,
        limit: Duration,
        done: impl FnMut(&Self) -> bool,
    ) {
        if let Some(ended) = self.live(process, what, limit, done).await {
            panic!("{:?}: ended without {what}: {ended:?}", self.fault);
        }
    }

    /// All values change.
    pub(crate) fn edit(&self) {
        let fields = [
            ("Orders", "password"),
            ("Payments", "password"),
            ("Payments", "login"),
        ];
        for ((record, field), value) in iter::zip(fields, SECOND) {
            self.bench.sim.set(record, field, value).unwrap();
        }
        match self.fault {
            Fault::BadDownload => {
                let file = FileEntry {
                    name: ATTACHMENT.into(),
                    text: Some(SECOND[1].into()),
                    ..FileEntry::default()
                };
                let record = "Payments".into();
                self.bench.sim.edit(&Edit::Attach { record, file }).unwrap();
            }
            Fault::MissingFolder => {
                for (field, value) in [("password", SECOND[1]), ("login", SECOND[2])] {
                    self.bench.sim.set(IN_FOLDER, field, value).unwrap();
                }
            }
            _ => {}
        }
    }

    /// The fault begins.
    pub(crate) async fn strike(&mut self) {
        let kind = match self.fault {
            Fault::ConnectionRefused => return self.door.as_mut().unwrap().shut().await,
            Fault::DnsFailure | Fault::ResolverHang => {
                let host = self.bench.sim.hostname();
                return self.mount_config(&self.config.replace(host, "keeper.invalid"));
            }
            Fault::BadConfig => return self.mount_config("{}"),
            Fault::UnknownServerKey => {
                self.bench.sim.rotate_server_key(None).unwrap();
                return;
            }
            Fault::Revoked => return self.revoke(true),
            Fault::MissingRecord => {
                let record = "Payments".into();
                self.bench.sim.edit(&Edit::Remove { record }).unwrap();
                return;
            }
            Fault::MissingField => return self.set_payments("[]"),
            Fault::FullVolume => return self.set_payments(&format!("\"{}\"", "x".repeat(100_000))),
            Fault::BadRecord => return self.corrupt("Payments", true),
            Fault::BadBystander => return self.corrupt("Bystander", true),
            Fault::BadDownload => {
                let fault = keeper_sim::Fault::new(FaultKind::BadGateway).on("file");
                return self.bench.sim.fault(fault);
            }
            Fault::MissingFolder => {
                let folder = FOLDER.into();
                self.bench.sim.edit(&Edit::RemoveFolder { folder }).unwrap();
                return;
            }
            Fault::ClockForward => return self.node.put_clock(3 * 3_600_000 + 7_000),
            Fault::ClockBack => return self.node.put_clock(-3 * 3_600_000 - 7_000),
            Fault::Hang => FaultKind::Hang,
            Fault::Reset => FaultKind::Reset,
            Fault::Truncated => FaultKind::Truncate,
            Fault::ServerError => FaultKind::BadGateway,
            Fault::Garbage => FaultKind::Garbage,
            Fault::TruncatedJson => FaultKind::Plaintext {
                text: "{\"records\": [{\"recordUid\":".into(),
            },
            Fault::Throttled => FaultKind::Throttled { retry_after: None },
            Fault::TooManyRequests => FaultKind::TooManyRequests {
                retry_after: Some(RETRY_AFTER.as_secs().to_string()),
            },
        };
        self.bench.sim.fault(keeper_sim::Fault::new(kind));
    }

    /// The fault ends.
    pub(crate) async fn mend(&mut self) {
        self.bench.sim.clear_faults();
        match self.fault {
            Fault::ConnectionRefused => self.door.as_mut().unwrap().open().await,
            Fault::DnsFailure | Fault::ResolverHang | Fault::BadConfig => {
                self.mount_config(&self.config);
            }
            Fault::UnknownServerKey => {
                self.mount_config(&self.bench.sim.device_config().unwrap());
            }
            Fault::Revoked => self.revoke(false),
            Fault::MissingRecord => {
                let (title, kind, uid, folder) = ("Payments".into(), None, None, None);
                let changes = vec![
                    Change::text("password", SECOND[1]),
                    Change::text("login", SECOND[2]),
                ];
                let add = Edit::Add {
                    title,
                    kind,
                    uid,
                    folder,
                    changes,
                };
                self.bench.sim.edit(&add).unwrap();
            }
            Fault::MissingFolder => {
                let (path, title, folder) = (FOLDER.into(), IN_FOLDER.into(), Some(FOLDER.into()));
                let changes = vec![
                    Change::text("password", SECOND[1]),
                    Change::text("login", SECOND[2]),
                ];
                self.bench.sim.edit(&Edit::MakeFolder { path }).unwrap();
                let add = Edit::Add {
                    title,
                    kind: None,
                    uid: None,
                    folder,
                    changes,
                };
                self.bench.sim.edit(&add).unwrap();
            }
            Fault::MissingField | Fault::FullVolume => {
                self.set_payments(&format!("\"{}\"", SECOND[1]));
            }
            Fault::BadRecord => self.corrupt(PAYMENTS, false),
            _ => {}
        }
    }

    /// Shortest time to the next call that the server asks for.
    pub(crate) fn retry_after(&self) -> Duration {
        match self.fault {
            Fault::TooManyRequests => RETRY_AFTER,
            _ => Duration::ZERO,
        }
    }

    /// Whether the mounted config changes with the fault, which is a reason to call earlier.
    pub(crate) fn config_changes(&self) -> bool {
        matches!(
            self.fault,
            Fault::DnsFailure | Fault::ResolverHang | Fault::BadConfig | Fault::UnknownServerKey
        )
    }

    /// The volume of a node that was rebooted.
    pub(crate) fn empty_the_volume(&self) {
        for entry in fs::read_dir(self.bench.volume()).unwrap() {
            fs::remove_dir_all(entry.unwrap().path()).unwrap();
        }
    }

    /// What the application reads.
    pub(crate) fn files(&self) -> [Option<String>; 3] {
        let in_folder = |field: &str| {
            let json = self.bench.read(&format!("{IN_FOLDER}.json"))?;
            let record: serde_json::Value = serde_json::from_str(&json).unwrap();
            Some(record[field].as_str().unwrap().to_owned())
        };
        let [payments, account] = match self.fault {
            Fault::MissingFolder => ["password", "login"].map(in_folder),
            _ => ["payments", "account"].map(|path| self.bench.read(path)),
        };
        [self.bench.read("orders"), payments, account]
    }

    /// What the hook says now.
    pub(crate) fn hook(&self) -> Result<(), WaitError> {
        wait(&self.bench.volume(), Duration::ZERO)
    }

    pub(crate) fn failures(&self, reason: &str) -> u32 {
        let name = format!("keeper_sidecar_refresh_failures_total{{reason=\"{reason}\"}}");
        self.count(&name)
    }

    pub(crate) fn count(&self, metric: &str) -> u32 {
        let value = self.bench.metric(metric);
        assert_eq!(value.fract(), 0.0);
        format!("{value}").parse().unwrap()
    }

    /// The log since this was asked last, a line each; none of them may hold a value.
    pub(crate) fn take_log(&self) -> Vec<serde_json::Value> {
        let text = self.logged();
        self.log.lock().unwrap().clear();
        for value in iter::chain(FIRST, SECOND) {
            assert!(!text.contains(value), "{text}");
        }
        let lines = text.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn logged(&self) -> String {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8(log.clone()).unwrap()
    }

    fn revoke(&self, revoked: bool) {
        let client = self.bench.sim.clients()[0].name.clone();
        self.bench.sim.set_revoked(&client, revoked).unwrap();
    }

    fn corrupt(&self, record: &str, on: bool) {
        let quirk = RecordQuirk::CorruptData;
        self.bench.sim.set_quirk(record, quirk, on).unwrap();
    }

    fn set_payments(&self, json: &str) {
        let changes = vec![Change {
            name: "password".into(),
            value: serde_json::from_str(json).unwrap(),
        }];
        let record = "Payments".into();
        self.bench.sim.edit(&Edit::Set { record, changes }).unwrap();
    }

    /// As the kubelet does it: a rename in the mounted directory.
    fn mount_config(&self, config: &str) {
        let auth = self.bench.root.path().join("auth");
        fs::write(auth.join("new"), config).unwrap();
        fs::rename(auth.join("new"), auth.join("config")).unwrap();
    }
}

const RETRY_AFTER: Duration = Duration::from_secs(120);

/// A tmpfs of 64 KiB, in a process that may mount.
fn mount_small(volume: &Path) {
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
        .arg(volume)
        .status();
    assert!(mounted.unwrap().success());
}

struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        log.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
