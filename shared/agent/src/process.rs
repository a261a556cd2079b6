//! What the process does to itself before it reads the first secret.

use rustix::process::{DumpableBehavior, Resource, Rlimit};

/// Makes the process non-dumpable and takes core files from it.
///
/// In a pod with a shared process namespace and one UID the application could otherwise read our memory and,
/// through `/proc/<pid>/root`, our mounted credentials. Read the environment first: afterwards a process
/// that isn't root can't look at its own `/proc/self/environ`.
///
/// # Errors
/// If the system refuses; no secret must be read then.
pub fn harden() -> std::io::Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    rustix::process::setrlimit(Resource::Core, none)?;
    Ok(())
}
