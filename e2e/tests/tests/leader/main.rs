//! Who leads, when leaders are deleted, killed and stopped. These tests take the webhook's replicas, so they run one at a time.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests fail by panicking"
)]

mod webhook;

use keeper_e2e::{Namespace, node, pods, until};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use webhook::{Replica, Webhook};

#[test]
fn a_leader_that_is_deleted_hands_over_at_once() {
    let webhook = Webhook::with(&["leaderElection.leaseDurationSeconds=600"]);
    let leader = webhook.leader();
    webhook.delete(&leader);
    // Long before the Lease has run out.
    let next = webhook.another_leader(&leader, 30);
    assert_ne!(next.pod, leader.pod);
    assert!(next.logs().contains("became the leader"), "{}", next.logs());
}

#[test]
fn a_leader_that_is_killed_is_followed_when_its_lease_has_run_out() {
    let webhook = Webhook::with(&[]);
    let leader = webhook.leader();
    let _ = node::exec(&["kill", "-KILL", &leader.process()]);
    // Its container starts again, and is another candidate.
    let next = webhook.another_leader(&leader, 60);
    assert_eq!(webhook.leading(), [next.pod]);
}

#[test]
fn a_leader_that_was_stopped_finds_its_term_over() {
    let webhook = Webhook::with(&[]);
    let leader = webhook.leader();
    let process = leader.process();
    let _ = node::exec(&["kill", "-STOP", &process]);
    let next = webhook.another_leader(&leader, 30);
    assert_ne!(next.pod, leader.pod);
    let _ = node::exec(&["kill", "-CONT", &process]);
    // What it says at once, and what it says later.
    for _ in 0..5 {
        assert_eq!(webhook.leading(), std::slice::from_ref(&next.pod));
    }
    until("it to notice", 20, || {
        leader.logs().contains("lost the leadership").then_some(())
    });
    assert_eq!(webhook.leader().identity, next.identity);
    assert_eq!(leader.process(), process, "it was not restarted");
}

#[test]
fn traffic_goes_to_the_leader_alone_and_moves_without_a_gap() {
    let webhook = Webhook::with(&["leaderElection.trafficToLeaderOnly=true"]);
    let namespace = Namespace::new("leader");
    let secret = [("secret", "database-credentials")];
    let pod = pods::annotated("asks", &secret, "exec sleep 3600").to_string();
    let admit = || {
        let arguments = ["create", "--dry-run=server", "--filename=-"];
        namespace.try_kubectl(&arguments, Some(&pod))
    };
    let at_leader = |leader: &Replica| {
        until("the Service to lead to the leader alone", 60, || {
            (webhook.endpoints() == [leader.address()]).then_some(())
        });
    };
    let leader = webhook.leader();
    at_leader(&leader);

    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let admissions = scope.spawn(|| {
            let mut count = 0;
            while !over.load(Ordering::Relaxed) {
                let answer = admit();
                assert!(answer.success, "admission {count}: {}", answer.stderr);
                count += 1;
            }
            count
        });
        let end = End(&over);
        webhook.delete(&leader);
        let next = webhook.another_leader(&leader, 60);
        assert_ne!(next.pod, leader.pod);
        at_leader(&next);
        // The former one is gone, and its successor is there.
        webhook.settled();
        drop(end);
        assert!(admissions.join().expect("none failed") > 10);
    });

    let leader = webhook.leader();
    let _ = node::exec(&["kill", "-KILL", &leader.process()]);
    let next = webhook.another_leader(&leader, 60);
    at_leader(&next);
    until("admission", 30, || admit().success.then_some(()));
}

/// Ends the admissions, also when the test fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
