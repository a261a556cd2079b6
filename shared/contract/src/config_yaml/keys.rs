//! Every key of a `config`, once, for the reference page; a test holds it to what is parsed.

use crate::annotations::Status;

/// One key of an entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    pub(super) name: &'static str,
    /// Its other name.
    pub(super) alias: Option<&'static str>,
    /// What its value is.
    pub(super) kind: &'static str,
    /// What absence means, where that is a value.
    pub(super) default: Option<&'static str>,
    /// A value, as YAML.
    pub(super) example: &'static str,
    /// What it does, in a sentence or two.
    pub(super) doc: &'static str,
    /// Whether this version does it.
    pub(super) status: Status,
}

impl Key {
    const fn new(
        name: &'static str,
        kind: &'static str,
        example: &'static str,
        doc: &'static str,
    ) -> Self {
        Self {
            name,
            alias: None,
            kind,
            default: None,
            example,
            doc,
            status: Status::Working,
        }
    }

    const fn alias(mut self, name: &'static str) -> Self {
        self.alias = Some(name);
        self
    }

    const fn default(mut self, value: &'static str) -> Self {
        self.default = Some(value);
        self
    }

    const fn not_yet(mut self) -> Self {
        self.status = Status::NotYet;
        self
    }
}

const SWITCH: &str = "`true` or `false`";

/// The keys of an entry of `secrets`.
pub(super) const SECRET: &[Key] = &[
    Key::new("record", "record", "Production/Databases/orders",
        "The record, by its title, UID, or folder path and title: [which record](selections.md#which-record). Either this or `notation`."),
    Key::new("notation", "notation", "keeper://Orders DB/field/password",
        "One value, by a Keeper Notation or base64 of one. Excludes `fields`."),
    Key::new("fields", "list of texts", "[login, password]",
        "The fields of the record that are taken, by label or type, exactly as they are written; a backslash is one. Exactly one: the file is its value as it is, unless `format` says otherwise. Without it: all fields."),
    Key::new("format", "one of `json`, `env`, `yaml`, `properties`, `ini`, `raw`", "env",
        "How the file is written: [formats](formats.md). The annotation `format` is not for these files.").default("json"),
    Key::new("template", "text", "\"{{ .login }}\"",
        "A Go template for the file.").not_yet(),
    Key::new("file", "text", "tls.crt",
        "An attachment of the record, by its file name, title or UID. Excludes `fields` and `format`.").alias("fileName"),
    Key::new("path", "path", "/keeper/secrets/orders.env",
        "Where the file goes. Without it `<slug>` is the record as it is written, in lower case, with dashes for spaces and slashes; a notation goes to `/keeper/secrets/<slug>`, an attachment to `/keeper/secrets/<file>`.").default("/keeper/secrets/<slug>.json"),
    Key::new("mode", "file mode, in quotes", "\"0440\"",
        "The file's own mode, four octal digits. Without it: as all files of the pod."),
    Key::new("injectAsEnvVars", SWITCH, "true",
        "`true`: [environment variables](../environment.md) in place of the file, one for each field, or one for a notation. Excludes `file`, `format`, `mode` and `path`.").default("false"),
    Key::new("envPrefix", "text", "DB_",
        "What the names of these variables begin with: letters, digits and `_`. The annotation `env-prefix` is not for them."),
    Key::new("injectAsK8sSecret", SWITCH, "true",
        "A Kubernetes Secret in place of the file.").default("false").not_yet(),
    Key::new("k8sSecretName", "text", "orders-db",
        "Its name.").not_yet(),
    Key::new("k8sSecretKeys", "mapping of texts", "{login: username}",
        "The key in that Secret for each field.").not_yet(),
    Key::new("k8sSecretType", "text", "Opaque",
        "Its type.").not_yet(),
];

/// The keys of an entry of `folders`.
pub(super) const FOLDER: &[Key] = &[
    Key::new("path", "folder path", "Production/Databases",
        "The folder, by the names from the shared folder down, or its UID: [folders](selections.md#folders). Either this or `uid`.").alias("folderPath"),
    Key::new("uid", "UID", "Qz3kT0bXv9mWc5rLr2Hn8A",
        "The folder, by its UID."),
    Key::new("outputPath", "path", "/keeper/secrets/db",
        "The directory for its files.").default("/keeper/secrets"),
    Key::new("injectAsK8sSecret", SWITCH, "true",
        "A Kubernetes Secret for each record.").default("false").not_yet(),
    Key::new("k8sSecretNamePrefix", "text", "db-",
        "Prefix of their names.").not_yet(),
];

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;

    use super::*;
    use crate::config_yaml::document::{Document, Folder, Secret};
    use crate::config_yaml::read;
    use crate::problem::{Findings, Reason};

    /// The keys that a type takes.
    fn taken<T: DeserializeOwned>() -> Vec<&'static str> {
        match serde_saphyr::from_str::<T>("no such key: 1")
            .err()
            .as_ref()
            .map(|e| e.without_snippet())
        {
            Some(serde_saphyr::Error::SerdeUnknownField { expected, .. }) => expected.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_table_holds_what_is_parsed() {
        let names = |keys: &[Key]| {
            let mut names: Vec<_> = keys
                .iter()
                .flat_map(|k| [Some(k.name), k.alias])
                .flatten()
                .collect();
            names.sort_unstable();
            names
        };
        let sorted = |mut names: Vec<&'static str>| {
            names.sort_unstable();
            names
        };
        assert_eq!(names(SECRET), sorted(taken::<Secret>()));
        assert_eq!(names(FOLDER), sorted(taken::<Folder>()));
        assert_eq!(taken::<Document>(), ["secrets", "folders"]);
    }

    #[test]
    fn each_example_does_what_its_row_says() {
        let entries = |list: &str, keys: &'static [Key], base: &str, alone: &[&str]| -> Vec<_> {
            keys.iter()
                .map(|key| {
                    let base = match key.name {
                        name if alone.contains(&name) => "",
                        "envPrefix" => "record: a, injectAsEnvVars: true, ",
                        _ => base,
                    };
                    (
                        key,
                        format!("{list}: [{{{base}{}: {}}}]", key.name, key.example),
                    )
                })
                .collect()
        };
        let secrets = entries("secrets", SECRET, "record: a, ", &["record", "notation"]);
        let folders = entries("folders", FOLDER, "path: a, ", &["path", "uid"]);
        for (key, text) in secrets.into_iter().chain(folders) {
            let mut findings = Findings::default();
            let config = read(&text, &mut findings);
            let reasons: Vec<_> = findings.problems.iter().map(|p| p.reason).collect();
            match key.status {
                Status::Working => {
                    assert_eq!(findings.problems, [], "{text}");
                    let asked = config.files.len() + config.folders.len() + config.variables.len();
                    assert_eq!(asked, 1, "{text}");
                }
                Status::NotYet => assert_eq!(reasons, [Reason::NotYet], "{text}"),
            }
        }
    }

    #[test]
    fn rows_fit_into_a_table() {
        for key in SECRET.iter().chain(FOLDER) {
            assert!(key.doc.ends_with('.'), "{}", key.name);
            assert!(!key.doc.contains(['|', '\n']), "{}", key.name);
        }
    }
}
