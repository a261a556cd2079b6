"""What a process takes, as the kernel counts it. Reading the memory of a process that isn't dumpable needs root."""

import time
from dataclasses import dataclass
from pathlib import Path

MB = 1e6


@dataclass(frozen=True)
class Memory:
    """Memory of a process in MB."""

    #: All pages that are mapped and in memory, those of the binary included.
    rss: float
    #: Anonymous pages, which are the process's own: heap, stack, and what it wrote of the binary's data.
    private: float
    #: The highest `rss` so far.
    peak: float


def memory(pid: int) -> Memory:
    """The memory of a process now."""
    rollup = kibibytes(Path(f"/proc/{pid}/smaps_rollup").read_text())
    status = kibibytes(Path(f"/proc/{pid}/status").read_text())
    return Memory(rss=rollup["Rss"] * 1024 / MB, private=rollup["Anonymous"] * 1024 / MB, peak=status["VmHWM"] * 1024 / MB)


def kibibytes(text: str) -> dict[str, int]:
    """The lines `Name:  123 kB` of a file in /proc."""
    words = (line.split() for line in text.splitlines())
    return {word[0].rstrip(":"): int(word[1]) for word in words if len(word) == 3 and word[2] == "kB"}


def cpu_seconds(pid: int) -> float:
    """Processor time of a process since its start, of ended threads too, to the nanosecond."""
    # The kernel's number for the CPU clock of another process: MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED).
    return time.clock_gettime_ns((~pid << 3) | 2) / 1e9


#: A file: its inode, size, and time of the last change of its content.
Entry = tuple[int, int, int]


def files(directory: Path) -> dict[str, Entry]:
    """The regular files below a directory."""
    entries = {}
    for path in directory.rglob("*"):
        if path.is_file() and not path.is_symlink():
            about = path.stat()
            entries[str(path.relative_to(directory))] = (about.st_ino, about.st_size, about.st_mtime_ns)
    return entries


def bytes_rewritten(before: dict[str, Entry], after: dict[str, Entry]) -> int:
    """Size of all files that are new or have been written since."""
    return sum(entry[1] for name, entry in after.items() if before.get(name) != entry)
