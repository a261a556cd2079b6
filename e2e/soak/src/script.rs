//! What happens, and when: all of it follows from the seed.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use keeper_sim::{Edit, FaultKind};

use crate::model::Model;
use crate::vault::LINES;

/// Something that happens.
#[derive(Debug, Clone)]
pub enum Action {
    /// Somebody changes the vault.
    Edit(Edit),
    /// From now on, until [`Action::Recover`], this happens to calls.
    Fault(FaultKind),
    /// The faults end.
    Recover,
    /// Keeper's server key changes, and calls under the mounted config's are refused.
    RotateServerKey,
    /// The client of the mounted device config is refused from now on.
    Revoke,
    /// It is let in again.
    Readmit,
    /// The mounted device config becomes that of the other client, with the server key of now.
    SwapConfig,
    /// The process is killed, and the next one starts after this time.
    Kill(Duration),
    /// The node sleeps for this time.
    Suspend(Duration),
    /// The node's clock is put forward, or back, by so many milliseconds.
    StepClock(i64),
}

/// Where a script is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// A machine whose time the test makes.
    Virtual,
    /// A real node, with several pods: time is short, nothing happens to the machine and its clock, and the player
    /// kills processes when it fits.
    Node,
}

/// Random events from a seed.
#[derive(Debug)]
pub struct Script {
    stage: Stage,
    rng: Rng,
    /// What is planned, by time; the number keeps the order of what falls on one moment.
    /// None is to be chosen when its time has come.
    planned: BTreeMap<(Duration, u32), Option<Action>>,
    count: u32,
    /// When a fault, or a withdrawal, is over.
    trouble_until: Duration,
    end: Duration,
}

impl Script {
    /// Events until `end`, after which nothing is wrong any more.
    #[must_use]
    pub fn new(seed: u64, stage: Stage, end: Duration) -> Self {
        let mut script = Self {
            stage,
            rng: Rng::with_seed(seed),
            planned: BTreeMap::new(),
            count: 0,
            trouble_until: Duration::ZERO,
            end,
        };
        script.plan(Duration::from_secs(1), None);
        script
    }

    /// When the next event happens; none after the last.
    #[must_use]
    pub fn next_at(&self) -> Option<Duration> {
        self.planned.keys().next().map(|(at, _)| *at)
    }

    /// Takes the next event. An edit is made in the model's vault too.
    pub fn next(&mut self, model: &mut Model) -> Option<Action> {
        let ((now, _), planned) = self.planned.pop_first()?;
        if planned.is_some() {
            return planned;
        }
        let pause = match self.stage {
            Stage::Virtual => 500..25_000,
            Stage::Node => 200..3_000,
        };
        let next = now + Duration::from_millis(self.rng.u64(pause));
        if next < self.end {
            self.plan(next, None);
        }
        match self.rng.u32(0..100) {
            chance if self.stage == Stage::Node => match chance {
                0..90 => self.edit(model).map(Action::Edit),
                _ => self.trouble(now),
            },
            0..68 => self.edit(model).map(Action::Edit),
            68..84 => self.trouble(now),
            84..89 => Some(Action::Kill(self.seconds(0..60))),
            89 => Some(Action::Suspend(self.seconds(1..600))),
            90..93 => {
                let ahead = self.rng.i64(-3_600_000..3_600_000);
                Some(Action::StepClock(ahead))
            }
            93..96 => {
                let later = (now + self.seconds(1..120)).min(self.end);
                self.plan(later, Some(Action::SwapConfig));
                Some(Action::RotateServerKey)
            }
            _ => Some(Action::SwapConfig),
        }
    }

    fn edit(&mut self, model: &mut Model) -> Option<Edit> {
        let line = self.rng.usize(0..LINES.len());
        let stem = LINES.get(line)?.uid.trim_end_matches('A');
        let uids = model.vault().uids();
        let all: Vec<String> = uids.into_iter().filter(|u| u.starts_with(stem)).collect();
        let uid = self.rng.choice(all.iter()).cloned();
        let Some(uid) = uid else {
            // Shared again, or made anew under the same title.
            return self.add(model, line);
        };
        match self.rng.u32(0..20) {
            0..10 => model.edit(|vault| vault.renew(&uid)),
            10 => model.edit(|vault| vault.rename(&uid, "Something else")),
            11 => {
                let title = LINES.get(line)?.title?;
                model.edit(|vault| vault.rename(&uid, title))
            }
            12..15 => model.edit(|vault| vault.remove(&uid)),
            // On a node memory is compared, so the vault must not grow for ever.
            15 | 16 if self.stage == Stage::Virtual || all.len() < 2 => self.add(model, line),
            17 | 18 => model.edit(|vault| vault.relocate(&uid)),
            _ => match line {
                0 => model.edit(|vault| vault.blank(&uid, "password")),
                3 => model.edit(|vault| vault.blank(&uid, "login")),
                _ => model.edit(|vault| vault.renew(&uid)),
            },
        }
    }

    /// The line's first record again, if it is gone, or another one of its title.
    fn add(&mut self, model: &mut Model, line: usize) -> Option<Edit> {
        let spec = LINES.get(line)?;
        let first_is_gone = model.vault().get(spec.uid).is_none();
        let uid = if first_is_gone && (spec.title.is_none() || self.rng.bool()) {
            spec.uid.to_owned()
        } else {
            spec.title?;
            self.count += 1;
            let name = format!("{}{}", spec.uid.trim_end_matches('A'), self.count);
            format!("{name:A<22}")
        };
        model.edit(|vault| vault.add(line, &uid))
    }

    /// A fault that ends after seconds or minutes. One at a time.
    fn trouble(&mut self, now: Duration) -> Option<Action> {
        if now < self.trouble_until {
            return None;
        }
        let lasts = if self.stage == Stage::Virtual && self.rng.u32(0..4) == 0 {
            self.seconds(60..300)
        } else {
            self.seconds(5..45)
        };
        let until = (now + lasts).min(self.end);
        self.trouble_until = until;
        if self.rng.u32(0..8) == 0 {
            self.plan(until, Some(Action::Readmit));
            return Some(Action::Revoke);
        }
        self.plan(until, Some(Action::Recover));
        let seconds = self.rng.u32(1..60);
        let sealed = |text: &str| FaultKind::Plaintext { text: text.into() };
        let mut kinds = vec![
            FaultKind::BadGateway,
            FaultKind::Reset,
            FaultKind::Truncate,
            FaultKind::CorruptTag,
            FaultKind::Garbage,
            FaultKind::Empty,
            FaultKind::InvalidClientVersion,
            FaultKind::AccessDenied { message: None },
            FaultKind::Key { key_id: 40_000 },
            FaultKind::Latency { ms: 20 },
            FaultKind::Throttled { retry_after: None },
            FaultKind::Throttled {
                retry_after: Some(seconds.into()),
            },
            FaultKind::TooManyRequests {
                retry_after: Some(seconds.to_string()),
            },
            sealed("{"),
            sealed("{\"records\": 7}"),
        ];
        if self.stage == Stage::Virtual {
            // It leaves no trace at Keeper, where the player on the node sees the calls.
            kinds.push(FaultKind::UntrustedCertificate);
        }
        self.rng.choice(kinds).map(Action::Fault)
    }

    fn seconds(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_secs(self.rng.u64(range))
    }

    fn plan(&mut self, at: Duration, planned: Option<Action>) {
        self.count += 1;
        self.planned.insert((at, self.count), planned);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Vault;

    fn run(seed: u64, stage: Stage) -> Vec<String> {
        let mut model = Model::new(Vault::default());
        let mut script = Script::new(seed, stage, Duration::from_secs(3600));
        let mut events = Vec::new();
        while let Some(at) = script.next_at() {
            let action = script.next(&mut model);
            events.push(format!("{at:?} {action:?}"));
        }
        events
    }

    #[test]
    fn a_seed_is_one_script() {
        for stage in [Stage::Virtual, Stage::Node] {
            assert_eq!(run(1, stage), run(1, stage));
            assert_ne!(run(1, stage), run(2, stage));
        }
    }

    #[test]
    fn an_hour_has_everything_in_it() {
        let events = [1, 2, 3].map(|seed| run(seed, Stage::Virtual));
        let events = events.concat().join("\n");
        for what in [
            "Add", "Remove", "Move", "Set", "Fault", "Recover", "Rotate", "Revoke", "Readmit",
            "Swap", "Kill", "Suspend", "Step",
        ] {
            assert!(events.contains(what), "no {what} in\n{events}");
        }
    }

    #[test]
    fn on_a_node_nothing_happens_to_the_machine() {
        let events = run(1, Stage::Node).join("\n");
        for what in [
            "Add", "Remove", "Move", "Set", "Fault", "Recover", "Revoke", "Readmit",
        ] {
            assert!(events.contains(what), "no {what} in\n{events}");
        }
        for what in ["Rotate", "Swap", "Kill", "Suspend", "Step", "Untrusted"] {
            assert!(!events.contains(what), "{what} in\n{events}");
        }
    }
}
