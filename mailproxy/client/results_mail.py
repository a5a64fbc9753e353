"""Answers about mail, as types; see :mod:`mailproxy.client.results`. Pure."""

from __future__ import annotations

from typing import Any

from mailproxy.client.results import Result
from mailproxy.items import WireItem, WireRecipient


class Rejection(Result, frozen=True, kw_only=True):
    """A message that was not taken. :param index: its place, where it has no usable id."""

    id: str | None
    index: int | None = None
    reason: str


class AddedItem(Result, frozen=True, kw_only=True):
    """What was done with one message: ``queued``, ``replaced``, ``kept``, ``duplicate``, ..."""

    id: str | None
    index: int | None = None
    state: str
    reason: str | None = None


class Added(Result, frozen=True, kw_only=True):
    """
    What was done with the messages of one request.

    :param queued: how many were taken.
    :param items: each of them, in order.
    """

    queued: int
    rejected: list[Rejection] = []
    items: list[AddedItem] = []


class HistoryEvent(Result, frozen=True, kw_only=True):
    """One step of a message's life."""

    event_id: str | None = None
    kind: str
    at: float
    generation: int
    final: bool
    data: dict[str, Any] = {}
    reason: str | None = None
    reported_at: float | None = None
    attempt: dict[str, Any] | None = None
    cut: bool = False


class Message(Result, frozen=True, kw_only=True):
    """
    A message as far as it is known.

    :param error: why it has failed, for good.
    :param deferred_reason: why it is put off.
    :param message: what was submitted, as far as it is still stored.
    :param history: its steps, if they were asked for.
    """

    id: str
    tenant_id: str
    account_id: str
    priority: int
    batch_code: str | None
    deferred_ts: int | None
    expires_at: int | None = None
    sent_ts: int | None
    error_ts: int | None
    error: str | None
    deferred_reason: str | None
    reported_ts: int | None
    created_at: str
    updated_at: str
    state: str
    attempts: int
    message_id: str
    recipients: list[WireRecipient]
    message: dict[str, Any]
    history: list[HistoryEvent] | None = None


class MessageView(Result, frozen=True, kw_only=True):
    """A message with its steps; *mime*, if asked for: what is sent, in base64, or why not."""

    message: Message
    mime: str | None = None
    mime_reason: str | None = None


class Kept(Result, frozen=True, kw_only=True):
    """A message that was not removed."""

    id: str
    state: str


class Deleted(Result, frozen=True, kw_only=True):
    """What was taken back. :param detail: of *not_found* those that there are."""

    removed: int
    not_found: list[str] = []
    unauthorized: list[str] = []
    detail: list[Kept] = []


class Removed(Result, frozen=True, kw_only=True):
    """How many were removed."""

    removed: int


class ActResult(Result, frozen=True, kw_only=True):
    """
    How it stands with a message now.

    :param changed: whether this call changed anything; if not, *reason* says why.
    :param begun: a body was on its way: that attempt comes to its own outcome.
    """

    tenant_id: str
    id: str
    act: str
    changed: bool
    begun: bool
    state: str
    reason: str


class GroupResult(Result, frozen=True, kw_only=True):
    """
    How it stands with a batch or an account now.

    :param waiting: messages that are open and not under way.
    :param in_flight: those that had begun: these come to their own outcome.
    """

    tenant_id: str
    batch_code: str | None = None
    account_id: str | None = None
    act: str
    changed: bool
    held: bool
    waiting: int
    in_flight: int
    reason: str


class Hold(Result, frozen=True, kw_only=True):
    """A batch or an account that is held."""

    tenant_id: str
    batch_code: str | None = None
    account_id: str | None = None
    since: int
    reason: str


class PausedDomain(Result, frozen=True, kw_only=True):
    """A recipient domain that is paused."""

    tenant_id: str
    domain: str
    since: int


class DomainResult(Result, frozen=True, kw_only=True):
    """How it stands with a recipient domain now."""

    tenant_id: str
    domain: str
    paused: bool
    changed: bool


class Suppression(Result, frozen=True, kw_only=True):
    """An address that gets no mail. :param source: ``manual``, ``import`` or ``refused``."""

    tenant_id: str
    address: str
    reason: str
    source: str
    since: int


class SuppressionsAdded(Result, frozen=True, kw_only=True):
    """How many are new on the list, and how many were there."""

    added: int
    known: int


class BadLine(Result, frozen=True, kw_only=True):
    """A line that was passed over."""

    line: int
    reason: str


class SuppressionsImported(SuppressionsAdded, frozen=True, kw_only=True):
    """How the list has grown. :param errors: the first of the lines that were passed over."""

    invalid: int
    errors: list[BadLine]


class Event(WireItem, kw_only=True):
    """An item of a delivery report. :param number: ascends within the tenant; digits."""

    number: str


class Events(Result, frozen=True, kw_only=True):
    """Events, oldest first. :param next: what to pass as *after* to go on behind these."""

    events: list[Event]
    next: str


class ExplainedRecipient(Result, frozen=True, kw_only=True):
    """A recipient as it was parsed."""

    address: str
    kind: str
    suppressed: bool
    paused: bool


class ExplainedEnvelope(Result, frozen=True, kw_only=True):
    """Whom the message would come from and go to."""

    sender: str
    recipients: list[ExplainedRecipient]


class Explanation(Result, frozen=True, kw_only=True):
    """
    What would become of a message.

    :param accepted: whether it would be taken; if not, *reason* says why.
    :param size: bytes on the wire.
    :param notes: what its timeline would say.
    :param stored: what is stored under its id.
    :param mime: the exact bytes, in base64; or *mime_reason*: why there are none.
    """

    accepted: bool
    reason: str | None = None
    id: str | None = None
    tenant_id: str | None = None
    envelope: ExplainedEnvelope | None = None
    account: dict[str, Any] | None = None
    routes: list[dict[str, Any]] = []
    limits: dict[str, Any]
    size: int | None = None
    priority: int | None = None
    batch_code: str | None = None
    deferred_ts: int | None = None
    test: bool = False
    notes: list[str] = []
    stored: dict[str, Any] | None = None
    mime: str | None = None
    mime_reason: str | None = None
