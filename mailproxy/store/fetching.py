"""
Mail that waits because an attachment could not be fetched: counted, and tried again at once when
its tenant says anew where its attachments are.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import attrs
from sqlalchemy import select, update

from mailproxy.store.compiling import LIMIT, compiled, const, indexed, listed, p
from mailproxy.store.schema import messages
from mailproxy.store.transaction import Transaction, numbers
from mailproxy.store.works import alone

_m = messages.c

#: What the reason of such a deferral begins with.
MARK = "Attachment fetch failed"

#: Messages that one transaction makes due.
STEP = 500

_FETCHING = indexed(
    compiled(
        select(_m.pk, _m.deferred_reason)
        .where(
            _m.fetches > const("0"),
            _m.tenant_id == p("tenant"),
            _m.pk > p("after"),
        )
        .order_by(_m.pk)
        .suffix_with(LIMIT),
        "tenant",
        "after",
        "limit",
    ),
    messages,
    "messages_fetching",
)
#: Only while it waits: what is claimed is on its way already.
_DUE = compiled(
    update(messages)
    .values(next_at=p("now"), claim_at=p("now"))
    .where(_m.claim_at > p("later"), _m.pk.in_(listed()))
    .returning(_m.lane, _m.account_pk),
    "now",
    "now",
    "later",
    "pks",
)


@attrs.frozen
class Due:
    pks: Sequence[int]
    now: float


def make_due(tx: Transaction, call: Due) -> int:
    found = tx.all(_DUE, call.now, call.now, call.now, numbers(call.pks))
    for lane, account in found:
        tx.due_at(lane, call.now)
        tx.due.add(account)
    return len(found)


def fetching(cursor: Any, tenant_id: str, after: int) -> list[tuple[int, str | None]]:
    """Some messages of the tenant that had an attachment fetched in vain, and why they wait."""
    found: list[tuple[int, str | None]] = cursor.execute(
        _FETCHING.sql, (tenant_id, after, STEP)
    ).fetchall()
    return found


MAKE_DUE = alone(make_due)


async def refetch(
    read: Callable[..., Awaitable[Any]],
    write: Callable[..., Awaitable[Any]],
    tenant_id: str,
    now: float,
) -> int:
    """Step by step through the tenant's mail that waits for attachments. :return: how many."""
    after, made = 0, 0
    while found := await read(fetching, tenant_id, after):
        after = found[-1][0]
        pks = [pk for pk, reason in found if (reason or "").startswith(MARK)]
        if pks:
            made += await write(MAKE_DUE, Due(pks, now))
    return made
