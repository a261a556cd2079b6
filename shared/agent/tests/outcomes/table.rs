//! What each fault means for a pod at each moment of its life: the table of docs/reference/outcomes.md, and what the
//! cells of this test program are held to.

use std::fmt::Write as _;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    ConnectionRefused,
    DnsFailure,
    ResolverHang,
    Hang,
    Reset,
    Truncated,
    ServerError,
    Garbage,
    TruncatedJson,
    Throttled,
    TooManyRequests,
    UnknownServerKey,
    Revoked,
    BadConfig,
    MissingRecord,
    MissingField,
    BadRecord,
    BadBystander,
    BadDownload,
    MissingFolder,
    FullVolume,
    ClockForward,
    ClockBack,
}

/// When it goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    FirstStart,
    OpenStart,
    Refresh,
    Restart,
    SandboxKept,
    SandboxEmpty,
}

/// What comes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Waits,
    Ends,
    StartsWithout,
    StartsWithTheRest,
    KeepsAll,
    KeepsAllStale,
    KeepsThatRecord,
    KeepsGeneration,
    Unharmed,
}

/// One line of the table.
pub(crate) struct Row {
    pub(crate) fault: Fault,
    /// As the page names it.
    name: &'static str,
    /// Label of the failure; none: nothing fails.
    pub(crate) reason: Option<&'static str>,
    /// What the error says, in order.
    pub(crate) says: &'static [&'static str],
    /// Before the first publication.
    start: Outcome,
    /// With secrets published.
    later: Outcome,
}

impl Row {
    pub(crate) fn outcome(&self, phase: Phase) -> Outcome {
        match phase {
            Phase::FirstStart | Phase::SandboxEmpty => self.start,
            Phase::OpenStart => match self.later {
                Outcome::Unharmed => Outcome::Unharmed,
                Outcome::KeepsThatRecord => Outcome::StartsWithTheRest,
                _ => Outcome::StartsWithout,
            },
            Phase::Refresh | Phase::Restart | Phase::SandboxKept => self.later,
        }
    }
}

impl Phase {
    pub(crate) const ALL: [Self; 6] = [
        Self::FirstStart,
        Self::OpenStart,
        Self::Refresh,
        Self::Restart,
        Self::SandboxKept,
        Self::SandboxEmpty,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::FirstStart => "first start",
            Self::OpenStart => "first start, `fail-on-error: \"false\"`",
            Self::Refresh => "refresh",
            Self::Restart => "restart of the sidecar",
            Self::SandboxKept => "pod sandbox made anew",
            Self::SandboxEmpty => "node rebooted",
        }
    }
}

impl Outcome {
    const ALL: [Self; 9] = [
        Self::Waits,
        Self::Ends,
        Self::StartsWithout,
        Self::StartsWithTheRest,
        Self::KeepsAll,
        Self::KeepsAllStale,
        Self::KeepsThatRecord,
        Self::KeepsGeneration,
        Self::Unharmed,
    ];

    fn word(self) -> &'static str {
        match self {
            Self::Waits => "waits",
            Self::Ends => "ends",
            Self::StartsWithout => "starts without",
            Self::StartsWithTheRest => "starts with the rest",
            Self::KeepsAll => "keeps all",
            Self::KeepsAllStale => "keeps all, stale at once",
            Self::KeepsThatRecord => "keeps that record",
            Self::KeepsGeneration => "keeps the old set",
            Self::Unharmed => "unharmed",
        }
    }

    fn meaning(self) -> &'static str {
        match self {
            Self::Waits => {
                "The app does not start. The agent tries again in a random frame among the next 1, 2, 4, then 8 (a frame is 15 s), \
                 not before the server's `retry_after`. When the fault is over, everything is published and the app starts. \
                 `keeper-init` gives up after 15 minutes, and the kubelet starts it anew."
            }
            Self::Ends => {
                "The app does not start, because waiting would not help. Nothing is published, not even what was right. The container ends \
                 with a message that names the cause and the cure; the next one tries again in a slot of the schedule, so a \
                 mistake that was mended is seen at the next restart."
            }
            Self::StartsWithout => {
                "The app starts at the first failure, without files. The agent goes on trying, as for *waits*; after the \
                 fault the files come with the next try."
            }
            Self::StartsWithTheRest => {
                "The app starts at the first failure, with the files of the records that could be had. After the fault the missing ones come with the \
                 next try."
            }
            Self::KeepsAll => {
                "Every file stays as it is. The agent tries again in a random frame among the next 1, 2, 4, then 8. Once the last \
                 success is longer ago than `cache` says, `keeper_sidecar_stale` is 1; the files stay all the same. When the \
                 fault is over, the new values are published and the gauge is 0."
            }
            Self::KeepsAllStale => {
                "As *keeps all*, but `keeper_sidecar_stale` is 1 from the first failure on, through restarts and outages, until \
                 Keeper grants access again."
            }
            Self::KeepsThatRecord => {
                "The files that the directory has of that record, or of the folder's records, stay as they are, also those that nothing is wrong with: a certificate and \
                 its key never come from two revisions of their record. All others are refreshed, at the usual interval. Stale \
                 after `cache`, as above."
            }
            Self::KeepsGeneration => {
                "All files of the directory stay as they are, since they only change together. Tried again at the usual interval. \
                 Stale after `cache`, as above."
            }
            Self::Unharmed => {
                "Nothing fails. New values arrive at the next regular refresh. The node's clock counts for nothing after a pod's first \
                 call: the slots go by Keeper's clock, and the age of the secrets by the node's uptime, which counts the time that the node was \
                 suspended and that no process ran. In an outage, too, `keeper_sidecar_stale` is 1 after `cache`, no earlier and no later; only \
                 `keeper_sidecar_last_success_timestamp_seconds` is what the clock showed."
            }
        }
    }
}

use Outcome::{Ends, KeepsAll, KeepsAllStale, KeepsGeneration, KeepsThatRecord, Unharmed, Waits};

const fn row(
    fault: Fault,
    name: &'static str,
    reason: Option<&'static str>,
    says: &'static [&'static str],
    start: Outcome,
    later: Outcome,
) -> Row {
    Row {
        fault,
        name,
        reason,
        says,
        start,
        later,
    }
}

const UNREACHABLE: Option<&str> = Some("unreachable");
const THROTTLED: Option<&str> = Some("throttled");
const CONFIG: Option<&str> = Some("config");

pub(crate) const ROWS: [Row; 23] = [
    row(
        Fault::ConnectionRefused,
        "connection refused",
        UNREACHABLE,
        &["cannot connect to localhost", "refused"],
        Waits,
        KeepsAll,
    ),
    row(
        Fault::DnsFailure,
        "the host name does not resolve",
        UNREACHABLE,
        &["cannot connect to keeper.invalid"],
        Waits,
        KeepsAll,
    ),
    row(
        Fault::ResolverHang,
        "no answer of the DNS server",
        UNREACHABLE,
        &["keeper.invalid"],
        Waits,
        KeepsAll,
    ),
    row(
        Fault::Hang,
        "no answer",
        UNREACHABLE,
        &["localhost", " gave no complete answer within "],
        Waits,
        KeepsAll,
    ),
    row(
        Fault::Reset,
        "connection reset",
        UNREACHABLE,
        &["localhost"],
        Waits,
        KeepsAll,
    ),
    row(
        Fault::Truncated,
        "connection ends in the middle of the answer",
        UNREACHABLE,
        &["the answer of localhost", " is broken"],
        Waits,
        KeepsAll,
    ),
    row(
        Fault::ServerError,
        "a status of 5xx",
        UNREACHABLE,
        &["localhost", " answered with status 502"],
        Waits,
        KeepsAll,
    ),
    row(
        Fault::Garbage,
        "an answer of garbage",
        UNREACHABLE,
        &["the answer of localhost", " is broken"],
        Waits,
        KeepsAll,
    ),
    row(
        Fault::TruncatedJson,
        "an answer whose JSON breaks off",
        UNREACHABLE,
        &["the answer of localhost", " is broken"],
        Waits,
        KeepsAll,
    ),
    row(
        Fault::Throttled,
        "throttled: status 403 `throttled`",
        THROTTLED,
        &["Keeper throttles this application"],
        Waits,
        KeepsAll,
    ),
    row(
        Fault::TooManyRequests,
        "throttled: status 429 with `Retry-After`",
        THROTTLED,
        &["Keeper throttles this application"],
        Waits,
        KeepsAll,
    ),
    row(
        Fault::UnknownServerKey,
        "Keeper asks for a server key that is not known here",
        CONFIG,
        &[
            "Keeper asks for server key ",
            "give it the key that is asked for",
        ],
        Ends,
        KeepsAll,
    ),
    row(
        Fault::Revoked,
        "the device was deleted or denied access",
        Some("denied"),
        &["Keeper denied access", "Check that the device still exists"],
        Ends,
        KeepsAllStale,
    ),
    row(
        Fault::BadConfig,
        "the mounted device config is none",
        CONFIG,
        &["the Secret `keeper-auth`: "],
        Ends,
        KeepsAll,
    ),
    row(
        Fault::MissingRecord,
        "a record is missing",
        Some("not_found"),
        &["keeper.security/secrets: no record `Payments`"],
        Ends,
        KeepsThatRecord,
    ),
    row(
        Fault::MissingField,
        "a field is missing or empty",
        Some("render"),
        &["keeper.security/secrets: the field `password` of the record `Payments` has no value"],
        Ends,
        KeepsThatRecord,
    ),
    row(
        Fault::BadRecord,
        "a record does not decrypt",
        Some("unreadable"),
        &["keeper.security/secrets: ", "PPPPPPPPPPPPPPPPPPPPPP"],
        Ends,
        KeepsThatRecord,
    ),
    row(
        Fault::BadBystander,
        "a record that the pod does not select does not decrypt",
        None,
        &[],
        Unharmed,
        Unharmed,
    ),
    row(
        Fault::BadDownload,
        "an attachment cannot be downloaded",
        UNREACHABLE,
        &[
            "keeper.security/secrets: the file `payments.txt` of the record `Payments`: ",
            " cannot be downloaded",
        ],
        Waits,
        KeepsThatRecord,
    ),
    row(
        Fault::MissingFolder,
        "a folder is missing",
        Some("not_found"),
        &[
            "keeper.security/folder: no folder `Team/Payments` is shared with this application; the nearest paths are `Team`",
        ],
        Ends,
        KeepsThatRecord,
    ),
    row(
        Fault::ClockForward,
        "the node's clock is put forward",
        None,
        &[],
        Unharmed,
        Unharmed,
    ),
    row(
        Fault::ClockBack,
        "the node's clock is put back",
        None,
        &[],
        Unharmed,
        Unharmed,
    ),
    row(
        Fault::FullVolume,
        "the tmpfs is full",
        Some("write"),
        &[
            "no space left for /keeper/secrets/payments",
            "keeper.security/tmpfs-size",
        ],
        Ends,
        KeepsGeneration,
    ),
];

pub(crate) fn row_of(fault: Fault) -> &'static Row {
    ROWS.iter().find(|row| row.fault == fault).unwrap()
}

/// The page.
pub(crate) fn markdown() -> String {
    let mut page = String::from(INTRODUCTION);
    page.push_str("\n| what goes wrong | `reason` |");
    for phase in Phase::ALL {
        let _ = write!(page, " {} |", phase.name());
    }
    page.push_str("\n|---|---|");
    page.push_str(&"---|".repeat(Phase::ALL.len()));
    for row in &ROWS {
        let reason = row
            .reason
            .map_or_else(String::new, |reason| format!("`{reason}`"));
        let _ = write!(page, "\n| {} | {reason} |", row.name);
        for phase in Phase::ALL {
            let _ = write!(page, " {} |", row.outcome(phase).word());
        }
    }
    page.push_str("\n\n## The outcomes\n\n");
    for outcome in Outcome::ALL {
        let _ = writeln!(page, "- **{}**: {}", outcome.word(), outcome.meaning());
    }
    page
}

const INTRODUCTION: &str = "# What happens when something fails

Made from the table in `shared/agent/tests/outcomes/table.rs`; each cell is run against keeper-sim by `cargo test -p keeper-agent --test
outcomes`.

In one sentence: before the first publication the app does not start without its secrets, and after it nothing that is published is ever
taken away. Each failure is logged as `failed to fetch secrets` with its cause, counted in `keeper_sidecar_refresh_errors_total` and under its
`reason` in `keeper_sidecar_refresh_failures_total`, and, with secrets published, followed by `using cached secrets` with their age.

- *first start*: nothing is published yet.
- *refresh*: the app runs.
- *restart of the sidecar*: its container alone ended, by a crash or for want of memory. The files, the number of tries and the next call lie
  on the tmpfs: the new process calls Keeper when the old one would have, and not at its start.
- *pod sandbox made anew*: all containers start again, with the volume as it was. `keeper-init` ends at once, without a call.
- *node rebooted*: the volume is empty, so this is a first start.
";
