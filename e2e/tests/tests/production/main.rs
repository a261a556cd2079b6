//! A team that follows [docs/production.md](../../../../docs/production.md), and nothing else, gets from nothing to an installation that is
//! watched, sees an alert in a real Alertmanager when Keeper is out of reach, follows its runbook, and sees it end.

use keeper_e2e::{Monitoring, Namespace, node, reader, repository};
use keeper_walk::{Page, Shell};

/// The namespace that the page speaks of.
const TEAM: &str = "shop";
const RUNBOOK: &str = "docs/runbooks/KeeperSidecarRefreshFailures.md";

#[test]
#[ignore = "takes minutes: `make walk`"]
fn a_team_follows_the_page_from_nothing_to_an_alert_and_its_end() {
    let page = Page::read(repository(), "docs/production.md").unwrap();
    let _put_back = node::PutBack;
    let team = Namespace::named(TEAM);
    let pod =
        "$(kubectl get pods --selector app=orders --output jsonpath='{.items[0].metadata.name}')";
    let reader = reader(team.name())
        .with_variable("PROMETHEUS", &Monitoring::prometheus())
        .with_variable("ALERTMANAGER", &Monitoring::alertmanager())
        .with_name("NAMESPACE", TEAM)
        .with_name("POD", pod);
    let runbook = Page::read(repository(), RUNBOOK).unwrap();

    // What a cluster with the Prometheus operator has.
    Monitoring::install_kinds();
    let mut monitoring = None;
    let mut sections: Vec<_> = page.steps.iter().map(|step| &step.section).collect();
    sections.dedup();
    for section in sections {
        if section == "What Prometheus sees" {
            monitoring = Some(Monitoring::watch());
        }
        walk(&reader, &page, section);
        match section.as_str() {
            "Keeper is out of reach" => walk(&reader, &runbook, "Diagnosis"),
            "Keeper is back" => walk(&reader, &runbook, "Cure"),
            _ => {}
        }
    }
    assert!(monitoring.is_some(), "nobody watched");
}

fn walk(reader: &Shell, page: &Page, section: &str) {
    if let Err(failure) = reader.walk(page, page.section(section)) {
        panic!("{failure}");
    }
}
