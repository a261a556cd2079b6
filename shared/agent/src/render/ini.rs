//! `ini`: a section `[secret]` with a line `key = value` for each field, as Python's `configparser` reads it
//! without interpolation. A value of several lines goes on in indented lines.
//!
//! The format has no escapes: a reader takes blanks off both ends of each line, lines that begin with `#` or `;`
//! are comments, and a file's carriage returns become newlines. So a value that has such a thing can't be
//! carried, and it is an error.

use keeper_contract::Format;

use super::Buffer;
use super::flat::Flat;

pub(super) const INI: Flat = Flat {
    format: Format::Ini,
    head: "[secret]\n",
    // `configparser` knows no case of keys.
    name: str::to_lowercase,
    entry,
};

fn entry(out: &mut Buffer, key: &str, value: &str) -> Result<(), &'static str> {
    check_key(key)?;
    check_value(value)?;
    out.push(key);
    out.push(" =");
    for (index, line) in value.split('\n').enumerate() {
        out.push(match (index, line) {
            (_, "") => "",
            (0, _) => " ",
            _ => "  ",
        });
        out.push(line);
        out.push("\n");
    }
    Ok(())
}

fn check_key(key: &str) -> Result<(), &'static str> {
    if key.is_empty() {
        return Err("it has no name");
    }
    if key.starts_with(['#', ';', '[']) {
        return Err("its name begins with `#`, `;` or `[`");
    }
    if key.contains(['=', ':', '\n', '\r']) {
        return Err("its name holds `=`, `:` or a line break");
    }
    if is_trimmed(key) {
        return Err("its name begins or ends with a blank");
    }
    Ok(())
}

fn check_value(value: &str) -> Result<(), &'static str> {
    if value.contains('\r') {
        return Err("its value holds a carriage return");
    }
    if value.ends_with('\n') {
        return Err("its value ends with a line break");
    }
    if value.split('\n').any(is_trimmed) {
        return Err("a line of its value begins or ends with a blank");
    }
    if value
        .split('\n')
        .skip(1)
        .any(|line| line.starts_with(['#', ';']))
    {
        return Err("a line of its value, after the first, begins with `#` or `;`");
    }
    Ok(())
}

/// Whether Python's `str.strip` takes something off.
fn is_trimmed(line: &str) -> bool {
    // Python counts four separators among the blanks that Unicode, and so Rust, does not.
    let blank = |c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c);
    line.starts_with(blank) || line.ends_with(blank)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::flat;

    #[test]
    fn values_stand_as_they_are() {
        for (key, value, want) in [
            ("a", "", "a =\n"),
            ("API key", "x y", "API key = x y\n"),
            (
                "a",
                "a=b:c ;#%(x)s \"q' \\n",
                "a = a=b:c ;#%(x)s \"q' \\n\n",
            ),
            ("a", "#x", "a = #x\n"),
            ("a", "l1\n\nl3", "a = l1\n\n  l3\n"),
            ("a", "\n[x]\nb=c", "a =\n  [x]\n  b=c\n"),
        ] {
            assert_eq!(
                flat::entry(&INI, key, value).as_deref(),
                Ok(want),
                "{key} {value}"
            );
        }
    }

    #[test]
    fn what_a_reader_would_change_is_refused() {
        for value in [
            " x", "x ", "x\t", "\u{a0}x", "x\u{1f}", "a\n b", "a \nb", "a\r\nb", "a\rb", "a\n",
            "\n", "a\n#b", "a\n;b", " ",
        ] {
            assert!(flat::entry(&INI, "a", value).is_err(), "{value:?}");
        }
        for key in [
            "", "#a", ";a", "[a]", "a=b", "a:b", "a\nb", "a\rb", " a", "a\t",
        ] {
            assert!(flat::entry(&INI, key, "x").is_err(), "{key:?}");
        }
    }
}
