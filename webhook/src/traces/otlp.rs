//! Spans to an OpenTelemetry collector, in protobuf over HTTP. Everything about it is set by OpenTelemetry's own variables.
//!
//! The SDK keeps at most 2,048 spans in a queue, sends them from a thread of its own, and drops what has no room: no admission
//! waits for a collector.

use std::pin::Pin;
use std::time::{Duration, SystemTime};

use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{Span as _, SpanKind, Status, Tracer as _, TracerProvider as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tokio::runtime::Handle;

use crate::audit::Entry;
use crate::outbound;

/// Certificates in PEM that are trusted beside the built-in roots.
const CERTIFICATE: &str = "OTEL_EXPORTER_OTLP_CERTIFICATE";
/// Unless `OTEL_SERVICE_NAME` or `OTEL_RESOURCE_ATTRIBUTES` say otherwise.
const SERVICE: &str = "keeper-injector-webhook";
/// Of a request to the collector. The SDK's own is looser, and counted in a thread that this holds up.
const DEADLINE: Duration = Duration::from_secs(10);
/// What the last spans get.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// Traces, if the environment asks for them.
#[derive(Default)]
pub(crate) struct Traces(Option<Running>);

struct Running {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Traces {
    /// As OpenTelemetry's variables say. Needs tokio.
    ///
    /// # Errors
    /// If they don't make sense.
    pub(crate) fn from_environment() -> Result<Self, String> {
        if !super::is_asked_for() {
            return Ok(Self(None));
        }
        let ca = match std::env::var_os(CERTIFICATE) {
            Some(path) if !path.is_empty() => Some(std::fs::read(&path).map_err(|error| {
                format!("{CERTIFICATE}: cannot read {}: {error}", path.display())
            })?),
            _ => None,
        };
        let client = outbound::client(ca.as_deref(), DEADLINE, false)
            .map_err(|error| format!("{CERTIFICATE}: {error}"))?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(OnTokio {
                client,
                handle: Handle::current(),
            })
            .build()
            .map_err(|error| error.to_string())?;
        // What the environment says comes last, and wins.
        let resource = Resource::builder_empty()
            .with_service_name(SERVICE)
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_detectors(&[
                Box::new(opentelemetry_sdk::resource::EnvResourceDetector::new()),
                Box::new(ServiceName),
            ])
            .build();
        let provider = SdkTracerProvider::builder()
            .with_resource(resource)
            .with_batch_exporter(exporter)
            .build();
        let tracer = provider.tracer("keeper-webhook");
        tracing::info!("sending traces");
        Ok(Self(Some(Running { provider, tracer })))
    }

    /// One decision, which took so long until now; `parent` is the request's `traceparent`.
    pub(crate) fn admission(
        &self,
        entry: &Entry<'_>,
        failed: bool,
        taken: Duration,
        parent: Option<&str>,
    ) {
        let Some(Running { tracer, .. }) = &self.0 else {
            return;
        };
        let context =
            TraceContextPropagator::new().extract_with_context(&Context::new(), &Parent(parent));
        let now = SystemTime::now();
        let mut attributes = vec![
            KeyValue::new("keeper.request_id", entry.request_id.to_owned()),
            KeyValue::new("keeper.outcome", entry.outcome),
        ];
        let mut add = |key: &'static str, value: &str| {
            if !value.is_empty() {
                attributes.push(KeyValue::new(key, value.to_owned()));
            }
        };
        add("keeper.reason", entry.reason);
        if let Some(subject) = entry.subject {
            add("k8s.namespace.name", &subject.namespace);
            add("k8s.pod.name", &subject.pod);
        }
        if let Some(request) = entry.request {
            add("keeper.shape", &request.shape);
        }
        let span = tracer
            .span_builder("admit pod")
            .with_kind(SpanKind::Server)
            .with_start_time(now.checked_sub(taken).unwrap_or(now))
            .with_attributes(attributes);
        let mut span = tracer.build_with_context(span, &context);
        if failed {
            span.set_status(Status::error(entry.reason.to_owned()));
        }
        span.end_with_timestamp(now);
    }

    /// Sends what there is.
    pub(crate) async fn finish(&self) {
        if let Some(Running { provider, .. }) = &self.0 {
            let provider = provider.clone();
            let end = move || provider.shutdown_with_timeout(LAST_SPANS);
            let _ = tokio::task::spawn_blocking(end).await;
        }
    }
}

/// The name of the service, if the environment has one.
struct ServiceName;

impl opentelemetry_sdk::resource::ResourceDetector for ServiceName {
    fn detect(&self) -> Resource {
        let name = std::env::var("OTEL_SERVICE_NAME").ok();
        let name = name.filter(|name| !name.is_empty());
        let attributes = name.map(|name| KeyValue::new("service.name", name));
        Resource::builder_empty()
            .with_attributes(attributes)
            .build()
    }
}

/// The headers that say whose part a request is; vendors' `tracestate` is not passed on.
struct Parent<'a>(Option<&'a str>);

impl Extractor for Parent<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.filter(|_| key == "traceparent")
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent"]
    }
}

/// The SDK sends from a thread of its own, and our client needs tokio.
#[derive(Debug)]
struct OnTokio {
    client: reqwest::Client,
    handle: Handle,
}

impl HttpClient for OnTokio {
    fn send_bytes<'life0, 'async_trait>(
        &'life0 self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        let client = self.client.clone();
        let sent = self
            .handle
            .spawn(async move { client.send_bytes(request).await });
        Box::pin(async move {
            let sent = sent.await.unwrap_or_else(|error| Err(Box::new(error)));
            if let Err(error) = &sent {
                tracing::debug!(error = error.to_string(), "the collector takes no traces");
            }
            sent
        })
    }
}
