//! What is asked of each tool.

use serde_json::Value;

pub(crate) trait Tool {
    /// Has it look at Git and at the cluster anew, and waits until it has.
    fn refresh(&mut self);

    /// What is not in sync, or not well, as it says itself.
    fn differences(&self) -> Vec<String>;

    /// The commits that it has brought into the cluster.
    fn revision(&self) -> Vec<String>;

    /// What it has done so far: another value as soon as it has applied anything.
    fn done(&self) -> Value;

    /// In Git: the application's Deployment, and the values of the chart as JSON.
    fn files(&self) -> [&'static str; 2];

    /// Takes away all that it has made.
    fn end(&mut self);
}
