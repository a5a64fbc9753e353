"""
The bounce of a message: what its sender is told by mail (RFC 3462, 3464, 6533). Pure.

A function of what is stored alone: made again it is the same, byte for byte. Whatever servers and
clients wrote, nothing of it becomes a line or a field of its own.
"""

from __future__ import annotations

import quopri
import re
import textwrap
from collections.abc import Sequence

from mailproxy import payload, raw
from mailproxy.acts import in_doubt
from mailproxy.compose import compose
from mailproxy.digests import raw_digest
from mailproxy.dsn import NEVER, Dsn
from mailproxy.headers import MAX_LINE, date_header, mailbox_header
from mailproxy.lines import lines_fit
from mailproxy.model import Content, Mailbox, NewMessage, NewRecipient
from mailproxy.states import RecipientKind, RecipientState
from mailproxy.undelivered import Undelivered, Unreached

#: What its From is called.
DISPLAY = "Mail delivery"

#: Characters of a line that is folded where it can be, of a word in it, and of a reply.
WIDTH, LONGEST, MOST_SAID = 76, 900, 2000

#: Statuses of RFC 3463 where the server gave none: too old, nobody knows, and anything else.
EXPIRED, DOUBTED, OTHER = "4.4.7", "4.4.2", "5.0.0"

_LOST = (RecipientState.FAILED, RecipientState.EXPIRED)
_status = re.compile(r"[45]\.[0-9]{1,3}\.[0-9]{1,3}").fullmatch
_odd = re.compile(r"[^\x20-\x7e]")
_not_plain = re.compile(r"[^\x21-\x2a\x2c-\x3c\x3e-\x5b\x5d-\x7e]")
_message_id = re.compile(r"<[!-;=?-~]{1,900}>").fullmatch
_kind = re.compile(r"[A-Za-z0-9-]{1,40}").fullmatch


def bounce(found: Undelivered, host: str, priority: int) -> NewMessage | None:
    """
    What the sender of *found* is to be told; None for nothing.

    Nothing for a message that did not come by SMTP, or from nobody: so a bounce never gets one.

    :param host: our name, in Reporting-MTA, From and Message-ID.
    :raises BadMessage: the bounce would be a message that cannot be sent.
    """
    content, sender = found.content, found.envelope_from
    if content is None or not content.by_smtp or not sender or not found.bounces.enabled:
        return None
    lost = [each for each in found.recipients if each.state in _LOST]
    lost = [each for each in lost if wants_failures(content.dsn, each.address)]
    if not lost:
        return None
    message_id = f"<bounce-{found.event_id}@{host}>"
    data = _written(found, lost, host, message_id)
    return _new(found, data, _from(found, host), message_id, priority)


def wants_failures(dsn: Dsn | None, address: str) -> bool:
    """Whether the sender wants to hear that *address* was not reached: as usual, or as it said."""
    if dsn is None:
        return True
    own = [each.notify for each in dsn.recipients if each.address == address and each.notify]
    notify = own[0] if own else dsn.notify
    return not notify or (NEVER not in notify and "FAILURE" in notify)


def _new(
    found: Undelivered, data: bytes, sender: Mailbox, message_id: str, priority: int
) -> NewMessage:
    text, parts = raw.kept(data)
    local, _, domain = found.envelope_from.rpartition("@")
    content = Content(sender, (Mailbox("", local, domain),), subject=_SUBJECT, plain=text, raw=True)
    id = f"bounce-{found.event_id}"
    composed = compose(
        content, mail_id=id, message_id=message_id, date=0.0, parts=dict(enumerate(parts, 1))
    )
    recipients = (NewRecipient(found.envelope_from, RecipientKind.TO),)
    account_id = found.bounces.account_id or found.account_id or None
    return NewMessage(
        tenant_id=found.tenant_id,
        id=id,
        account_id=account_id,
        priority=priority,
        batch="",
        not_before=None,
        envelope_from="",
        recipients=recipients,
        payload=payload.dump(content),
        digest=raw_digest(data, "", recipients, account_id, False),
        size=len(composed),
        message_id=message_id,
        parts=parts,
        notes=(f"bounce of {found.id}",),
    )


def _from(found: Undelivered, host: str) -> Mailbox:
    local, _, domain = (found.bounces.from_address or f"MAILER-DAEMON@{host}").rpartition("@")
    return Mailbox(DISPLAY, local, domain)


# --- the message ----------------------------------------------------------------------------------

_SUBJECT = "Mail could not be delivered"


def _written(found: Undelivered, lost: Sequence[Unreached], host: str, message_id: str) -> bytes:
    # Made of what was drawn when the message ended: nobody could put it into the message before.
    boundary = f"=_{found.event_id}"
    original = found.message_id if _message_id(found.message_id) else ""
    head = (
        mailbox_header("from", "From", (_from(found, host),))
        + f"To: <{_plain(found.envelope_from)}>\r\n"
        + f"Subject: {_SUBJECT}\r\n"
        + f"{_when('Date', found)}"
        + f"Message-ID: {message_id}\r\n"
        + (f"In-Reply-To: {original}\r\nReferences: {original}\r\n" if original else "")
        + "Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n"
        + "Content-Type: multipart/report; report-type=delivery-status;\r\n"
        + f' boundary="{boundary}"\r\n\r\n'
    ).encode()
    parts = (
        _part(b"text/plain; charset=utf-8", _text(found, lost).encode()),
        _part(b"message/delivery-status", _report(found, lost, host).encode("ascii")),
        _returned(found),
    )
    mark = b"--" + boundary.encode()
    return head + b"".join(b"%b\r\n%b\r\n" % (mark, part) for part in parts) + mark + b"--\r\n"


def _when(name: str, found: Undelivered) -> str:
    at = found.ended_at if name == "Date" else found.accepted_at
    return f"{name}: {date_header(int(at)).partition(': ')[2]}"


def _part(kind: bytes, data: bytes) -> bytes:
    """A part of text, quoted where it is not lines of ASCII."""
    if data.isascii() and lines_fit(data, MAX_LINE):
        return b"Content-Type: %b\r\nContent-Transfer-Encoding: 7bit\r\n\r\n%b" % (kind, data)
    quoted = quopri.encodestring(data.replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n")
    how = b"Content-Transfer-Encoding: quoted-printable"
    return b"Content-Type: %b\r\n%b\r\n\r\n%b" % (kind, how, quoted)


def _returned(found: Undelivered) -> bytes:
    """The message where the sender wants it and it is not too large, else its header."""
    dsn = found.content.dsn if found.content is not None else None
    header, blank, _ = found.data.partition(b"\r\n\r\n")
    header += b"\r\n" if blank else b""
    if dsn is None or dsn.ret != "FULL" or not found.whole or not header.isascii():
        kind = b"text/rfc822-headers" if header.isascii() else b"message/global-headers"
        return _part(kind, header)
    bits = b"7bit" if found.data.isascii() else b"8bit"
    head = b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: %b\r\n\r\n" % bits
    return head + found.data


def _text(found: Undelivered, lost: Sequence[Unreached]) -> str:
    lines = ["Your message could not be delivered to these recipients:", ""]
    for each in lost:
        lines.append(f"<{_plain(each.address)}>")
        if in_doubt(each.state, each.code, each.reply):
            lines.append("    Nobody knows whether it arrived: no answer came to its end.")
        elif each.state is RecipientState.EXPIRED:
            lines.append("    It was tried for as long as it was to be tried.")
        said = _ascii(_said(each)) or "No reason was given."
        lines += textwrap.wrap(said, WIDTH, initial_indent="    ", subsequent_indent="    ")
    lines += ["", "It is not tried again. What was told of it is in the parts that follow."]
    return "".join(f"{line}\r\n" for line in lines)


# --- the report for programs ----------------------------------------------------------------------


def _report(found: Undelivered, lost: Sequence[Unreached], host: str) -> str:
    dsn = found.content.dsn if found.content is not None else None
    about = [("Reporting-MTA", f"dns; {host}")]
    if dsn is not None and dsn.envid:
        about.insert(0, ("Original-Envelope-Id", dsn.envid))
    groups = [_fields(about) + _when("Arrival-Date", found)]
    groups += [_fields(_of_recipient(found, each, dsn)) for each in lost]
    return "\r\n".join(groups)


def _of_recipient(found: Undelivered, lost: Unreached, dsn: Dsn | None) -> list[tuple[str, str]]:
    fields = []
    known = () if dsn is None else dsn.recipients
    orcpt = next((each.orcpt for each in known if each.address == lost.address and each.orcpt), "")
    kind, _, original = orcpt.partition(";")
    if original and _kind(kind):
        fields.append(("Original-Recipient", f"{kind}; {original}"))
    fields += [
        ("Final-Recipient", _recipient(lost.address)),
        ("Action", "failed"),
        ("Status", _status_of(lost)),
    ]
    host = found.peer.rpartition(":")[0]
    if host and lost.code is not None:
        fields.append(("Remote-MTA", f"dns; {host}"))
    if said := _said(lost):
        kind = "smtp" if lost.code is not None else "x-mailproxy"
        fields.append(("Diagnostic-Code", f"{kind}; {said}"))
    return fields


def _status_of(lost: Unreached) -> str:
    """The server's own status; without one what its code, or the way it ended, says."""
    if lost.enhanced is not None and _status(lost.enhanced):
        return lost.enhanced
    if lost.code is not None and 400 <= lost.code <= 599:
        return f"{lost.code // 100}.0.0"
    if in_doubt(lost.state, lost.code, lost.reply):
        return DOUBTED
    return EXPIRED if lost.state is RecipientState.EXPIRED else OTHER


def _said(lost: Unreached) -> str:
    """The reply with its code, which may already stand in it."""
    reply = lost.reply[:MOST_SAID]
    if lost.code is None or reply.startswith(str(lost.code)):
        return reply
    return f"{lost.code} {reply}".rstrip()


def _recipient(address: str) -> str:
    """With its type; outside ASCII as RFC 6533, section 3, writes it where all is ASCII."""
    return f"rfc822; {_ascii(address)}" if address.isascii() else f"utf-8; {_xtext(address)}"


def _fields(fields: Sequence[tuple[str, str]]) -> str:
    return "".join(_folded(name, value) for name, value in fields)


def _folded(name: str, value: str) -> str:
    value = _ascii(value)
    if len(name) + len(value) + 2 <= WIDTH:
        return f"{name}: {value}\r\n"
    lines = textwrap.wrap(value, WIDTH, break_long_words=False, break_on_hyphens=False)
    pieces = [line[n : n + LONGEST] for line in lines for n in range(0, len(line), LONGEST)]
    return f"{name}: " + "\r\n ".join(pieces) + "\r\n"


def _ascii(text: str) -> str:
    """*text* on one line of ASCII: what has no place there as ``\\x{...}``."""
    return _odd.sub(lambda found: f"\\x{{{ord(found[0]):X}}}", text)


def _xtext(text: str) -> str:
    """An address as ``utf-8-addr-xtext`` (RFC 6533), if it is not plain as it stands."""
    return _not_plain.sub(lambda found: f"\\x{{{ord(found[0]):X}}}", text)


def _plain(address: str) -> str:
    """An address in a header or a text: without what would end the line."""
    return "".join(each for each in address if each.isprintable())
