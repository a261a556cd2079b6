//! One entry of a `config` while it is read: what its values are, and where what is wrong with them stands.

use std::fmt;
use std::str::FromStr;

use serde_saphyr::{Location, Spanned};

use super::CONFIG;
use super::document::Scalar;
use super::place::Place;
use crate::problem::{Findings, Reason};
use crate::scalars::Boolean;

/// Why a key is refused that this version does not do.
const NOT_YET: &str = "this version does not do this yet: remove it";

/// An entry.
pub(super) struct Entry<'a> {
    /// Its own path, such as `secrets[2]`.
    name: String,
    location: Location,
    findings: &'a mut Findings,
}

impl<'a> Entry<'a> {
    pub(super) fn new(name: String, location: Location, findings: &'a mut Findings) -> Self {
        Self {
            name,
            location,
            findings,
        }
    }

    /// What stands for the annotation in messages about what it asks for.
    pub(super) fn origin(&self) -> String {
        format!("{CONFIG}: {}", Place::new(&self.name, self.location))
    }

    /// Records what is wrong with the entry as a whole.
    pub(super) fn problem(&mut self, reason: Reason, message: impl fmt::Display) {
        self.record(Place::new(&self.name, self.location), reason, message);
    }

    /// Records what is wrong with the value of a key, or with an item of it (`fields[1]`).
    pub(super) fn problem_at<T>(
        &mut self,
        key: &str,
        value: &Spanned<T>,
        reason: Reason,
        message: impl fmt::Display,
    ) {
        let keys = format!("{}.{key}", self.name);
        self.record(Place::new(&keys, value.referenced), reason, message);
    }

    fn record(&mut self, place: Place, reason: Reason, message: impl fmt::Display) {
        self.findings
            .problem(CONFIG, reason, format_args!("{place}: {message}"));
    }

    /// A value as its type; none if it is not there or is none of its type.
    pub(super) fn parsed<T: FromStr<Err: fmt::Display>>(
        &mut self,
        key: &str,
        value: Option<&Spanned<String>>,
        reason: Reason,
    ) -> Option<T> {
        let value = value?;
        let parsed = value.value.parse();
        parsed
            .map_err(|error| self.problem_at(key, value, reason, error))
            .ok()
    }

    /// Refuses a key that this version does not do.
    pub(super) fn not_yet<T>(&mut self, key: &str, value: Option<&Spanned<T>>) {
        if let Some(value) = value {
            self.problem_at(key, value, Reason::NotYet, NOT_YET);
        }
    }

    /// Whether a switch is on, which it is not if it is not there; none if it is no switch.
    pub(super) fn switch(&mut self, key: &str, value: Option<&Spanned<Scalar>>) -> Option<bool> {
        let Some(value) = value else {
            return Some(false);
        };
        let on = match &value.value {
            Scalar::Boolean(on) => Ok(*on),
            Scalar::Text(text) => text
                .parse::<Boolean>()
                .map(|on| on.0)
                .map_err(|error| error.to_string()),
            Scalar::Number => Err("a number is neither true nor false".to_owned()),
        };
        on.map_err(|error| self.problem_at(key, value, Reason::BadValue, error))
            .ok()
    }

    /// Refuses a switch that this version does not do, if it is on.
    pub(super) fn not_yet_on(&mut self, key: &str, value: Option<&Spanned<Scalar>>) {
        if self.switch(key, value) == Some(true)
            && let Some(value) = value
        {
            let why = format_args!("{NOT_YET} or set it to false");
            self.problem_at(key, value, Reason::NotYet, why);
        }
    }

    /// Records that a key does not go together with what the entry selects.
    pub(super) fn excluded<T>(&mut self, key: &str, value: Option<&Spanned<T>>, why: &str) {
        if let Some(value) = value {
            self.problem_at(key, value, Reason::Conflict, why);
        }
    }
}
