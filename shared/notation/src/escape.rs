//! Backslash escapes: `\/ \[ \] \\ \: \,` stand for the character itself, everywhere in the grammar.

use std::borrow::Cow;

/// Characters that a backslash may precede.
const ESCAPABLE: [char; 6] = ['/', '[', ']', '\\', ':', ','];

/// A backslash before something that cannot be escaped, or at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(r"bad escape at character {position}: only \/ \[ \] \\ \: and \, are known; write a backslash itself as \\")]
pub struct BadEscape {
    /// Position of the backslash, in characters from 1.
    pub position: usize,
}

/// Removes the escapes of `text`.
///
/// # Errors
/// A backslash before any other character, or at the end.
pub fn unescape(text: &str) -> Result<Cow<'_, str>, BadEscape> {
    if !text.contains('\\') {
        return Ok(text.into());
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().enumerate();
    while let Some((position, c)) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some((_, escaped)) if ESCAPABLE.contains(&escaped) => out.push(escaped),
            _ => {
                return Err(BadEscape {
                    position: position + 1,
                });
            }
        }
    }
    Ok(out.into())
}

/// Puts a backslash before each character of `text` that is in `special`, and before each backslash.
#[must_use]
pub fn escape<'a>(text: &'a str, special: &[char]) -> Cow<'a, str> {
    let is_special = |c: char| c == '\\' || special.contains(&c);
    if !text.contains(is_special) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_special(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out.into()
}

/// Byte offsets of the unescaped occurrences of `wanted` in `text`.
pub fn unescaped(text: &str, wanted: char) -> impl DoubleEndedIterator<Item = usize> + '_ {
    let mut escaped = false;
    let offsets: Vec<usize> = text
        .char_indices()
        .filter_map(|(offset, c)| {
            let literal = escaped;
            escaped = !literal && c == '\\';
            (!literal && c == wanted).then_some(offset)
        })
        .collect();
    offsets.into_iter()
}

/// `text` cut at each unescaped `separator`; the parts keep their escapes. Never empty.
#[must_use]
pub fn split_unescaped(text: &str, separator: char) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    let mut start = 0;
    for offset in unescaped(text, separator) {
        let (part, tail) = rest.split_at(offset - start);
        parts.push(part);
        let mut tail = tail.chars();
        tail.next();
        rest = tail.as_str();
        start = offset + separator.len_utf8();
    }
    parts.push(rest);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_removed_and_nothing_else() {
        for (text, want) in [
            ("", ""),
            ("plain", "plain"),
            (r"a\/b", "a/b"),
            (r"Orders \[prod\]", "Orders [prod]"),
            (r"\\\\", r"\\"),
            (r"a\:b\,c", "a:b,c"),
            (r"Zürich \[ä\]", "Zürich [ä]"),
        ] {
            assert_eq!(unescape(text), Ok(want.into()), "{text}");
        }
    }

    #[test]
    fn a_bad_escape_is_named_by_its_position_in_characters() {
        assert_eq!(unescape(r"bad\q"), Err(BadEscape { position: 4 }));
        assert_eq!(unescape(r"ü\"), Err(BadEscape { position: 2 }));
    }

    #[test]
    fn splitting_honours_escapes() {
        assert_eq!(split_unescaped("", '/'), [""]);
        assert_eq!(split_unescaped("a/b//c", '/'), ["a", "b", "", "c"]);
        assert_eq!(split_unescaped(r"a\/b/c", '/'), [r"a\/b", "c"]);
        assert_eq!(split_unescaped(r"a\\/c", '/'), [r"a\\", "c"]);
        assert_eq!(split_unescaped("ü/ö/", '/'), ["ü", "ö", ""]);
    }
}
