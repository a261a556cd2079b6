//! Sends admission reviews to a webhook on this machine, and prints what became of them as one JSON object.

use std::fs;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use keeper_admission_bench::{Load, Pace, Target};

/// Sends one admission review again and again.
#[derive(Parser)]
struct Options {
    /// Address of the webhook, on this machine.
    #[arg(long)]
    address: SocketAddr,
    /// Name that its certificate is for.
    #[arg(long)]
    name: String,
    /// Its authority, PEM.
    #[arg(long)]
    ca: PathBuf,
    /// Path of the webhook.
    #[arg(long, default_value = "/mutate")]
    path: String,
    /// The review to send, JSON.
    #[arg(long)]
    body: PathBuf,
    /// Requests a second; without, as many as the connections carry.
    #[arg(long)]
    rate: Option<f64>,
    /// Requests in all.
    #[arg(long)]
    requests: u64,
    /// Connections: no more requests than this are under way at once.
    #[arg(long, default_value = "8")]
    connections: usize,
    /// A new connection, and a full TLS handshake, for each request.
    #[arg(long)]
    fresh: bool,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let target = Target::new(
        options.address,
        &options.name,
        &fs::read(options.ca)?,
        &options.path,
        fs::read(options.body)?,
    )?;
    let pace = options.rate.map_or(Pace::Maximum, Pace::Rate);
    let report = Load::new(
        target,
        pace,
        options.requests,
        options.connections,
        options.fresh,
    )?
    .run()?;
    writeln!(io::stdout(), "{}", serde_json::to_string(&report)?)?;
    Ok(())
}
