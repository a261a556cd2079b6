//! The certificate authority of the service and the certificates that it issues.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

const CA_NAME: &str = "keeper-sim test CA";

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// Making keys or certificates failed.
    #[error("certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// A file holds no certificate or key.
    #[error("certificate or key in PEM: {0}")]
    Pem(#[from] rustls_pki_types::pem::Error),
    /// Certificate and key can't be used to serve TLS.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// A certificate authority: key and certificate.
#[derive(Clone)]
pub(crate) struct Authority {
    key: Arc<KeyPair>,
    certificate_pem: String,
}

impl Authority {
    pub(crate) fn generate() -> Result<Self, PkiError> {
        let key = KeyPair::generate()?;
        let certificate_pem = ca_params().self_signed(&key)?.pem();
        Ok(Self {
            key: Arc::new(key),
            certificate_pem,
        })
    }

    pub(crate) fn restore(key_pem: &str, certificate_pem: &str) -> Result<Self, PkiError> {
        CertificateDer::from_pem_slice(certificate_pem.as_bytes())?;
        Ok(Self {
            key: Arc::new(KeyPair::from_pem(key_pem)?),
            certificate_pem: certificate_pem.to_owned(),
        })
    }

    pub(crate) fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    pub(crate) fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// TLS settings with a certificate for these names and addresses.
    pub(crate) fn issue(&self, names: &[String]) -> Result<Arc<ServerConfig>, PkiError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names)?;
        params
            .distinguished_name
            .push(DnType::CommonName, "keeper-sim");
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2049, 1, 1);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let ca = ca_params();
        let issuer = Issuer::from_params(&ca, self.key.as_ref());
        let certificate = params.signed_by(&key, &issuer)?;
        let key = PrivateKeyDer::try_from(key.serialize_der())
            .map_err(|text| rustls::Error::General(text.to_owned()))?;
        tls(vec![certificate.der().clone()], key)
    }
}

/// TLS settings from PEM text of a certificate chain and its key.
pub(crate) fn tls_from_pem(chain: &[u8], key: &[u8]) -> Result<Arc<ServerConfig>, PkiError> {
    let chain = CertificateDer::pem_slice_iter(chain).collect::<Result<Vec<_>, _>>()?;
    tls(chain, PrivateKeyDer::from_pem_slice(key)?)
}

fn tls(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, PkiError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The authority's own certificate; always the same, so that an issuer can be made of the key alone.
fn ca_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, CA_NAME);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2049, 1, 1);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_comes_back_from_its_text_and_issues() {
        let authority = Authority::generate().unwrap();
        let restored =
            Authority::restore(&authority.key_pem(), authority.certificate_pem()).unwrap();
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        assert!(restored.issue(&names).is_ok());
        assert!(Authority::restore("", "").is_err());
        assert!(Authority::restore(&authority.key_pem(), "x").is_err());
    }

    #[test]
    fn text_without_certificate_or_key_is_refused() {
        assert!(tls_from_pem(b"", b"").is_err());
    }
}
