//! The binary `keeper-webhook`.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // The Kubernetes client builds its TLS configuration from the process's default provider and can't
    // be given one; everything else here is.
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        return ExitCode::FAILURE;
    }
    keeper_webhook::main(keeper_webhook::Cli::parse())
}
