//! The audit sink and traces: what the values say is what the program is told, and what can't be right is refused.

use clap::Parser as _;
use keeper_webhook::{Cli, Command, Serve};
use serde_json::{Value, json};

use crate::helm::{Objects, refusal, render};

const FULL: &str = "
audit:
  sink:
    url: https://siem.corp:8088/services/collector?source=k8s&x=y
    tokenSecret: {name: siem, key: hec}
    header: X-Token
    scheme: Splunk
    caCert: |
      -----BEGIN CERTIFICATE-----
      abc
      -----END CERTIFICATE-----
    timeoutSeconds: 7
";

fn pod(objects: &Objects) -> &Value {
    &objects.the("Deployment")["spec"]["template"]["spec"]
}

fn serve(objects: &Objects) -> Serve {
    let args = pod(objects)["containers"][0]["args"].as_array().unwrap();
    let args = args.iter().map(|arg| arg.as_str().unwrap());
    match Cli::try_parse_from(std::iter::once("keeper-webhook").chain(args)) {
        Ok(Cli {
            command: Command::Serve(serve),
        }) => *serve,
        other => panic!("{other:?}"),
    }
}

#[test]
fn there_is_none_by_default() {
    let objects = render("{}");
    assert!(serve(&objects).audit_sink.url.is_none());
    assert!(!pod(&objects).to_string().contains("audit"));
}

#[test]
fn the_program_is_told_what_the_values_say() {
    let objects = render(FULL);
    let sink = serve(&objects).audit_sink;
    let url = "https://siem.corp:8088/services/collector?source=k8s&x=y";
    assert_eq!(sink.url, Some(url.parse().unwrap()));
    assert_eq!(sink.header, "x-token");
    assert_eq!(sink.scheme, "Splunk");
    assert_eq!(sink.deadline.as_secs(), 7);
    let pod = pod(&objects);
    let volumes = pod["volumes"].as_array().unwrap();
    let volume = |name: &str| volumes.iter().find(|v| v["name"] == name).unwrap();
    let secret = &volume("audit-token")["secret"];
    assert_eq!(secret["secretName"], "siem");
    assert_eq!(secret["items"], json!([{"key": "hec", "path": "token"}]));
    assert_eq!(secret["optional"], true, "a webhook starts without it");
    assert_eq!(
        sink.token_file.unwrap().to_str(),
        Some("/keeper/audit/token")
    );
    let mounts = pod["containers"][0]["volumeMounts"].as_array().unwrap();
    let token = mounts.iter().find(|m| m["name"] == "audit-token").unwrap();
    assert_eq!(
        (&token["mountPath"], &token["readOnly"]),
        (&json!("/keeper/audit"), &json!(true))
    );
    let ca = sink.ca_file.unwrap();
    assert_eq!(ca.parent().unwrap().to_str(), Some("/keeper/settings"));
    let key = ca.file_name().unwrap().to_str().unwrap();
    let pem = &objects.the("ConfigMap")["data"][key];
    assert!(
        pem.as_str()
            .unwrap()
            .starts_with("-----BEGIN CERTIFICATE-----\nabc\n")
    );
    let annotations = &objects.the("Deployment")["spec"]["template"]["metadata"]["annotations"];
    assert!(
        annotations["checksum/audit-sink-ca"].is_string(),
        "another CA is a rollout"
    );
}

#[test]
fn a_sink_without_a_token_mounts_none() {
    let objects = render("audit: {sink: {url: \"https://siem.corp\", scheme: \"\"}}");
    assert!(serve(&objects).audit_sink.token_file.is_none());
    assert!(!pod(&objects).to_string().contains("audit-token"));
}

#[test]
fn what_cannot_be_right_is_refused() {
    for bad in [
        "{url: \"http://siem.corp\"}",
        "{url: \"https://user:password@siem.corp\"}",
        "{url: \"https://siem.corp/ x\"}",
        "{url: \"https://siem.corp/#x\"}",
        "{header: \"a b\"}",
        "{scheme: \"a b\"}",
        "{caCert: no certificate}",
        "{timeoutSeconds: 0}",
        "{token: in-the-values}",
    ] {
        let message = refusal(&format!("audit: {{sink: {bad}}}"));
        assert!(message.contains("audit"), "{bad}: {message}");
    }
}

fn variables(values: &str) -> Value {
    let env = pod(&render(values))["containers"][0]["env"].clone();
    let env = env.as_array().cloned().unwrap_or_default();
    let ours = |one: &Value| one["name"].as_str().unwrap().starts_with("OTEL_");
    env.into_iter().filter(ours).collect()
}

#[test]
fn traces_are_off_by_default_and_are_told_by_opentelemetrys_variables() {
    assert_eq!(variables("{}"), json!([]));
    assert_eq!(
        variables("tracing: {endpoint: \"http://otel:4318\"}"),
        json!([{"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://otel:4318"}])
    );
    let full = "
tracing:
  endpoint: https://otel.corp/base
  headersSecret: otel
  caCert: \"-----BEGIN CERTIFICATE-----\"
  sampler: parentbased_traceidratio
  samplerArg: \"0.1\"
";
    let headers = json!({"secretKeyRef": {"name": "otel", "key": "headers", "optional": true}});
    assert_eq!(
        variables(full),
        json!([
            {"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "https://otel.corp/base"},
            {"name": "OTEL_EXPORTER_OTLP_HEADERS", "valueFrom": headers},
            {"name": "OTEL_EXPORTER_OTLP_CERTIFICATE", "value": "/keeper/settings/tracing-ca.crt"},
            {"name": "OTEL_TRACES_SAMPLER", "value": "parentbased_traceidratio"},
            {"name": "OTEL_TRACES_SAMPLER_ARG", "value": "0.1"},
        ])
    );
    assert!(render(full).the("ConfigMap")["data"]["tracing-ca.crt"].is_string());
    for bad in [
        "{endpoint: otel}",
        "{endpoint: \"http://user:password@otel\"}",
        "{sampler: sometimes}",
        "{samplerArg: \"2x\"}",
        "{headers: in-the-values}",
    ] {
        let message = refusal(&format!("tracing: {bad}"));
        assert!(message.contains("tracing"), "{bad}: {message}");
    }
}
