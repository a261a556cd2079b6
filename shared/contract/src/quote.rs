//! A user's text in a message: on one line and bounded, since it goes into an API answer.

/// Longest piece of a user's value that a message repeats, in characters.
pub(crate) const QUOTED: usize = 80;

/// A user's text for a message: quoted, on one line, of bounded length.
pub(crate) fn quoted(text: &str) -> String {
    format!("`{}`", clip(text, QUOTED))
}

/// `text` on one line, cut after `limit` characters.
pub(crate) fn clip(text: &str, limit: usize) -> String {
    // As most are.
    if text.len() <= limit && !text.contains(char::is_control) {
        return text.to_owned();
    }
    let clean = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    if text.chars().nth(limit).is_none() {
        return text.chars().map(clean).collect();
    }
    let kept = text.chars().take(limit.saturating_sub(1)).map(clean);
    kept.chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_text_is_one_short_line() {
        assert_eq!(quoted("a\nb"), "`a\u{fffd}b`");
        assert_eq!(quoted(&"ä".repeat(100)).chars().count(), QUOTED + 2);
    }
}
