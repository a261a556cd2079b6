//! The reference page in docs/ is what the table of annotations says.

use std::{env, fs};

#[test]
fn the_reference_page_is_up_to_date() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../docs/reference/annotations.md"
    );
    let want = keeper_contract::reference::markdown();
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(path, &want).expect("the page can be written");
    }
    let page = fs::read_to_string(path).unwrap_or_default();
    assert!(
        page == want,
        "docs/reference/annotations.md differs from the table; run UPDATE_DOCS=1 cargo test -p keeper-contract --test reference"
    );
}
