"""
One tenant of the simulated world: the application that submits mail, changes its mind, and takes
reports. It keeps account of what it was promised.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet.defer import Deferred

from tests.simulation.story import Story
from tests.simulation.upstream import Upstream
from tests.simulation.web import Call, Receiver, Reply

if TYPE_CHECKING:
    from tests.simulation.legacy import Legacy
    from tests.simulation.world import World

TOKEN = "t0ken-of-the-admin-0123456789abcdef"

#: Where the first node serves the API; the others behind that.
API_PORT = 8000

#: Seconds after which nothing goes on in the service of a call that had no answer.
AFTERMATH = 8.0

#: Seconds a client waits for an answer.
PATIENCE = 20.0


@attrs.define
class Mood:
    """How the application treats reports: parts of all calls, 0 to 1."""

    error: float = 0.0
    hang: float = 0.0
    lost: float = 0.0
    too_many: float = 0.0
    posts: float = 0.0
    slow: float = 0.05


class Tenant:
    """
    :ivar stories: by id.
    :ivar offered: what was offered under an event id.
    :ivar taken: the final items that were taken, by id, in order.
    :ivar suspended: spans of time within which none of its mail may begin.
    :ivar limits: the most messages by seconds, and until when that holds.
    :ivar legacy: its program that knows only SMTP.
    """

    def __init__(
        self, world: World, id: str, upstream: Upstream, port: int, rng: random.Random, mood: Mood
    ) -> None:
        self._world = world
        self.id = id
        self.upstream = upstream
        self.port = port
        self.rng = rng
        self.mood = mood
        self.account: dict[str, Any] = {}
        self.stories: dict[str, Story] = {}
        self.offered: dict[str, dict[str, Any]] = {}
        self.finals: dict[tuple[str, int], list[str]] = {}
        self.taken: dict[str, list[dict[str, Any]]] = {}
        self.suspended: list[list[float]] = []
        self.receiver = Receiver(self._reported)
        self._open: list[Any] = []
        self._count = 0
        self._inner = 0
        self.busy = 0
        self.registered = False
        self.limits: dict[int, tuple[int, float]] = {}
        self.legacy: Legacy | None = None

    # -- talking to the service ---------------------------------------------------------------

    async def call(self, method: str, path: str, body: Any = None) -> Reply | None:
        """One request; None if there was no answer."""
        world = self._world
        mark = "&" if "?" in path else "?"
        full = f"{path}{mark}tenant_id={self.id}"
        port = API_PORT + world.some_node()
        made = Call(world.net, world.outside, port, method, full, TOKEN, body)
        reply = await made.send(PATIENCE)
        world.line.note(f"{self.id} {method} {path} {None if reply is None else reply.status}")
        if reply is None:
            await world.sleep(AFTERMATH)
        elif reply.status >= 500 and reply.status != 503:
            world.blame(f"{method} {path} was answered with {reply.status}")
        return reply

    async def insist(self, method: str, path: str, body: Any = None) -> Reply:
        """The same until there is an answer that is one."""
        while True:
            reply = await self.call(method, path, body)
            if reply is not None and reply.status != 503:
                return reply
            await self._world.sleep(self.rng.uniform(0.5, 2.0))

    async def register(self) -> None:
        """Become a tenant, with an account."""
        if self.id != "default":
            body: dict[str, Any] = {
                "id": self.id,
                "client_base_url": f"http://app-{self.id}.sim:{self.port}",
            }
            if 3600 in self.limits:
                body["rate_limits"] = {"hourly": self.limits[3600][0]}
            await self.insist("POST", "/tenant", body)
        await self.post_account()
        if self.legacy is not None:
            await self.legacy.register()
        self.registered = True

    def limit(self, rng: random.Random) -> None:
        """Have limits from now on."""
        most = rng.choice((1, 2, 4, 8))
        self.limits[60] = most, float("inf")
        self.account["limit_per_minute"] = most
        self.account["limit_behavior"] = rng.choice(("defer", "defer", "reject"))
        if rng.random() < 0.5 and self.id != "default":
            self.limits[3600] = rng.choice((3, 6, 12)), float("inf")

    async def lift(self) -> None:
        """Nobody waits for an hour here: have no limit of its own any more."""
        most, _ = self.limits[3600]
        self.limits[3600] = most, self._world.line.now
        body = {"rate_limits": {"hourly": None}}
        reply = await self.insist("PUT", f"/tenant/{self.id}", body)
        assert reply.status == 200, reply

    async def post_account(self) -> None:
        reply = await self.insist("POST", "/account", self.account)
        assert reply.status == 200, reply

    # -- mail ---------------------------------------------------------------------------------

    def _element(self, story: Story) -> dict[str, Any]:
        rng, version = self.rng, len(story.versions)
        element = {
            "id": story.id,
            "from": f"app@{self.id}.sim",
            "to": list(story.versions[-1]),
            "subject": "news",
            "body": f"version {version} of {story.id} of {self.id}\n",
            "priority": rng.choice((None, 0, 1, 2, 3)),
            "batch_code": rng.choice((None, None, "b1")),
        }
        if rng.random() < 0.15:
            element["deferred_ts"] = int(self._world.wall() + rng.uniform(0.0, 20.0))
        return element

    def addresses(self, rng: random.Random) -> list[str]:
        return rng.sample([f"r{n}@x{n}.sim" for n in range(4)], rng.randint(1, 3))

    def new_story(self, prefix: str = "m") -> Story:
        self._count += 1
        story = self.stories[f"{prefix}{self._count}"] = Story(f"{prefix}{self._count}")
        story.versions.append(self.addresses(self.rng))
        return story

    async def submit(self, stories: list[Story], *, insist: bool = False) -> Reply | None:
        """Post the newest version of each."""
        world = self._world
        elements = [self._element(story) for story in stories]
        for story in stories:
            for span in story.taken_back:
                span[1] = min(span[1], world.line.now)
        ask = self.insist if insist else self.call
        reply = await ask("POST", "/commands/add-messages?verbose=1", {"messages": elements})
        if reply is None:
            for story in stories:
                story.unknown = story.muddled = True
            return None
        if reply.status == 503:
            return reply
        if reply.status != 200:
            world.blame(f"add-messages was answered with {reply.status}: {reply.json}")
            return reply
        for story, item in zip(stories, reply.json["items"], strict=True):
            if item["state"] == "rejected":
                world.blame(f"{story.id} was rejected: {item}")
            story.promised, story.unknown = True, False
            if item["state"] == "replaced":
                story.newest.append((world.line.now, len(story.versions)))
        return reply

    async def take_back(self, story: Story) -> None:
        reply = await self.call("POST", "/commands/delete-messages", {"ids": [story.id]})
        if reply is None or reply.status == 503:
            story.unknown = story.muddled = True
        elif reply.status == 200 and story.id not in reply.json["not_found"]:
            story.promised = False
            if not story.muddled:
                story.taken_back.append([self._world.line.now, float("inf")])

    async def suspend(self) -> None:
        """For a while."""
        world = self._world
        reply = await self.call("POST", "/commands/suspend")
        if reply is not None and reply.status == 200:
            self.suspended.append([world.line.now, float("inf")])
            await world.sleep(self.rng.uniform(0.5, 15.0))
        await self.activate()

    async def activate(self) -> None:
        for span in self.suspended:
            span[1] = min(span[1], self._world.line.now)
        await self.insist("POST", "/commands/activate")

    async def act(self, story: Story, verb: str) -> None:
        body = {"end": self.rng.choice(("sent", "failed"))} if verb == "close" else None
        reply = await self.call("POST", f"/v1/messages/{story.id}/{verb}", body)
        if verb == "close" and (reply is None or reply.json.get("changed")):
            story.closed = True

    async def bulk(self, verb: str) -> None:
        await self.call("POST", f"/v1/batches/b1/{verb}")
        if verb == "hold":
            await self._world.sleep(self.rng.uniform(0.5, 15.0))
            await self.insist("POST", "/v1/batches/b1/release")

    # -- its life -----------------------------------------------------------------------------

    async def live(self, count: int) -> None:
        """Do *count* things, one after the other."""
        self.busy += 1
        for _ in range(count):
            if self.rng.random() < 0.6:
                await self._world.sleep(self.rng.expovariate(1.0 / self._world.pause))
            if self.legacy is not None and self.legacy.rng.random() < 0.5:
                await self.legacy.act()
            else:
                await self._do_something()
        self.busy -= 1

    async def _do_something(self) -> None:
        rng = self.rng
        known = [each for each in self.stories.values() if each.id[0] == "m"]
        what = rng.random()
        if what < 0.35 or not known:
            await self.submit([self.new_story() for _ in range(rng.choice((1, 1, 3, 6)))])
            return
        story = rng.choice(known[-6:])
        if what < 0.42:
            await self.submit([story])
        elif what < 0.55:
            story.versions.append(self.addresses(self.rng))
            await self.submit([story])
        elif what < 0.65:
            await self.take_back(story)
        elif what < 0.69:
            await self.call("POST", "/commands/cleanup-messages", {"older_than_seconds": 0})
        elif what < 0.78:
            await self.suspend()
        elif what < 0.90:
            verbs = ("hold", "release", "retry", "cancel", "requeue", "resend", "close")
            await self.act(story, rng.choice(verbs))
        elif what < 0.94:
            await self.bulk(rng.choice(("hold", "retry", "cancel", "requeue", "resend")))
        elif what < 0.97:
            await self.call("POST", "/commands/run-now")
        else:
            await self.post_account()

    async def settle(self) -> None:
        """Nothing goes wrong any more: have everything come to its end."""
        self.busy += 1
        await self.activate()
        if 3600 in self.limits:
            await self.lift()
        await self.post_account()
        await self.insist("POST", "/v1/batches/b1/release")
        for story in list(self.stories.values()):
            if story.unknown and not story.letters:
                await self.submit([story], insist=True)
        if self.legacy is not None:
            await self.legacy.settle()
        await self.insist("POST", "/commands/run-now")
        self.busy -= 1

    async def decide(self) -> None:
        """What waits for an operator gets one."""
        self.busy += 1
        for id in self._world.undecided(self.id):
            verb = self.rng.choice(("release", "resend", "close", "cancel"))
            await self.act(self.stories[id], verb)
        self.busy -= 1

    # -- reports ------------------------------------------------------------------------------

    def _reported(self, report: Any, write: Callable[[int | None, bytes], None]) -> None:
        """A report came."""
        end = write.__self__.transport  # type: ignore[attr-defined]
        self._open = [each for each in self._open if not each.disconnected]
        if any(self._goes_on(each) for each in self._open):
            self._world.blame(f"two report calls to {self.id} at once")
        self._open.append(end)
        items = report["delivery_report"]
        self._world.line.note(f"report to {self.id} {[each['id'] for each in items]}")
        for item in items:
            self._offered(item)
        self._later(self._answer(items, write))

    def _goes_on(self, end: Any) -> bool:
        """
        Whether the caller still waits for an answer.

        One that is frozen, or was until a moment ago, can end no call; nobody else can, either.
        """
        caller = end.other.owner
        asleep = self._world.nodes > 1 and self._world.line.now < caller.frozen_until + AFTERMATH
        return not end.other.disconnected and not asleep

    def _later(self, doing: Awaitable[None]) -> None:
        async def do() -> None:
            await doing

        Deferred.fromCoroutine(do()).addErrback(self._world.stumbled)

    async def _answer(
        self, items: list[dict[str, Any]], write: Callable[[int | None, bytes], None]
    ) -> None:
        rng, mood, world = self.rng, self.mood, self._world
        await world.sleep(rng.uniform(0.0, mood.slow))
        what = rng.random()
        if what < mood.error:
            kind = rng.choice((500, 503, 429, 302, 200, 201))
            said = {200: b'{"error": "AUTH-901"}', 201: b"<html>login</html>"}.get(kind, b"{}")
            write(kind, said)
            return
        what -= mood.error
        if what < mood.hang:
            return
        what -= mood.hang
        if len(items) > 1 and what < mood.too_many:
            write(413, b"{}")
            return
        for item in items:
            if item["sent_ts"] is not None or item["error_ts"] is not None:
                self.taken.setdefault(item["id"], []).append(item)
        if rng.random() < mood.posts and self._inner < 3 and self.registered:
            self._inner += 1
            self.busy += 1
            await self.submit([self.new_story("i")])
            self.busy -= 1
        if rng.random() < mood.lost:
            if rng.random() < 0.5:
                write(None, b"")
            return
        write(*rng.choice(((204, b""), (200, b'{"ok": true}'), (200, b'{"queued": 0}'))))

    def _offered(self, item: dict[str, Any]) -> None:
        world = self._world
        if item.get("tenant_id") not in (None, self.id) or item["id"] not in self.stories:
            world.blame(f"{self.id} was told of {item.get('tenant_id')}/{item['id']}")
        final = item["sent_ts"] is not None or item["error_ts"] is not None
        before = self.offered.setdefault(item["event_id"], item)
        if before != item:
            world.blame(f"event {item['event_id']} changed: {before} became {item}")
        if final:
            known = self.finals.setdefault((item["id"], item["generation"]), [])
            if item["event_id"] not in known:
                known.append(item["event_id"])
