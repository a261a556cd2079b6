//! Keeper Notation: `[keeper://][folder/…]record/selector`.
//!
//! The grammar is the official SDKs' results API, extended by a folder path before the record: the leftmost
//! segment after the first that is a selector word ends the path. Positions are characters, never bytes.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::{Deserialize, Serialize, Serializer};

use crate::escape::{BadEscape, escape, split_unescaped, unescape, unescaped};
use crate::record::{RecordRef, RecordRefError};

const SCHEME: &str = "keeper://";
/// Notations come from annotations, which are untrusted: longer ones are refused unread.
const MAX_BYTES: usize = 2048;

/// One `record/selector` of Keeper Notation, with an optional folder path before the record.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Notation {
    /// The record, or folder path and record.
    pub record: RecordRef,
    /// What of the record.
    pub selector: Selector,
}

/// What a notation picks from its record.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Selector {
    /// The record's type.
    Type,
    /// The record's title.
    Title,
    /// The record's notes.
    Notes,
    /// An attachment, by name, title or UID.
    File(String),
    /// A standard field.
    Field(FieldSelector),
    /// A custom field.
    CustomField(FieldSelector),
}

/// A field by type or label, and which of its values.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FieldSelector {
    /// Type or label, case-sensitive.
    pub name: String,
    /// Which values: all of them, or the n-th.
    pub index: Index,
    /// A member of each selected value.
    pub property: Option<String>,
}

/// Which values of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Index {
    /// No index, or `[]`.
    All,
    /// `[n]`, counted from 0. A number too large for any list is `usize::MAX`.
    At(usize),
}

/// Why a text is no notation. Texts may be shown: notations are not secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotationError {
    /// Nothing there.
    #[error("the notation is empty; write keeper://<record>/field/<name>")]
    Empty,
    /// Over 2 KiB.
    #[error(
        "the notation is longer than {MAX_BYTES} bytes: shorten it, or name the record by its UID"
    )]
    TooLong,
    /// No `/`, and not base64 of a notation either.
    #[error("not a notation: write keeper://<record>/field/<name>")]
    NotNotation,
    /// A record, and no selector behind it.
    #[error(
        "no selector after the record: add /type, /title, /notes, /field/<name>, /custom_field/<name> or /file/<name>"
    )]
    NoSelector,
    /// The record part.
    #[error(transparent)]
    Record(#[from] RecordRefError),
    /// A backslash before something else than a special character, after the selector word.
    #[error(transparent)]
    BadEscape(#[from] BadEscape),
    /// `field`, `custom_field` or `file` without a name.
    #[error("{0} needs a name: {0}/<name>")]
    ParameterRequired(&'static str),
    /// Text after a complete selector.
    #[error(
        "extra characters after the selector, `{0}`: remove them, or escape what belongs to a name"
    )]
    ExtraCharacters(String),
    /// `file/x[0]`.
    #[error("file takes no index; write a bracket of a name as \\[")]
    FileIndex,
    /// A first bracket that is neither `[digits]` nor `[]`.
    #[error(
        "the first index must be a number or empty: for a member of the value write {0}[0][{1}]"
    )]
    IndexNotNumeric(String, String),
    /// Text after `]`, an unclosed bracket, or a bracket in a bracket.
    #[error("unbalanced brackets in `{0}`: write a bracket of a name as \\[ or \\]")]
    Brackets(String),
}

/// Whether `segment` is one of the words that end the record part: `type`, `title`, `notes`, `field`,
/// `custom_field`, `file`, in any case. An escaped segment never is.
#[must_use]
pub fn is_selector_word(segment: &str) -> bool {
    word(segment).is_some()
}

fn word(segment: &str) -> Option<&'static str> {
    ["type", "title", "notes", "field", "custom_field", "file"]
        .into_iter()
        .find(|word| word.eq_ignore_ascii_case(segment))
}

impl Selector {
    /// What something with names, such as an environment, calls the selected value.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Type => "type",
            Self::Title => "title",
            Self::Notes => "notes",
            Self::File(name) => name,
            Self::Field(field) | Self::CustomField(field) => {
                field.property.as_deref().unwrap_or(&field.name)
            }
        }
    }
}

impl Notation {
    /// Parses a notation, or base64 of a whole one, padded or not: a text without `/` is base64.
    ///
    /// # Errors
    /// As [`Notation::from_str`]; a text without `/` that is not base64 of a notation is
    /// [`NotationError::NotNotation`].
    pub fn parse_encoded(text: &str) -> Result<Self, NotationError> {
        if text.is_empty() || text.contains('/') {
            return text.parse();
        }
        let lenient =
            GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
        GeneralPurpose::new(&base64::alphabet::URL_SAFE, lenient)
            .decode(text)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .ok_or(NotationError::NotNotation)?
            .parse()
    }
}

impl FromStr for Notation {
    type Err = NotationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(NotationError::Empty);
        }
        if text.len() > MAX_BYTES {
            return Err(NotationError::TooLong);
        }
        let scheme = text
            .get(..SCHEME.len())
            .filter(|s| s.eq_ignore_ascii_case(SCHEME));
        let body = text.get(scheme.map_or(0, str::len)..).unwrap_or_default();
        if scheme.is_none() && !body.contains('/') {
            return Err(NotationError::NotNotation);
        }
        let segments = split_unescaped(body, '/');
        let found = segments
            .iter()
            .enumerate()
            .skip(1)
            .find_map(|(i, s)| Some((i, word(s)?)));
        let (at, word) = found.ok_or(NotationError::NoSelector)?;
        let record = RecordRef::from_escaped(segments.get(..at).unwrap_or_default())?;
        // What follows the word, as written: a parameter may hold slashes.
        let rest = segments.get(at + 1..).map(|rest| rest.join("/"));
        let selector = selector(word, rest.filter(|_| segments.len() > at + 1).as_deref())?;
        Ok(Self { record, selector })
    }
}

fn selector(word: &'static str, rest: Option<&str>) -> Result<Selector, NotationError> {
    let simple = |selector| match rest {
        None | Some("") => Ok(selector),
        Some(extra) => Err(NotationError::ExtraCharacters(extra.to_owned())),
    };
    let rest = || {
        rest.filter(|r| !r.is_empty())
            .ok_or(NotationError::ParameterRequired(word))
    };
    match word {
        "type" => simple(Selector::Type),
        "title" => simple(Selector::Title),
        "notes" => simple(Selector::Notes),
        "file" => match unescaped(rest()?, '[').next() {
            Some(_) => Err(NotationError::FileIndex),
            None => Ok(Selector::File(unescape(rest()?)?.into_owned())),
        },
        "field" => Ok(Selector::Field(field(rest()?)?)),
        _ => Ok(Selector::CustomField(field(rest()?)?)),
    }
}

fn field(text: &str) -> Result<FieldSelector, NotationError> {
    let open = unescaped(text, '[').next();
    let (name, brackets) = text.split_at(open.unwrap_or(text.len()));
    // The SDKs misread a name that ends in an escaped backslash before an index: an error here.
    if open.is_some() && name.ends_with('\\') {
        return Err(NotationError::Brackets(text.to_owned()));
    }
    let (first, rest) = bracket(brackets, text)?;
    let (second, rest) = bracket(rest, text)?;
    if !rest.is_empty() {
        return Err(NotationError::ExtraCharacters(rest.to_owned()));
    }
    let index = match first {
        None | Some("") => Index::All,
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            Index::At(digits.parse().unwrap_or(usize::MAX))
        }
        Some(other) => {
            return Err(NotationError::IndexNotNumeric(
                name.to_owned(),
                other.to_owned(),
            ));
        }
    };
    let property = second.filter(|p| !p.is_empty()).map(unescape).transpose()?;
    Ok(FieldSelector {
        name: unescape(name)?.into_owned(),
        index,
        property: property.map(Cow::into_owned),
    })
}

/// Takes one `[…]` off the front: its content, still escaped, and what follows.
fn bracket<'a>(text: &'a str, whole: &str) -> Result<(Option<&'a str>, &'a str), NotationError> {
    let unbalanced = || NotationError::Brackets(whole.to_owned());
    if text.is_empty() {
        return Ok((None, text));
    }
    let inner = text.strip_prefix('[').ok_or_else(unbalanced)?;
    let close = unescaped(inner, ']').next().ok_or_else(unbalanced)?;
    let (content, rest) = inner.split_at(close);
    if unescaped(content, '[').next().is_some() || content.ends_with('\\') {
        return Err(unbalanced());
    }
    Ok((Some(content), rest.strip_prefix(']').unwrap_or_default()))
}

impl fmt::Display for Notation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.record, self.selector)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Type => f.write_str("type"),
            Self::Title => f.write_str("title"),
            Self::Notes => f.write_str("notes"),
            Self::File(name) => write!(f, "file/{}", escape(name, &['['])),
            Self::Field(field) => write!(f, "field/{field}"),
            Self::CustomField(field) => write!(f, "custom_field/{field}"),
        }
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape(&self.name, &['[']))?;
        match (self.index, &self.property) {
            // A name may be empty only before an index.
            (Index::All, None) if !self.name.is_empty() => Ok(()),
            (Index::All, None) => f.write_str("[]"),
            (Index::All, Some(property)) => write!(f, "[][{}]", escape(property, &['[', ']'])),
            (Index::At(n), None) => write!(f, "[{n}]"),
            (Index::At(n), Some(property)) => {
                write!(f, "[{n}][{}]", escape(property, &['[', ']']))
            }
        }
    }
}

impl Serialize for Notation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl TryFrom<String> for Notation {
    type Error = NotationError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Notation {
        text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    fn simple(name: &str, index: Index, property: Option<&str>) -> FieldSelector {
        FieldSelector {
            name: name.into(),
            index,
            property: property.map(Into::into),
        }
    }

    #[test]
    fn selectors_in_every_form() {
        let field = |name, index, property| Selector::Field(simple(name, index, property));
        for (text, want) in [
            ("keeper://U/field/login", field("login", Index::All, None)),
            ("U/field/login", field("login", Index::All, None)),
            ("KEEPER://U/FIELD/login", field("login", Index::All, None)),
            ("U/type", Selector::Type),
            ("U/type/", Selector::Type),
            ("U/TITLE", Selector::Title),
            ("U/notes", Selector::Notes),
            ("U/field/url[]", field("url", Index::All, None)),
            ("U/field/url[01]", field("url", Index::At(1), None)),
            (
                "U/field/url[18446744073709551616]",
                field("url", Index::At(usize::MAX), None),
            ),
            (
                "U/field/Primary host",
                field("Primary host", Index::All, None),
            ),
            (
                "U/field/host[0][hostName]",
                field("host", Index::At(0), Some("hostName")),
            ),
            (
                "U/field/host[][port]",
                field("host", Index::All, Some("port")),
            ),
            ("U/field/name[0][]", field("name", Index::At(0), None)),
            ("U/field/name/first", field("name/first", Index::All, None)),
            ("U/field/[0]", field("", Index::At(0), None)),
            ("U/file/tls.crt", Selector::File("tls.crt".into())),
            (
                r"U/custom_field/we/ird \[lbl]\\",
                Selector::CustomField(simple(r"we/ird [lbl]\", Index::All, None)),
            ),
            (
                "U/custom_field/Größe[0]",
                Selector::CustomField(simple("Größe", Index::At(0), None)),
            ),
        ] {
            let notation = parse(text);
            assert_eq!(
                (notation.record.title().as_str(), &notation.selector),
                ("U", &want),
                "{text}"
            );
            assert_eq!(notation.to_string().parse(), Ok(notation), "{text}");
        }
    }

    #[test]
    fn the_leftmost_selector_word_ends_the_record() {
        let notation = parse("F/R/field/url[1]");
        let (folder, title) = notation.record.folder_and_title().unwrap();
        assert_eq!((folder, title), (["F".to_owned()].as_slice(), "R"));
        assert_eq!(parse("type/field/notes").record.title(), "type");
        assert_eq!(parse("keeper:///field/login").record.title(), "");
        assert_eq!(
            parse(r"we\/ird \[t\]\\itle/field/login").record.title(),
            r"we/ird [t]\itle"
        );
        assert_eq!(
            parse(r"we\/ird [t]\\itle/field/login").record.title(),
            r"we/ird [t]\itle"
        );
    }

    #[test]
    fn what_is_no_notation_says_why() {
        use NotationError as E;
        let brackets = |t: &str| E::Brackets(t.into());
        for (text, want) in [
            ("", E::Empty),
            ("keeper:", E::NotNotation),
            ("keeper://", E::NoSelector),
            ("keeper://U", E::NoSelector),
            ("keeper://U/", E::NoSelector),
            ("keeper://U/bogus/x", E::NoSelector),
            ("https://x/y", E::NoSelector),
            ("U/type[0]", E::NoSelector),
            ("U/field", E::ParameterRequired("field")),
            ("U/field/", E::ParameterRequired("field")),
            ("U/file", E::ParameterRequired("file")),
            ("U/type/extra", E::ExtraCharacters("extra".into())),
            ("U/file/tls.crt[0]", E::FileIndex),
            (
                "U/field/host[hostName]",
                E::IndexNotNumeric("host".into(), "hostName".into()),
            ),
            (
                "U/field/Tags[-1]",
                E::IndexNotNumeric("Tags".into(), "-1".into()),
            ),
            ("U/field/name[0][last][x]", E::ExtraCharacters("[x]".into())),
            ("U/field/name[0]x", brackets("name[0]x")),
            ("U/field/name[0", brackets("name[0")),
            ("U/field/name[[0]]", brackets("name[[0]]")),
            (r"U/field/bad\q", E::BadEscape(BadEscape { position: 4 })),
            (r"U/field/bad\", E::BadEscape(BadEscape { position: 4 })),
            (r"U/field/x\\[0]", brackets(r"x\\[0]")),
            (
                " keeper://U/field/login",
                E::Record(RecordRefError::EmptySegment),
            ),
        ] {
            assert_eq!(text.parse::<Notation>(), Err(want), "{text}");
        }
        assert_eq!("x".repeat(3000).parse::<Notation>(), Err(E::TooLong));
    }

    #[test]
    fn base64_of_a_whole_notation() {
        let want = parse("keeper://U/field/login");
        for text in [
            "a2VlcGVyOi8vVS9maWVsZC9sb2dpbg==",
            "a2VlcGVyOi8vVS9maWVsZC9sb2dpbg",
        ] {
            assert_eq!(Notation::parse_encoded(text).as_ref(), Ok(&want));
        }
        assert_eq!(
            Notation::parse_encoded("orders"),
            Err(NotationError::NotNotation)
        );
        assert_eq!(
            Notation::parse_encoded("U/type").unwrap().selector,
            Selector::Type
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_parses_or_fails_without_a_panic(text in r"(keeper://)?[a-zäü/\\\[\]0-9]{0,40}") {
            if let Ok(notation) = text.parse::<Notation>() {
                assert_eq!(notation.to_string().parse(), Ok(notation));
            }
        }

        #[test]
        fn any_field_round_trips(name in "[^\\\\]{1,12}", n in 0usize..99, property in "[^\\\\]{1,8}") {
            let field = FieldSelector { name, index: Index::At(n), property: Some(property) };
            let notation =
                Notation { record: RecordRef::titled("R"), selector: Selector::Field(field) };
            assert_eq!(notation.to_string().parse(), Ok(notation));
        }
    }
}
