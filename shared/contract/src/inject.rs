//! A plan as JSON: the containers and volumes that a pod gets.

use std::collections::{BTreeMap, BTreeSet};

use json_patch::{AddOperation, Patch, PatchOperation};
use serde_json::{Map, Value, json};

use crate::admission::Shape;
use crate::agent_config::{AgentConfig, Directory, Environment, Exec, OnStale, Place, Variables};
use crate::annotations::PREFIX;
use crate::choices::{EnvMethod, InitPosition};
use crate::identity::Identity;
use crate::layout;
use crate::outfit::{Method, Outfitter};
use crate::path::CleanPath;
use crate::plan::Plan;
use crate::pod::{self, Container, Pod};
use crate::problem::{Findings, quoted};
use crate::request::CaKind;
use crate::settings::Settings;

/// Where Kubernetes mounts a service account's token; an empty directory there keeps it out.
const TOKEN_DIR: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Readable for everybody in the container, which is nobody but the agent. 0400 would be root's.
const SECRET_MODE: u32 = 0o444;

/// The patch that carries out `plan`.
pub(crate) fn patch(plan: &Plan<'_>, pod: &Pod<'_>, settings: &Settings) -> Patch {
    let mut ops = Ops::default();
    // Before the containers go in, which moves the indexes of the pod's own init containers.
    let roots = Roots::planned(plan);
    let mounts = app_mounts(&plan.config, &roots);
    let outfit = Outfit::of(&plan.config, &roots);
    for (container, method) in &plan.targets {
        ops.mounts(container, mounts.iter().chain(outfit.mount(*method)));
        ops.variables(container, *method, &outfit);
    }
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
            let index = match plan.position {
                InitPosition::First => index.to_string(),
                InitPosition::Last => "-".to_owned(),
            };
            ops.add(["spec", pod::INIT_CONTAINERS, &index], container);
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
    // Not where containers are there already: they may be of another revision.
    if let Some(revision) = &settings.revision {
        let key = format!("{PREFIX}revision");
        ops.add(["metadata", "labels", &key], json!(revision));
    }
    Patch(ops.0)
}

/// What an injected pod lacks: mounts and variables of containers that came later, and the marker.
pub(crate) fn repair(
    pod: &Pod<'_>,
    targets: &[Container<'_>],
    config: &AgentConfig,
    roots: &Roots,
    findings: &mut Findings,
) -> Patch {
    let mut ops = Ops::default();
    let mounts = app_mounts(config, roots);
    let outfit = Outfit::of(config, roots);
    for container in targets {
        let has = outfit.found(container);
        let lacking = match has {
            None => outfit.for_newcomer(container, findings),
            Some(_) => None,
        };
        ops.mounts(
            container,
            mounts.iter().chain(outfit.mount(has.or(lacking))),
        );
        ops.variables(container, lacking, &outfit);
    }
    ops.markers(pod);
    Patch(ops.0)
}

/// The marker alone.
pub(crate) fn repair_markers(pod: &Pod<'_>) -> Patch {
    let mut ops = Ops::default();
    ops.markers(pod);
    Patch(ops.0)
}

/// The volumes that the agents mount, by the path where they do: name, and path in it.
#[derive(Debug)]
pub(crate) struct Roots(BTreeMap<String, (String, Option<String>)>);

impl Roots {
    fn planned(plan: &Plan<'_>) -> Self {
        let ours = (plan.names.secrets.clone(), None);
        let mut roots = BTreeMap::from([(layout::VOLUME_DIR.to_owned(), ours)]);
        for volume in &plan.volumes {
            let source = (volume.name.clone(), volume.sub_path.clone());
            roots.insert(volume.at.clone(), source);
        }
        Self(roots)
    }

    /// Those of a container of ours that is there already.
    pub(crate) fn of(container: &Container<'_>) -> Self {
        let mounts = container.mounts().map(|(mount, at)| {
            let source = (mount.volume.to_owned(), mount.sub_path.map(str::to_owned));
            (at.to_string(), source)
        });
        Self(mounts.collect())
    }
}

/// A mount of the application's, all of them read-only.
#[derive(Debug)]
struct AppMount {
    volume: String,
    sub_path: Option<String>,
    at: CleanPath,
}

impl AppMount {
    fn to_json(&self) -> Value {
        let Self {
            volume,
            sub_path,
            at,
        } = self;
        let mut mount = Map::new();
        mount.insert("name".to_owned(), json!(volume));
        mount.insert("mountPath".to_owned(), json!(at.as_str()));
        if let Some(sub_path) = sub_path {
            mount.insert("subPath".to_owned(), json!(sub_path));
        }
        mount.insert("readOnly".to_owned(), json!(true));
        Value::Object(mount)
    }
}

/// What the containers that get the files have to mount.
fn app_mounts(config: &AgentConfig, roots: &Roots) -> Vec<AppMount> {
    let mut mounts = Vec::new();
    for (index, directory) in config.directories.iter().enumerate() {
        let root = match &directory.place {
            Place::Shared | Place::Files => layout::VOLUME_DIR,
            Place::PodVolume(at) => at,
        };
        let Some((volume, within)) = roots.0.get(root) else {
            continue;
        };
        let mut mount = |sub_path: Option<String>, at: &str| {
            mounts.push(AppMount {
                volume: volume.clone(),
                sub_path,
                at: CleanPath::lenient(at),
            });
        };
        let Directory {
            mount_path,
            sub_path,
            ..
        } = directory;
        match directory.place {
            Place::Shared => mount(Some(sub_path.clone()), mount_path),
            Place::PodVolume(_) => mount(within.clone(), mount_path),
            Place::Files => {
                for file in config.outputs.iter().filter(|o| o.directory == index) {
                    let path = &file.path;
                    mount(
                        Some(format!("{sub_path}/{path}")),
                        &format!("{mount_path}/{path}"),
                    );
                }
            }
        }
    }
    mounts
}

/// What makes the variables reach a container, for each method.
struct Outfit<'c> {
    environment: Option<&'c Environment>,
    /// Name of the agents' volume.
    volume: String,
    mount: Option<AppMount>,
    /// What goes before a container's command.
    command: Vec<String>,
    env: Vec<Value>,
}

impl<'c> Outfit<'c> {
    fn of(config: &'c AgentConfig, roots: &Roots) -> Self {
        let environment = config.environment.as_ref();
        let volume = roots.0.get(layout::VOLUME_DIR);
        let volume = volume.map_or("", |(name, _)| name).to_owned();
        let exec = environment.and_then(|environment| environment.exec.as_ref());
        let optional = !config.fail_on_error;
        let command = exec.map(|Exec { mount_path, .. }| {
            let program = format!("{mount_path}/{}", layout::EXEC_PROGRAM);
            let option = optional.then(|| "--optional".to_owned());
            let file = format!("{mount_path}/{}", layout::VARIABLES);
            let words = [program].into_iter().chain(option);
            words.chain([file, "--".to_owned()]).collect()
        });
        let names = environment.iter().flat_map(|e| &e.variables);
        let names = names.filter_map(Variables::names).flatten();
        let env = names.map(|name| {
            let path = format!("{}/{}", layout::FILE_KEY_REF_SUB_PATH, layout::VARIABLES);
            json!({ "name": name, "valueFrom": { "fileKeyRef": {
                "volumeName": volume, "path": path, "key": name, "optional": optional } } })
        });
        Self {
            env: env.collect(),
            environment,
            mount: exec.map(|exec| AppMount {
                volume: volume.clone(),
                sub_path: Some(layout::EXEC_SUB_PATH.to_owned()),
                at: CleanPath::lenient(&exec.mount_path),
            }),
            volume,
            command: command.unwrap_or_default(),
        }
    }

    fn mount(&self, method: Option<Method>) -> Option<&AppMount> {
        self.mount.as_ref().filter(|_| method == Some(Method::Exec))
    }

    /// How a container gets the variables already: another webhook may have put its own program before ours.
    fn found(&self, container: &Container<'_>) -> Option<Method> {
        let mut command = container.command();
        let program = self.command.first();
        if command.any(|word| Some(word) == program.map(String::as_str)) {
            return Some(Method::Exec);
        }
        let refers = container.refers_to_file_of(&self.volume);
        refers.then_some(Method::FileKeyRef)
    }

    /// How a container that came later gets the variables; what is in the way is a warning, as the pod was admitted.
    fn for_newcomer(&self, container: &Container<'_>, findings: &mut Findings) -> Option<Method> {
        let environment = self.environment?;
        let variables = &environment.variables;
        let names = variables.iter().flat_map(|one| {
            let names = one.names().into_iter().flatten();
            names.map(|name| (name, one.annotation.as_str()))
        });
        let asked = match environment.exec {
            Some(_) => EnvMethod::Auto,
            None => EnvMethod::FileKeyRef,
        };
        let outfitter =
            Outfitter::new(variables, names.collect(), asked, environment.file_key_ref)?;
        match outfitter.outfit(container) {
            Ok(method) => Some(method),
            Err(_) => {
                findings.warn(
                    "containers",
                    format_args!(
                        "container {}, which came later, gets no variables: name the containers that are to get them",
                        quoted(container.name())
                    ),
                );
                None
            }
        }
    }
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

    /// Adds `mounts` to a container, but for those that it has.
    fn mounts<'m>(
        &mut self,
        container: &Container<'_>,
        mounts: impl Iterator<Item = &'m AppMount>,
    ) {
        let has: BTreeSet<_> = container.mounts().map(|(_, at)| at).collect();
        let missing = mounts.filter(|mount| !has.contains(&mount.at));
        let missing = missing.map(AppMount::to_json).collect();
        self.append(container, "volumeMounts", container.has_mounts(), missing);
    }

    /// Lets a container have the variables.
    fn variables(&mut self, container: &Container<'_>, method: Option<Method>, outfit: &Outfit) {
        match method {
            None => {}
            Some(Method::Exec) => {
                let index = container.index.to_string();
                for (at, word) in outfit.command.iter().enumerate() {
                    let at = at.to_string();
                    let path = ["spec", container.list, &index, "command", &at];
                    self.add(path, json!(word));
                }
            }
            Some(Method::FileKeyRef) => {
                self.append(container, "env", container.has_env(), outfit.env.clone());
            }
        }
    }

    /// Adds `items` to the end of a list of a container.
    fn append(&mut self, container: &Container<'_>, list: &str, is_there: bool, items: Vec<Value>) {
        let index = container.index.to_string();
        if items.is_empty() {
            return;
        }
        if is_there {
            for item in items {
                self.add(["spec", container.list, &index, list, "-"], item);
            }
        } else {
            self.add(["spec", container.list, &index, list], Value::Array(items));
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

fn volumes(plan: &Plan<'_>) -> Vec<Value> {
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

fn containers(plan: &Plan<'_>, settings: &Settings) -> Containers {
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
fn sidecar(plan: &Plan<'_>, settings: &Settings) -> Value {
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
fn base(plan: &Plan<'_>, settings: &Settings, name: &str) -> Map<String, Value> {
    let field = |name: &str, path: &str| json!({ "name": name, "valueFrom": { "fieldRef": { "apiVersion": "v1", "fieldPath": path } } });
    let mut mounts = vec![
        json!({ "name": plan.names.secrets, "mountPath": layout::VOLUME_DIR }),
        json!({ "name": plan.names.auth, "mountPath": layout::AUTH_DIR, "readOnly": true }),
    ];
    if plan.ca.is_some() {
        mounts
            .push(json!({ "name": plan.names.ca, "mountPath": layout::CA_DIR, "readOnly": true }));
    }
    for volume in &plan.volumes {
        let mount = match &volume.sub_path {
            Some(path) => json!({ "name": volume.name, "mountPath": volume.at, "subPath": path }),
            None => json!({ "name": volume.name, "mountPath": volume.at }),
        };
        mounts.push(mount);
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
    let Identity {
        user,
        group,
        may_kill,
        ..
    } = plan.identity;
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
            "runAsGroup": group,
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
