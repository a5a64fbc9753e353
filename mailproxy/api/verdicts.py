"""
What is told of a submission: one verdict for each element, and the answer that follows from them.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from msgspec import UNSET, UnsetType

from mailproxy.api.answers import Answer, answer, error
from mailproxy.api.shapes_messages import (
    Added,
    AddedItem,
    AddedOne,
    AllRejected,
    RejectedDetail,
    Rejection,
)
from mailproxy.model import Enqueued, NewMessage
from mailproxy.states import Verdict

ALL_REJECTED = "all messages rejected"


@attrs.frozen
class Refusal:
    """An element that was not accepted. :param id: its id, if it has a usable one."""

    id: str | None
    reason: str

    def verdict(self) -> Enqueued:
        return Enqueued(Verdict.REJECTED, self.reason)


#: A judged request: for each element the message to be stored, or why there is none.
Batch = list[NewMessage | Refusal]


def told(batch: Batch, stored: Sequence[Enqueued], verbose: bool) -> Answer:
    """
    The answer to a submission.

    :param stored: the verdicts of the batch's messages, in order.
    :param verbose: tell of every element.
    """
    verdicts = all_verdicts(batch, stored)
    ids = [one.id for one in batch]
    rejected = [
        Rejection(id=ids[index], index=_place(ids[index], index), reason=one.reason)
        for index, one in enumerate(verdicts)
        if one.verdict is Verdict.REJECTED
    ]
    items = _items(ids, verdicts) if verbose else UNSET
    if verdicts and len(rejected) == len(verdicts):
        detail = RejectedDetail(error=ALL_REJECTED, rejected=rejected)
        return answer(
            AllRejected(error=ALL_REJECTED, rejected=rejected, detail=detail, items=items), 400
        )
    return answer(Added(queued=len(verdicts) - len(rejected), rejected=rejected, items=items))


def told_one(batch: Batch, stored: Sequence[Enqueued]) -> Answer:
    """The answer to a request that hands in one message, and no list."""
    (verdict,) = all_verdicts(batch, stored)
    if verdict.verdict is Verdict.REJECTED:
        return error(400, verdict.reason)
    return answer(AddedOne(state=verdict.verdict, reason=verdict.reason or UNSET))


def all_verdicts(batch: Batch, stored: Sequence[Enqueued]) -> list[Enqueued]:
    """One verdict for each element, in order."""
    enqueued = iter(stored)
    return [next(enqueued) if isinstance(one, NewMessage) else one.verdict() for one in batch]


def _items(ids: Sequence[str | None], verdicts: Sequence[Enqueued]) -> list[AddedItem]:
    return [
        AddedItem(
            id=ids[index],
            index=_place(ids[index], index),
            reason=one.reason or UNSET,
            state=one.verdict,
        )
        for index, one in enumerate(verdicts)
    ]


def _place(id: str | None, index: int) -> int | UnsetType:
    """One without a usable id is told by its place."""
    return index if id is None else UNSET
