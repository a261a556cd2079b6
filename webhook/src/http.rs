//! The HTTPS port's routes: `POST /mutate`, `GET /healthz`, `GET /readyz`.
//!
//! A body is bounded in size and time, and all bodies together in size: what a peer can make this
//! process hold does not depend on how many connections it opens.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use keeper_telemetry::Readiness;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::admission::Admission;

/// An API server's objects have at most 3 MiB, and a review may hold an object twice.
const MAX_BODY: usize = 8 * 1024 * 1024;
/// All bodies that are read or answered at one time.
const MAX_BODIES: usize = 4 * MAX_BODY;
/// From the end of a request's head to the end of its body.
const BODY_DEADLINE: Duration = Duration::from_secs(10);
/// Unit in which bodies are accounted for.
const KIB: usize = 1024;

struct Shared {
    admission: Admission,
    readiness: Readiness,
    /// Permits of one KiB each.
    memory: Semaphore,
}

/// The routes.
pub(crate) fn router(admission: Admission, readiness: Readiness) -> Router {
    let memory = Semaphore::new(MAX_BODIES / KIB);
    Router::new()
        .route("/mutate", post(mutate))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .with_state(Arc::new(Shared {
            admission,
            readiness,
            memory,
        }))
}

async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    shared.readiness.report().into_response()
}

async fn mutate(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    match read_and_answer(&shared, &head.headers, body).await {
        Ok(answer) => ([(CONTENT_TYPE, "application/json")], answer).into_response(),
        Err((status, problem)) => {
            tracing::warn!(
                status = status.as_u16(),
                reason = problem,
                "unreadable admission review"
            );
            (status, format!("{problem}\n")).into_response()
        }
    }
}

async fn read_and_answer(
    shared: &Shared,
    headers: &HeaderMap,
    body: Body,
) -> Result<Vec<u8>, (StatusCode, String)> {
    let refuse = |status, problem: &str| Err((status, problem.to_owned()));
    let content_type = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let media_type = content_type
        .and_then(|value| value.split(';').next())
        .unwrap_or_default();
    if !media_type.trim().eq_ignore_ascii_case("application/json") {
        return refuse(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the content type is not application/json",
        );
    }
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok())
        // A chunked body may turn out to be of any size.
        .unwrap_or(MAX_BODY);
    if announced > MAX_BODY {
        return refuse(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the body is larger than 8 MiB",
        );
    }
    let permits = u32::try_from(announced.div_ceil(KIB)).unwrap_or(u32::MAX);
    let read = async {
        let memory = shared.memory.acquire_many(permits).await;
        (memory, Limited::new(body, MAX_BODY).collect().await)
    };
    let Ok((_memory, body)) = timeout(BODY_DEADLINE, read).await else {
        return refuse(
            StatusCode::REQUEST_TIMEOUT,
            "the body did not arrive within 10 s",
        );
    };
    match body {
        Ok(body) => shared
            .admission
            .answer(&body.to_bytes())
            .map_err(|error| (StatusCode::BAD_REQUEST, error.to_string())),
        Err(error) if error.is::<LengthLimitError>() => refuse(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the body is larger than 8 MiB",
        ),
        Err(_) => refuse(StatusCode::BAD_REQUEST, "the body broke off"),
    }
}
