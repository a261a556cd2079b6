//! The command line: one binary under two names.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use keeper_contract::layout::{INIT_CONTAINER, VOLUME_DIR};

/// What to do, and where.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Invocation {
    pub(crate) task: Task,
    pub(crate) places: Places,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// Fetch once and exit.
    FirstFetch,
    /// Fetch, and go on refreshing.
    Run,
    /// Return when the first publication is complete.
    Wait,
    /// Say how the pod stands.
    Status(Output),
    /// Ask the process that runs for a refresh.
    Refresh {
        /// Return when it is over.
        wait: bool,
        /// Seconds that each step may take.
        timeout: u64,
    },
}

/// Shape of what is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// For scripts.
    Json,
}

/// Where things are.
#[derive(Debug, Args, PartialEq, Eq)]
pub(crate) struct Places {
    /// The memory-backed volume that is published into
    #[arg(long, global = true, default_value = VOLUME_DIR)]
    pub(crate) volume: PathBuf,
    /// Where the kubelet looks for the last words of this container
    #[arg(long, global = true, default_value = "/dev/termination-log")]
    pub(crate) termination_log: PathBuf,
}

/// Fetches secrets from Keeper into this pod and keeps them fresh.
#[derive(Debug, Parser)]
#[command(name = "keeper-sidecar", version)]
struct Sidecar {
    #[command(subcommand)]
    command: SidecarCommand,
    #[command(flatten)]
    places: Places,
}

#[derive(Debug, Subcommand)]
enum SidecarCommand {
    /// Fetch, publish, and refresh until SIGTERM
    Run,
    /// Return when the secrets are published, for the postStart hook
    Wait,
    /// List the files, their records and ages, and the next call; no value
    Status {
        /// Shape of the list
        #[arg(long, short, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Ask for a refresh in the next frame that Keeper's rate limit allows
    Refresh {
        /// Return when it is over, and say what came of it
        #[arg(long)]
        wait: bool,
        /// Seconds to wait at most
        #[arg(long, default_value_t = 60, requires = "wait", value_parser = clap::value_parser!(u64).range(1..=3600))]
        timeout: u64,
    },
}

/// Fetches secrets from Keeper into this pod once.
#[derive(Debug, Parser)]
#[command(name = "keeper-init", version)]
struct Init {
    #[command(flatten)]
    places: Places,
}

/// Reads a command line, the program's name included.
pub(crate) fn parse(arguments: Vec<OsString>) -> Result<Invocation, clap::Error> {
    let is_init = arguments
        .first()
        .and_then(|program| Path::new(program).file_name())
        .is_some_and(|name| name == INIT_CONTAINER);
    if is_init {
        let Init { places } = Init::try_parse_from(arguments)?;
        let task = Task::FirstFetch;
        return Ok(Invocation { task, places });
    }
    let Sidecar { command, places } = Sidecar::try_parse_from(arguments)?;
    let task = match command {
        SidecarCommand::Run => Task::Run,
        SidecarCommand::Wait => Task::Wait,
        SidecarCommand::Status { output } => Task::Status(output),
        SidecarCommand::Refresh { wait, timeout } => Task::Refresh { wait, timeout },
    };
    Ok(Invocation { task, places })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(line: &str) -> Result<Task, clap::error::ErrorKind> {
        let arguments = line.split(' ').map(Into::into).collect();
        parse(arguments)
            .map(|invocation| invocation.task)
            .map_err(|error| error.kind())
    }

    #[test]
    fn the_name_decides() {
        assert_eq!(task("/keeper-init"), Ok(Task::FirstFetch));
        assert_eq!(task("/keeper-sidecar run"), Ok(Task::Run));
        assert_eq!(task("keeper-sidecar wait"), Ok(Task::Wait));
        assert_eq!(
            task("keeper-sidecar status"),
            Ok(Task::Status(Output::Table))
        );
        assert_eq!(
            task("keeper-sidecar status -o json"),
            Ok(Task::Status(Output::Json))
        );
        let refresh = |wait, timeout| Ok(Task::Refresh { wait, timeout });
        assert_eq!(task("keeper-sidecar refresh"), refresh(false, 60));
        assert_eq!(
            task("keeper-sidecar refresh --wait --timeout 5"),
            refresh(true, 5)
        );
        assert!(task("keeper-sidecar refresh --timeout 5").is_err());
        assert!(task("keeper-sidecar refresh --wait --timeout 0").is_err());
        assert!(task("/keeper-sidecar").is_err());
        assert!(task("/keeper-sidecar refetch").is_err());
        assert!(task("/keeper-init run").is_err());
    }

    #[test]
    fn places_stand_before_or_behind_the_command() {
        for line in [
            "keeper-sidecar --volume /v run",
            "keeper-sidecar run --volume /v",
            "keeper-init --volume /v",
        ] {
            let arguments = line.split(' ').map(Into::into).collect();
            let places = parse(arguments).unwrap().places;
            assert_eq!(places.volume, Path::new("/v"));
            assert_eq!(places.termination_log, Path::new("/dev/termination-log"));
        }
        let arguments = vec!["keeper-init".into()];
        assert_eq!(
            parse(arguments).unwrap().places.volume,
            Path::new(VOLUME_DIR)
        );
    }
}
