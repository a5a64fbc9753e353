"""The seam towards what the front doors ask of the store; part of :mod:`mailproxy.interfaces`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from zope.interface import Interface

from mailproxy.model import Enqueued, NewMessage
from mailproxy.records import Suspension
from mailproxy.tenancy import Once


class IIntake(Interface):
    async def enqueue(
        messages: Sequence[NewMessage], now: float, deadline: float, once: Once | None = None
    ) -> list[Enqueued]:
        """
        Make *messages* durable, in order, by the same-id table.

        Many are written in several transactions, so that others' works pass between them. Once
        the first of these is stored, the rest is tried until it is stored as well.

        :param deadline: seconds to wait for the writer's turn before the work is withdrawn.
        :param once: whose answer is kept for 24 hours, stored with the last of the messages.
        :return: one verdict per message, in order, **after the commit** of the last.
        :raises StoreError: none of them was stored.
        :raises mailproxy.errors.PartlyStored: some were, and the rest could not be for long.
        :raises mailproxy.tenancy.Answered: the key was used for the same request.
        :raises mailproxy.tenancy.KeyReused: the key was used for another request; nothing was
            stored.
        """

    def courtesy() -> Callable[[], Awaitable[None]]:
        """
        For work that takes long and begins now, to be called between any two steps of it.

        What that returns fires at once, or when no urgent message is on its way to its upstream;
        after some milliseconds in any case, and all of them are a small part of the work's time.
        """

    async def suspend(tenant_id: str | None, batch: str | None, now: float) -> Suspension:
        """
        Stop sending for the service (None, None), a tenant, or one of its batches; stored.

        :raises ValueError: there is no such tenant.
        """

    async def activate(tenant_id: str | None, batch: str | None, now: float) -> Suspension:
        """Undo it. :raises ValueError: no such tenant, or one batch out of a full suspension."""
