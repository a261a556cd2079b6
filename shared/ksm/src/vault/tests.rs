//! What opens, what is skipped, and that nothing panics.

use serde_json::{Value, json};

use super::*;
use crate::fixture::{app_key, file, gcm, key, open, record, shared_folder, titled, uid, vault};

fn titles(vault: &Vault) -> Vec<&str> {
    vault.records.iter().map(Record::title).collect()
}

fn skipped(item: SkippedItem, reason: SkipReason) -> Skipped {
    Skipped { item, reason }
}

#[test]
fn null_missing_and_empty_are_the_same() {
    for answer in [
        json!({}),
        json!({"records": null, "folders": null, "warnings": null, "expiresOn": 0, "extra": null}),
        json!({"records": [], "folders": [], "warnings": [], "expiresOn": null}),
    ] {
        let vault = open(&answer);
        assert!(vault.records.is_empty() && vault.skipped.is_empty() && vault.warnings.is_empty());
        assert_eq!(vault.expires_on, None);
    }
    let vault = open(&json!({"warnings": ["look\n out", 5], "expiresOn": 1_700_000_000_000_u64}));
    assert_eq!(vault.warnings, ["look out"]);
    assert_eq!(vault.expires_on, Some(1_700_000_000_000));
}

#[test]
fn records_open_along_the_key_hierarchy() {
    let mut in_sub_folder = record("b", &key("folder"), &titled("B"));
    in_sub_folder["innerFolderUid"] = json!(uid("sub").as_str());
    let vault = open(&json!({
        "records": [record("a", &app_key(), &titled("A"))],
        "folders": [shared_folder("folder", json!([in_sub_folder, record("c", &key("folder"), &titled("C"))]))],
    }));
    assert_eq!(titles(&vault), ["A", "B", "C"]);
    assert_eq!(vault.skipped, []);
    assert_eq!(vault.shared_folders, [uid("folder")]);
    let location = |label| vault.get(uid(label)).unwrap().location();
    assert_eq!(location("a"), None);
    assert_eq!(location("b"), Some(uid("sub")));
    assert_eq!(location("c"), Some(uid("folder")));
    assert_eq!(
        vault.get(uid("b")).unwrap().folder_uid(),
        Some(uid("folder"))
    );
    assert_eq!(vault.get(uid("a")).unwrap().revision(), 7);
}

#[test]
fn a_single_shared_record_without_key_is_under_the_app_key() {
    for nothing in [json!(null), json!("")] {
        let mut single = record("a", &app_key(), "");
        single["recordKey"] = nothing.clone();
        single["data"] = json!(gcm(&app_key(), titled("Single")));
        assert_eq!(titles(&open(&json!({"records": [single]}))), ["Single"]);
        // In a folder it is an error of that record.
        let mut inside = record("a", &key("folder"), &titled("A"));
        inside["recordKey"] = nothing;
        let vault = open(&json!({"folders": [shared_folder("folder", json!([inside]))]}));
        let item = SkippedItem::Record(Some(uid("a")));
        assert_eq!(vault.skipped, [skipped(item, SkipReason::Key)]);
    }
}

#[test]
fn a_flat_record_may_be_under_the_key_of_its_folder() {
    let flat = |label, parent: &Key| {
        let mut record = record(label, parent, &titled(label));
        record["innerFolderUid"] = json!(uid("folder").as_str());
        record
    };
    let vault = open(&json!({
        "records": [flat("under-folder", &key("folder")), flat("under-app", &app_key())],
        "folders": [shared_folder("folder", json!([]))],
    }));
    assert_eq!(titles(&vault), ["under-folder", "under-app"]);
    assert_eq!(vault.records[0].location(), Some(uid("folder")));
}

#[test]
fn the_first_of_two_copies_stays_unless_only_the_second_opens() {
    let copy = |title: &str| record("a", &app_key(), &titled(title));
    let in_folder = record("a", &key("folder"), &titled("in folder"));
    let vault = open(&json!({
        "records": [copy("first"), copy("second")],
        "folders": [shared_folder("folder", json!([in_folder]))],
    }));
    assert_eq!(titles(&vault), ["first"]);
    let mut broken = copy("broken");
    broken["data"] = json!("AAAA");
    let vault = open(&json!({"records": [broken, copy("second")]}));
    assert_eq!(titles(&vault), ["second"]);
    assert_eq!(vault.skipped, []);
}

#[test]
fn a_folder_holds_what_lies_in_it_in_whatever_copy() {
    let inside = |label: &str| record(label, &key("folder"), &titled(label));
    let mut below = inside("below");
    below["innerFolderUid"] = json!(uid("sub").as_str());
    let mut broken = inside("broken");
    broken["data"] = json!("AAAA");
    let records = |vault: &Vault, folder| -> Vec<String> {
        let records = vault.records_in(uid(folder)).into_iter();
        records.map(|record| record.title().to_owned()).collect()
    };
    let good = json!([inside("b"), below, inside("a")]);
    let vault = open(&json!({
        "records": [record("a", &app_key(), &titled("a")), record("loose", &app_key(), &titled("loose"))],
        "folders": [shared_folder("folder", good.clone()), shared_folder("other", json!([]))],
    }));
    assert!(vault.is_whole());
    assert_eq!(records(&vault, "folder"), ["a", "b"]);
    assert_eq!(records(&vault, "sub"), ["below"]);
    assert_eq!(records(&vault, "other"), [""; 0]);

    let vault = open(&json!({"folders": [shared_folder("folder", json!([broken]))]}));
    assert!(!vault.is_whole());
    let unreadable: Vec<_> = vault.unreadable_in(uid("folder")).collect();
    assert_eq!(unreadable, [(uid("broken"), SkipReason::Data)]);
    assert_eq!(vault.unreadable_in(uid("sub")).count(), 0);
    for part in [json!(7), json!({"folderUid": uid("nokey").as_str()})] {
        let folders = json!({"folders": [shared_folder("folder", good.clone()), part]});
        assert!(!open(&folders).is_whole());
    }
}

#[test]
fn one_bad_part_hides_nothing_else() {
    let good = record("good", &app_key(), &titled("Good"));
    let mut bad_key = record("key", &key("other"), &titled("K"));
    bad_key["recordUid"] = json!(uid("key").as_str());
    let mut bad_data = record("data", &app_key(), &titled("D"));
    bad_data["data"] = json!(null);
    let mut short_key = record("short", &app_key(), "");
    short_key["recordKey"] = json!(gcm(&app_key(), "not 32 bytes"));
    let text = record("text", &app_key(), "no JSON");
    let mut bad_folder = shared_folder("folder", json!([good.clone()]));
    bad_folder["folderKey"] = json!("%%%");
    let vault = open(&json!({
        "records": [bad_key, bad_data, short_key, text, 5, null, [], "x", {}, {"recordUid": 5},
            {"recordUid": "short"}, good],
        "folders": [bad_folder, 1, {"folderUid": uid("nokey").as_str()}],
    }));
    assert_eq!(titles(&vault), ["Good"]);
    let record = |label| SkippedItem::Record(Some(uid(label)));
    let mut want = vec![
        skipped(SkippedItem::Folder(Some(uid("folder"))), SkipReason::Key),
        skipped(SkippedItem::Folder(None), SkipReason::Malformed),
        skipped(SkippedItem::Folder(Some(uid("nokey"))), SkipReason::Key),
        skipped(record("key"), SkipReason::Key),
        skipped(record("data"), SkipReason::Data),
        skipped(record("short"), SkipReason::Key),
        skipped(record("text"), SkipReason::NotARecord),
    ];
    want.extend(vec![
        skipped(
            SkippedItem::Record(None),
            SkipReason::Malformed
        );
        7
    ]);
    assert_eq!(vault.skipped, want);
    assert_eq!(vault.skipped_record(uid("data")), Some(SkipReason::Data));
    assert_eq!(vault.skipped_record(uid("good")), None);
}

#[test]
fn files_open_one_by_one() {
    let mut owner = record("a", &app_key(), &titled("A"));
    let mut broken = file("f2", "a", "b.txt", "B", b"");
    broken["fileKey"] = json!(gcm(&key("other"), *key("f2")));
    let mut odd = file("f3", "a", "", "", b"");
    odd["data"] = json!(gcm(
        &key("f3"),
        r#"{"name":"odd","size":1.5,"lastModified":17.25,"type":null}"#
    ));
    odd["url"] = json!(null);
    owner["files"] = json!([
        file("f1", "a", "a.txt", "A title", b"hello"),
        broken,
        odd,
        null,
        {}
    ]);
    let vault = open(&json!({"records": [owner]}));
    let files = vault.records[0].files();
    let names: Vec<&str> = files.iter().map(File::name).collect();
    assert_eq!(names, ["a.txt", "odd"]);
    assert_eq!(
        (files[0].title(), files[0].size(), files[1].size()),
        ("A title", Some(5), None)
    );
    assert_eq!(files[1].url(), None);
    for name in ["a.txt", "A title", uid("f1").as_str()] {
        assert!(files[0].is_called(name));
    }
    assert_eq!(
        vault.skipped,
        [
            skipped(SkippedItem::File(Some(uid("f2"))), SkipReason::Data),
            skipped(SkippedItem::File(None), SkipReason::Malformed),
            skipped(SkippedItem::File(None), SkipReason::Malformed),
        ]
    );
}

#[test]
fn every_base64_and_escaped_slashes_are_taken() {
    let answer = json!({"records": [record("a", &app_key(), &titled("A/B>?~"))]}).to_string();
    for text in [
        answer.replace('/', "\\/"),
        answer.replace('=', ""),
        answer.replace('+', "-").replace('/', "_"),
    ] {
        assert_ne!(text, answer);
        let vault = Vault::open(text.as_bytes(), &app_key()).unwrap();
        assert_eq!(titles(&vault), ["A/B>?~"], "{text}");
    }
}

#[test]
fn what_no_real_record_is_gets_skipped() {
    let with_value =
        |value: String| format!(r#"{{"fields":[{{"type":"text","value":[{value}]}}]}}"#);
    let nested = |depth: usize| with_value("[".repeat(depth) + &"]".repeat(depth));
    let long = |bytes: usize| with_value(format!("\"{}\"", "x".repeat(bytes)));
    for (text, ok) in [
        (nested(50), true),
        (nested(100), false),
        (nested(100_000), false),
        (long(1_000_000), true),
        (long(1_100_000), false),
    ] {
        let vault = vault(&[("a", &text)]);
        assert_eq!(vault.records.len(), usize::from(ok));
        assert_eq!(
            vault.skipped_record(uid("a")),
            (!ok).then_some(SkipReason::TooLarge)
        );
    }
}

#[test]
fn an_answer_that_is_no_object_is_refused_whole() {
    for text in [
        "",
        "null",
        "[]",
        "5",
        "\"x\"",
        "{",
        "{\"records\":5}",
        "{\"folders\":{}}",
        "\u{0}",
    ] {
        assert!(Vault::open(text.as_bytes(), &app_key()).is_err(), "{text}");
    }
    let many = format!("{{\"records\":[{}0]}}", "0,".repeat(MAX_ELEMENTS));
    assert!(Vault::open(many.as_bytes(), &app_key()).is_err());
}

#[test]
fn nothing_prints_a_value() {
    let mut owner = record(
        "a",
        &app_key(),
        r#"{"title":"T","fields":[{"type":"password","value":["CANARY"]}],"notes":"CANARY"}"#,
    );
    owner["files"] = json!([file("f1", "a", "a.txt", "A", b"CANARY")]);
    let vault = open(&json!({"records": [owner]}));
    let content = vault.records[0].content();
    let text = content.notes.unwrap().text();
    assert_eq!(text.expose(), "CANARY");
    let shown = format!(
        "{vault:?} {:?} {content:?} {text:?}",
        vault.records[0].files()
    );
    assert!(!shown.contains("CANARY"), "{shown}");
}

/// Any JSON at all, with the protocol's own member names.
fn any_json() -> impl proptest::strategy::Strategy<Value = Value> {
    use proptest::prelude::*;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,30}".prop_map(Value::from),
        Just(json!(uid("a").as_str())),
        Just(json!(gcm(&app_key(), *key("a")))),
        Just(json!(gcm(&key("a"), "{\"fields\":[{}]}"))),
    ];
    let names = proptest::sample::select(vec![
        "records",
        "folders",
        "recordUid",
        "recordKey",
        "data",
        "files",
        "folderUid",
        "folderKey",
        "parent",
        "innerFolderUid",
        "fileUid",
        "fileKey",
        "url",
        "revision",
        "warnings",
        "expiresOn",
    ]);
    leaf.prop_recursive(5, 60, 8, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::btree_map(names.clone().prop_map(str::to_owned), inner, 0..8)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest::proptest! {
    #[test]
    fn no_bytes_panic(bytes: Vec<u8>, text: String) {
        let _ = Vault::open(&bytes, &app_key());
        let _ = Vault::open(format!("{{\"records\":{text}").as_bytes(), &app_key());
        for vault in [vault(&[("a", &text)]), vault(&[("a", &format!("{{\"fields\":{text}"))])] {
            for record in &vault.records {
                let _ = record.content();
            }
        }
    }

    #[test]
    fn no_json_panics(answer in any_json(), text in any_json()) {
        let _ = Vault::open(answer.to_string().as_bytes(), &app_key());
        let _ = crate::Folders::open(answer.to_string().as_bytes(), &app_key());
        vault(&[("a", &text.to_string())]);
    }
}
