//! Wiring: from the command line to running servers, and to the exit code.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use keeper_contract::{Namespace, Settings, admit};
use keeper_telemetry::{Latch, Readiness, build_info, init_logging, listen};
use prometheus::Registry;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use crate::admission::Admission;
use crate::api_version::ApiVersion;
use crate::audit::{self, Queue, Sink, Trail};
use crate::certs::authority::Authority;
use crate::certs::auto::Auto;
use crate::certs::kube_store::KubeStore;
use crate::certs::manual::{Manual, ManualError};
use crate::certs::{AuthorityTooShort, Names, Policy, Resolver, unix};
use crate::cli::{Cli, Command, Serve, TlsMode};
use crate::leader::{HandOver, Leadership, Timing};
use crate::metrics::{AuditMetrics, Metrics};
use crate::namespaces::Namespaces;
use crate::traces::Traces;
use crate::{http, leader, listener, render, verify};

/// How long a replica that starts lets connections wait for what it can't answer without. A replica whose process was killed is
/// asked again as soon as its port is open, and what it refused then would be lost.
const START_PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks at that.
const START_LOOK: Duration = Duration::from_millis(10);
/// What the audit sink gets at the end, even where the answers took all the time that there was.
const LAST_ENTRIES: Duration = Duration::from_secs(1);

/// Why the program ends before its time.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The settings file can't be read.
    #[error("cannot read the settings {}: {error}", path.display())]
    SettingsFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// The settings don't parse; the text has line and column.
    #[error("the settings {} are not valid: {error}", path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        error: Box<serde_saphyr::Error>,
    },
    /// The files of `--tls-mode manual`.
    #[error("--tls-mode manual: {0}")]
    Manual(String),
    /// The audit sink's CA file.
    #[error("--audit-sink-ca-file: {0}")]
    AuditSink(String),
    /// OpenTelemetry's variables.
    #[error("traces: {0}")]
    Traces(String),
    /// Lifetimes of certificates that don't go together.
    #[error("{0}")]
    Lifetimes(String),
    /// No way to the API server.
    #[error(
        "no API server to talk to ({0}); \
         outside a cluster use --tls-mode manual together with --kubernetes-version"
    )]
    Kubernetes(String),
    /// Options of the leader election that don't fit each other.
    #[error("{0}")]
    LeaderElection(String),
    /// An address that can't be listened on.
    #[error("cannot listen on {address}: {error}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why not.
        error: io::Error,
    },
    /// A second metric of one name.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
    /// TLS can't be set up.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    /// Logging, the runtime or the signals can't be set up.
    #[error("cannot start: {0}")]
    Start(String),
    /// Something that runs for ever ended, by a bug.
    #[error("a background task ended")]
    Background,
}

impl Failure {
    /// 2 for what the caller has to change, 1 for the rest.
    fn exit_code(&self) -> u8 {
        match self {
            Self::SettingsFile { .. }
            | Self::Settings { .. }
            | Self::Manual(_)
            | Self::AuditSink(_)
            | Self::Traces(_)
            | Self::Lifetimes(_)
            | Self::LeaderElection(_) => 2,
            Self::Kubernetes(_)
            | Self::Bind { .. }
            | Self::Metrics(_)
            | Self::Tls(_)
            | Self::Start(_)
            | Self::Background => 1,
        }
    }
}

impl From<ManualError> for Failure {
    fn from(error: ManualError) -> Self {
        Self::Manual(error.to_string())
    }
}

impl From<AuthorityTooShort> for Failure {
    fn from(error: AuthorityTooShort) -> Self {
        Self::Lifetimes(error.to_string())
    }
}

/// Runs the command to its end.
#[must_use]
pub fn main(cli: Cli) -> ExitCode {
    match cli.command {
        Command::Serve(options) => serve(&options),
        Command::Render(options) => render::main(&options),
        Command::Verify { files } => verify::main(&files),
    }
}

fn serve(options: &Serve) -> ExitCode {
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if tracing::dispatcher::has_been_set() {
                tracing::error!(error = %failure, "keeper-webhook failed");
            } else {
                let _ = writeln!(io::stderr(), "keeper-webhook: {failure}");
            }
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(options: &Serve) -> Result<(), Failure> {
    let settings = load_settings(&options.settings)?;
    init_logging(settings.log_format, options.log_level, &[])
        .map_err(|error| Failure::Start(error.to_string()))?;
    // One thread: an admission takes a tenth of a millisecond, and two threads would wake each other for each one.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Start(error.to_string()))?;
    runtime.block_on(async {
        let start = |error: io::Error| Failure::Start(error.to_string());
        let mut terminate = signal(SignalKind::terminate()).map_err(start)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(start)?;
        let webhook = Webhook::bind(options, settings).await?;
        let shutdown = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        webhook.serve(shutdown).await
    })
}

/// Reads the settings file.
///
/// # Errors
/// If it can't be read or is not valid; the text names line and column.
pub fn load_settings(path: &Path) -> Result<Settings, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| Failure::SettingsFile {
        path: path.to_owned(),
        error,
    })?;
    serde_saphyr::from_str(&text).map_err(|error| Failure::Settings {
        path: path.to_owned(),
        error: Box::new(error),
    })
}

/// A webhook with its ports open, not serving yet.
pub struct Webhook {
    https: TcpListener,
    metrics: TcpListener,
    tls: Arc<ServerConfig>,
    router: Router,
    readiness: Readiness,
    registry: Registry,
    background: JoinSet<()>,
    sink: Option<Delivery>,
    traces: Arc<Traces>,
    hand_over: Option<HandOver>,
    drain: listener::Drain,
    api: ApiVersion,
    resolver: Arc<Resolver>,
}

/// The audit sink's task, which outlives the last answer.
struct Delivery {
    queue: Arc<Queue>,
    task: JoinHandle<()>,
    metrics: AuditMetrics,
}

impl Webhook {
    /// Opens the ports and starts what keeps certificates, the API server's version, and what namespaces say.
    ///
    /// # Errors
    /// Everything that can be wrong at a start; see [`Failure`].
    pub async fn bind(options: &Serve, settings: Settings) -> Result<Self, Failure> {
        let election = election(options)?;
        let readiness = Readiness::new();
        let registry = Registry::new();
        build_info(&registry, "webhook")?;
        let metrics = Metrics::new(&registry)?;
        let sink = Sink::new(&options.audit_sink, &metrics.audit)
            .map_err(|error| Failure::AuditSink(error.to_string()))?;
        let resolver = Arc::new(Resolver::default());
        let mut background = JoinSet::new();

        let api = match options.kubernetes_version {
            Some(version) => ApiVersion::known(version),
            None => {
                let api = ApiVersion::default();
                let latch = readiness.latch("API server version");
                background.spawn(api.clone().keep(client().await?, latch));
                api
            }
        };
        let namespaces = match options.outside_a_cluster() {
            true => Namespaces::silent(),
            false => {
                let namespaces = Namespaces::of(client().await?);
                let latch = readiness.latch("namespaces");
                background.spawn(namespaces.clone().keep(latch));
                namespaces
            }
        };
        let (leadership, hand_over) = match election {
            None => (Leadership::always(), None),
            Some(timing) => {
                let (own, election) = (&settings.own_namespace, &options.leader_election);
                let client = client().await?;
                let (leadership, hand_over) =
                    leader::start(election, timing, client, own, &mut background);
                (leadership, Some(hand_over))
            }
        };
        leadership.register(&registry)?;
        let parts = CertificateParts {
            names: Names::of_service(&options.service, &settings.own_namespace),
            provider: Arc::new(ring::default_provider()),
            resolver: Arc::clone(&resolver),
            metrics: metrics.clone(),
            leadership,
        };
        let provider = Arc::clone(&parts.provider);
        match options.tls_mode {
            TlsMode::Auto => {
                let latches = (
                    readiness.latch("serving certificate"),
                    readiness.latch("caBundle"),
                );
                let client = client().await?;
                parts.auto(
                    options,
                    &settings.own_namespace,
                    client,
                    latches,
                    &mut background,
                )?;
            }
            TlsMode::Manual => parts.manual(options, &mut background)?,
        }

        let version = api.clone();
        let decide = move |pod: &serde_json::Value, namespace: Namespace<'_>| {
            version
                .cluster()
                .map(|cluster| admit(pod, namespace, &settings, &cluster))
        };
        let traces = Arc::new(Traces::from_environment().map_err(Failure::Traces)?);
        let trail = Trail {
            sink: sink.as_ref().map(Sink::queue),
            traces: Arc::clone(&traces),
        };
        let sink = sink.map(|sink| Delivery {
            queue: sink.queue(),
            task: tokio::spawn(sink.run()),
            metrics: metrics.audit.clone(),
        });
        let admission = Admission::new(Box::new(decide), namespaces, metrics, trail);
        Ok(Self {
            https: bind(options.listen).await?,
            metrics: bind(options.metrics_listen).await?,
            tls: listener::tls_config(Arc::clone(&resolver) as _, provider)?,
            router: http::router(admission, readiness.clone()),
            readiness,
            registry,
            background,
            sink,
            traces,
            hand_over,
            drain: listener::Drain {
                delay: options.drain_delay_seconds,
                deadline: options.drain_deadline_seconds,
            },
            api,
            resolver,
        })
    }

    /// Where HTTPS is served; tells the port if 0 was asked for.
    ///
    /// # Errors
    /// If the system doesn't know.
    pub fn https_address(&self) -> io::Result<SocketAddr> {
        self.https.local_addr()
    }

    /// Where metrics and health are served.
    ///
    /// # Errors
    /// If the system doesn't know.
    pub fn metrics_address(&self) -> io::Result<SocketAddr> {
        self.metrics.local_addr()
    }

    /// Serves until `shutdown` completes and everything in flight is answered.
    ///
    /// # Errors
    /// If one of the tasks that run for ever ended.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> Result<(), Failure> {
        let Self {
            https,
            metrics,
            tls,
            router,
            readiness,
            registry,
            mut background,
            sink,
            traces,
            hand_over,
            drain,
            api,
            resolver,
        } = self;
        tracing::info!(
            https = https.local_addr().ok().map(tracing::field::display),
            metrics = metrics.local_addr().ok().map(tracing::field::display),
            "listening"
        );
        let (stop_metrics, stopped) = oneshot::channel::<()>();
        let health = keeper_telemetry::serve(metrics, registry, readiness.clone(), async {
            let _ = stopped.await;
        });
        let health = tokio::spawn(health);
        let known = async {
            while resolver.current().is_none() || api.cluster().is_none() {
                sleep(START_LOOK).await;
            }
        };
        let started = async {
            let _ = timeout(START_PATIENCE, known).await;
        };
        let (told, end) = oneshot::channel();
        let shutdown = async {
            shutdown.await;
            let _ = told.send(Instant::now() + drain.delay + drain.deadline);
            if let Some(hand_over) = hand_over {
                hand_over.run().await;
            }
        };
        let ended = tokio::select! {
            () = listener::serve(https, tls, router, readiness, drain, started, shutdown) => Ok(()),
            Some(_) = background.join_next() => Err(Failure::Background),
        };
        if let Some(sink) = sink {
            let at_least = Instant::now() + LAST_ENTRIES;
            let end = end.await.map_or(at_least, |end| end.max(at_least));
            audit::finish(&sink.queue, sink.task, end, &sink.metrics).await;
        }
        traces.finish().await;
        // Health is answered to the end.
        drop(stop_metrics);
        let _ = health.await;
        ended
    }
}

/// What both kinds of certificate keeping need.
struct CertificateParts {
    names: Names,
    provider: Arc<CryptoProvider>,
    resolver: Arc<Resolver>,
    metrics: Metrics,
    leadership: Leadership,
}

impl CertificateParts {
    fn auto(
        self,
        options: &Serve,
        namespace: &str,
        client: kube::Client,
        latches: (Latch, Latch),
        background: &mut JoinSet<()>,
    ) -> Result<(), Failure> {
        let store = KubeStore::new(
            client.clone(),
            namespace,
            &options.tls_secret,
            &options.webhook_configuration,
            options.validating_webhook_configuration.as_deref(),
        );
        let changed = Arc::new(Notify::new());
        background.spawn(store.clone().watch(client, Arc::clone(&changed)));
        let authority = Authority {
            names: self.names,
            policy: Policy::new(options.ca_lifetime, options.certificate_lifetime)?,
            provider: self.provider,
        };
        let expiry = self.metrics.certificate_expiry;
        let auto = Auto {
            store,
            authority,
            leadership: self.leadership,
            resolver: self.resolver,
            expiry,
            changed,
            clock: Box::new(|| unix(SystemTime::now())),
        };
        background.spawn(auto.run(latches.0, latches.1));
        Ok(())
    }

    fn manual(self, options: &Serve, background: &mut JoinSet<()>) -> Result<(), Failure> {
        let (Some(crt), Some(key)) = (&options.tls_cert, &options.tls_key) else {
            return Err(Failure::Manual(
                "--tls-cert and --tls-key are needed".to_owned(),
            ));
        };
        let manual = Manual {
            crt: crt.clone(),
            key: key.clone(),
            ca: options.tls_ca.clone(),
            names: self.names.called(),
            provider: self.provider,
            resolver: self.resolver,
            expiry: self.metrics.certificate_expiry,
        };
        background.spawn(manual.start()?);
        Ok(())
    }
}

/// How a leader is elected; none: it isn't, since nobody wants it or there is nothing for it to do.
fn election(options: &Serve) -> Result<Option<Timing>, Failure> {
    let election = &options.leader_election;
    if !election.enabled && election.traffic_to_leader_only {
        let cure = "--traffic-to-leader-only needs --leader-election true";
        return Err(Failure::LeaderElection(cure.to_owned()));
    }
    if !election.enabled || !options.needs_leader() {
        return Ok(None);
    }
    let timing = Timing::of(election);
    timing
        .map(Some)
        .map_err(|error| Failure::LeaderElection(error.to_string()))
}

async fn client() -> Result<kube::Client, Failure> {
    kube::Client::try_default()
        .await
        .map_err(|error| Failure::Kubernetes(error.to_string()))
}

async fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    listen(address)
        .await
        .map_err(|error| Failure::Bind { address, error })
}
