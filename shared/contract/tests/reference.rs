//! The reference pages in docs/ are what the tables of annotations and of the keys of `config` say.
#![expect(clippy::expect_used, reason = "tests fail by panicking")]

use std::{env, fs};

use keeper_contract::annotations::{Annotation, Status, TABLE};

#[test]
fn the_page_of_annotations_is_up_to_date() {
    is_up_to_date("annotations.md", &keeper_contract::reference::markdown());
}

#[test]
fn the_page_of_config_is_up_to_date() {
    is_up_to_date(
        "config.md",
        &keeper_contract::config_yaml::reference::markdown(),
    );
}

/// What works is tried on a real node, by a test of `e2e/` or by an example, all of which it applies.
#[test]
fn every_annotation_that_works_has_a_pod_on_the_node() {
    let tried: String = ["e2e/tests/tests/promises", "examples"]
        .iter()
        .flat_map(|directory| {
            let path = format!("{}/../../{directory}", env!("CARGO_MANIFEST_DIR"));
            fs::read_dir(path).expect("the directory is there")
        })
        .map(|entry| {
            let path = entry.expect("a directory can be listed").path();
            fs::read_to_string(path).expect("it holds texts")
        })
        .collect();
    let is_tried = |annotation: &Annotation| {
        let (name, ends) = match annotation.name.split_once('<') {
            Some((family, _)) => (family, &[""][..]),
            None => (annotation.name, &["\"", ":"][..]),
        };
        let is_written = |text: &str| {
            let ended = |end| tried.contains(&format!("{text}{end}"));
            ends.iter().any(ended)
        };
        is_written(&format!("\"{name}")) || is_written(&format!("keeper.security/{name}"))
    };
    // The webhook sets it.
    let works = |annotation: &&Annotation| {
        annotation.status == Status::Working && annotation.name != "injected"
    };
    let untried: Vec<_> = TABLE
        .iter()
        .filter(works)
        .filter(|annotation| !is_tried(annotation))
        .map(|annotation| annotation.name)
        .collect();
    assert_eq!(untried, [""; 0]);
}

fn is_up_to_date(name: &str, want: &str) {
    let path = format!("{}/../../docs/reference/{name}", env!("CARGO_MANIFEST_DIR"));
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, want).expect("the page can be written");
    }
    let page = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        page == want,
        "docs/reference/{name} differs from the table; run UPDATE_DOCS=1 cargo test -p keeper-contract --test reference"
    );
}
