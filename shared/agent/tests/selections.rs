//! From what an annotation says to the bytes of a file: the contract's own parser, and a vault with everything in it that a
//! selection can mean.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
#![expect(dead_code, reason = "each test binary uses a part of the support")]

mod support;

use keeper_contract::selection::{Value, parse, parse_attachment};
use keeper_contract::{Format, Output, Selection};
use support::{Bench, failures, refresh};

const VAULT: &str = r#"
folders:
- name: F
  records:
  - {title: R, url: [https://a.example, https://b.example], password: in F}
- name: Development
  folders:
  - name: Databases
    records:
    - {title: mysql-dev, login: dev}
- name: Production
  folders:
  - name: Databases
    records:
    - title: mysql-prod
      type: databaseCredentials
      login: prod
      files: [{name: ca.pem, title: Root, text: PEM}]
- name: Prod/EU
  records:
  - {title: slashed, password: in EU}
records:
- {title: 'Orders [prod]', password: brackets}
- {title: 'a:b', password: colon}
- {title: 'one, two', password: comma}
- title: payment
  uid: Qz3kT0bXv9mWc5rLr2Hn8A
  login: merchant
  host: pay.example:443
  notes: changed every quarter
  custom:
  - {type: text, label: Regions, value: [eu, us]}
  - {type: secret, label: 'web/hook [x]', value: whsec}
  - {type: text, label: login, value: not this one}
- {title: Twin, uid: AAAAAAAAAAAAAAAAAAAAAA, password: first}
- {title: Twin, uid: BBBBBBBBBBBBBBBBBBBBBB, password: second}
"#;

/// What a pod with this one selection has published, or why it has not.
async fn published(text: &str, strict: bool) -> Result<String, String> {
    let (selection, path) = match text.strip_prefix("file-x: ") {
        Some(text) => parse_attachment(text).unwrap(),
        None => match parse(text).unwrap() {
            Value::Selection(selection, path) => (selection, path),
            Value::PathOnly(path) => panic!("{path}"),
        },
    };
    assert!(
        path.is_none_or(|path| path.as_str().starts_with("/x")),
        "{text}"
    );
    let mut bench = Bench::new(VAULT, &[]).await;
    bench.config.strict_lookup = strict;
    bench.config.outputs = vec![Output {
        directory: 0,
        path: "x".into(),
        format: match &selection {
            Selection::Record(_) => Format::Json,
            _ => Format::Raw,
        },
        selection,
        fields: Vec::new(),
        mode: None,
        annotation: "keeper.security/secret-x".into(),
    }];
    let refreshed = refresh(&mut bench.agent()).await;
    match bench.read("x") {
        Some(text) => Ok(text),
        None => Err(failures(&refreshed).join("; ")),
    }
}

#[tokio::test]
async fn each_form_of_a_selection_is_published() {
    for (text, want) in [
        // Titles with everything that has a meaning elsewhere.
        (r"Orders \[prod\][password]", "brackets"),
        ("Orders [prod][password]", "brackets"),
        (r"Orders \[prod\]/field/password", "brackets"),
        ("a:b[password]:/x", "colon"),
        (r"a\:b/field/password:/x", "colon"),
        (r"one\, two[password]", "comma"),
        // In shared folders and folders below them, by path; by UID; a whole record.
        ("F/R/field/url[1]:/x", "https://b.example"),
        ("keeper://F/R/field/url[0]", "https://a.example"),
        ("F/R[password]", "in F"),
        (r"Prod\/EU/slashed[password]", "in EU"),
        ("R[url]", r#"["https://a.example","https://b.example"]"#),
        (
            "Development/Databases/mysql-dev:/x.json",
            "{\n  \"login\": \"dev\"\n}",
        ),
        (
            "Production/Databases/mysql-prod/type:/x.txt",
            "databaseCredentials",
        ),
        ("Production/Databases/mysql-prod/TITLE", "mysql-prod"),
        ("Qz3kT0bXv9mWc5rLr2Hn8A[login]", "merchant"),
        // Notes, members, custom fields.
        ("payment/notes", "changed every quarter"),
        ("payment[notes]", "changed every quarter"),
        ("payment/field/host[0][hostName]", "pay.example"),
        (
            "payment/field/host",
            r#"{"hostName":"pay.example","port":"443"}"#,
        ),
        ("payment/custom_field/Regions[1]", "us"),
        ("payment[Regions]", r#"["eu","us"]"#),
        (r"payment/custom_field/web\/hook \[x\]", "whsec"),
        (r"payment[web/hook \[x\]]", "whsec"),
        ("payment/custom_field/login", "not this one"),
        // Attachments.
        (
            "KEEPER://Production/Databases/mysql-prod/file/ca.pem",
            "PEM",
        ),
        ("file-x: Production/Databases/mysql-prod:Root:/x", "PEM"),
        ("file-x: mysql-prod/file/Root", "PEM"),
    ] {
        assert_eq!(published(text, true).await.as_deref(), Ok(want), "{text}");
    }
}

#[tokio::test]
async fn one_of_two_records_of_a_title_is_taken_only_where_that_is_not_strict() {
    assert_eq!(published("Twin[password]", false).await.unwrap(), "first");
    for (text, strict) in [
        ("Twin[password]", true),
        ("Twin", true),
        ("Twin/field/password", false),
        ("file-x: Twin:a", true),
    ] {
        let error = published(text, strict).await.unwrap_err();
        assert!(
            error.contains(
                "several records fit `Twin` (`AAAAAAAAAAAAAAAAAAAAAA`, `BBBBBBBBBBBBBBBBBBBBBB`)"
            ),
            "{text}: {error}"
        );
    }
    for (text, says) in [
        (
            "payment/custom_field/Regions",
            "has 2 values: choose one by an index",
        ),
        ("payment/field/Regions", "has no field `Regions`"),
        ("payment/custom_field/Regions[2]", "there is no [2]"),
        (
            "Development/Databases/mysql-prod",
            "no record `Development/Databases/mysql-prod`",
        ),
        (
            "Qz3kT0bXv9mWc5rLr2Hn8B",
            "no record `Qz3kT0bXv9mWc5rLr2Hn8B`",
        ),
        ("orders [prod]", "the nearest titles are `Orders [prod]`"),
    ] {
        let error = published(text, false).await.unwrap_err();
        assert!(error.contains(says), "{text}: {error}");
    }
}
