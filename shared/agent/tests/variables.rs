//! The files by which environment variables reach the application: what is in them, and what can't be.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
#![expect(dead_code, reason = "each test binary uses a part of the support")]

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use keeper_agent::Agent;
use keeper_contract::{Environment, Exec, Naming, Selection, Variables};
use keeper_sim::{Change, Edit, Json};
use support::{Bench, failures, refresh};

const VAULT: &str = "
records:
  - title: Orders
    fields:
      - {type: login, value: app}
      - {type: password, value: s3cr3t}
      - {type: url, value: [a, b]}
";

/// A selection as annotations have it: `Orders`, or `Orders[password]`.
fn one(text: &str, naming: Naming) -> Variables {
    let selection = match text.split_once('[') {
        Some((record, field)) => Selection::Field {
            record: record.parse().unwrap(),
            field: field.trim_end_matches(']').to_owned(),
        },
        None => Selection::Record(text.parse().unwrap()),
    };
    Variables {
        selection,
        fields: Vec::new(),
        naming,
        annotation: format!("keeper.security/of-{text}"),
    }
}

fn written(name: &str, text: &str) -> Variables {
    one(text, Naming::Written(name.to_owned()))
}

fn prefixed(prefix: &str, text: &str) -> Variables {
    one(text, Naming::Prefix(prefix.to_owned()))
}

async fn pod(variables: Vec<Variables>, exec: bool, file_key_ref: bool) -> Bench {
    let mut bench = Bench::new(VAULT, &[]).await;
    let program = bench.root.path().join("program");
    fs::write(&program, "the program").unwrap();
    bench.config.environment = Some(Environment {
        variables,
        exec: exec.then(|| Exec {
            program: program.to_str().unwrap().to_owned(),
            mount_path: "/keeper-exec".to_owned(),
        }),
        file_key_ref,
    });
    bench
}

fn set(bench: &Bench, field: &str, value: &str) {
    let changes = vec![Change {
        name: field.into(),
        value: Json::string(value),
    }];
    let edit = Edit::Set {
        record: "Orders".into(),
        changes,
    };
    bench.sim.edit(&edit).unwrap();
}

fn read(bench: &Bench, path: &str) -> Option<String> {
    fs::read_to_string(bench.volume().join(path)).ok()
}

/// What `keeper-exec` would set, as it reads the file.
fn seen(bench: &Bench) -> Vec<(bool, String)> {
    let file = fs::read(bench.volume().join("exec/variables")).unwrap();
    let variables = keeper_exec::variables(&file).map(|variable| {
        let variable = variable.unwrap();
        let entry = variable.entry.strip_suffix(b"\0").unwrap();
        (
            variable.replaces,
            String::from_utf8(entry.to_vec()).unwrap(),
        )
    });
    variables.collect()
}

async fn failure(agent: &mut Agent) -> String {
    let refreshed = refresh(agent).await;
    let [failure] = &failures(&refreshed)[..] else {
        panic!("{:?}", failures(&refreshed))
    };
    failure.clone()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[tokio::test]
async fn both_files_hold_the_variables() {
    let bench = pod(
        vec![
            prefixed("db-", "Orders"),
            written("my.key", "Orders[password]"),
        ],
        true,
        false,
    )
    .await;
    let mut agent = bench.agent();
    assert!(refresh(&mut agent).await.is_complete());
    let of = |replaces, entry: &str| (replaces, entry.to_owned());
    assert_eq!(
        seen(&bench),
        [
            of(false, "DB_LOGIN=app"),
            of(false, "DB_PASSWORD=s3cr3t"),
            of(false, "DB_URL=[\"a\",\"b\"]"),
            of(true, "my.key=s3cr3t"),
        ]
    );
    assert!(read(&bench, "file-key-ref/variables").is_none());

    let bench = pod(
        vec![
            written("A", "Orders[login]"),
            written("B", "Orders[password]"),
        ],
        true,
        true,
    )
    .await;
    set(&bench, "password", "first\n$second \"`\\ # ü");
    assert!(refresh(&mut bench.agent()).await.is_complete());
    let text = read(&bench, "file-key-ref/variables").unwrap();
    assert_eq!(text, "A='app'\nB='first\n$second \"`\\ # ü'\n");
    assert_eq!(seen(&bench)[1].1, "B=first\n$second \"`\\ # ü");

    let volume = bench.volume();
    assert_eq!(
        read(&bench, "exec/keeper-exec").as_deref(),
        Some("the program")
    );
    assert_eq!(mode(&volume.join("exec/keeper-exec")), 0o555);
    assert_eq!(mode(&volume.join("exec/variables")), 0o444);
    assert_eq!(mode(&volume.join("file-key-ref/variables")), 0o400);
}

#[tokio::test]
async fn a_change_is_written_and_nothing_else() {
    let bench = pod(vec![written("A", "Orders[password]")], true, true).await;
    let mut agent = bench.agent();
    assert!(!agent.is_published());
    assert_eq!(refresh(&mut agent).await.changed, 2);
    assert!(agent.is_published());
    let inode = |path: &str| fs::metadata(bench.volume().join(path)).unwrap().ino();
    let all = || {
        [
            "exec/variables",
            "exec/keeper-exec",
            "file-key-ref/variables",
        ]
        .map(inode)
    };
    let before = all();
    assert_eq!(refresh(&mut agent).await.changed, 0);
    // A container may be running the program.
    assert_eq!(refresh(&mut bench.agent()).await.changed, 0);
    assert_eq!(all(), before);
    set(&bench, "password", "new");
    assert_eq!(refresh(&mut agent).await.changed, 2);
    assert_eq!(seen(&bench), [(true, "A=new".to_owned())]);
    assert_eq!(inode("exec/keeper-exec"), before[1]);
    agent.remove_leftovers();
    assert_eq!(
        support::names(&bench.volume().join("exec")),
        ["keeper-exec", "variables"]
    );
    let generations = fs::read_dir(bench.volume().join("file-key-ref")).unwrap();
    assert_eq!(
        generations.count(),
        3,
        "one generation, `..data` and the link"
    );
}

#[tokio::test]
async fn a_program_of_another_version_is_replaced() {
    let bench = pod(vec![written("A", "Orders[password]")], true, false).await;
    bench.agent();
    let running = fs::File::open(bench.volume().join("exec/keeper-exec")).unwrap();
    fs::write(bench.root.path().join("program"), "a newer one").unwrap();
    bench.agent();
    assert_eq!(
        read(&bench, "exec/keeper-exec").as_deref(),
        Some("a newer one")
    );
    assert_eq!(std::io::read_to_string(running).unwrap(), "the program");
}

#[tokio::test]
async fn what_kubernetes_cannot_read_is_said_with_both_cures() {
    let bench = pod(
        vec![
            written("A", "Orders[password]"),
            written("B", "Orders[login]"),
        ],
        false,
        true,
    )
    .await;
    let mut agent = bench.agent();
    assert!(refresh(&mut agent).await.is_complete());
    let before = read(&bench, "file-key-ref/variables");
    let long = format!("x\n{}", "y".repeat(64 * 1024));
    for (value, why) in [
        ("it's", "a single quote"),
        ("a\r\nb", "a carriage return"),
        (long.as_str(), "a line of 64 KiB"),
    ] {
        set(&bench, "password", value);
        let said = failure(&mut agent).await;
        for part in [
            "keeper.security/of-Orders[password]",
            "`password` of the record `Orders`",
            "`A`",
            why,
            "env-method to exec",
            "change the value",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(!said.contains("it's"), "{said}");
        // One that the kubelet can't read would cost the pod all of them.
        assert_eq!(read(&bench, "file-key-ref/variables"), before);
    }
    // `keeper-exec` takes them all.
    let bench = pod(vec![written("A", "Orders[password]")], true, false).await;
    for value in ["it's", "a\r\nb", &long] {
        set(&bench, "password", value);
        assert!(refresh(&mut bench.agent()).await.is_complete());
        assert_eq!(seen(&bench), [(true, format!("A={value}"))]);
    }
}

#[tokio::test]
async fn what_no_environment_can_hold_is_said() {
    let bench = pod(vec![written("A", "Orders[password]")], true, false).await;
    let longest = "x".repeat(128 * 1024 - "A=".len() - 1);
    set(&bench, "password", &longest);
    assert!(refresh(&mut bench.agent()).await.is_complete());
    for (value, why) in [("a\0b", "a NUL byte"), (&format!("{longest}x"), "128 KiB")] {
        set(&bench, "password", value);
        let said = failure(&mut bench.agent()).await;
        assert!(said.contains(why) && said.contains("`password`"), "{said}");
    }
    assert_eq!(
        seen(&bench)[0].1.len(),
        longest.len() + 2,
        "the last good one stays"
    );
}

#[tokio::test]
async fn a_vault_cannot_choose_any_name() {
    for (variables, field, parts) in [
        (
            vec![prefixed("", "Orders")],
            "Path",
            &["`PATH`", "no vault may set it", "env-prefix"][..],
        ),
        (
            vec![prefixed("LD_", "Orders")],
            "preload",
            &["`LD_", "no vault may set it"],
        ),
        (
            vec![prefixed("", "Orders")],
            "LOGIN",
            &["`LOGIN`", "already"],
        ),
        (
            vec![
                written("X_PASSWORD", "Orders[login]"),
                prefixed("X_", "Orders"),
            ],
            "y",
            &["`X_PASSWORD`", "that is `login` of `Orders` already"],
        ),
        (vec![prefixed("", "Orders")], "-", &["no ASCII letter"]),
    ] {
        let bench = pod(variables, true, false).await;
        set(&bench, field, "x");
        let said = failure(&mut bench.agent()).await;
        for part in parts {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(read(&bench, "exec/variables").is_none());
    }
}

#[tokio::test]
async fn a_record_that_is_missing_leaves_what_is_there() {
    let bench = pod(
        vec![
            written("A", "Orders[password]"),
            written("B", "Order[login]"),
        ],
        true,
        false,
    )
    .await;
    let mut agent = bench.agent();
    let said = failure(&mut agent).await;
    assert!(
        said.contains("keeper.security/of-Order[login]") && said.contains("`Orders`"),
        "{said}"
    );
    assert!(!agent.is_published() && read(&bench, "exec/variables").is_none());
}
