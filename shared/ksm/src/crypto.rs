//! The protocol's cryptography (sections 1 and 5) as pure functions: randomness comes in as arguments.
//!
//! Everything on the curve is p256, because device keys come in forms that ring refuses; ring has the rest.

use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockModeDecrypt as _, KeyIvInit as _};
use p256::ecdsa::signature::Signer as _;
use p256::{PublicKey, SecretKey};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

/// Length of every symmetric key.
pub(crate) const KEY_LEN: usize = 32;
/// Length of a GCM nonce.
pub(crate) const NONCE_LEN: usize = 12;
/// What GCM adds to a plaintext: nonce and tag.
pub(crate) const GCM_OVERHEAD: usize = NONCE_LEN + 16;
const IV_LEN: usize = 16;

/// A symmetric key, wiped on drop.
pub(crate) type Key = Zeroizing<[u8; KEY_LEN]>;

/// Ciphertext that doesn't open under this key. Which check failed is nobody's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("does not decrypt")]
pub(crate) struct CannotOpen;

/// Opens `nonce ‖ ciphertext ‖ tag` in its own buffer.
pub(crate) fn gcm_open(
    key: &[u8; KEY_LEN],
    mut buffer: Zeroizing<Vec<u8>>,
) -> Result<Zeroizing<Vec<u8>>, CannotOpen> {
    let nonce = buffer.first_chunk().copied().ok_or(CannotOpen)?;
    let plain = aead(key)?
        .open_within(
            Nonce::assume_unique_for_key(nonce),
            Aad::empty(),
            &mut buffer,
            NONCE_LEN..,
        )
        .map_err(|_| CannotOpen)?
        .len();
    buffer.truncate(plain);
    Ok(buffer)
}

/// Opens a wrapped key: exactly 32 bytes.
pub(crate) fn gcm_open_key(
    key: &[u8; KEY_LEN],
    wrapped: Zeroizing<Vec<u8>>,
) -> Result<Key, CannotOpen> {
    to_key(&gcm_open(key, wrapped)?)
}

/// Seals `plain` as `nonce ‖ ciphertext ‖ tag`.
pub(crate) fn gcm_seal(
    key: &[u8; KEY_LEN],
    nonce: [u8; NONCE_LEN],
    plain: &[u8],
) -> Result<Vec<u8>, CannotOpen> {
    let mut out = Vec::with_capacity(plain.len() + GCM_OVERHEAD);
    out.extend_from_slice(&nonce);
    out.extend_from_slice(plain);
    let body = out.get_mut(NONCE_LEN..).unwrap_or_default();
    let tag = aead(key)?
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), body)
        .map_err(|_| CannotOpen)?;
    out.extend_from_slice(tag.as_ref());
    Ok(out)
}

fn aead(key: &[u8; KEY_LEN]) -> Result<LessSafeKey, CannotOpen> {
    let key = UnboundKey::new(&AES_256_GCM, key).map_err(|_| CannotOpen)?;
    Ok(LessSafeKey::new(key))
}

/// Opens `IV ‖ ciphertext` with PKCS#7 padding, in its own buffer. Unauthenticated: a wrong key is only
/// likely to be noticed.
pub(crate) fn cbc_open(
    key: &[u8; KEY_LEN],
    mut buffer: Zeroizing<Vec<u8>>,
) -> Result<Zeroizing<Vec<u8>>, CannotOpen> {
    let (iv, body) = buffer.split_first_chunk_mut::<IV_LEN>().ok_or(CannotOpen)?;
    let plain = cbc::Decryptor::<aes::Aes256>::new(key.into(), (&*iv).into())
        .decrypt_padded::<Pkcs7>(body)
        .map_err(|_| CannotOpen)?
        .len();
    buffer.copy_within(IV_LEN..IV_LEN + plain, 0);
    buffer.truncate(plain);
    Ok(buffer)
}

/// Opens a CBC-wrapped key: exactly 32 bytes.
pub(crate) fn cbc_open_key(
    key: &[u8; KEY_LEN],
    wrapped: Zeroizing<Vec<u8>>,
) -> Result<Key, CannotOpen> {
    to_key(&cbc_open(key, wrapped)?)
}

fn to_key(bytes: &[u8]) -> Result<Key, CannotOpen> {
    let mut key = Key::default();
    if bytes.len() != KEY_LEN {
        return Err(CannotOpen);
    }
    key.copy_from_slice(bytes);
    Ok(key)
}

/// Wraps a transmission key for the server (section 5.2): the ephemeral point, then the key under SHA-256 of
/// the shared X coordinate. Not HKDF.
pub(crate) fn wrap_key(
    server: &PublicKey,
    ephemeral: &SecretKey,
    nonce: [u8; NONCE_LEN],
    key: &[u8; KEY_LEN],
) -> Result<Vec<u8>, CannotOpen> {
    let wrap_key = shared_key(server, ephemeral);
    let mut out = ephemeral.public_key().to_sec1_bytes().into_vec();
    out.extend(gcm_seal(&wrap_key, nonce, key)?);
    Ok(out)
}

pub(crate) fn shared_key(server: &PublicKey, ephemeral: &SecretKey) -> Key {
    let shared = ephemeral.diffie_hellman(server);
    let digest = ring::digest::digest(&ring::digest::SHA256, shared.raw_secret_bytes());
    let mut key = Key::default();
    // SHA-256 has the length of a key.
    key.copy_from_slice(digest.as_ref());
    key
}

/// Signs `message`: ECDSA over its SHA-256, RFC 6979, ASN.1 DER (section 5.3).
pub(crate) fn sign(key: &SecretKey, message: &[u8]) -> Vec<u8> {
    let signature: p256::ecdsa::Signature = p256::ecdsa::SigningKey::from(key).sign(message);
    signature.to_der().as_bytes().to_vec()
}
