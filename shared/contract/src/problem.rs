//! What is wrong with a pod's annotations: every problem at once, each with the annotation that causes it
//! and a cure. [`Denial`]'s text is what the user sees in kubectl.

use std::collections::BTreeSet;
use std::fmt;

use crate::annotations;
pub(crate) use crate::quote::quoted;
use crate::quote::{QUOTED, clip};

/// More problems than this are counted, not listed: the text goes into an API answer.
pub(crate) const LISTED: usize = 50;
/// The API server cuts longer warnings.
pub(crate) const WARNING_CHARS: usize = 256;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The annotation that causes it, with its prefix.
    pub annotation: String,
    /// The namespace whose annotation it is; none: the pod's own, or one that is missing.
    pub namespace: Option<String>,
    /// Its kind, for a metric's label.
    pub reason: Reason,
    /// One line: what is wrong, and the cure.
    pub message: String,
}

/// Kinds of problems: the fixed set of values of the label `reason` of `keeper_injector_denials_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// An annotation with our prefix that does not exist.
    UnknownAnnotation,
    /// An annotation, or a value of one, that this version does not do yet.
    NotYet,
    /// A value that does not parse.
    BadValue,
    /// A selection or notation that does not parse.
    BadSelection,
    /// An output path that may not be used.
    BadPath,
    /// Two outputs for one path, or one below the other.
    PathTaken,
    /// An output path and a mount of the pod that exclude each other.
    MountConflict,
    /// Annotations that exclude each other, or one that needs another.
    Conflict,
    /// No KSM config is named.
    MissingConfig,
    /// A pod that cannot be injected, whatever its annotations say.
    UnsupportedPod,
    /// More than an annotation or a container's environment can carry.
    TooLarge,
    /// What the cluster's administrators do not allow.
    Policy,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::UnknownAnnotation,
        Self::NotYet,
        Self::BadValue,
        Self::BadSelection,
        Self::BadPath,
        Self::PathTaken,
        Self::MountConflict,
        Self::Conflict,
        Self::MissingConfig,
        Self::UnsupportedPod,
        Self::TooLarge,
        Self::Policy,
    ];

    /// The label's value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownAnnotation => "unknown_annotation",
            Self::NotYet => "not_yet",
            Self::BadValue => "bad_value",
            Self::BadSelection => "bad_selection",
            Self::BadPath => "bad_path",
            Self::PathTaken => "path_taken",
            Self::MountConflict => "mount_conflict",
            Self::Conflict => "conflict",
            Self::MissingConfig => "missing_config",
            Self::UnsupportedPod => "unsupported_pod",
            Self::TooLarge => "too_large",
            Self::Policy => "policy",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = Place(self.namespace.as_deref());
        write!(f, "{}{place}: {}", self.annotation, self.message)
    }
}

/// Where an annotation stands, said where that is not the pod.
struct Place<'a>(Option<&'a str>);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(namespace) => write!(f, ", an annotation of the namespace {namespace}"),
            None => Ok(()),
        }
    }
}

/// Why a pod is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// What is wrong; at least one.
    pub problems: Vec<Problem>,
}

/// One line for each problem.
impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().take(LISTED).enumerate() {
            let newline = if i == 0 { "" } else { "\n" };
            write!(f, "{newline}{problem}")?;
        }
        match self.problems.len().saturating_sub(LISTED) {
            0 => Ok(()),
            more => write!(f, "\nand {more} more problems"),
        }
    }
}

impl std::error::Error for Denial {}

/// What reading a pod brings to light, collected on the way.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) problems: Vec<Problem>,
    pub(crate) warnings: Vec<String>,
    /// Names without prefix of annotations that stand on the pod's namespace and not on the pod, and its name.
    inherited: BTreeSet<String>,
    namespace: String,
}

impl Findings {
    /// From now on, findings about these annotations (without prefix) are about the namespace's.
    pub(crate) fn inherit<'a>(&mut self, namespace: &str, names: impl Iterator<Item = &'a str>) {
        namespace.clone_into(&mut self.namespace);
        self.inherited = names.map(str::to_owned).collect();
    }

    fn namespace_of(&self, name: &str) -> Option<&str> {
        self.inherited.contains(name).then_some(&self.namespace)
    }

    /// Records a problem with the annotation `name` (without prefix).
    pub(crate) fn problem(&mut self, name: &str, reason: Reason, message: impl fmt::Display) {
        self.problems.push(Problem {
            annotation: format!("{}{}", annotations::PREFIX, clip(name, QUOTED)),
            namespace: self.namespace_of(name).map(str::to_owned),
            reason,
            message: message.to_string(),
        });
    }

    /// Records a warning about the annotation `name` (without prefix), cut to what an API answer carries.
    pub(crate) fn warn(&mut self, name: &str, message: impl fmt::Display) {
        let place = Place(self.namespace_of(name));
        let text = format!("{}{name}{place}: {message}", annotations::PREFIX);
        self.warnings.push(clip(&text, WARNING_CHARS));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_is_one_line_for_each_problem() {
        let mut findings = Findings::default();
        findings.problem("inject", Reason::BadValue, "say true or false");
        findings.problem("two\nlines", Reason::UnknownAnnotation, "unknown");
        let denial = Denial {
            problems: findings.problems,
        };
        assert_eq!(
            denial.to_string(),
            "keeper.security/inject: say true or false\nkeeper.security/two\u{fffd}lines: unknown"
        );
    }

    #[test]
    fn what_the_pod_does_not_say_is_told_apart() {
        let mut findings = Findings::default();
        findings.inherit("shop", ["cache"].into_iter());
        findings.problem("cache", Reason::BadValue, "bad");
        findings.problem("proxy", Reason::BadValue, "bad");
        findings.warn("cache", "long");
        let texts: Vec<_> = findings.problems.iter().map(ToString::to_string).collect();
        let named = "keeper.security/cache, an annotation of the namespace shop: ";
        assert_eq!(
            texts,
            [
                format!("{named}bad"),
                "keeper.security/proxy: bad".to_owned()
            ]
        );
        assert_eq!(findings.warnings, [format!("{named}long")]);
    }

    #[test]
    fn many_problems_are_counted() {
        let mut findings = Findings::default();
        for i in 0..LISTED + 3 {
            findings.problem(&format!("x{i}"), Reason::BadValue, "bad");
        }
        let text = Denial {
            problems: findings.problems,
        }
        .to_string();
        assert_eq!(text.lines().count(), LISTED + 1);
        assert!(text.ends_with("\nand 3 more problems"), "{text}");
    }

    #[test]
    fn warnings_are_bounded() {
        let mut findings = Findings::default();
        findings.warn("secret", "ü".repeat(1000));
        assert_eq!(findings.warnings[0].chars().count(), WARNING_CHARS);
    }

    #[test]
    fn labels_are_distinct_words() {
        let mut labels: Vec<_> = Reason::ALL.iter().map(|r| r.as_str()).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), Reason::ALL.len());
    }
}
