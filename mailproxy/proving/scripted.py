"""
The sink's SMTP server as a scenario wants it: it behaves, except where a rule says otherwise.

Each command is a moment at which the rules are asked. An act replaces or colours the reply to that
command: where it comes late, in drops, or not at all, the commands behind it wait, as everywhere.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import attrs
from twisted.internet.interfaces import IAddress, IDelayedCall
from twisted.internet.protocol import ServerFactory, connectionDone
from twisted.mail.smtp import AUTH, DATA
from twisted.python.failure import Failure

from mailproxy.errors import BadCommand
from mailproxy.login_exchange import Exchange
from mailproxy.proving.acts import Act
from mailproxy.proving.answers import Answer
from mailproxy.proving.bearer import BEARERS, Bearer
from mailproxy.proving.envelope import parse_rcpt
from mailproxy.proving.house import House
from mailproxy.proving.rules import Moment, Rules
from mailproxy.proving.smtp import SinkProtocol

#: Seconds that a reply has to leave before the connection is reset behind it.
FLIGHT = 0.02

#: Seconds between two pieces of a body that is read slowly, or two drops of a reply, at least.
PULSE = 0.05

#: Octets that the system takes in for a connection that is narrow.
NARROW = 16384

_NOBODY = Answer(b"554 5.5.1 No valid recipients")

_STAGES = {
    b"EHLO": "ehlo",
    b"HELO": "helo",
    b"STARTTLS": "starttls",
    b"MAIL": "mail",
    b"RCPT": "rcpt",
    b"DATA": "data",
    b"RSET": "rset",
    b"NOOP": "noop",
    b"VRFY": "vrfy",
    b"QUIT": "quit",
}

_Then = Callable[[], None]


@attrs.define
class Play:
    """
    What the connections of a scripted sink share besides their house.

    :param seed: of the dice.
    :param mechanisms: of AUTH; empty: what the sink has.
    :param contexts: make the server side of TLS, by the name of the certificate.
    :param narrow: whether the system takes in little that was not read yet, so that a client
        notices where the reading stops.
    """

    rules: Rules[Act]
    seed: int = 0
    mechanisms: tuple[bytes, ...] = ()
    contexts: Mapping[str, Any] = attrs.field(factory=dict)
    narrow: bool = False


class ScriptedProtocol(SinkProtocol):
    """
    One connection to the sink.

    :param house: the sink it belongs to.
    :param play: what it plays.
    """

    def __init__(self, house: House, play: Play) -> None:
        super().__init__(house)
        self._play = play
        self._act: Act | None = None
        self._in_body: Act | None = None
        self._read = 0
        self._breaks: int | None = None
        self._transactions = 0
        self._timers: set[IDelayedCall] = set()
        self._lingering: IDelayedCall | None = None

    # -- the moment and its act --------------------------------------------------------------

    def connectionMade(self) -> None:
        handle = self.transport.getHandle() if hasattr(self.transport, "getHandle") else None
        if self._play.narrow and isinstance(handle, socket.socket):
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW)
        super().connectionMade()

    def greeting(self) -> bytes:
        self._dice = Random(f"{self._play.seed}/{self._number}")
        self._act = self._find("connect", self._peer)
        return super().greeting()

    def command(self, line: bytes) -> None:
        if self._lingering is not None and self._lingering.active():
            self._lingering.cancel()
        verb, _, rest = line.strip().partition(b" ")
        stage = _STAGES.get(verb.upper())
        if self.mode is AUTH or stage is None:
            self._act = None
            super().command(line)
            return
        act = self._act = self._at(stage, rest.strip())
        if act is None or act.takes_effect:
            super().command(line)
            return
        self._act = None
        if stage == "data":
            self._forget()
        self._perform(act, act.lines or b"")

    def _at(self, stage: str, rest: bytes) -> Act | None:
        if stage == "mail":
            self._transactions += self._sender is None
            return self._find(stage, _path(rest), sender=(_path(rest),))
        if stage == "rcpt" and self._sender is not None:
            try:
                recipient = parse_rcpt(rest, self._sender.utf8)
            except BadCommand:
                return None
            return self._find(stage, self._sender.address, recipient, recipient=(recipient,))
        if stage == "data":
            return self._find(stage, *self._recipients)
        return self._find(stage)

    def _find(self, at: str, *subject: str, **words: tuple[str, ...]) -> Act | None:
        sender = self._sender
        plain = {
            "peer": (self._peer,),
            "tls": (str(bool(self.startedTLS)).lower(),),
            "sender": () if sender is None else (sender.address,),
            "recipient": tuple(self._recipients),
        }
        numbers = {
            "connection": self._number,
            "open": self._house.counts.open,
            "message": self._transactions,
        }
        return self._play.rules.find(Moment(at, subject, plain | words, numbers, self._dice.random))

    # -- commands that an act changes ----------------------------------------------------------

    def extensions(self) -> dict[bytes, list[bytes] | None]:
        offered = super().extensions()
        act = self._act or Act()
        for line in act.offer:
            name, *words = line.split(b" ")
            offered[name.upper()] = words or None
        return {name: has for name, has in offered.items() if name not in act.without}

    def do_RCPT(self, rest: bytes) -> None:
        act, sender = self._act, self._sender
        if act is None or act.lines is None or sender is None:
            super().do_RCPT(rest)
            return
        self._recipients.append(parse_rcpt(rest, sender.utf8))
        self.reply(act.lines)

    def do_DATA(self, rest: bytes) -> None:
        if self._act is None or self._act.lines is None:
            super().do_DATA(rest)
        else:  # also where no recipient was accepted
            lines = self._act.lines
            self._begin()
            self.reply(lines)

    def do_QUIT(self, rest: bytes) -> None:
        act, self._act = self._act or Act(), None
        lines = b"221 2.0.0 Bye\r\n" if act.lines is None else act.lines
        self._perform(act if act.then else attrs.evolve(act, then="close"), lines)

    def ext_STARTTLS(self, rest: bytes) -> None:
        act, self._act = self._act or Act(), None
        if not self._may_start_tls(rest):
            return
        if act.certificate:
            self.ctx = self._play.contexts[act.certificate]
        lines = b"220 2.0.0 Go ahead\r\n" if act.lines is None else act.lines
        self._perform(act, lines, self._start_tls)

    def _mechanisms(self) -> tuple[bytes, ...]:
        return self._play.mechanisms or super()._mechanisms()

    def _exchange_by(self, mechanism: bytes) -> Exchange:
        name = mechanism.upper()
        if name not in self._mechanisms():
            raise BadCommand(504, b"5.5.4 Unknown mechanism")
        return Bearer() if name in BEARERS else super()._exchange_by(name)

    def _log_in(self) -> None:
        user, secret = self._exchange.said()
        act = self._act = self._find("auth", user, login=(f"{user}:{secret}",))
        if act is not None and not act.takes_effect:
            self.reply(act.lines or b"")
        elif (act is not None and act.lines is not None) or self._terms.user is None:
            self._welcome(user)
        else:
            super()._log_in()

    # -- the body ------------------------------------------------------------------------------

    def _begin(self) -> None:
        super()._begin()
        act = self._in_body = self._find("body", *self._recipients)
        self._read, self._breaks = 0, None
        if act is not None:
            self._breaks = act.begins(self._sender.size if self._sender is not None else 0)

    def take_data(self, held: bytearray) -> None:
        act = self._in_body
        if act is None:
            super().take_data(held)
            return
        room = len(held) if self._breaks is None else min(len(held), self._breaks - self._read)
        if act.read_rate:
            room = min(room, max(1, int(act.read_rate * PULSE)))
        if room:
            self._read += room
            piece = held[:room]
            del held[:room]
            super().take_data(piece)
            held[:0] = piece  # what came behind the message
            if self.mode is not DATA:
                self._in_body = None
                return
        self._after_piece(act, room)

    def _after_piece(self, act: Act, octets: int) -> None:
        if self._breaks is not None and self._read >= self._breaks:
            self._breaks = None
            self.busy()
            if act.then:
                self._perform(act, b"")
            else:
                self._stall(act.stall)
        elif act.read_rate:
            self._stall(octets / act.read_rate)

    def _stall(self, seconds: float) -> None:
        """Read nothing for that long."""
        self.busy()
        self.transport.pauseProducing()
        self._later(seconds, self._read_on)

    def _read_on(self) -> None:
        self.transport.resumeProducing()
        self.resume()
        self.dataReceived(b"")

    def _ending(self, mail_id: str) -> Answer:
        act = self._act = self._find("end", mail_id, id=(mail_id,))
        if act is not None and (act.lines is not None or not act.takes_effect):
            return Answer((act.lines or b"").removesuffix(b"\r\n"), keep=act.keeps)
        if not self._recipients:
            return _NOBODY
        answer = super()._ending(mail_id)
        if act is None or act.keep is None:
            return answer
        return attrs.evolve(answer, keep=act.keep)

    # -- the reply -----------------------------------------------------------------------------

    def _give(self, answer: Answer) -> None:
        act = self._act
        if act is None or (act.lines is None and act.takes_effect and not answer.reply):
            self._act = None
            super()._give(answer)
        else:
            self.reply(answer.reply + b"\r\n" if answer.reply else b"")

    def reply(self, lines: bytes) -> None:
        act, self._act = self._act, None
        if act is None:
            super().reply(lines)
        else:
            self._perform(act, lines if act.lines is None else act.lines)

    def _perform(self, act: Act, lines: bytes, after: _Then | None = None) -> None:
        """
        Do what *act* says, with the reply *lines*, now or later.

        :param after: what follows the reply, unless *act* has something else follow.
        """
        if act.delay:
            self._later(act.delay, self._say, act, lines, after)
        else:
            self._say(act, lines, after)

    def _say(self, act: Act, lines: bytes, after: _Then | None) -> None:
        if lines[:1] in (b"4", b"5") and lines[:3].isdigit():
            self._house.counts.refuse(int(lines[:3]))
        self.flush()
        if act.drip and lines:
            self._drop(act, lines, after)
        else:
            self.transport.write(lines)
            self._said(act, bool(lines), after)

    def _drop(self, act: Act, lines: bytes, after: _Then | None) -> None:
        """Send the next drop of *lines*, and so on."""
        octets = max(1, int(act.drip * PULSE))
        self.transport.write(lines[:octets])
        if octets < len(lines):
            self._later(octets / act.drip, self._drop, act, lines[octets:], after)
        else:
            self._said(act, True, after)

    def _said(self, act: Act, something: bool, after: _Then | None) -> None:
        if act.then and not act.linger:
            self._then(act, something)
            return
        if act.then:
            self._lingering = self._later(act.linger, self._then, act, something)
        super().reply(b"")
        if after is not None:
            after()

    def _then(self, act: Act, something: bool) -> None:
        """Close, reset, or say no more."""
        self._house.counts.unanswered += not something
        if act.then == "close":
            self.close()
        elif act.then == "reset":
            self._later(FLIGHT if something else 0.0, self._reset)
        else:
            self.busy()
            self.setTimeout(None)
            self._house.unanswered.add(self)
            self._later(self._terms.hold if act.hold is None else act.hold, self.close)

    def _reset(self) -> None:
        self.over = True
        self.transport.abortConnection()

    # -- time ----------------------------------------------------------------------------------

    def _later(self, seconds: float, function: Callable[..., None], *args: Any) -> IDelayedCall:
        call = self._house.clock.callLater(seconds, function, *args)
        self._timers = {each for each in self._timers if each.active()} | {call}
        return call

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        for each in self._timers:
            if each.active():
                each.cancel()
        super().connectionLost(reason)


class ScriptedFactory(ServerFactory):
    """Makes the connections of one scripted sink."""

    noisy = False

    def __init__(self, house: House, play: Play) -> None:
        self.house = house
        self.play = play

    def buildProtocol(self, addr: IAddress | None) -> ScriptedProtocol:
        return ScriptedProtocol(self.house, self.play)


def _path(argument: bytes) -> str:
    """The address in angle brackets, as it came."""
    return argument.partition(b"<")[2].partition(b">")[0].decode("utf-8", "replace")
