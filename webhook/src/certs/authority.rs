//! What should stand in the Secret, given what stands there: pure, but for the randomness of keys.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls_pki_types::UnixTime;

use super::material::{Inspection, valid_authorities};
use super::plan::{Step, plan};
use super::store::Announced;
use super::{CertError, Material, Names, Policy, issue};

/// What certificates must be like.
pub(crate) struct Authority {
    pub(crate) names: Names,
    pub(crate) policy: Policy,
    pub(crate) provider: Arc<CryptoProvider>,
}

/// What a leader knows beside the Secret.
#[derive(Clone, Copy)]
pub(crate) struct Known<'a> {
    /// What this replica serves, if it does.
    pub(crate) held: Option<&'a Material>,
    /// The `caBundle`, if it could be read.
    pub(crate) announced: Option<&'a Announced>,
    /// Whether the authority that signs has been in it for long enough.
    pub(crate) settled: bool,
    pub(crate) now: UnixTime,
}

impl Authority {
    /// What should stand in place of `kept`; none: it is good as it is. Whatever is made, what replicas serve now stays
    /// trusted.
    pub(crate) fn due(
        &self,
        kept: Option<&Material>,
        known: Known<'_>,
    ) -> Result<Option<Material>, CertError> {
        let (policy, now) = (&self.policy, known.now);
        let inspection = kept.map_or(Inspection::NOTHING, |kept| {
            kept.inspect(&self.names, now, &self.provider)
        });
        let step = plan(inspection, policy, known.settled, now);
        let new = match (step, kept, inspection.authority) {
            (Step::Keep, Some(kept), _) => kept.clone(),
            (Step::RotateAuthority, Some(kept), _) => issue::rotate_authority(kept, policy, now)?,
            (Step::IssueServing, Some(kept), Some(authority)) => {
                let new = issue::renew_serving(kept, authority, &self.names, policy, now)?;
                let is_successor = inspection
                    .serving
                    .is_some_and(|old| old.by_current_authority);
                match is_successor && policy.outlived(authority, now) {
                    true => issue::forget_older(new, now),
                    false => new,
                }
            }
            _ => self.anew(known)?,
        };
        let new = issue::trusting(new.clone(), &self.served(&new, known), now);
        Ok((kept != Some(&new)).then_some(new))
    }

    /// What should stand where nothing of use stands.
    fn anew(&self, known: Known<'_>) -> Result<Material, CertError> {
        let (policy, now) = (&self.policy, known.now);
        if let Some(held) = known.held {
            let serving = held.inspect(&self.names, now, &self.provider).serving;
            match serving.map(|serving| serving.by_current_authority) {
                // Who deletes the Secret wants another authority. Announced first, as always.
                Some(true) => return issue::rotate_authority(held, policy, now),
                // One is being announced.
                Some(false) => return Ok(held.clone()),
                None => {}
            }
        }
        let told = known.announced.map(Announced::authorities);
        let trusted = valid_authorities(&told.unwrap_or_default(), now);
        issue::start(&self.names, policy, trusted, now)
    }

    /// The authorities of what replicas serve now: of what this one does; or, if this one has only just started, those that
    /// the `caBundle` has in place of `new`'s.
    fn served(&self, new: &Material, known: Known<'_>) -> Vec<String> {
        let now = known.now;
        if let Some(held) = known.held {
            return held.signers(&self.provider);
        }
        let needed = new.serving(&self.names, now, &self.provider);
        known
            .announced
            .filter(|announced| needed.is_ok_and(|serving| !announced.trusts(&serving, now)))
            .map(|announced| valid_authorities(&announced.authorities(), now))
            .unwrap_or_default()
    }
}
