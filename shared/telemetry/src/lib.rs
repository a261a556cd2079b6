//! What every long-running process of the project shows of itself: log lines, metrics, health.
//!
//! Small on purpose, because it is linked into the agent that runs in every pod. Nothing in here ever
//! sees a secret value; what is logged or counted is chosen by the callers.

mod json;
mod listen;
mod logging;
mod readiness;
mod server;

pub use json::{is_hidden, to_json};
pub use listen::listen;
pub use logging::{LogLayer, init_logging, timestamp};
pub use readiness::{Latch, Readiness};
pub use server::{AcceptBackoff, serve};

/// Registers the gauge `keeper_build_info{version,component}`, which is always 1.
///
/// # Errors
/// If the registry already holds it.
pub fn build_info(registry: &prometheus::Registry, component: &str) -> prometheus::Result<()> {
    let options = prometheus::Opts::new("keeper_build_info", "Version of the running component.")
        .const_label("version", env!("CARGO_PKG_VERSION"))
        .const_label("component", component);
    let gauge = prometheus::IntGauge::with_opts(options)?;
    gauge.set(1);
    registry.register(Box::new(gauge))
}

#[cfg(test)]
mod tests {
    use prometheus::{Registry, TextEncoder};

    #[test]
    fn build_info_names_version_and_component() {
        let registry = Registry::new();
        super::build_info(&registry, "sidecar").unwrap();
        let text = TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap();
        let expected = concat!(
            "keeper_build_info{component=\"sidecar\",version=\"",
            env!("CARGO_PKG_VERSION"),
            "\"} 1\n"
        );
        assert!(text.contains(expected), "{text}");
        assert!(super::build_info(&registry, "sidecar").is_err());
    }
}
