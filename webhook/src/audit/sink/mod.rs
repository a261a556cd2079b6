//! Entries to a server of the user's: JSON arrays, posted one after the other by a task of its own.
//!
//! No admission waits for it: entries go into a bounded [`Queue`]. What could not be sent is tried again with growing pauses
//! until it is taken, or is refused for what it is. So each entry arrives at least once and in order, or is counted as dropped.

mod queue;

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{StatusCode, Url};
use tokio::time::{Instant, sleep, timeout};
use zeroize::Zeroizing;

use super::options::SinkOptions;
use crate::metrics::{AuditMetrics, Dropped};
use crate::outbound::{Outbound, OutboundError};
pub(crate) use queue::{Batch, Queue};

/// No token is longer, in bytes.
const MAX_TOKEN: u64 = 16 * 1024;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A server that asks for a longer pause gets this.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(300);
/// Once the process ends there is no time for more.
const PAUSE_AT_THE_END: Duration = Duration::from_millis(500);
/// Between two lines of the log about the same trouble.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// Why there can be no sink.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SinkError {
    #[error("cannot read {}: {error}", path.display())]
    Ca {
        path: PathBuf,
        error: std::io::Error,
    },
    #[error(transparent)]
    Client(#[from] OutboundError),
}

/// The task that empties the queue.
pub(crate) struct Sink {
    queue: Arc<Queue>,
    metrics: AuditMetrics,
    client: Outbound,
    url: Url,
    token: Option<Token>,
}

/// Where the token is, and how it is sent.
struct Token {
    file: PathBuf,
    header: HeaderName,
    scheme: String,
}

/// What came of a batch.
enum Sent {
    Taken,
    /// It will never be taken.
    Refused(StatusCode),
    Failed {
        error: String,
        retry_after: Option<Duration>,
    },
}

impl Sink {
    /// None if the options name none.
    ///
    /// # Errors
    /// If the CA file can't be read or holds no certificate.
    pub(crate) fn new(
        options: &SinkOptions,
        metrics: &AuditMetrics,
    ) -> Result<Option<Self>, SinkError> {
        let Some(url) = &options.url else {
            return Ok(None);
        };
        let read = |path: &PathBuf| {
            std::fs::read(path).map_err(|error| SinkError::Ca {
                path: path.clone(),
                error,
            })
        };
        let ca = options.ca_file.as_ref().map(read).transpose()?;
        let token = options.token_file.as_ref().map(|file| Token {
            file: file.clone(),
            header: options.header.clone(),
            scheme: options.scheme.clone(),
        });
        Ok(Some(Self {
            queue: Arc::new(Queue::new(metrics.clone())),
            metrics: metrics.clone(),
            client: Outbound::new(ca.as_deref(), options.deadline)?,
            url: url.0.clone(),
            token,
        }))
    }

    /// Where entries are put.
    pub(crate) fn queue(&self) -> Arc<Queue> {
        Arc::clone(&self.queue)
    }

    /// Sends until the queue is closed and empty.
    pub(crate) async fn run(self) {
        let mut trouble = Trouble::default();
        let (mut overflow, mut dropped) = (Trouble::default(), 0);
        while let Some(batch) = self.queue.first().await {
            match self.send(&batch).await {
                Sent::Taken => {
                    self.queue.remove(batch.count);
                    self.metrics.delivered(batch.count);
                    if trouble.is_over() {
                        tracing::info!("the audit sink takes entries again");
                    }
                }
                Sent::Refused(status) => {
                    self.queue.remove(batch.count);
                    self.metrics.dropped(Dropped::Refused, batch.count);
                    tracing::warn!(
                        status = status.as_u16(),
                        count = batch.count,
                        "the audit sink refuses entries, dropping them"
                    );
                }
                Sent::Failed { error, retry_after } => {
                    self.metrics.failed();
                    if trouble.tell() {
                        let queued = self.queue.len();
                        tracing::warn!(error, queued, "the audit sink takes no entries");
                    }
                    self.pause(trouble.pause(), retry_after).await;
                }
            }
            dropped += self.queue.take_dropped();
            if dropped > 0 && overflow.tell() {
                let count = std::mem::take(&mut dropped);
                tracing::warn!(count, "the audit sink's queue is full, entries are dropped");
            }
        }
    }

    /// Waits before the next try; not for long once the end has come.
    async fn pause(&self, pause: Duration, retry_after: Option<Duration>) {
        let asked = retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER);
        if self.queue.is_closed() {
            return sleep(PAUSE_AT_THE_END).await;
        }
        tokio::select! {
            () = sleep(pause.max(asked)) => {}
            () = self.queue.closed() => {}
        }
    }

    async fn send(&self, batch: &Batch) -> Sent {
        let failed = |error: String, retry_after| Sent::Failed { error, retry_after };
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(token) = &self.token {
            match token.read() {
                Ok(value) => headers.insert(token.header.clone(), value),
                Err(error) => return failed(error, None),
            };
        }
        match self
            .client
            .post(&self.url, headers, batch.body.clone())
            .await
        {
            Ok(reply) if reply.status.is_success() => Sent::Taken,
            Ok(reply) => match reply.status {
                // About what was sent. Anything else may be cured: a token, a route, a server.
                status @ (StatusCode::BAD_REQUEST
                | StatusCode::PAYLOAD_TOO_LARGE
                | StatusCode::UNPROCESSABLE_ENTITY) => Sent::Refused(status),
                status => failed(format!("status {}", status.as_u16()), reply.retry_after),
            },
            Err(error) => failed(error, None),
        }
    }
}

/// Closes the queue, gives the sink's task until `end` to empty it, and counts what is left.
pub(crate) async fn finish(
    queue: &Queue,
    task: tokio::task::JoinHandle<()>,
    end: Instant,
    metrics: &AuditMetrics,
) {
    queue.close();
    let abort = task.abort_handle();
    let _ = timeout(end.saturating_duration_since(Instant::now()), task).await;
    abort.abort();
    let left = queue.len();
    if left > 0 {
        metrics.dropped(Dropped::Shutdown, left);
        tracing::warn!(
            count = left,
            "audit entries were not delivered before the end"
        );
    }
}

impl Token {
    /// The header's value.
    fn read(&self) -> Result<HeaderValue, String> {
        let token = read(&self.file)
            .map_err(|error| format!("cannot read the token {}: {error}", self.file.display()))?;
        let token = token.trim_ascii();
        let mut value = Zeroizing::new(Vec::with_capacity(self.scheme.len() + 1 + token.len()));
        if !self.scheme.is_empty() {
            value.extend_from_slice(self.scheme.as_bytes());
            value.push(b' ');
        }
        value.extend_from_slice(token);
        let visible = token.iter().all(|byte| matches!(byte, b' '..=b'~'));
        let value = HeaderValue::from_bytes(&value).ok();
        let Some(mut value) = value.filter(|_| visible && !token.is_empty()) else {
            return Err(format!(
                "the token {} is not one line of visible characters",
                self.file.display()
            ));
        };
        value.set_sensitive(true);
        Ok(value)
    }
}

fn read(path: &Path) -> std::io::Result<Zeroizing<Vec<u8>>> {
    // Of its full size from the start, since a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(
        1 + usize::try_from(MAX_TOKEN).unwrap_or_default(),
    ));
    File::open(path)?
        .take(MAX_TOKEN + 1)
        .read_to_end(&mut bytes)?;
    match bytes.len() as u64 > MAX_TOKEN {
        true => Err(std::io::Error::other("larger than 16 KiB")),
        false => Ok(bytes),
    }
}

/// Something that goes wrong again and again.
#[derive(Default)]
struct Trouble {
    times: u32,
    told: Option<Instant>,
    /// Whether it was told since it last went well.
    open: bool,
}

impl Trouble {
    /// Once more; whether to say so.
    fn tell(&mut self) -> bool {
        self.times = self.times.saturating_add(1);
        let due = self
            .told
            .is_none_or(|told| told.elapsed() >= COMPLAIN_EVERY);
        if due {
            self.told = Some(Instant::now());
            self.open = true;
        }
        due
    }

    /// After so many times.
    fn pause(&self) -> Duration {
        let doubled = self.times.saturating_sub(1).min(10);
        (FIRST_PAUSE * (1 << doubled)).min(LONGEST_PAUSE)
    }

    /// It went well; whether to say so.
    fn is_over(&mut self) -> bool {
        self.times = 0;
        std::mem::take(&mut self.open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_half_a_minute_and_trouble_is_told_once() {
        let mut trouble = Trouble::default();
        let mut seen = Vec::new();
        for _ in 0..7 {
            seen.push((trouble.tell(), trouble.pause().as_secs()));
        }
        let expected = [1, 2, 4, 8, 16, 30, 30].map(|pause| (pause == 1, pause));
        assert_eq!(seen, expected);
        trouble.times = u32::MAX;
        assert!(!trouble.tell());
        assert_eq!(trouble.pause(), LONGEST_PAUSE);
        assert!(trouble.is_over());
        // It comes and goes: neither is told again so soon.
        assert!(!trouble.tell() && !trouble.is_over());
    }

    #[test]
    fn a_token_is_read_as_it_stands_in_its_file_by_now() {
        let folder = tempfile::tempdir().unwrap();
        let token = |scheme: &str| Token {
            file: folder.path().join("token"),
            header: HeaderName::from_static("authorization"),
            scheme: scheme.to_owned(),
        };
        let write = |bytes: &[u8]| std::fs::write(folder.path().join("token"), bytes).unwrap();
        assert!(token("").read().unwrap_err().contains("cannot read"));
        write(b"canary-1\n");
        let value = token("Bearer").read().unwrap();
        assert_eq!(value, "Bearer canary-1");
        assert!(!format!("{value:?}").contains("canary"));
        write(b" canary-2 ");
        assert_eq!(token("").read().unwrap(), "canary-2");
        for bad in [
            &b""[..],
            b"\n",
            b"canary\r\nx: y",
            b"\xff",
            &[b'x'; 16 * 1024 + 1],
        ] {
            write(bad);
            let error = token("Bearer").read().unwrap_err();
            assert!(!error.contains("canary"), "{error}");
        }
    }
}
