//! The service itself, without sockets: a request in, a reply out.
//!
//! The order of the checks is that of the protocol document: server key, transmission key, body, payload,
//! client version, client, signature, throttle. A fault that fits the request comes before all of them.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::HeaderMap;
use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::crypto::{self, CryptoError, Key};
use crate::faults::{FaultKind, Faults};
use crate::identity::Identity;
use crate::log::{Log, LoggedRequest, Outcome};
use crate::reply::{
    Answer, BAD_SIGNATURE_MESSAGE, Ending, Refusals, Reply, UNKNOWN_CLIENT_MESSAGE, distort,
};
use crate::state_dir::StateDir;
use crate::throttle::Throttle;
use crate::vault::Vault;
use crate::wire::{Answers, Binding, Payload};
use crate::{files, writes};

/// All that a running service knows.
pub(crate) struct Core {
    state: Mutex<State>,
    pub(crate) hostname: String,
    /// Ends all connections that are open.
    pub(crate) disconnect: Notify,
    started: Instant,
    state_dir: Option<StateDir>,
}

pub(crate) struct State {
    pub(crate) vault: Vault,
    pub(crate) identity: Identity,
    pub(crate) throttle: Option<Throttle>,
    pub(crate) faults: Faults,
    pub(crate) log: Log,
    /// How far the service's clock is ahead of ours, in milliseconds.
    pub(crate) clock_offset_ms: i64,
    pub(crate) file_url_lifetime: Duration,
}

/// What a request turned out to be.
struct Opened {
    transmission_key: Key,
    payload: Payload,
    raw: Value,
}

/// An answer and how it is to be counted.
type Judged = (Answer, Outcome);

impl Core {
    pub(crate) fn new(state: State, hostname: String, state_dir: Option<StateDir>) -> Self {
        Self {
            state: Mutex::new(state),
            hostname,
            disconnect: Notify::new(),
            started: Instant::now(),
            state_dir,
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock panics half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes keys and configs to the state directory, if there is one.
    pub(crate) fn persist(&self, state: &State) -> Result<(), crate::state_dir::StateDirError> {
        match &self.state_dir {
            Some(directory) => directory.save(&state.identity, &self.hostname),
            None => Ok(()),
        }
    }

    /// The time of the service in milliseconds since 1970.
    pub(crate) fn now_ms(state: &State) -> u64 {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(now.as_millis())
            .unwrap_or(u64::MAX)
            .saturating_add_signed(state.clock_offset_ms)
    }

    /// The `Date` of answers.
    pub(crate) fn date(&self) -> String {
        let now_ms = Self::now_ms(&self.lock());
        httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(now_ms))
    }

    /// Answers a call of the protocol.
    pub(crate) fn call(&self, endpoint: &str, headers: &HeaderMap, body: &[u8]) -> Reply {
        let state = &mut *self.lock();
        let refusals = Refusals {
            hostname: &self.hostname,
            endpoint,
            user_agent: header(headers, "user-agent").unwrap_or_default(),
        };
        let opened = open(state, headers, body, &refusals);
        let payload = opened.as_ref().ok().map(|opened| &opened.payload);
        let client_id = payload.and_then(|payload| payload.client_id.clone());
        let client = client_id.as_deref().and_then(|id| {
            let mut clients = state.identity.clients.iter();
            clients
                .find(|client| client.id == id)
                .map(|client| client.name.clone())
        });
        let version = payload
            .and_then(|p| p.client_version.clone())
            .unwrap_or_default();
        let raw = opened.as_ref().ok().map(|opened| opened.raw.clone());

        let struck = state.faults.strike(endpoint, client.as_deref());
        let replaced = struck
            .kind
            .as_ref()
            .and_then(|kind| refusals.fault(kind, &version));
        let (ending, outcome) = match (replaced, opened) {
            (Some(ending), _) => (ending, Outcome::Faulted),
            (None, Err(refused)) => (Ending::Answer(refused), Outcome::Refused),
            (None, Ok(opened)) => {
                let judged = self.judge(
                    state,
                    &opened,
                    headers,
                    body,
                    &refusals,
                    struck.kind.as_ref(),
                );
                let (mut answer, mut outcome) = judged.unwrap_or_else(|error| {
                    tracing::error!(%error, endpoint, "the answer could not be made");
                    let status = hyper::StatusCode::INTERNAL_SERVER_ERROR;
                    (
                        Answer::text(status, "Internal Server Error"),
                        Outcome::Refused,
                    )
                });
                if let Some(kind) = &struck.kind {
                    distort(&mut answer, kind);
                    outcome = Outcome::Faulted;
                }
                (Ending::Answer(answer), outcome)
            }
        };
        state.log.add(LoggedRequest {
            at_ms: Self::now_ms(state),
            endpoint: endpoint.to_owned(),
            client,
            client_id,
            headers: plain(headers),
            payload: raw,
            outcome,
            status: status_of(&ending),
        });
        Reply {
            delay: struck.delay,
            ending,
        }
    }

    /// Answers a download.
    pub(crate) fn download(&self, uid: &str, query: &str, headers: &HeaderMap) -> Reply {
        let state = &mut *self.lock();
        let now_ms = Self::now_ms(state);
        let (client, found) = files::find(state, uid, query, headers, now_ms);
        let refusals = Refusals {
            hostname: &self.hostname,
            endpoint: crate::faults::FILE_ENDPOINT,
            user_agent: header(headers, "user-agent").unwrap_or_default(),
        };
        let struck = state
            .faults
            .strike(crate::faults::FILE_ENDPOINT, client.as_deref());
        let replaced = struck
            .kind
            .as_ref()
            .and_then(|kind| refusals.fault(kind, ""));
        let (ending, outcome) = match replaced {
            Some(ending) => (ending, Outcome::Faulted),
            None => {
                let (mut answer, mut outcome) = found;
                if let Some(kind) = &struck.kind {
                    distort(&mut answer, kind);
                    outcome = Outcome::Faulted;
                }
                (Ending::Answer(answer), outcome)
            }
        };
        state.log.add(LoggedRequest {
            at_ms: now_ms,
            endpoint: crate::faults::FILE_ENDPOINT.to_owned(),
            client,
            client_id: None,
            headers: plain(headers),
            payload: None,
            outcome,
            status: status_of(&ending),
        });
        Reply {
            delay: struck.delay,
            ending,
        }
    }

    /// Everything after the payload is open.
    fn judge(
        &self,
        state: &mut State,
        opened: &Opened,
        headers: &HeaderMap,
        body: &[u8],
        refusals: &Refusals<'_>,
        fault: Option<&FaultKind>,
    ) -> Result<Judged, CryptoError> {
        let payload = &opened.payload;
        let refused = |answer| Ok((answer, Outcome::Refused));
        let version = payload.client_version.as_deref().unwrap_or_default();
        let versions = &state.vault.client_versions;
        if !versions.is_empty() && !versions.contains(version) {
            return refused(refusals.invalid_client_version(version));
        }
        let id = payload.client_id.as_deref().unwrap_or_default();
        let mut clients = state.identity.clients.iter_mut();
        let client = clients.find(|client| client.id == id && !client.revoked);
        let Some(client) = client else {
            return refused(refusals.access_denied(UNKNOWN_CLIENT_MESSAGE));
        };
        let offered = payload
            .public_key
            .as_deref()
            .and_then(|text| crypto::decode(text).ok());
        let signer = client.bound.clone().or_else(|| offered.clone());
        if !signer.is_some_and(|point| signed_by(&point, headers, body)) {
            return refused(refusals.access_denied(BAD_SIGNATURE_MESSAGE));
        }
        let now_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        if let Some(throttle) = &mut state.throttle
            && !throttle.allow(id, refusals.endpoint, now_ms)
        {
            return Ok((refusals.throttled(None), Outcome::Throttled));
        }

        let mut binding = Binding::default();
        let mut bound_now = false;
        if refusals.endpoint == "get_secret" && client.bound.is_none() {
            let owner = crypto::point(&state.identity.owner);
            binding = Binding::new(&client.client_key, &state.identity.app_key, &owner)?;
            client.bound = offered;
            bound_now = true;
        }
        let name = client.name.clone();
        if bound_now && let Err(error) = self.persist(state) {
            tracing::error!(%error, "the binding could not be kept");
        }

        let answer = if let Some(FaultKind::Plaintext { text }) = fault {
            Some(text.clone())
        } else {
            match refusals.endpoint {
                "get_secret" | "get_folders" => {
                    let url = |file: &crate::vault::File| {
                        files::url(state, &self.hostname, file, &name, Self::now_ms(state))
                    };
                    let answers = Answers {
                        vault: &state.vault,
                        app_key: &state.identity.app_key,
                        file_url: &url,
                    };
                    let answer = if refusals.endpoint == "get_secret" {
                        answers.get_secret(payload, binding)?
                    } else {
                        answers.get_folders()?
                    };
                    Some(answer.to_string())
                }
                endpoint => match writes::write(state, endpoint, &opened.raw) {
                    Ok(answer) => answer.map(|value| value.to_string()),
                    Err(message) => return refused(refusals.bad_request(&message)),
                },
            }
        };
        let body = match answer {
            Some(text) => crypto::gcm_seal(&opened.transmission_key, text.as_bytes())?,
            None => Vec::new(),
        };
        Ok((Answer::bytes(body), Outcome::Answered))
    }
}

/// Server key, transmission key, body, payload.
fn open(
    state: &State,
    headers: &HeaderMap,
    body: &[u8],
    refusals: &Refusals<'_>,
) -> Result<Opened, Answer> {
    let active = state.identity.active;
    let key_id = header(headers, "publickeyid").and_then(|text| text.parse::<u32>().ok());
    let server_key = key_id
        .filter(|id| *id == active)
        .and_then(|id| state.identity.server_keys.get(&id))
        .ok_or_else(|| refusals.key(active))?;
    let bad = |what: &'static str| move |_| refusals.bad_request(what);
    let wrapped =
        wrapped_key(headers).ok_or_else(|| refusals.bad_request("no transmission key"))?;
    let transmission_key = crypto::unwrap_key(server_key, &wrapped)
        .map_err(bad("the transmission key can't be opened"))?;
    let text =
        crypto::gcm_open(&transmission_key, body).map_err(bad("the payload can't be opened"))?;
    let raw: Value = serde_json::from_slice(&text)
        .map_err(|_| refusals.bad_request("the payload is not JSON"))?;
    let payload = serde_json::from_value(raw.clone())
        .map_err(|_| refusals.bad_request("the payload's members have wrong types"))?;
    Ok(Opened {
        transmission_key,
        payload,
        raw,
    })
}

fn wrapped_key(headers: &HeaderMap) -> Option<Vec<u8>> {
    crypto::decode(header(headers, "transmissionkey")?).ok()
}

fn signed_by(point: &[u8], headers: &HeaderMap, body: &[u8]) -> bool {
    let signature = header(headers, "authorization")
        .and_then(|text| text.strip_prefix("Signature "))
        .and_then(|text| crypto::decode(text).ok());
    let (Some(signature), Some(wrapped)) = (signature, wrapped_key(headers)) else {
        return false;
    };
    crypto::verify(point, &[wrapped.as_slice(), body].concat(), &signature)
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn plain(headers: &HeaderMap) -> Vec<(String, String)> {
    let text =
        |value: &hyper::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), text(value)))
        .collect()
}

fn status_of(ending: &Ending) -> u16 {
    match ending {
        Ending::Answer(answer) => answer.status,
        Ending::Huge { .. } => 200,
        Ending::Hang | Ending::Reset => 0,
    }
}
