//! The queries that users are given: in dashboards, as the chart installed them, and in pages.

use keeper_e2e::{kubectl, repository};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

/// Of all panels, for one namespace; of the fleet for all of them.
pub(crate) fn of_dashboards(namespace: &str) -> BTreeSet<String> {
    let maps = kubectl(&[
        "get",
        "configmaps",
        "--namespace=keeper-security",
        "--selector=grafana_dashboard=1",
        "--output=json",
    ]);
    let maps: Value = serde_json::from_str(&maps).unwrap();
    let maps = maps["items"].as_array().unwrap();
    assert_eq!(maps.len(), 2);
    let mut queries = BTreeSet::new();
    for text in maps
        .iter()
        .flat_map(|map| map["data"].as_object().unwrap().values())
    {
        let dashboard: Value = serde_json::from_str(text.as_str().unwrap()).unwrap();
        let panels = dashboard["panels"].as_array().unwrap().iter();
        for target in panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten()) {
            let query = target["expr"].as_str().unwrap();
            let query = query
                .replace("=~\"$namespace\"", "=~\".*\"")
                .replace("$namespace", namespace)
                .replace("$__rate_interval", "30s");
            assert!(!query.contains('$'), "{query}");
            queries.insert(query);
        }
    }
    queries
}

/// Of all pages, each as it stands there.
pub(crate) fn of_pages() -> BTreeSet<String> {
    pages()
        .into_iter()
        .flat_map(|page| blocks(&fs::read_to_string(page).unwrap(), "promql"))
        .collect()
}

fn pages() -> Vec<PathBuf> {
    let folders = ["docs", "docs/reference", "docs/runbooks"];
    let entries = folders
        .iter()
        .flat_map(|folder| fs::read_dir(repository().join(folder)).unwrap());
    entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect()
}

/// The fenced blocks of a language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    text.split(&format!("```{language}\n"))
        .skip(1)
        .map(|block| block.split("```").next().unwrap().trim().to_owned())
        .collect()
}
