//! A faithful Keeper Secrets Manager server for tests, the demo, and users' own CI.
//!
//! It speaks the protocol that the official SDKs speak, checks what the real service checks (transmission
//! keys, signatures, bindings, the throttle rule) and answers in the encodings that every SDK reads. Its
//! cryptography is its own: it shares no code with the client that it tests.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use keeper_sim::{Fault, FaultKind, Options, Sim, Vault};
//!
//! let vault = Vault::parse("records: [{title: api-key, password: s3cret}]")?;
//! let sim = Sim::start(vault, Options::default()).await?;
//! // A client needs these two:
//! let (_config, _ca) = (sim.device_config()?, sim.ca_pem());
//! sim.set("api-key", "password", "new")?;
//! sim.fault(Fault::new(FaultKind::BadGateway).times(1));
//! assert_eq!(sim.calls().to("get_secret"), 0);
//! # Ok(())
//! # }
//! ```

pub mod admin;
mod body;
pub mod cli;
mod core;
mod crypto;
pub mod faults;
mod files;
pub mod identity;
mod json;
pub mod log;
mod pki;
mod reply;
mod server;
mod sim;
pub mod state_dir;
pub mod throttle;
pub mod vault;
mod wire;
mod writes;

pub use crypto::CryptoError;
pub use faults::{Fault, FaultKind};
pub use json::Json;
pub use log::{Calls, Count, LoggedRequest, Outcome};
pub use pki::PkiError;
pub use sim::{ClientInfo, ForeignCertificate, Options, RecordInfo, Sim, SimError, SimHandle};
pub use vault::edit::Edited;
pub use vault::{Change, Edit, EditError, FileEntry, RecordQuirk, Vault, VaultError};
