//! The pages name what is in the code and show what is in the examples: a log message or metric that was renamed, or a manifest
//! that nobody ever applied, fails here.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use keeper_walk::{Action, Page};
use serde_json::Value;

/// What is shipped.
const PRODUCT: [&str; 4] = ["shared", "webhook", "init", "sidecar"];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// All sources of the product in one text.
fn sources() -> String {
    fn add(directory: &Path, text: &mut String) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && path.ends_with("tests") {
                continue;
            }
            if path.is_dir() {
                add(&path, text);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let source = fs::read_to_string(path).unwrap();
                // Unit tests stand last in a file.
                text.push_str(source.split("\n#[cfg(test)]\nmod tests {").next().unwrap());
            }
        }
    }
    let mut text = String::new();
    for part in PRODUCT {
        add(&repository().join(part), &mut text);
    }
    text
}

/// The last string literal before the end of a macro call whose arguments `call` begins with.
fn last_literal(call: &str) -> &str {
    let (mut depth, mut last) = (1, "");
    for (i, part) in call.split('"').enumerate() {
        if i % 2 == 1 {
            last = part;
            continue;
        }
        for c in part.chars() {
            depth += i32::from(c == '(') - i32::from(c == ')');
            if depth == 0 {
                return last;
            }
        }
    }
    last
}

/// The first text in backticks of the given column of each row of a page's tables.
fn column(page: &str, column: usize) -> Vec<String> {
    let page = fs::read_to_string(repository().join("docs/reference").join(page)).unwrap();
    page.lines()
        .filter(|line| line.starts_with('|'))
        .filter_map(|line| line.split('|').nth(column)?.split('`').nth(1))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_log_message_of_the_reference_is_logged() {
    let sources = sources();
    let messages = column("log-messages.md", 2);
    assert!(messages.len() > 20, "{messages:?}");
    for message in messages {
        assert!(sources.contains(&format!("\"{message}\"")), "{message}");
    }
}

#[test]
fn every_message_that_is_logged_by_default_is_in_the_reference() {
    let known = column("log-messages.md", 2);
    let mut seen = 0;
    for level in ["info", "warn", "error"] {
        for call in sources().split(&format!("tracing::{level}!(")).skip(1) {
            let message = last_literal(call);
            assert!(
                known.iter().any(|name| name == message),
                "{level}: {message}"
            );
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen}");
}

#[test]
fn every_metric_of_the_reference_is_registered() {
    let sources = sources();
    let metrics = column("metrics.md", 1);
    let names: Vec<_> = metrics
        .iter()
        .map(|metric| metric.split('{').next().unwrap())
        .filter(|name| name.starts_with("keeper_"))
        .collect();
    assert!(names.len() > 15, "{names:?}");
    for name in names {
        assert!(sources.contains(&format!("\"{name}\"")), "{name}");
    }
}

/// Labels that Prometheus puts on what it scrapes.
const TARGET_LABELS: [&str; 4] = ["namespace", "pod", "job", "le"];

/// What an adapter of custom metrics makes of ours.
const DERIVED: &str = "keeper_injector_requests_per_second";

/// All files below a folder of the repository, but for the reference of the metrics itself.
fn files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(repository().join(folder)).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            let below = path.strip_prefix(repository()).unwrap();
            found.extend(files(below.to_str().unwrap()));
        } else if !path.ends_with("metrics.md") {
            found.push(path);
        }
    }
    found
}

/// The names of our metrics in a text, each with the labels of its selector, if it has one.
fn metrics_in(text: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("keeper_") {
        let inside_a_word =
            rest[..start].ends_with(|c: char| c.is_alphanumeric() || "_:".contains(c));
        rest = &rest[start..];
        let end = rest
            .find(|c: char| !(c.is_ascii_lowercase() || c == '_'))
            .unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        rest = after;
        let ours = ["keeper_injector_", "keeper_sidecar_", "keeper_build_"];
        if inside_a_word || name == DERIVED || !ours.iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        let selector = after
            .strip_prefix('{')
            .and_then(|after| after.split('}').next());
        let labels = selector
            .into_iter()
            .flat_map(|selector| selector.split(','));
        let labels = labels.map(|label| {
            let end = label.find(['=', '!']).unwrap_or(label.len());
            label[..end].trim().to_owned()
        });
        found.push((
            name.to_owned(),
            labels.filter(|label| !label.is_empty()).collect(),
        ));
    }
    found
}

/// The process tests of webhook and sidecar compare the reference with what these serve; here, what the chart and the pages name is
/// compared with the reference.
#[test]
fn every_metric_that_chart_or_docs_name_is_in_the_reference() {
    let page = fs::read_to_string(repository().join("docs/reference/metrics.md")).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| `keeper_"));
    let known: Vec<(String, Vec<String>)> = rows
        .flat_map(|row| {
            let histogram = row.contains("| histogram |");
            metrics_in(row.split('|').nth(1).unwrap())
                .into_iter()
                .flat_map(move |(name, labels)| {
                    let suffixes: &[&str] = if histogram {
                        &["_bucket", "_sum", "_count"]
                    } else {
                        &[""]
                    };
                    suffixes
                        .iter()
                        .map(move |suffix| (format!("{name}{suffix}"), labels.clone()))
                })
        })
        .collect();
    let mut named = 0;
    let texts = ["chart/keeper-injector", "docs"]
        .into_iter()
        .flat_map(files);
    for path in texts.filter(|path| path.extension().is_none_or(|extension| extension != "svg")) {
        // In dashboards, quotes within expressions are escaped.
        let text = fs::read_to_string(&path).unwrap().replace('\\', "");
        for (name, labels) in metrics_in(&text) {
            let place = path.display();
            let whole = format!("{name}_bucket");
            let metric = known
                .iter()
                .find(|(known, _)| *known == name || *known == whole);
            let (_, of_metric) = metric.unwrap_or_else(|| panic!("{place}: {name}"));
            for label in labels {
                assert!(
                    of_metric.contains(&label) || TARGET_LABELS.contains(&label.as_str()),
                    "{place}: {name} has no label {label}"
                );
            }
            named += 1;
        }
    }
    assert!(named > 100, "{named}");
}

#[test]
fn links_between_pages_lead_somewhere() {
    let root = repository();
    let mut pages = vec![root.join("README.md"), root.join("examples/README.md")];
    for directory in ["docs", "docs/reference", "docs/runbooks"] {
        for entry in fs::read_dir(root.join(directory)).unwrap() {
            pages.push(entry.unwrap().path());
        }
    }
    for page in pages.iter().filter(|page| page.is_file()) {
        let text = fs::read_to_string(page).unwrap();
        for link in text.split("](").skip(1) {
            let target = link.split([')', '#']).next().unwrap_or_default();
            let relative = !target.is_empty() && !target.contains(':');
            assert!(
                !relative || page.parent().unwrap().join(target).exists(),
                "{} links to {target}",
                page.display()
            );
        }
    }
}

/// The program `pages` of the end-to-end tests walks each page that doesn't say otherwise, so a command is either run or has a reason
/// beside it.
#[test]
fn every_command_of_the_pages_is_run_or_says_why_not() {
    let mut run = 0;
    for path in keeper_walk::pages(&repository()).unwrap() {
        let page = Page::read(&repository(), &path).unwrap_or_else(|mistake| panic!("{mistake}"));
        let commands = page
            .steps
            .iter()
            .filter(|step| matches!(step.action, Action::Run(_)));
        run += commands.count();
        if let Some(by) = page.by {
            let test = fs::read_to_string(repository().join(&by));
            let test = test.unwrap_or_else(|error| panic!("{path}: {by}: {error}"));
            // A test may put a page's path together of its folder and its name.
            let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
            let names = [folder, name.trim_end_matches(".md")];
            let says = test.contains(&path) || names.iter().all(|name| test.contains(name));
            assert!(says, "{by} says nothing of {path}");
        }
    }
    assert!(run > 50, "{run}");
}

/// The objects of all examples, which the end-to-end run applies.
fn examples() -> Vec<Value> {
    let mut objects = Vec::new();
    for entry in fs::read_dir(repository().join("examples")).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            let text = fs::read_to_string(path).unwrap();
            objects.extend(serde_saphyr::from_multiple::<Value>(&text).unwrap());
        }
    }
    objects
}

/// Whether an object, or one within it, says all that the excerpt says.
fn says(object: &Value, excerpt: &Value) -> bool {
    fn agrees(object: &Value, excerpt: &Value) -> bool {
        match (object, excerpt) {
            (Value::Object(object), Value::Object(excerpt)) => excerpt
                .iter()
                .all(|(key, part)| object.get(key).is_some_and(|whole| agrees(whole, part))),
            _ => object == excerpt,
        }
    }
    let within = match object {
        Value::Object(fields) => fields.values().collect(),
        Value::Array(items) => items.iter().collect(),
        _ => Vec::new(),
    };
    agrees(object, excerpt) || within.into_iter().any(|part| says(part, excerpt))
}

#[test]
fn manifests_of_the_pages_are_excerpts_of_the_examples() {
    let examples = examples();
    for page in [
        "README.md",
        "docs/namespaces.md",
        "docs/paths.md",
        "docs/reference/config.md",
        "docs/reloading.md",
    ] {
        let text = fs::read_to_string(repository().join(page)).unwrap();
        let blocks: Vec<_> = text.split("```yaml\n").skip(1).collect();
        assert!(!blocks.is_empty(), "{page}");
        for block in blocks {
            let block = block.split("```").next().unwrap();
            let excerpt: Value = serde_saphyr::from_str(block).unwrap();
            assert!(
                examples.iter().any(|example| says(example, &excerpt)),
                "{page} shows what no example has:\n{block}"
            );
        }
    }
}
