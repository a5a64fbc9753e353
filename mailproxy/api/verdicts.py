"""
What is told of a submission: one verdict for each element, and the answer that follows from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import attrs
import msgspec

from mailproxy.api.answers import Answer, answer
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


class Rejection(msgspec.Struct, kw_only=True):
    """An element that was not accepted."""

    id: str | None
    index: Annotated[
        int | msgspec.UnsetType,
        msgspec.Meta(description="Its place in the request, from 0, where it has no usable id."),
    ] = msgspec.UNSET
    reason: str


class Item(msgspec.Struct, kw_only=True):
    """What became of one element."""

    id: str | None
    index: int | msgspec.UnsetType = msgspec.UNSET
    reason: str | msgspec.UnsetType = msgspec.UNSET
    state: Verdict


class Accepted(msgspec.Struct, kw_only=True):
    """At least one element is stored, or there was none."""

    ok: bool = True
    queued: Annotated[int, msgspec.Meta(description="Elements that were not rejected.")]
    rejected: list[Rejection]
    items: list[Item] | msgspec.UnsetType = msgspec.UNSET


class AllRejectedDetail(msgspec.Struct, kw_only=True):
    """The same again, as older clients read it."""

    error: str
    rejected: list[Rejection]


class AllRejected(msgspec.Struct, kw_only=True):
    """Nothing was stored: no element could be accepted."""

    ok: bool = False
    error: str
    rejected: list[Rejection]
    detail: AllRejectedDetail
    items: list[Item] | msgspec.UnsetType = msgspec.UNSET


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
    items = _items(ids, verdicts) if verbose else msgspec.UNSET
    if verdicts and len(rejected) == len(verdicts):
        detail = AllRejectedDetail(error=ALL_REJECTED, rejected=rejected)
        return answer(
            AllRejected(error=ALL_REJECTED, rejected=rejected, detail=detail, items=items), 400
        )
    return answer(Accepted(queued=len(verdicts) - len(rejected), rejected=rejected, items=items))


def all_verdicts(batch: Batch, stored: Sequence[Enqueued]) -> list[Enqueued]:
    """One verdict for each element, in order."""
    enqueued = iter(stored)
    return [next(enqueued) if isinstance(one, NewMessage) else one.verdict() for one in batch]


def _items(ids: Sequence[str | None], verdicts: Sequence[Enqueued]) -> list[Item]:
    return [
        Item(
            id=ids[index],
            index=_place(ids[index], index),
            reason=one.reason or msgspec.UNSET,
            state=one.verdict,
        )
        for index, one in enumerate(verdicts)
    ]


def _place(id: str | None, index: int) -> int | msgspec.UnsetType:
    """One without a usable id is told by its place."""
    return index if id is None else msgspec.UNSET
