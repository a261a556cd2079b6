//! What no pod of a cluster may ask for, as its administrators decided: annotations that are not allowed, and
//! refreshing too often. What stands in the chart's defaults is theirs, and allowed.

use std::collections::BTreeSet;

use crate::annotations::{self, PREFIX, TABLE};
use crate::duration::{DurationError, RefreshInterval};
use crate::layers::Values;
use crate::problem::{Findings, Reason, quoted};

/// Names of one thing: who may not write the one may not write the other either.
const SYNONYMS: [[&str; 2]; 2] = [["ksm-config", "auth-secret"], ["secret", "secrets"]];

/// What pods and namespaces may not say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// Names of the table of annotations.
    denied: BTreeSet<&'static str>,
    min_refresh_interval: Option<RefreshInterval>,
}

/// A policy that cannot be kept; the text begins with the key below `policy`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// No annotation's name.
    #[error("denyAnnotations: there is no annotation {name}: did you mean {nearest}?")]
    Unknown {
        /// What stands there.
        name: String,
        /// The known name that is most like it.
        nearest: String,
    },
    /// Without it there is no injection.
    #[error(
        "denyAnnotations: {0} is how pods ask, so that none could: exclude namespaces in place of that"
    )]
    Needed(&'static str),
    /// The shortest interval.
    #[error("minRefreshInterval: {value} {error}")]
    Duration {
        /// What stands there.
        value: String,
        /// Why it is none.
        error: DurationError,
    },
}

impl Policy {
    /// Reads what was written; an empty interval is none.
    pub(crate) fn new(deny: &[String], min_refresh_interval: &str) -> Result<Self, PolicyError> {
        let mut denied = BTreeSet::new();
        for written in deny {
            let name = written.strip_prefix(PREFIX).unwrap_or(written);
            let Some(annotation) = TABLE.iter().find(|a| a.name == name) else {
                let nearest = match annotations::find(name) {
                    // One of a family: the whole of it is denied by its own name.
                    Some((family, _)) => family.name.to_owned(),
                    None => annotations::nearest(name).into_owned(),
                };
                return Err(PolicyError::Unknown {
                    name: quoted(name),
                    nearest,
                });
            };
            if matches!(annotation.name, "inject" | "injected") {
                return Err(PolicyError::Needed(annotation.name));
            }
            denied.insert(annotation.name);
            let same = SYNONYMS
                .iter()
                .find(|names| names.contains(&annotation.name));
            denied.extend(same.into_iter().flatten());
        }
        let text = min_refresh_interval.trim();
        let min_refresh_interval = match text {
            "" => None,
            _ => Some(text.parse().map_err(|error| PolicyError::Duration {
                value: quoted(text),
                error,
            })?),
        };
        Ok(Self {
            denied,
            min_refresh_interval,
        })
    }

    /// The shortest interval that may be stated; none: any.
    pub(crate) fn min_refresh_interval(&self) -> Option<RefreshInterval> {
        self.min_refresh_interval
    }

    /// Records which of these annotations are not allowed.
    pub(crate) fn check(&self, values: &Values<'_>, findings: &mut Findings) {
        let is_denied =
            |name: &str| annotations::find(name).is_some_and(|(a, _)| self.denied.contains(a.name));
        for name in values.keys().filter(|name| is_denied(name)) {
            findings.problem(
                name,
                Reason::Policy,
                "the policy of this cluster does not allow it (policy.denyAnnotations of the injector's chart): remove it",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(deny: &[&str], min: &str) -> Result<Policy, String> {
        let deny: Vec<String> = deny.iter().map(|name| (*name).to_owned()).collect();
        Policy::new(&deny, min).map_err(|error| error.to_string())
    }

    fn denied(deny: &[&str], written: &[&str]) -> Vec<String> {
        let mut findings = Findings::default();
        let values = written.iter().map(|name| (*name, "x")).collect();
        policy(deny, "").unwrap().check(&values, &mut findings);
        assert!(findings.problems.iter().all(|p| p.reason == Reason::Policy));
        let name = |p: crate::Problem| p.annotation.trim_start_matches(PREFIX).to_owned();
        findings.problems.into_iter().map(name).collect()
    }

    #[test]
    fn what_is_denied_is_what_is_named_its_family_and_its_synonyms() {
        assert_eq!(denied(&[], &["proxy"]), [""; 0]);
        assert_eq!(denied(&["proxy"], &["cache", "proxy"]), ["proxy"]);
        let family = ["env-A", "env-B", "env-method", "secret-a"];
        assert_eq!(denied(&["env-<NAME>"], &family), ["env-A", "env-B"]);
        let both = ["auth-secret", "ksm-config"];
        assert_eq!(denied(&["ksm-config"], &both), both);
        assert_eq!(denied(&["keeper.security/auth-secret"], &both), both);
        assert_eq!(
            denied(&["proxy"], &["proxi"]),
            [""; 0],
            "is unknown, not denied"
        );
    }

    #[test]
    fn a_policy_that_cannot_be_kept_is_refused() {
        for (deny, min, told) in [
            (
                &["proxi"][..],
                "",
                "denyAnnotations: there is no annotation `proxi`: did you mean proxy?",
            ),
            (&["env-A"], "", "did you mean env-<NAME>?"),
            (&["inject"], "", "denyAnnotations: inject is how pods ask"),
            (&[], "5", "minRefreshInterval: `5` has no unit"),
        ] {
            let error = policy(deny, min).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
    }
}
