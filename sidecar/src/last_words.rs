//! What `kubectl describe pod` shows of a container that ended.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;

/// Writes `message` where the kubelet looks for it, and into the log, which it falls back to. The file is never
/// made: outside a container nobody reads it.
pub(crate) fn write(file: &Path, message: &str) {
    let _ = OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(file)
        .and_then(|mut file| file.write_all(message.as_bytes()));
    if tracing::dispatcher::has_been_set() {
        tracing::error!(error = message, "ended");
    } else {
        let _ = writeln!(io::stderr(), "{message}");
    }
}
