//! How variables reach a container: its command is started through `keeper-exec`, or Kubernetes reads them from a
//! file. Either way no value stands in the pod.

use std::collections::BTreeMap;

use crate::admission::Cluster;
use crate::agent_config::Variables;
use crate::annotations::PREFIX;
use crate::choices::EnvMethod;
use crate::pod::Container;
use crate::problem::quoted;
use crate::settings::Settings;

/// The oldest API server, 1.x, that takes `fileKeyRef` if the administrator says so, and whatever he says.
const FILE_KEY_REF_BETA: u32 = 35;
const FILE_KEY_REF: u32 = 38;

/// How variables reach one container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// Its command is started through `keeper-exec`.
    Exec,
    /// Kubernetes reads them from a file.
    FileKeyRef,
}

/// Something that is in the way.
pub(crate) struct Obstacle {
    /// Annotation without prefix.
    pub(crate) annotation: String,
    pub(crate) message: String,
}

/// What the variables are like, and which ways there are.
pub(crate) struct Outfitter<'v> {
    /// The names that are known, each with the annotation that asks for it.
    pub(crate) names: BTreeMap<String, &'v str>,
    /// An annotation that asks for names which only the record tells.
    pub(crate) unknown: Option<&'v str>,
    /// The first annotation that asks for a variable.
    pub(crate) first: &'v str,
    pub(crate) asked: EnvMethod,
    /// Whether `fileKeyRef` is there.
    pub(crate) has_file_key_ref: bool,
}

/// Whether pods may use `fileKeyRef`.
pub(crate) fn has_file_key_ref(settings: &Settings, cluster: &Cluster) -> bool {
    cluster.minor >= FILE_KEY_REF || settings.file_key_ref && cluster.minor >= FILE_KEY_REF_BETA
}

impl<'v> Outfitter<'v> {
    pub(crate) fn new(
        variables: &'v [Variables],
        names: BTreeMap<String, &'v str>,
        asked: EnvMethod,
        has_file_key_ref: bool,
    ) -> Option<Self> {
        let unknown = variables.iter().find(|one| one.names().is_none());
        Some(Self {
            names,
            unknown: unknown.map(|one| one.annotation.as_str()),
            first: &variables.first()?.annotation,
            asked,
            has_file_key_ref,
        })
    }

    /// The way for a container, or everything that is in it.
    pub(crate) fn outfit(&self, container: &Container<'_>) -> Result<Method, Vec<Obstacle>> {
        let mut obstacles = self.taken(container);
        match self.method(container) {
            Ok(method) if obstacles.is_empty() => return Ok(method),
            Ok(_) => {}
            Err(obstacle) => obstacles.push(obstacle),
        }
        Err(obstacles)
    }

    fn method(&self, container: &Container<'_>) -> Result<Method, Obstacle> {
        let has_command = container.command().next().is_some();
        let is_known = self.unknown.is_none();
        match self.asked {
            EnvMethod::Auto | EnvMethod::Exec if has_command => return Ok(Method::Exec),
            EnvMethod::Auto | EnvMethod::FileKeyRef if self.has_file_key_ref && is_known => {
                return Ok(Method::FileKeyRef);
            }
            _ => {}
        }
        let name = quoted(container.name());
        let command =
            format!("give container {name} its command, as the image's own cannot be known here");
        let elsewhere = format!("leave {name} out with {PREFIX}containers");
        let newer = "the administrator's consent to fileKeyRef, which is capabilities.fileKeyRef in the chart's values, on Kubernetes 1.35 or newer";
        let names = "select fields by name, with env-<NAME>, record[field], fields in config, or a notation, as Kubernetes needs the names of the variables";
        let (annotation, message) = match (self.asked, self.has_file_key_ref, self.unknown) {
            (EnvMethod::Exec, _, _) => ("env-method", format!("{command}; or {elsewhere}")),
            (EnvMethod::FileKeyRef, false, _) => (
                "env-method",
                format!("file-key-ref needs {newer}; or use exec, or auto"),
            ),
            (EnvMethod::FileKeyRef, true, unknown) => (
                unknown.unwrap_or(self.first),
                format!("{names}; or use {PREFIX}env-method exec"),
            ),
            (EnvMethod::Auto, false, _) => (
                self.first,
                format!(
                    "no way for variables into container {name}: {command}; or {elsewhere}; or get {newer}"
                ),
            ),
            (EnvMethod::Auto, true, unknown) => (
                unknown.unwrap_or(self.first),
                format!(
                    "no way for variables into container {name}: {command}; or {names}; or {elsewhere}"
                ),
            ),
        };
        Err(Obstacle {
            annotation: annotation.to_owned(),
            message,
        })
    }

    /// Names that the container has, or that it would write into its command line.
    fn taken(&self, container: &Container<'_>) -> Vec<Obstacle> {
        let mut obstacles = Vec::new();
        let mut conflict = |annotation: &str, message: String| {
            obstacles.push(Obstacle {
                annotation: annotation.to_owned(),
                message,
            });
        };
        for name in container.env_names() {
            if let Some(annotation) = self.names.get(name) {
                conflict(
                    annotation,
                    format!(
                        "container {} has a variable {} of its own: remove one of them",
                        quoted(container.name()),
                        quoted(name)
                    ),
                );
            }
        }
        let line = container.command().chain(container.args());
        for name in line.flat_map(references) {
            if let Some(annotation) = self.names.get(name) {
                conflict(
                    annotation,
                    format!(
                        "container {} has $({name}) in its command line, which everybody on the node can read: let the program read the variable",
                        quoted(container.name())
                    ),
                );
            }
        }
        obstacles
    }

    /// The container's own variables that refer to one of ours: Kubernetes makes them before ours are there.
    pub(crate) fn unresolved<'c>(&self, container: &Container<'c>) -> Option<(&'c str, &'v str)> {
        let mut values = container.env_values();
        values.find_map(|(own, value)| {
            let annotation = references(value).find_map(|name| self.names.get(name))?;
            Some((own, *annotation))
        })
    }
}

/// The names in `$(NAME)`, as Kubernetes reads it: `$$` is a dollar sign.
fn references(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            let (_, behind) = rest.split_once('$')?;
            let Some(inner) = behind.strip_prefix('(') else {
                // The second dollar sign of a pair begins nothing.
                rest = behind.strip_prefix('$').unwrap_or(behind);
                continue;
            };
            let Some((name, after)) = inner.split_once(')') else {
                rest = inner;
                continue;
            };
            rest = after;
            return Some(name);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_as_kubernetes_does() {
        for (text, want) in [
            ("", &[][..]),
            ("plain $HOME", &[]),
            ("$(A)", &["A"]),
            ("x$(A)y$(B)z", &["A", "B"]),
            ("$$(A)", &[]),
            ("$$$(A)", &["A"]),
            ("$(A", &[]),
            ("$(A$(B)", &["A$(B"]),
            ("$$$$(A)$", &[]),
        ] {
            assert_eq!(references(text).collect::<Vec<_>>(), want, "{text}");
        }
    }
}
