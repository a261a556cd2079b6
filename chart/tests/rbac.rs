//! Rights in Kubernetes' RBAC, one by one, so that they can be compared however rules put them together.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

/// The release's namespace, as documented.
const OWN: &str = "keeper-security";

/// Where a right holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In all namespaces, and for what is in none.
    Cluster,
    /// In the release's namespace.
    OwnNamespace,
    /// In this one, which the values name.
    Namespace(String),
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
pub fn of_rules<'a>(place: &Place, rules: impl IntoIterator<Item = &'a Value>) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for rule in rules {
        let list = |key: &str| -> Vec<&str> {
            let list = rule.get(key).and_then(Value::as_array);
            let words = list.into_iter().flatten();
            words.map(|word| word.as_str().expect("words")).collect()
        };
        let names: Vec<Option<String>> = match list("resourceNames") {
            names if names.is_empty() => vec![None],
            names => names
                .into_iter()
                .map(|name| Some(without_revision(name)))
                .collect(),
        };
        for group in list("apiGroups") {
            for resource in list("resources") {
                for name in &names {
                    rights.extend(list("verbs").into_iter().map(|verb| Right {
                        place: place.clone(),
                        group: group.to_owned(),
                        resource: resource.to_owned(),
                        name: name.clone(),
                        verb: verb.to_owned(),
                    }));
                }
            }
        }
    }
    rights
}

/// Helm's Secret of a release has another name after each upgrade.
fn without_revision(name: &str) -> String {
    let release = name
        .rsplit_once(".v")
        .filter(|_| name.starts_with("sh.helm.release."));
    release.map_or_else(
        || name.to_owned(),
        |(release, _)| format!("{release}.v<revision>"),
    )
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
    // What is named by something else, as helm's own Secret is by its release, has no revision in its name.
    let with_revision = |name: &str| match name.strip_prefix(NAME) {
        Some(rest) => format!("{NAME}-{revision}{rest}"),
        None => name.to_owned(),
    };
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
        let holds = words(&conditions).all(|condition| is_so(condition, values));
        let objects = places_and_names(&place, &name, values);
        let rights = objects.into_iter().flat_map(move |(place, name)| {
            words(&verbs)
                .map(|verb| Right {
                    place: place.clone(),
                    group: if group == "core" {
                        String::new()
                    } else {
                        group.clone()
                    },
                    resource: resource.clone(),
                    name: name.clone(),
                    verb: verb.to_owned(),
                })
                .collect::<Vec<_>>()
        });
        rights.filter(|_| holds).collect::<Vec<_>>()
    });
    granted.collect()
}

/// What the first and the fourth cell of a row mean. `as in backup.secrets` is what the list of that value names: a namespace and a name
/// in it or, of the cluster, the namespace itself.
fn places_and_names(place: &str, name: &str, values: &Value) -> Vec<(Place, Option<String>)> {
    let list = |path: &str| {
        let list = values.pointer(&format!("/{}", path.replace('.', "/")));
        let list = list.and_then(Value::as_array).expect("a list");
        let text = |object: &Value, key: &str| object[key].as_str().expect("a name").to_owned();
        let both = |object: &Value| (text(object, "namespace"), text(object, "name"));
        list.iter().map(both).collect::<Vec<_>>()
    };
    let place = match (place, name.strip_prefix("as in ")) {
        ("the cluster", Some(path)) => {
            let namespaces = list(path).into_iter();
            return namespaces
                .map(|(namespace, _)| (Place::Cluster, Some(namespace)))
                .collect();
        }
        ("the cluster", None) => Place::Cluster,
        ("its own namespace", None) => Place::OwnNamespace,
        (place, Some(path)) if place == name => {
            let objects = list(path).into_iter();
            let place = |namespace: String| match namespace.as_str() {
                OWN => Place::OwnNamespace,
                _ => Place::Namespace(namespace),
            };
            return objects
                .map(|(namespace, name)| (place(namespace), Some(name)))
                .collect();
        }
        (other, _) => panic!("{other} is no place"),
    };
    vec![(place, (name != "any").then(|| name.to_owned()))]
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
