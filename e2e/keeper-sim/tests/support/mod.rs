//! A client of the protocol that can do wrong things, over a connection that can too.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use aes_gcm::aead::Aead as _;
use aes_gcm::{Aes256Gcm, KeyInit as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keeper_sim::Sim;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use p256::elliptic_curve::Generate as _;
use p256::elliptic_curve::sec1::ToSec1Point as _;
use p256::pkcs8::DecodePrivateKey as _;
use p256::{PublicKey, SecretKey};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A device, with everything open to be bent.
pub(crate) struct Device {
    pub(crate) client_id: String,
    pub(crate) private: SecretKey,
    pub(crate) server: PublicKey,
    pub(crate) key_id: String,
    pub(crate) app_key: [u8; 32],
}

/// A request before it is sent.
pub(crate) struct Request {
    pub(crate) transmission_key: [u8; 32],
    pub(crate) key_id: String,
    pub(crate) wrapped: Vec<u8>,
    pub(crate) body: Vec<u8>,
    pub(crate) signature: String,
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Device {
    pub(crate) fn of(config: &str) -> Self {
        let config: Value = serde_json::from_str(config).unwrap();
        let bytes = |name: &str| decode(config[name].as_str().unwrap());
        Self {
            client_id: config["clientId"].as_str().unwrap().to_owned(),
            private: SecretKey::from_pkcs8_der(&bytes("privateKey")).unwrap(),
            server: PublicKey::from_sec1_bytes(&bytes("serverPublicKey")).unwrap(),
            key_id: config["serverPublicKeyId"].as_str().unwrap().to_owned(),
            app_key: bytes("appKey").try_into().unwrap(),
        }
    }

    pub(crate) fn point(&self) -> String {
        STANDARD.encode(self.private.public_key().to_sec1_point(false).as_bytes())
    }

    pub(crate) fn payload(&self) -> Value {
        json!({ "clientVersion": "mr17.3.0", "clientId": self.client_id })
    }

    pub(crate) fn request(&self, payload: &str) -> Request {
        let transmission_key: [u8; 32] = random();
        let ephemeral = SecretKey::try_generate().unwrap();
        let shared = ephemeral.diffie_hellman(&self.server);
        let wrap_key: [u8; 32] = Sha256::digest(shared.raw_secret_bytes()).into();
        let point = ephemeral.public_key().to_sec1_point(false);
        let wrapped = [point.as_bytes(), &seal(&wrap_key, &transmission_key)].concat();
        let body = seal(&transmission_key, payload.as_bytes());
        let mut request = Request {
            transmission_key,
            key_id: self.key_id.clone(),
            wrapped,
            body,
            signature: String::new(),
        };
        request.sign(&self.private);
        request
    }

    /// Sends a good request and opens the answer.
    pub(crate) async fn ask(&self, sim: &Sim, endpoint: &str) -> (u16, Value) {
        let request = self.request(&self.payload().to_string());
        let answer = request.send(sim, endpoint).await.unwrap();
        (answer.status, request.open(&answer))
    }
}

impl Request {
    pub(crate) fn sign(&mut self, key: &SecretKey) {
        let message = [self.wrapped.as_slice(), &self.body].concat();
        let signature: Signature = SigningKey::from(key).sign(&message);
        self.signature = STANDARD.encode(signature.to_der().as_bytes());
    }

    pub(crate) fn text(&self, endpoint: &str) -> Vec<u8> {
        let head = format!(
            "POST /api/rest/sm/v1/{endpoint} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
             Publickeyid: {}\r\nTransmissionKey: {}\r\nAuthorization: Signature {}\r\n\
             Content-Length: {}\r\n\r\n",
            self.key_id,
            STANDARD.encode(&self.wrapped),
            self.signature,
            self.body.len()
        );
        [head.as_bytes(), &self.body].concat()
    }

    pub(crate) async fn send(&self, sim: &Sim, endpoint: &str) -> io::Result<Answer> {
        exchange(sim, &self.text(endpoint)).await
    }

    /// The answer as JSON: opened if it is good, as it stands if it is a refusal.
    pub(crate) fn open(&self, answer: &Answer) -> Value {
        if answer.status != 200 {
            return serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        }
        match open(&self.transmission_key, &answer.body) {
            Some(text) => serde_json::from_slice(&text).unwrap(),
            None => Value::Null,
        }
    }
}

/// Sends bytes over TLS and reads until the connection ends.
pub(crate) async fn exchange(sim: &Sim, bytes: &[u8]) -> io::Result<Answer> {
    let mut stream = connect(sim.address(), sim.ca_pem()).await?;
    stream.write_all(bytes).await?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer).await {
        // Cut off without a word: what came still counts.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
        other => {
            other?;
        }
    }
    Ok(parse(&answer))
}

pub(crate) async fn get(sim: &Sim, url: &str, headers: &str) -> Answer {
    let path = url.splitn(4, '/').nth(3).unwrap();
    let text = format!("GET /{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
    exchange(sim, text.as_bytes()).await.unwrap()
}

pub(crate) async fn connect(address: SocketAddr, ca: &str) -> io::Result<TlsStream<TcpStream>> {
    connect_as(address, ca, "localhost").await
}

/// Connects to `address`, which must have a certificate for `name`.
pub(crate) async fn connect_as(
    address: SocketAddr,
    ca: &str,
    name: &'static str,
) -> io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from(name).unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

pub(crate) fn parse(bytes: &[u8]) -> Answer {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n");
    let (head, body) = match end {
        Some(at) => (&bytes[..at], &bytes[at + 4..]),
        None => (bytes, &[][..]),
    };
    let head = String::from_utf8_lossy(head).into_owned();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Answer {
        status: status.unwrap_or(0),
        head,
        body: body.to_vec(),
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }
}

pub(crate) fn open(key: &[u8; 32], sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, rest) = sealed.split_first_chunk::<12>()?;
    Aes256Gcm::new(&(*key).into())
        .decrypt(&(*nonce).into(), rest)
        .ok()
}

pub(crate) fn seal(key: &[u8; 32], plain: &[u8]) -> Vec<u8> {
    let nonce: [u8; 12] = random();
    let sealed = Aes256Gcm::new(&(*key).into())
        .encrypt(&nonce.into(), plain)
        .unwrap();
    [nonce.as_slice(), &sealed].concat()
}

pub(crate) fn decode(text: &str) -> Vec<u8> {
    let text = text.replace('-', "+").replace('_', "/");
    let text = text.trim_end_matches('=');
    base64::engine::general_purpose::STANDARD_NO_PAD
        .decode(text)
        .unwrap()
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}
