"""Whole services whose mail is signed."""

from __future__ import annotations

import base64
import sys
import tempfile
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.delivery.verifier import check_by_hand, need_dkim, signatures, verified
from tests.scenarios.processes import (
    TOKEN,
    Service,
    SinkProcess,
    account,
    http,
    message,
    wait_until,
)

RAW = (
    b"From: Caff\xc3\xa8 <shop@example.test>\r\nTo: raw@example.test\r\nSubject: \xc3\xa8\r\n"
    b"\r\n" + "perché no?\r\n".encode() + b"x" * 998 + b"\r\n.\r\n..\r\n\r\n"
)

#: Messages of all kinds, by id.
LETTERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "html": {"body": "<p>Hello</p>", "content_type": "html"},
    "8-bit": {"subject": "Caffè", "body": "Perché no? €\n" * 50},
    "long": {"body": f"{'y' * 3000}\n"},
    "files": {
        "attachments": [
            {
                "filename": "a.bin",
                "fetch_mode": "base64",
                "storage_path": base64.b64encode(bytes(range(256)) * 300).decode(),
            }
        ]
    },
    "elsewhere": {"from": "sender@sub.example.test"},
}


class Bare(Service):
    """A service in an installation without the extra."""

    def command(self) -> list[str]:
        code = "import sys; sys.modules['dkim'] = None; from mailproxy.__main__ import main; main()"
        return [sys.executable, "-c", code, "serve"]


class DkimScenarios(SynchronousTestCase):
    def setUp(self) -> None:
        need_dkim()
        folder = tempfile.TemporaryDirectory(prefix="mailproxy-dkim-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.sink = SinkProcess(self.folder, "--hold", "0.1").start()
        self.addCleanup(self.sink.end)
        self.records: dict[str, str] = {}

    def begin(self, kind: type[Service] = Service) -> Service:
        service = kind(self.folder, GMP_RETRY_DELAYS="0.3").start()
        self.addCleanup(service.end)
        return service

    def add_key(self, service: Service, selector: str, **fields: Any) -> None:
        body = {"domain": "example.test", "selector": selector, "active": True, **fields}
        answer = service.call("POST", "/v1/dkim", body)
        self.assertEqual(200, answer.status, answer.raw)
        dns = answer.body["dns"]
        self.records[dns["name"]] = dns["value"]

    def copies(self, id: str, count: int = 1) -> list[bytes]:
        """The copies of a message that the sink kept, as they came, when there are *count*."""

        def kept() -> list[int]:
            found = self.sink.get(f"/copies?id={id}")["messages"]
            return [int(n) for n in found]

        wait_until(lambda: len(kept()) >= count, what=f"{count} copies of {id}")
        return [http("GET", f"{self.sink.url}/messages/{n}").raw for n in kept()]

    def test_all_kinds(self) -> None:
        """
        Mail of all kinds arrives with signatures that hold, by dkimpy and by hand; another domain's
        arrives without. The private keys are in no file as they are.
        """
        service = self.begin()
        service.call("POST", "/account", account(self.sink.smtp_port))
        self.add_key(service, "r1")
        self.add_key(service, "e1", algorithm="ed25519")
        answer = service.add(*(message(id, **fields) for id, fields in LETTERS.items()))
        self.assertEqual(len(LETTERS), answer.body["queued"], answer.raw)
        query = "id=raw&account_id=main&from=shop@example.test&to=raw@example.test"
        self.assertEqual(200, self.post_raw(service, query))

        for id in (*LETTERS, "raw"):
            (data,) = self.copies(id)
            if id == "elsewhere":
                self.assertEqual([], signatures(data))
                continue
            self.assertEqual([True, True], verified(data, self.records), id)
            tags = check_by_hand(data, self.records["r1._domainkey.example.test"])
            self.assertEqual("example.test", tags["d"])
        (data,) = self.copies("raw")
        self.assertTrue(data.rstrip(b"\r\n").endswith(RAW.rstrip(b"\r\n")))
        service.end()
        stored = b"".join(path.read_bytes() for path in self.folder.glob("mail.db*"))
        self.assertNotIn(b"PRIVATE KEY", stored)
        self.assertNotIn("PRIVATE KEY", service.output())

    def post_raw(self, service: Service, query: str) -> int:
        import urllib.request

        request = urllib.request.Request(
            f"{service.url}/v1/messages/raw?{query}",
            RAW,
            {"X-API-Token": TOKEN, "Content-Type": "message/rfc822"},
            method="POST",
        )
        with urllib.request.urlopen(request, timeout=30.0) as answer:
            return int(answer.status)

    def test_same_bytes_in_every_attempt(self) -> None:
        """What is sent again, also by a later process, is the same to the last byte, signed."""
        service = self.begin()
        service.call("POST", "/account", account(self.sink.smtp_port))
        self.add_key(service, "r1")
        service.add(message("again", to=["drop@example.test"]))
        first, second = self.copies("again", 2)
        self.assertEqual(first, second)
        self.assertEqual([True], verified(first, self.records))

        service.add(message("later", to=["drop@example.test"]))
        (first,) = self.copies("later")
        service.kill()
        self.begin()
        self.assertEqual(first, self.copies("later", 2)[1])

    def test_without_the_extra(self) -> None:
        """
        Where the extra has gone, one line of the start says so and what is to be signed is put off
        with the reason; other mail goes. Where it is back, it goes signed.
        """
        service = self.begin()
        service.call("POST", "/account", account(self.sink.smtp_port))
        self.add_key(service, "r1")
        service.end()

        service = self.begin(Bare)
        service.add(message("signed"), message("other", **{"from": "sender@example.org"}))
        self.copies("other")

        def reason() -> str:
            (told,) = [each for each in service.messages() if each["id"] == "signed"]
            return str(told["deferred_reason"])

        wait_until(lambda: "mailproxy[dkim]" in reason(), what="the deferral")
        lines = [line for line in service.output().splitlines() if "to be signed waits" in line]
        self.assertEqual(1, len(lines), service.output())
        self.assertEqual(
            501, service.call("POST", "/v1/dkim", {"domain": "a.b", "selector": "x"}).status
        )
        service.end()

        self.begin()
        (data,) = self.copies("signed")
        self.assertEqual([True], verified(data, self.records))
