//! What configs mean, and what is said of those that mean nothing.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::read;
use crate::agent_config::{FolderRef, Naming, Selection};
use crate::problem::{Findings, Problem, Reason};

/// What a config means, a line for each file, set of variables and folder; or its problems.
fn meaning(text: &str) -> Result<String, String> {
    let mut findings = Findings::default();
    let config = read(text, &mut findings);
    assert!(findings.warnings.is_empty());
    if !findings.problems.is_empty() {
        let line = |p: &Problem| p.to_string().replace("keeper.security/config: ", "");
        let lines: Vec<_> = findings.problems.iter().map(line).collect();
        return Err(lines.join("\n"));
    }
    let shown_selection = |selection: &Selection| match selection {
        Selection::Record(record) => format!("record {record}"),
        Selection::Field { record, field } => format!("field {record} {field}"),
        Selection::Notation(notation) => format!("{notation}"),
        Selection::File { record, file } => format!("file {record} {file}"),
    };
    let mut shown = String::new();
    for file in config.files {
        let selection = shown_selection(&file.selection);
        let fields = file.fields.join(",");
        let mode = file.mode.map_or(String::new(), |mode| format!(" {mode}"));
        let _ = writeln!(
            shown,
            "{selection} [{fields}] {}{mode} -> {}",
            file.format, file.path
        );
    }
    for one in config.variables {
        let selection = shown_selection(&one.selection);
        let fields = one.fields.join(",");
        let Naming::Prefix(prefix) = one.naming else {
            panic!("{:?}", one.naming)
        };
        let _ = writeln!(shown, "{selection} [{fields}] -> ${prefix}");
    }
    for folder in config.folders {
        let by = match &folder.folder {
            FolderRef::Uid(_) => "uid",
            FolderRef::Path(_) => "path",
        };
        let _ = writeln!(shown, "folder by {by} {} -> {}", folder.folder, folder.path);
    }
    Ok(shown.trim_end().to_owned())
}

#[test]
fn good_configs_and_what_they_ask_for() {
    for (text, want) in [
        // Nothing
        ("", ""),
        ("# only a comment\n", ""),
        ("~", ""),
        ("secrets:\nfolders:\n", ""),
        ("{secrets: [], folders: []}", ""),
        // A record
        (
            "secrets: [{record: Orders DB}]",
            "record Orders DB [] json -> /keeper/secrets/orders-db.json",
        ),
        (
            "secrets:\n- record: Production/Databases/mysql\n  path: /keeper/secrets/db/\n",
            "record Production/Databases/mysql [] json -> /keeper/secrets/db",
        ),
        (
            "secrets: [{record: 'Orders \\[prod\\]', path: }]",
            r"record Orders \[prod\] [] json -> /keeper/secrets/orders-[prod].json",
        ),
        (
            "secrets: [{record: a, format: ini}]",
            "record a [] ini -> /keeper/secrets/a.json",
        ),
        // What looks like a number or a boolean is a title all the same.
        (
            "secrets: [{record: 0440}, {record: yes}, {record: 1.50}]",
            "record 0440 [] json -> /keeper/secrets/0440.json\n\
             record yes [] json -> /keeper/secrets/yes.json\n\
             record 1.50 [] json -> /keeper/secrets/1.50.json",
        ),
        // Some fields of it; names are taken as they are
        (
            "secrets: [{record: a, fields: [login, password]}]",
            "record a [login,password] json -> /keeper/secrets/a.json",
        ),
        (
            "secrets: [{record: a, fields: [password]}]",
            "record a [password] raw -> /keeper/secrets/a.json",
        ),
        (
            "secrets: [{record: a, fields: ['API [key]: 1'], format: env}]",
            "record a [API [key]: 1] env -> /keeper/secrets/a.json",
        ),
        (
            "secrets: [{record: a, fields: [password], format: raw, mode: '0400'}]",
            "record a [password] raw 0400 -> /keeper/secrets/a.json",
        ),
        // An attachment
        (
            "secrets: [{record: TLS, file: tls.crt}]",
            "file TLS tls.crt [] raw -> /keeper/secrets/tls.crt",
        ),
        (
            "secrets: [{record: F/TLS, fileName: Server cert, path: /keeper/secrets/c, mode: \"0444\"}]",
            "file F/TLS Server cert [] raw 0444 -> /keeper/secrets/c",
        ),
        // A notation, whole or in base64
        (
            "secrets: [{notation: 'keeper://F/R/field/url[1]'}]",
            "keeper://F/R/field/url[1] [] raw -> /keeper/secrets/f-r",
        ),
        (
            "secrets: [{notation: R/field/login, format: json, path: /keeper/secrets/login}]",
            "keeper://R/field/login [] json -> /keeper/secrets/login",
        ),
        (
            "secrets: [{notation: a2VlcGVyOi8vUi9maWVsZC9sb2dpbg==}]",
            "keeper://R/field/login [] raw -> /keeper/secrets/r",
        ),
        (
            "secrets: [{notation: R/file/tls.crt, path: /keeper/secrets/tls.crt}]",
            "keeper://R/file/tls.crt [] raw -> /keeper/secrets/tls.crt",
        ),
        // Switches that are off ask for nothing
        (
            "secrets: [{record: a, injectAsEnvVars: false, injectAsK8sSecret: \"FALSE\"}]",
            "record a [] json -> /keeper/secrets/a.json",
        ),
        (
            "secrets: [{record: a, injectAsEnvVars: no, injectAsK8sSecret: }]",
            "record a [] json -> /keeper/secrets/a.json",
        ),
        // Variables
        (
            "secrets: [{record: a, injectAsEnvVars: true}, {record: b, injectAsEnvVars: 'True', envPrefix: }]",
            "record a [] -> $\nrecord b [] -> $",
        ),
        (
            "secrets: [{record: a}, {record: a, fields: [login, password], injectAsEnvVars: yes, envPrefix: DB_}]",
            "record a [] json -> /keeper/secrets/a.json\nrecord a [login,password] -> $DB_",
        ),
        (
            "secrets: [{notation: R/field/login, injectAsEnvVars: true, envPrefix: 2_}]",
            "keeper://R/field/login [] -> $2_",
        ),
        // The default name of a file is of no matter to variables.
        (
            "secrets: [{record: ., injectAsEnvVars: true}]",
            "record . [] -> $",
        ),
        // Folders
        (
            "folders: [{path: Production/Databases, outputPath: /keeper/secrets/db}]",
            "folder by path Production/Databases -> /keeper/secrets/db",
        ),
        (
            "folders: [{folderPath: Production}, {uid: Qz3kT0bXv9mWc5rLr2Hn8A, injectAsK8sSecret: false}]",
            "folder by path Production -> /keeper/secrets\n\
             folder by uid Qz3kT0bXv9mWc5rLr2Hn8A -> /keeper/secrets",
        ),
        // YAML's own means
        (
            "%YAML 1.2\n---\nsecrets:\n  - &a {record: x, format: env}\n  - <<: *a\n    path: /keeper/secrets/y\n",
            "record x [] env -> /keeper/secrets/x.json\nrecord x [] env -> /keeper/secrets/y",
        ),
        (
            "secrets:\n  - record: >-\n      Orders\n      DB\n    \"path\": |\n      /keeper/secrets/o\n",
            "record Orders DB [] json -> /keeper/secrets/o",
        ),
        (
            "{\"secrets\": [{\"record\": \"a\\/b\", \"fields\": [\"x\", \"y\"]}]}",
            "record a/b [x,y] json -> /keeper/secrets/a-b.json",
        ),
    ] {
        assert_eq!(meaning(text).as_deref(), Ok(want), "{text}");
    }
}

#[test]
fn a_text_that_is_no_document_is_one_problem_with_its_place() {
    for (text, want) in [
        // Unknown keys
        (
            "secret: [{record: a, fild: x}]",
            "secret (line 1, column 1): unknown key: did you mean secrets? Correct or remove it",
        ),
        (
            "secrets:\n  - record: a\n    Path: /x\n    fild: x\n",
            "secrets[0].Path (line 3, column 5): unknown key: did you mean path? Correct or remove it",
        ),
        (
            "secrets: [{record: a}, {value: x}]",
            "secrets[1].value (line 1, column 25): unknown key: did you mean file? Correct or remove it",
        ),
        (
            "folders:\n- path: a\n  output_path: /x",
            "folders[0].output_path (line 3, column 3): unknown key: did you mean outputPath? Correct or remove it",
        ),
        (
            "1: x",
            "1 (line 1, column 1): unknown key: did you mean folders? Correct or remove it",
        ),
        // Keys twice
        (
            "secrets:\n- record: a\n  record: b\n",
            "secrets[0].record (line 3, column 3): the key is written twice: remove one of them",
        ),
        (
            "secrets:\n- record: a\n  file: b\n  fileName: b\n",
            "secrets[0] (line 2, column 3): `file` is written twice, once by its other name: remove one of them",
        ),
        // Wrong types
        ("[a]", "line 1, column 1: keys and their values belong here"),
        ("x", "line 1, column 1: keys and their values belong here"),
        (
            "secrets: {record: b}",
            "secrets (line 1, column 10): a list belongs here",
        ),
        (
            "secrets: [x]",
            "secrets[0] (line 1, column 11): keys and their values belong here",
        ),
        (
            "secrets: [{record: [a]}]",
            "secrets[0].record (line 1, column 20): a text belongs here",
        ),
        (
            "secrets:\n- record: a\n  fields: login\n",
            "secrets[0].fields (line 3, column 11): a list belongs here",
        ),
        (
            "secrets: [{record: a, fields: [b, {c: d}]}]",
            "secrets[0].fields[1] (line 1, column 35): a text belongs here",
        ),
        (
            "secrets: [{record: a, mode: [0440]}]",
            "secrets[0].mode (line 1, column 23): one value belongs here",
        ),
        (
            "secrets: [{record: a, k8sSecretKeys: {b: [c]}}]",
            "secrets[0].k8sSecretKeys.b (line 1, column 42): a text belongs here",
        ),
        ("? [a]\n: b", "line 1, column 3: a text belongs here"),
        // No YAML
        (
            "secrets:\n\t- record: a\n",
            "line 2, column 2: tabs disallowed within this context (block indentation)",
        ),
        (
            "secrets:\n  - record: a\n   path: x\n",
            "secrets (line 3, column 4): while parsing a block collection, did not find expected '-' indicator",
        ),
        ("secrets: \"x", "line 1, column 10: unclosed quote"),
        (
            "secrets: [{record: \"Orders \\[prod]\"}]",
            "secrets (line 1, column 20): while parsing a quoted scalar, found unknown escape character",
        ),
        (
            "secrets: [{record: a: b}]",
            "secrets[0] (line 1, column 21): while parsing a flow mapping, did not find expected ',' or '}'",
        ),
        (
            "secrets: [{record: *a}]",
            "secrets[0] (line 1, column 20): an alias, and there is no such anchor: quote a text that begins with an asterisk",
        ),
        (
            "secrets: &a [*a]",
            "secrets (line 1, column 14): Recursive reference not allowed here",
        ),
        (
            "secrets: [{record: !!int a}]",
            "secrets[0].record (line 1, column 26): cannot deserialize tagged scalar into string",
        ),
        (
            "secrets: []\n---\nfolders: []\n",
            "line 3, column 1: a second document begins here: write only one",
        ),
        ("\0", "line 1, column 1: unexpected character: `\\u{0}'"),
    ] {
        assert_eq!(meaning(text), Err(want.to_owned()), "{text}");
    }
}

#[test]
fn everything_wrong_in_a_document_is_said_at_once() {
    let text = r#"secrets:
  - {}
  - record: a
    notation: R/type
  - record: a
    path: x
    fields: []
    format: toml
    mode: 0440
  - record: a
    file: x
    fields: [a, b, a, ""]
    format: json
  - notation: R/field
    file: x
  - notation: R/field/login
    fields: [a]
    format: raw
  - record: a
    format: raw
    mode: "0999"
  - record: ""
  - record: a[b]
  - record: a/field/b
  - record: a:/keeper/secrets/x
  - record: /keeper/secrets/x
  - record: a//b
  - record: a
    file: " "
  - record: .
  - record: ..
    fields: [a]
    path: /a/../b
  - notation: xyz
folders:
  - {}
  - path: a
    uid: b
    outputPath: x
  - path: a//b
  - uid: b
"#;
    let want = r#"secrets[0] (line 2, column 5): selects nothing: name a `record`, or a `notation`
secrets[1].notation (line 4, column 15): excludes `record`: remove one of them
secrets[2].fields (line 7, column 13): name a field, or remove it: without it all fields are taken
secrets[2].path (line 6, column 11): the path `x` is not absolute: begin it with a slash, such as /keeper/secrets/x
secrets[2].format (line 8, column 13): `toml` is not known here: write one of json, env, yaml, properties, ini, raw
secrets[2].mode (line 9, column 11): is read as a number without quotes: write it as "0440"
secrets[3].fields[2] (line 12, column 20): stands in the list already: remove it
secrets[3].fields[3] (line 12, column 23): name a field by its label or type
secrets[3].fields (line 12, column 13): an attachment is published as it is: remove it
secrets[3].format (line 13, column 13): an attachment is published as it is: remove it
secrets[4].file (line 15, column 11): belongs to a `record`: remove it, or write the notation as <record>/file/<file>
secrets[4].notation (line 14, column 15): `R/field`: field needs a name: field/<name>
secrets[5].fields (line 17, column 13): a notation is one value: remove it, or select by `record`
secrets[6].mode (line 21, column 11): `0999` is no file mode: write four octal digits, which let the owner read, such as "0440"
secrets[6].format (line 20, column 13): raw is for one value: name exactly one field under `fields`, or choose another format
secrets[7].record (line 22, column 13): `` is no record: the selection is empty: name a record by its title or UID
secrets[8].record (line 23, column 13): `a[b]` is one field of a record: name it under `fields`, and write brackets of a title as \[ and \]
secrets[9].record (line 24, column 13): `a/field/b` is a notation: write it under `notation`, and a slash of a title as \/
secrets[10].record (line 25, column 13): `a:/keeper/secrets/x` holds a path: write it under `path`, and a colon of a title as \:
secrets[11].record (line 26, column 13): `/keeper/secrets/x` is a path: name the record by its title or UID
secrets[12].record (line 27, column 13): `a//b` is no record: a folder name or title in the path is empty; write a slash of a name as \/
secrets[13].file (line 29, column 11): name an attachment of the record, by its file name, title or UID
secrets[14] (line 30, column 5): its default file name would be `..json`, which is not usable: add a `path`
secrets[15].path (line 33, column 11): the path `/a/../b` holds `..`: write it out
secrets[16].notation (line 34, column 15): `xyz`: not a notation: write keeper://<record>/field/<name>
folders[0] (line 36, column 5): selects nothing: name a folder by `path` or `uid`
folders[1].uid (line 38, column 10): excludes `path`: remove one of them
folders[1].outputPath (line 39, column 17): the path `x` is not absolute: begin it with a slash, such as /keeper/secrets/x
folders[2].path (line 40, column 11): `a//b`: a folder name or title in the path is empty; write a slash of a name as \/: write the names from the shared folder down, such as Production/Databases, or a UID
folders[3].uid (line 41, column 10): `b` is no UID, which is 22 characters of A-Z, a-z, 0-9, - and _: correct it, or name the folder by its path"#;
    assert_eq!(meaning(text).unwrap_err(), want);
}

#[test]
fn what_this_version_does_not_do_is_refused_by_name() {
    let text = r#"secrets:
  - record: a
    template: "{{ .login }}"
    injectAsK8sSecret: "True"
    k8sSecretName: x
    k8sSecretKeys: {a: b}
    k8sSecretType: Opaque
  - record: a
    format: template
    injectAsK8sSecret: 1
folders:
  - path: a
    injectAsK8sSecret: yes
    k8sSecretNamePrefix: x
"#;
    let want = r#"secrets[0].template (line 3, column 15): this version does not do this yet: remove it
secrets[0].injectAsK8sSecret (line 4, column 24): this version does not do this yet: remove it or set it to false
secrets[0].k8sSecretName (line 5, column 20): this version does not do this yet: remove it
secrets[0].k8sSecretKeys (line 6, column 20): this version does not do this yet: remove it
secrets[0].k8sSecretType (line 7, column 20): this version does not do this yet: remove it
secrets[1].injectAsK8sSecret (line 10, column 24): a number is neither true nor false
secrets[1].format (line 9, column 13): this version does not do this yet: remove it
folders[0].injectAsK8sSecret (line 13, column 24): this version does not do this yet: remove it or set it to false
folders[0].k8sSecretNamePrefix (line 14, column 26): this version does not do this yet: remove it"#;
    assert_eq!(meaning(text).unwrap_err(), want);
}

#[test]
fn what_does_not_go_together_with_variables_is_named_with_its_cure() {
    let text = r#"secrets:
  - record: a
    injectAsEnvVars: true
    path: x
    format: template
    mode: 0440
  - record: a
    file: b
    fields: [c]
    injectAsEnvVars: true
  - notation: R/file/b
    injectAsEnvVars: true
  - notation: R/field/b
    fields: [c]
    injectAsEnvVars: true
  - record: a
    envPrefix: A_
  - record: a
    injectAsEnvVars: false
    envPrefix: A=
  - record: a
    injectAsEnvVars: true
    envPrefix: A=
  - injectAsEnvVars: true
    fields: [b, b]
  - record: a
    injectAsEnvVars: ja
    envPrefix: A_
  - record: a
    injectAsEnvVars: 1
    fields: []
"#;
    let want = r#"secrets[0].path (line 4, column 11): is of a file, and with `injectAsEnvVars` there is none: remove it, or ask for the file in an entry of its own
secrets[0].format (line 5, column 13): is of a file, and with `injectAsEnvVars` there is none: remove it, or ask for the file in an entry of its own
secrets[0].mode (line 6, column 11): is of a file, and with `injectAsEnvVars` there is none: remove it, or ask for the file in an entry of its own
secrets[1].file (line 8, column 11): an attachment is no variable: select a field, or set `injectAsEnvVars` to false
secrets[2].notation (line 11, column 15): an attachment is no variable: select a field, or set `injectAsEnvVars` to false
secrets[3].fields (line 14, column 13): a notation is one value: remove it, or select by `record`
secrets[4].envPrefix (line 17, column 16): is for the names of variables: set `injectAsEnvVars` to true too, or remove it
secrets[5].envPrefix (line 20, column 16): is for the names of variables: set `injectAsEnvVars` to true too, or remove it
secrets[6].envPrefix (line 23, column 16): `A=` is no prefix of variables: write letters, digits and `_`, at most 64, such as DB_
secrets[7] (line 24, column 5): selects nothing: name a `record`, or a `notation`
secrets[7].fields[1] (line 25, column 17): stands in the list already: remove it
secrets[8].injectAsEnvVars (line 27, column 22): `ja` is neither "true" nor "false": write one of them
secrets[9].injectAsEnvVars (line 30, column 22): a number is neither true nor false
secrets[9].fields (line 31, column 13): name a field, or remove it: without it all fields are taken"#;
    assert_eq!(meaning(text).unwrap_err(), want);
}

/// The reasons of the problems of a config.
fn reasons(text: &str) -> Vec<Reason> {
    let mut findings = Findings::default();
    read(text, &mut findings);
    findings.problems.iter().map(|p| p.reason).collect()
}

#[test]
fn what_takes_too_much_is_refused() {
    let laughs = |levels: usize| {
        let mut text = "a0: &a0 [x]\n".to_owned();
        for i in 1..levels {
            let _ = writeln!(
                text,
                "a{i}: &a{i} [{}]",
                vec![format!("*a{}", i - 1); 10].join(", ")
            );
        }
        text
    };
    // Aliases where they may be: an entry's record, and its list of fields.
    let long = "x".repeat(100_000);
    let record = format!(
        "secrets: [{{record: &a {long}}}{}]",
        ", {record: *a}".repeat(900)
    );
    let fields = format!(
        "secrets: [{{record: a, fields: &a [{}]}}{}]",
        (0..2_000)
            .map(|i| i.to_string())
            .collect::<Vec<_>>()
            .join(","),
        ", {record: a, fields: *a}".repeat(900)
    );
    for (text, want) in [
        ("x".repeat(256 * 1024 + 1), Reason::TooLarge),
        (record, Reason::TooLarge),
        (fields, Reason::TooLarge),
        (
            format!("secrets: [{}]", "{}, ".repeat(30_000)),
            Reason::TooLarge,
        ),
        (laughs(10), Reason::BadValue),
        (
            format!("secrets: {}", "[".repeat(200_000)),
            Reason::BadValue,
        ),
        (
            format!("secrets: {}", "{a: ".repeat(50_000)),
            Reason::BadValue,
        ),
        ("- ".repeat(100_000), Reason::BadValue),
        (
            format!(
                "secrets: [{{record: a, template: {}}}]",
                "[".repeat(200_000)
            ),
            Reason::BadValue,
        ),
    ] {
        let start = text.chars().take(60).collect::<String>();
        assert_eq!(reasons(&text), [want], "{start}");
    }
}

proptest! {
    #[test]
    fn any_text_is_a_config_or_an_error(
        text in r#"(secrets:|folders:)?([a-c0&*!|>%~?'"\\{}\[\],:\t\n -]|record: |path: |file|<<: |\n  - |\n    ){0,40}"#,
    ) {
        let mut findings = Findings::default();
        read(&text, &mut findings);
    }

    #[test]
    fn any_characters_are_a_config_or_an_error(text in r"\PC{0,60}") {
        let mut findings = Findings::default();
        read(&text, &mut findings);
    }

    #[test]
    fn a_quoted_title_is_that_title(title in r"[ -~ä東]{1,30}") {
        let escaped = keeper_notation::escape::escape(&title, &['/', '[', ']', ':', ',']);
        let text = format!("secrets: [{{record: {}, path: /keeper/secrets/x}}]", serde_json::to_string(&escaped).unwrap());
        let mut findings = Findings::default();
        let config = read(&text, &mut findings);
        prop_assume!(!title.trim().is_empty() && title.trim() == title);
        prop_assert!(findings.problems.is_empty(), "{:?}", findings.problems);
        let got: Vec<_> = config.files.into_iter().map(|f| f.selection).collect();
        prop_assert_eq!(got, [Selection::Record(keeper_notation::RecordRef::titled(title))]);
    }
}
