//! Known-answer vectors of the protocol: every construction, bit for bit.
//!
//! Each secret is `SHA-256("ksm-vector/" + label)`; nonces and IVs are cut from such hashes.

use p256::SecretKey;
use ring::digest::{SHA256, digest};
use ring::hmac;
use zeroize::Zeroizing;

use crate::crypto::{
    Key, cbc_open, cbc_open_key, gcm_open, gcm_open_key, gcm_seal, shared_key, sign, wrap_key,
};
use crate::encoding::{decode, encode};
use crate::{DeviceConfig, server_keys};

const CLIENT_KEY_HEX: &str = "f89fa0a7b5904cdb88f9a0d808ddf5a2df9eeb00e7b3e8d379b948ed33d688e8";
const CLIENT_KEY: &str = "-J-gp7WQTNuI-aDYCN31ot-e6wDns-jTeblI7TPWiOg";
const CLIENT_ID: &str =
    "far85+HMs3WsHwFkv8cfLgS3U26RCfX44h0s+xCw7i017l4jzzVKghYBLc809v2807OmOMdtLkz617bg1JRn0Q==";
const PRIVATE_KEY: &str = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgEOK5jVLcA8t7YkwkQVbYW8nVnR64beRDYJX0oU5UpumhRANCAAQojw2VhGQID8l3q4UtzVkFeWGQjpWJ+x9ORcwWrqeHehwrvH0MVOcbWVF8EJXx4bhrowQeYqoMOFEq3yVZRlwV";
const CLIENT_POINT: &str =
    "BCiPDZWEZAgPyXerhS3NWQV5YZCOlYn7H05FzBaup4d6HCu8fQxU5xtZUXwQlfHhuGujBB5iqgw4USrfJVlGXBU=";
const SERVER_POINT: &str =
    "BNx0WLVolil2fgU_RUT4Vu6x7kZu1cP9h4ZPJHSVcq6X8rELsDHKiZ_Gyvea5vHJrjq4lA8lf-PnnMPSRT7FdBA";
const APP_KEY: &str = "hQ+0fahxXZXAuT0ZoDVjecMI/jwuODlnObYO9NIz9pM=";

fn h(label: &str) -> Key {
    let hash = digest(&SHA256, format!("ksm-vector/{label}").as_bytes());
    Key::new(hash.as_ref().try_into().unwrap())
}

fn nonce(name: &str) -> [u8; 12] {
    *h(&format!("nonce/{name}")).first_chunk().unwrap()
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

fn sealed(key: &Key, name: &str, plain: &[u8]) -> String {
    encode(&gcm_seal(key, nonce(name), plain).unwrap())
}

fn opened(key: &Key, text: &str) -> Vec<u8> {
    gcm_open(key, decode(text).unwrap()).unwrap().to_vec()
}

/// Checks one construction in both directions.
fn gcm_vector(key: &Key, name: &str, plain: &[u8], wire: &str) {
    assert_eq!(sealed(key, name, plain), wire, "{name}");
    assert_eq!(opened(key, wire), plain, "{name}");
}

fn scalar(label: &str) -> SecretKey {
    SecretKey::from_slice(&*h(label)).unwrap()
}

#[test]
fn identity() {
    assert_eq!(hex(*h("client-key")), CLIENT_KEY_HEX);
    assert_eq!(*decode(CLIENT_KEY).unwrap(), *h("client-key"));
    // Redeeming tokens is not ours, but the config that comes of it is.
    let key = hmac::Key::new(hmac::HMAC_SHA512, &*h("client-key"));
    let id = hmac::sign(&key, b"KEEPER_SECRETS_MANAGER_CLIENT_ID");
    assert_eq!(encode(id.as_ref()), CLIENT_ID);
    let point = scalar("client-private").public_key().to_sec1_bytes();
    assert_eq!(encode(&point), CLIENT_POINT);
    assert_eq!(*decode(APP_KEY).unwrap(), *h("app-key"));
}

#[test]
fn config() {
    let json = format!(
        r#"{{"hostname":"keepersecurity.eu","clientId":"{CLIENT_ID}","privateKey":"{PRIVATE_KEY}","appKey":"{APP_KEY}","serverPublicKey":"{SERVER_POINT}","serverPublicKeyId":"99"}}"#
    );
    let config = DeviceConfig::parse(json.as_bytes()).unwrap();
    assert_eq!(config.client_id, CLIENT_ID);
    assert_eq!(config.app_key, h("app-key"));
    let point = config.private_key.public_key().to_sec1_bytes();
    assert_eq!(encode(&point), CLIENT_POINT);
    assert_eq!(
        config.server_key.point,
        scalar("server-private").public_key()
    );
}

#[test]
fn request() {
    let server = server_keys::parse(SERVER_POINT).unwrap();
    assert_eq!(server, scalar("server-private").public_key());
    let tk = h("transmission-key");
    assert_eq!(
        hex(*tk),
        "042ffe9efa3a564b2d0379f9649f4c18635f35a6d90b27a7fed89c29cfdcb1ad"
    );
    let ephemeral = scalar("ephemeral");
    assert_eq!(
        hex(ephemeral.diffie_hellman(&server).raw_secret_bytes()),
        "5b16acf95e7189ad62fa35d415522f5e3b357119681e84664acee78cef3f02ed"
    );
    assert_eq!(
        hex(*shared_key(&server, &ephemeral)),
        "a5a752358799da8ca7befb321fa00b1c36a5c0e4eb4be58aa7ebee49cd67375e"
    );
    let wrapped = wrap_key(&server, &ephemeral, nonce("transmission"), &tk).unwrap();
    assert_eq!(wrapped.len(), 125);
    assert_eq!(
        encode(&wrapped),
        "BH0yZ/LwG/lkqbP8zP5yfN8p6PCHNBK1sgp/Btf0fDVIvW2iTpEwH2VS1T3i9J9U7JZfRNQFvfntut48dl/UGzcjYwQWwZZi0j4U4gq9TPRhrKaTyurY6DBL8A4KoCqsCrwcGB0BWcawv2djG8vLklb/JEbAsG697FWDRu0="
    );

    let payload = format!(
        r#"{{"clientVersion":"mr17.3.0","clientId":"{CLIENT_ID}","publicKey":"{CLIENT_POINT}"}}"#
    );
    assert_eq!(payload.len(), 233);
    let body = gcm_seal(&tk, nonce("payload"), payload.as_bytes()).unwrap();
    assert_eq!(body.len(), 261);
    assert_eq!(
        hex(digest(&SHA256, &body)),
        "e70dfde06467a094fc9aaaa8cc90ca7198087196bb6b09a96f7c9b1cddea2212"
    );
    let message = [wrapped, body].concat();
    assert_eq!(
        hex(digest(&SHA256, &message)),
        "e50fb2e0000b83a12cabc8eec3f98dbb18488fe11be8eb7d49ec3cafdf011d9e"
    );
    assert_eq!(
        encode(&sign(&scalar("client-private"), &message)),
        "MEQCIHFT6A+7mq79rXf0dVj1IK8vyny0OVxK9BsXvsyfECnQAiAwVt8z7rOudutJq5Mc22m8XZeTMCYAkI2Yc6IqVzfcvA=="
    );
}

#[test]
fn binding_answer() {
    gcm_vector(
        &h("client-key"),
        "app-key",
        &*h("app-key"),
        "1oijHeKvVkF3tEk6530I4/bWWwBMe4r97/3qFvsy/fYg7JYBf3BSVL90RHa9LqQNcMC1Gs2Trz/1xtNd",
    );
    assert_eq!(
        encode(&scalar("owner-private").public_key().to_sec1_bytes()),
        "BG9niy6jis0UIjyFucX3Ou25Pyyna5I6mK6LoSJ8yDN+Xo58rXrExxJe5MGMfowOAvW/Ln0vEgfg2QKA88BDpYA="
    );
    gcm_vector(
        &h("app-key"),
        "app-data",
        br#"{"title":"Vector App","type":"app"}"#,
        "EUQG28TBsiBkyua5yhbNTHiXZGPAk8uHTgHaUIteAdtA2LIezEBpaMF9Z05EKkQGXTjCUDVyh6JvPygWFZ3P",
    );
}

#[test]
fn records() {
    let wrapped =
        "pKR30SLUu/2bVYpC38gzM3xb5eZ7uuaCCf58aPOeTq0Nrf+T8kPhl1AocwklVeTrhrX9+Mk1BaXulAbA";
    let record_key = gcm_open_key(&h("app-key"), decode(wrapped).unwrap()).unwrap();
    gcm_vector(&h("app-key"), "record-key", &*record_key, wrapped);
    let plain = "{\"title\":\"Vector\",\"type\":\"login\",\"fields\":[{\"type\":\"password\",\"value\":[\"pässw0rd\"]}],\"custom\":[]}   ";
    gcm_vector(
        &record_key,
        "record-data",
        plain.as_bytes(),
        "YbYsBnY18zkF4h/Dd347/3GZLF/h2++JJ45ly+Wf9I5PGWZepUJnsQySlJsgytFLMuizscNoQLb7BVWNLe1GGjrwQeSunQDFVou2EjCgXoPz6JOH5+o8CZy0RuWuM1RT8l3oQC7YX0KHXEPFsBW9oJK0ibCLltQcM3FoUiOYx0EP",
    );
    gcm_vector(
        &h("app-key"),
        "folder-key",
        &*h("folder-key"),
        "YO3toREnVphx/XaL2TB0iEerMLfQLX4+DIal+2Iyu83Kwhr5enP817JMueBsFvshNNvsHOqnb/HBZ3Ec",
    );
    gcm_vector(
        &h("folder-key"),
        "record-key-in-folder",
        &*record_key,
        "lrT1SFNlS8PdZCuGAU1+RsHSJhusdUdPxr/ZjiLNTB3gc2CzlK3jqVPBgqs25K4SutcvChNUMNclZStF",
    );
}

#[test]
fn folders() {
    let open = |key: &Key, text: &str| cbc_open(key, decode(text).unwrap()).unwrap().to_vec();
    assert_eq!(
        open(
            &h("folder-key"),
            "bi9S8AczjzzHjI5ANSDNwjOBdyTHHvItyjqE4oa1BI0="
        ),
        br#"{"name":"Ops"}"#
    );
    let wrapped =
        "rnxEtP6N0gVmhXvJPu+jKazsRVf6NxQwx7VlQrlAss9O7hc3xJ8qZvAhfF38NB05laTuruMNzSnOPBhRb1Z6wA==";
    let key = cbc_open_key(&h("folder-key"), decode(wrapped).unwrap()).unwrap();
    assert_eq!(key, h("subfolder-key"));
    assert_eq!(
        open(&key, "7NGxJ0R4lScOMPTlIMz6mHRsYeORV1wbbY89Pd+HgOg="),
        br#"{"name":"Db"}"#
    );
}

#[test]
fn files() {
    let record_key = gcm_open_key(
        &h("app-key"),
        decode("pKR30SLUu/2bVYpC38gzM3xb5eZ7uuaCCf58aPOeTq0Nrf+T8kPhl1AocwklVeTrhrX9+Mk1BaXulAbA")
            .unwrap(),
    )
    .unwrap();
    gcm_vector(
        &record_key,
        "file-key",
        &*h("file-key"),
        "LHQM6fj2Faqthp0iuGa5+RokQEcuC+xq7LLxqq5m3uzYeubQywEQFrgYgwTdG74pRj+awNQ0PfvPBxws",
    );
    gcm_vector(
        &h("file-key"),
        "file-meta",
        br#"{"name":"a.txt","size":5,"title":"A","lastModified":1700000000000,"type":"text/plain"}"#,
        "EPXD3hgG9atIo2bV4T3rzR/LV0X2fJa1lot7Z+kRN9f/szzIz4nF1L912Bc8cu/UB6PlDcLtaM7XLWX199FgYqByiqSb6nDmlhlib/pUCYE7fPDpUv/Gua9DKQc24+XVOr2/vJWCcxF5ArxGgbg1ER9Z",
    );
    let content = gcm_seal(&h("file-key"), nonce("file-content"), b"hello").unwrap();
    assert_eq!(
        hex(&content),
        "87eac5271ad8d14ab906e077bd3c6fe2b49427b828e9fd5f111211a24a4a0ad1fe"
    );
    let content = gcm_open(&h("file-key"), Zeroizing::new(content)).unwrap();
    assert_eq!(*content, *b"hello");
}

#[test]
fn what_was_tampered_with_does_not_open() {
    let key = h("app-key");
    let good = gcm_seal(&key, nonce("x"), b"plain").unwrap();
    for at in 0..good.len() {
        let mut bad = Zeroizing::new(good.clone());
        bad[at] ^= 1;
        assert!(gcm_open(&key, bad).is_err(), "byte {at}");
    }
    assert!(gcm_open(&h("other"), Zeroizing::new(good.clone())).is_err());
    for len in 0..good.len() {
        assert!(gcm_open(&key, Zeroizing::new(good[..len].to_vec())).is_err());
    }
    // A sealed text that is not 32 bytes is no key.
    assert!(gcm_open_key(&key, Zeroizing::new(good)).is_err());
}

#[test]
fn bad_padding_and_lengths_of_cbc_are_refused() {
    let key = h("folder-key");
    let good = decode("bi9S8AczjzzHjI5ANSDNwjOBdyTHHvItyjqE4oa1BI0=").unwrap();
    // The last byte of the IV is XORed into the padding count, the one before into its neighbour.
    for at in [14, 15] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(cbc_open(&key, bad).is_err(), "byte {at}");
    }
    for len in 0..good.len() {
        assert!(
            cbc_open(&key, Zeroizing::new(good[..len].to_vec())).is_err(),
            "{len}"
        );
    }
    assert!(cbc_open_key(&key, good).is_err());
}

proptest::proptest! {
    #[test]
    fn no_ciphertext_panics(bytes: Vec<u8>) {
        let _ = gcm_open(&h("x"), Zeroizing::new(bytes.clone()));
        let _ = cbc_open(&h("x"), Zeroizing::new(bytes.clone()));
        let _ = cbc_open_key(&h("x"), Zeroizing::new(bytes));
    }
}
