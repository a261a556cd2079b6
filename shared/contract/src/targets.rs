//! Which of the pod's containers get the files: all, or those that are named, but for init containers that
//! have run before ours begin.

use crate::choices::{ContainerNames, InitPosition};
use crate::pod::{Container, INIT_CONTAINERS, Pod};
use crate::problem::{Findings, LISTED, Reason, quoted};

/// Containers among which the nearest name is looked for.
const COMPARED: usize = 100;

/// The containers of a pod that is not injected yet.
pub(crate) fn choose<'p>(
    named: Option<&ContainerNames>,
    position: InitPosition,
    pod: &Pod<'p>,
    findings: &mut Findings,
) -> Vec<Container<'p>> {
    for name in named.into_iter().flat_map(ContainerNames::iter) {
        if !pod.containers.iter().any(|c| c.name() == name) {
            unknown(name, pod, findings);
        }
    }
    let is_before = |c: &Container<'_>| position == InitPosition::Last && c.list == INIT_CONTAINERS;
    let mut early = Vec::new();
    let mut targets = Vec::new();
    for container in pod.containers.iter().filter(|c| is_named(c, named)) {
        match is_before(container) {
            true => early.push(quoted(container.name())),
            false => targets.push(*container),
        }
    }
    if !early.is_empty() {
        let early = early.join(", ");
        match named {
            Some(_) => findings.problem(
                "containers",
                Reason::Conflict,
                format_args!(
                    "{early} runs before the secrets are there, as init-position is last: leave it out, or that"
                ),
            ),
            None => findings.warn(
                "init-position",
                format_args!("gets no files, as it runs before they are there: {early}"),
            ),
        }
    }
    targets
}

/// The same for a pod whose own containers before `first`, by index among the init containers, run before ours.
pub(crate) fn choose_again<'p>(
    named: Option<&ContainerNames>,
    first: usize,
    pod: &Pod<'p>,
) -> Vec<Container<'p>> {
    let is_before = |c: &Container<'_>| c.list == INIT_CONTAINERS && c.index < first;
    let own = pod.containers.iter().filter(|c| !crate::inject::is_ours(c));
    own.filter(|c| is_named(c, named) && !is_before(c))
        .copied()
        .collect()
}

fn is_named(container: &Container<'_>, named: Option<&ContainerNames>) -> bool {
    named.is_none_or(|names| names.contains(container.name()))
}

fn unknown(name: &str, pod: &Pod<'_>, findings: &mut Findings) {
    if findings.problems.len() >= LISTED {
        return findings.problem("containers", Reason::BadValue, "no such container");
    }
    let likeness = |known: &str| strsim::normalized_damerau_levenshtein(name, known);
    let nearest = pod
        .containers
        .iter()
        .take(COMPARED)
        .map(|c| c.name())
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
        .unwrap_or_default();
    findings.problem(
        "containers",
        Reason::BadValue,
        format_args!(
            "the pod has no container {}: did you mean {}?",
            quoted(name),
            quoted(nearest)
        ),
    );
}
