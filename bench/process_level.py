"""What the agent takes as a process: memory, processor time, calls and bytes, each beside the peer's."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import proc
from figures import Figure
from keeper import Keeper
from programs import Program, peer, sidecar, wait_until

#: Seconds between two refreshes while measuring; the default in a cluster is 300.
INTERVAL = 15
REFRESHES_AN_HOUR = 3600 // 300
#: Refreshes that are measured, after one that is not.
REFRESHES = 4
#: Seconds after a refresh until the process is at rest.
SETTLE = 2.0
#: Seconds until what a first fetch leaves behind has ended too: the connection, and the thread that looked the name up.
START = 12.0
#: Seconds between two looks of the waiting sidecar at the clock. It is measured over whole ones.
LOOK = 60.0
PEER = "Go SDK"
#: The client whose process refreshes once an hour.
IDLE = "idle"


@dataclass(frozen=True)
class Rest:
    """One process over several refreshes without a change."""

    memory: proc.Memory
    cpu_a_refresh: float
    calls_a_refresh: float
    bytes_a_refresh: float


def at_rest(binary: Path, peer_binary: Path, keeper_binary: Path, directory: Path) -> Iterator[Figure]:
    """Our sidecar with 1, 10 and 100 secrets of an application with 100 records, and the peer with 10 and 100."""
    programs = {"ours-1": 1, "ours-10": 10, "ours-100": 100, "peer-10": 10, "peer-100": 100, IDLE: 10}
    with ExitStack() as stack:
        keeper = stack.enter_context(Keeper(keeper_binary, directory / "rest", 100, list(programs)))
        running = {}
        for client, secrets in programs.items():
            start, file = (peer, peer_binary) if client.startswith("peer") else (sidecar, binary)
            interval = 3600 if client == IDLE else INTERVAL
            running[client] = stack.enter_context(start(file, keeper, client, secrets, interval))
        for program in running.values():
            program.wait_published()
        rests, waiting = _over_refreshes(keeper, running)
    for secrets in (1, 10, 100):
        ours, theirs = rests[f"ours-{secrets}"], rests.get(f"peer-{secrets}")
        of = f"{secrets} secret{'s' if secrets > 1 else ''}"

        def figure(name: str, value: float, unit: str, beside: float | None, limit: float | None = None) -> Figure:
            return Figure(f"{name}, {of}", value, unit, limit, beside, PEER if beside is not None else "")

        target = secrets == 10
        yield figure("private memory at rest", ours.memory.private, "MB", theirs and theirs.memory.private, 1.0 if target else None)
        yield figure("RSS at rest", ours.memory.rss, "MB", theirs and theirs.memory.rss, 4.0 if target else None)
        yield figure("CPU of a refresh", ours.cpu_a_refresh * 1e3, "ms", theirs and theirs.cpu_a_refresh * 1e3)
        idle_hour = ours.cpu_a_refresh * REFRESHES_AN_HOUR + waiting * 3600
        yield figure("CPU of an idle hour", idle_hour * 1e3, "ms", theirs and theirs.cpu_a_refresh * REFRESHES_AN_HOUR * 1e3)
        yield figure("calls to Keeper a refresh", ours.calls_a_refresh, "", theirs and theirs.calls_a_refresh, 1.0)
        yield figure("bytes written by a refresh without a change", ours.bytes_a_refresh, "B", theirs and theirs.bytes_a_refresh, 0.0)


def _over_refreshes(keeper: Keeper, running: dict[str, Program]) -> tuple[dict[str, Rest], float]:
    """Each process over some refreshes, and the processor time that the one which only waits takes in a second."""
    refreshing = [client for client in running if client != IDLE]
    time.sleep(START)
    first = keeper.calls()
    _wait_for_calls(keeper, {client: first[client] + 1 for client in refreshing})
    counted = {client: program.refreshes() for client, program in running.items()}
    # After the look at the counters, which takes the sidecar some time too.
    began, calls = time.monotonic(), keeper.calls()
    cpu = {client: proc.cpu_seconds(program.pid) for client, program in running.items()}
    # Every refresh is compared with the one before it: a file that is written anew each time counts each time.
    written = dict.fromkeys(running, 0)
    entries = {client: proc.files(program.volume) for client, program in running.items()}
    for _ in range(REFRESHES):
        now = keeper.calls()
        _wait_for_calls(keeper, {client: now[client] + 1 for client in refreshing})
        for client, program in running.items():
            after = proc.files(program.volume)
            written[client] += proc.bytes_rewritten(entries[client], after)
            entries[client] = after
    calls_after = keeper.calls()
    cpu_after = {client: proc.cpu_seconds(program.pid) for client, program in running.items()}
    memory = {client: proc.memory(program.pid) for client, program in running.items()}
    rests = {}
    for client in refreshing:
        refreshes = running[client].refreshes() - counted[client]
        rests[client] = Rest(
            memory=memory[client],
            cpu_a_refresh=(cpu_after[client] - cpu[client]) / refreshes,
            calls_a_refresh=(calls_after[client] - calls[client]) / refreshes,
            bytes_a_refresh=written[client] / refreshes,
        )
    time.sleep(-(time.monotonic() - began) % LOOK)
    waiting = (proc.cpu_seconds(running[IDLE].pid) - cpu[IDLE]) / (time.monotonic() - began)
    return rests, waiting


def _wait_for_calls(keeper: Keeper, least: dict[str, int]) -> None:
    """Until each client has made so many calls and is at rest again."""
    wait_until("a refresh of each process", lambda: all(keeper.calls()[client] >= calls for client, calls in least.items()))
    time.sleep(SETTLE)


def full_fetch(binary: Path, peer_binary: Path, keeper_binary: Path, directory: Path) -> Iterator[Figure]:
    """10 secrets of an application with 5,000 records: the first fetch reads all of them, to find the titles."""
    taken = {}
    with Keeper(keeper_binary, directory / "full", 5000, ["ours", "peer"]) as keeper:
        for client, start, file in (("ours", sidecar, binary), ("peer", peer, peer_binary)):
            with start(file, keeper, client, 10, 3600) as program:
                program.wait_published()
                time.sleep(SETTLE)
                taken[client] = proc.memory(program.pid), proc.cpu_seconds(program.pid)
    (ours, our_cpu), (theirs, their_cpu) = taken["ours"], taken["peer"]
    yield Figure("peak RSS of a full fetch, 5,000 records", ours.peak, "MB", None, theirs.peak, PEER)
    yield Figure("private memory after it", ours.private, "MB", None, theirs.private, PEER)
    yield Figure("RSS after it", ours.rss, "MB", None, theirs.rss, PEER)
    yield Figure("CPU of start and full fetch", our_cpu * 1e3, "ms", None, their_cpu * 1e3, PEER)
