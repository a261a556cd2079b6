//! The running service, seen from the network: the order of its checks, its faults, and bad input.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

mod support;

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keeper_sim::state_dir::StateDir;
use keeper_sim::throttle::Throttle;
use keeper_sim::{Fault, FaultKind, Options, Outcome, Sim, Vault};
use p256::SecretKey;
use p256::elliptic_curve::Generate as _;
use serde_json::{Value, json};
use support::{Answer, Device, connect, connect_as, decode, exchange, get, open, parse, seal};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

const YAML: &str = "
clients: [{name: default}, {name: second}, {name: fresh, token: true}]
records: [{title: only, password: x, files: [{name: f, text: hello}]}]
";
const DEADLINE: Duration = Duration::from_secs(20);

async fn start_with(options: Options) -> Sim {
    Sim::start(Vault::parse(YAML).unwrap(), options)
        .await
        .unwrap()
}

async fn start() -> (Sim, Device) {
    let sim = start_with(Options::default()).await;
    let device = Device::of(&sim.device_config().unwrap());
    (sim, device)
}

async fn refusal(sim: &Sim, request: &support::Request) -> (u16, Value) {
    let answer = request.send(sim, "get_secret").await.unwrap();
    (answer.status, request.open(&answer))
}

#[tokio::test]
async fn a_good_request_is_answered() {
    let (sim, device) = start().await;
    let (status, answer) = device.ask(&sim, "get_secret").await;
    assert_eq!(status, 200);
    assert_eq!(answer["records"].as_array().unwrap().len(), 1);
    let (status, answer) = device.ask(&sim, "get_folders").await;
    assert_eq!((status, &answer["folders"]), (200, &Value::Null));
    let requests = sim.requests();
    assert_eq!(requests[0].payload, Some(device.payload()));
    assert_eq!(requests[0].client.as_deref(), Some("default"));
    assert_eq!(
        (requests[1].endpoint.as_str(), requests[1].status),
        ("get_folders", 200)
    );
}

#[tokio::test]
async fn payload_members_may_be_absent_null_or_empty() {
    let (sim, device) = start().await;
    for more in [
        json!({}),
        json!({ "publicKey": null, "requestedRecords": null, "requestedFolders": null, "requestLinks": null }),
        json!({ "requestedRecords": [], "requestedFolders": [], "unknownMember": {"a": 1} }),
    ] {
        let mut payload = device.payload();
        payload
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let request = device.request(&serde_json::to_string_pretty(&payload).unwrap());
        let answer = request.send(&sim, "get_secret").await.unwrap();
        assert_eq!(
            request.open(&answer)["records"].as_array().map(Vec::len),
            Some(1),
            "{payload}"
        );
    }
}

#[tokio::test]
async fn checks_come_in_their_order() {
    let (sim, device) = start().await;
    let stranger = SecretKey::try_generate().unwrap();
    let good = device.payload().to_string();

    // Each request is wrong in everything that comes after, too.
    let mut request = device.request("no JSON");
    request.signature = "AAAA".into();
    request.key_id = "98".into();
    let (status, body) = refusal(&sim, &request).await;
    assert_eq!(
        (status, &body["error"], &body["key_id"]),
        (401, &json!("key"), &json!(99))
    );
    request.key_id = "99".into();
    assert_eq!(
        refusal(&sim, &request).await.0,
        400,
        "the payload is no JSON"
    );

    let mut request = device.request(&good);
    request.wrapped.push(0);
    request.sign(&device.private);
    assert_eq!(refusal(&sim, &request).await.0, 400, "126 bytes");
    let mut request = device.request(&good);
    request.body[20] ^= 1;
    request.sign(&device.private);
    assert_eq!(refusal(&sim, &request).await.0, 400, "a bent body");
    for payload in ["[]", "{\"clientId\":1}", "{\"requestedRecords\":\"x\"}", ""] {
        assert_eq!(
            refusal(&sim, &device.request(payload)).await.0,
            400,
            "{payload}"
        );
    }

    let mut request = device.request(r#"{"clientId":"nobody"}"#);
    request.sign(&stranger);
    let (status, body) = refusal(&sim, &request).await;
    assert_eq!((status, &body["error"]), (403, &json!("access_denied")));
    assert_eq!(body["message"], "Unable to validate application access");

    for bend in ["key", "text", "body"] {
        let mut request = device.request(&good);
        match bend {
            "key" => request.sign(&stranger),
            "text" => request.signature = "!".into(),
            _ => request.body = seal(&request.transmission_key, good.as_bytes()),
        }
        let (status, body) = refusal(&sim, &request).await;
        assert_eq!(
            (status, &body["message"]),
            (403, &json!("Signature is invalid")),
            "{bend}"
        );
    }
    assert_eq!(sim.calls().of("default", "get_secret").answered, 0);
}

#[tokio::test]
async fn client_versions_can_be_limited() {
    let vault = Vault::parse("clientVersions: [ms17.5.0]").unwrap();
    let sim = Sim::start(vault, Options::default()).await.unwrap();
    let device = Device::of(&sim.device_config().unwrap());
    let (status, body) = device.ask(&sim, "get_secret").await;
    assert_eq!(
        (status, &body["result_code"]),
        (403, &json!("invalid_client_version"))
    );
    let payload = json!({ "clientVersion": "ms17.5.0", "clientId": device.client_id });
    assert_eq!(
        refusal(&sim, &device.request(&payload.to_string())).await.0,
        200
    );
}

#[tokio::test]
async fn the_throttle_rule_holds_for_each_client_and_endpoint() {
    let options = Options {
        throttle: Some(Throttle::new(2, 600_000)),
        ..Options::default()
    };
    let sim = start_with(options).await;
    let device = Device::of(&sim.device_config().unwrap());
    for expected in [200, 200, 403, 403] {
        assert_eq!(device.ask(&sim, "get_secret").await.0, expected);
    }
    let (_, body) = device.ask(&sim, "get_secret").await;
    assert_eq!(
        (&body["error"], body.get("retry_after")),
        (&json!("throttled"), None)
    );
    assert_eq!(device.ask(&sim, "get_folders").await.0, 200);
    let second = Device::of(&sim.device_config_of("second").unwrap());
    assert_eq!(second.ask(&sim, "get_secret").await.0, 200);
    let count = sim.calls().of("default", "get_secret");
    assert_eq!((count.total, count.answered, count.throttled), (5, 2, 3));
    sim.set_throttle(None);
    assert_eq!(device.ask(&sim, "get_secret").await.0, 200);
}

/// A device that holds the token of client `fresh` and has made its own key.
fn fresh(sim: &Sim) -> (Device, [u8; 32]) {
    let clients = sim.clients();
    let client = clients
        .iter()
        .find(|client| client.name == "fresh")
        .unwrap();
    let mut device = Device::of(&sim.device_config().unwrap());
    device.client_id = client.client_id.clone();
    device.private = SecretKey::try_generate().unwrap();
    let client_key = decode(client.token.as_ref().unwrap());
    (device, client_key.try_into().unwrap())
}

fn binding(device: &Device) -> support::Request {
    let mut payload = device.payload();
    payload["publicKey"] = device.point().into();
    device.request(&payload.to_string())
}

#[tokio::test]
async fn binding_happens_once_and_sends_the_key_once() {
    let (sim, other) = start().await;
    let (device, client_key) = fresh(&sim);
    assert!(sim.device_config_of("fresh").is_err());

    assert_eq!(
        device.ask(&sim, "get_secret").await.0,
        403,
        "no public key: nothing to verify with"
    );
    let request = binding(&device);
    let folders = request.send(&sim, "get_folders").await.unwrap();
    assert!(
        request.open(&folders)["encryptedAppKey"].is_null(),
        "get_folders does not bind"
    );

    let answer = request.send(&sim, "get_secret").await.unwrap();
    let answer = request.open(&answer);
    let sealed = decode(answer["encryptedAppKey"].as_str().unwrap());
    assert_eq!(open(&client_key, &sealed).unwrap(), other.app_key);
    assert_eq!(answer["appOwnerPublicKey"].as_str().unwrap().len(), 88);

    for request in [
        device.request(&device.payload().to_string()),
        binding(&device),
    ] {
        let answer = request.send(&sim, "get_secret").await.unwrap();
        let answer = request.open(&answer);
        assert!(answer["encryptedAppKey"].is_null() && answer["appOwnerPublicKey"].is_null());
        assert!(answer["records"].is_array());
    }
    let (mut thief, _) = (device, client_key);
    thief.private = SecretKey::try_generate().unwrap();
    let (status, body) = refusal(&sim, &binding(&thief)).await;
    assert_eq!(
        (status, &body["message"]),
        (403, &json!("Signature is invalid"))
    );
}

#[tokio::test]
async fn rotation_refuses_the_old_key_and_takes_the_new_one() {
    let (sim, device) = start().await;
    assert_eq!(sim.rotate_server_key(None).unwrap(), 100);
    let (status, body) = device.ask(&sim, "get_secret").await;
    assert_eq!((status, &body["key_id"]), (401, &json!(100)));
    let renewed = Device::of(&sim.device_config().unwrap());
    assert_eq!(renewed.ask(&sim, "get_secret").await.0, 200);
}

async fn file_url(sim: &Sim, device: &Device) -> String {
    let (_, answer) = device.ask(sim, "get_secret").await;
    answer["records"][0]["files"][0]["url"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn attachments_are_served_to_whoever_has_a_good_url() {
    let (sim, device) = start().await;
    let url = file_url(&sim, &device).await;
    assert!(
        url.starts_with(&format!("https://{}/files/", sim.hostname())),
        "{url}"
    );
    let good = get(&sim, &url, "").await;
    assert_eq!((good.status, good.body.len()), (200, 5 + 28));
    assert_eq!(
        get(&sim, &url, "Authorization: Signature x\r\n")
            .await
            .status,
        400
    );
    assert_eq!(
        get(&sim, &url.replace("client=default", "client=second"), "")
            .await
            .status,
        403
    );
    assert_eq!(
        get(&sim, &url.replace("/files/", "/files/x"), "")
            .await
            .status,
        403
    );
    assert_eq!(
        get(&sim, url.split('?').next().unwrap(), "").await.status,
        403
    );
    sim.set_clock_offset_ms(16 * 60 * 1000);
    assert_eq!(get(&sim, &url, "").await.status, 403, "expired");
    sim.set_clock_offset_ms(0);
    sim.edit(&keeper_sim::Edit::Detach {
        record: "only".into(),
        file: "f".into(),
    })
    .unwrap();
    assert_eq!(get(&sim, &url, "").await.status, 404);
    assert_eq!(sim.calls().of("default", "file").answered, 1);
}

#[tokio::test]
async fn attachments_can_be_broken_one_by_one() {
    let yaml = "records: [{title: only, files: [
        {name: gone, text: hello, quirks: [not-found]}, {name: shut, text: hello, quirks: [forbidden]},
        {name: half, text: hello, quirks: [truncated]}, {name: bent, text: hello, quirks: [corrupt]}]}]";
    let sim = Sim::start(Vault::parse(yaml).unwrap(), Options::default())
        .await
        .unwrap();
    let device = Device::of(&sim.device_config().unwrap());
    let (_, answer) = device.ask(&sim, "get_secret").await;
    let url = |at: usize| {
        answer["records"][0]["files"][at]["url"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(get(&sim, &url(0), "").await.status, 404);
    assert_eq!(get(&sim, &url(1), "").await.status, 403);
    let half = get(&sim, &url(2), "").await;
    assert_eq!(
        (half.status, half.header("content-length"), half.body.len()),
        (200, Some("33"), 16)
    );
    let record_key = |answer: &Value| -> [u8; 32] {
        let sealed = decode(answer["records"][0]["recordKey"].as_str().unwrap());
        open(&device.app_key, &sealed).unwrap().try_into().unwrap()
    };
    let sealed = decode(
        answer["records"][0]["files"][3]["fileKey"]
            .as_str()
            .unwrap(),
    );
    let file_key = open(&record_key(&answer), &sealed)
        .unwrap()
        .try_into()
        .unwrap();
    assert_eq!(open(&file_key, &get(&sim, &url(3), "").await.body), None);
}

#[tokio::test]
async fn the_date_is_the_clock_of_the_service() {
    let (sim, device) = start().await;
    let date = async || {
        let request = device.request(&device.payload().to_string());
        let answer = request.send(&sim, "get_secret").await.unwrap();
        httpdate::parse_http_date(answer.header("date").unwrap()).unwrap()
    };
    let ahead = |date: SystemTime| date.duration_since(SystemTime::now()).unwrap_or_default();
    assert!(ahead(date().await) < Duration::from_secs(5));
    sim.set_clock_offset_ms(3_600_000);
    assert!(ahead(date().await) > Duration::from_secs(3500));
}

/// Sends a good request and takes whatever comes.
async fn struck(sim: &Sim, device: &Device, kind: FaultKind) -> std::io::Result<(Answer, Value)> {
    sim.fault(Fault::new(kind).times(1));
    let request = device.request(&device.payload().to_string());
    let answer = request.send(sim, "get_secret").await?;
    let opened = request.open(&answer);
    Ok((answer, opened))
}

#[tokio::test]
async fn faults_happen_on_the_wire() {
    let (sim, device) = start().await;
    let status = FaultKind::Status {
        status: 418,
        body: "tea".into(),
        content_type: None,
        headers: vec![("X-Pot".into(), "y".into())],
    };
    let (answer, _) = struck(&sim, &device, status).await.unwrap();
    assert_eq!(
        (
            answer.status,
            answer.header("x-pot"),
            answer.body.as_slice()
        ),
        (418, Some("y"), &b"tea"[..])
    );

    let retry_after = Some("9".to_owned());
    let (answer, _) = struck(&sim, &device, FaultKind::TooManyRequests { retry_after })
        .await
        .unwrap();
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (429, Some("9"))
    );

    let throttled = FaultKind::Throttled {
        retry_after: Some(json!(7)),
    };
    let (answer, body) = struck(&sim, &device, throttled).await.unwrap();
    assert_eq!((answer.status, &body["retry_after"]), (403, &json!(7)));

    let (answer, body) = struck(&sim, &device, FaultKind::Key { key_id: 12 })
        .await
        .unwrap();
    assert_eq!((answer.status, &body["key_id"]), (401, &json!(12)));

    let (answer, body) = struck(&sim, &device, FaultKind::CorruptTag).await.unwrap();
    assert_eq!((answer.status, body), (200, Value::Null));
    let (answer, body) = struck(&sim, &device, FaultKind::Garbage).await.unwrap();
    assert_eq!((answer.status, body), (200, Value::Null));
    let (answer, _) = struck(&sim, &device, FaultKind::Empty).await.unwrap();
    assert_eq!((answer.status, answer.body.len()), (200, 0));

    let plaintext = FaultKind::Plaintext {
        text: r#"{"odd":true}"#.into(),
    };
    let (_, body) = struck(&sim, &device, plaintext).await.unwrap();
    assert_eq!(body, json!({ "odd": true }));

    let (answer, _) = struck(&sim, &device, FaultKind::Truncate).await.unwrap();
    let promised: usize = answer.header("content-length").unwrap().parse().unwrap();
    assert_eq!(answer.body.len(), promised / 2);

    for declared in [true, false] {
        let (answer, _) = struck(
            &sim,
            &device,
            FaultKind::Huge {
                bytes: 300_000,
                declared,
            },
        )
        .await
        .unwrap();
        assert_eq!(
            answer.header("content-length"),
            declared.then_some("300000")
        );
        assert!(answer.body.len() >= 300_000);
    }

    let error = struck(&sim, &device, FaultKind::Reset).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);

    let requests = sim.requests();
    assert!(
        requests
            .iter()
            .all(|request| request.outcome == Outcome::Faulted)
    );
    assert_eq!(device.ask(&sim, "get_secret").await.0, 200, "all used up");
}

#[tokio::test]
async fn hanging_stalling_and_delay() {
    let (sim, device) = start().await;
    let soon = Duration::from_millis(300);
    let hang = timeout(soon, struck(&sim, &device, FaultKind::Hang)).await;
    assert!(hang.is_err());
    let stall = timeout(soon, struck(&sim, &device, FaultKind::Stall)).await;
    assert!(stall.is_err());
    let started = std::time::Instant::now();
    struck(&sim, &device, FaultKind::Latency { ms: 200 })
        .await
        .unwrap();
    assert!(started.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn a_fault_may_be_one_clients_own() {
    let (sim, device) = start().await;
    let second = Device::of(&sim.device_config_of("second").unwrap());
    sim.fault(Fault::new(FaultKind::BadGateway).for_client("second"));
    assert_eq!(device.ask(&sim, "get_secret").await.0, 200);
    assert_eq!(second.ask(&sim, "get_secret").await.0, 502);
    sim.clear_faults();
    assert_eq!(second.ask(&sim, "get_secret").await.0, 200);
}

#[tokio::test]
async fn an_untrusted_certificate_is_just_that() {
    let (sim, device) = start().await;
    let mut kept = connect(sim.address(), sim.ca_pem()).await.unwrap();
    assert_eq!(device.ask(&sim, "get_secret").await.0, 200);
    sim.fault(Fault::new(FaultKind::UntrustedCertificate).times(1));
    let ended = timeout(DEADLINE, kept.read(&mut [0])).await.unwrap();
    assert!(
        matches!(ended, Ok(0) | Err(_)),
        "a connection from before ends"
    );
    assert!(connect(sim.address(), sim.ca_pem()).await.is_err());
    assert!(connect(sim.address(), sim.ca_pem()).await.is_ok());
}

#[tokio::test]
async fn the_certificate_has_every_name_that_was_asked_for() {
    for hostname in ["sim.example:8443", "sim.example"] {
        let options = Options {
            hostname: Some(hostname.to_owned()),
            sans: vec!["other.example".to_owned(), "10.1.2.3".to_owned()],
            ..Options::default()
        };
        let sim = start_with(options).await;
        for name in [
            "sim.example",
            "other.example",
            "10.1.2.3",
            "localhost",
            "127.0.0.1",
        ] {
            let connected = connect_as(sim.address(), sim.ca_pem(), name).await;
            assert!(connected.is_ok(), "{hostname}: {name}");
        }
        let stranger = connect_as(sim.address(), sim.ca_pem(), "stranger.example").await;
        assert!(stranger.is_err());
    }
    let options = Options {
        hostname: Some("[::1]:8443".to_owned()),
        ..Options::default()
    };
    let sim = start_with(options).await;
    assert!(connect_as(sim.address(), sim.ca_pem(), "::1").await.is_ok());
}

#[tokio::test]
async fn a_certificate_from_elsewhere_is_served() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let ca = made.cert.pem();
    let options = Options {
        state_dir: Some(StateDir::open(directory.path(), Some(ca.clone())).unwrap()),
        certificate: Some(keeper_sim::ForeignCertificate {
            chain: ca.clone().into_bytes(),
            key: made.signing_key.serialize_pem().into_bytes(),
            ca: ca.clone(),
        }),
        ..Options::default()
    };
    let sim = start_with(options).await;
    assert_eq!(sim.ca_pem(), ca);
    assert_eq!(
        std::fs::read_to_string(directory.path().join("ca.crt")).unwrap(),
        ca
    );
    let device = Device::of(&sim.device_config().unwrap());
    assert_eq!(device.ask(&sim, "get_secret").await.0, 200);
}

#[tokio::test]
async fn bad_writes_are_refused_and_change_nothing() {
    let (sim, device) = start().await;
    let uid = sim.uid_of("only").unwrap();
    let sealed = STANDARD.encode(seal(&[1; 32], b"{}"));
    for (endpoint, more, part) in [
        ("create_secret", json!({}), "recordUid is missing"),
        ("create_secret", json!({ "recordUid": uid }), "no new UID"),
        (
            "create_secret",
            json!({ "recordUid": "BBBBBBBBBBBBBBBBBBBBBB", "folderUid": "x" }),
            "no such folder",
        ),
        (
            "update_secret",
            json!({ "recordUid": "x", "data": sealed }),
            "no such record",
        ),
        (
            "update_secret",
            json!({ "recordUid": uid, "data": sealed, "revision": 1 }),
            "can't be opened",
        ),
        (
            "update_secret",
            json!({ "recordUid": uid, "data": sealed, "revision": 9 }),
            "another revision",
        ),
        (
            "finalize_secret_update",
            json!({ "recordUid": "x" }),
            "no such record",
        ),
    ] {
        let mut payload = device.payload();
        payload
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let request = device.request(&payload.to_string());
        let answer = request.send(&sim, endpoint).await.unwrap();
        let message = request.open(&answer)["message"].to_string();
        assert!(
            answer.status == 400 && message.contains(part),
            "{endpoint} {more}: {message}"
        );
    }
    let mut payload = device.payload();
    payload["recordUids"] = json!(["x"]);
    let request = device.request(&payload.to_string());
    let answer = request.send(&sim, "delete_secret").await.unwrap();
    assert_eq!(
        request.open(&answer)["records"][0]["responseCode"],
        "not_found"
    );
    let records = sim.records();
    assert_eq!((records.len(), records[0].revision), (1, 1));
}

#[tokio::test]
async fn bad_input_is_refused_in_time_and_harms_nobody() {
    let (sim, device) = start().await;

    // No TLS at all.
    let mut plain = TcpStream::connect(sim.address()).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(DEADLINE, plain.read_to_end(&mut answer))
        .await
        .unwrap();

    let send = async |text: String| {
        let answer = timeout(DEADLINE, exchange(&sim, text.as_bytes())).await;
        // A connection that is ended while we still write is an answer too.
        answer.unwrap().map_or(0, |answer| answer.status)
    };
    let close = "Host: x\r\nConnection: close\r\n";
    assert_eq!(send("garbage\r\n\r\n".to_owned()).await, 400);
    assert_eq!(
        send(format!("GET /nope HTTP/1.1\r\n{close}\r\n")).await,
        404
    );
    assert_eq!(
        send(format!(
            "GET /api/rest/sm/v1/get_secret HTTP/1.1\r\n{close}\r\n"
        ))
        .await,
        405
    );
    assert_eq!(
        send(format!("POST /files/x HTTP/1.1\r\n{close}\r\n")).await,
        405
    );
    assert_eq!(
        send(format!("POST /api/rest/sm/v1/burn HTTP/1.1\r\n{close}\r\n")).await,
        404
    );
    let bare = format!("POST /api/rest/sm/v1/get_secret HTTP/1.1\r\n{close}\r\n");
    assert_eq!(send(bare).await, 401, "no headers at all: no known key");
    let headers = format!(
        "GET / HTTP/1.1\r\nX: {}\r\n{close}\r\n",
        "x".repeat(1 << 20)
    );
    assert!(matches!(send(headers).await, 0 | 431));
    let body = "x".repeat(5 << 20);
    let body = format!(
        "POST /api/rest/sm/v1/get_secret HTTP/1.1\r\n{close}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    assert!(matches!(send(body).await, 0 | 413));

    // Binary in every header that is read.
    let mut request = device.request("{}").text("get_secret");
    for byte in &mut request {
        if *byte == b'9' {
            *byte = 0xff;
        }
    }
    let answer = timeout(DEADLINE, exchange(&sim, &request)).await.unwrap();
    assert!(answer.is_err() || answer.unwrap().status >= 400);

    // Connections that just end.
    for length in [0, 1, 20, 400] {
        let mut stream = connect(sim.address(), sim.ca_pem()).await.unwrap();
        let text = device
            .request(&device.payload().to_string())
            .text("get_secret");
        stream.write_all(&text[..length]).await.unwrap();
    }
    assert_eq!(device.ask(&sim, "get_secret").await.0, 200);
}

#[tokio::test]
async fn one_connection_carries_many_requests() {
    let (sim, device) = start().await;
    let mut stream = connect(sim.address(), sim.ca_pem()).await.unwrap();
    let text = device
        .request(&device.payload().to_string())
        .text("get_secret");
    let text = String::from_utf8_lossy(&text)
        .find("Connection: close\r\n")
        .map(|at| {
            let end = at + "Connection: close\r\n".len();
            [&text[..at], &text[end..]].concat()
        });
    let text = text.unwrap();
    for _ in 0..3 {
        stream.write_all(&text).await.unwrap();
        let mut bytes = vec![0; 64 * 1024];
        let mut length = 0;
        loop {
            length += timeout(DEADLINE, stream.read(&mut bytes[length..]))
                .await
                .unwrap()
                .unwrap();
            let answer = parse(&bytes[..length]);
            let promised = answer.header("content-length").and_then(|n| n.parse().ok());
            if promised == Some(answer.body.len()) {
                assert_eq!(answer.status, 200);
                break;
            }
        }
    }
    assert_eq!(sim.calls().of("default", "get_secret").answered, 3);
}

#[tokio::test]
async fn dropping_ends_everything() {
    let (sim, device) = start().await;
    let address = sim.address();
    let mut open_connection = connect(address, sim.ca_pem()).await.unwrap();
    assert_eq!(device.ask(&sim, "get_secret").await.0, 200);
    drop(sim);
    let mut byte = [0];
    let ended = timeout(DEADLINE, open_connection.read(&mut byte))
        .await
        .unwrap();
    assert!(matches!(ended, Ok(0) | Err(_)));
    let gone = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, gone)
        .await
        .expect("the port must be closed");
}

#[tokio::test]
async fn what_is_kept_outlives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let start = async |yaml: &str| {
        let options = Options {
            hostname: Some("sim.example:443".into()),
            state_dir: Some(StateDir::open(directory.path(), None).unwrap()),
            ..Options::default()
        };
        Sim::start(Vault::parse(yaml).unwrap(), options)
            .await
            .unwrap()
    };
    let read = |name: &str| std::fs::read_to_string(directory.path().join(name)).unwrap();

    let first = start(YAML).await;
    let (ca, config) = (first.ca_pem().to_owned(), first.device_config().unwrap());
    assert_eq!(
        (read("ca.crt"), read("device-config.json")),
        (ca.clone(), config.clone())
    );
    assert_eq!(decode(&read("device-config.b64")), config.as_bytes());
    assert!(config.contains(r#""hostname":"sim.example:443""#));
    let (bound, _) = fresh(&first);
    let request = binding(&bound);
    assert_eq!(
        request.send(&first, "get_secret").await.unwrap().status,
        200
    );
    let uids: Vec<_> = first
        .records()
        .into_iter()
        .map(|record| record.uid)
        .collect();
    drop(first);

    let again = start(&format!("{YAML}\nseed: ''")).await;
    assert_eq!(
        (again.ca_pem(), &again.device_config().unwrap()),
        (ca.as_str(), &config)
    );
    assert_eq!(Device::of(&config).ask(&again, "get_secret").await.0, 200);
    assert_eq!(
        bound.ask(&again, "get_secret").await.0,
        200,
        "the binding is kept"
    );
    assert_eq!(
        again
            .records()
            .into_iter()
            .map(|r| r.uid)
            .collect::<Vec<_>>(),
        uids
    );
    again.rotate_server_key(None).unwrap();
    let rotated = again.device_config().unwrap();
    drop(again);

    let third = start("clients: [{name: new}]").await;
    assert_eq!(third.device_config().unwrap(), rotated);
    assert!(third.device_config_of("new").is_ok());
}

#[tokio::test]
async fn a_spoilt_state_directory_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("identity.json"), "{").unwrap();
    let options = Options {
        state_dir: Some(StateDir::open(directory.path(), None).unwrap()),
        ..Options::default()
    };
    let vault = Vault::parse(YAML).unwrap();
    let error = Sim::start(vault, options).await.err().unwrap().to_string();
    assert!(error.contains("stored keys"), "{error}");
}
