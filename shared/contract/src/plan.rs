//! From what a pod asks for to what it gets: the shape, the names, the agents' config.

use std::collections::{BTreeMap, BTreeSet};

use crate::admission::{Cluster, Shape};
use crate::agent_config::{
    AgentConfig, Auth, Directory, Environment, Exec, LogLevel, OnStale, Proxy, Variables,
};
use crate::annotations::{PREFIX, prefixed};
use crate::choices::{EnvMethod, InitPosition, MountMode, SameUser};
use crate::directories::PodVolume;
use crate::files::File;
use crate::identity::{Identity, Wishes};
use crate::layout;
use crate::outfit::{self, Method, Obstacle, Outfitter};
use crate::outputs::{self, Placed};
use crate::pod::{CONTAINERS, Container, Pod};
use crate::problem::{Findings, Reason, quoted};
use crate::quantity::Quantity;
use crate::reload::{Reload, Signal, Target};
use crate::request::{CaSource, Request};
use crate::resources::Resources;
use crate::scalars::SidecarMode;
use crate::settings::Settings;
use crate::targets;
use crate::tmpfs::{self, Contents};
use crate::variables;

/// The oldest API server, 1.x, that is trusted with native sidecars.
const NATIVE_SIDECARS: u32 = 32;
/// The agents' config travels in one environment variable; execve takes 128 KiB in one string.
const MAX_CONFIG_BYTES: usize = 96 * 1024;

/// What is injected into one pod.
#[derive(Debug)]
pub(crate) struct Plan<'p> {
    pub(crate) shape: Shape,
    /// The containers that get the files, and how each of them gets the variables, if there are any.
    pub(crate) targets: Vec<(Container<'p>, Option<Method>)>,
    /// Where ours stand among the pod's own init containers.
    pub(crate) position: InitPosition,
    /// Volumes of the pod's own that we publish into.
    pub(crate) volumes: Vec<PodVolume>,
    pub(crate) names: Names,
    pub(crate) config: AgentConfig,
    /// The config as it stands in the environment variable.
    pub(crate) config_env: String,
    pub(crate) ca: Option<CaSource>,
    pub(crate) tmpfs: Quantity,
    pub(crate) resources: Resources,
    /// Whether the metrics port is declared in the container.
    pub(crate) declare_port: bool,
    /// Who our containers run as.
    pub(crate) identity: Identity,
    /// Whether the pod must be made to share its processes among its containers.
    pub(crate) share_processes: bool,
}

/// Names of what we add, none of which the pod has already.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) init: String,
    pub(crate) sidecar: String,
    pub(crate) secrets: String,
    pub(crate) auth: String,
    pub(crate) ca: String,
    pub(crate) no_token: String,
}

/// Where the trust root's file is in our containers.
const CA_FILE: &str = "ca.crt";

/// Plans; none if a problem was found, which stands in `findings`.
pub(crate) fn plan<'p>(
    request: Request,
    pod: &Pod<'p>,
    settings: &Settings,
    cluster: &Cluster,
    findings: &mut Findings,
) -> Option<Plan<'p>> {
    let shape = shape(&request, pod, cluster, findings);
    // What did not parse is a problem already.
    let position = request.init_position.unwrap_or(InitPosition::First);
    let targets = targets::choose(request.containers.as_ref(), position, pod, findings);
    let is_attachment = |file: &&File| file.selection.attachment().is_some();
    let attachments = request.files.iter().filter(is_attachment).count();
    let contents = Contents {
        // Variables may be in two files.
        outputs: request.files.len() - attachments + 2 * request.variables.len(),
        attachments,
        folders: request.folders.len(),
    };
    let tmpfs = tmpfs::size(request.tmpfs_size, contents);
    let resources = Resources::decide(&request, settings, tmpfs, pod.is_guaranteed(), findings);
    let metrics_port = match shape {
        Some(Shape::InitOnly) => None,
        _ => metrics_port(&request, pod, findings),
    };
    if request.on_stale == Some(OnStale::Unready) && metrics_port.is_none() {
        findings.problem(
            "on-stale",
            Reason::Conflict,
            format_args!(
                "`unready` is told by the sidecar's health port, and this pod has none: set {PREFIX}metrics-port, and not {PREFIX}init-only, or leave it out"
            ),
        );
    }
    let names = variables::check(&request.variables, findings);
    let methods = methods(&request, names, &targets, settings, cluster, findings);
    let reload = match shape {
        // The shape's warning says that nothing is refreshed; so there is nothing to tell.
        Some(Shape::InitOnly) if !request.init_only => None,
        _ => reload(&request, pod, &targets, findings),
    };
    let signals = reload.as_ref().is_some_and(|r| r.signal.is_some());
    let wishes = Wishes {
        same_user: request.run_as_same_user.unwrap_or(SameUser::Auto),
        signals,
        output_mode: request.output_mode,
    };
    let own_modes = request
        .files
        .iter()
        .filter_map(|file| Some((file.annotation.as_str(), file.mode?)));
    let identity = Identity::decide(wishes, own_modes, pod, &targets, findings);
    let Request {
        auth_secret,
        ca,
        proxy,
        files,
        folders,
        variables,
        env_method: _,
        mount_mode,
        refresh_interval,
        init_only: _,
        fail_on_error,
        cache,
        on_stale,
        strict_lookup,
        signal: _,
        signal_process: _,
        reload_url: _,
        containers: _,
        init_position: _,
        sidecar_mode: _,
        output_mode: _,
        run_as_same_user: _,
        tmpfs_size: _,
        metrics_port: _,
        cpu_request: _,
        cpu_limit: _,
        memory_request: _,
        memory_limit: _,
        log_level,
    } = request;
    let is_selected = !files.is_empty() || !folders.is_empty() || !variables.is_empty();
    let nothing = !is_selected && findings.problems.is_empty();
    let mount_mode = mount_mode.unwrap_or(MountMode::Directory);
    let Placed {
        directories,
        outputs,
        folders,
        volumes,
    } = outputs::place(files, folders, mount_mode, pod, &targets, findings);
    if nothing {
        findings.warn(
            "inject",
            format_args!(
                "nothing is selected: the pod authenticates to Keeper and gets no file; add {PREFIX}secret"
            ),
        );
    }
    let first = outputs.first().map(|output| &output.annotation);
    let first = first.or(variables.first().map(|one| &one.annotation));
    let first = first.map_or("secret", |a| a.strip_prefix(PREFIX).unwrap_or(a));
    let first = first.to_owned();
    let environment = environment(variables, &methods, &targets, &directories);
    let config = AgentConfig {
        auth: Auth::Secret {
            secret_name: auth_secret?.to_string(),
            file: format!("{}/{}", layout::AUTH_DIR, layout::AUTH_KEY),
        },
        ca_cert_file: ca
            .is_some()
            .then(|| format!("{}/{CA_FILE}", layout::CA_DIR)),
        proxy: proxy.map(|url| Proxy {
            url,
            no_proxy: settings.no_proxy.clone(),
        }),
        directories,
        outputs,
        folders,
        environment,
        refresh_interval_seconds: refresh_interval?.seconds(),
        fail_on_error,
        runs_to_completion: pod.runs_to_completion(),
        cache_seconds: cache?.seconds_up(),
        on_stale: on_stale?,
        strict_lookup,
        file_mode: identity.file_mode,
        reload,
        metrics_port,
        log_level: log_level.unwrap_or(LogLevel::Info),
        log_format: settings.log_format,
    };
    let config_env = config_env(&config);
    if config_env.len() > MAX_CONFIG_BYTES {
        findings.problem(
            &first,
            Reason::TooLarge,
            format_args!(
                "the pod's selections take {} bytes, at most {MAX_CONFIG_BYTES} fit into a container's environment: select less",
                config_env.len()
            ),
        );
    }
    Some(Plan {
        shape: shape?,
        targets: targets.into_iter().zip(methods).collect(),
        position,
        volumes,
        names: Names::free(pod),
        declare_port: metrics_port.is_some() && !pod.host_network(),
        config,
        config_env,
        ca,
        tmpfs,
        resources,
        identity,
        share_processes: signals && pod.shares_processes() != Some(true),
    })
}

fn shape(
    request: &Request,
    pod: &Pod<'_>,
    cluster: &Cluster,
    findings: &mut Findings,
) -> Option<Shape> {
    let native = cluster.minor >= NATIVE_SIDECARS;
    let classic = match request.sidecar_mode? {
        _ if request.init_only => return Some(Shape::InitOnly),
        SidecarMode::Classic => true,
        SidecarMode::Auto => !native,
        SidecarMode::Native if native => false,
        SidecarMode::Native => {
            findings.problem(
                "sidecar-mode",
                Reason::Conflict,
                format_args!(
                    "native sidecars need Kubernetes 1.{NATIVE_SIDECARS} or newer, this is 1.{}: leave it out, or use classic",
                    cluster.minor
                ),
            );
            return None;
        }
    };
    Some(match classic {
        // An ordinary container that goes on for ever would keep the pod from completing.
        true if pod.runs_to_completion() => {
            findings.warn(
                "sidecar-mode",
                "a classic sidecar would keep this pod from completing: the secrets are fetched at the start only, and not refreshed",
            );
            Shape::InitOnly
        }
        true => Shape::Classic,
        false if pod.never_restarts() => Shape::InitAndNative,
        false => Shape::Native,
    })
}

fn metrics_port(request: &Request, pod: &Pod<'_>, findings: &mut Findings) -> Option<u16> {
    let stated = request.metrics_port.stated;
    let asked = request.metrics_port.port?.0;
    // Where the pod's ports are the node's, nothing opens that nobody asked for.
    if asked == 0 || (pod.host_network() && !stated) {
        return None;
    }
    let declared = pod.declared_ports();
    let port = (asked..=u16::MAX).find(|port| !declared.contains(&u64::from(*port)))?;
    if stated && port != asked {
        findings.warn(
            "metrics-port",
            format_args!("{asked} is a port of the pod's own: {port} is used"),
        );
    }
    Some(port)
}

/// How the application is told of a change; what is in the way of a signal is recorded.
fn reload(
    request: &Request,
    pod: &Pod<'_>,
    targets: &[Container<'_>],
    findings: &mut Findings,
) -> Option<Reload> {
    let mut conflict = |name: &str, message: &str| {
        findings.problem(name, Reason::Conflict, message);
    };
    if request.init_only {
        let told = "nothing changes after the start with init-only, so nothing is told: remove one of them";
        if request.signal.is_some() {
            conflict("signal", told);
        }
        if request.reload_url.is_some() {
            conflict("reload-url", told);
        }
    }
    let target = match &request.signal_process {
        Some(name) => Target::Process(name.clone()),
        None => {
            let main = targets.iter().filter(|c| c.list == CONTAINERS);
            Target::Containers(main.map(|c| c.name().to_owned()).collect())
        }
    };
    let signal = request.signal.map(|name| Signal { name, target });
    if signal.is_some() && pod.host_pid() {
        conflict(
            "signal",
            "the pod has hostPID: true, where a signal would go to the node's processes: remove hostPID, or use reload-url",
        );
    } else if signal.is_some() && pod.shares_processes() == Some(false) {
        conflict(
            "signal",
            "needs the containers to share their processes, and the pod says shareProcessNamespace: false: remove that, or use reload-url",
        );
    }
    let url = request.reload_url.clone();
    (signal.is_some() || url.is_some()).then_some(Reload { signal, url })
}

/// How each of `targets` gets the variables; what is in the way is recorded.
fn methods(
    request: &Request,
    names: BTreeMap<String, &str>,
    targets: &[Container<'_>],
    settings: &Settings,
    cluster: &Cluster,
    findings: &mut Findings,
) -> Vec<Option<Method>> {
    let asked = request.env_method.unwrap_or(EnvMethod::Auto);
    let has_file_key_ref = outfit::has_file_key_ref(settings, cluster);
    let outfitter = Outfitter::new(&request.variables, names, asked, has_file_key_ref);
    let Some(outfitter) = outfitter else {
        return vec![None; targets.len()];
    };
    let method = |container| {
        if let Some((own, annotation)) = outfitter.unresolved(container) {
            findings.warn(
                annotation,
                format_args!(
                    "container {} refers to it in its variable {}, which Kubernetes makes before: it stays as it is written",
                    quoted(container.name()),
                    quoted(own)
                ),
            );
        }
        match outfitter.outfit(container) {
            Ok(method) => Some(method),
            Err(obstacles) => {
                for Obstacle {
                    annotation,
                    message,
                } in obstacles
                {
                    findings.problem(&annotation, Reason::Conflict, message);
                }
                None
            }
        }
    };
    targets.iter().map(method).collect()
}

/// What the agents have to do for the variables.
fn environment(
    variables: Vec<Variables>,
    methods: &[Option<Method>],
    targets: &[Container<'_>],
    directories: &[Directory],
) -> Option<Environment> {
    if variables.is_empty() {
        return None;
    }
    let uses = |method| methods.contains(&Some(method));
    let variables = variables.into_iter().map(|one| Variables {
        annotation: prefixed(&one.annotation),
        ..one
    });
    let top = |path: &str| format!("/{}", path.split('/').nth(1).unwrap_or_default());
    let mounts = targets.iter().flat_map(Container::mounts);
    let taken: BTreeSet<_> = mounts
        .map(|(_, at)| top(at.as_str()))
        .chain(directories.iter().map(|d| top(&d.mount_path)))
        .collect();
    let taken = taken.iter().map(String::as_str).collect();
    Some(Environment {
        variables: variables.collect(),
        exec: uses(Method::Exec).then(|| Exec {
            program: format!("/{}", layout::EXEC_PROGRAM),
            mount_path: free(layout::EXEC_DIR, &taken),
        }),
        file_key_ref: uses(Method::FileKeyRef),
    })
}

/// The config for an environment variable, where Kubernetes expands `$(X)`: each `$` is doubled.
fn config_env(config: &AgentConfig) -> String {
    // Strings, numbers and lists of them always have a JSON form.
    serde_json::to_string(config)
        .unwrap_or_default()
        .replace('$', "$$")
}

/// The config of a container that is injected already.
pub(crate) fn read_config_env(value: &str) -> Option<AgentConfig> {
    serde_json::from_str(&value.replace("$$", "$")).ok()
}

impl Names {
    fn free(pod: &Pod<'_>) -> Self {
        let (containers, volumes) = (pod.container_names(), pod.volume_names());
        Self {
            init: free(layout::INIT_CONTAINER, &containers),
            sidecar: free(layout::SIDECAR_CONTAINER, &containers),
            secrets: free("keeper-secrets", &volumes),
            auth: free("keeper-auth", &volumes),
            ca: free("keeper-ca", &volumes),
            no_token: free("keeper-no-token", &volumes),
        }
    }
}

/// `name`, or `name-2`, `name-3`, …, whichever is not taken.
fn free(name: &str, taken: &BTreeSet<&str>) -> String {
    let mut candidate = name.to_owned();
    let mut n = 1u32;
    while taken.contains(candidate.as_str()) {
        n += 1;
        candidate = format!("{name}-{n}");
    }
    candidate
}

/// Whether `name` is `base`, or `base` with a number behind it.
pub(crate) fn is_name(name: &str, base: &str) -> bool {
    name.strip_prefix(base).is_some_and(|rest| {
        rest.is_empty()
            || rest
                .strip_prefix('-')
                .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    })
}
