"""How long pods take to start on a node of e2e/cluster: from `kubectl create` to the app's first line.

The kubelet looks at its pods once a second, and goes on to the next container when it does. So after each init container a start
waits for up to a second, by chance. That wait is measured, too: without it a start is known to some hundredths of a second. Every round
measures each shape once, in random order and from the same part of a second; the rounds go through all parts of it.
"""

import datetime
import json
import os
import random
import statistics
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import containerd
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
#: The security context, limits and volumes of our init container, with which a step that fetches secrets has to come.
LIKE_OURS = "one that does nothing, made like ours"
#: Name -> annotations and init containers of the pod. What LIKE_OURS has, admission says.
SHAPES: dict[str, tuple[dict[str, str], list[dict]]] = {
    BARE: ({}, []),
    INIT: ({}, [STEP]),
    LIKE_OURS: ({}, []),
    USUAL: ({}, [STEP, LASTING]),
    "native": (INJECTED, []),
    "classic": ({**INJECTED, "keeper.security/sidecar-mode": "classic"}, []),
    "init-only": ({**INJECTED, "keeper.security/init-only": "true"}, []),
}
OURS = [name for name, (annotations, _) in SHAPES.items() if annotations]


@dataclass(frozen=True)
class Start:
    """How long a start took, and how much of that the pod waited for the kubelet's look, in seconds."""

    whole: float
    waiting: float

    @property
    def working(self) -> float:
        """The rest."""
        return self.whole - self.waiting


@dataclass(frozen=True)
class Pod:
    """A pod that has started: after how many seconds, and the ids of its containers."""

    seconds: float
    steps: list[str]
    others: list[str]


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


def like_ours(injected: dict, name: str) -> dict:
    """A pod whose init container is that of an injected one with another program, and which mounts what it mounts."""
    step = injected["spec"]["initContainers"][0]
    mounted = {mount["name"] for mount in step["volumeMounts"]}
    made = pod(name, LIKE_OURS)
    made["spec"]["initContainers"] = [{**{key: value for key, value in step.items() if key not in ("env", "args")}, **STEP}]
    made["spec"]["volumes"] = [volume for volume in injected["spec"]["volumes"] if volume["name"] in mounted]
    return made


def figures(root: Path) -> list[Figure]:
    """Starts a node unless one is up, measures, and ends a node that it started."""
    node = Node(root)
    was_up = node.is_up()
    node.run("cluster", "up")
    try:
        node.prepare()
        return added(node.measure())
    finally:
        if not was_up:
            node.run("cluster", "down")


def added(starts: dict[str, list[Start]]) -> list[Figure]:
    """What each of our shapes adds to a bare pod, beside what the usual ones add."""
    whole = {shape: statistics.mean(start.whole for start in of) for shape, of in starts.items()}
    working = {shape: statistics.mean(start.working for start in of) for shape, of in starts.items()}
    waiting = {shape: statistics.mean(start.waiting for start in of) for shape, of in starts.items()}
    bare = quartiles([start.whole for start in starts[BARE]])
    made = [Figure(f"start of a pod, {BARE}", whole[BARE], "s", spread=bare)]
    for shape in OURS:
        spread = quartiles([start.working - working[BARE] for start in starts[shape]])
        more = working[shape] - working[BARE]
        for peer in (INIT, LIKE_OURS):
            step = working[peer] - working[BARE]
            made.append(Figure(f"work added to it by {shape}", more, "s", round(step + ALLOWANCE, 3), step, peer, spread))
        made.append(Figure(f"wait for the kubelet's look with {shape}", waiting[shape], "s", None, waiting[INIT], INIT))
        made.append(Figure(f"both, {shape}", whole[shape] - whole[BARE], "s", None, whole[USUAL] - whole[BARE], USUAL))
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
        #: What admission makes of a pod.
        self._injected: dict = {}

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
        injected = self._kubectl("create", "--filename=-", "--dry-run=server", "--output=json", text=json.dumps(pod("like", "init-only")))
        self._injected = json.loads(injected)
        for shape in SHAPES:
            self.start(shape)

    def measure(self) -> dict[str, list[Start]]:
        """Every shape in each round."""
        pods: list[tuple[str, Pod]] = []
        with containerd.Events(self._tools / "cluster") as listening:
            for phase in phases(RUNS):
                for shape in random.sample(list(SHAPES), len(SHAPES)):
                    time.sleep((phase - time.time()) % 1)
                    pods.append((shape, self.start(shape)))
            events = listening.until_start_of(pods[-1][1].others[-1])
        starts: dict[str, list[Start]] = {shape: [] for shape in SHAPES}
        for shape, pod in pods:
            starts[shape].append(Start(pod.seconds, containerd.waited(events, pod.steps, pod.others)))
        return starts

    def start(self, shape: str) -> Pod:
        """Starts a pod, and deletes it as soon as its app has written its first line."""
        name = f"pod-{random.randrange(10**9)}"
        manifest = json.dumps(like_ours(self._injected, name) if shape == LIKE_OURS else pod(name, shape))
        began = time.time()
        self._kubectl("create", "--filename=-", text=manifest)
        self._kubectl("wait", f"pod/{name}", "--for=condition=Ready", "--timeout=60s")
        line = self._kubectl("logs", name, "--container=app", "--timestamps")
        status = json.loads(self._kubectl("get", "pod", name, "--output=json"))["status"]
        self._kubectl("delete", "pod", name, "--wait")
        return Pod(moment(line) - began, ids(status.get("initContainerStatuses", [])), ids(status["containerStatuses"]))

    def _kubectl(self, *arguments: str, text: str | None = None) -> str:
        return self.run("kubectl", f"--namespace={NAMESPACE}", *arguments, text=text)


def ids(statuses: list[dict]) -> list[str]:
    """The ids of containers as containerd knows them."""
    return [status["containerID"].removeprefix("containerd://") for status in statuses]


def moment(line: str) -> float:
    """When a line of `kubectl logs --timestamps` was written, in seconds since 1970."""
    stamp, text = line.split(maxsplit=1)
    if text.strip() != "started":
        raise ValueError(f"the app's first line is {text!r}")
    whole, fraction = stamp.rstrip("Z").split(".")
    return datetime.datetime.fromisoformat(whole).replace(tzinfo=datetime.UTC).timestamp() + float(f"0.{fraction}")
