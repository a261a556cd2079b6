//! A real squid for tests, with a config of its own: plain, without mercy, with a password, or with TLS inspection.
//!
//! It starts in the background and logs a request when that has ended: who uses it polls [`Squid::is_up`] and
//! [`Squid::access_log`]. `e2e/squid/install` installs the program.
#![expect(clippy::expect_used, reason = "a helper of tests fails by panicking")]

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose};
use tempfile::TempDir;

const CERTGEN: &str = "/usr/lib/squid/security_file_certgen";
/// No squid lives longer, whatever becomes of the test.
const LIMIT_SECONDS: &str = "300";

/// What a squid does with those who ask for a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner<'a> {
    /// Opens it.
    Plain,
    /// Refuses.
    Denying,
    /// Demands a user name and password.
    Demanding,
    /// Opens it, and looks inside with certificates of its own CA.
    Inspecting {
        /// The CA of the servers that it calls, in PEM.
        servers_ca: &'a str,
    },
}

/// One squid, which ends with this value.
#[derive(Debug)]
pub struct Squid {
    process: Child,
    dir: TempDir,
    ca: Option<String>,
}

impl Squid {
    /// Starts one at an address. `hosts` are lines of a hosts file, for it alone; `launcher` is a command that runs another one
    /// in some place, and empty for this machine.
    ///
    /// # Panics
    /// If it can't be started.
    #[must_use]
    pub fn start(launcher: &[&str], listen: SocketAddr, hosts: &str, manner: Manner<'_>) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path();
        write(path, "hosts", hosts);
        let (port_options, lines, ca) = match manner {
            Manner::Plain => (String::new(), "http_access allow all".to_owned(), None),
            Manner::Denying => (String::new(), "http_access deny all".to_owned(), None),
            Manner::Demanding => (String::new(), demanding().to_owned(), None),
            Manner::Inspecting { servers_ca } => {
                let ca = corporate_ca(path);
                write(path, "servers.crt", servers_ca);
                make_certificates(path);
                let (port, lines) = inspecting(path);
                (port, lines, Some(ca))
            }
        };
        let config = config(path, listen, &port_options, &lines);
        write(path, "squid.conf", &config);
        // As root, squid turns into another user, who reads and writes here too.
        let open = Command::new("chmod")
            .args(["-R", "a+rwX"])
            .arg(path)
            .status();
        assert!(open.is_ok_and(|status| status.success()), "chmod {path:?}");
        // Two of one name would take each other's shared memory away.
        let name = format!("keeper{}x{}", std::process::id(), listen.port());
        let process = Command::new("timeout")
            .arg(LIMIT_SECONDS)
            .args(launcher)
            .args(["squid", "-n", &name, "-N", "-f"])
            .arg(path.join("squid.conf"))
            .env("PATH", search_path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(path.join("stderr")).expect("a file for its errors"))
            .spawn()
            .expect("timeout can be run");
        Self { process, dir, ca }
    }

    /// Whether it listens.
    ///
    /// # Panics
    /// If it has ended, with what it said.
    pub fn is_up(&mut self) -> bool {
        let ended = self.process.try_wait().expect("a child can be waited for");
        assert!(
            ended.is_none(),
            "squid has ended; e2e/squid/install installs it\n{}",
            self.state()
        );
        self.read("cache.log").contains("Socket connections at")
    }

    /// A line for each request that has ended.
    #[must_use]
    pub fn access_log(&self) -> String {
        self.read("access.log")
    }

    /// The certificate in PEM of the CA with which it inspects TLS.
    ///
    /// # Panics
    /// If it doesn't.
    #[must_use]
    pub fn ca(&self) -> &str {
        self.ca.as_deref().expect("this squid inspects TLS")
    }

    /// All that it has written, for the message of a test that fails.
    #[must_use]
    pub fn state(&self) -> String {
        ["stderr", "cache.log", "access.log"]
            .map(|name| format!("== {name}\n{}", self.read(name)))
            .concat()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(name)).unwrap_or_default()
    }
}

impl Drop for Squid {
    fn drop(&mut self) {
        // Told to end, squid takes its shared memory away; its launchers end with it. Before it starts there are only they.
        let squid = self.read("squid.pid");
        let pid = match squid.trim() {
            "" => self.process.id().to_string(),
            pid => pid.to_owned(),
        };
        let _ = Command::new("kill").arg(pid).status();
        let _ = self.process.wait();
    }
}

fn config(dir: &Path, listen: SocketAddr, port_options: &str, lines: &str) -> String {
    let path = dir.display();
    format!(
        "http_port {listen} {port_options}\n\
         visible_hostname squid\n\
         hosts_file {path}/hosts\n\
         pid_filename {path}/squid.pid\n\
         access_log stdio:{path}/access.log\n\
         cache_log {path}/cache.log\n\
         coredump_dir {path}\n\
         netdb_filename none\n\
         pinger_enable off\n\
         max_filedescriptors 256\n\
         shutdown_lifetime 0 seconds\n\
         cache deny all\n\
         {lines}\n"
    )
}

fn demanding() -> &'static str {
    "auth_param basic program /usr/lib/squid/basic_fake_auth\n\
     acl known proxy_auth REQUIRED\n\
     http_access allow known\n\
     http_access deny all"
}

/// Options of the port, and further lines.
fn inspecting(dir: &Path) -> (String, String) {
    let path = dir.display();
    (
        format!(
            "ssl-bump generate-host-certificates=on dynamic_cert_mem_cache_size=4MB tls-cert={path}/corporate.pem"
        ),
        format!(
            "sslcrtd_program {CERTGEN} -s {path}/certificates -M 4MB\n\
             sslcrtd_children 1 startup=1 idle=1\n\
             tls_outgoing_options cafile={path}/servers.crt\n\
             ssl_bump bump all\n\
             http_access allow all"
        ),
    )
}

/// Makes the folder in which squid keeps the certificates that it issues.
fn make_certificates(dir: &Path) {
    let made = Command::new(CERTGEN)
        .arg("-c")
        .arg("-s")
        .arg(dir.join("certificates"))
        .args(["-M", "4MB"])
        .output()
        .expect("squid's helper can be run; e2e/squid/install installs it");
    assert!(made.status.success(), "{made:?}");
}

/// Makes the CA of an inspecting proxy: its key and certificate for squid, its certificate for those who trust it.
fn corporate_ca(dir: &Path) -> String {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "Corporate CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key).expect("a certificate").pem();
    let both = format!("{certificate}{}", key.serialize_pem());
    write(dir, "corporate.pem", &both);
    certificate
}

fn write(dir: &Path, name: &str, content: &str) {
    fs::write(dir.join(name), content).expect("a file in the temporary directory");
}

/// Debian has it where only root looks.
fn search_path() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/sbin:/usr/bin:/bin")
}
