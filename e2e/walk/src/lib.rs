//! The commands of Markdown pages, run in order as they are written there: a page is right if what it tells a reader to type works.
//!
//! Each block that is fenced as `sh` is run, unless its page says why not. What a page has to say to the runner stands in comments of
//! its source, `<!-- walk: WORD: TEXT -->`, which readers don't see:
//!
//! | before a block | |
//! |---|---|
//! | `skip: REASON` | it is not run |
//! | `file: PATH` | the block, of any language, is what the reader has in that file |
//! | `expect: TEXT` | its output, errors included, has that text; may stand several times |
//! | `until: TEXT` | the same of a command that goes on (`logs -f`), or that has to be repeated until then |
//! | `fails: REASON` | its exit code is not 0 |
//! | `may fail: REASON` | its exit code says nothing |
//!
//! | anywhere | |
//! |---|---|
//! | `also: COMMANDS` | what the reader does by other means: in the vault, with another shell. May have lines of its own |
//! | `let: NAME=VALUE` | what stands for the word NAME in this page's commands |
//! | `namespace: NAME` | the namespace of the page's commands has that name |
//! | `bare: REASON` | that namespace is empty: there is no keeper-sim in it, and no Secret |
//! | `alone: REASON` | the page changes the installation, so that none is walked beside it |
//! | `slow: REASON` | it takes minutes, and so is not for each run |
//! | `by: FILE` | the test of that file runs it, with what it needs |
//!
//! A reader has one shell: the working directory, exported variables and functions of a block are there in the next one. Blocks run under `set -Eeuo
//! pipefail`. The tools that there are for this (runme, mdsh, trycmd) either want their own marks on each block, which readers see, or compare
//! recorded output of single commands; none says a page's line when a command of a longer block fails.

mod page;
mod shell;

pub use page::{Action, Command, Mistake, Page, Step, pages};
pub use shell::{Failure, Shell};
