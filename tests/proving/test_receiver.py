"""The report receiver."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.proving.ledger import JsonLines
from mailproxy.proving.receiver import Credentials, NotAReport, Receiver, describe
from tests.fakes import EPOCH, FakeClock
from tests.scratch import scratch


def report(*items: dict[str, Any]) -> bytes:
    return json.dumps({"delivery_report": list(items)}).encode()


def sent(mail_id: str) -> dict[str, Any]:
    return {
        "id": mail_id,
        "account_id": "smtp-main",
        "priority": 1,
        "sent_ts": 1735689600,
        "error_ts": None,
        "error": None,
        "deferred_ts": None,
    }


class ReceiverTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.said: list[str] = []
        self.receiver = Receiver(FakeClock().now, self.said.append)

    def test_answer(self) -> None:
        """A report is answered as an application without mail of its own answers."""
        self.assertEqual({"ok": True, "queued": 0}, self.receiver.take("/x", report()))

    def test_beside(self) -> None:
        """It is written down how many calls were open at the same path when one came."""
        receiver = self.receiver
        receiver.began("/a")
        receiver.take("/a", report())
        receiver.began("/b")
        receiver.take("/b", report())
        receiver.began("/a")
        receiver.take("/a", report())
        receiver.ended("/a")
        receiver.ended("/a")
        receiver.began("/a")
        receiver.take("/a", report())
        self.assertEqual([0, 0, 1, 0], [call.beside for call in receiver.kept()])

    def test_printed(self) -> None:
        """Each item is a line for a person; an empty report is one too."""
        failed = {"id": "M2", "error_ts": 1735689600, "error": "550 no such user"}
        deferred = {"id": "M3", "deferred_ts": 1735689660, "deferred_reason": "451 later"}
        uncertain = {"id": "M4", "uncertain": True, "deferred_reason": "uncertain: no reply"}

        self.receiver.take("/sync", report(sent("M1"), failed, deferred, uncertain, {"id": "M5"}))
        self.receiver.take("/sync", report())

        self.assertEqual(
            [
                "report: M1 sent at 00:00:00 UTC by smtp-main",
                "report: M2 failed at 00:00:00 UTC: 550 no such user",
                "report: M3 deferred until 00:01:00 UTC: 451 later",
                "report: M4 is uncertain: uncertain: no reply",
                "report: M5 says neither sent, failed nor deferred",
                "report: nothing new (/sync)",
            ],
            self.said,
        )

    def test_counts(self) -> None:
        """Calls, items and verdicts are counted."""
        self.receiver.take("/x", report(sent("M1"), sent("M2")))
        self.receiver.take("/x", report())

        self.assertEqual(
            {
                "calls": 2,
                "items": 2,
                "empty": 1,
                "unauthorised": 0,
                "malformed": 0,
                "verdicts": {"sent": 2},
                "events": 0,
                "answers": {},
            },
            self.receiver.counts(),
        )

    def test_kept(self) -> None:
        """Calls are kept with number, time and path, and found by id."""
        self.receiver.take("/x", report(sent("M1"), sent("M2")))
        self.receiver.take("/y", report(sent("M2")))
        self.receiver.take("/y", report())

        self.assertEqual([2, 1, 0], [len(call.items) for call in self.receiver.kept()])
        found = self.receiver.kept("M2")
        self.assertEqual([(1, "/x"), (2, "/y")], [(call.n, call.path) for call in found])
        self.assertEqual([["M2"], ["M2"]], [[i["id"] for i in call.items] for call in found])
        self.assertEqual(EPOCH, found[0].time)

    def test_bounded(self) -> None:
        """Beyond the number of items to keep, the oldest calls go; the newest stays."""
        receiver = Receiver(FakeClock().now, keep=10)
        for size in (4, 4, 4):
            receiver.take("/x", report(*[sent("M")] * size))
        self.assertEqual([2, 3], [call.n for call in receiver.kept()])

        receiver.take("/x", report(*[sent("M")] * 100))

        self.assertEqual([4], [call.n for call in receiver.kept()])

    def test_forget(self) -> None:
        """Forgetting empties what is kept; the counts go on."""
        self.receiver.take("/x", report(sent("M1")))

        self.assertEqual(1, self.receiver.forget())
        self.assertEqual(([], 1), (self.receiver.kept(), self.receiver.calls))

    def test_written_down(self) -> None:
        """Each call is a JSON line in the file before it is answered."""
        path = scratch(self) / "ledger"
        lines = JsonLines(str(path))
        self.addCleanup(lines.close)
        receiver = Receiver(FakeClock().now, lines=lines)

        receiver.take("/x", report(sent("M1")))

        self.assertEqual("M1", json.loads(path.read_bytes())["items"][0]["id"])

    @settings(deadline=None)
    @given(
        st.binary(max_size=30)
        | st.sampled_from([b"[]", b"{}", b'{"delivery_report": 1}', b'{"delivery_report": [1]}'])
    )
    def test_not_a_report(self, body: bytes) -> None:
        """What is no report is refused, counted and not kept."""
        receiver = Receiver(FakeClock().now)

        self.assertRaises(NotAReport, receiver.take, "/x", body)
        self.assertEqual((0, 1, []), (receiver.calls, receiver.malformed, receiver.kept()))

    JSON = st.recursive(
        st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=2),
        max_leaves=4,
    )

    @settings(deadline=None)
    @given(
        st.dictionaries(
            st.sampled_from(
                ["id", "account_id", "sent_ts", "error_ts", "error", "deferred_ts", "uncertain"]
            ),
            JSON,
        )
    )
    def test_any_item(self, item: dict[str, Any]) -> None:
        """Whatever stands in an item, it is one printable line."""
        _, line = describe(item)

        self.assertTrue(line.isprintable(), line)


class CredentialsTests(SynchronousTestCase):
    def basic(self, text: str) -> str:
        return f"Basic {b64encode(text.encode()).decode()}"

    def test_nothing_set(self) -> None:
        """With no credentials set everybody may report."""
        self.assertTrue(Credentials().admit(""))
        self.assertTrue(Credentials().admit("Bearer x"))

    def test_basic(self) -> None:
        """With a user set, just that user with that password may."""
        credentials = Credentials("syncuser", "sync:päss")

        self.assertTrue(credentials.admit(self.basic("syncuser:sync:päss")))
        self.assertTrue(credentials.admit(self.basic("syncuser:sync:päss").replace("B", "b", 1)))
        for wrong in (
            *("", "Basic", "Basic !", "Basic /w==", "Bearer x"),
            *(self.basic("syncuser:"), self.basic("syncuser"), self.basic(":sync:päss")),
        ):
            self.assertFalse(credentials.admit(wrong), wrong)

    def test_bearer(self) -> None:
        """With a token set, who shows it may; with both set, either will do."""
        self.assertTrue(Credentials(token="t0ken").admit("Bearer t0ken"))
        self.assertFalse(Credentials(token="t0ken").admit("Bearer t0ke"))
        self.assertFalse(Credentials(token="t0ken").admit(self.basic("a:b")))
        both = Credentials("a", "b", "t0ken")
        self.assertTrue(both.admit("Bearer t0ken"))
        self.assertTrue(both.admit(self.basic("a:b")))

    def test_secrets_are_not_shown(self) -> None:
        """The representation of credentials has no secret in it."""
        self.assertNotIn("geheim", repr(Credentials("a", "geheim", "geheim")))
