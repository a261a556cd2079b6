//! What became of the pods.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use serde_json::Value;

/// What a pod asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asked {
    /// Injection.
    Annotated,
    /// Nothing.
    Plain,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Became {
    /// It would have been created, with our containers if it asked for them, else without.
    AsAsked,
    /// It asked and would have been created without our containers, or didn't ask and got some.
    Wrong,
    /// It was refused, with this message.
    Refused(String),
}

/// What became of one pod, when it was sent, and how long that took since it was due.
#[derive(Debug, Clone)]
pub struct Fate {
    /// What it asked for.
    pub asked: Asked,
    /// What became of it.
    pub became: Became,
    /// When it was sent.
    pub began: SystemTime,
    /// From when it was due until its answer.
    pub took: Duration,
}

/// What became of all pods of a run.
#[derive(Debug, Default)]
pub struct Report {
    /// What did not go as asked, in the order of the answers.
    pub lost: Vec<Fate>,
    took: BTreeMap<Asked, Vec<Duration>>,
}

impl Report {
    pub(crate) fn record(&mut self, fate: Fate) {
        self.took.entry(fate.asked).or_default().push(fate.took);
        if fate.became != Became::AsAsked {
            self.lost.push(fate);
        }
    }

    /// How many pods were sent that asked for this.
    #[must_use]
    pub fn sent(&self, asked: Asked) -> usize {
        self.took.get(&asked).map_or(0, Vec::len)
    }

    /// The latency that this share of the pods did not exceed: 1.0 is the longest one.
    #[must_use]
    pub fn latency(&self, asked: Asked, share: f64) -> Duration {
        let mut took = self.took.get(&asked).cloned().unwrap_or_default();
        took.sort_unstable();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            reason = "an index of a list, rounded"
        )]
        let index = (took.len().saturating_sub(1) as f64 * share).round() as usize;
        took.get(index).copied().unwrap_or_default()
    }

    /// The messages of refusals, numbers left out, each with how often it came.
    #[must_use]
    pub fn refusals(&self) -> BTreeMap<String, usize> {
        let mut kinds = BTreeMap::new();
        for fate in &self.lost {
            if let Became::Refused(message) = &fate.became {
                *kinds.entry(kind(message)).or_default() += 1;
            }
        }
        kinds
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for asked in [Asked::Annotated, Asked::Plain] {
            let [half, most, all] = [0.5, 0.99, 1.0].map(|share| self.latency(asked, share));
            let lost = self.lost.iter().filter(|fate| fate.asked == asked).count();
            let sent = self.sent(asked);
            write!(
                f,
                "{asked:?}: {sent} sent, {lost} lost, p50 {half:.1?}, p99 {most:.1?}, longest {all:.1?}; "
            )?;
        }
        for (message, count) in self.refusals() {
            write!(f, "\n  {count} x {message}")?;
        }
        Ok(())
    }
}

/// Whether a created pod is what was asked for.
pub(crate) fn judge(asked: Asked, pod: &Value) -> Became {
    let ours = ["initContainers", "containers"].iter().any(|list| {
        let containers = pod
            .pointer(&format!("/spec/{list}"))
            .and_then(Value::as_array);
        containers.into_iter().flatten().any(|container| {
            let image = container.get("image").and_then(Value::as_str);
            image.is_some_and(|image| image.contains("keeper/injector-sidecar"))
        })
    });
    match ours == (asked == Asked::Annotated) {
        true => Became::AsAsked,
        false => Became::Wrong,
    }
}

/// A message without what differs between two of a kind: ports and addresses.
fn kind(message: &str) -> String {
    let mut kind = String::with_capacity(message.len());
    for character in message.chars() {
        match character.is_ascii_digit() {
            true if kind.ends_with('#') => {}
            true => kind.push('#'),
            false => kind.push(character),
        }
    }
    kind
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fate(asked: Asked, became: Became, millis: u64) -> Fate {
        Fate {
            asked,
            became,
            began: SystemTime::UNIX_EPOCH,
            took: Duration::from_millis(millis),
        }
    }

    #[test]
    fn a_pod_is_as_asked_only_with_or_without_our_containers() {
        let pod = |image: &str| json!({"spec": {"initContainers": [{"image": image}], "containers": [{"image": "app"}]}});
        let (injected, plain) = (pod("keeper/injector-sidecar:1"), pod("other"));
        assert_eq!(judge(Asked::Annotated, &injected), Became::AsAsked);
        assert_eq!(judge(Asked::Annotated, &plain), Became::Wrong);
        assert_eq!(judge(Asked::Plain, &plain), Became::AsAsked);
        assert_eq!(judge(Asked::Plain, &injected), Became::Wrong);
        assert_eq!(judge(Asked::Annotated, &json!({})), Became::Wrong);
    }

    #[test]
    fn a_report_counts_kinds_and_shares() {
        let mut report = Report::default();
        for millis in 1..=100 {
            report.record(fate(Asked::Annotated, Became::AsAsked, millis));
        }
        for port in ["43210", "43211"] {
            let message = format!("read tcp 10.0.0.1:{port}: connection reset");
            report.record(fate(Asked::Plain, Became::Refused(message), 5));
        }
        assert_eq!(report.sent(Asked::Annotated), 100);
        assert_eq!(report.latency(Asked::Annotated, 0.5).as_millis(), 51);
        assert_eq!(report.latency(Asked::Annotated, 1.0).as_millis(), 100);
        assert_eq!(report.lost.len(), 2);
        let kinds = report.refusals();
        assert_eq!(kinds.into_values().collect::<Vec<_>>(), [2]);
        assert_eq!(
            Report::default().latency(Asked::Plain, 0.99),
            Duration::ZERO
        );
    }
}
