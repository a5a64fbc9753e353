"""One tenant's application hangs, is down or answers nonsense: the others notice nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from twisted.web.http import Request
from twisted.web.server import NOT_DONE_YET

from mailproxy.report.http import MOST_ANSWER
from mailproxy.report.pace import GATHER, LONGEST_REST
from tests.fakes import result
from tests.report.fakes import FakeReports
from tests.report.world import Application, World, takes

HOUR, DAY = 3600.0, 86400.0


def hangs(request: Request) -> Any:
    return NOT_DONE_YET


def down(request: Request) -> Any:
    request.setResponseCode(503)
    return _nothing_taken(request)


def _nothing_taken(request: Request, body: bytes = b"") -> Any:
    request.write(body)
    request.finish()
    return NOT_DONE_YET


class HangingTests(World):
    def test_a_day_without_an_answer(self) -> None:
        """
        One endpoint hangs for a day: the others' reports are told within a second, and its own all
        arrive afterwards, once per event, in order.
        """
        hung = self.application("hung", hangs)
        well = [self.application(name) for name in ("news", "shop")]
        self.start()
        self.after(1.0)
        sent: dict[str, list[str]] = {"hung": [], "news": [], "shop": []}
        born: dict[str, float] = {}
        for number in range(144):
            self.until(1.0 + number * 600.0)
            for tenant_id, ids in sent.items():
                new = self.send(tenant_id)
                ids += new
                born.update(dict.fromkeys(new, self.clock.seconds()))
        self.until(1.0 + DAY)
        for application, name in zip(well, ("news", "shop"), strict=True):
            self.assertEqual(sent[name], application.ids)
            late = [application.taken_at[each] - born[each] for each in sent[name]]
            self.assertLess(max(late), 1.0)
            self.assertEqual(1, application.most_open)
        self.assertEqual([], hung.taken)
        self.assertEqual(1, hung.most_open)

        hung.render = takes
        self.after(LONGEST_REST + 300.0)
        self.assertEqual(sent["hung"], hung.ids)
        self.assertEqual({1}, set(Counter(hung.taken).values()))
        self.assertEqual(1, hung.most_open)

    def test_a_hung_call_does_not_hold_a_new_tenant_back(self) -> None:
        """A tenant that registers while another one's call hangs is called at once."""
        self.application("hung", hangs)
        self.start()
        self.after(10.0)
        new = self.application("new")
        self.until(self.clock.seconds())
        self.assertEqual([(10.0, [])], new.offered)

    def test_every_tenant_is_called_now_and_then(self) -> None:
        """Each tenant, an inactive one too, gets empty reports at its own pace."""
        first = self.application("first")
        second = self.application("second", active=False)
        self.start()
        self.until(150.0)
        self.send("first")
        self.until(899.0)
        self.assertEqual([0.0, 150.025, 450.025, 750.025], [at for at, _ in first.offered])
        self.assertEqual([0.0, 300.0, 600.0], [at for at, _ in second.offered])

    def test_an_inactive_tenant_is_told(self) -> None:
        """What became of its mail is told also to a tenant that may send no more."""
        shop = self.application("shop")
        self.start()
        ids = self.send("shop")
        again = self.application("shop", active=False)
        self.after(1.0)
        self.assertEqual(ids, shop.ids + again.ids)

    def test_a_deleted_tenant_is_told(self) -> None:
        """What became of its mail is told to a tenant that is being deleted, until it is gone."""
        shop = self.application("shop", down)
        reporter = self.start()
        ids = self.send("shop")
        self.after(60.0)
        result(self.store.delete_tenant("shop", self.clock.now()))
        result(self.book.refresh())
        shop.render = takes
        self.after(HOUR)
        self.assertLessEqual(set(ids), set(shop.ids))
        self.store.disk.tenants.pop("shop")
        result(self.book.refresh())
        self.assertIsNone(reporter.status("shop"))


class OutageTests(World):
    def test_half_a_day_down_with_a_large_backlog(self) -> None:
        """
        F61: after 12 hours down and 100 000 events, everything arrives once, in order, in pages of
        at most 500; while it was down it was asked at least every five minutes, others as ever.
        """
        store = FakeReports(self.clock)
        shop = self.application("shop", down)
        other = self.application("other")
        reporter = self.start(store)
        store.subscribe(reporter)
        for hour in range(10):
            self.until(hour * HOUR)
            store.add(*(f"m{hour * 10_000 + n}" for n in range(10_000)), tenant="shop")
            store.add(f"o{hour}", tenant="other")
        self.until(12 * HOUR)
        self.assertEqual([f"o{hour}" for hour in range(10)], other.ids)
        times = [at for at, _ in shop.offered]
        self.assertLessEqual(max(b - a for a, b in pairwise(times)), 301.0)
        self.assertLess(len(times), 12 * 12 * 2)
        calls = len(times)

        shop.render = takes
        self.after(LONGEST_REST + 60.0)
        self.assertEqual([f"m{n}" for n in range(100_000)], shop.ids)
        self.assertEqual({1}, set(Counter(shop.taken).values()))
        pages = [len(ids) for _, ids in shop.offered[calls:]]
        self.assertLessEqual(max(pages), 500)
        self.assertLess(len(pages), 300)
        self.assertEqual([], store.waiting())

    def test_down_at_the_start(self) -> None:
        """What was to be told before a restart is told after it, by the same event."""
        shop = self.application("shop", down)
        reporter = self.start()
        ids = self.send("shop")
        self.after(2.0)
        self.successResultOf(reporter.stopService())
        shop.render = takes
        reporter.startService()
        self.after(1.0)
        self.assertEqual(ids, shop.ids)
        offered = {event for _, events in shop.offered for event in events}
        self.assertEqual(offered, set(shop.taken))


def answers(code: int, body: bytes = b"", **headers: str) -> Callable[[Request], Any]:
    def render(request: Request) -> Any:
        request.setResponseCode(code)
        for name, value in headers.items():
            request.setHeader(name.replace("_", "-"), value)
        return _nothing_taken(request, body)

    return render


def breaks_off(request: Request) -> Any:
    """Half of an answer, and then no connection."""
    request.setHeader("content-length", "100")
    request.write(b'{"ok":tr')
    transport: Any = request.transport
    transport.abortConnection()
    return NOT_DONE_YET


#: F62: what is no acknowledgement.
NO_ACK: dict[str, Callable[[Request], Any]] = {
    "html": answers(200, b"<html>Please log in</html>", content_type="text/html"),
    "error": answers(200, b'{"error":"AUTH-901 wrong credentials"}'),
    "not-ok": answers(200, b'{"ok":false}'),
    "a-list": answers(200, b"[]"),
    "too-long": answers(200, b'{"ok":"' + b"x" * MOST_ANSWER + b'"}'),
    "broken": breaks_off,
    "moved": answers(301, location="http://elsewhere.test/"),
    "denied": answers(401),
    "busy": answers(429, retry_after="7"),
    "failing": answers(500, b"Traceback"),
    "hanging": hangs,
}

#: F62: what is one.
ACK: dict[str, Callable[[Request], Any]] = {
    "empty": answers(204),
    "object": answers(200, b"{}"),
    "listing": answers(200, b'{"error":["m1"],"not_found":["m2"]}'),
}


class AnswerTests(World):
    def test_every_kind_of_answer_at_once(self) -> None:
        """
        F62: tenants whose applications answer in every way there is have no influence on each
        other; only an empty 2xx or a JSON object without an error takes the events.
        """
        everyone = {name: self.application(name, render)
                    for name, render in {**NO_ACK, **ACK}.items()}  # fmt: skip
        reporter = self.start()
        sent = {name: self.send(name) for name in everyone}
        self.after(20.0)
        waiting = set(self.store_waiting())
        self.assertEqual(set(NO_ACK), waiting)
        for name in NO_ACK:
            status = reporter.status(name)
            assert status is not None
            self.assertEqual(name == "hanging", status.last_error is None, name)
        for application in everyone.values():
            self.assertEqual(1, application.most_open)

        for application in everyone.values():
            application.render = takes
        self.after(2 * LONGEST_REST + 60.0)
        self.assertEqual([], self.store_waiting())
        for name in NO_ACK:
            self.assertEqual(sent[name], everyone[name].ids, name)

    def test_no_credentials_follow_a_redirect(self) -> None:
        """F62: a redirect is not followed, with credentials or without."""
        moved = self.application("moved", NO_ACK["moved"])
        elsewhere = self.hosts.applications["elsewhere"] = Application(self.clock)
        self.start()
        self.send("moved")
        self.after(30.0)
        self.assertNotEqual([], moved.offered)
        self.assertEqual([], elsewhere.offered)

    def test_too_large_for_one_tenant(self) -> None:
        """F62: who answers 413 gets half as many at once; everyone else gets all at once."""

        def small(request: Request) -> Any:
            if offered(self.hosts.applications["small"]) > 10:
                return answers(413)(request)
            return takes(request)

        def offered(application: Application) -> int:
            return len(application.offered[-1][1])

        small_one, large_one = self.application("small", small), self.application("large")
        self.start()
        self.after(1.0)
        for name in ("small", "large"):
            self.send(name, 50)
        self.after(5.0)
        self.assertEqual([50], [len(ids) for _, ids in large_one.offered if ids])
        self.assertEqual(50, len(small_one.ids))
        self.assertEqual([], self.store_waiting())

    def store_waiting(self) -> list[str]:
        return result(self.store.waiting_tenants())


class InsideTheCallTests(World):
    def test_a_thousand_messages_inside_the_call(self) -> None:
        """
        F64: applications that submit 1 000 messages each inside our call are answered, all at the
        same time; nothing waits for anything, and what they submitted is told by later calls.
        """
        submitted: dict[str, list[str]] = {}

        def submits(name: str) -> Callable[[Request], Any]:
            def render(request: Request) -> Any:
                if name not in submitted:
                    submitted[name] = []  # what is sent causes the next call
                    submitted[name] = self.send(name, 1000)
                return takes(request)

            return render

        names = ("a", "b", "c")
        everyone = {name: self.application(name, submits(name)) for name in names}
        self.start()
        self.after(5.0)
        for name, application in everyone.items():
            self.assertEqual(1000, len(submitted[name]))
            self.assertEqual(submitted[name], application.ids)
            self.assertEqual(1, application.most_open)

    def test_run_now_inside_the_call(self) -> None:
        """F64: an application that asks for another call inside our call gets one, afterwards."""
        reporter = self.start()

        def asks(request: Request) -> Any:
            reporter.run_now("shop")
            return takes(request)

        shop = self.application("shop", asks)
        self.after(3 * 1.0 + GATHER)
        self.assertEqual([0.0, 1.0, 2.0, 3.0], [round(at, 3) for at, _ in shop.offered])
        self.assertEqual(1, shop.most_open)
