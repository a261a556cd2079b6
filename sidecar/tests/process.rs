//! The real binary: what its container does, says and leaves behind.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use keeper_contract::layout::{CONFIG_ENV, POD_NAME_ENV, POD_NAMESPACE_ENV, POD_UID_ENV};
use keeper_sim::{Fault, FaultKind, Options, Sim, Vault};
use serde_json::{Value, json};

const VAULT: &str = "records: [{title: Orders, login: svc, password: canary-5f1d}]";

/// A pod's files on this machine.
struct Bench {
    sim: Sim,
    root: tempfile::TempDir,
    config: Value,
}

/// A port that nobody listens on.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// A process of the pod, killed with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Bench {
    async fn new(record: &str) -> Self {
        let sim = Sim::start(Vault::parse(VAULT).unwrap(), Options::default())
            .await
            .unwrap();
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        fs::create_dir(path("volume")).unwrap();
        fs::write(path("config"), sim.device_config().unwrap()).unwrap();
        fs::write(path("ca.crt"), sim.ca_pem()).unwrap();
        fs::write(path("termination-log"), "").unwrap();
        // The kubelet's symlink of the other name.
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_keeper-sidecar"), path("keeper-init"))
            .unwrap();
        let config = json!({
            "auth": {"method": "secret", "secretName": "keeper-auth", "file": path("config")},
            "caCertFile": path("ca.crt"),
            "directories": [{"mountPath": "/keeper/secrets", "subPath": "dirs/0"}],
            "outputs": [{
                "directory": 0, "path": "o.json", "selection": {"record": record}, "format": "json",
                "annotation": "keeper.security/secret",
            }],
            "refreshIntervalSeconds": 15,
            "cacheSeconds": 86400,
            "onStale": "serve",
            "strictLookup": false,
            "failOnError": true,
            "fileMode": "0444",
            "logLevel": "info",
            "logFormat": "json",
        });
        Self { sim, root, config }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// The command of a container.
    fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .arg("--volume")
            .arg(self.path("volume"))
            .arg("--termination-log")
            .arg(self.path("termination-log"))
            .env_clear()
            .stdin(Stdio::null());
        command
    }

    fn sidecar(&self, arguments: &[&str]) -> Command {
        self.command(Path::new(env!("CARGO_BIN_EXE_keeper-sidecar")), arguments)
    }

    /// Starts a container with the pod's environment; its log goes to a file of this name.
    fn start(&self, mut command: Command, log: &str) -> Process {
        let child = command
            .env(CONFIG_ENV, self.config.to_string())
            .env(POD_NAME_ENV, "shop-1")
            .env(POD_NAMESPACE_ENV, "orders")
            .env(POD_UID_ENV, "0b5a3c4e-7a31-4a1c-9d52-0a4d1f4f3b11")
            .stderr(fs::File::create(self.path(log)).unwrap())
            .spawn()
            .unwrap();
        Process(child)
    }

    fn run(&self) -> Process {
        self.start(self.sidecar(&["run"]), "log")
    }

    fn wait(&self) -> ExitStatus {
        self.sidecar(&["wait"]).status().unwrap()
    }

    /// What a person asks in the container.
    fn ask(&self, arguments: &[&str]) -> std::process::Output {
        let mut command = self.sidecar(arguments);
        command
            .env(CONFIG_ENV, self.config.to_string())
            .env(POD_NAME_ENV, "shop-1")
            .env(POD_NAMESPACE_ENV, "orders")
            .env(POD_UID_ENV, "0b5a3c4e-7a31-4a1c-9d52-0a4d1f4f3b11");
        let output = command.output().unwrap();
        let all = [output.stdout.as_slice(), &output.stderr].concat();
        assert!(!String::from_utf8(all).unwrap().contains("canary"));
        output
    }

    fn last_words(&self) -> String {
        fs::read_to_string(self.path("termination-log")).unwrap()
    }

    fn published(&self) -> Option<String> {
        fs::read_to_string(self.path("volume/dirs/0/o.json")).ok()
    }

    /// The log, which must consist of JSON objects that name the pod.
    fn log(&self, name: &str) -> Vec<Value> {
        let log = fs::read_to_string(self.path(name)).unwrap();
        assert!(!log.contains("canary"), "{log}");
        let lines = log.lines().map(|line| -> Value {
            let line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
            assert_eq!(
                (&line["pod"], &line["namespace"]),
                (&json!("shop-1"), &json!("orders"))
            );
            line
        });
        lines.collect()
    }
}

impl Process {
    fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.0)
    }

    fn terminate(&self) {
        rustix::process::kill_process(self.pid(), rustix::process::Signal::TERM).unwrap();
    }

    async fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the process goes on");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(40);
    while !condition() {
        assert!(Instant::now() < deadline, "no {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn message<'l>(log: &'l [Value], text: &str) -> &'l Value {
    let found = log.iter().find(|line| line["msg"] == text);
    found.unwrap_or_else(|| panic!("no `{text}` in {log:#?}"))
}

/// The metrics of a section of the reference, each with its type.
fn documented_metrics(section: &str) -> BTreeSet<String> {
    let page = include_str!("../../docs/reference/metrics.md");
    let (_, rest) = page.split_once(&format!("\n## {section}\n")).unwrap();
    let section = rest.split("\n## ").next().unwrap();
    section
        .lines()
        .filter(|line| line.starts_with("| `keeper_"))
        .map(|line| {
            let mut cells = line.split('|').skip(1).map(str::trim);
            let name = cells.next().unwrap().trim_matches('`');
            let name = name.split('{').next().unwrap();
            format!("{name} {}", cells.next().unwrap())
        })
        .collect()
}

/// The same of a scrape.
fn scraped_metrics(scrape: &str) -> BTreeSet<String> {
    scrape
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(str::to_owned)
        .collect()
}

fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    Some(answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_publishes_refreshes_fails_and_ends() {
    let mut bench = Bench::new("Orders").await;
    let port = free_port();
    bench.config["metricsPort"] = json!(port);
    let mut sidecar = bench.run();
    assert!(bench.wait().success());
    assert_eq!(
        bench.published().unwrap(),
        "{\n  \"login\": \"svc\",\n  \"password\": \"canary-5f1d\"\n}"
    );
    // The next process of this pod has nothing to wait for.
    let began = Instant::now();
    assert!(bench.wait().success());
    assert!(began.elapsed() < Duration::from_secs(1));

    until("readiness", || {
        get(port, "/readyz").is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
    })
    .await;
    assert!(get(port, "/healthz").unwrap().starts_with("HTTP/1.1 200"));
    let metrics = get(port, "/metrics").unwrap();
    assert!(
        metrics.contains("\nkeeper_sidecar_refresh_total 1\n"),
        "{metrics}"
    );
    assert!(
        metrics.contains("keeper_build_info{component=\"sidecar\","),
        "{metrics}"
    );
    assert_eq!(scraped_metrics(&metrics), documented_metrics("Sidecar"));
    assert!(
        !metrics.contains("canary") && !metrics.contains("Orders"),
        "{metrics}"
    );

    bench.sim.set("Orders", "password", "canary-2").unwrap();
    until("new value", || {
        bench.published().unwrap().contains("canary-2")
    })
    .await;
    bench.sim.fault(Fault::new(FaultKind::BadGateway));
    until("a failure", || {
        bench.log("log").iter().any(|line| line["level"] == "warn")
    })
    .await;
    assert!(bench.published().unwrap().contains("canary-2"));

    let log = bench.log("log");
    let updated = message(&log, "secrets updated");
    assert_eq!(
        (&updated["level"], &updated["count"]),
        (&json!("info"), &json!(1))
    );
    assert!(
        updated["duration"].as_str().unwrap().ends_with("ms"),
        "{updated}"
    );
    let failed = message(&log, "failed to fetch secrets");
    assert_eq!(failed["level"], "error");
    assert!(
        failed["error"]
            .as_str()
            .unwrap()
            .ends_with("answered with status 502"),
        "{failed}"
    );
    let cached = message(&log, "using cached secrets");
    assert_eq!(
        (&cached["level"], &cached["reason"]),
        (&json!("warn"), &json!("unreachable"))
    );
    assert!(cached["age"].as_str().unwrap().ends_with('s'), "{cached}");

    sidecar.terminate();
    assert_eq!(sidecar.ended().await.code(), Some(0));
    assert_eq!(bench.last_words(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_record_ends_in_a_message_that_says_what_to_do() {
    let bench = Bench::new("Order").await;
    let mut sidecar = bench.run();
    assert_eq!(sidecar.ended().await.code(), Some(1));
    let words = bench.last_words();
    assert_eq!(
        words,
        "keeper.security/secret: no record `Order` is shared with this application; the nearest titles are `Orders`"
    );
    let log = bench.log("log");
    assert_eq!(
        message(&log, "failed to fetch secrets")["error"],
        words.as_str()
    );
    assert_eq!(bench.published(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_it_at_once_and_is_a_failure_before_the_first_publication() {
    let bench = Bench::new("Orders").await;
    for (fault, kind) in [FaultKind::Hang, FaultKind::BadGateway]
        .into_iter()
        .enumerate()
    {
        bench.sim.clear_faults();
        bench.sim.fault(Fault::new(kind));
        // In a call first, then, as this is no first try any more, in the wait for a slot.
        let mut sidecar = bench.run();
        if fault == 0 {
            until("a call", || bench.sim.calls().total() == 1).await;
        } else {
            let volume = bench.path("volume/state");
            until("a handler", || volume.exists() && handles_sigterm(&sidecar)).await;
        }
        let began = Instant::now();
        sidecar.terminate();
        assert_eq!(sidecar.ended().await.code(), Some(143));
        assert!(began.elapsed() < Duration::from_secs(2));
        assert!(
            bench
                .last_words()
                .starts_with("ended before the first publication: ")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_it_may_fail_open_the_hook_ends_with_the_first_failure() {
    let mut bench = Bench::new("Orders").await;
    bench.config["failOnError"] = json!(false);
    bench.sim.fault(Fault::new(FaultKind::BadGateway));
    let mut sidecar = bench.run();
    assert!(bench.wait().success());
    assert_eq!(bench.published(), None);
    sidecar.terminate();
    assert_eq!(sidecar.ended().await.code(), Some(0));
    // As an init container it is done with that.
    let mut init = bench.start(bench.command(&bench.path("keeper-init"), &[]), "init-log");
    assert_eq!(init.ended().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn keeper_init_fetches_once_and_the_sidecar_goes_on_from_there() {
    let mut bench = Bench::new("Orders").await;
    bench.config["refreshIntervalSeconds"] = json!(3600);
    let mut init = bench.start(bench.command(&bench.path("keeper-init"), &[]), "init-log");
    assert_eq!(init.ended().await.code(), Some(0));
    message(&bench.log("init-log"), "secrets updated");
    assert!(bench.published().is_some());
    let mut sidecar = bench.run();
    assert!(bench.wait().success());
    until("a handler", || handles_sigterm(&sidecar)).await;
    sidecar.terminate();
    assert_eq!(sidecar.ended().await.code(), Some(0));
    assert_eq!(bench.sim.calls().total(), 1);

    let bench = Bench::new("Order").await;
    let mut init = bench.start(bench.command(&bench.path("keeper-init"), &[]), "init-log");
    assert_eq!(init.ended().await.code(), Some(1));
    assert!(bench.last_words().contains("`Orders`"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_costs_only_the_metrics() {
    let mut bench = Bench::new("Orders").await;
    let taken = TcpListener::bind("[::]:0").unwrap();
    bench.config["metricsPort"] = json!(taken.local_addr().unwrap().port());
    let _sidecar = bench.run();
    assert!(bench.wait().success());
    until("a log line", || {
        bench
            .log("log")
            .iter()
            .any(|line| line["msg"] == "metrics and health are not served")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_of_the_same_uid_can_look_into_it() {
    let bench = Bench::new("Orders").await;
    let sidecar = bench.run();
    assert!(bench.wait().success());
    // The kernel gives the files of a process that isn't dumpable to root; as root ourselves, we look at the
    // limits too.
    let proc = PathBuf::from(format!("/proc/{}", sidecar.0.id()));
    assert_eq!(fs::metadata(proc.join("environ")).unwrap().uid(), 0);
    let limits = fs::read_to_string(proc.join("limits")).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    let fields: Vec<&str> = core.split_whitespace().collect();
    assert_eq!(fields[4..6], ["0", "0"]);
    drop(sidecar);
    if rustix::process::getuid().is_root() {
        // An ordinary user's process, which would otherwise belong to that user.
        let volume = bench.path("volume");
        for path in [bench.root.path().to_owned(), volume.clone()] {
            fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        }
        for entry in ["state", "dirs", "dirs/0"] {
            fs::remove_dir_all(volume.join(entry)).unwrap_or_default();
        }
        let mut command = bench.sidecar(&["run"]);
        std::os::unix::process::CommandExt::uid(&mut command, 65_532);
        std::os::unix::process::CommandExt::gid(&mut command, 65_532);
        let sidecar = bench.start(command, "log-65532");
        assert!(bench.wait().success());
        let environ = fs::metadata(format!("/proc/{}/environ", sidecar.0.id())).unwrap();
        assert_eq!(environ.uid(), 0, "not dumpable");
    }
}

#[test]
fn without_its_environment_it_says_so() {
    let root = tempfile::tempdir().unwrap();
    let log = root.path().join("termination-log");
    fs::write(&log, "").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_keeper-sidecar"))
        .args(["run", "--termination-log"])
        .arg(&log)
        .env_clear()
        .output()
        .unwrap();
    assert_eq!(
        (output.status.code(), output.status.signal()),
        (Some(1), None)
    );
    let words = fs::read_to_string(&log).unwrap();
    assert!(words.contains("KEEPER_AGENT_CONFIG is not set"), "{words}");
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        format!("{words}\n")
    );
}

/// Whether SIGTERM would be caught, by the mask in `/proc`.
fn handles_sigterm(process: &Process) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", process.0.id())).unwrap();
    let caught = status
        .lines()
        .find_map(|line| line.strip_prefix("SigCgt:"))
        .unwrap();
    u64::from_str_radix(caught.trim(), 16).unwrap() & (1 << 14) != 0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_may_not_be_stale_turns_unready_and_ready_again() {
    let mut bench = Bench::new("Orders").await;
    let port = free_port();
    bench.config["metricsPort"] = json!(port);
    bench.config["onStale"] = json!("unready");
    let _sidecar = bench.run();
    assert!(bench.wait().success());
    let answers = |status: &str| {
        let start = format!("HTTP/1.1 {status}");
        get(port, "/readyz").filter(|answer| answer.starts_with(&start))
    };
    until("readiness", || answers("200").is_some()).await;
    let client = bench.sim.clients()[0].name.clone();
    bench.sim.set_revoked(&client, true).unwrap();
    until("staleness", || answers("503").is_some()).await;
    assert!(
        answers("503")
            .unwrap()
            .ends_with("pending: fresh secrets\n")
    );
    assert!(bench.published().is_some());
    bench.sim.set_revoked(&client, false).unwrap();
    until("readiness again", || answers("200").is_some()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn its_status_lists_the_files_and_a_refresh_can_be_asked_for() {
    let mut bench = Bench::new("Orders").await;
    bench.config["refreshIntervalSeconds"] = json!(3600);
    let pending = bench.ask(&["status"]);
    assert_eq!(pending.status.code(), Some(1));
    assert!(pending.stdout.starts_with(b"not everything is published"));
    let nobody = bench.ask(&["refresh"]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(nobody.stderr.starts_with(b"nothing has been fetched"));

    let _sidecar = bench.run();
    assert!(bench.wait().success());
    let table = bench.ask(&["status"]);
    assert_eq!(table.status.code(), Some(0));
    let table = String::from_utf8(table.stdout).unwrap();
    for part in [
        "everything is published and good\n",
        "\nlast success  ",
        "\nnext call     in ",
        "\nPATH ",
        "\n/keeper/secrets/o.json  ",
    ] {
        assert!(table.contains(part), "{part:?} in {table}");
    }

    bench.sim.set("Orders", "password", "canary-2").unwrap();
    let refreshed = bench.ask(&["refresh", "--wait"]);
    let said = String::from_utf8(refreshed.stdout).unwrap();
    assert_eq!(refreshed.status.code(), Some(0), "{said}");
    assert!(said.starts_with("the refresh is due in "), "{said}");
    assert!(said.ends_with("\ndone, files changed: 1\n"), "{said}");
    assert!(bench.published().unwrap().contains("canary-2"));

    let json = bench.ask(&["status", "--output=json"]);
    let status: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(status["standing"], "good");
    assert_eq!(status["outputs"][0]["path"], "/keeper/secrets/o.json");
    assert_eq!(status["outputs"][0]["revision"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_the_first_fetch_and_the_hook_at_once() {
    let bench = Bench::new("Orders").await;
    bench.sim.fault(Fault::new(FaultKind::Hang));
    let mut init = bench.start(bench.command(&bench.path("keeper-init"), &[]), "init-log");
    let mut hook = bench.start(bench.sidecar(&["wait"]), "wait-log");
    until("a call", || bench.sim.calls().total() == 1).await;
    let began = Instant::now();
    init.terminate();
    hook.terminate();
    assert_eq!(init.ended().await.code(), Some(143));
    assert_eq!(hook.ended().await.signal(), Some(15));
    assert!(began.elapsed() < Duration::from_secs(2));
}

/// A process that is killed while it publishes leaves a generation that is half made.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_comes_back_to_its_files_without_a_call() {
    let mut bench = Bench::new("Orders").await;
    bench.config["refreshIntervalSeconds"] = json!(3600);
    let mut killed = bench.run();
    assert!(bench.wait().success());
    killed.0.kill().unwrap();
    killed.ended().await;
    let dir = bench.path("volume/dirs/0");
    fs::create_dir(dir.join("..1_0000000000000000")).unwrap();
    fs::write(dir.join("..1_0000000000000000/o.json"), "{\"pass").unwrap();
    std::os::unix::fs::symlink("..1_0000000000000000", dir.join("..data_tmp")).unwrap();
    fs::write(bench.path("volume/state/state.json.tmp"), "{").unwrap();
    assert!(bench.published().unwrap().contains("canary-5f1d"));

    let _again = bench.run();
    until("a clean directory", || {
        let names = fs::read_dir(&dir).unwrap();
        names.count() == 3 && !dir.join("..data_tmp").exists()
    })
    .await;
    assert!(bench.wait().success());
    assert!(bench.published().unwrap().contains("canary-5f1d"));
    assert_eq!(bench.ask(&["status"]).status.code(), Some(0));
    assert_eq!(bench.sim.calls().total(), 1);
}

/// Set in a process with a network of its own, whose DNS server is 127.0.0.1.
const OWN_NETWORK: &str = "KEEPER_TEST_OWN_NETWORK";

/// The C library's look-up can't be broken off: it goes on in its thread for minutes.
#[tokio::test(flavor = "multi_thread")]
async fn a_dns_server_that_says_nothing_holds_up_neither_the_call_nor_the_end() {
    if std::env::var_os(OWN_NETWORK).is_none() {
        return in_a_network_of_its_own();
    }
    let resolver = std::net::UdpSocket::bind("127.0.0.1:53").unwrap();
    resolver.set_nonblocking(true).unwrap();
    let asked = || resolver.recv(&mut [0; 512]).is_ok();
    for waits_for_the_failure in [false, true] {
        let bench = Bench::new("Orders").await;
        let config = bench.sim.device_config().unwrap();
        let config = config.replace(bench.sim.hostname(), "keeper.test");
        fs::write(bench.path("config"), config).unwrap();
        let mut sidecar = bench.run();
        until("a question", asked).await;
        if waits_for_the_failure {
            until("a failure", || !bench.log("log").is_empty()).await;
            let log = bench.log("log");
            let failed = message(&log, "failed to fetch secrets");
            assert_eq!(
                failed["error"],
                "cannot connect to keeper.test: no connection in time"
            );
        }
        let began = Instant::now();
        sidecar.terminate();
        assert_eq!(sidecar.ended().await.code(), Some(143));
        assert!(began.elapsed() < Duration::from_secs(2));
        while asked() {}
    }
}

fn in_a_network_of_its_own() {
    let resolver = tempfile::NamedTempFile::new().unwrap();
    fs::write(
        &resolver,
        "nameserver 127.0.0.1\noptions timeout:30 attempts:5\n",
    )
    .unwrap();
    let script = "ip link set lo up && mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "--net"])
        .args(["sh", "-c", script])
        .arg(resolver.path())
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "a_dns_server_that_says_nothing_holds_up_neither_the_call_nor_the_end",
        ])
        .env(OWN_NETWORK, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{output:?}"
    );
}
