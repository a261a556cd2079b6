//! `keeper-sim fault`.

use clap::{Args, Subcommand};
use hyper::Method;

use super::CliError;
use super::admin_client::AdminClient;
use crate::{Fault, FaultKind};

/// Arguments of `fault`.
#[derive(Debug, Args)]
pub(super) struct FaultArgs {
    #[command(subcommand)]
    what: What,
    /// Only to the next N requests that fit; until `fault clear` if not given.
    #[arg(long, global = true, value_name = "N")]
    times: Option<u32>,
    /// Only to this endpoint: get_secret, get_folders, file (downloads), …
    #[arg(long, global = true)]
    endpoint: Option<String>,
    /// Only to the client of this name.
    #[arg(long, global = true)]
    client: Option<String>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// End all faults.
    Clear,
    /// List the faults that are set.
    List,
    /// Answer with a status and a body of your own.
    Status {
        /// HTTP status.
        #[arg(value_parser = clap::value_parser!(u16).range(200..600))]
        status: u16,
        /// Body.
        #[arg(long, default_value = "")]
        body: String,
        /// `Content-Type`; text/plain if not given.
        #[arg(long)]
        content_type: Option<String>,
    },
    /// 403 `throttled`.
    Throttled {
        /// `retry_after`: seconds, or any other JSON.
        #[arg(long, value_name = "JSON", value_parser = json)]
        retry_after: Option<serde_json::Value>,
    },
    /// 429 from the edge.
    TooManyRequests {
        /// `Retry-After` header.
        #[arg(long)]
        retry_after: Option<String>,
    },
    /// 502 with a gateway's text.
    BadGateway,
    /// 401 `key`: tell the client to use another server key.
    Key {
        /// Id of that key.
        id: u32,
    },
    /// 403 `invalid_client_version`.
    InvalidClientVersion,
    /// 403 `access_denied`.
    AccessDenied {
        /// Message; that of an unknown client if not given.
        #[arg(long)]
        message: Option<String>,
    },
    /// Answer so much later; adds to other faults.
    Latency {
        /// Milliseconds.
        ms: u64,
    },
    /// Never answer.
    Hang,
    /// Reset the connection.
    Reset,
    /// End the connection in the middle of the body.
    Truncate,
    /// Send half of the body, then nothing more.
    Stall,
    /// Answer with one bit of the sealed body wrong.
    CorruptTag,
    /// Answer 200 with bytes that are no sealed answer.
    Garbage,
    /// Answer 200 with an empty body.
    Empty,
    /// Answer with this text, correctly sealed.
    Plaintext {
        /// What is sealed.
        text: String,
    },
    /// Answer 200 with so much filler.
    Huge {
        /// Bytes.
        bytes: u64,
        /// Say so in `Content-Length`.
        #[arg(long)]
        declared: bool,
    },
    /// End all connections, and show new ones a certificate of an authority that nobody knows.
    UntrustedCertificate,
}

fn json(text: &str) -> Result<serde_json::Value, serde_json::Error> {
    serde_json::from_str(text)
}

/// Does it, and returns the faults that are set then.
pub(super) async fn send(
    arguments: FaultArgs,
    client: &AdminClient<'_>,
) -> Result<Vec<Fault>, CliError> {
    let kind = match arguments.what {
        What::Clear => return client.json(Method::DELETE, "/faults", None::<&()>).await,
        What::List => return client.get("/faults").await,
        What::Status {
            status,
            body,
            content_type,
        } => FaultKind::Status {
            status,
            body,
            content_type,
            headers: Vec::new(),
        },
        What::Throttled { retry_after } => FaultKind::Throttled { retry_after },
        What::TooManyRequests { retry_after } => FaultKind::TooManyRequests { retry_after },
        What::BadGateway => FaultKind::BadGateway,
        What::Key { id } => FaultKind::Key { key_id: id },
        What::InvalidClientVersion => FaultKind::InvalidClientVersion,
        What::AccessDenied { message } => FaultKind::AccessDenied { message },
        What::Latency { ms } => FaultKind::Latency { ms },
        What::Hang => FaultKind::Hang,
        What::Reset => FaultKind::Reset,
        What::Truncate => FaultKind::Truncate,
        What::Stall => FaultKind::Stall,
        What::CorruptTag => FaultKind::CorruptTag,
        What::Garbage => FaultKind::Garbage,
        What::Empty => FaultKind::Empty,
        What::Plaintext { text } => FaultKind::Plaintext { text },
        What::Huge { bytes, declared } => FaultKind::Huge { bytes, declared },
        What::UntrustedCertificate => FaultKind::UntrustedCertificate,
    };
    let fault = Fault {
        kind,
        times: arguments.times,
        endpoint: arguments.endpoint,
        client: arguments.client,
    };
    client.json(Method::POST, "/faults", Some(&fault)).await
}
