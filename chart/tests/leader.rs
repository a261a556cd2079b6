//! The leader election's values: arguments, selector, and what excludes each other.

use std::time::Duration;

use clap::Parser as _;
use keeper_webhook::{Cli, Command, Serve};
use serde_json::{Value, json};

use crate::helm::{Objects, refusal, render};

const MANUAL: &str = "tls: {mode: manual, manual: {caBundle: '-----BEGIN CERTIFICATE-----'}}";
const LABEL: &str = "keeper.security/leader";

fn container(objects: &Objects) -> &Value {
    &objects.the("Deployment")["spec"]["template"]["spec"]["containers"][0]
}

fn serve(objects: &Objects) -> Serve {
    let args = container(objects)["args"].as_array().unwrap();
    let args = args.iter().map(|arg| arg.as_str().unwrap());
    let cli = Cli::try_parse_from(std::iter::once("keeper-webhook").chain(args)).unwrap();
    let Command::Serve(serve) = cli.command else {
        panic!("the Deployment serves");
    };
    *serve
}

#[test]
fn one_is_elected_by_default() {
    let objects = render("{}");
    let election = serve(&objects).leader_election;
    assert!(election.enabled && !election.traffic_to_leader_only);
    assert_eq!(election.lease_name, "keeper-injector");
    assert_eq!(election.pod_name.as_deref(), Some("$(POD_NAME)"));
    assert_eq!(
        container(&objects)["env"],
        json!([{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}])
    );
    assert!(objects.the("Service")["spec"]["selector"][LABEL].is_null());
}

#[test]
fn the_service_selects_the_leader_if_that_is_wanted() {
    for values in [
        "{leaderElection: {trafficToLeaderOnly: true}}".to_owned(),
        format!("{{leaderElection: {{trafficToLeaderOnly: true}}, {MANUAL}}}"),
    ] {
        let objects = render(&values);
        assert!(serve(&objects).leader_election.traffic_to_leader_only);
        assert_eq!(objects.the("Service")["spec"]["selector"][LABEL], "true");
        // Nobody is the leader from the beginning.
        let labels = &objects.the("Deployment")["spec"]["template"]["metadata"]["labels"];
        assert!(labels[LABEL].is_null());
        for object in [
            objects.the("PodDisruptionBudget"),
            objects.the("Deployment"),
        ] {
            assert!(object["spec"]["selector"]["matchLabels"][LABEL].is_null());
        }
    }
}

#[test]
fn durations_are_passed_on() {
    let objects = render(
        "{leaderElection: {leaseDurationSeconds: 60, renewDeadlineSeconds: 40, retryPeriodSeconds: 5}}",
    );
    let election = serve(&objects).leader_election;
    assert_eq!(election.lease_duration_seconds, Duration::from_secs(60));
    assert_eq!(election.renew_deadline_seconds, Duration::from_secs(40));
    assert_eq!(election.retry_period_seconds, Duration::from_secs(5));
}

#[test]
fn nobody_is_elected_where_there_is_nothing_to_do_for_a_leader() {
    for values in [
        "{leaderElection: {enabled: false}}".to_owned(),
        format!("{{{MANUAL}}}"),
    ] {
        let objects = render(&values);
        assert!(container(&objects).get("env").is_none());
        let _ = serve(&objects);
    }
}

#[test]
fn what_cannot_be_is_refused() {
    for (values, word) in [
        (
            "{leaderElection: {enabled: false, trafficToLeaderOnly: true}}",
            "trafficToLeaderOnly",
        ),
        (
            "{leaderElection: {leaseDurationSeconds: 0}}",
            "leaseDurationSeconds",
        ),
        ("{leaderElection: {renewDeadline: 10}}", "renewDeadline"),
    ] {
        let message = refusal(values);
        assert!(message.contains(word), "{message}");
    }
}
