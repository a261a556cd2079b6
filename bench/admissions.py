"""What an admission takes of the webhook: processor time, latency, throughput and memory, beside a floor and other injectors.

All servers run at once, each over TLS, pinned to one core of which they have only the one that is asked; the load has another. They are asked in
turn for each figure, so that what else the machine does meets all of them alike.
"""

import json
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import peers
import proc
from programs import free_port, wait_until
from reviews import review
from side_by_side import Row

NAME = "keeper-injector-webhook.keeper-security.svc"
WEBHOOK = "webhook"
FLOOR = "floor"
VAULT_K8S = "vault-k8s"
#: Connections that are kept: some API servers, each with some under way.
CONNECTIONS = 8
#: Seconds that each figure is measured for.
SECONDS = 10
#: What is asked about unless a figure says otherwise.
SECRETS, KIBIBYTES, RATE = 10, 2, 500
#: Requests in all, at each of which memory is read.
MEMORY_AFTER = (10_000, 50_000, 100_000)
#: The webhook runs as in its image, with the variables of that.
IMAGES = Path(__file__).resolve().parent.parent / "images/images.toml"
SETTINGS = "sidecarImage: keeper/injector-sidecar\nownNamespace: keeper-security\n"


@dataclass
class Server:
    """A running server; a context manager that ends it."""

    name: str
    command: list[str | Path]
    port: int
    annotations: peers.Annotations
    environment: dict[str, str] = field(default_factory=dict)

    def __enter__(self) -> "Server":
        self._output = tempfile.TemporaryFile()
        # A server that logs to a terminal or a pipe would wait for its reader.
        self._process = subprocess.Popen(self.command, env=self.environment, stdin=subprocess.DEVNULL, stdout=self._output, stderr=subprocess.STDOUT)
        self.pid = self._process.pid
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def said(self) -> str:
        """The end of what it logged."""
        self._output.seek(0)
        return self._output.read()[-2000:].decode(errors="replace")

    def ended(self) -> bool:
        return self._process.poll() is not None


@dataclass(frozen=True)
class Loaded:
    """One run of the load against one server; times in seconds."""

    p50: float
    p99: float
    a_second: float
    cpu: float


class Bench:
    """The servers, and the load that asks them."""

    def __init__(self, servers: list[Server], load: Path, core: int, folder: Path) -> None:
        self._servers = servers
        self._load = ["taskset", "--cpu-list", str(core), load, "--name", NAME, "--ca", folder / "tls.crt"]
        self._folder = folder

    def wait_until_they_answer(self) -> None:
        for server in self._servers:
            wait_until(f"an answer of {server.name}", lambda server=server: self._answers(server))

    def _answers(self, server: Server) -> bool:
        if server.ended():
            raise OSError(f"{server.name} ended: {server.said()}")
        return self._ask(server, self._body(server, SECRETS, KIBIBYTES), 1, check=False).returncode == 0

    def run(self, requests: int, *, secrets: int = SECRETS, kibibytes: int = KIBIBYTES, rate: float | None = None, fresh: bool = False) -> dict[str, Loaded]:
        """The same load for each server in turn."""
        loaded = {}
        for server in self._servers:
            body = self._body(server, secrets, kibibytes)
            before = proc.cpu_seconds(server.pid)
            options = (["--rate", str(rate)] if rate else []) + (["--fresh"] if fresh else [])
            report = json.loads(self._ask(server, body, requests, *options, f"--connections={CONNECTIONS}").stdout)
            cpu = proc.cpu_seconds(server.pid) - before
            if report["failed"]:
                print(f"bench: {server.name}: {report['failed']} of {requests} failed: {report['failure']}", file=sys.stderr)
            loaded[server.name] = Loaded(
                p50=report["p50"] / 1e6,
                p99=report["p99"] / 1e6,
                a_second=report["answered"] / report["seconds"],
                # Each connection begins with a request that isn't counted.
                cpu=cpu / (report["answered"] + CONNECTIONS),
            )
        return loaded

    def memory(self) -> dict[str, proc.Memory]:
        return {server.name: proc.memory(server.pid) for server in self._servers}

    def _body(self, server: Server, secrets: int, kibibytes: int) -> Path:
        path = self._folder / f"{server.name}-{secrets}-{kibibytes}.json"
        path.write_bytes(review(server.annotations(secrets), kibibytes))
        return path

    def _ask(self, server: Server, body: Path, requests: int, *options: str, check: bool = True) -> subprocess.CompletedProcess:
        command = [*self._load, f"--address=127.0.0.1:{server.port}", "--body", body, f"--requests={requests}", *options]
        return subprocess.run(command, check=check, stdout=subprocess.PIPE, stderr=None if check else subprocess.DEVNULL)


def measure(webhook: Path, programs: Path, folder: Path) -> list[Row]:
    """All figures of the webhook. `programs` is where the floor and the load are."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise OSError("a server and its load need a core each")
    certificate(folder)
    (folder / "settings.yaml").write_text(SETTINGS)
    with ExitStack() as stack:
        servers = [stack.enter_context(server) for server in _servers(webhook, programs / "admission-floor", cores[0], folder, stack)]
        bench = Bench(servers, programs / "admission-load", cores[-1], folder)
        bench.wait_until_they_answer()
        return list(_rows(bench))


def certificate(folder: Path) -> None:
    """tls.crt and tls.key for all servers, and for what stands in for an API server."""
    names = f"subjectAltName=DNS:{NAME},IP:127.0.0.1"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=bench"]
    command += ["-addext", names, "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", folder / "tls.key", "-out", folder / "tls.crt"]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


def _servers(webhook: Path, floor: Path, core: int, folder: Path, stack: ExitStack) -> Iterator[Server]:
    pinned: list[str | Path] = ["taskset", "--cpu-list", str(core)]
    tls = [f"--tls-cert={folder}/tls.crt", f"--tls-key={folder}/tls.key"]
    port = free_port()
    options = [f"--settings={folder}/settings.yaml", f"--listen=127.0.0.1:{port}", "--metrics-listen=127.0.0.1:0", "--tls-mode=manual", "--kubernetes-version=1.35"]
    image = tomllib.loads(IMAGES.read_text())["webhook"]
    yield Server(WEBHOOK, [*pinned, webhook, "serve", *options, *tls], port, peers.keeper, image["env"])
    port = free_port()
    yield Server(FLOOR, [*pinned, floor, f"--listen=127.0.0.1:{port}", *tls], port, peers.keeper)
    if binary := os.environ.get("VAULT_K8S"):
        api = stack.enter_context(peers.ApiServer(folder))
        port = free_port()
        yield Server(VAULT_K8S, [*peers.in_a_pod(folder), *pinned, binary, *peers.vault_k8s(port, folder)], port, peers.vault, api.environment)


def _rows(bench: Bench) -> Iterator[Row]:
    def row(name: str, unit: str, loaded: dict[str, Loaded], value, **targets) -> Row:
        return Row(name, unit, {server: value(run) for server, run in loaded.items()}, **targets)

    idle = bench.memory()
    yield Row("RSS at rest", "MB", {name: memory.rss for name, memory in idle.items()})
    done = 0
    for after in MEMORY_AFTER:
        most = bench.run(after - done)
        done = after
        now = bench.memory()
        yield Row(f"RSS after {after:,} admissions", "MB", {name: memory.rss for name, memory in now.items()}, limit=12.0 if after == MEMORY_AFTER[-1] else None)
    yield Row("private memory then", "MB", {name: memory.private for name, memory in now.items()})
    for secrets, kibibytes in ((1, 2), (10, 2), (100, 2), (10, 20), (10, 200)):
        target = {"part": (VAULT_K8S, 0.2)} if (secrets, kibibytes) == (SECRETS, KIBIBYTES) else {}
        loaded = bench.run(RATE * SECONDS, secrets=secrets, kibibytes=kibibytes, rate=RATE)
        of = f"{secrets} secret{'s' if secrets > 1 else ''}, pod of {kibibytes} KiB"
        yield row(f"CPU of an admission at {RATE}/s, {of}", "µs", loaded, lambda run: run.cpu * 1e6, **target)
    fresh = bench.run(100 * SECONDS, rate=100, fresh=True)
    yield row("CPU of an admission with a new connection", "µs", fresh, lambda run: run.cpu * 1e6)
    for rate in (100, 500, 1000):
        loaded = bench.run(rate * SECONDS, rate=rate)
        yield row(f"p50 at {rate}/s", "ms", loaded, lambda run: run.p50 * 1e3)
        yield row(f"p99 at {rate}/s", "ms", loaded, lambda run: run.p99 * 1e3, **({"limit": 2.0} if rate == 500 else {}))
    yield row("p99 at 100/s, each with a new connection", "ms", fresh, lambda run: run.p99 * 1e3)
    yield row("admissions a second, at most", "", most, lambda run: run.a_second)
    yield row("CPU of an admission then", "µs", most, lambda run: run.cpu * 1e6, part=(VAULT_K8S, 0.2))
    now = bench.memory()
    yield Row("RSS in the end, after pods of up to 200 KiB", "MB", {name: memory.rss for name, memory in now.items()})
