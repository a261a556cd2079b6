//! Who the injected containers run as, and with what mode their files are written: the application must read them,
//! and nobody else that can be kept out.
//!
//! An fsGroup is a group of every container in the pod. Without one, only the files' owner can be told from
//! strangers: so our containers run as the application's user, where the pod says who that is. A signal needs that
//! in any case, or root that kept the capability KILL.

use crate::annotations::PREFIX;
use crate::choices::SameUser;
use crate::pod::{CONTAINERS, Container, Pod};
use crate::problem::{Findings, Reason};
use crate::scalars::FileMode;

/// Who our containers run as where nothing says otherwise; their group, too.
const NOBODY: i64 = 65_532;
/// Files for one user or the pod's group.
const PRIVATE: u32 = 0o440;
/// Files for whoever may run in the containers that mount them.
const OPEN: u32 = 0o444;

/// UID, group and capability of our containers, and the mode of what they write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) user: i64,
    pub(crate) group: i64,
    /// Whether they keep KILL, the only capability that they ever have.
    pub(crate) may_kill: bool,
    pub(crate) file_mode: u32,
}

/// What the annotations say about it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wishes {
    pub(crate) same_user: SameUser,
    pub(crate) signals: bool,
    pub(crate) output_mode: Option<FileMode>,
}

impl Identity {
    /// Decides it for a pod whose containers `readers` get the files; `own_modes` are the files' own, with their
    /// annotations.
    pub(crate) fn decide<'m>(
        wishes: Wishes,
        own_modes: impl Iterator<Item = (&'m str, FileMode)>,
        pod: &Pod<'_>,
        readers: &[Container<'_>],
        findings: &mut Findings,
    ) -> Self {
        let (user, may_kill) = match wishes.signals {
            true => to_signal(wishes.same_user, pod, readers, findings),
            false => (to_read(wishes.same_user, pod, readers, findings), false),
        };
        let fs_group = pod.fs_group();
        let readers: Vec<_> = readers.iter().map(|reader| pod.user(reader)).collect();
        let same_user = !readers.is_empty() && readers.iter().all(|reader| *reader == Some(user));
        let default = match fs_group.is_some() || same_user {
            true => PRIVATE,
            false => OPEN,
        };
        let stated = wishes.output_mode.map(|mode| ("output-mode", mode));
        for (annotation, mode) in stated.into_iter().chain(own_modes) {
            check_mode(annotation, mode, user, fs_group, &readers, findings);
        }
        Self {
            user,
            group: fs_group.unwrap_or(NOBODY),
            may_kill,
            file_mode: wishes.output_mode.map_or(default, |mode| mode.0),
        }
    }
}

/// The one UID that is stated for all of `containers`.
fn stated<'a, 'p: 'a>(
    pod: &Pod<'p>,
    containers: impl IntoIterator<Item = &'a Container<'p>>,
) -> Option<i64> {
    let mut users = containers.into_iter().map(|container| pod.user(container));
    let first = users.next()??;
    users.all(|user| user == Some(first)).then_some(first)
}

/// The UID that is good for reading.
fn to_read<'p>(
    wish: SameUser,
    pod: &Pod<'p>,
    readers: &[Container<'p>],
    findings: &mut Findings,
) -> i64 {
    match (wish, stated(pod, readers)) {
        (SameUser::Always, Some(user)) => user,
        // Root reads what anybody writes; no need to become it.
        (SameUser::Auto, Some(user)) if user != 0 => user,
        // Which containers get the files is wrong already.
        (SameUser::Always, None) if readers.is_empty() => NOBODY,
        (SameUser::Always, None) => {
            findings.problem(
                "run-as-same-user",
                Reason::Conflict,
                format_args!(
                    "the pod does not state one runAsUser for all containers that get the files: state it (securityContext.runAsUser of the pod), or name those of one user with {PREFIX}containers"
                ),
            );
            NOBODY
        }
        (SameUser::Auto | SameUser::Never, _) => NOBODY,
    }
}

/// The UID that may signal the application, and whether it needs the capability.
fn to_signal<'p>(
    wish: SameUser,
    pod: &Pod<'p>,
    readers: &[Container<'p>],
    findings: &mut Findings,
) -> (i64, bool) {
    if wish == SameUser::Never {
        findings.problem(
            "run-as-same-user",
            Reason::Conflict,
            format_args!("`false` excludes {PREFIX}signal, which needs the application's UID: remove one of them"),
        );
    }
    let listeners = || readers.iter().filter(|c| c.list == CONTAINERS);
    if readers.is_empty() {
        // Which containers get the files is wrong already.
        return (NOBODY, false);
    }
    if listeners().next().is_none() {
        findings.problem(
            "signal",
            Reason::Conflict,
            format_args!("none of {PREFIX}containers runs beside the sidecar: name one that does, or remove it"),
        );
    }
    match stated(pod, listeners()) {
        // Root's children may be somebody else.
        Some(user) => return (user, user == 0),
        None if pod.demands_non_root(listeners()) => findings.problem(
            "signal",
            Reason::Conflict,
            format_args!(
                "the pod demands runAsNonRoot, and a signal needs the application's UID: state one runAsUser for all containers (securityContext.runAsUser of the pod), or use {PREFIX}reload-url"
            ),
        ),
        None => findings.warn(
            "signal",
            "the injected containers run as root with the capability KILL alone, as the pod states no runAsUser that all containers have",
        ),
    }
    (0, true)
}

/// Says who can't read files of a stated mode.
fn check_mode(
    annotation: &str,
    mode: FileMode,
    user: i64,
    fs_group: Option<i64>,
    readers: &[Option<i64>],
    findings: &mut Findings,
) {
    let by_group = fs_group.is_some() && mode.0 & 0o040 != 0;
    if mode.0 & 0o004 != 0 || by_group {
        return;
    }
    // Root may have the capability to read anything.
    let locked_out = |reader: &&Option<i64>| !matches!(reader, Some(0)) && **reader != Some(user);
    match readers.iter().filter(locked_out).max() {
        None => {}
        Some(None) => findings.warn(
            annotation,
            format_args!("files of mode {mode} can be read by UID {user} alone, and the pod states no runAsUser and no fsGroup"),
        ),
        Some(Some(reader)) => findings.problem(
            annotation,
            Reason::Conflict,
            format_args!(
                "files of mode {mode} belong to UID {user}, and a container runs as {reader}: give the pod an fsGroup and the mode 0440, or leave the mode out"
            ),
        ),
    }
}
