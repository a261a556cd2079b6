//! When to refresh, and what each result means for the pod: the part that init and sidecar share.
//!
//! Before the first publication a failure that waiting can't cure ends the process, so that the kubelet shows
//! its message. After it nothing does: what is published stays, and the next slot is tried.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use serde::Serialize;
use tokio::sync::{Notify, watch};

use crate::agent::{Agent, Refresh};
use crate::environment::Pod;
use crate::failure::{self, Failure, Reason};
use crate::host::{Host, Node};
use crate::metrics::Metrics;
use crate::reload::{Application, Generations, tell_of_changes};
use crate::schedule::{Due, Grid, KeeperTime, Schedule};
use crate::state::{Asked, Fatal, Outcome, REQUEST, State, Store, Success, node_millis};
use crate::text;

/// When the files that a publication replaced are removed: a reader may be between looking up a path and
/// opening it.
const LEFTOVERS_AFTER: Duration = Duration::from_secs(5);
/// Longest sleep without a look at the uptime: the machine may be suspended in it.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
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
    host: Arc<H>,
    agent: Agent,
    store: Arc<Store>,
    state: State,
    /// What stands in the store.
    saved: State,
    schedule: Schedule,
    metrics: Metrics,
    last_success: Option<Success>,
    last_failure: String,
    /// Whether the next call was put off for Keeper's sake, and must not be made earlier.
    backing_off: bool,
    /// When the replaced files go, by the host's uptime.
    leftovers_at: Option<Duration>,
    /// Tells the two below, from the first wait on. Ending it takes the kernel up to 16 ms, more than a first call that succeeds.
    watcher: Option<RecommendedWatcher>,
    config_changed: Arc<Notify>,
    /// Somebody asks for a refresh.
    asked: Arc<Notify>,
    /// Who is told of changes, if somebody is.
    application: Option<Arc<Application>>,
    /// What is published, once the application may have started.
    published: watch::Sender<Generations>,
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
        let (state, last_success) = store.take_up(&host);
        let interval = Duration::from_secs(agent.config().refresh_interval_seconds.into());
        let refreshes = agent.config().selects_anything();
        metrics.set_interval(refreshes.then_some(interval));
        let reload = agent.config().reload.clone();
        let mut runner = Self {
            application: reload.map(|reload| Arc::new(Application::new(reload, &pod.uid))),
            published: watch::Sender::default(),
            host: Arc::new(host),
            schedule: Schedule::new(grid, interval, &pod.uid),
            last_success,
            last_failure: "nothing has failed so far".to_owned(),
            // What an earlier process planned, it may have put off.
            backing_off: state.next_call.is_some(),
            leftovers_at: None,
            watcher: None,
            config_changed: Arc::new(Notify::new()),
            asked: Arc::new(Notify::new()),
            saved: state.clone(),
            state,
            store: Arc::new(store),
            metrics,
            agent,
        };
        runner.agent.recall(&runner.state);
        if runner.state.complete && !runner.agent.is_published() {
            // Somebody emptied the volume. The files come back, but this is no first try.
            runner.state.complete = false;
            runner.state.tries = 1;
        }
        if let Some(success) = runner.last_success {
            runner.metrics.succeeded(success.at);
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
    pub async fn run(&mut self, observe: impl FnMut(Standing)) -> Result<(), Exit> {
        let Some(application) = self.application.clone() else {
            return self.refresh_for_ever(observe).await;
        };
        let (host, store) = (Arc::clone(&self.host), Arc::clone(&self.store));
        let metrics = self.metrics.clone();
        let published = self.published.subscribe();
        if self.is_released() {
            self.published.send_replace(self.agent.generations());
        }
        tokio::select! {
            ended = self.refresh_for_ever(observe) => ended,
            never = tell_of_changes(&*host, &application, &store, &metrics, published) => match never {},
        }
    }

    async fn refresh_for_ever(&mut self, mut observe: impl FnMut(Standing)) -> Result<(), Exit> {
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
        let good_for = Duration::from_secs(self.agent.config().cache_seconds);
        let is_stale = self.state.is_stale(self.age(), good_for);
        match (self.state.complete, is_stale) {
            (false, _) => Standing::Pending,
            (true, false) => Standing::Good,
            (true, true) => Standing::Stale,
        }
    }

    /// Time since the last success, if there was one.
    fn age(&self) -> Option<Duration> {
        self.last_success?.age(&*self.host)
    }

    /// The slot of this process's first call; none: at once, or, for a pod that needs nothing any more, never.
    fn first_call(&self) -> Plan {
        if self.state.is_first_try() {
            let may_be_one_of_many = self.agent.config().runs_to_completion;
            let slot = self.schedule.first(self.now(), self.host.random());
            return slot
                .filter(|_| may_be_one_of_many)
                .map_or(Plan::AtOnce, Plan::At);
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

    /// The next regular refresh. A pod that selects nothing has authenticated, which was all that it wanted.
    fn regular(&self) -> Plan {
        if self.agent.config().selects_anything() {
            Plan::At(self.schedule.regular(self.now()))
        } else {
            Plan::Never
        }
    }

    /// Waits until a call is due, or the host's uptime reaches `deadline`.
    async fn wait_for(&mut self, plan: Plan, deadline: Duration) -> Waited {
        let mut planned = match plan {
            Plan::AtOnce => {
                // Nobody watches yet: the next wait looks whether the config has changed since.
                self.config_changed.notify_one();
                return Waited::Due;
            }
            Plan::Never => None,
            Plan::At(planned) => Some(planned),
        };
        if self.watcher.is_none() {
            self.watcher = self.watch();
        }
        let config_changed = Arc::clone(&self.config_changed);
        let asked = Arc::clone(&self.asked);
        loop {
            if self.store.is_requested() {
                planned = Some(self.take_request(planned));
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
                () = asked.notified() => {}
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

    /// The slot of the next call, where somebody asks for a refresh: in the next frame, but never before one that was
    /// put off for Keeper's sake.
    fn take_request(&mut self, planned: Option<KeeperTime>) -> KeeperTime {
        let soon = self.schedule.retry(self.now(), 1, None, self.host.random());
        let planned = match planned {
            Some(planned) if self.backing_off => planned,
            Some(planned) => planned.min(soon),
            None => soon,
        };
        self.state.next_call = Some(planned);
        self.state.asked = Some(Asked {
            planned,
            outcome: None,
        });
        // Whoever asks looks at the state once the request is gone.
        self.save();
        match self.store.take_request() {
            Ok(()) => tracing::info!("a refresh was asked for, doing it in the next allowed frame"),
            Err(error) => tracing::debug!(%error, "the request for a refresh cannot be removed"),
        }
        planned
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
        let was_released = self.is_released();
        let began = self.host.uptime();
        let fail_on_error = self.agent.config().fail_on_error;
        let may_be_partial = !first || !fail_on_error;
        let refresh = self
            .agent
            .refresh(&mut self.state.clock, may_be_partial, &*self.host)
            .await;
        self.agent.note(&mut self.state);
        let message = failure::message(&refresh.failures);
        if let Some(asked) = &mut self.state.asked
            && asked.outcome.is_none()
        {
            asked.outcome = Some(Outcome {
                changed: refresh.changed,
                error: (!refresh.is_complete()).then(|| message.clone()),
            });
        }
        if refresh.changed > 0 {
            self.leftovers_at = Some(self.host.uptime().saturating_add(LEFTOVERS_AFTER));
        }
        if self.application.is_some() && was_released {
            let generations = self.agent.generations();
            self.published.send_if_modified(|known| {
                let is_new = *known != generations;
                *known = generations;
                is_new
            });
        } else if self.application.is_some()
            && let Err(error) = self.store.note_told(&self.agent.generations())
        {
            // The application starts with these.
            tracing::warn!(%error, "that the application was told cannot be kept");
        }
        if refresh.is_complete() {
            let took = self.host.uptime().saturating_sub(began);
            self.succeeded(&refresh, took);
            return Ok(self.regular());
        }
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
        let now = Success::now(&*self.host);
        if refresh.changed > 0 {
            let duration = text::duration(took);
            tracing::info!(count = refresh.changed, duration, "secrets updated");
        } else {
            tracing::debug!("secrets unchanged");
        }
        self.last_success = Some(now);
        self.metrics.succeeded(now.at);
        self.backing_off = false;
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
        self.backing_off = false;
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
            let throttled = |f: &Failure| f.reason() == Reason::Throttled;
            if refresh.failures.iter().any(throttled) {
                self.schedule.move_away(self.host.random());
            }
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
            self.backing_off = true;
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
        self.state.clock.at(self.host.uptime())
    }

    /// Keeps the state if it has changed. That it can't be kept is no reason to stop.
    fn save(&mut self) {
        // What answers tell of the clock moves it a little: no reason to write in a refresh without a change.
        let clock = self.saved.clock;
        if self.state.clock.is_near(&clock) {
            self.saved.clock = self.state.clock;
        }
        let same = self.saved == self.state;
        self.saved.clock = clock;
        if same {
            return;
        }
        match self.store.save(&self.state) {
            Ok(()) => self.saved = self.state.clone(),
            Err(error) => tracing::warn!(%error, "the state of this pod cannot be kept"),
        }
    }

    /// Watches the directory of the mounted config, as a watch on the file itself would end with its first
    /// replacement, and our own for requests. Without a watch both are still seen, later.
    fn watch(&self) -> Option<RecommendedWatcher> {
        let (config_changed, asked) = (Arc::clone(&self.config_changed), Arc::clone(&self.asked));
        let config = self.agent.config_file().parent().unwrap_or(Path::new("/"));
        let state = self.store.path();
        let (request, ours): (PathBuf, PathBuf) = (state.join(REQUEST), state.to_owned());
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Our own reading must not wake us.
            let Some(event) = event.ok().filter(|event| !event.kind.is_access()) else {
                return;
            };
            if event.paths.contains(&request) {
                asked.notify_one();
            } else if !event.paths.iter().all(|path| path.starts_with(&ours)) {
                config_changed.notify_one();
            }
        });
        let watched = watcher.and_then(|mut watcher| {
            watcher.watch(config, RecursiveMode::NonRecursive)?;
            watcher.watch(state, RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        watched
            .inspect_err(|error| tracing::debug!(%error, "config and requests are not watched"))
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
