//! Rights in Kubernetes' RBAC, one by one, so that they can be compared however rules put them together.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

/// Where a right holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In all namespaces, and for what is in none.
    Cluster,
    /// In the release's namespace.
    OwnNamespace,
}

/// One verb on one resource.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// Where.
    pub place: Place,
    /// The API group; empty: the core.
    pub group: String,
    /// The resource, or a subresource behind a slash.
    pub resource: String,
    /// The object's name; none: any.
    pub name: Option<String>,
    /// The verb.
    pub verb: String,
}

/// The rights that rules give, of a Role or of a SelfSubjectRulesReview.
///
/// # Panics
/// If a rule is none.
pub fn of_rules<'a>(place: Place, rules: impl IntoIterator<Item = &'a Value>) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for rule in rules {
        let list = |key: &str| -> Vec<&str> {
            let list = rule.get(key).and_then(Value::as_array);
            let words = list.into_iter().flatten();
            words.map(|word| word.as_str().expect("words")).collect()
        };
        let names: Vec<Option<&str>> = match list("resourceNames") {
            names if names.is_empty() => vec![None],
            names => names.into_iter().map(Some).collect(),
        };
        for group in list("apiGroups") {
            for resource in list("resources") {
                for name in &names {
                    rights.extend(list("verbs").into_iter().map(|verb| Right {
                        place,
                        group: group.to_owned(),
                        resource: resource.to_owned(),
                        name: name.map(str::to_owned),
                        verb: verb.to_owned(),
                    }));
                }
            }
        }
    }
    rights
}

/// The rights of a service account that `docs/rights.md` grants, with these values of the chart. The table has the names of the
/// release without a revision; one with it has the same with its revision in them.
///
/// # Panics
/// If the table is missing, or can't be read.
#[must_use]
pub fn documented(account: &str, values: &Value) -> BTreeSet<Right> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/rights.md");
    let text = std::fs::read_to_string(path).expect("docs/rights.md");
    let Some(revision) = values["revision"].as_str().filter(|name| !name.is_empty()) else {
        return in_table(&text, account, values);
    };
    let with_revision = |name: &str| name.replacen(NAME, &format!("{NAME}-{revision}"), 1);
    let documented = account.replacen(&with_revision(NAME), NAME, 1);
    let rights = in_table(&text, &documented, values).into_iter();
    let renamed = rights.map(|right| Right {
        name: right.name.as_deref().map(with_revision),
        ..right
    });
    renamed.collect()
}

/// What all names begin with.
const NAME: &str = "keeper-injector";

fn in_table(text: &str, account: &str, values: &Value) -> BTreeSet<Right> {
    let heading = format!("\n## Service account `{account}`\n");
    let (_, section) = text.split_once(&heading).expect("the account's section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter(|line| line.starts_with('|')).skip(2);
    let rows: Vec<&str> = rows.collect();
    assert!(!rows.is_empty(), "a table for {account}");
    let granted = rows.into_iter().flat_map(|row| {
        let row = row.trim().trim_start_matches('|').trim_end_matches('|');
        let cells: Vec<String> = row
            .split('|')
            .map(|cell| cell.trim().replace('`', ""))
            .collect();
        let [place, group, resource, name, verbs, conditions] =
            <[String; 6]>::try_from(cells).expect("six cells in a row");
        let place = match place.as_str() {
            "the cluster" => Place::Cluster,
            "its own namespace" => Place::OwnNamespace,
            other => panic!("{other} is no place"),
        };
        let holds = words(&conditions).all(|condition| is_so(condition, values));
        let rights = words(&verbs).map(|verb| Right {
            place,
            group: if group == "core" {
                String::new()
            } else {
                group.clone()
            },
            resource: resource.clone(),
            name: (name != "any").then(|| name.clone()),
            verb: verb.to_owned(),
        });
        rights.filter(|_| holds).collect::<Vec<_>>()
    });
    granted.collect()
}

fn words(cell: &str) -> impl Iterator<Item = &str> {
    cell.split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
}

/// Whether a condition such as `tls.mode: auto` is true of the values.
fn is_so(condition: &str, values: &Value) -> bool {
    let (path, expected) = condition
        .split_once(": ")
        .expect("a value's path, and the value");
    let pointer = format!("/{}", path.replace('.', "/"));
    match values.pointer(&pointer) {
        Some(Value::String(text)) => text == expected,
        Some(other) => {
            serde_json::from_str(expected).is_ok_and(|expected: Value| expected == *other)
        }
        None => panic!("the chart has no value {path}"),
    }
}
