//! From a record to the bytes of a file. Values keep the spelling that they have in the vault; what holds them
//! on the way is wiped.

use std::borrow::Cow;
use std::collections::BTreeMap;

use keeper_ksm::{Content, EvaluateError, Field, Record, Single, Value, select_one};
use keeper_notation::Selector;
use serde_json::value::RawValue;
use zeroize::{Zeroize as _, Zeroizing};

/// Field names that a message lists at most.
const MAX_NAMES: usize = 12;

/// Why a record has no such rendering. Names and titles may be shown; values never get in.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// `record[field]` names no field.
    #[error("the record `{record}` has no field `{field}`; it has {names}")]
    NoField {
        /// Title of the record.
        record: String,
        /// What was looked for.
        field: String,
        /// What there is.
        names: String,
    },
    /// `record[field]` names a field that is empty.
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
    /// A format that doesn't go with the selection.
    #[error("this version publishes a whole record as json, and one field as raw")]
    Format,
}

/// A record as JSON: an object with sorted keys and an indent of two, without a newline at its end. A field's
/// key is its label, else its type; one value stands as itself, several as an array; fields without a value
/// are left out; a later field of the same key wins, custom fields come after standard ones, then the notes.
#[must_use]
pub(crate) fn record_json(record: &Record) -> Zeroizing<Vec<u8>> {
    let content = record.content();
    let mut members: BTreeMap<&str, &[Value<'_>]> = BTreeMap::new();
    for field in content.fields.iter().chain(&content.custom) {
        if has_value(field) {
            let key = field.label.as_deref().unwrap_or(&field.field_type);
            members.insert(key, &field.values);
        }
    }
    if let Some(notes) = &content.notes {
        members.insert("notes", std::slice::from_ref(notes));
    }
    let mut out = Buffer::default();
    out.block('{', '}', 0, members.into_iter(), |out, (key, values)| {
        out.key(key);
        match values {
            [value] => out.json(value.expose_json(), 1),
            several => out.block('[', ']', 1, several.iter(), |out, value| {
                out.json(value.expose_json(), 2);
            }),
        }
    });
    out.bytes
}

/// One field of a record as it is: standard fields by label, then by type, then custom fields, then the notes;
/// fields with a value before those without. One string is its text; other JSON is compact; several values
/// are a compact JSON array.
///
/// # Errors
/// No such field, or no value.
pub(crate) fn field_text(record: &Record, name: &str) -> Result<Zeroizing<Vec<u8>>, RenderError> {
    let content = record.content();
    let values = match find(&content, name) {
        Some(field) if has_value(field) => field.values.as_slice(),
        found => match &content.notes {
            Some(notes) if name == "notes" => std::slice::from_ref(notes),
            _ => return Err(missing(record, &content, name, found.is_some())),
        },
    };
    let mut out = Buffer::default();
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
    Ok(out.bytes)
}

/// What a notation's selector names in a record, which must be exactly one value.
///
/// # Errors
/// None, or several; and attachments, which are downloaded.
pub(crate) fn notation_text(
    record: &Record,
    selector: &Selector,
) -> Result<Zeroizing<Vec<u8>>, RenderError> {
    match select_one(record, selector)? {
        Single::Value(value) => {
            let mut out = Buffer::default();
            out.push(value.text().expose());
            Ok(out.bytes)
        }
        Single::File(_) => Err(RenderError::Format),
    }
}

fn has_value(field: &Field<'_>) -> bool {
    !field.values.iter().all(Value::is_null)
}

fn find<'c, 'v>(content: &'c Content<'v>, name: &str) -> Option<&'c Field<'v>> {
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

fn missing(record: &Record, content: &Content<'_>, name: &str, is_there: bool) -> RenderError {
    let (record, field) = (record.title().to_owned(), name.to_owned());
    if is_there {
        return RenderError::NoValue { record, field };
    }
    let fields = content.fields.iter().chain(&content.custom);
    let mut names: Vec<String> = fields
        .filter(|field| has_value(field))
        .map(|field| format!("`{}`", field.label.as_deref().unwrap_or(&field.field_type)))
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

/// A buffer that leaves nothing behind when it grows.
#[derive(Default)]
struct Buffer {
    bytes: Zeroizing<Vec<u8>>,
}

impl Buffer {
    fn push(&mut self, text: &str) {
        let needed = self.bytes.len().saturating_add(text.len());
        if needed > self.bytes.capacity() {
            let mut grown = Vec::with_capacity(needed.saturating_mul(2));
            grown.extend_from_slice(&self.bytes);
            self.bytes.zeroize();
            *self.bytes = grown;
        }
        self.bytes.extend_from_slice(text.as_bytes());
    }

    /// Items on lines of their own between brackets, which stand at `depth`; nothing between them without any.
    fn block<T>(
        &mut self,
        open: char,
        close: char,
        depth: usize,
        items: impl Iterator<Item = T>,
        mut item: impl FnMut(&mut Self, T),
    ) {
        self.push(open.encode_utf8(&mut [0; 4]));
        let mut any = false;
        for each in items {
            self.push(if any { ",\n" } else { "\n" });
            self.push(&"  ".repeat(depth + 1));
            item(self, each);
            any = true;
        }
        if any {
            self.push("\n");
            self.push(&"  ".repeat(depth));
        }
        self.push(close.encode_utf8(&mut [0; 4]));
    }

    /// The name of a member.
    fn key(&mut self, key: &str) {
        self.push(&serde_json::Value::from(key).to_string());
        self.push(": ");
    }

    /// A JSON text, laid out as deep as it stands. Strings and numbers stay as they were written.
    fn json(&mut self, json: &str, depth: usize) {
        let members = |json| serde_json::from_str::<BTreeMap<Cow<'_, str>, &RawValue>>(json);
        let elements = |json| serde_json::from_str::<Vec<&RawValue>>(json);
        if let (true, Ok(members)) = (json.starts_with('{'), members(json)) {
            self.block('{', '}', depth, members.into_iter(), |out, (key, value)| {
                out.key(&key);
                out.json(value.get(), depth + 1);
            });
        } else if let (true, Ok(elements)) = (json.starts_with('['), elements(json)) {
            self.block('[', ']', depth, elements.into_iter(), |out, value| {
                out.json(value.get(), depth + 1);
            });
        } else {
            self.push(json);
        }
    }
}
