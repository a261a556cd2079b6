//! Certificates from files, which something else keeps (`--tls-mode manual`): a user's Secret, or cert-manager's.
//!
//! The files are read every few seconds and compared by content. That is steadier than watching:
//! kubelets replace a mounted Secret by swapping a symlink above the files, other tools write two
//! files one after the other, and a pair that does not fit yet is simply looked at again. Nor would
//! watching be quicker by much: a kubelet takes about a minute to bring a changed Secret.
//!
//! A pair that an API server would not accept never takes the place of one that it would.

use std::io::ErrorKind;
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
    /// What API servers trust, as far as a file tells.
    pub(crate) ca: Option<PathBuf>,
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
        let mut pair = self.read()?;
        let mut served = self.parse(&pair)?;
        // Outside a cluster the names are others; and a bad certificate is better than none.
        if let Err(error) = self.check(&served) {
            tracing::warn!(%error, "an API server would not accept this certificate");
        }
        self.publish(&served);
        Ok(async move {
            let mut refused = None;
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                let found = match self.read() {
                    Ok(found) if found == pair => continue,
                    Ok(found) => found,
                    Err(error) => {
                        tracing::warn!(%error, "a changed certificate is not taken");
                        continue;
                    }
                };
                match self.successor(&found, &served) {
                    Ok(serving) => {
                        self.publish(&serving);
                        (pair, served, refused) = (found, serving, None);
                    }
                    // Looked at again and again: what API servers trust may follow. But said once.
                    Err(_) if refused.as_ref() == Some(&found) => {}
                    Err(error) => {
                        tracing::warn!(%error, "a changed certificate is not taken");
                        refused = Some(found);
                    }
                }
            }
        })
    }

    fn read(&self) -> Result<Pair, ManualError> {
        Ok(Pair(read(&self.crt)?, Zeroizing::new(read(&self.key)?)))
    }

    fn parse(&self, pair: &Pair) -> Result<Serving, ManualError> {
        Serving::from_pem(&pair.0, &pair.1, &self.provider).map_err(|error| self.wrong(error))
    }

    /// The certificate of a changed pair, if it is no worse than what is served.
    fn successor(&self, pair: &Pair, served: &Serving) -> Result<Serving, ManualError> {
        let serving = self.parse(pair)?;
        match self.check(&serving) {
            Err(error) if self.check(served).is_ok() => Err(error),
            _ => Ok(serving),
        }
    }

    /// Fails if an API server would not accept it, as far as we know.
    fn check(&self, serving: &Serving) -> Result<(), ManualError> {
        let now = unix(SystemTime::now());
        let trusted = self.ca.as_deref().map(read).transpose();
        let trusted = match trusted {
            Ok(trusted) => trusted.filter(|trusted| !trusted.trim_ascii().is_empty()),
            Err(ManualError::Read { error, .. }) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let chain = |trusted: Vec<u8>| serving.check_trust(&trusted, now);
        serving
            .check_names(&self.names)
            .and_then(|()| serving.check_expiry(now))
            .and_then(|()| trusted.map_or(Ok(()), chain))
            .map_err(|error| self.wrong(error))
    }

    fn publish(&self, serving: &Serving) {
        self.resolver.publish(serving);
        self.expiry
            .set(i64::try_from(serving.expires).unwrap_or(i64::MAX));
        tracing::info!(expires = serving.expires, "serving a new certificate");
    }

    fn wrong(&self, error: CertError) -> ManualError {
        ManualError::Certificate {
            crt: self.crt.clone(),
            key: self.key.clone(),
            error: Box::new(error),
        }
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
                ca: Some(self.folder.path().join("ca.crt")),
                names: Names::of_service("hook", "sec").called(),
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

    fn authority(name: &str) -> (String, rcgen::Issuer<'static, rcgen::KeyPair>) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        (pem, rcgen::Issuer::new(params, key))
    }

    /// DER of a new certificate, whose files are written.
    fn issue(
        files: &Files,
        name: &str,
        issuer: &rcgen::Issuer<'static, rcgen::KeyPair>,
        expired: bool,
    ) -> Vec<u8> {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
        let day = Duration::from_secs(86_400);
        let end = match expired {
            true => SystemTime::now() - day,
            false => SystemTime::now() + day,
        };
        params.not_after = end.into();
        let certificate = params.signed_by(&key, issuer).unwrap();
        files.write("tls.crt", &certificate.pem());
        files.write("tls.key", &key.serialize_pem());
        certificate.der().to_vec()
    }

    #[tokio::test(start_paused = true)]
    async fn what_api_servers_would_refuse_replaces_nothing_good() {
        let files = Files::new();
        let (old, new) = (authority("old"), authority("new"));
        files.write("ca.crt", &old.0);
        let good = issue(&files, "hook.sec.svc", &old.1, false);
        let task = tokio::spawn(files.manual().start().unwrap());
        for (name, issuer, expired) in [
            ("other.sec.svc", &old.1, false),
            ("hook.sec.svc", &old.1, true),
            ("hook.sec.svc", &new.1, false),
        ] {
            issue(&files, name, issuer, expired);
            tokio::time::sleep(Duration::from_secs(10)).await;
            assert_eq!(files.served(), good, "{name}, {expired}");
        }
        // The last of them is taken as soon as its authority is trusted.
        let waiting = issue(&files, "hook.sec.svc", &new.1, false);
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(files.served(), good);
        files.write("ca.crt", &(old.0 + &new.0));
        files.until_served(&waiting).await;
        let expires = Serving::from_pem(
            &std::fs::read(files.folder.path().join("tls.crt")).unwrap(),
            &std::fs::read(files.folder.path().join("tls.key")).unwrap(),
            &rustls::crypto::ring::default_provider(),
        );
        let expires = i64::try_from(expires.unwrap().expires).unwrap();
        assert_eq!(files.expiry.get(), expires);
        // What is no worse than what is served is taken.
        files.write("ca.crt", &authority("third").0);
        let next = issue(&files, "hook.sec.svc", &new.1, false);
        files.until_served(&next).await;
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
