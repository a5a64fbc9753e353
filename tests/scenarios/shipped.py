"""One service, and many scenarios beside each other, each with a sink and an account of its own."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from mailproxy.proving.scenario import Scenario, shipped_names
from mailproxy.proving.sink import Sink, SinkOptions
from tests.scenarios.processes import TOKEN, Answer, Service, account, http, message

#: Seconds until the outcome of a scenario must be there.
PATIENCE = 40.0

#: Seconds that every account waits for a reply.
TIMEOUT = 0.7


class NamedService(Service):
    """The service, in a world where the names of all scenarios lead where these say."""

    def command(self) -> list[str]:
        names: dict[str, tuple[str, ...]] = {}
        for name in shipped_names():
            names |= Scenario.shipped(name).names
        return [sys.executable, "-m", "tests.scenarios.named", json.dumps(names), "serve"]

    def environment(self) -> dict[str, str]:
        here = str(Path(__file__).parents[2])
        return super().environment() | {"PYTHONPATH": here}


@attrs.define
class World:
    """
    :ivar records: what the service lists, by tenant and id, as of the last look.
    :ivar accounts: its accounts, by id, likewise.
    """

    service: Service
    keys: dict[str, str] = attrs.field(factory=dict)
    records: dict[tuple[str, str], dict[str, Any]] = attrs.field(factory=dict)
    accounts: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    sinks: list[Sink] = attrs.field(factory=list)
    over: bool = False

    def sink(self, scenario: str) -> Sink:
        """A sink that plays the shipped *scenario*."""
        options = SinkOptions(
            smtp_port=0, http_port=0, https_port=0, scenario=Scenario.shipped(scenario)
        )
        sink = Sink(reactor, options)
        sink.startService()
        self.sinks.append(sink)
        return sink

    async def call(
        self, method: str, path: str, body: Any = None, tenant: str = "default"
    ) -> Answer:
        """A request in the name of *tenant*; it must succeed."""
        headers = {"X-API-Token": self.keys.get(tenant, TOKEN)}
        answer = await deferToThread(http, method, self.service.url + path, body, headers)
        if answer.status != 200:
            raise AssertionError(f"{method} {path}: {answer.status} {answer.raw!r}")
        return answer

    async def look(self) -> None:
        """See what there is now, over and over."""
        while not self.over:
            for tenant in ("default", *self.keys):
                found = await self.call(
                    "GET", "/messages?limit=10000&include_history=1", tenant=tenant
                )
                for record in found.body["messages"]:
                    self.records[tenant, record["id"]] = record
            found = await self.call("GET", "/accounts")
            self.accounts = {each["id"]: each for each in found.body["accounts"]}
            await self.sleep(0.3)

    def sleep(self, seconds: float) -> Deferred[None]:
        return deferLater(reactor, seconds)

    async def until(self, condition: Callable[[], bool], what: Callable[[], str]) -> None:
        """Wait for *condition*. :raises AssertionError: with *what* there is instead."""
        end = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > end:
                raise AssertionError(f"not within {PATIENCE:g} s: {what()}")
            await self.sleep(0.1)


@attrs.define
class Play:
    """
    One scenario, played against the service.

    :param scenario: its name.
    :param name: of the account; the messages are called ``NAME-1``, ``NAME-2``, ...
    :param fields: of the account, besides host and port.
    :param tenant: whose it is; its reports and attachments are the sink's business.
    """

    world: World
    scenario: str
    name: str = ""
    fields: Mapping[str, Any] = attrs.field(factory=dict)
    tenant: str = "default"
    sink: Sink = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.name = self.name or self.scenario
        self.sink = self.world.sink(self.scenario)

    async def begin(self) -> None:
        """Declare the tenant, if it is not the usual one, and the account."""
        if self.tenant != "default":
            answer = await self.register()
            self.world.keys[self.tenant] = answer.body["api_key"]
        await self.declare()

    async def register(self) -> Answer:
        """Say who the tenant is, or say it again."""
        url = f"http://127.0.0.1:{self.sink.http_port}"
        return await self.world.call("POST", "/tenant", {"id": self.tenant, "client_base_url": url})

    async def declare(self, **fields: Any) -> None:
        """Declare the account, with *fields* in place of what they were."""
        self.fields = {**self.fields, **fields}
        usual = {"timeout": TIMEOUT, "tls_mode": "plain", "allow_plaintext_auth": True}
        given = account(self.sink.smtp_port or 0, **{**usual, **self.fields})
        given = {**given, "id": self.name}
        del given["use_tls"]
        await self.world.call("POST", "/account", given, self.tenant)

    async def send(self, count: int = 1, first: int = 1, **fields: Any) -> None:
        """Submit messages number *first* and so on."""
        messages = [
            message(f"{self.name}-{n}", **{"account_id": self.name, **fields})
            for n in range(first, first + count)
        ]
        answer = await self.world.call(
            "POST", "/commands/add-messages", {"messages": messages}, self.tenant
        )
        if answer.body["queued"] != count:
            raise AssertionError(f"not all taken: {answer.raw!r}")

    def records(self) -> dict[str, dict[str, Any]]:
        """The account's messages, by id."""
        return {
            id: record
            for (_, id), record in self.world.records.items()
            if record["account_id"] == self.name
        }

    def states(self) -> dict[str, str]:
        return {id: record["state"] for id, record in self.records().items()}

    def reason(self) -> str:
        """Everything the service says about why mail does not leave."""
        said = [self.world.accounts.get(self.name, {}).get("parked_reason")]
        for record in self.records().values():
            said += [record["error"], record["deferred_reason"]]
        return " | ".join(each for each in said if each)

    async def come_to(self, state: str, count: int = 1) -> None:
        """Wait until *count* messages are there, and all in *state*."""
        await self.world.until(
            lambda: list(self.states().values()) == [state] * count,
            lambda: f"{self.states()} {self.reason()}",
        )

    async def wait_with(self, pattern: str) -> None:
        """Wait until nothing has left, and *pattern* is in the reason why."""
        await self.world.until(
            lambda: (
                set(self.states().values()) <= {"queued", "deferred"}
                and bool(re.search(pattern, self.reason()))
            ),
            lambda: f"{self.states()} {self.reason()}",
        )

    def copies(self) -> dict[str, dict[str, int]]:
        """How many copies each recipient got, by id."""
        found: dict[str, dict[str, int]] = {}
        for id in self.records():
            counts = found[id] = {}
            for copy in self.sink.ledger.facts(id):
                for recipient in copy.recipients:
                    counts[recipient] = counts.get(recipient, 0) + 1
        return found

    def breaches(self, *, may_lose: bool = False) -> list[str]:
        """
        What contradicts the timelines: a second copy without a doubt, a recipient that is said to
        have the message and has not, one that has it and is said to wait.

        :param may_lose: whether the scenario loses what it accepts.
        """
        found = []
        copies = self.copies()
        for id, record in self.records().items():
            doubts = sum(each["kind"] == "uncertain" for each in record["history"])
            for each in record["recipients"]:
                got, state = copies[id].get(each["address"], 0), each["state"]
                if got > 1 + doubts:
                    found.append(f"{id}: {each['address']} has {got} copies, {doubts} doubts")
                if state == "sent" and not got and not may_lose:
                    found.append(f"{id}: {each['address']} is sent, and has no copy")
                if state in ("failed", "waiting", "deferred") and got > doubts:
                    found.append(f"{id}: {each['address']} is {state}, and has {got} copies")
        return found
