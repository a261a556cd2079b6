//! The throttle rule of the real service, as its SDKs describe it.
//!
//! One counter for each client id and endpoint. A counter expires after ten seconds, and **every** request
//! renews that expiry, also one that was refused. So a client that is banned and goes on asking stays banned:
//! only ten seconds of complete silence clear it. Pure: the caller brings the time.

use std::collections::HashMap;

/// Requests that one client id may make to one endpoint before it is refused.
pub const LIMIT: u32 = 100;
/// Silence after which a counter is forgotten, in milliseconds.
pub const WINDOW_MS: u64 = 10_000;

/// Counters that are kept before expired ones are swept out.
const SWEEP_AT: usize = 1024;

/// Counts requests and says which of them the service would refuse.
#[derive(Debug, Clone)]
pub struct Throttle {
    limit: u32,
    window_ms: u64,
    counters: HashMap<String, HashMap<String, Counter>>,
}

#[derive(Debug, Clone, Copy)]
struct Counter {
    requests: u32,
    expires_ms: u64,
}

impl Default for Throttle {
    fn default() -> Self {
        Self::new(LIMIT, WINDOW_MS)
    }
}

impl Throttle {
    /// A rule of `limit` requests with a counter that lives `window_ms` after the last request.
    #[must_use]
    pub fn new(limit: u32, window_ms: u64) -> Self {
        Self {
            limit,
            window_ms,
            counters: HashMap::new(),
        }
    }

    /// Counts one request at `now_ms` (milliseconds on any clock that does not run backwards) and says
    /// whether it may pass.
    pub fn allow(&mut self, client: &str, endpoint: &str, now_ms: u64) -> bool {
        if self.counters.len() >= SWEEP_AT {
            self.sweep(now_ms);
        }
        let expires_ms = now_ms.saturating_add(self.window_ms);
        let counter = self
            .counters
            .entry(client.to_owned())
            .or_default()
            .entry(endpoint.to_owned())
            .or_insert(Counter {
                requests: 0,
                expires_ms,
            });
        if now_ms >= counter.expires_ms {
            counter.requests = 0;
        }
        counter.requests = counter.requests.saturating_add(1);
        counter.expires_ms = expires_ms;
        counter.requests <= self.limit
    }

    fn sweep(&mut self, now_ms: u64) {
        self.counters.retain(|_, endpoints| {
            endpoints.retain(|_, counter| counter.expires_ms > now_ms);
            !endpoints.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Uses up the whole budget at `now`.
    fn exhaust(throttle: &mut Throttle, now_ms: u64) {
        for request in 1..=LIMIT {
            assert!(
                throttle.allow("c", "get_secret", now_ms),
                "request {request}"
            );
        }
    }

    #[test]
    fn a_hundred_pass_and_the_next_is_refused() {
        let mut throttle = Throttle::default();
        exhaust(&mut throttle, 0);
        assert!(!throttle.allow("c", "get_secret", 0));
    }

    #[test]
    fn the_hundred_count_however_slowly_they_come() {
        let mut throttle = Throttle::default();
        for request in 0..u64::from(LIMIT) {
            assert!(throttle.allow("c", "get_secret", request * (WINDOW_MS - 1)));
        }
        assert!(!throttle.allow("c", "get_secret", u64::from(LIMIT) * (WINDOW_MS - 1)));
    }

    #[test]
    fn clients_and_endpoints_have_budgets_of_their_own() {
        let mut throttle = Throttle::default();
        exhaust(&mut throttle, 0);
        assert!(throttle.allow("c", "get_folders", 0));
        assert!(throttle.allow("d", "get_secret", 0));
        assert!(!throttle.allow("c", "get_secret", 0));
    }

    #[test]
    fn every_request_renews_the_ban() {
        let mut throttle = Throttle::default();
        exhaust(&mut throttle, 0);
        let mut now = 0;
        for _ in 0..50 {
            now += WINDOW_MS - 1;
            assert!(!throttle.allow("c", "get_secret", now));
        }
        assert!(!throttle.allow("c", "get_secret", now + WINDOW_MS - 1));
    }

    #[test]
    fn ten_seconds_of_silence_clear_it() {
        let mut throttle = Throttle::default();
        exhaust(&mut throttle, 0);
        assert!(!throttle.allow("c", "get_secret", 500));
        assert!(!throttle.allow("c", "get_secret", 500 + WINDOW_MS - 1));
        let silent_until = 500 + 2 * WINDOW_MS - 1;
        exhaust(&mut throttle, silent_until);
        assert!(!throttle.allow("c", "get_secret", silent_until));
    }

    #[test]
    fn expired_counters_are_swept_and_live_ones_kept() {
        let mut throttle = Throttle::default();
        for client in 0..SWEEP_AT - 1 {
            throttle.allow(&client.to_string(), "get_secret", 0);
        }
        exhaust(&mut throttle, WINDOW_MS - 1);
        assert!(throttle.allow("other", "get_secret", WINDOW_MS));
        assert_eq!(throttle.counters.len(), 2);
        assert!(!throttle.allow("c", "get_secret", WINDOW_MS));
    }
}
