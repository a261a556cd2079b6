//! Formats that have one text for each field, in the order of the fields' names.

use std::collections::BTreeMap;

use keeper_contract::Format;
use keeper_ksm::{Record, Value};

use super::{Buffer, Members, RenderError};

/// What makes one such format.
pub(super) struct Flat {
    pub(super) format: Format,
    /// What stands before the first field.
    pub(super) head: &'static str,
    /// What a reader of the format calls a field: two fields of one name can't be.
    pub(super) name: fn(&str) -> String,
    /// Writes one field, by its name in the record, or says why the format can't carry it.
    pub(super) entry: fn(&mut Buffer, &str, &str) -> Result<(), &'static str>,
}

/// Writes the fields of a record.
///
/// # Errors
/// Two of one name, or one that the format can't carry.
pub(super) fn write(
    out: &mut Buffer,
    flat: &Flat,
    record: &Record,
    members: &Members<'_>,
) -> Result<(), RenderError> {
    let title = || record.title().to_owned();
    let mut names = BTreeMap::new();
    out.push(flat.head);
    for (key, values) in members {
        let name = (flat.name)(key);
        if let Some(first) = names.get(&name) {
            return Err(RenderError::OneName {
                record: title(),
                fields: format!("`{first}` and `{key}`"),
                name,
                format: flat.format,
            });
        }
        names.insert(name, *key);
        let mut value = Buffer::default();
        text(&mut value, values);
        (flat.entry)(out, key, value.as_str()).map_err(|why| RenderError::Unfit {
            record: title(),
            field: (*key).to_owned(),
            format: flat.format,
            why,
        })?;
    }
    Ok(())
}

/// The values of a field as one text: one string is its text; other JSON is compact; several values are a
/// compact JSON array.
pub(super) fn text(out: &mut Buffer, values: &[Value<'_>]) {
    match values {
        [value] => out.push(value.text().expose()),
        several => {
            out.push("[");
            for (index, value) in several.iter().enumerate() {
                out.push(if index == 0 { "" } else { "," });
                out.push(value.compact_json().expose());
            }
            out.push("]");
        }
    }
}

/// What an entry of a format becomes, for tests.
#[cfg(test)]
pub(super) fn entry(flat: &Flat, key: &str, value: &str) -> Result<String, &'static str> {
    let mut out = Buffer::default();
    (flat.entry)(&mut out, key, value)?;
    Ok(out.as_str().to_owned())
}
