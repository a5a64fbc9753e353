"""
What every transaction over one session must come to, said a second time and more simply.

The server answers each command with one word of :class:`Say`. Given these words, the model walks
through the session one answer after the other and tells of each transaction what has to be known
of it in the end. It knows nothing of bytes, timers, writes or callbacks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from enum import Enum

import attrs

from tests.delivery.peer import SILENCE, Answer, Cut


class Say(Enum):
    """What a server does when it is asked something."""

    YES = "yes"
    LATER = "later"
    NO = "no"
    BYE = "bye"
    ODD = "odd"
    JUNK = "junk"
    CUT = "cut"
    HALF = "half"
    YES_CUT = "yes-cut"
    MUTE = "mute"


#: A reply of the other kind than the one that is due, which is no answer.
_GOOD = {"mail": 250, "rcpt": 250, "data": 354, "body": 250, "rset": 250}
_ODD = {"mail": 354, "rcpt": 354, "data": 250, "body": 354, "rset": 354}


def answer(stage: str, say: Say) -> bytes | Cut:
    """What the scripted server says for *say* at *stage*."""
    good = b"%d fine\r\n" % _GOOD[stage]
    told: dict[Say, bytes | Cut] = {
        Say.YES: good,
        Say.LATER: b"450-4.7.1 not\r\n450 4.7.1 now\r\n",
        Say.NO: b"550 5.7.1 never\r\n",
        Say.BYE: b"421 4.3.2 bye\r\n",
        Say.ODD: b"%d what\r\n" % _ODD[stage],
        Say.JUNK: b"25O fine\r\n",
        Say.CUT: Cut(),
        Say.HALF: Cut(good[:-1]),
        Say.YES_CUT: Cut(good),
        Say.MUTE: SILENCE,
    }
    return told[say]


Script = Mapping[str, Sequence[Say]]


def answers(script: Script) -> dict[str, Answer]:
    """*script* for a :class:`tests.delivery.peer.Server`; the last word of a stage repeats."""
    return {stage: [answer(stage, say) for say in words] for stage, words in script.items()}


@attrs.frozen
class Asked:
    """
    A transaction to be sent.

    :param grant: what its intent comes to.
    :param late: whether that is known only once nothing else happens.
    """

    recipients: int
    grant: bool
    late: bool


@attrs.define
class Fate:
    """
    What one transaction came to.

    :ivar begun: whether its intent was asked for; if not, it may go over another session.
    :ivar withdrawn: whether its intent was refused; then nothing else is told.
    :ivar dotted: whether the end of its body was handed over.
    :ivar lost: whether the session ended before it did.
    """

    begun: bool = False
    withdrawn: bool = False
    mail: int | None = None
    rcpts: list[int | None] = attrs.Factory(list)
    data: int | None = None
    final: int | None = None
    dotted: bool = False
    lost: bool = False

    @property
    def uncertain(self) -> bool:
        return self.dotted and self.final is None


class _Over(Exception):
    """The session has ended."""


class Model:
    """
    :param pipelining: whether commands go out without waiting for the replies before.
    """

    def __init__(self, script: Script, pipelining: bool) -> None:
        self._words = {stage: deque(words) for stage, words in script.items()}
        self._pipelining = pipelining
        self._cut = False

    def run(self, letters: Sequence[Asked]) -> list[Fate]:
        """The fate of each of *letters*, all handed over before the first answer."""
        fates = [Fate(rcpts=[None] * letter.recipients) for letter in letters]
        over = False
        for index, (letter, fate) in enumerate(zip(letters, fates, strict=True)):
            if over:
                fate.lost = True
            else:
                fate.begun = True
                try:
                    self._transact(letter, fate, fates[index + 1 : index + 2])
                except _Over:
                    over = True
        return [
            # Of what was taken back nothing else is told.
            Fate(begun=True, withdrawn=True, rcpts=[None] * letter.recipients)
            if fate.begun and not letter.grant
            else fate
            for letter, fate in zip(letters, fates, strict=True)
        ]

    def _ask(self, stage: str) -> int:
        """The code of the reply. :raises _Over: there was none that could be used."""
        if self._cut:
            raise _Over
        words = self._words[stage]
        say = words.popleft() if len(words) > 1 else words[0]
        if say in (Say.CUT, Say.HALF, Say.MUTE, Say.JUNK):
            raise _Over
        if say is Say.ODD:
            return _ODD[stage]
        self._cut = say is Say.YES_CUT
        return {Say.LATER: 450, Say.NO: 550, Say.BYE: 421}.get(say, _GOOD[stage])

    def _sensible(self, stage: str) -> int:
        code = self._ask(stage)
        if code == _ODD[stage]:
            raise _Over
        return code

    def _transact(self, letter: Asked, fate: Fate, behind: Sequence[Fate]) -> None:
        fate.lost = True
        if self._pipelining:
            self._envelope_at_once(letter, fate)
        else:
            self._envelope_in_turn(letter, fate)
        wanted = fate.mail == 250 and 250 in fate.rcpts
        last = 0
        if fate.data == 354 and wanted:
            last = fate.final = self._body(letter, fate, behind)
        elif fate.data == 354:
            last = self._ask("body")
        fate.lost = False
        self._stay(last)
        if fate.mail == 250 and fate.data != 354:
            self._reset(behind)
        if self._cut:
            # What comes next is still written before anybody learns of the break.
            for each in behind:
                each.begun = True
            raise _Over

    def _envelope_at_once(self, letter: Asked, fate: Fate) -> None:
        fate.mail = self._sensible("mail")
        self._stay(fate.mail)
        for n in range(letter.recipients):
            code = fate.rcpts[n] = self._sensible("rcpt")
            self._stay(code)
        fate.data = self._sensible("data")
        self._stay(fate.data)

    def _envelope_in_turn(self, letter: Asked, fate: Fate) -> None:
        withdrawn = not letter.grant and not letter.late
        fate.mail = self._sensible("mail")
        self._stay(fate.mail)
        if fate.mail >= 400 or withdrawn:
            return
        for n in range(letter.recipients):
            code = fate.rcpts[n] = self._sensible("rcpt")
            self._stay(code)
        if 250 in fate.rcpts:
            fate.data = self._sensible("data")
            self._stay(fate.data)

    def _stay(self, code: int) -> None:
        if code == 421:
            raise _Over

    def _reset(self, behind: Sequence[Fate]) -> None:
        """The next one is begun before RSET is answered if commands need not wait."""
        for each in behind:
            each.begun = self._pipelining
        if self._ask("rset") >= 300:
            raise _Over

    def _body(self, letter: Asked, fate: Fate, behind: Sequence[Fate]) -> int:
        if not letter.grant or (self._cut and letter.late):
            raise _Over
        fate.dotted = True
        for each in behind:
            each.begun = self._pipelining
        return self._sensible("body")
