//! What waits for the sink: bounded in number and bytes. Offering never waits; what has no room is dropped and counted. What is
//! there stays in its order until it is taken away as delivered.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::metrics::{AuditMetrics, Dropped};

/// Entries that wait at most: half a minute of 250 admissions a second.
const MAX_ENTRIES: usize = 8192;
/// What they take at most, in bytes. A plain entry has about 500.
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// Of one request.
const BATCH_ENTRIES: usize = 100;
const BATCH_BYTES: usize = 256 * 1024;

pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Notify,
    metrics: AuditMetrics,
}

#[derive(Default)]
struct State {
    /// JSON objects.
    entries: VecDeque<String>,
    bytes: usize,
    closed: bool,
    /// Dropped since it was last told.
    dropped: u64,
}

/// The first entries, as one JSON array.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) count: usize,
    pub(crate) body: Vec<u8>,
}

impl Queue {
    pub(crate) fn new(metrics: AuditMetrics) -> Self {
        Self {
            state: Mutex::default(),
            changed: Notify::new(),
            metrics,
        }
    }

    /// Takes an entry, or drops it.
    pub(crate) fn offer(&self, entry: String) {
        let mut state = self.state();
        let has_room = state.entries.len() < MAX_ENTRIES && state.bytes + entry.len() <= MAX_BYTES;
        if has_room && !state.closed {
            state.bytes += entry.len();
            state.entries.push_back(entry);
            self.show(&state);
            drop(state);
            self.changed.notify_one();
        } else {
            state.dropped += 1;
            self.metrics.dropped(Dropped::QueueFull, 1);
        }
    }

    /// The first entries, which stay; waits for some. None: there are none, and will be none.
    pub(crate) async fn first(&self) -> Option<Batch> {
        loop {
            {
                let state = self.state();
                if !state.entries.is_empty() {
                    return Some(batch(&state.entries));
                }
                if state.closed {
                    return None;
                }
            }
            self.changed.notified().await;
        }
    }

    /// Takes the first entries away: they are delivered, or nobody wants them.
    pub(crate) fn remove(&self, count: usize) {
        let mut state = self.state();
        let count = count.min(state.entries.len());
        let bytes: usize = state.entries.drain(..count).map(|entry| entry.len()).sum();
        state.bytes -= bytes;
        self.show(&state);
    }

    /// How many were dropped for want of room since this was last asked.
    pub(crate) fn take_dropped(&self) -> u64 {
        std::mem::take(&mut self.state().dropped)
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.state().entries.len()
    }

    /// Nothing more is taken, and who waits is woken.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_one();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Completes when it is closed.
    pub(crate) async fn closed(&self) {
        while !self.is_closed() {
            self.changed.notified().await;
        }
    }

    fn show(&self, state: &State) {
        self.metrics.queued(state.entries.len(), state.bytes);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn batch(entries: &VecDeque<String>) -> Batch {
    let mut body = Vec::new();
    let mut count = 0;
    for entry in entries.iter().take(BATCH_ENTRIES) {
        if count > 0 && body.len() + entry.len() > BATCH_BYTES {
            break;
        }
        body.push(if count == 0 { b'[' } else { b',' });
        body.extend_from_slice(entry.as_bytes());
        count += 1;
    }
    body.push(b']');
    Batch { count, body }
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;

    use super::*;

    fn queue() -> Queue {
        Queue::new(AuditMetrics::new(&Registry::new()).unwrap())
    }

    #[tokio::test]
    async fn batches_keep_the_order_and_what_is_not_taken_away_comes_again() {
        let queue = queue();
        for n in 0..250 {
            queue.offer(n.to_string());
        }
        let first = queue.first().await.unwrap();
        assert_eq!(first.count, 100);
        assert!(first.body.starts_with(b"[0,1,2,") && first.body.ends_with(b",99]"));
        assert_eq!(queue.first().await.unwrap(), first);
        queue.remove(first.count);
        let second = queue.first().await.unwrap();
        assert!(second.body.starts_with(b"[100,101,"));
        queue.remove(second.count);
        assert_eq!(queue.first().await.unwrap().count, 50);
        queue.remove(50);
        queue.close();
        assert_eq!(queue.first().await, None);
    }

    #[tokio::test]
    async fn number_and_bytes_are_bounded_and_what_is_dropped_is_counted() {
        let queue = queue();
        for _ in 0..MAX_ENTRIES + 7 {
            queue.offer("{}".to_owned());
        }
        assert_eq!(
            (queue.len(), queue.take_dropped(), queue.take_dropped()),
            (MAX_ENTRIES, 7, 0)
        );
        queue.remove(usize::MAX);
        for _ in 0..100 {
            queue.offer("x".repeat(MAX_BYTES / 50));
        }
        assert_eq!((queue.len(), queue.take_dropped()), (50, 50));
        let batch = queue.first().await.unwrap();
        assert!(batch.body.len() <= BATCH_BYTES + 2, "{}", batch.count);
        queue.remove(batch.count);
        queue.offer("{}".to_owned());
        assert_eq!(queue.take_dropped(), 0);
        assert_eq!(queue.metrics.dropped_for(Dropped::QueueFull), 57);
    }

    #[tokio::test]
    async fn who_waits_is_woken_by_an_entry_and_by_the_end() {
        let queue = queue();
        let (batch, ()) = tokio::join!(queue.first(), async { queue.offer("1".into()) });
        assert_eq!(batch.unwrap().body, b"[1]");
        queue.remove(1);
        let (batch, ()) = tokio::join!(queue.first(), async { queue.close() });
        assert_eq!(batch, None);
        queue.offer("2".into());
        assert_eq!(queue.len(), 0);
    }
}
