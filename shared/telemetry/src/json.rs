//! JSON in which nothing hides: characters that reorder or vanish on a screen are escaped as well.
//!
//! Names in log lines come from whoever may create a pod. A right-to-left override in one would show its line in another order
//! than it has; as `\u202e` it is the same text to every parser.

use std::io;

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter};

/// `value` as compact JSON on one line, with what is [hidden](is_hidden) escaped.
///
/// # Errors
/// If `value` has no JSON form.
pub fn to_json<T: Serialize + ?Sized>(value: &T) -> serde_json::Result<String> {
    let mut bytes = Vec::with_capacity(256);
    value.serialize(&mut serde_json::Serializer::with_formatter(
        &mut bytes, Visible,
    ))?;
    String::from_utf8(bytes).map_err(|error| serde_json::Error::io(io::Error::other(error)))
}

/// Whether a character is a control character, of whatever kind: one that breaks a line, moves others, or is not seen itself.
#[must_use]
pub fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

struct Visible;

impl Formatter for Visible {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        if fragment.is_ascii() && !fragment.contains('\u{7f}') {
            return writer.write_all(fragment.as_bytes());
        }
        for character in fragment.chars() {
            if is_hidden(character) {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            } else {
                CompactFormatter
                    .write_string_fragment(writer, character.encode_utf8(&mut [0; 4]))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_hides_is_escaped_and_means_the_same() {
        let text = "a\u{202e}b\u{200b}\u{2028}\u{feff}\u{9b}\u{7f}\n\"\\é漢🙂\u{e0041}";
        let value = json!({ "k": text, "list": [text, 1, null, true] });
        let written = to_json(&value).unwrap();
        assert!(!written.chars().any(is_hidden), "{written}");
        assert!(
            written.contains("\\u202e") && written.contains("é漢🙂"),
            "{written}"
        );
        assert!(written.contains("\\udb40\\udc41"), "{written}");
        assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), value);
    }
}
