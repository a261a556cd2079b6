//! Calls to the admin port of a running service.

use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::header::HOST;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{AdminAddress, CliError};
use crate::admin::Refused;

const DEADLINE: Duration = Duration::from_secs(30);

/// The admin port of a running service.
pub(super) struct AdminClient<'a>(pub(super) &'a AdminAddress);

impl AdminClient<'_> {
    /// A call whose answer is text.
    pub(super) async fn text(
        &self,
        method: Method,
        path: &str,
        body: String,
    ) -> Result<String, CliError> {
        let call = timeout(DEADLINE, self.call(method, path, body));
        let (good, text) = match call.await {
            Ok(answer) => answer?,
            Err(_) => return Err(self.unreachable("it takes too long")),
        };
        if good {
            return Ok(text);
        }
        let refused = serde_json::from_str::<Refused>(&text);
        Err(CliError::Refused(
            refused.map_or(text, |refused| refused.error),
        ))
    }

    /// A call whose answer is JSON.
    pub(super) async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, CliError> {
        let body = body.map(serde_json::to_string).transpose();
        let body = body.map_err(|e| CliError::Refused(e.to_string()))?;
        let text = self.text(method, path, body.unwrap_or_default()).await?;
        serde_json::from_str(&text).map_err(|error| self.unreachable(error))
    }

    /// A GET whose answer is JSON.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        self.json(Method::GET, path, None::<&()>).await
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: String,
    ) -> Result<(bool, String), CliError> {
        let failed = |error: &dyn std::fmt::Display| self.unreachable(error);
        let address = &self.0.0;
        let stream = TcpStream::connect(address).await.map_err(|e| failed(&e))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| failed(&e))?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, address)
            .body(Full::new(Bytes::from(body)))
            .map_err(|e| failed(&e))?;
        let exchange = async {
            let response = sender.send_request(request).await?;
            let good = response.status().is_success();
            Ok::<_, hyper::Error>((good, response.into_body().collect().await?.to_bytes()))
        };
        let mut exchange = std::pin::pin!(exchange);
        let mut connection = std::pin::pin!(connection);
        let answer = tokio::select! {
            answer = &mut exchange => answer,
            // The connection may end with the answer already read.
            _ = &mut connection => exchange.await,
        };
        let (good, bytes) = answer.map_err(|e| failed(&e))?;
        Ok((good, String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn unreachable(&self, problem: impl std::fmt::Display) -> CliError {
        CliError::Unreachable {
            address: self.0.to_string(),
            problem: problem.to_string(),
        }
    }
}

/// A name as one segment of a path.
pub(super) fn segment(name: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    };
    name.bytes().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_one_segment() {
        assert_eq!(segment("a-b.c"), "a-b.c");
        assert_eq!(segment("a/b ö?"), "a%2Fb%20%C3%B6%3F");
    }
}
