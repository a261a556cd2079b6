//! Which records the outputs mean, and what to ask Keeper for.
//!
//! A selection keeps to the record that it first meant, as long as the pod lives: a record that is renamed or
//! moved is followed. So only the first call asks for everything; later ones name the records that are
//! needed. A record that is gone is looked up once more by its name, in an answer that holds everything, and
//! then only taken if exactly one fits.

use keeper_contract::{AgentConfig, Output, Selection, Variables};
use keeper_ksm::{Folders, LookupError, Record, Uid, Vault};
use keeper_notation::RecordRef;

use crate::state::Pin;

/// What selects a record: a file, or variables.
pub(crate) trait Selects {
    /// What of the vault.
    fn selection(&self) -> &Selection;
    /// The annotation that asks for it.
    fn annotation(&self) -> &str;
}

impl Selects for Output {
    fn selection(&self) -> &Selection {
        &self.selection
    }

    fn annotation(&self) -> &str {
        &self.annotation
    }
}

impl Selects for Variables {
    fn selection(&self) -> &Selection {
        &self.selection
    }

    fn annotation(&self) -> &str {
        &self.annotation
    }
}

/// Everything that selects a record.
pub(crate) fn all(config: &AgentConfig) -> impl Iterator<Item = &dyn Selects> {
    let outputs = config.outputs.iter().map(|output| output as &dyn Selects);
    let variables = config.environment.iter().flat_map(|e| &e.variables);
    outputs.chain(variables.map(|one| one as &dyn Selects))
}

/// The records of the outputs and variables.
#[derive(Debug)]
pub(crate) struct Selector {
    pins: Vec<Pin>,
    /// Whether a title must be one record's, and not only in a notation.
    strict: bool,
    /// A record was missing: the next call asks for everything.
    ask_for_all: bool,
}

/// Why an output has no record now.
#[derive(Debug)]
pub(crate) enum Miss {
    /// It was asked for by its UID and did not come. The next call will tell more.
    Absent,
    /// There is none.
    Lookup(LookupError),
}

impl Selector {
    pub(crate) fn new(strict: bool) -> Self {
        Self {
            pins: Vec::new(),
            strict,
            ask_for_all: false,
        }
    }

    /// Keeps to the records that an earlier process found.
    pub(crate) fn set_pins(&mut self, pins: Vec<Pin>) {
        self.pins = pins;
    }

    /// What the selections mean so far.
    pub(crate) fn pins(&self) -> &[Pin] {
        &self.pins
    }

    /// The UIDs to ask for; none means everything.
    pub(crate) fn filter(&self, config: &AgentConfig) -> Vec<Uid> {
        if self.ask_for_all {
            return Vec::new();
        }
        let pinned = all(config).map(|one| Some(self.pin(one)?.uid));
        let mut uids: Vec<Uid> = pinned.collect::<Option<_>>().unwrap_or_default();
        uids.sort_unstable();
        uids.dedup();
        uids
    }

    /// Whether a folder path has to be followed to find all records in `vault`, which holds everything.
    pub(crate) fn needs_folders(&self, config: &AgentConfig, vault: &Vault) -> bool {
        all(config).any(|one| {
            let reference = reference(one.selection());
            let known = self
                .pin(one)
                .is_some_and(|pin| vault.get(pin.uid).is_some());
            !known
                && reference.folder_and_title().is_some()
                && matches!(
                    vault.find(None, reference),
                    Err(LookupError::NotFound { .. })
                )
        })
    }

    /// The record of an output. `is_everything` says that `vault` was not filtered.
    pub(crate) fn resolve<'v>(
        &mut self,
        one: &dyn Selects,
        vault: &'v Vault,
        folders: Option<&Folders>,
        is_everything: bool,
    ) -> Result<&'v Record, Miss> {
        let (reference, exact) = (reference(one.selection()), self.is_exact(one.selection()));
        let text = reference.to_string();
        let pin = self
            .pins
            .iter_mut()
            .find(|pin| pin.exact == exact && pin.reference == text);
        let Some(pin) = pin else {
            let record = first(one, vault, folders, reference, exact).map_err(Miss::Lookup)?;
            self.pins.push(Pin {
                reference: text,
                exact,
                uid: record.uid(),
                title: record.title().to_owned(),
                revision: record.revision(),
            });
            return Ok(record);
        };
        if let Some(record) = vault.get(pin.uid) {
            if record.title() != pin.title {
                tracing::info!(
                    record = %pin.uid,
                    from = pin.title,
                    to = record.title(),
                    "a record was renamed, following it"
                );
                record.title().clone_into(&mut pin.title);
            }
            pin.revision = record.revision();
            return Ok(record);
        }
        if let Some(reason) = vault.skipped_record(pin.uid) {
            let uid = pin.uid;
            return Err(Miss::Lookup(LookupError::Unreadable { uid, reason }));
        }
        if !is_everything {
            self.ask_for_all = true;
            return Err(Miss::Absent);
        }
        let found = vault
            .find(folders, reference)
            .and_then(|found| found.only(reference))
            .map_err(Miss::Lookup)?;
        tracing::info!(
            annotation = one.annotation(),
            gone = %pin.uid,
            record = %found.uid(),
            "a record is gone, taking the only other one of its name"
        );
        pin.uid = found.uid();
        found.title().clone_into(&mut pin.title);
        pin.revision = found.revision();
        Ok(found)
    }

    /// Says that every output has its record: the next call need not ask for everything.
    pub(crate) fn all_found(&mut self) {
        self.ask_for_all = false;
    }

    /// Whether several records of one title are an error.
    fn is_exact(&self, selection: &Selection) -> bool {
        self.strict || matches!(selection, Selection::Notation(_))
    }

    pub(crate) fn pin(&self, one: &dyn Selects) -> Option<&Pin> {
        let exact = self.is_exact(one.selection());
        let reference = reference(one.selection()).to_string();
        self.pins
            .iter()
            .find(|pin| pin.exact == exact && pin.reference == reference)
    }
}

/// The record that a selection means at first.
fn first<'v>(
    one: &dyn Selects,
    vault: &'v Vault,
    folders: Option<&Folders>,
    reference: &RecordRef,
    exact: bool,
) -> Result<&'v Record, LookupError> {
    let found = vault.find(folders, reference)?;
    if exact {
        return found.only(reference);
    }
    if !found.others.is_empty() {
        tracing::warn!(
            annotation = one.annotation(),
            record = %found.record.uid(),
            others = found.others.len(),
            "several records have this title, taking the first by UID"
        );
    }
    Ok(found.record)
}

fn reference(selection: &Selection) -> &RecordRef {
    selection.record()
}
