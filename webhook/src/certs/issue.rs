//! Making certificates: ECDSA P-256 by ring, through `rcgen`.

use std::time::{Duration, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls_pki_types::UnixTime;
use zeroize::Zeroizing;

use super::Names;
use super::material::{CertError, Material, Validity};
use super::plan::{BACKDATE, Policy};

/// Older authorities that stay trusted. One is the rule; more come from a Secret that was deleted
/// several times in a row.
const MAX_OLDER: usize = 4;

/// A new authority and a certificate by it. `trusted` (PEM, possibly none) are older authorities that
/// something still served may have been signed by.
pub(crate) fn start(
    names: &Names,
    policy: &Policy,
    trusted: Vec<String>,
    now: UnixTime,
) -> Result<Material, CertError> {
    let (ca_crt, ca_key) = authority(policy, now)?;
    let (tls_crt, tls_key) = serving(&ca_crt, &ca_key, names, until(now, policy.certificate), now)?;
    let ca_crt = bundle(ca_crt, trusted);
    Ok(Material {
        ca_crt,
        ca_key,
        tls_crt,
        tls_key,
    })
}

/// A new authority before those that are there. What is served stays as it is: the new one must be
/// known to the API servers before it signs.
pub(crate) fn rotate_authority(
    current: &Material,
    policy: &Policy,
    now: UnixTime,
) -> Result<Material, CertError> {
    let (ca_crt, ca_key) = authority(policy, now)?;
    let ca_crt = bundle(ca_crt, current.valid_authorities(now));
    Ok(Material {
        ca_crt,
        ca_key,
        ..current.clone()
    })
}

/// The newest authority first, and not too many.
fn bundle(new: String, older: Vec<String>) -> String {
    let older = older.into_iter().take(MAX_OLDER);
    std::iter::once(new).chain(older).collect()
}

/// The same with these authorities trusted too.
pub(crate) fn trusting(current: Material, more: &[String], now: UnixTime) -> Material {
    let present = current.valid_authorities(now);
    let missing: Vec<String> = more
        .iter()
        .filter(|ca| !present.contains(ca))
        .cloned()
        .collect();
    let mut present = present.into_iter();
    match present.next() {
        Some(first) if !missing.is_empty() => {
            let older = missing.into_iter().chain(present).collect();
            let ca_crt = bundle(first, older);
            Material { ca_crt, ..current }
        }
        _ => current,
    }
}

/// The same without older authorities.
pub(crate) fn forget_older(current: Material, now: UnixTime) -> Material {
    let mut authorities = current.valid_authorities(now);
    authorities.truncate(1);
    Material {
        ca_crt: authorities.concat(),
        ..current
    }
}

/// A new serving certificate by the current authority, until whose end it may live.
pub(crate) fn renew_serving(
    current: &Material,
    authority: Validity,
    names: &Names,
    policy: &Policy,
    now: UnixTime,
) -> Result<Material, CertError> {
    let authorities = current.valid_authorities(now);
    let signer = authorities
        .first()
        .ok_or(CertError::Pem { what: "ca.crt" })?;
    let until = until(now, policy.certificate).min(authority.until);
    let (tls_crt, tls_key) = serving(signer, &current.ca_key, names, until, now)?;
    Ok(Material {
        ca_crt: authorities.concat(),
        tls_crt,
        tls_key,
        ca_key: current.ca_key.clone(),
    })
}

fn authority(policy: &Policy, now: UnixTime) -> Result<(String, Zeroizing<String>), CertError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    // The time in the name keeps two generations apart for who reads a bundle.
    let name = format!("keeper-injector CA {}", now.as_secs());
    params.distinguished_name = common_name(&name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    set_validity(&mut params, now, until(now, policy.ca));
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), Zeroizing::new(key.serialize_pem())))
}

fn serving(
    ca_crt: &str,
    ca_key: &str,
    names: &Names,
    until: u64,
    now: UnixTime,
) -> Result<(String, Zeroizing<String>), CertError> {
    let issuer = Issuer::from_ca_cert_pem(ca_crt, KeyPair::from_pem(ca_key)?)?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new(names.iter().map(str::to_owned).collect::<Vec<_>>())?;
    params.distinguished_name = common_name("keeper-injector webhook");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    set_validity(&mut params, now, until);
    let certificate = params.signed_by(&key, &issuer)?;
    Ok((certificate.pem(), Zeroizing::new(key.serialize_pem())))
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn set_validity(params: &mut CertificateParams, now: UnixTime, until: u64) {
    let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
    params.not_before = at(now.as_secs().saturating_sub(BACKDATE)).into();
    params.not_after = at(until).into();
}

fn until(now: UnixTime, lifetime: Duration) -> u64 {
    now.as_secs().saturating_add(lifetime.as_secs())
}
