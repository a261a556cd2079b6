//! The reference pages in docs/ are what the tables of annotations and of the keys of `config` say.
#![expect(clippy::expect_used, reason = "tests fail by panicking")]

use std::{env, fs};

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
