//! `properties`: a line `key=value` for each field, as `java.util.Properties` stores and loads it. All of it is
//! ASCII, because Java reads such a file as ISO 8859-1 or as UTF-8, depending on who asks.

use keeper_contract::Format;

use super::Buffer;
use super::flat::Flat;

pub(super) const PROPERTIES: Flat = Flat {
    format: Format::Properties,
    head: "",
    name: str::to_owned,
    entry,
};

fn entry(out: &mut Buffer, key: &str, value: &str) -> Result<(), &'static str> {
    out.escaped(key, |c| c == ' ' || is_special(c), escape);
    out.push("=");
    // Only a blank at the start would be lost.
    let rest = value.strip_prefix(' ');
    out.push(if rest.is_some() { r"\ " } else { "" });
    out.escaped(rest.unwrap_or(value), is_special, escape);
    out.push("\n");
    Ok(())
}

fn is_special(c: char) -> bool {
    matches!(c, '\\' | '=' | ':' | '#' | '!') || !matches!(c, ' '..='~')
}

fn escape(out: &mut Buffer, c: char) {
    match c {
        '\t' => out.push(r"\t"),
        '\n' => out.push(r"\n"),
        '\r' => out.push(r"\r"),
        '\u{c}' => out.push(r"\f"),
        ' '..='~' => {
            out.push("\\");
            out.push(c.encode_utf8(&mut [0; 4]));
        }
        other => {
            for unit in other.encode_utf16(&mut [0; 2]) {
                out.format(format_args!("\\u{unit:04x}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::flat;

    #[test]
    fn keys_and_values_are_escaped() {
        for (key, value, want) in [
            ("a", "", "a=\n"),
            ("a", "plain value ", "a=plain value \n"),
            ("a", "  x", "a=\\  x\n"),
            ("a", " ", "a=\\ \n"),
            ("a", "\tx", "a=\\tx\n"),
            ("a", "a=b:c#d!e\\", "a=a\\=b\\:c\\#d\\!e\\\\\n"),
            ("a", "l1\r\nl2\n", "a=l1\\r\\nl2\\n\n"),
            (
                "a",
                "ü€😀\0\u{7f}",
                "a=\\u00fc\\u20ac\\ud83d\\ude00\\u0000\\u007f\n",
            ),
            ("API key: x", "v", "API\\ key\\:\\ x=v\n"),
            ("#ü", "v", "\\#\\u00fc=v\n"),
            ("", "v", "=v\n"),
        ] {
            assert_eq!(
                flat::entry(&PROPERTIES, key, value).as_deref(),
                Ok(want),
                "{key} {value}"
            );
        }
    }
}
