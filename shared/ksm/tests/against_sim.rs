//! The client against keeper-sim, which the official SDKs read too: what it reads, and what it makes of
//! everything that a server can do wrong within the protocol.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::time::{Duration, Instant};

use keeper_ksm::{
    Client, ClientOptions, DeviceConfig, Error, ErrorKind, EvaluateError, LookupError, Record,
    Single, SkipReason, Uid, Vault, evaluate, select_one,
};
use keeper_notation::Notation;
use keeper_sim::throttle::Throttle;
use keeper_sim::{Fault, FaultKind, Options, Sim};

const DEADLINE: Duration = Duration::from_secs(2);

const VAULT: &str = r#"
warnings: ["look at this"]
records:
  - title: Orders DB
    login: svc-orders
    password: "p/[w]\\d"
    notes: rotate quarterly
    files:
      - {name: tls.crt, title: Server cert, text: CERT}
      - {name: empty.txt, text: ""}
      - {name: big.bin, size: 300000}
      - {name: gone.txt, text: x, quirks: [not-found]}
      - {name: expired.txt, text: x, quirks: [forbidden]}
      - {name: cut.txt, size: 5000, quirks: [truncated]}
      - {name: corrupt.txt, text: x, quirks: [corrupt]}
      - {name: nowhere.txt, text: x, quirks: [no-url]}
      - {name: nameless.txt, text: x, quirks: [corrupt-metadata]}
  - {title: Keyless, password: k, quirks: [no-key]}
  - {title: Bad data, uid: badAAAAAAAAAAAAAAAAAAA, password: x, quirks: [corrupt-data]}
  - {title: Bad key, password: x, quirks: [corrupt-key]}
  - {title: Bad text, password: x, quirks: [not-json]}
folders:
  - name: Prod
    records:
      - {title: mysql, password: prod}
      - {title: Flat, password: f, quirks: [folder-wrapped]}
    folders:
      - name: Databases
        records:
          - {title: mysql, password: prod-databases}
        folders:
          - name: Old
            records:
              - {title: mysql, password: prod-databases-old}
  - name: Hidden
    quirks: [corrupt-key]
    records:
      - {title: never seen, password: x}
  - name: Unnamed
    quirks: [corrupt-name]
    records:
      - {title: in unnamed, password: u}
"#;

async fn sim() -> Sim {
    let vault = keeper_sim::Vault::parse(VAULT).unwrap();
    Sim::start(vault, Options::default()).await.unwrap()
}

fn options(sim: &Sim) -> ClientOptions {
    ClientOptions {
        extra_ca_pem: Some(sim.ca_pem().as_bytes().to_vec()),
        total_timeout: DEADLINE,
        ..ClientOptions::default()
    }
}

fn client(sim: &Sim) -> Client {
    let config = DeviceConfig::parse(sim.device_config().unwrap().as_bytes()).unwrap();
    Client::new(config, options(sim)).unwrap()
}

/// A client whose config has no server key of its own.
fn client_with_built_in_key(sim: &Sim) -> Client {
    let mut config: serde_json::Value =
        serde_json::from_str(&sim.device_config().unwrap()).unwrap();
    let members = config.as_object_mut().unwrap();
    members.remove("serverPublicKey").unwrap();
    members.remove("serverPublicKeyId");
    let config = DeviceConfig::parse(config.to_string().as_bytes()).unwrap();
    Client::new(config, options(sim)).unwrap()
}

/// The error of a call, which comes within the deadline.
async fn error(client: &Client) -> Error {
    let started = Instant::now();
    let error = client.get_secret(&[]).await.unwrap_err();
    assert!(
        started.elapsed() < DEADLINE + Duration::from_secs(1),
        "{error}"
    );
    error
}

fn password(record: &Record) -> String {
    let content = record.content();
    let field = content
        .fields
        .iter()
        .find(|field| field.is_called("password"));
    field.unwrap().values[0].text().expose().to_owned()
}

fn by_title<'v>(vault: &'v Vault, title: &str) -> &'v Record {
    vault.find(None, &title.parse().unwrap()).unwrap().record
}

#[tokio::test]
async fn a_whole_vault() {
    let sim = sim().await;
    let vault = client(&sim).get_secret(&[]).await.unwrap();
    assert_eq!(vault.warnings, ["look at this"]);
    let mut titles: Vec<&str> = vault.records.iter().map(Record::title).collect();
    titles.sort_unstable();
    assert_eq!(
        titles,
        [
            "Flat",
            "Keyless",
            "Orders DB",
            "in unnamed",
            "mysql",
            "mysql",
            "mysql"
        ]
    );
    assert_eq!(password(by_title(&vault, "Orders DB")), r"p/[w]\d");
    assert_eq!(password(by_title(&vault, "Keyless")), "k");
    assert_eq!(password(by_title(&vault, "Flat")), "f");
    let bad = "badAAAAAAAAAAAAAAAAAAA";
    assert_eq!(
        vault.skipped_record(bad.parse().unwrap()),
        Some(SkipReason::Data)
    );
    let skipped: Vec<String> = vault.skipped.iter().map(ToString::to_string).collect();
    // Three records, a folder, and a file.
    assert_eq!(skipped.len(), 5, "{skipped:?}");
    let notation: Notation = format!("{bad}/field/password").parse().unwrap();
    assert!(matches!(
        evaluate(&vault, None, &notation),
        Err(EvaluateError::Lookup(LookupError::Unreadable { .. }))
    ));
    assert_eq!(sim.calls().to("get_secret"), 1);
}

#[tokio::test]
async fn only_what_is_asked_for_and_what_has_changed() {
    let sim = sim().await;
    let client = client(&sim);
    let uid: Uid = sim.uid_of("Orders DB").unwrap().parse().unwrap();
    let nobody: Uid = "AAAAAAAAAAAAAAAAAAAAAA".parse().unwrap();
    let before = client.get_secret(&[uid, nobody]).await.unwrap();
    assert_eq!(before.records.len(), 1);
    assert_eq!(before.records[0].uid(), uid);
    let payload = sim.requests()[0].payload.clone().unwrap();
    assert_eq!(
        payload["requestedRecords"],
        serde_json::json!([uid.as_str(), nobody.as_str()])
    );
    assert_eq!(payload["clientVersion"], "mr17.3.0");
    sim.set("Orders DB", "password", "new").unwrap();
    let after = client.get_secret(&[uid]).await.unwrap();
    assert_eq!(password(&after.records[0]), "new");
    assert!(after.records[0].revision() > before.records[0].revision());
    client.get_secret(&[]).await.unwrap();
    assert!(
        sim.requests()[2]
            .payload
            .as_ref()
            .unwrap()
            .get("requestedRecords")
            .is_none()
    );
}

#[tokio::test]
async fn folders_and_paths() {
    let sim = sim().await;
    let client = client(&sim);
    let (vault, folders) = tokio::join!(client.get_secret(&[]), client.get_folders());
    let (vault, folders) = (vault.unwrap(), folders.unwrap());
    let names: Vec<&str> = folders.iter().map(|folder| folder.name.as_str()).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    assert_eq!(folders.skipped.len(), 2);
    for (path, want) in [
        ("Prod/mysql", "prod"),
        ("Prod/Databases/mysql", "prod-databases"),
        ("Prod/Databases/Old/mysql", "prod-databases-old"),
        ("Prod/Flat", "f"),
    ] {
        let found = vault.find(Some(&folders), &path.parse().unwrap()).unwrap();
        assert_eq!(password(found.record), want, "{path}");
        assert!(found.others.is_empty());
    }
    let mysql = vault
        .find(Some(&folders), &"mysql".parse().unwrap())
        .unwrap();
    assert_eq!(mysql.others.len(), 2);
    let notation: Notation = "keeper://Prod/Databases/mysql/field/password"
        .parse()
        .unwrap();
    assert!(evaluate(&vault, Some(&folders), &notation).is_ok());
    let notation: Notation = "keeper://mysql/field/password".parse().unwrap();
    assert!(matches!(
        evaluate(&vault, Some(&folders), &notation),
        Err(EvaluateError::Lookup(LookupError::Ambiguous { .. }))
    ));
}

#[tokio::test]
async fn files() {
    let sim = sim().await;
    let client = client(&sim);
    let vault = client.get_secret(&[]).await.unwrap();
    let record = by_title(&vault, "Orders DB");
    let file = |name: &str| {
        let notation: Notation = format!("Orders DB/file/{name}").parse().unwrap();
        match select_one(record, &notation.selector).unwrap() {
            Single::File(file) => file,
            Single::Value(_) => panic!("{name} is no file"),
        }
    };
    assert_eq!(
        client.download(file("tls.crt")).await.unwrap().expose(),
        b"CERT"
    );
    assert_eq!(
        client.download(file("Server cert")).await.unwrap().expose(),
        b"CERT"
    );
    assert_eq!(
        client.download(file("empty.txt")).await.unwrap().expose(),
        b""
    );
    assert_eq!(
        client
            .download(file("big.bin"))
            .await
            .unwrap()
            .expose()
            .len(),
        300_000
    );
    let request = sim
        .requests()
        .into_iter()
        .find(|r| r.endpoint == "file")
        .unwrap();
    for header in ["authorization", "transmissionkey", "publickeyid"] {
        assert_eq!(request.header(header), None);
    }
    for name in [
        "gone.txt",
        "expired.txt",
        "cut.txt",
        "corrupt.txt",
        "nowhere.txt",
    ] {
        let error = client.download(file(name)).await.unwrap_err();
        assert!(
            error.is_retryable() && error.kind() == ErrorKind::Unreachable,
            "{name}: {error:?}"
        );
        assert!(!error.to_string().contains('?'), "{error}");
    }
    let small = ClientOptions {
        max_file_bytes: 299_999,
        ..options(&sim)
    };
    let config = DeviceConfig::parse(sim.device_config().unwrap().as_bytes()).unwrap();
    let small = Client::new(config, small).unwrap();
    sim.reset_calls();
    let error = small.download(file("big.bin")).await.unwrap_err();
    assert!(
        matches!(error, Error::TooLarge { limit: 299_999, .. }),
        "{error:?}"
    );
    assert_eq!(sim.calls().to("file"), 0, "its declared size is enough");
    // A file that is larger than its metadata says.
    sim.fault(
        Fault::new(FaultKind::Huge {
            bytes: 400_000,
            declared: false,
        })
        .on("file"),
    );
    let error = small.download(file("tls.crt")).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error:?}");
    sim.clear_faults();
    sim.fault(Fault::new(FaultKind::Hang).on("file"));
    assert!(matches!(
        client.download(file("tls.crt")).await.unwrap_err(),
        Error::Timeout { .. }
    ));
}

#[tokio::test]
async fn each_fault_is_its_own_error_and_passes() {
    let sim = sim().await;
    let client = client(&sim);
    let status = |status, body: &str| FaultKind::Status {
        status,
        body: body.to_owned(),
        content_type: None,
        headers: Vec::new(),
    };
    let plain = |text: &str| FaultKind::Plaintext {
        text: text.to_owned(),
    };
    let throttled = |after: serde_json::Value| FaultKind::Throttled {
        retry_after: Some(after),
    };
    let busy = |after: &str| FaultKind::TooManyRequests {
        retry_after: Some(after.to_owned()),
    };
    use ErrorKind::{Config, Denied, Throttled, Unreachable};
    let table = [
        (FaultKind::BadGateway, Unreachable),
        (status(500, ""), Unreachable),
        (status(503, "<html>"), Unreachable),
        (FaultKind::Reset, Unreachable),
        (FaultKind::Truncate, Unreachable),
        (FaultKind::Stall, Unreachable),
        (FaultKind::Hang, Unreachable),
        (FaultKind::CorruptTag, Unreachable),
        (FaultKind::Garbage, Unreachable),
        (FaultKind::Empty, Unreachable),
        (plain("no JSON"), Unreachable),
        (plain("[]"), Unreachable),
        (plain("{\"records\":7}"), Unreachable),
        (throttled(7.into()), Throttled),
        (throttled("7".into()), Throttled),
        (busy("7"), Throttled),
        (FaultKind::AccessDenied { message: None }, Denied),
        (FaultKind::InvalidClientVersion, Config),
        (status(403, "blocked"), Config),
        (status(404, ""), Config),
    ];
    for (fault, kind) in table {
        sim.fault(Fault::new(fault.clone()).times(1));
        let error = error(&client).await;
        assert_eq!(error.kind(), kind, "{fault:?}: {error:?}");
        let wait = (kind == Throttled).then_some(Duration::from_secs(7));
        assert_eq!(error.retry_after(), wait);
        // One call is one request, and the next one is fine.
        sim.reset_calls();
        assert!(client.get_secret(&[]).await.is_ok(), "after {fault:?}");
        assert_eq!(sim.calls().total(), 1);
    }
    sim.fault(Fault::new(FaultKind::Latency { ms: 300 }).times(1));
    assert!(client.get_secret(&[]).await.is_ok());
}

#[tokio::test]
async fn answers_have_a_largest_size() {
    let sim = sim().await;
    let config = DeviceConfig::parse(sim.device_config().unwrap().as_bytes()).unwrap();
    let options = ClientOptions {
        max_answer_bytes: 50_000,
        ..options(&sim)
    };
    let client = Client::new(config, options).unwrap();
    for declared in [true, false] {
        sim.fault(
            Fault::new(FaultKind::Huge {
                bytes: 100_000,
                declared,
            })
            .times(1),
        );
        let error = error(&client).await;
        assert!(
            matches!(error, Error::TooLarge { limit: 50_000, .. }),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn an_unknown_authority_is_refused_before_anything_is_sent() {
    let sim = sim().await;
    let client = client(&sim);
    sim.fault(Fault::new(FaultKind::UntrustedCertificate));
    let error = error(&client).await;
    assert!(matches!(error, Error::Untrusted { .. }), "{error:?}");
    assert_eq!(sim.calls().total(), 0);
}

#[tokio::test]
async fn a_withdrawn_device_is_denied() {
    let sim = sim().await;
    let client = client(&sim);
    let name = sim.clients()[0].name.clone();
    sim.set_revoked(&name, true).unwrap();
    assert!(matches!(error(&client).await, Error::AccessDenied { .. }));
    sim.set_revoked(&name, false).unwrap();
    assert!(client.get_secret(&[]).await.is_ok());
}

#[tokio::test]
async fn the_true_throttle_is_recognised() {
    let sim = sim().await;
    sim.set_throttle(Some(Throttle::new(3, 10_000)));
    let client = client(&sim);
    for _ in 0..3 {
        client.get_secret(&[]).await.unwrap();
    }
    assert!(matches!(error(&client).await, Error::Throttled { .. }));
    // The rule counts each endpoint for itself.
    assert!(client.get_folders().await.is_ok());
}

#[tokio::test]
async fn a_known_key_is_changed_to_once_and_kept() {
    let sim = sim().await;
    let client = client_with_built_in_key(&sim);
    assert_eq!(client.server_key_id(), 10);
    sim.fault(Fault::new(FaultKind::Key { key_id: 9 }).times(1));
    // keeper-sim can't hold Keeper's own keys, so it asks for its own at the second try.
    let failed = error(&client).await;
    assert!(matches!(failed, Error::Broken { .. }), "{failed:?}");
    let keys = |sim: &Sim| -> Vec<String> {
        let requests = sim.requests();
        requests
            .iter()
            .map(|r| r.header("publickeyid").unwrap().to_owned())
            .collect()
    };
    assert_eq!(keys(&sim), ["10", "9"]);
    let requests = sim.requests();
    let wrapped = |n: usize| requests[n].header("transmissionkey").unwrap();
    assert_ne!(wrapped(0), wrapped(1));
    assert_eq!(client.server_key_id(), 9);
}

#[tokio::test]
async fn a_key_that_is_not_built_in_is_a_config_error() {
    let sim = sim().await;
    let client = client_with_built_in_key(&sim);
    let refused = error(&client).await;
    assert!(
        matches!(refused, Error::ServerKey { custom: false, .. }),
        "{refused:?}"
    );
    assert_eq!(refused.kind(), ErrorKind::Config);
    assert_eq!((sim.calls().total(), client.server_key_id()), (1, 10));
    // The one in use already: nothing to change to.
    sim.fault(Fault::new(FaultKind::Key { key_id: 10 }).times(1));
    sim.reset_calls();
    assert!(matches!(error(&client).await, Error::Broken { .. }));
    assert_eq!(sim.calls().total(), 1);
}

#[tokio::test]
async fn a_custom_key_is_never_changed() {
    let sim = sim().await;
    let client = client(&sim);
    let before = client.server_key_id();
    sim.rotate_server_key(None).unwrap();
    let refused = error(&client).await;
    assert!(
        matches!(refused, Error::ServerKey { custom: true, .. }),
        "{refused:?}"
    );
    assert!(!refused.is_retryable() && refused.to_string().contains("serverPublicKey"));
    assert_eq!((sim.calls().total(), client.server_key_id()), (1, before));
}

#[tokio::test]
async fn the_servers_clock_is_known_from_any_answer() {
    let sim = sim().await;
    sim.set_clock_offset_ms(90_000);
    let client = client(&sim);
    client.get_secret(&[]).await.unwrap();
    assert!((88..92).contains(&seconds_ahead(&client)));
    sim.set_clock_offset_ms(-90_000);
    sim.fault(Fault::new(FaultKind::Throttled { retry_after: None }).times(1));
    assert!(matches!(error(&client).await, Error::Throttled { .. }));
    assert!((-92..-88).contains(&seconds_ahead(&client)));
}

fn seconds_ahead(client: &Client) -> i64 {
    let epoch = std::time::SystemTime::UNIX_EPOCH;
    let theirs = client.take_server_time().unwrap();
    let seconds = |time: std::time::SystemTime| {
        i64::try_from(time.duration_since(epoch).unwrap().as_secs()).unwrap()
    };
    seconds(theirs) - seconds(std::time::SystemTime::now())
}

#[tokio::test]
async fn no_error_tells_a_value() {
    let sim = sim().await;
    let client = client(&sim);
    let vault = client.get_secret(&[]).await.unwrap();
    let config = sim.device_config().unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    let mut shown = format!("{client:?} {vault:?}");
    for file in by_title(&vault, "Orders DB").files() {
        if let Err(error) = client.download(file).await {
            shown.push_str(&format!("{error} {error:?}"));
        }
    }
    sim.set_revoked(&sim.clients()[0].name, true).unwrap();
    shown.push_str(&error(&client).await.to_string());
    for key in ["clientId", "privateKey", "appKey"] {
        assert!(!shown.contains(config[key].as_str().unwrap()), "{key}");
    }
    for value in ["svc-orders", "p/[w]", "rotate", "CERT"] {
        assert!(!shown.contains(value), "{value}: {shown}");
    }
}
