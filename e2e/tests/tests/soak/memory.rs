//! What a sidecar takes, as the kernel counts it.

use std::fmt;
use std::fs;
use std::path::Path;

use keeper_e2e::node;

/// How much more a sidecar may take later on. Records and values of changing sizes spread over the heap: it grew by 60 to
/// 140 KiB in five minutes of edits, to which a process that began late came within a minute, and by no page in ten minutes
/// without edits, or with edits of one size. A leak of 10 KiB in each of the twenty refreshes of five minutes is found.
const NOISE_KIB: u64 = 192;
/// What the kernel counts at its own discretion: it maps what it has of the binary around a page that is used, and charges a
/// cgroup 64 pages at once.
const DISCRETION_KIB: u64 = 256;

/// Memory of a process and of its container, in KiB.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// Anonymous pages: heap, stacks, and what it wrote of the binary's data.
    private: u64,
    /// All pages that are mapped and there, those of the binary included.
    resident: u64,
    /// What is charged to the cgroup without the pages of files: anonymous ones, and the kernel's for it.
    cgroup: u64,
}

impl Memory {
    /// Of a process of the node.
    pub(crate) fn of(process: &str) -> Self {
        let rollup = node::root().join("proc").join(process).join("smaps_rollup");
        let rollup = fs::read_to_string(rollup).unwrap();
        let kibibytes = |name: &str| number(&rollup, name).unwrap();
        Self {
            private: kibibytes("Anonymous:"),
            resident: kibibytes("Rss:"),
            cgroup: charged(&node::memory_cgroup(process)) / 1024,
        }
    }
}

impl Memory {
    /// Whether that is what it takes later on, too.
    pub(crate) fn check(&self, later: &Self) -> Result<(), String> {
        let more = NOISE_KIB + DISCRETION_KIB;
        let parts = [
            ("private", self.private, later.private, NOISE_KIB),
            ("resident", self.resident, later.resident, more),
            ("charged to the cgroup", self.cgroup, later.cgroup, more),
        ];
        for (what, before, after, noise) in parts {
            if after > before + noise {
                return Err(format!("{what}: {after} KiB where {before} KiB were"));
            }
        }
        Ok(())
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (private, resident, cgroup) = (self.private, self.resident, self.cgroup);
        write!(
            f,
            "private {private} KiB, resident {resident} KiB, cgroup {cgroup} KiB"
        )
    }
}

/// Bytes that a cgroup is charged for, without the pages of files.
fn charged(cgroup: &Path) -> u64 {
    let read = |file: &str| fs::read_to_string(cgroup.join(file));
    let all = read("memory.usage_in_bytes").or_else(|_| read("memory.current"));
    let stat = read("memory.stat").unwrap();
    // Version 1 and version 2.
    let files = number(&stat, "cache").or_else(|| number(&stat, "file"));
    all.unwrap()
        .trim()
        .parse::<u64>()
        .unwrap()
        .saturating_sub(files.unwrap())
}

/// The number behind a name that stands alone at the beginning of a line.
fn number(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().map(str::split_whitespace);
    lines.find_map(|mut words| (words.next()? == name).then(|| words.next()?.parse().ok())?)
}

#[test]
fn what_grows_is_found() {
    let before = Memory {
        private: 550,
        resident: 4_000,
        cgroup: 850,
    };
    let mut after = before;
    after.private += NOISE_KIB;
    before.check(&after).unwrap();
    after.cgroup += NOISE_KIB + DISCRETION_KIB + 1;
    assert!(before.check(&after).unwrap_err().contains("cgroup"));
    after = before;
    after.private += NOISE_KIB + 1;
    assert!(before.check(&after).unwrap_err().contains("private"));
}
