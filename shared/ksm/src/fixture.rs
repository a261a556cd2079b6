//! Answers of a Keeper server, sealed by the rules of the protocol, for the tests of this crate.

use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockModeEncrypt as _, KeyIvInit as _};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use crate::crypto::{Key, gcm_seal};
use crate::{Uid, Vault, encoding};

/// A key made of a label.
pub(crate) fn key(label: &str) -> Key {
    Key::new(
        digest(&SHA256, label.as_bytes())
            .as_ref()
            .try_into()
            .unwrap(),
    )
}

/// A UID made of a label.
pub(crate) fn uid(label: &str) -> Uid {
    format!("{label:A<22}").parse().unwrap()
}

pub(crate) fn gcm(key: &Key, plain: impl AsRef<[u8]>) -> String {
    let hash = digest(&SHA256, plain.as_ref());
    let nonce = *hash.as_ref().first_chunk().unwrap();
    encoding::encode(&gcm_seal(key, nonce, plain.as_ref()).unwrap())
}

pub(crate) fn cbc(key: &Key, plain: impl AsRef<[u8]>) -> String {
    let iv = [7; 16];
    let sealed = cbc::Encryptor::<aes::Aes256>::new((&**key).into(), (&iv).into())
        .encrypt_padded_vec::<Pkcs7>(plain.as_ref());
    encoding::encode(&[&iv[..], &sealed].concat())
}

pub(crate) fn app_key() -> Key {
    key("app")
}

/// A record whose own key is `key(label)`, wrapped by `parent`.
pub(crate) fn record(label: &str, parent: &Key, text: &str) -> Value {
    let record_key = key(label);
    json!({
        "recordUid": uid(label).as_str(),
        "recordKey": gcm(parent, *record_key),
        "data": gcm(&record_key, text),
        "revision": 7,
        "isEditable": true,
        "files": null,
        "folderUid": null,
        "innerFolderUid": null,
    })
}

/// A record's text with a title and nothing else.
pub(crate) fn titled(title: &str) -> String {
    json!({"title": title, "type": "login", "fields": []}).to_string()
}

/// A file of the record with this label.
pub(crate) fn file(label: &str, record: &str, name: &str, title: &str, content: &[u8]) -> Value {
    let metadata = json!({"name": name, "title": title, "size": content.len()});
    json!({
        "fileUid": uid(label).as_str(),
        "fileKey": gcm(&key(record), *key(label)),
        "data": gcm(&key(label), metadata.to_string()),
        "url": format!("https://files.example/{label}?signature=CANARY"),
        "thumbnailUrl": null,
    })
}

/// A shared folder with its records.
pub(crate) fn shared_folder(label: &str, records: Value) -> Value {
    json!({
        "folderUid": uid(label).as_str(),
        "folderKey": gcm(&app_key(), *key(label)),
        "data": null,
        "parent": null,
        "isEditable": true,
        "records": records,
    })
}

pub(crate) fn open(answer: &Value) -> Vault {
    Vault::open(answer.to_string().as_bytes(), &app_key()).unwrap()
}

/// A vault of records with these labels and texts.
pub(crate) fn vault(records: &[(&str, &str)]) -> Vault {
    let records: Vec<Value> = records
        .iter()
        .map(|(label, text)| record(label, &app_key(), text))
        .collect();
    open(&json!({"records": records, "folders": null}))
}
