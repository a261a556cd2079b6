//! Objects that make pods, Deployments and their like, looked at before they do: what admission will say to
//! the pods, and what was written where it does nothing.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};

use crate::admission::{Decision, SkipReason};
use crate::annotations::PREFIX;
use crate::pod;
use crate::problem::{LISTED, Problem, WARNING_CHARS};
use crate::quote::clip;

/// The API server cuts warnings that are longer together, in bytes.
const WARNINGS_BYTES: usize = 4096;
/// Names that one message lists.
const NAMES: usize = 3;

/// A kind of object that is a pod, or makes pods from a template.
#[derive(Debug)]
struct Kind {
    group: &'static str,
    name: &'static str,
    /// JSON pointer to the template; empty: the object is the pod.
    template: &'static str,
    /// What has annotations of its own, which no pod gets: JSON pointer, and how it is called after the kind.
    others: &'static [(&'static str, &'static str)],
}

const ITSELF: (&str, &str) = ("", " itself");

const KINDS: [Kind; 8] = [
    kind("", "Pod", "", &[]),
    kind("", "ReplicationController", "/spec/template", &[ITSELF]),
    kind("apps", "Deployment", "/spec/template", &[ITSELF]),
    kind("apps", "StatefulSet", "/spec/template", &[ITSELF]),
    kind("apps", "DaemonSet", "/spec/template", &[ITSELF]),
    kind("apps", "ReplicaSet", "/spec/template", &[ITSELF]),
    kind("batch", "Job", "/spec/template", &[ITSELF]),
    kind(
        "batch",
        "CronJob",
        "/spec/jobTemplate/spec/template",
        &[ITSELF, ("/spec/jobTemplate", "'s jobTemplate")],
    ),
];

const fn kind(
    group: &'static str,
    name: &'static str,
    template: &'static str,
    others: &'static [(&'static str, &'static str)],
) -> Kind {
    Kind {
        group,
        name,
        template,
        others,
    }
}

/// A pod, or an object that makes pods.
#[derive(Debug, Clone, Copy)]
pub struct Workload<'a> {
    kind: &'static Kind,
    object: &'a Value,
}

/// What to say of an object before its pods are made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Advice {
    /// Why its pods will be refused; empty: they won't be.
    pub problems: Vec<Problem>,
    /// What somebody wrote and what does nothing there, each with its cure.
    pub mistakes: Vec<String>,
    /// What the admission of its pods will warn of.
    pub warnings: Vec<String>,
}

impl<'a> Workload<'a> {
    /// Any JSON as a workload; none: it is something else.
    #[must_use]
    pub fn of(object: &'a Value) -> Option<Self> {
        let version = object.get("apiVersion")?.as_str()?;
        let group = version.split_once('/').map_or("", |(group, _)| group);
        let name = object.get("kind")?.as_str()?;
        let kind = KINDS
            .iter()
            .find(|kind| kind.group == group && kind.name == name)?;
        Some(Self { kind, object })
    }

    /// Whether objects of this kind, of whatever version, make pods; a pod makes none.
    #[must_use]
    pub fn is_kind(group: &str, name: &str) -> bool {
        let named = |kind: &&Kind| kind.group == group && kind.name == name;
        KINDS
            .iter()
            .find(named)
            .is_some_and(|kind| !kind.template.is_empty())
    }

    /// `Deployment`, for instance.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.kind.name
    }

    /// The pod that is, or will be, made of it.
    #[must_use]
    pub fn pod(&self) -> Value {
        if self.kind.template.is_empty() {
            return self.object.clone();
        }
        let template = self.object.pointer(self.kind.template);
        let part = |name: &str| template.and_then(|template| template.get(name)).cloned();
        let mut metadata = part("metadata").unwrap_or_else(|| json!({}));
        let name = self
            .object
            .pointer("/metadata/name")
            .and_then(Value::as_str);
        if let (Some(metadata), Some(name)) = (metadata.as_object_mut(), name) {
            metadata.insert("generateName".to_owned(), json!(format!("{name}-")));
        }
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": part("spec")})
    }

    /// What to say of it, given the decision on its [pod](Self::pod).
    #[must_use]
    pub fn advice(&self, decision: &Decision) -> Advice {
        let mut advice = Advice {
            mistakes: self.misplaced(),
            ..Advice::default()
        };
        match decision {
            Decision::Denied(denial) => advice.problems.clone_from(&denial.problems),
            Decision::Injected(injection) => advice.warnings.clone_from(&injection.warnings),
            Decision::Skipped(SkipReason::NotAsked) => {
                let beside = self.annotations(self.kind.template);
                if let Some(names) = Names::of(beside.keys().filter(|name| **name != "injected")) {
                    advice.mistakes.push(format!(
                        "{names}: nothing is injected without {PREFIX}inject: \"true\" beside it: add that"
                    ));
                }
            }
            Decision::Skipped(SkipReason::Namespace) => {
                let inject = self.annotations(self.kind.template).remove("inject");
                if inject.is_some_and(|inject| inject.eq_ignore_ascii_case("true")) {
                    advice.mistakes.push(format!(
                        "{PREFIX}inject: pods of this namespace are never injected: use another namespace, or remove it"
                    ));
                }
            }
            Decision::Skipped(
                SkipReason::Declined | SkipReason::MirrorPod | SkipReason::AlreadyInjected,
            ) => {}
        }
        advice
    }

    /// Annotations of ours that stand where no pod gets them, unless the template says the same.
    fn misplaced(&self) -> Vec<String> {
        let template = self.annotations(self.kind.template);
        let place = self.kind.template.trim_start_matches('/').replace('/', ".");
        let others = self.kind.others.iter().filter_map(|(pointer, which)| {
            let stray = self.annotations(pointer);
            let lost = stray
                .iter()
                .filter(|(name, value)| template.get(*name) != Some(*value));
            let names = Names::of(lost.map(|(name, _)| name))?;
            Some(format!(
                "{names}: not read on the {}{which}, only on its pods: move to {place}.metadata.annotations",
                self.kind.name,
            ))
        });
        others.collect()
    }

    /// Annotations of ours by name without prefix, of what `pointer` points to.
    fn annotations(&self, pointer: &str) -> BTreeMap<&'a str, &'a str> {
        let found = self.object.pointer(pointer).and_then(pod::annotations);
        found
            .map(pod::ours)
            .into_iter()
            .flatten()
            .map(|(name, value)| (name, value.as_str().unwrap_or_default()))
            .collect()
    }
}

impl Advice {
    /// Whether there is nothing to say.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty() && self.mistakes.is_empty() && self.warnings.is_empty()
    }

    /// Everything that should be changed, a line each.
    pub fn to_correct(&self) -> impl Iterator<Item = String> {
        let problems = self.problems.iter().map(Problem::to_string);
        problems.chain(self.mistakes.iter().cloned())
    }

    /// As warnings of the API server, which bounds each one and all of them, about an object of this kind.
    #[must_use]
    pub fn api_warnings(&self, kind: &str) -> Vec<String> {
        let heading = (!self.problems.is_empty())
            .then(|| format!("Keeper Injector will refuse the pods of this {kind}:"));
        let all: Vec<String> = heading
            .into_iter()
            .chain(self.to_correct())
            .chain(self.warnings.iter().cloned())
            .map(|text| clip(&text, WARNING_CHARS))
            .collect();
        bounded(all)
    }
}

/// As many as fit, and the number of the others.
fn bounded(mut all: Vec<String>) -> Vec<String> {
    const MORE: usize = "and 18446744073709551615 more".len();
    let whole: usize = all.iter().map(String::len).sum();
    if whole <= WARNINGS_BYTES && all.len() <= LISTED {
        return all;
    }
    let mut length = 0;
    let fitting = all.iter().take(LISTED).take_while(|text| {
        length += text.len();
        length <= WARNINGS_BYTES - MORE
    });
    let kept = fitting.count();
    let more = all.len() - kept;
    all.truncate(kept);
    all.push(format!("and {more} more"));
    all
}

/// Names of annotations in a message: the first few, and how many more.
struct Names {
    first: Vec<String>,
    more: usize,
}

impl Names {
    fn of<'n>(names: impl Iterator<Item = &'n &'n str>) -> Option<Self> {
        let mut names: Vec<&str> = names.copied().collect();
        // The one that all the others hang on leads.
        names.sort_by_key(|name| *name != "inject");
        let more = names.len().saturating_sub(NAMES);
        names.truncate(NAMES);
        let first = names
            .into_iter()
            .map(|name| clip(&format!("{PREFIX}{name}"), 48))
            .collect::<Vec<_>>();
        (!first.is_empty()).then_some(Self { first, more })
    }
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.first.join(", "))?;
        match self.more {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cluster, Settings, admit};

    fn settings() -> Settings {
        serde_json::from_value(json!({
            "sidecarImage": "keeper/injector-sidecar:0.1.0", "ownNamespace": "keeper-security",
        }))
        .unwrap()
    }

    fn advice_in(namespace: &str, object: &Value) -> Advice {
        let workload = Workload::of(object).unwrap();
        let decision = admit(
            &workload.pod(),
            namespace,
            &settings(),
            &Cluster { minor: 35 },
        );
        workload.advice(&decision)
    }

    fn advice(object: &Value) -> Advice {
        advice_in("shop", object)
    }

    fn template(annotations: Value) -> Value {
        json!({
            "metadata": {"annotations": annotations},
            "spec": {"containers": [{"name": "app", "image": "busybox"}]},
        })
    }

    fn deployment(own: Value, of_template: Value) -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "annotations": own},
            "spec": {"replicas": 2, "template": template(of_template)},
        })
    }

    fn good() -> Value {
        json!({
            "keeper.security/inject": "true", "keeper.security/ksm-config": "keeper-auth",
            "keeper.security/secret-db": "db:/keeper/secrets/db.json",
        })
    }

    #[test]
    fn a_good_one_has_nothing_to_say_of_any_kind() {
        for (version, name) in [
            ("v1", "ReplicationController"),
            ("apps/v1", "Deployment"),
            ("apps/v1", "StatefulSet"),
            ("apps/v1", "DaemonSet"),
            ("apps/v1", "ReplicaSet"),
            ("batch/v1", "Job"),
        ] {
            let object = json!({
                "apiVersion": version, "kind": name, "metadata": {"name": "web"},
                "spec": {"template": template(good())},
            });
            assert_eq!(advice(&object), Advice::default(), "{name}");
            let pod = Workload::of(&object).unwrap().pod();
            assert_eq!(pod["metadata"]["generateName"], "web-", "{name}");
        }
        let mut pod = template(good());
        pod["apiVersion"] = json!("v1");
        pod["kind"] = json!("Pod");
        assert!(advice(&pod).is_empty());
        assert_eq!(Workload::of(&pod).unwrap().pod(), pod);
    }

    #[test]
    fn what_makes_no_pods_is_none() {
        for object in [
            json!(null),
            json!([]),
            json!({"kind": "Deployment"}),
            json!({"apiVersion": "v1", "kind": "Deployment"}),
            json!({"apiVersion": "v1", "kind": "Service"}),
            json!({"apiVersion": 1, "kind": 2}),
        ] {
            assert!(Workload::of(&object).is_none(), "{object}");
        }
    }

    #[test]
    fn its_pods_denial_in_the_same_words() {
        let object = deployment(
            json!({}),
            json!({"keeper.security/inject": "true", "keeper.security/secert": "x"}),
        );
        let pod = Workload::of(&object).unwrap().pod();
        let Decision::Denied(denial) = admit(&pod, "shop", &settings(), &Cluster { minor: 35 })
        else {
            panic!("not denied");
        };
        let advice = advice(&object);
        assert_eq!(advice.problems, denial.problems);
        let warnings = advice.api_warnings("Deployment");
        assert_eq!(
            warnings[0],
            "Keeper Injector will refuse the pods of this Deployment:"
        );
        assert_eq!(
            warnings[1..].join("\n"),
            denial.to_string(),
            "one warning a problem"
        );
    }

    #[test]
    fn annotations_in_the_wrong_place_are_told_where_to_go() {
        assert_eq!(
            advice(&deployment(good(), json!({}))).mistakes,
            [
                "keeper.security/inject, keeper.security/ksm-config, keeper.security/secret-db: \
              not read on the Deployment itself, only on its pods: move to spec.template.metadata.annotations"
            ]
        );
        let cron = json!({
            "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "report"},
            "spec": {"jobTemplate": {
                "metadata": {"annotations": {"keeper.security/inject": "true"}},
                "spec": {"template": template(json!({}))},
            }},
        });
        assert_eq!(
            advice(&cron).mistakes,
            [
                "keeper.security/inject: not read on the CronJob's jobTemplate, only on its pods: \
              move to spec.jobTemplate.spec.template.metadata.annotations"
            ]
        );
    }

    /// Some tools put common annotations on everything: nothing is lost where the pods get them too.
    #[test]
    fn what_the_template_says_too_is_not_misplaced() {
        assert!(advice(&deployment(good(), good())).is_empty());
        let mut other = good();
        other["keeper.security/refresh-interval"] = json!("1m");
        let mistakes = advice(&deployment(other, good())).mistakes;
        assert_eq!(mistakes.len(), 1);
        assert!(
            mistakes[0].starts_with("keeper.security/refresh-interval: not read"),
            "{mistakes:?}"
        );
    }

    #[test]
    fn annotations_that_wait_for_inject_are_a_mistake() {
        let waiting =
            json!({"keeper.security/secret-db": "db", "keeper.security/injected": "true"});
        assert_eq!(
            advice(&deployment(json!({}), waiting)).mistakes,
            [
                "keeper.security/secret-db: nothing is injected without keeper.security/inject: \"true\" \
              beside it: add that"
            ]
        );
        let declined =
            json!({"keeper.security/secret-db": "db", "keeper.security/inject": "False"});
        assert!(advice(&deployment(json!({}), declined)).is_empty());
        assert!(advice(&deployment(json!({}), json!({"app": "web"}))).is_empty());
    }

    #[test]
    fn asking_in_a_namespace_that_is_left_alone_is_a_mistake() {
        let object = deployment(json!({}), good());
        let mistakes = advice_in("kube-system", &object).mistakes;
        assert_eq!(
            mistakes,
            [
                "keeper.security/inject: pods of this namespace are never injected: \
              use another namespace, or remove it"
            ]
        );
    }

    #[test]
    fn warnings_are_bounded_each_and_together() {
        let mut many = good();
        for i in 0..200 {
            many[format!("keeper.security/secret-{i}")] =
                json!(format!("keeper://{}[", "ü".repeat(100)));
        }
        many["keeper.security/mistake"] = json!("x");
        let object = deployment(json!({}), many);
        let advice = advice(&object);
        let warnings = advice.api_warnings("Deployment");
        assert!(
            warnings
                .iter()
                .all(|text| text.chars().count() <= WARNING_CHARS)
        );
        assert!(warnings.iter().map(String::len).sum::<usize>() <= WARNINGS_BYTES);
        let listed = warnings.len() - 2;
        let more = advice.problems.len() - listed;
        assert_eq!(warnings.last().unwrap(), &format!("and {more} more"));
        assert!(listed > 10, "{listed}");
    }

    #[test]
    fn nothing_that_a_tenant_writes_panics() {
        for object in [
            json!({"apiVersion": "apps/v1", "kind": "Deployment"}),
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": 7, "spec": []}),
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": 7, "annotations": [1]},
                   "spec": {"template": {"metadata": "x", "spec": 7}}}),
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {},
                   "spec": {"template": {"metadata": {"annotations": {"keeper.security/inject": true}}}}}),
            json!({"apiVersion": "batch/v1", "kind": "CronJob",
                   "spec": {"jobTemplate": {"metadata": {"annotations": {"keeper.security/x": null}}}}}),
        ] {
            let warnings = advice(&object).api_warnings("Deployment");
            assert!(warnings.len() < LISTED, "{warnings:?}");
        }
    }
}
