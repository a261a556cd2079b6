//! Who leads, when leaders are deleted, killed and stopped. It takes the webhook's replicas, so nothing else runs beside it.
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

/// One installation for all of it, since each takes two rollouts.
#[test]
fn one_leads_whatever_happens_to_leaders() {
    let webhook = Webhook::with(&["leaderElection.trafficToLeaderOnly=true"]);
    a_leader_that_was_stopped_finds_its_term_over(&webhook);
    a_leader_that_is_killed_is_followed(&webhook);
    a_leader_that_is_deleted_hands_over_without_a_gap(&webhook);
}

fn a_leader_that_was_stopped_finds_its_term_over(webhook: &Webhook) {
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

fn a_leader_that_is_killed_is_followed(webhook: &Webhook) {
    let leader = webhook.leader();
    let _ = node::exec(&["kill", "-KILL", &leader.process()]);
    // Its container starts again, and is another candidate.
    let next = webhook.another_leader(&leader, 60);
    assert_eq!(webhook.leading(), std::slice::from_ref(&next.pod));
    webhook.settled();
    leads_alone(webhook, &next);
}

/// Waits until the Service leads to the leader and nobody else.
fn leads_alone(webhook: &Webhook, leader: &Replica) {
    until("the Service to lead to the leader alone", 60, || {
        (webhook.endpoints() == [leader.address()]).then_some(())
    });
}

fn a_leader_that_is_deleted_hands_over_without_a_gap(webhook: &Webhook) {
    let namespace = Namespace::new("leader");
    let secret = [("secret", "database-credentials")];
    let pod = pods::annotated("asks", &secret, "exec sleep 3600").to_string();
    let leader = webhook.leader();
    leads_alone(webhook, &leader);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let admissions = scope.spawn(|| {
            let mut count = 0;
            while !over.load(Ordering::Relaxed) {
                let arguments = ["create", "--dry-run=server", "--filename=-"];
                let answer = namespace.try_kubectl(&arguments, Some(&pod));
                assert!(answer.success, "admission {count}: {}", answer.stderr);
                count += 1;
            }
            count
        });
        let end = End(&over);
        webhook.delete(&leader);
        let next = webhook.another_leader(&leader, 60);
        assert_ne!(next.pod, leader.pod);
        assert!(leader.logs().contains("gave up the leadership"));
        leads_alone(webhook, &next);
        // The former one is gone, and its successor is there.
        webhook.settled();
        drop(end);
        let count = admissions.join().unwrap();
        assert!(count > 10, "{count}");
    });
}

/// Ends the admissions, also when the test fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
