//! Attachments: downloaded once for each change, byte for byte, and kept through whatever their server does.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
#![expect(dead_code, reason = "each test binary uses a part of the support")]

mod support;

use std::fs;
use std::time::Duration;

use keeper_agent::Reason;
use keeper_sim::vault::FileQuirk;
use keeper_sim::{Edit, Fault, FaultKind, FileEntry, Json};
use support::{Bench, failures, names, refresh, until};

const VAULT: &str = "
folders:
- name: Prod
  records:
  - title: In folder
    files: [{name: 'a:b.txt', text: in folder}]
records:
- title: TLS
  password: secret
  files:
  - {name: tls.crt, title: Server cert, uid: fAAAAAAAAAAAAAAAAAAAAA, base64: /////wABAgM=}
  - {name: tls.key, text: first key}
  - {name: twin, text: a}
  - {name: twin, text: b}
- {title: Other, password: other}
";

fn attach(bench: &Bench, record: &str, name: &str, text: &str) {
    attach_file(bench, record, file(name, text));
}

fn attach_file(bench: &Bench, record: &str, file: FileEntry) {
    let record = record.into();
    bench.sim.edit(&Edit::Attach { record, file }).unwrap();
}

fn file(name: &str, text: &str) -> FileEntry {
    FileEntry {
        name: name.into(),
        text: Some(text.into()),
        ..FileEntry::default()
    }
}

fn downloads(bench: &Bench) -> u64 {
    bench.sim.calls().to("file")
}

#[tokio::test]
async fn a_changed_attachment_costs_one_get_and_an_idle_refresh_none() {
    let outputs = [
        "TLS / Server cert -> tls.crt",
        "keeper://TLS/file/fAAAAAAAAAAAAAAAAAAAAA -> same.crt",
        "keeper://TLS/file/tls.key -> deep/tls.key",
        "Prod/In folder / a:b.txt -> ab",
        "TLS[password] -> password",
    ];
    let bench = Bench::new(VAULT, &outputs).await;
    let mut agent = bench.agent();
    let first = refresh(&mut agent).await;
    assert_eq!((failures(&first), first.changed), (vec![], 5));
    let bytes = [255, 255, 255, 255, 0, 1, 2, 3];
    for path in ["tls.crt", "same.crt"] {
        assert_eq!(fs::read(bench.dir().join(path)).unwrap(), bytes);
    }
    assert_eq!(bench.read("deep/tls.key").unwrap(), "first key");
    assert_eq!(bench.read("ab").unwrap(), "in folder");
    assert_eq!(downloads(&bench), 3, "one file for two outputs");
    assert_eq!(bench.metric("keeper_sidecar_secrets_fetched_total"), 5.0);

    assert_eq!(refresh(&mut agent).await.changed, 0);
    // What changes beside it takes it along without a download.
    bench.sim.set("TLS", "password", "other").unwrap();
    attach(&bench, "TLS", "tls.key", "second key");
    assert_eq!(refresh(&mut agent).await.changed, 2);
    assert_eq!(bench.read("deep/tls.key").unwrap(), "second key");
    assert_eq!(fs::read(bench.dir().join("tls.crt")).unwrap(), bytes);
    assert_eq!(downloads(&bench), 4);
    assert_eq!(
        names(&bench.dir()),
        ["ab", "deep", "password", "same.crt", "tls.crt"]
    );

    // The same bytes again are no change.
    let before = fs::read_link(bench.dir().join("..data")).unwrap();
    attach(&bench, "TLS", "tls.key", "second key");
    assert_eq!(refresh(&mut agent).await.changed, 0);
    assert_eq!(fs::read_link(bench.dir().join("..data")).unwrap(), before);
    assert_eq!((downloads(&bench), staged(&bench)), (5, 0));
}

/// Files on their way, of which none is to stay.
fn staged(bench: &Bench) -> usize {
    let entries = fs::read_dir(bench.dir()).unwrap();
    entries
        .filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.as_encoded_bytes().starts_with(b"..new")
        })
        .count()
}

#[tokio::test]
async fn a_restarted_sidecar_knows_what_it_has() {
    let bench = Bench::new(VAULT, &["TLS / tls.key -> key"]).await;
    let minute = Duration::from_secs(60);
    bench.runner().first_fetch(minute).await.unwrap();
    assert_eq!(downloads(&bench), 1);
    let mut second = bench.runner();
    let calls = bench.calls();
    tokio::select! {
        ended = second.run(|_| {}) => panic!("{ended:?}"),
        () = until("two more calls", || bench.calls() >= calls + 2) => {}
    }
    assert_eq!(downloads(&bench), 1, "nothing has changed");
    // A file that is lost comes back.
    drop(second);
    fs::remove_file(bench.dir().join("..data/key")).unwrap();
    bench.runner().first_fetch(minute).await.unwrap();
    assert_eq!(bench.read("key").unwrap(), "first key");
    assert_eq!(downloads(&bench), 2);
}

#[tokio::test]
async fn what_keeper_says_of_an_attachment_tells_that_it_changed() {
    let bench = Bench::new(VAULT, &["TLS / note -> note"]).await;
    let attach_note = |text: &str, last_modified| {
        let uid = Some("nAAAAAAAAAAAAAAAAAAAAA".to_owned());
        let last_modified = Some(last_modified);
        let file = FileEntry {
            uid,
            last_modified,
            ..file("note", text)
        };
        attach_file(&bench, "TLS", file);
    };
    attach_note("one", Json::Number(1.into()));
    let mut agent = bench.agent();
    assert_eq!(refresh(&mut agent).await.changed, 1);
    for (text, last_modified) in [
        ("two", Json::Number(2.into())),
        ("six", Json::string("2.5")),
        // Without a time the size tells, or else the revision of the record.
        ("three", Json::Null),
        ("seven", Json::Null),
    ] {
        attach_note(text, last_modified);
        assert_eq!(refresh(&mut agent).await.changed, 1, "{text}");
        assert_eq!(bench.read("note").unwrap(), text);
    }
    let before = downloads(&bench);
    bench.sim.set("TLS", "password", "x").unwrap();
    refresh(&mut agent).await;
    refresh(&mut agent).await;
    assert_eq!(downloads(&bench), before + 1);
}

#[tokio::test]
async fn a_bad_download_keeps_what_is_published_and_the_rest_goes_on() {
    let outputs = [
        "TLS / tls.key -> key",
        "TLS[password] -> password",
        "Other[password] -> other",
    ];
    let bench = Bench::new(VAULT, &outputs).await;
    let mut agent = bench.agent();
    agent.set_call_deadline(Duration::from_secs(3));
    refresh(&mut agent).await;
    let status = |status, headers| FaultKind::Status {
        status,
        body: "<Error>CANARY</Error>".into(),
        content_type: None,
        headers,
    };
    let elsewhere = format!("https://{}/files/elsewhere", bench.sim.hostname());
    let huge = FaultKind::Huge {
        bytes: 200 * 1024 * 1024,
        declared: true,
    };
    for (kind, says, reason) in [
        (
            status(404, vec![]),
            "answered with status 404",
            Reason::Unreachable,
        ),
        (
            status(403, vec![]),
            "answered with status 403",
            Reason::Unreachable,
        ),
        (
            status(500, vec![]),
            "answered with status 500",
            Reason::Unreachable,
        ),
        (
            status(302, vec![("Location".into(), elsewhere)]),
            "answered with status 302",
            Reason::Unreachable,
        ),
        (
            FaultKind::BadGateway,
            "answered with status 502",
            Reason::Unreachable,
        ),
        (FaultKind::Reset, "localhost", Reason::Unreachable),
        (FaultKind::Truncate, "is broken", Reason::Unreachable),
        (FaultKind::Garbage, "does not decrypt", Reason::Unreachable),
        (FaultKind::Empty, "does not decrypt", Reason::Unreachable),
        (
            FaultKind::CorruptTag,
            "does not decrypt",
            Reason::Unreachable,
        ),
        (
            FaultKind::Stall,
            "no complete answer within",
            Reason::Unreachable,
        ),
        (
            FaultKind::Hang,
            "no complete answer within",
            Reason::Unreachable,
        ),
        (huge, "is larger than", Reason::Unreadable),
    ] {
        let name = format!("{kind:?}");
        attach(&bench, "TLS", "tls.key", &format!("second key, {name}"));
        let published = bench.read("key");
        let password = bench.read("password");
        for record in ["TLS", "Other"] {
            bench.sim.set(record, "password", &name).unwrap();
        }
        bench.sim.fault(Fault::new(kind).on("file"));
        let failed = refresh(&mut agent).await;
        let text = failures(&failed).join("; ");
        assert!(
            text.starts_with("keeper.security/secrets: the file `tls.key` of the record `TLS`: ")
                && text.contains(says),
            "{name}: {text}"
        );
        assert!(
            !text.contains("CANARY") && !text.contains("signature="),
            "{text}"
        );
        assert_eq!(failed.failures.first().unwrap().reason(), reason, "{name}");
        assert_eq!(
            (bench.read("key"), staged(&bench)),
            (published, 0),
            "{name}"
        );
        // What is of one record changes together; the rest goes on.
        assert_eq!(bench.read("password"), password, "{name}");
        assert_eq!(bench.read("other").unwrap(), name);
        bench.sim.clear_faults();
        assert_eq!(failures(&refresh(&mut agent).await), [""; 0], "{name}");
        assert_eq!(bench.read("key").unwrap(), format!("second key, {name}"));
        assert_eq!(bench.read("password").unwrap(), name);
    }
}

#[tokio::test]
async fn a_server_that_hangs_is_asked_once_a_cycle() {
    let outputs = ["TLS / tls.key -> key", "TLS / tls.crt -> crt"];
    let bench = Bench::new(VAULT, &outputs).await;
    let mut agent = bench.agent();
    agent.set_call_deadline(Duration::from_secs(1));
    bench.sim.fault(Fault::new(FaultKind::Hang).on("file"));
    let failed = refresh(&mut agent).await;
    assert_eq!((failed.failures.len(), downloads(&bench)), (2, 1));
}

#[tokio::test]
async fn an_attachment_over_the_limit_is_refused_by_name() {
    let bench = Bench::new(VAULT, &["TLS / big -> big", "Other[password] -> password"]).await;
    let big = FileEntry {
        text: None,
        size: Some(65 * 1024 * 1024),
        ..file("big", "")
    };
    attach_file(&bench, "TLS", big);
    let failed = refresh(&mut bench.agent()).await;
    let text = failures(&failed).join("; ");
    assert!(
        text.contains("the file `big` of the record `TLS`: ") && text.contains("tmpfs-size"),
        "{text}"
    );
    assert_eq!(
        failed.failures.first().unwrap().reason(),
        Reason::Unreadable
    );
    assert_eq!(
        (downloads(&bench), bench.read("password").as_deref()),
        (0, Some("other"))
    );
}

#[tokio::test]
async fn an_attachment_that_is_not_there_names_the_nearest() {
    let bench = Bench::new(
        VAULT,
        &[
            "TLS / tls.cert -> a",
            "TLS / twin -> b",
            "TLS / broken -> c",
            "Other[password] -> password",
        ],
    )
    .await;
    let broken = FileEntry {
        quirks: [FileQuirk::NoUrl].into(),
        ..file("broken", "x")
    };
    attach_file(&bench, "TLS", broken);
    let failed = refresh(&mut bench.agent()).await;
    assert_eq!(
        failures(&failed),
        [
            "keeper.security/secrets: the record `TLS` has no file `tls.cert`; the nearest are `tls.crt`, `tls.key`",
            "keeper.security/secrets: the record `TLS` has 2 files `twin`: name the one by its UID",
            "keeper.security/secrets: the file `broken` of the record `TLS`: the file broken cannot be downloaded: the answer has no https URL for it",
        ]
    );
    assert_eq!(bench.read("password").as_deref(), Some("other"));
}
