//! Telling the application that its files have changed, beside the refreshes and never in their way.
//!
//! What it was told of last stands on the tmpfs, as the names of the published generations: a change that nobody
//! was told of is told by the next process, and an unchanged refresh writes nothing.

use std::path::Path;
use std::time::Duration;

use keeper_contract::reload::{Reload, ReloadUrl, Signal};
use tokio::sync::watch;

use crate::host::Host;
use crate::metrics::Metrics;
use crate::post::{PostError, post};
use crate::processes::{Processes, SignalError};
use crate::state::Store;

/// Changes that follow each other closer than this are told as one.
const DEBOUNCE: Duration = Duration::from_secs(1);
/// Pauses before further attempts, in seconds.
const PAUSES: [u64; 5] = [1, 2, 4, 8, 16];

/// Names of the published generations, one for each output directory.
pub(crate) type Generations = Vec<String>;

/// A way of telling.
#[derive(Debug)]
pub(crate) enum Way {
    Signal(Signal),
    Url(ReloadUrl),
}

impl Way {
    const SIGNAL: &str = "signal";
    const URL: &str = "url";
    /// The words of all ways.
    pub(crate) const LABELS: [&str; 2] = [Self::SIGNAL, Self::URL];

    /// Its word in metrics and logs.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Signal(_) => Self::SIGNAL,
            Self::Url(_) => Self::URL,
        }
    }
}

/// Why the application was not told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReloadError {
    /// The application has not started yet, or its process has another name.
    #[error(
        "there is no process to signal: it has not started, or has another name than signal-process says"
    )]
    NoProcess,
    #[error(transparent)]
    Signal(#[from] SignalError),
    #[error(transparent)]
    Post(#[from] PostError),
}

/// The application, as far as it can be told something.
#[derive(Debug)]
pub(crate) struct Application {
    ways: Vec<Way>,
    processes: Processes,
}

impl Application {
    pub(crate) fn new(reload: Reload, pod_uid: &str) -> Self {
        let Reload { signal, url } = reload;
        let signal = signal.map(Way::Signal);
        Self {
            ways: signal.into_iter().chain(url.map(Way::Url)).collect(),
            processes: Processes::new(Path::new("/proc"), pod_uid),
        }
    }

    async fn tell(&self, way: &Way) -> Result<(), ReloadError> {
        match way {
            Way::Signal(signal) => self.signal(signal),
            Way::Url(url) => Ok(post(url).await?),
        }
    }

    /// Signals every process that is meant, also if one of them can't be.
    fn signal(&self, signal: &Signal) -> Result<(), ReloadError> {
        let mut told = Err(ReloadError::NoProcess);
        for process in self.processes.find(&signal.target) {
            match (self.processes.signal(process, signal.name), &told) {
                (Err(error), _) => told = Err(error.into()),
                (Ok(true), Err(ReloadError::NoProcess)) => told = Ok(()),
                (Ok(_), _) => {}
            }
        }
        told
    }
}

/// Tells the application of changes for ever.
pub(crate) async fn tell_of_changes<H: Host>(
    host: &H,
    application: &Application,
    store: &Store,
    metrics: &Metrics,
    published: watch::Receiver<Generations>,
) -> std::convert::Infallible {
    let tell = async |way: &Way| application.tell(way).await;
    notify(host, &application.ways, tell, store, metrics, published).await
}

async fn notify<H: Host>(
    host: &H,
    ways: &[Way],
    tell: impl AsyncFn(&Way) -> Result<(), ReloadError>,
    store: &Store,
    metrics: &Metrics,
    mut published: watch::Receiver<Generations>,
) -> std::convert::Infallible {
    let mut given_up = None;
    loop {
        let current = published.borrow_and_update().clone();
        let is_news = !current.is_empty() && given_up.as_ref() != Some(&current);
        if !is_news || store.told().as_ref() == Some(&current) {
            changed(&mut published).await;
            continue;
        }
        let told = tokio::select! {
            () = changed(&mut published) => continue,
            told = async {
                host.sleep(DEBOUNCE).await;
                tell_all(host, ways, &tell, metrics).await
            } => told,
        };
        if told && let Err(error) = store.note_told(&current) {
            tracing::warn!(%error, "that the application was told cannot be kept");
        }
        // Whether told or not, this process does not try again before the next change.
        given_up = Some(current);
    }
}

/// Returns when there is something new, or never.
async fn changed(published: &mut watch::Receiver<Generations>) {
    if published.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Tries each way until it succeeds, a bounded number of times. Whether all did.
async fn tell_all<H: Host>(
    host: &H,
    ways: &[Way],
    tell: impl AsyncFn(&Way) -> Result<(), ReloadError>,
    metrics: &Metrics,
) -> bool {
    let mut left: Vec<&Way> = ways.iter().collect();
    let pauses = PAUSES.into_iter().map(Duration::from_secs).map(Some);
    for pause in pauses.chain([None]) {
        let mut failed = Vec::new();
        for way in left {
            let result = tell(way).await;
            let kind = way.label();
            let is_last = pause.is_none();
            match result {
                Ok(()) => {
                    metrics.reloaded(way, true);
                    tracing::info!(kind, "application told of the change");
                    continue;
                }
                // It reads the new files when it starts.
                Err(ReloadError::NoProcess) if !is_last => {}
                Err(error) if is_last => {
                    metrics.reloaded(way, false);
                    tracing::error!(kind, %error, "cannot tell the application of the change");
                }
                Err(error) => {
                    metrics.reloaded(way, false);
                    tracing::debug!(kind, %error, "telling the application again");
                }
            }
            failed.push(way);
        }
        left = failed;
        match pause {
            Some(pause) if !left.is_empty() => host.sleep(pause).await,
            _ => break,
        }
    }
    left.is_empty()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use keeper_contract::reload::{SignalName, Target};
    use prometheus::Registry;
    use tokio::time::Instant;

    use super::*;
    use crate::host::Node;

    const SIGNAL: &str = Way::SIGNAL;
    const URL: &str = Way::URL;

    fn signal() -> Way {
        Way::Signal(Signal {
            name: SignalName::Hup,
            target: Target::Containers(vec!["app".into()]),
        })
    }

    fn url() -> Way {
        Way::Url("http://localhost:8080/".parse().unwrap())
    }

    /// A pod whose application has these deaf moments, and when it was asked.
    struct Pod {
        _volume: tempfile::TempDir,
        store: Store,
        registry: Registry,
        metrics: Metrics,
        published: watch::Sender<Generations>,
        deaf: RefCell<Vec<&'static str>>,
        asked: RefCell<Vec<(&'static str, u64)>>,
        began: Instant,
    }

    impl Pod {
        fn new(deaf: Vec<&'static str>) -> Self {
            let volume = tempfile::tempdir().unwrap();
            let registry = Registry::new();
            Self {
                store: Store::open(volume.path()).unwrap(),
                metrics: Metrics::register(&registry).unwrap(),
                registry,
                _volume: volume,
                published: watch::Sender::new(vec!["..1".into()]),
                deaf: RefCell::new(deaf),
                asked: RefCell::default(),
                began: Instant::now(),
            }
        }

        /// Lives for so many seconds.
        async fn live<const N: usize>(&self, ways: [Way; N], seconds: u64) {
            let tell = async |way: &Way| {
                let kind = way.label();
                let at = self.began.elapsed().as_secs();
                self.asked.borrow_mut().push((kind, at));
                let mut deaf = self.deaf.borrow_mut();
                match deaf.iter().position(|one| *one == kind) {
                    Some(at) => {
                        deaf.remove(at);
                        Err(SignalError::NotPermitted(7).into())
                    }
                    None => Ok(()),
                }
            };
            let published = self.published.subscribe();
            let node = Node;
            let telling = notify(&node, &ways, tell, &self.store, &self.metrics, published);
            let over = tokio::time::sleep(Duration::from_secs(seconds));
            tokio::select! { _ = telling => {}, () = over => {} }
        }

        fn publish(&self, generation: &str) {
            self.published.send_replace(vec![generation.into()]);
        }

        fn asked(&self) -> Vec<u64> {
            self.asked.borrow().iter().map(|(_, at)| *at).collect()
        }

        fn count(&self, kind: &str, result: &str) -> u64 {
            let text = prometheus::TextEncoder::new()
                .encode_to_string(&self.registry.gather())
                .unwrap();
            let name =
                format!("keeper_sidecar_reloads_total{{kind=\"{kind}\",result=\"{result}\"}} ");
            text.lines()
                .find_map(|line| line.strip_prefix(&name))
                .unwrap()
                .parse()
                .unwrap()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_told_once_and_not_again_by_the_next_process() {
        let pod = Pod::new(Vec::new());
        pod.live([signal()], 60).await;
        assert_eq!(pod.asked(), [1]);
        pod.live([signal()], 60).await;
        assert_eq!(pod.asked(), [1]);
        assert_eq!(pod.count(SIGNAL, "ok"), 1);
        assert_eq!(pod.count(URL, "ok"), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_that_nobody_was_told_of_is_told_by_the_next_process() {
        let pod = Pod::new(Vec::new());
        pod.live([url()], 0).await;
        assert_eq!(pod.asked(), [0; 0]);
        pod.live([url()], 10).await;
        assert_eq!(pod.asked().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn changes_that_follow_each_other_are_one() {
        let pod = Pod::new(Vec::new());
        let changes = async {
            for generation in ["..2", "..3", "..4"] {
                tokio::time::sleep(Duration::from_millis(800)).await;
                pod.publish(generation);
            }
            std::future::pending::<()>().await;
        };
        tokio::select! { () = pod.live([signal()], 20) => {}, () = changes => {} }
        assert_eq!(pod.asked(), [3]);
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_way_that_failed_is_tried_again() {
        let pod = Pod::new(vec![URL, URL]);
        pod.live([signal(), url()], 60).await;
        assert_eq!(
            *pod.asked.borrow(),
            [(SIGNAL, 1), (URL, 1), (URL, 2), (URL, 4)]
        );
        assert_eq!((pod.count(URL, "failed"), pod.count(URL, "ok")), (2, 1));
        assert_eq!(
            (pod.count(SIGNAL, "failed"), pod.count(SIGNAL, "ok")),
            (0, 1)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_deaf_application_is_given_up_until_the_next_change_or_process() {
        let pod = Pod::new(vec![SIGNAL; 6]);
        let change = async {
            tokio::time::sleep(Duration::from_secs(100)).await;
            assert_eq!(pod.asked(), [1, 2, 4, 8, 16, 32]);
            assert_eq!(pod.store.told(), None);
            pod.publish("..2");
            std::future::pending::<()>().await;
        };
        tokio::select! { () = pod.live([signal()], 120) => {}, () = change => {} }
        assert_eq!(pod.asked().last(), Some(&101));
        assert_eq!(pod.count(SIGNAL, "failed"), 6);
        assert_eq!(pod.store.told(), Some(vec!["..2".into()]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_ends_the_attempts_for_the_one_before() {
        let pod = Pod::new(vec![SIGNAL; 4]);
        let change = async {
            tokio::time::sleep(Duration::from_secs(10)).await;
            pod.publish("..2");
            std::future::pending::<()>().await;
        };
        tokio::select! { () = pod.live([signal()], 60) => {}, () = change => {} }
        // Without it the fifth attempt would be at 16 s.
        assert_eq!(pod.asked(), [1, 2, 4, 8, 11]);
    }
}
