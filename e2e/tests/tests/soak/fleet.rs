//! The pods of the soak.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use keeper_e2e::{Namespace, node, pods};
use keeper_soak::{Model, OUTPUTS, Output};
use serde_json::{Value, json};

use crate::keeper;
use crate::memory::Memory;

/// Where the application has its files.
const MOUNT: &str = "/keeper/secrets";
/// The model's directories in there: this version publishes nothing elsewhere.
const FOLDERS: [&str; 2] = ["", "tls"];

/// What is special about a pod. Its name is also that of its Keeper client.
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    annotations: &'static [(&'static str, &'static str)],
    /// UID and fsGroup, where the pod has some.
    user: Option<(u32, u32)>,
    /// Whether its sidecar is killed now and then.
    pub(crate) is_killed: bool,
}

pub(crate) const SHAPES: [Shape; 5] = [
    Shape {
        name: "native",
        annotations: &[],
        user: None,
        is_killed: false,
    },
    Shape {
        name: "classic",
        annotations: &[("sidecar-mode", "classic")],
        user: None,
        is_killed: false,
    },
    Shape {
        name: "native-killed",
        annotations: &[],
        user: None,
        is_killed: true,
    },
    Shape {
        name: "classic-killed",
        annotations: &[("sidecar-mode", "classic")],
        user: None,
        is_killed: true,
    },
    Shape {
        name: "fs-group",
        annotations: &[("fail-on-error", "false"), ("on-stale", "unready")],
        user: Some((1000, 2000)),
        is_killed: false,
    },
];

/// A pod, and what is known of it.
pub(crate) struct Pod {
    pub(crate) shape: &'static Shape,
    pub(crate) model: Model,
    /// The files' directory through the application's eyes.
    files: PathBuf,
    /// When the last call that was judged came in, in milliseconds since 1970.
    pub(crate) judged_ms: u64,
    /// When its sidecar was killed last, and the container that was.
    pub(crate) killed: Option<(u64, String)>,
    pub(crate) kills: u32,
    /// Whether there is no new container since.
    pub(crate) is_down: bool,
    pub(crate) calls: u32,
    pub(crate) answers: u32,
}

impl Shape {
    pub(crate) fn apply(&self, namespace: &Namespace) {
        let secret = keeper::secret(self.name);
        let selections: Vec<(String, String)> = OUTPUTS
            .iter()
            .enumerate()
            .map(|(index, output)| {
                let path = Path::new(MOUNT).join(below(output));
                let value = format!("{}:{}", output.selection, path.display());
                (format!("secret-output-{index}"), value)
            })
            .collect();
        let mut annotations = vec![("ksm-config", secret.as_str()), ("refresh-interval", "15s")];
        annotations.extend(self.annotations);
        annotations.extend(selections.iter().map(|(k, v)| (k.as_str(), v.as_str())));
        let mut pod = pods::annotated(self.name, &annotations, "exec sleep 86400");
        if let Some((user, group)) = self.user {
            pod["spec"]["securityContext"] =
                json!({"runAsUser": user, "runAsGroup": user, "fsGroup": group});
        }
        namespace.apply(&pod);
    }
}

impl Pod {
    /// A pod that is ready.
    pub(crate) fn new(shape: &'static Shape, model: Model, namespace: &Namespace) -> Self {
        let pod = namespace.get("pod", shape.name);
        let app = pods::status(&pod, pods::APP);
        let root = node::root_of(&node::process_of(app["containerID"].as_str().unwrap()));
        Self {
            shape,
            model,
            files: root.join(MOUNT.trim_start_matches('/')),
            judged_ms: 0,
            killed: None,
            kills: 0,
            is_down: false,
            calls: 0,
            answers: 0,
        }
    }

    /// A file now, by the index of its output.
    pub(crate) fn file(&self, index: usize) -> Option<String> {
        fs::read_to_string(self.files.join(below(&OUTPUTS[index]))).ok()
    }

    /// Looks at the files of a directory as a reader does, within one generation and by their names, and judges them.
    pub(crate) fn look(&self, directory: usize) -> Result<(), String> {
        let path = &self.files;
        let generation = || fs::read_link(path.join("..data")).map_err(|e| format!("..data: {e}"));
        let seen = generation()?;
        let read = |output: &Output| {
            fs::read(path.join(below(output)))?;
            let text = fs::read_to_string(path.join(&seen).join(below(output)))?;
            Ok((output.path, text))
        };
        let outputs = OUTPUTS.iter().filter(|o| o.directory == directory);
        let files: io::Result<HashMap<&str, String>> = outputs.map(read).collect();
        match files {
            Ok(files) => self.model.read_now(directory, |name| files[name].clone()),
            // A generation goes some seconds after it was replaced, and this process may have been held up for as long.
            Err(_) if generation()? != seen => self.look(directory),
            Err(error) => Err(format!("{}: {error}", FOLDERS[directory])),
        }
    }

    /// The running container of its sidecar.
    pub(crate) fn sidecar(&self, namespace: &Namespace) -> Option<String> {
        let pod = namespace.get("pod", self.shape.name);
        let status: &Value = pods::status(&pod, "keeper-sidecar");
        let is_running = status["state"]["running"].is_object();
        let id = status["containerID"].as_str().filter(|_| is_running);
        id.map(ToOwned::to_owned)
    }

    pub(crate) fn memory(&self, namespace: &Namespace) -> Memory {
        let container = self.sidecar(namespace).unwrap();
        Memory::of(&node::process_of(&container))
    }
}

fn below(output: &Output) -> PathBuf {
    Path::new(FOLDERS[output.directory]).join(output.path)
}
