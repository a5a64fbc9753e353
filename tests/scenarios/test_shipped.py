"""
Every shipped scenario against the whole service: what becomes of the mail, and how many copies
there are.

The scenarios run beside each other against one process, as accounts do; what each is about has
tests of its own elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from importlib import resources
from typing import Any

import attrs
from twisted.internet.defer import Deferred, DeferredList, gatherResults
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from mailproxy.proving.scenario import Scenario, shipped_names
from tests.scenarios.shipped import NamedService, Play, World
from tests.scenarios.shipped_stories import STORIES
from tests.scratch import scratch

#: So long that half of it is more than the system holds on its way (4 MiB, as Linux is set up).
LARGE = "A line of a long message, of seventy characters, or thereabouts...\n" * 150_000
LOGIN = {"user": "relay", "password": "right-password"}


@attrs.frozen
class Row:
    """
    :param end: the state that the messages come to; ``waits``: they stay.
    :param copies: of each message that each of its recipients has; a set: any of these.
    :param why: a pattern of what the service says when they wait or fail.
    :param fields: of the account.
    :param mail: fields of the messages.
    :param put_off: how often 421 may be had at most.
    """

    scenario: str
    end: str = "sent"
    copies: frozenset[int] = frozenset({1})
    why: str = ""
    count: int = 1
    fields: dict[str, Any] = attrs.field(factory=dict)
    mail: dict[str, Any] = attrs.field(factory=dict)
    put_off: int = 100
    may_lose: bool = False
    name: str = ""


NONE, ONE, TWO = frozenset({0}), frozenset({1}), frozenset({2})

TABLE = (
    Row("refused-at-first"),
    Row("silent-banner"),
    Row("silent-later", fields=LOGIN),
    Row("dripping-replies"),
    Row("endless-replies"),
    Row("malformed-replies"),
    Row("closing-421"),
    Row("storm-421", count=20, put_off=12),
    Row("connection-limit", count=20),
    Row("greylisting"),
    Row("all-refused-but-354", "failed", NONE, "550"),
    Row("too-large-announced", "failed", NONE, "3000", mail={"body": LARGE}),
    Row("too-large-found-out", "failed", NONE, "552"),
    Row("login-busy", fields=LOGIN),
    Row("login-not-offered", "waits", NONE, "no login", fields=LOGIN),
    Row("starttls-stripped", "waits", NONE, "STARTTLS", fields={"tls_mode": "starttls"}),
    Row("old-tls", "waits", NONE, "TLS", fields={"tls_mode": "starttls"}),
    Row("reset-in-body", mail={"body": LARGE}),
    Row("lost-last-reply", copies=TWO),
    Row("lost-last-reply", "uncertain", ONE, fields={"on_uncertain": "hold"}, name="lost-held"),
    Row("lost-last-reply", "failed", ONE, "uncertain", fields={"on_uncertain": "fail"},
        name="lost-failed"),
    Row("late-last-reply"),
    Row("odd-acceptance", count=4),
    Row("black-hole", copies=frozenset({0, 1}), count=20, may_lose=True),
    *(
        Row("names-that-fail", "waits", NONE, why, fields={"host": f"{host}.scenario.test"},
            name=f"name-{host}")
        for host, why in (
            ("missing", "does not exist"),
            ("broken", "name server"),
            ("mute", "name server"),
            ("empty", "no address"),
        )
    ),
    Row("dead-addresses", fields={"host": "many.scenario.test", "timeout": 10.0}),
    Row("broken-ipv6", fields={"host": "both.scenario.test"}),
    Row("partition-in-body", fields={"timeout": 5.0}, mail={"body": LARGE}),
    Row("clock-is-set", count=2),
    Row("come-back-later"),
    Row("slow-server", count=3),
    Row("unreliable", copies=frozenset({1, 2}), count=30),
)  # fmt: skip


class ShippedTests(TestCase):
    timeout = 120

    async def run_service(self) -> None:
        await deferToThread(self.world.service.start)
        self.looking = Deferred.fromCoroutine(self.world.look())

    async def stop(self) -> None:
        world = self.world
        world.over = True
        if hasattr(self, "looking"):
            await DeferredList([self.looking])
        await deferToThread(world.service.end)
        await gatherResults([sink.stopService() for sink in world.sinks])
        self.flushLoggedErrors()

    async def row(self, play: Play, row: Row) -> None:
        """Play one row of the table."""
        await play.begin()
        await play.send(row.count, **row.mail)
        if row.end == "waits":
            await play.wait_with(row.why)
        else:
            await play.come_to(row.end, row.count)
            self.assertTrue(re.search(row.why, play.reason()), play.reason())
        found = {n for each in play.copies().values() for n in each.values() or [0]}
        self.assertLessEqual(found, row.copies)
        self.assertEqual([], play.breaches(may_lose=row.may_lose))
        self.assertLessEqual(play.sink.house.counts.refused.get(421, 0), row.put_off)

    async def story(self, play: Play, tell: Callable[[Play], Awaitable[None]]) -> None:
        """Play a scenario in which somebody acts."""
        await play.begin()
        await tell(play)
        self.assertEqual([], play.breaches())

    async def together(self, plays: Mapping[str, Callable[[], Awaitable[None]]]) -> None:
        """Play all beside each other; the problems of all of them are told."""
        waiting = [Deferred.fromCoroutine(_as_coroutine(each)) for each in plays.values()]
        results: Any = await DeferredList(waiting, consumeErrors=True)
        problems = [
            f"{name}: {result.type.__name__}: {result.getErrorMessage()}"
            for name, (good, result) in zip(plays, results, strict=True)
            if not good
        ]
        self.assertEqual([], problems, "\n".join(problems))

    async def test_table(self) -> None:
        """F23-F51, F61-F65: in each scenario mail and reports come to their end, with as many
        copies as there may be."""
        folder = scratch(self)
        trusted = folder / "trusted.pem"
        service = NamedService(
            folder,
            GMP_RETRY_DELAYS="0.3",
            GMP_CA_FILE=str(trusted),
            GMP_OAUTH_ALLOW="127.0.0.0/8,::1",
        )
        self.world = world = World(service)
        self.addCleanup(self.stop)
        plays: dict[str, Callable[[], Awaitable[None]]] = {}
        for row in TABLE:
            play = Play(world, row.scenario, row.name, row.fields)
            plays[play.name] = partial(self.row, play, row)
        for name, (tell, fields, own) in STORIES.items():
            play = Play(world, name, "", fields, name if own else "default")
            plays[name] = partial(self.story, play, tell)
        trusted.write_text("".join(sink.identity.certificate for sink in world.sinks))
        await self.run_service()
        await self.together(plays)

    def test_all_are_played(self) -> None:
        """No shipped scenario is left out, and each row of the table is of one."""
        self.assertEqual(set(shipped_names()), {row.scenario for row in TABLE} | set(STORIES))

    def test_each_explains_itself(self) -> None:
        """Each shipped scenario begins with what happens, and what a sender ought to do."""
        folder = resources.files("mailproxy.proving") / "scenarios"
        for name in shipped_names():
            comment = (folder / f"{name}.toml").read_text().partition("\ntitle")[0]
            self.assertRegex(comment, r"^# [A-Z0-9]", name)
            self.assertRegex(comment.replace("\n# ", " "), "ought|No sender can", name)

    def test_every_fault_has_one(self) -> None:
        """Every fault of mail servers and applications has a scenario."""
        found = {each for name in shipped_names() for each in Scenario.shipped(name).faults}
        wanted = {f"F{n}" for n in (*range(23, 52), *range(61, 66))}
        self.assertEqual(wanted, found)


async def _as_coroutine(each: Callable[[], Awaitable[None]]) -> None:
    await each()
