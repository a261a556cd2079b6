//! Traces: a span for each decision on a pod, in builds with the feature `otlp`.
//!
//! Fewer fields than an audit entry has: traces are shown to more people, and who asked for which records is nothing for them.

#[cfg(not(feature = "otlp"))]
mod none;
#[cfg(feature = "otlp")]
mod otlp;

#[cfg(not(feature = "otlp"))]
pub(crate) use none::Traces;
#[cfg(feature = "otlp")]
pub(crate) use otlp::Traces;

/// The variables of OpenTelemetry that say where traces go: without one of them there are none.
const ENDPOINTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
];

fn is_asked_for() -> bool {
    ENDPOINTS
        .iter()
        .any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}
