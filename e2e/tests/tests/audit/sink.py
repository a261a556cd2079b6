"""An audit sink: takes JSON over HTTPS, and prints a line of JSON for each request. Arguments: address, port, certificate, key."""

import http.server
import json
import ssl
import sys


class Sink(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        seen = {"path": self.path, "token": self.headers["x-audit-token"], "entries": json.loads(body)}
        print(json.dumps(seen), flush=True)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


address, port, certificate, key = sys.argv[1:]
server = http.server.ThreadingHTTPServer((address, int(port)), Sink)
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain(certificate, key)
# The handshake in the thread of its connection, so that one that says nothing holds up nobody.
server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
