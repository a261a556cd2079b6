//! Which fields of a record are meant, and what they are called.

use keeper_ksm::{Content, Field, Record, Value};

use super::{Members, RenderError};

/// Field names that a message lists at most.
const MAX_NAMES: usize = 12;

/// All fields with a value. A field's name is its label, else its type; a later field of the same name wins,
/// custom fields come after standard ones, then the notes.
pub(super) fn all<'a>(content: &'a Content<'a>) -> Members<'a> {
    let fields = content.fields.iter().chain(&content.custom);
    let fields = fields
        .filter(|field| has_value(field))
        .map(|field| (name(field), field.values.as_slice()));
    let notes = content.notes.as_ref();
    let notes = notes.map(|notes| ("notes", std::slice::from_ref(notes)));
    fields.chain(notes).collect()
}

/// The values of one field: standard fields by label, then by type, then custom fields, then the notes;
/// fields with a value before those without.
///
/// # Errors
/// No such field, or no value.
pub(super) fn values<'a>(
    record: &Record,
    content: &'a Content<'a>,
    name: &str,
) -> Result<&'a [Value<'a>], RenderError> {
    match find(content, name) {
        Some(field) if has_value(field) => Ok(&field.values),
        found => match &content.notes {
            Some(notes) if name == "notes" => Ok(std::slice::from_ref(notes)),
            _ => Err(missing(record, content, name, found.is_some())),
        },
    }
}

fn name<'a>(field: &'a Field<'_>) -> &'a str {
    field.label.as_deref().unwrap_or(&field.field_type)
}

fn has_value(field: &Field<'_>) -> bool {
    !field.values.iter().all(Value::is_null)
}

fn find<'a>(content: &'a Content<'a>, name: &str) -> Option<&'a Field<'a>> {
    let by_label = |field: &&Field<'_>| field.label.as_deref() == Some(name);
    let by_type = |field: &&Field<'_>| field.field_type == name;
    let in_order = || {
        let (standard, custom) = (&content.fields, &content.custom);
        let standard = standard
            .iter()
            .filter(by_label)
            .chain(standard.iter().filter(by_type));
        standard.chain(
            custom
                .iter()
                .filter(by_label)
                .chain(custom.iter().filter(by_type)),
        )
    };
    in_order()
        .find(|field| has_value(field))
        .or_else(|| in_order().next())
}

fn missing(record: &Record, content: &Content<'_>, field: &str, is_there: bool) -> RenderError {
    let (record, field) = (record.title().to_owned(), field.to_owned());
    if is_there {
        return RenderError::NoValue { record, field };
    }
    let fields = content.fields.iter().chain(&content.custom);
    let mut names: Vec<String> = fields
        .filter(|field| has_value(field))
        .map(|field| format!("`{}`", name(field)))
        .take(MAX_NAMES)
        .collect();
    if names.is_empty() {
        names.push("no field with a value".to_owned());
    }
    RenderError::NoField {
        record,
        field,
        names: names.join(", "),
    }
}
