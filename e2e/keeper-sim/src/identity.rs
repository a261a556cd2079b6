//! The keys of the service, of its application and of its clients, and what clients are told of them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use p256::SecretKey;
use serde::{Deserialize, Serialize};

use crate::crypto::{self, CryptoError, Key};
use crate::pki::{Authority, PkiError};
use crate::vault::ClientEntry;

/// Id of the first server key: outside the ids that real clients have built in.
pub const FIRST_SERVER_KEY: u32 = 99;

/// Why keys can't be made or read.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Key material.
    #[error("keys: {0}")]
    Crypto(#[from] CryptoError),
    /// Certificates.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// A stored identity isn't one.
    #[error("stored keys: {0}")]
    Stored(String),
}

/// Everything that must stay the same for a device config to stay valid.
#[derive(Clone)]
pub struct Identity {
    pub(crate) app_key: Key,
    pub(crate) owner: SecretKey,
    pub(crate) url_key: Key,
    pub(crate) server_keys: BTreeMap<u32, SecretKey>,
    pub(crate) active: u32,
    pub(crate) clients: Vec<Client>,
    pub(crate) authority: Authority,
}

/// A device.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) name: String,
    pub(crate) client_key: Key,
    pub(crate) id: String,
    /// The device's private key, if it was made here and not by the device.
    private: Option<SecretKey>,
    /// The public point that requests must be signed with, once it is bound.
    pub(crate) bound: Option<Vec<u8>>,
    pub(crate) revoked: bool,
}

/// How far a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientState {
    /// Its one-time token waits to be redeemed.
    Unbound,
    /// It may read.
    Bound,
    /// Its access was withdrawn.
    Revoked,
}

impl Client {
    fn new(name: &str, token: bool) -> Result<Self, CryptoError> {
        let client_key = crypto::random()?;
        let private = (!token).then(crypto::new_ec_key).transpose()?;
        Ok(Self {
            name: name.to_owned(),
            id: crypto::client_id(&client_key),
            client_key,
            bound: private.as_ref().map(crypto::point),
            private,
            revoked: false,
        })
    }

    pub(crate) fn state(&self) -> ClientState {
        match (self.revoked, &self.bound) {
            (true, _) => ClientState::Revoked,
            (false, Some(_)) => ClientState::Bound,
            (false, None) => ClientState::Unbound,
        }
    }

    /// The one-time token without a region: 32 bytes in base64.
    pub(crate) fn token(&self) -> String {
        crypto::b64url(&self.client_key)
    }
}

impl Identity {
    /// New keys for a service with these clients.
    ///
    /// # Errors
    /// [`IdentityError`] if the system gives no random bytes.
    pub fn generate(clients: &[ClientEntry]) -> Result<Self, IdentityError> {
        let mut identity = Self {
            app_key: crypto::random()?,
            owner: crypto::new_ec_key()?,
            url_key: crypto::random()?,
            server_keys: BTreeMap::from([(FIRST_SERVER_KEY, crypto::new_ec_key()?)]),
            active: FIRST_SERVER_KEY,
            clients: Vec::new(),
            authority: Authority::generate()?,
        };
        identity.add_missing(clients)?;
        Ok(identity)
    }

    /// Adds the clients that aren't there yet.
    pub(crate) fn add_missing(&mut self, clients: &[ClientEntry]) -> Result<(), IdentityError> {
        for entry in clients {
            if self.client(&entry.name).is_none() {
                self.clients.push(Client::new(&entry.name, entry.token)?);
            }
        }
        Ok(())
    }

    pub(crate) fn client(&self, name: &str) -> Option<&Client> {
        self.clients.iter().find(|client| client.name == name)
    }

    pub(crate) fn client_mut(&mut self, name: &str) -> Option<&mut Client> {
        self.clients.iter_mut().find(|client| client.name == name)
    }

    /// A new client with a token that nobody has redeemed. Replaces an older one of this name.
    pub(crate) fn new_token(&mut self, name: &str) -> Result<String, IdentityError> {
        let client = Client::new(name, true)?;
        let token = client.token();
        self.clients.retain(|old| old.name != name);
        self.clients.push(client);
        Ok(token)
    }

    /// Makes `id` the active server key, with a new key pair unless there is one of this id.
    pub(crate) fn rotate(&mut self, id: Option<u32>) -> Result<u32, IdentityError> {
        let id = id.unwrap_or_else(|| {
            let last = self.server_keys.last_key_value().map_or(0, |(id, _)| *id);
            last.saturating_add(1)
        });
        self.hold(id)?;
        self.active = id;
        Ok(id)
    }

    /// Makes a server key of this id, if there is none. Returns its public point in URL-safe base64.
    pub(crate) fn hold(&mut self, id: u32) -> Result<String, IdentityError> {
        if let Entry::Vacant(entry) = self.server_keys.entry(id) {
            entry.insert(crypto::new_ec_key()?);
        }
        self.server_key(id)
            .ok_or_else(|| IdentityError::Stored(format!("no server key {id}")))
    }

    /// The public point of a server key in URL-safe base64.
    pub(crate) fn server_key(&self, id: u32) -> Option<String> {
        let key = self.server_keys.get(&id)?;
        Some(crypto::b64url(&crypto::point(key)))
    }

    /// The device config of a bound client, as JSON. `None` for one whose private key isn't known here.
    pub(crate) fn device_config(
        &self,
        client: &Client,
        hostname: &str,
    ) -> Result<Option<serde_json::Value>, IdentityError> {
        let Some(private) = &client.private else {
            return Ok(None);
        };
        Ok(Some(serde_json::json!({
            "hostname": hostname,
            "clientId": client.id,
            "privateKey": crypto::b64(&crypto::to_pkcs8(private)?),
            "appKey": crypto::b64(&self.app_key),
            "appOwnerPublicKey": crypto::b64(&crypto::point(&self.owner)),
            "serverPublicKeyId": self.active.to_string(),
            "serverPublicKey": self.server_key(self.active),
        })))
    }

    /// The identity as JSON text that [`Identity::restore`] reads. It holds private keys.
    pub(crate) fn store(&self) -> Result<String, IdentityError> {
        let key = |key: &SecretKey| crypto::to_pkcs8(key).map(|der| crypto::b64(&der));
        let mut server_keys = BTreeMap::new();
        for (id, secret) in &self.server_keys {
            server_keys.insert(*id, key(secret)?);
        }
        let mut clients = Vec::new();
        for client in &self.clients {
            clients.push(StoredClient {
                name: client.name.clone(),
                client_key: crypto::b64(&client.client_key),
                private_key: client.private.as_ref().map(key).transpose()?,
                bound_key: client.bound.as_deref().map(crypto::b64),
                revoked: client.revoked,
            });
        }
        let stored = Stored {
            app_key: crypto::b64(&self.app_key),
            owner: key(&self.owner)?,
            url_key: crypto::b64(&self.url_key),
            server_keys,
            active: self.active,
            clients,
            ca_key: self.authority.key_pem(),
            ca_certificate: self.authority.certificate_pem().to_owned(),
        };
        serde_json::to_string_pretty(&stored).map_err(|e| IdentityError::Stored(e.to_string()))
    }

    /// Reads what [`Identity::store`] wrote.
    pub(crate) fn restore(text: &str) -> Result<Self, IdentityError> {
        let stored: Stored =
            serde_json::from_str(text).map_err(|e| IdentityError::Stored(e.to_string()))?;
        let symmetric = |text: &str| crypto::decode(text).and_then(|bytes| crypto::as_key(&bytes));
        let key = |text: &str| crypto::decode(text).and_then(|der| crypto::from_pkcs8(&der));
        let mut server_keys = BTreeMap::new();
        for (id, text) in &stored.server_keys {
            server_keys.insert(*id, key(text)?);
        }
        if !server_keys.contains_key(&stored.active) {
            return Err(IdentityError::Stored(
                "the active server key is missing".into(),
            ));
        }
        let mut clients = Vec::new();
        for client in &stored.clients {
            let client_key = symmetric(&client.client_key)?;
            clients.push(Client {
                name: client.name.clone(),
                id: crypto::client_id(&client_key),
                client_key,
                private: client.private_key.as_deref().map(key).transpose()?,
                bound: client
                    .bound_key
                    .as_deref()
                    .map(crypto::decode)
                    .transpose()?,
                revoked: client.revoked,
            });
        }
        Ok(Self {
            app_key: symmetric(&stored.app_key)?,
            owner: key(&stored.owner)?,
            url_key: symmetric(&stored.url_key)?,
            server_keys,
            active: stored.active,
            clients,
            authority: Authority::restore(&stored.ca_key, &stored.ca_certificate)?,
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Stored {
    app_key: String,
    owner: String,
    url_key: String,
    server_keys: BTreeMap<u32, String>,
    active: u32,
    clients: Vec<StoredClient>,
    ca_key: String,
    ca_certificate: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct StoredClient {
    name: String,
    client_key: String,
    private_key: Option<String>,
    bound_key: Option<String>,
    revoked: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        let entry = |name: &str, token| ClientEntry {
            name: name.into(),
            token,
        };
        Identity::generate(&[entry("default", false), entry("new", true)]).unwrap()
    }

    #[test]
    fn a_bound_client_has_a_config_with_every_key() {
        let identity = identity();
        let client = identity.client("default").unwrap();
        assert_eq!(client.state(), ClientState::Bound);
        let config = identity
            .device_config(client, "localhost:1")
            .unwrap()
            .unwrap();
        let length = |name: &str| config[name].as_str().unwrap().len();
        assert_eq!(config["hostname"], "localhost:1");
        assert_eq!(config["serverPublicKeyId"], "99");
        assert_eq!(
            [
                length("clientId"),
                length("appKey"),
                length("appOwnerPublicKey"),
                length("serverPublicKey")
            ],
            [88, 44, 88, 87]
        );
        assert_eq!(
            crypto::decode(config["privateKey"].as_str().unwrap())
                .unwrap()
                .len(),
            138
        );
    }

    #[test]
    fn a_token_is_32_bytes_and_has_no_config() {
        let identity = identity();
        let client = identity.client("new").unwrap();
        assert_eq!(client.state(), ClientState::Unbound);
        assert_eq!(client.token().len(), 43);
        assert!(identity.device_config(client, "h").unwrap().is_none());
    }

    #[test]
    fn rotation_takes_the_next_id_or_the_one_that_is_asked_for() {
        let mut identity = identity();
        assert_eq!(identity.rotate(None).unwrap(), 100);
        assert_eq!(identity.rotate(Some(7)).unwrap(), 7);
        let seven = identity.server_key(7).unwrap();
        identity.rotate(Some(99)).unwrap();
        assert_eq!(identity.hold(7).unwrap(), seven, "a key stays the same");
    }

    #[test]
    fn what_is_stored_comes_back() {
        let mut identity = identity();
        identity.rotate(None).unwrap();
        identity.client_mut("default").unwrap().revoked = true;
        let text = identity.store().unwrap();
        let mut restored = Identity::restore(&text).unwrap();
        assert_eq!(restored.store().unwrap(), text);
        restored
            .add_missing(&[ClientEntry {
                name: "third".into(),
                token: false,
            }])
            .unwrap();
        assert_eq!(restored.clients.len(), 3);
        for bad in ["", "{}", &text.replace("\"active\": 100", "\"active\": 5")] {
            assert!(Identity::restore(bad).is_err());
        }
    }
}
