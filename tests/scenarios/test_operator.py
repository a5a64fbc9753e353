"""What an operator and an application ask of the running service about its mail."""

from __future__ import annotations

import base64
import re
import tempfile
import urllib.request
from pathlib import Path
from urllib.parse import urlencode

from twisted.trial.unittest import SynchronousTestCase

from tests.scenarios.processes import (
    TOKEN,
    Answer,
    Service,
    SinkProcess,
    account,
    free_port,
    http,
    message,
    wait_until,
)
from tests.scenarios.upstream import Upstream

RAW = (
    b"Received: from somewhere\r\n\tby somewhere else\r\nFrom: a@example.test\r\n"
    b"To: list:;\r\nsubject:  odd   spaces \r\nMIME-Version: 1.0\r\n"
    b"Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: 8bit\r\n"
    b"Message-ID: <own@example.test>\r\n\r\n.\r\n..two\r\n\r\nH\xe9\t \r\n" + b"x" * 990 + b"\r\n"
)


class OperatorTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="mailproxy-")
        self.addCleanup(folder.cleanup)
        self.directory = Path(folder.name)
        self.service = Service(self.directory).start()
        self.addCleanup(self.service.end)

    def put_account(self, port: int) -> None:
        self.assertEqual(200, self.service.call("POST", "/account", account(port)).status)

    def raw(self, id: str, body: bytes, **query: str) -> Answer:
        asked = urlencode({"id": id, "from": "<>", "to": f"{id}@example.test", **query})
        request = urllib.request.Request(f"{self.service.url}/v1/messages/raw?{asked}", body)
        request.add_header("X-API-Token", TOKEN)
        request.add_header("Content-Type", "message/rfc822")
        with urllib.request.urlopen(request, timeout=30.0) as answer:
            return Answer(answer.status, answer.read())

    def wait_state(self, id: str, state: str) -> None:
        wait_until(lambda: self.service.states().get(id) == state, what=f"{id} to be {state}")

    def test_raw(self) -> None:
        """A message that is handed over as bytes arrives as it came, behind the id's field."""
        port = free_port()
        upstream = Upstream(port).start()
        self.addCleanup(upstream.stop)
        self.put_account(port)
        dated = RAW.replace(b"MIME-Version", b"Bcc: b@example.test\r\nMIME-Version")

        self.service.call("POST", "/commands/suspend")
        self.assertEqual({"ok": True, "queued": 1, "state": "queued"}, self.raw("m1", dated).body)
        shown = self.service.call("GET", "/v1/messages/m1?body=true").body
        self.service.call("POST", "/commands/activate")
        self.wait_state("m1", "sent")

        ((arrived,),) = upstream.mailroom.by_id().values()
        front, _, rest = arrived.partition(b"Received:")
        self.assertEqual(RAW, b"Received:" + rest)
        self.assertIsNotNone(
            re.fullmatch(rb"X-Genro-Mail-ID: m1\r\nDate: [A-Z][^\r\n]+ \+0000\r\n", front), front
        )
        self.assertEqual(arrived, base64.b64decode(shown["mime"]))
        after = self.service.call("GET", "/v1/messages/m1?body=true").body
        self.assertEqual("the text is no longer stored", after["mime_reason"])
        self.assertEqual(shown["message"]["message_id"], after["message"]["message_id"])

    def test_taken_back(self) -> None:
        """What waits is taken back and never sent; the answer tells what was sent before."""
        sink = SinkProcess(self.directory).start()
        self.addCleanup(sink.end)
        self.put_account(sink.smtp_port)
        self.service.add(message("sent"))
        self.wait_state("sent", "sent")
        self.service.call("POST", "/v1/destinations/later.test/pause")
        self.service.add(message("later", to=["a@later.test"]), message("now"))
        self.wait_state("now", "sent")
        self.assertEqual("queued", self.service.states()["later"])

        answer = self.service.call("POST", "/commands/delete-messages", {"ids": ["later", "x"]})

        self.assertEqual((1, ["x"]), (answer.body["removed"], answer.body["not_found"]))
        self.service.call("POST", "/v1/destinations/later.test/resume")
        self.service.add(message("last", to=["a@later.test"]))
        self.wait_state("last", "sent")
        self.assertEqual(3, sink.get("/stats")["accepted"])

    def test_once_more(self) -> None:
        """A request with a key is answered once, also after a restart in between."""
        headers = {"X-API-Token": TOKEN, "Idempotency-Key": "k-1"}
        self.put_account(9)
        url = f"{self.service.url}/commands/add-messages"
        body = {"messages": [message("m1"), message("m2", to=[])]}
        first = http("POST", url, body, headers)
        self.service.kill()
        self.service.start()
        again = http("POST", f"{self.service.url}/commands/add-messages", body, headers)
        self.assertEqual((200, first.raw), (again.status, again.raw))
        body = {"messages": [message("m3")]}
        other = http("POST", f"{self.service.url}/commands/add-messages", body, headers)
        self.assertEqual(409, other.status)
        self.assertEqual({"m1"}, set(self.service.states()))

    def test_pulled(self) -> None:
        """An application that cannot be called reads its events, and has them told again."""
        sink = SinkProcess(self.directory).start()
        self.addCleanup(sink.end)
        self.put_account(sink.smtp_port)
        self.service.call("POST", "/v1/suppressions", {"address": "gone@example.test"})
        self.service.add(message("m1"), message("m2", to=["gone@example.test"]))
        self.wait_state("m1", "sent")

        events = "/v1/events?tenant_id=default&limit=1"
        first = self.service.call("GET", events).body
        second = self.service.call("GET", f"{events}&after={first['next']}").body
        told = {each["id"]: each for each in (*first["events"], *second["events"])}
        self.assertEqual({"m1", "m2"}, set(told))
        self.assertIn("suppressed", told["m2"]["error"])
        self.assertIsNotNone(told["m1"]["sent_ts"])

        replayed = self.service.call("POST", "/v1/reports/replay", {"ids": ["m1"]})
        self.assertEqual(1, replayed.body["replayed"])
        (again,) = self.service.call("GET", f"{events}&after={second['next']}").body["events"]
        self.assertEqual(told["m1"]["event_id"], again["event_id"])
        self.assertLess(int(told["m1"]["number"]), int(again["number"]))
