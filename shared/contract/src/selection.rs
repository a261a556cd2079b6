//! Selections, the one grammar of what to take from the vault and where to put it:
//!
//! ```text
//! value = selection [":" path]     split at the last ":/"; a path holds no ":"
//! 1  starts with "/"               a path only (secret-<name>): the record titled exactly <name>
//! 2  starts with keeper://         a Keeper Notation
//! 3  has an unescaped segment after the first that is a selector word: a notation without its scheme
//! 4  ends in an unescaped "]"      record[field]
//! 5  else                          a record
//! ```
//!
//! `\/ \[ \] \\ \: \,` escape, everywhere; blanks around parts are trimmed. One thing that would be a record or
//! a parameter is refused: a colon with a relative path behind it, since that is what it nearly always is.
//!
//! `file-<name>` has a short form of its own for attachments: `<record>:<file>[:/path]`, cut at each unescaped colon.

use keeper_notation::escape::{BadEscape, split_unescaped, unescape, unescaped};
use keeper_notation::{NotationError, RecordRefError, is_selector_word};

use crate::agent_config::Selection;
use crate::path::{CleanPath, PathError};

const SCHEME: &str = "keeper://";

/// A value of an annotation that selects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A path alone: the record has the annotation's name.
    PathOnly(CleanPath),
    /// A selection, and a path if one is written.
    Selection(Selection, Option<CleanPath>),
}

/// Why a text is no selection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectionError {
    /// Nothing selected.
    #[error("the selection is empty: name a record by its title or UID")]
    Empty,
    /// A notation.
    #[error(transparent)]
    Notation(#[from] NotationError),
    /// A record.
    #[error(transparent)]
    Record(#[from] RecordRefError),
    /// A field's name.
    #[error(transparent)]
    BadEscape(#[from] BadEscape),
    /// `]` without `[`, or one bracket in another.
    #[error("unbalanced brackets: write record[field], and a bracket of a name as \\[ or \\]")]
    Brackets,
    /// `record[]`, or `[field]`.
    #[error("record[field] needs both: a record's title or UID and a field's label or type")]
    EmptyField,
    /// The path.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A colon, and behind it a path that does not begin with a slash.
    #[error(
        "the path {0} is not absolute: begin it with a slash, or write \\: where the colon belongs to the selection"
    )]
    RelativePath(String),
    /// A `file-<name>` that names no attachment.
    #[error(
        "an attachment is <record>:<file>[:/path], or a notation such as <record>/file/<file>; write a colon of a name as \\:"
    )]
    NoAttachment,
}

/// Parses one value.
///
/// # Errors
/// A text that is no selection, or whose path is none.
pub fn parse(text: &str) -> Result<Value, SelectionError> {
    let text = text.trim();
    if text.starts_with('/') {
        return Ok(Value::PathOnly(unescape(text)?.parse()?));
    }
    let (selection, path) = split_path(text);
    let path = path
        .map(|path| Ok::<_, SelectionError>(unescape(path)?.parse()?))
        .transpose()?;
    let selection = selection.trim();
    if path.is_none() {
        refuse_relative_path(selection)?;
    }
    Ok(Value::Selection(selection_of(selection)?, path))
}

/// Parses the value of `file-<name>`: `<record>:<file>[:/path]`, or a notation of an attachment.
///
/// # Errors
/// As [`parse`]; and [`SelectionError::NoAttachment`] for what names none.
pub fn parse_attachment(text: &str) -> Result<(Selection, Option<CleanPath>), SelectionError> {
    let text = text.trim();
    let parts: Vec<&str> = split_unescaped(text, ':')
        .into_iter()
        .map(str::trim)
        .collect();
    let first = parts.first().copied().unwrap_or_default();
    if scheme_len(text) > 0 || selector_word(first).is_some() {
        return match parse(text)? {
            Value::Selection(selection, path) if selection.attachment().is_some() => {
                Ok((selection, path))
            }
            _ => Err(SelectionError::NoAttachment),
        };
    }
    let (record, file, path) = match parts.as_slice() {
        [record, file] => (*record, *file, None),
        [record, file, path] => (*record, *file, Some(*path)),
        _ => return Err(SelectionError::NoAttachment),
    };
    // A path in the place of the file: the file was forgotten.
    if record.is_empty() || file.is_empty() || path.is_none() && file.starts_with('/') {
        return Err(SelectionError::NoAttachment);
    }
    let path = path
        .map(|path| Ok::<_, SelectionError>(unescape(path)?.parse()?))
        .transpose()?;
    let selection = Selection::File {
        record: record.parse()?,
        file: unescape(file)?.into_owned(),
    };
    Ok((selection, path))
}

/// The values of a list, between unescaped commas. Empty ones (`a,,b`, a comma at the end) are left out.
pub fn list(text: &str) -> impl Iterator<Item = &str> {
    split_unescaped(text, ',')
        .into_iter()
        .map(str::trim)
        .filter(|value| !value.is_empty())
}

/// Cuts at the last unescaped `:/`, but not in the scheme of a notation.
fn split_path(text: &str) -> (&str, Option<&str>) {
    let scheme = scheme_len(text);
    let cut = unescaped(text, ':')
        .rev()
        .find(|at| *at >= scheme && text.get(at + 1..).is_some_and(|rest| rest.starts_with('/')));
    match cut.and_then(|at| text.split_at_checked(at)) {
        Some((selection, path)) => (selection, path.strip_prefix(':')),
        None => (text, None),
    }
}

/// Length of the scheme that `text` begins with, or 0.
fn scheme_len(text: &str) -> usize {
    match text.get(..SCHEME.len()) {
        Some(start) if start.eq_ignore_ascii_case(SCHEME) => SCHEME.len(),
        _ => 0,
    }
}

fn selection_of(text: &str) -> Result<Selection, SelectionError> {
    if text.is_empty() {
        return Err(SelectionError::Empty);
    }
    if scheme_len(text) > 0 || selector_word(text).is_some() {
        return Ok(Selection::Notation(text.parse()?));
    }
    if unescaped(text, ']').next_back() == Some(text.len() - 1) {
        return field_of(text);
    }
    Ok(Selection::Record(text.parse()?))
}

/// Where the selector word of a notation begins, if `text` is one.
fn selector_word(text: &str) -> Option<usize> {
    let scheme = scheme_len(text);
    let mut start = scheme;
    for (i, segment) in split_unescaped(text.get(scheme..)?, '/')
        .into_iter()
        .enumerate()
    {
        if i > 0 && is_selector_word(segment) {
            return Some(start);
        }
        start += segment.len() + 1;
    }
    None
}

/// Refuses an unescaped colon with something behind it that holds a slash. In a notation only behind the
/// selector word: colons of folders and the record stand before it.
fn refuse_relative_path(text: &str) -> Result<(), SelectionError> {
    let from = selector_word(text).unwrap_or(scheme_len(text));
    // `record[field]` ends in its bracket, and so in no path.
    if unescaped(text, ']').next_back() == text.len().checked_sub(1) {
        return Ok(());
    }
    let tail = unescaped(text, ':')
        .rfind(|at| *at >= from)
        .and_then(|at| text.get(at + 1..));
    match tail {
        Some(tail) if unescaped(tail, '/').next().is_some() => Err(SelectionError::RelativePath(
            crate::problem::quoted(tail.trim()),
        )),
        _ => Ok(()),
    }
}

/// `record[field]`: the last unescaped `[` opens it.
fn field_of(text: &str) -> Result<Selection, SelectionError> {
    let open = unescaped(text, '[')
        .next_back()
        .ok_or(SelectionError::Brackets)?;
    let (record, bracket) = text.split_at(open);
    let field = bracket
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .ok_or(SelectionError::Brackets)?;
    if unescaped(field, ']').next().is_some() {
        return Err(SelectionError::Brackets);
    }
    let (record, field) = (record.trim(), field.trim());
    if record.is_empty() || field.is_empty() {
        return Err(SelectionError::EmptyField);
    }
    Ok(Selection::Field {
        record: record.parse()?,
        field: unescape(field)?.into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use keeper_notation::RecordRef;
    use proptest::prelude::*;

    /// What a value means, in one line: kind, record as it is escaped, the rest, path.
    fn meaning(text: &str) -> Result<String, SelectionError> {
        match parse(text)? {
            Value::PathOnly(path) => Ok(format!("path {path}")),
            Value::Selection(selection, path) => Ok(shown(&selection, path)),
        }
    }

    fn shown(selection: &Selection, path: Option<CleanPath>) -> String {
        let path = path.map_or(String::new(), |path| format!(" -> {path}"));
        match selection {
            Selection::Record(record) => format!("record <{record}>{path}"),
            Selection::Field { record, field } => format!("field <{record}> <{field}>{path}"),
            Selection::Notation(notation) => format!("notation {notation}{path}"),
            Selection::File { record, file } => format!("file <{record}> <{file}>{path}"),
        }
    }

    #[test]
    fn every_form() {
        for (text, want) in [
            // 5: a record, by title, UID, or folder path and title
            ("orders", "record <orders>"),
            ("Orders DB", "record <Orders DB>"),
            ("  Orders DB  ", "record <Orders DB>"),
            ("Qz3kT0bXv9mWc5rLr2Hn8A", "record <Qz3kT0bXv9mWc5rLr2Hn8A>"),
            ("Prod/Databases/mysql", "record <Prod/Databases/mysql>"),
            (r"Prod\/EU/mysql", r"record <Prod\/EU/mysql>"),
            (r"Orders \[prod\]", r"record <Orders \[prod\]>"),
            ("a[b]c", r"record <a\[b\]c>"),
            ("a[b", r"record <a\[b>"),
            (r"a,b", "record <a,b>"),
            (r"a\,b", "record <a,b>"),
            ("Zürich 東京", "record <Zürich 東京>"),
            ("type", "record <type>"),
            ("file", "record <file>"),
            ("notes/x", "record <notes/x>"),
            (r"a/\[type", r"record <a/\[type>"),
            (r"a\/type", r"record <a\/type>"),
            // with a path
            (
                "orders:/keeper/secrets/o",
                "record <orders> -> /keeper/secrets/o",
            ),
            ("orders :/x", "record <orders> -> /x"),
            ("orders:/x/", "record <orders> -> /x"),
            ("a:b:/x", "record <a:b> -> /x"),
            ("a:b", "record <a:b>"),
            (r"a\:b", "record <a:b>"),
            (r"a\:/x", "record <a:/x>"),
            ("a:/b:/x", "record <a:/b> -> /x"),
            (r"a\: /x", "record <a: /x>"),
            ("a:b.json", "record <a:b.json>"),
            (r"Prod\: EU/mysql", "record <Prod: EU/mysql>"),
            ("Prod: EU/mysql[login]", "field <Prod: EU/mysql> <login>"),
            (
                "Prod: EU/mysql/type",
                "notation keeper://Prod: EU/mysql/type",
            ),
            ("keeper://a:b/c/field/x", "notation keeper://a:b/c/field/x"),
            (r"R/field/a\:b/c", "notation keeper://R/field/a:b/c"),
            (r"o:/x\,y", "record <o> -> /x,y"),
            (r"Orders \[prod\]:/x", r"record <Orders \[prod\]> -> /x"),
            (
                "Development/Databases/mysql-dev:/keeper/secrets/x.json",
                "record <Development/Databases/mysql-dev> -> /keeper/secrets/x.json",
            ),
            // 4: one field
            ("orders[password]", "field <orders> <password>"),
            ("orders [ password ] ", "field <orders> <password>"),
            ("Prod/db[login]:/x", "field <Prod/db> <login> -> /x"),
            (
                r"Orders \[prod\][login]",
                r"field <Orders \[prod\]> <login>",
            ),
            ("Orders [prod][login]", r"field <Orders \[prod\]> <login>"),
            (r"orders[a\]b]", "field <orders> <a]b>"),
            (r"orders[a\[b]", "field <orders> <a[b>"),
            ("orders[a/b]", "field <orders> <a/b>"),
            ("orders[a:b]", "field <orders> <a:b>"),
            ("U/type[0]", "field <U/type> <0>"),
            // 3: a notation without its scheme
            (
                "orders/field/password",
                "notation keeper://orders/field/password",
            ),
            (
                "orders/FIELD/password",
                "notation keeper://orders/field/password",
            ),
            ("orders/type", "notation keeper://orders/type"),
            ("orders/title:/x", "notation keeper://orders/title -> /x"),
            (
                "F/R/field/url[1]:/x",
                "notation keeper://F/R/field/url[1] -> /x",
            ),
            (
                "Production/Databases/mysql-prod/type:/keeper/secrets/t.txt",
                "notation keeper://Production/Databases/mysql-prod/type -> /keeper/secrets/t.txt",
            ),
            ("type/field/notes", "notation keeper://type/field/notes"),
            (
                "R/custom_field/a:b:/x",
                "notation keeper://R/custom_field/a:b -> /x",
            ),
            (
                r"R/custom_field/a\:/x",
                "notation keeper://R/custom_field/a:/x",
            ),
            ("R/file/tls.crt", "notation keeper://R/file/tls.crt"),
            (
                "R/field/host[0][hostName]",
                "notation keeper://R/field/host[0][hostName]",
            ),
            // 2: a notation
            ("keeper://R/field/login", "notation keeper://R/field/login"),
            (
                "KEEPER://R/field/login:/x",
                "notation keeper://R/field/login -> /x",
            ),
            (
                "keeper://F/R/notes:/a/b",
                "notation keeper://F/R/notes -> /a/b",
            ),
            // 1: a path only
            ("/keeper/secrets/x", "path /keeper/secrets/x"),
            (" /x/ ", "path /x"),
        ] {
            assert_eq!(meaning(text).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn what_is_no_selection_says_why() {
        use SelectionError as E;
        for (text, want) in [
            ("", E::Empty),
            ("  ", E::Empty),
            (":/x", E::Empty),
            (" :/x", E::Empty),
            ("a]", E::Brackets),
            ("a[b]]", E::Brackets),
            (r"a\[b]", E::Brackets),
            ("a[]", E::EmptyField),
            ("[b]", E::EmptyField),
            ("a//b", E::Record(RecordRefError::EmptySegment)),
            ("a/", E::Record(RecordRefError::EmptySegment)),
            ("a//b[c]", E::Record(RecordRefError::EmptySegment)),
            (
                r"bad\q",
                E::Record(RecordRefError::BadEscape(BadEscape { position: 4 })),
            ),
            (r"a[bad\q]", E::BadEscape(BadEscape { position: 4 })),
            ("keeper://", E::Notation(NotationError::NoSelector)),
            ("keeper://R", E::Notation(NotationError::NoSelector)),
            (
                "R/field",
                E::Notation(NotationError::ParameterRequired("field")),
            ),
            (
                "R/type/x",
                E::Notation(NotationError::ExtraCharacters("x".into())),
            ),
            ("a:/b:c", E::Path(PathError::Colon("`/b:c`".into()))),
            ("/b:c", E::Path(PathError::Colon("`/b:c`".into()))),
            ("orders:keeper/x", E::RelativePath("`keeper/x`".into())),
            ("orders: /x", E::RelativePath("`/x`".into())),
            ("orders[login]:./x", E::RelativePath("`./x`".into())),
            ("R/field/login:out/x", E::RelativePath("`out/x`".into())),
            ("keeper://R/type:out/x", E::RelativePath("`out/x`".into())),
            ("a:/../b", E::Path(PathError::DotDot("`/../b`".into()))),
        ] {
            assert_eq!(meaning(text), Err(want), "{text}");
        }
    }

    #[test]
    fn attachments_in_every_form() {
        use SelectionError as E;
        let meaning =
            |text| parse_attachment(text).map(|(selection, path)| shown(&selection, path));
        for (text, want) in [
            ("TLS:tls.crt", "file <TLS> <tls.crt>"),
            ("TLS : tls.crt : /x", "file <TLS> <tls.crt> -> /x"),
            ("F/TLS:a/b.pem:/x/", "file <F/TLS> <a/b.pem> -> /x"),
            (r"Prod\: EU/TLS:a\:b", "file <Prod: EU/TLS> <a:b>"),
            (r"Orders \[prod\]:x[1]", r"file <Orders \[prod\]> <x[1]>"),
            ("TLS:Server cert", "file <TLS> <Server cert>"),
            // Behind the first colon a selector word is none.
            ("a:b/file/c", "file <a> <b/file/c>"),
            ("TLS/file/tls.crt", "notation keeper://TLS/file/tls.crt"),
            (
                "KEEPER://F/TLS/file/tls.crt:/x",
                "notation keeper://F/TLS/file/tls.crt -> /x",
            ),
        ] {
            assert_eq!(meaning(text).as_deref(), Ok(want), "{text}");
        }
        for (text, want) in [
            ("", E::NoAttachment),
            ("TLS", E::NoAttachment),
            ("TLS:", E::NoAttachment),
            (":tls.crt", E::NoAttachment),
            ("TLS:/keeper/secrets/x", E::NoAttachment),
            ("/keeper/secrets/x", E::NoAttachment),
            ("a:b:/c:d", E::NoAttachment),
            ("TLS/field/login", E::NoAttachment),
            ("keeper://TLS/notes", E::NoAttachment),
            (
                "TLS/file",
                E::Notation(NotationError::ParameterRequired("file")),
            ),
            ("a:b:c", E::Path(PathError::Relative("`c`".into()))),
            ("a:b:", E::Path(PathError::Relative("``".into()))),
            ("a:b:/../c", E::Path(PathError::DotDot("`/../c`".into()))),
            (r"a:b\q", E::BadEscape(BadEscape { position: 2 })),
            ("a//b:c", E::Record(RecordRefError::EmptySegment)),
        ] {
            assert_eq!(meaning(text), Err(want), "{text}");
        }
    }

    #[test]
    fn lists_honour_escapes() {
        let parts = |text| list(text).collect::<Vec<_>>();
        assert_eq!(parts("a, b ,c"), ["a", "b", "c"]);
        assert_eq!(parts(r"a\,b,c"), [r"a\,b", "c"]);
        assert_eq!(parts("a,,b,\n"), ["a", "b"]);
        assert!(parts(" , ").is_empty());
    }

    #[test]
    fn each_selection_is_about_a_record() {
        for (text, record) in [("F/R", "F/R"), ("R[login]", "R"), ("R/type", "R")] {
            let Ok(Value::Selection(selection, None)) = parse(text) else {
                panic!("{text}")
            };
            assert_eq!(selection.record().title(), record, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_parses_or_fails_without_a_panic(
            text in r"(keeper://)?([a-cä :,/\\\[\]]|/type|/field/){0,20}(:/x)?",
        ) {
            let _ = parse(&text);
            let _ = parse_attachment(&text);
            list(&text).for_each(|value| { let _ = parse(value); });
        }

        #[test]
        fn an_escaped_title_is_that_title(title in r"[a-z:/\\\[\],ü]{1,12}") {
            let text = keeper_notation::escape::escape(&title, &['/', '[', ']', ':', ',']);
            let Ok(Value::Selection(Selection::Record(record), None)) = parse(&text) else {
                return Err(TestCaseError::fail(text.into_owned()));
            };
            prop_assert_eq!(record, RecordRef::titled(title));
        }
    }
}
