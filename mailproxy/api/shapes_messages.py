"""The JSON of submissions and of lists of messages, as types; see :mod:`mailproxy.api.shapes`."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from mailproxy.api.doc import Doc, Param
from mailproxy.api.once import HEADER
from mailproxy.api.shapes import Iso, No, Unix, Yes
from mailproxy.api.wire import Element
from mailproxy.items import WireRecipient
from mailproxy.states import EventKind, MessageState, Phase, Verdict


class AddMessages(Struct, kw_only=True):
    """A batch of messages; each is judged on its own."""

    messages: list[Element]
    default_priority: Annotated[
        int | str | None, Meta(description="Of messages that name none; as `priority`.")
    ] = None


class Rejection(Struct, kw_only=True):
    """A message that was not taken."""

    id: str | None
    index: Annotated[
        int | UnsetType, Meta(description="Its place in the request, where it has no usable id.")
    ] = UNSET
    reason: Annotated[str, Meta(description="Names the field, never its value.")]


class AddedItem(Struct, kw_only=True):
    """What was done with one message."""

    id: str | None
    index: int | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    state: Verdict


class Added(Struct, kw_only=True):
    """What was taken is on disk."""

    ok: Yes = True
    queued: int
    rejected: list[Rejection]
    items: Annotated[
        list[AddedItem] | UnsetType, Meta(description="All of them in order, with `verbose`.")
    ] = UNSET


class AddedOne(Struct, kw_only=True):
    """The message is on disk."""

    ok: Yes = True
    queued: int = 1
    state: Verdict
    reason: str | UnsetType = UNSET


class RejectedDetail(Struct, kw_only=True):
    """The refusal again, as older clients read it."""

    error: str
    rejected: list[Rejection]


class AllRejected(Struct, kw_only=True):
    """None of the messages was taken."""

    ok: No = False
    error: str
    rejected: list[Rejection]
    detail: RejectedDetail
    items: list[AddedItem] | UnsetType = UNSET


class ShownAttachment(Struct):
    """An attachment without its content."""

    filename: str
    mime_type: str | None
    size: int | None
    sha256: str | None


class HistoryAttempt(Struct, kw_only=True):
    """An attempt: begun with the step `intent`, and what it came to with the step that ended it."""

    n: Annotated[int, Meta(description="Its number within the generation, from 1.")]
    account: Annotated[str, Meta(description="The account that carried it.")]
    node: Annotated[str, Meta(description="The process that made it.")]
    seconds: Annotated[
        float | UnsetType, Meta(description="From the intent to the outcome's record.")
    ] = UNSET
    phase: Annotated[Phase | UnsetType, Meta(description="How far it came.")] = UNSET
    timings: Annotated[
        dict[str, float] | UnsetType,
        Meta(description="Seconds from the first byte of the envelope to each reply, by phase."),
    ] = UNSET
    peer: Annotated[str | UnsetType, Meta(description="`host:port` as connected.")] = UNSET
    tls: Annotated[str | UnsetType, Meta(description="Protocol and cipher; empty in clear.")] = (
        UNSET
    )
    mail: Annotated[str | UnsetType | None, Meta(description="The reply to MAIL.")] = UNSET
    data: Annotated[str | UnsetType | None, Meta(description="The reply to DATA.")] = UNSET
    final: Annotated[
        str | UnsetType | None, Meta(description="The reply to the end of the message.")
    ] = UNSET
    rcpts: Annotated[
        list[str | None] | UnsetType,
        Meta(description="The replies to RCPT, where `data` does not have them."),
    ] = UNSET
    error: Annotated[str | UnsetType, Meta(description="What ended the session too early.")] = UNSET
    notes: list[str] | UnsetType = UNSET


class HistoryEvent(Struct, kw_only=True):
    """One step of a message's life."""

    event_id: Annotated[
        str | UnsetType, Meta(description="Missing where it is kept as the attempt alone.")
    ] = UNSET
    kind: EventKind
    at: float
    generation: int
    final: bool
    data: Annotated[
        dict[str, Any],
        Meta(
            description="What there is to know of it: `recipients` with what each was told (`rcpt` "
            "is the reply to its RCPT), `next_at`, `notes`; of an operator's `act` by whom and why."
        ),
    ]
    reason: Annotated[str | UnsetType, Meta(description="As it is reported.")] = UNSET
    reported_at: Annotated[float | UnsetType, Meta(description="When it was told.")] = UNSET
    attempt: HistoryAttempt | UnsetType = UNSET
    cut: Annotated[bool | UnsetType, Meta(description="True: older steps are left out.")] = UNSET


class ShownMessage(Struct, kw_only=True):
    """A message as far as it is known."""

    id: str
    tenant_id: str
    account_id: str
    priority: int
    batch_code: str | None
    deferred_ts: Unix | None
    expires_at: Unix | None
    sent_ts: Unix | None
    error_ts: Annotated[Unix | None, Meta(description="Null unless it has failed for good.")]
    error: str | None
    deferred_reason: str | None
    reported_ts: Annotated[Unix | None, Meta(description="When its end was told.")]
    created_at: Iso
    updated_at: Iso
    state: MessageState
    attempts: int
    message_id: str
    recipients: list[WireRecipient]
    message: Annotated[
        dict[str, Any], Meta(description="What was submitted, as far as it is still stored.")
    ]
    history: Annotated[
        list[HistoryEvent] | UnsetType, Meta(description="With `include_history`.")
    ] = UNSET


class Messages(Struct, kw_only=True):
    """Unfinished messages by priority and age, then finished ones, newest first."""

    ok: Yes = True
    messages: list[ShownMessage]
    next: Annotated[
        str | UnsetType, Meta(description="The `cursor` of what comes next, if there is more.")
    ] = UNSET


VERBOSE = Param("verbose", bool, "Tell of each message what was done with it.")

ADD_MESSAGES = Doc(
    "Take messages in. Answers when those that were taken are on disk; each is judged on its own, "
    "and a message that was posted before is not sent twice.",
    takes=AddMessages,
    gives=Added,
    query=(VERBOSE,),
    headers=(HEADER,),
    refuses={400: AllRejected, 409: None, 500: None},
    example={
        "messages": [
            {
                "id": "MSG-001",
                "account_id": "smtp-main",
                "from": "Shop <shop@example.com>",
                "to": ["Ann <ann@example.org>", "bob@example.org"],
                "subject": "Your order",
                "body": "<p>Thank you.</p>",
                "content_type": "html",
            }
        ],
        "default_priority": 2,
    },
)

LISTING = Doc(
    "List messages, streamed.",
    gives=Messages,
    query=(
        Param("active_only", bool, "Only those that are not final."),
        Param("include_history", bool, "With every step of each."),
        Param("state", MessageState),
        Param("account_id"),
        Param("batch_code"),
        Param("since", Annotated[float, Meta(ge=0, le=253_402_300_799)], "Changed since, Unix."),
        Param("search", str, "Only those with this text in id, subject or a recipient's address."),
        Param("recipient", str, "Only those with this text in a recipient's address."),
        Param("subject", str, "Only those with this text in the subject."),
        Param("brief", bool, "Without the texts; so are those that are searched for."),
        Param("limit", Annotated[int, Meta(ge=1, le=10**9)], "At most so many; default 10 000."),
        Param("cursor", str, "The `next` of the answer before."),
    ),
)
