//! JSON text handled where it lies: secrets are not copied through a parser's buffers, numbers keep their
//! spelling and objects their order.
//!
//! The functions take text that serde_json has accepted; on anything else they return something, and don't
//! panic.

use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::secret::SecretText;

/// The text of a JSON string, or nothing where `raw` is no string.
pub(crate) fn string(raw: &RawValue) -> Option<SecretText<'_>> {
    let inner = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        Some(SecretText::owned(unescape(inner)))
    } else {
        Some(SecretText::borrowed(inner))
    }
}

/// `raw` without white space between its tokens; everything else stays as it was written.
pub(crate) fn compact(raw: &RawValue) -> SecretText<'_> {
    let text = raw.get();
    let mut parts = tokens(text);
    // Mostly there is nothing to remove.
    if parts.next().is_some_and(|first| first.len() == text.len()) {
        return SecretText::borrowed(text);
    }
    let mut out = Zeroizing::new(String::with_capacity(text.len()));
    tokens(text).for_each(|part| out.push_str(part));
    SecretText::owned(out)
}

/// How deep arrays and objects are nested in each other.
pub(crate) fn depth(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut string = InString::default();
    for byte in text.bytes() {
        match byte {
            _ if string.step(byte) => {}
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Whether a byte belongs to a string, told byte by byte.
#[derive(Default)]
struct InString {
    inside: bool,
    escaped: bool,
}

impl InString {
    fn step(&mut self, byte: u8) -> bool {
        let was_inside = self.inside;
        if self.escaped {
            self.escaped = false;
        } else if was_inside && byte == b'\\' {
            self.escaped = true;
        } else if byte == b'"' {
            self.inside = !was_inside;
        }
        was_inside || self.inside
    }
}

/// The runs of `text` between its insignificant white space.
fn tokens(text: &str) -> impl Iterator<Item = &str> {
    let mut string = InString::default();
    text.split(move |c: char| {
        // Only ASCII has a meaning in JSON's grammar.
        let byte = u8::try_from(c).ok().filter(u8::is_ascii).unwrap_or(b'x');
        !string.step(byte) && matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
    })
}

/// Resolves the escapes of a JSON string's inside. A lone surrogate, which no text can hold, becomes U+FFFD.
fn unescape(inner: &str) -> Zeroizing<String> {
    // An escape never is shorter than what it stands for: no reallocation leaves a copy behind.
    let mut out = Zeroizing::new(String::with_capacity(inner.len()));
    let mut rest = inner;
    while let Some((plain, tail)) = rest.split_once('\\') {
        out.push_str(plain);
        let mut chars = tail.chars();
        let c = match chars.next() {
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('u') => {
                let (c, tail) = unicode(chars.as_str());
                chars = tail.chars();
                c
            }
            Some(other) => other,
            None => break,
        };
        out.push(c);
        rest = chars.as_str();
    }
    out.push_str(rest);
    out
}

/// The character of `XXXX`, or of `XXXX\uXXXX` where that is a surrogate pair, and what follows.
fn unicode(text: &str) -> (char, &str) {
    let Some((high, rest)) = hex4(text) else {
        return (char::REPLACEMENT_CHARACTER, text);
    };
    let pair = rest
        .strip_prefix("\\u")
        .and_then(hex4)
        .and_then(|(low, rest)| {
            let c = char::decode_utf16([high, low]).next()?.ok()?;
            Some((c, rest))
        });
    match char::from_u32(u32::from(high)) {
        Some(c) => (c, rest),
        None => pair.unwrap_or((char::REPLACEMENT_CHARACTER, rest)),
    }
}

fn hex4(text: &str) -> Option<(u16, &str)> {
    let (digits, rest) = text.split_at_checked(4)?;
    Some((u16::from_str_radix(digits, 16).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        serde_json::from_str(text).unwrap()
    }

    fn text(json: &str) -> Option<String> {
        string(&raw(json)).map(|text| text.expose().to_owned())
    }

    #[test]
    fn strings_lose_their_escapes() {
        for (json, want) in [
            (r#""""#, ""),
            (r#""plain ü""#, "plain ü"),
            (r#""a\"b\\c\/d""#, "a\"b\\c/d"),
            (r#""\b\f\n\r\t""#, "\u{8}\u{c}\n\r\t"),
            (r#""\u00fcx\u20ac""#, "üx€"),
            (r#""\ud83d\ude00!""#, "😀!"),
            (r#""\ud83d!""#, "\u{fffd}!"),
            (r#""\ud83dA""#, "\u{fffd}A"),
            (r#""\ude00""#, "\u{fffd}"),
        ] {
            assert_eq!(text(json).as_deref(), Some(want), "{json}");
        }
        for json in ["1", "null", "[\"a\"]", "{}"] {
            assert_eq!(text(json), None, "{json}");
        }
    }

    #[test]
    fn compacting_keeps_strings_order_and_numbers() {
        let json = "{ \"b\" : [1.50, 1e3 ,\n{}],\t\"a b\":\" \\\" x \" }";
        let want = "{\"b\":[1.50,1e3,{}],\"a b\":\" \\\" x \"}";
        assert_eq!(compact(&raw(json)).expose(), want);
        assert!(matches!(compact(&raw(want)), SecretText::Borrowed(_)));
    }

    #[test]
    fn depth_ignores_what_stands_in_strings() {
        for (json, want) in [
            ("1", 0),
            ("[]", 1),
            (r#"{"a":["[[\"["]}"#, 2),
            ("[[],[[]]]", 3),
        ] {
            assert_eq!(depth(json), want, "{json}");
        }
    }

    proptest::proptest! {
        #[test]
        fn strings_agree_with_serde_json(value: String) {
            let json = serde_json::to_string(&value).unwrap();
            assert_eq!(text(&json), Some(value));
        }

        #[test]
        fn no_inside_of_a_string_panics(inner: String) {
            unescape(&inner);
        }

        #[test]
        fn escapes_agree_with_serde_json(parts in proptest::collection::vec(
            proptest::sample::select(vec!["a", "ü", "\\n", "\\u0041", "\\ud83d\\ude00", "\\\\", "\\/", " "]), 0..12)
        ) {
            let json = format!("\"{}\"", parts.concat());
            assert_eq!(text(&json), serde_json::from_str::<String>(&json).ok());
        }
    }
}
