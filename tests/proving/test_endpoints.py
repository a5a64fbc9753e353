"""Reports, attachments and tokens as a scenario has them answered, in memory."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.testing import StringTransportWithDisconnection

from mailproxy.proving.endpoints import HOLD, ScriptedFront
from mailproxy.proving.http import Front, site
from mailproxy.proving.scenario import Scenario
from tests.fakes import FakeClock
from tests.proving.test_http import HttpCase


class Wire(StringTransportWithDisconnection):
    """A connection of a client that reads when it is told to."""

    aborted = False
    connected = True

    def abortConnection(self) -> None:
        self.aborted = True
        self.loseConnection()

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._clock = clock

    def read(self) -> bytes:
        """What there is to read now."""
        for _ in range(100):
            self._clock.advance(0)
        data: bytes = self.value()
        self.clear()
        return data


def report(*items: dict[str, Any]) -> bytes:
    return json.dumps({"delivery_report": items}).encode()


EVENT = {"id": "m1", "event_id": "e1", "sent_ts": 1}


class EndpointCase(HttpCase):
    scenario = ""

    def play(self, text: str) -> None:
        self.scenario = text

    def make_front(self) -> Front:
        made = Scenario.parse(f"title = 'x'\n{self.scenario}")
        rules = {"report": made.reports, "attachment": made.attachments, "token": made.tokens}
        return ScriptedFront(self.talk.house, self.receiver, "PEM", rules, 0)

    def call(self, body: bytes = b"", path: str = "/sync", **headers: str) -> Wire:
        """POST *body*, or GET without one, and leave the connection open."""
        method = "POST" if body else "GET"
        fields = {"Host": "x", "Content-Length": str(len(body)), **headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        protocol = site(self.front, self.talk.clock, 10_000).buildProtocol(None)
        wire = Wire(self.talk.clock)
        wire.protocol = protocol
        protocol.makeConnection(wire)
        protocol.dataReceived(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
        return wire

    def status(self, *args: Any, **kwargs: Any) -> int:
        return int(self.call(*args, **kwargs).read().split()[1])


class ReportTests(EndpointCase):
    def test_first_n_then_other(self) -> None:
        """The first calls are refused, the next are taken as ever."""
        self.play("[[report]]\ntimes = 2\nstatus = 503\nheaders = {Retry-After = '7'}")
        first = self.call(report(EVENT)).read()
        self.assertIn(b"retry-after: 7", first.lower())
        self.assertEqual([503, 200], [self.status(report(EVENT)) for _ in range(2)])
        found = self.ask("GET", "/reports").json
        self.assertEqual((1, {"503": 2, "200": 1}), (found["calls"], found["answers"]))

    def test_by_path_token_id_and_size(self) -> None:
        """A rule can be about a path, a credential, an id, and how many items there are."""
        self.play(
            "[[report]]\npath = '/other*'\nstatus = 404\n"
            "[[report]]\ntoken = 'Bearer stale'\nstatus = 401\n"
            "[[report]]\nid = 'bad*'\nstatus = 422\n"
            "[[report]]\nitems = '3-'\nstatus = 413\n"
        )
        self.assertEqual(404, self.status(report(), path="/other/x"))
        self.assertEqual(401, self.status(report(), Authorization="Bearer stale"))
        self.assertEqual(422, self.status(report({"id": "bad1"})))
        self.assertEqual(413, self.status(report({}, {}, {})))
        self.assertEqual(200, self.status(report({}, {})))

    def test_what_counts_as_taken(self) -> None:
        """A report is taken if the answer says so, or the scenario does."""
        for text, taken in (
            ("json = {ok = true}", True),
            ("status = 204", True),
            ("status = 200", True),
            ("json = {error = 'no'}", False),
            ("body = '<html>welcome</html>'", False),
            ("status = 500", False),
            ("redirect = 'http://127.0.0.1:1/'", False),
            ("then = 'reset'", False),
            ("then = 'reset'\nkeep = true", True),
            ("status = 200\nkeep = false", False),
            ("delay = 1", True),
        ):
            with self.subTest(text):
                self._front = self._receiver = None  # type: ignore[assignment]
                del self._front, self._receiver
                self.play(f"[[report]]\n{text}")
                self.call(report(EVENT))
                self.assertEqual(int(taken), self.receiver.items)

    def test_events(self) -> None:
        """Events are counted, and those that came again are named."""
        for event in ("e1", "e2", "e1", "e1"):
            self.status(report({"event_id": event}))
        found = self.ask("GET", "/reports").json
        self.assertEqual((2, {"e1": 3}), (found["events"], found["repeats"]))

    def test_late_and_never(self) -> None:
        """An answer can be late, or never come; then the connection is closed in the end."""
        self.play("[[report]]\ntimes = 1\ndelay = 2\n[[report]]\nthen = 'silence'")
        late, never = self.call(report()), self.call(report())
        self.talk.clock.advance(1.9)
        self.assertEqual(b"", late.read() + never.read())
        self.talk.clock.advance(0.2)
        self.assertEqual(b'{"ok":true}', late.read().split()[-1])
        self.assertTrue(never.connected)
        self.talk.clock.advance(HOLD)
        self.assertFalse(never.connected)

    def test_broken_off(self) -> None:
        """Nothing is left of an answer whose client went, or whose sink stopped."""
        self.play("[[report]]\ndelay = 50")
        gone, cut = self.call(report()), self.call(report())
        gone.loseConnection()
        self.front.close_all()
        self.assertTrue(cut.aborted)
        self.assertFalse(gone.aborted)
        waiting = [each for each in self.talk.clock.getDelayedCalls() if each.getTime() == 50]
        self.assertEqual([], waiting)


class AnswerTests(EndpointCase):
    def answered(self, text: str) -> Wire:
        self.play(f"[[attachment]]\n{text}")
        return self.call(path="/files/a/b.txt")

    def test_huge(self) -> None:
        """A body can be as long as it likes; it is made while it is read."""
        wire = self.answered("body = 'abc'\nsize = 1000000")
        self.assertLess(len(wire.value()), 200_000)
        head, _, body = wire.read().partition(b"\r\n\r\n")
        self.assertIn(b"content-length: 1000000", head.lower())
        self.assertEqual((b"abc" * 333334)[:1000000], body)

    def test_wrong_length(self) -> None:
        """A body can be shorter than was declared; then the connection is closed."""
        wire = self.answered("body = 'abc'\nlength = 10")
        head, _, body = wire.read().partition(b"\r\n\r\n")
        self.assertIn(b"content-length: 10", head.lower())
        self.assertEqual((b"abc", False), (body, wire.connected))

    def test_in_part(self) -> None:
        """An answer can break off in its middle."""
        wire = self.answered("body = 'abcdef'\nat_byte = 2\nthen = 'reset'")
        self.assertEqual(b"ab", wire.read().partition(b"\r\n\r\n")[2])
        self.assertTrue(wire.aborted)

    def test_dripped(self) -> None:
        """A body can come so many octets a second."""
        wire = self.answered("body = 'abcdef'\ndrip = 1")
        self.assertEqual(b"a", wire.read().partition(b"\r\n\r\n")[2])
        self.talk.clock.advance(1)
        self.assertEqual(b"b", wire.read())
        self.talk.clock.pump([1] * 4)
        self.assertEqual(b"cdef", wire.read())

    def test_redirect(self) -> None:
        """A redirect says where to."""
        said = self.answered("redirect = 'http://169.254.169.254/'").read().split(b"\r\n")
        self.assertIn(b"302", said[0])
        self.assertIn(b"location: http://169.254.169.254/", [line.lower() for line in said])

    def test_files(self) -> None:
        """Without a rule there is any file, by GET and by POST; the ledger tells of each."""
        self.play("[[attachment]]\npath = '*gone*'\nstatus = 404")
        by_get = self.call(path="/files/a.txt").read()
        by_post = self.call(b'{"storage_path": "a.txt"}', Authorization="Bearer geheim").read()
        self.assertEqual(
            by_get.partition(b"\r\n\r\n")[2], by_post.partition(b"\r\n\r\n")[2]
        )  # fmt: skip
        self.assertEqual(404, self.status(b'{"storage_path": "gone/a"}', path="/x"))
        found = self.ask("GET", "/fetches").json
        self.assertEqual(3, found["fetches"])
        self.assertEqual(
            [("GET", "a.txt", "", "200"), ("POST", "a.txt", "Bearer", "200"),
             ("POST", "gone/a", "", "404")],
            [(x["method"], x["file"], x["authorization"], x["answer"]) for x in found["kept"]],
        )  # fmt: skip
        self.assertNotIn("geheim", str(found))
        self.assertEqual(1, len(self.ask("GET", "/fetches?file=gone").json["kept"]))

    def test_reports_stay_reports(self) -> None:
        """A report that speaks of a storage_path is a report, and so is what is no JSON."""
        self.assertEqual(200, self.status(report({"id": '"storage_path"'})))
        self.assertEqual(400, self.status(b'"storage_path" {'))
        self.assertEqual(1, self.receiver.calls)

    def test_tokens(self) -> None:
        """A token is a new one each time, unless the scenario has it refused."""
        self.play("[[token]]\ncall = 2\nstatus = 400\njson = {error = 'invalid_grant'}")
        said = [self.call(b"grant_type=x", path="/token").read() for _ in range(3)]
        self.assertIn(b"token-1", said[0])
        self.assertIn(b"400", said[1].split(b"\r\n")[0])
        self.assertIn(b"token-2", said[2])
