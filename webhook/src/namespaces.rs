//! What the cluster's namespaces say to us: their labels and annotations, as far as they are ours.
//!
//! A watch on metadata keeps it, so that an admission asks nobody. Only a namespace that is newer than
//! what the watch has told is read by its name, within a bounded time.

use std::collections::{BTreeMap, HashMap};
use std::mem;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1;
use keeper_contract::NamespaceSettings;
use keeper_telemetry::Latch;
use kube::api::Api;
use kube::core::{ObjectMeta, PartialObjectMeta};
use kube::runtime::{WatchStreamExt as _, watcher};
use tokio::sync::Semaphore;

/// What a page of the list takes is what takes most: the rest of the metadata is dropped at once.
const PAGE: u32 = 100;
/// For one namespace that the watch has not told of yet, waiting for a turn included. API servers wait
/// 10 s for us, as the chart has it.
const DEADLINE: Duration = Duration::from_secs(3);
/// So many are read at a time: whoever can send us reviews can make up names.
const READERS: usize = 8;

/// What namespaces say. Clones share it.
#[derive(Clone)]
pub(crate) struct Namespaces(Option<Arc<Shared>>);

struct Shared {
    api: Api<PartialObjectMeta<v1::Namespace>>,
    known: RwLock<Known>,
    readers: Semaphore,
}

/// By name; none for the many that say nothing.
type Known = HashMap<Box<str>, Option<Arc<NamespaceSettings>>>;

/// Why it isn't known what a namespace says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unknown {
    /// The API server doesn't have it.
    #[error("the API server knows no such namespace; try again")]
    Absent,
    /// The API server refused, or didn't answer in time.
    #[error("the annotations of the pod's namespace cannot be read; try again")]
    Unreadable,
}

impl Namespaces {
    /// Those of no cluster: none says anything.
    pub(crate) fn silent() -> Self {
        Self(None)
    }

    /// Those of a cluster. Somebody has to [`Self::keep`] them.
    pub(crate) fn of(client: kube::Client) -> Self {
        Self(Some(Arc::new(Shared {
            api: Api::all(client),
            known: RwLock::default(),
            readers: Semaphore::new(READERS),
        })))
    }

    /// Watches for ever; a lost watch is taken up again with a growing pause, and what was known stays
    /// meanwhile. The latch drops with the first complete list.
    pub(crate) async fn keep(self, latch: Latch) {
        let Some(shared) = self.0 else {
            return std::future::pending().await;
        };
        let mut latch = Some(latch);
        let config = watcher::Config::default().page_size(PAGE);
        let events = watcher(shared.api.clone(), config).default_backoff();
        let mut events = std::pin::pin!(events);
        let mut listed = Known::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    if shared.take(event, &mut listed) {
                        drop(latch.take());
                    }
                }
                Err(error) => tracing::warn!(%error, "the watch on the namespaces broke"),
            }
        }
    }

    /// What one of them says; none: nothing.
    pub(crate) async fn get(&self, name: &str) -> Result<Option<Arc<NamespaceSettings>>, Unknown> {
        let Some(shared) = &self.0 else {
            return Ok(None);
        };
        if let Some(settings) = shared.read().get(name) {
            return Ok(settings.clone());
        }
        // Not kept: the watch is about to tell, and may by now know something newer.
        match tokio::time::timeout(DEADLINE, shared.fetch(name)).await {
            Ok(answer) => answer,
            Err(_) => {
                tracing::warn!(
                    namespace = name,
                    error = "no answer",
                    "cannot read a namespace"
                );
                Err(Unknown::Unreadable)
            }
        }
    }
}

impl Shared {
    fn read(&self) -> std::sync::RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what the watch tells; `listed` is the list as far as it has come. Says whether it is complete
    /// with this event.
    fn take(
        &self,
        event: watcher::Event<PartialObjectMeta<v1::Namespace>>,
        listed: &mut Known,
    ) -> bool {
        let known = || self.known.write().unwrap_or_else(PoisonError::into_inner);
        match event {
            watcher::Event::Init => listed.clear(),
            watcher::Event::InitApply(namespace) => insert(listed, namespace.metadata),
            watcher::Event::InitDone => {
                *known() = mem::take(listed);
                return true;
            }
            watcher::Event::Apply(namespace) => insert(&mut known(), namespace.metadata),
            watcher::Event::Delete(namespace) => {
                if let Some(name) = namespace.metadata.name {
                    known().remove(name.as_str());
                }
            }
        }
        false
    }

    async fn fetch(&self, name: &str) -> Result<Option<Arc<NamespaceSettings>>, Unknown> {
        // It is never closed.
        let _turn = self.readers.acquire().await;
        match self.api.get_opt(name).await {
            Ok(Some(namespace)) => Ok(settings(&namespace.metadata)),
            Ok(None) => Err(Unknown::Absent),
            Err(error) => {
                tracing::warn!(namespace = name, %error, "cannot read a namespace");
                Err(Unknown::Unreadable)
            }
        }
    }
}

fn insert(known: &mut Known, metadata: ObjectMeta) {
    let settings = settings(&metadata);
    if let Some(name) = metadata.name {
        known.insert(name.into(), settings);
    }
}

fn settings(metadata: &ObjectMeta) -> Option<Arc<NamespaceSettings>> {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    let labels = metadata.labels.as_ref().unwrap_or(&NONE);
    let annotations = metadata.annotations.as_ref().unwrap_or(&NONE);
    let settings = NamespaceSettings::read(labels, annotations);
    (!settings.is_empty()).then(|| Arc::new(settings))
}
