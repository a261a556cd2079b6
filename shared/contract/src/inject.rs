//! What is done to a pod: a plan as a patch, and what an injected pod lacks.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::agent_config::{AgentConfig, Directory, Environment, Exec, Place, Variables};
use crate::choices::{EnvMethod, InitPosition};
use crate::containers::{Containers, volumes};
use crate::layout;
use crate::objects::{EnvVar, EnvVarSource, Mount};
use crate::outfit::{Method, Outfitter};
use crate::patch::{Addition, Additions, Patch};
use crate::path::CleanPath;
use crate::plan::Plan;
use crate::pod::{self, Container, Pod};
use crate::problem::{Findings, quoted};
use crate::settings::Settings;

/// The label and annotation of what is injected.
const MARKER: &str = "keeper.security/injected";
/// The label of what a revision of the injector has injected.
const REVISION: &str = "keeper.security/revision";

/// The patch that carries out `plan`.
pub(crate) fn patch(plan: &Plan<'_>, pod: &Pod<'_>, settings: &Settings) -> Patch {
    let mut ops = Additions::default();
    // Before the containers go in, which moves the indexes of the pod's own init containers.
    let roots = Roots::planned(plan);
    let mounts = app_mounts(&plan.config, &roots);
    let outfit = Outfit::of(&plan.config, &roots);
    for (container, method) in &plan.targets {
        ops.mounts(container, mounts.iter().chain(outfit.mount(*method)));
        ops.variables(container, *method, &outfit);
    }
    let volumes = volumes(plan).into_iter().map(Addition::Volume);
    if pod.has_volumes {
        for volume in volumes {
            ops.add(["spec", "volumes", "-"], volume);
        }
    } else {
        ops.add(["spec", "volumes"], Addition::List(volumes.collect()));
    }
    let Containers { init, ordinary } = Containers::of(plan, settings);
    let container = |container| Addition::Container(Box::new(container));
    if pod.has_init_containers {
        for (index, init) in init.into_iter().enumerate() {
            let index = match plan.position {
                InitPosition::First => index.to_string(),
                InitPosition::Last => "-".to_owned(),
            };
            ops.add(["spec", pod::INIT_CONTAINERS, &index], container(init));
        }
    } else {
        let init = init.into_iter().map(container).collect();
        ops.add(["spec", pod::INIT_CONTAINERS], Addition::List(init));
    }
    // Behind the pod's own: the first container is the one that `kubectl logs` and `exec` take.
    if let Some(ordinary) = ordinary {
        ops.add(["spec", pod::CONTAINERS, "-"], container(ordinary));
    }
    if plan.share_processes {
        ops.add(["spec", "shareProcessNamespace"], Addition::Flag(true));
    }
    ops.markers(pod);
    // Not where containers are there already: they may be of another revision.
    if let Some(revision) = &settings.revision {
        ops.add(["metadata", "labels", REVISION], Addition::Text(revision));
    }
    ops.patch()
}

/// What an injected pod lacks: mounts and variables of containers that came later, and the marker. None: nothing.
pub(crate) fn repair(
    pod: &Pod<'_>,
    targets: &[Container<'_>],
    config: &AgentConfig,
    roots: &Roots,
    findings: &mut Findings,
) -> Option<Patch> {
    let mut ops = Additions::default();
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
    (!ops.is_empty()).then(|| ops.patch())
}

/// The marker alone, if the pod lacks it.
pub(crate) fn repair_markers(pod: &Pod<'_>) -> Option<Patch> {
    let mut ops = Additions::default();
    ops.markers(pod);
    (!ops.is_empty()).then(|| ops.patch())
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
struct AppMount<'a> {
    volume: &'a str,
    sub_path: Option<Cow<'a, str>>,
    at: CleanPath,
}

impl AppMount<'_> {
    fn object(&self) -> Mount<'_> {
        Mount {
            mount_path: self.at.as_str(),
            name: self.volume,
            read_only: true,
            sub_path: self.sub_path.as_deref(),
        }
    }
}

/// What the containers that get the files have to mount.
fn app_mounts<'a>(config: &'a AgentConfig, roots: &'a Roots) -> Vec<AppMount<'a>> {
    let mut mounts = Vec::new();
    for (index, directory) in config.directories.iter().enumerate() {
        let root = match &directory.place {
            Place::Shared | Place::Files => layout::VOLUME_DIR,
            Place::PodVolume(at) => at,
        };
        let Some((volume, within)) = roots.0.get(root) else {
            continue;
        };
        let mut mount = |sub_path: Option<Cow<'a, str>>, at: &str| {
            mounts.push(AppMount {
                volume,
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
            Place::Shared => mount(Some(sub_path.into()), mount_path),
            Place::PodVolume(_) => mount(within.as_deref().map(Cow::from), mount_path),
            Place::Files => {
                for file in config.outputs.iter().filter(|o| o.directory == index) {
                    let path = &file.path;
                    mount(
                        Some(format!("{sub_path}/{path}").into()),
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
    volume: &'c str,
    mount: Option<AppMount<'c>>,
    /// What goes before a container's command.
    command: Vec<String>,
    env: Vec<EnvVar<'c>>,
}

impl<'c> Outfit<'c> {
    fn of(config: &'c AgentConfig, roots: &'c Roots) -> Self {
        let environment = config.environment.as_ref();
        let volume = roots.0.get(layout::VOLUME_DIR);
        let volume = volume.map_or("", |(name, _)| name);
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
        let env = names.map(|name| EnvVar {
            name: name.clone().into(),
            value: None,
            value_from: Some(EnvVarSource::FileKeyRef {
                key: name.into(),
                optional,
                path: format!("{}/{}", layout::FILE_KEY_REF_SUB_PATH, layout::VARIABLES),
                volume_name: volume,
            }),
        });
        Self {
            env: env.collect(),
            environment,
            mount: exec.map(|exec| AppMount {
                volume,
                sub_path: Some(layout::EXEC_SUB_PATH.into()),
                at: CleanPath::lenient(&exec.mount_path),
            }),
            volume,
            command: command.unwrap_or_default(),
        }
    }

    fn mount(&self, method: Option<Method>) -> Option<&AppMount<'c>> {
        self.mount.as_ref().filter(|_| method == Some(Method::Exec))
    }

    /// How a container gets the variables already: another webhook may have put its own program before ours.
    fn found(&self, container: &Container<'_>) -> Option<Method> {
        let mut command = container.command();
        let program = self.command.first();
        if command.any(|word| Some(word) == program.map(String::as_str)) {
            return Some(Method::Exec);
        }
        let refers = container.refers_to_file_of(self.volume);
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

impl<'a> Additions<'a> {
    /// Adds `mounts` to a container, but for those that it has.
    fn mounts(
        &mut self,
        container: &Container<'_>,
        mounts: impl Iterator<Item = &'a AppMount<'a>>,
    ) {
        let has: BTreeSet<_> = container.mounts().map(|(_, at)| at).collect();
        let missing = mounts.filter(|mount| !has.contains(&mount.at));
        let missing = missing.map(|mount| Addition::Mount(mount.object()));
        self.append(
            container,
            "volumeMounts",
            container.has_mounts(),
            missing.collect(),
        );
    }

    /// Lets a container have the variables.
    fn variables(
        &mut self,
        container: &Container<'_>,
        method: Option<Method>,
        outfit: &'a Outfit<'a>,
    ) {
        match method {
            None => {}
            Some(Method::Exec) => {
                let index = container.index.to_string();
                for (at, word) in outfit.command.iter().enumerate() {
                    let at = at.to_string();
                    let path = ["spec", container.list, &index, "command", &at];
                    self.add(path, Addition::Text(word));
                }
            }
            Some(Method::FileKeyRef) => {
                let env = outfit.env.iter().cloned().map(Addition::EnvVar);
                self.append(container, "env", container.has_env(), env.collect());
            }
        }
    }

    /// Adds `items` to the end of a list of a container.
    fn append(
        &mut self,
        container: &Container<'_>,
        list: &str,
        is_there: bool,
        items: Vec<Addition<'a>>,
    ) {
        let index = container.index.to_string();
        if items.is_empty() {
            return;
        }
        if is_there {
            for item in items {
                self.add(["spec", container.list, &index, list, "-"], item);
            }
        } else {
            self.add(
                ["spec", container.list, &index, list],
                Addition::List(items),
            );
        }
    }

    /// Marks the pod as injected, by label and annotation.
    fn markers(&mut self, pod: &Pod<'_>) {
        for (kind, map) in [("labels", pod.labels), ("annotations", pod.annotations)] {
            match map {
                None => self.add(
                    ["metadata", kind],
                    Addition::Map(BTreeMap::from([(MARKER, "true")])),
                ),
                Some(map) if map.get(MARKER).and_then(Value::as_str) == Some("true") => {}
                Some(_) => self.add(["metadata", kind, MARKER], Addition::Text("true")),
            }
        }
    }
}
