//! Resources of the injected containers: annotations over settings, and a Guaranteed pod stays Guaranteed.

use crate::annotations::PREFIX;
use crate::objects::{self, Amounts};
use crate::problem::{Findings, Reason};
use crate::quantity::Quantity;
use crate::request::Request;
use crate::settings::Settings;

/// CPU limit in a Guaranteed pod where nobody states one: enough for a TLS handshake in good time.
const GUARANTEED_CPU: Quantity = Quantity::millicores(50);
/// What the agent itself may use; the pages of the volume are charged to it on top.
const AGENT_MEMORY: Quantity = Quantity::mebibytes(16);

/// Requests and limits of one injected container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resources {
    cpu: Amount,
    memory: Amount,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Amount {
    request: Quantity,
    limit: Option<Quantity>,
}

impl Resources {
    /// Decides them for a pod whose volume has the size `tmpfs`.
    pub(crate) fn decide(
        request: &Request,
        settings: &Settings,
        tmpfs: Quantity,
        guaranteed: bool,
        findings: &mut Findings,
    ) -> Self {
        let defaults = &settings.resources;
        let memory_limit = defaults
            .memory_limit
            .unwrap_or(AGENT_MEMORY.saturating_add(tmpfs));
        let mut cpu = Amount::decide(
            "cpu",
            (request.cpu_request, request.cpu_limit),
            (defaults.cpu_request, defaults.cpu_limit),
            findings,
        );
        let mut memory = Amount::decide(
            "memory",
            (request.memory_request, request.memory_limit),
            (defaults.memory_request, Some(memory_limit)),
            findings,
        );
        if guaranteed {
            cpu.equalise("cpu", request.cpu_request, GUARANTEED_CPU, findings);
            memory.equalise("memory", request.memory_request, memory_limit, findings);
        }
        Self { cpu, memory }
    }

    pub(crate) fn object(self) -> objects::Resources {
        objects::Resources {
            limits: Amounts {
                cpu: self.cpu.limit,
                memory: self.memory.limit,
            },
            requests: Amounts {
                cpu: Some(self.cpu.request),
                memory: Some(self.memory.request),
            },
        }
    }
}

impl Amount {
    /// What annotations state goes before defaults; a default that stands against it gives way.
    fn decide(
        what: &str,
        stated: (Option<Quantity>, Option<Quantity>),
        defaults: (Quantity, Option<Quantity>),
        findings: &mut Findings,
    ) -> Self {
        let name = |end: &str| format!("sidecar-{what}-{end}");
        if stated.1 == Some(Quantity::ZERO) {
            findings.problem(
                &name("limit"),
                Reason::BadValue,
                "is 0, which leaves nothing to run with: raise or remove it",
            );
        }
        match stated {
            (Some(request), Some(limit)) => {
                if request > limit {
                    findings.problem(
                        &name("request"),
                        Reason::Conflict,
                        format_args!(
                            "{request} is more than {PREFIX}{}, {limit}: lower it",
                            name("limit")
                        ),
                    );
                }
                Self {
                    request,
                    limit: Some(limit),
                }
            }
            (Some(request), None) => Self {
                request,
                limit: defaults.1.map(|limit| limit.max(request)),
            },
            (None, limit) => {
                let limit = limit.or(defaults.1);
                Self {
                    request: limit.map_or(defaults.0, |limit| limit.min(defaults.0)),
                    limit,
                }
            }
        }
    }

    /// The request becomes the limit; without a limit, `least` or the request is it.
    fn equalise(
        &mut self,
        what: &str,
        stated: Option<Quantity>,
        least: Quantity,
        findings: &mut Findings,
    ) {
        let limit = self.limit.unwrap_or(least.max(self.request));
        if stated.is_some_and(|request| request != limit) {
            findings.warn(
                &format!("sidecar-{what}-request"),
                format_args!("is raised to the limit, {limit}, to keep the pod Guaranteed"),
            );
        }
        *self = Self {
            request: limit,
            limit: Some(limit),
        };
    }
}
