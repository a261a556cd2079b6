//! The vault as the soak knows it, and what the pod selects from it.
//!
//! Each value names its record, field and version, and ends in a mark: a wrong, old, mixed or cut one shows.

use std::collections::BTreeMap;

use keeper_sim::{Change, Edit, Json};
use serde_json::{Map, Value};

/// Folder of the record that is selected by its path.
const FOLDER: &str = "Production/Databases";

/// A selection of a record. All of its outputs come from the same record.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    /// The record's title, or none where it is selected by its UID.
    pub title: Option<&'static str>,
    /// Whether the title only counts within [`FOLDER`].
    in_folder: bool,
    /// UID of the record that it means at first.
    pub uid: &'static str,
    /// The fields of its records.
    fields: &'static [&'static str],
}

/// The pod's selections.
pub const LINES: [Line; 5] = [
    line(
        Some("Orders"),
        "OrdersAAAAAAAAAAAAAAAA",
        &["login", "password"],
    ),
    line(
        Some("Payments"),
        "PaymentsAAAAAAAAAAAAAA",
        &["login", "password"],
    ),
    line(Some("Web"), "WebAAAAAAAAAAAAAAAAAAA", &["cert", "key"]),
    Line {
        in_folder: true,
        ..line(
            Some("mysql"),
            "MysqlAAAAAAAAAAAAAAAAA",
            &["login", "password"],
        )
    },
    line(None, "IngressAAAAAAAAAAAAAAA", &["cert", "key"]),
];

const fn line(
    title: Option<&'static str>,
    uid: &'static str,
    fields: &'static [&'static str],
) -> Line {
    Line {
        title,
        in_folder: false,
        uid,
        fields,
    }
}

/// What of a record an output holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All fields, as JSON.
    Record,
    /// One field.
    Field(&'static str),
}

/// A file of the pod.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// Index of its output directory.
    pub directory: usize,
    /// Its name there.
    pub path: &'static str,
    /// The selection, as an annotation has it.
    pub selection: &'static str,
    /// Index into [`LINES`].
    pub line: usize,
    /// What of the record it holds.
    pub part: Part,
}

/// The pod's files, in two directories. A certificate and its key must agree.
pub const OUTPUTS: [Output; 10] = [
    output(0, "orders.json", "Orders", 0, Part::Record),
    output(0, "orders", "Orders[password]", 0, Part::Field("password")),
    output(
        0,
        "payments",
        "keeper://Payments/field/password",
        1,
        Part::Field("password"),
    ),
    output(0, "tls.crt", "Web[cert]", 2, Part::Field("cert")),
    output(0, "tls.key", "Web[key]", 2, Part::Field("key")),
    output(
        1,
        "mysql.json",
        "Production/Databases/mysql",
        3,
        Part::Record,
    ),
    output(
        1,
        "mysql",
        "Production/Databases/mysql[login]",
        3,
        Part::Field("login"),
    ),
    output(
        1,
        "tls.crt",
        "IngressAAAAAAAAAAAAAAA[cert]",
        4,
        Part::Field("cert"),
    ),
    output(
        1,
        "tls.key",
        "IngressAAAAAAAAAAAAAAA[key]",
        4,
        Part::Field("key"),
    ),
    output(1, "ingress.json", "IngressAAAAAAAAAAAAAAA", 4, Part::Record),
];

const fn output(
    directory: usize,
    path: &'static str,
    selection: &'static str,
    line: usize,
    part: Part,
) -> Output {
    Output {
        directory,
        path,
        selection,
        line,
        part,
    }
}

/// A record that the application may read.
#[derive(Debug, Clone)]
pub struct Record {
    title: String,
    in_folder: bool,
    fields: BTreeMap<&'static str, String>,
}

impl Record {
    /// What an output holds of it; none if the field has no value.
    #[must_use]
    pub fn render(&self, part: Part) -> Option<String> {
        match part {
            Part::Field(field) => self.fields.get(field).cloned(),
            Part::Record => {
                let fields = self.fields.iter();
                let object: Map<String, Value> = fields
                    .map(|(name, value)| ((*name).to_owned(), Value::from(value.as_str())))
                    .collect();
                serde_json::to_string_pretty(&Value::Object(object)).ok()
            }
        }
    }
}

/// The records that the application may read now.
#[derive(Debug, Clone)]
pub struct Vault {
    records: BTreeMap<String, Record>,
    /// Counts changes: each gives its values a number of their own.
    version: u64,
}

impl Default for Vault {
    fn default() -> Self {
        let mut vault = Self {
            records: BTreeMap::new(),
            version: 0,
        };
        for line in 0..LINES.len() {
            vault.add(line, LINES.get(line).map_or("", |line| line.uid));
        }
        vault
    }
}

impl Vault {
    /// A record by its UID.
    #[must_use]
    pub fn get(&self, uid: &str) -> Option<&Record> {
        self.records.get(uid)
    }

    /// UIDs of the records that a line's name fits.
    pub fn named(&self, line: &Line) -> impl Iterator<Item = &str> {
        let title = line.title;
        let in_folder = line.in_folder;
        self.records.iter().filter_map(move |(uid, record)| {
            let fits = title == Some(record.title.as_str()) && (record.in_folder || !in_folder);
            fits.then_some(uid.as_str())
        })
    }

    /// The vault in keeper-sim's format, and who may read it.
    #[must_use]
    pub fn to_yaml(&self, clients: &[&str]) -> String {
        let records = |in_folder: bool| -> Vec<Value> {
            let all = self.records.iter();
            all.filter(|(_, record)| record.in_folder == in_folder)
                .map(|(uid, record)| {
                    let fields = record.fields.iter();
                    let custom: Vec<Value> = fields
                        .map(|(name, value)| {
                            let kind = if matches!(*name, "login" | "password") {
                                name
                            } else {
                                "text"
                            };
                            serde_json::json!({"type": kind, "label": name, "value": value})
                        })
                        .collect();
                    serde_json::json!({"uid": uid, "title": record.title, "fields": custom})
                })
                .collect()
        };
        let clients: Vec<Value> = clients
            .iter()
            .map(|name| serde_json::json!({"name": name}))
            .collect();
        // JSON is YAML.
        serde_json::json!({
            "clients": clients,
            "records": records(false),
            "folders": [
                {"name": "Production", "folders": [{"name": "Databases", "records": records(true)}]},
                {"name": "Archive"},
            ],
        })
        .to_string()
    }

    /// Adds a record that fits a line.
    pub fn add(&mut self, line: usize, uid: &str) -> Option<Edit> {
        let line = LINES.get(line)?;
        let title = line.title.unwrap_or("by its UID").to_owned();
        let fields = self.values(line.fields, uid);
        let record = Record {
            title: title.clone(),
            in_folder: line.in_folder,
            fields: fields.clone(),
        };
        self.records.insert(uid.to_owned(), record);
        Some(Edit::Add {
            title,
            kind: None,
            uid: Some(uid.to_owned()),
            folder: line.in_folder.then(|| FOLDER.to_owned()),
            changes: changes(fields),
        })
    }

    /// Takes a record away: deleted, or no longer shared.
    pub fn remove(&mut self, uid: &str) -> Option<Edit> {
        self.records.remove(uid)?;
        Some(Edit::Remove { record: uid.into() })
    }

    /// Gives all fields of a record new values.
    pub fn renew(&mut self, uid: &str) -> Option<Edit> {
        let names: Vec<&'static str> = self.line_of(uid)?.fields.to_vec();
        let fields = self.values(&names, uid);
        self.records.get_mut(uid)?.fields.clone_from(&fields);
        Some(Edit::Set {
            record: uid.into(),
            changes: changes(fields),
        })
    }

    /// Empties a field of a record.
    pub fn blank(&mut self, uid: &str, field: &str) -> Option<Edit> {
        self.records.get_mut(uid)?.fields.remove(field)?;
        Some(Edit::Set {
            record: uid.into(),
            changes: vec![Change {
                name: field.into(),
                value: Json::Array(Vec::new()),
            }],
        })
    }

    /// Gives a record another title.
    pub fn rename(&mut self, uid: &str, title: &str) -> Option<Edit> {
        title.clone_into(&mut self.records.get_mut(uid)?.title);
        Some(Edit::Set {
            record: uid.into(),
            changes: vec![Change::text("title", title)],
        })
    }

    /// Moves a record into another folder, or back.
    pub fn relocate(&mut self, uid: &str) -> Option<Edit> {
        let record = self.records.get_mut(uid)?;
        record.in_folder = !record.in_folder;
        let folder = if record.in_folder { FOLDER } else { "Archive" };
        Some(Edit::Move {
            record: uid.into(),
            folder: Some(folder.to_owned()),
        })
    }

    /// All UIDs.
    #[must_use]
    pub fn uids(&self) -> Vec<String> {
        self.records.keys().cloned().collect()
    }

    fn line_of(&self, uid: &str) -> Option<Line> {
        let has = |line: &&Line| {
            // A UID begins with its line's name.
            let stem = line.uid.trim_end_matches('A');
            uid.starts_with(stem)
        };
        LINES.iter().find(has).copied()
    }

    fn values(&mut self, fields: &[&'static str], uid: &str) -> BTreeMap<&'static str, String> {
        self.version += 1;
        let version = self.version;
        // Some are longer than others, so that what is left of a longer one would show.
        let filler = "x".repeat(usize::try_from(version * 37 % 500).unwrap_or(0));
        fields
            .iter()
            .map(|field| (*field, format!("{uid} {field} v{version} {filler} end")))
            .collect()
    }
}

fn changes(fields: BTreeMap<&'static str, String>) -> Vec<Change> {
    let fields = fields.into_iter();
    fields
        .map(|(name, value)| Change::text(name, value))
        .collect()
}
