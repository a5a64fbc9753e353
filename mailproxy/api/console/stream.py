"""
``/console/stream``: the figures as server-sent events, no faster than they are taken.

``steps`` has the steps of the last hour that the page does not know yet, ``now`` how it stands. An
event's id is the node and the number of the last step: whoever comes back with it, is told what is
new. A tenant's session is shown the tenant's figures.
"""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout

from mailproxy.api.answers import NOT_FOUND, Refused, unavailable
from mailproxy.api.call import Call
from mailproxy.api.console.figures import Figures, Sampler
from mailproxy.api.console.sessions import Session, Sessions
from mailproxy.api.console.tracks import STEP
from mailproxy.api.streaming import AnswerStream
from mailproxy.interfaces import IClock

#: Streams at the same time: of all sessions, and of one.
MOST, MOST_OF_ONE = 100, 8

#: Seconds after which something is sent though there is nothing to tell.
HEARTBEAT = 15.0

#: Milliseconds after which a page that lost its stream comes back.
_RETRY = 3000

FULL = unavailable("too many pages are open")

_FIELDS = (
    (b"Server", b"mailproxy"),
    (b"Content-Type", b"text/event-stream"),
    (b"Cache-Control", b"no-store"),
    (b"X-Content-Type-Options", b"nosniff"),
    (b"X-Accel-Buffering", b"no"),
)

_encode = msgspec.json.Encoder().encode


class Streams:
    """Gives each page its stream. :param node: tells this process from others and later ones."""

    def __init__(self, sampler: Sampler, sessions: Sessions, clock: IClock, node: str) -> None:
        self._sampler = sampler
        self._sessions = sessions
        self._clock = clock
        self._node = node
        self._open: list[Session] = []

    async def serve(self, call: Call, address: str) -> None:
        """:raises Refused: nobody is logged in; or too many streams are open."""
        session = self._sessions.find(call.request.requestHeaders)
        caller = self._sessions.judge(session, address)
        if not self._sampler.running:
            raise Refused(NOT_FOUND)
        if len(self._open) >= MOST or self._open.count(session) >= MOST_OF_ONE:
            raise Refused(FULL)
        for name, value in _FIELDS:
            call.request.setHeader(name, value)
        call.request.endless = True  # type: ignore[attr-defined]  # it is one of ours
        self._open.append(session)
        viewer = _Viewer(self._clock)
        unwatch = self._sampler.watch(caller.tenant_id, viewer.tell)
        stream = AnswerStream(call.request, self._clock)
        try:
            await stream.write(b"retry: %d\n\n" % _RETRY)
            viewer.tell(await self._sampler.now(caller.tenant_id))
            await self._go_on(stream, viewer, session, address, self._known(call))
        finally:
            unwatch()
            self._open.remove(session)
            stream.close()

    async def _go_on(
        self, stream: AnswerStream, viewer: _Viewer, session: Session, address: str, known: int
    ) -> None:
        """Tell what there is to tell until the session ends, or the page leaves."""
        while True:
            figures = await viewer.next()
            try:
                caller = self._sessions.judge(session, address)
            except Refused:
                await stream.write(b"event: ended\ndata: {}\n\n")
                return
            if figures is None:
                await stream.write(b": still here\n\n")
                continue
            told = b""
            if known < figures.number or known < 0:
                told = self._steps(caller.tenant_id, max(known, 0), figures)
                known = figures.number
            await stream.write(told + b"event: now\ndata: %s\n\n" % _encode(_shown(figures)))

    def _known(self, call: Call) -> int:
        """The last step that the page knows; -1: none."""
        text = call.request.getHeader("last-event-id") or call.query("after") or ""
        node, _, number = text.partition("-")
        if node != self._node or not (number.isascii() and number.isdigit() and len(number) < 10):
            return -1
        return min(int(number), self._sampler.tracks.last)

    def _steps(self, of: str | None, known: int, figures: Figures) -> bytes:
        track = self._sampler.tracks.follow(of)
        data = {
            "at": figures.at,
            "step": STEP,
            "id": f"{self._node}-{figures.number}",
            **track.after(known, figures.number),
        }
        id = data["id"]
        return b"id: %s\nevent: steps\ndata: %s\n\n" % (str(id).encode(), _encode(data))


class _Viewer:
    """Keeps the newest figures until they are taken."""

    def __init__(self, clock: IClock) -> None:
        self._clock = clock
        self._newest: Figures | None = None
        self._waiting: Deferred[None] | None = None

    def tell(self, figures: Figures) -> None:
        self._newest = figures
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    async def next(self) -> Figures | None:
        """The newest figures, once there are newer ones; None: there were none for a while."""
        if self._newest is None:
            self._waiting = Deferred()
            try:
                await self._waiting.addTimeout(HEARTBEAT, self._clock)
            except DeferredTimeout:
                self._waiting = None
            except CancelledError:
                self._waiting = None
                raise
        newest, self._newest = self._newest, None
        return newest


def _shown(figures: Figures) -> dict[str, Any]:
    minute, window = figures.minute, figures.window
    ended = window.sent + window.failed
    return {
        "at": figures.at,
        "queue": figures.queue,
        "oldest_due": figures.oldest_due,
        "accepted": minute.accepted,
        "sent": minute.sent,
        "deferred": minute.deferred,
        "failed": minute.failed,
        "error_rate": window.failed / ended if ended else None,
        "ended": ended,
        "draining": figures.draining,
        "pulse": figures.pulse,
    }
