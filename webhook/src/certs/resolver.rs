//! The certificate that new handshakes get. Replacing it touches no connection.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::Serving;

/// Holds the current certificate; without one, handshakes fail.
#[derive(Debug, Default)]
pub(crate) struct Resolver {
    current: ArcSwapOption<CertifiedKey>,
}

impl Resolver {
    /// What is served.
    pub(crate) fn current(&self) -> Option<Arc<CertifiedKey>> {
        self.current.load_full()
    }

    /// Serves this certificate from the next handshake on. Taking a [`Serving`] makes sure that it
    /// was verified.
    pub(crate) fn publish(&self, serving: &Serving) {
        self.current.store(Some(Arc::clone(&serving.key)));
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current()
    }
}
