"""How ``mailproxy status`` asks, and what it makes of the answers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer

import click
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.cli.status import ask, local_url
from mailproxy.config import Settings
from tests.cli.test_serve import invoke
from tests.scenarios.processes import free_port


class StatusCase(SynchronousTestCase):
    def serve(self, status: int, body: bytes) -> str:
        """A server that gives this one answer; returns its URL."""
        self.asked: list[tuple[str, str | None]] = []
        note: Callable[[tuple[str, str | None]], None] = self.asked.append

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                note((self.path, self.headers["X-API-Token"]))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()

        def stop() -> None:
            server.shutdown()
            thread.join()
            server.server_close()

        self.addCleanup(stop)
        return f"http://127.0.0.1:{server.server_port}"

    def failure(self, url: str) -> str:
        error: click.ClickException = self.assertRaises(click.ClickException, ask, url, None, 5.0)
        return error.message


class AskTests(StatusCase):
    def test_answer(self) -> None:
        """The answer is the JSON object; the token goes along."""
        url = self.serve(200, b'{"ok": true, "active": true}')

        self.assertEqual({"ok": True, "active": True}, ask(f"{url}/status", "t0ken", 5.0))
        self.assertEqual([("/status", "t0ken")], self.asked)

    def test_refused(self) -> None:
        """A refusal is told with its code and the service's own words."""
        url = self.serve(401, b'{"ok": false, "error": "Invalid or missing API token"}')

        self.assertEqual(f"{url}: 401 Invalid or missing API token", self.failure(url))

    def test_refused_without_words(self) -> None:
        """A refusal without words of a service is told in those of HTTP."""
        url = self.serve(502, b"<html>")

        self.assertEqual(f"{url}: 502 Bad Gateway", self.failure(url))

    def test_somebody_else(self) -> None:
        """What is no JSON object does not come from a mailproxy."""
        for body in (b"<html>", b"[]", b""):
            self.assertIn("not that of a mailproxy", self.failure(self.serve(200, body)))

    def test_nobody(self) -> None:
        """Where nobody listens, that is said."""
        url = f"http://127.0.0.1:{free_port()}"

        self.assertIn("refused", self.failure(url))


class CommandTests(StatusCase):
    def test_suspended(self) -> None:
        """A service that does not send is called suspended; it answered, so the status is 0."""
        url = self.serve(200, b'{"ok": true, "active": false, "version": "1.2.3"}')

        result = invoke("status", "--url", f"{url}/", "--token", "t0ken")

        self.assertEqual(
            (0, f"{url}: suspended, version 1.2.3\n"), (result.exit_code, result.output)
        )

    def test_configured_token(self) -> None:
        """Without ``--token`` the configured one is shown to the service."""
        url = self.serve(200, b'{"active": true}')

        invoke("status", "--url", url, GMP_API_TOKEN="x" * 32)

        self.assertEqual([("/status", "x" * 32)], self.asked)

    def test_no_url(self) -> None:
        """What is no URL is refused, and nothing is opened."""
        result = invoke("status", "--url", "file:///etc/passwd")

        self.assertEqual(2, result.exit_code)
        self.assertIn("--url", result.stderr)

    def test_default_url(self) -> None:
        """A service that listens everywhere is asked on this machine."""
        for host, url in (
            ("0.0.0.0", "http://127.0.0.1:8000"),
            ("::", "http://[::1]:8000"),
            ("192.0.2.1", "http://192.0.2.1:8000"),
        ):
            self.assertEqual(url, local_url(Settings(host=host)))
