#!/usr/bin/env python3
"""Memory of the webhook beside a cluster with many namespaces.

    bench/namespaces.py BINARY [COUNT ...]     such as target/images/…/keeper-webhook; COUNT is 10 and 10000

The API server is a stand-in that lists namespaces with what a usual one has in its metadata, about 1.5 KB each, and one in ten with
defaults for its pods. Then it changes each of them once. Needs openssl for a certificate, and root.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import proc

VERSION = {"major": "1", "minor": "35", "gitVersion": "v1.35.4", "gitCommit": "", "gitTreeState": "", "buildDate": "", "goVersion": "", "compiler": "", "platform": ""}
SERVICE = "keeper-injector-webhook.keeper-security.svc"
PATIENCE = 120


def namespace(number: int, version: int = 1) -> dict:
    """The metadata of a namespace as kubectl and a GitOps tool leave it."""
    name = f"team-{number}-service"
    ours = {"keeper.security/ksm-config": "keeper-auth", "keeper.security/refresh-interval": f"{version}0m"}
    annotations = {"kubectl.kubernetes.io/last-applied-configuration": "x" * 600} | (ours if number % 10 == 0 else {})
    fields = {f"f:app.kubernetes.io/label-{i}": {} for i in range(10)}
    return {
        "apiVersion": "meta.k8s.io/v1",
        "kind": "PartialObjectMetadata",
        "metadata": {
            "name": name,
            "uid": f"00000000-0000-4000-8000-{number:012}",
            "resourceVersion": str(1000 + version),
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"kubernetes.io/metadata.name": name, "team": f"team-{number}"},
            "annotations": annotations,
            "managedFields": [{"manager": "kubectl", "operation": "Update", "apiVersion": "v1", "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": {"f:metadata": {"f:labels": fields}}}],
        },
    }


def api_server(count: int) -> tuple[ThreadingHTTPServer, threading.Event]:
    """A server, and the event after which its first watch has told of a change to each namespace."""
    told = threading.Event()

    class Api(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            query = parse_qs(url.query)
            if url.path == "/version":
                self.answer(VERSION)
            elif "watch" in query:
                self.watch()
            else:
                start, size = int(query.get("continue", ["0"])[0]), int(query["limit"][0])
                end = min(start + size, count)
                more = {"continue": str(end)} if end < count else {}
                items = [namespace(number) for number in range(start, end)]
                self.answer({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": {"resourceVersion": "1001"} | more, "items": items})

        def answer(self, value: dict) -> None:
            body = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def watch(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("connection", "close")
            self.end_headers()
            if not told.is_set():
                for number in range(count):
                    event = {"type": "MODIFIED", "object": namespace(number, version=2)}
                    self.wfile.write(json.dumps(event).encode() + b"\n")
                told.set()
            time.sleep(PATIENCE)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, told


def measure(binary: str, count: int, folder: Path) -> proc.Memory:
    """The webhook's memory after it has read all namespaces, and heard of a change to each."""
    server, told = api_server(count)
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "c", "users": [{"name": "u", "user": {}}],
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }
    (folder / "kubeconfig").write_text(json.dumps(config))
    (folder / "settings.yaml").write_text("sidecarImage: sidecar\nownNamespace: keeper-security\n")
    options = [
        f"--settings={folder}/settings.yaml", "--listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0", "--tls-mode=manual",
        f"--tls-cert={folder}/tls.crt", f"--tls-key={folder}/tls.key",
    ]
    process = subprocess.Popen([binary, "serve", *options], env={"KUBECONFIG": f"{folder}/kubeconfig"}, stderr=subprocess.PIPE, text=True)
    try:
        line = next(line for line in process.stderr if '"listening"' in line)
        threading.Thread(target=lambda: [None for _ in process.stderr], daemon=True).start()
        started = time.monotonic()
        while not is_ready(json.loads(line)["metrics"]):
            assert time.monotonic() - started < PATIENCE, "not ready"
            time.sleep(0.05)
        print(f"{count} namespaces: ready after {time.monotonic() - started:.1f} s", file=sys.stderr)
        assert told.wait(PATIENCE), "the watch wasn't read"
        # What was sent last may still be on its way: memory has to stand still.
        last, now = None, proc.cpu_seconds(process.pid)
        while last != now:
            time.sleep(1)
            last, now = now, proc.cpu_seconds(process.pid)
        return proc.memory(process.pid)
    finally:
        process.kill()
        process.wait()
        server.shutdown()


def is_ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}/readyz", timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.HTTPError, OSError):
        return False


def main() -> None:
    binary, *counts = sys.argv[1:]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=test",
             "-addext", f"subjectAltName=DNS:{SERVICE}", "-addext", "basicConstraints=critical,CA:FALSE",
             "-keyout", f"{folder}/tls.key", "-out", f"{folder}/tls.crt"],
            check=True, stderr=subprocess.DEVNULL,
        )
        for count in [int(text) for text in counts] or [10, 10_000]:
            memory = measure(binary, count, folder)
            print(f"{count} namespaces: RSS {memory.rss:.1f} MB, private {memory.private:.1f} MB, peak {memory.peak:.1f} MB")


if __name__ == "__main__":
    main()
