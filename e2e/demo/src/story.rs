//! The demo from beginning to end: what is run, what is shown, and what has to hold.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::admission::{Answer, ApiServer, pod_of};
use crate::agent;
use crate::keeper::Keeper;
use crate::pod::Pod;
use crate::screen::{check, diff, quote, say, step, yaml};
use crate::webhook::Webhook;
use crate::workbench::Workbench;

const EXAMPLE: &str = "examples/deployment.yaml";
/// The record that the example reads, and the file of one of its fields.
const RECORD: &str = "database-credentials";
const RECORD_FILE: &str = "database-credentials.json";
const PASSWORD_FILE: &str = "db-password";
const NEW_PASSWORD: &str = "typed-into-the-vault-just-now";
/// A refresh comes within one interval of 15 s and 2 s of its slot; the rest is for a busy machine.
const ONE_REFRESH: Duration = Duration::from_secs(60);

/// Tells the whole story. Its processes end, and its files go, when this does.
pub(crate) async fn tell() -> anyhow::Result<()> {
    let began = Instant::now();
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok()
        .context("there is a crypto provider already")?;
    let bench = Workbench::set_up()?;

    step("Keeper: keeper-sim, a server that Keeper's own SDKs accept, with an example vault");
    let keeper = Keeper::start(&bench).await?;
    say(format_args!(
        "It listens on {}; the vault is e2e/keeper-sim/vault.example.yaml.",
        keeper.address
    ));

    step("The webhook: the real one, over TLS");
    let mut webhook = Webhook::start(&bench).await?;
    say(format_args!(
        "It listens on {} and needs no API server, being told version and certificate.",
        webhook.address
    ));

    let pod = example(&bench)?;
    let patched = admit(&webhook.api_server, &pod).await?;
    refuse(&webhook.api_server, &pod).await?;

    step("The agent: what the kubelet would start of the patched pod");
    let mut running = Pod::start(&bench, &keeper, &patched)?;
    let first = first_files(&running).await?;
    let second = change(&keeper, &mut running, &first).await?;
    cost(&keeper, &running).await?;

    step("The end");
    let took = running.end().await?;
    check(format_args!(
        "the agent ended {} ms after SIGTERM",
        took.as_millis()
    ));
    webhook.end().await?;
    check("the webhook drained and ended");
    let searched = search(
        &[
            &keeper.daemon.lines(),
            &webhook.daemon.lines(),
            &running.daemon.lines(),
        ],
        &patched,
        &[&first, &second],
    )?;
    check(format_args!(
        "no value is in the patch, nor in any of the {searched} log lines"
    ));

    step("That was it");
    say(format_args!(
        "In {} s, with the real webhook and the real agent:",
        began.elapsed().as_secs()
    ));
    check(
        "a pod of examples/ got its sidecar by one admission over TLS; once more changed nothing",
    );
    check("a pod with mistakes was refused, each mistake with its cure");
    check("the files were complete before the app would start");
    check(
        "a password changed in the vault was in the pod one refresh later, swapped in as a whole",
    );
    say(
        "The same on a real Kubernetes node, and more: make e2e. To look around in one: make cluster.",
    );
    Ok(())
}

/// The pod of the example, and the annotations that ask for its secrets.
fn example(bench: &Workbench) -> anyhow::Result<Value> {
    step(&format!(
        "A pod that asks for secrets: the one of {EXAMPLE}"
    ));
    let pod = pod_of(&serde_saphyr::from_str(&fs::read_to_string(
        bench.source(EXAMPLE),
    )?)?)?;
    let annotations = pod.pointer("/metadata/annotations");
    quote(&yaml(
        annotations.context("the example has no annotations")?,
    )?);
    Ok(pod)
}

/// One admission, shown as a diff; a second one of the result has nothing to add.
async fn admit(api_server: &ApiServer, pod: &Value) -> anyhow::Result<Value> {
    step("Admission: the pod goes in, a patch comes out");
    let began = Instant::now();
    let Answer::Allowed { patch, warnings } = api_server.admit("demo-1", pod).await? else {
        bail!("the example was refused");
    };
    let took = began.elapsed();
    ensure!(!patch.0.is_empty(), "the patch is empty");
    ensure!(
        warnings.is_empty(),
        "the example is warned about: {warnings:?}"
    );
    let mut patched = pod.clone();
    json_patch::patch(&mut patched, &patch)?;
    diff(pod, &agent::with_config_elided(&patched))?;
    check(format_args!(
        "{} operations, answered in {} ms with the handshake",
        patch.0.len(),
        took.as_millis()
    ));

    say("The agent's config: titles, paths and intervals, never a value.");
    let config = agent::config(agent::container(&patched)?)?;
    quote(&serde_json::to_string_pretty(&config)?);

    let Answer::Allowed { patch, .. } = api_server.admit("demo-2", &patched).await? else {
        bail!("the patched pod was refused");
    };
    ensure!(
        patch.0.is_empty(),
        "the patched pod was patched again: {patch:?}"
    );
    check("the patched pod, sent in again, is left as it is");
    Ok(patched)
}

/// The same pod with mistakes, which must not become a crash loop.
async fn refuse(api_server: &ApiServer, pod: &Value) -> anyhow::Result<()> {
    step("Mistakes: refused at admission, all at once");
    let mistakes = [
        ("refresh-intervall", "1m"),
        ("refresh-interval", "soon"),
        (
            "secret-password",
            "database-credentials[password]:/keeper/secrets/../etc/passwd",
        ),
    ];
    let mut pod = pod.clone();
    let annotations = pod
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut)
        .context("the example has no annotations")?;
    for (name, value) in mistakes {
        say(format_args!("keeper.security/{name}: {value}"));
        annotations.insert(format!("keeper.security/{name}"), Value::from(value));
    }
    let Answer::Denied(message) = api_server.admit("demo-3", &pod).await? else {
        bail!("a pod with mistakes was admitted");
    };
    quote(&message);
    for (name, _) in mistakes {
        ensure!(message.contains(name), "the message doesn't name {name}");
    }
    check("refused, and each of them named");
    Ok(())
}

/// The files that are there when the hook lets the app start.
async fn first_files(pod: &Pod<'_>) -> anyhow::Result<Vec<(String, String)>> {
    say(
        "keeper-sidecar run, with the config of the patch. Replaced is only what Kubernetes would provide:",
    );
    say(
        "the files of the mounted Secret and ConfigMap, the volume, the pod's name, and a free port.",
    );
    let took = pod.wait_as_the_hook_does().await?;
    let files = pod.files()?;
    check(format_args!(
        "the postStart hook let the app start after {} ms, with {} files there",
        took.as_millis(),
        files.len()
    ));
    show(pod, &files)?;
    Ok(files)
}

/// A new password in the vault, and then in the file.
async fn change(
    keeper: &Keeper<'_>,
    pod: &mut Pod<'_>,
    before: &[(String, String)],
) -> anyhow::Result<Vec<(String, String)>> {
    step("A change: someone edits the record in the vault");
    let generation = pod.generation()?;
    let assignment = format!("password={NEW_PASSWORD}");
    say(format_args!("keeper-sim set {RECORD} {assignment}"));
    keeper.admin(&["set", RECORD, &assignment]).await?;
    say(
        "The agent looks every 15 s, the shortest interval there is, in the pod's own slot of 2 s. Waiting …",
    );
    let began = Instant::now();
    let mut files = Vec::new();
    while value(&files, PASSWORD_FILE) != Some(NEW_PASSWORD) {
        ensure!(
            began.elapsed() < ONE_REFRESH,
            "no new password within {ONE_REFRESH:?}: {:?}",
            pod.daemon.lines().last()
        );
        pod.daemon.still_runs()?;
        tokio::time::sleep(Duration::from_millis(50)).await;
        // Between one file's reading and the next a swap may come: both are read once more then.
        files = pod.files()?;
    }
    check(format_args!(
        "it is there after {} s",
        began.elapsed().as_secs()
    ));
    let files = pod.files()?;
    ensure!(
        pod.generation()? != generation,
        "the files were written in place"
    );
    ensure!(
        value(&files, RECORD_FILE).is_some_and(|json| json.contains(NEW_PASSWORD)),
        "the two files of one record disagree"
    );
    ensure!(files != before, "nothing changed");
    show(pod, &files)?;
    check("both files changed in one swap of the link ..data");
    Ok(files)
}

/// What monitoring sees, and what Keeper counted.
async fn cost(keeper: &Keeper<'_>, pod: &Pod<'_>) -> anyhow::Result<()> {
    step("Metrics of the sidecar, and what Keeper counted");
    let metrics = pod.metrics().await?;
    let shown: Vec<&str> = metrics
        .lines()
        .filter(|line| line.starts_with("keeper_") && !line.contains("_bucket"))
        .collect();
    quote(&shown.join("\n"));
    ensure!(
        shown.contains(&r#"keeper_sidecar_published_total{result="changed"} 2"#),
        "two publications are not what the metrics say"
    );
    ensure!(
        shown.contains(&"keeper_sidecar_refresh_errors_total 0"),
        "the metrics count an error"
    );
    let refreshes = counter(&shown, "keeper_sidecar_refresh_total")?;
    quote(&keeper.admin(&["calls"]).await?);
    let calls: Value = serde_json::from_str(&keeper.admin(&["calls", "--json"]).await?)?;
    let calls = calls
        .as_object()
        .into_iter()
        .flat_map(|by_client| by_client.values());
    let calls: u64 = calls
        .filter_map(|endpoints| endpoints.pointer("/get_secret/total")?.as_u64())
        .sum();
    ensure!(
        calls >= refreshes && calls <= refreshes + 1,
        "{calls} calls for {refreshes} refreshes"
    );
    check("one call a cycle, for all files together");
    Ok(())
}

/// The value of a metric without labels.
fn counter(lines: &[&str], name: &str) -> anyhow::Result<u64> {
    let value = lines
        .iter()
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    value.with_context(|| format!("no metric {name}"))
}

/// The directory as the app would list it, and the files' content. The values are those of the example vault.
fn show(pod: &Pod<'_>, files: &[(String, String)]) -> anyhow::Result<()> {
    quote(&format!(
        "/keeper/secrets/..data -> {}",
        pod.generation()?.display()
    ));
    for (path, text) in files {
        quote(&format!("/keeper/secrets/{path}:"));
        quote(text);
    }
    Ok(())
}

fn value<'files>(files: &'files [(String, String)], path: &str) -> Option<&'files str> {
    files
        .iter()
        .find_map(|(p, text)| (p == path).then_some(text.as_str()))
}

/// Looks for the values of the password in the patched pod and all logs; how many lines that were.
fn search(
    logs: &[&Vec<String>],
    patched: &Value,
    files: &[&[(String, String)]],
) -> anyhow::Result<usize> {
    let values: Vec<&str> = files
        .iter()
        .filter_map(|files| value(files, PASSWORD_FILE))
        .collect();
    ensure!(
        values.len() == 2 && values.iter().all(|v| v.len() > 5),
        "no values to search for"
    );
    let patched = patched.to_string();
    let lines: Vec<&str> = logs
        .iter()
        .flat_map(|log| log.iter().map(String::as_str))
        .collect();
    for value in values {
        ensure!(!patched.contains(value), "a value is in the patch");
        ensure!(
            !lines.iter().any(|line| line.contains(value)),
            "a value is in a log"
        );
    }
    Ok(lines.len())
}
