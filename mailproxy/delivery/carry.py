"""
One account's messages over one session, until the feed gives no more.

Two messages are on their way at a time, so that one's envelope rides with the other's body. What
each came to is told to the feed at once; storing it is awaited only at the end.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mailproxy.compose import compose
from mailproxy.composed import Composed
from mailproxy.delivery.budget import Budget
from mailproxy.delivery.dkim import SigningKeys, sign
from mailproxy.delivery.pool import Pool
from mailproxy.delivery.session import Session
from mailproxy.dkim_keys import DkimKey
from mailproxy.dsn import Dsn
from mailproxy.errors import AccountFault, SessionLost, SigningFault, StoreError, Withdrawn
from mailproxy.interfaces import IAttachments, IFeed, InThread, ITransaction
from mailproxy.metrics import Metrics
from mailproxy.model import Account, Claimed, Content, Envelope, Outcome, Stored
from mailproxy.payload import load

_log = Logger()

#: Messages on their way at once: one in its body or waiting for the last reply, one behind it.
DEPTH = 2

#: Messages up to this size in bytes are composed where they are, larger ones in a thread.
INLINE = 256 * 1024

#: In the payload of a message that asks for no notifications.
_UNNOTIFIED = b'"dsn":null'

#: Sessions in a row that end before any transaction does, until the account is at fault.
MOST_BARREN = 2

#: Seconds before a message is tried again whose content the store could not give.
STORE_PAUSE = 1.0


@attrs.frozen
class Means:
    """What all carries of a courier share."""

    pool: Pool
    clock: IReactorTime
    contents: Callable[[Sequence[int]], Awaitable[dict[int, Stored]]]
    in_thread: InThread
    metrics: Metrics
    budget: Budget
    attachments: IAttachments | None = None
    signing: SigningKeys | None = None
    composed: Composed | None = None

    def keys(self, message: Claimed, content: Content) -> Sequence[DkimKey]:
        """What signs this message."""
        if self.signing is None:
            return ()
        return self.signing.signing(message.tenant_id, content.sender.domain)


@implementer(ITransaction)
class Parcel:
    """A message on its way, as the session sees it."""

    __slots__ = ("_feed", "_message", "envelope")

    def __init__(self, message: Claimed, body: bytes, feed: IFeed, dsn: Dsn | None = None) -> None:
        recipients = tuple([recipient.address for recipient in message.recipients])
        self.envelope = Envelope(message.envelope_from, recipients, body, dsn)
        self._message = message
        self._feed = feed

    def begin(self) -> Awaitable[bool]:
        return self._feed.begin(self._message)


class Carry:
    def __init__(self, means: Means, account: Account, feed: IFeed) -> None:
        self._means = means
        self._pool = means.pool
        self._budget = means.budget
        self._account = account
        self._feed = feed
        self._session: Session
        self._held: Claimed | None = None
        self._flying = 0
        self._preparing = False
        self._pumping = False
        self._ended = 0
        self._trouble = AccountFault("connect", "the session was lost")
        self._over: Deferred[None] = Deferred()
        self._storing = 0
        self._stored: Deferred[None] | None = None

    async def run(self) -> None:
        """:raises AccountFault: no session could be had; nothing is kept back from the feed."""
        barren = 0
        try:
            while True:
                self._session = await self._pool.acquire(self._account)
                reused = self._session.carried > 0
                self._ended, self._over = 0, Deferred()
                self._pump()
                await self._over
                if self._session.usable:
                    self._pool.release(self._session)
                    barren = 0
                elif self._ended:
                    barren = 0
                elif not reused:
                    # One that had been idle may have died of that; the next one is new.
                    barren += 1
                if barren >= MOST_BARREN:
                    raise self._trouble
                if self._pool.closing or self._pool.superseded(self._account):
                    return
                self._held = self._feed.next()
                if self._held is None:
                    return
        except AccountFault:
            if not self._pool.closing:
                raise
        finally:
            if self._held is not None:
                self._feed.put_back(self._held)
                self._held = None
            await self._all_stored()

    # -- sending ------------------------------------------------------------------------------

    def _left(self, message: Claimed, content: Content) -> bool:
        """Whether *message* was left to be completed; it comes again when it is."""
        attachments = self._means.attachments
        if attachments is None or not attachments.lacks(message, content):
            return False
        attachments.complete(message, self._feed)
        return True

    def _notes(self, message: Claimed, content: Content) -> Sequence[str]:
        attachments = self._means.attachments
        return () if attachments is None else attachments.notes(message, content)

    def _pump(self) -> None:
        """Send what may be sent now; end when nothing is on its way and nothing comes."""
        if self._pumping:
            return
        self._pumping = True
        session, pool = self._session, self._pool
        while self._flying < DEPTH and not self._preparing:
            if not session.usable or pool.worn(session):
                break
            message, self._held = self._held or self._feed.next(), None
            if message is None:
                break
            self._prepare(message)
        self._pumping = False
        if not self._flying and not self._preparing and not self._over.called:
            self._over.callback(None)

    def _prepare(self, message: Claimed) -> None:
        payload, size, signing = message.payload, message.size, self._means.signing
        signed = signing is not None and signing.signs(message.tenant_id)
        if payload is None or signed or size > INLINE or not self._budget.take(size):
            self._preparing = True
            prepared = Deferred.fromCoroutine(self._prepare_slowly(message))
            prepared.addErrback(self._stumbled)
            return
        try:
            body, dsn = self._composed(message, payload), None
            if body is None or _UNNOTIFIED not in payload:
                content = load(payload)
                dsn = content.dsn
                if body is None and not self._left(message, content):
                    body = _compose(message, content, {})
        except Exception as error:
            self._budget.give(size)
            self._broken(message, error)
        else:
            if body is None:
                self._budget.give(size)
            else:
                self._send(message, body, dsn)

    def _composed(self, message: Claimed, payload: bytes) -> bytes | None:
        composed = self._means.composed
        if composed is None:
            return None
        return composed.take(payload, message.id, message.message_id, message.accepted_at)

    async def _prepare_slowly(self, message: Claimed) -> None:
        await self._budget.wait(message.size)
        body = None
        try:
            stored = await self._stored_content(message)
            if not self._left(message, stored.content):
                body = await self._body(message, stored)
                notes = self._notes(message, stored.content)
        except StoreError as error:
            _log.warn("content of {pk} cannot be read: {error}", pk=message.pk, error=error)
            await self._pause()
            self._feed.put_back(message)
        except SigningFault as fault:
            self._feed.aside(message)
            self._keep(self._feed.unprepared(message, fault))
        except Exception as error:
            self._broken(message, error)
        self._preparing = False
        if body is not None and self._session.usable:
            self._send(message, body, stored.content.dsn, notes)
        else:
            self._budget.give(message.size)
            if body is not None:
                self._feed.put_back(message)
        self._pump()

    async def _stored_content(self, message: Claimed) -> Stored:
        if message.payload is not None:
            return Stored(load(message.payload))
        found = await self._means.contents([message.pk])
        if message.pk not in found:
            raise ValueError("the stored content is damaged")
        return found[message.pk]

    async def _body(self, message: Claimed, stored: Stored) -> bytes:
        content, parts = stored.content, stored.parts
        keys = self._means.keys(message, content)
        if keys:
            return await self._means.in_thread(_signed, message, content, parts, keys)
        if message.size <= INLINE:
            return _compose(message, content, parts)
        return await self._means.in_thread(_compose, message, content, parts)

    def _send(
        self, message: Claimed, body: bytes, dsn: Dsn | None, notes: Sequence[str] = ()
    ) -> None:
        self._flying += 1
        parcel = Parcel(message, body, self._feed, dsn)
        self._session.deliver(parcel).addCallbacks(
            self._came_to, self._failed, (message, notes), {}, (message,)
        ).addErrback(self._stumbled)

    # -- what became of it --------------------------------------------------------------------

    def _came_to(self, outcome: Outcome, message: Claimed, notes: Sequence[str]) -> None:
        self._flying -= 1
        if notes:
            outcome = attrs.evolve(outcome, notes=(*outcome.notes, *notes))
        self._budget.give(message.size)
        if self._session.usable or outcome.final is not None:
            self._ended += 1
        else:
            self._trouble = AccountFault(outcome.phase, outcome.error or str(outcome.mail))
        if outcome.timings:
            self._means.metrics.delivery.observe(outcome.timings[-1][1])
        self._keep(self._feed.finish(message, outcome))
        self._pump()

    def _failed(self, failure: Failure, message: Claimed) -> None:
        self._flying -= 1
        self._budget.give(message.size)
        if failure.check(SessionLost):
            # Neither sent nor begun: it goes first over the next session.
            self._feed.put_back(message)
        elif failure.check(Withdrawn):
            self._ended += 1
        else:
            self._broken(message, failure.value)
        self._pump()

    def _broken(self, message: Claimed, error: BaseException | None) -> None:
        wrapped = error if isinstance(error, Exception) else RuntimeError(repr(error))
        self._keep(self._feed.broken(message, wrapped))

    def _stumbled(self, failure: Failure) -> None:
        """An error of ours in the middle of it all: better no session than a confused one."""
        _log.failure("carrying mail of {id} raised", failure, id=self._account.id)
        self._session.lose("an internal error")
        if not self._over.called:
            self._over.callback(None)

    # -- what is being stored -----------------------------------------------------------------

    def _keep(self, told: Awaitable[object]) -> None:
        """Wait for *told* at the end, not now."""
        self._storing += 1
        deferred = told if isinstance(told, Deferred) else Deferred.fromCoroutine(_await(told))
        deferred.addBoth(self._kept)

    def _kept(self, result: Any) -> None:
        self._storing -= 1
        if isinstance(result, Failure):
            _log.failure("telling what became of mail of {id} raised", result, id=self._account.id)
        if not self._storing and self._stored is not None:
            stored, self._stored = self._stored, None
            stored.callback(None)

    def _all_stored(self) -> Deferred[None]:
        stored: Deferred[None] = Deferred()
        if self._storing:
            self._stored = stored
        else:
            stored.callback(None)
        return stored

    def _pause(self) -> Deferred[None]:
        paused: Deferred[None] = Deferred()
        self._means.clock.callLater(STORE_PAUSE, paused.callback, None)
        return paused


def _compose(message: Claimed, content: Content, parts: dict[int, bytes]) -> bytes:
    return compose(
        content,
        mail_id=message.id,
        message_id=message.message_id,
        date=message.accepted_at,
        parts=parts,
    )


def _signed(
    message: Claimed, content: Content, parts: dict[int, bytes], keys: Sequence[DkimKey]
) -> bytes:
    """:raises SigningFault: it cannot be signed."""
    return sign(_compose(message, content, parts), keys, message.accepted_at)


async def _await(awaitable: Awaitable[object]) -> None:
    await awaitable
