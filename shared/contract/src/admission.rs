//! The decision on one pod: left alone, injected, or denied with everything that is wrong. Pure, and safe
//! on any JSON.

use std::fmt;

use serde_json::Value;

use crate::asked::Asked;
use crate::inject::{self, Roots};
use crate::layout;
use crate::namespace::Namespace;
use crate::patch::Patch;
use crate::plan;
use crate::pod::{self, Pod};
use crate::problem::{Denial, Findings, Reason};
use crate::request;
use crate::scalars::Boolean;
use crate::settings::Settings;
use crate::targets;

/// What the decision needs to know of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cluster {
    /// The API server is Kubernetes 1.`minor`.
    pub minor: u32,
}

/// What becomes of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It is let through as it is.
    Skipped(SkipReason),
    /// It is patched.
    Injected(Injection),
    /// It is refused.
    Denied(Denial),
}

/// Why a pod is left as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SkipReason {
    /// Its namespace is the system's, the injector's own, or excluded, by the chart or by its label.
    Namespace,
    /// It does not ask for injection.
    NotAsked,
    /// It says `inject: "false"`.
    Declined,
    /// It is the API server's mirror of a static pod, which runs already.
    MirrorPod,
    /// It is injected already, and lacks nothing.
    AlreadyInjected,
}

/// A word for logs.
impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Namespace => "namespace",
            Self::NotAsked => "not_asked",
            Self::Declined => "declined",
            Self::MirrorPod => "mirror_pod",
            Self::AlreadyInjected => "already_injected",
        })
    }
}

/// How a pod is patched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Injection {
    /// The changes; never empty.
    pub patch: Patch,
    /// For the user, each at most 256 characters.
    pub warnings: Vec<String>,
    /// Which containers are injected.
    pub shape: Shape,
    /// Number of files and folders that will be published.
    pub outputs: usize,
    /// What the pod asks Keeper for.
    pub asked: Asked,
}

/// Which containers are injected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One that restarts, first among the init containers, with a hook that waits for the first publication.
    Native,
    /// A first fetch before one that restarts, for pods with `restartPolicy: Never`.
    InitAndNative,
    /// A first fetch before, and one among the ordinary containers that goes on from what it left, for clusters
    /// without native sidecars.
    Classic,
    /// A first fetch alone.
    InitOnly,
}

/// A word for logs.
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::InitAndNative => "init_and_native",
            Self::Classic => "classic",
            Self::InitOnly => "init_only",
        })
    }
}

/// Decides on `pod`, which is about to be created in `namespace`.
///
/// Deciding on a pod that this has patched changes nothing more, except where something was lost or added
/// since: the marker, or containers that lack the secrets.
#[must_use]
pub fn admit<'a>(
    pod: &Value,
    namespace: impl Into<Namespace<'a>>,
    settings: &Settings,
    cluster: &Cluster,
) -> Decision {
    decide(pod, &namespace.into(), settings, cluster)
}

fn decide(
    pod: &Value,
    namespace: &Namespace<'_>,
    settings: &Settings,
    cluster: &Cluster,
) -> Decision {
    if settings.leaves_alone(namespace.name) || namespace.declines() {
        return Decision::Skipped(SkipReason::Namespace);
    }
    let Some(annotations) = pod::annotations(pod) else {
        return Decision::Skipped(SkipReason::NotAsked);
    };
    let ours = pod::ours(annotations);
    let Some(asked) = ours.get("inject") else {
        return Decision::Skipped(SkipReason::NotAsked);
    };
    let mut findings = Findings::default();
    match asked.as_str().map(str::parse) {
        // What is no text is reported with the other annotations.
        None | Some(Ok(Boolean(true))) => {}
        Some(Ok(Boolean(false))) => return Decision::Skipped(SkipReason::Declined),
        Some(Err(error)) => findings.problem("inject", Reason::BadValue, error),
    }
    if annotations.contains_key("kubernetes.io/config.mirror") {
        return Decision::Skipped(SkipReason::MirrorPod);
    }
    let view = match Pod::read(pod) {
        Ok(view) => view,
        Err(error) => {
            findings.problem("inject", Reason::UnsupportedPod, error);
            request::read(&ours, namespace, settings, &mut findings);
            return denied(findings);
        }
    };
    if findings.problems.is_empty()
        && let Some(decision) = again(&view, namespace, settings)
    {
        return decision;
    }
    if view.is_windows() {
        findings.problem(
            "inject",
            Reason::UnsupportedPod,
            "Windows pods cannot be injected: remove this annotation, or set it to \"false\"",
        );
    }
    let request = request::read(&ours, namespace, settings, &mut findings);
    let plan = plan::plan(request, &view, settings, cluster, &mut findings);
    match plan {
        Some(plan) if findings.problems.is_empty() => Decision::Injected(Injection {
            patch: inject::patch(&plan, &view, settings),
            warnings: findings.warnings,
            shape: plan.shape,
            outputs: plan.config.outputs.len() + plan.config.folders.len(),
            asked: Asked::of(&plan.config),
        }),
        _ => denied(findings),
    }
}

fn denied(findings: Findings) -> Decision {
    Decision::Denied(Denial {
        problems: findings.problems,
    })
}

/// The decision on a pod that is injected already: told by our containers, never by a marker.
fn again(pod: &Pod<'_>, namespace: &Namespace<'_>, settings: &Settings) -> Option<Decision> {
    let ours: Vec<_> = pod
        .containers
        .iter()
        .filter(|c| inject::is_ours(c))
        .collect();
    let first = ours.first()?;
    let list_of = |base: &str| {
        let found = ours.iter().find(|c| plan::is_name(c.name(), base))?;
        Some(found.list)
    };
    let init = list_of(layout::INIT_CONTAINER).is_some();
    let shape = match (init, list_of(layout::SIDECAR_CONTAINER)) {
        (_, Some(pod::CONTAINERS)) => Shape::Classic,
        (true, Some(_)) => Shape::InitAndNative,
        (true, None) => Shape::InitOnly,
        (false, _) => Shape::Native,
    };
    let config = first
        .env(layout::CONFIG_ENV)
        .and_then(plan::read_config_env);
    // What did not parse then was denied then.
    let inherited = || namespace.values().get("containers").copied();
    let default = || settings.defaults.get("containers").map(String::as_str);
    let named = pod.annotation("containers").or_else(inherited);
    let named = named.or_else(default).and_then(|text| text.parse().ok());
    let position = ours.iter().filter(|c| c.list == pod::INIT_CONTAINERS);
    let position = position.map(|c| c.index).min().unwrap_or_default();
    let targets = targets::choose_again(named.as_ref(), position, pod);
    let mut findings = Findings::default();
    let patch = match &config {
        Some(config) => inject::repair(pod, &targets, config, &Roots::of(first), &mut findings),
        None => inject::repair_markers(pod),
    };
    let Some(patch) = patch else {
        return Some(Decision::Skipped(SkipReason::AlreadyInjected));
    };
    Some(Decision::Injected(Injection {
        patch,
        warnings: findings.warnings,
        shape,
        outputs: config
            .as_ref()
            .map_or(0, |config| config.outputs.len() + config.folders.len()),
        asked: config.as_ref().map(Asked::of).unwrap_or_default(),
    }))
}
