//! The Service's traffic to the leader alone, for those who want followers on standby: a label on the leader's pod, which
//! the Service selects.
//!
//! A change of leaders leaves no moment without an endpoint: the new one labels itself when it is ready, the label is taken from
//! the others some time after that, and a leader that is told to end goes on answering until it has lost the label.

use std::future::Future;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::Leadership;

const LABEL: &str = "keeper.security/leader";
const FIELD_MANAGER: &str = "keeper-injector-leader";
/// All pods that have the label, of whatever release. Other pods of the namespace are none of our business.
const LABELLED: &str = "keeper.security/leader=true,app.kubernetes.io/name=keeper-injector,app.kubernetes.io/component=webhook";
/// Tells releases apart: one with a revision may stand in the same namespace, and has a leader of its own.
const RELEASE: &str = "app.kubernetes.io/instance";
/// Until all nodes' proxies know a new endpoint; they gather changes for a second.
const PROPAGATION: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_secs(1);
/// A label that somebody took away is back after this time.
const CHECK_EVERY: Duration = Duration::from_secs(10);
const DEADLINE: Duration = Duration::from_secs(5);
/// How long a leader waits for its successor before it ends.
const HAND_OVER: Duration = Duration::from_secs(10);

/// Why pods can't be read or labelled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PodsError {
    /// The API server refused or could not be reached.
    #[error(transparent)]
    Api(Box<kube::Error>),
    /// The API server did not answer.
    #[error("no answer from the API server")]
    Deadline,
    /// `--pod-name` is not right.
    #[error("there is no pod of the name that --pod-name has")]
    NoSuchPod,
}

/// One pod of ours, as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodState {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) ready: bool,
    pub(crate) labelled: bool,
    /// Of which release of the chart it is.
    pub(crate) release: Option<String>,
}

/// Our pods.
pub(crate) trait Pods: Send + Sync {
    /// The one that we are in.
    fn own(&self) -> impl Future<Output = Result<PodState, PodsError>> + Send;
    /// All that have the label, of whatever release.
    fn labelled(&self) -> impl Future<Output = Result<Vec<PodState>, PodsError>> + Send;
    /// Gives one the label, or takes it, if the pod is still as it was read; whether it was.
    fn label(
        &self,
        pod: &PodState,
        leader: bool,
    ) -> impl Future<Output = Result<bool, PodsError>> + Send;
}

/// Leads traffic.
#[derive(Clone)]
pub(crate) struct Traffic<P> {
    pods: P,
    leadership: Leadership,
}

impl<P: Pods> Traffic<P> {
    pub(crate) fn new(pods: P, leadership: Leadership) -> Self {
        Self { pods, leadership }
    }

    /// Keeps the label where the leader is, for ever.
    pub(crate) async fn keep(self) {
        let mut leadership = self.leadership.clone();
        let mut failing = false;
        loop {
            let wait = match self.round().await {
                Ok(wait) => {
                    failing = false;
                    wait
                }
                Err(error) => {
                    // Once in an outage.
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(
                            error = &error as &(dyn std::error::Error + 'static),
                            "cannot label the leader's pod"
                        );
                    }
                    RETRY
                }
            };
            if wait < CHECK_EVERY {
                // A change must not cut this short: who loses the label waits for it, too.
                sleep(wait).await;
                continue;
            }
            tokio::select! {
                () = leadership.changed() => {}
                () = sleep(wait) => {}
            }
        }
    }

    /// Returns when a successor has taken the traffic over, or has had the time to; at once if there is none here.
    pub(crate) async fn handed_over(&self) {
        let gone = async {
            while !self.pods.own().await.is_ok_and(|own| !own.labelled) {
                sleep(RETRY / 2).await;
            }
        };
        if timeout(HAND_OVER, gone).await.is_err() {
            tracing::warn!("no other replica has taken the traffic over");
        }
    }

    /// Does what is to be done by the leader; returns when to look again.
    async fn round(&self) -> Result<Duration, PodsError> {
        if !self.leadership.is_leader() {
            return Ok(CHECK_EVERY);
        }
        let own = self.pods.own().await?;
        if !own.ready {
            return Ok(RETRY);
        }
        if !own.labelled {
            if self.leadership.is_leader() && self.pods.label(&own, true).await? {
                tracing::info!("the Service's traffic comes here");
                return Ok(PROPAGATION);
            }
            return Ok(RETRY);
        }
        let mut all_done = true;
        for other in self.pods.labelled().await? {
            if other.name != own.name && other.release == own.release {
                all_done &= self.leadership.is_leader() && self.pods.label(&other, false).await?;
            }
        }
        Ok(if all_done { CHECK_EVERY } else { RETRY })
    }
}

/// Those in a cluster.
#[derive(Clone)]
pub(crate) struct KubePods {
    api: Api<Pod>,
    own: String,
}

impl KubePods {
    pub(crate) fn new(client: kube::Client, namespace: &str, own: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            own: own.to_owned(),
        }
    }
}

impl Pods for KubePods {
    async fn own(&self) -> Result<PodState, PodsError> {
        let found = call(self.api.get_opt(&self.own)).await?;
        found.map(state).ok_or(PodsError::NoSuchPod)
    }

    async fn labelled(&self) -> Result<Vec<PodState>, PodsError> {
        let params = ListParams::default().labels(LABELLED);
        let found = call(self.api.list(&params)).await?;
        Ok(found.items.into_iter().map(state).collect())
    }

    async fn label(&self, pod: &PodState, leader: bool) -> Result<bool, PodsError> {
        let patch = Patch::Merge(json!({"metadata": {
            "resourceVersion": pod.version,
            "labels": {LABEL: leader.then_some("true")},
        }}));
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.into()),
            ..PatchParams::default()
        };
        match call(self.api.patch(&pod.name, &params, &patch)).await {
            Ok(_) => Ok(true),
            // Changed or deleted meanwhile.
            Err(PodsError::Api(error)) if matches!(&*error, kube::Error::Api(status) if matches!(status.code, 404 | 409)) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

fn state(pod: Pod) -> PodState {
    let conditions = pod.status.and_then(|status| status.conditions);
    let labels = pod.metadata.labels.unwrap_or_default();
    PodState {
        name: pod.metadata.name.unwrap_or_default(),
        version: pod.metadata.resource_version.unwrap_or_default(),
        ready: conditions.is_some_and(|conditions| {
            conditions
                .iter()
                .any(|condition| condition.type_ == "Ready" && condition.status == "True")
        }),
        labelled: labels.get(LABEL).is_some_and(|value| value == "true"),
        release: labels.get(RELEASE).cloned(),
    }
}

async fn call<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, PodsError> {
    match timeout(DEADLINE, call).await {
        Ok(done) => done.map_err(|error| PodsError::Api(Box::new(error))),
        Err(_) => Err(PodsError::Deadline),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::sync::watch;

    use super::super::Uptime;
    use super::*;

    /// Pods `a`, `b`, …: version, ready, labelled.
    type All = Arc<Mutex<Vec<(u32, bool, bool)>>>;

    #[derive(Clone)]
    struct Fake {
        all: All,
        own: usize,
    }

    /// Those that follow are another release's.
    const REPLICAS: usize = 2;

    fn name(index: usize) -> String {
        format!("pod-{index}")
    }

    impl Fake {
        fn state(&self, index: usize) -> PodState {
            let (version, ready, labelled) = self.all.lock().unwrap()[index];
            PodState {
                name: name(index),
                version: version.to_string(),
                ready,
                labelled,
                release: Some(if index < REPLICAS { "a" } else { "b" }.to_owned()),
            }
        }
    }

    impl Pods for Fake {
        async fn own(&self) -> Result<PodState, PodsError> {
            Ok(self.state(self.own))
        }
        async fn labelled(&self) -> Result<Vec<PodState>, PodsError> {
            let count = self.all.lock().unwrap().len();
            let all = (0..count).map(|index| self.state(index));
            Ok(all.filter(|pod| pod.labelled).collect())
        }
        async fn label(&self, pod: &PodState, leader: bool) -> Result<bool, PodsError> {
            let mut all = self.all.lock().unwrap();
            let index = (0..all.len())
                .find(|index| name(*index) == pod.name)
                .unwrap();
            if all[index].0.to_string() != pod.version {
                return Ok(false);
            }
            all[index].0 += 1;
            all[index].2 = leader;
            Ok(true)
        }
    }

    struct Candidate {
        traffic: Traffic<Fake>,
        term: watch::Sender<Option<Uptime>>,
    }

    fn candidate(all: &All, own: usize) -> Candidate {
        let (term, told) = watch::channel(None);
        let pods = Fake {
            all: Arc::clone(all),
            own,
        };
        let traffic = Traffic::new(pods, Leadership::elected(told));
        Candidate { traffic, term }
    }

    fn labels(all: &All) -> Vec<bool> {
        all.lock().unwrap().iter().map(|pod| pod.2).collect()
    }

    const FOR_EVER: Option<Uptime> = Some(Uptime(Duration::MAX));

    #[tokio::test]
    async fn traffic_follows_the_leader_without_a_gap() {
        let all = All::new(Mutex::new(vec![(1, true, false), (1, false, false)]));
        let (first, second) = (candidate(&all, 0), candidate(&all, 1));
        first.traffic.round().await.unwrap();
        assert_eq!(labels(&all), [false, false], "nobody leads");
        first.term.send_replace(FOR_EVER);
        assert_eq!(first.traffic.round().await.unwrap(), PROPAGATION);
        assert_eq!(labels(&all), [true, false]);
        assert_eq!(first.traffic.round().await.unwrap(), CHECK_EVERY);

        first.term.send_replace(None);
        second.term.send_replace(FOR_EVER);
        second.traffic.round().await.unwrap();
        assert_eq!(labels(&all), [true, false], "it isn't ready");
        all.lock().unwrap()[1].1 = true;
        assert_eq!(second.traffic.round().await.unwrap(), PROPAGATION);
        assert_eq!(labels(&all), [true, true]);
        second.traffic.round().await.unwrap();
        assert_eq!(labels(&all), [false, true]);
    }

    #[tokio::test]
    async fn another_release_has_a_leader_of_its_own() {
        let all = All::new(Mutex::new(vec![
            (1, true, true),
            (1, true, true),
            (1, true, true),
        ]));
        let first = candidate(&all, 0);
        first.term.send_replace(FOR_EVER);
        first.traffic.round().await.unwrap();
        assert_eq!(labels(&all), [true, false, true]);
    }

    #[tokio::test]
    async fn a_late_label_of_a_former_leader_is_refused() {
        let all = All::new(Mutex::new(vec![(1, true, true), (1, true, false)]));
        let second = candidate(&all, 1);
        // Read by the first one, which is stopped now.
        let pods = candidate(&all, 0).traffic.pods;
        let (own, other) = (pods.state(0), pods.state(1));
        second.term.send_replace(FOR_EVER);
        second.traffic.round().await.unwrap();
        second.traffic.round().await.unwrap();
        assert!(!pods.label(&own, true).await.unwrap());
        assert!(!pods.label(&other, false).await.unwrap());
        assert_eq!(labels(&all), [false, true]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_waits_for_a_successor_but_not_for_ever() {
        let all = All::new(Mutex::new(vec![(1, true, true), (1, true, false)]));
        let (first, second) = (candidate(&all, 0), candidate(&all, 1));
        let start = tokio::time::Instant::now();
        first.traffic.handed_over().await;
        assert!(start.elapsed() >= HAND_OVER, "there is no successor");

        second.term.send_replace(FOR_EVER);
        let task = tokio::spawn(second.traffic.clone().keep());
        let start = tokio::time::Instant::now();
        first.traffic.handed_over().await;
        assert!((PROPAGATION..HAND_OVER).contains(&start.elapsed()));
        assert_eq!(labels(&all), [false, true]);
        task.abort();
    }
}
