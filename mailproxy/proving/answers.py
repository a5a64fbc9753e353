"""
What the sink answers: by recipient, and at random from a seed.

The first word of a recipient's local part (up to a ``+``) chooses the behaviour, see
:data:`WORDS`; every other recipient is accepted. Delays and lost replies are drawn from one source
of randomness, two draws per message, so a seed gives the same run again.

Pure: the caller brings the randomness in and does the waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import attrs

#: Each word with what it makes the sink do. The order is the order in which they win when one
#: message goes to several of them.
WORDS = {
    "close": "closes the connection in answer to RCPT",
    "reject": "550 to RCPT, always",
    "full": "452 to RCPT, always",
    "busy": "421 to RCPT, then closes the connection",
    "grey": "450 to the first RCPT of each sender and recipient, then accepts",
    "nodata": "554 to DATA, always",
    "vanish": "closes the connection when the message is there; keeps nothing",
    "drop": "keeps the message, but never answers its end",
    "dataerr": "554 to the end of the message, always",
    "later": "451 to the end of the first copy of each message, then accepts",
    "slow": "keeps the message and answers its end late",
}

#: Remembered pairs of ``grey`` and ``later``; beyond this the oldest are forgotten.
MEMORY = 100_000


@attrs.frozen
class Answer:
    """
    What to do about one command or message.

    :param reply: the reply's code and text; empty for none at all.
    :param keep: whether a message counts as accepted.
    :param close: whether the connection is closed after the reply.
    :param delay: seconds to wait before the reply.
    """

    reply: bytes = b""
    keep: bool = False
    close: bool = False
    delay: float = 0.0

    @property
    def hangs(self) -> bool:
        """Whether the client is left waiting on an open connection."""
        return not self.reply and not self.close

    def numbered(self, n: int) -> Answer:
        """The same, its reply naming the number of the kept message."""
        if not self.reply:
            return self
        return Answer(b"%b as %d" % (self.reply, n), self.keep, self.close, self.delay)

    @property
    def positive(self) -> bool:
        return self.reply[:1] in (b"2", b"3")


RECIPIENT_OK = Answer(b"250 2.1.5 Recipient ok")
GO_AHEAD = Answer(b"354 End data with <CR><LF>.<CR><LF>")
ACCEPTED = Answer(b"250 2.6.0 Message kept", keep=True)

_AT_RCPT = {
    "close": Answer(close=True),
    "reject": Answer(b"550 5.1.1 No such user here"),
    "full": Answer(b"452 4.2.2 Mailbox full"),
    "busy": Answer(b"421 4.3.2 Too busy, try again later", close=True),
}
_GREY = Answer(b"450 4.7.1 Greylisted, try again later")
_NO_DATA = Answer(b"554 5.5.1 No message wanted")
_AT_END = {
    "vanish": Answer(close=True),
    "drop": Answer(keep=True),
    "dataerr": Answer(b"554 5.6.0 Message refused"),
}
_LATER = Answer(b"451 4.3.0 Try again later")


def word_of(address: str) -> str:
    """The word of :data:`WORDS` that *address* begins with, or an empty string."""
    word = address.partition("@")[0].partition("+")[0].lower()
    return word if word in WORDS else ""


@attrs.define
class Script:
    """
    Decides every answer of one sink.

    :param draw: gives numbers from 0 up to, but not including, 1.
    :param delay: least and most seconds before the reply to a message's end.
    :param drop_rate: how often, 0 to 1, a message is kept and the connection closed in place of
        the reply.
    :param slow: seconds ``slow@`` waits.
    :param memory: pairs that ``grey@`` and ``later@`` remember.
    """

    draw: Callable[[], float]
    delay: tuple[float, float] = (0.0, 0.0)
    drop_rate: float = 0.0
    slow: float = 5.0
    memory: int = MEMORY
    _seen: dict[tuple[str, str, str], None] = attrs.field(factory=dict, init=False)

    def recipient(self, sender: str, address: str) -> Answer:
        """The answer to one RCPT."""
        word = word_of(address)
        if not word:
            return RECIPIENT_OK
        if word == "grey" and self._first("grey", sender, address):
            return _GREY
        return _AT_RCPT.get(word, RECIPIENT_OK)

    def data(self, recipients: Iterable[str]) -> Answer:
        """The answer to DATA for a message to *recipients*."""
        return _NO_DATA if any(word_of(each) == "nodata" for each in recipients) else GO_AHEAD

    def end(self, recipients: Iterable[str], message_id: str) -> Answer:
        """
        The answer to the end of a message.

        :param recipients: the accepted ones.
        :param message_id: what identifies the message to ``later@``.
        """
        wait, dropped = self._chance()
        words = {word_of(each): each for each in recipients}
        answer = self._by_word(words, message_id)
        if answer is ACCEPTED and dropped:
            return Answer(keep=True, close=True, delay=wait)
        if wait and answer.reply:
            return attrs.evolve(answer, delay=answer.delay + wait)
        return answer

    def _by_word(self, words: dict[str, str], message_id: str) -> Answer:
        for word, answer in _AT_END.items():
            if word in words:
                return answer
        if "later" in words and self._first("later", words["later"], message_id):
            return _LATER
        if "slow" in words:
            return attrs.evolve(ACCEPTED, delay=self.slow)
        return ACCEPTED

    def _chance(self) -> tuple[float, bool]:
        """Seconds to wait, and whether the reply is lost; nothing is drawn if neither is set."""
        low, high = self.delay
        if not high and not self.drop_rate:
            return 0.0, False
        return low + (high - low) * self.draw(), self.draw() < self.drop_rate

    def _first(self, *what: str) -> bool:
        key = (what[0], what[1], what[2])
        if key in self._seen:
            return False
        self._seen[key] = None
        if len(self._seen) > self.memory:
            del self._seen[next(iter(self._seen))]
        return True


def parse_delay(text: str) -> tuple[float, float]:
    """
    Read ``0-50ms``, ``20ms``, ``1-2s`` or ``0.5`` (seconds): least and most seconds.

    :raises ValueError: if *text* is none of these.
    """
    number, scale = text.strip(), 1.0
    for unit, factor in (("ms", 0.001), ("s", 1.0)):
        if number.endswith(unit):
            number, scale = number.removesuffix(unit), factor
            break
    low, dash, high = number.partition("-")
    least = float(low) * scale
    most = float(high) * scale if dash else least
    if not 0 <= least <= most < float("inf"):
        raise ValueError(f"not a range of seconds: {text}")
    return least, most
