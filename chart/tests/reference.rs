//! docs/reference/values.md is what the comments of values.yaml say, so that each value needs one.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::{env, fs};

use serde_json::Value;

use crate::helm::{chart, read};

const INTRODUCTION: &str = "\
# Values of the chart

<!-- Made from chart/keeper-injector/values.yaml by its tests. UPDATE_DOCS=1 chart/test reference -->

What `helm install` takes with `--set` and `--values`. A value that is not here is refused. [values-dev.yaml](../../chart/keeper-injector/values-dev.yaml),
[values-staging.yaml](../../chart/keeper-injector/values-staging.yaml) and [values-prod.yaml](../../chart/keeper-injector/values-prod.yaml) are
starting points; what the chart makes is in [its README](../../chart/keeper-injector/README.md).
";

/// One key of values.yaml.
struct Key {
    /// The section that it stands in.
    section: String,
    /// Names from the root down.
    path: Vec<String>,
    /// The lines of comment right above it.
    comment: String,
}

/// All keys, in their order. Those within a list, a flow mapping or a text over several lines are values.
fn keys(text: &str) -> Vec<Key> {
    let (mut keys, mut section, mut comment) = (Vec::new(), String::new(), String::new());
    // Where the keys around this line stand.
    let mut around: Vec<(usize, String)> = Vec::new();
    let mut folded: Option<usize> = None;
    for line in text.lines() {
        let words = line.trim_start();
        let indent = line.len() - words.len();
        if folded.is_some_and(|key| indent > key) {
            continue;
        }
        folded = None;
        if let Some(title) = words.strip_prefix("# -- ") {
            title.clone_into(&mut section);
            comment.clear();
        } else if let Some(more) = words.strip_prefix('#') {
            let space = if comment.is_empty() { "" } else { " " };
            comment = format!("{comment}{space}{}", more.trim());
        } else if let Some((name, value)) = words.split_once(':')
            && !words.starts_with('-')
        {
            while around.last().is_some_and(|(of, _)| *of >= indent) {
                around.pop();
            }
            around.push((indent, name.to_owned()));
            let path = around.iter().map(|(_, name)| name.clone()).collect();
            keys.push(Key {
                section: section.clone(),
                path,
                comment: std::mem::take(&mut comment),
            });
            folded = matches!(value.trim(), ">-" | "|" | ">").then_some(indent);
        } else {
            comment.clear();
        }
    }
    keys
}

/// Keys with a comment. One without is part of the value above it, unless its neighbours have comments.
fn documented(text: &str) -> (Vec<Key>, BTreeSet<String>) {
    let (with, without): (Vec<Key>, Vec<Key>) = keys(text)
        .into_iter()
        .partition(|key| !key.comment.is_empty());
    let is_part = |key: &Key| {
        let nearest = with
            .iter()
            .filter(|above| key.path.starts_with(&above.path))
            .max_by_key(|above| above.path.len());
        nearest.is_some_and(|above| {
            !with.iter().any(|other| {
                other.path.len() > above.path.len() && other.path.starts_with(&above.path)
            })
        })
    };
    let missing = without.iter().filter(|key| !is_part(key));
    let missing = missing.map(|key| key.path.join(".")).collect();
    (with, missing)
}

#[test]
fn every_value_has_a_comment() {
    let (_, missing) = documented(&read("values.yaml"));
    assert_eq!(missing, BTreeSet::new(), "have no comment in values.yaml");
}

#[test]
fn a_value_without_a_comment_is_found() {
    let text = "# -- One\n# A.\na:\n  # B.\n  b: 1\n  c: 2\n# D: all\n# of it.\nd:\n  e: 1\n  f: >-\n    g: 2\nh: 1\n";
    let (with, missing) = documented(text);
    assert_eq!(missing, BTreeSet::from(["a.c".to_owned(), "h".to_owned()]));
    let last = with.last().unwrap();
    assert_eq!(
        (last.path.join("."), &*last.comment),
        ("d".into(), "D: all of it.")
    );
    assert_eq!(last.section, "One");
}

#[test]
fn the_page_is_up_to_date() {
    let path = chart().join("../../docs/reference/values.md");
    let want = page();
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &want).unwrap();
    }
    let page = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        page == want,
        "docs/reference/values.md differs from values.yaml; run UPDATE_DOCS=1 chart/test reference"
    );
}

fn page() -> String {
    let text = read("values.yaml");
    let values: Value = serde_saphyr::from_str(&text).unwrap();
    let (keys, _) = documented(&text);
    let (mut page, mut section) = (INTRODUCTION.to_owned(), "");
    for key in &keys {
        if key.section != section {
            section = &key.section;
            let heading = "| value | default | meaning |\n|---|---|---|";
            writeln!(page, "\n## {section}\n\n{heading}").unwrap();
        }
        let parts = keys
            .iter()
            .any(|other| other.path.len() > key.path.len() && other.path.starts_with(&key.path));
        let value = values.pointer(&format!("/{}", key.path.join("/"))).unwrap();
        let default = match parts {
            true => String::new(),
            false => format!("`{}`", cell(&value.to_string())),
        };
        let name = key.path.join(".");
        writeln!(page, "| `{name}` | {default} | {} |", cell(&key.comment)).unwrap();
    }
    page
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
