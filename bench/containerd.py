"""When containerd created, started and ended containers: its events, as `ctr events` prints them."""

import datetime
import json
import subprocess
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

#: The longest that an event may be on its way.
DEADLINE = 10.0
CREATED = "/containers/create"
#: A container's process, or that of a hook in it, began or ended.
ACTIVE = {"/tasks/start", "/tasks/exec-started", "/tasks/exit"}


@dataclass(frozen=True)
class Event:
    """Something happened to a container; the moment is in seconds since 1970."""

    moment: float
    topic: str
    container: str


class Events:
    """The events of a node from now on; a context manager that ends the listening."""

    def __init__(self, cluster: Path) -> None:
        self._output = tempfile.TemporaryFile("w+")
        command = [cluster, "exec", "ctr", "--address", "/run/containerd/containerd.sock", "--namespace", "k8s.io", "events"]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self._output)

    def __enter__(self) -> "Events":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()

    def until_start_of(self, container: str) -> list[Event]:
        """All events, as soon as the start of that container is among them."""
        end = time.monotonic() + DEADLINE
        while True:
            self._output.seek(0)
            events = parse(self._output.readlines())
            if any(event.topic == "/tasks/start" and event.container == container for event in events):
                return events
            if time.monotonic() > end:
                raise TimeoutError(f"containerd said nothing of the start of {container}")
            time.sleep(0.05)


def parse(lines: Iterable[str]) -> list[Event]:
    """The events of containers in what `ctr events` printed; its last line may not be whole yet."""
    events = []
    for line in lines:
        # Day, time to the nanosecond, the zone's offset and name, namespace, topic, and JSON.
        words = line.split(maxsplit=6)
        if not line.endswith("\n") or len(words) < 7 or words[5] not in {CREATED, *ACTIVE}:
            continue
        about = json.loads(words[6])
        clock, _, fraction = words[1].partition(".")
        whole = datetime.datetime.fromisoformat(f"{words[0]}T{clock}{words[2]}").timestamp()
        events.append(Event(whole + float(f"0.{fraction or 0}"), words[5], about.get("container_id") or about["id"]))
    return events


def waited(events: list[Event], steps: list[str], others: list[str]) -> float:
    """How long the kubelet let a pod wait between its containers, in seconds.

    After each of its init containers `steps`, in their order, it waits until it looks at the pod again: from the last that the container did
    before the next one was created. The ordinary ones, `others`, come without a wait between them.
    """
    created = {event.container: event.moment for event in events if event.topic == CREATED}
    following = [*(created[step] for step in steps[1:]), min(created[other] for other in others)]
    return sum(next_ - max(_active(events, step, next_)) for step, next_ in zip(steps, following))


def _active(events: list[Event], container: str, before: float) -> list[float]:
    """When a container did something before a moment."""
    return [event.moment for event in events if event.container == container and event.topic in ACTIVE and event.moment <= before]
