//! The client: one thread in the node's network, a handful of connections.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use reqwest::{Client, RequestBuilder};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};

use crate::Plan;
use crate::report::{Asked, Became, Fate, Report, judge};

/// Longer than an API server takes for anything (34 s for a request with webhooks).
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
/// Creations in flight, each on a connection: more wait, and their waiting counts.
const IN_FLIGHT: usize = 128;
/// No run is meant to be longer, at whatever rate.
const MOST_PODS: u64 = 1_000_000;

/// Moves the calling thread, and it alone, into a network namespace, as `/proc/PID/ns/net` is one.
///
/// # Panics
/// If this isn't root.
pub fn enter(network: &File) {
    move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
        .expect("root may enter the node's network");
}

pub(crate) fn run(
    network: &File,
    server: &str,
    token: &str,
    plan: &Plan,
    stopped: oneshot::Receiver<()>,
) -> Report {
    // All its sockets are the node's.
    enter(network);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(create(server, token, plan, stopped))
}

async fn create(
    server: &str,
    token: &str,
    plan: &Plan,
    mut stopped: oneshot::Receiver<()>,
) -> Report {
    // Whoever else uses this process's default has the same one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder()
        // Only its kubeconfig, which says no more than this, knows the node's own certificate.
        .tls_danger_accept_invalid_certs(true)
        .no_proxy()
        .timeout(DEADLINE)
        .build()
        .expect("a client");
    let namespace = &plan.namespace;
    let url = format!("{server}/api/v1/namespaces/{namespace}/pods?dryRun=All");
    let bodies = [Asked::Annotated, Asked::Plain].map(|asked| {
        let body = match asked {
            Asked::Annotated => &plan.annotated,
            Asked::Plain => &plan.plain,
        };
        (asked, body.to_string())
    });
    let slots = Arc::new(Semaphore::new(IN_FLIGHT));
    let (answers, mut answered) = mpsc::unbounded_channel();
    let mut report = Report::default();
    let mut ticks = interval(Duration::from_secs(1) / plan.rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for number in 1..=MOST_PODS {
        let tick = loop {
            tokio::select! {
                _ = &mut stopped => break None,
                Some(fate) = answered.recv() => report.record(fate),
                due = ticks.tick() => break Some(due),
            }
        };
        let Some(due) = tick else { break };
        let [annotated, plain] = &bodies;
        let (asked, body) = match number.is_multiple_of(plan.plain_each) {
            true => plain,
            false => annotated,
        };
        let (asked, body, due) = (*asked, body.clone(), due.into_std());
        let request = client
            .post(&url)
            .bearer_auth(token)
            .header("content-type", "application/json");
        let (slots, answers) = (Arc::clone(&slots), answers.clone());
        tokio::spawn(async move {
            let _slot = slots.acquire_owned().await;
            let began = SystemTime::now();
            let became = one(request.body(body), asked).await;
            let took = Instant::now().duration_since(due);
            let _ = answers.send(Fate {
                asked,
                became,
                began,
                took,
            });
        });
    }
    drop(answers);
    while let Some(fate) = answered.recv().await {
        report.record(fate);
    }
    report
}

async fn one(request: RequestBuilder, asked: Asked) -> Became {
    let answer = async {
        let response = request.send().await?;
        let created = response.status().is_success();
        Ok::<_, reqwest::Error>((created, response.bytes().await?))
    };
    let (created, body) = match answer.await {
        Ok(answer) => answer,
        Err(error) => return Became::Refused(format!("no answer: {error:?}")),
    };
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    match created {
        true => judge(asked, &body),
        false => Became::Refused(
            body.get("message")
                .map_or_else(String::new, Value::to_string),
        ),
    }
}
