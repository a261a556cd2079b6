//! Pods that ask for injection, created all the time as dry runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use keeper_e2e::{Namespace, pods, try_kubectl};
use serde_json::json;

/// Pods that one kubectl creates.
const BATCH: usize = 20;

/// Runs until it is stopped.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<usize>,
}

impl Load {
    pub(crate) fn start(namespace: &Namespace) -> Self {
        let namespace = format!("--namespace={}", namespace.name());
        let pod = |i| {
            pods::annotated(
                &format!("dry-{i}"),
                &[("secret", "database-credentials")],
                "true",
            )
        };
        let items: Vec<_> = (0..BATCH).map(pod).collect();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let arguments = ["create", &namespace, "--dry-run=server", "--filename=-"];
            let mut created = 0;
            while !stopped.load(Ordering::Relaxed) {
                let told = try_kubectl(&arguments, Some(&list));
                assert!(told.success, "after {created} pods: {}", told.stderr);
                created += BATCH;
            }
            created
        });
        Self { stop, thread }
    }

    /// Fails if a pod was refused.
    pub(crate) fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        let created = self.thread.join().expect("no pod should be refused");
        assert!(created >= 5 * BATCH, "only {created} pods were created");
    }
}
