"""
Sealed secrets in rows: opened, and sealed again with a newer key.

That all keys are at hand is made sure of at the start. What cannot be opened all the same is
damaged: then its owner does without it and the log says so, since nobody else may suffer for it.
"""

from __future__ import annotations

from functools import lru_cache

from twisted.logger import Logger

from mailproxy.crypto import Sealer, WrongKey

_log = Logger()


def opened(sealer: Sealer, sealed: str | None, owner: str) -> str | None:
    """
    The secret that is in a row; None if there is none, or it is damaged.

    :param owner: whose it is, for the log.
    """
    if sealed is None:
        return None
    try:
        return sealer.open(sealed)
    except WrongKey:
        _complain(owner, sealed)
        return None


def again(sealer: Sealer, sealed: str) -> str:
    """The same secret, sealed with the first key; what is damaged stays so, under that key's id."""
    try:
        return sealer.seal(sealer.open(sealed))
    except WrongKey:
        return sealer.seal("").partition(":")[0] + ":" + sealed.partition(":")[2]


@lru_cache(maxsize=1000)
def _complain(owner: str, sealed: str) -> None:
    """Once for each value: tenants are read every few seconds."""
    _log.error("a secret of {owner} is damaged in the store; it has to be given again", owner=owner)
