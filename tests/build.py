"""
Values for tests, each with a sensible default for what the test does not care about.

One function per value; whatever the test does care about it passes by name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import attrs

from mailproxy import payload as payloads
from mailproxy.model import (
    DEFAULT_TENANT,
    Claimed,
    Content,
    Mailbox,
    NewMessage,
    NewRecipient,
    RecipientChange,
    Record,
)
from mailproxy.records import AccountSpec
from mailproxy.states import EventKind, RecipientKind, RecipientState, TlsMode


def mailbox(addr: str, display: str = "") -> Mailbox:
    """The :class:`Mailbox` of *addr*, which is taken as it stands."""
    local, _, domain = addr.rpartition("@")
    return Mailbox(display, local, domain)


def content(**overrides: Any) -> Content:
    """A short plain text mail from sender@example.com to one recipient."""
    values: dict[str, Any] = {
        "sender": mailbox("sender@example.com"),
        "to": (mailbox("to@example.org"),),
        "subject": "Hello",
        "plain": "Hello, world.\n",
    }
    return Content(**{**values, **overrides})


def new_message(
    *,
    to: Sequence[str] = ("to@example.org",),
    text: str = "Hello, world.\n",
    **overrides: Any,
) -> NewMessage:
    """
    A checked submission with id ``m1`` for the tenant ``default`` and its default account.

    :param to: envelope addresses; they also make the digest and the payload.
    :param text: the body; another text is other content.
    :param overrides: any field of :class:`NewMessage`.
    """
    payload = overrides.pop("payload", None)
    if payload is None:
        payload = payloads.dump(content(to=tuple(mailbox(addr) for addr in to), plain=text))
    values: dict[str, Any] = {
        "tenant_id": DEFAULT_TENANT,
        "id": "m1",
        "account_id": None,
        "priority": 2,
        "batch": "",
        "not_before": None,
        "envelope_from": "sender@example.com",
        "recipients": tuple(NewRecipient(addr, RecipientKind.TO) for addr in to),
        "payload": payload,
        "digest": hashlib.sha256(payload).digest(),
        "size": len(payload) + 300,
        "message_id": "<m1@mail.example.com>",
    }
    if "id" in overrides:
        values["message_id"] = f"<{overrides['id']}@mail.example.com>"
    return NewMessage(**{**values, **overrides})


def account_spec(**overrides: Any) -> AccountSpec:
    """The account ``acct`` of the tenant ``default``: a plain relay without login."""
    values: dict[str, Any] = {
        "tenant_id": DEFAULT_TENANT,
        "id": "acct",
        "host": "smtp.example.net",
        "port": 25,
        "tls_mode": TlsMode.OPPORTUNISTIC,
    }
    return AccountSpec(**{**values, **overrides})


def accepted(n: int = 0) -> RecipientChange:
    """Recipient *n* was taken by the upstream."""
    return RecipientChange(n, RecipientState.SENT, 250, "2.0.0", "2.0.0 Ok: queued as 4F2A")


def refused(n: int = 0, text: str = "5.1.1 no such user") -> RecipientChange:
    """Recipient *n* was refused for good."""
    return RecipientChange(n, RecipientState.FAILED, 550, text.partition(" ")[0], text)


def put_off(n: int = 0, text: str = "4.2.0 greylisted") -> RecipientChange:
    """Recipient *n* was refused for now."""
    return RecipientChange(n, RecipientState.DEFERRED, 451, text.partition(" ")[0], text)


def unknown(n: int = 0) -> RecipientChange:
    """Nobody knows whether the upstream took recipient *n*."""
    return RecipientChange(n, RecipientState.UNCERTAIN, None, None, "uncertain: no reply")


def ended(n: int, state: RecipientState, reply: str = "") -> RecipientChange:
    """Recipient *n* comes to *state* without a reply."""
    return RecipientChange(n, state, None, None, reply)


def record(
    claimed: Claimed, *changes: RecipientChange, at: float, begun: bool = True, **overrides: Any
) -> Record:
    """
    What an attempt at *claimed* led to.

    :param changes: none for all recipients accepted.
    :param begun: whether an intent was stored; false makes ``attempt`` 0.
    :param overrides: any other field of :class:`Record`.
    """
    values = Record(
        pk=claimed.pk,
        token=claimed.token,
        attempt=claimed.attempts + 1 if begun else 0,
        kind=EventKind.OUTCOME,
        changes=changes or tuple(accepted(rcpt.n) for rcpt in claimed.recipients),
        next_at=None,
        at=at,
    )
    return attrs.evolve(values, **overrides)


def deferral(
    claimed: Claimed, *changes: RecipientChange, at: float, next_at: float, **overrides: Any
) -> Record:
    """An attempt at *claimed* that is to be repeated at *next_at*, and reported as such."""
    values: dict[str, Any] = {
        "kind": EventKind.DEFERRED,
        "next_at": next_at,
        "report": True,
        "reason_key": "451",
        "reason": "451 4.2.0 greylisted",
    }
    put_offs = changes or tuple(put_off(rcpt.n) for rcpt in claimed.recipients)
    return record(claimed, *put_offs, at=at, **{**values, **overrides})


def settled(found: Claimed, *changes: RecipientChange, at: float, **overrides: Any) -> Record:
    """What becomes of an abandoned message; its ``attempts`` count the open one."""
    return record(found, *changes, at=at, attempt=found.attempts, **overrides)
