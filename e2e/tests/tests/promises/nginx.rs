//! A real server, Debian's nginx, that takes over a certificate from Keeper.

use std::io::Write as _;
use std::time::{Duration, Instant};

use keeper_e2e::{Keeper, Namespace, node, pods, repository};
use rcgen::{CertificateParams, DnType, KeyPair, SerialNumber};
use serde_json::Value;

const EXAMPLE: &str = "examples/nginx-tls.yaml";
/// The record that the example reads.
const RECORD: &str = "web-tls";
const HOST: &str = "web.example.internal";
/// One interval, and the pauses between the attempts to tell nginx.
const SOON: Duration = Duration::from_secs(50);

/// Makes some handshakes, one after the other, and prints the serial number of each certificate that was served. A handshake
/// succeeds only if the server signs with the key of its certificate, and the certificate is one that is trusted here.
const HANDSHAKES: &str = r#"
for _ in 1 2 3 4 5 6 7 8 9 10; do
  served=$(openssl s_client -connect "$0" -CAfile "$1" -verify_hostname "$2" -verify_return_error </dev/null 2>&1) ||
    { echo "$served" >&2; exit 1; }
  echo "$served" | openssl x509 -noout -serial
done
"#;

/// A certificate and its key, in PEM.
pub(crate) struct Pair {
    certificate: String,
    key: String,
}

impl Pair {
    pub(crate) fn new(serial: u64) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut about = CertificateParams::new([HOST.to_owned()]).unwrap();
        about.serial_number = Some(SerialNumber::from(serial));
        // openssl looks a trusted certificate up by its name.
        let name = format!("certificate {serial}");
        about.distinguished_name.push(DnType::CommonName, name);
        Self {
            certificate: about.self_signed(&key).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    /// Adds it as the example's record.
    pub(crate) fn add_to(&self, keeper: &Keeper) {
        let [certificate, key] = self.fields();
        keeper.run(&["add", RECORD, &certificate, &key]);
    }

    /// Puts it in the place of another, by one edit.
    fn replace_in(&self, keeper: &Keeper) {
        let [certificate, key] = self.fields();
        keeper.set(RECORD, &[&certificate, &key]);
    }

    fn fields(&self) -> [String; 2] {
        [
            format!("certificate={}", self.certificate),
            format!("key={}", self.key),
        ]
    }
}

#[test]
fn nginx_takes_over_a_certificate_without_a_restart_or_a_failed_handshake() {
    let namespace = Namespace::new("nginx");
    let (first, second) = (Pair::new(0x0A), Pair::new(0x0B));
    let mut trusted = tempfile::NamedTempFile::new().unwrap();
    for pair in [&first, &second] {
        trusted.write_all(pair.certificate.as_bytes()).unwrap();
    }
    first.add_to(namespace.keeper());
    let example = repository().join(EXAMPLE);
    namespace.kubectl(&["apply", "--filename", example.to_str().unwrap()]);
    namespace.wait_for("deployment/nginx-tls", "condition=Available", 90);

    let pod = the_pod(&namespace);
    let address = format!("{}:8443", pod["status"]["podIP"].as_str().unwrap());
    let trusted = trusted.path().to_str().unwrap();
    let served = |serial: &str| {
        let serials = node::client(&["sh", "-c", HANDSHAKES, &address, trusted, HOST]);
        serials.lines().all(|line| line == serial)
    };
    assert!(served("serial=0A"));
    second.replace_in(namespace.keeper());
    // Each handshake must succeed, before, during and after the change: so one after the other, without a pause.
    let end = Instant::now() + SOON;
    while !served("serial=0B") {
        assert!(
            Instant::now() < end,
            "the first certificate is still served"
        );
    }

    let later = the_pod(&namespace);
    for container in ["nginx", "keeper-sidecar"] {
        let status = pods::status(&later, container);
        assert_eq!(status["restartCount"], 0, "{container}");
        assert_eq!(
            status["containerID"],
            pods::status(&pod, container)["containerID"],
            "{container}"
        );
    }
    let name = later["metadata"]["name"].as_str().unwrap();
    let log = namespace.logs(name, "nginx");
    assert_eq!(log.matches("(SIGHUP) received").count(), 1, "{log}");
    // What nginx says of a certificate that doesn't fit its key, while it goes on with the ones it had.
    assert!(!log.contains("[emerg]"), "{log}");
}

/// The only pod of the example's Deployment.
fn the_pod(namespace: &Namespace) -> Value {
    let list = namespace.kubectl(&["get", "pods", "--selector=app=nginx-tls", "--output=json"]);
    let list: Value = serde_json::from_str(&list).unwrap();
    let pods = list["items"].as_array().unwrap();
    assert_eq!(pods.len(), 1, "{list}");
    pods[0].clone()
}
