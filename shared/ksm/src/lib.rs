//! Keeper Secrets Manager client, the reading side: device config, crypto, transport, records, folders,
//! files and notation.
//!
//! One call brings everything that an application may read ([`Client::get_secret`]); what comes back is a
//! [`Vault`], in which [`Vault::find`] finds records and [`evaluate`] picks what a Keeper Notation names.
//! Server answers are untrusted: every size is bounded, every wait has a deadline, and one record that can't
//! be read never hides the others. Secrets are zeroised when dropped and never printed.

mod client;
mod config;
mod crypto;
mod encoding;
mod error;
mod file;
#[cfg(test)]
mod fixture;
mod folders;
mod json;
mod lookup;
mod notation;
mod record;
mod refusal;
mod route;
mod secret;
mod server_keys;
mod transport;
mod uid;
mod vault;
#[cfg(test)]
mod vectors;
mod wire;

pub use client::{Client, ClientOptions};
pub use config::{ConfigError, DeviceConfig};
pub use error::{Error, ErrorKind};
pub use file::File;
pub use folders::{Folder, FolderError, Folders};
pub use lookup::{LookupError, Match};
pub use notation::{EvaluateError, Evaluated, Single, evaluate, select, select_one};
pub use record::{Content, Field, Record, Value};
pub use route::ProxyOptions;
pub use secret::{Redacted, SecretBytes, SecretString, SecretText};
pub use uid::{InvalidUid, Uid};
pub use vault::{SkipReason, Skipped, SkippedItem, Vault};
