"""The calls about mail: handed in, looked at, taken back, decided over."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote_plus

import msgspec

from mailproxy.client.acts import GroupActs, MessageActs
from mailproxy.client.caller import Caller, convert, given, join
from mailproxy.client.errors import BadAnswer, Refused, Rejected
from mailproxy.client.results_mail import (
    Added,
    AddedItem,
    Deleted,
    DomainResult,
    Event,
    Events,
    Explanation,
    Hold,
    Message,
    MessageView,
    PausedDomain,
    Rejection,
    Removed,
    Suppression,
    SuppressionsAdded,
    SuppressionsImported,
)
from mailproxy.states import Verdict

Addresses = str | Sequence[str]

#: Characters of a raw message's recipients, as they stand in a query: a request's line has an end.
ENVELOPE = 12_000

#: Events of one answer, unless it is said how many.
EVENTS = 500


def new_id() -> str:
    """An id that no other message has."""
    return uuid.uuid4().hex


def attachment(filename: str, content: bytes, mime_type: str | None = None) -> dict[str, Any]:
    """An attachment whose *content* goes with the message."""
    path = "base64:" + base64.b64encode(content).decode("ascii")
    return given(filename=filename, storage_path=path, mime_type=mime_type)


def envelopes(to: Sequence[str], most: int = ENVELOPE) -> Iterator[list[str]]:
    """*to* in parts, each of which goes with one raw message."""
    part: list[str] = []
    size = 0
    for each in to:
        length = len(quote_plus(each)) + len("&to=")
        if part and size + length > most:
            yield part
            part, size = [], 0
        part.append(each)
        size += length
    if part:
        yield part


class Mail(Caller):
    """
    Messages are known by their ids, and one that is posted twice is not sent twice: that is why
    handing mail in is repeated until it is known what became of it.
    """

    def add_messages(
        self,
        messages: Iterable[Mapping[str, Any]],
        *,
        default_priority: int | str | None = None,
        idempotency_key: str | None = None,
    ) -> Added:
        """
        Hand in messages; each is judged on its own.

        :param messages: their fields as the API names them, at most 10 000; one without an ``id``
            gets one, which is in ``items`` of the result.
        :param idempotency_key: keeps the answer, and gives it again, for 24 hours.
        :return: also when none was taken: look at ``rejected``.
        """
        body = {"messages": [_with_id(each) for each in messages]}
        try:
            return self.ask(
                Added,
                "POST",
                "/commands/add-messages",
                {"verbose": True},
                body | given(default_priority=default_priority),
                headers=given(**{"Idempotency-Key": idempotency_key}),
                repeatable=True,
            )
        except Refused as error:
            if not isinstance(error.detail, dict):
                raise
            return _all_rejected(error.detail)

    def send(
        self,
        sender: str,
        to: Addresses,
        subject: str = "",
        body: str | None = None,
        *,
        html: str | None = None,
        id: str | None = None,
        **fields: Any,
    ) -> AddedItem:
        """
        Hand in one message.

        :param body: its text; *html*: its text in HTML; with both a reader shows what it can.
        :param id: its name for you; default: a new one.
        :param fields: further ones as the API names them: ``cc``, ``bcc``, ``reply_to``,
            ``headers``, ``attachments`` (see :func:`attachment`), ``account_id``, ``priority``,
            ``deferred_ts``, ``batch_code``, ...
        :return: its id, and what was done with it.
        :raises Rejected: it was not taken.
        """
        texts = given(body_plain="" if body is None and html is None else body, body_html=html)
        item: dict[str, Any] = {"id": id or new_id(), "from": sender, "to": to, "subject": subject}
        added = self.add_messages([item | texts | given(**fields)])
        for each in added.items:
            if each.state == Verdict.REJECTED:
                raise Rejected(each.reason or "rejected", 200, id=each.id)
            return each
        raise BadAnswer("the answer tells of no message")

    def send_raw(
        self,
        content: bytes,
        sender: str,
        to: Addresses,
        *,
        id: str | None = None,
        idempotency_key: str | None = None,
        **fields: Any,
    ) -> AddedItem:
        """
        Hand in one message as RFC 5322 bytes; it leaves as it is, but without Bcc.

        :param sender: of the envelope; empty: the null sender.
        :param to: recipients of the envelope, as many as :func:`envelopes` puts together.
        :param fields: ``account_id``, ``priority``, ``batch_code``, ``deferred_ts``,
            ``expires_at``, ``notify``, ``ret``, ``envid``, ``test``.
        :raises Rejected: it was not taken.
        """
        name, recipients = id or new_id(), [to] if isinstance(to, str) else [*to]
        if len(list(envelopes(recipients))) > 1:
            raise Rejected("too many recipients for one raw message", id=name)
        query = {"id": name, "from": sender or "<>", "to": recipients}
        try:
            item = self.ask(
                _Raw,
                "POST",
                "/v1/messages/raw",
                query | fields,
                content=content,
                content_type="message/rfc822",
                headers=given(**{"Idempotency-Key": idempotency_key}),
                repeatable=True,
            )
        except Refused as error:
            refusal = Rejected(error.reason, error.status, error.detail, id=name)
            raise refusal from None
        return AddedItem(id=name, state=item.state, reason=item.reason)

    def explain(self, message: Mapping[str, Any]) -> Explanation:
        """What would become of *message*, given as to :meth:`add_messages`; nothing is sent."""
        return self.ask(Explanation, "POST", "/v1/explain", json=dict(message), repeatable=True)

    def messages(
        self,
        *,
        state: str | None = None,
        account_id: str | None = None,
        batch_code: str | None = None,
        since: float | None = None,
        active_only: bool = False,
        include_history: bool = False,
        limit: int | None = None,
    ) -> Iterator[Message]:
        """
        Messages, fetched page by page: unfinished ones first, then finished ones, newest first.

        :param since: changed at or after this Unix time.
        :param limit: at most so many; None: all.
        """
        return self.paged(
            Message,
            "/messages",
            "messages",
            limit,
            state=state,
            account_id=account_id,
            batch_code=batch_code,
            since=since,
            active_only=active_only or None,
            include_history=include_history or None,
        )

    def message(self, id: str, *, body: bool = False) -> MessageView:
        """
        One message with its history.

        :param body: with the bytes that are sent.
        :raises NotFound: there is none.
        """
        return self.ask(
            MessageView, "GET", join("/v1/messages", id), {"body": True if body else None}
        )

    def delete_messages(self, ids: Sequence[str]) -> Deleted:
        """Take back what has not begun, at most 10 000; no report tells of it."""
        return self.ask(Deleted, "POST", "/commands/delete-messages", json={"ids": [*ids]})

    def cleanup(self, older_than_seconds: int | None = None) -> int:
        """
        Forget messages that ended and are reported.

        :param older_than_seconds: those that ended so long ago; None: whose retention is over.
        :return: how many.
        """
        fields = given(older_than_seconds=older_than_seconds)
        return self.ask(Removed, "POST", "/commands/cleanup-messages", json=fields).removed

    # -- decisions -----------------------------------------------------------------------------

    def on_message(self, id: str) -> MessageActs:
        """The acts on one message: ``client.on_message("order-1").hold()``."""
        return MessageActs(self, join("/v1/messages", id))

    def on_batch(self, code: str) -> GroupActs:
        """The acts on a batch."""
        return GroupActs(self, join("/v1/batches", code))

    def on_account(self, id: str) -> GroupActs:
        """The acts on the mail of an account."""
        return GroupActs(self, join("/v1/accounts", id))

    def holds(self) -> list[Hold]:
        """The batches and accounts that are held."""
        return self.entries(Hold, "/v1/holds", "holds")

    def destinations(self) -> list[PausedDomain]:
        """The recipient domains that are paused."""
        return self.entries(PausedDomain, "/v1/destinations", "destinations")

    def pause_domain(self, domain: str) -> DomainResult:
        """Send nothing to recipients in this very domain."""
        return self._domain(domain, "pause")

    def resume_domain(self, domain: str) -> DomainResult:
        """Send there again."""
        return self._domain(domain, "resume")

    def _domain(self, domain: str, verb: str) -> DomainResult:
        path = join("/v1/destinations", domain, verb)
        return self.ask(DomainResult, "POST", path, repeatable=True)

    # -- suppression ---------------------------------------------------------------------------

    def suppressions(self, limit: int | None = None) -> Iterator[Suppression]:
        """Addresses that get no mail, fetched page by page."""
        return self.paged(Suppression, "/v1/suppressions", "suppressions", limit)

    def suppress(self, *addresses: str, reason: str | None = None) -> SuppressionsAdded:
        """Suppress *addresses*, at most 10 000: mail to them fails at once."""
        entries = [given(address=each, reason=reason) for each in addresses]
        path = "/v1/suppressions"
        return self.ask(SuppressionsAdded, "POST", path, json={"entries": entries}, repeatable=True)

    def import_suppressions(
        self, content: bytes, content_type: str = "text/csv"
    ) -> SuppressionsImported:
        """Suppress the addresses of a list: CSV, or lines of JSON."""
        return self.ask(
            SuppressionsImported,
            "POST",
            "/v1/suppressions/import",
            content=content,
            content_type=content_type,
            repeatable=True,
        )

    def unsuppress(self, address: str) -> None:
        """Let *address* have mail again. :raises NotFound: it is not on the list."""
        self.call("DELETE", join("/v1/suppressions", address))

    # -- events --------------------------------------------------------------------------------

    def events(self, after: str = "0", limit: int = EVENTS) -> Events:
        """
        What became of messages, oldest first; keep ``next`` once these are dealt with, and pass
        it as *after* the next time.

        :param after: digits; ``"0"``: from the beginning.
        :param limit: 1 to 1 000.
        """
        return self.ask(Events, "GET", "/v1/events", {"after": after, "limit": limit})

    def all_events(self, after: str = "0") -> Iterator[Event]:
        """The same, page by page, up to the newest there is; keep the ``number`` of the last."""
        while (page := self.events(after)).events:
            yield from page.events
            after = page.next

    def replay(self, *, since: float | None = None, ids: Sequence[str] | None = None) -> int:
        """
        Have events told again: all since a Unix time, or the final ones of messages.

        :return: how many.
        """
        fields = given(since=since, ids=None if ids is None else [*ids])
        return self.ask(_Replayed, "POST", "/v1/reports/replay", json=fields).replayed


def _with_id(message: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": new_id()} | given(**message)


def _all_rejected(detail: Any) -> Added:
    """What the refusal of a whole batch tells, as its result."""
    if not isinstance(detail, dict) or "rejected" not in detail:
        raise BadAnswer("the refusal does not tell of the messages", 400)
    rejected = convert(detail["rejected"], list[Rejection])
    items = [
        AddedItem(id=each.id, index=each.index, state=Verdict.REJECTED, reason=each.reason)
        for each in rejected
    ]
    return Added(queued=0, rejected=rejected, items=items)


class _Raw(msgspec.Struct):
    state: str
    reason: str | None = None


class _Replayed(msgspec.Struct):
    replayed: int
