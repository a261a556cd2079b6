//! The floor beside which the webhook is measured.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use keeper_admission_bench::floor;
use tokio::net::TcpListener;

/// Answers every admission review with the same empty patch.
#[derive(Parser)]
struct Options {
    /// Address to serve HTTPS on.
    #[arg(long)]
    listen: SocketAddr,
    /// Certificate, PEM.
    #[arg(long)]
    tls_cert: PathBuf,
    /// Its private key, PEM.
    #[arg(long)]
    tls_key: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let (certificate, key) = (fs::read(options.tls_cert)?, fs::read(options.tls_key)?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(options.listen).await?;
        floor::serve(listener, &certificate, &key).await
    })
}
