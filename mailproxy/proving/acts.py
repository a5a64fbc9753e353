"""
What a scenario has a server do at one moment.

Pure values. A field left as it is means: as a server does that behaves.
"""

from __future__ import annotations

import attrs

#: The moments of an SMTP connection at which a rule may apply.
STAGES = (
    *("connect", "ehlo", "helo", "starttls", "auth", "mail", "rcpt", "data", "body", "end"),
    *("rset", "noop", "vrfy", "quit"),
)

#: What may come after, or in place of, a reply.
THEN = ("close", "reset", "silence")

#: The certificates a scenario can choose from.
CERTIFICATES = ("good", "expired", "wrong-name", "stranger")


@attrs.frozen
class Act:
    """
    One thing an SMTP server does.

    :param lines: the reply as it goes out, line ends included; None: the ordinary one.
    :param effect: whether the command takes effect; None: if the reply begins with 2 or 3.
    :param keep: at the end of a message, whether it counts as a copy; None: if it takes effect.
    :param delay: seconds before the reply.
    :param drip: octets of the reply per second; 0: all at once.
    :param then: one of :data:`THEN`, or an empty string.
    :param linger: seconds between the reply and *then*; a command that comes meanwhile calls
        *then* off.
    :param hold: seconds of silence until the connection is closed; None: the server's.
    :param at_byte: of the body after which the act begins.
    :param at_percent: the same in hundredths of the size that MAIL declared.
    :param stall: seconds for which nothing is read, once.
    :param read_rate: octets of the body read per second; 0: as they come.
    :param without: extensions that are not offered in answer to EHLO.
    :param offer: extensions offered besides, or in another form.
    :param certificate: one of :data:`CERTIFICATES`; empty: the server's.
    """

    lines: bytes | None = None
    effect: bool | None = None
    keep: bool | None = None
    delay: float = 0.0
    drip: float = 0.0
    then: str = ""
    linger: float = 0.0
    hold: float | None = None
    at_byte: int | None = None
    at_percent: float | None = None
    stall: float = 0.0
    read_rate: float = 0.0
    without: frozenset[bytes] = frozenset()
    offer: tuple[bytes, ...] = ()
    certificate: str = ""

    @property
    def takes_effect(self) -> bool:
        """Whether the command does what it is for."""
        if self.effect is not None:
            return self.effect
        if self.lines is None:
            return not self.then or bool(self.linger)
        return self.lines[:1] in (b"2", b"3")

    @property
    def keeps(self) -> bool:
        """Whether a message counts as accepted."""
        return self.takes_effect if self.keep is None else self.keep

    def begins(self, declared: int) -> int | None:
        """
        The octet of the body after which the act begins; None: the act is not about one.

        :param declared: the size that MAIL declared; 0 if none was.
        """
        if self.at_percent is not None:
            return int(declared * self.at_percent / 100) if declared else None
        return self.at_byte


@attrs.frozen
class HttpAct:
    """
    One thing an HTTP endpoint does.

    :param status: of the answer; None: the ordinary answer.
    :param headers: of the answer.
    :param body: of the answer.
    :param size: octets of the body at least; it is repeated.
    :param length: the declared length, if it is not that of the body.
    :param keep: whether a report counts as taken; None: if the answer says so.
    :param delay: seconds before the answer.
    :param drip: octets of the body per second; 0: all at once.
    :param then: ``close``, ``reset`` or ``silence`` in place of what is left of the answer.
    :param at_byte: of the body after which *then* comes.
    """

    status: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    size: int = 0
    length: int | None = None
    keep: bool | None = None
    delay: float = 0.0
    drip: float = 0.0
    then: str = ""
    at_byte: int | None = None
