"""One start of the service in the simulated world: the very program, on a machine made of seeds."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed

from mailproxy.api.call import Route
from mailproxy.config import Settings
from mailproxy.config_secrets import Secrets
from mailproxy.crypto import hash_password, password_matches
from mailproxy.service import MailProxy
from mailproxy.service_machine import Machine
from mailproxy.threads import NotRunning, Threads
from tests.simulation.legacy import PROGRAMS, SMTP_PORT
from tests.simulation.network import Reactor
from tests.simulation.shared import LEASE
from tests.simulation.tenant import API_PORT, TOKEN
from tests.simulation.timeline import Owner

if TYPE_CHECKING:
    from tests.simulation.world import World

#: A key that seals passwords; nobody's.
KEY = "c2ltdWxhdGVkIGtleSBvZiAzMiBieXRlcyBpbiBhbGw="

#: The endpoints that anybody calls in this world; making the others would take half the time.
SERVED = (
    "/commands/", "/account", "/tenant", "/v1/messages/<path:id>/", "/v1/batches/",
    "/v1/credentials",
)  # fmt: skip

#: Slow on purpose: done once for all worlds.
_SLOW = {each: lru_cache(each) for each in (hash_password, password_matches)}


def served(route: Route) -> bool:
    called = route.method in ("POST", "PUT") and route.path.startswith(SERVED)
    return called and "api-key" not in route.path


class VirtualThreads(Threads):
    """Threads whose work takes a moment of virtual time."""

    def __init__(self, reactor: Reactor, name: str, size: int, pause: Callable[[], float]) -> None:
        self.setName(f"threads:{name}")
        self._line = reactor
        self._pause = pause

    def startService(self) -> None:
        Service.startService(self)

    def stopService(self) -> Deferred[None]:
        Service.stopService(self)
        return succeed(None)

    def __call__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]:
        if not self.running:
            return fail(NotRunning(f"{self.name} is not running"))
        result: Deferred[Any] = Deferred(lambda _: None)

        def done(value: Any) -> None:
            if not result.called:
                result.callback(value)

        def run() -> None:
            maybeDeferred(_SLOW.get(function, function), *args, **kwargs).addBoth(done)

        self._line.callLater(self._pause(), run)
        return result


class _NoSignals:
    """Nobody sends any."""

    def __init__(self, reactor: Any) -> None: ...

    def on(self, number: int, call: Callable[[], None]) -> None: ...

    def restore(self) -> None: ...


class Process:
    """
    :param number: of the start; *node*: of the machine it runs on.

    :ivar dead: killed; what it still says counts for nothing.
    :ivar stopped: it has come to its end by itself.
    """

    def __init__(self, world: World, number: int, node: int = 0) -> None:
        self._world = world
        self.node = node
        self.owner = Owner(f"service {number}")
        self.dead = self.stopped = self.stopping = False
        self.reactor = Reactor(world.line, world.net, self.owner)
        self.reactor.give_up = self.stop
        rng = random.Random(f"{world.seed} process {number}")

        def store(reactor: Any, settings: Any, clock: Any, names: Any, *_: Any) -> Any:
            made = world.make_store(clock, names, world.disk, self.reactor, world.medium)
            made.intents = world.intents
            return made

        machine = Machine(
            secrets=lambda settings: Secrets(TOKEN, (KEY,)),
            store=store,
            threads=lambda reactor, name, size: VirtualThreads(
                self.reactor, name, size, world.medium.pause
            ),
            rng=lambda: random.Random(rng.getrandbits(64)),
            lookup=world.lookup,
            wall=world.wall,
            signals=_NoSignals,  # type: ignore[arg-type]
            tune=lambda: None,
            serves=served,
            tell=lambda state: None,
        )
        settings = settings_for(world, node)
        self.service = MailProxy(self.reactor, settings, lambda: settings, machine)

    def start(self) -> None:
        self._world.line.note(f"{self.owner.name} starts")
        self.service.startService()

    def kill(self) -> None:
        """As SIGKILL does, or a loss of power, from the very next instruction on."""
        world = self._world
        self.dead, self.owner.alive = True, False
        self.owner.calls.clear()
        world.net.forget(self.owner, silently=world.rng.random() < 0.3)
        self.owner.store.die()  # type: ignore[attr-defined]
        world.line.note(f"{self.owner.name} is killed")

    def stop(self) -> None:
        if self.stopping:
            return
        self.stopping = True
        self._world.line.note(f"{self.owner.name} stops")
        self.service.stopService().addBoth(self._stopped)

    def _stopped(self, result: Any) -> None:
        if not self.dead:
            self.stopped = self._world.halted = True
            self._world.line.note(f"{self.owner.name} has stopped")


def settings_for(world: World, node: int) -> Settings:
    settings = Settings(
        host="10.0.0.1",
        port=API_PORT + node,
        db_path=Path("/nowhere/mail.db"),
        data_dir=Path("/nowhere"),
        client_sync_url=f"http://app-default.sim:{world.tenants[0].port}/sync",
        client_sync_timeout=15.0 if world.nodes == 1 else 30.0,
        node_lease_seconds=LEASE,
        client_sync_interval=60.0,
        send_loop_interval=5.0,
        retry_delays=(2.0, 5.0, 20.0),
        account_fault_max_age_seconds=600.0,
        helo_name="me.sim",
        drain_seconds=5.0,
    )
    if not world.by_smtp:
        return settings
    return attrs.evolve(
        settings,
        smtp_listen=(f"tcp:{SMTP_PORT + node}:interface=10.0.0.1",),
        smtp_allow=(PROGRAMS,) if world.trusting else (),
        smtp_plaintext_auth=(PROGRAMS,),
        smtp_max_connections=20,
    )
