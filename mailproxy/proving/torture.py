"""
``mailproxy torture``: the service is killed again and again while it works, and then has to account
for all that it accepted.

It is a client of the wire only: it knows the service by its API, its SMTP and its reports, and
kills it from outside, or has it die at a crash point that is named in its environment.
"""

from __future__ import annotations

import collections
import itertools
import random
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import attrs
import msgspec

from mailproxy.proving.children import Child, NotProven, Pause, free_port
from mailproxy.proving.tail import Tail
from mailproxy.proving.torture_client import Api, Door
from mailproxy.proving.torture_database import Restarts
from mailproxy.proving.torture_enrol import Sink
from mailproxy.proving.torture_ledger import (
    Arrival,
    Call,
    Claims,
    Known,
    Ledgers,
    arrival,
    call,
    known,
)
from mailproxy.proving.torture_node import START, Around, Kills, Node, Work
from mailproxy.proving.torture_plan import Plan
from mailproxy.proving.torture_reconcile import ENDS, Findings, plain, reconcile
from mailproxy.proving.torture_settings import Settings, environment, sink_command
from mailproxy.proving.torture_submit import Desk, Submitter

#: Seconds all may take to come to its end, once nobody kills any more.
QUIET = 90.0

#: Seconds between two looks at how far it is, and at least so many times what one look takes.
LOOK, TIMES = 0.3, 3.0

#: Threads that read timelines at the end.
ASKERS = 4

#: Seconds for which a node lives on until each tenant has its key.
INTRODUCTION = 10.0

#: Seconds between two words on how it goes.
TELL = 10.0


@attrs.frozen
class Result:
    """
    What a run has found.

    :param restarts: of the database's server, by the way they were done.
    :param quiet: seconds that all took to come to its end.
    """

    findings: Findings
    kills: Kills
    restarts: Mapping[str, int]
    lost: int
    seconds: float
    quiet: float


class Torture:
    """
    One run of *plan*.

    :param say: is given a line now and then, for people who wait.
    """

    def __init__(
        self, settings: Settings, plan: Plan, say: Callable[[str], None] = lambda line: None
    ) -> None:
        self._settings = settings
        self._plan = plan
        self._say = say
        self._stopped = threading.Event()
        self._pause = Pause(self._stopped)
        directory = settings.directory
        self._database = settings.opened()
        self._restarts = Restarts(
            self._database,
            random.Random(f"{plan.seed} restarts"),
            settings.restart_every,
            settings.restarts,
        )
        self._copies = Tail(directory / "copies.jsonl", arrival)
        self._reports = Tail(directory / "reports.jsonl", call)
        self._sink = Child("sink", sink_command(settings, plan.seed), directory)
        self.kills = Kills()
        self._around = Around(
            self._pause,
            self.kills,
            plan.patience,
            self._begin,
            lambda: bool(self._unfinished()),
            self._restarts.since,
        )
        token = secrets.token_urlsafe(32)
        self._nodes = [self._node(n, token) for n in range(settings.nodes)]
        doors = tuple(Door(each.api, each.smtp_port, each.answered) for each in self._nodes)
        self._desk = Desk(doors, self._arrived, self._pause)
        self._api = self._nodes[0].api
        self._calm = False
        self._begun = threading.Lock()
        rate = plan.rate / max(1, len(plan.steps))
        self._desk.keys.tenants = tuple(dict.fromkeys(plan.tenants))
        tenants = plan.tenants or (None,) * len(plan.steps)
        self._submitters = [
            Submitter(f"submitter {n}", self._desk, steps, rate, self._enough, tenant)
            for n, (steps, tenant) in enumerate(zip(plan.steps, tenants, strict=True), 1)
        ]

    def _node(self, n: int, token: str) -> Node:
        name = f"service{n or ''}"
        child = Child(name, self._settings.service, self._settings.directory)
        return Node(child, Api(free_port(), token), free_port(), self._around)

    # -- the run ---------------------------------------------------------------------------

    def run(self) -> Result:
        """
        Do all of it, and leave no process behind, whatever happens.

        :raises NotProven: it could not be brought to its end.
        """
        begun = time.monotonic()
        try:
            self._prepare()
            self._torture(begun + self._settings.seconds)
            calm = time.monotonic()
            self._calm = True
            self._say("no more kills: waiting until everything has come to its end")
            ledgers = self._quiet()
            return Result(
                reconcile(ledgers),
                self.kills,
                self._restarts.done,
                self._desk.lost + self._desk.hung_up,
                calm - begun,
                time.monotonic() - calm,
            )
        finally:
            self.end()

    def end(self) -> None:
        """Whatever state it is in, nothing of it runs afterwards."""
        self._stopped.set()
        for node in self._nodes:
            node.child.kill()
        self._sink.kill()
        self._database.end()
        for each in self._submitters:
            if each.is_alive():
                each.join(1.0)

    def _prepare(self) -> None:
        self._database.begin()
        self._sink.spawn()
        sink_smtp, sink_http = self._ports()
        self._desk.keys.sink = Sink(sink_smtp, sink_http)
        common = environment(self._settings, self._database, self._desk.keys.sink, self._api.token)
        for node in self._nodes:
            node.child.environment = {
                **common,
                "GMP_PORT": str(node.api.port),
                "GMP_SMTP_LISTEN": f"tcp:{node.smtp_port}:interface=127.0.0.1",
                **self._settings.environment,
            }

    def _ports(self) -> tuple[int, int]:
        """Where the sink is, once it is there."""
        self._around.wait(lambda: "sink ready" in self._sink.tail() or not self._sink.alive, START)
        words = dict(
            word.partition("=")[::2] for word in self._sink.tail().split() if "=127.0.0.1:" in word
        )
        try:
            return (int(words["smtp"].split(":")[1]), int(words["http"].split(":")[1]))
        except KeyError:
            raise NotProven(f"the sink did not start: {self._sink.tail()}") from None

    def _torture(self, until: float) -> None:
        """Each node lives its lives; the database's server is restarted from here."""
        plans = (self._plan.ends, *self._plan.others)
        lives = [
            Work(node.child.name, partial(node.torture, ends, until))
            for node, ends in zip(self._nodes, plans, strict=True)
        ]
        self._restarts.begin()
        for each in lives:
            each.start()
        tell = time.monotonic() + TELL
        while any(each.is_alive() for each in lives):
            self._submitting()
            _raise_first(lives)
            if time.monotonic() < until:
                self._restarts.when_due(self._pause.pause)
            if time.monotonic() >= tell:
                tell += TELL
                count = len(self._desk.claims.accepted)
                self._say(f"{self.kills.total} kills, {count} accepted")
            self._pause.pause(LOOK / 3)
        _raise_first(lives)

    def _submitting(self) -> bool:
        _raise_first(self._submitters)
        return any(each.is_alive() or each.ident is None for each in self._submitters)

    def _enough(self) -> bool:
        """Whether a submitter stops before its next step."""
        return self._calm and self._plan.endless

    def _begin(self) -> None:
        """A node serves: mail is submitted from now on, and no life ends before it can be."""
        with self._begun:
            for each in self._submitters:
                if each.ident is None:
                    each.start()
        keys = self._desk.keys
        self._around.wait(lambda: keys.complete or not self._alive(), INTRODUCTION)

    def _unfinished(self) -> set[str]:
        """What was accepted and has not come to the end of its way."""
        ended = {item.id for call in self._reports.look() for item in call.items if item.end}
        return set(self._desk.accepted_ids()) - ended

    def _arrived(self, id: str) -> bool:
        return any(copy.id == id for copy in self._copies.look())

    # -- the end ---------------------------------------------------------------------------

    def _quiet(self) -> Ledgers:
        """Let everything come to its end, and stop."""
        for node in self._nodes:
            node.spawn()
        for node in self._nodes:
            node.wait_up()
        self._begin()
        patience = QUIET + 2 * self._settings.lease * (len(self._nodes) > 1)
        self._around.wait(lambda: not self._submitting() or not self._alive(), patience)
        if self._submitting():
            raise NotProven(f"not all was accepted: {self._nodes[0].child.tail()}")
        self._settle(patience)
        shown = list(self._all_known())
        for node in self._nodes:
            node.child.ask_to_end()
        for node in self._nodes:
            status = node.child.terminate()
            if status not in (0, -signal.SIGTERM):
                raise NotProven(f"the service stopped with {status}: {node.child.tail()}")
        self._sink.terminate()
        claims = self._desk.claims
        self._keep(claims)
        return Ledgers(
            claims,
            tuple[Arrival, ...](self._copies.look()),
            tuple[Call, ...](self._reports.look()),
            {each.id: each for tenant, each in shown if each.tenant == tenant},
            tuple((each.id, tenant) for tenant, each in shown if each.tenant != tenant),
        )

    def _alive(self) -> bool:
        return all(node.child.alive for node in self._nodes)

    def _settle(self, patience: float) -> None:
        """Wait until nothing moves any more; what does not settle is found by the ledgers."""
        end = time.monotonic() + patience
        while time.monotonic() < end:
            began = time.monotonic()
            if self._around.wait(self._settled, 0.0):
                return
            self._pause.pause(max(LOOK, TIMES * (time.monotonic() - began)))

    def _settled(self) -> bool:
        """Whether nothing moves any more; what rests with an operator is let go."""
        for node in self._nodes:
            if not node.child.alive:
                raise NotProven(f"the service ended by itself: {node.child.tail()}")
        settled = True
        for api in self._desk.keys.apis(self._api).values():
            records = api.records()
            for account in {each["account_id"] for each in records if each["state"] == "uncertain"}:
                api.resend_uncertain(account)
            settled &= all(
                each["state"] in ENDS and each["reported_ts"] is not None for each in records
            )
        return settled

    def _all_known(self) -> Iterator[tuple[str, Known]]:
        """
        What the service shows each tenant, with the timeline of what that tells more of.

        :return: who was shown it, and what that was.
        """
        copies = collections.Counter(copy.id for copy in self._copies.look())
        for tenant, key in self._desk.keys.apis(self._api).items():
            apis = itertools.cycle([each.api.shown(key.token) for each in self._nodes])

            def one(record: Mapping[str, Any], api: Api) -> Known:
                shown = known(record)
                if plain(record, copies[shown.id]):
                    return shown
                return known(record, api.history(record["id"]))

            with ThreadPoolExecutor(ASKERS) as pool:
                for shown in pool.map(one, key.records(), apis):
                    yield tenant, shown

    def _keep(self, claims: Claims) -> None:
        """Write down what was accepted, beside the other ledgers."""
        lines = [*claims.accepted, *claims.taken_back]
        (self._settings.directory / "accepted.jsonl").write_bytes(
            b"".join(msgspec.json.encode(each) + b"\n" for each in lines)
        )


def _raise_first(works: Sequence[Work | Submitter]) -> None:
    """:raises NotProven: one of them ended before its time."""
    for each in works:
        if each.failure is not None:
            if isinstance(each.failure, NotProven):
                raise each.failure
            raise NotProven(f"{each.name}: {each.failure}") from each.failure
