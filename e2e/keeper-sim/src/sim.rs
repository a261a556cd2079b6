//! A running service, for tests that hold it in their hands.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::http::uri;
use rustls::ServerConfig;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::core::{Core, State};
use crate::faults::{Fault, FaultKind, Faults};
use crate::identity::{ClientState, Identity, IdentityError};
use crate::log::{Calls, Log, LoggedRequest};
use crate::pki::{Authority, PkiError, tls_from_pem};
use crate::server::{self, Certificates};
use crate::state_dir::{StateDir, StateDirError};
use crate::throttle::Throttle;
use crate::vault::edit::Edited;
use crate::vault::{Change, Edit, EditError, RecordQuirk, Vault};

/// How a service is started. The default is for tests: a free port on the loopback address, new keys.
pub struct Options {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// `host:port` as device configs have it; `localhost` and the port where it is left out.
    pub hostname: Option<String>,
    /// Further names and addresses for the certificate.
    pub sans: Vec<String>,
    /// The throttle rule; none lets everything pass.
    pub throttle: Option<Throttle>,
    /// How long the URL of an attachment works.
    pub file_url_lifetime: Duration,
    /// Where keys are kept.
    pub state_dir: Option<StateDir>,
    /// Certificate chain and key in PEM, in place of own ones, and the authority's certificate.
    pub certificate: Option<ForeignCertificate>,
}

/// A certificate that was made elsewhere.
pub struct ForeignCertificate {
    /// Chain in PEM.
    pub chain: Vec<u8>,
    /// Key in PEM.
    pub key: Vec<u8>,
    /// Certificate of the authority in PEM, for clients to trust.
    pub ca: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            hostname: None,
            sans: Vec::new(),
            throttle: Some(Throttle::default()),
            file_url_lifetime: Duration::from_secs(15 * 60),
            state_dir: None,
            certificate: None,
        }
    }
}

/// Why a service can't be started or asked.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// The address can't be listened on.
    #[error("can't listen on {address}: {source}")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Keys.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Certificates.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// Kept keys.
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    /// No client has this name.
    #[error("no client `{name}`; there are: {known}")]
    NoClient {
        /// Which name.
        name: String,
        /// The names that there are.
        known: String,
    },
    /// The client made its own private key, or hasn't yet.
    #[error("client `{0}` has no device config here: it has a one-time token (see `token`)")]
    NoConfig(String),
}

/// What there is to know about a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientInfo {
    /// Its name.
    pub name: String,
    /// Its id in the protocol.
    pub client_id: String,
    /// How far it is.
    pub state: ClientState,
    /// Its one-time token without a region, as long as nobody has redeemed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// What there is to know about a record without a look at its fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordInfo {
    /// Its UID.
    pub uid: String,
    /// Its title.
    pub title: String,
    /// Folder path and title.
    pub path: String,
    /// Its revision.
    pub revision: u64,
}

/// A service that runs until it is dropped.
pub struct Sim {
    address: SocketAddr,
    ca_pem: String,
    handle: SimHandle,
    task: JoinHandle<()>,
}

/// A way to a running service that can be cloned.
#[derive(Clone)]
pub struct SimHandle(Arc<Core>);

impl Sim {
    /// Starts a service on the current tokio runtime.
    ///
    /// # Errors
    /// [`SimError`] if the address is taken or keys can't be made.
    pub async fn start(vault: Vault, options: Options) -> Result<Self, SimError> {
        let identity = match &options.state_dir {
            Some(directory) => directory.load(&vault.clients)?,
            None => Identity::generate(&vault.clients)?,
        };
        let listen = |source| SimError::Listen {
            address: options.listen,
            source,
        };
        let listener = TcpListener::bind(options.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let hostname = options
            .hostname
            .unwrap_or_else(|| format!("localhost:{}", address.port()));
        let (good, ca_pem) = match options.certificate {
            Some(given) => (tls_from_pem(&given.chain, &given.key)?, given.ca),
            None => (
                own_certificate(&identity, &hostname, &options.sans, address)?,
                identity.authority.certificate_pem().to_owned(),
            ),
        };
        let certificates = Certificates {
            good,
            untrusted: own_certificate(
                &Identity {
                    authority: Authority::generate()?,
                    ..identity.clone()
                },
                &hostname,
                &options.sans,
                address,
            )?,
        };
        let state = State {
            vault,
            identity,
            throttle: options.throttle,
            faults: Faults::default(),
            log: Log::default(),
            clock_offset_ms: 0,
            file_url_lifetime: options.file_url_lifetime,
        };
        let core = Arc::new(Core::new(state, hostname, options.state_dir));
        core.persist(&core.lock())?;
        let task = tokio::spawn(server::serve(listener, certificates, core.clone()));
        Ok(Self {
            address,
            ca_pem,
            handle: SimHandle(core),
            task,
        })
    }

    /// The address that it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Certificate in PEM of the authority that clients must trust.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// A way to it that can be cloned and outlives the service.
    #[must_use]
    pub fn handle(&self) -> SimHandle {
        self.handle.clone()
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl std::ops::Deref for Sim {
    type Target = SimHandle;

    fn deref(&self) -> &SimHandle {
        &self.handle
    }
}

impl SimHandle {
    /// `host:port` as device configs have it.
    #[must_use]
    pub fn hostname(&self) -> &str {
        &self.0.hostname
    }

    /// Device config of the first client that has one, as JSON text.
    ///
    /// # Errors
    /// [`SimError::NoClient`] if no client has one.
    pub fn device_config(&self) -> Result<String, SimError> {
        let state = self.0.lock();
        for client in &state.identity.clients {
            if let Some(config) = state.identity.device_config(client, self.hostname())? {
                return Ok(config.to_string());
            }
        }
        Err(no_client("with a device config", &state.identity))
    }

    /// Device config of a client, as JSON text.
    ///
    /// # Errors
    /// [`SimError::NoClient`], [`SimError::NoConfig`]
    pub fn device_config_of(&self, client: &str) -> Result<String, SimError> {
        let state = self.0.lock();
        let found = state.identity.client(client);
        let found = found.ok_or_else(|| no_client(client, &state.identity))?;
        let config = state.identity.device_config(found, self.hostname())?;
        let config = config.ok_or_else(|| SimError::NoConfig(client.to_owned()))?;
        Ok(config.to_string())
    }

    /// A new client with a one-time token, which takes the place of an older client of this name. Returns the
    /// token without a region: to be used with [`SimHandle::hostname`].
    ///
    /// # Errors
    /// [`SimError`] if keys can't be made or kept.
    pub fn new_token(&self, client: &str) -> Result<String, SimError> {
        let mut state = self.0.lock();
        let token = state.identity.new_token(client)?;
        self.0.persist(&state)?;
        Ok(token)
    }

    /// All clients.
    #[must_use]
    pub fn clients(&self) -> Vec<ClientInfo> {
        let state = self.0.lock();
        let clients = state.identity.clients.iter().map(|client| ClientInfo {
            name: client.name.clone(),
            client_id: client.id.clone(),
            state: client.state(),
            token: (client.state() == ClientState::Unbound).then(|| client.token()),
        });
        clients.collect()
    }

    /// Withdraws a client's access, or gives it back.
    ///
    /// # Errors
    /// [`SimError::NoClient`], or the state can't be kept.
    pub fn set_revoked(&self, client: &str, revoked: bool) -> Result<(), SimError> {
        let mut state = self.0.lock();
        match state.identity.client_mut(client) {
            Some(found) => found.revoked = revoked,
            None => return Err(no_client(client, &state.identity)),
        }
        Ok(self.0.persist(&state)?)
    }

    /// Makes another server key the active one: that of `id`, or a new one of the next id. Requests under any
    /// other are answered with `key` from now on. Returns the id.
    ///
    /// # Errors
    /// [`SimError`] if keys can't be made or kept.
    pub fn rotate_server_key(&self, id: Option<u32>) -> Result<u32, SimError> {
        let mut state = self.0.lock();
        let id = state.identity.rotate(id)?;
        self.0.persist(&state)?;
        Ok(id)
    }

    /// The public point of the server key of `id` in URL-safe base64; the key is made if there is none, and
    /// isn't active by that.
    ///
    /// # Errors
    /// [`SimError`] if keys can't be made or kept.
    pub fn server_key(&self, id: u32) -> Result<String, SimError> {
        let mut state = self.0.lock();
        let point = state.identity.hold(id)?;
        self.0.persist(&state)?;
        Ok(point)
    }

    /// Changes the vault.
    ///
    /// # Errors
    /// [`EditError`]; the vault is as it was then.
    pub fn edit(&self, edit: &Edit) -> Result<Edited, EditError> {
        self.0.lock().vault.edit(edit)
    }

    /// Sets one text field of a record: the commonest edit.
    ///
    /// # Errors
    /// [`EditError`]; the vault is as it was then.
    pub fn set(&self, record: &str, field: &str, value: &str) -> Result<Edited, EditError> {
        self.edit(&Edit::Set {
            record: record.to_owned(),
            changes: vec![Change::text(field, value)],
        })
    }

    /// Lets a record depart from the common case, or makes it a common one again.
    ///
    /// # Errors
    /// [`EditError`]; the vault is as it was then.
    pub fn set_quirk(&self, record: &str, quirk: RecordQuirk, on: bool) -> Result<(), EditError> {
        self.0.lock().vault.set_quirk(record, quirk, on)
    }

    /// All records.
    #[must_use]
    pub fn records(&self) -> Vec<RecordInfo> {
        let state = self.0.lock();
        let records = state.vault.records.iter().map(|record| RecordInfo {
            uid: record.uid.clone(),
            title: record.title().to_owned(),
            path: state.vault.record_path(record),
            revision: record.revision,
        });
        records.collect()
    }

    /// UID of the only record of this title.
    ///
    /// # Errors
    /// [`EditError`] if there is none, or more than one.
    pub fn uid_of(&self, title: &str) -> Result<String, EditError> {
        self.0.lock().vault.uid_of(title)
    }

    /// Lets something go wrong.
    pub fn fault(&self, fault: Fault) {
        let disconnect = fault.kind == FaultKind::UntrustedCertificate;
        self.0.lock().faults.add(fault);
        if disconnect {
            // What is connected already would never see the certificate.
            self.0.disconnect.notify_waiters();
        }
    }

    /// The faults that are set.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        self.0.lock().faults.list().to_vec()
    }

    /// Ends all faults.
    pub fn clear_faults(&self) {
        self.0.lock().faults.clear();
    }

    /// Sets the throttle rule; none lets everything pass. Counters begin anew.
    pub fn set_throttle(&self, throttle: Option<Throttle>) {
        self.0.lock().throttle = throttle;
    }

    /// Sets how far the service's clock is ahead of ours, in milliseconds.
    pub fn set_clock_offset_ms(&self, offset: i64) {
        self.0.lock().clock_offset_ms = offset;
    }

    /// Call counts.
    #[must_use]
    pub fn calls(&self) -> Calls {
        self.0.lock().log.calls.clone()
    }

    /// The latest requests, the oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<LoggedRequest> {
        self.0.lock().log.requests()
    }

    /// Forgets counts and requests. Returns the counts.
    pub fn reset_calls(&self) -> Calls {
        let mut state = self.0.lock();
        let calls = std::mem::take(&mut state.log.calls);
        state.log.clear();
        calls
    }
}

fn no_client(name: &str, identity: &Identity) -> SimError {
    let known: Vec<_> = identity
        .clients
        .iter()
        .map(|client| client.name.as_str())
        .collect();
    SimError::NoClient {
        name: name.to_owned(),
        known: known.join(", "),
    }
}

/// A certificate for the host name, the address, and whatever else clients may use.
fn own_certificate(
    identity: &Identity,
    hostname: &str,
    sans: &[String],
    address: SocketAddr,
) -> Result<Arc<ServerConfig>, PkiError> {
    let authority = hostname.parse::<uri::Authority>();
    let host = authority
        .as_ref()
        .map_or(hostname, |authority| authority.host());
    let mut names = BTreeSet::from(["localhost".to_owned(), "127.0.0.1".to_owned()]);
    names.insert(host.trim_matches(['[', ']']).to_owned());
    if !address.ip().is_unspecified() {
        names.insert(address.ip().to_string());
    }
    names.extend(sans.iter().cloned());
    identity
        .authority
        .issue(&names.into_iter().collect::<Vec<_>>())
}
