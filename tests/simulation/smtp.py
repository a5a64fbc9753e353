"""SMTP as the programs of the simulated world speak it that hand mail in."""

from __future__ import annotations

import base64
import random
from collections.abc import Sequence
from typing import Any

import attrs
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tests.simulation.network import End, Network
from tests.simulation.timeline import Owner, Timer


@attrs.frozen
class Answer:
    """What a server said. :param text: its last line, behind the code."""

    code: int
    text: str


class Gone(Exception):
    """The connection ended, or nothing came for too long."""


@attrs.frozen
class Login:
    """:param plain: by AUTH PLAIN, else by AUTH LOGIN."""

    user: str
    password: str
    plain: bool


@attrs.define
class Letter:
    """
    One message to hand in.

    :param data: of the message, without any dots added.
    :param written: how often all of it was written, and might have been taken.
    """

    sender: str
    recipients: Sequence[str]
    data: bytes
    written: int = 0


@attrs.frozen
class Habits:
    """
    How a program uses a connection.

    :param pipelining: several commands at once; *chunks*: BDAT rather than DATA.
    :param leaves: does not wait for the answer to its last message.
    :param rude: never says QUIT.
    """

    pipelining: bool = False
    chunks: bool = False
    leaves: bool = False
    rude: bool = False


class Session:
    """One connection, on which letters are handed in one after the other."""

    noisy = False

    def __init__(self, net: Network, owner: Owner, port: int, patience: float) -> None:
        self._net = net
        self._owner = owner
        self._port = port
        self._patience = patience
        self._heard = b""
        self._over = False
        self._waiting: Deferred[None] | None = None
        self._timer: Timer | None = None
        self.transport: End | None = None

    async def hand_in(
        self, letters: Sequence[Letter], login: Login | None, habits: Habits
    ) -> list[Answer | None]:
        """
        What each letter came to. None: nobody knows, or, if it was not written, nothing.

        Shorter than *letters* where the server would not go on.
        """
        answers: list[Answer | None] = []
        self._net.connect(self._owner, "10.0.0.1", self._port, self, 5.0)
        try:
            if not await self._opened(login):
                return answers
            for letter in letters:
                answers.append(None)
                leaves = habits.leaves and letter is letters[-1]
                answers[-1] = await self._one(letter, habits, leaves)
                if answers[-1] is not None and answers[-1].code == 421:
                    break
            if not habits.rude and not habits.leaves:
                await self._ask(b"QUIT")
        except Gone:
            pass
        finally:
            if self.transport is not None:
                self.transport.abortConnection()
        return answers

    async def _opened(self, login: Login | None) -> bool:
        if (await self._answer()).code != 220 or (await self._ask(b"EHLO old.sim")).code != 250:
            return False
        if login is None:
            return True
        user, password = login.user.encode(), login.password.encode()
        if login.plain:
            said = base64.b64encode(b"\0" + user + b"\0" + password)
            return (await self._ask(b"AUTH PLAIN " + said)).code == 235
        if (await self._ask(b"AUTH LOGIN")).code != 334:
            return False
        if (await self._ask(base64.b64encode(user))).code != 334:
            return False
        return (await self._ask(base64.b64encode(password))).code == 235

    async def _one(self, letter: Letter, habits: Habits, leaves: bool) -> Answer:
        """Hand one in. :return: the answer that decided it."""
        envelope = [
            b"MAIL FROM:<%b>" % letter.sender.encode(),
            *(b"RCPT TO:<%b>" % each.encode() for each in letter.recipients),
        ]
        if not habits.chunks:
            envelope.append(b"DATA")
        if habits.pipelining:
            self._write(b"".join(each + b"\r\n" for each in envelope))
        refused: Answer | None = None
        for command in envelope:
            answer = await (self._answer() if habits.pipelining else self._ask(command))
            if answer.code not in (250, 354):
                refused = refused or answer
                if not habits.pipelining or answer.code == 421:
                    break
        if refused is not None:
            if refused.code != 421:
                await self._ask(b"RSET")
            return refused
        letter.written += 1
        if habits.chunks:
            self._write(b"BDAT %d LAST\r\n" % len(letter.data) + letter.data)
        else:
            lines = letter.data.replace(b"\r\n.", b"\r\n..")
            self._write(lines + b".\r\n")
        if leaves:
            raise Gone
        return await self._answer()

    # -- lines ------------------------------------------------------------------------------

    def _write(self, data: bytes) -> None:
        if self._over or self.transport is None:
            raise Gone
        self.transport.write(data)

    async def _ask(self, command: bytes) -> Answer:
        self._write(command + b"\r\n")
        return await self._answer()

    async def _answer(self) -> Answer:
        """The next answer. :raises Gone: there will be none."""
        while True:
            line, found, rest = self._heard.partition(b"\r\n")
            if found:
                self._heard = rest
                if line[3:4] != b"-":
                    return Answer(int(line[:3]), line[4:].decode())
            elif self._over:
                raise Gone
            else:
                await self._more()

    async def _more(self) -> None:
        self._waiting = Deferred()
        self._timer = self._net.line.later(self._owner, self._patience, self._end)
        await self._waiting

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            if self._timer is not None and self._timer.active():
                self._timer.cancel()
            waiting.callback(None)

    def _end(self) -> None:
        self._over = True
        self._wake()

    # -- a factory for one connection, and its protocol ---------------------------------------

    def doStart(self) -> None: ...

    def doStop(self) -> None: ...

    def startedConnecting(self, connector: object) -> None: ...

    def clientConnectionFailed(self, connector: object, reason: Failure) -> None:
        self._end()

    def buildProtocol(self, address: IPv4Address) -> Session | None:
        return None if self._over else self

    def makeConnection(self, transport: End) -> None:
        self.transport = transport

    def dataReceived(self, data: bytes) -> None:
        self._heard += data
        self._wake()

    def connectionLost(self, reason: Failure) -> None:
        self._end()


def letter(
    rng: random.Random, name: str, version: int, tenant: str, recipients: list[str], given: bool
) -> Letter:
    """
    A message of a program.

    :param given: whether the program gives the message its id, *name*.
    """
    sender = f"app@{tenant}.sim"
    fields: list[tuple[str, Any]] = [
        ("From", f"The App <{sender}>"),
        ("To", ", ".join(recipients)),
        ("Subject", "news"),
        ("Bcc", "hidden@nowhere.sim"),
    ]
    if given:
        fields.append(("X-Mailproxy-Id", name))
    if rng.random() < 0.3:
        fields.append(("X-Mailproxy-Batch", "b1"))
    if rng.random() < 0.3:
        fields.append(("X-Mailproxy-Priority", rng.choice(("0", "1", "high", "low"))))
    if rng.random() < 0.5:
        fields.append(("Message-ID", f"<{version}.{name}@{tenant}.sim>"))
    head = "".join(f"{key}: {value}\r\n" for key, value in fields)
    # Lines that begin with a dot, and many of them, once in a while too many to lie in a row.
    filling = "..\r\n.dotted\r\n. \r\n" * rng.choice(
        (0, 1, 1, 20, 2500 if rng.random() < 0.1 else 1)
    )
    text = f"version {version} of {name} of {tenant}\r\n{filling}"
    return Letter(sender, recipients, (head + "\r\n" + text).encode())
