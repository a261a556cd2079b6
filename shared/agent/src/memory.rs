//! How large an answer of Keeper may be. One that doesn't fit into the container's memory would end the
//! process without a word, so the limit follows from the container's own.

use std::fs;

use keeper_ksm::ClientOptions;

/// The memory limit of this container's cgroup, in version 2 and in version 1.
const LIMIT_FILES: [&str; 2] = [
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
];

/// What the process takes before it reads an answer, and some to spare. Measured: 4 MiB of resident memory, most of
/// it the pages of the binary.
const PROCESS: u64 = 5 * 1024 * 1024;

/// What an answer takes at its peak, in fifths of its size: it and its records are there together. Measured: 1.95
/// times its size, from 1,000 to 10,000 records.
const FIFTHS_OF_AN_ANSWER: u64 = 11;

/// The least that is read, however little memory there is.
const LEAST: u64 = 512 * 1024;

/// Largest answer in bytes that this container can deal with. `volume` is the capacity of the tmpfs in bytes, whose
/// pages are charged to whoever wrote them.
pub(crate) fn largest_answer(volume: Option<u64>) -> usize {
    let limits = LIMIT_FILES
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok());
    largest_within(limits.filter_map(|text| parse(&text)).min(), volume)
}

/// How large an attachment may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileLimit {
    /// In bytes.
    pub(crate) bytes: usize,
    /// What to do about one that is larger.
    pub(crate) cure: &'static str,
}

/// An attachment is in memory once, beside the records of an answer; on the volume there are two of it while it is
/// replaced.
pub(crate) fn largest_file(volume: Option<u64>) -> FileLimit {
    limit_of_file(largest_answer(volume), volume)
}

fn limit_of_file(memory: usize, volume: Option<u64>) -> FileLimit {
    let half = volume.map_or(usize::MAX, |volume| {
        usize::try_from(volume / 2).unwrap_or(usize::MAX)
    });
    if half < memory {
        return FileLimit {
            bytes: half,
            cure: ": half of the volume is for one attachment at most, raise the annotation keeper.security/tmpfs-size",
        };
    }
    FileLimit {
        bytes: memory,
        cure: ": it has to fit into the agent's memory beside the volume (keeper.security/tmpfs-size), raise the annotation keeper.security/sidecar-memory-limit",
    }
}

/// The part of a memory limit in bytes that an answer may have.
fn largest_within(limit: Option<u64>, volume: Option<u64>) -> usize {
    let standard = ClientOptions::default().max_answer_bytes;
    let Some(limit) = limit else {
        return standard;
    };
    // A volume as large as the limit is none of ours: the agent was started by hand.
    let volume = volume.filter(|volume| *volume < limit).unwrap_or(0);
    let free = limit.saturating_sub(volume).saturating_sub(PROCESS);
    let share = (free / FIFTHS_OF_AN_ANSWER).saturating_mul(5).max(LEAST);
    usize::try_from(share).unwrap_or(usize::MAX).min(standard)
}

/// `max` means none.
fn parse(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIBIBYTE: u64 = 1024;
    const MEBIBYTE: u64 = 1024 * KIBIBYTE;

    fn within(limit: &str, volume: u64) -> u64 {
        u64::try_from(largest_within(parse(limit), Some(volume))).unwrap()
    }

    #[test]
    fn an_answer_has_what_process_and_volume_leave() {
        // The defaults for one output: 16Mi and the volume of 4Mi + 128Ki.
        let volume = 4 * MEBIBYTE + 128 * KIBIBYTE;
        let limit = (16 * MEBIBYTE + volume).to_string();
        assert_eq!(within(&limit, volume), 5 * MEBIBYTE);
        // A disk is no volume of ours.
        assert_eq!(within(&limit, 1024 * MEBIBYTE), within(&limit, 0));
        assert_eq!(within("6291456\n", volume), 512 * KIBIBYTE);
    }

    #[test]
    fn an_attachment_fits_into_memory_and_twice_into_the_volume() {
        let limit = |memory: usize, volume| {
            let limit = limit_of_file(memory, volume);
            (
                limit.bytes,
                limit
                    .cure
                    .contains("raise the annotation keeper.security/tmpfs-size"),
            )
        };
        assert_eq!(limit(5_000_000, Some(6_000_000)), (3_000_000, true));
        assert_eq!(limit(5_000_000, Some(60_000_000)), (5_000_000, false));
        assert_eq!(limit(5_000_000, None), (5_000_000, false));
    }

    #[test]
    fn without_a_limit_the_client_has_its_own() {
        let standard = u64::try_from(ClientOptions::default().max_answer_bytes).unwrap();
        // Version 2 writes a word, version 1 the largest number of pages.
        for unlimited in ["max\n", "9223372036854771712\n", "", "-1"] {
            assert_eq!(within(unlimited, MEBIBYTE), standard, "{unlimited}");
        }
    }
}
