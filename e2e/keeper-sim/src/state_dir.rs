//! A directory in which a service keeps its keys, so that device configs stay valid when it is started again.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::crypto;
use crate::identity::{Identity, IdentityError};
use crate::vault::ClientEntry;

/// Private keys of service and clients.
const IDENTITY: &str = "identity.json";
/// Certificate of the authority, for clients to trust.
pub const CA_FILE: &str = "ca.crt";
/// Config of the first bound client, as JSON.
pub const CONFIG_FILE: &str = "device-config.json";
/// The same in base64.
pub const CONFIG_BASE64_FILE: &str = "device-config.b64";

/// Why keys can't be kept.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// A file can't be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The keys that are kept can't be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// The directory.
#[derive(Debug, Clone)]
pub struct StateDir {
    path: PathBuf,
    /// PEM text to publish as the authority, where the certificate isn't our own.
    foreign_ca: Option<String>,
}

impl StateDir {
    /// Uses this directory, which is made if it isn't there.
    ///
    /// # Errors
    /// [`StateDirError::Io`]
    pub fn open(path: &Path, foreign_ca: Option<String>) -> Result<Self, StateDirError> {
        fs::create_dir_all(path).map_err(|source| StateDirError::Io {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            path: path.to_owned(),
            foreign_ca,
        })
    }

    /// The keys that are kept here, with those of clients that are new; all new ones in an empty directory.
    ///
    /// # Errors
    /// [`StateDirError`] if what is there can't be read.
    pub fn load(&self, clients: &[ClientEntry]) -> Result<Identity, StateDirError> {
        let path = self.path.join(IDENTITY);
        match fs::read_to_string(&path) {
            Ok(text) => {
                let mut identity = Identity::restore(&text)?;
                identity.add_missing(clients)?;
                Ok(identity)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok(Identity::generate(clients)?)
            }
            Err(source) => Err(StateDirError::Io { path, source }),
        }
    }

    /// Writes keys, CA and device config.
    pub(crate) fn save(&self, identity: &Identity, hostname: &str) -> Result<(), StateDirError> {
        self.write(IDENTITY, 0o600, &identity.store()?)?;
        let ca = self.foreign_ca.as_deref();
        self.write(
            CA_FILE,
            0o644,
            ca.unwrap_or(identity.authority.certificate_pem()),
        )?;
        for client in &identity.clients {
            if let Some(config) = identity.device_config(client, hostname)? {
                let config = config.to_string();
                self.write(CONFIG_FILE, 0o600, &config)?;
                self.write(CONFIG_BASE64_FILE, 0o600, &crypto::b64(config.as_bytes()))?;
                break;
            }
        }
        Ok(())
    }

    /// Replaces a file in one step.
    fn write(&self, name: &str, mode: u32, text: &str) -> Result<(), StateDirError> {
        let path = self.path.join(name);
        let temporary = self.path.join(format!(".{name}.new"));
        let put = || {
            let mut options = fs::OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(mode);
            let mut file = options.open(&temporary)?;
            file.write_all(text.as_bytes())?;
            fs::rename(&temporary, &path)
        };
        put().map_err(|source| StateDirError::Io {
            path: path.clone(),
            source,
        })
    }
}
