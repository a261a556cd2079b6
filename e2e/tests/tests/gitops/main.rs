//! The product, installed and kept by GitOps tools: Argo CD and Flux sync the chart and annotated applications out of a Git repository, as the
//! pages on them tell, and see no drift while certificates and secrets change.
//!
//! They are the real controllers, built from their Go modules (`e2e/cluster/cluster gitops`), as processes of this machine in the node's
//! network; only Argo CD's user interface, its login and Flux' notifications are not there. helm-controller has one library of its own in a
//! newer patch than its `go.mod` asks for, which is not published any more.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests fail by panicking, and print the state that they saw"
)]

mod argo;
mod controllers;
mod flux;
mod repository;
mod team;
mod tool;

use argo::ArgoCd;
use flux::Flux;
use repository::Repository;
use team::Team;
use tool::Tool;

#[test]
#[ignore = "minutes, after a long build: make gitops"]
fn argo_cd_sees_no_drift() {
    let team = Team::begin();
    let repository = Repository::serve();
    let mut argo = ArgoCd::start();
    repository.add_chart();
    team.add_application(&repository, "orders");
    argo.add_to(&repository, &Team::values());
    let first = repository.push("First commit");
    argo.begin();
    team.until_synced(&mut argo, &first);
    team.everything_works();
    team.stays_in_sync_while_all_changes(&mut argo);

    // The other way of comparing, and of applying what changes.
    argo.go_server_side(&repository);
    let second = repository.push("Apply and compare on the server");
    team.until_synced(&mut argo, &second);
    team.changes_in_git_arrive(&repository, &mut argo);
    team.stays_in_sync_while_all_changes(&mut argo);
    team.what_is_changed_by_hand_is_put_right(&mut argo);
    argo.end();
    team.nothing_is_left();
}

#[test]
#[ignore = "minutes, after a long build: make gitops"]
fn flux_sees_no_drift() {
    let team = Team::begin();
    let repository = Repository::serve();
    let mut flux = Flux::start();
    repository.add_chart();
    team.add_application(&repository, "apps");
    flux.add_to(&repository, &Team::values());
    let first = repository.push("First commit");
    flux.begin();
    team.until_synced(&mut flux, &first);
    team.everything_works();
    team.stays_in_sync_while_all_changes(&mut flux);
    team.changes_in_git_arrive(&repository, &mut flux);
    team.what_is_changed_by_hand_is_put_right(&mut flux);
    flux.end();
    team.nothing_is_left();
}
