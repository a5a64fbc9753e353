"""Whole services, and messages whose attachments lie elsewhere."""

from __future__ import annotations

import base64
import hashlib
import json
import tempfile
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.scenarios.processes import Service, SinkProcess, account, http, message, wait_until


class Store(ThreadingHTTPServer):
    """
    The application's attachments, by storage path; what is not there is 404, ``busy`` is 503 once.

    :ivar asked: storage path, or path of a GET, and the credentials shown.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = files
        self.busy = {"busy"}
        self.asked: list[tuple[str, str | None]] = []
        Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Store

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "storage_path" in body:
            self.serve(body["storage_path"])
        else:  # a report
            self.answer(200, b'{"ok": true}')

    def do_GET(self) -> None:
        self.serve(self.path)

    def serve(self, path: str) -> None:
        shown = self.headers["Authorization"]
        self.server.asked.append((path, shown))
        status, data = (200, self.server.files[path]) if path in self.server.files else (404, b"")
        if path in self.server.busy:
            self.server.busy.discard(path)
            status = 503
        if shown is None and self.command == "POST":
            status, data = 200, b'{"error": "AUTH-901"}'
        self.answer(status, data)

    def answer(self, status: int, data: bytes) -> None:
        self.send_response(status)
        kind = "application/json" if data.startswith(b"{") else "application/octet-stream"
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        """Nothing."""


class AttachmentScenarios(SynchronousTestCase):
    """A service, its upstream, and an application that keeps attachments."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        (self.folder / "shared").mkdir()
        (self.folder / "shared" / "c.txt").write_bytes(b"on disk")
        self.store = Store({"home:a.pdf": b"%PDF a", "busy": b"patience", "/b": b"from the web"})
        self.addCleanup(self.store.server_close)
        self.addCleanup(self.store.shutdown)
        self.sink = SinkProcess(self.folder).start()
        self.addCleanup(self.sink.end)
        self.service = Service(
            self.folder,
            GMP_RETRY_DELAYS="0.3",
            GMP_ATTACHMENT_ROOTS=str(self.folder / "shared"),
            GMP_CACHE_DISK_DIR=str(self.folder / "cache"),
        ).start()
        self.addCleanup(self.service.end)
        self.service.call("POST", "/account", account(self.sink.smtp_port))
        self.register()

    def register(self, **fields: Any) -> None:
        auth = {"method": "basic", "user": "mailproxy", "password": "s3cret"}
        tenant = {"client_base_url": self.store.url, "client_auth": auth, **fields}
        answer = self.service.call("PUT", "/tenant/default", tenant)
        self.assertEqual(200, answer.status, answer.raw)

    def send(self, id: str, *attachments: dict[str, Any]) -> None:
        answer = self.service.add(message(id, attachments=list(attachments)))
        self.assertEqual((200, 1), (answer.status, answer.body.get("queued")), answer.raw)

    def state(self, id: str) -> dict[str, Any]:
        return next(each for each in self.service.messages() if each["id"] == id)

    def wait_for(self, id: str, state: str) -> dict[str, Any]:
        wait_until(lambda: self.state(id)["state"] == state, 20.0, f"{id} to be {state}")
        return self.state(id)

    def arrived(self, id: str) -> EmailMessage:
        """The message as the upstream got it, parsed."""
        kept = self.sink.get("/messages")
        (n,) = [each["n"] for each in kept["messages"] if each["mail_id"] == id]
        raw = http("GET", f"{self.sink.url}/messages/{n}").raw
        return message_from_bytes(raw, policy=policy.default)

    def files_of(self, id: str) -> dict[str, Any]:
        return {
            str(part.get_filename()): part.get_payload(decode=True)
            for part in self.arrived(id).iter_attachments()
        }

    def test_all_sources(self) -> None:
        """Attachments come from all sources; a 503 is tried again, and a fetched file kept."""
        md5 = hashlib.md5(b"%PDF a").hexdigest()
        self.send(
            "m1",
            {"filename": "a.pdf", "storage_path": "home:a.pdf", "content_md5": md5},
            {"filename": "c.txt", "storage_path": str(self.folder / "shared" / "c.txt")},
            {"filename": "d.txt", "storage_path": "base64:" + base64.b64encode(b"d").decode()},
            {"filename": "busy.txt", "storage_path": "busy", "fetch_mode": "endpoint"},
        )
        self.wait_for("m1", "sent")
        expected = {"a.pdf": b"%PDF a", "c.txt": b"on disk", "d.txt": b"d", "busy.txt": b"patience"}
        self.assertEqual(expected, self.files_of("m1"))
        self.send("m2", {"filename": "b.pdf", "storage_path": "x", "content_md5": md5})
        self.wait_for("m2", "sent")
        asked = [path for path, _ in self.store.asked]
        self.assertEqual(["home:a.pdf", "busy", "busy"], asked)
        shown = "Basic " + base64.b64encode(b"mailproxy:s3cret").decode()
        self.assertEqual({shown}, {auth for _, auth in self.store.asked})

    def test_refused_sources(self) -> None:
        """S13, S14: private addresses and other files fail for good, in the words clients know."""
        self.send("web", {"filename": "b", "storage_path": f"{self.store.url}/b"})
        self.send("file", {"filename": "p", "storage_path": "/etc/passwd"})
        self.send("gone", {"filename": "g.pdf", "storage_path": "home:gone"})
        for id, name, why in (
            ("web", "b", "its host is at an address that is not allowed"),
            ("file", "p", "not below a directory that attachments may come from"),
            ("gone", "g.pdf", "answered 404"),
        ):
            error = self.wait_for(id, "failed")["error"]
            self.assertEqual(f"Attachment fetch failed for {name}: {why}", error)

    def test_registered_again(self) -> None:
        """Wrong credentials defer; registering with the right ones lets the mail go at once."""
        self.service.end()
        self.service = Service(self.folder, GMP_RETRY_DELAYS="3000").start()
        self.addCleanup(self.service.end)
        self.register(client_auth={"method": "none"})
        self.send("m1", {"filename": "a.pdf", "storage_path": "home:a.pdf"})
        wait_until(lambda: bool(self.state("m1")["deferred_reason"]), 10.0, "a deferral")
        self.assertIn("AUTH-901", self.state("m1")["deferred_reason"])
        auth = {"method": "basic", "user": "mailproxy", "password": "s3cret"}
        tenant = {"id": "default", "client_base_url": self.store.url, "client_auth": auth}
        self.assertEqual(200, self.service.call("POST", "/tenant", tenant).status)
        self.wait_for("m1", "sent")

    def test_large_file(self) -> None:
        """A large attachment is given out by its link, and by no other."""
        self.store.files["home:a.pdf"] = b"x" * 300_000
        self.register(
            large_file_config={
                "enabled": True,
                "max_size_mb": 0.1,
                "action": "rewrite",
                "storage_url": f"file://{self.folder}/large",
                "public_base_url": self.service.url,
                "file_ttl_days": 1,
            }
        )
        self.send("m1", {"filename": "a b.pdf", "storage_path": "home:a.pdf"})
        self.wait_for("m1", "sent")
        lines = self.arrived("m1").get_content().splitlines()
        link = next(line for line in lines if line.startswith(self.service.url))
        self.assertEqual((200, b"x" * 300_000), (http("GET", link).status, http("GET", link).raw))
        self.assertEqual(404, http("GET", link[:-1]).status)
