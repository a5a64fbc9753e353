from __future__ import annotations

import json
import math

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.errors import ReportRefused, ReportTooLarge
from mailproxy.records import RecipientReport
from mailproxy.report.encoding import encode
from tests.report.fakes import item

SEVEN = ["id", "account_id", "priority", "sent_ts", "error_ts", "error", "deferred_ts"]
SINCE = ["tenant_id", "event_id", "generation", "deferred_reason", "recipients", "message_id"]


class EncodingTests(SynchronousTestCase):
    def test_empty_report(self) -> None:
        """An empty report is an empty list, not a missing one."""
        self.assertEqual({"delivery_report": []}, json.loads(encode([])))

    def test_seven_keys_always(self) -> None:
        """The seven keys of the first clients are there even when nothing is known of them."""
        bare = item(sent_ts=None, recipients=())
        [wire] = json.loads(encode([bare]))["delivery_report"]
        self.assertEqual(SEVEN + SINCE, list(wire))
        self.assertEqual(["m1", "main", 2, None, None, None, None], [wire[k] for k in SEVEN])

    def test_sent(self) -> None:
        """A sent message: instants in whole seconds, each recipient with its reply."""
        [wire] = json.loads(encode([item(sent_ts=1735689600.75)]))["delivery_report"]
        self.assertEqual(1735689600, wire["sent_ts"])
        self.assertIsInstance(wire["sent_ts"], int)
        self.assertEqual(
            ["default", "e1", 1, "<m1@test>"],
            [wire[key] for key in ("tenant_id", "event_id", "generation", "message_id")],
        )
        self.assertEqual(
            [{"address": "to@test", "state": "sent", "code": 250, "reply": "250 2.0.0 Ok"}],
            wire["recipients"],
        )
        self.assertNotIn("uncertain", wire)

    def test_deferred(self) -> None:
        """A deferral has no error, so that no client takes it for a failure."""
        deferred = item(sent_ts=None, deferred_ts=1735689660.0, deferred_reason="451 later")
        [wire] = json.loads(encode([deferred]))["delivery_report"]
        self.assertEqual((None, None), (wire["error"], wire["error_ts"]))
        self.assertEqual((1735689660, "451 later"), (wire["deferred_ts"], wire["deferred_reason"]))

    def test_uncertain(self) -> None:
        """Only an uncertain item carries the word, and then it is true."""
        [wire] = json.loads(encode([item(uncertain=True)]))["delivery_report"]
        self.assertIs(True, wire["uncertain"])

    def test_many_recipients_are_split(self) -> None:
        """A report that is too large asks for fewer items; one item goes whatever its size."""
        many = tuple(
            RecipientReport(f"r{number}@test", "failed", 550, "x" * 500) for number in range(1000)
        )
        self.assertRaises(
            ReportTooLarge, encode, [item(n, recipients=many) for n in range(9)], 4_000_000
        )
        self.assertGreater(len(encode([item(recipients=many)], 100)), 500_000)

    def test_damaged_rows(self) -> None:
        """An item with no JSON form is refused, so that it is parked and the rest passes."""
        for damaged in (item(error="\ud800"), item(error_ts=math.nan), item(sent_ts=math.inf)):
            self.assertRaises(ReportRefused, encode, [item(2), damaged])

    @given(st.text(), st.text(), st.integers(0, 3), st.none() | st.floats(0, 4e9))
    @settings(deadline=None)
    def test_round_trip(self, id: str, error: str, priority: int, when: float | None) -> None:
        """Any text survives, and instants are not rounded up."""
        made = item(id=id, error=error, priority=priority, error_ts=when)
        try:
            body = encode([made, item(2)])
        except ReportRefused:
            self.assertRaises(UnicodeEncodeError, f"{id}{error}".encode)
            return
        wire, other = json.loads(body)["delivery_report"]
        self.assertEqual((id, error, priority), (wire["id"], wire["error"], wire["priority"]))
        self.assertEqual(None if when is None else math.floor(when), wire["error_ts"])
        self.assertEqual("m2", other["id"])
