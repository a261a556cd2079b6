//! How an output is rendered: what decides it, and the words for it.

use std::str::FromStr;

use crate::agent_config::{Format, Selection};
use crate::problem::quoted;
use crate::scalars::ScalarError;

/// Raw is asked for, of what has several values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the format raw is for one value, and this selects several: select one field, as in record[password], or choose another format"
)]
pub(crate) struct RawOfMany;

/// What decides the rendering, first found: the output's `own` format; one value, which is as it is; the
/// annotation `format`; JSON. `fields` are those that are selected of a record; empty: all.
///
/// # Errors
/// Raw, of a record's several fields.
pub(crate) fn rendering(
    own: Option<Format>,
    selection: &Selection,
    fields: &[String],
    annotation: Option<Format>,
) -> Result<Format, RawOfMany> {
    let is_one = match selection {
        Selection::Record(_) => fields.len() == 1,
        Selection::Field { .. } | Selection::Notation(_) | Selection::File { .. } => true,
    };
    let format = own
        .or(is_one.then_some(Format::Raw))
        .or(annotation)
        .unwrap_or(Format::Json);
    match format {
        Format::Raw if !is_one => Err(RawOfMany),
        format => Ok(format),
    }
}

impl Format {
    const ALL: [Self; 6] = [
        Self::Json,
        Self::Env,
        Self::Yaml,
        Self::Properties,
        Self::Ini,
        Self::Raw,
    ];
}

impl FromStr for Format {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        Self::ALL
            .into_iter()
            .find(|format| format.as_str() == text)
            .ok_or_else(|| {
                ScalarError::Choice(quoted(text), "json, env, yaml, properties, ini, raw")
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selection::{Value, parse};
    use Format::{Env, Ini, Json, Raw, Yaml};

    #[test]
    fn the_first_that_says_something_decides() {
        for (own, selection, fields, annotation, want) in [
            (None, "R", &[][..], None, Ok(Json)),
            (None, "R", &[], Some(Env), Ok(Env)),
            (Some(Yaml), "R", &[], Some(Env), Ok(Yaml)),
            (Some(Json), "R", &[], Some(Env), Ok(Json)),
            (None, "R", &["a", "b"], None, Ok(Json)),
            (None, "R", &["a", "b"], Some(Ini), Ok(Ini)),
            // One value is as it is, unless the output itself says otherwise.
            (None, "R", &["a"], None, Ok(Raw)),
            (None, "R", &["a"], Some(Env), Ok(Raw)),
            (Some(Env), "R", &["a"], Some(Yaml), Ok(Env)),
            (None, "R[a]", &[], Some(Env), Ok(Raw)),
            (Some(Env), "R[a]", &[], None, Ok(Env)),
            (None, "R/field/a", &[], Some(Env), Ok(Raw)),
            (Some(Raw), "R/field/a", &[], None, Ok(Raw)),
            (Some(Yaml), "R/field/a", &[], None, Ok(Yaml)),
            // Several values have no raw form.
            (None, "R", &[], Some(Raw), Err(RawOfMany)),
            (Some(Raw), "R", &[], None, Err(RawOfMany)),
            (Some(Raw), "R", &["a", "b"], None, Err(RawOfMany)),
            (None, "R", &["a", "b"], Some(Raw), Err(RawOfMany)),
            (Some(Raw), "R", &["a"], None, Ok(Raw)),
        ] {
            let Ok(Value::Selection(parsed, None)) = parse(selection) else {
                panic!("{selection}")
            };
            let names: Vec<String> = fields.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(
                rendering(own, &parsed, &names, annotation),
                want,
                "{own:?} {selection} {fields:?} {annotation:?}"
            );
        }
    }

    #[test]
    fn words_round_trip_and_are_those_of_the_config() {
        for format in Format::ALL {
            assert_eq!(format.to_string().parse(), Ok(format));
            assert_eq!(
                serde_json::to_string(&format).unwrap(),
                format!("\"{format}\"")
            );
        }
        for text in ["", "JSON", "xml", "template"] {
            assert!(text.parse::<Format>().is_err(), "{text}");
        }
    }
}
