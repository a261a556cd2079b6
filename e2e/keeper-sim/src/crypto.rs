//! The server's half of the protocol's cryptography.
//!
//! Written apart from the client's on purpose: a mistake that both shared would pass every test. The
//! constructions are those that the official SDKs use; the tests hold known answers.

use aes_gcm::aead::Aead;
use aes_gcm::{Aes256Gcm, KeyInit};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
#[cfg(test)]
use cbc::cipher::BlockModeDecrypt;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeEncrypt, KeyIvInit};
use hmac::{Hmac, Mac};
use p256::ecdsa::signature::Verifier;
use p256::ecdsa::{Signature, VerifyingKey};
use p256::elliptic_curve::Generate;
use p256::elliptic_curve::sec1::ToSec1Point;
use p256::pkcs8::{DecodePrivateKey, EncodePrivateKey};
use p256::{PublicKey, SecretKey};
use sha2::{Digest, Sha256, Sha512};

/// A symmetric key.
pub(crate) type Key = [u8; 32];

/// What the HMAC of a client key is taken over to get its client id.
const CLIENT_ID_TAG: &[u8] = b"KEEPER_SECRETS_MANAGER_CLIENT_ID";

const NONCE: usize = 12;
const IV: usize = 16;
const POINT: usize = 65;
/// Length of a wrapped key: ephemeral point, nonce, 32 bytes of key, tag.
pub(crate) const WRAPPED: usize = POINT + NONCE + 32 + 16;

/// What went wrong; never with the bytes.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CryptoError {
    /// The operating system gave no random bytes.
    #[error("no random bytes from the operating system")]
    Random,
    /// The input does not decrypt under the key, or is not made as it should be.
    #[error("can't be decrypted or decoded")]
    Rejected,
}

type Result<T> = std::result::Result<T, CryptoError>;

/// `N` random bytes.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| CryptoError::Random)?;
    Ok(bytes)
}

/// AES-256-GCM: nonce, ciphertext, tag.
pub(crate) fn gcm_seal(key: &Key, plain: &[u8]) -> Result<Vec<u8>> {
    let nonce = random::<NONCE>()?;
    let cipher = Aes256Gcm::new(&(*key).into());
    let sealed = cipher
        .encrypt(&nonce.into(), plain)
        .map_err(|_| CryptoError::Rejected)?;
    Ok([nonce.as_slice(), &sealed].concat())
}

/// Opens what [`gcm_seal`] makes.
pub(crate) fn gcm_open(key: &Key, sealed: &[u8]) -> Result<Vec<u8>> {
    let (nonce, rest) = sealed
        .split_first_chunk::<NONCE>()
        .ok_or(CryptoError::Rejected)?;
    Aes256Gcm::new(&(*key).into())
        .decrypt(&(*nonce).into(), rest)
        .map_err(|_| CryptoError::Rejected)
}

/// AES-256-CBC with PKCS#7 padding: IV, ciphertext.
pub(crate) fn cbc_seal(key: &Key, plain: &[u8]) -> Result<Vec<u8>> {
    let iv = random::<IV>()?;
    let sealed = cbc::Encryptor::<aes::Aes256>::new(&(*key).into(), &iv.into())
        .encrypt_padded_vec::<Pkcs7>(plain);
    Ok([iv.as_slice(), &sealed].concat())
}

/// Opens what [`cbc_seal`] makes.
#[cfg(test)]
pub(crate) fn cbc_open(key: &Key, sealed: &[u8]) -> Result<Vec<u8>> {
    let (iv, rest) = sealed
        .split_first_chunk::<IV>()
        .ok_or(CryptoError::Rejected)?;
    cbc::Decryptor::<aes::Aes256>::new(&(*key).into(), &(*iv).into())
        .decrypt_padded_vec::<Pkcs7>(rest)
        .map_err(|_| CryptoError::Rejected)
}

/// Opens a key that a client wrapped for the holder of `secret`: ephemeral point, then GCM under the SHA-256
/// of the shared X coordinate. Anything but 125 bytes is refused.
pub(crate) fn unwrap_key(secret: &SecretKey, wrapped: &[u8]) -> Result<Key> {
    if wrapped.len() != WRAPPED {
        return Err(CryptoError::Rejected);
    }
    let (point, sealed) = wrapped
        .split_first_chunk::<POINT>()
        .ok_or(CryptoError::Rejected)?;
    let ephemeral = PublicKey::from_sec1_bytes(point).map_err(|_| CryptoError::Rejected)?;
    let shared = secret.diffie_hellman(&ephemeral);
    let wrap_key: Key = Sha256::digest(shared.raw_secret_bytes()).into();
    as_key(&gcm_open(&wrap_key, sealed)?)
}

/// Whether `signature` (DER) is the ECDSA signature of `message` by the holder of `point` (SEC1).
pub(crate) fn verify(point: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let (Ok(key), Ok(signature)) = (
        VerifyingKey::from_sec1_bytes(point),
        Signature::from_der(signature),
    ) else {
        return false;
    };
    key.verify(message, &signature).is_ok()
}

/// The client id that belongs to a one-time token's client key.
pub(crate) fn client_id(client_key: &Key) -> String {
    b64(&hmac::<Sha512Mac>(client_key, CLIENT_ID_TAG))
}

/// HMAC-SHA-256, for signed file URLs.
pub(crate) fn hmac_sha256(key: &Key, message: &[u8]) -> Vec<u8> {
    hmac::<Hmac<Sha256>>(key, message)
}

type Sha512Mac = Hmac<Sha512>;

fn hmac<M: Mac + KeyInit>(key: &Key, message: &[u8]) -> Vec<u8> {
    // An HMAC key may have any length, so `new_from_slice` can't fail.
    <M as KeyInit>::new_from_slice(key).map_or_else(
        |_| Vec::new(),
        |mut mac| {
            mac.update(message);
            mac.finalize().into_bytes().to_vec()
        },
    )
}

/// SHA-256.
pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

/// A new P-256 key.
pub(crate) fn new_ec_key() -> Result<SecretKey> {
    SecretKey::try_generate().map_err(|_| CryptoError::Random)
}

/// The uncompressed public point of a key, 65 bytes.
pub(crate) fn point(secret: &SecretKey) -> Vec<u8> {
    secret.public_key().to_sec1_point(false).as_bytes().to_vec()
}

/// PKCS#8 DER with the public point, 138 bytes: the form that the JavaScript SDK can read.
pub(crate) fn to_pkcs8(secret: &SecretKey) -> Result<Vec<u8>> {
    let der = secret.to_pkcs8_der().map_err(|_| CryptoError::Rejected)?;
    Ok(der.as_bytes().to_vec())
}

/// Reads what [`to_pkcs8`] writes.
pub(crate) fn from_pkcs8(der: &[u8]) -> Result<SecretKey> {
    SecretKey::from_pkcs8_der(der).map_err(|_| CryptoError::Rejected)
}

/// Standard base64 with padding.
pub(crate) fn b64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// URL-safe base64 without padding.
pub(crate) fn b64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Decodes either alphabet, padded or not.
pub(crate) fn decode(text: &str) -> Result<Vec<u8>> {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    LENIENT
        .decode(text.replace('-', "+").replace('_', "/"))
        .map_err(|_| CryptoError::Rejected)
}

/// Bytes as a symmetric key, if there are 32.
pub(crate) fn as_key(bytes: &[u8]) -> Result<Key> {
    bytes.try_into().map_err(|_| CryptoError::Rejected)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn h(label: &str) -> Key {
        sha256(&[b"ksm-vector/", label.as_bytes()])
    }

    fn vector(text: &str) -> Vec<u8> {
        decode(text).unwrap()
    }

    #[test]
    fn client_id_of_the_known_client_key() {
        assert_eq!(
            client_id(&h("client-key")),
            "far85+HMs3WsHwFkv8cfLgS3U26RCfX44h0s+xCw7i017l4jzzVKghYBLc809v2807OmOMdtLkz617bg1JRn0Q=="
        );
    }

    #[test]
    fn known_transmission_key_unwraps_and_nothing_else_does() {
        let server = SecretKey::from_slice(&h("server-private")).unwrap();
        assert_eq!(
            b64url(&point(&server)),
            "BNx0WLVolil2fgU_RUT4Vu6x7kZu1cP9h4ZPJHSVcq6X8rELsDHKiZ_Gyvea5vHJrjq4lA8lf-PnnMPSRT7FdBA"
        );
        let wrapped = vector(
            "BH0yZ/LwG/lkqbP8zP5yfN8p6PCHNBK1sgp/Btf0fDVIvW2iTpEwH2VS1T3i9J9U7JZfRNQFvfntut48dl/UGzcjYwQWwZZi0j4U4gq9TPRhrKaTyurY6DBL8A4KoCqsCrwcGB0BWcawv2djG8vLklb/JEbAsG697FWDRu0=",
        );
        assert_eq!(
            unwrap_key(&server, &wrapped).unwrap(),
            h("transmission-key")
        );
        assert!(unwrap_key(&server, &wrapped[..WRAPPED - 1]).is_err());
        assert!(unwrap_key(&server, &[wrapped.as_slice(), b"x"].concat()).is_err());
        assert!(unwrap_key(&new_ec_key().unwrap(), &wrapped).is_err());
        for at in [0, 1, 64, 70, 124] {
            let mut bent = wrapped.clone();
            bent[at] ^= 1;
            assert!(unwrap_key(&server, &bent).is_err(), "byte {at}");
        }
    }

    #[test]
    fn known_device_key_has_the_form_that_sdks_read() {
        let device = SecretKey::from_slice(&h("client-private")).unwrap();
        let der = to_pkcs8(&device).unwrap();
        assert_eq!(der.len(), 138);
        assert_eq!(
            b64(&der),
            "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgEOK5jVLcA8t7YkwkQVbYW8nVnR64beRDYJX0oU5UpumhRANCAAQojw2VhGQID8l3q4UtzVkFeWGQjpWJ+x9ORcwWrqeHehwrvH0MVOcbWVF8EJXx4bhrowQeYqoMOFEq3yVZRlwV"
        );
        assert_eq!(from_pkcs8(&der).unwrap(), device);
    }

    #[test]
    fn known_ciphertexts_open() {
        let app_key = gcm_open(
            &h("client-key"),
            &vector(
                "1oijHeKvVkF3tEk6530I4/bWWwBMe4r97/3qFvsy/fYg7JYBf3BSVL90RHa9LqQNcMC1Gs2Trz/1xtNd",
            ),
        );
        assert_eq!(app_key.unwrap(), h("app-key"));
        let subfolder = cbc_open(
            &h("folder-key"),
            &vector(
                "rnxEtP6N0gVmhXvJPu+jKazsRVf6NxQwx7VlQrlAss9O7hc3xJ8qZvAhfF38NB05laTuruMNzSnOPBhRb1Z6wA==",
            ),
        );
        assert_eq!(subfolder.unwrap(), h("subfolder-key"));
        let name = cbc_open(
            &h("folder-key"),
            &vector("bi9S8AczjzzHjI5ANSDNwjOBdyTHHvItyjqE4oa1BI0="),
        );
        assert_eq!(name.unwrap(), br#"{"name":"Ops"}"#);
    }

    #[test]
    fn what_is_sealed_opens_and_what_is_bent_does_not() {
        let key = h("any");
        for plain in [&b""[..], b"x", &[7; 1000]] {
            assert_eq!(
                gcm_open(&key, &gcm_seal(&key, plain).unwrap()).unwrap(),
                plain
            );
            let sealed = cbc_seal(&key, plain).unwrap();
            assert_eq!(cbc_open(&key, &sealed).unwrap(), plain);
            assert!(sealed.len() > IV + plain.len(), "always padded");
        }
        let mut sealed = gcm_seal(&key, b"text").unwrap();
        *sealed.last_mut().unwrap() ^= 1;
        assert_eq!(gcm_open(&key, &sealed), Err(CryptoError::Rejected));
        assert_eq!(gcm_open(&key, b"short"), Err(CryptoError::Rejected));
        assert_eq!(cbc_open(&key, b"short"), Err(CryptoError::Rejected));
    }

    #[test]
    fn signatures_are_checked_against_key_and_message() {
        use p256::ecdsa::signature::Signer;
        let key = new_ec_key().unwrap();
        let signature: Signature = p256::ecdsa::SigningKey::from(&key).sign(b"message");
        let der = signature.to_der();
        assert!(verify(&point(&key), b"message", der.as_bytes()));
        assert!(!verify(&point(&key), b"massage", der.as_bytes()));
        assert!(!verify(
            &point(&new_ec_key().unwrap()),
            b"message",
            der.as_bytes()
        ));
        assert!(!verify(b"no point", b"message", der.as_bytes()));
        assert!(!verify(&point(&key), b"message", b"no signature"));
    }

    #[test]
    fn base64_is_read_in_every_spelling() {
        for text in ["+/+/+w==", "+/+/+w", "-_-_-w==", "-_-_-w"] {
            assert_eq!(decode(text).unwrap(), [0xfb, 0xff, 0xbf, 0xfb], "{text}");
        }
        assert!(decode("?").is_err());
    }
}
