"""
The three ledgers of a torture run, and what the service itself says at the end.

Pure. What was accepted is written down by those who submitted, copies by the upstream, reports by
the receiver; what the service shows of its messages explains them, and proves nothing by itself.
An id here is :func:`~mailproxy.proving.torture_tenants.named`: the same one of two tenants is two.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from mailproxy.model import DEFAULT_TENANT
from mailproxy.proving.torture_tenants import named, of_address, of_path

#: Verdicts that are given only where the id is stored already.
STORED = frozenset({"duplicate", "kept", "replaced"})

_NUMBER = re.compile(r" as (\d+)$")


@attrs.frozen
class Accepted:
    """
    One positive answer.

    :param version: of the content, from 1; another has other recipients.
    :param verdict: what the answer said of it; ``accepted`` where it says no more.
    :param via: ``rest`` or ``smtp``.
    :param sure: whether each submission of this content before was answered: if not, the verdict
        may be about what that one stored.
    """

    id: str
    version: int
    recipients: tuple[str, ...]
    verdict: str
    via: str = "rest"
    sure: bool = True


@attrs.frozen
class TakenBack:
    """
    Its submitter had the message removed.

    What had ended and was reported by then is removed as well.

    :param sure: whether an answer said so; else the answer to a removal was lost, and only a later
        one said that nobody knows the id.
    :param at: when that answer was there, in Unix seconds.
    """

    id: str
    sure: bool
    at: float


@attrs.define
class Claims:
    """
    What the submitters know.

    :ivar refused: ids that were answered with a refusal, and never accepted.
    """

    accepted: list[Accepted] = attrs.Factory(list)
    taken_back: list[TakenBack] = attrs.Factory(list)
    refused: set[str] = attrs.Factory(set)


@attrs.frozen
class Arrival:
    """
    A copy at the upstream.

    :param n: its number there.
    :param at: when its end was there, in Unix seconds.
    :param tenant: whose sender it has.
    """

    n: int
    id: str
    recipients: tuple[str, ...]
    at: float
    tenant: str = DEFAULT_TENANT


@attrs.frozen
class Said:
    """What a report says of one recipient."""

    address: str
    state: str
    code: int | None
    reply: str

    @property
    def copy(self) -> int | None:
        """The number of the copy that the upstream's reply names, if it names one."""
        found = _NUMBER.search(self.reply)
        return int(found[1]) if found else None


@attrs.frozen
class Told:
    """
    One item of a report.

    :param end: ``sent`` or ``failed``; empty for an item that tells of no end.
    """

    id: str
    event_id: str
    generation: int
    end: str
    recipients: tuple[Said, ...]


@attrs.frozen
class Call:
    """
    A report.

    :param n: its number at the receiver, from 1.
    :param beside: calls that had not been answered yet when it came.
    :param at: when it came, in Unix seconds.
    :param tenant: on whose path.
    """

    n: int
    beside: int
    items: tuple[Told, ...]
    at: float
    tenant: str = DEFAULT_TENANT


@attrs.frozen
class Known:
    """
    What the service shows of a message at the end.

    :param uncertain: attempts that its timeline shows as uncertain.
    :param resent: times that an operator had it sent once more.
    """

    id: str
    state: str
    reported: bool
    uncertain: int = 0
    resent: int = 0
    tenant: str = DEFAULT_TENANT


@attrs.frozen
class Ledgers:
    """
    All that is reconciled.

    :param known: what each tenant was shown of its own.
    :param overheard: ids of others that a tenant was shown, with its name.
    """

    claims: Claims
    arrivals: tuple[Arrival, ...]
    calls: tuple[Call, ...]
    known: Mapping[str, Known]
    overheard: tuple[tuple[str, str], ...] = ()

    @property
    def told(self) -> tuple[Told, ...]:
        return tuple(item for call in self.calls for item in call.items)

    @property
    def last_told(self) -> Mapping[str, float]:
        """When the end of each message that has one was told last, in Unix seconds."""
        last: dict[str, float] = {}
        for each in self.calls:
            for item in each.items:
                if item.end:
                    last[item.id] = max(each.at, last.get(item.id, each.at))
        return last


def arrival(line: Mapping[str, Any]) -> Arrival:
    """A line of the sink's ledger."""
    tenant = of_address(line["sender"])
    id = named(tenant, line["mail_id"])
    return Arrival(line["n"], id, tuple(line["recipients"]), line["time"], tenant)


def call(line: Mapping[str, Any]) -> Call:
    """A line of the receiver's ledger."""
    tenant = of_path(line["path"])
    return Call(line["n"], line["beside"], tuple(_told(line, tenant)), line["time"], tenant)


def _told(line: Mapping[str, Any], tenant: str) -> Iterable[Told]:
    for item in line["items"]:
        end = "sent" if item["sent_ts"] is not None else ""
        if item["error_ts"] is not None:
            end = "failed"
        recipients = tuple(
            Said(each["address"], each["state"], each["code"], each["reply"])
            for each in item["recipients"]
        )
        yield Told(named(tenant, item["id"]), item["event_id"], item["generation"], end, recipients)


def known(record: Mapping[str, Any], history: Iterable[Mapping[str, Any]] = ()) -> Known:
    """A message as the API shows it, with its timeline where it has been tried more than once."""
    kinds = [step["kind"] for step in history]
    return Known(
        named(record["tenant_id"], record["id"]),
        record["state"],
        record["reported_ts"] is not None,
        kinds.count("uncertain"),
        kinds.count("resent"),
        record["tenant_id"],
    )
