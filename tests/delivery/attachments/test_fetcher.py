"""Fetching all that a message lacks, from sources that do as told."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.delivery.attachments.cache import Cache, MemoryCache
from mailproxy.delivery.attachments.fetcher import OUT_OF_REACH, Fetcher, FetchOptions
from mailproxy.delivery.attachments.source import Source, Spool, Trouble
from mailproxy.errors import AttachmentFault
from mailproxy.metrics import Metrics
from mailproxy.model import Attachment
from mailproxy.threads import inline
from tests.fakes import FakeClock


class ScriptedSource:
    """
    Gives what it is told to, by path: content, a trouble, or a Deferred of either.

    :ivar asked: the paths, in order; ``open`` and ``most`` count fetches under way.
    """

    def __init__(self, kind: str = "") -> None:
        self.answers: dict[str, Any] = {}
        self.kind = kind
        self.shown: tuple[str, ...] = ()
        self.asked: list[str] = []
        self.open = self.most = 0
        self.place: Callable[[str], str | None] = lambda path: "there"

    def where(self, tenant_id: str, attachment: Attachment) -> str | None:
        return self.place(attachment.storage_path)

    async def fetch(self, tenant_id: str, attachment: Attachment, spool: Spool) -> str:
        path = attachment.storage_path
        self.asked.append(path)
        answer = self.answers[path]
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            if isinstance(answer, Deferred):
                answer = await answer
        finally:
            self.open -= 1
        if isinstance(answer, Trouble):
            raise Trouble(answer.problem, transient=answer.transient, down=answer.down)
        spool.shown = self.shown
        spool.write(answer)
        return self.kind


def lacking(path: str, mode: str = "endpoint", md5: str = "") -> Attachment:
    name = path.rpartition("/")[2]
    return Attachment(name, "x/y", 0, storage_path=path, fetch_mode=mode, content_md5=md5)


class FetcherCase(SynchronousTestCase):
    options = FetchOptions(max_bytes=100, max_message_bytes=150, deadline=60.0, total=3, each=2)

    def setUp(self) -> None:
        self.clock = FakeClock()
        self.metrics = Metrics()
        self.endpoint, self.web, self.files = (ScriptedSource() for _ in range(3))
        self.memory = MemoryCache(10_000, 300.0)
        cache = Cache(self.clock.now, self.memory, None, inline)
        sources: dict[str, Source] = {
            "endpoint": self.endpoint,
            "http_url": self.web,
            "filesystem": self.files,
        }
        self.fetcher = Fetcher(sources, cache, self.clock, self.metrics, self.options)

    def begin(self, *attachments: Attachment, tenant: str = "t1") -> Deferred[list[bytes]]:
        async def run() -> list[bytes]:
            spools = await self.fetcher.fetch(tenant, attachments)
            contents = [spool.read() for spool in spools]
            for spool in spools:
                spool.close()
            return contents

        return Deferred.fromCoroutine(run())

    def fetch(self, *attachments: Attachment, tenant: str = "t1") -> list[bytes]:
        return self.successResultOf(self.begin(*attachments, tenant=tenant))

    def fault(self, *attachments: Attachment, tenant: str = "t1") -> AttachmentFault:
        failure = self.failureResultOf(self.begin(*attachments, tenant=tenant), AttachmentFault)
        value = failure.value
        assert isinstance(value, AttachmentFault)
        return value

    def counted(self, mode: str, what: str) -> float | None:
        labels = {"mode": mode, "result": what}
        return self.metrics.registry.get_sample_value("mailproxy_attachments_total", labels)


class FetcherTests(FetcherCase):
    def test_each_from_its_source(self) -> None:
        """Each attachment comes from the source of its mode, in the message's order."""
        self.endpoint.answers["a"] = b"A"
        self.web.answers["http://b/"] = b"B"
        self.files.answers["/c"] = b"C"
        got = self.fetch(
            lacking("a"), lacking("http://b/", "http_url"), lacking("/c", "filesystem")
        )
        self.assertEqual([b"A", b"B", b"C"], got)
        self.assertEqual(1, self.counted("http_url", "fetched"))

    def test_names_what_failed(self) -> None:
        """The fault names the attachment that could not be had, and whether there is hope."""
        self.endpoint.answers |= {"a": b"A", "b": Trouble("answered 404", transient=False)}
        fault = self.fault(lacking("a"), lacking("b"), lacking("c"))
        self.assertEqual("Attachment fetch failed for b: answered 404", str(fault))
        self.assertFalse(fault.transient)
        self.assertEqual(["a", "b"], self.endpoint.asked)
        self.assertEqual(1, self.counted("endpoint", "failed"))

    def test_unknown_mode(self) -> None:
        """A source that is not set up may be one day."""
        fault = self.fault(lacking("a", "gopher"))
        self.assertTrue(fault.transient)

    def test_caps(self) -> None:
        """One attachment may be so large, and all of a message together."""
        self.endpoint.answers |= {"a": b"x" * 100, "b": b"y" * 101, "c": b"z" * 51, "d": b"z" * 50}
        self.assertIn("larger than 100 bytes", str(self.fault(lacking("b"))))
        self.assertIn("c: larger than 50 bytes", str(self.fault(lacking("a"), lacking("c"))))
        self.assertEqual([100, 50], [len(data) for data in self.fetch(lacking("a"), lacking("d"))])

    def test_a_broken_source(self) -> None:
        """What a source raises beyond its words is raised on."""
        self.assertIsInstance(self.failureResultOf(self.begin(lacking("unknown"))).value, KeyError)


class DigestTests(FetcherCase):
    """What came is compared with what the client said of it."""

    MD5 = hashlib.md5(b"content").hexdigest()

    def test_matches(self) -> None:
        """Content with the digest the client gave is taken."""
        self.endpoint.answers["a"] = b"content"
        self.assertEqual([b"content"], self.fetch(lacking("a", md5=self.MD5)))

    def test_does_not_match(self) -> None:
        """Content with another digest may be half of it: it is asked for again later."""
        self.endpoint.answers["a"] = b"conten"
        fault = self.fault(lacking("a", md5=self.MD5))
        self.assertEqual("the content does not match its digest", fault.problem)
        self.assertTrue(fault.transient)

    def test_an_error_is_no_content(self) -> None:
        """``200 {"error": ...}`` is how refused credentials look; it is not the attachment."""
        self.endpoint.kind = "application/json"
        for body, said in (
            (b'{"error": "Wrong password\\nAUTH-901"}', ": Wrong password AUTH-901"),
            (b' {"ok":false,"error":{"code":1}}', ": an object with an error"),
        ):
            for md5 in ("", self.MD5):
                self.endpoint.answers["a"] = body
                fault = self.fault(lacking("a", md5=md5))
                self.assertEqual(f"an error came in its place{said}", fault.problem)
                self.assertTrue(fault.transient)

    def test_an_error_repeats_no_secret(self) -> None:
        """What the source was shown does not stand in the reason, even if its error repeats it."""
        self.endpoint.kind = "application/json"
        self.endpoint.shown = ("bTpzM2NyZXQ=", "s3cret")
        self.endpoint.answers["a"] = b'{"error": "no: Basic bTpzM2NyZXQ=, s3cret"}'
        fault = self.fault(lacking("a"))
        said = "an error came in its place: no: Basic ********, ********"
        self.assertEqual(said, fault.problem)

    def test_unless_it_is(self) -> None:
        """A file that looks like an error is content, if its digest says so."""
        body = b'{"error": "I am a file"}'
        self.endpoint.kind = "application/json"
        self.endpoint.answers["a"] = body
        self.assertEqual([body], self.fetch(lacking("a", md5=hashlib.md5(body).hexdigest())))

    def test_other_json(self) -> None:
        """JSON that tells of no error is content, and so is what is not JSON at all."""
        for kind, body in (
            ("application/json", b'{"error": null}'),
            ("application/json", b'{"error": ""}'),
            ("application/json", b'[{"error": "x"}]'),
            ("application/json", b'"error"'),
            ("application/json", b'{"error": "x"'),
            ("application/json", b"\xff\xfe"),
            ("application/json", b"[" * 99),
            ("text/plain", b'{"error": "x"}'),
            ("", b'{"error": "x"}'),
        ):
            self.endpoint.kind, self.endpoint.answers["a"] = kind, body
            self.assertEqual([body], self.fetch(lacking("a")))


class CachedTests(FetcherCase):
    MD5 = hashlib.md5(b"content").hexdigest()

    def test_asked_once(self) -> None:
        """What a tenant fetched is not asked for again, wherever the next message has it from."""
        self.endpoint.answers["a"] = b"content"
        for path in ("a", "b"):
            self.assertEqual([b"content"], self.fetch(lacking(path, md5=self.MD5)))
        self.assertEqual(["a"], self.endpoint.asked)
        self.assertEqual(1, self.counted("endpoint", "cached"))

    def test_not_without_a_hint(self) -> None:
        """Where the client gives no digest, the source is asked: it may have something new."""
        self.endpoint.answers["a"] = b"content"
        self.fetch(lacking("a", md5=self.MD5))
        self.fetch(lacking("a"))
        self.assertEqual(["a", "a"], self.endpoint.asked)

    def test_s15_not_for_another_tenant(self) -> None:
        """S15: another tenant that knows the digest gets what its own source gives."""
        self.endpoint.answers["a"] = b"content"
        self.fetch(lacking("a", md5=self.MD5))
        self.endpoint.answers["a"] = b"guessed"
        fault = self.fault(lacking("a", md5=self.MD5), tenant="t2")
        self.assertIn("does not match its digest", fault.problem)

    def test_files_are_read(self) -> None:
        """Files of this machine are read each time: what may be read is for the roots to say."""
        self.endpoint.answers["a"] = self.files.answers["/a"] = b"content"
        self.fetch(lacking("a", md5=self.MD5))
        self.fetch(lacking("/a", "filesystem", self.MD5))
        self.fetch(lacking("/a", "filesystem", self.MD5))
        self.assertEqual(["/a", "/a"], self.files.asked)

    def test_caps_hold(self) -> None:
        """What is cached is no larger than what may be attached."""
        data = b"x" * 101
        md5 = hashlib.md5(data).hexdigest()
        self.memory.keep("t1", md5, "f" * 64, data, self.clock.now())
        self.assertIn("larger than", self.fault(lacking("a", md5=md5)).problem)

    def test_s15_a_hint_is_verified(self) -> None:
        """S15: what a source gives is kept under the digest it has, not the one it was asked by."""
        self.endpoint.answers["a"] = b"evil"
        self.fault(lacking("a", md5=self.MD5))
        self.endpoint.answers["a"] = b"content"
        self.assertEqual([b"content"], self.fetch(lacking("a", md5=self.MD5)))
        self.assertEqual(["a", "a"], self.endpoint.asked)

    def test_failures_are_not_kept(self) -> None:
        """What did not match is not in the cache."""
        self.endpoint.answers["a"] = b"wrong"
        self.fault(lacking("a", md5=self.MD5))
        self.assertEqual(0, self.memory.size)


class TimeTests(FetcherCase):
    def test_deadline(self) -> None:
        """All of a message has to be there in time; the fault names the attachment that is not."""
        self.endpoint.answers |= {"a": b"A", "b": Deferred()}
        fetching = self.begin(lacking("a"), lacking("b"))
        self.clock.advance(59.0)
        self.assertNoResult(fetching)
        self.clock.advance(1.0)
        fault = self.failureResultOf(fetching, AttachmentFault).value
        self.assertEqual("Attachment fetch failed for b: not complete within 60 s", str(fault))
        self.assertEqual(0, self.endpoint.open)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_in_time(self) -> None:
        """The time does not run while a message waits for its turn."""
        hung = [self.begin(lacking("h")) for _ in range(2) if self.hang("h")]
        self.endpoint.answers["a"] = b"A"
        waiting = self.begin(lacking("a"))
        self.clock.advance(50.0)
        for each in hung:
            each.cancel()
            self.failureResultOf(each, CancelledError)
        self.assertEqual([b"A"], self.successResultOf(waiting))

    def hang(self, path: str) -> bool:
        self.endpoint.answers[path] = Deferred()
        return True

    def test_turns(self) -> None:
        """No more than so many at once in all, and of one tenant."""
        answers = {str(n): Deferred[bytes]() for n in range(9)}
        self.endpoint.answers |= answers
        begun = [self.begin(lacking(str(n)), tenant=tenant) for n, tenant in enumerate("aaaabbbcc")]
        self.assertEqual(["0", "1", "4"], self.endpoint.asked)
        while (path := next((p for p, a in answers.items() if not a.called), None)) is not None:
            answers[path].callback(b"x")
        self.assertEqual([[b"x"]] * 9, [self.successResultOf(each) for each in begun])
        self.assertEqual(3, self.endpoint.most)

    def test_out_of_reach(self) -> None:
        """A place that is out of reach is left alone for a while; what needs it fails at once."""
        down = Trouble("no answer for 60 s", transient=True, down=True)
        self.endpoint.answers |= {"a": down, "b": b"B"}
        self.fault(lacking("a"))
        fault = self.fault(lacking("b"))
        self.assertEqual("no answer for 60 s", fault.problem)
        self.assertTrue(fault.transient)
        self.assertEqual(["a"], self.endpoint.asked)
        self.endpoint.answers["b"] = b"B"
        self.assertEqual([b"B"], self.fetch(lacking("b"), tenant="t2"))
        self.clock.advance(OUT_OF_REACH)
        self.assertEqual([b"B"], self.fetch(lacking("b")))

    def test_registered_again(self) -> None:
        """A tenant that says anew where its attachments are is asked at once."""
        self.endpoint.answers["a"] = Trouble("refused", transient=True, down=True)
        self.fault(lacking("a"))
        self.endpoint.answers["a"] = b"A"
        self.fetcher.forget("t2")
        self.fault(lacking("a"))
        self.fetcher.forget("t1")
        self.assertEqual([b"A"], self.fetch(lacking("a")))

    def test_one_file_is_not_the_place(self) -> None:
        """A 503 for one file says nothing of the others."""
        self.endpoint.answers |= {"a": Trouble("answered 503", transient=True), "b": b"B"}
        self.fault(lacking("a"))
        self.assertEqual([b"B"], self.fetch(lacking("b")))

    def test_too_late_is_out_of_reach(self) -> None:
        """A place that took all the time there was is not asked for the next message either."""
        self.endpoint.answers |= {"a": Deferred(), "b": b"B"}
        fetching = self.begin(lacking("a"))
        self.clock.advance(60.0)
        self.failureResultOf(fetching, AttachmentFault)
        self.assertIn("not complete", self.fault(lacking("b")).problem)

    def test_cancelled(self) -> None:
        """Whoever breaks off leaves nothing behind."""
        self.endpoint.answers |= {"a": Deferred(), "b": b"B"}
        fetching = self.begin(lacking("a"))
        fetching.cancel()
        self.failureResultOf(fetching, CancelledError)
        self.assertEqual(([], 0), (self.clock.getDelayedCalls(), self.endpoint.open))
        self.assertEqual([b"B"], self.fetch(lacking("b")))


class SpoolTests(SynchronousTestCase):
    def test_large_content_is_on_disk(self) -> None:
        """A spool gives back what it took, of any size, with its digests."""
        for size in (0, 10, 300_000):
            data = b"x" * size
            spool = Spool(300_000)
            spool.write(data[:7])
            spool.write(data[7:])
            self.assertEqual((data, size), (spool.read(), spool.size))
            self.assertEqual(hashlib.md5(data).hexdigest(), spool.md5)
            self.assertEqual(hashlib.sha256(data).hexdigest(), spool.sha256)
            spool.close()

    def test_filled(self) -> None:
        """What is whole is taken as it is, with the digests that are known of it."""
        spool = Spool(3)
        self.assertRaises(Trouble, spool.fill, b"abcd", "m", "s")
        spool.fill(b"abc", "m", "s")
        self.assertEqual((b"abc", 3, "m", "s"), (spool.read(), spool.size, spool.md5, spool.sha256))
        spool.close()

    def test_limit(self) -> None:
        """A spool takes no byte too many."""
        spool = Spool(3)
        spool.write(b"abc")
        self.assertRaises(Trouble, spool.write, b"d")
        self.assertRaises(Trouble, spool.expect, 4)
        self.assertEqual(b"abc", spool.read())
        spool.close()
