//! What is more than a field: attachments, byte for byte, and folders, record by record. The pods are the examples'.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use keeper_e2e::{CLIENT, Namespace, repository, until};

/// One interval of 15 s, its window, and one frame more.
const SOON: u64 = 35;

#[test]
fn an_attachment_is_downloaded_once_for_each_change() {
    let namespace = Namespace::new("attachment");
    let keeper = namespace.keeper();
    let published = || {
        run(
            &namespace,
            "attachment",
            "sha256sum </keeper/secrets/web/keystore.p12",
        )
    };
    let attach = |seed: u8| {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&bytes(seed)).unwrap();
        let path = file.path().to_str().unwrap();
        keeper.run(&["attach", "web-keystore", path, "--name=keystore.p12"]);
        sha256(file.path())
    };
    let first = attach(1);
    apply(&namespace, "attachment");
    assert_eq!(published(), first);
    let start = keeper.fetches(CLIENT);
    until("two idle refreshes", 60, || {
        (keeper.fetches(CLIENT) >= start + 2).then_some(())
    });
    assert_eq!(keeper.downloads(CLIENT), 1);

    let second = attach(2);
    until("the new attachment", SOON, || {
        (published() == second).then_some(())
    });
    assert_eq!(keeper.downloads(CLIENT), 2);
    // What its server does wrong costs nothing but time.
    keeper.run(&["fault", "status", "404", "--endpoint=file"]);
    let third = attach(3);
    until("a failed download", SOON, || {
        let log = namespace.kubectl(&[
            "logs",
            "deployment/attachment",
            "--container=keeper-sidecar",
        ]);
        log.contains("the file `keystore.p12` of the record `web-keystore`")
            .then_some(())
    });
    assert_eq!(published(), second);
    keeper.run(&["fault", "clear"]);
    until("the attachment after the fault", SOON, || {
        (published() == third).then_some(())
    });
}

#[test]
fn a_folders_records_come_are_renamed_and_go() {
    let namespace = Namespace::new("folder");
    let keeper = namespace.keeper();
    apply(&namespace, "folder");
    let names = || run(&namespace, "folder", "ls /keeper/secrets/db");
    let read = |name: &str| {
        run(
            &namespace,
            "folder",
            &format!("cat /keeper/secrets/db/{name}"),
        )
    };
    let expect = |what: &str, want: &[&str]| {
        until(what, SOON, || {
            (names().split_whitespace().collect::<Vec<_>>() == want).then_some(())
        });
    };
    expect("the files", &["MySQL.json", "Redis-cache.json"]);
    assert!(read("MySQL.json").contains("mysql-password"));

    keeper.run(&[
        "add",
        "Orders",
        "password=new",
        "--folder=Production/Databases",
    ]);
    keeper.set("Redis cache", &["title=Valkey", "password=renamed"]);
    expect(
        "the new record",
        &["MySQL.json", "Orders.json", "Redis-cache.json"],
    );
    assert!(
        read("Redis-cache.json").contains("renamed"),
        "the name stays"
    );

    keeper.run(&["mv", "MySQL", "Production"]);
    keeper.run(&["rm", "Orders"]);
    expect("the records that left to go", &["Redis-cache.json"]);
    keeper.run(&["rename-folder", "Production/Databases", "DBs"]);
    keeper.set("Valkey", &["password=followed"]);
    until("the value of the folder that was renamed", SOON, || {
        read("Redis-cache.json").contains("followed").then_some(())
    });
}

fn apply(namespace: &Namespace, example: &str) {
    let manifest = repository().join(format!("examples/{example}.yaml"));
    namespace.kubectl(&["apply", "--filename", manifest.to_str().unwrap()]);
    namespace.wait_for(&format!("deployment/{example}"), "condition=Available", 90);
}

/// What a shell in the example's application prints.
fn run(namespace: &Namespace, example: &str, script: &str) -> String {
    let deployment = format!("deployment/{example}");
    namespace.kubectl(&[
        "exec",
        &deployment,
        "--container=app",
        "--",
        "sh",
        "-c",
        script,
    ])
}

/// 1 MiB, which keeper-sim takes in one edit, in which every byte value occurs.
fn bytes(seed: u8) -> Vec<u8> {
    let mut state = u32::from(seed);
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(1024 * 1024).collect()
}

fn sha256(file: &Path) -> String {
    let file = File::open(file).unwrap();
    let output = Command::new("sha256sum").stdin(file).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}
