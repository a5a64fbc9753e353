"""
A whole world from one seed: the service, its disk, the servers it sends to, the applications that
use it, and everything that goes wrong between them.

``World(seed).run()`` gives what it came to. The same seed gives the same trace, on any machine and
with any hash seed. A seed is a number, and behind it what there is in the world besides:
``7+smtp``.
"""

from __future__ import annotations

import gc
import random
import sys
import traceback
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import provider

from mailproxy.interfaces import CRASHPOINTS, observe_crashpoints
from mailproxy.states import MessageState
from mailproxy.submission.bouncer import Bouncer
from tests.fake_store_rows import MessageRow
from tests.fakes import EPOCH
from tests.simulation.judge import Intent, judge
from tests.simulation.legacy import Legacy
from tests.simulation.network import End, Listener, Network, Weather
from tests.simulation.process import Process
from tests.simulation.shared import SharedStore
from tests.simulation.store import Medium, SimulatedStore, new_disk, said_of
from tests.simulation.tenant import Mood, Tenant
from tests.simulation.timeline import Owner, Timeline
from tests.simulation.upstream import CALM, Upstream, gauge

#: Virtual seconds after which a world that does not come to rest never will.
LONGEST = 4_000.0

#: Virtual seconds after which all nodes know of a tenant.
HEARD_OF = 6.0

#: Virtual seconds that a stop may take.
STOP = 60.0


@attrs.frozen
class Result:
    """
    What a world came to.

    :param problems: breaches of what the service promises; none, if all is well.
    :param hash: of all that happened.
    """

    seed: str
    problems: Sequence[str]
    hash: str
    trace: Sequence[str] = attrs.field(repr=False)
    steps: int
    seconds: float

    def __str__(self) -> str:
        lines = [f"seed {self.seed}, trace {self.hash}, {self.steps} steps:", *self.problems]
        return "\n  ".join(lines)


#: What a world may have besides: programs that hand mail in by SMTP; limits of accounts, tenants;
#: a second node on the same database.
BESIDES = frozenset({"smtp", "limits", "nodes"})


class World:
    """
    :param seed: a number, and any of :data:`BESIDES` behind a plus sign each.
    :param make_store: the class of the store; a broken one, to prove that it is caught. None: a
        sound one.
    :param harm: how much goes wrong, 0 to 1; None: the seed decides.
    """

    def __init__(
        self,
        seed: str,
        make_store: type[SimulatedStore] | None = None,
        harm: float | None = None,
    ) -> None:
        self.seed, *besides = seed.split("+")
        if not BESIDES.issuperset(besides):
            raise ValueError(f"no seed: {seed}")
        self.name = seed
        self.nodes = 2 if "nodes" in besides else 1
        sound = SimulatedStore if self.nodes == 1 else SharedStore
        self.make_store = make_store or sound
        self._balance = random.Random(f"{self.seed} balance")
        self.rng = rng = random.Random(f"{self.seed} world")
        self.harm = rng.choice((0.0, 0.3, 0.6, 1.0)) if harm is None else harm
        self.line = Timeline()
        self.net = Network(self.line, random.Random(f"{self.seed} net"), self._forecast)
        self.outside = Owner("outside")
        self.disk = new_disk(self._stored)
        self.medium = Medium(random.Random(f"{self.seed} disk"))
        self.medium.most = rng.choice((0.001, 0.02, 0.4))
        self.pause = rng.choice((0.3, 1.5, 4.0))
        self.jump = 0.0
        self.problems: list[str] = []
        self.intents: dict[str, Intent] = {}
        self.by_smtp, self.limited = "smtp" in besides, "limits" in besides
        self.trusting = random.Random(f"{self.seed} door").random() < 0.3
        self.tenants = [self._tenant(n) for n in range(rng.choice((1, 1, 2)))]
        self.processes: dict[int, Process] = {}
        self._starts = 0
        self._graves: list[Any] = []
        self._calm = self._settling = True
        self._over = False
        self.halted = False  # some process has come to its end since that was looked at
        self._crash_at: tuple[str, int] | None = None

    def _tenant(self, number: int) -> Tenant:
        rng = random.Random(f"{self.seed} tenant {number}")
        name = ("default", "t1")[number]
        login = rng.random() < 0.3
        port = 2500 + number
        upstream = Upstream(self.line, f"smtp{number}", rng, CALM, login)
        upstream.temper = gauge(rng, self.harm)
        self.net.names |= {f"smtp{number}.sim": f"10.0.1.{number}"}
        self.net.names |= {f"app-{name}.sim": f"10.0.2.{number}"}
        self.net.listen(upstream.owner, port, upstream)
        harm = self.harm
        error, hang, lost = (
            rng.uniform(0.0, 0.4 * harm) if rng.random() < 0.5 else 0.0 for _ in range(3)
        )
        mood = Mood(
            error,
            hang,
            lost,
            too_many=0.2 * harm,
            posts=rng.choice((0.0, 0.5)),
            slow=rng.choice((0.01, 0.3, 3.0)),
        )
        tenant = Tenant(self, name, upstream, 9000 + number, rng, mood)
        self.net.listen(self.outside, tenant.port, tenant.receiver)
        account = {
            "id": "acct",
            "tenant_id": name,
            "host": f"smtp{number}.sim",
            "port": port,
            "tls_mode": "plain",
            "timeout": 10,
            "ttl": rng.choice((20, 300)),
            "max_sessions": rng.choice((1, 2, 8)),
            "batch_size": rng.choice((2, 50)),
            "on_uncertain": rng.choice(("retry", "retry", "hold", "fail")),
            "max_age_seconds": rng.choice((60, 300)),
        }
        if login:
            account |= {"user": "me", "password": "s3cret-of-me", "allow_plaintext_auth": True}
        tenant.account = account
        if self.limited:
            tenant.limit(random.Random(f"{self.seed} limits {number}"))
        if self.by_smtp:
            rng = random.Random(f"{self.seed} program {number}")
            tenant.legacy = Legacy(self, tenant, rng, self.trusting and name == "default")
        return tenant

    def _stored(self, row: MessageRow) -> None:
        """The store has a new message."""
        for tenant in self.tenants:
            remembered = row.payload is None  # of what was removed, without its text
            if tenant.id == row.tenant_id and tenant.legacy is not None and not remembered:
                tenant.legacy.told(row.id, said_of(row)[1])

    # -- what others ask of it ------------------------------------------------------------------

    def some_node(self) -> int:
        """Where the balancer sends a client, whoever is there."""
        if self.nodes == 1 or self._settling:
            return 0
        return self._balance.randrange(self.nodes)

    def _running(self) -> Process | None:
        """One that runs, if the one that is drawn does."""
        node = 0 if self.nodes == 1 else self._balance.randrange(self.nodes)
        return self.processes.get(node)

    def wall(self) -> float:
        return EPOCH + self.line.now + self.jump

    def lookup(self, name: str, *args: Any, **kwargs: Any) -> Any:
        if not self._calm and self.rng.random() < 0.1 * self.harm:
            return self.net.lookup("nowhere.sim")
        return self.net.lookup(name)

    def sleep(self, seconds: float) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        self.line.later(self.outside, seconds, done.callback, None)
        return done

    def blame(self, problem: str) -> None:
        self.problems.append(f"at {self.line.now:.3f}: {problem}")

    def stumbled(self, failure: Failure) -> None:
        self.blame(f"the world itself stumbled: {failure.getTraceback()}")

    def undecided(self, tenant_id: str) -> list[str]:
        """Messages that wait for an operator."""
        waiting = (MessageState.HELD, MessageState.UNCERTAIN)
        rows = self.disk.messages.values()
        return [row.id for row in rows if row.tenant_id == tenant_id and row.state in waiting]

    # -- what goes wrong ------------------------------------------------------------------------

    def _forecast(self, port: int) -> Weather:
        rng, harm = self.net.rng, 0.0 if self._calm else self.harm
        weather = Weather(delay=rng.choice((0.0005, 0.01, 0.2)), torn=rng.random() < 0.3)
        if rng.random() < 0.25 * harm:
            what, byte = rng.randrange(6), int(rng.expovariate(1 / 500.0))
            if what == 0:
                weather.refused = True
            elif what == 1:
                weather.lost = True
            elif what == 2:
                weather.cut = (byte, None)
            elif what == 3:
                weather.cut = (None, byte)
            elif what == 4:
                weather.mute = (byte, None)
            else:
                weather.mute = (None, byte)
        return weather

    def _plan(self, span: float) -> None:
        """Have things go wrong within the next *span* seconds."""
        rng = self.rng
        whats: list[Callable[[], None]] = [
            self.crash, self._crash_soon, self._crash_soon, self.restart, self._freeze, self._jump,
            self._fail_disk, self._stick_disk,
        ]  # fmt: skip
        if self.nodes > 1:
            whats += [self._cut, self._cut, self._cut]
        for _ in range(int(rng.choice((1, 2, 3, 5)) * self.harm + 0.5)):
            self.line.later(self.outside, rng.uniform(0.0, span), rng.choice(whats))

    def crash(self) -> None:
        self._kill(self._running())

    def _kill(self, process: Process | None) -> None:
        if process is not None and not self._calm:
            del self.processes[process.node]
            # What it waited for never comes; forgotten now, it would be told that it ends.
            self._graves.append((process, list(process.owner.calls)))
            process.kill()
            self._start_later(process.node)

    def restart(self) -> None:
        process = self._running()
        if process is not None and not process.stopping and not self._calm:
            process.stop()

    def _crash_soon(self) -> None:
        self._crash_at = (self.rng.choice(CRASHPOINTS), self.rng.choice((1, 1, 2, 3)))

    def _at_crashpoint(self, name: str) -> None:
        if self._crash_at is not None and self._crash_at[0] == name:
            count = self._crash_at[1] - 1
            self._crash_at = (name, count) if count else None
            running = self.line.running
            for process in [] if count else list(self.processes.values()):
                if running is process.owner:
                    self._kill(process)

    def _freeze(self) -> None:
        until = self.line.now + self.rng.choice((2.0, 12.0, 40.0))
        process = self._running()
        if process is not None:  # frozen twice, it wakes at the later time
            owner = process.owner
            owner.frozen_until = max(owner.frozen_until, until)

    def _cut(self) -> None:
        """One node does not reach the database."""
        process = self._running()
        if process is not None:
            process.owner.cut_until = self.line.now + self.rng.choice((8.0, 20.0, 25.0))

    def _jump(self) -> None:
        self.jump += self.rng.choice((-90.0, -5.0, 5.0, 90.0, 400.0))

    def _fail_disk(self) -> None:
        self.medium.failing = self.rng.choice((0.1, 0.5, 1.0))
        self.line.later(self.outside, self.rng.uniform(0.2, 8.0), self._mend_disk)

    def _mend_disk(self) -> None:
        self.medium.failing = 0.0

    def _stick_disk(self) -> None:
        self.medium.stuck_until = self.line.now + self.rng.uniform(0.5, 12.0)

    # -- the process ----------------------------------------------------------------------------

    def _start_later(self, node: int) -> None:
        self.line.later(self.outside, self.rng.uniform(0.05, 3.0), self.start, node)

    def start(self, node: int = 0) -> None:
        self._starts += 1
        process = self.processes[node] = Process(self, self._starts, node)
        self.line.running = process.owner
        try:
            process.start()
        except SystemExit as error:
            self.blame(f"the service did not start: {error}")

    def _check_stopped(self, process: Process) -> None:
        """A process that has stopped leaves nothing behind."""
        for timer in process.owner.calls:
            if not timer.of(End, Listener):  # those are the machine's own
                self.blame(f"a timer was left by the stop: {timer!r}")
        for end in self.net.open:
            if end.owner is process.owner:
                self.blame(f"a connection was left by the stop: {end!r}")
        process.owner.alive = False

    # -- running --------------------------------------------------------------------------------

    def run(self) -> Result:
        """Let the world be, from its beginning to its end."""
        watch = cast(ILogObserver, self._logged)
        globalLogPublisher.addObserver(watch)
        globalLogPublisher.addObserver(_strip)
        forget = observe_crashpoints(self._at_crashpoint)
        often, Bouncer.interval = Bouncer.interval, LONGEST  # nobody wants any bounces here
        try:
            self._live()
            if not self.problems:
                judge(self)
        finally:
            Bouncer.interval = often
            forget()
            globalLogPublisher.removeObserver(_strip)
            globalLogPublisher.removeObserver(watch)
        line = self.line
        return Result(self.name, self.problems, line.trace_hash, line.trace, line.steps, line.now)

    def _live(self) -> None:
        for node in range(self.nodes):
            self.start(node)
        self._do(*[each.register() for each in self.tenants])
        if self.nodes > 1:
            self._let(HEARD_OF)
        self._settling = False
        self._calm = False
        rng = self.rng
        acts = [rng.choice((2, 5, 10)) for _ in self.tenants]
        self._plan(1.2 * self.pause * max(acts))
        self._do(*[each.live(count) for each, count in zip(self.tenants, acts, strict=True)])
        self._let(rng.uniform(0.0, 5.0))
        self._end_of_trouble()
        self._do(*[each.settle() for each in self.tenants])
        while not self.at_rest() and self.line.now < LONGEST and not self.problems:
            self._do(*[each.decide() for each in self.tenants])
            self._let(5.0)
        if self.problems:
            return
        if not self.at_rest():
            self.blame(f"it never came to rest: {self._unrest()}")
            return
        last = list(self.processes.values())
        assert len(last) == self.nodes
        self._over = True
        for process in last:
            process.stop()
        self._let(STOP, lambda: all(each.stopped for each in last))
        if not all(each.stopped for each in last):
            self.blame("the stop did not end")
            return
        self._let(1.0)
        for process in last:
            self._check_stopped(process)

    def _end_of_trouble(self) -> None:
        self._calm = True
        self.medium.failing, self.jump = 0.0, 0.0
        self.medium.stuck_until = 0.0
        for process in self.processes.values():
            process.owner.cut_until = 0.0
        for tenant in self.tenants:
            tenant.upstream.temper = attrs.evolve(
                CALM, pipelining=tenant.upstream.temper.pipelining
            )
            tenant.mood = Mood()

    def at_rest(self) -> bool:
        return not self._unrest()

    def _unrest(self) -> list[str]:
        rows = self.disk.messages.values()
        found = [f"{row.tenant_id}/{row.id} is {row.state}" for row in rows if not row.state.final]
        for (tenant, id), event in self.disk.unreported():
            found.append(f"{event.kind} of {tenant}/{id} is not reported")
        if len(self.processes) < self.nodes > 1:
            found.append("a node is away")
        return found + [f"{each.id} is busy" for each in self.tenants if each.busy]

    def _do(self, *tasks: Awaitable[None]) -> None:
        """Run *tasks* beside each other until all are done."""
        left = len(tasks)

        def done(result: Any) -> None:
            nonlocal left
            left -= 1
            if isinstance(result, Failure):
                self.stumbled(result)

        for task in tasks:
            Deferred.fromCoroutine(task).addBoth(done)  # type: ignore[arg-type]
        self._let(LONGEST - self.line.now, lambda: not left)
        if left and not self.problems:
            self.blame(f"nobody answers any more: {self._unrest()}")

    def _let(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Let *seconds* pass, or less, *until* something is so."""
        line = self.line
        end = line.now + max(0.0, seconds)
        while not until() and not self.problems:
            try:
                if not line.step(end):
                    return
            except Exception:
                self.blame(f"raised in a call: {traceback.format_exc()}")
            if self.halted and not self._over:
                self.halted = False
                for process in [each for each in self.processes.values() if each.stopped]:
                    self._check_later(process)

    def _check_later(self, process: Process) -> None:
        del self.processes[process.node]

        def check() -> None:
            self._check_stopped(process)

        self.line.later(self.outside, 0.5, check)
        self._start_later(process.node)

    def _logged(self, event: Any) -> None:
        level = event.get("log_level")
        if level is None or level < LogLevel.error:
            return
        running = self.line.running
        if running is None or not running.alive:
            return
        text = formatEvent(event)
        stopping = any(each.stopping for each in self.processes.values() if each.owner is running)
        unlogged = " is missing in the command log" in text and stopping
        if unlogged or (self.medium.failing and text.startswith(FAILING)):
            return
        if event.get("log_failure") is not None:
            self.blame(f"logged: {text}: {event['log_failure'].getTraceback()}")
        elif not text.startswith(EXPECTED):
            self.blame(f"logged: {text}")


#: Errors that an operator should hear of here.
EXPECTED = ("account ", "outcomes cannot be stored, delivery pauses")

#: The same while the disk fails.
FAILING = (
    "cannot start",
    "a change of the tenants cannot be read back",
    "POST ",  # of a command that is missing in the command log
)


def simulate(
    seed: str,
    make_store: type[SimulatedStore] | None = None,
    harm: float | None = None,
) -> Result:
    """Run the world of *seed*, and leave nothing of it behind."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        result = _run(seed, make_store, harm)
        forget()
    finally:
        if collecting:
            gc.enable()
    return result


def _run(seed: str, make_store: type[SimulatedStore] | None, harm: float | None) -> Result:
    world = World(seed, make_store, harm)
    result = world.run()
    _gone.append(world)
    return result


#: Worlds that are over, until :func:`forget` lets them end.
_gone: list[World] = []


def forget() -> None:
    """Let what is left of worlds end: coroutines of killed processes, where some still wait."""
    hook = sys.unraisablehook
    sys.unraisablehook = lambda _: None
    globalLogPublisher.addObserver(_strip)
    try:
        _gone.clear()
        gc.collect()
    finally:
        globalLogPublisher.removeObserver(_strip)
        sys.unraisablehook = hook


@provider(ILogObserver)
def _strip(event: LogEvent) -> None:
    """Failures are kept by others who listen to the log: let them keep no world alive."""
    failure = event.get("log_failure")
    if failure is not None:
        failure.cleanFailure()
