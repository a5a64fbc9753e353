"""What is stored of messages that no attempt was begun for."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.dispatch.judge import Rules
from mailproxy.dispatch.unbegun import quarantined, unprepared
from mailproxy.errors import AttachmentFault, LargeFileFault
from mailproxy.model import Recipient, Record
from mailproxy.states import EventKind, RecipientState
from mailproxy.store import wording
from tests.delivery.peer import account
from tests.delivery.test_courier import claimed
from tests.fakes import EPOCH

NOW = EPOCH + 100.0
BUSY = AttachmentFault("a.pdf", "answered 503", transient=True)
GONE = AttachmentFault("a.pdf", "answered 404", transient=False)


def judged(fault: AttachmentFault, now: float = NOW, **values: Any) -> Record:
    two = tuple(Recipient(n, f"r{n}@x.org", RecipientState.WAITING) for n in (1, 3))
    message = attrs.evolve(claimed(7, recipients=two), **values)
    return unprepared(message, account(), fault, now, Rules((60.0, 300.0)))


class UnpreparedTests(SynchronousTestCase):
    def test_for_now(self) -> None:
        """What may be had later puts off every open recipient, by the fetches that failed."""
        for fetches, delay in ((0, 60.0), (1, 300.0), (9, 300.0)):
            record = judged(BUSY, fetches=fetches)
            self.assertEqual((EventKind.DEFERRED, NOW + delay), (record.kind, record.next_at))
            self.assertEqual((0, True), (record.attempt, record.fetched_in_vain))
            self.assertEqual([1, 3], [change.n for change in record.changes])
            self.assertEqual({RecipientState.DEFERRED}, {c.state for c in record.changes})
            self.assertTrue(record.report)
            self.assertEqual("Attachment fetch failed for a.pdf: answered 503", record.reason)

    def test_for_good(self) -> None:
        """Where there is no hope, every open recipient fails at once."""
        record = judged(GONE)
        self.assertEqual((EventKind.FAILED, None), (record.kind, record.next_at))
        self.assertEqual({RecipientState.FAILED}, {change.state for change in record.changes})

    def test_too_old(self) -> None:
        """At the age limit the message ends with what was wrong last."""
        record = judged(BUSY, now=EPOCH + 86_399.0)
        self.assertEqual((EventKind.EXPIRED, None), (record.kind, record.next_at))
        self.assertEqual({RecipientState.EXPIRED}, {change.state for change in record.changes})
        self.assertEqual("Attachment fetch failed for a.pdf: answered 503", record.reason)

    def test_words(self) -> None:
        """What the application is told is the fault's text alone, once."""
        record = judged(GONE)
        said = [wording.Said(f"r{c.n}@x.org", c.state, c.code, c.reply) for c in record.changes]
        self.assertEqual(str(GONE), wording.error(record.reason, said))

    def test_same_reason(self) -> None:
        """The same recipients waiting for an attachment are one reason, whatever the answer."""
        other = AttachmentFault("a.pdf", "answered 500", transient=True)
        self.assertEqual(judged(BUSY).reason_key, judged(other).reason_key)

    def test_large(self) -> None:
        """A large attachment that is refused is told in words of its own."""
        record = judged(LargeFileFault("a.pdf", "larger than 5 MiB", transient=False))
        self.assertEqual("attachment a.pdf: larger than 5 MiB", record.reason)


class QuarantinedTests(SynchronousTestCase):
    def test_held(self) -> None:
        """What keeps raising is held, with the error's kind and text, and no recipient changes."""
        record = quarantined(claimed(7), "x" * 1000, ValueError, "t" * 20_000, NOW)
        self.assertEqual((EventKind.HELD, (), None), (record.kind, record.changes, record.next_at))
        self.assertTrue(record.hold.startswith("quarantined: ValueError: xxx"))
        self.assertEqual(500, len(record.hold))
