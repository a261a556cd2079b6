//! What is published in each format is read back by programs that are not ours: shells, Python's `json` and
//! `configparser`, PyYAML, and Java's `Properties`. `tests/readers/run install` installs them.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
#![expect(dead_code, reason = "each test binary uses a part of the support")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, fs};

use keeper_contract::env_name::env_name;
use keeper_contract::{Format, Output, Selection};
use keeper_sim::{Change, Edit, Json};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use support::{Bench, failures, refresh};

/// What has a meaning somewhere.
const PIECES: [&str; 40] = [
    "'", "\"", "\n", "\r\n", "\r", " ", "  ", "\t", "$", "$HOME", "`id`", "$(id)", "\\", "\\n",
    "=", ":", "#", ";", "!", "%", "%(x)s", "${x}", "[", "]", "{", "}", ",", "-", "? ", "ä", "€",
    "😀", "\0", "\u{1b}", "\u{7f}", "\u{85}", "\u{a0}", "\u{2028}", "\u{feff}", "text",
];

/// Values that people have, and those that a format could take for something else.
fn written_values() -> Vec<String> {
    let mut values: Vec<String> = [
        "",
        "it's",
        "a \"quoted\" word",
        "first\nsecond",
        "first\r\nsecond",
        "with a newline at the end\n",
        "first\n\n\nfourth",
        "  blanks around  ",
        "\ttabs\t",
        "C:\\path\\new\\",
        "key=value",
        "# no comment",
        "a # no comment",
        "first\n# no comment\n; nor this",
        "first\n  indented",
        "[section]\nkey = value",
        "\u{feff}bom",
        "lines\u{2028}of\u{85}unicode",
        "---\nkey: value\n...",
        "*alias &anchor !tag",
        "yes",
        "null",
        "0x1f",
        "1e3",
        "2026-11-21",
        "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49+/==\n-----END PRIVATE KEY-----",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
    ]
    .map(String::from)
    .into();
    values.extend(PIECES.map(String::from));
    values.push(PIECES.concat());
    // 64 KiB of what each format can carry, and of anything.
    values.push(
        "pass'word \"$x\" \\ äé😀=#;\n"
            .repeat(2_500)
            .trim_end()
            .to_owned(),
    );
    values.push(PIECES.concat().repeat(1_000));
    assert!(
        values
            .iter()
            .rev()
            .take(2)
            .all(|value| value.len() > 64 * 1024)
    );
    values
}

/// Values at random, made of such pieces and of any characters.
fn random_values(count: usize) -> Vec<String> {
    let part = prop_oneof![
        3 => proptest::sample::select(&PIECES[..]).prop_map(String::from),
        1 => any::<char>().prop_map(String::from),
    ];
    let value = proptest::collection::vec(part, 0..8).prop_map(|parts| parts.concat());
    let mut runner = TestRunner::default();
    std::iter::repeat_with(|| value.new_tree(&mut runner).unwrap().current())
        .take(count)
        .collect()
}

/// A pod that has a record with these fields.
async fn pod(title: &str, fields: &[(String, Json)]) -> Bench {
    let bench = Bench::new("records: []", &[]).await;
    let change = |(name, value): &(String, Json)| Change {
        name: name.clone(),
        value: value.clone(),
    };
    let add = Edit::Add {
        title: title.into(),
        kind: None,
        uid: None,
        folder: None,
        changes: fields.iter().map(change).collect(),
    };
    bench.sim.edit(&add).unwrap();
    bench
}

fn texts(fields: &[(&str, &str)]) -> Vec<(String, Json)> {
    fields
        .iter()
        .map(|(name, text)| ((*name).to_owned(), Json::string(*text)))
        .collect()
}

/// An output of the record `R` that is named like its path.
fn output(path: &str, fields: &[&str], format: Format) -> Output {
    Output {
        directory: 0,
        path: path.into(),
        selection: Selection::Record("R".parse().unwrap()),
        fields: fields.iter().map(|name| (*name).to_owned()).collect(),
        format,
        mode: None,
        annotation: format!("keeper.security/secret-{path}"),
    }
}

/// What a reader prints.
fn read(reader: &str, arguments: &[&str], input: &str) -> Vec<u8> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/readers/run");
    let mut child = Command::new(script)
        .arg(reader)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A reader that ends before it has read everything says why on its standard error.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{reader} failed (shared/agent/tests/readers/run install installs the readers):\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

fn python(request: &Value) -> Value {
    serde_json::from_slice(&read("python", &[], &request.to_string())).unwrap()
}

/// The properties in a file.
fn java(path: &str) -> BTreeMap<String, String> {
    let text = |hex: &str| {
        let digits = hex.strip_prefix('x').unwrap();
        let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
        String::from_utf8((0..digits.len()).step_by(2).map(byte).collect()).unwrap()
    };
    let lines = String::from_utf8(read("java", &[path], "")).unwrap();
    let entry = |line: &str| {
        let mut words = line.split(' ').skip(1).map(text);
        (words.next().unwrap(), words.next().unwrap())
    };
    lines.lines().map(entry).collect()
}

/// Publishes, and takes out the outputs that can't be.
async fn publish_what_goes(bench: &mut Bench) -> BTreeSet<String> {
    let tried = refresh(&mut bench.agent()).await;
    let refused: BTreeSet<String> = failures(&tried)
        .iter()
        .map(|text| {
            text.split_once(": ")
                .unwrap()
                .0
                .replace("keeper.security/secret-", "")
        })
        .collect();
    bench
        .config
        .outputs
        .retain(|output| !refused.contains(&output.path));
    assert_eq!(failures(&refresh(&mut bench.agent()).await), [""; 0]);
    refused
}

#[tokio::test]
async fn every_value_is_read_back_as_it_is_in_the_vault() {
    let mut values = written_values();
    values.extend(random_values(150));
    let name = |index: usize| format!("v{index:03}");
    let fields: Vec<(String, Json)> = values
        .iter()
        .enumerate()
        .map(|(index, value)| (name(index), Json::string(value)))
        .collect();
    let of_record: BTreeMap<&str, &str> = fields
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str().unwrap()))
        .collect();
    let in_env: Vec<&str> = of_record
        .iter()
        .filter(|(_, value)| !value.contains('\0'))
        .map(|(name, _)| *name)
        .collect();

    let mut bench = pod("R", &fields).await;
    bench.config.outputs = vec![
        output("json", &[], Format::Json),
        output("yaml", &[], Format::Yaml),
        output("properties", &[], Format::Properties),
        output("env", &in_env, Format::Env),
    ];
    for name in of_record.keys() {
        bench
            .config
            .outputs
            .push(output(name, &[name], Format::Ini));
    }
    let refused = publish_what_goes(&mut bench).await;
    let path = |name: &str| bench.dir().join(name).display().to_string();

    let variables: Vec<String> = in_env.iter().map(|name| env_name("", name)).collect();
    for shell in ["sh", "bash"] {
        let printed = read(shell, &[&path("env"), &variables.join(" ")], "");
        let mut printed = printed.split(|byte| *byte == 0);
        for name in &in_env {
            let got = String::from_utf8(printed.next().unwrap().into()).unwrap();
            assert_eq!(got, of_record[name], "{shell} {name}");
        }
    }

    let properties = java(&path("properties"));
    assert_eq!(properties.len(), of_record.len());
    for (name, value) in &of_record {
        assert_eq!(properties[*name], **value, "Properties {name}");
    }

    let in_ini: Vec<&str> = of_record
        .keys()
        .copied()
        .filter(|name| !refused.contains(*name))
        .collect();
    let not_in_ini: Vec<&str> = of_record
        .keys()
        .copied()
        .filter(|name| refused.contains(*name))
        .collect();
    let answer = python(&json!({
        "json": [path("json")],
        "yaml": [path("yaml")],
        "ini": in_ini.iter().map(|name| path(name)).collect::<Vec<_>>(),
        "writes": not_in_ini.iter().map(|name| of_record[name]).collect::<Vec<_>>(),
    }));
    for format in ["json", "yaml"] {
        let object = answer[format][0].as_object().unwrap();
        assert_eq!(object.len(), of_record.len());
        for (name, value) in &of_record {
            assert_eq!(object[*name], **value, "{format} {name}");
        }
    }
    for (index, name) in in_ini.iter().enumerate() {
        let want = json!({"secret": {*name: of_record[name]}});
        assert_eq!(answer["ini"][index], want, "ini {name}");
    }
    // What is refused is what Python itself can't write so that it reads it back.
    for (index, name) in not_in_ini.iter().enumerate() {
        assert_eq!(answer["writes"][index], false, "{:?}", of_record[name]);
    }
    assert!(
        in_ini.len() > 50 && not_in_ini.len() > 50,
        "{}",
        in_ini.len()
    );
}

#[tokio::test]
async fn names_and_nested_values_are_read_back() {
    let long = "x".repeat(2_000);
    let names = [
        "API key", "a=b", "a:b", "#x", "!x", "on", "Größe", "😀", "2fa", &long, "a\nb", "\"q\"",
        "- x", "? y", "<<", "[s]", " x ", "{}", "null", "a\\b", "'",
    ];
    let mut fields = texts(&names.map(|name| (name, "value")));
    let nested: Json = serde_json::from_str(
        r##"[{"hostName": "db", "port": "5432", "n": [1, -1.5, 2e3, 1.5E-3, 0], "on": true, "none": null, "e": {},
            "l": [], "ll": [[], [[1, {"a b": "x\ny", "": [{}]}]], {"x": {"y": ["#", "- z"]}}]}, "second", 3]"##,
    )
    .unwrap();
    fields.push(("nested".into(), nested.clone()));
    let mut bench = pod("R", &fields).await;
    bench.config.outputs = vec![
        output("json", &[], Format::Json),
        output("yaml", &[], Format::Yaml),
        output("properties", &[], Format::Properties),
    ];
    assert_eq!(failures(&refresh(&mut bench.agent()).await), [""; 0]);
    let path = |name: &str| bench.dir().join(name).display().to_string();

    let answer = python(&json!({"json": [path("json")], "yaml": [path("yaml")]}));
    let mut want: BTreeMap<&str, Value> =
        names.iter().map(|name| (*name, json!("value"))).collect();
    want.insert("nested", serde_json::to_value(&nested).unwrap());
    for format in ["json", "yaml"] {
        let got: BTreeMap<String, Value> =
            serde_json::from_value(answer[format][0].clone()).unwrap();
        let got: BTreeMap<&str, Value> = got
            .iter()
            .map(|(name, value)| (name.as_str(), value.clone()))
            .collect();
        assert_eq!(got, want, "{format}");
    }
    let properties = java(&path("properties"));
    assert_eq!(properties.len(), want.len());
    for (name, value) in &want {
        let text = match value {
            Value::String(text) => text.clone(),
            _ => nested.to_text(),
        };
        assert_eq!(properties[*name], text, "{name}");
    }
}

#[tokio::test]
async fn outputs_hold_the_fields_that_they_name() {
    let mut fields = texts(&[
        ("login", "svc"),
        ("password", "p'w"),
        ("notes", "some notes"),
    ]);
    let urls: Json = serde_json::from_str(r#"["https://a", "https://b"]"#).unwrap();
    fields.push(("url".into(), urls));
    let mut bench = pod("R", &fields).await;
    let selected = |path: &str, selection, format| Output {
        selection,
        ..output(path, &[], format)
    };
    let field = Selection::Field {
        record: "R".parse().unwrap(),
        field: "password".into(),
    };
    let notation = Selection::Notation("R/field/url[1]".parse().unwrap());
    bench.config.outputs = vec![
        output("two", &["password", "login"], Format::Env),
        output("notes", &["notes"], Format::Raw),
        output("object", &["url", "notes"], Format::Yaml),
        output("several", &["url"], Format::Ini),
        selected("field", field, Format::Env),
        selected("notation", notation, Format::Json),
    ];
    bench.config.outputs[0].mode = Some(0o400);
    assert_eq!(failures(&refresh(&mut bench.agent()).await), [""; 0]);
    for (path, want) in [
        ("two", "LOGIN='svc'\nPASSWORD='p'\\''w'\n"),
        ("notes", "some notes"),
        (
            "object",
            "notes: \"some notes\"\nurl:\n  - \"https://a\"\n  - \"https://b\"\n",
        ),
        ("several", "[secret]\nurl = [\"https://a\",\"https://b\"]\n"),
        ("field", "PASSWORD='p'\\''w'\n"),
        ("notation", "{\n  \"url\": \"https://b\"\n}"),
    ] {
        assert_eq!(bench.read(path).unwrap(), want, "{path}");
    }
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |path| {
        let metadata = fs::metadata(bench.dir().join(path)).unwrap();
        metadata.permissions().mode() & 0o777
    };
    assert_eq!((mode("two"), mode("notes")), (0o400, 0o444));
}

#[tokio::test]
async fn what_cannot_be_written_names_the_record_the_field_and_a_cure() {
    let fields = [
        ("API key", "x"),
        ("api-key", "x"),
        ("URL", "x"),
        ("Url", "x"),
        ("nul", "a\0CANARY"),
        ("spaces", " CANARY "),
    ];
    let mut fields = texts(&fields);
    fields.push(("empty".into(), serde_json::from_str("[]").unwrap()));
    let mut bench = pod("R", &fields).await;
    let cure = "choose the format json, or select only the fields that you need";
    for (fields, format, parts) in [
        (
            &["API key", "api-key"][..],
            Format::Env,
            &[
                "the fields `API key` and `api-key` of the record `R` are both `API_KEY` as env",
                cure,
            ][..],
        ),
        (
            &["URL", "Url"],
            Format::Ini,
            &[
                "the fields `URL` and `Url` of the record `R` are both `url` as ini",
                cure,
            ],
        ),
        (
            &["nul"],
            Format::Env,
            &[
                "the field `nul` of the record `R` cannot be written as env: its value holds a NUL byte",
                cure,
            ],
        ),
        (
            &["spaces"],
            Format::Ini,
            &[
                "the field `spaces` of the record `R` cannot be written as ini: a line of its value begins",
                cure,
            ],
        ),
        (
            &["nul", "spaces"],
            Format::Raw,
            &["select one field of the record `R`"],
        ),
        (
            &["URL", "url"],
            Format::Json,
            &["the record `R` has no field `url`; it has `API key`"],
        ),
        (
            &["URL", "empty"],
            Format::Yaml,
            &["the field `empty` of the record `R` has no value"],
        ),
    ] {
        bench.config.outputs = vec![output("x", fields, format)];
        let failures = failures(&refresh(&mut bench.agent()).await);
        assert_eq!(failures.len(), 1, "{fields:?} {failures:?}");
        for part in parts {
            assert!(failures[0].contains(part), "{failures:?}");
        }
        assert!(
            failures[0].starts_with("keeper.security/secret-x: "),
            "{failures:?}"
        );
        assert!(!failures[0].contains("CANARY"), "{failures:?}");
    }
}

/// The first code block under each heading of a format is what is published of the record that the page shows
/// as JSON. `UPDATE_DOCS=1` writes them.
#[tokio::test]
async fn the_reference_page_shows_what_is_published() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/formats.md");
    let mut fields = texts(&[
        ("login", "orders"),
        ("password", "it's \"5\" $ = #1"),
        ("API key", "Schlüssel"),
        ("notes", "first line\nsecond line"),
    ]);
    let several: Json =
        serde_json::from_str(r#"["https://a.example", "https://b.example"]"#).unwrap();
    let host: Json = serde_json::from_str(r#"{"hostName": "db.example", "port": "5432"}"#).unwrap();
    fields.push(("url".into(), several));
    fields.push(("host".into(), host));
    let mut bench = pod("R", &fields).await;
    let formats = [
        Format::Json,
        Format::Env,
        Format::Yaml,
        Format::Properties,
        Format::Ini,
    ];
    bench.config.outputs = formats
        .map(|format| output(format.as_str(), &[], format))
        .into();
    bench
        .config
        .outputs
        .push(output("raw", &["password"], Format::Raw));
    assert_eq!(failures(&refresh(&mut bench.agent()).await), [""; 0]);

    let before = fs::read_to_string(&page).unwrap();
    let mut text = before.clone();
    for output in &bench.config.outputs {
        let name = &output.path;
        let heading = text.find(&format!("\n## {name}\n")).unwrap();
        let start = heading + text[heading..].find("\n```").unwrap() + 1;
        let start = start + text[start..].find('\n').unwrap() + 1;
        let end = start + text[start..].find("```\n").unwrap();
        let shown = bench.read(name).unwrap();
        text.replace_range(start..end, &format!("{}\n", shown.trim_end_matches('\n')));
    }
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&page, &text).unwrap();
    } else {
        assert_eq!(
            text, before,
            "docs/reference/formats.md differs: UPDATE_DOCS=1 cargo test -p keeper-agent --test formats"
        );
    }
}
