"""Whatever a server does and wherever a connection breaks, every transaction ends once, truly."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.errors import SessionLost, Withdrawn
from mailproxy.model import Outcome, Reply
from mailproxy.states import Phase
from tests.delivery.peer import EHLO, PLAIN_EHLO, SILENCE, Answer, Cut, Letter, Opened
from tests.delivery.session_model import Asked, Fate, Model, Say, answers

_replies: st.SearchStrategy[Answer] = st.one_of(
    st.sampled_from(
        [
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
        ]
    ),
    st.builds(Cut, st.sampled_from([b"", b"2", b"250-", b"250 ok\r\n", b"550 no\r\n", b"354 "])),
    st.binary(max_size=20),
)


def _usually(good: bytes) -> st.SearchStrategy[Answer]:
    once = st.one_of(st.just(good), st.just(good), _replies)
    return st.lists(once, min_size=1, max_size=3)  # type: ignore[arg-type]


_scripts = st.fixed_dictionaries(
    {
        "ehlo": st.sampled_from([EHLO, PLAIN_EHLO]),
        "mail": _usually(b"250 ok\r\n"),
        "rcpt": _usually(b"250 ok\r\n"),
        "data": _usually(b"354 go\r\n"),
        "body": _usually(b"250 ok\r\n"),
        "rset": _usually(b"250 ok\r\n"),
    }
)

_words = st.lists(
    st.one_of(st.just(Say.YES), st.just(Say.YES), st.sampled_from(Say)), min_size=1, max_size=4
)

_asked = st.builds(
    Asked,
    recipients=st.integers(1, 3),
    grant=st.sampled_from([True, True, True, False]),
    late=st.booleans(),
)

_LARGE = b"line of text\r\n" * 6000


def _code(reply: Reply | None) -> int | None:
    return None if reply is None else reply.code


class PropertyTests(SynchronousTestCase):
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
    @given(
        st.fixed_dictionaries(dict.fromkeys(("mail", "rcpt", "data", "body"), _words)),
        st.one_of(st.just([Say.YES]), _words),
        st.lists(_asked, min_size=1, max_size=3),
        st.booleans(),
        st.sampled_from([None, 1, 7]),
    )
    def test_every_transaction_comes_to_what_the_model_says(
        self,
        script: dict[str, list[Say]],
        resets: list[Say],
        asked: list[Asked],
        pipelining: bool,
        chunk: int | None,
    ) -> None:
        """Any answer to any command, intents early and late, given and refused: as modelled."""
        whole = {**script, "rset": resets}
        ehlo = EHLO if pipelining else PLAIN_EHLO
        opened = Opened({**answers(whole), "ehlo": ehlo}, chunk=chunk)
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
        fates = Model(whole, pipelining).run(asked)
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
    @given(
        _scripts,
        st.lists(
            st.tuples(st.integers(1, 3), st.sampled_from([True, True, False, None]), st.booleans()),
            min_size=1,
            max_size=4,
        ),
        st.integers(1, 40),
    )
    def test_every_transaction_ends_once_and_in_the_right_class(
        self,
        script: dict[str, Answer],
        plans: list[tuple[int, bool | None, bool]],
        chunk: int,
    ) -> None:
        """Any reply at any stage, silence, breaks, refused and late intents: one true result."""
        opened = Opened(script, chunk=chunk, capacity=50_000)
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
