//! The device config: who we are to Keeper (protocol section 2).
//!
//! It reaches us as JSON or as base64 of it, written by several tools over the years, so reading is lenient
//! in form and strict in content. Errors name the key at fault and never repeat its value.

use std::fmt;

use p256::pkcs8::DecodePrivateKey as _;
use p256::{PublicKey, SecretKey};
use serde::Deserialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::crypto::{KEY_LEN, Key};
use crate::secret::SecretText;
use crate::{encoding, json, server_keys};

/// Real configs have under 1 KiB.
const MAX_BYTES: usize = 64 * 1024;
/// Prefixes of one-time access tokens (protocol section 3.1).
const REGIONS: [&str; 7] = ["US", "EU", "AU", "GOV", "JP", "CA", "IL5"];

/// A parsed device config, bound to an application.
pub struct DeviceConfig {
    pub(crate) hostname: String,
    pub(crate) client_id: String,
    pub(crate) private_key: SecretKey,
    pub(crate) app_key: Key,
    pub(crate) server_key: ServerKey,
}

/// The server key that a config asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServerKey {
    /// Sent along; for a custom key only a label.
    pub(crate) id: u32,
    pub(crate) point: PublicKey,
    /// Whether the point stands in the config, so that the server can't make us change it.
    pub(crate) custom: bool,
}

/// Why bytes are no device config that we can use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No bytes, or only white space.
    #[error("the device config is empty")]
    Empty,
    /// More than 64 KiB.
    #[error("the device config is larger than {MAX_BYTES} bytes")]
    TooLarge,
    /// Neither JSON nor base64.
    #[error(
        "the device config is neither JSON nor base64 of JSON; store what `ksm init default <token>` or the vault's \
         \"Add device\" with the base64 configuration gives"
    )]
    NotAConfig,
    /// JSON that doesn't parse.
    #[error("the device config is not valid JSON (line {line}, column {column})")]
    Json {
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
    },
    /// A one-time access token, or a config that still waits for its redemption.
    #[error(
        "this is a one-time access token, not a device config: it works only once, so it can't be shared by \
         pods. Redeem it once with the Keeper CLI, `ksm init k8s <token>` or `ksm init default <token>`, and \
         store the resulting device config"
    )]
    OneTimeToken,
    /// A key that has to be there.
    #[error("the device config has no `{0}`")]
    Missing(&'static str),
    /// A key whose value makes no sense.
    #[error("`{key}` of the device config is not {expected}")]
    Invalid {
        /// The key.
        key: &'static str,
        /// What was expected.
        expected: &'static str,
    },
    /// A server key id that is not built in.
    #[error(
        "the device config asks for server key {0}, which is not built in: add its public key as \
         `serverPublicKey`, or remove `serverPublicKeyId`"
    )]
    UnknownServerKey(u32),
}

/// The keys that matter; all others are ignored. Raw, because a parser's message would quote values.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawConfig<'a> {
    #[serde(borrow, default)]
    hostname: Option<&'a RawValue>,
    #[serde(borrow, default)]
    client_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    private_key: Option<&'a RawValue>,
    #[serde(borrow, default)]
    app_key: Option<&'a RawValue>,
    #[serde(borrow, default)]
    client_key: Option<&'a RawValue>,
    #[serde(borrow, default)]
    server_public_key_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    server_public_key: Option<&'a RawValue>,
}

impl DeviceConfig {
    /// Parses JSON, or base64 of JSON in either alphabet, padded or not, in lines or in one.
    ///
    /// # Errors
    /// [`ConfigError`], which names keys and never holds a value.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        if bytes.len() > MAX_BYTES {
            return Err(ConfigError::TooLarge);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| ConfigError::NotAConfig)?;
        let text = text.trim_start_matches('\u{feff}').trim();
        if text.is_empty() {
            return Err(ConfigError::Empty);
        }
        if text.starts_with('{') {
            return Self::from_json(text.as_bytes());
        }
        if is_token(text) {
            return Err(ConfigError::OneTimeToken);
        }
        // The base64 command breaks its lines.
        let unbroken: Zeroizing<String> =
            Zeroizing::new(text.split_ascii_whitespace().collect::<String>());
        let decoded = encoding::decode(&unbroken).ok_or(ConfigError::NotAConfig)?;
        let json = decoded.trim_ascii();
        if json.first() == Some(&b'{') {
            Self::from_json(json)
        } else if std::str::from_utf8(json).is_ok_and(is_token) {
            Err(ConfigError::OneTimeToken)
        } else {
            Err(ConfigError::NotAConfig)
        }
    }

    /// Host of the KSM endpoint, with the port if the config has one.
    #[must_use]
    pub fn hostname(&self) -> &str {
        &self.hostname
    }

    fn from_json(json: &[u8]) -> Result<Self, ConfigError> {
        let raw: RawConfig<'_> = serde_json::from_slice(json).map_err(|e| ConfigError::Json {
            line: e.line(),
            column: e.column(),
        })?;
        let private_key = required("privateKey", raw.private_key)?;
        let client_id = required("clientId", raw.client_id)?;
        let hostname = required("hostname", raw.hostname)?;
        let app_key = match (
            optional("appKey", raw.app_key)?,
            optional("clientKey", raw.client_key)?,
        ) {
            (Some(key), _) => key,
            (None, Some(_)) => return Err(ConfigError::OneTimeToken),
            (None, None) => return Err(ConfigError::Missing("appKey")),
        };
        Ok(Self {
            hostname: host("hostname", hostname.expose())?,
            client_id: identity(client_id.expose())?,
            private_key: parse_private_key(private_key.expose())?,
            app_key: parse_app_key(app_key.expose())?,
            server_key: server_key(raw.server_public_key_id, raw.server_public_key)?,
        })
    }
}

impl fmt::Debug for DeviceConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceConfig")
            .field("hostname", &self.hostname)
            .finish_non_exhaustive()
    }
}

/// `[<region or host>:]<client key>`, the key being base64url of 32 bytes.
fn is_token(text: &str) -> bool {
    let is_key = |part: &str| {
        part.len() == 43
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let region = text
        .split_once(':')
        .is_some_and(|(first, _)| REGIONS.iter().any(|r| r.eq_ignore_ascii_case(first)));
    region || text.split(':').any(is_key)
}

fn required<'a>(
    key: &'static str,
    raw: Option<&'a RawValue>,
) -> Result<SecretText<'a>, ConfigError> {
    optional(key, raw)?.ok_or(ConfigError::Missing(key))
}

/// Absent, null and empty are the same.
fn optional<'a>(
    key: &'static str,
    raw: Option<&'a RawValue>,
) -> Result<Option<SecretText<'a>>, ConfigError> {
    let Some(raw) = raw.filter(|raw| raw.get() != "null") else {
        return Ok(None);
    };
    let text = json::string(raw).ok_or(ConfigError::Invalid {
        key,
        expected: "a string",
    })?;
    Ok(Some(text).filter(|text| !text.expose().is_empty()))
}

/// A DNS name or an IPv4 address with an optional port. It becomes part of a URL: nothing else may get in.
fn host(key: &'static str, text: &str) -> Result<String, ConfigError> {
    let (name, port) = match text.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (text, None),
    };
    let name_ok = !name.is_empty()
        && name.len() <= 253
        && name.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
        });
    let port_ok = port.is_none_or(|port| {
        port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port != 0)
    });
    if name_ok && port_ok {
        Ok(text.to_owned())
    } else {
        Err(ConfigError::Invalid {
            key,
            expected: "a host name, such as keepersecurity.com, with an optional port",
        })
    }
}

/// The client id is passed on as it is, but a made-up one is better found here than by a refusal.
fn identity(text: &str) -> Result<String, ConfigError> {
    encoding::decode(text)
        .filter(|bytes| bytes.len() == 64)
        .map(|_| text.to_owned())
        .ok_or(ConfigError::Invalid {
            key: "clientId",
            expected: "base64 of 64 bytes",
        })
}

fn parse_private_key(text: &str) -> Result<SecretKey, ConfigError> {
    encoding::decode(text)
        .and_then(|der| SecretKey::from_pkcs8_der(&der).ok())
        .ok_or(ConfigError::Invalid {
            key: "privateKey",
            expected: "base64 of a P-256 key in PKCS#8 form",
        })
}

fn parse_app_key(text: &str) -> Result<Key, ConfigError> {
    let bytes = encoding::decode(text).filter(|bytes| bytes.len() == KEY_LEN);
    let bytes = bytes.ok_or(ConfigError::Invalid {
        key: "appKey",
        expected: "base64 of 32 bytes",
    })?;
    let mut key = Key::default();
    key.copy_from_slice(&bytes);
    Ok(key)
}

fn server_key(id: Option<&RawValue>, custom: Option<&RawValue>) -> Result<ServerKey, ConfigError> {
    let id = key_id(id)?.unwrap_or(server_keys::DEFAULT_ID);
    match optional("serverPublicKey", custom)? {
        Some(text) => {
            let point = server_keys::parse(text.expose()).ok_or(ConfigError::Invalid {
                key: "serverPublicKey",
                expected: "base64 of an uncompressed P-256 point",
            })?;
            Ok(ServerKey {
                id,
                point,
                custom: true,
            })
        }
        None => Ok(ServerKey {
            id,
            point: server_keys::built_in(id).ok_or(ConfigError::UnknownServerKey(id))?,
            custom: false,
        }),
    }
}

/// A JSON number or a string of digits.
fn key_id(raw: Option<&RawValue>) -> Result<Option<u32>, ConfigError> {
    let Some(raw) = raw.filter(|raw| !matches!(raw.get(), "null" | "\"\"")) else {
        return Ok(None);
    };
    let text = json::string(raw);
    let digits = text.as_ref().map_or(raw.get(), SecretText::expose);
    digits.parse().map(Some).map_err(|_| ConfigError::Invalid {
        key: "serverPublicKeyId",
        expected: "a number",
    })
}

#[cfg(test)]
mod tests;
