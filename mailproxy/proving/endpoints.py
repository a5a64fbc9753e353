"""
The sink's HTTP endpoints as a scenario wants them: reports, attachments and tokens that are
answered late, wrongly, in part, endlessly, or not at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from random import Random
from typing import Any

import msgspec
from twisted.internet.interfaces import IDelayedCall, IPushProducer
from twisted.python.failure import Failure
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

from mailproxy.interfaces import IClock
from mailproxy.proving.acts import HttpAct
from mailproxy.proving.house import House
from mailproxy.proving.http import Front
from mailproxy.proving.receiver import NotAReport, Receiver
from mailproxy.proving.rules import Moment, Rule, Rules

#: Octets written at a time; seconds between two drops; seconds until silence ends.
CHUNK, PULSE, HOLD = 1 << 16, 0.05, 60.0

#: The endpoints, by the table of the scenario that is about them.
KINDS = ("report", "attachment", "token")


class ScriptedFront(Front):
    """
    Answers as the rules say, and where none applies, as ever.

    :param rules: by each of :data:`KINDS`.
    :param seed: of the dice.
    """

    def __init__(
        self,
        house: House,
        receiver: Receiver,
        certificate: str,
        rules: Mapping[str, Sequence[Rule[HttpAct]]],
        seed: int,
    ) -> None:
        super().__init__(house, receiver, certificate)
        self._clock = house.clock
        self._rules = {kind: Rules(rules[kind], house.clock.seconds) for kind in KINDS}
        self._seed = seed
        self._calls: Counter[str] = Counter()
        self._answers: set[Answering] = set()

    def report(self, request: Any, body: bytes) -> Any:
        act = self._find("report", request, body)
        if act is None:
            answer = super().report(request, body)
            self._receiver.answered[str(request.code)] += 1
            return answer
        if keeps(act):
            # If it is no report, it is answered as the rule says all the same.
            with suppress(NotAReport, OSError):
                self._receiver.take(request.path.decode("utf-8", "replace"), body)
        self._receiver.answered[_told(act)] += 1
        return self._play(request, act, lambda: b'{"ok":true}\n')

    def attachment(self, request: Any, name: str) -> Any:
        act = self._find("attachment", request, b"", name)
        if act is None:
            return super().attachment(request, name)
        self.note_fetch(request, name, _told(act))
        return self._play(request, act, lambda: self.file(name))

    def token(self, request: Any) -> Any:
        act = self._find("token", request, request.content.getvalue())
        if act is None:
            return super().token(request)
        request.setHeader("content-type", "application/json")
        return self._play(request, act, self.new_token)

    def close_all(self) -> None:
        """Break off every answer that is still to come."""
        for answering in list(self._answers):
            answering.break_off()

    def _find(self, kind: str, request: Any, body: bytes, name: str = "") -> HttpAct | None:
        self._calls[kind] += 1
        number = self._calls[kind]
        path = request.path.decode("utf-8", "replace")
        items = _items(body) if kind == "report" else []
        return self._rules[kind].find(
            Moment(
                kind,
                (path, name),
                {
                    "path": (path, name) if name else (path,),
                    "method": (request.method.decode("ascii", "replace"),),
                    "token": (request.getHeader("authorization") or "",),
                    "id": [str(item.get("id")) for item in items],
                },
                {"call": number, "items": len(items)},
                Random(f"{self._seed}/{kind}/{number}").random,
            )
        )

    def _play(self, request: Any, act: HttpAct, ordinary: Callable[[], bytes]) -> int:
        body = ordinary() if act.status is None else (act.body or b"")
        request.setResponseCode(act.status or 200)
        for name, value in act.headers:
            request.setHeader(name, value)
        answering = Answering(request, act, body, self._clock, self._answers.discard)
        self._answers.add(answering)
        answering.start()
        return NOT_DONE_YET


@implementer(IPushProducer)
class Answering:
    """
    One answer on its way.

    :param body: what it says, before it is made as long as *act* wants.
    :param over: is called with this when there is nothing more to do.
    """

    def __init__(
        self,
        request: Any,
        act: HttpAct,
        body: bytes,
        clock: IClock,
        over: Callable[[Answering], None],
    ) -> None:
        self._request = request
        self._act = act
        self._body = body
        self._total = max(len(body), act.size)
        self._sent = 0
        self._clock = clock
        self._over = over
        self._timer: IDelayedCall | None = None
        self._paused = self._ended = False
        request.notifyFinish().addBoth(self._finished)

    def start(self) -> None:
        """Answer, now or later."""
        if self._act.delay:
            self._later(self._act.delay, self._begin)
        else:
            self._begin()

    def _begin(self) -> None:
        act, request = self._act, self._request
        if act.then and act.at_byte is None:
            self._then()
            return
        length = self._total if act.length is None else act.length
        if request.code not in (204, 304):
            request.setHeader("content-length", str(length))
        request.write(b"")  # the head
        if act.drip:
            self._drop()
        else:
            request.registerProducer(self, True)
            self._pump()

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        if self._timer is None or not self._timer.active():
            self._later(0.0, self._pump)

    def stopProducing(self) -> None:
        self._paused = True

    def _pump(self) -> None:
        """Write the next piece, unless the client has to catch up first."""
        if self._paused or self._ended:
            return
        self._write(CHUNK)
        if self._sent < self._end:
            self._later(0.0, self._pump)
            return
        self._ended = True
        self._request.unregisterProducer()
        self._said()

    def _drop(self) -> None:
        octets = max(1, int(self._act.drip * PULSE))
        self._write(octets)
        if self._sent >= self._end:
            self._said()
        else:
            self._later(octets / self._act.drip, self._drop)

    @property
    def _end(self) -> int:
        """Octets of the body after which there are no more."""
        return self._total if self._act.at_byte is None else min(self._total, self._act.at_byte)

    def _write(self, octets: int) -> None:
        octets = min(octets, self._end - self._sent)
        if octets <= 0:
            return
        body = self._body or b"x"
        start = self._sent % len(body)
        piece = (body * (octets // len(body) + 2))[start : start + octets]
        self._sent += octets
        self._request.write(piece)

    def _said(self) -> None:
        declared = self._total if self._act.length is None else self._act.length
        if self._act.then:
            self._then()
        elif self._sent != declared:
            self._request.channel.loseConnection()
        else:
            self._request.finish()

    def _then(self) -> None:
        transport = self._request.channel.transport
        if self._act.then == "close":
            transport.loseConnection()
        elif self._act.then == "reset":
            transport.abortConnection()
        else:
            self._request.channel.setTimeout(None)
            self._later(HOLD, transport.loseConnection)

    def break_off(self) -> None:
        """End it here and now."""
        self._request.channel.transport.abortConnection()

    def _later(self, seconds: float, function: Callable[[], None]) -> None:
        self._timer = self._clock.callLater(seconds, function)

    def _finished(self, result: Failure | None) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._ended = True
        self._over(self)


def keeps(act: HttpAct) -> bool:
    """Whether a report that is answered like this counts as taken."""
    if act.keep is not None:
        return act.keep
    if act.then and act.at_byte is None:
        return False
    if act.status is None:
        return True
    return 200 <= act.status < 300 and _says_yes(act.body or b"")


def _says_yes(body: bytes) -> bool:
    try:
        said = msgspec.json.decode(body) if body.strip() else {}
    except msgspec.DecodeError:
        return False
    return isinstance(said, dict) and not said.get("error")


def _told(act: HttpAct) -> str:
    """What is noted of an answer: its status, or how there was none."""
    if act.then and act.at_byte is None:
        return act.then
    return str(act.status or 200)


def _items(body: bytes) -> list[dict[str, Any]]:
    try:
        found = msgspec.json.decode(body).get("delivery_report", [])
    except (msgspec.DecodeError, AttributeError):
        return []
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
