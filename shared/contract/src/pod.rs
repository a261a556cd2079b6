//! A pod as admission sees it: a view of untyped JSON, so that fields which we don't know survive and
//! nothing that a tenant sends can panic.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::path::CleanPath;
use crate::quantity::Quantity;

/// A pod whose skeleton is sound: objects are objects, lists are lists.
#[derive(Debug)]
pub(crate) struct Pod<'a> {
    spec: &'a Map<String, Value>,
    /// Labels, if there are any.
    pub(crate) labels: Option<&'a Map<String, Value>>,
    /// Annotations, if there are any.
    pub(crate) annotations: Option<&'a Map<String, Value>>,
    /// Init containers and containers, in this order.
    pub(crate) containers: Vec<Container<'a>>,
    /// Whether the lists that we add to are there.
    pub(crate) has_init_containers: bool,
    pub(crate) has_volumes: bool,
}

/// The list of init containers in a pod's spec.
pub(crate) const INIT_CONTAINERS: &str = "initContainers";
/// The list of ordinary containers in a pod's spec.
pub(crate) const CONTAINERS: &str = "containers";

/// One container of a pod.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Container<'a> {
    /// [`CONTAINERS`] or [`INIT_CONTAINERS`].
    pub(crate) list: &'static str,
    /// Its index in that list.
    pub(crate) index: usize,
    object: &'a Map<String, Value>,
}

/// What a container mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mount<'a> {
    /// The volume's name.
    pub(crate) volume: &'a str,
    /// The path in it, if one is written.
    pub(crate) sub_path: Option<&'a str>,
    /// Whether that path is made from variables of the container.
    pub(crate) is_expanded: bool,
}

/// A pod that the API server would not take either: where it is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Kubernetes would not take this pod either, {0}: correct that")]
pub(crate) struct Malformed(&'static str);

/// The annotations of any JSON.
pub(crate) fn annotations(pod: &Value) -> Option<&Map<String, Value>> {
    pod.get("metadata")?.get("annotations")?.as_object()
}

impl<'a> Pod<'a> {
    pub(crate) fn read(pod: &'a Value) -> Result<Self, Malformed> {
        let metadata = pod
            .get("metadata")
            .and_then(Value::as_object)
            .ok_or(Malformed("metadata is no object"))?;
        let spec = pod
            .get("spec")
            .and_then(Value::as_object)
            .ok_or(Malformed("spec is no object"))?;
        let init = list(
            spec,
            INIT_CONTAINERS,
            Malformed("spec.initContainers is no list"),
        )?;
        let main = list(spec, CONTAINERS, Malformed("spec.containers is no list"))?;
        let volumes = list(spec, "volumes", Malformed("spec.volumes is no list"))?;
        let main = main
            .filter(|list| !list.is_empty())
            .ok_or(Malformed("spec.containers is empty"))?;
        let mut containers = Vec::new();
        for (name, items) in [(INIT_CONTAINERS, init), (CONTAINERS, Some(main))] {
            for (index, item) in items.into_iter().flatten().enumerate() {
                let object = item
                    .as_object()
                    .ok_or(Malformed("a container is no object"))?;
                list(object, "volumeMounts", Malformed("volumeMounts is no list"))?;
                containers.push(Container {
                    list: name,
                    index,
                    object,
                });
            }
        }
        Ok(Self {
            spec,
            labels: map(
                metadata,
                "labels",
                Malformed("metadata.labels is no object"),
            )?,
            annotations: map(
                metadata,
                "annotations",
                Malformed("metadata.annotations is no object"),
            )?,
            containers,
            has_init_containers: init.is_some(),
            has_volumes: volumes.is_some(),
        })
    }

    /// The value of an annotation of ours.
    pub(crate) fn annotation(&self, name: &str) -> Option<&'a str> {
        let key = format!("{}{name}", crate::annotations::PREFIX);
        self.annotations?.get(&key)?.as_str()
    }

    pub(crate) fn is_windows(&self) -> bool {
        let os = self.spec.get("os").and_then(|os| os.get("name"));
        let selector = self
            .spec
            .get("nodeSelector")
            .and_then(|s| s.get("kubernetes.io/os"));
        [os, selector]
            .into_iter()
            .flatten()
            .any(|os| os.as_str() == Some("windows"))
    }

    pub(crate) fn host_network(&self) -> bool {
        self.spec.get("hostNetwork") == Some(&Value::Bool(true))
    }

    pub(crate) fn never_restarts(&self) -> bool {
        self.restart_policy() == Some("Never")
    }

    /// Whether the pod ends once its containers have, as those of Jobs do.
    pub(crate) fn runs_to_completion(&self) -> bool {
        matches!(self.restart_policy(), Some("Never" | "OnFailure"))
    }

    fn restart_policy(&self) -> Option<&str> {
        self.spec.get("restartPolicy").and_then(Value::as_str)
    }

    pub(crate) fn host_pid(&self) -> bool {
        self.spec.get("hostPID") == Some(&Value::Bool(true))
    }

    /// Whether the pod's containers share their processes, if the pod says so or not.
    pub(crate) fn shares_processes(&self) -> Option<bool> {
        self.spec.get("shareProcessNamespace")?.as_bool()
    }

    /// The UID that is stated for a container, by itself or by the pod.
    pub(crate) fn user(&self, container: &Container<'a>) -> Option<i64> {
        self.security(container, "runAsUser")?.as_i64()
    }

    /// Whether the pod, or one of these containers, demands not to be root.
    pub(crate) fn demands_non_root<'c>(
        &self,
        mut containers: impl Iterator<Item = &'c Container<'a>>,
    ) -> bool
    where
        'a: 'c,
    {
        let demands = |value: Option<&Value>| value == Some(&Value::Bool(true));
        let pod = self.spec.get("securityContext");
        demands(pod.and_then(|context| context.get("runAsNonRoot")))
            || containers.any(|container| demands(self.security(container, "runAsNonRoot")))
    }

    /// A field of a container's security context, or else the pod's.
    fn security(&self, container: &Container<'a>, field: &str) -> Option<&'a Value> {
        let of = |object: &'a Map<String, Value>| {
            let value = object.get("securityContext")?.get(field)?;
            (!value.is_null()).then_some(value)
        };
        of(container.object).or_else(|| of(self.spec))
    }

    /// The group that owns the pod's volumes, if one is stated.
    pub(crate) fn fs_group(&self) -> Option<i64> {
        self.spec.get("securityContext")?.get("fsGroup")?.as_i64()
    }

    /// Names of all containers, ephemeral ones included.
    pub(crate) fn container_names(&self) -> BTreeSet<&'a str> {
        let ephemeral = self.spec.get("ephemeralContainers");
        let ephemeral = ephemeral.and_then(Value::as_array).into_iter().flatten();
        self.containers
            .iter()
            .map(|c| c.name())
            .chain(ephemeral.map(|c| text(c, "name")))
            .collect()
    }

    pub(crate) fn volume_names(&self) -> BTreeSet<&'a str> {
        self.volumes().map(|v| text(v, "name")).collect()
    }

    /// Whether a volume is an `emptyDir` in memory.
    pub(crate) fn is_in_memory(&self, volume: &str) -> bool {
        let medium = |v: &'a Value| v.get("emptyDir")?.get("medium")?.as_str();
        let mut volumes = self.volumes();
        volumes
            .find(|v| text(v, "name") == volume)
            .is_some_and(|v| medium(v) == Some("Memory"))
    }

    fn volumes(&self) -> impl Iterator<Item = &'a Value> + use<'a> {
        let volumes = self.spec.get("volumes").and_then(Value::as_array);
        volumes.into_iter().flatten()
    }

    /// Ports that containers declare, of any protocol, on the pod or the host.
    pub(crate) fn declared_ports(&self) -> BTreeSet<u64> {
        let ports = self.containers.iter().flat_map(|c| c.items("ports"));
        ports
            .flat_map(|port| [port.get("containerPort"), port.get("hostPort")])
            .filter_map(|port| port?.as_u64())
            .collect()
    }

    /// Whether the pod is in the Guaranteed class: every container states limits for CPU and memory, and
    /// all requests add up to the limits (a request that is absent is its limit), as the API server counts.
    pub(crate) fn is_guaranteed(&self) -> bool {
        ["cpu", "memory"].into_iter().all(|resource| {
            let mut requests = Quantity::ZERO;
            let mut limits = Quantity::ZERO;
            self.containers.iter().all(|container| {
                let limit = container.resource("limits", resource);
                let request = container.resource("requests", resource).or(limit);
                limits = limits.saturating_add(limit.unwrap_or(Quantity::ZERO));
                requests = requests.saturating_add(request.unwrap_or(Quantity::ZERO));
                limit.is_some_and(|limit| limit > Quantity::ZERO)
            }) && requests == limits
        })
    }
}

impl<'a> Container<'a> {
    pub(crate) fn name(&self) -> &'a str {
        self.object
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// The value of an environment variable, if it is written out.
    pub(crate) fn env(&self, name: &str) -> Option<&'a str> {
        self.items("env")
            .find(|env| text(env, "name") == name)?
            .get("value")?
            .as_str()
    }

    /// The names of its environment variables.
    pub(crate) fn env_names(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.items("env").map(|env| text(env, "name"))
    }

    /// The names and values of those that are written out.
    pub(crate) fn env_values(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.items("env")
            .map(|env| (text(env, "name"), text(env, "value")))
    }

    /// Whether there is a list of environment variables to add to.
    pub(crate) fn has_env(&self) -> bool {
        self.object.get("env").is_some_and(Value::is_array)
    }

    /// Whether a variable of its comes from a file on `volume`.
    pub(crate) fn refers_to_file_of(&self, volume: &str) -> bool {
        let name = |env: &'a Value| env.pointer("/valueFrom/fileKeyRef/volumeName")?.as_str();
        self.items("env").any(|env| name(env) == Some(volume))
    }

    /// Its command, if it is stated.
    pub(crate) fn command(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.items("command").filter_map(Value::as_str)
    }

    /// The arguments of its command.
    pub(crate) fn args(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.items("args").filter_map(Value::as_str)
    }

    /// Where the kubelet mounts the file for the last words, if the pod says so.
    pub(crate) fn termination_message(&self) -> Option<CleanPath> {
        let path = self.object.get("terminationMessagePath")?.as_str()?;
        (!path.is_empty()).then(|| CleanPath::lenient(path))
    }

    /// Each mount and its normalised path.
    pub(crate) fn mounts(&self) -> impl Iterator<Item = (Mount<'a>, CleanPath)> + use<'a> {
        self.items("volumeMounts").map(|mount| {
            let sub_path = text(mount, "subPath");
            let volume = Mount {
                volume: text(mount, "name"),
                sub_path: (!sub_path.is_empty()).then_some(sub_path),
                is_expanded: !text(mount, "subPathExpr").is_empty(),
            };
            (volume, CleanPath::lenient(text(mount, "mountPath")))
        })
    }

    /// Whether there is a list of mounts to add to.
    pub(crate) fn has_mounts(&self) -> bool {
        self.object.get("volumeMounts").is_some_and(Value::is_array)
    }

    fn items(&self, list: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
        let list = self.object.get(list).and_then(Value::as_array);
        list.into_iter().flatten()
    }

    fn resource(&self, of: &str, name: &str) -> Option<Quantity> {
        match self.object.get("resources")?.get(of)?.get(name)? {
            Value::String(text) => text.parse().ok(),
            Value::Number(number) => number.to_string().parse().ok(),
            _ => None,
        }
    }
}

/// Annotations by name without prefix, in order; those that are not ours are left out.
pub(crate) fn ours(annotations: &Map<String, Value>) -> BTreeMap<&str, &Value> {
    annotations
        .iter()
        .filter_map(|(key, value)| Some((key.strip_prefix(crate::annotations::PREFIX)?, value)))
        .collect()
}

fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// `null` counts as absent, as everywhere in Kubernetes.
fn list<'a>(
    object: &'a Map<String, Value>,
    key: &str,
    error: Malformed,
) -> Result<Option<&'a Vec<Value>>, Malformed> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(list)) => Ok(Some(list)),
        Some(_) => Err(error),
    }
}

fn map<'a>(
    object: &'a Map<String, Value>,
    key: &str,
    error: Malformed,
) -> Result<Option<&'a Map<String, Value>>, Malformed> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(map)) => Ok(Some(map)),
        Some(_) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(spec: Value) -> Value {
        json!({"metadata": {}, "spec": spec})
    }

    #[test]
    fn a_broken_skeleton_is_named() {
        for (pod, want) in [
            (json!(null), "metadata is no object"),
            (json!({"metadata": {}}), "spec is no object"),
            (json!({"metadata": {}, "spec": []}), "spec is no object"),
            (pod(json!({})), "spec.containers is empty"),
            (pod(json!({"containers": []})), "spec.containers is empty"),
            (pod(json!({"containers": {}})), "spec.containers is no list"),
            (
                pod(json!({"containers": ["x"]})),
                "a container is no object",
            ),
            (
                pod(json!({"containers": [{"volumeMounts": 1}]})),
                "volumeMounts is no list",
            ),
            (
                pod(json!({"containers": [{}], "initContainers": 1})),
                "spec.initContainers is no list",
            ),
            (
                pod(json!({"containers": [{}], "volumes": "x"})),
                "spec.volumes is no list",
            ),
            (
                json!({"metadata": {"labels": []}, "spec": {"containers": [{}]}}),
                "metadata.labels is no object",
            ),
        ] {
            assert_eq!(Pod::read(&pod).unwrap_err(), Malformed(want));
        }
    }

    #[test]
    fn null_counts_as_absent() {
        let value = json!({"metadata": {"labels": null}, "spec": {
            "containers": [{"volumeMounts": null, "env": null, "ports": null}], "initContainers": null, "volumes": null}});
        let pod = Pod::read(&value).unwrap();
        assert!(!pod.has_init_containers && !pod.has_volumes && pod.labels.is_none());
        assert!(!pod.containers[0].has_mounts());
    }

    #[test]
    fn windows_is_told_by_os_and_by_node_selector() {
        for (spec, want) in [
            (json!({"containers": [{}], "os": {"name": "windows"}}), true),
            (
                json!({"containers": [{}], "nodeSelector": {"kubernetes.io/os": "windows"}}),
                true,
            ),
            (json!({"containers": [{}], "os": {"name": "linux"}}), false),
            (json!({"containers": [{}]}), false),
        ] {
            assert_eq!(Pod::read(&pod(spec)).unwrap().is_windows(), want);
        }
    }

    #[test]
    fn guaranteed_as_the_api_server_counts() {
        let full = json!({"limits": {"cpu": "1", "memory": "1Gi"}});
        let equal = json!({"limits": {"cpu": "0.5", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "1024Mi"}});
        let less = json!({"limits": {"cpu": 1, "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "1Gi"}});
        let no_cpu = json!({"limits": {"memory": "1Gi"}, "requests": {"memory": "1Gi"}});
        let zero = json!({"limits": {"cpu": "0", "memory": "1Gi"}});
        for (containers, init, want) in [
            (vec![&full], vec![], true),
            (vec![&equal], vec![&full], true),
            (vec![&less], vec![], false),
            (vec![&full], vec![&less], false),
            (vec![&no_cpu], vec![], false),
            (vec![&full, &zero], vec![], false),
            (vec![&json!({})], vec![], false),
            (vec![&json!(null)], vec![], false),
        ] {
            let of = |list: Vec<&Value>| -> Vec<Value> {
                list.into_iter().map(|r| json!({"resources": r})).collect()
            };
            let value = pod(json!({"containers": of(containers), "initContainers": of(init)}));
            assert_eq!(Pod::read(&value).unwrap().is_guaranteed(), want, "{value}");
        }
    }
}
