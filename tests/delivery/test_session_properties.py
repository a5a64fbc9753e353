"""Whatever a server does and wherever a connection breaks, every transaction ends once, truly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.errors import SessionLost, Withdrawn
from mailproxy.model import Outcome, Reply
from mailproxy.states import Phase
from tests.delivery.peer import EHLO, PLAIN_EHLO, SILENCE, Answer, Cut, Letter, Opened
from tests.delivery.session_model import Asked, Fate, Model, Say, answers

T = TypeVar("T")


class _Dice:
    """
    Choices by bytes, one each; zero takes the first.

    Hypothesis draws the bytes at once: choice by choice, that took longer than all that is tested.
    """

    def __init__(self, data: bytes) -> None:
        self._left = iter(data)

    def one_of(self, values: Sequence[T]) -> T:
        return values[next(self._left) % len(values)]

    def some_of(self, values: Sequence[T], most: int) -> list[T]:
        """From one to *most* of them."""
        count = self.one_of(range(1, most + 1))
        return [self.one_of(values) for _ in range(count)]


_REPLIES: Sequence[bytes | Cut] = (
    b"250 ok\r\n",
    b"250-one\r\n250 two\r\n",
    b"251 ok\r\n",
    b"354 go\r\n",
    b"421 bye\r\n",
    b"450 later\r\n",
    b"452 4.5.3 too many\r\n",
    b"503 bad sequence\r\n",
    b"550 5.1.1 no\r\n",
    b"552 5.3.4 big\r\n",
    b"250 ok\r\n250 once more\r\n",
    b"garbage\r\n",
    SILENCE,
)

#: What is said before a connection breaks.
_LAST = (b"", b"2", b"250-", b"250 ok\r\n", b"550 no\r\n", b"354 ")

#: Good answers of all that are usual.
_GOOD = {
    "mail": b"250 ok\r\n",
    "rcpt": b"250 ok\r\n",
    "data": b"354 go\r\n",
    "body": b"250 ok\r\n",
    "rset": b"250 ok\r\n",
}


def _usually(dice: _Dice, good: bytes, junk: Sequence[bytes]) -> list[bytes | Cut]:
    """Two answers of three are *good*, as many of the others replies as cuts and *junk*."""
    cuts = [Cut(said) for said in _LAST]
    kinds = ((good,), (good,), (good,), (good,), (good,), (good,), _REPLIES, cuts, junk)
    return [dice.one_of(kind) for kind in dice.some_of(kinds, 3)]


#: Recipients, what the intent comes to, whether the body is large.
Plan = tuple[int, bool | None, bool]


@attrs.frozen
class _Course:
    """What a server says, and what is sent over it."""

    script: dict[str, Answer]
    plans: list[Plan]
    chunk: int


def _course(data: bytes, junk: list[bytes]) -> _Course:
    dice = _Dice(data)
    script: dict[str, Answer] = {
        "ehlo": dice.one_of((EHLO, PLAIN_EHLO)),
        **{stage: _usually(dice, good, junk) for stage, good in _GOOD.items()},
    }
    plans = [
        (dice.one_of((1, 2, 3)), dice.one_of((True, True, False, None)), dice.one_of((False, True)))
        for _ in range(dice.one_of((1, 2, 3, 4)))
    ]
    return _Course(script, plans, dice.one_of(range(1, 41)))


#: Bytes of the longest course: 1, 5 times 7, 1 and 4 times 3, 1.
_OF_COURSE = 50

_courses = st.builds(
    _course,
    st.binary(min_size=_OF_COURSE, max_size=_OF_COURSE),
    st.lists(st.binary(max_size=20), min_size=1, max_size=3),
)

#: Two answers of three are a yes at once.
_SAID = (Say.YES,) * 20 + tuple(Say)


@attrs.frozen
class _Case:
    """What a server says, in words, and what it is asked."""

    script: dict[str, list[Say]]
    asked: list[Asked]
    pipelining: bool
    chunk: int | None


def _case(data: bytes) -> _Case:
    dice = _Dice(data)
    script = {stage: dice.some_of(_SAID, 4) for stage in ("mail", "rcpt", "data", "body")}
    script["rset"] = [Say.YES] if dice.one_of((True, False)) else dice.some_of(_SAID, 4)
    asked = [
        Asked(
            recipients=dice.one_of((1, 2, 3)),
            grant=dice.one_of((True, True, True, False)),
            late=dice.one_of((False, True)),
        )
        for _ in range(dice.one_of((1, 2, 3)))
    ]
    return _Case(script, asked, dice.one_of((False, True)), dice.one_of((None, 1, 7)))


#: Bytes of the longest case: 4 times 5, 6, 1 and 3 times 3, 2.
_OF_CASE = 38

_cases = st.builds(_case, st.binary(min_size=_OF_CASE, max_size=_OF_CASE))

_LARGE = b"line of text\r\n" * 6000


def _code(reply: Reply | None) -> int | None:
    return None if reply is None else reply.code


class PropertyTests(SynchronousTestCase):
    def test_enough_to_draw_from(self) -> None:
        """The longest course and the longest case need all the bytes that are drawn."""
        longest = bytes([11])  # the last of two, three and four
        _course(longest * _OF_COURSE, [b""])
        _case(longest * _OF_CASE)
        for draw in (
            lambda: _course(longest * (_OF_COURSE - 1), [b""]),
            lambda: _case(longest * (_OF_CASE - 1)),
        ):
            self.assertRaises(StopIteration, draw)

    def check(self, letter: Letter, sent: bytes) -> None:
        """The one result of *letter* says what happened; *sent* is all that was written."""
        self.assertEqual(1, len(letter.results))
        result = letter.results[0]
        dotted = letter.envelope.body[-14:] + b".\r\n" in sent
        if not isinstance(result, Outcome):
            assert result.check(Withdrawn, SessionLost), result
            self.assertFalse(dotted)
            self.assertEqual(1 if result.check(Withdrawn) else 0, letter.begun)
            return
        self.assertEqual(1, letter.begun)
        self.assertEqual(dotted, result.phase is Phase.FINAL)
        self.assertEqual(dotted and result.final is None, result.uncertain)
        self.assertEqual(len(letter.envelope.recipients), len(result.rcpts))
        if result.phase is Phase.FINAL:
            assert result.mail is not None
            assert result.data is not None
            self.assertTrue(any(r is not None and r.code < 300 for r in result.rcpts))
        if result.stale:
            self.assertTrue(result.error)
            self.assertFalse(any(result.rcpts))

    @settings(deadline=None, max_examples=5000)
    @given(_cases)
    def test_every_transaction_comes_to_what_the_model_says(self, case: _Case) -> None:
        """Any answer to any command, intents early and late, given and refused: as modelled."""
        whole, asked = case.script, case.asked
        ehlo = EHLO if case.pipelining else PLAIN_EHLO
        opened = Opened({**answers(whole), "ehlo": ehlo}, chunk=case.chunk)
        letters = [
            Letter(
                b"letter %d\r\n" % number,
                [f"r{n}@x.y" for n in range(each.recipients)],
                grant=None if each.late else each.grant,
            ).sent_over(opened.session)
            for number, each in enumerate(asked)
        ]
        for _ in range(len(letters) + 1):
            opened.run()
            begun = [letter.begun for letter in letters]
            for letter, each, asks in zip(letters, asked, begun, strict=True):
                if each.late and asks and not letter.settled:
                    letter.settle(each.grant)
        opened.run()
        opened.wait(700.0)
        fates = Model(whole, case.pipelining).run(asked)
        self.assertEqual(fates, [self.fate(letter, opened) for letter in letters])
        sent = b"".join(opened.wire.writes)
        for letter, fate in zip(letters, fates, strict=True):
            self.assertEqual(int(fate.dotted), sent.count(letter.envelope.body))

    def fate(self, letter: Letter, opened: Opened) -> Fate:
        """What *letter* came to, in the words of the model."""
        count = len(letter.envelope.recipients)
        self.assertEqual(1, len(letter.results))
        (result,) = letter.results
        body = letter.envelope.body + b".\r\n"
        dotted = any(body in write for write in opened.wire.writes)
        if isinstance(result, Outcome):
            self.assertEqual(dotted, result.phase is Phase.FINAL)
            return Fate(
                begun=bool(letter.begun),
                mail=_code(result.mail),
                rcpts=[_code(reply) for reply in result.rcpts],
                data=_code(result.data),
                final=_code(result.final),
                dotted=dotted,
                lost=bool(result.error),
            )
        self.assertFalse(dotted)
        withdrawn = result.check(Withdrawn) is not None
        self.assertTrue(withdrawn or result.check(SessionLost))
        return Fate(
            begun=bool(letter.begun),
            withdrawn=withdrawn,
            rcpts=[None] * count,
            lost=not withdrawn,
        )

    @settings(deadline=None, max_examples=1500)
    @given(_courses)
    def test_every_transaction_ends_once_and_in_the_right_class(self, course: _Course) -> None:
        """Any reply at any stage, silence, breaks, refused and late intents: one true result."""
        plans = course.plans
        opened = Opened(course.script, chunk=course.chunk, capacity=50_000)
        letters = []
        for number, (recipients, grant, large) in enumerate(plans):
            body = (_LARGE if large else b"") + b"letter %05d\r\n" % number
            to = [f"r{n}@x.y" for n in range(recipients)]
            letters.append(Letter(body, to, grant=grant).sent_over(opened.session))
            if number % 2:
                opened.run()
        for _ in range(12):
            opened.wire.drain()
            opened.run()
            for letter, (_, grant, _) in zip(letters, plans, strict=True):
                if grant is None and letter.begun and not letter.settled:
                    letter.settle(True)
            opened.run()
        for _ in range(6):
            opened.wait(700.0)
        sent = b"".join(opened.wire.writes)
        for letter in letters:
            self.check(letter, sent)
        if not opened.session.usable:
            self.assertEqual([], opened.clock.getDelayedCalls())

    def test_a_reset_at_every_byte_of_the_replies(self) -> None:
        """F39: wherever the answers break off, both transactions know what they came to."""
        script: dict[str, Answer] = {"body": b"250 ok\r\n"}
        whole = b"250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 go on\r\n"
        for count in range(len(whole) + 1):
            for clean in (True, False):
                opened = Opened({**script, "mail": SILENCE})
                first = Letter().sent_over(opened.session)
                second = Letter(b"Subject: y\r\n\r\nother\r\n").sent_over(opened.session)
                opened.server.say(whole[:count])
                opened.run()
                opened.server.say(Cut(clean=clean))
                opened.run()
                sent = b"".join(opened.wire.writes)
                self.check(first, sent)
                self.check(second, sent)
                self.assertEqual(count == len(whole), first.outcome.uncertain)

    def test_a_reset_at_every_byte_of_the_body(self) -> None:
        """F39: a large body is uncertain only once all of it was handed over."""
        size = 6
        for chunks in range(size + 1):
            body = (b"y" * 65534 + b"\r\n") * (size - 1) + b"the last line\r\n"
            opened = Opened(capacity=1)
            letter = Letter(body).sent_over(opened.session)
            opened.run()
            for _ in range(chunks):
                opened.wire.drain()
            if not letter.results:
                opened.server.say(Cut())
                opened.run()
            handed_over = any(write.endswith(b"\r\n.\r\n") for write in opened.wire.writes)
            self.assertEqual(handed_over, letter.outcome.phase is Phase.FINAL, chunks)
