"""
Reports by HTTP: one POST, one answer, one deadline over both.

Nothing is carried from one call to the next, and nothing from one tenant to another: no cookies,
no kept connections, no credentials but the sink's own. Redirects are not followed, since they
would take the credentials along. No secret is logged, and none stands in a reason or a ``repr``.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from http.cookiejar import DefaultCookiePolicy
from typing import Any

from OpenSSL import SSL
from service_identity import VerificationError
from treq.client import HTTPClient
from treq.cookies import IndexableCookieJar
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IConsumer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from mailproxy import __version__
from mailproxy.errors import ReportUnanswered, SinkUnavailable
from mailproxy.interfaces import IClock, IReportSink
from mailproxy.records import ReportItem
from mailproxy.report.answer import Taken, plain, read_answer, refused, retry_after
from mailproxy.report.encoding import MOST_BYTES, encode
from mailproxy.report.signing import key_of, signature_headers
from mailproxy.report.target import parse_url

#: Bytes of an answer's body; a longer one is no acknowledgement.
MOST_ANSWER = 1024 * 1024

_USER_AGENT = f"mailproxy/{__version__}"

#: What treq is told; see :class:`_AsWritten`.
_SOMEWHERE = "http://receiver.invalid/"

_log = Logger()


@implementer(IReportSink)
class HttpSink:
    """
    Reports to one URL.

    A token wins over user and password, and these over user info in the URL.

    :param agent: connects; see :func:`mailproxy.report.agent.make_agent`.
    :param clock: for the deadline and for dates in answers.
    :param url: ``http`` or ``https``; user info is taken out of it and used for basic.
    :param signing_secret: reports are signed with it, see :mod:`mailproxy.report.signing`.
    :param timeout: seconds for the whole call: connecting, sending and the whole answer.
    :param most_bytes: a report of several events is split rather than made larger than this.
    :raises ValueError: the URL or a credential cannot be used; the text names no secret.
    """

    def __init__(
        self,
        agent: IAgent,
        clock: IClock,
        url: str,
        *,
        token: str | None = None,
        user: str | None = None,
        password: str | None = None,
        signing_secret: str | None = None,
        timeout: float = 300.0,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        target = parse_url(url)
        if not (user or password):
            user, password = target.user, target.password
        #: What may stand in a log: no user info and no query.
        self.name = target.name
        self._clock = clock
        self._timeout = timeout
        self._most_bytes = most_bytes
        if signing_secret is not None:
            key_of(signing_secret)  # or the first report would find that it is none
        self._signing_secret = signing_secret
        self._headers = Headers({"Content-Type": ["application/json"], "User-Agent": [_USER_AGENT]})
        authorization = _authorization(token, user, password)
        said = (authorization or "").partition(" ")[2]
        self._secrets = tuple(each for each in (said, token, password, signing_secret) if each)
        if authorization:
            self._headers.setRawHeaders("Authorization", [authorization])
        # A policy without a single allowed domain keeps the jar empty.
        jar = IndexableCookieJar(DefaultCookiePolicy(allowed_domains=()))
        self._client = HTTPClient(_AsWritten(agent, target.url), jar, _Body)

    def __repr__(self) -> str:
        return f"<HttpSink {self.name}>"

    async def send(self, items: Sequence[ReportItem]) -> Taken:
        """:meth:`mailproxy.interfaces.IReportSink.send`; cancelling it ends the connection."""
        body = encode(items, self._most_bytes)
        started = self._clock.seconds()
        response, answer = await self._exchange(body, self._headers_for(items, body))
        _log.debug(
            "POST {url}: {items} items, {bytes} bytes, HTTP {status} after {seconds:.3f} s",
            url=self.name,
            items=len(items),
            bytes=len(body),
            status=response.code,
            seconds=self._clock.seconds() - started,
        )
        if not 200 <= response.code < 300:
            raise refused(response.code, self._asked(response))
        try:
            return read_answer(response.code, answer)
        except SinkUnavailable as error:
            raise type(error)(self._without_secrets(error.reason), self._asked(response)) from None

    def _headers_for(self, items: Sequence[ReportItem], body: bytes) -> Headers:
        headers = self._headers.copy()
        if self._signing_secret is not None:
            event_ids = (item.event_id for item in items)
            now = self._clock.now()
            signed = signature_headers(self._signing_secret, event_ids, now, body)
            for name, value in signed.items():
                headers.setRawHeaders(name, [value])
        return headers

    async def _exchange(self, body: bytes, headers: Headers) -> tuple[IResponse, bytes]:
        """The answer's head and, of a 2xx, its body; everything else is an error."""

        def late(_: object, timeout: float) -> None:
            raise ReportUnanswered(f"no answer within {timeout:.0f} s")

        try:
            call: Deferred[Any] = self._client.request(
                "POST",
                _SOMEWHERE,
                data=body,
                headers=headers,
                allow_redirects=False,
                unbuffered=True,
                reactor=self._clock,  # type: ignore[arg-type]  # or treq takes the global one
            )
            call.addCallback(_whole).addTimeout(self._timeout, self._clock, late)
            whole: tuple[IResponse, bytes] = await call
        except SinkUnavailable:
            raise
        except Exception as error:
            raise SinkUnavailable(self._without_secrets(_explain(error))) from error
        return whole

    def _asked(self, response: IResponse) -> float | None:
        values = response.headers.getRawHeaders("retry-after", [])
        return retry_after(values[0] if values else None, self._clock.now())

    def _without_secrets(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


def _authorization(token: str | None, user: str | None, password: str | None) -> str | None:
    """The header's value: bearer, else basic, else none."""
    for each in (token, user, password):
        if each and not each.isprintable():
            raise ValueError("a token, user or password with control characters")
    if token:
        return f"Bearer {token}"
    if not (user or password):
        return None
    if ":" in (user or ""):
        raise ValueError("a user with a colon")
    pair = f"{user or ''}:{password or ''}".encode()
    return f"Basic {b64encode(pair).decode('ascii')}"


def _whole(response: IResponse) -> Any:
    """Read the body of a 2xx; of other answers the status is enough, and the line is cut."""
    reader = _Reader(response, 200 <= response.code < 300)
    response.deliverBody(reader)
    return reader.done


class _Reader(Protocol):
    """
    Collects a body of bounded size.

    :ivar done: fires with ``(response, body)``; cancelling it aborts the connection.
    """

    def __init__(self, response: IResponse, wanted: bool) -> None:
        self.done: Deferred[tuple[IResponse, bytes]] = Deferred(lambda _: self._abort())
        self._response = response
        self._wanted = wanted
        self._parts: list[bytes] = []
        self._size = 0

    def connectionMade(self) -> None:
        if not self._wanted:
            self._finish(b"")

    def dataReceived(self, data: bytes) -> None:
        if self.done.called:
            return
        self._size += len(data)
        self._parts.append(data)
        if self._size > MOST_ANSWER:
            self._parts.clear()
            self.done.errback(SinkUnavailable(f"an answer of more than {MOST_ANSWER} bytes"))
            self._abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.done.called:
            return
        # Without a length, the end of the connection is the end of the body.
        if reason.check(ResponseDone, PotentialDataLoss):
            self.done.callback((self._response, b"".join(self._parts)))
        else:
            self.done.errback(SinkUnavailable("the connection broke within the answer"))

    def _finish(self, body: bytes) -> None:
        self.done.callback((self._response, body))
        self._abort()

    def _abort(self) -> None:
        transport = self.transport
        if transport is not None:
            getattr(transport, "abortConnection", transport.loseConnection)()


@implementer(IBodyProducer)
class _Body:
    """A body written at once; what is handed in per call is small."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.length = len(data)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        consumer.write(self._data)
        return succeed(None)

    def stopProducing(self) -> None:
        """Everything was written."""

    pauseProducing = resumeProducing = stopProducing


@implementer(IAgent)
class _AsWritten:
    """
    Requests the very URL that was configured, and takes answers as they are.

    treq writes URLs anew and refuses hosts that are not domain names. Compression is not asked
    for and not undone: a small answer can stand for a huge one.
    """

    def __init__(self, agent: IAgent, url: str) -> None:
        self._agent = agent
        self._url = url.encode("ascii")

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        if headers is not None:
            headers.removeHeader("accept-encoding")
        response = self._agent.request(method, self._url, headers, bodyProducer)
        return response.addCallback(self._as_is)

    def _as_is(self, response: IResponse) -> IResponse:
        response.headers.removeHeader("content-encoding")
        return response


def _explain(error: BaseException) -> str:
    """One line on why there was no answer."""
    while reasons := getattr(error, "reasons", None):
        error = reasons[0].value
    if isinstance(error, SSL.Error):
        words = [str(each[-1]) for each in error.args[0]] if error.args and error.args[0] else []
        return plain(f"TLS: {'; '.join(words) or 'the handshake failed'}")
    if isinstance(error, VerificationError):
        return "TLS: the certificate is for another host"
    text = str(error).strip()
    return plain(f"{type(error).__name__}: {text}" if text else type(error).__name__)
