//! Which Kubernetes this is: what a pod may look like depends on the API server's version.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use keeper_contract::Cluster;
use keeper_telemetry::Latch;

/// A control plane may be upgraded while we run.
const ASK_EVERY: Duration = Duration::from_secs(300);
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_LAST: Duration = Duration::from_secs(30);
const DEADLINE: Duration = Duration::from_secs(15);

/// A Kubernetes version, of which only the minor number matters: `1.35`, `v1.35.4`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KubernetesVersion {
    minor: u32,
}

impl KubernetesVersion {
    pub(crate) fn cluster(self) -> Cluster {
        Cluster { minor: self.minor }
    }
}

impl FromStr for KubernetesVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let problem = || format!("{text:?} is not a version like 1.35");
        let rest = text
            .strip_prefix('v')
            .unwrap_or(text)
            .strip_prefix("1.")
            .ok_or_else(problem)?;
        minor(rest.split('.').next().unwrap_or_default())
            .map(|minor| Self { minor })
            .ok_or_else(problem)
    }
}

/// The minor version of the API server, once it is known. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct ApiVersion(Arc<AtomicU32>);

impl ApiVersion {
    pub(crate) fn known(version: KubernetesVersion) -> Self {
        Self(Arc::new(AtomicU32::new(version.minor)))
    }

    /// None before it is known. (There was no Kubernetes 1.0 with admission webhooks.)
    pub(crate) fn cluster(&self) -> Option<Cluster> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            minor => Some(Cluster { minor }),
        }
    }

    /// Asks the API server, now and again every few minutes, for ever. The latch drops at the first
    /// answer; a later failure leaves what was known.
    pub(crate) async fn keep(self, client: kube::Client, latch: Latch) {
        let mut latch = Some(latch);
        let mut retry = RETRY_FIRST;
        loop {
            let wait = match ask(&client).await {
                Ok(version) => {
                    if self.0.swap(version, Ordering::Relaxed) != version {
                        tracing::info!(minor = version, "the API server told its version");
                    }
                    drop(latch.take());
                    retry = RETRY_FIRST;
                    ASK_EVERY
                }
                Err(error) => {
                    tracing::warn!(error, "cannot read the API server's version");
                    let wait = retry;
                    retry = (retry * 2).min(RETRY_LAST);
                    wait
                }
            };
            tokio::time::sleep(wait).await;
        }
    }
}

async fn ask(client: &kube::Client) -> Result<u32, String> {
    let answer = tokio::time::timeout(DEADLINE, client.apiserver_version()).await;
    let info = answer
        .map_err(|_| "no answer".to_owned())?
        .map_err(|error| error.to_string())?;
    // Some providers write "35+".
    minor(info.minor.trim_end_matches('+'))
        .ok_or_else(|| format!("{:?} is no minor version", info.minor))
}

fn minor(text: &str) -> Option<u32> {
    text.parse().ok().filter(|minor| (1..1000).contains(minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_in_their_usual_forms() {
        for text in ["1.35", "v1.35", "1.35.4", "v1.35.4-eks-1"] {
            assert_eq!(text.parse(), Ok(KubernetesVersion { minor: 35 }), "{text}");
        }
        for text in [
            "",
            "1",
            "35",
            "2.0",
            "1.",
            "1.x",
            "1.0",
            "1.-3",
            "1.99999999999",
        ] {
            assert!(text.parse::<KubernetesVersion>().is_err(), "{text}");
        }
    }

    #[test]
    fn unknown_until_told() {
        assert!(ApiVersion::default().cluster().is_none());
        let known = ApiVersion::known(KubernetesVersion { minor: 35 });
        assert_eq!(known.cluster().map(|cluster| cluster.minor), Some(35));
    }
}
