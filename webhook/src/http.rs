//! The HTTPS port's routes: `POST /mutate`, `POST /validate`, `GET /healthz`, `GET /readyz`.
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
use http_body_util::BodyExt;
use keeper_telemetry::Readiness;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::admission::Admission;

/// An API server's objects have at most 3 MiB, and a review may hold an object twice.
const MAX_BODY: usize = 8 * 1024 * 1024;
/// All bodies that are read or answered at one time.
const MAX_BODIES: usize = 4 * MAX_BODY;
/// From the end of a request's head to the end of its body.
const BODY_DEADLINE: Duration = Duration::from_secs(10);
/// Which trace a request is part of: <https://www.w3.org/TR/trace-context/>.
const TRACEPARENT: &str = "traceparent";
const TOO_LARGE: &str = "the body is larger than 8 MiB";

struct Shared {
    admission: Admission,
    readiness: Readiness,
    /// One permit a byte.
    memory: Semaphore,
}

/// The routes.
pub(crate) fn router(admission: Admission, readiness: Readiness) -> Router {
    let memory = Semaphore::new(MAX_BODIES);
    Router::new()
        .route("/mutate", post(mutate))
        .route("/validate", post(validate))
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

/// What is asked about.
#[derive(Debug, Clone, Copy)]
enum Asked {
    /// A pod, which may be patched.
    Mutate,
    /// What makes pods, which is warned of.
    Validate,
}

async fn mutate(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Response {
    respond(&shared, Asked::Mutate, request).await
}

async fn validate(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Response {
    respond(&shared, Asked::Validate, request).await
}

async fn respond(shared: &Shared, asked: Asked, request: Request<Body>) -> Response {
    let _in_flight = shared.admission.metrics().in_flight();
    let (head, body) = request.into_parts();
    match read_and_answer(shared, asked, &head.headers, body).await {
        Ok(answer) => ([(CONTENT_TYPE, "application/json")], answer).into_response(),
        Err((status, problem)) => {
            shared.admission.metrics().unreadable(status.as_u16());
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
    asked: Asked,
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
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > MAX_BODY) {
        return refuse(StatusCode::PAYLOAD_TOO_LARGE, TOO_LARGE);
    }
    match timeout(BODY_DEADLINE, read(shared, body)).await {
        // The memory counts as taken until the answer is made.
        Ok(Ok((bytes, _memory))) => match asked {
            Asked::Mutate => {
                let parent = headers
                    .get(TRACEPARENT)
                    .and_then(|value| value.to_str().ok());
                shared.admission.answer(&bytes, parent).await
            }
            Asked::Validate => shared.admission.check(&bytes).await,
        }
        .map_err(|error| (StatusCode::BAD_REQUEST, error.to_string())),
        Ok(Err((status, problem))) => refuse(status, problem),
        Err(_) => refuse(
            StatusCode::REQUEST_TIMEOUT,
            "the body did not arrive within 10 s",
        ),
    }
}

/// The whole body. Memory is taken as bytes arrive, so that who only announces holds nothing.
async fn read(
    shared: &Shared,
    mut body: Body,
) -> Result<(Vec<u8>, Option<SemaphorePermit<'_>>), (StatusCode, &'static str)> {
    let mut bytes = Vec::new();
    let mut memory: Option<SemaphorePermit<'_>> = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| (StatusCode::BAD_REQUEST, "the body broke off"))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if bytes.len() + data.len() > MAX_BODY {
            return Err((StatusCode::PAYLOAD_TOO_LARGE, TOO_LARGE));
        }
        let more = u32::try_from(data.len())
            .ok()
            .and_then(|length| shared.memory.try_acquire_many(length).ok())
            .ok_or((
                StatusCode::SERVICE_UNAVAILABLE,
                "too many large bodies at once",
            ))?;
        match &mut memory {
            Some(memory) => memory.merge(more),
            None => memory = Some(more),
        }
        bytes.extend_from_slice(&data);
    }
    Ok((bytes, memory))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use prometheus::Registry;

    use super::*;
    use crate::audit::Trail;
    use crate::metrics::Metrics;
    use crate::namespaces::Namespaces;

    #[tokio::test]
    async fn all_bodies_together_are_bounded_and_the_memory_comes_back() {
        let metrics = Metrics::new(&Registry::new()).unwrap();
        let shared = Shared {
            admission: Admission::new(
                Box::new(|_, _| None),
                Namespaces::silent(),
                metrics,
                Trail::default(),
            ),
            readiness: Readiness::new(),
            memory: Semaphore::new(1000),
        };
        let json =
            HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        let status = async |length: usize| {
            let answer = read_and_answer(
                &shared,
                Asked::Mutate,
                &json,
                Body::from(vec![b'x'; length]),
            )
            .await;
            answer.unwrap_err().0
        };
        assert_eq!(status(1001).await, StatusCode::SERVICE_UNAVAILABLE);
        for _ in 0..3 {
            assert_eq!(
                status(1000).await,
                StatusCode::BAD_REQUEST,
                "read, and not JSON"
            );
        }
        let (_, held) = read(&shared, Body::from(vec![b'x'; 600])).await.unwrap();
        assert_eq!(status(600).await, StatusCode::SERVICE_UNAVAILABLE);
        drop(held);
        assert_eq!(status(600).await, StatusCode::BAD_REQUEST);
    }
}
