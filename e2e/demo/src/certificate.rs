//! The webhook's serving certificate, as an operator with `tls.mode: manual` would bring one.

use std::fs;
use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use crate::workbench::Workbench;

/// A CA, and a certificate of it for 127.0.0.1 in files.
pub(crate) struct Serving {
    /// What a caller trusts, in PEM.
    pub(crate) ca: String,
    /// The certificate's file.
    pub(crate) certificate: PathBuf,
    /// The private key's file.
    pub(crate) key: PathBuf,
}

impl Serving {
    /// Makes both, anew each time.
    pub(crate) fn make(bench: &Workbench) -> anyhow::Result<Self> {
        let mut ca = CertificateParams::default();
        ca.distinguished_name
            .push(DnType::CommonName, "keeper-demo CA");
        ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let ca_key = KeyPair::generate()?;
        let ca_certificate = ca.self_signed(&ca_key)?;

        let mut leaf = CertificateParams::new(["127.0.0.1".to_owned()])?;
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        leaf.use_authority_key_identifier_extension = true;
        let leaf_key = KeyPair::generate()?;
        let leaf_certificate = leaf.signed_by(&leaf_key, &Issuer::from_params(&ca, &ca_key))?;

        let (certificate, key) = (bench.file("serving.crt"), bench.file("serving.key"));
        fs::write(&certificate, leaf_certificate.pem())?;
        fs::write(&key, leaf_key.serialize_pem())?;
        Ok(Self {
            ca: ca_certificate.pem(),
            certificate,
            key,
        })
    }
}
