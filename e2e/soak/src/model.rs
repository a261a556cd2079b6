//! What a pod may have published, at any moment, given what happened to the vault and to its calls.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::vault::{LINES, OUTPUTS, Output, Part, Vault};

/// A frame of slotted time, and the pod's refresh interval.
const FRAME: Duration = Duration::from_secs(15);
/// From a call to the end of the next frame's window: the longest wait for something that comes next.
const NEXT: Duration = Duration::from_secs(15 + 15 + 2 + 1);
/// Doublings of the frames that a retry is drawn from.
const MAX_DOUBLINGS: u32 = 3;

/// How a call to Keeper ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Keeper told what the vault holds.
    Vault,
    /// It did not: an error, an answer that was damaged, or none.
    Failure {
        /// How long Keeper told to wait.
        retry_after: Option<Duration>,
    },
}

/// The model. It is told of each change, call and restart, in the order in which they happen.
#[derive(Debug, Clone)]
pub struct Model {
    vault: Vault,
    /// For each line: the UID that it keeps to.
    pins: Vec<String>,
    /// For each line: calls in a row that didn't bring its record.
    absent: Vec<u32>,
    /// For each output: what was seen after the last call.
    published: Vec<Option<String>>,
    /// For each output: everything that it may ever have held.
    versions: Vec<BTreeSet<String>>,
    failures: u32,
    /// The next call must have come by then.
    call_by: Duration,
    answered_at: Option<Duration>,
}

impl Model {
    /// A pod that is about to start.
    #[must_use]
    pub fn new(vault: Vault) -> Self {
        let mut model = Self {
            vault,
            pins: LINES.iter().map(|line| line.uid.to_owned()).collect(),
            absent: vec![0; LINES.len()],
            published: vec![None; OUTPUTS.len()],
            versions: vec![BTreeSet::new(); OUTPUTS.len()],
            failures: 0,
            call_by: NEXT,
            answered_at: None,
        };
        model.note_versions();
        model
    }

    /// The vault as it is now.
    #[must_use]
    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// Changes the vault. To be called before keeper-sim's is changed, as a file may follow at once.
    pub fn edit<T>(&mut self, edit: impl FnOnce(&mut Vault) -> T) -> T {
        let edited = edit(&mut self.vault);
        self.note_versions();
        edited
    }

    /// The process began anew at `now`, or saw by then that a clock has jumped or the node slept: the next call may
    /// take another slot.
    pub fn disturbed(&mut self, now: Duration) {
        self.call_by = self.call_by.max(now + NEXT);
        // A new process asks for what it knows first.
        self.absent.fill(0);
    }

    /// When Keeper last told what the vault holds.
    #[must_use]
    pub fn answered_at(&self) -> Option<Duration> {
        self.answered_at
    }

    /// The moment by which the next call must be made.
    #[must_use]
    pub fn call_by(&self) -> Duration {
        self.call_by
    }

    /// Judges a call at `now` and the files after it, which `seen` reads by the index of the output.
    ///
    /// # Errors
    /// The promise that was broken.
    pub fn called(
        &mut self,
        now: Duration,
        answer: Answer,
        seen: impl Fn(usize) -> Option<String>,
    ) -> Result<(), String> {
        if now > self.call_by {
            return Err(format!(
                "a call at {now:?} that had to come by {:?}",
                self.call_by
            ));
        }
        let after: Vec<Option<String>> = (0..OUTPUTS.len()).map(seen).collect();
        if answer == Answer::Vault {
            self.answered_at = Some(now);
            for line in 0..LINES.len() {
                self.follow(line, &after)?;
            }
        } else {
            for (index, content) in after.iter().enumerate() {
                self.unchanged(index, content.as_deref(), "a failure changed it")?;
            }
        }
        self.published = after;
        self.plan(now, answer);
        Ok(())
    }

    /// Judges the files after a call of a process that was killed before it was done: each is as it was, or as the answer
    /// made it.
    ///
    /// # Errors
    /// The promise that was broken.
    pub fn interrupted(&mut self, seen: impl Fn(usize) -> Option<String>) -> Result<(), String> {
        let after: Vec<Option<String>> = (0..OUTPUTS.len()).map(seen).collect();
        for (index, content) in after.iter().enumerate() {
            let is_new = content
                .as_ref()
                .is_some_and(|content| self.renderings(index).any(|now| now == *content));
            if !is_new {
                self.unchanged(index, content.as_deref(), "a killed process changed it")?;
            }
        }
        self.published = after;
        Ok(())
    }

    /// Judges what a reader saw at any moment after the first publication: all files of one directory, from one
    /// generation. Each is what the vault held once, whole, and a pair agrees.
    ///
    /// # Errors
    /// The promise that was broken.
    pub fn read(&self, directory: usize, content: impl Fn(&str) -> String) -> Result<(), String> {
        self.read_files(directory, content, |index, text| {
            let versions = self.versions.get(index);
            versions.is_some_and(|known| known.contains(text))
        })
    }

    /// Judges what a reader sees while neither the vault changes nor this model: as [`Model::read`], and each file is as
    /// it was after the last call, or as an answer makes it now.
    ///
    /// # Errors
    /// The promise that was broken.
    pub fn read_now(
        &self,
        directory: usize,
        content: impl Fn(&str) -> String,
    ) -> Result<(), String> {
        self.read_files(directory, content, |index, text| {
            let published = self.published.get(index).and_then(Option::as_deref);
            published == Some(text) || self.renderings(index).any(|now| now == text)
        })
    }

    fn read_files(
        &self,
        directory: usize,
        content: impl Fn(&str) -> String,
        fits: impl Fn(usize, &str) -> bool,
    ) -> Result<(), String> {
        let mut pair: Option<(usize, String)> = None;
        for (index, output) in OUTPUTS.iter().enumerate() {
            if output.directory != directory {
                continue;
            }
            let text = content(output.path);
            if !fits(index, &text) {
                return Err(format!("{}: must not be {text:?}", output.path));
            }
            if matches!(output.part, Part::Field("cert" | "key")) {
                let version = text.split(' ').nth(2).unwrap_or_default().to_owned();
                match &pair {
                    Some((line, other)) if *line == output.line && *other != version => {
                        return Err(format!(
                            "{}: a certificate of {other} beside a key of {version}",
                            output.path
                        ));
                    }
                    _ => pair = Some((output.line, version)),
                }
            }
        }
        Ok(())
    }

    /// Judges the outputs of one line after an answer.
    fn follow(&mut self, line: usize, after: &[Option<String>]) -> Result<(), String> {
        let pin = self.pins.get(line).cloned().unwrap_or_default();
        if self.vault.get(&pin).is_some() {
            self.set_absent(line, 0);
            return self.holds(line, &pin, after);
        }
        let absent = self.absent.get(line).copied().unwrap_or(0) + 1;
        self.set_absent(line, absent);
        let Some(spec) = LINES.get(line) else {
            return Ok(());
        };
        let named: Vec<String> = self.vault.named(spec).map(ToOwned::to_owned).collect();
        let kept = outputs_of(line).try_for_each(|index| {
            let content = after.get(index).and_then(Option::as_deref);
            self.unchanged(index, content, "its record is gone, and it changed")
        });
        let [only] = named.as_slice() else {
            return kept;
        };
        // The first answer without the record may have been to a question for it alone.
        if kept.is_ok() && absent == 1 {
            return Ok(());
        }
        self.holds(line, only, after)?;
        if let Some(pin) = self.pins.get_mut(line) {
            pin.clone_from(only);
        }
        self.set_absent(line, 0);
        Ok(())
    }

    /// Whether a line's outputs hold what this record holds now. A field without a value leaves its output as it was, and
    /// with it what else the directory has of the record: its files are of one revision.
    fn holds(&self, line: usize, uid: &str, after: &[Option<String>]) -> Result<(), String> {
        for index in outputs_of(line) {
            let Some(output) = OUTPUTS.get(index) else {
                continue;
            };
            let content = after.get(index).and_then(Option::as_deref);
            let render = |output: &Output| self.vault.get(uid)?.render(output.part);
            let is_torn = outputs_of(line)
                .filter_map(|index| OUTPUTS.get(index))
                .any(|of| of.directory == output.directory && render(of).is_none());
            if is_torn {
                let why = "a part of its record has no value, and it changed";
                self.unchanged(index, content, why)?;
            } else if render(output).as_deref() != content {
                let wanted = render(output);
                return Err(format!(
                    "{}: {content:?} where the vault has {wanted:?}",
                    output.path
                ));
            }
        }
        Ok(())
    }

    fn unchanged(&self, index: usize, content: Option<&str>, else_: &str) -> Result<(), String> {
        let before = self.published.get(index).and_then(Option::as_deref);
        if before == content {
            return Ok(());
        }
        let path = OUTPUTS.get(index).map_or("", |output| output.path);
        Err(format!("{path}: {else_} from {before:?} to {content:?}"))
    }

    /// Until when the call after this one must come.
    fn plan(&mut self, now: Duration, answer: Answer) {
        self.call_by = now
            + match answer {
                Answer::Vault => {
                    // An answer that lacks something is a failure too, but the next call isn't put off for it.
                    self.failures = u32::from(self.lacks_something());
                    NEXT
                }
                Answer::Failure { retry_after } => {
                    self.failures += 1;
                    let doublings = self.failures.saturating_sub(1).min(MAX_DOUBLINGS);
                    NEXT + FRAME * ((1 << doublings) - 1) + retry_after.unwrap_or_default()
                }
            };
    }

    /// Whether an output can't be made of what the vault holds.
    fn lacks_something(&self) -> bool {
        OUTPUTS.iter().any(|output| {
            let record = self.pins.get(output.line).and_then(|p| self.vault.get(p));
            record
                .and_then(|record| record.render(output.part))
                .is_none()
        })
    }

    /// Adds to what the outputs may hold.
    fn note_versions(&mut self) {
        for index in 0..OUTPUTS.len() {
            let texts: Vec<String> = self.renderings(index).collect();
            if let Some(versions) = self.versions.get_mut(index) {
                versions.extend(texts);
            }
        }
    }

    /// What an output may hold of the vault as it is: renderings of the record that its line keeps to, and of those
    /// that it might turn to.
    fn renderings(&self, index: usize) -> impl Iterator<Item = String> {
        let output = OUTPUTS.get(index);
        let of_line = output.and_then(|o| Some((o, LINES.get(o.line)?, self.pins.get(o.line)?)));
        of_line.into_iter().flat_map(|(output, line, pin)| {
            let uids = self.vault.named(line).chain([pin.as_str()]);
            uids.filter_map(|uid| self.vault.get(uid)?.render(output.part))
        })
    }

    fn set_absent(&mut self, line: usize, calls: u32) {
        if let Some(absent) = self.absent.get_mut(line) {
            *absent = calls;
        }
    }
}

fn outputs_of(line: usize) -> impl Iterator<Item = usize> {
    let outputs = OUTPUTS.iter().enumerate();
    outputs
        .filter(move |(_, output)| output.line == line)
        .map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Answer = Answer::Vault;
    const BAD: Answer = Answer::Failure { retry_after: None };

    /// What a perfect pod has published of `vault`.
    fn perfect(vault: &Vault) -> Vec<Option<String>> {
        let render = |output: &crate::Output| {
            vault
                .get(LINES[output.line].uid)
                .and_then(|record| record.render(output.part))
        };
        OUTPUTS.iter().map(render).collect()
    }

    fn started() -> (Model, Vec<Option<String>>) {
        let mut model = Model::new(Vault::default());
        let files = perfect(model.vault());
        let first = files.clone();
        model
            .called(Duration::ZERO, GOOD, |index| files[index].clone())
            .unwrap();
        (model, first)
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn an_old_value_after_an_answer_is_found_and_after_a_failure_is_right() {
        let (mut model, files) = started();
        model.edit(|vault| vault.renew(LINES[0].uid));
        let old = |index: usize| files[index].clone();
        model.called(at(15), BAD, old).unwrap();
        let error = model.called(at(30), GOOD, old).unwrap_err();
        assert!(error.starts_with("orders.json"), "{error}");
    }

    #[test]
    fn a_file_that_a_failure_removes_or_changes_is_found() {
        for broken in [None, Some(String::new()), Some("Orders".to_owned())] {
            let (mut model, mut files) = started();
            files[1] = broken;
            let error = model.called(at(15), BAD, |index| files[index].clone());
            assert!(error.unwrap_err().contains("a failure changed it"));
        }
    }

    #[test]
    fn another_records_value_is_found() {
        let (mut model, _) = started();
        model.edit(|vault| vault.add(0, "OrdersBAAAAAAAAAAAAAAA"));
        let mut files = perfect(model.vault());
        let other = model.vault().get("OrdersBAAAAAAAAAAAAAAA").unwrap();
        files[0] = other.render(Part::Record);
        let error = model.called(at(15), GOOD, |index| files[index].clone());
        assert!(error.unwrap_err().contains("where the vault has"));
    }

    #[test]
    fn the_only_other_record_of_the_name_must_be_taken_at_the_second_answer() {
        let (mut model, old) = started();
        let other = "OrdersBAAAAAAAAAAAAAAA";
        model.edit(|vault| vault.remove(LINES[0].uid));
        model.edit(|vault| vault.add(0, other));
        model.called(at(15), GOOD, |i| old[i].clone()).unwrap();
        let mut new = old.clone();
        for index in [0, 1] {
            let record = model.vault().get(other).unwrap();
            new[index] = record.render(OUTPUTS[index].part);
        }
        model
            .called(at(30), GOOD, |i| old[i].clone())
            .expect_err("kept");
        model.called(at(30), GOOD, |i| new[i].clone()).unwrap();
        // Two of them: none is taken.
        model.edit(|vault| vault.remove(other));
        model.edit(|vault| vault.add(0, "OrdersCAAAAAAAAAAAAAAA"));
        model.edit(|vault| vault.add(0, "OrdersDAAAAAAAAAAAAAAA"));
        model.called(at(45), GOOD, |i| new[i].clone()).unwrap();
        model.called(at(60), GOOD, |i| new[i].clone()).unwrap();
    }

    #[test]
    fn a_call_that_comes_late_is_found() {
        let (mut model, files) = started();
        let same = |index: usize| files[index].clone();
        for (now, answer) in [(33, BAD), (66, BAD), (114, BAD), (190, GOOD)] {
            model.called(at(now), answer, same).unwrap();
        }
        let error = model.called(at(224), GOOD, same).unwrap_err();
        assert!(error.contains("had to come by"), "{error}");
    }

    #[test]
    fn a_torn_file_or_a_pair_that_disagrees_is_found() {
        let (mut model, old) = started();
        let path = |path: &str| {
            let found = OUTPUTS
                .iter()
                .position(|o| (o.directory, o.path) == (0, path));
            found.unwrap()
        };
        let read = |model: &Model, files: &[Option<String>]| {
            model.read(0, |name| files[path(name)].clone().unwrap())
        };
        read(&model, &old).unwrap();
        let mut torn = old.clone();
        torn[1].as_mut().unwrap().pop();
        assert!(read(&model, &torn).unwrap_err().contains("must not be"));
        model.edit(|vault| vault.renew(LINES[2].uid));
        let mut mixed = old.clone();
        mixed[path("tls.key")] = perfect(model.vault())[path("tls.key")].clone();
        assert!(read(&model, &mixed).unwrap_err().contains("beside a key"));
    }

    #[test]
    fn a_killed_process_leaves_each_file_old_or_new() {
        let (mut model, old) = started();
        model.edit(|vault| vault.renew(LINES[0].uid));
        let new = perfect(model.vault());
        let mut half = old.clone();
        half[0].clone_from(&new[0]);
        model.interrupted(|index| half[index].clone()).unwrap();
        half[0] = Some(String::new());
        model
            .interrupted(|index| half[index].clone())
            .expect_err("half a file");
    }

    #[test]
    fn a_reader_finds_a_version_that_is_past_and_one_that_is_still_to_come() {
        let (mut model, first) = started();
        let read = |model: &Model, files: &[Option<String>]| {
            model.read_now(0, |name| {
                let same = |o: &crate::Output| (o.directory, o.path) == (0, name);
                let index = OUTPUTS.iter().position(same).unwrap();
                files[index].clone().unwrap()
            })
        };
        model.edit(|vault| vault.renew(LINES[0].uid));
        let second = perfect(model.vault());
        // Published already, or about to be.
        read(&model, &first).unwrap();
        read(&model, &second).unwrap();
        model
            .called(at(15), GOOD, |index| second[index].clone())
            .unwrap();
        let error = read(&model, &first).unwrap_err();
        assert!(error.starts_with("orders.json: must not be"), "{error}");
        // The vault has gone on without a call.
        model.edit(|vault| vault.renew(LINES[0].uid));
        model.edit(|vault| vault.renew(LINES[0].uid));
        read(&model, &second).unwrap();
        read(&model, &first).unwrap_err();
        let other = perfect(model.vault())[2].clone();
        let mut swapped = second.clone();
        swapped[0] = other;
        read(&model, &swapped).unwrap_err();
    }
}
