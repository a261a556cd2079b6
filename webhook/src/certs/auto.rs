//! The loop of `auto` mode: agree with the other replicas, make known, serve; again and again.
//!
//! Who leads writes; all adopt what stands there. A certificate is served when the authority that signed it has been in the
//! `caBundle` for a while, as this replica saw it: so an API server that lags trusts what it is shown. What is served stays
//! trusted while it is valid: so does a replica that lags.

use std::sync::Arc;
use std::time::Duration;

use keeper_telemetry::Latch;
use prometheus::IntGauge;
use rustls_pki_types::UnixTime;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::authority::{Authority, Known};
use super::store::{Announced, Audience, Content, Store, StoreError, Written};
use super::trust::Trust;
use super::{CertError, Material, Resolver, Serving};
use crate::leader::Leadership;

/// Writes lost to others in a row, after which something is wrong.
const ATTEMPTS: usize = 10;
/// Bounds of a twentieth of a certificate's lifetime, after which we look although nobody told of a change.
const CHECK: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(60));
/// Between two rounds, whatever happens: somebody else may want another `caBundle`, again and again.
const PAUSE: Duration = Duration::from_millis(200);
/// For what the leader has to do first.
const WAIT_FOR_LEADER: Duration = Duration::from_secs(1);
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_LAST: Duration = Duration::from_secs(30);

/// Why certificates could not be agreed on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AutoError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Certificate(#[from] CertError),
    /// We overwrite only what we wrote.
    #[error(
        "the Secret for certificates holds something that this program did not write; \
         delete it, name another with --tls-secret, or use --tls-mode manual"
    )]
    Foreign,
    #[error("others kept writing the certificates while we tried to")]
    Contention,
}

/// Everything that the loop works with.
pub(crate) struct Auto<S> {
    pub(crate) store: S,
    pub(crate) authority: Authority,
    pub(crate) leadership: Leadership,
    pub(crate) resolver: Arc<Resolver>,
    /// Expiry of what is served, in seconds since 1970.
    pub(crate) expiry: IntGauge,
    /// Notified when the Secret or a webhook configuration may have changed.
    pub(crate) changed: Arc<Notify>,
    /// What the wall clock says.
    pub(crate) clock: Box<dyn Fn() -> UnixTime + Send + Sync>,
}

/// What this replica knows from earlier rounds.
#[derive(Default)]
struct Memory {
    /// What it serves.
    held: Option<(Material, Serving)>,
    trust: Trust,
}

/// How a round ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Round {
    /// What is kept is served, or will be when its authority has been known for long enough.
    Settled,
    /// Something has to be done that only the leader does.
    Leader,
}

impl<S: Store> Auto<S> {
    /// Runs for ever. The latches drop at the first certificate and the first `caBundle` in place.
    pub(crate) async fn run(self, certificate: Latch, trusted: Latch) {
        let mut memory = Memory::default();
        let mut latches = (Some(certificate), Some(trusted));
        let mut leadership = self.leadership.clone();
        let mut retry = RETRY_FIRST;
        let mut waiting = false;
        let check_every = (self.authority.policy.certificate / 20).clamp(CHECK.0, CHECK.1);
        loop {
            let wait = match self.round(&mut memory, &mut latches).await {
                Ok(Round::Settled) => {
                    (retry, waiting) = (RETRY_FIRST, false);
                    check_every
                }
                Ok(Round::Leader) => {
                    if !waiting {
                        tracing::info!("waiting for the leader's certificates");
                    }
                    (retry, waiting) = (RETRY_FIRST, true);
                    WAIT_FOR_LEADER
                }
                Err(error) => {
                    tracing::error!(
                        error = &error as &(dyn std::error::Error + 'static),
                        "cannot keep certificates"
                    );
                    let wait = retry;
                    retry = (retry * 2).min(RETRY_LAST);
                    wait
                }
            };
            tokio::time::sleep(PAUSE).await;
            tokio::select! {
                () = self.changed.notified() => {}
                () = leadership.changed() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn round(
        &self,
        memory: &mut Memory,
        latches: &mut (Option<Latch>, Option<Latch>),
    ) -> Result<Round, AutoError> {
        for _ in 0..ATTEMPTS {
            // The caBundle is read before the Secret, and written on condition that it stands as it was read: so an older
            // Secret's authorities never take the place of what another leader wrote meanwhile.
            let (seen, mut failure) = match self.store.announced(Audience::Admission).await {
                Ok(seen) => (seen, None),
                Err(error) => (None, Some(error)),
            };
            if let Some(seen) = &seen {
                memory.trust.see(seen, Instant::now());
            }
            let Some((material, serving)) = self.agree(memory, seen.as_ref()).await? else {
                return Ok(Round::Leader);
            };
            // The API servers first: they must trust what they are going to see.
            let mut standing = None;
            if let Some(seen) = seen {
                match self
                    .announce(Audience::Admission, seen, &material.ca_crt)
                    .await
                {
                    Ok(Some(announced)) => standing = Some(announced),
                    Ok(None) => continue,
                    Err(error) => failure = Some(error),
                }
            }
            let ca_crt = material.ca_crt.clone();
            let trusted = self.serve(memory, &mut latches.0, material, serving, standing);
            if let Some(error) = failure {
                return Err(error.into());
            }
            if !trusted {
                return Ok(Round::Leader);
            }
            latches.1 = None;
            // Nobody waits for warnings, so that what is wrong with these delays nothing: no certificate, no pod.
            if let Err(error) = self.announce_for_warnings(&ca_crt).await {
                tracing::warn!(
                    error = &error as &(dyn std::error::Error + 'static),
                    "there will be no workload warnings"
                );
            }
            return Ok(Round::Settled);
        }
        Err(AutoError::Contention)
    }

    /// A change meanwhile is a matter for the next round.
    async fn announce_for_warnings(&self, ca_crt: &str) -> Result<(), StoreError> {
        if let Some(seen) = self.store.announced(Audience::Warnings).await? {
            self.announce(Audience::Warnings, seen, ca_crt).await?;
        }
        Ok(())
    }

    /// Reads what is kept, makes what is due if this replica is the leader, and returns what all replicas agree on
    /// from now on, verified; none: the leader has to make it first.
    async fn agree(
        &self,
        memory: &Memory,
        announced: Option<&Announced>,
    ) -> Result<Option<(Material, Serving)>, AutoError> {
        let Authority {
            names,
            provider,
            policy,
        } = &self.authority;
        for _ in 0..ATTEMPTS {
            let stored = self.store.read().await?;
            let kept = match stored.as_ref().map(|stored| &stored.content) {
                Some(Content::Foreign) => return Err(AutoError::Foreign),
                Some(Content::Material(material)) => Some(material),
                Some(Content::Incomplete) | None => None,
            };
            let now = (self.clock)();
            let signer = kept.and_then(Material::current_authority);
            let known = Known {
                held: memory.held.as_ref().map(|(held, _)| held),
                announced,
                settled: signer.is_some_and(|signer| {
                    memory
                        .trust
                        .knows(&signer, policy.overlap(), Instant::now())
                }),
                now,
            };
            let due = self.authority.due(kept, known)?;
            let Some(new) = due.filter(|_| self.leadership.is_leader()) else {
                // What is due for a renewal is good meanwhile.
                return Ok(kept.and_then(|material| {
                    let serving = material.serving(names, now, provider).ok()?;
                    Some((material.clone(), serving))
                }));
            };
            // What can't be served is not written either.
            let serving = new.serving(names, now, provider)?;
            let written = match &stored {
                Some(stored) => self.store.replace(&stored.version, &new).await?,
                None => self.store.create(&new).await?,
            };
            if written == Written::Yes {
                tracing::info!(expires = serving.expires, "wrote new certificates");
                return Ok(Some((new, serving)));
            }
        }
        Err(AutoError::Contention)
    }

    /// The leader sees to it that this audience's API servers trust what they have to. Returns what they are told from now on;
    /// none: it was changed since it was `seen`.
    async fn announce(
        &self,
        audience: Audience,
        seen: Announced,
        ca_crt: &str,
    ) -> Result<Option<Announced>, StoreError> {
        if seen.holds(ca_crt) || !self.leadership.is_leader() {
            return Ok(Some(seen));
        }
        let written = self.store.announce(audience, &seen, ca_crt);
        if written.await? == Written::Conflict {
            return Ok(None);
        }
        match audience {
            Audience::Admission => {
                tracing::info!("put the caBundle into the webhook configuration");
            }
            Audience::Warnings => {
                tracing::info!("put the caBundle into the configuration of workload warnings");
            }
        }
        Ok(Some(seen.with(ca_crt)))
    }

    /// Serves what was agreed on, as soon as that is no worse than what is served; returns whether API servers are told to
    /// trust it.
    fn serve(
        &self,
        memory: &mut Memory,
        latch: &mut Option<Latch>,
        material: Material,
        serving: Serving,
        standing: Option<Announced>,
    ) -> bool {
        let now = (self.clock)();
        if let Some(standing) = &standing {
            memory.trust.see(standing, Instant::now());
        }
        let trusted = |serving| {
            standing
                .as_ref()
                .is_some_and(|standing| standing.trusts(serving, now))
        };
        let is_trusted = trusted(&serving);
        let old = memory.held.as_ref();
        let valid = old.filter(|(_, old)| old.check_expiry(now).is_ok());
        let overlap = self.authority.policy.overlap();
        let settled = memory.trust.accepts(&serving, overlap, Instant::now(), now);
        let better = match valid {
            // Any certificate is better than none.
            None => true,
            Some((_, old)) => is_trusted && !trusted(old),
        };
        let same = old.is_some_and(|(old, _)| old.tls_crt == material.tls_crt);
        if !same && (settled || better) {
            self.resolver.publish(&serving);
            self.expiry
                .set(i64::try_from(serving.expires).unwrap_or(i64::MAX));
            tracing::info!(expires = serving.expires, "serving a new certificate");
        }
        if same || settled || better {
            memory.held = Some((material, serving));
            *latch = None;
        }
        is_trusted
    }
}

#[cfg(test)]
mod tests;
