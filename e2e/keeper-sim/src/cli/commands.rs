//! The commands that talk to a running service.

use std::io::{self, Write as _};
use std::path::Path;

use hyper::Method;

use super::admin_client::{AdminClient, segment};
use super::{AdminAddress, CliError, Edit, Remote, changes, fault};
use crate::admin::{Clock, Rotate, Token};
use crate::crypto::b64;
use crate::vault::FileEntry;
use crate::vault::edit::Edited;
use crate::{Calls, ClientInfo, LoggedRequest, RecordInfo};

/// Does one command.
pub(super) async fn run(command: Remote, admin: &AdminAddress) -> Result<(), CliError> {
    let client = AdminClient(admin);
    match command {
        Remote::Set { record, changes: c } => {
            let changes = changes(c);
            edit(&client, &Edit::Set { record, changes }).await
        }
        Remote::Add {
            title,
            changes: c,
            kind,
            uid,
            folder,
        } => {
            let add = Edit::Add {
                title,
                kind: Some(kind),
                uid,
                folder,
                changes: changes(c),
            };
            edit(&client, &add).await
        }
        Remote::Rm { record } => edit(&client, &Edit::Remove { record }).await,
        Remote::Mv { record, folder } => {
            let folder = (folder != "/").then_some(folder);
            edit(&client, &Edit::Move { record, folder }).await
        }
        Remote::Mkdir { path } => edit(&client, &Edit::MakeFolder { path }).await,
        Remote::RenameFolder { folder, name } => {
            edit(&client, &Edit::RenameFolder { folder, name }).await
        }
        Remote::Rmdir { folder } => edit(&client, &Edit::RemoveFolder { folder }).await,
        Remote::Attach { record, path, name } => {
            let file = attachment(&path, name)?;
            edit(&client, &Edit::Attach { record, file }).await
        }
        Remote::Detach { record, name } => {
            edit(&client, &Edit::Detach { record, file: name }).await
        }
        Remote::Ls => {
            let records: Vec<RecordInfo> = client.get("/records").await?;
            let line = |r: &RecordInfo| format!("{}  {:>4}  {}", r.uid, r.revision, r.path);
            lines(records.iter().map(line))
        }
        Remote::Ca => {
            let pem = client.text(Method::GET, "/ca.crt", String::new()).await?;
            lines([pem.trim_end()])
        }
        Remote::Config {
            client: name,
            base64,
        } => {
            let path = match name {
                Some(name) => format!("/clients/{}/config", segment(&name)),
                None => "/config".to_owned(),
            };
            let config = client.text(Method::GET, &path, String::new()).await?;
            let encoded = base64.then(|| b64(config.as_bytes()));
            lines([encoded.unwrap_or(config)])
        }
        Remote::Clients => {
            let clients: Vec<ClientInfo> = client.get("/clients").await?;
            lines(clients.iter().map(client_line))
        }
        Remote::Token { client: name } => {
            let path = format!("/clients/{}/token", segment(&name));
            let token: Token = client.json(Method::POST, &path, None::<&()>).await?;
            lines([token.token])
        }
        Remote::Revoke { client: name } => {
            let path = format!("/clients/{}/revoke", segment(&name));
            client.text(Method::POST, &path, String::new()).await?;
            Ok(())
        }
        Remote::Unrevoke { client: name } => {
            let path = format!("/clients/{}/unrevoke", segment(&name));
            client.text(Method::POST, &path, String::new()).await?;
            Ok(())
        }
        Remote::RotateServerKey { id } => {
            let rotate = Rotate { id };
            let rotated: Rotate = client
                .json(Method::POST, "/server-key", Some(&rotate))
                .await?;
            lines(rotated.id)
        }
        Remote::Calls { json, reset } => {
            let method = if reset { Method::DELETE } else { Method::GET };
            let calls: Calls = client.json(method, "/calls", None::<&()>).await?;
            if json {
                return lines([serde_json::to_string(&calls).map_err(io::Error::from)?]);
            }
            lines(table(&calls))
        }
        Remote::Requests => {
            let requests: Vec<LoggedRequest> = client.get("/requests").await?;
            let texts: Result<Vec<_>, _> = requests.iter().map(serde_json::to_string).collect();
            lines(texts.map_err(io::Error::from)?)
        }
        Remote::Fault(arguments) => {
            let faults = fault::send(arguments, &client).await?;
            let texts: Result<Vec<_>, _> = faults.iter().map(serde_json::to_string).collect();
            lines(texts.map_err(io::Error::from)?)
        }
        Remote::Clock { offset_ms } => {
            let clock = Clock { offset_ms };
            let _: Clock = client.json(Method::PUT, "/clock", Some(&clock)).await?;
            Ok(())
        }
    }
}

/// Makes a change, and prints the UID of what it touched.
async fn edit(client: &AdminClient<'_>, edit: &Edit) -> Result<(), CliError> {
    let edited: Edited = client.json(Method::POST, "/edits", Some(edit)).await?;
    lines([edited.uid])
}

fn attachment(path: &Path, name: Option<String>) -> Result<FileEntry, CliError> {
    let content = std::fs::read(path).map_err(|source| CliError::File {
        path: path.to_owned(),
        source,
    })?;
    let own_name = || {
        path.file_name()
            .map(|name| name.to_string_lossy().into_owned())
    };
    Ok(FileEntry {
        name: name.or_else(own_name).unwrap_or_default(),
        base64: Some(b64(&content)),
        ..FileEntry::default()
    })
}

fn client_line(client: &ClientInfo) -> String {
    let state = format!("{:?}", client.state).to_lowercase();
    let token = client.token.as_deref().unwrap_or_default();
    let line = format!("{}  {state}  {}  {token}", client.name, client.client_id);
    line.trim_end().to_owned()
}

fn table(calls: &Calls) -> Vec<String> {
    let row = |cells: [&str; 7]| {
        let [
            client,
            endpoint,
            total,
            answered,
            refused,
            throttled,
            faulted,
        ] = cells;
        format!(
            "{client:<20} {endpoint:<14} {total:>8} {answered:>8} {refused:>8} {throttled:>9} {faulted:>8}"
        )
    };
    let mut rows = vec![row([
        "client",
        "endpoint",
        "total",
        "answered",
        "refused",
        "throttled",
        "faulted",
    ])];
    for (client, endpoints) in &calls.0 {
        for (endpoint, count) in endpoints {
            rows.push(row([
                client,
                endpoint,
                &count.total.to_string(),
                &count.answered.to_string(),
                &count.refused.to_string(),
                &count.throttled.to_string(),
                &count.faulted.to_string(),
            ]));
        }
    }
    rows
}

fn lines<T: std::fmt::Display>(lines: impl IntoIterator<Item = T>) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    for line in lines {
        writeln!(out, "{line}")?;
    }
    Ok(())
}
