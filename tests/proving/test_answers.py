"""What the sink answers."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.proving import answers
from mailproxy.proving.answers import ACCEPTED, WORDS, Answer, Script, parse_delay, word_of


class WordTests(SynchronousTestCase):
    def test_words(self) -> None:
        """The word is the local part, up to a plus sign, in any case."""
        for address, word in (
            ("reject@y.org", "reject"),
            ("Reject+tag@y.org", "reject"),
            ("rejected@y.org", ""),
            ("b+reject@y.org", ""),
            ("b@reject.org", ""),
            ("", ""),
        ):
            self.assertEqual(word, word_of(address))


class ScriptTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.script = Script(random.Random(1).random)

    def test_every_word_does_something(self) -> None:
        """Each documented word leads to something other than plain acceptance."""
        for word in WORDS:
            address = f"{word}@y.org"
            steps = (
                self.script.recipient("a@x.org", address),
                self.script.data([address]),
                self.script.end([address], "<1@x>"),
            )
            self.assertNotEqual((answers.RECIPIENT_OK, answers.GO_AHEAD, ACCEPTED), steps, word)

    def test_several_words(self) -> None:
        """Of several words at the end of a message, the earlier one in the list wins."""
        for words, answer in (
            (("b", "drop", "vanish"), Answer(close=True)),
            (("slow", "drop", "dataerr"), Answer(keep=True)),
            (("slow", "b"), Answer(ACCEPTED.reply, keep=True, delay=5.0)),
            (("b", "c"), ACCEPTED),
        ):
            recipients = [f"{word}@y.org" for word in words]
            self.assertEqual(answer, self.script.end(recipients, "<1@x>"))

    def test_nothing_is_drawn_in_vain(self) -> None:
        """Without delays and lost replies no randomness is used."""
        script = Script(lambda: self.fail("drawn"))

        self.assertEqual(ACCEPTED, script.end(["b@y.org"], "<1@x>"))

    def test_a_seed_repeats(self) -> None:
        """The same seed gives the same delays and losses; another seed gives others."""

        def run(seed: int) -> list[Answer]:
            script = Script(random.Random(seed).random, (0.0, 0.05), 0.3)
            return [script.end(["b@y.org"], "") for _ in range(50)]

        self.assertEqual(run(7), run(7))
        self.assertNotEqual(run(7), run(8))

    def test_refusals_do_not_shift_the_draws(self) -> None:
        """Whatever one message's recipient makes of it, the next one's draw is the same."""

        def second(first: str) -> Answer:
            script = Script(random.Random(7).random, (0.0, 0.05), 0.3)
            script.end([first], "")
            return script.end(["b@y.org"], "")

        self.assertEqual(1, len({second(f"{word}@y.org") for word in ("b", "dataerr", "drop")}))

    @settings(deadline=None)
    @given(st.integers(0, 2**32), st.floats(0, 1), st.floats(0, 10), st.floats(0, 10))
    def test_delays_within_bounds(self, seed: int, rate: float, low: float, more: float) -> None:
        """A delay lies between the bounds; a lost reply means a kept message, closed unanswered."""
        script = Script(random.Random(seed).random, (low, low + more), rate)

        answer = script.end(["b@y.org"], "")

        self.assertTrue(answer.keep)
        self.assertTrue(low <= answer.delay <= low + more)
        self.assertEqual(not answer.reply, answer.close)

    def test_drop_rate(self) -> None:
        """Replies are lost as often as the rate says."""
        script = Script(random.Random(7).random, drop_rate=0.2)

        lost = sum(script.end(["b@y.org"], "").close for _ in range(10_000))

        self.assertTrue(1850 < lost < 2150, lost)

    def test_memory_is_bounded(self) -> None:
        """``later@`` and ``grey@`` remember the newest pairs only."""
        script = Script(random.Random(1).random, memory=3)
        for number in range(5):
            script.end(["later@y.org"], f"<{number}@x>")

        again = [script.end(["later@y.org"], f"<{number}@x>").keep for number in (4, 0)]

        self.assertEqual([True, False], again)


class DelayTests(SynchronousTestCase):
    def test_forms(self) -> None:
        """A delay is a number or a range, in seconds or milliseconds."""
        for text, delay in (
            ("0-50ms", (0.0, 0.05)),
            ("20ms", (0.02, 0.02)),
            ("1-2s", (1.0, 2.0)),
            (" 0.5 ", (0.5, 0.5)),
            ("0", (0.0, 0.0)),
        ):
            self.assertEqual(delay, parse_delay(text))

    def test_not_a_delay(self) -> None:
        """Anything else is refused."""
        for text in ("", "-", "2-1", "-1", "1-", "x", "nan", "inf", "1-inf", "1m"):
            self.assertRaises(ValueError, parse_delay, text)
