"""An account is tried: a connection of its own, as far as mail could begin, and then QUIT."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

from mailproxy.delivery.commands import Capabilities
from mailproxy.delivery.pool import Pool
from mailproxy.errors import AccountFault
from mailproxy.model import Account
from mailproxy.records import AccountTest


class Trials:
    """
    Tries accounts, each once at a time; the connection is one more than ``max_sessions``.

    :param clock: measures how long it takes.
    """

    def __init__(self, pool: Pool, clock: IReactorTime) -> None:
        self._pool = pool
        self._clock = clock
        self._under_way: set[int] = set()

    async def run(self, account: Account) -> AccountTest:
        """Greeting, EHLO, TLS and login of *account*; no mail, and nothing stored of it."""
        if account.pk in self._under_way:
            return AccountTest(problem="it is being tested already")
        self._under_way.add(account.pk)
        began = self._clock.seconds()
        try:
            session = await self._pool.try_out(account)
        except AccountFault as fault:
            return AccountTest(
                phase=str(fault.phase),
                code=fault.code,
                problem=fault.reason,
                seconds=self._clock.seconds() - began,
            )
        finally:
            self._under_way.discard(account.pk)
        problem = session.unverified()
        return AccountTest(
            works=True,
            peer=session.peer,
            tls=session.tls_used,
            logged_in=session.factory.login is not None,
            offers=_offers(session.offered),
            notes=(*session.factory.notes, problem) if problem else session.factory.notes,
            seconds=self._clock.seconds() - began,
        )


def _offers(offered: Capabilities) -> tuple[str, ...]:
    """What was read of the reply to EHLO, in the words of the protocol."""
    size = f"SIZE {offered.size}" if offered.size else "SIZE"
    words = (
        ("8BITMIME", offered.eight_bit),
        (f"AUTH {' '.join(sorted(offered.auth))}", bool(offered.auth)),
        ("DSN", offered.dsn),
        ("PIPELINING", offered.pipelining),
        (size, offered.size_offered),
        ("SMTPUTF8", offered.utf8),
        ("STARTTLS", offered.starttls),
    )
    return tuple(word for word, there in words if there)
