"""How long pods take to start on a node of e2e/cluster: from `kubectl create` to the app's first line.

The kubelet looks at its containers once a second, so a start takes up to a second more by chance. Every round measures
each shape once, in random order and from the same part of a second; the rounds go through all parts of it.
"""

import datetime
import json
import os
import random
import statistics
import subprocess
import time
from pathlib import Path

from figures import Figure

NAMESPACE = "bench"
#: Rounds.
RUNS = 16
#: What Keeper takes for an answer, in milliseconds.
LATENCY = 50
#: What an injected pod may add to a bare one beyond what an init container that does nothing adds, in seconds.
ALLOWANCE = 0.1

APP = {"name": "app", "image": "busybox", "command": ["/bin/sh", "-c", "echo started; exec sleep 3600"]}
STEP = {"name": "step", "image": "busybox", "command": ["true"]}
LASTING = {"name": "lasting", "image": "busybox", "command": ["sleep", "3600"], "restartPolicy": "Always"}
INJECTED = {"keeper.security/inject": "true", "keeper.security/ksm-config": "keeper-auth", "keeper.security/secret": "database-credentials"}

BARE, INIT, USUAL = "nothing injected", "an init container that does nothing", "an init container and a native sidecar that do nothing"
#: Name -> annotations and init containers of the pod.
SHAPES: dict[str, tuple[dict[str, str], list[dict]]] = {
    BARE: ({}, []),
    INIT: ({}, [STEP]),
    USUAL: ({}, [STEP, LASTING]),
    "native": (INJECTED, []),
    "classic": ({**INJECTED, "keeper.security/sidecar-mode": "classic"}, []),
    "init-only": ({**INJECTED, "keeper.security/init-only": "true"}, []),
}
OURS = [name for name, (annotations, _) in SHAPES.items() if annotations]


def pod(name: str, shape: str) -> dict:
    """A pod of a shape."""
    annotations, init_containers = SHAPES[shape]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "annotations": annotations},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "securityContext": {"runAsUser": 1000, "runAsGroup": 1000},
            "initContainers": init_containers,
            "containers": [APP],
        },
    }


def figures(root: Path) -> list[Figure]:
    """Starts a node unless one is up, measures, and ends a node that it started."""
    node = Node(root)
    was_up = node.is_up()
    node.run("cluster", "up")
    try:
        node.prepare()
        seconds: dict[str, list[float]] = {shape: [] for shape in SHAPES}
        for phase in phases(RUNS):
            for shape in random.sample(list(SHAPES), len(SHAPES)):
                time.sleep((phase - time.time()) % 1)
                seconds[shape].append(node.start(shape))
    finally:
        if not was_up:
            node.run("cluster", "down")
    return added(seconds)


def added(seconds: dict[str, list[float]]) -> list[Figure]:
    """What each of our shapes adds to a bare pod, beside what the usual ones add."""
    mean = {shape: statistics.mean(values) for shape, values in seconds.items()}
    step, usual = mean[INIT] - mean[BARE], mean[USUAL] - mean[BARE]
    made = [Figure(f"start of a pod, {BARE}", mean[BARE], "s", spread=quartiles(seconds[BARE]))]
    for shape in OURS:
        more, spread = mean[shape] - mean[BARE], quartiles([value - mean[BARE] for value in seconds[shape]])
        made.append(Figure(f"added to it by {shape}", more, "s", round(step + ALLOWANCE, 2), step, INIT, spread))
        made.append(Figure(f"the same, {shape}", more, "s", None, usual, USUAL))
    return made


def phases(rounds: int) -> list[float]:
    """For each round a part of a second, random and evenly spread over it, in random order."""
    return [(part + random.random()) / rounds for part in random.sample(range(rounds), rounds)]


def quartiles(values: list[float]) -> str:
    """The middle half of the values."""
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{low:.2f} to {high:.2f}"


class Node:
    """The node of this checkout."""

    def __init__(self, root: Path) -> None:
        self._tools = root / "e2e/cluster"

    def run(self, tool: str, *arguments: str, text: str | None = None) -> str:
        """Runs a program of e2e/cluster, which must succeed."""
        command = [self._tools / tool, *arguments]
        environment = {**os.environ, "KEEPER_SIM_NAMESPACE": NAMESPACE}
        return subprocess.run(command, check=True, env=environment, input=text, stdout=subprocess.PIPE, text=True, timeout=600).stdout

    def is_up(self) -> bool:
        return subprocess.run([self._tools / "cluster", "exec", "true"], stderr=subprocess.DEVNULL).returncode == 0

    def prepare(self) -> None:
        """A namespace with a slow Keeper, and every image on the node."""
        self.run("kubectl", "delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait")
        self.run("kubectl", "create", "namespace", NAMESPACE)
        self.run("cluster", "keeper", NAMESPACE)
        self.run("keeper-sim", "fault", "latency", str(LATENCY))
        for shape in SHAPES:
            self.start(shape)

    def start(self, shape: str) -> float:
        """Starts a pod, deletes it, and returns how many seconds it took until the app's first line."""
        name = f"pod-{random.randrange(10**9)}"
        manifest = json.dumps(pod(name, shape))
        began = time.time()
        self._kubectl("create", "--filename=-", text=manifest)
        self._kubectl("wait", f"pod/{name}", "--for=condition=Ready", "--timeout=60s")
        line = self._kubectl("logs", name, "--container=app", "--timestamps")
        self._kubectl("delete", "pod", name, "--wait")
        return moment(line) - began

    def _kubectl(self, *arguments: str, text: str | None = None) -> str:
        return self.run("kubectl", f"--namespace={NAMESPACE}", *arguments, text=text)


def moment(line: str) -> float:
    """When a line of `kubectl logs --timestamps` was written, in seconds since 1970."""
    stamp, text = line.split(maxsplit=1)
    if text.strip() != "started":
        raise ValueError(f"the app's first line is {text!r}")
    whole, fraction = stamp.rstrip("Z").split(".")
    return datetime.datetime.fromisoformat(whole).replace(tzinfo=datetime.UTC).timestamp() + float(f"0.{fraction}")
