//! One refresh after another against keeper-sim: what is published, what is asked for, and what survives.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]
#![expect(dead_code, reason = "each test binary uses a part of the support")]

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use keeper_agent::{Node, Reason};
use keeper_contract::{Directory, Place};
use keeper_sim::{Change, Edit, Fault, FaultKind};
use support::{Bench, failures, names, refresh};

const VAULT: &str = "
records:
- {title: Orders DB, login: svc, password: first}
- {title: Payments, password: pay}
- {title: Twin, uid: AAAAAAAAAAAAAAAAAAAAAA, password: a}
- {title: Twin, uid: BBBBBBBBBBBBBBBBBBBBBB, password: b}
";

#[tokio::test]
async fn a_change_is_one_swap_and_no_change_touches_nothing() {
    let bench = Bench::new(
        VAULT,
        &["Orders DB -> orders.json", "Payments[password] -> pay"],
    )
    .await;
    let mut agent = bench.agent();
    let first = refresh(&mut agent).await;
    assert_eq!((failures(&first), first.changed), (vec![], 2));
    assert_eq!(
        bench.read("orders.json").unwrap(),
        "{\n  \"login\": \"svc\",\n  \"password\": \"first\"\n}"
    );
    assert_eq!(bench.read("pay").unwrap(), "pay");

    let snapshot = || {
        let inode = |path: &str| fs::metadata(bench.dir().join(path)).unwrap();
        ["", "orders.json", "pay"].map(|path| {
            let meta = inode(path);
            (
                meta.ino(),
                meta.mtime(),
                meta.mtime_nsec(),
                meta.ctime_nsec(),
            )
        })
    };
    let before = snapshot();
    assert_eq!(refresh(&mut agent).await.changed, 0);
    assert_eq!(snapshot(), before);

    bench.sim.set("Orders DB", "password", "second").unwrap();
    assert_eq!(refresh(&mut agent).await.changed, 1);
    assert!(bench.read("orders.json").unwrap().contains("\"second\""));
    assert_eq!(bench.read("pay").unwrap(), "pay");
    assert_eq!(
        bench.metric("keeper_sidecar_published_total{result=\"changed\"}"),
        2.0
    );
    assert_eq!(
        bench.metric("keeper_sidecar_published_total{result=\"unchanged\"}"),
        1.0
    );
    assert_eq!(bench.metric("keeper_sidecar_secrets_fetched_total"), 6.0);
    assert_eq!(
        bench.metric("keeper_sidecar_fetch_duration_seconds_count"),
        3.0
    );
}

#[tokio::test]
async fn every_kind_of_directory_gets_its_files() {
    let outputs = [
        "Orders DB[password] -> shared",
        "Orders DB[password] -> single",
        "Orders DB[password] -> deep/own",
    ];
    let mut bench = Bench::new(VAULT, &outputs).await;
    let theirs = tempfile::tempdir().unwrap();
    let own = Place::PodVolume(theirs.path().display().to_string());
    for (at, sub_path, place) in [("/etc", "files/1", Place::Files), ("/data", "", own)] {
        bench.config.directories.push(Directory {
            mount_path: at.into(),
            sub_path: sub_path.into(),
            place,
            mount_points: Vec::new(),
        });
    }
    for (index, output) in bench.config.outputs.iter_mut().enumerate() {
        output.directory = index;
    }
    let places = [
        bench.dir().join("shared"),
        bench.volume().join("files/1/single"),
        theirs.path().join("deep/own"),
    ];
    let read = || {
        places
            .each_ref()
            .map(|place| fs::read_to_string(place).unwrap_or_default())
    };
    let mut agent = bench.agent();
    assert!(!agent.is_published());
    assert_eq!(fs::read(&places[1]).unwrap(), b"", "there to be mounted");
    let first = refresh(&mut agent).await;
    assert_eq!((failures(&first), first.changed), (vec![], 3));
    assert_eq!(read(), ["first"; 3]);
    assert_eq!(refresh(&mut agent).await.changed, 0);
    bench.sim.set("Orders DB", "password", "second").unwrap();
    // Another process goes on where this one ends.
    let mut agent = bench.agent();
    assert!(agent.is_published());
    assert_eq!(refresh(&mut agent).await.changed, 3);
    assert_eq!(read(), ["second"; 3]);
}

#[tokio::test]
async fn one_call_a_cycle_for_one_output_and_for_fifty() {
    let records: String = (0..60)
        .map(|n| format!("- {{title: r{n}, password: p{n}}}\n"))
        .collect();
    for count in [1, 50] {
        let outputs: Vec<String> = (0..count).map(|n| format!("r{n} -> {n}.json")).collect();
        let outputs: Vec<&str> = outputs.iter().map(String::as_str).collect();
        let bench = Bench::new(&format!("records:\n{records}"), &outputs).await;
        let mut agent = bench.agent();
        for _ in 0..3 {
            assert!(refresh(&mut agent).await.is_complete());
        }
        assert_eq!((bench.calls(), bench.sim.calls().total()), (3, 3));
        let filters: Vec<usize> = bench.sim.requests().iter().map(filter).collect();
        assert_eq!(
            filters,
            [0, count, count],
            "all at first, then what is needed"
        );
        assert_eq!(names(&bench.dir()).len(), count);
    }
}

#[tokio::test]
async fn a_pod_that_selects_nothing_authenticates() {
    let bench = Bench::new(VAULT, &[]).await;
    let mut agent = bench.agent();
    assert!(refresh(&mut agent).await.is_complete());
    assert_eq!(bench.calls(), 1);
    assert_eq!(names(&bench.dir()), [""; 0]);
    bench
        .sim
        .set_revoked(&bench.sim.clients()[0].name, true)
        .unwrap();
    assert_eq!(
        refresh(&mut agent).await.failures[0].reason(),
        Reason::Denied
    );
}

#[tokio::test]
async fn whatever_keeper_does_the_files_stay() {
    let bench = Bench::new(VAULT, &["Orders DB -> orders.json", "Payments -> pay.json"]).await;
    let mut agent = bench.agent();
    refresh(&mut agent).await;
    let published = [bench.read("orders.json"), bench.read("pay.json")];
    bench.sim.set("Orders DB", "password", "second").unwrap();
    let sealed = |text: &str| FaultKind::Plaintext { text: text.into() };
    for (kind, reason) in [
        (FaultKind::BadGateway, Reason::Unreachable),
        (FaultKind::Reset, Reason::Unreachable),
        (FaultKind::Truncate, Reason::Unreachable),
        (FaultKind::CorruptTag, Reason::Unreachable),
        (FaultKind::Garbage, Reason::Unreachable),
        (FaultKind::Empty, Reason::Unreachable),
        (sealed("{"), Reason::Unreachable),
        (sealed("{\"records\": 7}"), Reason::Unreachable),
        (FaultKind::UntrustedCertificate, Reason::Unreachable),
        (
            FaultKind::Throttled { retry_after: None },
            Reason::Throttled,
        ),
        (
            FaultKind::TooManyRequests { retry_after: None },
            Reason::Throttled,
        ),
        (FaultKind::AccessDenied { message: None }, Reason::Denied),
        (FaultKind::InvalidClientVersion, Reason::Config),
    ] {
        bench.sim.fault(Fault::new(kind.clone()));
        // A new process: a connection that is open already has its certificate behind it.
        let failed = refresh(&mut bench.agent()).await;
        bench.sim.clear_faults();
        let reasons: Vec<Reason> = failed.failures.iter().map(|f| f.reason()).collect();
        assert_eq!(reasons, [reason], "{kind:?}");
        assert_eq!(
            [bench.read("orders.json"), bench.read("pay.json")],
            published,
            "{kind:?}"
        );
        assert!(!failed.is_complete() && !failed.answered, "{kind:?}");
    }
    // An answer without a single record: complete, correct, and no reason to remove a file.
    bench.sim.fault(Fault::new(sealed("{}")));
    assert!(refresh(&mut agent).await.ask_again);
    let empty = refresh(&mut agent).await;
    assert_eq!(empty.failures[0].reason(), Reason::NotFound);
    assert_eq!(
        [bench.read("orders.json"), bench.read("pay.json")],
        published
    );
    bench.sim.clear_faults();
    assert_eq!(refresh(&mut agent).await.changed, 1);
}

#[tokio::test]
async fn a_missing_record_names_itself_and_its_neighbours() {
    let bench = Bench::new(VAULT, &["Order DB -> a.json", "Payments[pasword] -> b"]).await;
    let mut agent = bench.agent();
    let failed = refresh(&mut agent).await;
    assert_eq!(
        failures(&failed),
        [
            "keeper.security/secrets: no record `Order DB` is shared with this application; the nearest \
             titles are `Orders DB`",
            "keeper.security/secrets: the record `Payments` has no field `pasword`; it has `password`",
        ]
    );
    assert_eq!(bench.metric("keeper_sidecar_refresh_errors_total"), 1.0);
    assert_eq!(
        bench.metric("keeper_sidecar_refresh_failures_total{reason=\"not_found\"}"),
        1.0
    );
    assert_eq!(
        bench.metric("keeper_sidecar_refresh_failures_total{reason=\"render\"}"),
        1.0
    );
}

#[tokio::test]
async fn one_that_fails_does_not_hold_back_the_others() {
    let bench = Bench::new(
        VAULT,
        &["Orders DB[password] -> o", "Payments[password] -> p"],
    )
    .await;
    let mut agent = bench.agent();
    refresh(&mut agent).await;
    bench.sim.set("Orders DB", "password", "second").unwrap();
    let changes = vec![keeper_sim::Change {
        name: "password".into(),
        value: serde_json::from_str("[]").unwrap(),
    }];
    let record = "Payments".into();
    bench.sim.edit(&Edit::Set { record, changes }).unwrap();
    let failed = refresh(&mut agent).await;
    assert_eq!(failed.failures[0].reason(), Reason::Render);
    assert_eq!(bench.read("o").unwrap(), "second");
    assert_eq!(bench.read("p").unwrap(), "pay", "the last good value");
}

#[tokio::test]
async fn what_a_directory_has_of_a_record_is_of_one_revision() {
    let outputs = [
        "Orders DB[login] -> login",
        "Orders DB[password] -> password",
        "Payments[password] -> pay",
        "Orders DB[login] -> elsewhere",
    ];
    let mut bench = Bench::new(VAULT, &outputs).await;
    let mut other = bench.config.directories[0].clone();
    other.sub_path = "dirs/1".into();
    bench.config.directories.push(other);
    bench.config.outputs[3].directory = 1;
    let elsewhere = || fs::read_to_string(bench.volume().join("dirs/1/elsewhere")).unwrap();
    let mut agent = bench.agent();
    assert!(refresh(&mut agent).await.is_complete());

    let changes = vec![
        Change::text("login", "svc2"),
        Change {
            name: "password".into(),
            value: serde_json::from_str("[]").unwrap(),
        },
    ];
    let record = "Orders DB".into();
    bench.sim.edit(&Edit::Set { record, changes }).unwrap();
    bench.sim.set("Payments", "password", "pay2").unwrap();
    let torn = refresh(&mut agent).await;
    assert_eq!((torn.failures.len(), torn.changed), (1, 2), "{torn:?}");
    assert_eq!(bench.read("login").unwrap(), "svc");
    assert_eq!(bench.read("password").unwrap(), "first");
    assert_eq!(bench.read("pay").unwrap(), "pay2");
    assert_eq!(elsewhere(), "svc2", "each directory is on its own");

    bench.sim.set("Orders DB", "password", "second").unwrap();
    assert_eq!(refresh(&mut agent).await.changed, 2);
    assert_eq!(bench.read("login").unwrap(), "svc2");
    assert_eq!(bench.read("password").unwrap(), "second");
}

#[tokio::test]
async fn before_the_first_publication_it_is_all_or_nothing() {
    let bench = Bench::new(VAULT, &["Orders DB -> o.json", "None -> n.json"]).await;
    let mut agent = bench.agent();
    let mut clock = keeper_agent::schedule::KeeperClock::default();
    let failed = agent.refresh(&mut clock, false, &Node).await;
    assert_eq!(failed.failures.len(), 1);
    assert_eq!(names(&bench.dir()), [""; 0]);
}

#[tokio::test]
async fn a_renamed_record_is_followed_and_a_gone_one_looked_up_once_more() {
    let bench = Bench::new(
        VAULT,
        &["Orders DB[password] -> o", "Payments[password] -> p"],
    )
    .await;
    let mut agent = bench.agent();
    refresh(&mut agent).await;
    bench.sim.set("Orders DB", "title", "Orders").unwrap();
    bench.sim.set("Orders", "password", "renamed").unwrap();
    assert!(refresh(&mut agent).await.is_complete());
    assert_eq!(bench.read("o").unwrap(), "renamed");

    // Another one of the old title does not take its place,
    let add = |title: &str, password: &str| {
        let changes = vec![keeper_sim::Change::text("password", password)];
        let (title, kind, uid, folder) = (title.into(), None, None, None);
        bench
            .sim
            .edit(&Edit::Add {
                title,
                kind,
                uid,
                folder,
                changes,
            })
            .unwrap();
    };
    add("Orders DB", "other");
    assert!(refresh(&mut agent).await.is_complete());
    assert_eq!(bench.read("o").unwrap(), "renamed");

    // until it is gone: one call shows that it is missing, the next looks at everything.
    let record = "Orders".into();
    bench.sim.edit(&Edit::Remove { record }).unwrap();
    bench.sim.set("Payments", "password", "pay-2").unwrap();
    let absent = refresh(&mut agent).await;
    assert!(absent.ask_again && absent.failures.is_empty());
    assert_eq!(
        (bench.read("o").unwrap(), bench.read("p").unwrap()),
        ("renamed".into(), "pay-2".into())
    );
    assert!(refresh(&mut agent).await.is_complete());
    assert_eq!(bench.read("o").unwrap(), "other");
    bench.sim.reset_calls();
    assert!(refresh(&mut agent).await.is_complete());
    assert_eq!(filter(&bench.sim.requests()[0]), 2, "single records again");

    // Two of the name are one too many: the last good value stays.
    bench
        .sim
        .edit(&Edit::Remove {
            record: "Orders DB".into(),
        })
        .unwrap();
    add("Orders DB", "third");
    add("Orders DB", "fourth");
    refresh(&mut agent).await;
    let failed = refresh(&mut agent).await;
    assert_eq!(failed.failures[0].reason(), Reason::NotFound);
    assert_eq!(bench.read("o").unwrap(), "other");
}

#[tokio::test]
async fn of_twins_the_first_by_uid_is_taken_but_a_notation_must_be_clear() {
    let bench = Bench::new(VAULT, &["Twin[password] -> t"]).await;
    assert!(refresh(&mut bench.agent()).await.is_complete());
    assert_eq!(bench.read("t").unwrap(), "a");
    let bench = Bench::new(
        VAULT,
        &[
            "Twin[password] -> t",
            "keeper://Twin/field/password -> n",
            "keeper://BBBBBBBBBBBBBBBBBBBBBB/field/password -> b",
        ],
    )
    .await;
    let failed = refresh(&mut bench.agent()).await;
    assert!(
        failures(&failed)[0].contains("several records fit `Twin`"),
        "{failed:?}"
    );
    assert_eq!(failed.failures.len(), 1);
    assert_eq!(
        (bench.read("t").unwrap(), bench.read("b").unwrap()),
        ("a".into(), "b".into())
    );
}

#[tokio::test]
async fn a_strict_lookup_wants_a_title_to_be_one_record_s() {
    let mut bench = Bench::new(VAULT, &["Twin[password] -> t", "Orders DB[password] -> o"]).await;
    bench.config.strict_lookup = true;
    let failed = refresh(&mut bench.agent()).await;
    assert!(
        failures(&failed)[0].contains("several records fit `Twin`"),
        "{failed:?}"
    );
    assert_eq!((failed.failures.len(), bench.read("t")), (1, None));
}

#[tokio::test]
async fn folder_paths_cost_one_more_call_once() {
    let vault = "
folders:
- name: Production
  folders:
  - name: Databases
    records: [{title: mysql, password: prod}]
- name: Development
  records: [{title: mysql, password: dev}]
";
    let outputs = [
        "Production/Databases/mysql[password] -> p",
        "Development/mysql[password] -> d",
    ];
    let bench = Bench::new(vault, &outputs).await;
    let mut agent = bench.agent();
    for _ in 0..3 {
        assert!(refresh(&mut agent).await.is_complete());
    }
    assert_eq!(
        (bench.read("p").unwrap(), bench.read("d").unwrap()),
        ("prod".into(), "dev".into())
    );
    assert_eq!((bench.calls(), bench.sim.calls().to("get_folders")), (3, 1));
    bench
        .sim
        .edit(&Edit::Move {
            record: "Development/mysql".into(),
            folder: None,
        })
        .unwrap();
    assert!(
        refresh(&mut agent).await.is_complete(),
        "a moved record is followed"
    );

    // Without the folders, the record may be there all the same: not an error of the user's.
    let bench = Bench::new(vault, &outputs).await;
    bench
        .sim
        .fault(Fault::new(FaultKind::BadGateway).on("get_folders"));
    let failed = refresh(&mut bench.agent()).await;
    assert_eq!(failed.failures[0].reason(), Reason::Unreachable);
}

#[tokio::test]
async fn an_unreadable_record_is_not_a_missing_one() {
    let vault = "
records:
- {title: Good, password: g}
- {title: Bad, uid: CCCCCCCCCCCCCCCCCCCCCC, password: b, quirks: [corrupt-data]}
";
    let bench = Bench::new(
        vault,
        &["Good[password] -> g", "CCCCCCCCCCCCCCCCCCCCCC -> b.json"],
    )
    .await;
    let failed = refresh(&mut bench.agent()).await;
    assert_eq!(failed.failures[0].reason(), Reason::Unreadable);
    assert_eq!(bench.read("g").unwrap(), "g");
}

#[tokio::test]
async fn the_mounted_config_is_read_for_each_call() {
    let bench = Bench::new(VAULT, &["Payments[password] -> p"]).await;
    let mut agent = bench.agent();
    refresh(&mut agent).await;
    let other = Bench::new("records: [{title: Payments, password: other}]", &[]).await;
    let mounted = bench.root.path();
    fs::write(
        mounted.join("auth/config"),
        other.sim.device_config().unwrap(),
    )
    .unwrap();
    fs::write(mounted.join("ca.crt"), other.sim.ca_pem()).unwrap();
    assert!(agent.config_has_changed());
    refresh(&mut agent).await;
    assert!(refresh(&mut agent).await.is_complete());
    assert_eq!(bench.read("p").unwrap(), "other");
    assert!(!agent.config_has_changed());
    for (content, part) in [
        (Some("{}"), "the Secret `keeper-auth`: "),
        (
            Some("US:-J-gp7WQTNuI-aDYCN31ot-e6wDns-jTeblI7TPWiOg"),
            "one-time access token",
        ),
        (
            None,
            "the Secret `keeper-auth` has no readable key `config`",
        ),
    ] {
        match content {
            Some(content) => fs::write(mounted.join("auth/config"), content).unwrap(),
            None => fs::remove_file(mounted.join("auth/config")).unwrap(),
        }
        let failed = refresh(&mut agent).await;
        assert_eq!(failed.failures[0].reason(), Reason::Config);
        assert!(
            failures(&failed)[0].contains(part),
            "{:?}",
            failures(&failed)
        );
        assert!(!agent.config_has_changed());
        assert_eq!(bench.read("p").unwrap(), "other");
    }
}

#[tokio::test]
async fn calls_go_through_the_proxy_of_the_config_except_to_this_machine() {
    let mut bench = Bench::new(VAULT, &["Payments[password] -> pay"]).await;
    // Nobody listens on a port that was let go.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = gone.local_addr().unwrap().to_string();
    drop(gone);
    bench.config.proxy = Some(keeper_contract::Proxy {
        url: format!("http://{address}").parse().unwrap(),
        no_proxy: "corp".parse().unwrap(),
    });
    assert!(refresh(&mut bench.agent()).await.is_complete());

    let elsewhere = bench.sim.device_config().unwrap();
    let elsewhere = elsewhere.replace("localhost", "keeper.invalid");
    fs::write(bench.root.path().join("auth/config"), elsewhere).unwrap();
    let refused = refresh(&mut bench.agent()).await;
    let failures = failures(&refused);
    assert!(
        failures[0].contains(&format!("the proxy {address} gives no connection")),
        "{failures:?}"
    );
    assert_eq!(refused.failures[0].reason(), Reason::Unreachable);
    assert_eq!(bench.read("pay").unwrap(), "pay");
}

#[tokio::test]
async fn values_are_rendered_as_the_contract_says() {
    let vault = r#"
records:
- title: R
  notes: some notes
  fields:
  - {type: login, value: [svc]}
  - {type: password, label: Main, value: ['p"\w']}
  - {type: url, value: [https://a, https://b]}
  - {type: oneTimeCode, value: []}
  - {type: text, label: nothing, value: [null]}
  - {type: host, value: [{port: '1', hostName: db, n: 1.5, list: [], empty: {}}]}
  - {type: date, value: [1700000000000]}
  - {type: text, label: Dup, value: [standard]}
  - {type: secret, value: []}
  custom:
  - {type: text, label: Dup, value: [custom]}
  - {type: text, label: Größe, value: ["X\nL", true]}
  - {type: secret, value: [filled]}
"#;
    let fields = [
        "login", "Main", "password", "url", "host", "Größe", "Dup", "secret", "notes", "date",
    ];
    let mut outputs: Vec<String> = fields.iter().map(|f| format!("R[{f}] -> {f}")).collect();
    outputs.push("R -> r.json".into());
    outputs.push("keeper://R/field/url[1] -> n".into());
    outputs.push("keeper://R/field/host[0][hostName] -> h".into());
    let bench = Bench::new(
        vault,
        &outputs.iter().map(String::as_str).collect::<Vec<_>>(),
    )
    .await;
    assert_eq!(failures(&refresh(&mut bench.agent()).await), [""; 0]);
    let expected = r#"{
  "Dup": "custom",
  "Größe": [
    "X\nL",
    true
  ],
  "Main": "p\"\\w",
  "date": 1700000000000,
  "host": {
    "empty": {},
    "hostName": "db",
    "list": [],
    "n": 1.5,
    "port": "1"
  },
  "login": "svc",
  "notes": "some notes",
  "secret": "filled",
  "url": [
    "https://a",
    "https://b"
  ]
}"#;
    assert_eq!(bench.read("r.json").unwrap(), expected);
    for (path, text) in [
        ("login", "svc"),
        ("Main", "p\"\\w"),
        ("password", "p\"\\w"),
        ("url", r#"["https://a","https://b"]"#),
        (
            "host",
            r#"{"port":"1","hostName":"db","n":1.5,"list":[],"empty":{}}"#,
        ),
        ("Größe", r#"["X\nL",true]"#),
        ("Dup", "standard"),
        ("secret", "filled"),
        ("notes", "some notes"),
        ("date", "1700000000000"),
        ("n", "https://b"),
        ("h", "db"),
    ] {
        assert_eq!(bench.read(path).unwrap(), text, "{path}");
    }
    for (selection, part) in [
        (
            "R[oneTimeCode]",
            "the field `oneTimeCode` of the record `R` has no value",
        ),
        (
            "R[nothing]",
            "the field `nothing` of the record `R` has no value",
        ),
        ("R[Login]", "has no field `Login`"),
        ("keeper://R/field/url", "choose one by an index, [0] to [1]"),
        ("keeper://R/field/oneTimeCode", "has no value"),
    ] {
        let bench = Bench::new(vault, &[&format!("{selection} -> x")]).await;
        let failed = failures(&refresh(&mut bench.agent()).await);
        assert!(failed[0].contains(part), "{failed:?}");
    }
}

/// How many records a request asked for by UID.
fn filter(request: &keeper_sim::LoggedRequest) -> usize {
    let payload = serde_json::to_value(request).unwrap();
    let list = payload["payload"]["requestedRecords"].as_array().cloned();
    list.unwrap_or_default().len()
}
