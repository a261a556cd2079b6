//! Many pods of one client id under Keeper's throttle rule, in virtual time, with the agent's own schedule.

#![expect(clippy::indexing_slicing, reason = "tests fail by panicking")]
#![expect(clippy::print_stdout, reason = "how long it took is worth seeing")]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use keeper_agent::schedule::{Due, Grid, KeeperClock, KeeperTime, Schedule};
use keeper_sim::throttle::Throttle;

/// When the simulated day begins on Keeper's clock.
const BEGIN_MS: i64 = 1_763_712_000_000;

/// A day in the life of a fleet.
struct Fleet {
    pods: u32,
    /// The pods start in the first so many milliseconds.
    start_within_ms: u64,
    /// The clocks of the nodes are off by up to so much, in either direction.
    clocks_off_by_ms: u64,
    /// Whether the hook's limit restarts containers, with the kubelet's back-off.
    restarts: bool,
    minutes: i64,
}

struct Outcome {
    /// When the last pod had its secrets, in seconds after the beginning.
    last_first_success: i64,
    throttled: u32,
    /// When the last call was throttled, in seconds after the beginning.
    last_throttled: i64,
    refreshes: u32,
}

struct Pod {
    schedule: Schedule,
    clock: KeeperClock,
    /// The node's clock is ahead of Keeper's by this.
    node_ahead_ms: i64,
    tries: u32,
    published: bool,
    /// Restarts so far, and when this container's life ends, on Keeper's clock.
    restarts: u32,
    dies_at_ms: i64,
}

impl Pod {
    fn node_time(&self, now_ms: i64) -> SystemTime {
        let ms = u64::try_from(now_ms + self.node_ahead_ms).unwrap_or(0);
        UNIX_EPOCH + Duration::from_millis(ms)
    }

    /// The pod's idea of Keeper's time.
    fn now(&self, now_ms: i64) -> KeeperTime {
        self.clock.at(self.node_time(now_ms))
    }
}

/// xorshift: a fixed seed makes each run the same.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: u64) -> i64 {
        i64::try_from(self.next() % bound.max(1)).unwrap_or(0)
    }
}

impl Fleet {
    fn run(&self, seed: u64) -> Outcome {
        let mut random = Random(seed);
        let mut throttle = Throttle::default();
        let mut outcome = Outcome {
            last_first_success: -1,
            throttled: 0,
            last_throttled: 0,
            refreshes: 0,
        };
        let interval = Duration::from_secs(300);
        let mut pods = Vec::new();
        // Each event is a pod's look at its planned call; none is planned for the first try.
        let mut events = BinaryHeap::new();
        for index in 0..self.pods {
            let uid = format!("{:016x}-{index}", random.next());
            let start = BEGIN_MS + random.below(self.start_within_ms);
            let off = i64::try_from(self.clocks_off_by_ms).unwrap_or(0);
            pods.push(Pod {
                schedule: Schedule::new(Grid::STANDARD, interval, &uid),
                clock: KeeperClock::default(),
                node_ahead_ms: random.below(2 * self.clocks_off_by_ms + 1) - off,
                tries: 0,
                published: false,
                restarts: 0,
                dies_at_ms: start + 30_000,
            });
            events.push(Reverse((start, index, None::<KeeperTime>)));
        }
        while let Some(Reverse((now_ms, index, planned))) = events.pop() {
            if now_ms > BEGIN_MS + self.minutes * 60_000 {
                break;
            }
            let pod = &mut pods[index as usize];
            // The hook's limit ended the container; the kubelet waits, twice as long each time.
            if self.restarts && !pod.published && now_ms > pod.dies_at_ms {
                let back_off = 10_000 << pod.restarts.min(4);
                pod.restarts += 1;
                let again = pod.dies_at_ms + back_off;
                pod.dies_at_ms = again + 30_000;
                events.push(Reverse((again.max(now_ms), index, planned)));
                continue;
            }
            if let Some(planned) = planned {
                match pod.schedule.due(planned, pod.now(now_ms)) {
                    Due::Now => {}
                    Due::In(wait) => {
                        let at = now_ms + i64::try_from(wait.as_millis()).unwrap_or(0);
                        let at = if self.restarts && !pod.published && at > pod.dies_at_ms {
                            pod.dies_at_ms + 1
                        } else {
                            at
                        };
                        events.push(Reverse((at, index, Some(planned))));
                        continue;
                    }
                    Due::Missed => {
                        let again =
                            pod.schedule
                                .catch_up(pod.now(now_ms), pod.published, random.next());
                        events.push(Reverse((now_ms, index, Some(again))));
                        continue;
                    }
                }
            }
            // The call takes 20 to 120 ms to come in, and as long to be answered.
            let way = 20 + random.below(100);
            let arrives_ms = now_ms + way;
            let arrives = u64::try_from(arrives_ms).unwrap_or(0);
            let allowed = throttle.allow("client", "get_secret", arrives);
            let answered_ms = arrives_ms + way;
            let date_ms = arrives_ms - arrives_ms % 1_000;
            let date = UNIX_EPOCH + Duration::from_millis(u64::try_from(date_ms).unwrap_or(0));
            let ours = pod.node_time(answered_ms);
            let took = Duration::from_millis(u64::try_from(2 * way).unwrap_or(0));
            pod.clock.observe(date, ours, took);
            outcome.refreshes += u32::from(pod.published);
            let now = pod.now(answered_ms);
            let next = if allowed {
                if !pod.published {
                    pod.published = true;
                    outcome.last_first_success = (answered_ms - BEGIN_MS) / 1_000;
                }
                pod.tries = 0;
                pod.schedule.regular(now)
            } else {
                outcome.throttled += 1;
                outcome.last_throttled = (answered_ms - BEGIN_MS) / 1_000;
                pod.tries += 1;
                pod.schedule.retry(now, pod.tries, None, random.next())
            };
            events.push(Reverse((answered_ms, index, Some(next))));
        }
        let without = pods.iter().filter(|pod| !pod.published).count();
        assert_eq!(
            without, 0,
            "pods without secrets after {} min",
            self.minutes
        );
        outcome
    }
}

#[test]
fn a_hundred_and_fifty_pods_at_once_all_get_their_secrets() {
    for (start_within_ms, restarts) in [
        (1_000, false),
        (1_000, true),
        (30_000, false),
        (30_000, true),
    ] {
        let (mut last, mut calm) = (0, 0);
        for seed in 1..=20 {
            let outcome = Fleet {
                pods: 150,
                start_within_ms,
                clocks_off_by_ms: 60_000,
                restarts,
                minutes: 120,
            }
            .run(seed);
            last = last.max(outcome.last_first_success);
            calm = calm.max(outcome.last_throttled);
            // A refresh each five minutes for two hours, but for the beginning.
            assert!(outcome.refreshes >= 150 * 22, "{}", outcome.refreshes);
        }
        println!(
            "150 pods started within {} s{}: the last has its secrets after {last} s, no call is throttled after {calm} s \
             (worst of 20 runs)",
            start_within_ms / 1_000,
            with(restarts),
        );
        assert!(last <= 180 && calm <= 180, "{last} {calm}");
    }
}

#[test]
fn a_thousand_pods_are_served_in_minutes_and_then_never_throttled() {
    for (restarts, most) in [(false, 15 * 60), (true, 20 * 60)] {
        let (mut last, mut calm, mut calls) = (0, 0, 0);
        for seed in 1..=5 {
            let outcome = Fleet {
                pods: 1_000,
                start_within_ms: 30_000,
                clocks_off_by_ms: 60_000,
                restarts,
                minutes: 180,
            }
            .run(seed);
            last = last.max(outcome.last_first_success);
            calm = calm.max(outcome.last_throttled);
            calls = calls.max(outcome.throttled);
        }
        println!(
            "1000 pods started within 30 s{}: the last has its secrets after {last} s, no call is throttled after {calm} s, \
             {calls} were before (worst of 5 runs)",
            with(restarts),
        );
        assert!(last <= most && calm <= most, "{last} {calm}");
    }
}

fn with(restarts: bool) -> &'static str {
    if restarts {
        ", restarted by the hook's limit"
    } else {
        ""
    }
}
