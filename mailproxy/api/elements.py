"""
From one submitted element to a message the store can take, or the reason why not.

What cannot be composed is refused here, so that nothing accepted fails for its own form later.
The digest by which a repeated id is compared is made here too.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any

import attrs
import msgspec

from mailproxy import payload
from mailproxy.address import envelope_address, parse_mailbox, parse_mailboxes
from mailproxy.api.attachments import take_attachments
from mailproxy.api.wire import Element, Rejected, read_element, usable_id
from mailproxy.compose import compose, is_reserved_header
from mailproxy.errors import BadAddress, BadMessage
from mailproxy.headers import check_header
from mailproxy.model import DEFAULT_TENANT, Content, Mailbox, NewMessage, NewRecipient
from mailproxy.states import Priority, RecipientKind

#: Words for priorities.
LABELS = {priority.name.lower(): int(priority) for priority in Priority}

#: The last second of the year 9999.
MAX_TIME = 253_402_300_799

#: Header fields of the client's own in one message.
MAX_HEADERS = 200

_KINDS = (RecipientKind.TO, RecipientKind.CC, RecipientKind.BCC)
#: Headers that fill the field of the same name.
_FILLS = {"message-id": "message_id", "reply-to": "reply_to", "return-path": "return_path"}
_CONTENT_TYPES = ("html", "plain")

_control = re.compile(r"[\x00-\x1f\x7f]").search
_digits = re.compile(r"[+-]?[0-9]{1,20}").fullmatch
_encode = msgspec.json.Encoder().encode


@attrs.frozen
class Judge:
    """
    Judges the elements of one request.

    :param tenant_id: the only tenant they may name; None for any, ``default`` if they name none.
    :param now: the wall clock, Unix seconds.
    :param default_priority: for elements that name none.
    :param new_id: makes the left part of a Message-ID.
    :param max_bytes: of one composed message.
    :param max_recipients: of one message.
    """

    tenant_id: str | None
    tenant_exists: Callable[[str], bool]
    now: float
    default_priority: int
    new_id: Callable[[], str]
    helo_name: str
    max_bytes: int
    max_recipients: int

    def judge(self, raw: msgspec.Raw | bytes) -> NewMessage:
        """:raises Rejected: the element is not accepted; the reason names the field at fault."""
        element = read_element(raw)
        id = element.id
        if not usable_id(id):
            raise Rejected(_bad_id(id))
        try:
            return self._accept(element, id)
        except Rejected as rejected:
            raise Rejected(rejected.reason, id) from None
        except BadMessage as error:
            field = error.field.partition(".")[0]
            raise Rejected(f"invalid {field}: {error.problem}", id) from None

    def _accept(self, element: Element, id: str) -> NewMessage:
        tenant_id = self._tenant(element.tenant_id)
        notes = _take_headers(element) if element.headers else ((), ())
        if not element.sender or element.sender.isspace():
            raise Rejected("missing from")
        (to, cc, bcc), recipients = self._recipients(element)
        attachments, parts = take_attachments(element.attachments or [])
        plain, html = _texts(element)
        content = Content(
            sender=_mailbox("from", element.sender),
            to=to,
            cc=cc,
            bcc=bcc,
            reply_to=_mailboxes("reply_to", element.reply_to) if element.reply_to else (),
            subject=element.subject or "",
            plain=plain,
            html=html,
            headers=notes[0],
            attachments=attachments,
            return_path=element.return_path or "",
        )
        given = _message_id(element.message_id) if element.message_id else None
        message_id = given or f"<{self.new_id()}@{self.helo_name}>"
        composed = compose(
            content,
            mail_id=id,
            message_id=message_id,
            date=self.now,
            parts=dict(enumerate(parts, 1)),
        )
        if len(composed) > self.max_bytes:
            raise Rejected(f"invalid message: larger than {self.max_bytes} bytes")
        return NewMessage(
            tenant_id=tenant_id,
            id=id,
            account_id=element.account_id or None,
            priority=self._priority(element.priority),
            batch=_batch(element.batch_code) if element.batch_code else "",
            not_before=None if element.deferred_ts is None else _instant(element.deferred_ts),
            envelope_from=_envelope_from(content),
            recipients=tuple(recipients),
            payload=payload.dump(content),
            digest=_digest(content, element.account_id, given),
            size=len(composed),
            message_id=message_id,
            parts=parts,
            notes=notes[1],
        )

    def _tenant(self, named: str | None) -> str:
        if named and self.tenant_id is not None and named != self.tenant_id:
            raise Rejected("invalid tenant_id: not the tenant of the token or the query")
        tenant_id = named or self.tenant_id or DEFAULT_TENANT
        if not self.tenant_exists(tenant_id):
            raise Rejected("tenant not found")
        return tenant_id

    def _recipients(self, element: Element) -> tuple[list[tuple[Mailbox, ...]], list[NewRecipient]]:
        """
        To, cc and bcc, and the envelope of them all.

        An address that stands in several places counts where it is first.
        """
        seen: set[str] = set()
        found: list[tuple[Mailbox, ...]] = []
        envelope: list[NewRecipient] = []
        for kind, value in zip(_KINDS, (element.to, element.cc, element.bcc), strict=True):
            mine: list[Mailbox] = []
            for mailbox in _mailboxes(kind.value, value) if value else ():
                addr = mailbox.addr
                if addr not in seen:
                    seen.add(addr)
                    mine.append(mailbox)
                    envelope.append(NewRecipient(addr, kind))
            if len(seen) > self.max_recipients:
                raise Rejected(f"invalid {kind}: more than {self.max_recipients} recipients")
            found.append(tuple(mine))
        if not seen:
            raise Rejected("missing to")
        return found, envelope

    def _priority(self, value: int | str | None) -> int:
        if value is None:
            return self.default_priority
        if (number := priority(value)) is None:
            raise Rejected("invalid priority: expected 0 to 3, immediate, high, medium or low")
        return number


def priority(value: int | str) -> int | None:
    """The priority that *value* stands for, clamped to 0..3; None if it stands for none."""
    if isinstance(value, str):
        text = value.strip().lower()
        if text in LABELS:
            return LABELS[text]
        if not _digits(text):
            return None
        value = int(text)
    return max(0, min(3, value))


def _bad_id(id: object) -> str:
    if id is None or (isinstance(id, str) and (not id or id.isspace())):
        return "missing id"
    if not isinstance(id, str):
        return "invalid id: expected str"
    if len(id) > 255:
        return "invalid id: longer than 255 characters"
    return "invalid id: a control character"


def _mailbox(field: str, text: str) -> Mailbox:
    try:
        return parse_mailbox(text)
    except BadAddress as error:
        raise Rejected(f"invalid {field}: {error}") from None


def _mailboxes(field: str, value: str | list[str]) -> tuple[Mailbox, ...]:
    try:
        return parse_mailboxes(value)
    except BadAddress as error:
        raise Rejected(f"invalid {field}: {error}") from None


def _texts(element: Element) -> tuple[str | None, str | None]:
    """The plain and the HTML text; ``body`` is the one that ``content_type`` says."""
    kind = element.content_type or "plain"
    if kind not in _CONTENT_TYPES:
        raise Rejected("invalid content_type: expected html or plain")
    plain, html = element.body_plain, element.body_html
    if element.body or (plain is None and html is None):
        body = element.body or ""
        if kind == "html":
            html = body if html is None else html
        else:
            plain = body if plain is None else plain
    return plain, html


def _take_headers(
    element: Element,
) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    """The headers to set, and notes of those that are not the client's to set."""
    headers = element.headers or {}
    if len(headers) > MAX_HEADERS:
        raise Rejected(f"invalid headers: more than {MAX_HEADERS}")
    kept: list[tuple[str, str]] = []
    notes: list[str] = []
    for name, value in headers.items():
        text = value if isinstance(value, str) else _scalar(value)
        if not is_reserved_header(name):
            kept.append((name, text))
            continue
        check_header(name, text)
        field = _FILLS.get(name.lower())
        if field is not None and text and not getattr(element, field):
            setattr(element, field, text)
        elif field is None:
            notes.append(f"header dropped: {name}")
    return tuple(kept), tuple(notes)


def _scalar(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _message_id(text: str) -> str:
    """The client's own Message-ID, in the angle brackets it may lack; composing checks it."""
    text = text.strip(" ")
    return text if text.startswith("<") else f"<{text}>"


def _batch(text: str) -> str:
    if len(text) > 64:
        raise Rejected("invalid batch_code: longer than 64 characters")
    if _control(text):
        raise Rejected("invalid batch_code: a control character")
    if text == "*":
        raise Rejected("invalid batch_code: * means all batches")
    return text


def _instant(value: int | float | str) -> float:
    if isinstance(value, str):
        if not _digits(value):
            raise Rejected("invalid deferred_ts: expected Unix seconds")
        value = int(value)
    if not -MAX_TIME <= value <= MAX_TIME:
        raise Rejected("invalid deferred_ts: out of range")
    return float(value)


def _envelope_from(content: Content) -> str:
    if not content.return_path or content.return_path.isspace():
        return content.sender.addr
    try:
        return envelope_address(content.return_path)
    except BadAddress as error:
        raise Rejected(f"invalid return_path: {error}") from None


def _digest(content: Content, account_id: str | None, message_id: str | None) -> bytes:
    """
    SHA-256 of what the client wrote, without priority, deferred_ts and batch_code.

    Keys in order, absent ones left out, so that a field added later changes no digest. Recipients
    are their parsed addresses.
    """
    fields: dict[str, Any] = {}
    if account_id:
        fields["account_id"] = account_id
    if content.attachments:
        fields["attachments"] = [(a.filename, a.mime_type, a.sha256) for a in content.attachments]
    if content.bcc:
        fields["bcc"] = [mailbox.addr for mailbox in content.bcc]
    if content.html is not None:
        fields["body_html"] = content.html
    if content.plain is not None:
        fields["body_plain"] = content.plain
    if content.cc:
        fields["cc"] = [mailbox.addr for mailbox in content.cc]
    fields["from"] = (content.sender.display, content.sender.addr)
    if content.headers:
        fields["headers"] = sorted(content.headers)
    if message_id:
        fields["message_id"] = message_id
    if content.reply_to:
        fields["reply_to"] = [mailbox.addr for mailbox in content.reply_to]
    if content.return_path:
        fields["return_path"] = content.return_path
    if content.subject:
        fields["subject"] = content.subject
    if content.to:
        fields["to"] = [mailbox.addr for mailbox in content.to]
    return hashlib.sha256(_encode(fields)).digest()
