//! The client through a real squid, with a config of its own on a port of its own: plain, with a password, and with
//! TLS inspection. install-squid installs it.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::fs::{self, Permissions};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use keeper_ksm::{Client, ClientOptions, DeviceConfig, Error, ProxyOptions};
use keeper_sim::{Options, Sim, Vault};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose};
use tempfile::TempDir;

/// A name that only the squid knows, from its own hosts file.
const NAME: &str = "keeper.invalid";
const CERTGEN: &str = "/usr/lib/squid/security_file_certgen";

struct Squid {
    process: Child,
    port: u16,
    dir: TempDir,
}

impl Squid {
    /// Starts one with these further lines; `port_options` belong to its port.
    async fn start(port_options: &str, dir: TempDir, lines: &str) -> Self {
        // As root, squid turns into another user, who writes here, too.
        fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
        let path = dir.path().display();
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .unwrap()
            .port();
        fs::write(dir.path().join("hosts"), format!("127.0.0.1 {NAME}\n")).unwrap();
        let config = format!(
            "http_port 127.0.0.1:{port} {port_options}\n\
             visible_hostname squid\n\
             hosts_file {path}/hosts\n\
             pid_filename none\n\
             access_log stdio:{path}/access.log\n\
             cache_log {path}/cache.log\n\
             coredump_dir {path}\n\
             netdb_filename none\n\
             pinger_enable off\n\
             max_filedescriptors 256\n\
             shutdown_lifetime 0 seconds\n\
             cache deny all\n\
             {lines}\n"
        );
        fs::write(dir.path().join("squid.conf"), config).unwrap();
        let process = Command::new("squid")
            .env("PATH", "/usr/sbin:/usr/bin:/bin")
            .arg("-N")
            .arg("-f")
            .arg(dir.path().join("squid.conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let process = process.unwrap_or_else(|error| {
            panic!("squid cannot be started ({error}): run shared/ksm/tests/install-squid")
        });
        let squid = Self { process, port, dir };
        squid
            .until("a squid that listens", || {
                TcpStream::connect(("127.0.0.1", port)).is_ok()
            })
            .await;
        squid
    }

    async fn until(&self, what: &str, condition: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !condition() {
            assert!(
                Instant::now() < deadline,
                "no {what}; squid says: {}\n{}",
                self.read("cache.log"),
                self.read("access.log")
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(name)).unwrap_or_default()
    }

    /// Waits until squid has logged a request with this text: it does so at its end.
    async fn logged(&self, text: &str) {
        self.until(text, || self.read("access.log").contains(text))
            .await;
    }

    /// A client of `sim` by [`NAME`], through this squid, that trusts `ca`.
    fn client(&self, sim: &Sim, ca: &str) -> Client {
        let options = ClientOptions {
            extra_ca_pem: Some(ca.as_bytes().to_vec()),
            proxy: Some(ProxyOptions {
                url: format!("http://127.0.0.1:{}", self.port),
                no_proxy: String::new(),
            }),
            ..ClientOptions::default()
        };
        let config = DeviceConfig::parse(sim.device_config().unwrap().as_bytes()).unwrap();
        Client::new(config, options).unwrap()
    }
}

impl Drop for Squid {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A simulator that calls itself [`NAME`] in configs and in the URLs of attachments.
async fn sim() -> Sim {
    let vault = "records: [{title: db, password: x, files: [{name: ca.pem, text: PEM}]}]";
    let port = TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .unwrap()
        .port();
    let options = Options {
        listen: ([127, 0, 0, 1], port).into(),
        hostname: Some(format!("{NAME}:{port}")),
        ..Options::default()
    };
    Sim::start(Vault::parse(vault).unwrap(), options)
        .await
        .unwrap()
}

/// Fetches the record and its attachment.
async fn fetch(client: &Client) -> Result<(), Error> {
    let vault = client.get_secret(&[]).await?;
    let file = vault.records.first().unwrap().files().first().unwrap();
    assert_eq!(client.download(file).await?.expose(), b"PEM");
    Ok(())
}

#[tokio::test]
async fn records_and_attachments_come_through_squid() {
    let sim = sim().await;
    let squid = Squid::start("", tempfile::tempdir().unwrap(), "http_access allow all").await;
    fetch(&squid.client(&sim, sim.ca_pem())).await.unwrap();
    squid.logged("TCP_TUNNEL/200").await;
    assert!(
        squid
            .read("access.log")
            .contains(&format!("CONNECT {NAME}:"))
    );
}

#[tokio::test]
async fn a_squid_that_denies_or_demands_a_password() {
    let sim = sim().await;
    let denying = Squid::start("", tempfile::tempdir().unwrap(), "http_access deny all").await;
    let error = fetch(&denying.client(&sim, sim.ca_pem()))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Proxy { .. }), "{error:?}");
    assert!(error.to_string().contains("it refuses"), "{error}");
    let demanding = "auth_param basic program /usr/lib/squid/basic_fake_auth\n\
        acl known proxy_auth REQUIRED\n\
        http_access allow known\n\
        http_access deny all";
    let demanding = Squid::start("", tempfile::tempdir().unwrap(), demanding).await;
    let error = fetch(&demanding.client(&sim, sim.ca_pem()))
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::ProxyAuthentication { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_squid_that_inspects_tls_is_trusted_by_its_ca_alone() {
    let sim = sim().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().display().to_string();
    let ca = corporate_ca(dir.path());
    fs::write(dir.path().join("keeper.crt"), sim.ca_pem()).unwrap();
    let made = Command::new(CERTGEN)
        .args(["-c", "-s", &format!("{path}/certificates"), "-M", "4MB"])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let open = Command::new("chmod")
        .args(["-R", "a+rwX", &path])
        .status()
        .unwrap();
    assert!(open.success());
    let port = format!(
        "ssl-bump generate-host-certificates=on dynamic_cert_mem_cache_size=4MB tls-cert={path}/corporate.pem"
    );
    let lines = format!(
        "sslcrtd_program {CERTGEN} -s {path}/certificates -M 4MB\n\
         sslcrtd_children 1 startup=1 idle=1\n\
         tls_outgoing_options cafile={path}/keeper.crt\n\
         ssl_bump bump all\n\
         http_access allow all"
    );
    let squid = Squid::start(&port, dir, &lines).await;
    let error = fetch(&squid.client(&sim, sim.ca_pem())).await.unwrap_err();
    assert!(matches!(error, Error::Untrusted { .. }), "{error:?}");
    assert!(error.to_string().contains("ca-cert-configmap"), "{error}");
    fetch(&squid.client(&sim, &ca)).await.unwrap();
    // It has seen inside of the tunnel, where nothing can be read.
    squid.logged("/api/rest/sm/v1/get_secret").await;
}

/// Makes the CA of an inspecting proxy: its key and certificate for squid, its certificate for those who trust it.
fn corporate_ca(dir: &Path) -> String {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "Corporate CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key).unwrap().pem();
    let both = format!("{certificate}{}", key.serialize_pem());
    fs::write(dir.join("corporate.pem"), both).unwrap();
    certificate
}
