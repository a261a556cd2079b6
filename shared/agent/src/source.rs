//! Where the client comes from: the mounted device config and the extra CA, read anew for each call.

use std::fs::File;
use std::io::Read as _;
use std::time::Duration;

use keeper_contract::{AgentConfig, Auth};
use keeper_ksm::{Client, ClientOptions, ConfigError, DeviceConfig, ProxyOptions};
use zeroize::Zeroizing;

/// Larger than any device config or bundle of certificates.
const MAX_BYTES: u64 = 1024 * 1024;

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The mounted device config can't be read.
    #[error(
        "the Secret `{secret}` has no readable key `config` ({reason}): create it with the device config of \
         your Keeper application"
    )]
    NoConfig {
        /// Name of the Secret.
        secret: String,
        /// The system's words.
        reason: String,
    },
    /// What is mounted is no device config.
    #[error("the Secret `{secret}`: {error}")]
    BadConfig {
        /// Name of the Secret.
        secret: String,
        /// What is wrong with it.
        error: ConfigError,
    },
    /// The extra CA can't be read.
    #[error("the extra CA certificates of ca-cert-secret or ca-cert-configmap cannot be read: {0}")]
    NoCa(String),
}

/// Makes clients of the mounted files.
pub(crate) struct Source {
    auth: Auth,
    ca_cert_file: Option<String>,
    proxy: Option<ProxyOptions>,
    max_answer_bytes: usize,
    max_file_bytes: usize,
    call_deadline: Duration,
    last: Option<Last>,
}

/// What the last call found mounted, and the client that it made of that, if one could be made. As long as the former stays
/// the same the latter is used again: it remembers which server key Keeper asked for last.
struct Last {
    mounted: Mounted,
    client: Option<Client>,
}

/// The bytes of the mounted files.
#[derive(PartialEq, Eq)]
struct Mounted {
    config: Zeroizing<Vec<u8>>,
    ca: Option<Vec<u8>>,
}

impl Source {
    pub(crate) fn new(
        config: &AgentConfig,
        max_answer_bytes: usize,
        max_file_bytes: usize,
    ) -> Self {
        Self {
            auth: config.auth.clone(),
            ca_cert_file: config.ca_cert_file.clone(),
            proxy: config.proxy.as_ref().map(|proxy| ProxyOptions {
                url: proxy.url.to_string(),
                no_proxy: proxy.no_proxy.to_string(),
            }),
            max_answer_bytes,
            max_file_bytes,
            call_deadline: ClientOptions::default().total_timeout,
            last: None,
        }
    }

    /// Gives calls another deadline than the client's own.
    pub(crate) fn set_call_deadline(&mut self, deadline: Duration) {
        self.call_deadline = deadline;
    }

    /// The client of what is mounted now.
    pub(crate) fn client(&mut self) -> Result<&Client, crate::Failure> {
        let mounted = self.read()?;
        let known = self.last.take().filter(|last| last.mounted == mounted);
        let known = known.and_then(|last| last.client);
        let client = known.map_or_else(|| self.make(&mounted), Ok);
        let last = Last {
            mounted,
            client: None,
        };
        Ok(self.last.insert(last).client.insert(client?))
    }

    /// The client of the last call.
    pub(crate) fn current(&self) -> Option<&Client> {
        self.last.as_ref()?.client.as_ref()
    }

    /// Whether what is mounted differs from what the last call was made with.
    pub(crate) fn has_changed(&self) -> bool {
        let known = self.last.as_ref().map(|last| &last.mounted);
        // Something unreadable is no reason to call; something readable at last is one.
        self.read().is_ok_and(|mounted| known != Some(&mounted))
    }

    /// The file whose directory is to be watched.
    pub(crate) fn file(&self) -> &str {
        let Auth::Secret { file, .. } = &self.auth;
        file
    }

    fn read(&self) -> Result<Mounted, SourceError> {
        let Auth::Secret { secret_name, file } = &self.auth;
        let config = read(file).map_err(|error| SourceError::NoConfig {
            secret: secret_name.clone(),
            reason: error.to_string(),
        })?;
        let ca = self.ca_cert_file.as_deref().map(read).transpose();
        let ca = ca.map_err(|error| SourceError::NoCa(error.to_string()))?;
        let ca = ca.map(|ca| ca.to_vec());
        Ok(Mounted { config, ca })
    }

    fn make(&self, mounted: &Mounted) -> Result<Client, crate::Failure> {
        let Auth::Secret { secret_name, .. } = &self.auth;
        let device =
            DeviceConfig::parse(&mounted.config).map_err(|error| SourceError::BadConfig {
                secret: secret_name.clone(),
                error,
            })?;
        let options = ClientOptions {
            extra_ca_pem: mounted.ca.clone(),
            proxy: self.proxy.clone(),
            max_answer_bytes: self.max_answer_bytes,
            max_file_bytes: self.max_file_bytes,
            total_timeout: self.call_deadline,
            ..ClientOptions::default()
        };
        Ok(Client::new(device, options)?)
    }
}

fn read(path: &str) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let file = File::open(path)?;
    let size = usize::try_from(file.metadata()?.len().min(MAX_BYTES)).unwrap_or(0);
    // One byte more, so that reading to the end never reallocates and leaves a copy behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(size.saturating_add(1)));
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}
