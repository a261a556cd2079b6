//! When to refresh, and what each result means for the pod: the part that init and sidecar share.
//!
//! Before the first publication a failure that waiting can't cure ends the process, so that the kubelet shows
//! its message. After it nothing does: what is published stays, and the next slot is tried.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use notify::{RecursiveMode, Watcher as _};
use tokio::sync::Notify;

use crate::agent::{Agent, Refresh};
use crate::environment::Pod;
use crate::failure::{self, Failure, Reason};
use crate::host::{Host, Node};
use crate::metrics::Metrics;
use crate::schedule::{Due, Grid, KeeperTime, Schedule};
use crate::state::{Fatal, State, Store, node_millis};
use crate::text;

/// When the files that a publication replaced are removed: a reader may be between looking up a path and
/// opening it.
const LEFTOVERS_AFTER: Duration = Duration::from_secs(5);
/// Longest sleep without a look at the clock, which may have been put forward or back.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// A clock that is behind the uptime by more than this was put back. Less than that is a clock being steered.
const PUT_BACK: Duration = Duration::from_secs(1);
/// Frames among which a call is made after the mounted config has changed: a fleet sees that together.
const CONFIG_FRAMES_TRIES: u32 = 2;

/// Why the process ends without having published everything.
#[derive(Debug, thiserror::Error)]
pub enum Exit {
    /// Waiting can't cure it.
    #[error("{0}")]
    Permanent(String),
    /// The time for the first fetch is over.
    #[error("no secrets after {}: {last}", text::duration(*after))]
    GaveUp {
        /// How long was tried.
        after: Duration,
        /// The last failure.
        last: String,
    },
    /// SIGTERM came before the first publication.
    #[error("ended before the first publication: {0}")]
    Terminated(String),
}

/// How a pod stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Not everything has been published yet.
    Pending,
    /// Everything is published and counts as good.
    Good,
    /// Everything is published, but for too long without a word of Keeper, or Keeper denies access.
    Stale,
}

/// Refreshes one pod's secrets in its slots.
pub struct Runner<H = Node> {
    host: H,
    agent: Agent,
    store: Store,
    state: State,
    /// What stands in the store.
    saved: State,
    schedule: Schedule,
    metrics: Metrics,
    last_success: Option<SystemTime>,
    last_failure: String,
    /// When the replaced files go, by the host's uptime.
    leftovers_at: Option<Duration>,
    config_changed: Arc<Notify>,
}

impl<H: Host> Runner<H> {
    /// Takes up where the last process of this pod left off.
    #[must_use]
    pub fn new(
        host: H,
        agent: Agent,
        store: Store,
        pod: &Pod,
        grid: Grid,
        metrics: Metrics,
    ) -> Self {
        let state = store.load();
        let interval = Duration::from_secs(agent.config().refresh_interval_seconds.into());
        let refreshes = !agent.config().outputs.is_empty();
        metrics.set_interval(refreshes.then_some(interval));
        let mut runner = Self {
            host,
            schedule: Schedule::new(grid, interval, &pod.uid),
            last_success: store.last_success(),
            last_failure: "nothing has failed so far".to_owned(),
            leftovers_at: None,
            config_changed: Arc::new(Notify::new()),
            saved: state.clone(),
            state,
            store,
            metrics,
            agent,
        };
        runner.agent.set_pins(runner.state.pins.clone());
        if runner.state.complete && !runner.agent.is_published() {
            // Somebody emptied the volume. The files come back, but this is no first try.
            runner.state.complete = false;
            runner.state.tries = 1;
        }
        if let Some(at) = runner.last_success {
            runner.metrics.succeeded(at);
        }
        runner
    }

    /// Whether the application may start.
    #[must_use]
    pub fn is_released(&self) -> bool {
        self.state.is_released()
    }

    /// Fetches until everything is published, or the pod may start without it.
    ///
    /// # Errors
    /// A failure that waiting can't cure, or the end of `limit`.
    pub async fn first_fetch(&mut self, limit: Duration) -> Result<(), Exit> {
        let deadline = self.host.uptime().saturating_add(limit);
        let mut plan = self.first_call();
        while !self.is_released() {
            if self.wait_for(plan, deadline).await == Waited::TooLong {
                let last = self.last_failure.clone();
                return Err(Exit::GaveUp { after: limit, last });
            }
            plan = self.refresh().await?;
        }
        Ok(())
    }

    /// Refreshes for ever. Tells `observe` how the pod stands, at first and after each refresh.
    ///
    /// # Errors
    /// Before the first publication, a failure that waiting can't cure.
    pub async fn run(&mut self, mut observe: impl FnMut(Standing)) -> Result<(), Exit> {
        let _watcher = self.watch_config();
        let mut plan = self.first_call();
        loop {
            let standing = self.standing();
            self.metrics.set_stale(standing == Standing::Stale);
            observe(standing);
            self.wait_for(plan, Duration::MAX).await;
            plan = self.refresh().await?;
        }
    }

    /// What a SIGTERM means now: a failure as long as the application must not start.
    ///
    /// # Errors
    /// [`Exit::Terminated`].
    pub fn terminated(&self) -> Result<(), Exit> {
        if self.is_released() {
            Ok(())
        } else {
            Err(Exit::Terminated(self.last_failure.clone()))
        }
    }

    fn standing(&self) -> Standing {
        match (self.state.complete, self.is_stale()) {
            (false, _) => Standing::Pending,
            (true, false) => Standing::Good,
            (true, true) => Standing::Stale,
        }
    }

    /// Whether what is published no longer counts as good: the last call failed, and the last success is too long ago.
    fn is_stale(&self) -> bool {
        let good_for = Duration::from_secs(self.agent.config().cache_seconds);
        let failing = self.state.tries > 0;
        failing && (self.state.denied || self.age().is_some_and(|age| age > good_for))
    }

    /// Time since the last success, if there was one.
    fn age(&self) -> Option<Duration> {
        self.host.now().duration_since(self.last_success?).ok()
    }

    /// The slot of this process's first call; none: at once, or, for a pod that needs nothing any more, never.
    fn first_call(&self) -> Plan {
        if self.state.is_first_try() {
            return Plan::AtOnce;
        }
        match self.state.next_call {
            Some(planned) => Plan::At(planned),
            None if self.state.complete => self.regular(),
            None => Plan::At(
                self.schedule
                    .catch_up(self.now(), false, self.host.random()),
            ),
        }
    }

    /// The next regular refresh. A pod without outputs has authenticated, which was all that it wanted.
    fn regular(&self) -> Plan {
        if self.agent.config().outputs.is_empty() {
            Plan::Never
        } else {
            Plan::At(self.schedule.regular(self.now()))
        }
    }

    /// Waits until a call is due, or the host's uptime reaches `deadline`.
    async fn wait_for(&mut self, plan: Plan, deadline: Duration) -> Waited {
        let mut planned = match plan {
            Plan::AtOnce => return Waited::Due,
            Plan::Never => None,
            Plan::At(planned) => Some(planned),
        };
        let config_changed = Arc::clone(&self.config_changed);
        let (began, began_uptime) = (self.now(), self.host.uptime());
        loop {
            // Or a clock that is put back by an hour is an hour without a refresh. One that is put forward may be
            // right: the node may have slept.
            let elapsed = self.host.uptime().saturating_sub(began_uptime);
            let step = began.plus(elapsed).since(self.now());
            if step > PUT_BACK {
                self.state.clock.put_back(step);
                self.save();
            }
            let mut sleep = match planned.map(|planned| self.schedule.due(planned, self.now())) {
                Some(Due::Now) => return Waited::Due,
                Some(Due::Missed) => {
                    let random = self.host.random();
                    let again = self
                        .schedule
                        .catch_up(self.now(), self.state.complete, random);
                    tracing::debug!("the slot of the next call has passed, taking another");
                    planned = Some(again);
                    continue;
                }
                Some(Due::In(wait)) => wait.min(LONGEST_SLEEP),
                None => LONGEST_SLEEP,
            };
            let uptime = self.host.uptime();
            if uptime >= deadline {
                return Waited::TooLong;
            }
            sleep = sleep.min(deadline.saturating_sub(uptime));
            if let Some(at) = self.leftovers_at {
                let left = at.saturating_sub(uptime);
                if left.is_zero() {
                    self.leftovers_at = None;
                    self.agent.remove_leftovers();
                } else {
                    sleep = sleep.min(left);
                }
            }
            tokio::select! {
                () = self.host.sleep(sleep) => {}
                () = config_changed.notified() => {
                    if planned.is_some() && self.agent.config_has_changed() {
                        tracing::info!("the device config has changed, using it in one of the next frames");
                        let soon = self.schedule.retry(self.now(), CONFIG_FRAMES_TRIES, None, self.host.random());
                        planned = planned.min(Some(soon));
                    }
                }
            }
        }
    }

    /// One refresh and its consequences; when the next one is due.
    async fn refresh(&mut self) -> Result<Plan, Exit> {
        let first = !self.state.complete;
        if first {
            // Whatever happens in the call, the next process must not take its own for the first.
            self.state.tries = self.state.tries.saturating_add(1);
            self.state.fatal = None;
            self.state.next_call = Some(self.retry(None));
            self.save();
        }
        let began = self.host.uptime();
        let fail_on_error = self.agent.config().fail_on_error;
        let may_be_partial = !first || !fail_on_error;
        let refresh = self
            .agent
            .refresh(&mut self.state.clock, may_be_partial, &self.host)
            .await;
        self.agent.pins().clone_into(&mut self.state.pins);
        if refresh.changed > 0 {
            self.leftovers_at = Some(self.host.uptime().saturating_add(LEFTOVERS_AFTER));
        }
        if refresh.is_complete() {
            let took = self.host.uptime().saturating_sub(began);
            self.succeeded(&refresh, took);
            return Ok(self.regular());
        }
        let message = failure::message(&refresh.failures);
        let next = self.failed(&refresh, &message, first);
        self.state.next_call = Some(next);
        let permanent = refresh
            .failures
            .iter()
            .any(|failure| !failure.is_retryable());
        if first && !fail_on_error {
            self.state.failed_open = true;
        }
        if first && fail_on_error && permanent {
            let at_ms = node_millis(self.host.now());
            self.state.fatal = Some(Fatal {
                message: message.clone(),
                at_ms,
            });
            self.save();
            return Err(Exit::Permanent(message));
        }
        self.save();
        Ok(Plan::At(next))
    }

    fn succeeded(&mut self, refresh: &Refresh, took: Duration) {
        let now = self.host.now();
        if refresh.changed > 0 {
            let duration = text::duration(took);
            tracing::info!(count = refresh.changed, duration, "secrets updated");
        } else {
            tracing::debug!("secrets unchanged");
        }
        self.last_success = Some(now);
        self.metrics.succeeded(now);
        self.state.denied = false;
        self.state.tries = 0;
        self.state.next_call = None;
        self.state.complete = true;
        self.save();
        if let Err(error) = self.store.note_success(now) {
            tracing::warn!(%error, "the time of this success cannot be kept");
        }
    }

    /// Logs a refresh that did not bring everything, and plans the next.
    fn failed(&mut self, refresh: &Refresh, message: &str, first: bool) -> KeeperTime {
        if refresh.answered && !first {
            // Keeper is there: what is missing in the vault must not put off the retries of the next outage.
            self.state.tries = 0;
        }
        if refresh.failures.is_empty() {
            tracing::info!("a record is gone from keeper's answer, asking for all records next");
            return self.schedule.retry(self.now(), 1, None, self.host.random());
        }
        tracing::error!(error = message, "failed to fetch secrets");
        message.clone_into(&mut self.last_failure);
        if !first {
            self.state.tries = self.state.tries.saturating_add(1);
            let denies = |f: &Failure| f.reason() == Reason::Denied;
            // An outage says nothing about access: what Keeper said last still stands.
            self.state.denied =
                refresh.failures.iter().any(denies) || self.state.denied && !refresh.answered;
            let age = self
                .age()
                .map_or_else(|| "unknown".to_owned(), text::duration);
            let reason = refresh.failures.first().map(|f| f.reason().label());
            tracing::warn!(age, reason, "using cached secrets");
        }
        if refresh.ask_again {
            self.schedule.retry(self.now(), 1, None, self.host.random())
        } else if refresh.answered && !first {
            // Keeper is there: what is missing in the vault is no reason to refresh the rest less often.
            self.schedule.regular(self.now())
        } else {
            self.retry(refresh.failures.iter().find_map(Failure::retry_after))
        }
    }

    fn retry(&self, retry_after: Option<Duration>) -> KeeperTime {
        self.schedule.retry(
            self.now(),
            self.state.tries,
            retry_after,
            self.host.random(),
        )
    }

    fn now(&self) -> KeeperTime {
        self.state.clock.at(self.host.now())
    }

    /// Keeps the state if it has changed. That it can't be kept is no reason to stop.
    fn save(&mut self) {
        if self.saved == self.state {
            return;
        }
        match self.store.save(&self.state) {
            Ok(()) => self.saved = self.state.clone(),
            Err(error) => tracing::warn!(%error, "the state of this pod cannot be kept"),
        }
    }

    /// Watches the directory of the mounted config: a watch on the file itself would end with its first
    /// replacement. Without a watch a change is still seen at the next call.
    fn watch_config(&self) -> Option<notify::RecommendedWatcher> {
        let changed = Arc::clone(&self.config_changed);
        let dir = self.agent.config_file().parent().unwrap_or(Path::new("/"));
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Our own reading must not wake us.
            if event.is_ok_and(|event| !event.kind.is_access()) {
                changed.notify_one();
            }
        });
        let watched = watcher.and_then(|mut watcher| {
            watcher.watch(dir, RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        watched
            .inspect_err(|error| tracing::debug!(%error, "the device config is not watched"))
            .ok()
    }
}

/// When the next call is due.
#[derive(Debug, Clone, Copy)]
enum Plan {
    AtOnce,
    At(KeeperTime),
    Never,
}

/// Why a wait is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waited {
    Due,
    TooLong,
}
