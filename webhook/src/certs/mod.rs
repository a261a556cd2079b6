//! Serving certificates: an authority of our own kept in a Secret (`auto`), or files (`manual`).
//!
//! In `auto` mode every replica runs the same loop: read the Secret, adopt what stands there. The leader also decides by pure
//! rules ([`plan`]) whether something must be made, and writes it on condition that nobody else wrote meanwhile. A certificate
//! is served only after it was verified the way the API server will verify it.

pub(crate) mod authority;
pub(crate) mod auto;
mod issue;
pub(crate) mod kube_store;
pub(crate) mod manual;
mod material;
mod plan;
mod resolver;
mod store;
mod trust;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls_pki_types::UnixTime;

pub(crate) use material::{CertError, Material, Serving};
pub(crate) use plan::{AuthorityTooShort, Policy};
pub(crate) use resolver::Resolver;

/// The DNS names of our Service, which the API server calls.
#[derive(Debug, Clone)]
pub(crate) struct Names(Vec<String>);

impl Names {
    /// `<service>.<namespace>.svc` (what the API server asks for) and its full form.
    pub(crate) fn of_service(service: &str, namespace: &str) -> Self {
        let short = format!("{service}.{namespace}.svc");
        let full = format!("{short}.cluster.local");
        Self(vec![short, full])
    }

    /// Only what API servers ask for: nobody else's certificate needs the full form.
    pub(crate) fn called(&self) -> Self {
        Self(self.0.iter().take(1).cloned().collect())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

pub(crate) fn unix(time: SystemTime) -> UnixTime {
    UnixTime::since_unix_epoch(time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO))
}
