"""The JSON of explanations, as types; see :mod:`mailproxy.api.shapes`."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from mailproxy.api.doc import Doc
from mailproxy.api.shapes import Unix, Yes
from mailproxy.api.wire import Element
from mailproxy.states import MessageState, RecipientKind, TlsMode, Verdict


class ExplainedRecipient(Struct, kw_only=True):
    """A recipient as it was parsed."""

    address: str
    kind: RecipientKind
    suppressed: Annotated[bool, Meta(description="It would fail at once.")]
    paused: Annotated[bool, Meta(description="Its domain is paused.")]


class ExplainedEnvelope(Struct, kw_only=True):
    """Whom the message would come from and go to."""

    sender: Annotated[str, Meta(description="Empty for the null sender.")]
    recipients: list[ExplainedRecipient]


class ExplainedAccount(Struct, kw_only=True):
    """The account it belongs to."""

    id: str
    host: str
    port: int
    tls_mode: TlsMode
    login: Annotated[bool, Meta(description="Whether it logs in.")]
    parked_reason: Annotated[str | None, Meta(description="Why nothing is sent through it now.")]


class ExplainedRoute(Struct, kw_only=True):
    """An account that may carry it."""

    id: str
    parked_reason: Annotated[str | None, Meta(description="Why nothing is sent through it now.")]


class Limits(Struct, kw_only=True):
    """What it is held against; null: no limit."""

    max_message_bytes: int
    max_recipients: int
    per_minute: int | None = None
    per_hour: int | None = None
    per_day: int | None = None
    tenant_hourly: int | None = None
    tenant_daily: int | None = None
    limited_until: Annotated[
        float | None, Meta(description="Unix time until which it would wait for a limit.")
    ] = None
    limited_reason: Annotated[
        str | None, Meta(description="That limit; where the account rejects, it would fail.")
    ] = None


class ExplainedStored(Struct, kw_only=True):
    """The id is known already."""

    state: MessageState
    attempts: int
    removed: Annotated[
        bool, Meta(description="All that is kept of it is how it ended, and who has it.")
    ] = False
    same_content: Annotated[Verdict, Meta(description="If it is the mail that is stored.")]
    other_content: Annotated[Verdict, Meta(description="If it is other mail.")]


class Explanation(Struct, kw_only=True):
    """What would become of a message."""

    ok: Yes = True
    accepted: Annotated[bool, Meta(description="Whether add-messages would take it.")]
    reason: Annotated[str | None, Meta(description="Why it would not.")] = None
    id: str | None = None
    tenant_id: str | None = None
    envelope: ExplainedEnvelope | None = None
    account: ExplainedAccount | None = None
    routes: Annotated[
        list[ExplainedRoute],
        Meta(description="The accounts to try, by `weights` and `fallback`; the best first."),
    ] = []
    limits: Limits
    size: Annotated[int | None, Meta(description="Bytes on the wire.")] = None
    priority: int | None = None
    batch_code: str | None = None
    deferred_ts: Unix | None = None
    test: bool = False
    notes: Annotated[list[str], Meta(description="What the timeline would say.")] = []
    stored: ExplainedStored | None = None
    mime: Annotated[
        str | None, Meta(description="The exact bytes that would be sent, in base64.")
    ] = None
    mime_reason: Annotated[str | None, Meta(description="Why there are none.")] = None


EXPLAIN = Doc(
    about="Tell what would become of a message, by the code that takes messages in, without "
    "storing or sending it.",
    takes=Element,
    gives=Explanation,
    example={
        "id": "order-1",
        "from": "Shop <shop@example.com>",
        "to": ["customer@example.org"],
        "subject": "Thank you",
        "body": "It is on its way.",
    },
)
