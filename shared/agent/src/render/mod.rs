//! From a record to the bytes of a file: a module for each format. Values keep the spelling that they have in
//! the vault; what holds them on the way is wiped.
//!
//! `json` and `yaml` carry everything. The flat formats, `env`, `properties` and `ini`, have one text for each
//! field: what a format can't carry is an error, never another value.

mod buffer;
mod env;
mod fields;
mod flat;
mod ini;
mod json;
mod properties;
mod variables;
mod yaml;

use std::collections::BTreeMap;

use keeper_contract::{Format, Output, Selection};
use keeper_ksm::{EvaluateError, Record, Single, Value, select_one};
use zeroize::Zeroizing;

use buffer::Buffer;
pub(crate) use variables::{Lines, add_variables};

/// Why a record has no such rendering. Names and titles may be shown; values never get in.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// A field's name that the record doesn't have.
    #[error("the record `{record}` has no field `{field}`; it has {names}")]
    NoField {
        /// Title of the record.
        record: String,
        /// What was looked for.
        field: String,
        /// What there is.
        names: String,
    },
    /// The name of a field that is empty.
    #[error("the field `{field}` of the record `{record}` has no value")]
    NoValue {
        /// Title of the record.
        record: String,
        /// The field.
        field: String,
    },
    /// A notation that has no one value.
    #[error(transparent)]
    Notation(#[from] EvaluateError),
    /// An attachment, which is downloaded and not rendered.
    #[error("`{0}` is an attachment, which has no rendering")]
    Attachment(String),
    /// Several values as raw, which admission denies.
    #[error("the format raw is for one value: select one field of the record `{record}`")]
    RawOfMany {
        /// Title of the record.
        record: String,
    },
    /// A field that the format has no way to write.
    #[error(
        "the field `{field}` of the record `{record}` cannot be written as {format}: {why}; choose the format json, or select only the fields that you need"
    )]
    Unfit {
        /// Title of the record.
        record: String,
        /// The field.
        field: String,
        /// The format.
        format: Format,
        /// What is in the way.
        why: &'static str,
    },
    /// A field that can't be an environment variable, or not in the way that was chosen.
    #[error("{what}: {why}")]
    Variable {
        /// Which field of which record cannot be which variable.
        what: String,
        /// What is in the way, and the cure.
        why: String,
    },
    /// Two fields that the format can't tell apart.
    #[error(
        "the fields {fields} of the record `{record}` are both `{name}` as {format}: rename one, choose the format json, or select only the fields that you need"
    )]
    OneName {
        /// Title of the record.
        record: String,
        /// Both.
        fields: String,
        /// The name of both.
        name: String,
        /// The format.
        format: Format,
    },
}

/// Fields that have a value, by the names that they get; the values of each.
type Members<'a> = BTreeMap<&'a str, &'a [Value<'a>]>;

/// The bytes of an output.
///
/// # Errors
/// A field that is not there or has no value, a notation without exactly one, or what the format can't carry.
pub(crate) fn render(record: &Record, output: &Output) -> Result<Zeroizing<Vec<u8>>, RenderError> {
    with_members(record, &output.selection, &output.fields, |members| {
        write(record, members, output.format)
    })
}

/// Gives `take` the fields that `selection` and `fields` mean.
fn with_members<T>(
    record: &Record,
    selection: &Selection,
    fields: &[String],
    take: impl FnOnce(Members<'_>) -> Result<T, RenderError>,
) -> Result<T, RenderError> {
    let content = record.content();
    let values = |name| fields::values(record, &content, name);
    let single;
    take(match selection {
        Selection::Record(_) if fields.is_empty() => fields::all(&content),
        Selection::Record(_) => fields
            .iter()
            .map(|name| Ok((name.as_str(), values(name)?)))
            .collect::<Result<_, RenderError>>()?,
        Selection::Field { field, .. } => [(field.as_str(), values(field)?)].into(),
        Selection::Notation(notation) => match select_one(record, &notation.selector)? {
            Single::Value(value) => {
                single = value;
                [(notation.selector.name(), std::slice::from_ref(&single))].into()
            }
            Single::File(file) => return Err(RenderError::Attachment(file.name().to_owned())),
        },
        Selection::File { file, .. } => return Err(RenderError::Attachment(file.clone())),
    })
}

fn write(
    record: &Record,
    members: Members<'_>,
    format: Format,
) -> Result<Zeroizing<Vec<u8>>, RenderError> {
    let mut out = Buffer::default();
    match format {
        Format::Json => json::write(&mut out, &members),
        Format::Yaml => yaml::write(&mut out, &members),
        Format::Env => flat::write(&mut out, &env::ENV, record, &members)?,
        Format::Properties => flat::write(&mut out, &properties::PROPERTIES, record, &members)?,
        Format::Ini => flat::write(&mut out, &ini::INI, record, &members)?,
        Format::Raw => {
            let mut values = members.into_values();
            let (Some(values), None) = (values.next(), values.next()) else {
                let record = record.title().to_owned();
                return Err(RenderError::RawOfMany { record });
            };
            flat::text(&mut out, values);
        }
    }
    Ok(out.into_bytes())
}

/// A whole record as JSON.
#[must_use]
pub(crate) fn record_json(record: &Record) -> Zeroizing<Vec<u8>> {
    let content = record.content();
    let mut out = Buffer::default();
    json::write(&mut out, &fields::all(&content));
    out.into_bytes()
}
