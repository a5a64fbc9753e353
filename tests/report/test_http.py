"""The HTTP sink in memory: what it sends, and what it makes of answers."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from treq.testing import RequestTraversalAgent
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http import Request
from twisted.web.iweb import IRequest
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from zope.interface.verify import verifyObject

from mailproxy.errors import (
    MailProxyError,
    ReportRefused,
    ReportTooLarge,
    ReportUnanswered,
    SinkUnavailable,
)
from mailproxy.interfaces import IReportSink
from mailproxy.records import RecipientReport
from mailproxy.report.answer import Taken
from mailproxy.report.http import MOST_ANSWER, HttpSink
from mailproxy.report.signing import ID, SIGNATURE, TIMESTAMP, verify
from tests.fakes import FakeClock
from tests.report.fakes import item

URL = "http://app.test/mail-proxy/sync"


class Receiver(Resource):
    """Keeps what it was sent and renders what it is told to."""

    isLeaf = True

    def __init__(self, render: Callable[[Request], Any]) -> None:
        super().__init__()
        self._render = render
        self.requests: list[Request] = []
        self.bodies: list[bytes] = []

    def render(self, request: IRequest) -> Any:
        assert isinstance(request, Request)
        assert request.content is not None
        self.requests.append(request)
        self.bodies.append(request.content.read())
        return self._render(request)


def status(code: int, body: bytes = b"", **headers: str) -> Callable[[Request], bytes]:
    def render(request: Request) -> bytes:
        request.setResponseCode(code)
        for name, value in headers.items():
            request.setHeader(name.replace("_", "-"), value)
        return body

    return render


class HttpCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = FakeClock()
        self.render: Callable[[Request], Any] = status(200, b"{}")
        self.receiver = Receiver(lambda request: self.render(request))
        self.agent = RequestTraversalAgent(self.receiver)

    def sink(self, url: str = URL, **options: Any) -> HttpSink:
        return HttpSink(self.agent, self.clock, url, **options)

    def send(self, sink: HttpSink, *items: Any) -> Deferred[Taken]:
        return Deferred.fromCoroutine(sink.send(items))

    def refused(self, call: Deferred[Taken], kind: type[MailProxyError] = SinkUnavailable) -> Any:
        error = self.failureResultOf(call, MailProxyError).value
        self.assertIs(kind, type(error), error)
        return error

    def header(self, name: str) -> list[str] | None:
        values = self.receiver.requests[-1].requestHeaders.getRawHeaders(name)
        return None if values is None else list(values)


class SignedTests(HttpCase):
    SECRET = "whsec_" + b64encode(b"0123456789abcdef0123456789abcdef").decode()

    def signed(self, *items: Any) -> str:
        """The id of the last report, whose signature must be good."""
        self.send(self.sink(signing_secret=self.SECRET), *items)
        self.agent.flush()
        request, body = self.receiver.requests[-1], self.receiver.bodies[-1]
        headers = {
            name.decode(): values[0].decode()
            for name, values in request.requestHeaders.getAllRawHeaders()
        }
        return verify(body, headers, self.SECRET, self.clock.now())

    def test_reports_are_signed(self) -> None:
        """S23: each report is signed, time and id included; an empty one too."""
        self.signed(item(1), item(2))
        self.clock.advance(1000.0)
        self.signed()

    def test_the_id_stays(self) -> None:
        """S23: the same events have the same id when they are offered again; others have not."""
        first = self.signed(item(1), item(2))
        self.clock.advance(1000.0)
        self.assertEqual(first, self.signed(item(1), item(2)))
        self.assertNotEqual(first, self.signed(item(1)))
        empty = self.signed()
        self.clock.advance(1.0)
        self.assertNotEqual(empty, self.signed())

    def test_unsigned(self) -> None:
        """Without a secret nothing is signed."""
        self.send(self.sink(), item())
        self.agent.flush()
        headers = self.receiver.requests[-1].requestHeaders
        self.assertFalse(any(headers.hasHeader(name) for name in (ID, TIMESTAMP, SIGNATURE)))

    def test_the_secret_does_not_show(self) -> None:
        """The secret stands in no header, no repr, no refusal and no reason."""
        error = json.dumps({"error": f"bad signature, expected {self.SECRET}"}).encode()
        self.render = status(200, error)
        sink = self.sink(signing_secret=self.SECRET)
        failure = self.failureResultOf(self.send(sink, item()), SinkUnavailable)
        told = [repr(sink), str(failure.value), repr(self.receiver.requests[-1].requestHeaders)]
        self.assertNotIn(self.SECRET, " ".join(told))
        with self.assertRaises(ValueError) as caught:
            self.sink(signing_secret="hunter2")
        self.assertNotIn("hunter2", str(caught.exception))


class RequestTests(HttpCase):
    def test_the_request(self) -> None:
        """A report is one POST of JSON to the very URL, query included."""
        sink = self.sink(URL + "?app=mail&x=%2F")
        verifyObject(IReportSink, sink)
        self.assertEqual(Taken(), self.successResultOf(self.send(sink, item())))
        request = self.receiver.requests[0]
        self.assertEqual(b"POST", request.method)
        self.assertEqual(b"/mail-proxy/sync?app=mail&x=%2F", request.uri)
        self.assertEqual(["application/json"], self.header("content-type"))
        self.assertEqual([str(len(self.receiver.bodies[0]))], self.header("content-length"))
        self.assertIsNone(self.header("authorization"))
        self.assertIsNone(self.header("accept-encoding"))
        self.assertEqual("m1", json.loads(self.receiver.bodies[0])["delivery_report"][0]["id"])

    def test_bearer(self) -> None:
        """A token is sent as bearer, and wins over user and password."""
        sink = self.sink("http://u:p@app.test/", token="s3cret-token", user="sync", password="pw")
        self.successResultOf(self.send(sink))
        self.assertEqual(["Bearer s3cret-token"], self.header("authorization"))

    def test_basic(self) -> None:
        """Without a token, user and password are sent as basic, in UTF-8."""
        sink = self.sink(user="sync", password="päss:word")
        self.successResultOf(self.send(sink))
        self.assertEqual([basic("sync:päss:word")], self.header("authorization"))

    def test_user_info_of_the_url(self) -> None:
        """User info leaves the URL, is decoded and sent as basic, unless others are given."""
        sink = self.sink("http://syn%40c:p%3Aw@app.test:81/sync")
        self.successResultOf(self.send(sink))
        self.assertEqual([basic("syn@c:p:w")], self.header("authorization"))
        self.assertEqual(["app.test:81"], self.header("host"))
        self.assertEqual(b"/sync", self.receiver.requests[0].uri)
        other = self.sink("http://u:p@app.test/", user="sync", password="pw")
        self.successResultOf(self.send(other))
        self.assertEqual([basic("sync:pw")], self.header("authorization"))

    def test_names_and_addresses(self) -> None:
        """Hosts may be international names, and addresses of either kind."""
        for url, host in (
            ("http://bücher.test/sync", "xn--bcher-kva.test"),
            ("http://[::1]:8080/sync", "[::1]:8080"),
            ("HTTP://192.0.2.7/sync", "192.0.2.7"),
            ("http://my_app:8069/sync", "my_app:8069"),
            ("http://App.test./sync", "app.test."),
        ):
            self.successResultOf(self.send(self.sink(url)))
            self.assertEqual([host], self.header("host"))

    def test_urls_that_cannot_be_used(self) -> None:
        """A URL that names no place to POST to is refused when the sink is made."""
        for url in (
            "",
            "app.test",
            "/sync",
            "ftp://app.test/",
            "http://",
            "http:///x",
            "http://a:b",
        ):
            error = self.assertRaises(ValueError, self.sink, url)
            self.assertNotIn("app.test", str(error))

    def test_credentials_that_cannot_be_used(self) -> None:
        """No credential can smuggle a header, and the refusal does not show it."""
        for options in (
            {"token": "abc\r\nX-Evil: 1"},
            {"user": "sync\nuser", "password": "pass-word"},
            {"user": "sync-user", "password": "pass-word\0"},
            {"user": "sync:user", "password": "pass-word"},
        ):
            error = self.assertRaises(ValueError, self.sink, URL, **options)
            for value in options.values():
                self.assertNotIn(value, str(error))

    def test_no_cookies(self) -> None:
        """A cookie that a receiver sets is not sent back."""
        self.render = status(200, b"{}", Set_Cookie="session=abc; Path=/")
        sink = self.sink()
        for _ in range(2):
            self.successResultOf(self.send(sink))
        self.assertIsNone(self.header("cookie"))

    def test_large_reports_are_split_before_they_are_sent(self) -> None:
        """A report above the limit is refused here, and nothing is sent."""
        many = tuple(RecipientReport(f"r{n}@test", "sent", 250, "x" * 99) for n in range(100))
        sink = self.sink(most_bytes=20_000)
        self.refused(self.send(sink, item(1, recipients=many), item(2, recipients=many)), TOO_LARGE)
        self.assertEqual([], self.receiver.bodies)
        self.successResultOf(self.send(sink, item(1, recipients=many)))


TOO_LARGE = ReportTooLarge


class AnswerTests(HttpCase):
    def answered(self, render: Callable[[Request], Any]) -> Deferred[Taken]:
        self.render = render
        return self.send(self.sink(token="s3cret-token"), item())

    def test_acknowledgements(self) -> None:
        """204, an empty 200 and a JSON object without an error take the report."""
        for render, taken in (
            (status(204), Taken()),
            (status(200), Taken()),
            (status(200, b'{"ok": true, "queued": 4}'), Taken(4)),
            (status(200, b'{"error": ["m9"], "queued": null}'), Taken()),
            (status(201, b'{"next_sync_after": 1750000100}'), Taken(0, 1750000100.0)),
        ):
            self.assertEqual(taken, self.successResultOf(self.answered(render)))

    def test_no_acknowledgements(self) -> None:
        """An error, a page, a redirect or a failure takes nothing."""
        for render in (
            status(200, b'{"error": "AUTH-901"}', content_type="application/json"),
            status(200, b"<html>Log in</html>", content_type="text/html"),
            status(200, b'{"ok": false}'),
            status(302, b"", location="http://other.test/"),
            status(401, b"{}"),
            status(404, b"{}"),
            status(500, b'{"ok": true}'),
        ):
            self.refused(self.answered(render))

    def test_redirects_are_not_followed(self) -> None:
        """A redirect makes no second request, with or without credentials."""
        for code in (301, 302, 303, 307, 308):
            before = len(self.receiver.requests)
            self.refused(self.answered(status(code, b"", location="http://other.test/")))
            self.assertEqual(before + 1, len(self.receiver.requests))

    def test_kinds_of_refusal(self) -> None:
        """413 asks for less, a client error is for good, 504 may still be at work."""
        self.refused(self.answered(status(413)), ReportTooLarge)
        self.refused(self.answered(status(422)), ReportRefused)
        self.refused(self.answered(status(504)), ReportUnanswered)

    def test_retry_after(self) -> None:
        """What the receiver asks for is passed on, with a 2xx that is none as well."""
        error = self.refused(self.answered(status(429, retry_after="17")))
        self.assertEqual(17.0, error.retry_after)
        error = self.refused(
            self.answered(status(503, retry_after="Sun, 15 Jun 2025 15:07:40 GMT"))
        )
        self.assertEqual(60.0, error.retry_after)
        error = self.refused(self.answered(status(200, b"<html>", retry_after="5")))
        self.assertEqual(5.0, error.retry_after)
        self.assertIsNone(self.refused(self.answered(status(500))).retry_after)

    def test_compressed_answers(self) -> None:
        """Compression was not asked for, and is not undone."""
        self.refused(self.answered(status(200, b"\x1f\x8b\x08", content_encoding="gzip")))
        taken = self.answered(status(200, b"{}", content_encoding="gzip"))
        self.assertEqual(Taken(), self.successResultOf(taken))

    def test_a_huge_answer(self) -> None:
        """An answer beyond the limit is no acknowledgement, whatever it says."""
        body = b'{"ok": true, "padding": "' + b"x" * MOST_ANSWER + b'"}'
        error = self.refused(self.answered(status(200, body)))
        self.assertIn("more than", str(error))
        within = b'{"padding": "' + b"x" * (MOST_ANSWER - 15) + b'"}'
        self.assertEqual(MOST_ANSWER, len(within))
        self.successResultOf(self.answered(status(200, within)))

    def test_deadline_of_the_head(self) -> None:
        """A receiver that does not begin its answer in time may still be at work."""
        call = self.answered(lambda request: NOT_DONE_YET)
        self.clock.advance(299.0)
        self.assertNoResult(call)
        self.clock.advance(1.0)
        self.assertEqual("no answer within 300 s", str(self.refused(call, ReportUnanswered)))
        self.agent.flush()
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_deadline_of_the_body(self) -> None:
        """The one deadline holds for the whole answer, also if it trickles."""

        def begin(request: Request) -> Any:
            request.write(b'{"ok": true')
            return NOT_DONE_YET

        call = self.answered(begin)
        self.agent.flush()
        for _ in range(10):
            self.clock.advance(29.0)
            self.receiver.requests[-1].write(b" ")
            self.agent.flush()
        self.assertNoResult(call)
        self.clock.advance(10.0)
        self.refused(call, ReportUnanswered)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_cancelled(self) -> None:
        """Ending a call leaves nothing behind; it is not taken for a time-out."""
        call = self.answered(lambda request: NOT_DONE_YET)
        call.cancel()
        failure = self.failureResultOf(call)
        self.assertTrue(failure.check(SinkUnavailable, CancelledError))
        self.assertFalse(failure.check(ReportUnanswered))
        self.assertEqual([], self.clock.getDelayedCalls())

    @given(st.integers(200, 599), st.binary(max_size=30))
    @settings(deadline=None)
    def test_any_answer(self, code: int, body: bytes) -> None:
        """Every answer ends the call, with an acknowledgement or an error of ours."""
        if code in (204, 205, 304):
            body = b""
        call = self.answered(status(code, body))
        results: list[object] = []
        call.addErrback(lambda failure: failure.trap(SinkUnavailable)).addCallback(results.append)
        self.assertEqual(1, len(results))
        self.assertEqual([], self.clock.getDelayedCalls())


class SecretTests(HttpCase):
    def test_nowhere(self) -> None:
        """No secret stands in a log, a reason or a repr, even if the receiver repeats it."""
        for options in (
            {"token": "s3cret-token"},
            {"user": "sync", "password": "s3cret-word"},
        ):
            said = f"s3cret-token, s3cret-word and {basic('sync:s3cret-word')} are wrong"
            self.render = status(200, json.dumps({"error": said}).encode())
            sink = self.sink("http://u:s3cret-info@app.test/sync?key=s3cret-key", **options)
            with capturedLogs() as logs:
                call = self.send(sink, item())
                error = self.refused(call)
            self.assertNotIn(next(reversed(options.values())), str(error))
            if "user" in options:
                self.assertNotIn(basic("sync:s3cret-word").partition(" ")[2], str(error))
            self.assertEqual("<HttpSink http://app.test/sync>", repr(sink))
            self.assertNotIn("s3cret", repr(logs).replace(error.reason, ""))


def basic(pair: str) -> str:
    return "Basic " + b64encode(pair.encode()).decode()
