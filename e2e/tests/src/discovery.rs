//! Service discovery for Prometheus: Debian's is built without that of Kubernetes, but reads targets from files. So what
//! `kubernetes_sd_configs` would find is found here, with the same `__meta_kubernetes_…` labels (those that a ServiceMonitor or PodMonitor
//! needs), and written to a file for each of them.

use crate::namespace::try_kubectl;
use serde_json::{Map, Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const PAUSE: Duration = Duration::from_secs(1);

/// Turns the `kubernetes_sd_configs` of a config into files, and keeps these as the cluster is for as long as it lives.
#[derive(Debug)]
pub(crate) struct Discovery {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Discovery {
    /// For all scrape configs of a config, which are changed; the files are made in a folder.
    pub(crate) fn start(config: &mut Value, folder: &Path) -> Self {
        let jobs = config["scrape_configs"].as_array_mut().expect("a list");
        let files: Vec<(Search, PathBuf)> = jobs
            .iter_mut()
            .enumerate()
            .map(|(i, job)| {
                let job = job.as_object_mut().expect("an object");
                let search = job
                    .remove("kubernetes_sd_configs")
                    .expect("it asks Kubernetes");
                let file = folder.join(format!("targets-{i}.json"));
                job.insert(
                    "file_sd_configs".to_owned(),
                    json!([{"files": [file], "refresh_interval": "1s"}]),
                );
                (Search::new(&search[0]), file)
            })
            .collect();
        let over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                write_all(&files);
                std::thread::sleep(PAUSE);
            }
        });
        Self {
            over,
            thread: Some(thread),
        }
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn write_all(files: &[(Search, PathBuf)]) {
    let list = [
        "get",
        "pods,services,endpoints",
        "--all-namespaces",
        "--output=json",
    ];
    let output = try_kubectl(&list, None);
    // The API server may have something else to do; the next look will tell.
    let Ok(objects) = serde_json::from_str::<Value>(&output.stdout) else {
        return;
    };
    let objects = objects["items"].as_array().cloned().unwrap_or_default();
    for (search, file) in files {
        let new = file.with_extension("new");
        let written = fs::write(&new, json!(search.targets(&objects)).to_string());
        let _ = written.and_then(|()| fs::rename(&new, file));
    }
}

/// One item of `kubernetes_sd_configs`.
#[derive(Debug)]
struct Search {
    endpoints: bool,
    /// All, if there is none.
    namespaces: Vec<String>,
}

impl Search {
    fn new(config: &Value) -> Self {
        for key in config.as_object().expect("an object").keys() {
            let known = ["role", "namespaces"];
            assert!(
                known.contains(&key.as_str()),
                "this does not know {key} of kubernetes_sd_configs"
            );
        }
        let endpoints = match config["role"].as_str() {
            Some("endpoints") => true,
            Some("pod") => false,
            role => panic!("this does not know the role {role:?}"),
        };
        let namespaces = config["namespaces"]["names"].as_array();
        Self {
            endpoints,
            namespaces: namespaces.into_iter().flatten().map(text).collect(),
        }
    }

    /// A group of one target for each port.
    fn targets(&self, objects: &[Value]) -> Vec<Value> {
        let of_kind = |kind: &'static str| {
            objects.iter().filter(move |object| {
                let namespace = text(&object["metadata"]["namespace"]);
                object["kind"] == kind
                    && (self.namespaces.is_empty() || self.namespaces.contains(&namespace))
            })
        };
        if !self.endpoints {
            return of_kind("Pod").flat_map(ports_of_pod).collect();
        }
        of_kind("Endpoints")
            .flat_map(|endpoints| {
                let same = |service: &&Value| {
                    ["name", "namespace"]
                        .iter()
                        .all(|key| service["metadata"][key] == endpoints["metadata"][key])
                };
                let service = of_kind("Service").find(same);
                ports_of_endpoints(endpoints, service, objects)
            })
            .collect()
    }
}

/// All declared ports, of init containers too.
fn ports_of_pod(pod: &Value) -> Vec<Value> {
    let Some(address) = pod["status"]["podIP"].as_str() else {
        return Vec::new();
    };
    let containers = ["containers", "initContainers"]
        .into_iter()
        .flat_map(|list| pod["spec"][list].as_array().into_iter().flatten());
    containers
        .flat_map(|container| {
            let ports = container["ports"].as_array().into_iter().flatten();
            ports.map(move |port| {
                let mut labels = labels_of(pod, "pod");
                labels.extend(labels_of_pod(pod));
                labels.insert(meta("pod_container_name"), container["name"].clone());
                labels.insert(meta("pod_container_port_name"), json!(text(&port["name"])));
                json!({"targets": [format!("{address}:{}", port["containerPort"])], "labels": labels})
            })
        })
        .collect()
}

/// All addresses, also of pods that are not ready, with what is known of the Service and of the pod.
fn ports_of_endpoints(endpoints: &Value, service: Option<&Value>, objects: &[Value]) -> Vec<Value> {
    let mut found = Vec::new();
    for subset in endpoints["subsets"].as_array().into_iter().flatten() {
        let addresses = ["addresses", "notReadyAddresses"]
            .into_iter()
            .flat_map(|list| subset[list].as_array().into_iter().flatten());
        for address in addresses {
            for port in subset["ports"].as_array().into_iter().flatten() {
                let mut labels = service.map(|service| labels_of(service, "service"));
                let labels = labels.get_or_insert_default();
                labels.insert(
                    meta("namespace"),
                    endpoints["metadata"]["namespace"].clone(),
                );
                labels.insert(meta("endpoint_port_name"), json!(text(&port["name"])));
                let target = &address["targetRef"];
                labels.insert(
                    meta("endpoint_address_target_kind"),
                    json!(text(&target["kind"])),
                );
                labels.insert(
                    meta("endpoint_address_target_name"),
                    json!(text(&target["name"])),
                );
                let pod = objects
                    .iter()
                    .find(|object| object["metadata"]["uid"] == target["uid"]);
                labels.extend(pod.map(labels_of_pod).unwrap_or_default());
                found.push(json!({
                    "targets": [format!("{}:{}", text(&address["ip"]), port["port"])],
                    "labels": labels,
                }));
            }
        }
    }
    found
}

/// Name, and labels with the mark that they are there.
fn labels_of(object: &Value, kind: &str) -> Map<String, Value> {
    let mut labels = Map::new();
    labels.insert(
        meta(&format!("{kind}_name")),
        object["metadata"]["name"].clone(),
    );
    for (key, value) in object["metadata"]["labels"]
        .as_object()
        .into_iter()
        .flatten()
    {
        let key: String = key
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
            .collect();
        labels.insert(meta(&format!("{kind}_label_{key}")), value.clone());
        labels.insert(meta(&format!("{kind}_labelpresent_{key}")), json!("true"));
    }
    labels
}

fn labels_of_pod(pod: &Value) -> Map<String, Value> {
    let labels = [
        (meta("namespace"), pod["metadata"]["namespace"].clone()),
        (meta("pod_name"), pod["metadata"]["name"].clone()),
        (meta("pod_phase"), pod["status"]["phase"].clone()),
    ];
    labels.into_iter().collect()
}

fn meta(name: &str) -> String {
    format!("__meta_kubernetes_{name}")
}

/// A string; empty, if there is none.
fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
