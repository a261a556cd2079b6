//! Where the election takes place: a `coordination.k8s.io/v1` Lease. The tests have one without an API server.

use std::future::Future;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::core::ObjectMeta;

use super::election::{Claim, Record, Write};
use crate::owner;

/// Name of our fields' owner.
const FIELD_MANAGER: &str = "keeper-injector-leader";

/// Why the Lease could not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LeaseError {
    /// The API server refused or could not be reached.
    #[error(transparent)]
    Api(Box<kube::Error>),
    /// The API server did not answer.
    #[error("no answer from the API server")]
    Deadline,
}

/// One Lease.
pub(crate) trait Leases: Send + Sync {
    /// What stands there now.
    fn read(&self) -> impl Future<Output = Result<Option<Record>, LeaseError>> + Send;
    /// Writes it if its condition holds; none: it doesn't.
    fn write(
        &self,
        write: &Write,
    ) -> impl Future<Output = Result<Option<Record>, LeaseError>> + Send;
}

/// One on an API server.
#[derive(Clone)]
pub(crate) struct KubeLease {
    api: Api<Lease>,
    namespace: String,
    name: String,
}

impl KubeLease {
    pub(crate) fn new(client: kube::Client, namespace: &str, name: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

impl Leases for KubeLease {
    async fn read(&self) -> Result<Option<Record>, LeaseError> {
        let found = self.api.get_opt(&self.name).await;
        found
            .map(|found| found.map(record))
            .map_err(|error| LeaseError::Api(Box::new(error)))
    }

    async fn write(&self, write: &Write) -> Result<Option<Record>, LeaseError> {
        let mut object = Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                resource_version: write.version.clone(),
                ..ObjectMeta::default()
            },
            spec: Some(spec(&write.claim)),
        };
        let field_manager = Some(FIELD_MANAGER.to_owned());
        let done = if write.version.is_some() {
            // A merge patch keeps what others wrote into the metadata; the version in it is the condition.
            let params = PatchParams {
                field_manager,
                ..PatchParams::default()
            };
            let patch = Patch::Merge(&object);
            self.api.patch(&self.name, &params, &patch).await
        } else {
            let params = PostParams {
                field_manager,
                dry_run: false,
            };
            let client = self.api.clone().into_client();
            object.metadata.owner_references =
                owner::service_account(client, &self.namespace).await;
            self.api.create(&params, &object).await
        };
        match done {
            Ok(lease) => Ok(Some(record(lease))),
            // 409 is "exists already" and "changed meanwhile"; 404: deleted meanwhile.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(None),
            Err(error) => Err(LeaseError::Api(Box::new(error))),
        }
    }
}

fn spec(claim: &Claim) -> LeaseSpec {
    let time = |micros| Timestamp::from_microsecond(micros).ok().map(MicroTime);
    LeaseSpec {
        holder_identity: Some(claim.holder.clone()),
        lease_duration_seconds: Some(i32::try_from(claim.duration.as_secs()).unwrap_or(i32::MAX)),
        lease_transitions: Some(claim.transitions),
        acquire_time: time(claim.acquired),
        renew_time: time(claim.renewed),
        ..LeaseSpec::default()
    }
}

fn record(lease: Lease) -> Record {
    let spec = lease.spec.unwrap_or_default();
    let micros = |time: Option<MicroTime>| time.map_or(0, |time| time.0.as_microsecond());
    let duration = spec.lease_duration_seconds.unwrap_or_default();
    Record {
        version: lease.metadata.resource_version.unwrap_or_default(),
        claim: Claim {
            holder: spec.holder_identity.unwrap_or_default(),
            duration: Duration::from_secs(u64::try_from(duration).unwrap_or_default()),
            transitions: spec.lease_transitions.unwrap_or_default(),
            acquired: micros(spec.acquire_time),
            renewed: micros(spec.renew_time),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_survives_the_lease() {
        let claim = Claim {
            holder: "keeper-injector-1_ab".into(),
            duration: Duration::from_secs(15),
            transitions: 4,
            acquired: 1_800_000_000_000_001,
            renewed: 1_800_000_000_000_002,
        };
        let lease = Lease {
            metadata: ObjectMeta {
                resource_version: Some("7".into()),
                ..ObjectMeta::default()
            },
            spec: Some(spec(&claim)),
        };
        let json = serde_json::to_string(&lease).unwrap();
        let back = record(serde_json::from_str(&json).unwrap());
        assert_eq!((back.version.as_str(), back.claim), ("7", claim));
    }

    #[test]
    fn a_strange_lease_is_read_too() {
        for text in [
            "{}",
            r#"{"spec":{}}"#,
            r#"{"spec":{"leaseDurationSeconds":-5,"leaseTransitions":-1}}"#,
        ] {
            let found = record(serde_json::from_str(text).unwrap());
            assert_eq!(
                (found.claim.holder.as_str(), found.claim.duration),
                ("", Duration::ZERO)
            );
        }
    }
}
