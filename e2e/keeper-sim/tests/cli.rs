//! The real binary: `serve` on free ports, and every command against it.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use keeper_walk::{Page, Shell};
use serde_json::Value;
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_keeper-sim");
const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/vault.example.yaml");
const DEADLINE: Duration = Duration::from_secs(20);

/// A server of its own, with a directory of its own.
struct Server {
    child: Child,
    directory: TempDir,
    ready: Value,
}

impl Server {
    fn start(more: &[&str]) -> Self {
        let own = ["--listen", "127.0.0.1:0", "--state-dir", "state"];
        Self::start_at(&[&own, more].concat())
    }

    fn start_at(more: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut child = Command::new(BINARY)
            .args(["--admin", "127.0.0.1:0", "serve", "--vault", EXAMPLE])
            .args(more)
            .current_dir(directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = child.stdout.as_mut().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|_| {
            let mut errors = String::new();
            child
                .stderr
                .as_mut()
                .unwrap()
                .read_to_string(&mut errors)
                .unwrap();
            panic!("no ready line: {line}{errors}")
        });
        Self {
            child,
            directory,
            ready,
        }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(BINARY)
            .args(arguments)
            .env("KEEPER_SIM_ADMIN", self.ready["admin"].as_str().unwrap())
            .current_dir(self.directory.path())
            .output()
            .unwrap()
    }

    /// Runs a command that must succeed, and returns what it prints.
    fn good(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout)
            .unwrap()
            .trim_end()
            .to_owned()
    }

    /// Runs a command that must fail, and returns its message.
    fn bad(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    fn records(&self) -> Vec<(String, u64, String)> {
        let text = self.good(&["ls"]);
        let line = |line: &str| {
            let (uid, rest) = line.split_once(' ').unwrap();
            let (revision, path) = rest.trim_start().split_once("  ").unwrap();
            (uid.to_owned(), revision.parse().unwrap(), path.to_owned())
        };
        text.lines().map(line).collect()
    }

    fn revision(&self, path: &str) -> Option<u64> {
        let records = self.records();
        let found = records.into_iter().find(|(_, _, p)| p == path);
        found.map(|(_, revision, _)| revision)
    }

    /// Asks it to end and waits for that.
    fn terminate(&mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").arg(pid).status().unwrap().success());
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < end, "SIGTERM must end it");
            std::thread::yield_now();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_commands_of_its_page_work() {
    let server = Server::start(&[]);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = Page::read(&root, "e2e/keeper-sim/README.md").unwrap();
    let folder = Path::new(BINARY).parent().unwrap().display();
    let path = format!("{folder}:{}", std::env::var("PATH").unwrap());
    let shell = Shell::new(&root).unwrap().with_variable("PATH", &path);
    let shell = shell.with_variable("KEEPER_SIM_ADMIN", server.ready["admin"].as_str().unwrap());
    if let Err(failure) = shell.walk(&page, &page.steps) {
        panic!("{failure}");
    }
}

#[test]
fn records_are_changed_from_outside() {
    let server = Server::start(&[]);
    assert_eq!(server.revision("api-key"), Some(1));
    let uid = server.good(&[
        "set",
        "api-key",
        "password=a=b",
        "notes=n",
        r#"url:=["x","y"]"#,
    ]);
    assert_eq!(server.revision("api-key"), Some(2));
    assert_eq!(server.good(&["set", &uid, "title=renamed"]), uid);
    assert_eq!(server.revision("renamed"), Some(3));
    server.good(&["set", "Orders [prod]", "password=x"]);
    server.good(&["set", "Production/Databases/mysql-prod", "database=y"]);

    let new = server.good(&[
        "add",
        "new one",
        "login=l",
        "--folder",
        "Production",
        "--type",
        "databaseCredentials",
    ]);
    assert_eq!(new.len(), 22);
    assert!(server.revision("Production/new one").is_some());
    server.good(&["mkdir", "Production/Caches/Redis"]);
    server.good(&["mv", "new one", "Production/Caches/Redis"]);
    assert!(server.revision("Production/Caches/Redis/new one").is_some());
    server.good(&["rename-folder", "Production/Caches", "Stores"]);
    assert!(server.revision("Production/Stores/Redis/new one").is_some());
    server.good(&["mv", "new one", "/"]);
    assert!(server.revision("new one").is_some());
    server.good(&["rmdir", "Production/Stores"]);
    let file = server.directory.path().join("note.txt");
    std::fs::write(&file, "text").unwrap();
    server.good(&[
        "attach",
        "new one",
        file.to_str().unwrap(),
        "--name",
        "n.txt",
    ]);
    server.good(&["detach", "new one", "n.txt"]);
    server.good(&["rm", &new]);
    assert_eq!(server.revision("new one"), None);
}

#[test]
fn mistakes_end_with_a_message_and_a_failure() {
    let server = Server::start(&[]);
    for (arguments, part) in [
        (
            &["set", "nope", "a=b"][..],
            "no record `nope`; there are: `database-credentials`",
        ),
        (&["set", "api-key"], "FIELD=VALUE"),
        (&["set", "api-key", "a"], "must be FIELD=VALUE"),
        (&["set", "api-key", "title:=1"], "`title` must be text"),
        (&["add", "x", "--folder", "Nowhere"], "no folder `Nowhere`"),
        (&["add", "x", "--uid", "short"], "22 characters"),
        (&["mv", "api-key", "Nowhere"], "no folder"),
        (&["rm", "nope"], "no record"),
        (&["detach", "api-key", "x"], "no attachment"),
        (&["attach", "api-key", "/nonexistent"], "/nonexistent"),
        (
            &["config", "--client", "nobody"],
            "no client `nobody`; there are: default",
        ),
        (&["revoke", "nobody"], "no client"),
        (&["fault", "burn"], "burn"),
        (&["fault", "status", "99"], "99"),
        (&["burn"], "burn"),
        (&["--admin", "127.0.0.1:1", "ls"], "is it running?"),
        (&["--admin", "nonsense", "ls"], "must be http://HOST:PORT"),
    ] {
        let message = server.bad(arguments);
        assert!(message.contains(part), "{arguments:?}: {message}");
    }
    assert_eq!(server.revision("api-key"), Some(1), "nothing happened");
}

#[test]
fn configs_tokens_and_keys_are_printed() {
    let server = Server::start(&["--hostname", "sim.example:8443", "--san", "other.example"]);
    let config: Value = serde_json::from_str(&server.good(&["config"])).unwrap();
    assert_eq!(config["hostname"], "sim.example:8443");
    assert_eq!(
        server.good(&["config", "--client", "default"]),
        config.to_string()
    );
    let state = |name: &str| {
        let path = server.directory.path().join("state").join(name);
        std::fs::read_to_string(path).unwrap()
    };
    assert_eq!(state("device-config.json"), config.to_string());
    assert_eq!(
        server.good(&["config", "--base64"]),
        state("device-config.b64")
    );
    assert_eq!(server.good(&["ca"]), state("ca.crt").trim_end());

    let token = server.good(&["token", "ci"]);
    assert_eq!(token.len(), 43);
    let clients = server.good(&["clients"]);
    let ci = clients
        .lines()
        .find(|line| line.starts_with("ci "))
        .unwrap();
    assert!(ci.contains("unbound") && ci.ends_with(&token), "{ci}");
    assert!(
        server
            .bad(&["config", "--client", "ci"])
            .contains("one-time token")
    );
    server.good(&["revoke", "default"]);
    assert!(server.good(&["clients"]).contains("default  revoked"));
    server.good(&["unrevoke", "default"]);
    assert!(server.good(&["clients"]).contains("default  bound"));

    assert_eq!(server.good(&["rotate-server-key"]), "100");
    assert_eq!(server.good(&["rotate-server-key", "--id", "7"]), "7");
    assert!(
        server
            .good(&["config"])
            .contains(r#""serverPublicKeyId":"7""#)
    );
}

#[test]
fn faults_calls_and_clock_are_controlled() {
    let server = Server::start(&[]);
    let fault = server.good(&[
        "fault",
        "--times",
        "2",
        "throttled",
        "--retry-after",
        "5",
        "--endpoint",
        "get_secret",
    ]);
    assert_eq!(
        fault,
        r#"{"kind":{"throttled":{"retryAfter":5}},"times":2,"endpoint":"get_secret"}"#
    );
    for arguments in [
        &["status", "500", "--body", "x"][..],
        &["too-many-requests", "--retry-after", "1"],
        &["bad-gateway"],
        &["key", "9"],
        &["invalid-client-version"],
        &["access-denied", "--message", "m"],
        &["latency", "5"],
        &["hang", "--client", "default"],
        &["reset"],
        &["truncate"],
        &["stall"],
        &["corrupt-tag"],
        &["garbage"],
        &["empty"],
        &["plaintext", "{}"],
        &["huge", "100", "--declared"],
        &["untrusted-certificate"],
    ] {
        server.good(&[&["fault"], arguments].concat());
    }
    assert_eq!(server.good(&["fault", "list"]).lines().count(), 18);
    assert_eq!(server.good(&["fault", "clear"]), "");
    assert_eq!(server.good(&["calls", "--json"]), "{}");
    assert!(server.good(&["calls", "--reset"]).starts_with("client"));
    assert_eq!(server.good(&["requests"]), "");
    server.good(&["clock", "-5000"]);
}

#[test]
fn sigterm_ends_it_at_once_and_a_restart_keeps_the_configs() {
    let mut server = Server::start(&[]);
    let config = server.good(&["config"]);
    assert_eq!(server.terminate(), Some(0));
    let entries = std::fs::read_dir(server.directory.path()).unwrap();
    let names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["state"], "nothing is written elsewhere");

    let kept = server.directory.path().join("state");
    let port = server.ready["listen"].as_str().unwrap().to_owned();
    let again = Server::start_at(&["--state-dir", kept.to_str().unwrap(), "--listen", &port]);
    assert_eq!(again.good(&["config"]), config);
}

#[test]
fn what_cannot_be_served_is_said() {
    let server = Server::start(&[]);
    let directory = tempfile::tempdir().unwrap();
    let vault = directory.path().join("vault.yaml");
    std::fs::write(&vault, "records: [{title: A, pasword: x}]").unwrap();
    let serve = |arguments: &[&str]| {
        let output = Command::new(BINARY)
            .args(["--admin", "127.0.0.1:0", "serve"])
            .args(arguments)
            .current_dir(directory.path())
            .output()
            .unwrap();
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let taken = server.ready["listen"].as_str().unwrap();
    let vault = vault.to_str().unwrap();
    for (arguments, part) in [
        (
            &["--vault", "missing.yaml"][..],
            "missing.yaml: No such file",
        ),
        (&["--vault", vault], "A: unknown key `pasword`"),
        (&["--vault", EXAMPLE, "--listen", taken], "can't listen on"),
        (&["--vault", EXAMPLE, "--listen", "x"], "--listen"),
        (&["--vault", EXAMPLE, "--cert", "c"], "--key"),
        (
            &["--vault", EXAMPLE, "--state-dir", "/proc/nope"],
            "/proc/nope",
        ),
        (&[], "--vault"),
    ] {
        let message = serve(arguments);
        assert!(message.contains(part), "{arguments:?}: {message}");
    }
    assert!(Path::new(EXAMPLE).exists());
}

#[test]
fn help_names_every_command() {
    let output = Command::new(BINARY).arg("--help").output().expect("help");
    let help = String::from_utf8(output.stdout).unwrap();
    for command in [
        "serve",
        "set",
        "add",
        "rm",
        "mv",
        "rotate-server-key",
        "calls",
        "fault",
        "config",
        "revoke",
        "unrevoke",
    ] {
        assert!(
            help.contains(&format!("\n  {command} ")),
            "{command}: {help}"
        );
    }
}
