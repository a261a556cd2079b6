//! `keeper-webhook render`: what admission makes of manifests, without a cluster. The patched pods on standard
//! output, every problem on standard error, and an exit code for CI.

mod manifest;
mod report;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use keeper_contract::{
    Advice, Cluster, Decision, Namespace, NamespaceSettings, Settings, Workload, admit,
};
use serde_json::json;

use self::manifest::{Manifest, Unreadable};
use self::report::{Level, Report};
use crate::cli::Render;
use crate::serve::{Failure, load_settings};

/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 64 * 1024 * 1024;
/// What stands for standard input.
const STDIN: &str = "-";

/// How a rendering ended, from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// Nothing is wrong.
    Fine = 0,
    /// A pod would be refused, or something was written in vain.
    Problems = 1,
    /// The command line or a file has to change before anything can be said.
    Unreadable = 2,
}

/// Runs the command to its end.
pub(crate) fn main(options: &Render) -> ExitCode {
    let (mut out, mut log) = (io::stdout().lock(), io::stderr().lock());
    let outcome = match settings(options) {
        Ok(settings) => run(options, &settings, &mut io::stdin(), &mut out, &mut log),
        Err(failure) => {
            let _ = writeln!(log, "keeper-webhook: {failure}");
            Outcome::Unreadable
        }
    };
    ExitCode::from(outcome as u8)
}

/// The settings file, or else what the chart has when nobody changes it.
fn settings(options: &Render) -> Result<Settings, Failure> {
    match &options.settings {
        Some(path) => load_settings(path),
        None => serde_json::from_value(json!({
            "sidecarImage": concat!("keeper/injector-sidecar:", env!("CARGO_PKG_VERSION")),
            "ownNamespace": "keeper-security",
        }))
        .map_err(|error| Failure::Start(error.to_string())),
    }
}

fn run(
    options: &Render,
    settings: &Settings,
    input: &mut dyn Read,
    out: &mut dyn Write,
    log: &mut dyn Write,
) -> Outcome {
    let cluster = options.kubernetes_version.cluster();
    let mut report = Report::new(options.output, out, log);
    let mut manifests = Vec::new();
    for path in &options.files {
        let name = if path == Path::new(STDIN) {
            "stdin".to_owned()
        } else {
            path.display().to_string()
        };
        match read(path, input).and_then(|text| manifest::parse(&name, &text)) {
            Ok(of_file) => manifests.extend(of_file),
            Err(error) => report.unreadable(&name, &error),
        }
    }
    let namespaces: BTreeMap<&str, NamespaceSettings> = manifests
        .iter()
        .filter_map(Manifest::as_namespace)
        .collect();
    for manifest in &manifests {
        let name = manifest.namespace().unwrap_or(&options.namespace);
        let namespace = Namespace {
            name,
            settings: namespaces.get(name),
        };
        look_at(manifest, namespace, settings, cluster, &mut report);
    }
    report.end(options.strict)
}

fn read(path: &Path, input: &mut dyn Read) -> Result<String, Unreadable> {
    let mut bytes = Vec::new();
    let whole = if path == Path::new(STDIN) {
        input.take(MAX_FILE + 1).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
    };
    whole?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(Unreadable::TooLarge);
    }
    String::from_utf8(bytes).map_err(|_| Unreadable::NoText)
}

/// Decides on one object as the webhook would, and reports it.
fn look_at(
    manifest: &Manifest,
    namespace: Namespace<'_>,
    settings: &Settings,
    cluster: Cluster,
    report: &mut Report<'_>,
) {
    let Some(workload) = Workload::of(&manifest.object) else {
        return;
    };
    let pod = workload.pod();
    let decision = admit(&pod, namespace, settings, &cluster);
    let advice: Advice = workload.advice(&decision);
    for text in advice.to_correct() {
        report.say(manifest, Level::Error, &text);
    }
    for text in &advice.warnings {
        report.say(manifest, Level::Warning, text);
    }
    match &decision {
        Decision::Injected(injection) => report.injected(manifest, pod, &injection.patch),
        Decision::Skipped(_) if advice.is_empty() => report.unchanged(),
        Decision::Skipped(_) | Decision::Denied(_) => {}
    }
}
