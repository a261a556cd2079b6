//! A buffer for text that leaves nothing behind when it grows.

use std::fmt;

use zeroize::{Zeroize as _, Zeroizing};

/// Text that is being written.
#[derive(Default)]
pub(super) struct Buffer {
    text: Zeroizing<String>,
}

impl Buffer {
    pub(super) fn push(&mut self, text: &str) {
        let needed = self.text.len().saturating_add(text.len());
        if needed > self.text.capacity() {
            let mut grown = String::with_capacity(needed.saturating_mul(2));
            grown.push_str(&self.text);
            self.text.zeroize();
            *self.text = grown;
        }
        self.text.push_str(text);
    }

    /// Steps of two blanks.
    pub(super) fn indent(&mut self, depth: usize) {
        for _ in 0..depth {
            self.push("  ");
        }
    }

    /// `text`, where `escape` writes what stands for each `special` character.
    pub(super) fn escaped(
        &mut self,
        text: &str,
        special: impl Fn(char) -> bool,
        mut escape: impl FnMut(&mut Self, char),
    ) {
        for part in text.split_inclusive(&special) {
            let mut chars = part.chars();
            match chars.next_back().filter(|last| special(*last)) {
                Some(last) => {
                    self.push(chars.as_str());
                    escape(self, last);
                }
                None => self.push(part),
            }
        }
    }

    /// Formatted text, without a copy of it elsewhere.
    pub(super) fn format(&mut self, text: fmt::Arguments<'_>) {
        // Only the arguments' own formatting could fail, and numbers' does not.
        let _ = fmt::Write::write_fmt(self, text);
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    pub(super) fn into_bytes(mut self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(std::mem::take(&mut *self.text).into_bytes())
    }
}

impl fmt::Write for Buffer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_special_characters_are_replaced() {
        for (text, want) in [
            ("", ""),
            ("plain", "plain"),
            ("'", "<27>"),
            ("''", "<27><27>"),
            ("a'b'c", "a<27>b<27>c"),
            ("ü'", "ü<27>"),
        ] {
            let mut out = Buffer::default();
            out.escaped(
                text,
                |c| c == '\'',
                |out, c| out.format(format_args!("<{:x}>", u32::from(c))),
            );
            assert_eq!(out.as_str(), want, "{text}");
        }
    }
}
