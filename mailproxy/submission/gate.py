"""
Who may come in by SMTP: connections are counted, logins judged, and guessing made slow.

An unknown user, a wrong password, a credential that is switched off and one that is not good for
the peer's network are answered alike, after the same work: nobody learns which it was.
"""

from __future__ import annotations

import hmac
import secrets
from collections import Counter, OrderedDict
from collections.abc import Callable

import attrs
from twisted.logger import Logger

from mailproxy.crypto import NO_PASSWORD, password_matches
from mailproxy.errors import BadCommand
from mailproxy.interfaces import IClock, InThread
from mailproxy.metrics import Metrics
from mailproxy.submission.patience import Patience, neighbourhood
from mailproxy.submitter_book import SubmitterBook
from mailproxy.submitters import TRUSTED, Submitter, within

#: Characters of a user name and of a password that are looked at.
MAX_USER, MAX_PASSWORD = 255, 4096

#: Logins that are remembered as good, so that a program that logs in for each message does not
#: cost the work of a hash each time; and for how many seconds.
REMEMBERED, REMEMBERED_SECONDS = 1000, 600.0

#: Hashes that are computed, or wait for it, at the same time; more logins are put off.
MOST_HASHES = 32

#: Failures at one user name after which only addresses that it logged in from before may try.
LOCKED_AFTER = 30

_WRONG = BadCommand(535, b"5.7.8 Wrong user or password")
_LATER = BadCommand(454, b"4.7.0 Too many failures, try again later")
_BUSY = BadCommand(454, b"4.7.0 Cannot check logins now, try again later")

_log = Logger()


@attrs.frozen
class GateRules:
    """
    :param max_connections: open at once, in total; *per_peer* from one address.
    :param trusted: CIDR blocks that need no login, as the tenant ``default``.
    :param plaintext: CIDR blocks that may log in without TLS.
    """

    max_connections: int = 2000
    per_peer: int = 100
    trusted: tuple[str, ...] = ()
    plaintext: tuple[str, ...] = ()


class Gate:
    """
    :param book: the credentials.
    :param tenant_exists: whether a tenant is one we know.
    :param in_thread: where passwords are hashed.
    """

    def __init__(
        self,
        rules: GateRules,
        book: SubmitterBook,
        tenant_exists: Callable[[str], bool],
        clock: IClock,
        in_thread: InThread,
        metrics: Metrics,
    ) -> None:
        self.rules = rules
        self._book = book
        self._tenant_exists = tenant_exists
        self._clock = clock
        self._in_thread = in_thread
        self._metrics = metrics
        self._open = 0
        self._peers: Counter[str] = Counter()
        self._patience = Patience()
        # Guesses at one user from many addresses; where it logged in from before, it still may.
        self._users = Patience(free=LOCKED_AFTER)
        self._homes: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._hashing = 0
        # What is remembered of a good login is keyed with this, and gone with the process.
        self._key = secrets.token_bytes(32)
        self._good: OrderedDict[bytes, tuple[Submitter, float]] = OrderedDict()

    # -- connections -------------------------------------------------------------------------

    def enter(self) -> bool:
        """A connection was made. :return: whether there is room for it; else it does not count."""
        if self._open >= self.rules.max_connections:
            self._metrics.submission_refused.labels("connections").inc()
            return False
        self._open += 1
        self._metrics.submission_connections.set(self._open)
        return True

    def enter_from(self, peer: str) -> bool:
        """It is from *peer*. :return: likewise; else it does not count for that address."""
        where = neighbourhood(peer)
        if self._peers[where] >= self.rules.per_peer:
            self._metrics.submission_refused.labels("peer_connections").inc()
            return False
        self._peers[where] += 1
        return True

    def leave(self, peer: str | None) -> None:
        """A connection that was counted is gone. :param peer: None: it was not counted for one."""
        self._open -= 1
        self._metrics.submission_connections.set(self._open)
        if peer is not None:
            where = neighbourhood(peer)
            self._peers[where] -= 1
            if not self._peers[where]:
                del self._peers[where]

    # -- who it is ---------------------------------------------------------------------------

    def unasked(self, peer: str) -> Submitter | None:
        """Who *peer* is without a login; None if it needs one."""
        found = self._book.of_network(peer) if self._book.loaded else None
        if found is not None and self._tenant_exists(found.tenant_id):
            return found
        return TRUSTED if within(peer, self.rules.trusted) else None

    def still(self, submitter: Submitter) -> bool:
        """Whether who logged in a while ago might do so now."""
        known = self._book.loaded and self._book.user(submitter.user) == submitter
        return known and submitter.active and self._tenant_exists(submitter.tenant_id)

    def plaintext_login(self, peer: str) -> bool:
        """Whether *peer* may log in without TLS."""
        return within(peer, self.rules.plaintext)

    async def login(self, user: str, password: str, peer: str) -> Submitter:
        """
        Judge a login.

        :raises BadCommand: it is refused, or cannot be judged now; with the reply to give.
        """
        user, password = user[: MAX_USER + 1], password[: MAX_PASSWORD + 1]
        now, where = self._clock.now(), neighbourhood(peer)
        locked = self._users.wait(user, now) and (user, where) not in self._homes
        if locked or self._patience.wait(where, now):
            self._metrics.submission_refused.labels("guessing").inc()
            raise _LATER
        found = await self._judged(user, password, peer)
        if found is None:
            self._patience.failed(where, self._clock.now())
            self._users.failed(user, self._clock.now())
            self._metrics.submission_refused.labels("login").inc()
            _log.warn("a login by SMTP from {peer} was refused", peer=peer or "a local socket")
            raise _WRONG
        self._patience.succeeded(where)
        self._homes[user, where] = None
        self._homes.move_to_end((user, where))
        while len(self._homes) > REMEMBERED:
            self._homes.popitem(last=False)
        return found

    async def _judged(self, user: str, password: str, peer: str) -> Submitter | None:
        if not self._book.loaded:
            raise _BUSY
        # From elsewhere the work is done again: how long it takes must not tell strangers that a
        # password is right.
        said = f"{neighbourhood(peer)}\0{user}\0{password}".encode("utf-8", "replace")
        digest = hmac.digest(self._key, said, "sha256")
        known = self._remembered(digest, user)
        if known is not None:
            return known if self._admits(known, peer) else None
        submitter = self._book.user(user)
        stored = submitter.hash if submitter is not None else None
        right = await self._hashed(password, stored or NO_PASSWORD)
        if not right or submitter is None or stored is None or not self._admits(submitter, peer):
            return None
        self._remember(digest, submitter)
        return submitter

    def _admits(self, submitter: Submitter, peer: str) -> bool:
        """Whether the right password lets in from there, now."""
        return (
            submitter.active and submitter.admits(peer) and self._tenant_exists(submitter.tenant_id)
        )

    async def _hashed(self, password: str, stored: str) -> bool:
        if self._hashing >= MOST_HASHES:
            raise _BUSY
        self._hashing += 1
        try:
            return await self._in_thread(password_matches, password, stored)
        finally:
            self._hashing -= 1

    def _remembered(self, digest: bytes, user: str) -> Submitter | None:
        """The credential, if this login was good a while ago and nothing was changed since."""
        found = self._good.get(digest)
        if found is None:
            return None
        submitter, until = found
        if until < self._clock.seconds() or self._book.user(user) != submitter:
            del self._good[digest]
            return None
        return submitter

    def _remember(self, digest: bytes, submitter: Submitter) -> None:
        self._good[digest] = (submitter, self._clock.seconds() + REMEMBERED_SECONDS)
        while len(self._good) > REMEMBERED:
            self._good.popitem(last=False)
