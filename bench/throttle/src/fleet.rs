//! A fleet: all pods that share one client id, as a discrete-event simulation.
//!
//! The service is keeper-sim's own throttle rule. Times are milliseconds on Keeper's clock.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use keeper_agent::schedule::KeeperTime;
use keeper_sim::throttle::Throttle;

use crate::pod::{Look, Pod, Policy, Shape};
use crate::random::Random;

/// When the simulated day begins.
const BEGIN_MS: i64 = 1_763_712_000_000;
/// What is called steady state begins so long after the beginning.
pub(crate) const STEADY_AFTER_MS: i64 = 3_600_000;
/// A call takes this long to come in, and a random time up to the second more; an answer takes as long.
const WAY_MS: (i64, i64) = (20, 100);

/// A fleet and what happens to it.
#[derive(Debug, Clone, Copy)]
pub struct Fleet {
    /// Pods at any time.
    pub pods: u32,
    /// How they choose the moments of their calls.
    pub policy: Policy,
    /// Who waits for the first secrets.
    pub shape: Shape,
    /// The first pods start at random within so many milliseconds.
    pub start_within_ms: i64,
    /// The nodes' clocks are off by up to so many milliseconds, in either direction.
    pub clocks_off_ms: i64,
    /// Each so many milliseconds a random pod is replaced by a new one.
    pub churn_ms: Option<i64>,
    /// How long it is watched.
    pub minutes: u32,
}

impl Fleet {
    /// A fleet of so many pods that start within 30 s, on clocks that are off by up to 1 s, watched for a day.
    #[must_use]
    pub fn new(pods: u32, policy: Policy) -> Self {
        Self {
            pods,
            policy,
            shape: Shape::Native,
            start_within_ms: 30_000,
            clocks_off_ms: 1_000,
            churn_ms: None,
            minutes: 24 * 60,
        }
    }

    /// Lets the time pass. The same seed gives the same outcome.
    #[must_use]
    pub fn run(&self, seed: u64) -> Outcome {
        Run::new(*self, seed).finish()
    }
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// When pods had their first secrets, in milliseconds after they were made, in the order of that moment.
    pub first_success_ms: Vec<i64>,
    /// Pods that had none at the end.
    pub without: u32,
    /// All throttled calls.
    pub throttled: u64,
    /// When the last call was throttled, in milliseconds after the beginning.
    pub last_throttled_ms: i64,
    /// What happened after the first hour.
    pub steady: Steady,
}

/// A fleet after its first hour.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Steady {
    /// Calls that Keeper was asked.
    pub calls: u64,
    /// Those of them that it refused.
    pub throttled: u64,
    /// The longest time that a pod was without a successful call, or without its first one.
    pub longest_without_ms: i64,
    /// Pods that were made since and have their secrets.
    pub served: u64,
    /// How long they waited for them, in all.
    pub waited_ms: i64,
    age: i128,
    pod_ms: i128,
}

impl Steady {
    /// Throttled calls in a hundred thousand.
    #[must_use]
    pub fn throttled_per_100_000(&self) -> u64 {
        (self.throttled * 100_000)
            .checked_div(self.calls)
            .unwrap_or(0)
    }

    /// The time since a pod's last success, on average over all pods and moments. A pod without any counts from
    /// its beginning.
    #[must_use]
    pub fn mean_age_ms(&self) -> i64 {
        let mean = self.age.checked_div(2 * self.pod_ms).unwrap_or(0);
        i64::try_from(mean).unwrap_or(i64::MAX)
    }

    /// A pod's secrets were known to be good at `fresh_ms`, and not again until `until_ms`.
    fn add(&mut self, fresh_ms: i64, until_ms: i64) {
        let from_ms = fresh_ms.max(BEGIN_MS + STEADY_AFTER_MS);
        if until_ms <= from_ms {
            return;
        }
        let (youngest, oldest) = (
            i128::from(from_ms - fresh_ms),
            i128::from(until_ms - fresh_ms),
        );
        self.age += oldest * oldest - youngest * youngest;
        self.pod_ms += oldest - youngest;
        self.longest_without_ms = self.longest_without_ms.max(until_ms - fresh_ms);
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A pod, the how many-th in its place, looks whether its planned call is due.
    Look(usize, u32, Option<KeeperTime>),
    /// Its call comes in, after so long.
    Arrival(usize, u32, i64),
    /// A pod is replaced.
    Replacement,
}

/// A place in the fleet, which pods take one after the other.
struct Place {
    pod: Pod,
    count: u32,
    made_ms: i64,
}

struct Run {
    fleet: Fleet,
    random: Random,
    throttle: Throttle,
    places: Vec<Place>,
    events: BinaryHeap<Reverse<(i64, Event)>>,
    outcome: Outcome,
    end_ms: i64,
}

impl Run {
    fn new(fleet: Fleet, seed: u64) -> Self {
        let mut run = Self {
            fleet,
            random: Random::new(seed),
            throttle: Throttle::default(),
            places: Vec::new(),
            events: BinaryHeap::new(),
            outcome: Outcome::default(),
            end_ms: BEGIN_MS + i64::from(fleet.minutes) * 60_000,
        };
        for _ in 0..fleet.pods {
            let start_ms = BEGIN_MS + run.random.below(fleet.start_within_ms);
            let place = Place {
                pod: run.pod(start_ms),
                count: 0,
                made_ms: start_ms,
            };
            run.plan(start_ms, Event::Look(run.places.len(), 0, None));
            run.places.push(place);
        }
        if let Some(churn_ms) = fleet.churn_ms {
            run.plan(
                BEGIN_MS + fleet.start_within_ms + churn_ms,
                Event::Replacement,
            );
        }
        run
    }

    fn pod(&mut self, now_ms: i64) -> Pod {
        let Fleet {
            policy,
            shape,
            clocks_off_ms,
            ..
        } = self.fleet;
        Pod::new(policy, shape, clocks_off_ms, now_ms, &mut self.random)
    }

    fn plan(&mut self, at_ms: i64, event: Event) {
        self.events.push(Reverse((at_ms, event)));
    }

    fn finish(mut self) -> Outcome {
        while let Some(Reverse((now_ms, event))) = self.events.pop() {
            if now_ms >= self.end_ms {
                break;
            }
            match event {
                Event::Look(place, count, planned) => self.look(now_ms, place, count, planned),
                Event::Arrival(place, count, way_ms) => self.arrival(now_ms, place, count, way_ms),
                Event::Replacement => self.replacement(now_ms),
            }
        }
        for place in &self.places {
            self.outcome.steady.add(place.pod.fresh_ms, self.end_ms);
            self.outcome.without += u32::from(!place.pod.published);
        }
        self.outcome
    }

    fn look(&mut self, now_ms: i64, index: usize, count: u32, planned: Option<KeeperTime>) {
        let Some(place) = self
            .places
            .get_mut(index)
            .filter(|place| place.count == count)
        else {
            return;
        };
        match place.pod.look(now_ms, planned, &mut self.random) {
            Look::Call => {
                let way_ms = WAY_MS.0 + self.random.below(WAY_MS.1);
                self.plan(now_ms + way_ms, Event::Arrival(index, count, way_ms));
            }
            Look::Later((at_ms, planned)) => self.plan(at_ms, Event::Look(index, count, planned)),
        }
    }

    fn arrival(&mut self, now_ms: i64, index: usize, count: u32, way_ms: i64) {
        let arrived = u64::try_from(now_ms).unwrap_or(0);
        let allowed = self.throttle.allow("client", "get_secret", arrived);
        if now_ms >= BEGIN_MS + STEADY_AFTER_MS {
            self.outcome.steady.calls += 1;
            self.outcome.steady.throttled += u64::from(!allowed);
        }
        if !allowed {
            self.outcome.throttled += 1;
            self.outcome.last_throttled_ms = now_ms - BEGIN_MS;
        }
        // The call of a pod that was replaced meanwhile has counted all the same.
        let Some(place) = self
            .places
            .get_mut(index)
            .filter(|place| place.count == count)
        else {
            return;
        };
        let answered_ms = now_ms + way_ms;
        if allowed {
            self.outcome.steady.add(place.pod.fresh_ms, answered_ms);
            if !place.pod.published {
                let waited_ms = answered_ms - place.made_ms;
                self.outcome.first_success_ms.push(waited_ms);
                if place.made_ms >= BEGIN_MS + STEADY_AFTER_MS {
                    self.outcome.steady.served += 1;
                    self.outcome.steady.waited_ms += waited_ms;
                }
            }
        }
        let date_ms = now_ms - now_ms % 1_000;
        let (at_ms, planned) =
            place
                .pod
                .answered(answered_ms, allowed, date_ms, 2 * way_ms, &mut self.random);
        self.plan(at_ms, Event::Look(index, count, planned));
    }

    fn replacement(&mut self, now_ms: i64) {
        let pods = i64::try_from(self.places.len()).unwrap_or(0);
        let index = usize::try_from(self.random.below(pods)).unwrap_or(0);
        let pod = self.pod(now_ms);
        if let Some(place) = self.places.get_mut(index) {
            self.outcome.steady.add(place.pod.fresh_ms, now_ms);
            place.pod = pod;
            place.count += 1;
            place.made_ms = now_ms;
            let first = Event::Look(index, place.count, None);
            self.plan(now_ms, first);
        }
        if let Some(churn_ms) = self.fleet.churn_ms {
            self.plan(now_ms + churn_ms, Event::Replacement);
        }
    }
}
