//! Who the injected containers run as. A signal reaches the application only from its own UID, or from root that
//! kept the capability KILL.

use crate::annotations::PREFIX;
use crate::plan::USER;
use crate::pod::Pod;
use crate::problem::{Findings, Reason};

/// UID and capability of our containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) user: i64,
    /// Whether they keep KILL, the only capability that they ever have.
    pub(crate) may_kill: bool,
}

impl Identity {
    /// Nobody's: what a pod without signals gets.
    pub(crate) const OWN: Self = Self {
        user: USER,
        may_kill: false,
    };

    /// The one that may signal the containers of `pod`.
    pub(crate) fn to_signal(pod: &Pod<'_>, findings: &mut Findings) -> Self {
        let users = pod.users();
        let mut stated = users.iter().copied();
        let first = stated.next().flatten();
        let alike = stated.all(|user| user == first);
        match first {
            Some(user) if alike => {
                return Self {
                    user,
                    // Root's children may be somebody else.
                    may_kill: user == 0,
                };
            }
            _ if pod.demands_non_root() => findings.problem(
                "signal",
                Reason::Conflict,
                format_args!(
                    "the pod demands runAsNonRoot, and a signal needs the application's UID: state one runAsUser for all containers (securityContext.runAsUser of the pod), or use {PREFIX}reload-url"
                ),
            ),
            _ => findings.warn(
                "signal",
                "the injected containers run as root with the capability KILL alone, as the pod states no runAsUser that all containers have",
            ),
        }
        Self {
            user: 0,
            may_kill: true,
        }
    }
}
