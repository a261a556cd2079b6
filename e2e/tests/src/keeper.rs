//! The keeper-sim of a namespace.

use crate::command::{Output, run};
use serde_json::Value;

/// The client whose device config is in the namespace's Secret.
pub const CLIENT: &str = "default";

/// One keeper-sim on the node.
#[derive(Debug)]
pub struct Keeper {
    namespace: String,
}

impl Keeper {
    pub(crate) fn new(namespace: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
        }
    }

    /// Runs a subcommand of keeper-sim and returns what it printed.
    ///
    /// # Panics
    /// If it fails.
    pub fn run(&self, arguments: &[&str]) -> String {
        self.try_run(arguments)
            .expect_success(&format!("keeper-sim {}", arguments.join(" ")))
    }

    /// Runs a subcommand of keeper-sim, whatever comes of it.
    #[must_use]
    pub fn try_run(&self, arguments: &[&str]) -> Output {
        let environment = [("KEEPER_SIM_NAMESPACE", self.namespace.as_str())];
        run("keeper-sim", arguments, &environment, None)
    }

    /// Changes fields of a record, as in `password=new`.
    pub fn set(&self, title: &str, fields: &[&str]) {
        let arguments: Vec<&str> = ["set", title].iter().chain(fields).copied().collect();
        self.run(&arguments);
    }

    /// Calls of `get_secret` that a client has made.
    #[must_use]
    pub fn fetches(&self, client: &str) -> u64 {
        self.counts()[client]["get_secret"]["total"]
            .as_u64()
            .unwrap_or(0)
    }

    /// Attachments that a client has downloaded, or tried to.
    #[must_use]
    pub fn downloads(&self, client: &str) -> u64 {
        self.counts()[client]["file"]["total"].as_u64().unwrap_or(0)
    }

    /// Calls of any endpoint that a client has made.
    #[must_use]
    pub fn calls(&self, client: &str) -> u64 {
        let counts = self.counts();
        counts[client]
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(_, count)| count["total"].as_u64())
            .sum()
    }

    fn counts(&self) -> Value {
        serde_json::from_str(&self.run(&["calls", "--json"])).expect("calls are JSON")
    }
}
