"""
The transactions of one session, in order, as few round trips as the server allows.

With PIPELINING (RFC 2920) a transaction's commands up to DATA go out in one write, and those of
the next one in the same write as the body that goes before them. Without it, each command waits
for the reply to the last. Either way the body waits for two things: a 354 with at least one
recipient accepted, and the committed intent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from mailproxy.delivery.body import BodyProducer, Wire
from mailproxy.delivery.commands import UnsafeCommand, command, plan
from mailproxy.delivery.job import Job
from mailproxy.delivery.link import Circumstances, Link
from mailproxy.errors import SessionLost, Withdrawn
from mailproxy.interfaces import ITransaction, crashpoint
from mailproxy.lines import stuff
from mailproxy.model import Outcome, Reply
from mailproxy.sending import send
from mailproxy.states import Phase

_log = Logger()

#: Bodies up to this many octets go out with their final dot, in one write.
ONE_WRITE = 65536

#: Seconds without progress while a body is sent or about to be. RFC 5321, section 4.5.3.2.5 has 180
#: as the least; with more, a network that is back after as long has TCP go on where it was.
BODY_TIMEOUT = 300.0

#: Seconds to wait for the reply to the final dot (RFC 5321, section 4.5.3.2.6). Less would make
#: duplicates of messages that a slow server had accepted.
FINAL_TIMEOUT = 600.0


#: Replies that want a new login (RFC 4954, section 6).
_EXPIRED = frozenset({530, 535})


class Pipeline:
    """
    :param link: the session.
    :param wire: its transport.
    :param clock: for the timings.
    :param trace: whether ``link.sent`` wants to hear.

    :ivar carried: transactions begun so far.
    """

    def __init__(
        self, link: Link, wire: Wire, clock: IReactorTime, about: Circumstances, trace: bool
    ) -> None:
        self._link = link
        self._expect = link.expect
        self._wire = wire
        self._now = clock.seconds
        self._about = about
        self._trace = trace
        self._jobs: deque[Job] = deque()
        self._resets = 0
        self._producer: BodyProducer | None = None
        self._lost = ""
        self.carried = 0

    @property
    def depth(self) -> int:
        """Transactions not ended yet."""
        return len(self._jobs)

    def waiting_for(self) -> Phase:
        """The phase of the transaction whose turn it is."""
        return self._jobs[0].stage if self._jobs else Phase.MAIL

    # -- sending ---------------------------------------------------------------------------

    def deliver(self, transaction: ITransaction) -> Deferred[Outcome]:
        """See :meth:`mailproxy.delivery.session.Session.deliver`."""
        try:
            planned = plan(transaction.envelope, self._about.offered)
        except UnsafeCommand:
            return fail()
        job = Job(transaction, planned, self.carried > 0)
        if self._lost:
            job.result.errback(SessionLost(Phase.MAIL, self._lost))
        elif not job.commands:
            # Nothing to ask the server; but the attempt is one, so its intent is.
            self._end(job)
            self._ask(job)
        else:
            self._jobs.append(job)
            if len(self._jobs) == 1:
                if not self._resets or self._about.pipelining:
                    self._begin(job, b"")
            elif (
                len(self._jobs) == 2
                and self._about.pipelining
                and self._jobs[0].phase is Phase.FINAL
            ):
                self._begin(job, b"")
        return job.result

    def _begin(self, job: Job, before: bytes) -> None:
        """Send *before*, and after it in the same write as much of *job* as may go."""
        self.carried += 1
        job.started = self._now()
        if self._about.pipelining:
            data = b"".join(job.commands)
            job.sent = len(job.commands)
        else:
            data = job.commands[0]
            job.sent = 1
        if job is self._jobs[0]:
            self._expect(self._about.timeout)
        if self._trace:
            self._link.sent(data)
        send(self._wire, before + data if before else data)
        self._ask(job)

    def _next_line(self, job: Job) -> None:
        """Without PIPELINING: the command after the one that was just answered."""
        line = job.commands[job.sent]
        job.sent += 1
        self._expect(self._about.timeout)
        if self._trace:
            self._link.sent(line)
        send(self._wire, line)

    def _body(self, job: Job) -> None:
        """Everything is in: past this point the message is on its way."""
        if len(job.body) <= ONE_WRITE:
            self._write_last(job, stuff(job.body))
            return
        job.phase = Phase.BODY
        self._expect(BODY_TIMEOUT)
        self._producer = BodyProducer(
            job.body,
            self._wire,
            lambda: self._expect(BODY_TIMEOUT),
            lambda data: self._write_last(job, data),
        )
        self._producer.start()

    def _write_last(self, job: Job, data: bytes) -> None:
        """Write what ends the body; the next transaction's commands ride along."""
        self._producer = None
        job.phase = Phase.FINAL
        self._expect(FINAL_TIMEOUT)
        if self._trace:
            self._link.sent(f"({len(job.body)} octets)")
        job.body = b""
        if len(self._jobs) > 1 and self._about.pipelining:
            self._begin(self._jobs[1], data)
        else:
            send(self._wire, data)
        crashpoint("body-written")

    # -- the intent ------------------------------------------------------------------------

    def _ask(self, job: Job) -> None:
        try:
            asked = job.transaction.begin()
        except Exception:
            # Whose mail this is decides what runs there. Raised at once or by the Deferred, it is
            # logged and refuses this one intent; the messages around it are none of its business.
            self._not_granted(Failure(), job)
            return
        if not isinstance(asked, Deferred):
            asked = Deferred.fromCoroutine(_wait_for(asked))
        asked.addCallbacks(self._granted, self._not_granted, (job,), {}, (job,))
        # Whatever follows from the answer must not be lost in a Deferred nobody looks at.
        asked.addErrback(self._raised)

    def _granted(self, granted: bool, job: Job) -> None:
        job.granted = bool(granted)
        if job.outcome is not None:
            self._fire(job)
        elif job.ready and self._jobs and job is self._jobs[0]:
            self._decide(job)

    def _not_granted(self, failure: Failure, job: Job) -> None:
        _log.failure("asking for an intent raised", failure)
        self._granted(False, job)

    def _raised(self, failure: Failure) -> None:
        _log.failure("going on with a transaction raised", failure)
        self._link.lose("an internal error")

    # -- replies ---------------------------------------------------------------------------

    def reply(self, reply: Reply) -> None:
        """The server said *reply*."""
        if self._resets:
            # A RSET goes out before any command of the next transaction.
            self._reset_answered(reply)
            return
        if not self._jobs:
            self._unasked(reply)
            return
        job = self._jobs[0]
        if job.phase is Phase.FINAL:
            self._final(job, reply)
        elif job.lone_dot:
            self._after_lone_dot(job, reply)
        elif job.phase is Phase.BODY or job.answered >= job.sent:
            self._early(job, reply)
        else:
            self._answered(job, reply)

    def _answered(self, job: Job, reply: Reply) -> None:
        """*reply* is to a command: MAIL, RCPT or DATA."""
        code = reply.code
        to_data = job.answered == len(job.commands) - 1
        if code < 400 and (code >= 300) is not to_data:
            self._link.lose(f"{code} is no answer to {job.stage}", broken=True)
            return
        if code in _EXPIRED and self._about.expires and job.reused and not job.answered:
            # Not the account's fault: a new session has a new token, and nothing was accepted.
            self._link.lose(f"the login is not accepted any more: {reply}")
            return
        job.take(reply, self._now())
        if code == 421:
            self._link.lose(str(reply))
        elif to_data:
            self._data_answered(job)
        elif job.answered < job.sent:
            self._expect(self._about.timeout)
        else:
            self._go_on(job)

    def _final(self, job: Job, reply: Reply) -> None:
        if 300 <= reply.code < 400:
            self._link.lose(f"{reply.code} is no answer to the final dot", broken=True)
            return
        job.take(reply, self._now())
        crashpoint("reply-read")
        self._close(job, reply)

    def _close(self, job: Job, reply: Reply) -> None:
        """*reply* ended the transaction, and with a 421 the session too."""
        if reply.code == 421:
            self._jobs.popleft()
            self._link.lose(str(reply))
        else:
            self._leave(job)
        self._end(job)

    def _go_on(self, job: Job) -> None:
        """Without PIPELINING, after MAIL or a RCPT."""
        refused = job.mail is not None and job.mail.code >= 400
        all_refused = job.answered == len(job.commands) - 1 and not job.accepted
        if refused or all_refused or job.granted is False:
            self._leave(job, reset=not refused)
            self._end(job)
        else:
            self._next_line(job)

    def _data_answered(self, job: Job) -> None:
        assert job.data is not None
        if job.data.code >= 400:
            self._leave(job, reset=job.mail is not None and job.mail.code < 300)
            self._end(job)
        elif not job.wanted:
            # RFC 2920, section 3.1: nobody was accepted, yet DATA was. An empty message ends it.
            job.lone_dot = True
            self._expect(FINAL_TIMEOUT)
            send(self._wire, command(b"."))
        else:
            self._expect(BODY_TIMEOUT)
            self._decide(job)

    def _decide(self, job: Job) -> None:
        """354 is in and somebody was accepted: what does the intent say?"""
        if job.granted:
            self._body(job)
        elif job.granted is False:
            # Not even an empty message may end this: it would be delivered.
            self._link.lose("the message was withdrawn")

    def _after_lone_dot(self, job: Job, reply: Reply) -> None:
        job.notes = (*job.notes, f"DATA was accepted without a recipient, then: {reply}")
        self._close(job, reply)

    def _early(self, job: Job, reply: Reply) -> None:
        """A reply before the body was complete: the session cannot be led to a known state."""
        if reply.code >= 400:
            if job.phase is Phase.BODY:
                job.final = reply
            elif job.data is not None:
                job.data = reply
        self._link.lose(f"before its turn: {reply}", broken=reply.code < 400)

    def _unasked(self, reply: Reply) -> None:
        self._link.lose(f"unasked: {reply}", broken=reply.code != 421)

    # -- ending ----------------------------------------------------------------------------

    def _leave(self, job: Job, *, reset: bool = False) -> None:
        """*job* needs the wire no more: the next one's turn."""
        self._jobs.popleft()
        if reset:
            self._resets += 1
            self._expect(self._about.timeout)
            line = command(b"RSET")
            if self._trace:
                self._link.sent(line)
            send(self._wire, line)
        if not self._jobs:
            if not self._resets:
                self._expect(None)
        elif self._jobs[0].sent:
            self._expect(self._about.timeout)
        elif self._about.pipelining or not self._resets:
            self._begin(self._jobs[0], b"")

    def _reset_answered(self, reply: Reply) -> None:
        self._resets -= 1
        if reply.code >= 300:
            self._link.lose(f"RSET was refused: {reply}", broken=reply.code != 421)
        elif self._jobs and not self._jobs[0].sent:
            self._begin(self._jobs[0], b"")
        elif not self._jobs and not self._resets:
            self._expect(None)

    def _end(self, job: Job) -> None:
        """Nothing more is learnt about *job*; its result waits only for its own intent."""
        about = self._about
        job.outcome = job.came_to(about.tls, about.peer, about.notes)
        job.body = b""
        if job.granted is not None:
            self._fire(job)

    def _fire(self, job: Job) -> None:
        assert job.outcome is not None
        if job.granted:
            job.result.callback(job.outcome)
        else:
            job.result.errback(Withdrawn("the intent was refused; no body was begun"))

    def lost(self, reason: str) -> None:
        """The session is gone: every transaction ends by how far it came."""
        if self._lost:
            return
        self._lost = reason
        if self._producer is not None:
            self._producer.stop()
            self._producer = None
        jobs, self._jobs = list(self._jobs), deque()
        for job in jobs:
            if job.sent:
                job.error = reason
                self._end(job)
            else:
                job.result.errback(SessionLost(job.stage, reason))


async def _wait_for(awaitable: Awaitable[bool]) -> bool:
    return await awaitable
