//! The official Python and JavaScript SDKs read from keeper-sim what is in its vault.
//!
//! This is what makes keeper-sim evidence: what our own client is tested against is not our own imagination
//! of the protocol. Needs `e2e/keeper-sim/sdk/run install`.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use keeper_sim::throttle::Throttle;
use keeper_sim::{Fault, FaultKind, Options, Sim, Vault};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

const DEADLINE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sdk {
    Python,
    JavaScript,
}

const BOTH: [Sdk; 2] = [Sdk::Python, Sdk::JavaScript];

impl Sdk {
    fn name(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::JavaScript => "javascript",
        }
    }

    /// Runs the SDK's client program.
    async fn run(self, sim: &Sim, request: &Value) -> Value {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/sdk/run");
        let directory = tempfile::tempdir().unwrap();
        let ca = directory.path().join("ca.crt");
        std::fs::write(&ca, sim.ca_pem()).unwrap();
        let mut child = tokio::process::Command::new(script)
            .arg(self.name())
            .arg(&ca)
            .current_dir(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A program that ends before it has read everything says why on its standard error.
        let _ = stdin.write_all(request.to_string().as_bytes()).await;
        drop(stdin);
        let output = tokio::time::timeout(DEADLINE, child.wait_with_output());
        let output = output.await.expect("the SDK must be done in time").unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{self:?} failed (`e2e/keeper-sim/sdk/run install` installs the SDKs):\n{errors}"
        );
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            let text = String::from_utf8_lossy(&output.stdout);
            panic!("{self:?}: {error}:\n{text}\n{errors}")
        })
    }
}

async fn start(yaml: &str) -> Sim {
    Sim::start(Vault::parse(yaml).unwrap(), Options::default())
        .await
        .unwrap()
}

fn config(sim: &Sim) -> Value {
    serde_json::from_str(&sim.device_config().unwrap()).unwrap()
}

/// Reads everything with the default client.
async fn read(sdk: Sdk, sim: &Sim) -> Value {
    let answer = sdk.run(sim, &json!({ "config": config(sim) })).await;
    assert_eq!(answer.get("error"), None, "{sdk:?}");
    answer
}

fn titles(answer: &Value) -> Vec<&str> {
    let records = answer["records"].as_array().unwrap();
    records
        .iter()
        .map(|r| r["data"]["title"].as_str().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_vault_is_read_whole() {
    let example = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/vault.example.yaml"));
    let sim = Sim::start(Vault::load(example).unwrap(), Options::default())
        .await
        .unwrap();
    for sdk in BOTH {
        let answer = read(sdk, &sim).await;
        let mut expected: Vec<_> = sim.records().into_iter().map(|r| r.title).collect();
        let mut found = titles(&answer);
        expected.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, expected, "{sdk:?}");
        assert_eq!(answer["application"], "Keeper Injector example", "{sdk:?}");

        let records = answer["records"].as_array().unwrap();
        let record = |title: &str| {
            let mut found = records.iter().filter(|r| r["data"]["title"] == title);
            found.next().unwrap_or_else(|| panic!("{sdk:?}: {title}"))
        };
        let mysql = record("mysql-prod");
        let folders = answer["folders"].as_array().unwrap();
        let folder = |name: &str| folders.iter().find(|f| f["name"] == name).unwrap();
        assert_eq!(mysql["folder"], folder("Production")["uid"], "{sdk:?}");
        assert_eq!(mysql["innerFolder"], folder("Databases")["uid"], "{sdk:?}");
        assert_eq!(
            folder("Databases")["parent"],
            folder("Production")["uid"],
            "{sdk:?}"
        );
        assert_eq!(folder("Production")["parent"], Value::Null, "{sdk:?}");

        let names = |record: &Value| -> Vec<String> {
            let files = record["files"].as_array().unwrap();
            files
                .iter()
                .map(|f| f["name"].as_str().unwrap().to_owned())
                .collect()
        };
        assert_eq!(names(record("tls-pair")), ["tls.crt", "tls.key"], "{sdk:?}");
    }
    assert_eq!(
        sim.calls().of("default", "file").answered,
        4,
        "two files, twice"
    );
}

const SHAPES: &str = "
application: Shapes
warnings: [look out]
folders:
- name: Größe
  uid: GAAAAAAAAAAAAAAAAAAAAA
  records: [{title: in-shared, uid: AAAAAAAAAAAAAAAAAAAAAA, password: one}]
  folders:
  - name: Sub
    folders: [{name: Deep, records: [{title: in-deep, password: two}]}]
- {name: Empty}
records:
- {title: direct, uid: CAAAAAAAAAAAAAAAAAAAAA, revision: 7, login: l, notes: n, custom: [{type: text, label: Ö, value: [1, {z: 1, a: ~}]}]}
- {title: long, password: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx}
- {title: files, files: [{name: bin, title: Binary, base64: AP+A, type: application/x-bin}, {name: big, size: 100000}, {name: empty, text: ''}]}
";

#[tokio::test(flavor = "multi_thread")]
async fn every_shape_of_record_folder_and_file_is_read() {
    let sim = start(SHAPES).await;
    for sdk in BOTH {
        let answer = read(sdk, &sim).await;
        assert_eq!(
            titles(&answer),
            ["direct", "long", "files", "in-shared", "in-deep"],
            "{sdk:?}"
        );
        assert_eq!(answer["warnings"], json!(["look out"]), "{sdk:?}");
        let records = answer["records"].as_array().unwrap();
        let direct = &records[0];
        assert_eq!(direct["uid"], "CAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(direct["revision"], 7);
        assert_eq!(
            direct["data"],
            json!({"title": "direct", "type": "login", "notes": "n",
                   "fields": [{"type": "login", "value": ["l"]}],
                   "custom": [{"type": "text", "label": "Ö", "value": [1, {"z": 1, "a": null}]}]}),
            "{sdk:?}"
        );
        let names: Vec<_> = answer["folders"]
            .as_array()
            .unwrap()
            .iter()
            .map(|f| &f["name"])
            .collect();
        assert_eq!(names, ["Größe", "Sub", "Deep", "Empty"], "{sdk:?}");
        let deep = &answer["folders"][2];
        assert_eq!(records[4]["folder"], "GAAAAAAAAAAAAAAAAAAAAA", "{sdk:?}");
        assert_eq!(records[4]["innerFolder"], deep["uid"], "{sdk:?}");
        let files = records[2]["files"].as_array().unwrap();
        assert_eq!(
            files[0],
            json!({"name": "bin", "title": "Binary", "type": "application/x-bin", "size": 3, "content": "AP+A"}),
            "{sdk:?}"
        );
        assert_eq!(
            files[1]["content"].as_str().unwrap().len(),
            133_336,
            "{sdk:?}"
        );
        assert_eq!(files[2]["content"], "", "{sdk:?}");
        let refs = &records[2]["data"]["fields"][0];
        assert_eq!(
            (&refs["type"], refs["value"].as_array().unwrap().len()),
            (&json!("fileRef"), 3)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_and_live_edits_are_seen() {
    let sim = start(SHAPES).await;
    for sdk in BOTH {
        let request = json!({ "config": config(&sim), "filter": ["AAAAAAAAAAAAAAAAAAAAAA"] });
        let before = sdk.run(&sim, &request).await;
        assert_eq!(titles(&before), ["in-shared"], "{sdk:?}");
        sim.set("in-shared", "password", sdk.name()).unwrap();
        let after = sdk.run(&sim, &request).await;
        let record = &after["records"][0];
        assert_eq!(record["data"]["fields"][0]["value"], json!([sdk.name()]));
        assert!(record["revision"].as_u64() > before["records"][0]["revision"].as_u64());
        let request = json!({ "config": config(&sim), "filter": ["ZZZZZZZZZZZZZZZZZZZZZZ"] });
        assert_eq!(titles(&sdk.run(&sim, &request).await), [""; 0], "{sdk:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_broken_record_does_not_hide_the_others() {
    let sim = start(
        "
folders: [{name: F, records: [{title: bad-in-folder, quirks: [corrupt-data]}, {title: good-in-folder}]}]
records: [{title: bad, quirks: [corrupt-data]}, {title: bad-key, quirks: [corrupt-key]}, {title: good}]
",
    )
    .await;
    // Python gives up a whole folder for one record in it.
    assert_eq!(titles(&read(Sdk::Python, &sim).await), ["good"]);
    assert_eq!(
        titles(&read(Sdk::JavaScript, &sim).await),
        ["good", "good-in-folder"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_lists_may_be_null_or_empty() {
    for quirks in ["", "quirks: [empty-lists, no-padding]\n"] {
        let sim = start(&format!("{quirks}records: [{{title: only}}]")).await;
        let none = start(&format!("{quirks}application: none")).await;
        for sdk in BOTH {
            assert_eq!(titles(&read(sdk, &sim).await), ["only"], "{sdk:?}");
            assert_eq!(titles(&read(sdk, &none).await), [""; 0], "{sdk:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_redeemed_once() {
    let sim = start("records: [{title: only}]").await;
    for sdk in BOTH {
        let name = sdk.name();
        let token = sim.new_token(name).unwrap();
        let bind = json!({
            "token": token,
            "hostname": sim.hostname(),
            "serverPublicKey": sim.server_key(99).unwrap(),
            "serverPublicKeyId": "99",
        });
        let answer = sdk.run(&sim, &bind).await;
        assert_eq!(answer.get("error"), None, "{sdk:?}");
        assert_eq!(titles(&answer), ["only"], "{sdk:?}");
        let bound = &answer["config"];
        assert_eq!(bound["appKey"], config(&sim)["appKey"], "{sdk:?}");
        assert_eq!(bound.get("clientKey"), None, "{sdk:?}");
        assert_eq!(
            sim.calls().of(name, "get_secret").answered,
            2,
            "{sdk:?}: a bind is two requests"
        );
        let requests = sim.requests();
        let mine = requests
            .iter()
            .filter(|r| r.client.as_deref() == Some(name));
        let with_key: Vec<_> = mine
            .filter(|r| r.endpoint == "get_secret")
            .map(|r| r.payload.as_ref().unwrap()["publicKey"].is_string())
            .collect();
        assert_eq!(with_key, [true, false], "{sdk:?}");

        // The config that came of it works, and the token does not work again.
        let mut again = bound.clone();
        again["serverPublicKey"] = bind["serverPublicKey"].clone();
        again["serverPublicKeyId"] = json!("99");
        assert_eq!(
            titles(&sdk.run(&sim, &json!({ "config": again })).await),
            ["only"],
            "{sdk:?}"
        );
        let refused = sdk.run(&sim, &bind).await["error"].to_string();
        assert!(
            refused.contains("Signature is invalid"),
            "{sdk:?}: {refused}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_written_and_read_back() {
    let sim = start("folders: [{name: F, folders: [{name: Sub}]}]").await;
    let folders = read(Sdk::Python, &sim).await["folders"].clone();
    let (shared, sub) = (&folders[0]["uid"], &folders[1]["uid"]);
    for sdk in BOTH {
        for (inner, lands_in) in [(Value::Null, shared), (sub.clone(), sub)] {
            let mut write = json!({ "folder": shared });
            if !inner.is_null() {
                write["subFolder"] = inner;
            }
            let answer = sdk
                .run(&sim, &json!({ "config": config(&sim), "write": write }))
                .await;
            assert_eq!(
                answer["write"],
                json!({"inFolder": lands_in, "login": "two", "grew": true, "deleted": ["ok"], "left": 0}),
                "{sdk:?}: {}",
                answer["error"]
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn python_follows_a_rotation_to_a_key_that_it_has() {
    let sim = start("records: [{title: only}]").await;
    sim.rotate_server_key(Some(10)).unwrap();
    let mut config = config(&sim);
    config.as_object_mut().unwrap().remove("serverPublicKey");
    let keys = json!({ "10": sim.server_key(10).unwrap(), "11": sim.server_key(11).unwrap() });
    sim.rotate_server_key(Some(11)).unwrap();
    let request = json!({ "config": config, "builtInKeys": keys });
    let answer = Sdk::Python.run(&sim, &request).await;
    assert_eq!(titles(&answer), ["only"], "{answer}");
    assert_eq!(answer["config"]["serverPublicKeyId"], "11");
    let requests = sim.requests();
    let used: Vec<_> = requests
        .iter()
        .map(|r| r.header("publickeyid").unwrap())
        .collect();
    assert_eq!(
        used,
        ["10", "11", "11"],
        "get_secret twice, then get_folders"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn javascript_refuses_a_rotation_when_it_has_a_custom_key() {
    let sim = start("records: [{title: only}]").await;
    let old = config(&sim);
    sim.rotate_server_key(None).unwrap();
    let answer = Sdk::JavaScript.run(&sim, &json!({ "config": old })).await;
    let error = answer["error"].as_str().unwrap();
    assert!(error.contains("99") && error.contains("100"), "{error}");
    assert_eq!(sim.calls().total(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_understood() {
    let sim = start("records: [{title: only}]").await;
    for sdk in BOTH {
        let request = json!({ "config": config(&sim) });
        let failure = async |fault: Fault| {
            sim.fault(fault.times(1));
            sdk.run(&sim, &request).await["error"].to_string()
        };
        for (kind, part) in [
            (
                FaultKind::AccessDenied { message: None },
                "Unable to validate application access",
            ),
            (FaultKind::InvalidClientVersion, "client version"),
            (FaultKind::BadGateway, ""),
            (FaultKind::CorruptTag, ""),
            (FaultKind::Reset, ""),
            // JavaScript never comes back from this one.
            (FaultKind::Truncate, ""),
            (FaultKind::Garbage, ""),
        ] {
            let error = failure(Fault::new(kind.clone())).await;
            assert!(
                error != "null" && error.contains(part),
                "{sdk:?} {kind:?}: {error}"
            );
        }
        sim.set_revoked("default", true).unwrap();
        let error = sdk.run(&sim, &request).await["error"].to_string();
        assert!(
            error.contains("Unable to validate application access"),
            "{sdk:?}: {error}"
        );
        sim.set_revoked("default", false).unwrap();
        assert_eq!(titles(&sdk.run(&sim, &request).await), ["only"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sdks_wait_when_they_are_throttled() {
    let sim = start("records: [{title: only}]").await;
    for sdk in BOTH {
        sim.reset_calls();
        let retry_after = Some(json!(0.2));
        sim.fault(Fault::new(FaultKind::Throttled { retry_after }).times(2));
        assert_eq!(titles(&read(sdk, &sim).await), ["only"], "{sdk:?}");
        assert_eq!(
            sim.calls().of("default", "get_secret").faulted,
            2,
            "{sdk:?}"
        );
        assert_eq!(
            sim.calls().of("default", "get_secret").answered,
            1,
            "{sdk:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_authority_is_refused() {
    let sim = start("records: [{title: only}]").await;
    sim.fault(Fault::new(FaultKind::UntrustedCertificate));
    for sdk in BOTH {
        let answer = sdk.run(&sim, &json!({ "config": config(&sim) })).await;
        assert_ne!(answer["error"], Value::Null, "{sdk:?}");
    }
    assert_eq!(sim.calls().total(), 0);
}

/// What an SDK makes of a notation.
#[derive(Debug)]
enum Expected {
    Values(&'static [&'static str]),
    Fails,
    /// Python and JavaScript differ.
    Differs(&'static [&'static str]),
}

use Expected::{Differs, Fails, Values};

/// `U` and `V` stand for the UIDs of the two main records. JSON is compared without blanks.
const NOTATIONS: &[(&str, Expected)] = &[
    ("keeper://U/field/login", Values(&["svc-orders"])),
    ("U/field/login", Values(&["svc-orders"])),
    ("KEEPER://U/FIELD/login", Values(&["svc-orders"])),
    ("keeper://Orders DB/field/login", Values(&["svc-orders"])),
    ("keeper://U/type", Values(&["login"])),
    ("keeper://U/TITLE", Values(&["Orders DB"])),
    ("keeper://U/notes", Values(&["rotate quarterly"])),
    ("keeper://V/notes", Values(&[])),
    ("keeper://U/field/password", Values(&[r"p/[w]\d"])),
    (
        "keeper://U/field/url",
        Values(&["https://a.example", "https://b.example"]),
    ),
    (
        "keeper://U/field/url[]",
        Values(&["https://a.example", "https://b.example"]),
    ),
    ("keeper://U/field/url[1]", Values(&["https://b.example"])),
    ("keeper://U/field/url[2]", Fails),
    ("keeper://U/field/oneTimeCode", Values(&[])),
    ("keeper://U/field/oneTimeCode[0]", Fails),
    (
        "keeper://U/field/host",
        Values(&[r#"{"hostName":"db1.internal","port":"5432"}"#]),
    ),
    (
        "keeper://U/field/Primary host",
        Values(&[r#"{"hostName":"db1.internal","port":"5432"}"#]),
    ),
    (
        "keeper://U/field/host[0][hostName]",
        Values(&["db1.internal"]),
    ),
    ("keeper://U/field/host[][port]", Values(&["5432"])),
    ("keeper://U/field/host[hostName]", Fails),
    ("keeper://U/field/host[0][nope]", Values(&[])),
    ("keeper://U/field/name[][first]", Values(&["Ada", "Bo"])),
    ("keeper://U/field/name[][middle]", Values(&["K"])),
    ("keeper://U/field/name[1][last]", Values(&["Ray"])),
    (
        "keeper://U/field/name[0][]",
        Values(&[r#"{"first":"Ada","middle":"K","last":"Lane"}"#]),
    ),
    (
        "keeper://U/field/phone[1]",
        Values(&[r#"{"number":"555-0101","ext":"","type":"Home"}"#]),
    ),
    ("keeper://U/field/phone[1][ext]", Values(&[""])),
    ("keeper://U/field/checkbox", Values(&["true"])),
    ("keeper://U/field/date", Values(&["1700000000000"])),
    ("keeper://U/field/Login", Fails),
    ("keeper://U/field/login[0][x]", Differs(&[])),
    ("keeper://U/custom_field/Env", Values(&["prod"])),
    (
        "keeper://U/custom_field/Tags",
        Values(&["one", "two", "three"]),
    ),
    ("keeper://U/custom_field/Tags[1]", Values(&["two"])),
    ("keeper://U/custom_field/Tags[01]", Values(&["two"])),
    ("keeper://U/custom_field/Tags[-1]", Fails),
    ("keeper://U/custom_field/Dup", Fails),
    ("keeper://U/custom_field/text", Fails),
    ("keeper://U/field/Env", Fails),
    ("keeper://U/custom_field/login", Fails),
    (
        r"keeper://U/custom_field/we\/ird \[lbl\]\\",
        Values(&["odd"]),
    ),
    (r"keeper://U/custom_field/we/ird \[lbl]\\", Values(&["odd"])),
    ("keeper://U/custom_field/Größe[0]", Values(&["XL"])),
    ("keeper://U/custom_field/NullVal", Values(&["null"])),
    ("keeper://U/custom_field/NoValue", Values(&[])),
    (
        "keeper://U/custom_field/Nested[0][a]",
        Values(&[r#"{"b":1}"#]),
    ),
    ("keeper://U/custom_field/Nested[0][n]", Values(&["5"])),
    ("keeper://U/custom_field/Nested[0][t]", Values(&["true"])),
    ("keeper://U/custom_field/Nested[0][z]", Values(&["null"])),
    ("keeper://U/custom_field/Nested[][s]", Values(&["str"])),
    ("keeper://U/custom_field/12", Values(&["twelve"])),
    ("keeper://V/custom_field/Env", Fails),
    ("keeper://U/file/tls.crt", Values(&["Q0VSVA"])),
    ("keeper://U/file/Server cert", Differs(&["Q0VSVA"])),
    (
        "keeper://U/file/f2AAAAAAAAAAAAAAAAAAAA",
        Values(&["__4_Pg"]),
    ),
    ("keeper://U/file/same", Fails),
    ("keeper://U/file/tls.crt[0]", Fails),
    ("keeper://V/file/x", Fails),
    (
        r"keeper://we\/ird \[t\]\\itle/field/login",
        Values(&["esc"]),
    ),
    (r"keeper://we\/ird [t]\\itle/field/login", Values(&["esc"])),
    ("keeper://Twin/field/login", Fails),
    (
        "keeper://ABCDEFGHIJKLMNOPQRSTUV/field/login",
        Values(&["uidlike"]),
    ),
    ("keeper://Zürich DB/field/login", Values(&["zh"])),
    (
        "keeper://DDDDDDDDDDDDDDDDDDDDDA/field/login",
        Values(&["first"]),
    ),
    ("keeper://Two logins/field/login", Fails),
    ("keeper://Two logins/field/B", Values(&["lb"])),
    ("keeper://orders db/field/login", Fails),
    ("keeper://U", Fails),
    ("keeper://U/", Fails),
    ("keeper://", Fails),
    ("keeper://U/field", Fails),
    ("keeper://U/field/", Fails),
    ("keeper://U/file", Fails),
    ("keeper://U/bogus/x", Fails),
    ("keeper://U/type/extra", Fails),
    ("https://x/y", Fails),
    ("keeper://U/type[0]", Fails),
    ("keeper://U/type/", Values(&["login"])),
    ("keeper://U/field/name[0][last][x]", Fails),
    ("keeper://U/field/name[0]x", Fails),
    ("keeper://U/field/name[0", Fails),
    ("keeper://U/field/name[[0]]", Fails),
    (r"keeper://U/field/bad\q", Fails),
    (r"keeper://U/field/bad\", Fails),
    // Base64 of `keeper://Orders DB/field/login`.
    (
        "a2VlcGVyOi8vT3JkZXJzIERCL2ZpZWxkL2xvZ2lu",
        Values(&["svc-orders"]),
    ),
    ("keeper://U/field/url[18446744073709551615]", Fails),
    ("keeper:///field/login", Fails),
    ("keeper://U/field/name/first", Fails),
    (" keeper://U/field/login", Fails),
];

#[tokio::test(flavor = "multi_thread")]
async fn notations_mean_what_the_table_says() {
    let yaml = include_str!("fixtures/notations.yaml");
    let options = Options {
        // A notation is a request or two: more of them than real clients may make.
        throttle: None::<Throttle>,
        ..Options::default()
    };
    let sim = Sim::start(Vault::parse(yaml).unwrap(), options)
        .await
        .unwrap();
    let written = |text: &str| {
        let text = text.replace("://U/", "://Qz3kT0bXv9mWc5rLr2Hn8A/");
        let text = text.replace("://V/", "://bm4Yd2oJ7QhUe1xKq9sT6w/");
        match text.strip_prefix("U/") {
            Some(rest) => format!("Qz3kT0bXv9mWc5rLr2Hn8A/{rest}"),
            None => text,
        }
    };
    let notations: Vec<_> = NOTATIONS.iter().map(|(text, _)| written(text)).collect();
    for sdk in BOTH {
        let request = json!({ "config": config(&sim), "notations": notations });
        let answer = sdk.run(&sim, &request).await;
        let mut wrong = Vec::new();
        for (text, expected) in NOTATIONS {
            let found = &answer["notations"][written(text)];
            let values = found["values"].as_array().map(|values| {
                let texts = values.iter().map(|value| value.as_str().unwrap());
                texts.map(without_json_blanks).collect::<Vec<_>>()
            });
            let good = match (expected, values) {
                (Values(expected), Some(values)) => values == *expected,
                (Fails, None) => found["error"].is_string(),
                (Differs(expected), Some(values)) => sdk == Sdk::Python && values == *expected,
                (Differs(_), None) => sdk == Sdk::JavaScript,
                _ => false,
            };
            if !good {
                wrong.push(format!("{text}: {expected:?}, found {found}"));
            }
        }
        assert!(wrong.is_empty(), "{sdk:?}:\n{}", wrong.join("\n"));
    }
}

/// Python writes JSON with blanks after commas and colons.
fn without_json_blanks(text: &str) -> String {
    if text.starts_with('{') {
        text.replace("\": ", "\":").replace(", \"", ",\"")
    } else {
        text.to_owned()
    }
}
