"""Report items as receivers read them."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.items import wire_item
from mailproxy.records import RecipientReport, ReportItem


def item(**overrides: Any) -> ReportItem:
    values: dict[str, Any] = {
        "event_pks": (1, 2),
        "event_id": "e-1",
        "tenant_id": "default",
        "id": "m1",
        "account_id": "acct",
        "generation": 1,
        "priority": 2,
        "at": 100.5,
        "sent_ts": 100.9,
        "error_ts": None,
        "error": None,
        "deferred_ts": None,
        "deferred_reason": None,
        "uncertain": False,
        "message_id": "<m1@example.com>",
        "recipients": (RecipientReport("a@b.c", "sent", 250, "2.0.0 Ok"),),
    }
    return ReportItem(**{**values, **overrides})


class WireItemTests(SynchronousTestCase):
    def told(self, **overrides: Any) -> Any:
        return msgspec.json.decode(msgspec.json.encode(wire_item(item(**overrides))))

    def test_keys(self) -> None:
        """The seven keys of the first clients come first and are always there."""
        for overrides in ({}, {"sent_ts": None, "error_ts": 5.0, "error": "no"}):
            self.assertEqual(
                ["id", "account_id", "priority", "sent_ts", "error_ts", "error", "deferred_ts"],
                list(self.told(**overrides))[:7],
            )

    def test_whole_seconds(self) -> None:
        """Instants are whole Unix seconds, recipients objects of their own."""
        told = self.told(deferred_ts=7.99)
        self.assertEqual((100, 7), (told["sent_ts"], told["deferred_ts"]))
        self.assertEqual(
            [{"address": "a@b.c", "state": "sent", "code": 250, "reply": "2.0.0 Ok"}],
            told["recipients"],
        )

    def test_marks(self) -> None:
        """Uncertain and test are told where they are true, else they are absent."""
        plain = self.told()
        for mark in ("uncertain", "test"):
            self.assertNotIn(mark, plain)
            self.assertEqual({**plain, mark: True}, self.told(**{mark: True}))

    def test_through(self) -> None:
        """The account that carried a message is named beside its own, where it is another."""
        self.assertNotIn("through", self.told())
        told = self.told(through="backup")
        self.assertEqual(("acct", "backup"), (told["account_id"], told["through"]))

    def test_damaged(self) -> None:
        """An instant that is none is an error, not a number."""
        for instant, error in ((float("inf"), OverflowError), (float("nan"), ValueError)):
            with self.assertRaises(error):
                wire_item(item(sent_ts=instant))
