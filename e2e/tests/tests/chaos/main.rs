//! Minutes of replicas being killed, paused, evicted and rolled out, at random from a seed, while pods with and without our
//! annotation are created. Whatever happens, a pod that asks gets our containers or is refused, no refusal speaks of certificates,
//! a pod that doesn't ask notices nothing, and no two replicas lead at once. Afterwards all is well again.
//!
//! `CHAOS_SEED` and `CHAOS_SECONDS` choose another run. The seed fixes what happens to which replica and about when; not how
//! that meets the admissions.
#![expect(
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "tests fail by panicking, and a run tells what happened in it"
)]

mod leaders;
mod script;

use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use keeper_e2e::webhook::{self, Replica, Webhook};
use keeper_e2e::{Namespace, pods, until};
use keeper_load::{Asked, Became, Fate, Report};
use leaders::Leaders;
use script::{Action, Script};

const REPLICAS: u64 = 3;
/// Pods a second that ask, and that don't.
const RATE: (u32, u32) = (20, 5);
/// The chart's `webhook.timeoutSeconds`. A plain pod waits for nobody, so not for this either.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The kubelet starts a container again at once, then after 10 s, then 20 s: more kills of one pod would only test that.
const MOST_KILLS: u64 = 2;
/// What refusals never speak of.
const CERTIFICATES: [&str; 3] = ["x509", "certificate", "tls:"];

#[test]
#[ignore = "takes minutes: make chaos"]
fn whatever_happens_to_replicas_pods_are_patched_or_refused() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().unwrap());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = number("CHAOS_SEED").unwrap_or(u64::from(now.subsec_micros()));
    let seconds = number("CHAOS_SECONDS").unwrap_or(300);
    eprintln!("chaos: CHAOS_SEED={seed} CHAOS_SECONDS={seconds}");
    let webhook = Webhook::take();
    webhook.scale(REPLICAS);
    let namespace = Namespace::new("chaos");
    let leaders = Leaders::watch();
    let asking = webhook::load(&namespace, RATE.0, 0);
    let plain = webhook::load(&namespace, RATE.1, 1);
    let mut chaos = Chaos {
        webhook: &webhook,
        began: Instant::now(),
        paused: Vec::new(),
        done: Vec::new(),
    };
    chaos.play(Script::new(seed), Duration::from_secs(seconds));
    webhook.settle(REPLICAS);
    let pod = pods::annotated("afterwards", &[("secret", "database-credentials")], "true");
    until("an admission to work", 30, || {
        namespace.try_apply(&pod).success.then_some(())
    });
    let (asking, plain) = (asking.stop(), plain.stop());
    eprintln!("chaos: seed {seed}: {}", chaos.done.join(", "));
    eprintln!("chaos: {asking}\nchaos: {plain}");
    judge(&asking, &plain);
    match leaders.map(Leaders::stop) {
        None => eprintln!("chaos: nobody is elected"),
        Some(seen) => {
            eprintln!("chaos: leaders: {seen:?}");
            assert!(seen.conflicts.is_empty(), "{:?}", seen.conflicts);
            assert!(seen.led > 5, "hardly ever was there a leader");
        }
    }
}

fn judge(asking: &Report, plain: &Report) {
    assert!(
        plain.lost.is_empty(),
        "a plain pod was touched or refused: {:?}",
        plain.lost
    );
    let longest = plain.latency(Asked::Plain, 1.0);
    assert!(longest < TIMEOUT, "a plain pod waited {longest:?}");
    for Fate { became, began, .. } in &asking.lost {
        let Became::Refused(message) = became else {
            panic!("admitted without our containers at {began:?}");
        };
        // An address's or a name's part is no word of it.
        assert!(
            !CERTIFICATES.iter().any(|word| message.contains(word)),
            "at {began:?}: {message}"
        );
    }
    // Or little was tested.
    assert!(asking.sent(Asked::Annotated) > 500 && plain.sent(Asked::Plain) > 100);
    assert!(
        asking.lost.len() < asking.sent(Asked::Annotated) / 2,
        "hardly any was admitted"
    );
}

struct Chaos<'a> {
    webhook: &'a Webhook,
    began: Instant,
    /// Stopped processes, and when they go on.
    paused: Vec<(Instant, Replica)>,
    /// What happened, and when.
    done: Vec<String>,
}

impl Chaos<'_> {
    fn play(&mut self, mut script: Script, time: Duration) {
        let end = self.began + time;
        while Instant::now() < end {
            let (pause, action) = script.next();
            self.wait(Instant::now() + pause);
            let replicas = self.webhook.replicas();
            let Some(replica) = script.one_of(&replicas) else {
                continue;
            };
            self.happen(action, replica);
        }
        // All go on.
        while let Some((until, _)) = self.paused.first() {
            self.wait(*until);
        }
    }

    fn happen(&mut self, action: Action, replica: &Replica) {
        let name = replica.name().rsplit('-').next().unwrap_or_default();
        let what = match action {
            Action::Kill if replica.restarts() < MOST_KILLS => {
                let done = replica.signal("KILL");
                format!("kill {name}{}", if done { "" } else { " (gone)" })
            }
            Action::Pause(time) => {
                let done = replica.signal("STOP");
                if done {
                    self.paused.push((Instant::now() + time, replica.clone()));
                    self.paused.sort_by_key(|(until, _)| *until);
                }
                format!(
                    "pause {name} for {} s{}",
                    time.as_secs(),
                    if done { "" } else { " (gone)" }
                )
            }
            Action::Kill | Action::Evict => {
                let done = replica.evict();
                format!("evict {name}{}", if done { "" } else { " (refused)" })
            }
            Action::RollOut => {
                self.webhook.start_roll_out();
                "roll out".to_owned()
            }
        };
        let line = format!("{} s: {what}", self.began.elapsed().as_secs());
        eprintln!("chaos: {line}");
        self.done.push(line);
    }

    /// Waits until then; meanwhile what was paused goes on in its time.
    fn wait(&mut self, until: Instant) {
        loop {
            let next = self
                .paused
                .first()
                .map_or(until, |(due, _)| until.min(*due));
            sleep(next.saturating_duration_since(Instant::now()));
            let now = Instant::now();
            while self.paused.first().is_some_and(|(due, _)| *due <= now) {
                // It may have been killed meanwhile, by its failed probes too.
                let _ = self.paused.remove(0).1.signal("CONT");
            }
            if now >= until {
                return;
            }
        }
    }
}
