"""
What the wire contract says of an id that comes again, and who has got what so far.

The model is told what the client posted and deleted, what the upstream was given and answered, and
what the application was told. It says what the service has to answer, and complains about what must
never happen: a body that nobody asked for, or a second copy without reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

A, B, C = "a@example.org", "b@example.org", "c@example.org"

#: What is posted: the text, and who it is for.
CONTENTS = {"one": (A, B), "another": (A, B), "two": (B, C), "alone": (A,)}

#: What an attempt can come to for a recipient.
SENT, FAILED, DEFERRED, UNSURE = "sent", "failed", "deferred", "uncertain"
WAITING = "waiting"


@attrs.define
class Letter:
    """
    One id.

    :param accepted: the recipients that the upstream is known to have accepted.
    :param attempts: begun in this generation; *unsure* of them ended uncertain.
    :param gone: removed; what is known of it is its tombstone.
    :param ended_as: how it ended before it was removed, until there is a new generation.
    :param final: number of the newest final event; 0 while there is none in this generation.
    :param acked: number of the newest final event that the application took.
    """

    id: str
    text: str
    states: dict[str, str]
    generation: int = 1
    attempts: int = 0
    unsure: int = 0
    in_flight: bool = False
    accepted: set[str] = attrs.Factory(set)
    gone: bool = False
    ended_as: str = ""
    final: int = 0
    acked: int = 0
    ended_at: float = 0.0

    @property
    def open(self) -> bool:
        return any(state in (WAITING, DEFERRED) for state in self.states.values())

    @property
    def state(self) -> str:
        """As the contract names it."""
        if self.ended_as:
            return self.ended_as
        found = set(self.states.values())
        if self.in_flight:
            return "in_flight"
        if self.open:
            return "deferred" if self.attempts else "queued"
        if UNSURE in found:
            return "uncertain"
        return "sent" if found == {SENT} else "failed"

    @property
    def ended(self) -> bool:
        return self.state in ("sent", "failed", "cancelled")

    @property
    def told(self) -> bool:
        """Whether the application has taken its newest final event."""
        return self.acked == self.final


@attrs.define
class Model:
    """
    :ivar copies: how often the upstream kept a copy, by id and recipient.
    :ivar excused: how many of these a repetition was allowed for.
    """

    letters: dict[str, Letter] = attrs.Factory(dict)
    copies: Counter[tuple[str, str]] = attrs.Factory(Counter)
    excused: Counter[tuple[str, str]] = attrs.Factory(Counter)
    serial: int = 0
    problems: list[str] = attrs.Factory(list)

    def check(self, say: Callable[..., object], *what: Any) -> None:
        """Keep what *say* complains about: where it is called, nobody else would hear it."""
        try:
            say(*what)
        except AssertionError as error:
            self.problems.append(str(error))

    # The client.

    def post(self, id: str, text: str, now: float) -> set[str]:
        """An element is taken. :return: what it may count as."""
        letter = self.letters.get(id)
        if letter is None:
            self.letters[id] = letter = Letter(id, text, {})
            self._fill(letter, text)
            return {"queued"}
        if letter.gone or letter.ended:
            return self._again(letter, text, now)
        if letter.state == "uncertain":
            return {"kept"}
        if letter.text == text:
            return {"queued"}
        if letter.attempts:
            return {"kept"}
        self._fill(letter, text)
        self._end_at_once(letter, now)
        return {"replaced"}

    def _end_at_once(self, letter: Letter, now: float) -> None:
        """All of the new recipients may have had it from a generation before."""
        if letter.ended:
            self._final(letter, now)

    def _again(self, letter: Letter, text: str, now: float) -> set[str]:
        if not letter.gone and letter.state == "sent":
            self._final(letter, now)
            return {"duplicate"}
        if letter.accepted.issuperset(CONTENTS[text]):
            if letter.gone:
                letter.states = dict.fromkeys(CONTENTS[text], SENT)
                letter.gone = False
            self._final(letter, now)
            return {"duplicate", "queued"}
        letter.generation += 1
        letter.attempts = letter.unsure = letter.final = letter.acked = 0
        letter.gone, letter.ended_at = False, 0.0
        self._fill(letter, text)
        return {"queued"}

    def _fill(self, letter: Letter, text: str) -> None:
        letter.text, letter.ended_as = text, ""
        letter.states = {
            address: SENT if address in letter.accepted else WAITING for address in CONTENTS[text]
        }

    def _final(self, letter: Letter, now: float) -> None:
        self.serial += 1
        letter.final, letter.ended_at = self.serial, letter.ended_at or now

    def removable(self, id: str) -> bool | None:
        """Whether delete-messages removes it; None: an operator decides, either is right."""
        letter = self.letters.get(id)
        if letter is None or letter.gone or letter.in_flight:
            return False
        if letter.state == "uncertain":
            return None
        return letter.open or letter.told

    def remove(self, id: str) -> None:
        letter = self.letters[id]
        for address, state in letter.states.items():
            if state == UNSURE or letter.unsure:
                self.excused[id, address] += 1  # its owner asked for it to be forgotten
        self.bury(id)

    def bury(self, id: str) -> None:
        """It is removed, as it ended; what waited is cancelled."""
        letter = self.letters[id]
        letter.ended_as = "cancelled" if letter.open else letter.state
        letter.gone = True

    def stale(self, before: float) -> tuple[set[str], set[str]]:
        """Ids that cleanup has to remove, and those that it may: they ended at that instant."""
        ended = [each for each in self.letters.values() if each.ended and not each.gone]
        reported = [each for each in ended if each.told]
        must = {each.id for each in reported if each.ended_at < before}
        return must, {each.id for each in reported if each.ended_at == before}

    # The upstream.

    def begin(self, id: str, text: str, recipients: Sequence[str]) -> None:
        """A body is begun."""
        letter = self.letters[id]
        assert not letter.gone, f"{id} was begun after it was removed"
        assert not letter.in_flight, f"{id} was begun twice at the same time"
        assert letter.text == text, f"{id}: {text} was sent in place of {letter.text}"
        wanted = {a for a, state in letter.states.items() if state in (WAITING, DEFERRED)}
        assert set(recipients) == wanted, (id, recipients, letter)
        assert len(recipients) == len(wanted), f"{id} for one of {recipients} twice"
        assert not letter.accepted & wanted, f"a second copy of {id} for {letter.accepted & wanted}"
        letter.in_flight = True
        letter.attempts += 1

    def keep(self, id: str, addresses: Sequence[str]) -> None:
        """The upstream keeps a copy for these, whatever it answers."""
        for address in addresses:
            self.copies[id, address] += 1
            most = 1 + self.excused[id, address]
            assert self.copies[id, address] <= most, f"{id} came to {address} again without reason"

    def finish(self, id: str, told: Mapping[str, str], now: float) -> None:
        """The attempt came to *told*, by recipient."""
        letter = self.letters[id]
        letter.in_flight = False
        if UNSURE in told.values():
            unsure = DEFERRED if letter.unsure == 0 else UNSURE
            told = {a: unsure if state == UNSURE else state for a, state in told.items()}
            letter.unsure += 1
        letter.states.update(told)
        letter.accepted |= {address for address, state in told.items() if state == SENT}
        if letter.ended:
            letter.ended_at = now
            self._final(letter, now)

    def lose(self, id: str, addresses: Sequence[str]) -> None:
        """Nobody will know whether these were kept: one more copy of each may come."""
        for address in addresses:
            self.excused[id, address] += 1

    # The application.

    def offer(self, items: Sequence[Any]) -> dict[str, int]:
        """A report call is made. :return: what its acknowledgement will cover."""
        covered = {}
        for item in items:
            letter = self.letters[item.id]
            final = item.sent_ts is not None or item.error is not None
            if final and letter.final:
                covered[item.id] = letter.final
        return covered

    def take(self, covered: Mapping[str, int]) -> None:
        for id, serial in covered.items():
            self.letters[id].acked = max(self.letters[id].acked, serial)
