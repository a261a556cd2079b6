//! Evaluating Keeper Notation, as the SDKs' results API does (protocol sections 12.3 and 12.4), with our
//! choices where the SDKs differ.

use keeper_notation::{FieldSelector, Index, Notation, Selector};

use crate::error::clean;
use crate::lookup::{list, nearest};
use crate::record::{Field, Value};
use crate::{File, Folders, LookupError, Record, Vault};

/// What a notation names.
#[derive(Debug)]
pub enum Evaluated<'v> {
    /// Values in their order; possibly none, which is no error.
    Values(Vec<Value<'v>>),
    /// An attachment, to be downloaded.
    File(&'v File),
}

/// The one thing that a notation names.
#[derive(Debug)]
pub enum Single<'v> {
    /// A value.
    Value(Value<'v>),
    /// An attachment, to be downloaded.
    File(&'v File),
}

/// Why a notation has no result. Names and titles may be shown; values never get in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvaluateError {
    /// The record.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// No such field.
    #[error("the record `{record}` has no {kind} `{name}`{}", hint(nearest))]
    NoField {
        /// Title of the record.
        record: String,
        /// Standard or custom.
        kind: &'static str,
        /// What was looked for.
        name: String,
        /// Like names.
        nearest: Vec<String>,
    },
    /// Several fields.
    #[error("the record `{record}` has {count} {kind}s `{name}`: name the one by its label")]
    SeveralFields {
        /// Title of the record.
        record: String,
        /// Standard or custom.
        kind: &'static str,
        /// What was looked for.
        name: String,
        /// How many there are.
        count: usize,
    },
    /// An index behind the last value.
    #[error(
        "the {kind} `{name}` of the record `{record}` has {count} values, counted from 0: there is no [{index}]"
    )]
    OutOfRange {
        /// Title of the record.
        record: String,
        /// Standard or custom.
        kind: &'static str,
        /// The field.
        name: String,
        /// How many values it has.
        count: usize,
        /// What was asked for.
        index: usize,
    },
    /// The value has no such member.
    #[error("[{index}] of the {kind} `{name}` of the record `{record}` has no member `{property}`")]
    NoProperty {
        /// Title of the record.
        record: String,
        /// Standard or custom.
        kind: &'static str,
        /// The field.
        name: String,
        /// Which value.
        index: usize,
        /// The member.
        property: String,
    },
    /// No such attachment.
    #[error("the record `{record}` has no file `{name}`{}", hint(nearest))]
    NoFile {
        /// Title of the record.
        record: String,
        /// What was looked for.
        name: String,
        /// Like names.
        nearest: Vec<String>,
    },
    /// Several attachments.
    #[error("the record `{record}` has {count} files `{name}`: name the one by its UID")]
    SeveralFiles {
        /// Title of the record.
        record: String,
        /// What was looked for.
        name: String,
        /// How many there are.
        count: usize,
    },
    /// Exactly one value is needed, and there is none.
    #[error("`{selector}` of the record `{record}` has no value")]
    NoValue {
        /// Title of the record.
        record: String,
        /// What of it.
        selector: String,
    },
    /// Exactly one value is needed, and there are several.
    #[error("`{selector}` of the record `{record}` has {count} values: choose one by an index, [0] to [{}]", count - 1)]
    SeveralValues {
        /// Title of the record.
        record: String,
        /// What of it.
        selector: String,
        /// How many there are.
        count: usize,
    },
}

/// What `notation` names in `vault`. `folders` are needed only where it has a folder path.
///
/// # Errors
/// [`EvaluateError`]. Several records that fit are an error, unlike in [`Vault::find`].
pub fn evaluate<'v>(
    vault: &'v Vault,
    folders: Option<&Folders>,
    notation: &Notation,
) -> Result<Evaluated<'v>, EvaluateError> {
    let record = vault
        .find(folders, &notation.record)?
        .only(&notation.record)?;
    select(record, &notation.selector)
}

/// What `selector` names in `record`.
///
/// # Errors
/// [`EvaluateError`], but never its lookup.
pub fn select<'v>(record: &'v Record, selector: &Selector) -> Result<Evaluated<'v>, EvaluateError> {
    let content = record.content();
    let member = |value: Option<Value<'v>>| Ok(Evaluated::Values(value.into_iter().collect()));
    match selector {
        Selector::Type => member(content.record_type),
        Selector::Title => member(content.title),
        Selector::Notes => member(content.notes),
        Selector::File(name) => file(record, name).map(Evaluated::File),
        Selector::Field(field) => {
            values(record, "field", &content.fields, field).map(Evaluated::Values)
        }
        Selector::CustomField(field) => {
            values(record, "custom field", &content.custom, field).map(Evaluated::Values)
        }
    }
}

/// The one thing that `selector` names in `record`. JSON's `null` counts as no value.
///
/// # Errors
/// As [`select`]; and [`EvaluateError::NoValue`], [`EvaluateError::SeveralValues`].
pub fn select_one<'v>(
    record: &'v Record,
    selector: &Selector,
) -> Result<Single<'v>, EvaluateError> {
    let mut values = match select(record, selector)? {
        Evaluated::File(file) => return Ok(Single::File(file)),
        Evaluated::Values(values) => values,
    };
    values.retain(|value| !value.is_null());
    match values.as_slice() {
        [value] => Ok(Single::Value(*value)),
        [] => Err(EvaluateError::NoValue {
            record: clean(record.title()),
            selector: clean(&selector.to_string()),
        }),
        several => Err(EvaluateError::SeveralValues {
            record: clean(record.title()),
            selector: clean(&selector.to_string()),
            count: several.len(),
        }),
    }
}

fn values<'v>(
    record: &Record,
    kind: &'static str,
    fields: &[Field<'v>],
    selector: &FieldSelector,
) -> Result<Vec<Value<'v>>, EvaluateError> {
    let title = || clean(record.title());
    let name = || clean(&selector.name);
    let mut matching = fields
        .iter()
        .filter(|field| field.is_called(&selector.name));
    let field = matching.next().ok_or_else(|| EvaluateError::NoField {
        record: title(),
        kind,
        name: name(),
        nearest: nearest(&selector.name, fields.iter().flat_map(Field::names)),
    })?;
    let others = matching.count();
    if others > 0 {
        return Err(EvaluateError::SeveralFields {
            record: title(),
            kind,
            name: name(),
            count: others + 1,
        });
    }
    let property = selector.property.as_deref();
    match selector.index {
        Index::All => Ok(field
            .values
            .iter()
            .filter_map(|value| match property {
                None => Some(*value),
                // Values without that member are passed over.
                Some(property) => value.member(property),
            })
            .collect()),
        Index::At(index) => {
            let value = field
                .values
                .get(index)
                .ok_or_else(|| EvaluateError::OutOfRange {
                    record: title(),
                    kind,
                    name: name(),
                    count: field.values.len(),
                    index,
                })?;
            let picked = match property {
                None => Some(*value),
                Some(property) => value.member(property),
            };
            let picked = picked.ok_or_else(|| EvaluateError::NoProperty {
                record: title(),
                kind,
                name: name(),
                index,
                property: clean(property.unwrap_or_default()),
            })?;
            Ok(vec![picked])
        }
    }
}

fn file<'v>(record: &'v Record, name: &str) -> Result<&'v File, EvaluateError> {
    let files = record.files();
    let mut matching = files.iter().filter(|file| file.is_called(name));
    let file = matching.next().ok_or_else(|| EvaluateError::NoFile {
        record: clean(record.title()),
        name: clean(name),
        nearest: nearest(name, files.iter().map(File::name)),
    })?;
    match matching.count() {
        0 => Ok(file),
        others => Err(EvaluateError::SeveralFiles {
            record: clean(record.title()),
            name: clean(name),
            count: others + 1,
        }),
    }
}

fn hint(nearest: &[String]) -> String {
    if nearest.is_empty() {
        String::new()
    } else {
        format!("; the nearest are {}", list(nearest.iter().cloned()))
    }
}

#[cfg(test)]
mod tests;
