"""
An SMTP server of the simulated world: it behaves as its seed says, and keeps account of everything.
"""

from __future__ import annotations

import random
import re
from typing import Any

import attrs
from twisted.internet.address import IPv4Address
from twisted.python.failure import Failure

from tests.simulation.network import End
from tests.simulation.timeline import Owner, Timeline

_ID = re.compile(rb"^X-Genro-Mail-ID: (.*)\r\n", re.MULTILINE)
_TEXT = re.compile(rb"version ([0-9]+) of ([^ ]+) of ([^ \r\n]+)")

#: How the names of messages begin that leave their id to the service.
UNNAMED = b"u"


@attrs.frozen
class Copy:
    """
    One message a server has accepted for one recipient.

    :param id: as its header says; *version* as its text does; *text*: all of it.
    """

    at: float
    server: str
    tenant: str
    id: str
    version: int
    address: str
    text: bytes = attrs.field(repr=False)


@attrs.frozen
class Begun:
    """A body of which at least the headers came. :param at: when its first byte was written."""

    at: float
    tenant: str
    id: str
    version: int


@attrs.define
class Temper:
    """
    How a server behaves: the part of all cases, 0 to 1, in which it does something else.

    :param slow: seconds it may take for an answer.
    """

    busy: float = 0.0  # 421 as a greeting
    no_login: float = 0.0
    later: float = 0.0  # 4xx, at any stage
    never: float = 0.0  # 5xx, at any stage
    bye: float = 0.0  # 421 within a transaction
    quiet: float = 0.0  # no answer, for ever
    drop: float = 0.0  # the connection ends instead of an answer
    kept: float = 0.0  # the message is kept, its answer lost
    slow: float = 0.02
    pipelining: bool = True


CALM = Temper()


class Upstream:
    """
    The server of one account, listening on a port of its own.

    :ivar copies: what was accepted; *begun*: bodies that began to come.
    :ivar said: replies to recipients and final dots, by (tenant, id).
    """

    noisy = False

    def __init__(
        self, line: Timeline, name: str, rng: random.Random, temper: Temper, login: bool
    ) -> None:
        self.line = line
        self.name = name
        self.owner = Owner(name)
        self.rng = rng
        self.temper = temper
        self.login = login
        self.copies: list[Copy] = []
        self.begun: list[Begun] = []

    def doStart(self) -> None: ...

    def doStop(self) -> None: ...

    def buildProtocol(self, address: IPv4Address) -> Conversation:
        return Conversation(self)

    def happens(self, part: float) -> bool:
        return part > 0 and self.rng.random() < part

    def trouble(self) -> bytes | None:
        """A refusal, if this time it is one."""
        temper = self.temper
        if self.happens(temper.later):
            return self.rng.choice(
                (b"451 4.3.0 try later", b"450 4.2.0 greylisted", b"452 4.5.3 too many")
            )
        if self.happens(temper.never):
            return self.rng.choice((b"550 5.1.1 no such user", b"554 5.7.1 no"))
        return None


class Conversation:
    """One connection, as the server sees it."""

    def __init__(self, house: Upstream) -> None:
        self._house = house
        self._pending = b""
        self._in_body = False
        self._body_at = 0.0
        self._told = False
        self._rcpts: list[str] = []
        self._mail = False
        self._closing = False
        self._next = 0.0
        self._login = 0

    def makeConnection(self, transport: End) -> None:
        self.transport = transport
        house = self._house
        if house.happens(house.temper.busy):
            self._say(b"421 4.7.0 too busy", close=True)
        else:
            self._reply(b"220 up.sim ESMTP")

    def connectionLost(self, reason: Failure) -> None:
        self._closing = True

    # -- talking ----------------------------------------------------------------------------

    def _say(self, text: bytes, *, close: bool = False) -> None:
        """Answer after a while, in order."""
        house = self._house
        line = house.line
        when = max(self._next, line.now + house.rng.uniform(0.0, house.temper.slow))
        self._next = when
        self._closing = self._closing or close
        line.later(house.owner, when - line.now, self._write, text, close)

    def _write(self, text: bytes, close: bool) -> None:
        self.transport.write(text + b"\r\n")
        if close:
            self.transport.loseConnection()

    def _reply(self, text: bytes) -> bool:
        """Answer with *text*, unless it ends otherwise. :return: whether it did answer so."""
        house = self._house
        temper = house.temper
        if house.happens(temper.bye):
            self._say(b"421 4.3.2 going down", close=True)
        elif house.happens(temper.drop):
            self._closing = True
            self.transport.abortConnection()
        elif house.happens(temper.quiet):
            self._closing = True
        else:
            self._say(text)
            return True
        return False

    # -- listening --------------------------------------------------------------------------

    def heard(self, data: bytes, sent_at: float) -> None:
        """Bytes came that were written at *sent_at*."""
        self._pending += data
        while not self._closing and self._pending:
            if self._in_body:
                if not self._read_body(sent_at):
                    return
                continue
            command, found, rest = self._pending.partition(b"\r\n")
            if not found:
                return
            self._pending = rest
            self._body_at = -1.0
            self._obey(command)

    def _read_body(self, sent_at: float) -> bool:
        """Take what there is of a body. :return: whether it ended."""
        if self._body_at < 0:
            self._body_at = sent_at
        if not self._told and b"version " in self._pending:
            self._tell_begun()
        end = self._pending.find(b"\r\n.\r\n")
        if end < 0:
            return False
        body, self._pending = self._pending[: end + 2], self._pending[end + 5 :]
        if not self._told:
            self._pending, rest = body, self._pending
            self._tell_begun()
            self._pending = rest
        self._in_body = False
        self._accept(body)
        return True

    def _tell_begun(self) -> None:
        found = _TEXT.search(self._pending)
        if found is None:
            return
        self._told = True
        version, name, tenant = found.groups()
        said = _ID.search(self._pending)
        name = name if said is None else said[1]
        house = self._house
        begun = Begun(self._body_at, tenant.decode(), name.decode(), int(version))
        house.begun.append(begun)
        house.line.note(f"{house.name} body of {begun.tenant}/{begun.id} v{begun.version}")

    def _obey(self, command: bytes) -> None:
        verb = command[:4].upper()
        house = self._house
        if self._login:
            self._login = 0
            self._authenticate()
        elif verb == b"EHLO":
            offers = [b"up.sim"]
            offers += [b"PIPELINING"] if house.temper.pipelining else []
            offers += [b"AUTH PLAIN LOGIN"] if house.login else []
            offers += [b"8BITMIME"]
            said = [b"250-" + each for each in offers[:-1]] + [b"250 " + offers[-1]]
            self._reply(b"\r\n".join(said))
        elif verb == b"AUTH":
            if len(command.split()) < 3:
                self._login = 1
                self._say(b"334 ")
            else:
                self._authenticate()
        elif verb == b"MAIL":
            self._rcpts = []
            trouble = house.trouble()
            self._mail = self._reply(trouble or b"250 2.1.0 Ok") and trouble is None
        elif verb == b"RCPT":
            self._rcpt(command)
        elif verb == b"DATA":
            trouble = house.trouble() if self._rcpts else b"503 5.5.1 no recipients"
            answered = self._reply(trouble or b"354 go on")
            self._in_body, self._told = answered and trouble is None, False
        elif verb == b"RSET":
            self._rcpts = []
            self._reply(b"250 2.0.0 Ok")
        elif verb == b"QUIT":
            self._say(b"221 2.0.0 Bye", close=True)
        else:
            self._say(b"502 5.5.2 what?")

    def _authenticate(self) -> None:
        house = self._house
        if house.happens(house.temper.no_login):
            self._reply(b"535 5.7.8 no")
        else:
            self._reply(b"235 2.7.0 welcome")

    def _rcpt(self, command: bytes) -> None:
        address = command.partition(b"<")[2].partition(b">")[0].decode()
        trouble = self._house.trouble() if self._mail else b"503 5.5.1 no sender"
        if self._reply(trouble or b"250 2.1.5 Ok") and trouble is None:
            self._rcpts.append(address)

    def _accept(self, body: bytes) -> None:
        """The final dot came: the message is kept, or not, and that is told, or not."""
        house = self._house
        trouble = house.trouble()
        if trouble is not None:
            self._reply(trouble)
        elif house.happens(house.temper.kept):
            self._keep(body)
            self._closing = True
            if house.rng.random() < 0.5:
                self.transport.abortConnection()
        elif self._reply(b"250 2.0.0 Ok: queued"):
            self._keep(body)
        self._rcpts, self._mail = [], False

    def _keep(self, body: bytes) -> None:
        house = self._house
        text, name = _TEXT.search(body), _ID.search(body)
        assert text is not None, body
        assert name is not None, body
        unnamed = text[2].startswith(UNNAMED)
        assert unnamed or text[2] == name[1], "the id in the header is another"
        for address in self._rcpts:
            copy = Copy(
                house.line.now,
                house.name,
                text[3].decode(),
                name[1].decode(),
                int(text[1]),
                address,
                body.replace(b"\r\n..", b"\r\n."),
            )
            house.copies.append(copy)
            house.line.note(f"{house.name} keeps {copy.tenant}/{copy.id} for {address}")


def gauge(rng: random.Random, harm: float) -> Any:
    """A :class:`Temper` for a world with as much *harm* (0 to 1) in it."""

    def part(most: float) -> float:
        return rng.uniform(0.0, most * harm) if rng.random() < 0.5 else 0.0

    return Temper(
        busy=part(0.4),
        no_login=part(0.2),
        later=part(0.25),
        never=part(0.15),
        bye=part(0.15),
        quiet=part(0.06),
        drop=part(0.15),
        kept=part(0.3),
        slow=rng.choice((0.002, 0.02, 0.5, 4.0)),
        pipelining=rng.random() < 0.8,
    )
