"""Mail that goes through another account than its own, over a store and a courier in memory."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from mailproxy.acts import Act, Group, Operation
from mailproxy.errors import AccountFault
from mailproxy.interfaces import ICourier, IFeed
from mailproxy.model import Account, Claimed, Outcome, Reply
from mailproxy.states import OnUncertain, Phase
from tests.build import account_spec
from tests.dispatch.test_dispatcher import (
    DispatchCase,
    ReadFailingStore,
    ScriptedCourier,
    delivered,
)
from tests.fakes import result

OK, GO = Reply(250, "2.0.0 ok"), Reply(354, "go")
LARGE = Reply(552, "5.3.4 the message has 9 octets, the server takes 5")
DOWN = AccountFault("connect", "refused")

#: How an account dies under a message, in each phase after the session is there.
DEATHS: dict[str, Outcome] = {
    "mail": Outcome(Phase.MAIL, error="reset"),
    "mail-421": Outcome(Phase.MAIL, Reply(421, "4.3.2 bye"), error="421 4.3.2 bye"),
    "rcpt": Outcome(Phase.RCPT, OK, (None,), error="reset"),
    "data": Outcome(Phase.DATA, OK, (OK,), error="reset"),
    "body": Outcome(Phase.BODY, OK, (OK,), GO, error="reset"),
}
LOST = Outcome(Phase.FINAL, OK, (OK,), GO, error="reset")


@implementer(ICourier)
class Providers(ScriptedCourier):
    """
    Each account is as told: at fault, or with outcomes of its own.

    :ivar took: account and message of each that was accepted, in order.
    :ivar lost: those of which nobody knows, each with the tries made until then.
    :ivar tries: account and message of each that was begun.
    """

    def __init__(self) -> None:
        super().__init__()
        self.faults: dict[str, AccountFault] = {}
        self.outcomes: dict[str, Callable[[Claimed], Outcome]] = {}
        self.gates: dict[str, Deferred[None]] = {}
        self.tries: list[tuple[str, str]] = []
        self.took: list[tuple[str, str]] = []
        self.lost: list[tuple[str, str, int]] = []
        self.open: Counter[str] = Counter()
        self.most: Counter[str] = Counter()

    async def carry(self, account: Account, feed: IFeed) -> None:
        self.carries.append(account.id)
        self.open[account.id] += 1
        self.most[account.id] = max(self.most[account.id], self.open[account.id])
        try:
            await self._carry(account, feed)
        finally:
            self.open[account.id] -= 1

    async def _carry(self, account: Account, feed: IFeed) -> None:
        if account.id in self.faults:
            raise self.faults[account.id]
        while (message := feed.next()) is not None:
            if not await feed.begin(message):
                continue
            self.tries.append((account.id, message.id))
            if account.id in self.gates:
                waiting: Deferred[None] = Deferred()
                self.gates[account.id].addCallback(_pass, waiting)
                await waiting
            outcome = self.outcomes.get(account.id, delivered)(message)
            if outcome.final is not None and outcome.final.code == 250:
                self.took.append((account.id, message.id))
            if outcome.uncertain:
                self.lost.append((account.id, message.id, len(self.tries)))
            await feed.finish(message, outcome)
            if outcome.error:
                return

    def open_gate(self, name: str) -> None:
        self.gates.pop(name).callback(None)


def _pass(value: None, waiting: Deferred[None]) -> None:
    waiting.callback(None)


def always(outcome: Outcome) -> Callable[[Claimed], Outcome]:
    """Every message comes to *outcome*."""
    return lambda _: outcome


class FailoverCase(DispatchCase):
    """Account ``acct`` with the fallback ``b``, then ``c``."""

    fields: dict[str, Any] = {"fallback": ["b", "c"]}

    def setUp(self) -> None:
        super().setUp()
        self.stop()
        self.courier: Providers = Providers()
        self.put(**self.fields)
        self.b = self.put("b")
        self.c = self.put("c")
        self.start()

    def put(self, name: str = "acct", **options: Any) -> Account:
        known = {key: options.pop(key) for key in ("max_sessions", "on_uncertain", "host")
                 if key in options}  # fmt: skip
        spec = account_spec(
            id=name, options=json.dumps(options), is_default=name == "acct", **known
        )
        return result(self.store.put_account(spec, self.clock.now()))

    def wait(self, seconds: float) -> None:
        self.clock.pump([0.25] * int(seconds * 4))

    def attempts(self, message_id: str) -> list[str]:
        """The accounts that attempts at a message went through, in order."""
        events = result(self.store.timeline("default", message_id))
        return [each["data"]["account"] for each in events if each["kind"] == "intent"]


class DeathTests(FailoverCase):
    """The first account dies; each message arrives once, and soon."""

    def test_no_session(self) -> None:
        """An account without sessions: its mail leaves at once through the first that has some."""
        for phase in ("resolve", "connect", "banner", "ehlo", "tls", "auth"):
            self.courier.took.clear()
            self.courier.faults["acct"] = AccountFault(phase, "it died")
            ids = [f"{phase}{n}" for n in range(10)]
            self.add(*ids)
            self.assertEqual({("b", each) for each in ids}, set(self.courier.took), phase)
            self.assertEqual(10, len(self.courier.took), phase)

    def test_parked_and_shown(self) -> None:
        """The account is parked with its reason, and so tells whoever asks."""
        self.courier.faults["acct"] = AccountFault("auth", "535 5.7.8 no", 535)
        self.add("m")
        account = result(self.store.account(self.account.pk))
        assert account is not None
        self.assertEqual("auth: 535 5.7.8 no", account.parked_reason)
        self.assertEqual(
            1.0, self.sample("mailproxy_accounts_parked", tenant_id="default", account_id="acct")
        )

    def test_within_a_session(self) -> None:
        """It dies between MAIL and the middle of the body: the next account sends it at once."""
        for name, death in DEATHS.items():
            self.courier.outcomes["acct"] = always(death)
            self.add(name)
            self.assertEqual("sent", self.store.states()[name], name)
            self.assertEqual(["acct", "b"], self.attempts(name))
        self.assertEqual(len(DEATHS), len(self.courier.took))

    def test_after_the_dot(self) -> None:
        """Nobody knows whether it was accepted: it is repeated at the same account only."""
        self.courier.outcomes["acct"] = always(LOST)
        self.add("m")
        self.courier.faults["acct"] = DOWN
        self.wait(900)
        self.assertEqual([], self.courier.took)
        self.assertEqual("deferred", self.store.states()["m"])
        events = len(result(self.store.timeline("default", "m")))
        self.assertLess(events, 15, "it is not looked at again and again")
        del self.courier.faults["acct"], self.courier.outcomes["acct"]
        self.wait(400)
        self.assertEqual([("acct", "m")], self.courier.took)
        self.assertEqual(["acct", "acct"], self.attempts("m"))

    def test_after_the_dot_of_another(self) -> None:
        """The account that may have it repeats it, also where that is not the message's own."""
        self.courier.faults["acct"] = DOWN
        self.courier.outcomes["b"] = always(LOST)
        self.add("m")
        del self.courier.faults["acct"]
        self.wait(70)
        self.assertEqual(["b", "b"], self.attempts("m"))
        self.assertEqual("uncertain", self.store.states()["m"])
        self.assertEqual([], self.courier.took)

    def test_the_account_that_may_have_it_is_down(self) -> None:
        """A message in doubt waits for the account that may have it, and says so."""
        self.courier.faults["acct"] = DOWN
        self.courier.outcomes["b"] = always(LOST)
        self.add("m")
        self.courier.faults["b"] = DOWN
        self.add("other")  # b is found out
        del self.courier.faults["acct"], self.courier.outcomes["b"]
        self.wait(90)
        waiting = result(self.store.message("default", "m"))
        assert waiting is not None
        reason = waiting.deferred_reason
        self.assertEqual("waits for account b, which may have sent it already", reason)
        del self.courier.faults["b"]
        self.wait(900)
        self.assertEqual(["b", "b"], self.attempts("m"))
        self.assertEqual("sent", self.store.states()["m"])

    def test_the_account_that_may_have_it_is_gone(self) -> None:
        """Where it was deleted nobody will know: a person decides."""
        self.courier.faults["acct"] = DOWN
        self.courier.outcomes["b"] = always(LOST)
        self.add("m")
        result(self.store.delete_account("default", "b", self.clock.now()))
        self.wait(90)
        self.assertEqual("uncertain", self.store.states()["m"])
        self.assertEqual(["b"], self.attempts("m"))

    def test_hold(self) -> None:
        """The policy of the message's own account decides, whoever carried it."""
        for policy, state in ((OnUncertain.HOLD, "uncertain"), (OnUncertain.FAIL, "failed")):
            self.put(on_uncertain=policy, **self.fields)
            self.courier.faults["acct"] = DOWN
            self.courier.outcomes["b"] = always(LOST)
            self.add(policy.value)
            self.assertEqual(state, self.store.states()[policy.value])
            self.wait(400)
            self.assertEqual(["b"], self.attempts(policy.value))

    def test_second_fallback(self) -> None:
        """Where the first fallback is down as well, the second has its turn."""
        self.courier.faults |= {"acct": DOWN, "b": DOWN}
        self.add(*[f"m{n}" for n in range(30)])
        self.assertEqual({("c", f"m{n}") for n in range(30)}, set(self.courier.took))

    def test_each_fails_within_a_session(self) -> None:
        """Each account is tried once; then the message waits for its schedule, and begins anew."""
        death = DEATHS["body"]
        self.courier.outcomes = {name: always(death) for name in ("acct", "b", "c")}
        self.add("m")
        self.assertEqual(["acct", "b", "c"], self.attempts("m"))
        self.assertEqual("deferred", self.store.states()["m"])
        self.wait(50)
        self.assertEqual(3, len(self.attempts("m")))
        self.courier.outcomes.clear()
        self.wait(4000)
        self.assertEqual(["acct", "b", "c", "acct"], self.attempts("m"))
        self.assertEqual("sent", self.store.states()["m"])

    def test_recipients_are_not_passed_around(self) -> None:
        """A refused recipient is refused: no other account is asked."""
        for reply, state in ((Reply(550, "5.1.1 no"), "failed"), (Reply(450, "4.2.1"), "deferred")):
            self.courier.outcomes["acct"] = always(Outcome(Phase.RCPT, OK, (reply,)))
            self.add(state)
            self.assertEqual((state, ["acct"]), (self.store.states()[state], self.attempts(state)))


class ReturnTests(FailoverCase):
    def test_return(self) -> None:
        """The first account is probed in its own rhythm, and has its mail back when it works."""
        self.courier.faults["acct"] = DOWN
        self.add("m0")
        tried = self.courier.carries.count("acct")
        for n in range(1, 50):
            self.add(f"m{n}")
            self.wait(1)
        self.assertEqual(tried, self.courier.carries.count("acct"))
        del self.courier.faults["acct"]
        for n in range(50, 80):
            self.add(f"m{n}")
            self.wait(1)
        self.assertEqual({"sent"}, set(self.store.states().values()))
        self.assertEqual(80, len(self.courier.took))
        first = next(n for n, (name, _) in enumerate(self.courier.took) if name == "acct")
        self.assertEqual({"acct"}, {name for name, _ in self.courier.took[first:]})
        self.assertLess(first, 64)
        account = result(self.store.account(self.account.pk))
        assert account is not None
        self.assertEqual("", account.parked_reason)

    def test_a_failed_probe_delays_its_message_only(self) -> None:
        """The message that a probe takes leaves through the other account after it."""
        self.courier.faults["acct"] = DOWN
        for n in range(400):
            self.add(f"m{n}")
            self.wait(1)
        self.assertEqual({"sent"}, set(self.store.states().values()))
        self.assertEqual({"b"}, {name for name, _ in self.courier.took})
        probes = self.courier.carries.count("acct")
        self.assertTrue(3 <= probes <= 5, probes)

    def test_all_down(self) -> None:
        """While no account works, one message at a time tries them; all leaves with the first."""
        self.courier.faults |= {"acct": DOWN, "b": DOWN, "c": DOWN}
        self.add(*[f"m{n}" for n in range(200)])
        carries = len(self.courier.carries)
        self.wait(50)
        self.assertEqual(carries, len(self.courier.carries))
        del self.courier.faults["c"]
        self.wait(20)
        self.assertEqual({"sent"}, set(self.store.states().values()))
        self.assertEqual({"c"}, {name for name, _ in self.courier.took})

    def test_another_works_again_by_its_own_mail(self) -> None:
        """When another account's own mail finds that it works, the mail that waits goes there."""
        self.courier.faults |= {"acct": DOWN, "b": DOWN, "c": DOWN}
        self.add("m")
        del self.courier.faults["b"]
        self.put("b", host="new.example.net")
        self.add("own", account_id="b")
        self.wait(15)
        self.assertEqual({"m": "sent", "own": "sent"}, self.store.states())
        self.assertEqual({("b", "m"), ("b", "own")}, set(self.courier.took))

    def test_a_change_of_the_first(self) -> None:
        """A changed account is tried at once."""
        self.courier.faults["acct"] = DOWN
        self.add("m1")
        del self.courier.faults["acct"]
        self.put(host="new.example.net", **self.fields)
        self.add("m2")
        self.assertEqual([("b", "m1"), ("acct", "m2")], self.courier.took)

    def test_after_a_restart(self) -> None:
        """A new process knows that the account is parked, and asks the other at once."""
        self.courier.faults["acct"] = DOWN
        self.add("m1")
        self.stop()
        tried = self.courier.carries.count("acct")
        self.start()
        self.add("m2")
        self.assertEqual([("b", "m1"), ("b", "m2")], self.courier.took)
        self.assertEqual(tried, self.courier.carries.count("acct"))

    def test_no_circle(self) -> None:
        """The fallback of a fallback is not followed, and a circle of two is none."""
        self.put("b", fallback=["acct", "c"])
        self.put(fallback=["b"])
        self.courier.faults |= {"acct": DOWN, "b": DOWN}
        self.add("m")
        self.wait(30)
        self.assertEqual([], self.courier.took)
        self.assertEqual("queued", self.store.states()["m"])
        self.add("own", account_id="b")
        self.wait(100)
        self.assertEqual([("c", "own")], self.courier.took)


class UnfitTests(FailoverCase):
    def test_deleted(self) -> None:
        """An account that was deleted carries nothing; the next one does."""
        self.courier.faults["acct"] = DOWN
        self.add("m1")
        result(self.store.delete_account("default", "b", self.clock.now()))
        self.add("m2")
        self.wait(2)
        self.assertEqual([("b", "m1"), ("c", "m2")], self.courier.took)

    def test_changed(self) -> None:
        """An account that was changed carries it as it is now."""
        self.courier.faults["acct"] = DOWN
        self.add("m1")
        changed = self.put("b", host="new.example.net")
        self.add("m2")
        self.wait(2)
        self.assertEqual([("b", "m1"), ("b", "m2")], self.courier.took)
        self.assertGreater(changed.version, self.b.version)

    def test_not_there(self) -> None:
        """Names of accounts that are not there are passed over until they are."""
        self.put(fallback=["nobody", "later", "c"])
        self.courier.faults["acct"] = DOWN
        self.add("m1")
        self.put("later")
        self.wait(11)
        self.add("m2")
        self.assertEqual([("c", "m1"), ("later", "m2")], self.courier.took)

    def test_of_another_tenant(self) -> None:
        """An account of another tenant never carries it."""
        self.put(fallback=["theirs"])
        self.store.disk.tenants["t2"] = self.store.disk.tenants["default"].__class__("t2")
        spec = account_spec(id="theirs", tenant_id="t2")
        result(self.store.put_account(spec, self.clock.now()))
        self.courier.faults["acct"] = DOWN
        self.add("m")
        self.wait(30)
        self.assertEqual([], self.courier.took)

    @property
    def seen(self) -> ReadFailingStore:
        assert isinstance(self.store, ReadFailingStore)
        return self.store

    def act(self, act: Act, name: str) -> None:
        operation = Operation(act, self.clock.now(), "admin")
        result(self.store.act_on_all(Group("default", account_id=name), operation))

    def test_held(self) -> None:
        """An account an operator holds is passed over, without a try; released, it has its turn."""
        self.courier.faults["acct"] = DOWN
        self.act(Act.HOLD, "b")
        self.add("m1")
        self.assertEqual([("c", "m1")], self.courier.took)
        self.act(Act.RELEASE, "b")
        self.wait(65)
        self.add("m2")
        self.wait(2)
        self.assertEqual([("c", "m1"), ("b", "m2")], self.courier.took)
        self.act(Act.HOLD, "b")
        self.wait(11)
        before = len(self.seen.refused)
        self.add("m3")
        self.assertEqual(("c", "m3"), self.courier.took[-1])
        self.assertEqual(before, len(self.seen.refused))

    def test_all_held(self) -> None:
        """Where every other account is held, mail waits for its own, and is not asked for again."""
        self.courier.faults["acct"] = DOWN
        for name in ("b", "c"):
            self.act(Act.HOLD, name)
        self.add("m1", "m2")
        self.assertEqual({"queued"}, set(self.store.states().values()))
        self.seen.claims.clear()
        self.wait(30)
        self.assertLess(len(self.seen.claims), 10)
        self.assertEqual([], self.seen.refused)
        self.act(Act.RELEASE, "c")
        self.wait(65)
        self.assertEqual([("c", "m1"), ("c", "m2")], sorted(self.courier.took))

    def test_held_since_it_was_read(self) -> None:
        """What was read of the account says otherwise: one refused intent, then the next one."""
        self.courier.faults["acct"] = DOWN
        self.add("m1")
        self.act(Act.HOLD, "b")
        self.add("m2")
        self.wait(2)
        self.assertEqual([("b", "m1"), ("c", "m2")], self.courier.took)
        self.assertLess(len(self.seen.refused), 3)

    def test_held_with_a_doubt(self) -> None:
        """What only a held account may carry waits until that is released."""
        self.put(fallback=["b", "c"], on_uncertain=OnUncertain.RETRY)
        self.courier.faults["acct"] = DOWN
        self.courier.outcomes["b"] = always(LOST)
        self.add("m")
        self.act(Act.HOLD, "b")
        del self.courier.outcomes["b"]
        self.wait(400)
        self.assertEqual({"m": "deferred"}, self.store.states())
        self.act(Act.RELEASE, "b")
        self.wait(400)
        self.assertEqual(["b", "b"], self.attempts("m"))
        self.assertEqual({"m": "sent"}, self.store.states())

    def test_suspended(self) -> None:
        """A suspension of the tenant holds whoever carries the mail."""
        self.courier.faults["acct"] = DOWN
        self.add("m1")
        result(self.store.suspend("default", None, self.clock.now()))
        self.add("m2")
        self.wait(20)
        self.assertEqual([("b", "m1")], self.courier.took)
        result(self.store.activate("default", None, self.clock.now()))
        self.wait(2)
        self.assertEqual([("b", "m1"), ("b", "m2")], self.courier.took)


class SizeTests(FailoverCase):
    """F33."""

    def test_a_larger_one_tries(self) -> None:
        """Too large for one account: the next that takes it sends it, at once."""
        self.courier.outcomes = {
            name: lambda _: Outcome(Phase.MAIL, LARGE) for name in ("acct", "b")
        }
        self.add("big")
        self.assertEqual([("c", "big")], self.courier.took)
        self.assertEqual(["acct", "b", "c"], self.attempts("big"))
        (item,) = result(self.store.unreported("default", 10))
        self.assertEqual(("acct", "c"), (item.account_id, item.through))

    def test_too_large_for_all(self) -> None:
        """Too large for every one of them: it fails, once each was asked."""
        self.courier.outcomes = {
            name: lambda _: Outcome(Phase.MAIL, LARGE) for name in ("acct", "b", "c")
        }
        self.add("big")
        self.assertEqual("failed", self.store.states()["big"])
        self.assertEqual(["acct", "b", "c"], self.attempts("big"))


class OverflowTests(FailoverCase):
    """The account may hand over five messages an hour."""

    fields: dict[str, Any] = {"fallback": ["b", "c"], "limit_per_hour": 5}

    def test_overflow(self) -> None:
        """What an account has no room for goes through the others, until it has room again."""
        self.add(*[f"m{n}" for n in range(40)])
        self.wait(2)
        sent = Counter(name for name, _ in self.courier.took)
        self.assertEqual({"acct": 5, "b": 35}, sent)
        self.wait(3600)
        self.add("later")
        self.assertEqual(("acct", "later"), self.courier.took[-1])

    def test_each_is_limited(self) -> None:
        """Each takes what it has room for, and counts it; the rest waits for the first window."""
        self.put("b", limit_per_hour=3)
        self.put("c", limit_per_hour=2)
        self.add(*[f"m{n}" for n in range(30)])
        self.wait(2)
        sent = Counter(name for name, _ in self.courier.took)
        self.assertEqual({"acct": 5, "b": 3, "c": 2}, sent)
        self.add("own", account_id="b")
        self.wait(60)
        self.assertEqual(10, len(self.courier.took))
        self.wait(3600)
        sent = Counter(name for name, _ in self.courier.took)
        self.assertEqual(20, sent.total())

    def test_reject(self) -> None:
        """An account that fails mail at its limit does so only where no other has room."""
        self.put("b", limit_per_hour=3)
        self.put(**{**self.fields, "fallback": ["b"], "limit_behavior": "reject"})
        self.add(*[f"m{n}" for n in range(10)])
        self.wait(2)
        self.assertEqual({"acct": 5, "b": 3}, Counter(name for name, _ in self.courier.took))
        self.assertEqual({"sent": 8, "failed": 2}, Counter(self.store.states().values()))

    def test_limited_and_the_other_is_down(self) -> None:
        """Where the others are down, the overflow waits for the first of them that works."""
        self.courier.faults |= {"b": DOWN, "c": DOWN}
        self.add(*[f"m{n}" for n in range(20)])
        self.wait(30)
        self.assertEqual({"acct": 5}, Counter(name for name, _ in self.courier.took))
        self.courier.faults.clear()
        self.put("c", host="new.example.net")
        self.add("own", account_id="c")
        self.wait(2)
        self.assertEqual({"sent"}, set(self.store.states().values()))
        self.assertEqual(21, len(self.courier.took))

    def test_raised(self) -> None:
        """An account whose limit is raised has its mail back at once."""
        self.add(*[f"m{n}" for n in range(6)])
        self.wait(1)
        self.put(**{**self.fields, "limit_per_hour": 50})
        self.add("later")
        self.assertEqual(("acct", "later"), self.courier.took[-1])


class IsolationTests(FailoverCase):
    """The account that steps in has mail of its own."""

    def test_a_session_is_kept(self) -> None:
        """However much mail of others comes, one session is left for the account's own."""
        self.courier.faults["acct"] = DOWN
        self.courier.gates["b"] = Deferred()
        self.add(*[f"m{n}" for n in range(300)])
        self.assertEqual(7, self.courier.most["b"])
        self.add("own", account_id="b", priority=0)
        self.assertIn(("b", "own"), self.courier.tries)
        self.assertEqual(8, self.courier.most["b"])
        self.courier.open_gate("b")
        self.wait(2)
        self.assertEqual({"sent"}, set(self.store.states().values()))
        self.assertEqual(8, self.courier.most["b"])

    def test_own_mail_goes_first(self) -> None:
        """The account's own mail takes back each session as it comes free."""
        self.courier.faults["acct"] = DOWN
        self.courier.gates["b"] = Deferred()
        self.add(*[f"m{n}" for n in range(300)])
        self.add(*[f"own{n}" for n in range(60)], account_id="b", priority=2)
        begun = len(self.courier.tries)
        self.courier.open_gate("b")
        own = [m.startswith("own") for _, m in self.courier.tries[begun : begun + 50]]
        self.assertGreater(sum(own), 40)
        self.wait(2)
        self.assertEqual({"sent"}, set(self.store.states().values()))

    def test_a_single_session(self) -> None:
        """Where there is but one session, the account's own mail has the next turn."""
        self.put("b", max_sessions=1)
        self.courier.faults["acct"] = DOWN
        self.courier.gates["b"] = Deferred()
        self.add(*[f"m{n}" for n in range(20)])
        self.assertEqual(1, len(self.courier.tries))
        self.add("own", account_id="b", priority=3)
        self.courier.open_gate("b")
        self.assertEqual(("b", "own"), self.courier.tries[1])
        self.wait(2)
        self.assertEqual({"sent"}, set(self.store.states().values()))
        self.assertEqual(1, self.courier.most["b"])

    def test_two_guests(self) -> None:
        """Two accounts whose mail goes through a third both get on."""
        self.put("d", fallback=["b"])
        self.courier.faults |= {"acct": DOWN, "d": DOWN}
        self.courier.gates["b"] = Deferred()
        self.add(*[f"a{n}" for n in range(200)])
        self.add(*[f"d{n}" for n in range(200)], account_id="d")
        self.courier.open_gate("b")
        self.wait(5)
        self.assertEqual({"sent"}, set(self.store.states().values()))
        middle = [m[0] for _, m in self.courier.took[:200]]
        self.assertGreater(middle.count("d"), 40)

    def test_the_own_mail_of_a_host_that_dies(self) -> None:
        """The account that stepped in dies too: what it had of others goes on, its own waits."""
        self.courier.faults["acct"] = DOWN
        self.courier.gates["b"] = Deferred()
        self.add(*[f"m{n}" for n in range(100)])
        self.add(*[f"own{n}" for n in range(10)], account_id="b")
        self.courier.outcomes["b"] = lambda _: DEATHS["mail"]
        self.courier.faults["b"] = DOWN
        self.courier.open_gate("b")
        self.wait(2)
        states = self.store.states()
        self.assertEqual({"sent"}, {states[f"m{n}"] for n in range(100)})
        self.assertNotIn("sent", {states[f"own{n}"] for n in range(10)})

    def test_draining(self) -> None:
        """On the way down what waits for another account is given back."""
        self.courier.faults["acct"] = DOWN
        self.courier.gates["b"] = Deferred()
        self.add(*[f"m{n}" for n in range(100)])
        begun = {m for _, m in self.courier.tries}
        done = Deferred.fromCoroutine(self.dispatcher.drain(5.0))
        self.courier.open_gate("b")
        self.clock.pump([0.02] * 10)
        self.successResultOf(done)
        states = self.store.states()
        self.assertEqual({"sent"}, {states[name] for name in begun})
        self.assertEqual({"queued"}, {s for name, s in states.items() if name not in begun})
        self.stop()
        self.start()
        self.wait(2)
        self.assertEqual({"sent"}, set(self.store.states().values()))


class SharesTests(FailoverCase):
    """Account ``acct`` that shares its mail with ``b``, three to one."""

    fields: dict[str, Any] = {"weights": {"acct": 3, "b": 1}}

    def test_proportion(self) -> None:
        """Of 1 000 messages each account sends what its weight says, within four percent."""
        self.add(*[f"m{n}" for n in range(1000)])
        self.wait(3)
        sent = Counter(name for name, _ in self.courier.took)
        self.assertEqual(1000, sent.total())
        self.assertTrue(210 <= sent["b"] <= 290, sent)

    def test_the_same_again(self) -> None:
        """A message that is tried again goes the same way."""
        for name in ("acct", "b"):
            self.courier.outcomes[name] = lambda _: Outcome(
                Phase.RCPT, OK, (Reply(450, "4.2.1 later"),)
            )
        self.add(*[f"m{n}" for n in range(40)])
        self.wait(70)
        ways = {self.attempts(f"m{n}")[0]: self.attempts(f"m{n}") for n in range(40)}
        self.assertEqual({"acct", "b"}, set(ways))
        for n in range(40):
            self.assertEqual(1, len(set(self.attempts(f"m{n}"))))
            self.assertEqual(2, len(self.attempts(f"m{n}")))

    def test_one_is_down(self) -> None:
        """What the share of one cannot take, the other does, both ways."""
        for down, up in (("acct", "b"), ("b", "acct")):
            self.courier.took.clear()
            self.courier.faults = {down: DOWN}
            self.add(*[f"{down}{n}" for n in range(50)])
            self.wait(70)  # the other was down before, and is tried when its time has come
            self.assertEqual({up: 50}, Counter(name for name, _ in self.courier.took))

    def test_nobody_but_the_account_reports(self) -> None:
        """Every report is in the name of the message's account."""
        self.add(*[f"m{n}" for n in range(40)])
        self.wait(1)
        items = result(self.store.unreported("default", 100))
        self.assertEqual({("acct", ""), ("acct", "b")}, {(i.account_id, i.through) for i in items})
