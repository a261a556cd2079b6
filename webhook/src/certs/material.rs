//! What the Secret holds, and what can be read from it: certificates, their times, whether they fit.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use super::Names;

/// The authority and the serving certificate, all PEM. Prints nothing of its keys.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Material {
    /// Certificates of authorities to trust: the one that signs first, then its predecessor as long
    /// as something that it signed may be served.
    pub(crate) ca_crt: String,
    /// Key of the first of them.
    pub(crate) ca_key: Zeroizing<String>,
    /// The serving certificate.
    pub(crate) tls_crt: String,
    /// Its key.
    pub(crate) tls_key: Zeroizing<String>,
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Material").finish_non_exhaustive()
    }
}

/// A certificate that was verified and may be served.
#[derive(Debug, Clone)]
pub(crate) struct Serving {
    /// Chain and key.
    pub(crate) key: Arc<CertifiedKey>,
    /// End of its validity, in seconds since 1970.
    pub(crate) expires: u64,
}

/// Why a certificate is not served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertError {
    /// Not PEM, or nothing in it.
    #[error("{what} holds no readable PEM")]
    Pem {
        /// Which of the parts.
        what: &'static str,
    },
    /// Not a certificate.
    #[error("{what} holds something that is not an X.509 certificate")]
    Der {
        /// Which of the parts.
        what: &'static str,
    },
    /// Key and certificate are of two pairs, or of a kind that can't be used.
    #[error("the private key cannot be used with the certificate: {0}")]
    Key(rustls::Error),
    /// It would fail at the client.
    #[error("the certificate does not verify: {0}")]
    Verification(webpki::Error),
    /// It would fail at the client.
    #[error("the certificate is not valid for {name}: {error}")]
    Name {
        /// The name that was asked for.
        name: String,
        /// Why not.
        error: webpki::Error,
    },
    /// It would fail at the client.
    #[error("the certificate has expired")]
    Expired,
    /// Certificates could not be made.
    #[error("cannot make a certificate: {0}")]
    Issue(#[from] rcgen::Error),
}

impl Serving {
    /// The certificate and key, if they belong together. Whether a client would accept it is not
    /// asked: in `manual` mode the trust root is not known here.
    pub(crate) fn from_pem(
        crt: &[u8],
        key: &[u8],
        provider: &CryptoProvider,
    ) -> Result<Self, CertError> {
        let chain = certificates(crt, "tls.crt")?;
        let leaf = chain.first().ok_or(CertError::Pem { what: "tls.crt" })?;
        let expires = validity(leaf, "tls.crt")?.1;
        let key =
            PrivateKeyDer::from_pem_slice(key).map_err(|_| CertError::Pem { what: "tls.key" })?;
        let key = CertifiedKey::from_der(chain, key, provider).map_err(CertError::Key)?;
        Ok(Self {
            key: Arc::new(key),
            expires,
        })
    }

    /// Fails on the first of our names that a client would not find in it.
    pub(crate) fn check_names(&self, names: &Names) -> Result<(), CertError> {
        let leaf = self.key.end_entity_cert().map_err(CertError::Key)?;
        let leaf = EndEntityCert::try_from(leaf).map_err(CertError::Verification)?;
        for name in names.iter() {
            let failed = |error| CertError::Name {
                name: name.to_owned(),
                error,
            };
            let server = ServerName::try_from(name)
                .map_err(|_| failed(webpki::Error::MalformedDnsIdentifier))?;
            leaf.verify_is_valid_for_subject_name(&server)
                .map_err(failed)?;
        }
        Ok(())
    }

    /// Fails if it is not valid any more.
    pub(crate) fn check_expiry(&self, now: UnixTime) -> Result<(), CertError> {
        if now.as_secs() < self.expires {
            Ok(())
        } else {
            Err(CertError::Expired)
        }
    }

    /// Fails if an API server with this `caBundle` (PEM) would not accept it.
    pub(crate) fn check_trust(&self, bundle: &[u8], now: UnixTime) -> Result<(), CertError> {
        self.check_chain(&certificates(bundle, "caBundle")?, now)
    }

    /// Verifies as the API server will: now, with these authorities and nothing else.
    pub(crate) fn check_chain(
        &self,
        ca: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), CertError> {
        let anchors = ca
            .iter()
            .map(anchor_from_trusted_cert)
            .collect::<Result<Vec<_>, _>>()
            .map_err(CertError::Verification)?;
        let (leaf, intermediates) = self
            .key
            .cert
            .split_first()
            .ok_or(CertError::Pem { what: "tls.crt" })?;
        EndEntityCert::try_from(leaf)
            .and_then(|leaf| {
                leaf.verify_for_usage(
                    ALL_VERIFICATION_ALGS,
                    &anchors,
                    intermediates,
                    now,
                    KeyUsage::server_auth(),
                    None,
                    None,
                )
                .map(drop)
            })
            .map_err(CertError::Verification)
    }
}

/// What [`super::plan`] decides on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Inspection {
    /// The authority that signs, if it is valid now and its key is there.
    pub(crate) authority: Option<Validity>,
    /// The serving certificate, if it may be served now.
    pub(crate) serving: Option<ServingState>,
}

impl Inspection {
    /// Of nothing.
    pub(crate) const NOTHING: Self = Self {
        authority: None,
        serving: None,
    };
}

/// From when to when, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) from: u64,
    pub(crate) until: u64,
}

/// A serving certificate that may be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ServingState {
    /// End of its validity.
    pub(crate) until: u64,
    /// Whether the first authority signed it, rather than its predecessor.
    pub(crate) by_current_authority: bool,
}

impl Material {
    /// The serving certificate, verified for all our names against the authorities beside it.
    pub(crate) fn serving(
        &self,
        names: &Names,
        now: UnixTime,
        provider: &CryptoProvider,
    ) -> Result<Serving, CertError> {
        let serving =
            Serving::from_pem(self.tls_crt.as_bytes(), self.tls_key.as_bytes(), provider)?;
        serving.check_chain(&certificates(self.ca_crt.as_bytes(), "ca.crt")?, now)?;
        serving.check_names(names)?;
        Ok(serving)
    }

    /// What is usable of it.
    pub(crate) fn inspect(
        &self,
        names: &Names,
        now: UnixTime,
        provider: &CryptoProvider,
    ) -> Inspection {
        let authorities = certificates(self.ca_crt.as_bytes(), "ca.crt").unwrap_or_default();
        let current = authorities.first();
        let authority = current.and_then(|ca| self.authority(ca, now));
        let serving = self
            .serving(names, now, provider)
            .ok()
            .map(|serving| ServingState {
                until: serving.expires,
                by_current_authority: current
                    .is_some_and(|ca| serving.check_chain(std::slice::from_ref(ca), now).is_ok()),
            });
        Inspection { authority, serving }
    }

    fn authority(&self, ca: &CertificateDer<'_>, now: UnixTime) -> Option<Validity> {
        let key = rcgen::KeyPair::from_pem(&self.ca_key).ok()?;
        let (_, parsed) = X509Certificate::from_der(ca).ok()?;
        let fits = parsed.public_key().subject_public_key.data == key.public_key_raw();
        let (from, until) = validity(ca, "ca.crt").ok()?;
        (fits && (from..until).contains(&now.as_secs())).then_some(Validity { from, until })
    }

    /// The authorities that are still valid, PEM, the current one first.
    pub(crate) fn valid_authorities(&self, now: UnixTime) -> Vec<String> {
        valid_authorities(&authorities(self.ca_crt.as_bytes()), now)
    }

    /// Those that a client needs to accept the serving certificate, PEM. Whether they are valid now is not asked: if a clock
    /// is wrong, it may be ours.
    pub(crate) fn signers(&self, provider: &CryptoProvider) -> Vec<String> {
        let serving = Serving::from_pem(self.tls_crt.as_bytes(), self.tls_key.as_bytes(), provider);
        let Ok(serving) = serving else {
            return Vec::new();
        };
        let then = UnixTime::since_unix_epoch(Duration::from_secs(serving.expires));
        let signed =
            |ca: &&CertificateDer<'_>| serving.check_chain(std::slice::from_ref(*ca), then).is_ok();
        let all = authorities(self.ca_crt.as_bytes());
        all.iter().filter(signed).map(|ca| pem(ca)).collect()
    }

    /// The authority that signs.
    pub(crate) fn current_authority(&self) -> Option<CertificateDer<'static>> {
        authorities(self.ca_crt.as_bytes()).into_iter().next()
    }
}

/// The certificates in a PEM text; none if it isn't one.
pub(crate) fn authorities(pem: &[u8]) -> Vec<CertificateDer<'static>> {
    certificates(pem, "").unwrap_or_default()
}

/// Those that have not ended, PEM.
pub(crate) fn valid_authorities(all: &[CertificateDer<'_>], now: UnixTime) -> Vec<String> {
    all.iter()
        .filter(|ca| validity(ca, "ca.crt").is_ok_and(|(_, until)| now.as_secs() < until))
        .map(|ca| pem(ca))
        .collect()
}

/// Whether two PEM texts hold the same certificates in the same order.
pub(crate) fn same_certificates(left: &[u8], right: &[u8]) -> bool {
    match (certificates(left, "left"), certificates(right, "right")) {
        (Ok(left), Ok(right)) => left == right,
        _ => false,
    }
}

fn certificates(pem: &[u8], what: &'static str) -> Result<Vec<CertificateDer<'static>>, CertError> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|_| CertError::Pem { what })?;
    if all.is_empty() {
        Err(CertError::Pem { what })
    } else {
        Ok(all)
    }
}

fn validity(der: &CertificateDer<'_>, what: &'static str) -> Result<(u64, u64), CertError> {
    let (_, parsed) = X509Certificate::from_der(der).map_err(|_| CertError::Der { what })?;
    let seconds = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).unwrap_or(0);
    Ok((
        seconds(parsed.validity().not_before),
        seconds(parsed.validity().not_after),
    ))
}

fn pem(der: &CertificateDer<'_>) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for (i, character) in text.chars().enumerate() {
        if i > 0 && i % 64 == 0 {
            pem.push('\n');
        }
        pem.push(character);
    }
    pem.push_str("\n-----END CERTIFICATE-----\n");
    pem
}
