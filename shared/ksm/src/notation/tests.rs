//! The table of notation examples that the official SDKs were run on (protocol section 13), with our choices
//! where they differ, by the table's numbers.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use keeper_notation::NotationError;
use serde_json::{Value as Json, json};
use zeroize::Zeroizing;

use super::*;
use crate::fixture::{app_key, file, gcm, key, open, record, shared_folder, titled, vault};
use crate::{Uid, encoding};

const U: &str = "Qz3kT0bXv9mWc5rLr2Hn8A";
const V: &str = "bm4Yd2oJ7QhUe1xKq9sT6w";
const D: &str = "Dup3kT0bXv9mWc5rLr2HnA";
const F2: &str = "f2AAAAAAAAAAAAAAAAAAAA";

const ORDERS: &str = r#"{"title": "Orders DB", "type": "login", "notes": "rotate quarterly",
  "fields": [
    {"type": "login", "value": ["svc-orders"]},
    {"type": "password", "value": ["p/[w]\\d"], "required": 1, "privacyScreen": "yes"},
    {"type": "url", "value": ["https://a.example", "https://b.example"]},
    {"type": "host", "label": "Primary host", "value": [{"hostName": "db1.internal", "port": "5432"}]},
    {"type": "name", "value": [{"first": "Ada", "middle": "K", "last": "Lane"}, {"first": "Bo", "last": "Ray"}]},
    {"type": "phone", "value": [{"number": "555-0100", "ext": "1"}, {"number": "555-0101", "ext": "", "type": "Home"}]},
    {"type": "oneTimeCode", "value": []},
    {"type": "checkbox", "value": [true]},
    {"type": "date", "value": [1700000000000]},
    {"type": "fileRef", "value": ["f1", "f2", "f3", "f4"]}
  ],
  "custom": [
    {"type": "text", "label": "Env", "value": ["prod"]},
    {"type": "text", "label": "Tags", "value": ["one", "two", "three"]},
    {"type": "text", "label": "Dup", "value": ["d1"]},
    {"type": "text", "label": "Dup", "value": ["d2"]},
    {"type": "text", "label": "we/ird [lbl]\\", "value": ["odd"]},
    {"type": "text", "label": "Größe", "value": ["XL"]},
    {"type": "secret", "label": "NullVal", "value": [null]},
    {"type": "multiline", "label": "NoValue"},
    {"type": "text", "label": "12", "value": ["twelve"]},
    {"type": "pamSettings", "label": "Nested", "value": [{"a": {"b": 1}, "n": 5, "t": true, "z": null, "s": "str"}]}
  ]}    "#;

fn login(title: &str, logins: &[(&str, &str)]) -> String {
    let fields: Vec<Json> = logins
        .iter()
        .map(|(label, login)| json!({"type": "login", "label": label, "value": [login]}))
        .collect();
    json!({"title": title, "type": "login", "fields": fields}).to_string()
}

fn with_uid(mut record: Json, uid: &str) -> Json {
    record["recordUid"] = json!(uid);
    record
}

/// The table's vault, and the contents of its files as they lie on the server.
fn fixture() -> (Vault, Vec<(Uid, String)>) {
    let files = [
        ("f1", "tls.crt", "Server cert", &b"CERT"[..]),
        ("f2", "key.pem", "key.pem title", b"\xff\xfe\x3f\x3e"),
        ("f3", "a.txt", "same", b"a"),
        ("f4", "b.txt", "same", b"b"),
    ];
    let mut orders = with_uid(record("orders", &app_key(), ORDERS), U);
    orders["files"] = files
        .iter()
        .map(|(label, name, title, content)| file(label, "orders", name, title, content))
        .collect();
    let contents =
        files.map(|(label, _, _, content)| (crate::fixture::uid(label), gcm(&key(label), content)));
    let direct = |label: &str, text: String| record(label, &app_key(), &text);
    let shortcut = record("second", &key("folder"), &login("Dupe", &[("", "second")]));
    let vault = open(&json!({
        "records": [
            orders,
            with_uid(direct("v", login("we/ird [t]\\itle", &[("", "esc")])), V),
            direct("twin1", login("Twin", &[("", "t1")])),
            direct("twin2", login("Twin", &[("", "t2")])),
            direct("uidlike", login("ABCDEFGHIJKLMNOPQRSTUV", &[("", "uidlike")])),
            direct("zurich", login("Zürich DB", &[("", "zh")])),
            direct("two", login("Two logins", &[("A", "la"), ("B", "lb")])),
            with_uid(direct("first", login("Dupe", &[("", "first")])), D),
            direct("untitled", login("", &[("", "nameless")])),
        ],
        "folders": [shared_folder("folder", json!([with_uid(shortcut, D)]))],
    }));
    assert_eq!(vault.skipped, []);
    (vault, contents.into())
}

/// What the SDKs' results API gives: texts, a file's content as base64url.
fn results(notation: &str) -> Result<Vec<String>, String> {
    let (vault, contents) = fixture();
    let notation = Notation::parse_encoded(notation).map_err(|e| format!("syntax: {e}"))?;
    match evaluate(&vault, None, &notation).map_err(|e| e.to_string())? {
        Evaluated::Values(values) => Ok(values
            .iter()
            .map(|v| v.text().expose().to_owned())
            .collect()),
        Evaluated::File(file) => {
            let sealed = contents.iter().find(|(uid, _)| *uid == file.uid());
            let body = encoding::decode(&sealed.unwrap().1).unwrap();
            let content = file.open_content(body).unwrap();
            Ok(vec![URL_SAFE_NO_PAD.encode(content.expose())])
        }
    }
}

fn expand(notation: &str) -> String {
    let (scheme, rest) = match notation.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), notation),
    };
    let rest = match rest.split_once('/') {
        Some(("U", rest)) => format!("{U}/{rest}"),
        Some(("V", rest)) => format!("{V}/{rest}"),
        Some(("D", rest)) => format!("{D}/{rest}"),
        _ if rest == "U" => U.to_owned(),
        _ => rest.to_owned(),
    };
    scheme + &rest
}

#[test]
fn values() {
    let urls = &["https://a.example", "https://b.example"][..];
    let host = &[r#"{"hostName":"db1.internal","port":"5432"}"#][..];
    let table: &[(&str, &str, &[&str])] = &[
        ("1", "keeper://U/field/login", &["svc-orders"]),
        ("2", "U/field/login", &["svc-orders"]),
        ("3", "KEEPER://U/FIELD/login", &["svc-orders"]),
        ("4", "keeper://Orders DB/field/login", &["svc-orders"]),
        ("5", "keeper://U/type", &["login"]),
        ("6", "keeper://U/TITLE", &["Orders DB"]),
        ("7", "keeper://U/notes", &["rotate quarterly"]),
        ("8", "keeper://V/notes", &[]),
        ("9", "keeper://U/field/password", &[r"p/[w]\d"]),
        ("10", "keeper://U/field/url", urls),
        ("11", "keeper://U/field/url[]", urls),
        ("12", "keeper://U/field/url[1]", &["https://b.example"]),
        ("14", "keeper://U/field/oneTimeCode", &[]),
        ("16", "keeper://U/field/host", host),
        ("17", "keeper://U/field/Primary host", host),
        (
            "18",
            "keeper://U/field/host[0][hostName]",
            &["db1.internal"],
        ),
        ("19", "keeper://U/field/host[][port]", &["5432"]),
        ("22", "keeper://U/field/name[][first]", &["Ada", "Bo"]),
        ("23", "keeper://U/field/name[][middle]", &["K"]),
        ("24", "keeper://U/field/name[1][last]", &["Ray"]),
        (
            "25",
            "keeper://U/field/name[0][]",
            &[r#"{"first":"Ada","middle":"K","last":"Lane"}"#],
        ),
        (
            "26",
            "keeper://U/field/phone[1]",
            &[r#"{"number":"555-0101","ext":"","type":"Home"}"#],
        ),
        ("27", "keeper://U/field/phone[1][ext]", &[""]),
        ("28", "keeper://U/field/checkbox", &["true"]),
        ("29", "keeper://U/field/date", &["1700000000000"]),
        ("32", "keeper://U/custom_field/Env", &["prod"]),
        (
            "33",
            "keeper://U/custom_field/Tags",
            &["one", "two", "three"],
        ),
        ("34", "keeper://U/custom_field/Tags[1]", &["two"]),
        ("35", "keeper://U/custom_field/Tags[01]", &["two"]),
        ("41", r"keeper://U/custom_field/we\/ird \[lbl]\\", &["odd"]),
        ("42", r"keeper://U/custom_field/we/ird \[lbl]\\", &["odd"]),
        ("43", "keeper://U/custom_field/Größe[0]", &["XL"]),
        ("44", "keeper://U/custom_field/NullVal", &["null"]),
        ("45", "keeper://U/custom_field/NoValue", &[]),
        (
            "46",
            "keeper://U/custom_field/Nested[0][a]",
            &[r#"{"b":1}"#],
        ),
        ("47", "keeper://U/custom_field/Nested[0][n]", &["5"]),
        ("47", "keeper://U/custom_field/Nested[0][t]", &["true"]),
        ("47", "keeper://U/custom_field/Nested[0][z]", &["null"]),
        ("48", "keeper://U/custom_field/Nested[][s]", &["str"]),
        ("49", "keeper://U/custom_field/12", &["twelve"]),
        ("51", "keeper://U/file/tls.crt", &["Q0VSVA"]),
        ("52", "keeper://U/file/Server cert", &["Q0VSVA"]),
        ("53", "keeper://U/file/f2AAAAAAAAAAAAAAAAAAAA", &["__4_Pg"]),
        ("57", r"keeper://we\/ird \[t\]\\itle/field/login", &["esc"]),
        ("58", r"keeper://we\/ird [t]\\itle/field/login", &["esc"]),
        (
            "60",
            "keeper://ABCDEFGHIJKLMNOPQRSTUV/field/login",
            &["uidlike"],
        ),
        ("61", "keeper://Zürich DB/field/login", &["zh"]),
        ("62", "keeper://D/field/login", &["first"]),
        ("62, by title", "keeper://Dupe/field/login", &["first"]),
        ("64", "keeper://Two logins/field/B", &["lb"]),
        ("70", "keeper://U/type/", &["login"]),
        ("77", "keeper:///field/login", &["nameless"]),
    ];
    assert_eq!(crate::fixture::uid("f2").as_str(), F2);
    for (row, notation, want) in table {
        let got = results(&expand(notation));
        assert_eq!(
            got.as_deref().map_err(Clone::clone),
            Ok(&*want.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>()),
            "row {row}"
        );
    }
}

#[test]
fn base64_of_a_whole_notation() {
    let text = expand("keeper://U/field/login");
    let padded = STANDARD.encode(&text);
    assert!(padded.ends_with('='));
    for encoded in [padded.as_str(), padded.trim_end_matches('=')] {
        assert_eq!(
            results(encoded),
            Ok(vec!["svc-orders".to_owned()]),
            "rows 74 and 75"
        );
    }
}

#[test]
fn errors() {
    let table = [
        (
            "13",
            "keeper://U/field/url[2]",
            "has 2 values, counted from 0: there is no [2]",
        ),
        ("15", "keeper://U/field/oneTimeCode[0]", "has 0 values"),
        (
            "20",
            "keeper://U/field/host[hostName]",
            "syntax: the first index must be a number",
        ),
        (
            "21",
            "keeper://U/field/host[0][nope]",
            "has no member `nope`",
        ),
        (
            "30",
            "keeper://U/field/Login",
            "has no field `Login`; the nearest are `login`",
        ),
        ("31", "keeper://U/field/login[0][x]", "has no member `x`"),
        (
            "36",
            "keeper://U/custom_field/Tags[-1]",
            "syntax: the first index must be a number",
        ),
        (
            "37",
            "keeper://U/custom_field/Dup",
            "has 2 custom fields `Dup`",
        ),
        (
            "38",
            "keeper://U/custom_field/text",
            "has 7 custom fields `text`",
        ),
        ("39", "keeper://U/field/Env", "has no field `Env`"),
        (
            "40",
            "keeper://U/custom_field/login",
            "has no custom field `login`",
        ),
        (
            "50",
            "keeper://V/custom_field/Env",
            "has no custom field `Env`",
        ),
        ("54", "keeper://U/file/same", "has 2 files `same`"),
        (
            "55",
            "keeper://U/file/tls.crt[0]",
            "syntax: file takes no index",
        ),
        ("56", "keeper://V/file/x", "has no file `x`"),
        (
            "59",
            "keeper://Twin/field/login",
            "several records fit `Twin`",
        ),
        (
            "63",
            "keeper://Two logins/field/login",
            "has 2 fields `login`",
        ),
        (
            "65",
            "keeper://orders db/field/login",
            "no record `orders db` is shared",
        ),
        ("66", "keeper://U", "syntax: no selector"),
        ("66", "keeper://U/", "syntax: no selector"),
        ("66", "keeper://", "syntax: no selector"),
        ("67", "keeper://U/field", "syntax: field needs a name"),
        ("67", "keeper://U/field/", "syntax: field needs a name"),
        ("67", "keeper://U/file", "syntax: file needs a name"),
        ("68", "keeper://U/bogus/x", "syntax: "),
        ("68", "keeper://U/type/extra", "syntax: extra characters"),
        ("68", "https://x/y", "syntax: "),
        ("69", "keeper://U/type[0]", "syntax: no selector"),
        (
            "71",
            "keeper://U/field/name[0][last][x]",
            "syntax: extra characters",
        ),
        (
            "72",
            "keeper://U/field/name[0]x",
            "syntax: unbalanced brackets",
        ),
        (
            "72",
            "keeper://U/field/name[0",
            "syntax: unbalanced brackets",
        ),
        (
            "72",
            "keeper://U/field/name[[0]]",
            "syntax: unbalanced brackets",
        ),
        ("73", r"keeper://U/field/bad\q", "syntax: "),
        ("73", r"keeper://U/field/bad\", "syntax: "),
        (
            "76",
            "keeper://U/field/url[18446744073709551615]",
            "there is no [18446744073709551615]",
        ),
        (
            "78",
            "keeper://U/field/name/first",
            "has no field `name/first`",
        ),
        ("79", " keeper://U/field/login", "syntax: "),
    ];
    for (row, notation, want) in table {
        let error = results(&expand(notation)).unwrap_err();
        assert!(error.contains(want), "row {row}: {error}");
        for secret in ["svc-orders", "https://", "db1.internal", "rotate", "p/[w]"] {
            assert!(!error.contains(secret), "row {row}: {error}");
        }
    }
    assert_eq!("".parse::<Notation>(), Err(NotationError::Empty));
}

#[test]
fn exactly_one() {
    let (vault, _) = fixture();
    let one = |notation: &str| {
        let notation: Notation = expand(notation).parse().unwrap();
        let record = vault.find(None, &notation.record).unwrap().record;
        match select_one(record, &notation.selector) {
            Ok(Single::Value(value)) => Ok(value.text().expose().to_owned()),
            Ok(Single::File(file)) => Ok(format!("file {}", file.name())),
            Err(error) => Err(error.to_string()),
        }
    };
    let ok = |text: &str| Ok(text.to_owned());
    assert_eq!(one("U/field/login"), ok("svc-orders"));
    assert_eq!(one("U/field/phone[1][ext]"), ok(""));
    assert_eq!(one("U/custom_field/Nested[0][a]"), ok(r#"{"b":1}"#));
    assert_eq!(one("U/file/tls.crt"), ok("file tls.crt"));
    for nothing in [
        "U/custom_field/NullVal",
        "U/custom_field/NoValue",
        "U/field/oneTimeCode",
        "V/notes",
        "U/custom_field/Nested[0][z]",
    ] {
        let error = one(nothing).unwrap_err();
        assert!(error.ends_with("has no value"), "{error}");
    }
    assert_eq!(
        one("U/field/url").unwrap_err(),
        "`field/url` of the record `Orders DB` has 2 values: choose one by an index, [0] to [1]"
    );
    assert_eq!(
        one("U/field/nothing").unwrap_err(),
        "the record `Orders DB` has no field `nothing`"
    );
}

#[test]
fn values_keep_their_spelling_and_order() {
    let text = r#"{"title":"T","type":null,"fields":[{"type":"x","value":[ {"b": 1.50, "a" : 1e3, "b2":12345678901234567890123} ]},
        {"type":"esc","value":["l1\nl2 \u00fc\/ \ud83d\ude00"]},{"type":5,"label":["odd"],"value":"no array"}],"notes":"a\tb"}"#;
    let vault = vault(&[("a", text)]);
    let get = |notation: &str| {
        let notation: Notation = notation.parse().unwrap();
        match evaluate(&vault, None, &notation).unwrap() {
            Evaluated::Values(values) => values
                .iter()
                .map(|v| v.text().expose().to_owned())
                .collect::<Vec<_>>(),
            Evaluated::File(_) => vec![],
        }
    };
    assert_eq!(
        get("T/field/x"),
        [r#"{"b":1.50,"a":1e3,"b2":12345678901234567890123}"#]
    );
    assert_eq!(get("T/field/x[0][b]"), ["1.50"]);
    assert_eq!(get("T/field/esc"), ["l1\nl2 ü/ 😀"]);
    assert_eq!(get("T/notes"), ["a\tb"]);
    assert_eq!(get("T/type"), Vec::<String>::new());
    let record = &vault.records[0];
    let content = record.content();
    assert_eq!(content.fields[2].field_type, "");
    assert!(content.fields[2].label.is_none() && content.fields[2].values.is_empty());
    assert_eq!(record.record_type(), "");
}

#[test]
fn an_unreadable_record_is_not_reported_as_missing() {
    let mut bad = with_uid(record("a", &app_key(), &titled("A")), U);
    bad["data"] = json!("AAAA");
    let vault = open(&json!({"records": [bad]}));
    let notation: Notation = expand("U/field/login").parse().unwrap();
    let error = evaluate(&vault, None, &notation).unwrap_err();
    assert!(matches!(
        error,
        EvaluateError::Lookup(LookupError::Unreadable { .. })
    ));
}

#[test]
fn a_file_that_was_tampered_with_does_not_open() {
    let (vault, contents) = fixture();
    let file = &vault.get(U.parse().unwrap()).unwrap().files()[0];
    let good = encoding::decode(&contents[0].1).unwrap();
    assert!(file.open_content(good.clone()).is_ok());
    for len in [0, 10, good.len() - 1] {
        assert!(
            file.open_content(Zeroizing::new(good[..len].to_vec()))
                .is_err()
        );
    }
}

proptest::proptest! {
    #[test]
    fn no_notation_panics(text: String, selector in "(U|V|Twin|)/(type|notes|file|field|custom_field)/?.{0,12}") {
        let (vault, _) = fixture();
        for text in [text, expand(&selector)] {
            if let Ok(notation) = Notation::parse_encoded(&text) {
                let _ = evaluate(&vault, None, &notation);
            }
        }
    }
}
