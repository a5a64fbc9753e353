"""Clients that send too much, all at once, or something else under the same id."""

from __future__ import annotations

import http.client
import select
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.scenarios.processes import (
    TOKEN,
    Service,
    SinkProcess,
    account,
    message,
    peak_memory,
    wait_until,
)
from tests.scratch import scratch

#: A body that is not expected to arrive.
GIGABYTE = 1 << 30

#: The largest body there may be.
LIMIT = 64 << 20

#: Bytes of memory that an oversized request may cost at the most.
MEMORY = 100 << 20

CLIENTS = 20


class BadClientTests(SynchronousTestCase):
    def setUp(self) -> None:
        directory = scratch(self)
        self.sink = SinkProcess(directory, "--slow", "3", "--quiet").start()
        self.addCleanup(self.sink.end)
        self.service = Service(directory, GMP_LOG_LEVEL="DEBUG").start()
        self.addCleanup(self.service.end)
        put = self.service.call("POST", "/account", account(self.sink.smtp_port))
        self.assertEqual(200, put.status)

    def copies(self) -> dict[str, int]:
        """How often the sink got each message."""
        found: dict[str, int] = self.sink.get("/copies")["copies"]
        return found

    def settled(self, *ids: str) -> None:
        def done() -> bool:
            states = self.service.states()
            return all(states.get(id) == "sent" for id in ids)

        wait_until(done, what="the messages to be sent")

    def test_f56_a_gigabyte_in_chunks(self) -> None:
        """F56: a gigabyte of unknown length is refused at the limit, and takes no memory."""
        assert self.service.process is not None
        before = peak_memory(self.service.process.pid)
        connection = http.client.HTTPConnection("127.0.0.1", self.service.port, timeout=30)
        self.addCleanup(connection.close)
        connection.putrequest("POST", "/commands/add-messages")
        connection.putheader("X-API-Token", TOKEN)
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        content = b"canary-chunk-" * 80_000
        piece = b"%x\r\n%b\r\n" % (len(content), content)
        sent = 0
        assert isinstance(connection.sock, socket.socket)
        while sent < GIGABYTE and not select.select([connection.sock], [], [], 0)[0]:
            connection.send(piece)
            sent += len(content)
        head = connection.sock.recv(65536)
        self.assertEqual(b"HTTP/1.1 413 ", head[:13])
        self.assertLess(sent, 2 * LIMIT)
        self.assertLess(peak_memory(self.service.process.pid) - before, MEMORY)
        self.assertNotIn("canary-chunk", self.service.output())
        self.assertEqual(200, self.service.call("GET", "/readyz").status)

    def test_f59_twenty_at_once(self) -> None:
        """F59: the same batch from twenty clients at once is sent once, each told of all of it."""
        ids = [f"m{n}" for n in range(40)]
        batch = [message(id) for id in ids]

        with ThreadPoolExecutor(CLIENTS) as clients:
            answers = list(clients.map(lambda _: self.service.add(*batch), range(CLIENTS)))

        self.assertEqual(
            [(200, len(ids))] * CLIENTS, [(a.status, a.body["queued"]) for a in answers]
        )
        self.settled(*ids)
        self.assertEqual(dict.fromkeys(ids, 1), self.copies())

    def again(self, id: str, **fields: Any) -> str:
        answer = self.service.call(
            "POST", "/commands/add-messages?verbose=1", {"messages": [message(id, **fields)]}
        )
        (item,) = answer.body["items"]
        return str(item["state"])

    def test_f60_other_content(self) -> None:
        """F60: other content for an id: taken while it waits, never once it has begun."""
        self.service.call("POST", "/commands/suspend")
        self.assertEqual("queued", self.again("waits", subject="one"))
        self.assertEqual("replaced", self.again("waits", subject="two"))
        self.service.call("POST", "/commands/activate")
        self.assertEqual("queued", self.again("flies", to=["slow@example.test"], subject="one"))
        wait_until(lambda: self.service.states()["flies"] == "in_flight", what="it to be under way")
        self.assertEqual("kept", self.again("flies", to=["slow@example.test"], subject="two"))
        self.settled("waits", "flies")
        self.assertEqual("duplicate", self.again("flies", to=["x@example.test"], subject="three"))
        self.assertEqual("duplicate", self.again("waits", subject="three"))

        self.service.terminate()

        found = self.sink.get("/messages")["messages"]
        self.assertEqual(
            {("waits", "two"), ("flies", "one")},
            {(one["mail_id"], one["subject"]) for one in found},
        )
        self.assertEqual({"waits": 1, "flies": 1}, self.copies())
