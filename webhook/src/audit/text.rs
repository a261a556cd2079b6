//! Others' texts, bounded: whoever creates a pod chooses names, and neither a line nor an answer grows with them.
//!
//! What counts is the length that a text has as JSON, where a control character takes six bytes or twelve.

use keeper_telemetry::is_hidden;
use serde::Serialize;

/// What stands behind a text that was cut.
const CUT: char = '…';
/// Room for names in one list, in bytes of JSON.
const LIST: usize = 4096;
/// Room for one name in a list.
const LISTED: usize = 256;

/// `text`, cut to `room` bytes of JSON.
pub(crate) fn clip(text: &str, room: usize) -> String {
    let mut taken = 0;
    let kept = text.char_indices().find_map(|(at, character)| {
        taken += cost(character);
        (taken > room).then_some(at)
    });
    match kept.and_then(|end| text.get(..end)) {
        Some(kept) => format!("{kept}{CUT}"),
        None => text.to_owned(),
    }
}

/// The bytes of a character as JSON, or more.
fn cost(character: char) -> usize {
    match character {
        '"' | '\\' => 2,
        // As nearly all are.
        ' '..='~' => 1,
        hidden if is_hidden(hidden) => 6 * hidden.len_utf16(),
        other => other.len_utf8(),
    }
}

/// Names in a bounded list.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct Names {
    kept: Vec<String>,
    /// How many more there were.
    #[serde(skip)]
    pub(crate) omitted: usize,
}

impl Names {
    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }
}

impl<'a> FromIterator<&'a str> for Names {
    fn from_iter<T: IntoIterator<Item = &'a str>>(names: T) -> Self {
        let mut list = Self::default();
        let mut room = LIST;
        for name in names {
            let name = clip(name, LISTED);
            let length = name.chars().map(cost).sum::<usize>() + 3;
            if list.omitted == 0 && length <= room {
                room -= length;
                list.kept.push(name);
            } else {
                list.omitted += 1;
            }
        }
        list
    }
}

#[cfg(test)]
mod tests {
    use keeper_telemetry::to_json;

    use super::*;

    #[test]
    fn a_text_is_cut_at_a_character_by_its_length_as_json() {
        assert_eq!(clip("web-1", 5), "web-1");
        assert_eq!(clip("web-12", 5), "web-1…");
        assert_eq!(clip("äöü", 5), "äö…");
        assert_eq!(clip("\u{202e}\u{7}x", 12), "\u{202e}\u{7}…");
        for text in ["\u{e0041}", "\n", "\"", "é", "🙂", "\u{7f}", "\u{202e}"] {
            let written = to_json(&clip(&text.repeat(9000), 300)).unwrap();
            assert!(written.len() <= 300 + "\"…\"".len(), "{written}");
        }
    }

    #[test]
    fn a_list_is_bounded_and_says_how_many_are_missing() {
        let few: Names = ["a", "b"].into_iter().collect();
        assert_eq!(
            (to_json(&few).unwrap().as_str(), few.omitted),
            ("[\"a\",\"b\"]", 0)
        );
        for name in ["x".repeat(5000), "\u{e0041}".repeat(5000), String::new()] {
            let many: Names = std::iter::repeat_n(name.as_str(), 10_000).collect();
            assert!(to_json(&many).unwrap().len() <= LIST + 2);
            assert_eq!(many.kept.len() + many.omitted, 10_000);
            assert!(many.kept.len() > 10);
        }
    }
}
