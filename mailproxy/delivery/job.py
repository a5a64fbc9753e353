"""One transaction on its way through a session: what was sent, what was answered, what it means."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred

from mailproxy.delivery.commands import Plan
from mailproxy.interfaces import ITransaction
from mailproxy.model import Outcome, Reply
from mailproxy.states import Phase


class Job:
    """
    The replies to a transaction come in the order of its commands, so counting them tells which
    command each one answers.

    :param transaction: whose intent is asked for; see :class:`mailproxy.interfaces.ITransaction`.
    :param plan: its commands.
    :param reused: whether the session carried an earlier one.

    :ivar sent: commands handed to the transport.
    :ivar answered: replies received to them.
    :ivar granted: what the intent came to; None while that is not known.
    :ivar phase: set from the body on; before, it follows from *answered*.
    """

    __slots__ = (
        "accepted",
        "answered",
        "asked",
        "body",
        "commands",
        "data",
        "error",
        "final",
        "granted",
        "lone_dot",
        "mail",
        "notes",
        "outcome",
        "phase",
        "rcpts",
        "result",
        "reused",
        "sent",
        "started",
        "timings",
        "transaction",
    )

    def __init__(self, transaction: ITransaction, plan: Plan, reused: bool) -> None:
        self.transaction = transaction
        self.body = transaction.envelope.body
        self.commands = plan.commands
        self.asked: Sequence[int] = plan.asked
        self.rcpts: list[Reply | None] = list(plan.rcpts)
        self.mail: Reply | None = plan.mail
        self.data: Reply | None = None
        self.final: Reply | None = None
        self.notes = plan.notes
        self.reused = reused
        self.sent = 0
        self.answered = 0
        self.accepted = 0
        self.granted: bool | None = None
        self.lone_dot = False
        self.phase: Phase | None = None
        self.error = ""
        self.started = 0.0
        self.timings: list[tuple[str, float]] = []
        self.outcome: Outcome | None = None
        self.result: Deferred[Outcome] = Deferred()

    @property
    def stage(self) -> Phase:
        """What the next reply is about."""
        if self.phase is not None:
            return self.phase
        if self.answered == 0:
            return Phase.MAIL
        return Phase.RCPT if self.answered <= len(self.asked) else Phase.DATA

    @property
    def wanted(self) -> bool:
        """Whether the server took the sender and at least one recipient."""
        return self.accepted > 0 and self.mail is not None and self.mail.code < 300

    @property
    def ready(self) -> bool:
        """Whether 354 is in for a body that somebody wants, and the body has not begun."""
        return self.data is not None and self.data.code < 400 and self.wanted and self.phase is None

    def take(self, reply: Reply, at: float) -> None:
        """Keep *reply*, received *at* (monotonic seconds), as the answer to its command."""
        answered = self.answered
        self.answered = answered + 1
        if answered == 0:
            self.mail = reply
            self.timings.append(("mail", at - self.started))
        elif answered <= len(self.asked):
            self.rcpts[self.asked[answered - 1]] = reply
            if reply.code < 300:
                self.accepted += 1
            if answered == len(self.asked):
                self.timings.append(("rcpt", at - self.started))
        elif self.data is None:
            self.data = reply
            self.timings.append(("data", at - self.started))
        else:
            self.final = reply
            self.timings.append(("final", at - self.started))

    def came_to(self, tls: str, peer: str, notes: tuple[str, ...]) -> Outcome:
        """The outcome, by what is known now."""
        nothing_yet = self.answered == 0 or (
            self.answered == 1 and self.mail is not None and self.mail.code == 421
        )
        return Outcome(
            phase=self._decided(),
            mail=self.mail,
            rcpts=tuple(self.rcpts),
            data=self.data,
            final=self.final,
            error=self.error,
            timings=tuple(self.timings),
            tls=tls,
            peer=peer,
            stale=bool(self.error) and self.reused and self.sent > 0 and nothing_yet,
            notes=notes + self.notes if self.notes else notes,
        )

    def _decided(self) -> Phase:
        """The phase that decided: the last one reached, or the first that refused everybody."""
        if self.phase is not None:
            return self.phase
        if self.mail is None:
            return Phase.MAIL if self.commands else Phase.RCPT
        if self.mail.code >= 400:
            return Phase.MAIL
        return self.stage if self.accepted else Phase.RCPT
