//! One pod: when it calls Keeper, by the agent's schedule or as programs on the official SDKs do.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use keeper_agent::schedule::{Due, Grid, KeeperClock, KeeperTime, Schedule};

use crate::random::Random;

/// Time between the regular calls of a pod.
pub(crate) const INTERVAL: Duration = Duration::from_secs(300);
/// The `postStart` hook ends a container that has no secrets after this time.
const HOOK_LIMIT_MS: i64 = 30_000;
/// The kubelet's first wait before it starts a container again, and its longest.
const RESTART_MS: (i64, i64) = (10_000, 300_000);
/// The SDKs' first wait after a throttled call; it doubles with each retry.
const SDK_FIRST_WAIT_MS: i64 = 11_000;
/// The SDKs give up after so many retries.
const SDK_RETRIES: u32 = 5;
/// The SDKs vary each wait by up to so many hundredths.
const SDK_JITTER_PERCENT: i64 = 25;
/// What *plain jitter* varies the interval by, in hundredths.
const INTERVAL_JITTER_PERCENT: i64 = 10;

/// How the pods of a fleet choose the moments of their calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// The agent's slots, `keeper_agent::schedule`, and the first call at once.
    Slots,
    /// The same for pods that run to completion: their first calls leave each fourth frame its silence.
    SlotsOfJobs,
    /// A loop that sleeps for the interval, give or take 10 %, and calls an official SDK.
    Jitter,
    /// The same without the jitter.
    SdkBackOff,
}

/// Who waits for the first secrets, which matters to pods with slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// The sidecar, with a hook whose limit of 30 s restarts the container, with the kubelet's back-off of
    /// 10, 20, 40 to 300 s.
    Native,
    /// An init container, which goes on without restarts.
    Classic,
}

/// When a pod looks up next whether to call, and the slot that it has planned.
pub(crate) type Next = (i64, Option<KeeperTime>);

/// What a look at the clock says.
pub(crate) enum Look {
    Call,
    Later(Next),
}

pub(crate) struct Pod {
    calling: Calling,
    /// When its secrets were last known to be good; before that, when it was made.
    pub(crate) fresh_ms: i64,
    pub(crate) published: bool,
}

enum Calling {
    Slots(Slots),
    Sdk { jitter_percent: i64, retries: u32 },
}

struct Slots {
    schedule: Schedule,
    clock: KeeperClock,
    is_job: bool,
    tries: u32,
    life: Option<Life>,
}

/// A container that its hook's limit ends.
struct Life {
    restarts: u32,
    ends_ms: i64,
}

impl Pod {
    /// A pod that is made at `now_ms` on Keeper's clock.
    pub(crate) fn new(
        policy: Policy,
        shape: Shape,
        clocks_off_ms: i64,
        now_ms: i64,
        random: &mut Random,
    ) -> Self {
        let calling = match policy {
            Policy::Slots | Policy::SlotsOfJobs => Calling::Slots(Slots {
                schedule: Schedule::new(
                    Grid::STANDARD,
                    INTERVAL,
                    &format!("{:016x}", random.next()),
                ),
                clock: {
                    let mut clock = KeeperClock::default();
                    let node = now_ms + random.around_zero(clocks_off_ms);
                    clock.assume(at(node), uptime(now_ms));
                    clock
                },
                is_job: policy == Policy::SlotsOfJobs,
                tries: 0,
                life: (shape == Shape::Native).then_some(Life {
                    restarts: 0,
                    ends_ms: now_ms + HOOK_LIMIT_MS,
                }),
            }),
            Policy::Jitter => Calling::Sdk {
                jitter_percent: INTERVAL_JITTER_PERCENT,
                retries: 0,
            },
            Policy::SdkBackOff => Calling::Sdk {
                jitter_percent: 0,
                retries: 0,
            },
        };
        Self {
            calling,
            fresh_ms: now_ms,
            published: false,
        }
    }

    /// Whether the call that was planned is to be made now. Without a plan it is the first one.
    pub(crate) fn look(
        &mut self,
        now_ms: i64,
        planned: Option<KeeperTime>,
        random: &mut Random,
    ) -> Look {
        match &mut self.calling {
            Calling::Slots(slots) => slots.look(now_ms, planned, self.published, random),
            Calling::Sdk { .. } => Look::Call,
        }
    }

    /// What follows from an answer to a call that took `took_ms`, `date_ms` being Keeper's time in it.
    pub(crate) fn answered(
        &mut self,
        now_ms: i64,
        allowed: bool,
        date_ms: i64,
        took_ms: i64,
        random: &mut Random,
    ) -> Next {
        if allowed {
            self.published = true;
            self.fresh_ms = now_ms;
        }
        match &mut self.calling {
            Calling::Slots(slots) => {
                slots.answered(now_ms, allowed, self.published, date_ms, took_ms, random)
            }
            Calling::Sdk {
                jitter_percent,
                retries,
            } => {
                let (wait, percent) = if !allowed && *retries < SDK_RETRIES {
                    *retries += 1;
                    (SDK_FIRST_WAIT_MS << (*retries - 1), SDK_JITTER_PERCENT)
                } else {
                    *retries = 0;
                    (millis(INTERVAL), *jitter_percent)
                };
                (
                    now_ms + wait + random.around_zero(wait * percent / 100),
                    None,
                )
            }
        }
    }
}

impl Slots {
    fn look(
        &mut self,
        now_ms: i64,
        mut planned: Option<KeeperTime>,
        published: bool,
        random: &mut Random,
    ) -> Look {
        if let Some(life) = self
            .life
            .as_mut()
            .filter(|life| !published && now_ms >= life.ends_ms)
        {
            let back_off = (RESTART_MS.0 << life.restarts.min(8)).min(RESTART_MS.1);
            let again = life.ends_ms + back_off;
            life.restarts += 1;
            life.ends_ms = again + HOOK_LIMIT_MS;
            return Look::Later((again.max(now_ms), planned));
        }
        if planned.is_none() && self.is_job {
            planned = self.schedule.first(self.keeper_time(now_ms), random.next());
        }
        while let Some(slot) = planned {
            let now = self.keeper_time(now_ms);
            match self.schedule.due(slot, now) {
                Due::Now => break,
                Due::In(wait) => {
                    let at = now_ms + millis(wait);
                    let ends = self.life.as_ref().filter(|_| !published);
                    let at = ends.map_or(at, |life| at.min(life.ends_ms));
                    return Look::Later((at, planned));
                }
                Due::Missed => {
                    planned = Some(self.schedule.catch_up(now, published, random.next()));
                }
            }
        }
        Look::Call
    }

    fn answered(
        &mut self,
        now_ms: i64,
        allowed: bool,
        published: bool,
        date_ms: i64,
        took_ms: i64,
        random: &mut Random,
    ) -> Next {
        let took = Duration::from_millis(u64::try_from(took_ms).unwrap_or(0));
        self.clock.observe(at(date_ms), uptime(now_ms), took);
        let now = self.keeper_time(now_ms);
        let slot = if allowed {
            self.tries = 0;
            self.schedule.regular(now)
        } else {
            self.tries += 1;
            if published {
                self.schedule.move_away(random.next());
            }
            self.schedule.retry(now, self.tries, None, random.next())
        };
        (now_ms, Some(slot))
    }

    /// The pod's idea of Keeper's time.
    fn keeper_time(&self, now_ms: i64) -> KeeperTime {
        self.clock.at(uptime(now_ms))
    }
}

fn at(ms: i64) -> SystemTime {
    UNIX_EPOCH + uptime(ms)
}

/// Any uptime does that goes as fast as time.
fn uptime(now_ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(now_ms).unwrap_or(0))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
