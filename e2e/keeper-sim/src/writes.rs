//! The calls by which SDKs change records.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::core::State;
use crate::crypto::{self, Key};
use crate::json::Json;
use crate::vault::{Record, is_uid};

/// Makes the change. `None` is an empty answer; an error is the text of the refusal.
pub(crate) fn write(
    state: &mut State,
    endpoint: &str,
    payload: &Value,
) -> Result<Option<Value>, String> {
    match endpoint {
        "create_secret" => create(state, payload).map(|()| None),
        "update_secret" => update(state, payload).map(|()| None),
        "finalize_secret_update" | "rollback_secret_update" => {
            record_mut(state, payload).map(|_| None)
        }
        "delete_secret" => Ok(Some(delete(state, payload))),
        other => Err(format!("keeper-sim has no endpoint {other}")),
    }
}

fn create(state: &mut State, payload: &Value) -> Result<(), String> {
    let uid = text(payload, "recordUid")?.to_owned();
    if !is_uid(&uid) || state.vault.records.iter().any(|record| record.uid == uid) {
        return Err("recordUid is no new UID".to_owned());
    }
    let shared = text(payload, "folderUid")?;
    let folder = state.vault.folder(shared).ok_or("no such folder")?;
    let key = open(&folder.key, text(payload, "folderKey")?)
        .and_then(|bytes| crypto::as_key(&bytes).map_err(|_| "folderKey is no key".to_owned()))?;
    // The same key, wrapped for the owner of the application.
    let for_owner = crypto::decode(text(payload, "recordKey")?)
        .and_then(|wrapped| crypto::unwrap_key(&state.identity.owner, &wrapped));
    if for_owner != Ok(key) {
        return Err("recordKey is not the record's key wrapped for the owner".to_owned());
    }
    let content = content(&key, text(payload, "data")?)?;
    let inner = payload.get("subFolderUid").and_then(Value::as_str);
    let inside = inner.and_then(|uid| state.vault.folder(uid));
    if inner.is_some() && inside.is_none_or(|f| state.vault.shared_root(f).uid != shared) {
        return Err("subFolderUid is not in the shared folder".to_owned());
    }
    let folder = Some(inner.unwrap_or(shared).to_owned());
    let revision = state.vault.next_revision();
    state.vault.records.push(Record {
        uid,
        key,
        revision,
        content,
        folder,
        files: Vec::new(),
        quirks: BTreeSet::new(),
    });
    Ok(())
}

fn update(state: &mut State, payload: &Value) -> Result<(), String> {
    let data = text(payload, "data")?.to_owned();
    let revision = payload.get("revision").and_then(Value::as_u64);
    let next = state.vault.revision + 1;
    let record = record_mut(state, payload)?;
    if revision.is_some_and(|revision| revision != record.revision) {
        return Err("the record has another revision".to_owned());
    }
    record.content = content(&record.key, &data)?;
    record.revision = next;
    if let Some(uids) = payload.get("links2Remove").and_then(Value::as_array) {
        record
            .files
            .retain(|file| !uids.iter().any(|uid| *uid == file.uid));
    }
    state.vault.revision = next;
    Ok(())
}

fn delete(state: &mut State, payload: &Value) -> Value {
    let uids = payload.get("recordUids").and_then(Value::as_array);
    let mut answers = Vec::new();
    for uid in uids.into_iter().flatten() {
        let before = state.vault.records.len();
        state.vault.records.retain(|record| *uid != record.uid);
        let gone = state.vault.records.len() < before;
        if gone {
            state.vault.next_revision();
        }
        answers.push(json!({
            "recordUid": uid,
            "responseCode": if gone { "ok" } else { "not_found" },
            "errorMessage": if gone { Value::Null } else { json!("no such record") },
        }));
    }
    json!({ "records": answers })
}

fn record_mut<'a>(state: &'a mut State, payload: &Value) -> Result<&'a mut Record, String> {
    let uid = text(payload, "recordUid")?;
    let mut records = state.vault.records.iter_mut();
    records
        .find(|record| record.uid == uid)
        .ok_or_else(|| "no such record".to_owned())
}

fn text<'a>(payload: &'a Value, name: &str) -> Result<&'a str, String> {
    payload
        .get(name)
        .and_then(Value::as_str)
        .ok_or_else(|| format!("{name} is missing"))
}

fn open(key: &Key, data: &str) -> Result<Vec<u8>, String> {
    crypto::decode(data)
        .and_then(|sealed| crypto::gcm_open(key, &sealed))
        .map_err(|_| "data can't be opened".to_owned())
}

fn content(key: &Key, data: &str) -> Result<Json, String> {
    let text = open(key, data)?;
    match serde_json::from_slice(&text) {
        Ok(content @ Json::Object(_)) => Ok(content),
        _ => Err("data is no record".to_owned()),
    }
}
