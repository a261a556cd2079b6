//! A JSON Patch of additions, written as it is made: what it adds is known to the last field, so there is no tree of JSON
//! values between.

use std::collections::BTreeMap;

use json_patch::jsonptr::PointerBuf;
use serde::Serialize;

use crate::objects::{Container, EnvVar, Mount, Volume};

/// A JSON Patch, all of whose operations are `add`: <https://www.rfc-editor.org/rfc/rfc6902>.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch(Option<String>);

impl Patch {
    /// As it is sent. None, if it couldn't be written: then the pod must be refused, as an API server takes an empty patch for no
    /// change.
    #[must_use]
    pub fn as_json(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// Its operations, for whoever applies it himself.
    ///
    /// # Errors
    /// It couldn't be written.
    pub fn operations(&self) -> serde_json::Result<json_patch::Patch> {
        serde_json::from_str(self.as_json().unwrap_or_default())
    }
}

/// A patch in the making.
#[derive(Default)]
pub(crate) struct Additions<'a>(Vec<Operation<'a>>);

#[derive(Serialize)]
struct Operation<'a> {
    op: &'static str,
    path: PointerBuf,
    value: Addition<'a>,
}

/// What an operation adds.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum Addition<'a> {
    Container(Box<Container<'a>>),
    EnvVar(EnvVar<'a>),
    Mount(Mount<'a>),
    Volume(Volume<'a>),
    Text(&'a str),
    Flag(bool),
    Map(BTreeMap<&'static str, &'static str>),
    List(Vec<Self>),
}

impl<'a> Additions<'a> {
    /// Adds `value` at the place that these names lead to; `-` stands for the end of a list.
    pub(crate) fn add<const N: usize>(&mut self, path: [&str; N], value: Addition<'a>) {
        self.0.push(Operation {
            op: "add",
            path: PointerBuf::from_tokens(path),
            value,
        });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn patch(&self) -> Patch {
        Patch(serde_json::to_string(&self.0).ok())
    }
}
