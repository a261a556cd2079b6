//! The agent that runs in every injected pod; under the name `keeper-init`, the first fetch alone.

use std::process::ExitCode;

fn main() -> ExitCode {
    keeper_sidecar::main(std::env::args_os(), |name| std::env::var(name).ok())
}
