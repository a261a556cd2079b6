"""The processes that are measured: our sidecar as its container runs it, and the peer."""

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from keeper import Keeper, title

#: The longest that a first fetch, or a refresh on the grid of 15 s, may take.
DEADLINE = 60.0


class Program:
    """A running process with a folder in memory that it publishes into; a context manager that ends it."""

    def __init__(
        self, command: list[str | Path], volume: Path, secrets: int, environment: dict[str, str], metrics_port: int | None = None
    ) -> None:
        self.volume = volume
        self._secrets = secrets
        self._metrics_port = metrics_port
        self._output = tempfile.TemporaryFile()
        self._process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=self._output, stderr=subprocess.STDOUT)
        self.pid = self._process.pid

    def __enter__(self) -> "Program":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self.volume.parent)

    def refreshes(self) -> int:
        """Refreshes so far: ours has a counter among its metrics, the peer prints a line for each."""
        if self._metrics_port is None:
            self._output.seek(0)
            return self._output.read().count(b"refreshed\n")
        with urllib.request.urlopen(f"http://127.0.0.1:{self._metrics_port}/metrics", timeout=10) as answer:
            return counter(answer.read().decode(), "keeper_sidecar_refresh_total")

    def wait_published(self) -> None:
        """Returns when every secret has its file."""
        wait_until(f"{self._secrets} files of process {self.pid}", self._is_published)

    def _is_published(self) -> bool:
        if self._process.poll() is not None:
            self._output.seek(0)
            raise OSError(f"{self._process.args[0]} ended with {self._process.returncode}: {self._output.read().decode()}")
        return len({path.name for path in self.volume.rglob("secret-*.json")}) == self._secrets


def sidecar(binary: Path, keeper: Keeper, client: str, secrets: int, interval: int) -> Program:
    """Our sidecar with so many secrets, refreshed each `interval` seconds."""
    volume = volume_directory()
    config_file = volume.with_name("config")
    config_file.write_text(keeper.device_config(client))
    port = free_port()
    environment = {
        "KEEPER_AGENT_CONFIG": json.dumps(agent_config(config_file, keeper.ca, secrets, interval, port)),
        "KEEPER_POD_NAME": client,
        "KEEPER_POD_NAMESPACE": "bench",
        "KEEPER_POD_UID": client,
    }
    return Program([binary, "run", "--volume", volume], volume, secrets, environment, port)


def agent_config(config_file: Path, ca: Path, secrets: int, interval: int, port: int) -> dict:
    """What admission would write for a pod with so many secrets."""
    numbers = range(1, secrets + 1)
    return {
        "auth": {"method": "secret", "secretName": "keeper-auth", "file": str(config_file)},
        "caCertFile": str(ca),
        "directories": [{"mountPath": "/keeper/secrets", "subPath": "dirs/0"}],
        "outputs": [
            {"directory": 0, "path": f"{title(n)}.json", "selection": {"record": title(n)}, "format": "json", "annotation": f"keeper.security/secret-{n}"}
            for n in numbers
        ],
        "refreshIntervalSeconds": interval,
        "cacheSeconds": 86400,
        "onStale": "serve",
        "strictLookup": False,
        "failOnError": True,
        "fileMode": "0444",
        "metricsPort": port,
        "logLevel": "info",
        "logFormat": "json",
    }


def peer(binary: Path, keeper: Keeper, client: str, secrets: int, interval: int) -> Program:
    """The Go program with the same secrets."""
    volume = volume_directory()
    config_file = volume.with_name("config")
    config_file.write_text(keeper.device_config(client))
    titles = [title(number) for number in range(1, secrets + 1)]
    return Program([binary, config_file, volume, str(interval), *titles], volume, secrets, {"SSL_CERT_FILE": str(keeper.ca)})


def volume_directory() -> Path:
    """A new folder in memory where there is such a file system, as the volume of a pod is. Nobody else uses its parent, which the agent
    watches for a new device config."""
    memory = Path("/dev/shm")
    parent = tempfile.mkdtemp(prefix="keeper-bench-", dir=memory if os.access(memory, os.W_OK) else None)
    volume = Path(parent) / "volume"
    volume.mkdir()
    return volume


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def counter(exposition: str, name: str) -> int:
    """The value of a counter without labels."""
    values = [line.split()[1] for line in exposition.splitlines() if line.startswith(f"{name} ")]
    if len(values) != 1:
        raise ValueError(f"there is no counter {name}")
    return int(float(values[0]))


def wait_until(what: str, condition: Callable[[], bool], deadline: float = DEADLINE) -> None:
    """Polls a condition; an error when it doesn't come true in time."""
    end = time.monotonic() + deadline
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {deadline:.0f} s: {what}")
        time.sleep(0.05)
