"""
The seams towards those who tell and show what became of mail: a part of
:mod:`mailproxy.interfaces`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zope.interface import Interface

from mailproxy.records import (
    Counts,
    ListQuery,
    MessageRecord,
    Node,
    ReportItem,
    ReportLease,
    Said,
    Suspension,
)
from mailproxy.search import Found, Wanted


class IReports(Interface):
    """What the reporter asks of the store."""

    async def unreported(tenant_id: str, limit: int) -> list[ReportItem]:
        """The oldest unreported, unparked messages of a tenant, one item each, newest state."""

    async def hold_reports(tenant_id: str, seconds: float) -> ReportLease | None:
        """
        Take the right to call a tenant, or renew it: two calls are never open at once.

        It ends after *seconds* by the clock of the database, with :meth:`release_reports`, and
        with its node: see :meth:`cut_off`.

        :return: None: another node has it, or nobody may call now.
        """

    async def release_reports(lease: ReportLease, said: Said) -> None:
        """The call is over; changes nothing if the right is another's by now."""

    def cut_off() -> bool:
        """Whether others may take this node for dead soon: what it holds is not safely its own."""

    async def acked(event_pks: Sequence[int], now: float) -> None:
        """
        Mark exactly these events as reported; later ones of the same messages are not.

        Not fenced: that the receiver took them stays true, whoever has the right to call it now.
        """

    async def park_event(
        event_pks: Sequence[int], reason: str, now: float, lease: ReportLease | None = None
    ) -> bool:
        """
        The receiver will never take these; keep and count them, do not offer them again.

        :param lease: of the call that was refused. If it was lost, nothing is parked: whoever has
            it now may be offering these very events.
        :return: whether they were parked.
        """

    async def ack_all(tenant_id: str, now: float) -> int:
        """
        There is no URL for the tenant: all its events count as reported.

        None do if one is stored for it: another node may have changed that just now.

        :return: how many.
        """

    async def waiting_tenants() -> list[str]:
        """Tenants with unreported events."""

    async def report_lag(now: float) -> float:
        """Age in seconds of the oldest unreported event; 0.0 if there is none."""

    async def report_lags(now: float) -> dict[str, float]:
        """The same of each tenant that has any."""


class IStatus(Interface):
    async def counts(now: float, tenant_id: str | None = None) -> Counts:
        """Messages by unfinished state, from the lanes: of all tenants, or of one."""

    async def nodes(now: float) -> list[Node]:
        """The processes that have this store, and those that died lately; the oldest first."""

    async def suspension(tenant_id: str | None) -> Suspension:
        """What is suspended now."""

    async def messages(query: ListQuery) -> list[MessageRecord]:
        """
        One page of messages: unfinished by priority and age, then finished, newest first.

        A page may be shorter than asked for; only an empty one is the end. ``since`` is about
        when a message was last updated. Of a message that was sent or cancelled the payload is
        without its text, and a cancelled one has no error.
        """

    async def search(query: ListQuery, wanted: Wanted) -> Found:
        """
        Look at the next messages, in the order of ``messages``, for those that are *wanted*.

        A bounded number is looked at, so that few or none may be found though there are more.
        """

    async def timeline(tenant_id: str, message_id: str) -> list[dict[str, Any]]:
        """
        Every step of a message in order: ``{kind, at, generation, final, data}``, and where it is
        known ``event_id``, ``reason``, ``reported_at`` and the ``attempt`` it belongs to: ``{n,
        account, node}``, with the outcome also ``seconds``, and what the upstream said, as the
        dispatcher recorded it.

        Bounded: where older steps were left out, the first has ``cut``. An attempt whose intent has
        no event of its own has its ``intent`` here all the same.
        """

    async def upkeep(now: float) -> int:
        """
        One step of background work (bulk acts, retention, orphans), at most 500 rows.

        Among it: messages end, and are reported, whose own ``not_after`` has passed, whatever stops
        them; and those that waited for a parked account which was tried in vain since they fell
        due, and which will be too old (see :meth:`mailproxy.model.Claimed.patience`) at its next
        probe.

        :return: rows touched; 0 when there is nothing left to do.
        """

    def healthy() -> bool:
        """Whether the last write went through (readyz)."""
