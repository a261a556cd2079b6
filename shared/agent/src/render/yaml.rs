//! `yaml`: the same object as `json`, as a YAML mapping that readers of YAML 1.1 and of 1.2 understand alike.
//! Strings always stand between double quotes on one line, so that none is taken for a number, a date or a
//! boolean; what a reader would refuse or fold is escaped.

use keeper_ksm::Value;

use super::{Buffer, Members};

/// Words that are booleans or null to some reader, in any case.
const WORDS: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
/// A longer key, escaped, might be longer than the 1024 characters that a reader looks for its colon.
const LONG_KEY: usize = 100;

pub(super) fn write(out: &mut Buffer, members: &Members<'_>) {
    if members.is_empty() {
        out.push("{}\n");
    }
    for (name, values) in members {
        key(out, name, 0);
        match values {
            [one] => value(out, one, 0),
            several => sequence(out, several, 0),
        }
    }
}

/// What follows a key or a dash, which stands at `depth`, up to the end of the line or of the block.
fn value(out: &mut Buffer, of: &Value<'_>, depth: usize) {
    if let Some(members) = of.members() {
        out.push(if members.is_empty() { " {}\n" } else { "\n" });
        for (name, each) in &members {
            key(out, name, depth + 1);
            value(out, each, depth + 1);
        }
    } else if let Some(elements) = of.elements() {
        sequence(out, &elements, depth);
    } else {
        out.push(" ");
        match of.string() {
            Some(text) => quoted(out, text.expose()),
            None => plain(out, of.expose_json()),
        }
        out.push("\n");
    }
}

fn sequence(out: &mut Buffer, of: &[Value<'_>], depth: usize) {
    out.push(if of.is_empty() { " []\n" } else { "\n" });
    for each in of {
        out.indent(depth + 1);
        out.push("-");
        value(out, each, depth + 1);
    }
}

fn key(out: &mut Buffer, name: &str, depth: usize) {
    out.indent(depth);
    let is_word = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if name.len() > LONG_KEY {
        out.push("? ");
        quoted(out, name);
        out.push("\n");
        out.indent(depth);
    } else if is_word && !WORDS.iter().any(|word| name.eq_ignore_ascii_case(word)) {
        out.push(name);
    } else {
        quoted(out, name);
    }
    out.push(":");
}

/// A number, a boolean or null. YAML 1.1 takes no number with an exponent that has neither point nor sign.
fn plain(out: &mut Buffer, json: &str) {
    let is_number = json.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    let Some((mantissa, exponent)) = json.split_once(['e', 'E']).filter(|_| is_number) else {
        return out.push(json);
    };
    out.push(mantissa);
    out.push(if mantissa.contains('.') { "e" } else { ".0e" });
    out.push(if exponent.starts_with(['+', '-']) {
        ""
    } else {
        "+"
    });
    out.push(exponent);
}

fn quoted(out: &mut Buffer, text: &str) {
    out.push("\"");
    out.escaped(text, is_special, |out, c| match c {
        '"' => out.push(r#"\""#),
        '\\' => out.push(r"\\"),
        '\n' => out.push(r"\n"),
        '\r' => out.push(r"\r"),
        '\t' => out.push(r"\t"),
        other => out.format(format_args!("\\u{:04x}", u32::from(other))),
    });
    out.push("\"");
}

/// Quotes, and what is not printable to YAML, breaks a line, or is its byte order mark; all below U+10000.
fn is_special(c: char) -> bool {
    matches!(
        c,
        '"' | '\\' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
    ) || c.is_control()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn yaml(members: &[(&str, &str)]) -> String {
        let values: Vec<Vec<Value<'_>>> = members
            .iter()
            .map(|(_, json)| serde_json::from_str(json).unwrap())
            .collect();
        let members = members
            .iter()
            .zip(&values)
            .map(|((name, _), values)| (*name, values.as_slice()));
        let mut out = Buffer::default();
        write(&mut out, &members.collect());
        out.as_str().to_owned()
    }

    #[test]
    fn objects_are_blocks() {
        assert_eq!(yaml(&[]), "{}\n");
        let members = [
            ("url", r#"["https://a", null]"#),
            (
                "host",
                r#"[{"port": "1", "hostName": "db", "e": {}, "l": [], "d": {"x": [[1, []], {"y": true}]}}]"#,
            ),
            ("login", r#"["svc"]"#),
            ("empty", r#"[""]"#),
        ];
        let want = r#"empty: ""
host:
  d:
    x:
      -
        - 1
        - []
      -
        "y": true
  e: {}
  hostName: "db"
  l: []
  port: "1"
login: "svc"
url:
  - "https://a"
  - null
"#;
        assert_eq!(yaml(&members), want);
    }

    #[test]
    fn keys_that_could_be_something_else_are_quoted() {
        for (name, want) in [
            ("a_1", "a_1: 1\n"),
            ("No", "\"No\": 1\n"),
            ("1a", "\"1a\": 1\n"),
            ("a: b", "\"a: b\": 1\n"),
            ("<<", "\"<<\": 1\n"),
            ("", "\"\": 1\n"),
            ("a\nb", "\"a\\nb\": 1\n"),
        ] {
            assert_eq!(yaml(&[(name, "[1]")]), want, "{name}");
        }
        let long = "x".repeat(101);
        assert_eq!(yaml(&[(&long, "[1]")]), format!("? \"{long}\"\n: 1\n"));
    }

    #[test]
    fn scalars_mean_the_same_to_every_reader() {
        for (json, want) in [
            ("1.50", "1.50"),
            ("-1e3", "-1.0e+3"),
            ("1.5E-3", "1.5e-3"),
            ("1E+400", "1.0e+400"),
            ("false", "false"),
            (r#""no""#, r#""no""#),
            (r#""1e3""#, r#""1e3""#),
            (r#""a\"b\\c\/d\n\t\r""#, r#""a\"b\\c/d\n\t\r""#),
            (r#""ü\u00fc😀\ud83d\ude00""#, r#""üü😀😀""#),
            (
                r#""\u0000\u001b\u007f\u0085\u2028\ufeff\uffff""#,
                r#""\u0000\u001b\u007f\u0085\u2028\ufeff\uffff""#,
            ),
        ] {
            let json = format!("[{json}]");
            assert_eq!(yaml(&[("a", &json)]), format!("a: {want}\n"), "{json}");
        }
    }
}
