//! A `config` as it is written: exactly these keys, and the place of each value, so that what is wrong with one is said
//! with its line and column.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Visitor};
use serde_saphyr::Spanned;

/// The whole text.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    pub(super) secrets: Option<Vec<Spanned<Secret>>>,
    pub(super) folders: Option<Vec<Spanned<Folder>>>,
}

/// An entry of `secrets`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Secret {
    pub(super) record: Option<Spanned<String>>,
    pub(super) notation: Option<Spanned<String>>,
    #[serde(alias = "fileName")]
    pub(super) file: Option<Spanned<String>>,
    pub(super) fields: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) format: Option<Spanned<String>>,
    pub(super) template: Option<Spanned<String>>,
    pub(super) path: Option<Spanned<String>>,
    pub(super) mode: Option<Spanned<Scalar>>,
    pub(super) inject_as_env_vars: Option<Spanned<Scalar>>,
    pub(super) env_prefix: Option<Spanned<String>>,
    pub(super) inject_as_k8s_secret: Option<Spanned<Scalar>>,
    pub(super) k8s_secret_name: Option<Spanned<String>>,
    pub(super) k8s_secret_keys: Option<Spanned<BTreeMap<String, String>>>,
    pub(super) k8s_secret_type: Option<Spanned<String>>,
}

/// An entry of `folders`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Folder {
    #[serde(alias = "folderPath")]
    pub(super) path: Option<Spanned<String>>,
    pub(super) uid: Option<Spanned<String>>,
    pub(super) output_path: Option<Spanned<String>>,
    pub(super) inject_as_k8s_secret: Option<Spanned<Scalar>>,
    pub(super) k8s_secret_name_prefix: Option<Spanned<String>>,
}

/// A value whose kind matters: `true` is a boolean and `"true"` a text, `0440` a number and `"0440"` a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Scalar {
    Boolean(bool),
    Number,
    Text(String),
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyScalar)
    }
}

struct AnyScalar;

impl Visitor<'_> for AnyScalar {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Scalar, E> {
        Ok(Scalar::Boolean(value))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Scalar, E> {
        Ok(Scalar::Number)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Scalar, E> {
        Ok(Scalar::Number)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Scalar, E> {
        Ok(Scalar::Number)
    }

    fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(text.to_owned()))
    }
}
