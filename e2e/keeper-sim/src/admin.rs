//! The admin API: plain HTTP and small JSON, for the command line and for `curl` in somebody's CI.
//!
//! It has no authentication. It belongs on a loopback address or into a test cluster.

use std::io;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::sim::{SimError, SimHandle};
use crate::vault::{Edit, EditError};
use crate::{Fault, Sim};

/// What the handlers share.
#[derive(Clone)]
struct Admin {
    sim: SimHandle,
    ca_pem: String,
}

/// Asks for another server key.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rotate {
    /// Its id; the next one, where it is left out.
    #[serde(default)]
    pub(crate) id: Option<u32>,
}

/// Sets the service's clock.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Clock {
    /// Milliseconds that it is ahead.
    pub(crate) offset_ms: i64,
}

/// A new one-time token.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Token {
    pub(crate) token: String,
    pub(crate) hostname: String,
}

/// Why something was refused.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Refused {
    pub(crate) error: String,
}

/// Serves the admin API of `sim` for ever.
///
/// # Errors
/// When the listener fails.
pub async fn serve(listener: TcpListener, sim: &Sim) -> io::Result<()> {
    axum::serve(listener, router(sim)).await
}

fn router(sim: &Sim) -> Router {
    let admin = Admin {
        sim: sim.handle(),
        ca_pem: sim.ca_pem().to_owned(),
    };
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/ca.crt", get(ca))
        .route("/config", get(first_config))
        .route("/clients", get(clients))
        .route("/clients/{name}/config", get(config))
        .route("/clients/{name}/token", post(token))
        .route("/clients/{name}/revoke", post(revoke))
        .route("/clients/{name}/unrevoke", post(unrevoke))
        .route("/records", get(records))
        .route("/edits", post(edit))
        .route("/calls", get(calls).delete(reset_calls))
        .route("/requests", get(requests))
        .route("/faults", get(faults).post(fault).delete(clear_faults))
        .route("/server-key", post(rotate))
        .route("/clock", put(clock))
        .fallback(|| async { refused(StatusCode::NOT_FOUND, "no such path") })
        .with_state(admin)
}

async fn ca(State(admin): State<Admin>) -> String {
    admin.ca_pem
}

async fn first_config(State(admin): State<Admin>) -> Response {
    text_or_refused(admin.sim.device_config())
}

async fn config(State(admin): State<Admin>, Path(name): Path<String>) -> Response {
    text_or_refused(admin.sim.device_config_of(&name))
}

async fn clients(State(admin): State<Admin>) -> Response {
    json(&admin.sim.clients())
}

async fn token(State(admin): State<Admin>, Path(name): Path<String>) -> Response {
    match admin.sim.new_token(&name) {
        Ok(token) => json(&Token {
            token,
            hostname: admin.sim.hostname().to_owned(),
        }),
        Err(error) => sim_refused(&error),
    }
}

async fn revoke(State(admin): State<Admin>, Path(name): Path<String>) -> Response {
    done(admin.sim.set_revoked(&name, true))
}

async fn unrevoke(State(admin): State<Admin>, Path(name): Path<String>) -> Response {
    done(admin.sim.set_revoked(&name, false))
}

async fn records(State(admin): State<Admin>) -> Response {
    json(&admin.sim.records())
}

async fn edit(State(admin): State<Admin>, body: String) -> Response {
    let edit: Edit = match parse(&body) {
        Ok(edit) => edit,
        Err(bad) => return refused(StatusCode::BAD_REQUEST, &bad.error),
    };
    match admin.sim.edit(&edit) {
        Ok(edited) => json(&edited),
        Err(error @ (EditError::NoRecord { .. } | EditError::NoFolder(_))) => {
            refused(StatusCode::NOT_FOUND, &error.to_string())
        }
        Err(error @ EditError::Ambiguous { .. }) => {
            refused(StatusCode::CONFLICT, &error.to_string())
        }
        Err(error) => refused(StatusCode::BAD_REQUEST, &error.to_string()),
    }
}

async fn calls(State(admin): State<Admin>) -> Response {
    json(&admin.sim.calls())
}

async fn reset_calls(State(admin): State<Admin>) -> Response {
    json(&admin.sim.reset_calls())
}

async fn requests(State(admin): State<Admin>) -> Response {
    json(&admin.sim.requests())
}

async fn faults(State(admin): State<Admin>) -> Response {
    json(&admin.sim.faults())
}

async fn fault(State(admin): State<Admin>, body: String) -> Response {
    match parse::<Fault>(&body) {
        Ok(fault) => {
            admin.sim.fault(fault);
            json(&admin.sim.faults())
        }
        Err(bad) => refused(StatusCode::BAD_REQUEST, &bad.error),
    }
}

async fn clear_faults(State(admin): State<Admin>) -> Response {
    admin.sim.clear_faults();
    json(&admin.sim.faults())
}

async fn rotate(State(admin): State<Admin>, body: String) -> Response {
    let rotate = if body.is_empty() {
        Ok(Rotate::default())
    } else {
        parse::<Rotate>(&body)
    };
    let rotated = match rotate {
        Ok(Rotate { id }) => admin.sim.rotate_server_key(id),
        Err(bad) => return refused(StatusCode::BAD_REQUEST, &bad.error),
    };
    match rotated {
        Ok(id) => json(&Rotate { id: Some(id) }),
        Err(error) => sim_refused(&error),
    }
}

async fn clock(State(admin): State<Admin>, body: String) -> Response {
    match parse::<Clock>(&body) {
        Ok(clock) => {
            admin.sim.set_clock_offset_ms(clock.offset_ms);
            json(&clock)
        }
        Err(bad) => refused(StatusCode::BAD_REQUEST, &bad.error),
    }
}

fn parse<T: DeserializeOwned>(body: &str) -> Result<T, Refused> {
    serde_json::from_str(body).map_err(|error| Refused {
        error: error.to_string(),
    })
}

fn json(value: &impl Serialize) -> Response {
    match serde_json::to_string(value) {
        Ok(text) => json_text(text),
        Err(error) => refused(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn json_text(text: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

fn text_or_refused(text: Result<String, SimError>) -> Response {
    text.map_or_else(|error| sim_refused(&error), json_text)
}

fn done(result: Result<(), SimError>) -> Response {
    match result {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => sim_refused(&error),
    }
}

fn sim_refused(error: &SimError) -> Response {
    let status = match error {
        SimError::NoClient { .. } => StatusCode::NOT_FOUND,
        SimError::NoConfig(_) => StatusCode::CONFLICT,
        SimError::Listen { .. }
        | SimError::Identity(_)
        | SimError::Pki(_)
        | SimError::StateDir(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    refused(status, &error.to_string())
}

fn refused(status: StatusCode, error: &str) -> Response {
    let body = Refused {
        error: error.to_owned(),
    };
    (status, json(&body)).into_response()
}
