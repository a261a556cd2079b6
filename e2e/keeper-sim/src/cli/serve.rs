//! `keeper-sim serve`.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::{AdminAddress, CliError, ServeArgs};
use crate::sim::{ForeignCertificate, Options};
use crate::state_dir::StateDir;
use crate::throttle::Throttle;
use crate::{Sim, SimError, Vault, admin};

/// Serves until SIGTERM or SIGINT.
pub(super) async fn run(arguments: ServeArgs, admin: &AdminAddress) -> Result<(), CliError> {
    tracing_subscriber::fmt()
        .with_max_level(arguments.log_level)
        .with_writer(io::stderr)
        .with_ansi(false)
        .init();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;

    let vault = Vault::load(&arguments.vault)?;
    let listen = |source| CliError::Listen {
        address: admin.to_string(),
        source,
    };
    let admin_listener = TcpListener::bind(&admin.0).await.map_err(listen)?;
    let admin_address = admin_listener.local_addr().map_err(listen)?;
    let state_dir = arguments.state_dir.clone();
    let sim = Sim::start(vault, options(arguments)?).await?;

    let ready = serde_json::json!({
        "level": "info",
        "msg": "keeper-sim is ready",
        "listen": sim.address(),
        "admin": format!("http://{admin_address}"),
        "hostname": sim.hostname(),
        "stateDir": state_dir,
    });
    writeln!(io::stdout(), "{ready}")?;

    tokio::select! {
        result = admin::serve(admin_listener, &sim) => result.map_err(listen),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

fn options(arguments: ServeArgs) -> Result<Options, CliError> {
    let certificate = match (arguments.cert, arguments.key, arguments.ca_cert) {
        (Some(chain), Some(key), Some(ca)) => Some(ForeignCertificate {
            chain: read(chain)?,
            key: read(key)?,
            ca: String::from_utf8_lossy(&read(ca)?).into_owned(),
        }),
        _ => None,
    };
    let foreign_ca = certificate.as_ref().map(|given| given.ca.clone());
    let state_dir = arguments.state_dir.as_deref();
    let state_dir = state_dir
        .map(|path| StateDir::open(path, foreign_ca))
        .transpose();
    let throttle = Throttle::new(arguments.throttle_limit, arguments.throttle_window_ms);
    Ok(Options {
        listen: arguments.listen,
        hostname: arguments.hostname,
        sans: arguments.sans,
        throttle: (!arguments.no_throttle).then_some(throttle),
        file_url_lifetime: Duration::from_secs(arguments.file_url_lifetime),
        state_dir: state_dir.map_err(SimError::from)?,
        certificate,
    })
}

fn read(path: PathBuf) -> Result<Vec<u8>, CliError> {
    std::fs::read(&path).map_err(|source| CliError::File { path, source })
}
