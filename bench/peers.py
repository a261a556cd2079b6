"""Other injectors, where a user has their binaries: how they are run, and pods that ask the same of each.

`VAULT_K8S` names the binary of HashiCorp's vault-k8s. docs/performance.md says how to build it.
"""

import json
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

#: The annotations of a pod that asks for so many secrets.
Annotations = Callable[[int], dict[str, str]]

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
PATIENCE = 3600


def keeper(secrets: int) -> dict[str, str]:
    """For Keeper Injector."""
    auth = {"keeper.security/inject": "true", "keeper.security/ksm-config": "keeper-auth"}
    return auth | {f"keeper.security/secret-s{number}": f"/app/secrets/{number}.json" for number in range(1, secrets + 1)}


def vault(secrets: int) -> dict[str, str]:
    """For vault-k8s."""
    auth = {"vault.hashicorp.com/agent-inject": "true", "vault.hashicorp.com/role": "web"}
    return auth | {f"vault.hashicorp.com/agent-inject-secret-s{number}": f"secret/data/{number}" for number in range(1, secrets + 1)}


def vault_k8s(port: int, folder: Path) -> list[str]:
    """The command line of vault-k8s as its Helm chart has it, but with a certificate from files."""
    tls = [f"-tls-cert-file={folder}/tls.crt", f"-tls-key-file={folder}/tls.key"]
    return ["agent-inject", f"-listen=127.0.0.1:{port}", "-vault-address=https://vault.vault.svc:8200", "-log-format=json", "-telemetry-path=/metrics", *tls]


def in_a_pod(folder: Path) -> list[str]:
    """What a command has to stand behind to find a service account where a pod has it. Nobody else sees that."""
    account = f'mount -t tmpfs none /var/run && mkdir -p {ACCOUNT} && echo token > {ACCOUNT}/token && cp "$0" {ACCOUNT}/ca.crt && exec "$@"'
    return ["unshare", "--mount", "--propagation=private", "sh", "-ec", account, str(folder / "tls.crt")]


class ApiServer:
    """Stands in for an API server that has no webhook configurations, and never will; a context manager."""

    def __init__(self, folder: Path) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(folder / "tls.crt", folder / "tls.key")
        self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)

    @property
    def environment(self) -> dict[str, str]:
        """What tells a process in a pod where it is."""
        return {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(self._server.server_port), "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"}

    def __enter__(self) -> "ApiServer":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "application/json")
        if "watch" in parse_qs(urlsplit(self.path).query):
            self.send_header("connection", "close")
            self.end_headers()
            self.wfile.flush()
            # Nothing ever changes: until the bench ends.
            threading.Event().wait(PATIENCE)
            return
        body = json.dumps({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfigurationList", "metadata": {"resourceVersion": "1"}, "items": [],
        }).encode()
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass
