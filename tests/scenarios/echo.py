"""An upstream and a report receiver that repeat whatever secret they are told."""

from __future__ import annotations

import json
import socketserver
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class _Upstream(socketserver.StreamRequestHandler):
    """SMTP that takes no login and complains with the very line it was sent."""

    def handle(self) -> None:
        self.wfile.write(b"220 echo.test\r\n")
        for raw in self.rfile:
            line = raw.strip()
            if line.startswith(b"EHLO"):
                self.wfile.write(b"250-echo.test\r\n250 AUTH PLAIN LOGIN\r\n")
            elif line.startswith(b"QUIT"):
                return
            else:
                self.wfile.write(b"535 5.7.8 refused: " + line + b"\r\n")


class _Receiver(BaseHTTPRequestHandler):
    """HTTP that refuses every report and says with which credentials it came."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        said = f"bad credentials: {self.headers['Authorization']}"
        body = json.dumps({"error": said}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


class Echo:
    """
    :ivar smtp_port: of the upstream.
    :ivar http_port: of the report receiver.
    """

    def __init__(self) -> None:
        upstream = socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Upstream)
        upstream.daemon_threads = True
        receiver = ThreadingHTTPServer(("127.0.0.1", 0), _Receiver)
        self.smtp_port = int(upstream.server_address[1])
        self.http_port = int(receiver.server_address[1])
        self._servers = (upstream, receiver)
        for server in self._servers:
            threading.Thread(target=server.serve_forever, daemon=True).start()

    def close(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()
