//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use keeper_contract::LogLevel;
use keeper_contract::duration::GoDuration;

use crate::api_version::KubernetesVersion;
use crate::audit::SinkOptions;

/// Keeper Injector's admission webhook.
#[derive(Debug, Parser)]
#[command(name = "keeper-webhook", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Answer admission reviews over HTTPS.
    Serve(Box<Serve>),
    /// Show offline what admission makes of manifests: the patched pods, or every problem.
    ///
    /// Ends with 0 if nothing is wrong, 1 if there are problems, 2 if the command line or a file can't be read.
    Render(Render),
    /// Say whether files are there and hold something, in a pod that should have been injected; what `helm test` runs.
    ///
    /// Ends with 0 if all do, 1 if not, 2 if the command line can't be read.
    Verify {
        /// The files.
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
    },
}

/// Options of `render`.
#[derive(Debug, Args)]
pub struct Render {
    /// Manifests, YAML or JSON: pods, and what makes pods; other kinds are passed over. `-` is standard input.
    #[arg(short = 'f', long = "file", value_name = "FILE", required = true, num_args = 1..)]
    pub files: Vec<PathBuf>,
    /// The cluster's settings, YAML, as the chart writes them; without, the chart's own defaults.
    #[arg(long, value_name = "FILE")]
    pub settings: Option<PathBuf>,
    /// The API server's version.
    #[arg(long, value_name = "VERSION", default_value = "1.35")]
    pub kubernetes_version: KubernetesVersion,
    /// Namespace of what names none.
    #[arg(short, long, value_name = "NAME", default_value = "default")]
    pub namespace: String,
    /// How the patched pods are printed.
    #[arg(short, long, value_enum, default_value = "yaml")]
    pub output: RenderOutput,
    /// Take warnings for problems.
    #[arg(long)]
    pub strict: bool,
}

/// How `render` prints patched pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RenderOutput {
    /// Whole, as YAML documents.
    Yaml,
    /// What changes, as a unified diff of their YAML.
    Diff,
}

/// Options of `serve`.
#[derive(Debug, Args)]
pub struct Serve {
    /// The cluster's settings, YAML, as the chart writes them.
    #[arg(long, value_name = "FILE")]
    pub settings: PathBuf,
    /// Address of the HTTPS port; `[::]` is every one, of IPv4, too.
    #[arg(long, value_name = "ADDRESS", default_value = "[::]:8443")]
    pub listen: SocketAddr,
    /// Address of the plain HTTP port for metrics and health; `[::]` as above.
    #[arg(long, value_name = "ADDRESS", default_value = "[::]:9090")]
    pub metrics_listen: SocketAddr,
    /// Where the serving certificate comes from.
    #[arg(long, value_enum, default_value = "auto")]
    pub tls_mode: TlsMode,
    /// manual: the certificate chain, PEM; read again when it changes.
    #[arg(long, value_name = "FILE", required_if_eq("tls_mode", "manual"))]
    pub tls_cert: Option<PathBuf>,
    /// manual: its private key, PEM.
    #[arg(long, value_name = "FILE", required_if_eq("tls_mode", "manual"))]
    pub tls_key: Option<PathBuf>,
    /// manual: the authorities that API servers trust, PEM, read together with the certificate. One that they don't trust never
    /// takes the place of one that they do. May be absent.
    #[arg(long, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// auto: the Secret in our own namespace that keeps authority and certificate.
    #[arg(long, value_name = "NAME", default_value = "keeper-injector-tls")]
    pub tls_secret: String,
    /// Our Service, whose names the certificate is for.
    #[arg(long, value_name = "NAME", default_value = "keeper-injector-webhook")]
    pub service: String,
    /// auto: the MutatingWebhookConfiguration whose caBundle is kept.
    #[arg(long, value_name = "NAME", default_value = "keeper-injector")]
    pub webhook_configuration: String,
    /// auto: the ValidatingWebhookConfiguration whose caBundle is kept too, for warnings about workloads.
    #[arg(long, value_name = "NAME")]
    pub validating_webhook_configuration: Option<String>,
    /// auto: how long an authority lives, such as 87600h; at least twice as long as a certificate.
    #[arg(long, value_name = "DURATION", default_value = "87600h", value_parser = lifetime)]
    pub ca_lifetime: Duration,
    /// auto: how long a certificate lives, 5s or more; renewed when a third of it remains.
    #[arg(long, value_name = "DURATION", default_value = "8760h", value_parser = lifetime)]
    pub certificate_lifetime: Duration,
    /// Who acts on the cluster.
    #[command(flatten)]
    pub leader_election: LeaderElection,
    /// Take this for the API server's version instead of asking it. Together with `--tls-mode manual` there is no
    /// API server at all, and namespaces say nothing.
    #[arg(long, value_name = "VERSION")]
    pub kubernetes_version: Option<KubernetesVersion>,
    /// How long the port stays open after SIGTERM, until API servers know that this endpoint goes.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub drain_delay_seconds: Duration,
    /// What requests in flight get after that.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub drain_deadline_seconds: Duration,
    /// The audit sink.
    #[command(flatten)]
    pub audit_sink: SinkOptions,
    /// Least severe level that is logged.
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = log_level)]
    pub log_level: LogLevel,
}

/// Options of `serve` about the leader, who keeps certificates.
#[derive(Debug, Args)]
pub struct LeaderElection {
    /// Elect one of the replicas as the leader. Otherwise each of them acts like one.
    #[arg(long = "leader-election", value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    pub enabled: bool,
    /// The Lease in our own namespace.
    #[arg(
        long = "leader-election-lease-name",
        value_name = "NAME",
        default_value = "keeper-injector"
    )]
    pub lease_name: String,
    /// How long others wait for a leader that doesn't renew the Lease.
    #[arg(long = "leader-election-lease-duration-seconds", value_name = "SECONDS", default_value = "15", value_parser = seconds)]
    pub lease_duration_seconds: Duration,
    /// When a leader that can't renew the Lease stops acting; before the others begin.
    #[arg(long = "leader-election-renew-deadline-seconds", value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub renew_deadline_seconds: Duration,
    /// How often the Lease is renewed, and looked at.
    #[arg(long = "leader-election-retry-period-seconds", value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    pub retry_period_seconds: Duration,
    /// Keep the label keeper.security/leader=true on the leader's pod, for a Service that selects it.
    #[arg(long, requires = "pod_name")]
    pub traffic_to_leader_only: bool,
    /// The pod that this runs in.
    #[arg(long, value_name = "NAME")]
    pub pod_name: Option<String>,
}

impl Serve {
    /// Whether there is anything that a leader would do.
    pub(crate) fn needs_leader(&self) -> bool {
        self.tls_mode == TlsMode::Auto || self.leader_election.traffic_to_leader_only
    }

    /// Whether everything that an API server would tell is stated.
    pub(crate) fn outside_a_cluster(&self) -> bool {
        self.tls_mode == TlsMode::Manual && self.kubernetes_version.is_some()
    }
}

/// Where the serving certificate comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TlsMode {
    /// An authority of our own, kept in a Secret and put into the caBundle.
    Auto,
    /// Files that something else keeps.
    Manual,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text
        .parse()
        .map_err(|_| "a whole number of seconds".to_owned())?;
    if seconds <= 3600 {
        Ok(Duration::from_secs(seconds))
    } else {
        Err("at most 3600".to_owned())
    }
}

/// The times in a certificate are whole seconds. In less than five, a third of the lifetime, in which replicas and API
/// servers have to learn of the next certificate, would be none.
fn lifetime(text: &str) -> Result<Duration, String> {
    const CENTURY: u64 = 100 * 365 * 86_400;
    let lifetime: GoDuration = text.parse().map_err(|error| format!("{error}"))?;
    let seconds = lifetime.seconds_up();
    if (5..=CENTURY).contains(&seconds) {
        Ok(Duration::from_secs(seconds))
    } else {
        Err("at least 5s and at most a hundred years, 876000h".to_owned())
    }
}

fn log_level(text: &str) -> Result<LogLevel, String> {
    match text.to_ascii_lowercase().as_str() {
        "debug" => Ok(LogLevel::Debug),
        "info" => Ok(LogLevel::Info),
        "warn" => Ok(LogLevel::Warn),
        "error" => Ok(LogLevel::Error),
        _ => Err("one of debug, info, warn, error".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(more: &[&str]) -> Result<Cli, clap::Error> {
        let start = ["keeper-webhook", "serve", "--settings", "s.yaml"];
        Cli::try_parse_from(start.iter().chain(more))
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn manual_mode_wants_both_files() {
        parse(&[]).unwrap();
        parse(&["--tls-mode", "manual", "--tls-cert", "c", "--tls-key", "k"]).unwrap();
        let refused = parse(&["--tls-mode", "manual", "--tls-cert", "c"]).unwrap_err();
        assert!(refused.to_string().contains("--tls-key"), "{refused}");
    }

    #[test]
    fn a_token_may_stand_alone_in_its_header() {
        let Command::Serve(serve) = parse(&["--audit-sink-scheme="]).unwrap().command else {
            panic!("serve is a command")
        };
        assert_eq!(serve.audit_sink.scheme, "");
    }

    #[test]
    fn traffic_to_the_leader_needs_its_pod() {
        parse(&["--leader-election", "false"]).unwrap();
        parse(&["--traffic-to-leader-only", "--pod-name", "p"]).unwrap();
        let refused = parse(&["--traffic-to-leader-only"]).unwrap_err();
        assert!(refused.to_string().contains("--pod-name"), "{refused}");
    }

    #[test]
    fn values_are_bounded() {
        parse(&["--certificate-lifetime", "5s", "--log-level", "DEBUG"]).unwrap();
        for bad in [
            ["--certificate-lifetime", "4s"],
            ["--certificate-lifetime", "30"],
            ["--ca-lifetime", "876001h"],
            ["--drain-delay-seconds", "3601"],
            ["--log-level", "trace"],
            ["--kubernetes-version", "35"],
            ["--audit-sink-url", "http://siem.corp/"],
            ["--audit-sink-timeout-seconds", "0"],
            ["--audit-sink-header", "a header"],
            ["--audit-sink-token-file", "a token without a sink"],
        ] {
            assert!(parse(&bad).is_err(), "{bad:?}");
        }
    }
}
