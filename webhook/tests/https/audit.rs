//! The audit sink, and a stand-in for it that does as it is told.

use std::collections::VecDeque;
use std::fmt::Write as _;

use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

/// What the stand-in does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    Answer(u16),
    Redirect,
    Garbage,
    Close,
    Hang,
    /// A body that never ends.
    Endless,
    /// A status after which nothing comes.
    Slow,
}

#[derive(Debug, Clone)]
struct Seen {
    /// In lower case.
    head: String,
    body: Value,
}

#[derive(Clone)]
struct StandIn {
    address: SocketAddr,
    certificate: CertificateDer<'static>,
    seen: Arc<Mutex<Vec<Seen>>>,
    next: Arc<Mutex<VecDeque<Does>>>,
}

impl StandIn {
    /// Does these one after the other, and answers with 200 from then on.
    async fn start(next: &[Does]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        let stand_in = Self {
            address: listener.local_addr().unwrap(),
            certificate,
            seen: Arc::default(),
            next: Arc::new(Mutex::new(next.iter().copied().collect())),
        };
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let server = stand_in.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (server, acceptor) = (server.clone(), acceptor.clone());
                tokio::spawn(async move {
                    if let Ok(mut stream) = acceptor.accept(stream).await {
                        while server.request(&mut stream).await.is_some() {}
                    }
                });
            }
        });
        stand_in
    }

    /// Takes one request; none: the connection is over.
    async fn request(
        &self,
        stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin),
    ) -> Option<()> {
        let mut bytes = Vec::new();
        let (head, length) = loop {
            if stream.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if let Some((head, _)) = text.split_once("\r\n\r\n") {
                let head = head.to_lowercase();
                let length = head.split("content-length: ").nth(1).unwrap();
                let length: usize = length.lines().next().unwrap().parse().unwrap();
                break (head.clone(), head.len() + 4 + length);
            }
        };
        while bytes.len() < length {
            if stream.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
        }
        let body = serde_json::from_slice(&bytes[head.len() + 4..]).unwrap();
        self.seen.lock().unwrap().push(Seen { head, body });
        let does = self
            .next
            .lock()
            .unwrap()
            .pop_front()
            .unwrap_or(Does::Answer(200));
        let answer = match does {
            Does::Answer(status) => format!("HTTP/1.1 {status} X\r\ncontent-length: 2\r\n\r\nok"),
            Does::Redirect => format!(
                "HTTP/1.1 307 X\r\nlocation: https://{}/elsewhere\r\ncontent-length: 0\r\n\r\n",
                self.address
            ),
            Does::Garbage => "\0\u{1b}[31m canary-6a1f0c \r\n\r\n".to_owned(),
            Does::Close => return None,
            Does::Hang => std::future::pending().await,
            Does::Endless | Does::Slow => {
                "HTTP/1.1 200 X\r\ncontent-length: 99999999999\r\n\r\n".to_owned()
            }
        };
        stream.write_all(answer.as_bytes()).await.ok()?;
        if does == Does::Endless {
            loop {
                stream.write_all(&[b'x'; 4096]).await.ok()?;
            }
        }
        Some(())
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The ids of all entries in the order of their coming, of a repeated one the first.
    fn ids(&self) -> Vec<String> {
        let mut ids = Vec::new();
        for seen in self.seen() {
            for entry in seen.body.as_array().unwrap() {
                let id = entry["request_id"].as_str().unwrap().to_owned();
                if !ids.contains(&id) {
                    ids.push(id);
                }
            }
        }
        ids
    }

    /// The options for it, with a token.
    fn options(&self, folder: &Path) -> Vec<String> {
        let pem = |der: &[u8]| {
            let base64 = base64::engine::general_purpose::STANDARD.encode(der);
            let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
            for line in base64.as_bytes().chunks(64) {
                writeln!(pem, "{}", std::str::from_utf8(line).unwrap()).unwrap();
            }
            pem + "-----END CERTIFICATE-----\n"
        };
        std::fs::write(folder.join("sink.crt"), pem(&self.certificate)).unwrap();
        std::fs::write(folder.join("token"), format!("{CANARY}-one\n")).unwrap();
        vec![
            format!("--audit-sink-url=https://{}/ingest?a=b", self.address),
            format!("--audit-sink-ca-file={}", folder.join("sink.crt").display()),
            format!("--audit-sink-token-file={}", folder.join("token").display()),
            "--audit-sink-timeout-seconds=1".to_owned(),
        ]
    }
}

async fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    timeout(PATIENCE, async {
        loop {
            if let Some(found) = found() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("{what}: not in time; the log is\n{}", log()))
}

async fn until_metric(server: &Server, line: &str) {
    let wait = async {
        while !server
            .metrics("/metrics")
            .await
            .1
            .lines()
            .any(|found| found == line)
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, wait)
        .await
        .unwrap_or_else(|_| panic!("{line}: not in time"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_reaches_the_sink_as_the_log_has_it_with_the_token_of_the_moment() {
    let sink = StandIn::start(&[]).await;
    let mut server = Server::start_with(|folder| sink.options(folder)).await;
    server.post(good("audit-good")).await;
    let first = until("the first entry", || sink.seen().first().cloned()).await;
    assert!(
        first.head.starts_with("post /ingest?a=b http/1.1"),
        "{}",
        first.head
    );
    assert!(first.head.contains("content-type: application/json"));
    assert!(
        first
            .head
            .contains(&format!("authorization: bearer {CANARY}-one"))
    );

    let log = log();
    let line = log
        .lines()
        .find(|line| line.contains("audit-good"))
        .unwrap();
    let mut line: Value = serde_json::from_str(line).unwrap();
    let mut sent = first.body[0].clone();
    assert!(sent["time"].take().as_str().unwrap().ends_with('Z'));
    line["time"].take();
    assert_eq!(sent, line);
    assert_eq!(first.body.as_array().unwrap().len(), 1);

    // What is wrong stands in the sink as a word of ours, not as the user's text.
    server
        .post(review(
            "audit-bad",
            json!({"keeper.security/inject": CANARY}),
        ))
        .await;
    let second = until("the second entry", || sink.seen().get(1).cloned()).await;
    assert_eq!(second.body[0]["reason"], "bad_value,missing_config");
    assert!(!second.body.to_string().contains(CANARY));

    let token = server.folder.path().join("token");
    std::fs::write(&token, format!("{CANARY}-two")).unwrap();
    server.post(good("audit-rotated")).await;
    let third = until("the third entry", || sink.seen().get(2).cloned()).await;
    assert!(third.head.contains(&format!("bearer {CANARY}-two")));

    // Without a token nothing is sent, and nothing lost; the end waits for the sink.
    std::fs::remove_file(&token).unwrap();
    server.post(good("audit-last")).await;
    until_metric(&server, "keeper_injector_audit_failures_total 1").await;
    until_metric(&server, "keeper_injector_audit_queue_entries 1").await;
    assert_eq!(sink.seen().len(), 3);
    server.stop.take().unwrap().send(()).unwrap();
    std::fs::write(&token, "three").unwrap();
    timeout(PATIENCE, server.task)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(
        sink.ids(),
        ["audit-good", "audit-bad", "audit-rotated", "audit-last"]
    );
    assert!(!super::log().contains(CANARY), "{}", super::log());
}

/// Each admission here is answered while the sink misbehaves; one that waited for it would never be.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_sink_does_no_admission_waits_and_no_entry_is_lost() {
    let one = async |does: Does| {
        let sink = StandIn::start(&[does]).await;
        let server = Server::start_with(|folder| sink.options(folder)).await;
        let ids: Vec<_> = (0..20).map(|n| format!("audit-{does:?}-{n}")).collect();
        for id in &ids {
            server.post(good(id)).await;
        }
        until(&format!("all entries after {does:?}"), || {
            (sink.ids() == ids).then_some(())
        })
        .await;
        until_metric(&server, "keeper_injector_audit_queue_entries 0").await;
        until_metric(&server, "keeper_injector_audit_delivered_total 20").await;
        let (_, metrics) = server.metrics("/metrics").await;
        let failed = metrics.contains("keeper_injector_audit_failures_total 1\n");
        // Its status is what a sink says of entries, whatever follows.
        assert_eq!(
            failed,
            !matches!(does, Does::Endless | Does::Slow),
            "{does:?}\n{metrics}"
        );
        assert!(
            sink.seen()
                .iter()
                .all(|seen| !seen.head.contains("elsewhere"))
        );
        assert!(metrics.contains("keeper_injector_audit_queue_bytes 0\n"));
    };
    tokio::join!(
        one(Does::Answer(500)),
        one(Does::Answer(401)),
        one(Does::Answer(404)),
        one(Does::Redirect),
        one(Does::Garbage),
        one(Does::Close),
        one(Does::Hang),
        one(Does::Endless),
        one(Does::Slow),
    );
    assert!(!log().contains(CANARY), "{}", log());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_sink_refuses_is_dropped_and_holds_up_nothing() {
    let sink = StandIn::start(&[Does::Answer(400)]).await;
    let server = Server::start_with(|folder| sink.options(folder)).await;
    server.post(good("audit-refused")).await;
    until_metric(
        &server,
        "keeper_injector_audit_dropped_total{reason=\"refused\"} 1",
    )
    .await;
    server.post(good("audit-next")).await;
    until_metric(&server, "keeper_injector_audit_delivered_total 1").await;
    assert_eq!(sink.ids(), ["audit-refused", "audit-next"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_with_another_certificate_is_told_nothing_and_the_end_comes() {
    let sink = StandIn::start(&[]).await;
    let mut server = Server::start_with(|folder| {
        let options = sink.options(folder);
        std::fs::copy(folder.join("ca.crt"), folder.join("sink.crt")).unwrap();
        options
    })
    .await;
    server.post(good("audit-secret")).await;
    until_metric(&server, "keeper_injector_audit_failures_total 1").await;
    let complaint = "the audit sink takes no entries";
    until(complaint, || log().contains(complaint).then_some(())).await;
    server.stop.take().unwrap().send(()).unwrap();
    timeout(PATIENCE, server.task)
        .await
        .expect("no end")
        .unwrap()
        .unwrap();
    assert_eq!(sink.seen().len(), 0);
    let left = "audit entries were not delivered before the end";
    assert!(log().contains(left));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_file_without_a_certificate_is_said_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.crt");
    std::fs::write(&file, "no certificate").unwrap();
    std::fs::write(
        folder.path().join("settings.yaml"),
        "sidecarImage: a\nownNamespace: b\nlogFormat: json\n",
    )
    .unwrap();
    let Command::Serve(options) = Cli::parse_from([
        "keeper-webhook",
        "serve",
        "--tls-mode=manual",
        "--tls-cert=a",
        "--tls-key=b",
        "--kubernetes-version=1.35",
        "--settings=x",
        "--audit-sink-url=https://127.0.0.1/",
        &format!("--audit-sink-ca-file={}", file.display()),
    ])
    .command
    else {
        panic!("serve is a command")
    };
    let settings = load_settings(&folder.path().join("settings.yaml")).unwrap();
    let Err(failure) = Webhook::bind(&options, settings).await else {
        panic!("it starts")
    };
    assert!(
        failure.to_string().contains("--audit-sink-ca-file"),
        "{failure}"
    );
}
