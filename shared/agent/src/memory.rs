//! How large an answer of Keeper may be. One that doesn't fit into the container's memory would end the
//! process without a word, so the limit follows from the container's own.

use std::fs;

use keeper_ksm::ClientOptions;

/// The memory limit of this container's cgroup, in version 2 and in version 1.
const LIMIT_FILES: [&str; 2] = [
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
];

/// While an answer is taken apart, its text, its parts and the buffers of both are there at once; the rest
/// is the process itself and what it has written to the tmpfs.
const ANSWERS_IN_MEMORY: u64 = 6;

/// Largest answer in bytes that this container can deal with.
pub(crate) fn largest_answer() -> usize {
    let limits = LIMIT_FILES
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok());
    largest_within(limits.filter_map(|text| parse(&text)).min())
}

/// The part of a memory limit in bytes that an answer may have.
fn largest_within(limit: Option<u64>) -> usize {
    let standard = ClientOptions::default().max_answer_bytes;
    let share = limit.map(|limit| usize::try_from(limit / ANSWERS_IN_MEMORY).unwrap_or(usize::MAX));
    share.map_or(standard, |share| share.min(standard))
}

/// `max` means none.
fn parse(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEBIBYTE: usize = 1024 * 1024;

    #[test]
    fn an_answer_has_a_share_of_the_memory_limit() {
        assert_eq!(largest_within(parse("25165824\n")), 4 * MEBIBYTE);
    }

    #[test]
    fn without_a_limit_the_client_has_its_own() {
        let standard = ClientOptions::default().max_answer_bytes;
        // Version 2 writes a word, version 1 the largest number of pages.
        for unlimited in ["max\n", "9223372036854771712\n", "", "-1"] {
            assert_eq!(largest_within(parse(unlimited)), standard, "{unlimited}");
        }
    }
}
