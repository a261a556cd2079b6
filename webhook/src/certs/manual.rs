//! Certificates from files, which something else keeps (`--tls-mode manual`).
//!
//! The files are read every few seconds and compared by content. That is steadier than watching:
//! kubelets replace a mounted Secret by swapping a symlink above the files, other tools write two
//! files one after the other, and a pair that does not fit yet is simply looked at again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prometheus::IntGauge;
use rustls::crypto::CryptoProvider;
use zeroize::Zeroizing;

use super::{CertError, Names, Resolver, Serving, unix};

/// Between two looks at the files.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// No certificate chain is longer, in bytes.
const MAX_FILE: u64 = 256 * 1024;

/// Why the files could not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ManualError {
    #[error("cannot read {}: {error}", path.display())]
    Read {
        path: PathBuf,
        error: std::io::Error,
    },
    #[error("{} is too large for a certificate or key", path.display())]
    TooLarge { path: PathBuf },
    #[error("{} and {}: {error}", crt.display(), key.display())]
    Certificate {
        crt: PathBuf,
        key: PathBuf,
        error: Box<CertError>,
    },
}

/// A pair of files that is served, and served anew when it changes.
pub(crate) struct Manual {
    pub(crate) crt: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) names: Names,
    pub(crate) provider: Arc<CryptoProvider>,
    pub(crate) resolver: Arc<Resolver>,
    /// Expiry of what is served, in seconds since 1970.
    pub(crate) expiry: IntGauge,
}

/// The files' content.
#[derive(PartialEq, Eq)]
struct Pair(Vec<u8>, Zeroizing<Vec<u8>>);

impl Manual {
    /// Serves what the files hold now, and returns the rest of the work: a loop for ever.
    ///
    /// # Errors
    /// If the files can't be read or don't hold a certificate with its key.
    pub(crate) fn start(self) -> Result<impl Future<Output = ()>, ManualError> {
        let mut served = self.read()?;
        self.publish(&served)?;
        Ok(async move {
            let mut refused = None;
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                match self.read() {
                    Ok(pair) if pair == served || Some(&pair) == refused.as_ref() => {}
                    Ok(pair) => match self.publish(&pair) {
                        Ok(()) => (served, refused) = (pair, None),
                        Err(error) => {
                            tracing::warn!(%error, "a changed certificate is not taken");
                            refused = Some(pair);
                        }
                    },
                    Err(error) => tracing::warn!(%error, "a changed certificate is not taken"),
                }
            }
        })
    }

    fn read(&self) -> Result<Pair, ManualError> {
        Ok(Pair(read(&self.crt)?, Zeroizing::new(read(&self.key)?)))
    }

    fn publish(&self, pair: &Pair) -> Result<(), ManualError> {
        let serving = Serving::from_pem(&pair.0, &pair.1, &self.provider).map_err(|error| {
            ManualError::Certificate {
                crt: self.crt.clone(),
                key: self.key.clone(),
                error: Box::new(error),
            }
        })?;
        // Only a warning: outside a cluster the names are others, and what is trusted is not known here.
        let now = unix(SystemTime::now());
        let good = serving
            .check_names(&self.names)
            .and_then(|()| serving.check_expiry(now));
        if let Err(error) = good {
            tracing::warn!(%error, "an API server would not accept this certificate");
        }
        self.resolver.publish(&serving);
        self.expiry
            .set(i64::try_from(serving.expires).unwrap_or(i64::MAX));
        tracing::info!(expires = serving.expires, "serving a new certificate");
        Ok(())
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ManualError> {
    let failed = |error| ManualError::Read {
        path: path.to_owned(),
        error,
    };
    if std::fs::metadata(path).map_err(failed)?.len() > MAX_FILE {
        return Err(ManualError::TooLarge {
            path: path.to_owned(),
        });
    }
    std::fs::read(path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use rcgen::generate_simple_self_signed;

    use super::*;

    struct Files {
        folder: tempfile::TempDir,
        resolver: Arc<Resolver>,
        expiry: IntGauge,
    }

    impl Files {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let expiry = IntGauge::new("expiry", "x").unwrap();
            Self {
                folder,
                resolver: Arc::default(),
                expiry,
            }
        }

        fn manual(&self) -> Manual {
            Manual {
                crt: self.folder.path().join("tls.crt"),
                key: self.folder.path().join("tls.key"),
                names: Names::of_service("hook", "sec"),
                provider: Arc::new(rustls::crypto::ring::default_provider()),
                resolver: Arc::clone(&self.resolver),
                expiry: self.expiry.clone(),
            }
        }

        fn write(&self, name: &str, text: &str) {
            std::fs::write(self.folder.path().join(name), text).unwrap();
        }

        fn served(&self) -> Vec<u8> {
            self.resolver.current().unwrap().cert[0].to_vec()
        }

        async fn until_served(&self, der: &[u8]) {
            for _ in 0..100 {
                if self.served() == der {
                    return;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            panic!("the certificate is not served");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn changed_files_are_served_once_they_fit() {
        let files = Files::new();
        let first = generate_simple_self_signed(["hook.sec.svc".to_owned()]).unwrap();
        let second = generate_simple_self_signed(["hook.sec.svc".to_owned()]).unwrap();
        files.write("tls.crt", &first.cert.pem());
        files.write("tls.key", &first.signing_key.serialize_pem());
        let task = tokio::spawn(files.manual().start().unwrap());
        assert_eq!(files.served(), first.cert.der().to_vec());
        assert!(files.expiry.get() > 0);

        files.write("tls.crt", &second.cert.pem());
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(
            files.served(),
            first.cert.der().to_vec(),
            "half a change is not served"
        );
        files.write("tls.key", &second.signing_key.serialize_pem());
        files.until_served(second.cert.der()).await;

        files.write("tls.crt", "garbage");
        tokio::time::sleep(Duration::from_secs(10)).await;
        std::fs::remove_file(files.folder.path().join("tls.key")).unwrap();
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(
            files.served(),
            second.cert.der().to_vec(),
            "the last good one stays"
        );
        task.abort();
    }

    #[test]
    fn bad_files_are_refused_by_name() {
        let files = Files::new();
        let refusal = |files: &Files| files.manual().start().err().unwrap().to_string();
        assert!(refusal(&files).contains("tls.crt: No such file"));
        let pair = generate_simple_self_signed(["x".to_owned()]).unwrap();
        files.write("tls.crt", &pair.cert.pem());
        files.write("tls.key", "garbage");
        assert!(refusal(&files).ends_with("tls.key holds no readable PEM"));
        let other = generate_simple_self_signed(["x".to_owned()]).unwrap();
        files.write("tls.key", &other.signing_key.serialize_pem());
        assert!(refusal(&files).contains("cannot be used with the certificate"));
        files.write("tls.crt", &"x".repeat(300 * 1024));
        assert!(refusal(&files).ends_with("is too large for a certificate or key"));
    }
}
