//! What replicas are for: while they are rolled out, drained, scaled and killed, no admission is lost. 200 pods a second are
//! created all the while, as dry runs, one in ten without our annotation.
//!
//! The tests take replicas away from everybody, so they run one at a time.
#![expect(
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a run tells what happened in it"
)]

use std::thread::sleep;
use std::time::Duration;

use keeper_e2e::webhook::{self, Webhook};
use keeper_e2e::{Namespace, until};
use keeper_load::{Asked, Report};

const RATE: u32 = 200;
const PLAIN_EACH: u64 = 10;
/// Before and after what happens: connections are there, and late losses are seen.
const CALM: Duration = Duration::from_secs(2);

/// What becomes of admissions while `happens` does. `AVAILABILITY_RATE` is another rate, for a machine that is busy.
fn under_load(what: &str, happens: impl FnOnce()) -> Report {
    let namespace = Namespace::new(what);
    let rate = std::env::var("AVAILABILITY_RATE").ok();
    let rate = rate.map_or(RATE, |text| text.parse().expect("a number"));
    let load = webhook::load(&namespace, rate, PLAIN_EACH);
    sleep(CALM);
    happens();
    sleep(CALM);
    let report = load.stop();
    eprintln!("{what}: {report}");
    report
}

fn assert_none_lost(report: &Report) {
    assert!(report.sent(Asked::Annotated) > 500, "{report}");
    assert!(report.lost.is_empty(), "{report}");
}

#[test]
fn a_rollout_loses_no_admission() {
    let webhook = Webhook::take();
    webhook.scale(2);
    let report = under_load("rollout", || webhook.roll_out());
    assert_none_lost(&report);
}

#[test]
fn evictions_and_scaling_lose_no_admission() {
    let webhook = Webhook::take();
    webhook.scale(3);
    let report = under_load("evictions-and-scaling", || {
        for replica in webhook.replicas() {
            until("the budget to let a replica go", 60, || {
                replica.evict().then_some(())
            });
        }
        webhook.settle(3);
        webhook.scale(2);
    });
    assert_none_lost(&report);
}

#[test]
fn a_killed_replica_loses_no_admission() {
    // With two, each call that is made again goes to the dead one with a chance of one half: docs/high-availability.md.
    let webhook = Webhook::take();
    webhook.scale(3);
    webhook.roll_out();
    let report = under_load("kills", || {
        for replica in webhook.replicas() {
            assert!(replica.signal("KILL"));
            sleep(CALM);
            webhook.settle(3);
        }
    });
    assert_none_lost(&report);
}
