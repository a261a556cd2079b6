"""A Keeper on this machine: keeper-sim with as many records as a measurement needs."""

import json
import subprocess
import urllib.request
from pathlib import Path

#: The Go SDK drops the port of a host name, so this has to be the usual one.
ADDRESS = "127.0.0.1:443"
HOSTNAME = "localhost"


def vault(records: int, clients: list[str]) -> str:
    """A vault file: login records `secret-1`, `secret-2`, …, each of about 300 bytes, and a client for each process."""
    return json.dumps({
        "application": "bench",
        "clients": [{"name": name} for name in clients],
        "records": [
            {"title": title(number), "login": f"user-{number}", "password": f"{number:032}", "url": "https://service.example.com", "notes": "n" * 100}
            for number in range(1, records + 1)
        ],
    })


def title(number: int) -> str:
    """The title of a record."""
    return f"secret-{number}"


def count(calls: dict) -> dict[str, int]:
    """Calls to all endpoints by client, from what keeper-sim counts by client, endpoint and outcome."""
    return {client: sum(outcomes["total"] for outcomes in endpoints.values()) for client, endpoints in calls.items()}


class Keeper:
    """A running keeper-sim; a context manager that ends it."""

    def __init__(self, binary: Path, directory: Path, records: int, clients: list[str]) -> None:
        directory.mkdir()
        (directory / "vault.json").write_text(vault(records, clients))
        command = [binary, "serve", "--vault", directory / "vault.json", "--state-dir", directory / "state", "--listen", ADDRESS, "--hostname", HOSTNAME]
        command += ["--admin", "127.0.0.1:0", "--no-throttle", "--log-level", "error"]
        self.ca = directory / "state/ca.crt"
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise OSError(f"keeper-sim doesn't start on {ADDRESS}")
        self._admin = json.loads(line)["admin"]

    def __enter__(self) -> "Keeper":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()

    def device_config(self, client: str) -> str:
        """The device config of a client."""
        return self._get(f"/clients/{client}/config").decode()

    def calls(self) -> dict[str, int]:
        """Calls so far by client."""
        return count(json.loads(self._get("/calls")))

    def _get(self, path: str) -> bytes:
        with urllib.request.urlopen(self._admin + path, timeout=30) as answer:
            return answer.read()
