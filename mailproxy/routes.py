"""
Which accounts may carry the mail of an account, and in which order: what its fields say of that.

``weights`` share an account's mail out over several accounts, ``fallback`` names those that step
in. Only the fields of the message's own account count: what another account says in its fields is
for its own mail, so there is no chain to follow and no circle to get into.

Pure. Which of them works at the moment is for others to know.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import attrs
import msgspec

from mailproxy.model import Account

#: What the account itself counts where ``weights`` do not name it.
OWN_WEIGHT = 1

#: Bits of the hash that become a number between 0 and 1; as many as a float keeps.
_BITS = 53


@attrs.frozen
class Routes:
    """
    The accounts, by id and all of one tenant, that may carry the mail of the account *own*.

    :param weights: in what proportion they share the mail; an account of weight 0 has no share.
    :param fallback: those that step in where none of the above can, in order.
    """

    own: str
    weights: Mapping[str, int] = attrs.Factory(dict)
    fallback: tuple[str, ...] = ()

    @property
    def alone(self) -> bool:
        """Whether there is no account but the own one."""
        return not self.weights and not self.fallback

    @property
    def others(self) -> tuple[str, ...]:
        """Every account beside the own one."""
        named = dict.fromkeys((*self.weights, *self.fallback))
        return tuple(name for name in named if name != self.own)

    def order(self, message_id: str) -> tuple[str, ...]:
        """
        The accounts to try for a message, the best first; always the same for one id.

        First those that share the mail, by weighted rendezvous hashing: each id has an order of
        its own, in which an account comes first as often as its weight says, and where the first
        cannot, the others share what it would have had in the same proportion. Then the own
        account, if it has no share, and the fallback.
        """
        if not self.weights:
            return (self.own, *self.fallback)
        sharing = [name for name, weight in self.weights.items() if weight > 0]
        sharing.sort(key=lambda name: (_distance(message_id, name, self.weights[name]), name))
        return tuple(dict.fromkeys((*sharing, self.own, *self.fallback)))


def _distance(message_id: str, account_id: str, weight: int) -> float:
    """
    Exponentially distributed with the rate *weight*: the smallest of several is that of an account
    with the probability of its weight among theirs.
    """
    text = f"{len(account_id)}:{account_id}{message_id}".encode("utf-8", "surrogatepass")
    drawn = int.from_bytes(blake2b(text, digest_size=8).digest(), "big") >> (64 - _BITS)
    return -math.log((drawn + 0.5) / 2**_BITS) / weight


def routes_of(account: Account) -> Routes:
    """What the fields of *account* say; alone, if they say nothing."""
    if account.options in ("", "{}"):
        return Routes(account.id)
    return read_routes(account.id, msgspec.json.decode(account.options))


def read_routes(own: str, options: Mapping[str, Any]) -> Routes:
    """
    The routes in an account's stored *options*.

    Earlier versions stored a single fallback as a text.
    """
    fallback = options.get("fallback") or ()
    names = (fallback,) if isinstance(fallback, str) else fallback
    weights = dict(options.get("weights") or {})
    if weights:
        weights.setdefault(own, OWN_WEIGHT)
    others = tuple(dict.fromkeys(name for name in names if name != own))
    return Routes(own, weights, others)
