//! What a page tells its reader to do, and what it tells the runner.

use pulldown_cmark::{CodeBlockKind, Event, Parser, Tag, TagEnd};
use std::path::{Path, PathBuf};
use std::{fs, io};

/// Other names for the language of commands: there is to be one.
const OTHER_NAMES: [&str; 5] = ["bash", "shell", "zsh", "console", "shell-session"];

/// A page as steps, in their order.
#[derive(Debug, Default)]
pub struct Page {
    /// Its path below the root of the repository.
    pub path: String,
    /// The namespace that its commands take for granted.
    pub namespace: Option<String>,
    /// Why that namespace needs no Keeper.
    pub bare: Option<String>,
    /// Why no other page may be walked beside it.
    pub alone: Option<String>,
    /// Why it isn't walked each time.
    pub slow: Option<String>,
    /// The file, below the root, of the test that walks it.
    pub by: Option<String>,
    /// Words of its commands, and what stands for them.
    pub names: Vec<(String, String)>,
    /// What is to be done.
    pub steps: Vec<Step>,
}

/// Something to do.
#[derive(Debug)]
pub struct Step {
    /// The nearest heading above.
    pub section: String,
    /// The line of the page that it begins at, from 1.
    pub line: usize,
    /// What it is.
    pub action: Action,
}

/// What a step does.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// The reader types this.
    Run(Command),
    /// The reader types this, and we don't.
    Skip {
        /// Why not.
        reason: String,
    },
    /// The reader does the same by other means.
    Also(String),
    /// The reader has a file.
    File {
        /// Where, seen from the folder that commands run in.
        path: String,
        /// What it holds.
        text: String,
    },
}

/// A block of commands, and what is known of its outcome.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// The commands.
    pub script: String,
    /// What its output has.
    pub expect: Vec<String>,
    /// What its output has in the end.
    pub until: Option<String>,
    /// Its exit code is not 0.
    pub fails: bool,
    /// Its exit code says nothing.
    pub may_fail: bool,
}

/// Why a page can't be walked.
#[derive(Debug, thiserror::Error)]
pub enum Mistake {
    /// It can't be read.
    #[error("{path}: {source}")]
    Unreadable {
        /// The page.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// It says what nobody understands.
    #[error("{path}:{line}: {what}")]
    Unclear {
        /// The page.
        path: String,
        /// Where.
        line: usize,
        /// What is wrong, and what would be right.
        what: String,
    },
}

/// The pages of a repository, by their paths below its root.
///
/// # Errors
/// If a folder can't be read.
pub fn pages(root: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            // What is made by tools: `target`, `dist`, `out`, `node_modules`, and folders of a name that begins with a dot.
            let made = name.starts_with('.')
                || ["target", "dist", "out", "node_modules"].contains(&name.as_str());
            if path.is_dir() && !made && !path.is_symlink() {
                folders.push(path);
            } else if name.ends_with(".md") {
                let path = path.strip_prefix(root).map(Path::to_owned);
                found.push(path.unwrap_or_else(|_| PathBuf::from(name)));
            }
        }
    }
    let mut found: Vec<_> = found
        .iter()
        .map(|path| path.to_string_lossy().into_owned())
        .collect();
    found.sort();
    Ok(found)
}

impl Page {
    /// Reads a page below the root of a repository.
    ///
    /// # Errors
    /// [`Mistake`].
    pub fn read(root: &Path, path: &str) -> Result<Self, Mistake> {
        let text = fs::read_to_string(root.join(path)).map_err(|source| Mistake::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(path, &text)
    }

    /// The same of its text.
    ///
    /// # Errors
    /// [`Mistake::Unclear`].
    pub fn parse(path: &str, text: &str) -> Result<Self, Mistake> {
        let mut reader = Reader {
            page: Self {
                path: path.to_owned(),
                ..Self::default()
            },
            text,
            section: String::new(),
            pending: Vec::new(),
        };
        let mut block: Option<(String, usize, String)> = None;
        let mut heading = false;
        for (event, range) in Parser::new(text).into_offset_iter() {
            match event {
                Event::Start(Tag::Heading { .. }) => {
                    heading = true;
                    reader.section.clear();
                }
                Event::End(TagEnd::Heading(_)) => heading = false,
                Event::Text(part) | Event::Code(part) if heading => reader.section.push_str(&part),
                Event::Start(Tag::CodeBlock(kind)) => {
                    let language = match kind {
                        CodeBlockKind::Fenced(language) => language.into_string(),
                        CodeBlockKind::Indented => String::new(),
                    };
                    block = Some((language, reader.line(range.start) + 1, String::new()));
                }
                Event::Text(part) => {
                    if let Some((_, _, content)) = &mut block {
                        content.push_str(&part);
                    }
                }
                Event::End(TagEnd::CodeBlock) => {
                    if let Some((language, line, content)) = block.take() {
                        reader.block(&language, line, content)?;
                    }
                }
                Event::Start(Tag::HtmlBlock) => {
                    let line = reader.line(range.start);
                    reader.comment(line, text.get(range).unwrap_or_default())?;
                }
                _ => {}
            }
        }
        match reader.pending.first() {
            Some((line, word, _)) => {
                Err(reader.mistake(*line, format!("`{word}` stands before no block")))
            }
            None => Ok(reader.page),
        }
    }

    /// The steps of a section. None for a heading that there isn't.
    pub fn section<'a>(&'a self, heading: &'a str) -> impl Iterator<Item = &'a Step> {
        self.steps
            .iter()
            .filter(move |step| step.section == heading)
    }

    /// Whether anything of it is run.
    #[must_use]
    pub fn has_commands(&self) -> bool {
        let mut actions = self.steps.iter().map(|step| &step.action);
        actions.any(|action| matches!(action, Action::Run(_)))
    }
}

/// What there is of a page while it is read.
struct Reader<'a> {
    page: Page,
    text: &'a str,
    section: String,
    /// What was said of the next block: where, the word, and its text.
    pending: Vec<(usize, String, String)>,
}

impl Reader<'_> {
    fn line(&self, offset: usize) -> usize {
        let before = self.text.get(..offset).unwrap_or_default();
        before.matches('\n').count() + 1
    }

    fn mistake(&self, line: usize, what: String) -> Mistake {
        let path = self.page.path.clone();
        Mistake::Unclear { path, line, what }
    }

    fn step(&mut self, line: usize, action: Action) {
        let section = self.section.clone();
        self.page.steps.push(Step {
            section,
            line,
            action,
        });
    }

    fn comment(&mut self, line: usize, html: &str) -> Result<(), Mistake> {
        let inner = html.trim().strip_prefix("<!--").unwrap_or_default();
        let inner = inner.split("-->").next().unwrap_or_default().trim();
        let Some(said) = inner.strip_prefix("walk:") else {
            return Ok(());
        };
        let (word, rest) = said.split_once(':').unwrap_or((said, ""));
        let (word, rest) = (word.trim(), rest.trim().to_owned());
        if rest.is_empty() {
            return Err(self.mistake(line, format!("`{word}` needs a text: walk: WORD: TEXT")));
        }
        let page = &mut self.page;
        match word {
            "skip" | "file" | "expect" | "until" | "fails" | "may fail" => {
                self.pending.push((line, word.to_owned(), rest));
            }
            "also" => {
                // As far down as the first of its lines.
                let start = html.find(rest.as_str()).unwrap_or_default();
                let before = html.get(..start).unwrap_or_default().matches('\n').count();
                self.step(line + before, Action::Also(rest));
            }
            "let" => match rest.split_once('=') {
                Some((name, value)) => page
                    .names
                    .push((name.trim().to_owned(), value.trim().to_owned())),
                None => return Err(self.mistake(line, "`let` is NAME=VALUE".to_owned())),
            },
            "namespace" => page.namespace = Some(rest),
            "bare" => page.bare = Some(rest),
            "alone" => page.alone = Some(rest),
            "slow" => page.slow = Some(rest),
            "by" => page.by = Some(rest),
            _ => return Err(self.mistake(line, format!("`{word}` is no word of the runner's"))),
        }
        Ok(())
    }

    fn block(&mut self, language: &str, line: usize, content: String) -> Result<(), Mistake> {
        let pending = std::mem::take(&mut self.pending);
        let said = |word: &str| {
            let found = pending.iter().find(|(_, said, _)| said == word);
            found.map(|(_, _, text)| text.clone())
        };
        if OTHER_NAMES.contains(&language) {
            return Err(self.mistake(line, format!("not `{language}`: commands are `sh`")));
        }
        if language.is_empty() && content.starts_with("$ ") {
            let what = "commands are a block `sh` of their own, without `$`";
            return Err(self.mistake(line, what.to_owned()));
        }
        let action = if let Some(path) = said("file") {
            Action::File {
                path,
                text: content,
            }
        } else if language != "sh" {
            return match pending.first() {
                Some((line, word, _)) => Err(self.mistake(
                    *line,
                    format!("`{word}` is said of a block that isn't `sh`"),
                )),
                None => Ok(()),
            };
        } else if let Some(reason) = said("skip") {
            Action::Skip { reason }
        } else {
            let expect = pending.iter().filter(|(_, word, _)| word == "expect");
            Action::Run(Command {
                script: content,
                expect: expect.map(|(_, _, text)| text.clone()).collect(),
                until: said("until"),
                fails: said("fails").is_some(),
                may_fail: said("may fail").is_some(),
            })
        };
        let alone = matches!(action, Action::File { .. } | Action::Skip { .. });
        if let (true, [_, (second, word, _), ..]) = (alone, pending.as_slice()) {
            return Err(self.mistake(*second, format!("`{word}` doesn't go with the one before")));
        }
        self.step(line, action);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"# A page

<!-- walk: namespace: shop -->
<!-- walk: let: NAME=web -->
<!-- a comment -->

Then:

<!-- walk: file: values.yaml -->
```yaml
a: 1
```

## Two `words`

1. Within a list:

   <!-- walk: expect: one -->
   <!-- walk: expect: two words -->
   ```sh
   helm install \
     --values values.yaml
   ```

<!-- walk: also:
keeper-sim set a
keeper-sim set b
-->

<!-- walk: skip: needs a cloud -->
```sh
aws
```

```text
no command
```
"#;

    #[test]
    fn a_page_is_read_as_steps_with_their_lines() {
        let page = Page::parse("docs/a.md", PAGE).unwrap();
        assert_eq!(page.namespace.as_deref(), Some("shop"));
        assert_eq!(page.names, [("NAME".to_owned(), "web".to_owned())]);
        let steps: Vec<_> = page
            .steps
            .iter()
            .map(|step| (step.section.as_str(), step.line))
            .collect();
        let two = "Two words";
        assert_eq!(steps, [("A page", 11), (two, 21), (two, 26), (two, 32)]);
        let [file, run, also, skip] = page.steps.as_slice() else {
            panic!("{:?}", page.steps)
        };
        let (path, text) = ("values.yaml".to_owned(), "a: 1\n".to_owned());
        assert_eq!(file.action, Action::File { path, text });
        let command = Command {
            script: "helm install \\\n  --values values.yaml\n".to_owned(),
            expect: vec!["one".to_owned(), "two words".to_owned()],
            ..Command::default()
        };
        assert_eq!(run.action, Action::Run(command));
        let both = "keeper-sim set a\nkeeper-sim set b".to_owned();
        assert_eq!(also.action, Action::Also(both));
        let reason = "needs a cloud".to_owned();
        assert_eq!(skip.action, Action::Skip { reason });
        assert_eq!(page.section(two).count(), 3);
        assert!(page.has_commands());
    }

    #[test]
    fn what_is_unclear_is_refused_with_its_line() {
        for (text, mistake) in [
            (
                "a\n\n<!-- walk: skipp: x -->\n",
                "p:3: `skipp` is no word of the runner's",
            ),
            (
                "<!-- walk: skip -->\n",
                "p:1: `skip` needs a text: walk: WORD: TEXT",
            ),
            (
                "<!-- walk: expect: x -->\n",
                "p:1: `expect` stands before no block",
            ),
            (
                "<!-- walk: until: x -->\n\n```yaml\na\n```\n",
                "p:1: `until` is said of a block that isn't `sh`",
            ),
            (
                "<!-- walk: skip: x -->\n<!-- walk: expect: x -->\n```sh\na\n```\n",
                "p:2: `expect` doesn't go with the one before",
            ),
            ("<!-- walk: let: x -->\n", "p:1: `let` is NAME=VALUE"),
            ("```bash\na\n```\n", "p:2: not `bash`: commands are `sh`"),
            (
                "```\n$ a\n```\n",
                "p:2: commands are a block `sh` of their own, without `$`",
            ),
        ] {
            let found = Page::parse("p", text).unwrap_err().to_string();
            assert_eq!(found, mistake);
        }
    }
}
