//! Where certificates are kept and made known, as far as the rules need it: a Secret with conditional
//! writes, and the `caBundle` of the webhook configurations. The tests have one without an API server.

use std::future::Future;

use rustls_pki_types::{CertificateDer, UnixTime};

use super::material::{authorities, same_certificates};
use super::{Material, Serving};

/// What stands in the Secret.
#[derive(Debug)]
pub(crate) struct Stored {
    /// Its resource version.
    pub(crate) version: String,
    /// What is in it.
    pub(crate) content: Content,
}

/// What a Secret holds.
#[derive(Debug)]
pub(crate) enum Content {
    /// All parts of ours; they may still be unusable.
    Material(Material),
    /// Nothing, or not all parts of ours.
    Incomplete,
    /// Something that we did not write: never overwritten.
    Foreign,
}

/// Whether a conditional write took place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// It did.
    Yes,
    /// Somebody else was faster: read again.
    Conflict,
}

/// Why the store could not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// The API server refused or could not be reached.
    #[error("{action}: {source}")]
    Api {
        /// What was tried.
        action: String,
        /// Why it failed.
        source: Box<kube::Error>,
    },
    /// The API server did not answer.
    #[error("{action}: no answer from the API server")]
    Deadline {
        /// What was tried.
        action: String,
    },
    /// Nothing to put the `caBundle` into.
    #[error("there is no {kind} {name:?} with a webhook in it")]
    NoConfiguration {
        /// Of the two kinds.
        kind: &'static str,
        /// Its name.
        name: String,
    },
}

/// Keeps [`Material`] for all replicas.
pub(crate) trait Store: Send + Sync {
    /// What is kept now.
    fn read(&self) -> impl Future<Output = Result<Option<Stored>, StoreError>> + Send;
    /// Keeps this if nothing is kept yet.
    fn create(&self, new: &Material) -> impl Future<Output = Result<Written, StoreError>> + Send;
    /// Keeps this in place of that version.
    fn replace(
        &self,
        version: &str,
        new: &Material,
    ) -> impl Future<Output = Result<Written, StoreError>> + Send;
    /// The authorities that API servers trust now when they call us for `audience`; none: they don't.
    fn announced(
        &self,
        audience: Audience,
    ) -> impl Future<Output = Result<Option<Announced>, StoreError>> + Send;
    /// Makes them trust these (PEM) instead of what was `seen`.
    fn announce(
        &self,
        audience: Audience,
        seen: &Announced,
        ca_crt: &str,
    ) -> impl Future<Output = Result<Written, StoreError>> + Send;
}

/// What an API server calls us for: each has a webhook configuration of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    /// Pods.
    Admission,
    /// Workloads, for warnings. Not everywhere.
    Warnings,
}

/// What a webhook configuration says of authorities.
#[derive(Debug)]
pub(crate) struct Announced {
    /// Its resource version.
    pub(crate) version: String,
    /// Its webhooks, at least one.
    pub(crate) webhooks: Vec<Announcement>,
}

/// One webhook of a configuration.
#[derive(Debug)]
pub(crate) struct Announcement {
    /// The webhook's name.
    pub(crate) name: String,
    /// The `caBundle`, PEM; empty if there is none.
    pub(crate) bundle: Vec<u8>,
}

impl Announced {
    /// The authorities that all webhooks have.
    pub(crate) fn authorities(&self) -> Vec<CertificateDer<'static>> {
        let mut all = self
            .webhooks
            .iter()
            .map(|webhook| authorities(&webhook.bundle));
        let mut common = all.next().unwrap_or_default();
        for others in all {
            common.retain(|authority| others.contains(authority));
        }
        common
    }

    /// The same configuration with these authorities (PEM) in it.
    pub(crate) fn with(&self, ca_crt: &str) -> Self {
        let webhooks = self.webhooks.iter().map(|webhook| Announcement {
            name: webhook.name.clone(),
            bundle: ca_crt.into(),
        });
        Self {
            version: self.version.clone(),
            webhooks: webhooks.collect(),
        }
    }

    /// Whether all webhooks have just these authorities.
    pub(crate) fn holds(&self, ca_crt: &str) -> bool {
        self.webhooks
            .iter()
            .all(|webhook| same_certificates(&webhook.bundle, ca_crt.as_bytes()))
    }

    /// Whether a server with this certificate is trusted by all webhooks.
    pub(crate) fn trusts(&self, serving: &Serving, now: UnixTime) -> bool {
        self.webhooks
            .iter()
            .all(|webhook| serving.check_trust(&webhook.bundle, now).is_ok())
    }
}
