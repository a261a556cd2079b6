//! The command line.

mod admin_client;
mod commands;
mod fault;
mod serve;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};

use crate::throttle;
use crate::vault::{Change, Edit};
use crate::{Json, SimError, VaultError};
use fault::FaultArgs;

/// A faithful Keeper Secrets Manager server for tests.
///
/// `serve` runs one; all other commands talk to the admin port of one that runs.
#[derive(Debug, Parser)]
#[command(name = "keeper-sim", version, arg_required_else_help = true)]
pub struct Cli {
    /// Admin port: where `serve` listens, and what the other commands talk to.
    #[arg(
        long,
        global = true,
        env = "KEEPER_SIM_ADMIN",
        default_value = "http://127.0.0.1:8444",
        value_name = "URL"
    )]
    admin: AdminAddress,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve a vault until SIGTERM.
    Serve(ServeArgs),
    #[command(flatten)]
    Remote(Remote),
}

/// Commands that talk to a running service.
#[derive(Debug, Subcommand)]
enum Remote {
    /// Change fields of a record; its revision grows by it.
    Set {
        /// UID, title, or folder path and title.
        record: String,
        /// `field=text`, or `field:=JSON` (an array is the list of all values). `title`, `notes` and `type`
        /// are the record's own; a field is named by label or type, and added if there is none.
        #[arg(required = true, value_name = "FIELD=VALUE")]
        changes: Vec<ChangeArg>,
    },
    /// Add a record.
    Add {
        /// Title of the new record.
        title: String,
        /// Fields, as in `set`.
        #[arg(value_name = "FIELD=VALUE")]
        changes: Vec<ChangeArg>,
        /// Record type.
        #[arg(long = "type", default_value = "login", value_name = "TYPE")]
        kind: String,
        /// UID of the new record; random if not given.
        #[arg(long)]
        uid: Option<String>,
        /// Folder (path or UID) to put it in; shared with the application itself if not given.
        #[arg(long)]
        folder: Option<String>,
    },
    /// Remove a record.
    Rm {
        /// UID, title, or folder path and title.
        record: String,
    },
    /// Move a record to another folder.
    Mv {
        /// UID, title, or folder path and title.
        record: String,
        /// Path or UID of the folder; `/` for outside all folders.
        folder: String,
    },
    /// Make a folder, and what is missing above it.
    Mkdir {
        /// Path, which begins with the shared folder's name.
        path: String,
    },
    /// Give a folder another name.
    RenameFolder {
        /// Path or UID.
        folder: String,
        /// The new name.
        name: String,
    },
    /// Remove a folder, with what lies in it and below.
    Rmdir {
        /// Path or UID.
        folder: String,
    },
    /// Add an attachment to a record, or replace the one of this name.
    Attach {
        /// UID, title, or folder path and title of the record.
        record: String,
        /// File to attach.
        path: PathBuf,
        /// Name of the attachment; that of the file if not given.
        #[arg(long)]
        name: Option<String>,
    },
    /// Remove an attachment.
    Detach {
        /// UID, title, or folder path and title of the record.
        record: String,
        /// Name of the attachment.
        name: String,
    },
    /// List records: UID, revision, path. No values.
    Ls,
    /// Print the CA certificate.
    Ca,
    /// Print a device config.
    Config {
        /// Which client's; the first that has one if not given.
        #[arg(long)]
        client: Option<String>,
        /// In base64, as `KSM_CONFIG` has it.
        #[arg(long)]
        base64: bool,
    },
    /// List clients: name, state, client id, and the token of those that aren't bound yet.
    Clients,
    /// Print a one-time token for a new client; an older client of this name is forgotten.
    Token {
        /// Name of the client.
        client: String,
    },
    /// Withdraw a client's access.
    Revoke {
        /// Name of the client.
        client: String,
    },
    /// Give a client its access back.
    Unrevoke {
        /// Name of the client.
        client: String,
    },
    /// Use another server key: clients under the old one are told so. Prints its id.
    RotateServerKey {
        /// Id of the key; the next one if not given.
        #[arg(long)]
        id: Option<u32>,
    },
    /// Print how often each client called each endpoint.
    Calls {
        /// As JSON.
        #[arg(long)]
        json: bool,
        /// Begin at zero afterwards; also forgets the request log.
        #[arg(long)]
        reset: bool,
    },
    /// Print the latest requests, one JSON object a line.
    Requests,
    /// Let something go wrong.
    Fault(FaultArgs),
    /// Set how far the server's clock is ahead.
    Clock {
        /// Milliseconds; negative for behind.
        #[arg(allow_negative_numbers = true)]
        offset_ms: i64,
    },
}

#[derive(Debug, Args)]
struct ServeArgs {
    /// Vault file (YAML).
    #[arg(long, value_name = "FILE")]
    vault: PathBuf,
    /// Address to serve on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:8443", value_name = "ADDRESS")]
    listen: std::net::SocketAddr,
    /// `host:port` as clients reach it: for device configs, file URLs and the certificate.
    /// `localhost` and the port if not given.
    #[arg(long, value_name = "HOST:PORT")]
    hostname: Option<String>,
    /// Further name or address for the certificate. May be repeated.
    #[arg(long = "san", value_name = "NAME")]
    sans: Vec<String>,
    /// Directory where keys and CA are kept, so that device configs stay valid; `device-config.json`,
    /// `device-config.b64` and `ca.crt` are written there. Nothing is written elsewhere.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Certificate chain (PEM) to serve with instead of an own one.
    #[arg(long, value_name = "FILE", requires = "key", requires = "ca_cert")]
    cert: Option<PathBuf>,
    /// Key (PEM) of `--cert`.
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Certificate (PEM) of the authority that issued `--cert`.
    #[arg(long, value_name = "FILE", requires = "cert")]
    ca_cert: Option<PathBuf>,
    /// Let everything pass.
    #[arg(long)]
    no_throttle: bool,
    /// Requests that a client id may make to an endpoint before it is refused.
    #[arg(long, default_value_t = throttle::LIMIT, value_name = "N")]
    throttle_limit: u32,
    /// Silence that clears the counter, in milliseconds.
    #[arg(long, default_value_t = throttle::WINDOW_MS, value_name = "MS")]
    throttle_window_ms: u64,
    /// How long the URL of an attachment works, in seconds.
    #[arg(long, default_value_t = 900, value_name = "S")]
    file_url_lifetime: u64,
    /// error, warn, info, debug or trace; to standard error.
    #[arg(long, default_value = "info", env = "KEEPER_SIM_LOG")]
    log_level: tracing::level_filters::LevelFilter,
}

/// `host:port`, also written as `http://host:port/`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct AdminAddress(String);

impl FromStr for AdminAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address = text.strip_prefix("http://").unwrap_or(text);
        let address = address.strip_suffix('/').unwrap_or(address);
        match address.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
                Ok(Self(address.to_owned()))
            }
            _ => Err("must be http://HOST:PORT".to_owned()),
        }
    }
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.0)
    }
}

/// `name=text` or `name:=JSON`.
#[derive(Debug, Clone)]
struct ChangeArg(Change);

impl FromStr for ChangeArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').ok_or("must be FIELD=VALUE")?;
        let (name, value) = match name.strip_suffix(':') {
            Some(name) => (
                name,
                serde_json::from_str(value).map_err(|e| e.to_string())?,
            ),
            None => (name, Json::string(value)),
        };
        if name.is_empty() {
            return Err("the field's name is missing".to_owned());
        }
        Ok(Self(Change {
            name: name.to_owned(),
            value,
        }))
    }
}

fn changes(arguments: Vec<ChangeArg>) -> Vec<Change> {
    arguments.into_iter().map(|argument| argument.0).collect()
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The service can't be started.
    #[error(transparent)]
    Sim(#[from] SimError),
    /// The vault can't be loaded.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// A file can't be read.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The admin port can't be served.
    #[error("admin port {address}: {source}")]
    Listen {
        /// Which address.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Nobody answers on the admin port.
    #[error("no answer from keeper-sim at {address}: {problem} (is it running? see --admin)")]
    Unreachable {
        /// Which address.
        address: String,
        /// What happened.
        problem: String,
    },
    /// The service refused.
    #[error("{0}")]
    Refused(String),
    /// Standard output is closed, or signals can't be received.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Does what the command line says.
///
/// # Errors
/// [`CliError`], to be printed.
pub async fn run(cli: Cli) -> Result<(), CliError> {
    match cli.command {
        Command::Serve(arguments) => serve::run(arguments, &cli.admin).await,
        Command::Remote(command) => commands::run(command, &cli.admin).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn addresses_are_taken_with_and_without_scheme() {
        let parse = |text: &str| text.parse::<AdminAddress>().map(|address| address.0);
        for text in ["localhost:1", "http://localhost:1", "http://localhost:1/"] {
            assert_eq!(parse(text).unwrap(), "localhost:1");
        }
        for text in ["", "localhost", "http://:1", "https://x:1/y", "x:99999"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn changes_are_text_or_json() {
        let parse = |text: &str| text.parse::<ChangeArg>().map(|argument| argument.0);
        let text = parse("password=a=b").unwrap();
        assert_eq!(
            (text.name.as_str(), text.value),
            ("password", Json::string("a=b"))
        );
        let json = parse(r#"host:={"hostName":"x"}"#).unwrap();
        assert_eq!(json.value.to_text(), r#"{"hostName":"x"}"#);
        for bad in ["password", "=x", "a:=nope", ":=1"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
