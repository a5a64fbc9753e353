"""
What the service answers, as types.

Instants that end in ``_ts``, and ``since``, are Unix seconds; ``created_at`` and its like are ISO
8601 in UTC. States are texts: they equal those of :mod:`mailproxy.states`, and one that a newer
service adds is no error. Fields that are not here are passed over; all of them are in what
:meth:`mailproxy.client.Client.call` returns. Pure.
"""

from __future__ import annotations

from msgspec import Struct


class Result(Struct, frozen=True, kw_only=True):
    """Base of all results."""
