//! A record in each format, as a pod finds it.

use keeper_e2e::{Namespace, pods};

/// Something has a meaning in each of the formats.
const PASSWORD: &str = "it's \"$HOME\" \\ = # ü";

#[test]
fn a_pod_reads_a_record_in_each_format() {
    let namespace = Namespace::new("formats");
    namespace
        .keeper()
        .set("pair", &["login=orders", &format!("password={PASSWORD}")]);
    let cat = "cat /keeper/secrets/pair";
    let source = "set -eu; . /keeper/secrets/pair; printf '%s %s' \"$LOGIN\" \"$PASSWORD\"";
    let shapes = [
        ("env", source, format!("orders {PASSWORD}")),
        (
            "json",
            cat,
            "{\n  \"login\": \"orders\",\n  \"password\": \"it's \\\"$HOME\\\" \\\\ = # ü\"\n}"
                .into(),
        ),
        (
            "yaml",
            cat,
            "login: \"orders\"\npassword: \"it's \\\"$HOME\\\" \\\\ = # ü\"\n".into(),
        ),
        (
            "properties",
            cat,
            "login=orders\npassword=it's \"$HOME\" \\\\ \\= \\# \\u00fc\n".into(),
        ),
        (
            "ini",
            cat,
            format!("[secret]\nlogin = orders\npassword = {PASSWORD}\n"),
        ),
    ];
    for (format, script, _) in &shapes {
        let annotations = [("format", *format), ("secret", "pair:/keeper/secrets/pair")];
        namespace.apply(&pods::once(pods::annotated(format, &annotations, script)));
    }
    for (format, _, want) in &shapes {
        namespace.wait_for_success(format, 90);
        assert_eq!(&namespace.logs(format, pods::APP), want, "{format}");
    }
    // One value has but one form.
    let field = pods::annotated(
        "raw",
        &[("format", "raw"), ("secret-pair", "pair[password]")],
        cat,
    );
    namespace.apply(&pods::once(field));
    namespace.wait_for_success("raw", 90);
    assert_eq!(namespace.logs("raw", pods::APP), PASSWORD);
    let record = pods::annotated("record", &[("format", "raw"), ("secret", "pair")], cat);
    let denied = namespace.try_apply(&record);
    assert!(!denied.success);
    assert!(
        denied
            .stderr
            .contains("select one field, as in record[password]"),
        "{}",
        denied.stderr
    );
}
