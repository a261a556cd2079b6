//! What a pod asks for: its annotations over its namespace's, the chart's and the table's defaults, as types.
//! Problems are collected on the way, so that all of them are reported at once.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use crate::agent_config::{LogLevel, OnStale, Variables};
use crate::annotations::{self, PREFIX, Scope, Status};
use crate::choices::{ContainerNames, EnvMethod, InitPosition, MountMode, SameUser};
use crate::config_yaml::{self, Config};
use crate::duration::{GoDuration, RefreshInterval};
use crate::files::{self, File};
use crate::folders::{self, FolderRequest};
use crate::layers::{Layers, Values};
use crate::namespace::Namespace;
use crate::policy::Policy;
use crate::problem::{Findings, LISTED, Problem, Reason, quoted};
use crate::proxy::{ProxyChoice, ProxyUrl};
use crate::quantity::Quantity;
use crate::reload::{ProcessName, ReloadUrl, SignalName};
use crate::scalars::{Boolean, DataKey, EnvPrefix, FileMode, ObjectName, Port, SidecarMode};
use crate::settings::Settings;
use crate::variables;

/// Everything that annotations say. What did not parse is absent, and then a problem was recorded.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) auth_secret: Option<ObjectName>,
    pub(crate) ca: Option<CaSource>,
    pub(crate) proxy: Option<ProxyUrl>,
    pub(crate) files: Vec<File>,
    pub(crate) folders: Vec<FolderRequest>,
    pub(crate) variables: Vec<Variables>,
    pub(crate) env_method: Option<EnvMethod>,
    pub(crate) mount_mode: Option<MountMode>,
    pub(crate) refresh_interval: Option<RefreshInterval>,
    pub(crate) init_only: bool,
    pub(crate) fail_on_error: bool,
    pub(crate) cache: Option<GoDuration>,
    pub(crate) on_stale: Option<OnStale>,
    pub(crate) strict_lookup: bool,
    pub(crate) signal: Option<SignalName>,
    pub(crate) signal_process: Option<ProcessName>,
    pub(crate) reload_url: Option<ReloadUrl>,
    pub(crate) containers: Option<ContainerNames>,
    pub(crate) init_position: Option<InitPosition>,
    pub(crate) sidecar_mode: Option<SidecarMode>,
    pub(crate) output_mode: Option<FileMode>,
    pub(crate) run_as_same_user: Option<SameUser>,
    pub(crate) tmpfs_size: Option<Quantity>,
    pub(crate) metrics_port: MetricsPort,
    pub(crate) cpu_request: Option<Quantity>,
    pub(crate) cpu_limit: Option<Quantity>,
    pub(crate) memory_request: Option<Quantity>,
    pub(crate) memory_limit: Option<Quantity>,
    pub(crate) log_level: Option<LogLevel>,
}

/// Where an extra trust root comes from.
#[derive(Debug)]
pub(crate) struct CaSource {
    pub(crate) kind: CaKind,
    pub(crate) name: ObjectName,
    pub(crate) key: DataKey,
}

/// Kind of object that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CaKind {
    Secret,
    ConfigMap,
}

/// The metrics port that is asked for.
#[derive(Debug)]
pub(crate) struct MetricsPort {
    pub(crate) port: Option<Port>,
    /// Whether the pod itself says so.
    pub(crate) stated: bool,
}

/// Reads the annotations of a pod: by name without prefix, as far as they have ours.
pub(crate) fn read(
    pod: &BTreeMap<&str, &Value>,
    namespace: &Namespace<'_>,
    settings: &Settings,
    findings: &mut Findings,
) -> Request {
    let mut texts = BTreeMap::new();
    for (name, value) in pod {
        match value.as_str() {
            Some(text) => drop(texts.insert(*name, text)),
            None => findings.problem(
                name,
                Reason::BadValue,
                "the value is not text: put it in quotes",
            ),
        }
    }
    screen(&texts, Place::Pod, findings);
    settings.policy.check(&texts, findings);
    let inherited = inherit(&texts, namespace, &settings.policy, findings);
    if texts.contains_key("injected") {
        findings.warn("injected", "is the injector's own marker: remove it");
    }
    let layers = Layers {
        pod: texts,
        namespace: inherited,
        chart: texts_of(&settings.defaults),
    };
    let mut reader = Reader {
        layers,
        policy: &settings.policy,
        findings,
    };
    let request = reader.request();
    if request.auth_secret.is_none() && !reader.layers.has_any(&["ksm-config", "auth-secret"]) {
        reader.findings.problem(
            "ksm-config",
            Reason::MissingConfig,
            "no KSM config: name the Secret in the pod's namespace whose key `config` holds it, such as keeper-auth",
        );
    }
    request
}

/// The defaults that a pod takes from its namespace. From here on, findings about them name the namespace.
fn inherit<'a>(
    pod: &Values<'_>,
    namespace: &Namespace<'a>,
    policy: &Policy,
    findings: &mut Findings,
) -> Values<'a> {
    let mut values = namespace.values();
    findings.inherit(namespace.name, values.keys().copied());
    screen(&values, Place::Default, findings);
    policy.check(&values, findings);
    if let Some(problem) = namespace.oversize() {
        findings.problem("inject", Reason::TooLarge, problem);
    }
    values.retain(|name, _| {
        !pod.contains_key(name)
            && annotations::find(name).is_some_and(|(a, _)| a.scope == Scope::Defaultable)
    });
    findings.inherit(namespace.name, values.keys().copied());
    values
}

/// What is wrong with the chart's defaults; empty: nothing.
pub(crate) fn check_defaults(defaults: &BTreeMap<String, String>, policy: &Policy) -> Vec<Problem> {
    let mut findings = Findings::default();
    let chart = texts_of(defaults);
    screen(&chart, Place::Default, &mut findings);
    let layers = Layers {
        chart,
        ..Layers::default()
    };
    Reader {
        layers,
        policy,
        findings: &mut findings,
    }
    .request();
    findings.problems
}

fn texts_of(values: &BTreeMap<String, String>) -> Values<'_> {
    let text = |(name, value)| -> (&str, &str) { (String::as_str(name), String::as_str(value)) };
    values.iter().map(text).collect()
}

/// Where annotations were found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Pod,
    /// On a namespace, or in the chart.
    Default,
}

/// Unknown annotations, those that this version does not do, and those that have no default.
fn screen(values: &Values<'_>, place: Place, findings: &mut Findings) {
    for (name, value) in values {
        // Looking for the nearest name costs something, and problems behind these are not listed.
        let listed = findings.problems.len() < LISTED;
        match annotations::find(name) {
            None if !listed => findings.problem(name, Reason::UnknownAnnotation, "unknown"),
            None => findings.problem(
                name,
                Reason::UnknownAnnotation,
                format_args!(
                    "unknown annotation: did you mean {PREFIX}{}? Correct or remove it",
                    annotations::nearest(name)
                ),
            ),
            Some((annotation, _)) if place == Place::Default && annotation.scope == Scope::Pod => {
                let more = match annotation.name {
                    "inject" => {
                        "; pods ask one by one, and the namespace label keeper.security/inject=disabled leaves all of them alone"
                    }
                    _ => "",
                };
                findings.problem(
                    name,
                    Reason::Conflict,
                    format_args!(
                        "can only be set on a pod, it has no default: remove it here{more}"
                    ),
                );
            }
            Some((annotation, _))
                if annotation.status == Status::NotYet && !annotation.is_default(value) =>
            {
                let default = annotation
                    .default
                    .map_or(String::new(), |d| format!(" or set it to its default, {d}"));
                findings.problem(
                    name,
                    Reason::NotYet,
                    format_args!("this version does not do this yet: remove it{default}"),
                );
            }
            Some(_) => {}
        }
    }
}

/// Looks values up in the layers, and then in the table.
struct Reader<'a> {
    layers: Layers<'a>,
    policy: &'a Policy,
    findings: &'a mut Findings,
}

impl<'a> Reader<'a> {
    fn request(&mut self) -> Request {
        let config = self.config();
        let (files, mut variables) = self.files();
        variables.extend(config.variables);
        Request {
            auth_secret: self.auth_secret(),
            ca: self.ca(),
            proxy: self
                .value::<ProxyChoice>("proxy")
                .and_then(|choice| choice.0),
            files: files.into_iter().chain(config.files).collect(),
            folders: folders::read(&self.layers.pod, self.findings)
                .into_iter()
                .chain(config.folders)
                .collect(),
            env_method: self.env_method(!variables.is_empty()),
            variables,
            mount_mode: self.value("mount-mode"),
            refresh_interval: self.refresh_interval(),
            init_only: self.flag("init-only"),
            fail_on_error: self.flag("fail-on-error"),
            cache: self.value("cache"),
            on_stale: self.value("on-stale"),
            strict_lookup: self.flag("strict-lookup"),
            signal: self.for_refreshed("signal"),
            signal_process: self.signal_process(),
            reload_url: self.for_refreshed("reload-url"),
            containers: self.value("containers"),
            init_position: self.value("init-position"),
            sidecar_mode: self.value("sidecar-mode"),
            output_mode: self.value("output-mode"),
            run_as_same_user: self.value("run-as-same-user"),
            tmpfs_size: self.tmpfs_size(),
            metrics_port: MetricsPort {
                port: self.value("metrics-port"),
                stated: self.layers.pod.contains_key("metrics-port"),
            },
            cpu_request: self.value("sidecar-cpu-request"),
            cpu_limit: self.value("sidecar-cpu-limit"),
            memory_request: self.value("sidecar-memory-request"),
            memory_limit: self.value("sidecar-memory-limit"),
            log_level: self.value("log-level"),
        }
    }

    /// The value of an annotation, or its default.
    fn value<T: FromStr<Err: fmt::Display>>(&mut self, name: &str) -> Option<T> {
        let text = self
            .layers
            .get(name)
            .or_else(|| annotations::find(name)?.0.default)?;
        self.parsed(name, text)
    }

    fn parsed<T: FromStr<Err: fmt::Display>>(&mut self, name: &str, text: &str) -> Option<T> {
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                // Types whose error does not repeat the value begin with a verb.
                let error = error.to_string();
                let value = match error.starts_with("is ") || error.starts_with("has ") {
                    true => format!("{} ", quoted(text)),
                    false => String::new(),
                };
                self.findings
                    .problem(name, Reason::BadValue, format_args!("{value}{error}"));
                None
            }
        }
    }

    fn flag(&mut self, name: &str) -> bool {
        self.value::<Boolean>(name).is_some_and(|flag| flag.0)
    }

    fn auth_secret(&mut self) -> Option<ObjectName> {
        let group = self.layers.group(&["ksm-config", "auth-secret"]);
        if group.contains_key("auth-secret") {
            self.findings.warn(
                "auth-secret",
                format_args!("is the old name of {PREFIX}ksm-config: write that"),
            );
        }
        let name = |reader: &mut Self, key: &str| -> Option<ObjectName> {
            let text = group.get(key)?;
            reader.parsed(key, text)
        };
        let (new, old) = (name(self, "ksm-config"), name(self, "auth-secret"));
        if let (Some(new), Some(old)) = (&new, &old)
            && new != old
        {
            self.findings.problem(
                "auth-secret",
                Reason::Conflict,
                format_args!(
                    "names another Secret than {PREFIX}ksm-config, whose old name it is: remove it"
                ),
            );
        }
        new.or(old)
    }

    fn ca(&mut self) -> Option<CaSource> {
        const SOURCES: [&str; 2] = ["ca-cert-secret", "ca-cert-configmap"];
        let group = self.layers.group(&SOURCES);
        if group.len() > 1 {
            self.findings.problem(
                "ca-cert-configmap",
                Reason::Conflict,
                format_args!("excludes {PREFIX}ca-cert-secret: remove one of them"),
            );
        }
        let key = match self.layers.beside(&SOURCES, "ca-cert-key") {
            Some(text) => self.parsed("ca-cert-key", text),
            None => "ca.crt".parse().ok(),
        };
        let source = group.into_iter().next();
        let Some((name, text)) = source else {
            if self.layers.has_any(&["ca-cert-key"]) {
                self.findings.problem(
                    "ca-cert-key",
                    Reason::Conflict,
                    format_args!(
                        "is the key of {PREFIX}ca-cert-secret or {PREFIX}ca-cert-configmap: set one of them, or remove it"
                    ),
                );
            }
            return None;
        };
        let kind = match name {
            "ca-cert-secret" => CaKind::Secret,
            _ => CaKind::ConfigMap,
        };
        Some(CaSource {
            kind,
            name: self.parsed(name, text)?,
            key: key?,
        })
    }

    fn config(&mut self) -> Config {
        match self.layers.pod.get("config") {
            Some(text) => config_yaml::read(text, self.findings),
            None => Config::default(),
        }
    }

    /// The files, and the variables, which may be in place of them.
    fn files(&mut self) -> (Vec<File>, Vec<Variables>) {
        let format = self.value("format");
        let prefix = self.value::<EnvPrefix>("env-prefix");
        let written = variables::read(&self.layers.pod, self.findings);
        if !self.flag("inject-env-vars") {
            if self.layers.has_any(&["env-prefix"]) {
                self.findings.problem(
                    "env-prefix",
                    Reason::Conflict,
                    format_args!(
                        "is for the names that {PREFIX}inject-env-vars makes: set that too, or remove it"
                    ),
                );
            }
            return (
                files::read(&self.layers.pod, format, self.findings),
                written,
            );
        }
        // A rendering is of files: raw would be no way to write a record, and a variable for each field is.
        let files = files::read(&self.layers.pod, None, self.findings);
        let prefix = prefix.map_or(String::new(), |prefix| prefix.0);
        let (files, mut variables) = variables::in_place_of_files(files, &prefix, self.findings);
        if variables.is_empty() && self.findings.problems.is_empty() {
            self.findings.warn(
                "inject-env-vars",
                "nothing is selected that could become variables: add keeper.security/secret",
            );
        }
        variables.extend(written);
        (files, variables)
    }

    fn env_method(&mut self, has_variables: bool) -> Option<EnvMethod> {
        if self.layers.has_any(&["env-method"])
            && !has_variables
            && self.findings.problems.is_empty()
        {
            self.findings.problem(
                "env-method",
                Reason::Conflict,
                format_args!(
                    "says how variables reach a container, and there are none: add {PREFIX}inject-env-vars, {PREFIX}env-<NAME> or an injectAsEnvVars in {PREFIX}config, or remove it"
                ),
            );
        }
        self.value("env-method")
    }

    fn refresh_interval(&mut self) -> Option<RefreshInterval> {
        let interval: RefreshInterval = self.value("refresh-interval")?;
        if let Some(min) = self.policy.min_refresh_interval()
            && interval.seconds() < min.seconds()
        {
            // Nobody asked for the default of the product.
            if !self.layers.has_any(&["refresh-interval"]) {
                return Some(min);
            }
            self.findings.problem(
                "refresh-interval",
                Reason::Policy,
                format_args!(
                    "the policy of this cluster is at least {min} (policy.minRefreshInterval of the injector's chart): raise or remove it"
                ),
            );
            return None;
        }
        if interval.raised {
            self.findings.warn(
                "refresh-interval",
                "is raised to 15s, the shortest interval",
            );
        }
        Some(interval)
    }

    /// How an application is told of a change. As a default it is for pods that are refreshed.
    fn for_refreshed<T: FromStr<Err: fmt::Display>>(&mut self, name: &str) -> Option<T> {
        let stated = self.layers.pod.contains_key(name);
        let init_only = self
            .layers
            .get("init-only")
            .and_then(|text| text.parse().ok());
        match init_only {
            Some(Boolean(true)) if !stated => None,
            _ => self.value(name),
        }
    }

    fn signal_process(&mut self) -> Option<ProcessName> {
        if self.layers.has_any(&["signal-process"]) && !self.layers.has_any(&["signal"]) {
            self.findings.problem(
                "signal-process",
                Reason::Conflict,
                format_args!("says who gets {PREFIX}signal: set that too, or remove it"),
            );
        }
        self.value("signal-process")
    }

    fn tmpfs_size(&mut self) -> Option<Quantity> {
        let size: Quantity = self.value("tmpfs-size")?;
        if size < Quantity::units(64 * 1024) {
            self.findings.problem(
                "tmpfs-size",
                Reason::BadValue,
                format_args!("{size} is too small: write at least 64Ki"),
            );
        }
        Some(size)
    }
}
