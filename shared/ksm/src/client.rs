//! Calls to Keeper: seal, sign, send, open (protocol section 5), with one key rotation at most (4.3).
//!
//! Nothing is retried here. All pods of one config share one budget of calls, so when to try again is the
//! caller's to decide; the errors carry what it needs.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use p256::SecretKey;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use reqwest::{Response, Url};
use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

use crate::config::ServerKey;
use crate::crypto::{self, GCM_OVERHEAD, KEY_LEN, Key, NONCE_LEN};
use crate::error::clean;
use crate::refusal::{Refusal, refusal};
use crate::route::{ProxyOptions, Route};
use crate::transport::{self, Limits};
use crate::wire::Payload;
use crate::{DeviceConfig, Error, File, Folders, SecretBytes, Uid, Vault, encoding, server_keys};

/// What can be set of a client.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// PEM certificates that are trusted beside the built-in roots.
    pub extra_ca_pem: Option<Vec<u8>>,
    /// The proxy; none: calls go straight. No environment variable is read.
    pub proxy: Option<ProxyOptions>,
    /// The client version that we announce. Keeper has a list of the versions that it takes, so this is that
    /// of a released SDK.
    pub client_version: String,
    /// Deadline of a connection with its TLS handshake.
    pub connect_timeout: Duration,
    /// Deadline of a call as a whole.
    pub total_timeout: Duration,
    /// Largest answer in bytes.
    pub max_answer_bytes: usize,
    /// Largest attachment in bytes.
    pub max_file_bytes: usize,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            extra_ca_pem: None,
            proxy: None,
            client_version: "mr17.3.0".to_owned(),
            connect_timeout: Duration::from_secs(5),
            total_timeout: Duration::from_secs(25),
            max_answer_bytes: 64 * 1024 * 1024,
            max_file_bytes: 32 * 1024 * 1024,
        }
    }
}

/// A client of one device config.
pub struct Client {
    config: DeviceConfig,
    options: ClientOptions,
    http: reqwest::Client,
    route: Route,
    random: SystemRandom,
    state: Mutex<State>,
}

/// What answers teach us. Kept in memory: a mounted config is read-only.
struct State {
    server_key: ServerKey,
    server_time: Option<SystemTime>,
}

/// A request as it goes out, and the key that opens its answer.
struct Sealed {
    transmission_key: Key,
    wrapped: Vec<u8>,
    body: Vec<u8>,
    signature: Vec<u8>,
}

impl Client {
    /// A client for `config`. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::ExtraCa`] when the extra certificates can't be used, [`Error::ProxyAddress`] when the proxy's address
    /// can't.
    pub fn new(config: DeviceConfig, options: ClientOptions) -> Result<Self, Error> {
        let route = Route::new(options.proxy.as_ref())?;
        let extra_ca = options.extra_ca_pem.as_deref();
        let http = transport::build(extra_ca, &route, options.connect_timeout)?;
        let state = Mutex::new(State {
            server_key: config.server_key,
            server_time: None,
        });
        Ok(Self {
            config,
            options,
            http,
            route,
            random: SystemRandom::new(),
            state,
        })
    }

    /// The records with these UIDs; without any, all that the application may read. A UID that isn't there is
    /// no error: it is missing in the result.
    ///
    /// # Errors
    /// [`Error`]; a record that can't be read is no error but listed in [`Vault::skipped`].
    pub async fn get_secret(&self, uids: &[Uid]) -> Result<Vault, Error> {
        let plain = self.call("get_secret", uids).await?;
        Vault::open(&plain, &self.config.app_key).map_err(|reason| self.broken(reason))
    }

    /// All folders that are shared with the application, at every level.
    ///
    /// # Errors
    /// [`Error`]; a folder that can't be read is no error but listed in [`Folders::skipped`].
    pub async fn get_folders(&self) -> Result<Folders, Error> {
        let plain = self.call("get_folders", &[]).await?;
        Folders::open(&plain, &self.config.app_key).map_err(|reason| self.broken(reason))
    }

    /// The content of an attachment. Its URL is short-lived: `file` should come from a fresh
    /// [`Client::get_secret`].
    ///
    /// # Errors
    /// [`Error`]; [`Error::FileUnavailable`] where a fresh URL may help.
    pub async fn download(&self, file: &File) -> Result<SecretBytes, Error> {
        let limit = self.options.max_file_bytes;
        let unavailable = |reason: String| Error::FileUnavailable {
            file: clean(file.name()),
            reason,
        };
        let size = usize::try_from(file.size().unwrap_or_default()).unwrap_or(usize::MAX);
        if size > limit {
            return Err(Error::TooLarge {
                what: format!("the file {}", clean(file.name())),
                limit: u64::try_from(limit).unwrap_or(u64::MAX),
            });
        }
        let url = file.url().and_then(|url| Url::parse(url).ok());
        let url = url
            .filter(|url| url.scheme() == "https")
            .ok_or_else(|| unavailable("the answer has no https URL for it".to_owned()))?;
        let host = url.host_str().unwrap_or_default().to_owned();
        let what = format!("the file {}", clean(file.name()));
        let answer = self
            .within_deadline(&host, async {
                let response = self.http.get(url).send().await;
                let response = response.map_err(|e| transport::failure(&e, &host, &self.route))?;
                let limits = Limits {
                    bytes: limit.saturating_add(GCM_OVERHEAD),
                    reserve: size.saturating_add(GCM_OVERHEAD),
                };
                transport::read(response, &host, &what, limits).await
            })
            .await?;
        if answer.status != 200 {
            return Err(unavailable(format!(
                "{host} answered with status {}",
                answer.status
            )));
        }
        file.open_content(answer.body)
            .map_err(|e| unavailable(e.to_string()))
    }

    /// The server's time in the last answer, of whatever status, in whole seconds; none if none came since this
    /// was asked before.
    #[must_use]
    pub fn take_server_time(&self) -> Option<SystemTime> {
        self.state().server_time.take()
    }

    /// Id of the server key in use. It differs from the config's after a rotation.
    #[must_use]
    pub fn server_key_id(&self) -> u32 {
        self.state().server_key.id
    }

    /// Sends one request, and a second one if the server asks for another key.
    async fn call(&self, endpoint: &str, uids: &[Uid]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let host = self.config.hostname.clone();
        self.within_deadline(&host, async {
            let asked = match self.attempt(endpoint, uids).await? {
                Ok(plain) => return Ok(plain),
                Err(Refusal::Error(error)) => return Err(error),
                Err(Refusal::Rotate(asked)) => asked,
            };
            self.rotate(&asked)?;
            match self.attempt(endpoint, uids).await? {
                Ok(plain) => Ok(plain),
                Err(Refusal::Error(error)) => Err(error),
                Err(Refusal::Rotate(asked)) => {
                    Err(self.broken(&format!("it asked for key {asked} after a change of keys")))
                }
            }
        })
        .await
    }

    async fn attempt(
        &self,
        endpoint: &str,
        uids: &[Uid],
    ) -> Result<Result<Zeroizing<Vec<u8>>, Refusal>, Error> {
        let server_key = self.state().server_key;
        let payload = Payload {
            client_version: &self.options.client_version,
            client_id: &self.config.client_id,
            requested_records: uids.iter().map(Uid::as_str).collect(),
        };
        let payload = serde_json::to_vec(&payload).map_err(|e| Error::Local(e.to_string()))?;
        let sealed = self.seal(&server_key, &payload)?;
        let host = &self.config.hostname;
        let response = self
            .http
            .post(format!("https://{host}/api/rest/sm/v1/{endpoint}"))
            .header(CONTENT_TYPE, "application/octet-stream")
            .header("PublicKeyId", server_key.id)
            .header("TransmissionKey", encoding::encode(&sealed.wrapped))
            .header(
                AUTHORIZATION,
                format!("Signature {}", encoding::encode(&sealed.signature)),
            )
            .body(sealed.body)
            .send()
            .await
            .map_err(|e| transport::failure(&e, host, &self.route))?;
        self.note_time(&response);
        let what = format!("the answer of {host}");
        let limits = Limits {
            bytes: self.options.max_answer_bytes,
            reserve: 0,
        };
        let answer = transport::read(response, host, &what, limits).await?;
        if answer.status != 200 {
            return Ok(Err(refusal(&answer, host, &self.options.client_version)));
        }
        crypto::gcm_open(&sealed.transmission_key, answer.body)
            .map(Ok)
            .map_err(|_| self.broken("it does not decrypt"))
    }

    fn seal(&self, server_key: &ServerKey, payload: &[u8]) -> Result<Sealed, Error> {
        let failed = |_| Error::Local("sealing failed".to_owned());
        let transmission_key = Key::new(self.random::<KEY_LEN>()?);
        let ephemeral = loop {
            // One in 2^32 draws is no scalar.
            let scalar = Key::new(self.random::<KEY_LEN>()?);
            if let Ok(key) = SecretKey::from_slice(&*scalar) {
                break key;
            }
        };
        let nonce = self.random::<NONCE_LEN>()?;
        let wrapped = crypto::wrap_key(&server_key.point, &ephemeral, nonce, &transmission_key);
        let wrapped = wrapped.map_err(failed)?;
        let nonce = self.random::<NONCE_LEN>()?;
        let body = crypto::gcm_seal(&transmission_key, nonce, payload).map_err(failed)?;
        let signature = crypto::sign(
            &self.config.private_key,
            &[wrapped.as_slice(), &body].concat(),
        );
        Ok(Sealed {
            transmission_key,
            wrapped,
            body,
            signature,
        })
    }

    fn random<const N: usize>(&self) -> Result<[u8; N], Error> {
        let mut bytes = [0; N];
        self.random
            .fill(&mut bytes)
            .map_err(|_| Error::Local("there is no randomness".to_owned()))?;
        Ok(bytes)
    }

    /// Changes to the key that the server asks for.
    fn rotate(&self, asked: &str) -> Result<(), Error> {
        let mut state = self.state();
        let ours = state.server_key;
        let refused = || Error::ServerKey {
            asked: clean(asked),
            ours: ours.id,
            custom: ours.custom,
        };
        if ours.custom {
            return Err(refused());
        }
        let id: u32 = asked.parse().map_err(|_| refused())?;
        let point = server_keys::built_in(id).ok_or_else(refused)?;
        if id == ours.id {
            return Err(self.broken("it asked for the key that was used"));
        }
        state.server_key = ServerKey {
            id,
            point,
            custom: false,
        };
        tracing::info!(
            from = ours.id,
            to = id,
            "keeper asked for another server key"
        );
        Ok(())
    }

    fn note_time(&self, response: &Response) {
        if let Some(theirs) = transport::server_time(response.headers()) {
            self.state().server_time = Some(theirs);
        }
    }

    async fn within_deadline<T>(
        &self,
        host: &str,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let after = self.options.total_timeout;
        tokio::time::timeout(after, work).await.unwrap_or_else(|_| {
            Err(Error::Timeout {
                host: host.to_owned(),
                after,
            })
        })
    }

    fn broken(&self, reason: &str) -> Error {
        Error::Broken {
            host: self.config.hostname.clone(),
            reason: clean(reason),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nobody panics while holding it, and its parts don't depend on each other.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
