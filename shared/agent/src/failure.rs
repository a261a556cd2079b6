//! What can go wrong in a refresh, what it is called in metrics, and whether waiting may cure it.

use std::fmt::Write as _;
use std::time::Duration;

use keeper_ksm::{ErrorKind, FolderError, LookupError};

use crate::publish::PublishError;
use crate::render::RenderError;
use crate::source::SourceError;

/// Longest text of failures: the kubelet cuts a termination message at 4096 bytes.
const MAX_MESSAGE_BYTES: usize = 4000;

/// One thing that went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The device config or the extra CA.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A call to Keeper.
    #[error("{0}{cure}", cure = cure(.0))]
    Keeper(#[from] keeper_ksm::Error),
    /// A record of an output.
    #[error("{annotation}: {error}")]
    Selection {
        /// The annotation that asks for it.
        annotation: String,
        /// Why there is none.
        error: LookupError,
    },
    /// A folder.
    #[error("{annotation}: {error}")]
    Folder {
        /// The annotation that asks for it.
        annotation: String,
        /// Why it can't be had.
        error: FolderError,
    },
    /// The content of an attachment.
    #[error(transparent)]
    Attachment(Box<AttachmentFailure>),
    /// A field or value of an output.
    #[error("{annotation}: {error}")]
    Render {
        /// The annotation that asks for it.
        annotation: String,
        /// Why there is none.
        error: RenderError,
    },
    /// Writing the files.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

/// An attachment that was not downloaded.
#[derive(Debug, thiserror::Error)]
#[error("{annotation}: the file `{file}` of the record `{record}`: {error}{cure}")]
pub struct AttachmentFailure {
    /// The annotation that asks for it.
    pub(crate) annotation: String,
    /// The record's title.
    pub(crate) record: String,
    /// The file's name.
    pub(crate) file: String,
    /// What became of the download.
    pub(crate) error: keeper_ksm::Error,
    /// What helps.
    pub(crate) cure: &'static str,
}

/// What helps against an error that the client can't know the cure of.
fn cure(error: &keeper_ksm::Error) -> &'static str {
    match error.kind() {
        ErrorKind::TooLarge => {
            ": give the agents more memory with keeper.security/sidecar-memory-limit"
        }
        ErrorKind::Unreachable | ErrorKind::Throttled | ErrorKind::Denied | ErrorKind::Config => "",
    }
}

/// The reasons of failures, as metrics name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Keeper can't be reached, or its answer is broken.
    Unreachable,
    /// Too many calls.
    Throttled,
    /// Keeper denies access.
    Denied,
    /// A record or a folder is not there.
    NotFound,
    /// A record, a folder or a file is there but cannot be read, or is too large.
    Unreadable,
    /// The device config, the extra CA, or something else that is set wrongly.
    Config,
    /// A field has no value that could be published.
    Render,
    /// The files can't be written.
    Write,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Unreachable,
        Self::Throttled,
        Self::Denied,
        Self::NotFound,
        Self::Unreadable,
        Self::Config,
        Self::Render,
        Self::Write,
    ];

    /// The value of the label `reason`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Throttled => "throttled",
            Self::Denied => "denied",
            Self::NotFound => "not_found",
            Self::Unreadable => "unreadable",
            Self::Config => "config",
            Self::Render => "render",
            Self::Write => "write",
        }
    }
}

impl Failure {
    /// What kind of failure it is.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Source(_) => Reason::Config,
            Self::Keeper(error) => of_keeper(error),
            Self::Attachment(failure) => of_keeper(&failure.error),
            Self::Selection { error, .. } => match error {
                LookupError::NotFound { .. } | LookupError::Ambiguous { .. } => Reason::NotFound,
                LookupError::Unreadable { .. } => Reason::Unreadable,
            },
            Self::Folder { error, .. } => match error {
                FolderError::NotFound { .. } | FolderError::Ambiguous { .. } => Reason::NotFound,
                FolderError::Unreadable { .. } => Reason::Unreadable,
            },
            Self::Render { .. } => Reason::Render,
            Self::Publish(_) => Reason::Write,
        }
    }

    /// Whether the same refresh may succeed later without anybody changing anything.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self.reason(), Reason::Unreachable | Reason::Throttled)
    }

    /// How long the server asks us to wait.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Keeper(error) => error.retry_after(),
            _ => None,
        }
    }
}

fn of_keeper(error: &keeper_ksm::Error) -> Reason {
    match error.kind() {
        ErrorKind::Unreachable => Reason::Unreachable,
        ErrorKind::Throttled => Reason::Throttled,
        ErrorKind::Denied => Reason::Denied,
        ErrorKind::Config => Reason::Config,
        ErrorKind::TooLarge => Reason::Unreadable,
    }
}

/// All failures of a refresh in one text of bounded length, without control characters: parts of it come from
/// the vault and the server.
#[must_use]
pub(crate) fn message(failures: &[Failure]) -> String {
    let mut text = String::new();
    for (index, failure) in failures.iter().enumerate() {
        let separator = if index == 0 { "" } else { "; " };
        // Writing to a string does not fail.
        let _ = write!(text, "{separator}{failure}");
        if text.len() > MAX_MESSAGE_BYTES {
            break;
        }
    }
    let mut clean: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if clean.len() > MAX_MESSAGE_BYTES {
        clean.truncate(clean.floor_char_boundary(MAX_MESSAGE_BYTES));
        clean.push('…');
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    fn not_found(name: &str) -> Failure {
        Failure::Selection {
            annotation: "keeper.security/secret".into(),
            error: LookupError::NotFound {
                reference: name.into(),
                nearest: vec!["Orders".into()],
                unreadable: 0,
            },
        }
    }

    #[test]
    fn a_message_names_every_failure() {
        let text = message(&[not_found("Order"), not_found("x\n\u{1b}y")]);
        assert_eq!(
            text,
            "keeper.security/secret: no record `Order` is shared with this application; the nearest titles \
             are `Orders`; keeper.security/secret: no record `x  y` is shared with this application; the \
             nearest titles are `Orders`"
        );
    }

    #[test]
    fn a_message_is_bounded() {
        let many: Vec<Failure> = (0..2_000).map(|_| not_found("ü")).collect();
        let text = message(&many);
        assert!(text.len() <= MAX_MESSAGE_BYTES + '…'.len_utf8());
        assert!(text.ends_with('…'));
    }

    #[test]
    fn only_what_time_may_cure_is_retryable() {
        let keeper = |error| Failure::Keeper(error);
        let timeout = keeper_ksm::Error::Timeout {
            host: "h".into(),
            after: Duration::from_secs(1),
        };
        let denied = keeper_ksm::Error::AccessDenied {
            message: String::new(),
        };
        let retry_after = Some(Duration::from_secs(7));
        let throttled = keeper_ksm::Error::Throttled { retry_after };
        for (failure, reason, retryable) in [
            (keeper(timeout), Reason::Unreachable, true),
            (keeper(throttled), Reason::Throttled, true),
            (keeper(denied), Reason::Denied, false),
            (not_found("x"), Reason::NotFound, false),
        ] {
            assert_eq!(failure.reason(), reason);
            assert_eq!(failure.is_retryable(), retryable, "{failure}");
        }
        let throttled = keeper(keeper_ksm::Error::Throttled { retry_after });
        assert_eq!(throttled.retry_after(), retry_after);
    }
}
