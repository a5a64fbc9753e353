"""
The SMTP credentials as this process knows them: what has to be answered without waiting.

A copy of what is stored, read at the start, after every change made here, and every few seconds
for changes that other nodes made; as a rule it is told of those when they happen.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from mailproxy.errors import StoreError
from mailproxy.interfaces import IClock
from mailproxy.interfaces_tenants import ISubmitters
from mailproxy.submitters import Submitter, within

#: Seconds between two looks at the store that nobody asked for.
POLL = 5.0

_log = Logger()


class SubmitterBook(Service):
    """
    :param store: what is copied.

    :ivar loaded: whether it can be judged who may come in: from the end of the first look on, and
        not while a change that was made here could not be read back.
    """

    name = "submitters"

    def __init__(self, store: ISubmitters, clock: IClock, poll: float = POLL) -> None:
        self._store = store
        self._clock = clock
        self._poll = poll
        self._users: dict[str, Submitter] = {}
        self._by_network: list[Submitter] = []
        self._loop: LoopingCall | None = None
        self._unwatch: Callable[[], None] = lambda: None
        self._turn = DeferredLock()
        self.loaded = False

    def user(self, name: str) -> Submitter | None:
        """The credential with this user name."""
        return self._users.get(name)

    def of_network(self, peer: str) -> Submitter | None:
        """The credential that lets programs on the IP address *peer* in without a login."""
        for each in self._by_network:
            if within(peer, each.networks):
                return each
        return None

    def submitters(self, tenant_id: str) -> list[Submitter]:
        """The tenant's, by user name."""
        return [each for each in self._users.values() if each.tenant_id == tenant_id]

    async def refresh(self) -> None:
        """Read everything again. :raises StoreError: nothing was changed."""
        await self._turn.run(self._read)

    async def _read(self) -> None:
        found = await self._store.submitters()
        self._users = {each.user: each for each in found}
        self._by_network = [
            each for each in found if each.active and each.hash is None and each.networks
        ]
        self.loaded = True

    async def changed(self) -> None:
        """
        Something was changed through this process: know it before that is answered.

        If it cannot be read back nobody is let in until it is.
        """
        try:
            await self.refresh()
        except StoreError as error:
            _log.error("a change of the credentials cannot be read back: {error}", error=error)
            self.loaded = False

    def startService(self) -> None:
        super().startService()
        self._unwatch = self._store.watch_changes(self._changed_elsewhere)
        self._loop = LoopingCall(self._look)
        self._loop.clock = self._clock
        self._loop.start(self._poll, now=True)

    def stopService(self) -> None:
        super().stopService()
        self._unwatch()
        self._unwatch = lambda: None
        loop, self._loop = self._loop, None
        if loop is not None and loop.running:
            loop.stop()

    def _changed_elsewhere(self) -> None:
        if not self._turn.waiting:  # or a reading is to begin anyhow
            Deferred.fromCoroutine(self._look())

    async def _look(self) -> None:
        """Must not raise, or the looping call stops for good."""
        try:
            await self.refresh()
        except StoreError as error:
            _log.warn("credentials cannot be read: {error}", error=error)
        except Exception:
            _log.failure("reading credentials")
