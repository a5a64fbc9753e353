"""Alarms that replies raise: told now and then, counted each time."""

from __future__ import annotations

from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.dispatch.alarms import QUIET, Alarms
from mailproxy.dispatch.dispatcher import DispatchOptions
from mailproxy.model import Claimed, Outcome, Reply
from mailproxy.reply_rules import Action, Rule, RuleBook
from mailproxy.states import Phase
from tests.dispatch.test_dispatcher import GO, OK, DispatchCase


class AlarmsTests(SynchronousTestCase):
    def test_told_again_after_a_while(self) -> None:
        """The first is told, those within the time are counted, the next one says how many."""
        alarms = Alarms(quiet=10.0)
        told = [alarms.raised("a", now=float(second)) for second in range(0, 25, 2)]
        self.assertEqual([0, *[None] * 4, 4, *[None] * 4, 4, None, None], told)

    def test_of_each(self) -> None:
        """One alarm says nothing about another."""
        alarms = Alarms()
        for about in (("t", "a", "r"), ("t", "b", "r"), ("t", "a", "s")):
            self.assertEqual(0, alarms.raised(*about, now=5.0))
            self.assertIsNone(alarms.raised(*about, now=5.0))

    def test_bounded(self) -> None:
        """Of more than can be remembered, the one told longest ago is forgotten."""
        alarms = Alarms(most=3)
        for name in "abcd":
            alarms.raised(name, now=0.0)
        alarms.raised("d", now=1.0)
        self.assertEqual(3, len(alarms))
        self.assertEqual(0, alarms.raised("a", now=1.0))
        self.assertIsNone(alarms.raised("d", now=1.0))


class AlarmedTests(DispatchCase):
    options = DispatchOptions(
        replies=RuleBook([Rule("blocked", Action.ALARM, ("554",))]), retry_delays=(60.0,)
    )

    def test_a_server_that_says_it_to_everything(self) -> None:
        """One line in ten minutes, however many messages are refused; the metric has them all."""
        self.courier.answer = blocked
        with capturedLogs() as events:
            self.add(*(f"m{n}" for n in range(20)))
            self.clock.advance(QUIET)
            self.add("late", "later")
        lines = [
            event["log_format"].format(**event)
            for event in events
            if event["log_level"] is LogLevel.error
        ]
        told = "account default/acct needs a person, blocked: 554 5.7.1 blocked"
        self.assertEqual([told, f"{told} (19 more since this was last told)"], lines)
        counted = self.sample(
            "mailproxy_reply_rules_total", tenant_id="default", account_id="acct", rule="blocked"
        )
        self.assertEqual(22.0, counted)


def blocked(message: Claimed) -> Outcome:
    return Outcome(Phase.FINAL, OK, (OK,), GO, Reply(554, "5.7.1 blocked"))
