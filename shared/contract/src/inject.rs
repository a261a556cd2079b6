//! A plan as JSON: the containers and volumes that a pod gets.

use json_patch::{AddOperation, Patch, PatchOperation};
use serde_json::{Map, Value, json};

use crate::admission::Shape;
use crate::agent_config::{Directory, OnStale};
use crate::annotations::PREFIX;
use crate::identity::Identity;
use crate::layout;
use crate::plan::Plan;
use crate::pod::{self, Container, Pod};
use crate::request::CaKind;
use crate::settings::Settings;

/// Where Kubernetes mounts a service account's token; an empty directory there keeps it out.
const TOKEN_DIR: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Readable for everybody in the container, which is nobody but the agent. 0400 would be root's.
const SECRET_MODE: u32 = 0o444;

/// The patch that carries out `plan`.
pub(crate) fn patch(plan: &Plan, pod: &Pod<'_>, settings: &Settings) -> Patch {
    let mut ops = Ops::default();
    // Before the containers go in, which moves the indexes of the pod's own init containers.
    ops.mounts(pod, &plan.names.secrets, &plan.config.directories);
    let volumes = volumes(plan);
    if pod.has_volumes {
        for volume in volumes {
            ops.add(["spec", "volumes", "-"], volume);
        }
    } else {
        ops.add(["spec", "volumes"], Value::Array(volumes));
    }
    let Containers { init, ordinary } = containers(plan, settings);
    if pod.has_init_containers {
        for (index, container) in init.into_iter().enumerate() {
            ops.add(
                ["spec", pod::INIT_CONTAINERS, &index.to_string()],
                container,
            );
        }
    } else {
        ops.add(["spec", pod::INIT_CONTAINERS], Value::Array(init));
    }
    // Behind the pod's own: the first container is the one that `kubectl logs` and `exec` take.
    if let Some(container) = ordinary {
        ops.add(["spec", pod::CONTAINERS, "-"], container);
    }
    if plan.share_processes {
        ops.add(["spec", "shareProcessNamespace"], json!(true));
    }
    ops.markers(pod);
    Patch(ops.0)
}

/// What an injected pod lacks: mounts of containers that came later, and the marker.
pub(crate) fn repair(pod: &Pod<'_>, volume: &str, directories: &[Directory]) -> Patch {
    let mut ops = Ops::default();
    ops.mounts(pod, volume, directories);
    ops.markers(pod);
    Patch(ops.0)
}

/// Whether `container` is one of ours.
pub(crate) fn is_ours(container: &Container<'_>) -> bool {
    let name = container.name();
    [layout::INIT_CONTAINER, layout::SIDECAR_CONTAINER]
        .into_iter()
        .any(|base| crate::plan::is_name(name, base))
        && container.env(layout::CONFIG_ENV).is_some()
}

/// Operations of a patch, all of them additions.
#[derive(Default)]
struct Ops(Vec<PatchOperation>);

impl Ops {
    fn add<const N: usize>(&mut self, path: [&str; N], value: Value) {
        self.0.push(PatchOperation::Add(AddOperation {
            path: json_patch::jsonptr::PointerBuf::from_tokens(path),
            value,
        }));
    }

    /// Mounts the directories into each of the pod's own containers that lacks them.
    fn mounts(&mut self, pod: &Pod<'_>, volume: &str, directories: &[Directory]) {
        for container in pod.containers.iter().filter(|c| !is_ours(c)) {
            let has = |path: &str| container.mounts().any(|(_, at)| at.as_str() == path);
            let mounts: Vec<Value> = directories
                .iter()
                .filter(|directory| !has(&directory.mount_path))
                .map(|directory| {
                    json!({
                        "name": volume,
                        "mountPath": directory.mount_path,
                        "subPath": directory.sub_path,
                        "readOnly": true,
                    })
                })
                .collect();
            let index = container.index.to_string();
            if mounts.is_empty() {
                continue;
            }
            if container.has_mounts() {
                for mount in mounts {
                    self.add(["spec", container.list, &index, "volumeMounts", "-"], mount);
                }
            } else {
                let mounts = Value::Array(mounts);
                self.add(["spec", container.list, &index, "volumeMounts"], mounts);
            }
        }
    }

    /// Marks the pod as injected, by label and annotation.
    fn markers(&mut self, pod: &Pod<'_>) {
        let key = format!("{PREFIX}injected");
        for (kind, map) in [("labels", pod.labels), ("annotations", pod.annotations)] {
            match map {
                None => self.add(["metadata", kind], json!({ &key: "true" })),
                Some(map) if map.get(&key) == Some(&json!("true")) => {}
                Some(_) => self.add(["metadata", kind, &key], json!("true")),
            }
        }
    }
}

fn volumes(plan: &Plan) -> Vec<Value> {
    let optional = !plan.config.fail_on_error;
    let crate::agent_config::Auth::Secret { secret_name, .. } = &plan.config.auth;
    let mut volumes = vec![
        json!({
            "name": plan.names.secrets,
            "emptyDir": { "medium": "Memory", "sizeLimit": plan.tmpfs.to_string() },
        }),
        json!({
            "name": plan.names.auth,
            "secret": { "secretName": secret_name, "defaultMode": SECRET_MODE, "optional": optional },
        }),
    ];
    if let (Some(ca), Some(file)) = (&plan.ca, &plan.config.ca_cert_file) {
        let file = file.rsplit('/').next().unwrap_or_default();
        let items = json!([{ "key": ca.key.to_string(), "path": file }]);
        let name = ca.name.to_string();
        let source = match ca.kind {
            CaKind::Secret => json!({ "secret": {
                "secretName": name, "items": items, "defaultMode": SECRET_MODE, "optional": optional } }),
            CaKind::ConfigMap => json!({ "configMap": {
                "name": name, "items": items, "defaultMode": SECRET_MODE, "optional": optional } }),
        };
        let mut volume = Map::from_iter([("name".to_owned(), json!(plan.names.ca))]);
        volume.extend(source.as_object().cloned().unwrap_or_default());
        volumes.push(Value::Object(volume));
    }
    volumes.push(json!({
        "name": plan.names.no_token,
        "emptyDir": { "medium": "Memory", "sizeLimit": "4Ki" },
    }));
    volumes
}

/// What is added, by list.
struct Containers {
    init: Vec<Value>,
    ordinary: Option<Value>,
}

fn containers(plan: &Plan, settings: &Settings) -> Containers {
    let first_fetch = || {
        let mut init = base(plan, settings, &plan.names.init);
        init.insert("command".to_owned(), json!(["/keeper-init"]));
        Value::Object(init)
    };
    let sidecar = || sidecar(plan, settings);
    let (init, ordinary) = match plan.shape {
        Shape::InitOnly => (vec![first_fetch()], None),
        Shape::Native => (vec![sidecar()], None),
        Shape::InitAndNative => (vec![first_fetch(), sidecar()], None),
        Shape::Classic => (vec![first_fetch()], Some(sidecar())),
    };
    Containers { init, ordinary }
}

/// The refreshing container.
fn sidecar(plan: &Plan, settings: &Settings) -> Value {
    let mut sidecar = base(plan, settings, &plan.names.sidecar);
    let mut set = |key: &str, value: Value| drop(sidecar.insert(key.to_owned(), value));
    set("command", json!(["/keeper-sidecar"]));
    set("args", json!(["run"]));
    // An ordinary container restarts as its pod does.
    if plan.shape != Shape::Classic {
        set("restartPolicy", json!("Always"));
    }
    // Without a first fetch before it, a hook holds the pod's other containers back until the first publication.
    if plan.shape == Shape::Native {
        let command = json!(["/keeper-sidecar", "wait"]);
        set(
            "lifecycle",
            json!({ "postStart": { "exec": { "command": command } } }),
        );
    }
    if let Some(port) = plan.config.metrics_port
        && plan.config.on_stale == OnStale::Unready
    {
        set(
            "readinessProbe",
            json!({ "httpGet": { "path": "/readyz", "port": port }, "periodSeconds": 5, "timeoutSeconds": 2 }),
        );
    }
    if let Some(port) = plan.config.metrics_port
        && plan.declare_port
    {
        let port = json!({ "name": "keeper-metrics", "containerPort": port, "protocol": "TCP" });
        set("ports", json!([port]));
    }
    Value::Object(sidecar)
}

/// What both containers have in common. They pass Pod Security *restricted*, but
/// for those that run as root to signal.
fn base(plan: &Plan, settings: &Settings, name: &str) -> Map<String, Value> {
    let field = |name: &str, path: &str| json!({ "name": name, "valueFrom": { "fieldRef": { "apiVersion": "v1", "fieldPath": path } } });
    let mut mounts = vec![
        json!({ "name": plan.names.secrets, "mountPath": layout::VOLUME_DIR }),
        json!({ "name": plan.names.auth, "mountPath": layout::AUTH_DIR, "readOnly": true }),
    ];
    if plan.ca.is_some() {
        mounts
            .push(json!({ "name": plan.names.ca, "mountPath": layout::CA_DIR, "readOnly": true }));
    }
    mounts.push(json!({ "name": plan.names.no_token, "mountPath": TOKEN_DIR, "readOnly": true }));
    let mut container = Map::new();
    let mut set = |key: &str, value: Value| drop(container.insert(key.to_owned(), value));
    set("name", json!(name));
    set("image", json!(settings.sidecar_image));
    if let Some(policy) = settings.image_pull_policy {
        set("imagePullPolicy", json!(policy));
    }
    set(
        "env",
        json!([
            { "name": layout::CONFIG_ENV, "value": plan.config_env },
            field(layout::POD_NAME_ENV, "metadata.name"),
            field(layout::POD_NAMESPACE_ENV, "metadata.namespace"),
            field(layout::POD_UID_ENV, "metadata.uid"),
        ]),
    );
    let Identity { user, may_kill } = plan.identity;
    let mut capabilities = json!({ "drop": ["ALL"] });
    if may_kill && let Some(capabilities) = capabilities.as_object_mut() {
        capabilities.insert("add".to_owned(), json!(["KILL"]));
    }
    set("resources", plan.resources.to_json());
    set("volumeMounts", Value::Array(mounts));
    set(
        "securityContext",
        json!({
            "runAsNonRoot": user != 0,
            "runAsUser": user,
            "runAsGroup": plan.group,
            "privileged": false,
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": capabilities,
            "seccompProfile": { "type": "RuntimeDefault" },
        }),
    );
    set("terminationMessagePolicy", json!("FallbackToLogsOnError"));
    container
}
