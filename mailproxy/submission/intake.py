"""
What came by SMTP becomes a message in the queue, or a refusal that says why.

The bytes are kept as they came. Put in front: Received, which says how it came, and on the way out
what :mod:`mailproxy.raw` tells. Taken out: Bcc, and the fields by which a program that knows only
SMTP says what add-messages has fields for.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import attrs
from twisted.logger import Logger

from mailproxy import payload, raw
from mailproxy.clock import Names
from mailproxy.compose import compose
from mailproxy.composed import Composed
from mailproxy.digests import raw_digest
from mailproxy.dsn import Dsn, OfRecipient
from mailproxy.errors import BadMessage, MailProxyError, StoreError
from mailproxy.headers import date_header
from mailproxy.interfaces import IClock, IControl, IIntake, InThread
from mailproxy.metrics import Metrics
from mailproxy.model import Content, Enqueued, Mailbox, NewMessage, NewRecipient
from mailproxy.states import PRIORITY_LABELS, RecipientKind, Verdict
from mailproxy.submission.desk import Handed, Reply

#: Bytes up to which a message is read where it is, larger ones in a thread.
INLINE_BYTES = 256 * 1024

#: Seconds a message waits for the store's writer.
STORE_SECONDS = 60.0

#: Received fields from which on a message goes in circles. RFC 5321, section 6.3, says 100 for the
#: way through the world; a submission has not come far.
MAX_HOPS = 50

#: Our fields, and the name of what they fill.
PREFIX = "x-mailproxy-"

_FULL = Reply(452, b"4.3.1 Cannot store the message now")
_NOT_NOW = Reply(451, b"4.3.0 Cannot store the message now")
_STOPPING = Reply(421, b"4.3.2 The service is stopping")
_BARE = Reply(550, b"5.5.2 Lines end in CR LF; a bare CR or LF was found")

#: What the store's reasons to refuse a message are in SMTP.
_REFUSED = {
    "account not found": Reply(550, b"5.7.1 No account for this mail"),
    "tenant inactive": Reply(450, b"4.7.1 The tenant is inactive"),
    "tenant not found": Reply(550, b"5.7.1 No such tenant"),
}

_log = Logger()


class Refused(MailProxyError):
    """The message is not taken. :param reply: what the client is told."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply)
        self.reply = reply


@attrs.frozen
class Rules:
    """
    :param host: our name, in Received and in the Message-IDs made here.
    :param max_bytes: of one message as it leaves.
    :param default_priority: 0 to 3, for what names none.
    :param composed: where what was composed is kept until it is sent.
    """

    host: str = "localhost"
    max_bytes: int = 50 * 1024 * 1024
    default_priority: int = 2
    composed: Composed | None = None


class StoreIntake:
    """Takes messages in (:class:`~mailproxy.submission.desk.Intake`)."""

    def __init__(
        self,
        store: IIntake,
        control: IControl,
        clock: IClock,
        names: Names,
        metrics: Metrics,
        in_thread: InThread,
        rules: Rules,
    ) -> None:
        self._store = store
        self._control = control
        self._clock = clock
        self._names = names
        self._metrics = metrics
        self._in_thread = in_thread
        self._rules = rules

    def draining(self) -> bool:
        return self._control.draining()

    async def take(self, handed: Handed) -> Reply:
        try:
            return await self._take(handed)
        except Refused as refused:
            return refused.reply
        except StoreError as error:
            _log.warn("a message by SMTP cannot be stored: {error}", error=error)
            return _FULL if "full" in str(error) else _NOT_NOW

    async def _take(self, handed: Handed) -> Reply:
        if handed.bare:
            return _BARE
        now = self._clock.now()
        id = f"{self._names.rng.getrandbits(128):032x}"
        make = partial(message, handed, id, now, self._rules)
        small = len(handed.data) <= INLINE_BYTES
        new = make() if small else await self._in_thread(make)
        if self._control.draining():
            return _STOPPING
        (stored,) = await self._store.enqueue([new], now, STORE_SECONDS)
        self._metrics.accepted.labels(stored.verdict.value).inc()
        if stored.verdict is Verdict.REJECTED:
            return _refusal(stored)
        return Reply(250, f"2.0.0 queued as {new.id}".encode("ascii"))


def _refusal(stored: Enqueued) -> Reply:
    known = _REFUSED.get(stored.reason)
    return known or Reply(550, f"5.7.1 {stored.reason}".encode("ascii", "replace"))


def message(handed: Handed, id: str, now: float, rules: Rules) -> NewMessage:
    """
    The message to be stored.

    :param id: its id, if it does not say its own.
    :raises Refused: it is not one we can send.
    """
    try:
        return _message(handed, id, now, rules)
    except BadMessage as error:
        text = f"5.6.0 {error.problem}".encode("ascii", "replace")
        raise Refused(Reply(550, text)) from None


def _message(handed: Handed, id: str, now: float, rules: Rules) -> NewMessage:
    read = raw.read(handed.data)
    if read.hops > MAX_HOPS:
        raise Refused(Reply(554, b"5.4.6 Too many hops, this mail goes in circles"))
    if read.sender is None:
        raise Refused(Reply(550, b"5.6.0 From is not an address"))
    submitter = handed.submitter
    if not submitter.may_send_as(read.sender.addr):
        raise Refused(Reply(550, b"5.7.1 The address in From is not yours"))
    said: dict[str, str] = {}
    for name, value in read.ours:
        said.setdefault(name[len(PREFIX) :], value)
    message_id = read.message_id or f"<{id}@{rules.host}>"
    id = _said_id(said) or id
    account_id = said.get("account") or submitter.account_id
    if submitter.account_id and account_id != submitter.account_id:
        raise Refused(Reply(550, b"5.7.1 X-Mailproxy-Account is not yours"))
    to = {
        rcpt.recipient: NewRecipient(rcpt.recipient, RecipientKind.TO) for rcpt in handed.recipients
    }
    recipients = tuple(to.values())
    data = _received(handed, id, now, rules) + read.data
    text, parts = raw.kept(data)
    content = Content(
        read.sender,
        tuple(_mailbox(address) for address in to),
        subject=read.subject,
        plain=text,
        return_path=handed.mail.sender,
        raw=True,
        dsn=_notifications(handed),
        by_smtp=True,
    )
    composed = compose(
        content, mail_id=id, message_id=message_id, date=now, parts=dict(enumerate(parts, 1))
    )
    if len(composed) > rules.max_bytes:
        raise Refused(Reply(552, b"5.3.4 Message too large"))
    stored = payload.dump(content)
    if rules.composed is not None and not parts:
        rules.composed.keep(stored, id, message_id, now, composed)
    return NewMessage(
        tenant_id=submitter.tenant_id,
        id=id,
        account_id=account_id or None,
        priority=_priority(said, rules.default_priority),
        batch=_batch(said),
        not_before=_not_before(said),
        envelope_from=handed.mail.sender,
        recipients=recipients,
        payload=stored,
        # Of what the client wrote: handed over again it is the same mail, whenever it comes.
        digest=raw_digest(read.data, handed.mail.sender, recipients, account_id, False),
        size=len(composed),
        message_id=message_id,
        parts=parts,
        notes=tuple(
            f"header cut: {name}" for name in read.cut if not name.lower().startswith(PREFIX)
        ),
    )


def _notifications(handed: Handed) -> Dsn | None:
    """What MAIL and RCPT asked to be reported; None for nothing."""
    mail = handed.mail
    own = tuple(
        OfRecipient(rcpt.recipient, rcpt.notify, rcpt.orcpt)
        for rcpt in handed.recipients
        if rcpt.notify or rcpt.orcpt
    )
    return Dsn((), mail.ret, mail.envid, own) if mail.ret or mail.envid or own else None


def _mailbox(address: str) -> Mailbox:
    local, _, domain = address.rpartition("@")
    return Mailbox("", local, domain)


def _received(handed: Handed, id: str, now: float, rules: Rules) -> bytes:
    """The trace field (RFC 5321, section 4.4); who logged in is nobody's business further on."""
    peer = f"[IPv6:{handed.peer}]" if ":" in handed.peer else f"[{handed.peer or 'local'}]"
    date = date_header(int(now)).partition(":")[2].strip()
    tls = f"\r\n ({handed.tls})" if handed.tls else ""
    return (
        f"Received: from {handed.helo} ({peer}){tls}\r\n"
        f" by {rules.host} with {handed.protocol} id {id[:64]};\r\n {date}\r\n"
    ).encode("ascii", "replace")


# --- what the fields of ours say ------------------------------------------------------------------

Said = Mapping[str, str]


def _wrong(name: str, problem: str) -> Refused:
    return Refused(Reply(550, f"5.6.0 X-Mailproxy-{name}: {problem}".encode("ascii")))


def _said_id(said: Said) -> str:
    id = said.get("id", "")
    if len(id) > 255 or not (id.isascii() and id.isprintable()):
        raise _wrong("Id", "at most 255 printable ASCII characters")
    return id


def _priority(said: Said, default: int) -> int:
    word = said.get("priority", "").lower()
    if not word:
        return default
    if word in PRIORITY_LABELS:
        return PRIORITY_LABELS[word]
    if word in ("0", "1", "2", "3"):
        return int(word)
    raise _wrong("Priority", "expected 0 to 3, immediate, high, medium or low")


def _batch(said: Said) -> str:
    batch = said.get("batch", "")
    if len(batch) > 64 or not batch.isprintable():
        raise _wrong("Batch", "at most 64 printable characters")
    return batch


def _not_before(said: Said) -> float | None:
    text = said.get("not-before", "")
    if not text:
        return None
    if not text.isdigit() or len(text) > 12:
        raise _wrong("Not-Before", "expected Unix seconds")
    return float(text)
