"""``/console/stream`` and the figures behind it, on a clock that moves when the test says so."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.api.console.figures import LIVE
from mailproxy.api.console.stream import HEARTBEAT, MOST_OF_ONE
from mailproxy.api.console.tracks import KEPT, MOST_TRACKS, STEP, Counted, Tracks
from mailproxy.api.streaming import STALLED
from mailproxy.errors import StoreUnavailable
from mailproxy.records import Counts
from tests.api.door import ACCOUNT, TOKEN, Connection, Door, message, request
from tests.api.test_console import KEY, Page
from tests.fake_store import FakeStore

Event = tuple[str, Any]


class SickStore(FakeStore):
    """A store whose counts fail, or take as long as the test likes."""

    fails = False
    slow: Deferred[None] | None = None

    async def counts(self, now: float, tenant_id: str | None = None) -> Counts:
        if self.slow is not None:
            await self.slow
        if self.fails:
            raise StoreUnavailable("no")
        return await super().counts(now, tenant_id)


class Stream:
    """A page that listens."""

    def __init__(self, page: Page, query: str = "", **headers: str) -> None:
        self.client: Connection = page.door.connect()
        fields = {"Cookie": page.cookie, **headers}
        self.client.send(request("GET", f"/console/stream{query}", None, None, fields))
        self._read = 0

    @property
    def status(self) -> int:
        return int(self.client.transport.value().split(b" ", 2)[1])

    def text(self) -> str:
        """What came since it was read last."""
        (reply,) = self.client.replies
        text = reply.body[self._read :].decode()
        self._read = len(reply.body)
        return text

    def events(self) -> list[Event]:
        found = []
        for block in self.text().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line)
            if "event" in fields:
                found.append((fields["event"], json.loads(fields["data"])))
        return found

    def now(self) -> Any:
        """The newest figures of those that came since it was read last."""
        return [data for name, data in self.events() if name == "now"][-1]


class StreamCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.door = Door(store=SickStore)
        self.store: Any = self.door.store
        assert self.door.api.sampler is not None
        self.sampler = self.door.api.sampler
        self.sampler.startService()
        self.addCleanup(self.sampler.stopService)
        self.page = Page(self.door)
        self.door.put_account()

    def pump(self, seconds: float) -> None:
        self.door.clock.pump([LIVE / 2] * int(seconds / (LIVE / 2)))

    def send(self, number: int, tenant_id: str = "default") -> None:
        self.door.metrics.sent.labels(tenant_id, "a").inc(number)


class FiguresTests(StreamCase):
    def test_first(self) -> None:
        """Whoever comes is told at once how it stands."""
        self.door.add(message("m1"), message("m2"))
        stream = Stream(self.page)
        (reply,) = stream.client.replies
        self.assertEqual("text/event-stream", reply.headers["content-type"])
        self.assertEqual(
            ("no-store", "no"), (reply.headers["cache-control"], reply.headers["x-accel-buffering"])
        )
        (steps, data), (now, figures) = stream.events()
        self.assertEqual(("steps", "now"), (steps, now))
        self.assertEqual([], data["sent"])
        self.assertEqual(2, figures["queue"]["queued"])

    def test_live(self) -> None:
        """What changes is told within two seconds, and its pulse with it."""
        stream = Stream(self.page)
        before = stream.now()
        self.pump(LIVE)
        self.assertEqual(before["pulse"], stream.now()["pulse"])
        self.door.add(message("m1"))
        self.pump(LIVE)
        after = stream.now()
        self.assertEqual(1, after["queue"]["queued"])
        self.assertNotEqual(before["pulse"], after["pulse"])

    def test_steps(self) -> None:
        """Every step counts what happened in it; the last minute is that of six steps."""
        stream = Stream(self.page)
        self.send(3)
        self.door.metrics.errors.labels("default", "a").inc()
        self.pump(STEP)
        self.send(5)
        self.pump(STEP)
        steps = [data for name, data in stream.events() if name == "steps"]
        self.assertEqual([[], [3], [5]], [each["sent"] for each in steps])
        self.assertEqual([1], steps[1]["failed"])
        self.pump(LIVE)
        now = stream.now()
        self.assertEqual((8, 1, 9), (now["sent"], now["failed"], now["ended"]))
        self.assertAlmostEqual(1 / 9, now["error_rate"])
        self.pump(60)
        now = stream.now()
        self.assertEqual((0, 9), (now["sent"], now["ended"]))
        self.pump(300)
        self.assertIsNone(stream.now()["error_rate"])

    def test_nobody_looks(self) -> None:
        """While nobody looks, the hour is noted all the same; later comers are told all of it."""
        self.send(2)
        self.pump(STEP)
        self.door.add(message("m1"))
        self.pump(2 * STEP)
        (_, steps), _ = Stream(self.page).events()
        self.assertEqual(([2, 0, 0], [0, 1, 1]), (steps["sent"], steps["pending"]))
        self.assertEqual([0, 1, 0], steps["accepted"])

    def test_resumed(self) -> None:
        """Whoever lost the stream is told what is new, by the event's id or the query."""
        self.send(2)
        self.pump(2 * STEP)
        (_, steps), _ = Stream(self.page).events()
        self.send(4)
        self.pump(STEP)
        for again in (
            Stream(self.page, f"?after={steps['id']}"),
            Stream(self.page, **{"Last-Event-ID": steps["id"]}),
        ):
            (_, more), _ = again.events()
            self.assertEqual([4], more["sent"])
        for unknown in ("?after=elsewhere-2", "?after=x", "?after=-1"):
            (_, more), _ = Stream(self.page, unknown).events()
            self.assertEqual([2, 0, 4], more["sent"], unknown)
        up_to_date = Stream(self.page, f"?after={more['id']}")
        self.assertEqual(["now"], [name for name, _ in up_to_date.events()])

    def test_tenant(self) -> None:
        """A tenant is shown its own alone, in steps and in figures."""
        self.door.add_key("acme", KEY)
        self.send(7)
        self.send(2, "acme")
        self.pump(STEP)
        mine = {**ACCOUNT, "id": "theirs", "tenant_id": "acme"}
        self.assertEqual(200, self.door.call("POST", "/account", mine).status)
        self.door.add(message("m1"), message("m2"))
        stream = Stream(Page(self.door, KEY))
        (_, steps), (_, now) = stream.events()
        self.assertEqual(([2], [0]), (steps["sent"], steps["accepted"]))
        self.assertEqual(0, sum(now["queue"].values()))
        pulse = now["pulse"]
        self.send(1)
        self.door.add(message("m3"))
        self.pump(LIVE)
        self.assertEqual(pulse, stream.now()["pulse"])
        message_of_acme = message("m4", tenant_id="acme", account_id="theirs")
        self.assertEqual(200, self.door.add(message_of_acme, query="?tenant_id=acme").status)
        self.pump(LIVE)
        self.assertEqual(1, stream.now()["queue"]["queued"])

    def test_the_store_cannot_be_read(self) -> None:
        """A sick store is told, and leaves a gap in what waits; the rest goes on."""
        stream = Stream(self.page)
        self.store.fails = True
        self.send(1)
        self.pump(STEP)
        (steps,) = [data for name, data in stream.events() if name == "steps"][1:]
        self.assertEqual(([1], [None]), (steps["sent"], steps["pending"]))
        self.pump(LIVE)
        self.assertIsNone(stream.now()["queue"])
        self.store.fails = False
        self.pump(LIVE)
        self.assertIsNotNone(stream.now()["queue"])


class LifeTests(StreamCase):
    def test_nobody(self) -> None:
        """Without a session there is no stream."""
        self.assertEqual(401, self.door.call("GET", "/console/stream", token=None).status)
        self.assertEqual(401, self.door.call("GET", "/console/stream").status)

    def test_not_running(self) -> None:
        """There is none before the service runs, or after."""
        self.sampler.stopService()
        self.assertEqual(404, Stream(self.page).status)
        self.sampler.startService()

    def test_most(self) -> None:
        """One session has so many streams at once; one that ends makes room."""
        streams = [Stream(self.page) for _ in range(MOST_OF_ONE)]
        self.assertEqual(503, Stream(self.page).status)
        self.assertEqual(200, Stream(Page(self.door)).status)
        streams[0].client.transport.loseConnection()
        self.assertEqual(200, Stream(self.page).status)

    def test_heartbeat(self) -> None:
        """A stream without news is not silent."""
        stream = Stream(self.page)
        stream.text()
        self.store.slow = Deferred()
        self.pump(HEARTBEAT + 2)
        self.assertIn(": still here", stream.text())
        slow, self.store.slow = self.store.slow, None
        slow.callback(None)
        self.pump(LIVE)
        self.assertIn("event: now", stream.text())

    def test_a_slow_reader(self) -> None:
        """Who does not take what comes is sent no more, and is cut in the end."""
        stream = Stream(self.page)
        stream.client.transport.full = True
        self.pump(2 * LIVE)
        size = len(stream.client.transport.value())
        self.pump(STALLED - 10)
        self.assertEqual(size, len(stream.client.transport.value()))
        self.assertTrue(stream.client.open)
        self.pump(20)
        self.assertFalse(stream.client.open)

    def test_a_reader_that_catches_up(self) -> None:
        """Who paused is told how it stands now, and all steps in between."""
        stream = Stream(self.page)
        transport: Any = stream.client.transport
        transport.full = True
        self.pump(2 * LIVE)
        for number in (1, 2, 3):
            self.send(number)
            self.pump(STEP)
        transport.full = False
        transport.producer.resumeProducing()
        self.pump(LIVE)
        steps = [data["sent"] for name, data in stream.events() if name == "steps"]
        self.assertEqual([1, 2, 3], [each for sent in steps for each in sent])

    def test_the_session_ends(self) -> None:
        """The stream ends with its session, and says why."""
        stream = Stream(self.page)
        self.page.call("DELETE", "/console/session")
        self.pump(LIVE)
        self.assertIn("event: ended", stream.text())
        self.assertEqual({}, self.sampler._watchers)

    def test_the_key_is_revoked(self) -> None:
        """A tenant's stream ends when its key does."""
        self.door.add_key("acme", KEY)
        stream = Stream(Page(self.door, KEY))
        self.door.call("DELETE", "/tenant/acme/api-key")
        self.pump(LIVE)
        self.assertIn("event: ended", stream.text())

    def test_the_page_leaves(self) -> None:
        """Nothing is kept of a page that left."""
        stream = Stream(self.page)
        stream.client.transport.loseConnection()
        self.assertEqual({}, self.sampler._watchers)
        self.pump(STEP)

    def test_stopping(self) -> None:
        """A stream keeps no service from stopping: it ends at once when connections are to end."""
        stream = Stream(self.page)
        finished = Deferred.fromCoroutine(self.door.site.finish(2.0))
        self.assertFalse(stream.client.open)
        self.successResultOf(finished)

    def test_duration(self) -> None:
        """How long a page was open is no time of an answer."""
        stream = Stream(self.page)
        text = self.door.call("GET", "/metrics", token=TOKEN).body.decode()
        before = text.partition("mailproxy_http_request_seconds_sum ")[2].partition("\n")[0]
        self.pump(60)
        stream.client.transport.loseConnection()
        text = self.door.call("GET", "/metrics", token=TOKEN).body.decode()
        after = text.partition("mailproxy_http_request_seconds_sum ")[2].partition("\n")[0]
        self.assertLess(float(after) - float(before), 1.0)


class TracksTests(SynchronousTestCase):
    def test_an_hour(self) -> None:
        """Steps older than an hour are forgotten."""
        tracks = Tracks()
        for n in range(KEPT + 5):
            tracks.note({None: Counted(sent=n)}, {None: n})
        steps = tracks.follow(None).after(0, tracks.last)
        self.assertEqual(KEPT, len(steps["sent"]))
        self.assertEqual(list(range(5, KEPT + 5)), steps["pending"])
        self.assertEqual(KEPT, tracks.follow(None).total(KEPT, tracks.last).sent)

    def test_tenants(self) -> None:
        """A tenant is followed from its first mail on, and forgotten after an hour without."""
        tracks = Tracks()
        tracks.note({None: Counted()}, {None: 0})
        tracks.note({None: Counted(sent=1), "a": Counted(sent=1)}, {None: 0})
        self.assertEqual([1], tracks.follow("a").after(0, tracks.last)["sent"])
        for _ in range(KEPT + 1):
            tracks.note({None: Counted(sent=1), "a": Counted(sent=1)}, {None: 0})
            tracks.drop([])
        self.assertEqual([], tracks.follow("a").after(0, tracks.last)["sent"])

    def test_watched(self) -> None:
        """A tenant that is looked at is not forgotten, nor what was counted of it before."""
        tracks = Tracks()
        tracks.follow("a")
        for _ in range(KEPT + 1):
            tracks.note({None: Counted()}, {None: 0, "a": 4})
            tracks.drop(["a"])
        self.assertEqual([4] * KEPT, tracks.follow("a").after(0, tracks.last)["pending"])

    def test_bounded(self) -> None:
        """However many tenants there are, not more are followed than may be."""
        tracks = Tracks()
        busy: dict[str | None, Counted] = {str(n): Counted(sent=1) for n in range(MOST_TRACKS + 50)}
        tracks.note({None: Counted(sent=len(busy)), **busy}, {})
        self.assertEqual(MOST_TRACKS + 1, len(tracks._tracks))
        self.assertEqual([None], tracks.follow(None).after(0, 1)["pending"])
