"""
From one submitted element to a message the store can take, or the reason why not.

What cannot be composed is refused here, so that nothing accepted fails for its own form later.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import attrs
import msgspec

from mailproxy import payload, raw
from mailproxy.api import fields
from mailproxy.api.attachments import AttachmentRules, take_attachments
from mailproxy.api.wire import Element, Rejected, read_element, usable_id
from mailproxy.compose import compose
from mailproxy.composed import Composed
from mailproxy.digests import content_digest, raw_digest
from mailproxy.errors import BadMessage
from mailproxy.model import (
    DEFAULT_TENANT,
    Attachment,
    Content,
    Mailbox,
    NewMessage,
    NewRecipient,
)
from mailproxy.states import RecipientKind

_KINDS = (RecipientKind.TO, RecipientKind.CC, RecipientKind.BCC)

#: Stands for contents that are not here yet: what is fetched later has part 0.
_TO_BE_FETCHED = {0: b""}


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
    :param test: whether all of it is a test, whatever the elements say.
    :param attachments: what attachments may name.
    :param composed: where what was composed is kept until it is sent.
    """

    tenant_id: str | None
    tenant_exists: Callable[[str], bool]
    now: float
    default_priority: int
    new_id: Callable[[], str]
    helo_name: str
    max_bytes: int
    max_recipients: int
    test: bool = False
    attachments: AttachmentRules = attrs.field(factory=AttachmentRules)
    composed: Composed | None = None

    def judge(self, source: msgspec.Raw | bytes) -> NewMessage:
        """:raises Rejected: the element is not accepted; the reason names the field at fault."""
        element = read_element(source)
        return self._guarded(element, self._accept)

    def judge_raw(self, element: Element, data: bytes, orcpt: Sequence[str] = ()) -> NewMessage:
        """
        The same for RFC 5322 bytes; *element* is the envelope.

        :param orcpt: original recipients, in the order of the recipients; none: the same.
        :raises Rejected: likewise.
        """
        return self._guarded(element, partial(self._accept_raw, data, orcpt))

    def _guarded(
        self, element: Element, accept: Callable[[Element, str], NewMessage]
    ) -> NewMessage:
        id = element.id
        if not usable_id(id):
            raise Rejected(fields.bad_id(id))
        try:
            return accept(element, id)
        except Rejected as rejected:
            raise Rejected(rejected.reason, id) from None
        except BadMessage as error:
            field = error.field.partition(".")[0]
            raise Rejected(f"invalid {field}: {error.problem}", id) from None

    def _accept(self, element: Element, id: str) -> NewMessage:
        tenant_id = self._tenant(element.tenant_id)
        headers, notes = fields.take_headers(element) if element.headers else ((), ())
        if not element.sender or element.sender.isspace():
            raise Rejected("missing from")
        (to, cc, bcc), recipients = self._recipients(element)
        attachments, parts = self._attachments(element, tenant_id)
        plain, html = fields.texts(element)
        content = Content(
            sender=fields.mailbox("from", element.sender),
            to=to,
            cc=cc,
            bcc=bcc,
            reply_to=fields.mailboxes("reply_to", element.reply_to) if element.reply_to else (),
            subject=element.subject or "",
            plain=plain,
            html=html,
            headers=headers,
            attachments=attachments,
            return_path=element.return_path or "",
            dsn=None if element.dsn is None else fields.dsn(element.dsn),
        )
        given = fields.message_id(element.message_id) if element.message_id else None
        return self._message(
            element,
            id,
            content,
            tenant_id=tenant_id,
            envelope_from=fields.envelope_from(content),
            recipients=tuple(recipients),
            digest=content_digest(content, element.account_id, given, self._test(element)),
            message_id=given,
            parts=parts,
            notes=notes,
        )

    def _accept_raw(
        self, data: bytes, orcpt: Sequence[str], element: Element, id: str
    ) -> NewMessage:
        tenant_id = self._tenant(element.tenant_id)
        sender = fields.bare(element.sender)
        (to, *_), recipients = self._recipients(element)
        dsn = None
        if element.dsn is not None:
            addresses = [each.address for each in recipients]
            dsn = fields.dsn(element.dsn, addresses, orcpt, where="")
        if len(data) > self.max_bytes:
            raise Rejected(f"invalid message: larger than {self.max_bytes} bytes")
        read = raw.read(data)
        shown = read.sender or (fields.mailbox("from", sender) if sender else None)
        if shown is None:
            raise Rejected("invalid message: its From is not an address")
        test = self._test(element)
        text, parts = raw.kept(read.data)
        return self._message(
            element,
            id,
            Content(
                shown,
                to,
                subject=read.subject,
                plain=text,
                return_path=sender,
                raw=True,
                dsn=dsn,
            ),
            tenant_id=tenant_id,
            envelope_from=sender,
            recipients=tuple(recipients),
            digest=raw_digest(read.data, sender, recipients, element.account_id, test),
            message_id=read.message_id,
            parts=parts,
            notes=tuple(f"header cut: {name}" for name in read.cut),
        )

    def _message(
        self,
        element: Element,
        id: str,
        content: Content,
        *,
        tenant_id: str,
        envelope_from: str,
        recipients: tuple[NewRecipient, ...],
        digest: bytes,
        message_id: str | None,
        parts: tuple[bytes, ...],
        notes: tuple[str, ...],
    ) -> NewMessage:
        """What is the same for elements and for bytes. :param message_id: the client's own."""
        message_id = message_id or f"<{self.new_id()}@{self.helo_name}>"
        not_before, not_after = fields.period(element)
        return NewMessage(
            tenant_id=tenant_id,
            id=id,
            account_id=element.account_id or None,
            priority=self._priority(element.priority),
            batch=fields.batch(element.batch_code) if element.batch_code else "",
            not_before=not_before,
            not_after=not_after,
            envelope_from=envelope_from,
            recipients=recipients,
            payload=(stored := payload.dump(content)),
            digest=digest,
            size=self._size(content, stored, id, message_id, parts),
            message_id=message_id,
            parts=parts,
            notes=notes,
            test=self._test(element),
        )

    def _attachments(
        self, element: Element, tenant_id: str
    ) -> tuple[tuple[Attachment, ...], tuple[bytes, ...]]:
        if not element.attachments:
            return (), ()
        return take_attachments(element.attachments, tenant_id, self.attachments)

    def _test(self, element: Element) -> bool:
        return self.test or bool(element.test)

    def _size(
        self, content: Content, stored: bytes, id: str, message_id: str, parts: tuple[bytes, ...]
    ) -> int:
        """Bytes of the message as it goes out, as far as its contents are here."""
        contents = _TO_BE_FETCHED | dict(enumerate(parts, 1))
        body = compose(content, mail_id=id, message_id=message_id, date=self.now, parts=contents)
        if len(body) > self.max_bytes:
            raise Rejected(f"invalid message: larger than {self.max_bytes} bytes")
        if self.composed is not None and not (parts or content.attachments):
            self.composed.keep(stored, id, message_id, self.now, body)
        return len(body)

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
            for mailbox in fields.mailboxes(kind.value, value) if value else ():
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
        if (number := fields.priority(value)) is None:
            raise Rejected("invalid priority: expected 0 to 3, immediate, high, medium or low")
        return number
