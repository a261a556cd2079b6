//! Attachments: signed URLs that live for a while, as those of an object store.

use hyper::{HeaderMap, StatusCode};

use crate::core::State;
use crate::crypto;
use crate::log::Outcome;
use crate::reply::{Answer, Rest};
use crate::vault::{File, FileQuirk};

/// Path before the file's UID.
pub(crate) const PREFIX: &str = "/files/";

/// Where a client finds an attachment, until the URL expires.
pub(crate) fn url(state: &State, hostname: &str, file: &File, client: &str, now_ms: u64) -> String {
    let lifetime = u64::try_from(state.file_url_lifetime.as_millis()).unwrap_or(u64::MAX);
    let expires = now_ms.saturating_add(lifetime);
    let signature = sign(state, &file.uid, client, expires);
    format!(
        "https://{hostname}{PREFIX}{}?client={client}&expires={expires}&signature={signature}",
        file.uid
    )
}

/// The client whom a URL was made for, if its signature is right, and the answer to it.
pub(crate) fn find(
    state: &State,
    uid: &str,
    query: &str,
    headers: &HeaderMap,
    now_ms: u64,
) -> (Option<String>, (Answer, Outcome)) {
    let refuse = |status: StatusCode, text: &str| (Answer::text(status, text), Outcome::Refused);
    let parameter = |name: &str| {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let mut values = pairs.filter(|(n, _)| *n == name).map(|(_, value)| value);
        values.next().unwrap_or_default()
    };
    let client = parameter("client");
    let expires = parameter("expires").parse::<u64>().unwrap_or(0);
    if sign(state, uid, client, expires) != parameter("signature") {
        let text = "<Error><Code>SignatureDoesNotMatch</Code></Error>";
        return (None, refuse(StatusCode::FORBIDDEN, text));
    }
    let client = Some(client.to_owned());
    if now_ms >= expires {
        let text = "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>";
        return (client, refuse(StatusCode::FORBIDDEN, text));
    }
    // Object stores refuse a request that is authorised twice.
    if headers.contains_key("authorization") {
        let text = "<Error><Code>InvalidArgument</Code></Error>";
        return (client, refuse(StatusCode::BAD_REQUEST, text));
    }
    let file = state.vault.file(uid);
    let Some(file) = file.filter(|file| !file.quirks.contains(&FileQuirk::NotFound)) else {
        let text = "<Error><Code>NoSuchKey</Code></Error>";
        return (client, refuse(StatusCode::NOT_FOUND, text));
    };
    if file.quirks.contains(&FileQuirk::Forbidden) {
        let text = "<Error><Code>AccessDenied</Code></Error>";
        return (client, refuse(StatusCode::FORBIDDEN, text));
    }
    let Ok(mut body) = crypto::gcm_seal(&file.key, &file.content) else {
        return (
            client,
            refuse(StatusCode::INTERNAL_SERVER_ERROR, "no random bytes"),
        );
    };
    if let (true, Some(last)) = (file.quirks.contains(&FileQuirk::Corrupt), body.last_mut()) {
        *last ^= 1;
    }
    let mut answer = Answer::bytes(body);
    if file.quirks.contains(&FileQuirk::Truncated) {
        answer.rest = Rest::Cut;
    }
    (client, (answer, Outcome::Answered))
}

fn sign(state: &State, uid: &str, client: &str, expires: u64) -> String {
    let message = format!("{uid}/{client}/{expires}");
    crypto::b64url(&crypto::hmac_sha256(
        &state.identity.url_key,
        message.as_bytes(),
    ))
}
