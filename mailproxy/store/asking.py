"""
What claims and intents are given, and what they ask first.

The answers may be from the beginning of the transaction, see :class:`mailproxy.store.works.Ahead`:
an intent does not see then that an outcome beside it closed its lane, nor a claim that it opened
one, as if they had come before it.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

import attrs

from mailproxy.store import statements as sql
from mailproxy.store.transaction import numbers
from mailproxy.store.works import Ahead, Question


@attrs.frozen
class Claim:
    """The arguments of ``IQueue.claim``."""

    account_pk: int
    limit: int
    now: float
    oldest: bool = False
    urgent: bool = False
    spill: bool = False


@attrs.frozen
class Intents:
    """The arguments of ``IQueue.begin``."""

    pairs: Sequence[tuple[int, int]]
    account: str
    now: float
    through: tuple[int, int] | None = None


def claims_ahead(calls: Sequence[Claim]) -> Ahead:
    """Heads of lanes are not among it: what is claimed is looked up when it is."""
    return Ahead([each for call in calls if call.limit > 0 for each in questions(call)])


def questions(call: Claim) -> tuple[Question, Question]:
    """For the account, and for its lanes."""
    return (sql.ACCOUNT_VERSION, call.account_pk), lanes_of(call, call.limit)


def lanes_of(call: Claim, limit: int) -> Question:
    """Those with something due, of each priority the first few."""
    # No more lanes than messages: each has one, or its due time is made exact by this look.
    statement = sql.DUE_URGENT_LANES if call.urgent and not call.oldest else sql.DUE_LANES
    of_one = (call.account_pk, call.now, limit)
    return statement, *(of_one * (len(statement.names) // len(of_one)))


def beginning(calls: Sequence[Intents], refused: Container[int]) -> Question:
    """For those that may begin, but for the messages *refused* already."""
    now = max(call.now for call in calls)
    wanted = (pk for call in calls for pk, _ in call.pairs if pk not in refused)
    return sql.BEGINNING, numbers(wanted), now


def begins_ahead(calls: Sequence[Intents]) -> Ahead:
    return Ahead([beginning(calls, ())], [pk for call in calls for pk, _ in call.pairs])
