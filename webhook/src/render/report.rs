//! What `render` prints: pods or differences on standard output, findings on standard error in the form that
//! compilers use, and a last line that counts.

use std::io::Write;

use keeper_contract::Patch;
use serde_json::Value;
use similar::TextDiff;

use super::Outcome;
use super::manifest::{Manifest, Unreadable};
use crate::cli::RenderOutput;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Error,
    Warning,
}

/// What was found so far.
pub(crate) struct Report<'a> {
    output: RenderOutput,
    out: &'a mut dyn Write,
    log: &'a mut dyn Write,
    injected: usize,
    unchanged: usize,
    errors: usize,
    warnings: usize,
    unreadable: bool,
}

impl<'a> Report<'a> {
    pub(crate) fn new(
        output: RenderOutput,
        out: &'a mut dyn Write,
        log: &'a mut dyn Write,
    ) -> Self {
        Self {
            output,
            out,
            log,
            injected: 0,
            unchanged: 0,
            errors: 0,
            warnings: 0,
            unreadable: false,
        }
    }

    /// A finding about an object.
    pub(crate) fn say(&mut self, about: &Manifest, level: Level, text: &str) {
        let (word, count) = match level {
            Level::Error => ("error", &mut self.errors),
            Level::Warning => ("warning", &mut self.warnings),
        };
        *count += 1;
        let (file, line) = (&about.file, about.line);
        let _ = writeln!(self.log, "{file}:{line}: {word}: {about}: {text}");
    }

    /// A file of which nothing can be said.
    pub(crate) fn unreadable(&mut self, file: &str, error: &Unreadable) {
        self.unreadable = true;
        let _ = writeln!(self.log, "{file}: error: {error}");
    }

    /// An object whose pods stay as they are, as its owner wants.
    pub(crate) fn unchanged(&mut self) {
        self.unchanged += 1;
    }

    /// An object whose pods are patched.
    pub(crate) fn injected(&mut self, about: &Manifest, pod: Value, patch: &Patch) {
        self.injected += 1;
        let text = match self.text(about, pod, patch) {
            Ok(text) => text,
            Err(error) => {
                return self.cannot(&format!("{}:{}: {error}", about.file, about.line));
            }
        };
        if let Err(error) = self.out.write_all(text.as_bytes()) {
            self.cannot(&format!("cannot write: {error}"));
        }
    }

    fn text(
        &self,
        about: &Manifest,
        pod: Value,
        patch: &Patch,
    ) -> Result<String, Box<dyn std::error::Error>> {
        let mut patched = pod.clone();
        json_patch::patch(&mut patched, &patch.operations()?)?;
        let after = serde_saphyr::to_string(&patched)?;
        let (file, line) = (&about.file, about.line);
        Ok(match self.output {
            RenderOutput::Yaml => format!("---\n# {file}:{line}: {about}\n{after}"),
            RenderOutput::Diff => {
                let before = serde_saphyr::to_string(&pod)?;
                let name = format!("{file}:{line} {about}");
                TextDiff::from_lines(&before, &after)
                    .unified_diff()
                    .header(&name, &format!("{name} (injected)"))
                    .to_string()
            }
        })
    }

    fn cannot(&mut self, problem: &str) {
        self.unreadable = true;
        let _ = writeln!(self.log, "keeper-webhook: {problem}");
    }

    /// The last line, and how it ended.
    pub(crate) fn end(self, strict: bool) -> Outcome {
        let Self {
            log,
            injected,
            unchanged,
            errors,
            warnings,
            unreadable,
            ..
        } = self;
        let _ = writeln!(
            log,
            "injected: {injected}, left as they are: {unchanged}, errors: {errors}, warnings: {warnings}"
        );
        match (unreadable, errors) {
            (true, _) => Outcome::Unreadable,
            (false, 0) if warnings == 0 || !strict => Outcome::Fine,
            (false, _) => Outcome::Problems,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What the library writes has to be what kubectl reads: YAML 1.1 takes many words for something else than text.
    #[test]
    fn text_stays_text() {
        let nasty = [
            "",
            "0440",
            "0o7",
            "0x1F",
            "1_000",
            "1e3",
            "12:30:45",
            "2020-01-01",
            ".5",
            "~",
            "null",
            "true",
            "yes",
            "On",
            "n",
            "=",
            "<<",
            "- a",
            "a: b",
            "a #b",
            "#a",
            " a",
            "a ",
            "a\nb\n",
            "a\n\nb",
            "\ta",
            "\u{7}",
            "'a'",
            "\"a\"",
            "\\",
            "{a}",
            "[a]",
            "*a",
            "&a",
            "!a",
            "%a",
            "@a",
            "`a",
            "|",
            ">",
            "---",
            "...",
            "ü\u{2028}",
        ];
        let value = json!({"args": nasty.to_vec(), "long": "word ".repeat(100), "n": 440, "b": true, "none": null});
        let text = serde_saphyr::to_string(&value).unwrap();
        let options = serde_saphyr::options! {strict_booleans: false, legacy_octal_numbers: true};
        let read: Value = serde_saphyr::from_str_with_options(&text, options).unwrap();
        assert_eq!(read, value, "{text}");
    }
}
