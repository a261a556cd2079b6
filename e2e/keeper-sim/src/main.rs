//! `keeper-sim`: see the library.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use keeper_sim::cli::{Cli, run};

#[tokio::main]
async fn main() -> ExitCode {
    match run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where even standard error is closed, the exit code has to do.
            let _ = writeln!(std::io::stderr(), "keeper-sim: {error}");
            ExitCode::FAILURE
        }
    }
}
