//! Who leads, asked of every replica all the time.
//!
//! No two replicas can be asked at one instant. So all are asked in turn, and then once more the other way round. Who said "I do" both
//! times did so before and after the others were asked: had another one said it in between, both led at once, unless the
//! leadership had gone there and back, which the Lease would show as a transition.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use keeper_e2e::webhook::{OWN, Webhook};
use keeper_e2e::{node, try_kubectl};
use serde_json::Value;

/// A replica that is stopped or gone doesn't answer.
const DEADLINE: Duration = Duration::from_millis(500);
const METRICS: u16 = 9090;

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// How often all were asked.
    pub(crate) rounds: u32,
    /// Rounds in which one replica led.
    pub(crate) led: u32,
    /// How often the leadership passed on.
    pub(crate) transitions: u64,
    /// Replicas that led at once.
    pub(crate) conflicts: Vec<String>,
}

/// Asks until it is stopped.
pub(crate) struct Leaders {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

impl Leaders {
    /// None where the release elects nobody.
    pub(crate) fn watch() -> Option<Self> {
        transitions()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            node::enter();
            let (first, mut seen) = (transitions(), Seen::default());
            while !stopped.load(Ordering::Relaxed) {
                round(&mut seen);
            }
            let passed = transitions().zip(first);
            seen.transitions = passed.map_or(0, |(now, first)| now.saturating_sub(first));
            seen
        });
        Some(Self { stop, thread })
    }

    pub(crate) fn stop(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn round(seen: &mut Seen) {
    let replicas = Webhook::all();
    let addresses: Vec<IpAddr> = replicas
        .iter()
        .filter_map(|replica| replica.address())
        .collect();
    let before = transitions();
    let there: Vec<bool> = addresses.iter().map(|address| leads(*address)).collect();
    let mut back: Vec<bool> = addresses
        .iter()
        .rev()
        .map(|address| leads(*address))
        .collect();
    back.reverse();
    let both: Vec<&IpAddr> = addresses
        .iter()
        .zip(there.iter().zip(&back))
        .filter(|(_, (there, back))| **there && **back)
        .map(|(address, _)| address)
        .collect();
    seen.rounds += 1;
    seen.led += u32::from(both.len() == 1);
    if both.len() > 1 && before.is_some() && before == transitions() {
        seen.conflicts.push(format!("{both:?}"));
    }
}

/// What its gauge says, which is what it would act on at that instant.
fn leads(address: IpAddr) -> bool {
    let answer = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::new(address, METRICS), DEADLINE)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: replica\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    answer().is_ok_and(|text| text.lines().any(|line| line == "keeper_injector_leader 1"))
}

/// How often the Lease has passed to another holder; none: there is no Lease.
fn transitions() -> Option<u64> {
    let lease = ["get", "lease", "keeper-injector", OWN, "--output=json"];
    let said = try_kubectl(&lease, None);
    let lease: Value = serde_json::from_str(&said.stdout).ok()?;
    Some(
        lease["spec"]["leaseTransitions"]
            .as_u64()
            .unwrap_or_default(),
    )
}
