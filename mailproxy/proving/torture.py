"""
``mailproxy torture``: the service is killed again and again while it works, and then has to account
for all that it accepted.

It is a client of the wire only: it knows the service by its API, its SMTP and its reports, and
kills it from outside, or has it die at a crash point that is named in its environment.
"""

from __future__ import annotations

import collections
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import msgspec

from mailproxy.crash import VARIABLE
from mailproxy.proving.children import STEP, Child, NotProven, Pause, clean_environment, free_port
from mailproxy.proving.tail import Tail
from mailproxy.proving.torture_client import Api, NoAnswer
from mailproxy.proving.torture_ledger import (
    Arrival,
    Claims,
    Known,
    Ledgers,
    Told,
    arrival,
    known,
    told,
)
from mailproxy.proving.torture_plan import ACCOUNTS, Answered, End, Killed, Passed, Plan
from mailproxy.proving.torture_reconcile import ENDS, Findings, plain, reconcile
from mailproxy.proving.torture_submit import Desk, Submitter

#: Seconds between the attempts of one message, so short that nobody has to wait for the end.
RETRY_DELAYS = "0.3,0.6,1"

#: Seconds the service may take until it serves.
START = 60.0

#: Seconds all may take to come to its end, once nobody kills any more.
QUIET = 90.0

#: Seconds between two looks at how far it is.
LOOK = 0.3


@attrs.frozen(kw_only=True)
class Settings:
    """
    :param directory: for everything the run writes.
    :param seconds: after which nothing is killed any more.
    :param db: the database; None for one in *directory*.
    :param service: the command that runs the service.
    :param environment: what is added to the service's environment.
    """

    directory: Path
    seconds: float
    db: Path | None = None
    service: Sequence[str] = (sys.executable, "-m", "mailproxy", "serve")
    environment: Mapping[str, str] = attrs.Factory(dict)


@attrs.define
class Kills:
    """
    How often the service was killed.

    :ivar at: by what ended it: a crash point, or ``at random``, ``after an answer``,
        ``at the start``.
    :ivar on_work: of these, while something accepted had not come to its end.
    """

    at: collections.Counter[str] = attrs.Factory(collections.Counter)
    on_work: int = 0

    @property
    def total(self) -> int:
        return self.at.total()


@attrs.frozen
class Result:
    """What a run has found; *quiet* are the seconds that all took to come to its end."""

    findings: Findings
    kills: Kills
    lost: int
    seconds: float
    quiet: float


class Torture:
    """
    One run of *plan*.

    :param say: is given a line now and then, for people who wait.
    """

    def __init__(
        self, settings: Settings, plan: Plan, say: Callable[[str], None] = lambda line: None
    ) -> None:
        self._settings = settings
        self._plan = plan
        self._say = say
        self._stopped = threading.Event()
        self._pause = Pause(self._stopped)
        directory = settings.directory
        self._copies = Tail(directory / "copies.jsonl", arrival)
        self._reports = Tail(directory / "reports.jsonl", lambda line: tuple(told(line)))
        self._sink = Child("sink", self._sink_command(), directory)
        self._api = Api(free_port(), secrets.token_urlsafe(32))
        smtp = free_port()
        self._desk = Desk(self._api, smtp, self._answered, self._arrived, self._pause)
        self._service = Child("service", settings.service, directory, clean_environment())
        self._smtp = smtp
        self._kill_at: int | None = None
        self._answers = 0
        self._calm = False
        rate = plan.rate / max(1, len(plan.steps))
        self._submitters = [
            Submitter(f"submitter {n}", self._desk, steps, rate, self._enough)
            for n, steps in enumerate(plan.steps, 1)
        ]
        self.kills = Kills()

    # -- the run ---------------------------------------------------------------------------

    def run(self) -> Result:
        """
        Do all of it, and leave no process behind, whatever happens.

        :raises NotProven: it could not be brought to its end.
        """
        begun = time.monotonic()
        try:
            self._prepare()
            self._torture(begun + self._settings.seconds)
            calm = time.monotonic()
            self._calm = True
            self._say("no more kills: waiting until everything has come to its end")
            ledgers = self._quiet()
            return Result(
                reconcile(ledgers),
                self.kills,
                self._desk.lost + self._desk.hung_up,
                calm - begun,
                time.monotonic() - calm,
            )
        finally:
            self.end()

    def end(self) -> None:
        """Whatever state it is in, nothing of it runs afterwards."""
        self._stopped.set()
        self._service.kill()
        self._sink.kill()
        for each in self._submitters:
            if each.is_alive():
                each.join(1.0)

    def _prepare(self) -> None:
        self._sink.spawn()
        sink_smtp, sink_http = self._ports()
        directory = self._settings.directory
        accounts = directory / "accounts.ini"
        accounts.write_text(
            "\n".join(
                f"[account {name}]\nhost = 127.0.0.1\nport = {sink_smtp}\ntls_mode = plain\n"
                f"max_sessions = {sessions}\nis_default = {str(name == 'main').lower()}\n"
                for name, sessions in ACCOUNTS.items()
            )
        )
        self._service.environment = {
            **clean_environment(),
            "GMP_HOST": "127.0.0.1",
            "GMP_PORT": str(self._api.port),
            "GMP_API_TOKEN": self._api.token,
            "GMP_DB_PATH": str(self._settings.db or directory / "mail.db"),
            "GMP_DATA_DIR": str(directory),
            "GMP_ACCOUNTS_FILE": str(accounts),
            "GMP_CLIENT_SYNC_URL": f"http://127.0.0.1:{sink_http}/sync",
            "GMP_SMTP_LISTEN": f"tcp:{self._smtp}:interface=127.0.0.1",
            "GMP_SMTP_ALLOW": "127.0.0.1",
            "GMP_RETRY_DELAYS": RETRY_DELAYS,
            "GMP_LOG_LEVEL": "WARNING",
            **self._settings.environment,
        }

    def _sink_command(self) -> list[str]:
        directory = self._settings.directory
        return [
            *(sys.executable, "-m", "mailproxy", "sink", "--smtp-port=0", "--http-port=0"),
            *("--delay=0-50ms", f"--seed={self._plan.seed}", "--slow=0.4", "--quiet", "--keep=1"),
            f"--ledger={directory / 'copies.jsonl'}",
            f"--report-ledger={directory / 'reports.jsonl'}",
        ]

    def _ports(self) -> tuple[int, int]:
        """Where the sink is, once it is there."""
        self._wait(lambda: "sink ready" in self._sink.tail() or not self._sink.alive, START)
        words = dict(
            word.partition("=")[::2] for word in self._sink.tail().split() if "=127.0.0.1:" in word
        )
        try:
            return (int(words["smtp"].split(":")[1]), int(words["http"].split(":")[1]))
        except KeyError:
            raise NotProven(f"the sink did not start: {self._sink.tail()}") from None

    def _torture(self, until: float) -> None:
        for number, end in enumerate(self._plan.ends, 1):
            if time.monotonic() >= until:
                break
            self._submitting()
            self._live(end, until)
            if number % 20 == 0:
                self._say(f"{self.kills.total} kills, {self._answers} answers")

    def _submitting(self) -> bool:
        for each in self._submitters:
            if each.failure is not None:
                raise NotProven(f"{each.name}: {each.failure}") from each.failure
        return any(each.is_alive() or each.ident is None for each in self._submitters)

    def _enough(self) -> bool:
        """Whether a submitter stops before its next step."""
        return self._calm and self._plan.endless

    # -- one life --------------------------------------------------------------------------

    def _live(self, end: End, until: float) -> None:
        """Start the service, let it work, and see it killed."""
        environment = {VARIABLE: f"{end.point}:{end.count}"} if isinstance(end, Passed) else {}
        self._service.spawn(**environment)
        if isinstance(end, Killed) and end.young:
            self._pause.pause(end.seconds)
            self._kill("at the start")
            return
        up = self._up(dies=isinstance(end, Passed))
        if up:
            self._begin()
            patience = min(self._plan.patience, max(0.5, until - time.monotonic()))
            match end:
                case Killed():
                    self._pause.pause(min(end.seconds, patience))
                    self._kill("at random")
                    return
                case Answered():
                    self._kill_at = self._answers + end.count
            self._wait(lambda: not self._service.alive, patience)
            self._kill_at = None
        if self._service.alive:
            self._kill("at random")  # it did not come so far
        else:
            self._died(end.point if isinstance(end, Passed) else "after an answer")

    def _begin(self) -> None:
        for each in self._submitters:
            if each.ident is None:
                each.start()

    def _up(self, *, dies: bool = False) -> bool:
        """
        Wait until the service serves. :return: whether it does; one that *dies* may not.

        :raises NotProven: it ended by itself, or did not serve in time.
        """
        self._wait(lambda: not self._service.alive or self._api.ready(), START)
        if self._service.alive:
            return True
        assert self._service.process is not None
        if dies and self._service.process.returncode == -signal.SIGKILL:
            return False
        raise NotProven(f"the service ended by itself: {self._service.tail()}")

    def _answered(self, count: int) -> None:
        """In the submitter's thread, right after the answer: nothing else happens in between."""
        self._answers = count
        if self._kill_at is not None and count >= self._kill_at:
            process = self._service.process
            if process is not None:
                process.kill()

    def _kill(self, what: str) -> None:
        self._service.kill()
        self._died(what)

    def _died(self, what: str) -> None:
        process = self._service.process
        assert process is not None
        if process.returncode != -signal.SIGKILL:
            raise NotProven(f"the service ended by itself: {self._service.tail()}")
        self.kills.at[what] += 1
        self.kills.on_work += bool(self._unfinished())

    def _unfinished(self) -> set[str]:
        """What was accepted and has not come to the end of its way."""
        ended = {item.id for call in self._reports.look() for item in call if item.end}
        return set(self._desk.accepted_ids()) - ended

    def _arrived(self, id: str) -> bool:
        return any(copy.id == id for copy in self._copies.look())

    # -- the end ---------------------------------------------------------------------------

    def _quiet(self) -> Ledgers:
        """Let everything come to its end, and stop."""
        self._service.spawn()
        self._up()
        self._begin()
        self._wait(lambda: not self._submitting() or not self._service.alive, QUIET)
        if self._submitting():
            raise NotProven(f"not all was accepted: {self._service.tail()}")
        self._wait(self._settled, QUIET, LOOK)
        copies = collections.Counter(copy.id for copy in self._copies.look())
        records = [self._known(each, copies[each["id"]]) for each in self._api.records()]
        status = self._service.terminate()
        if status not in (0, -signal.SIGTERM):
            raise NotProven(f"the service stopped with {status}: {self._service.tail()}")
        self._sink.terminate()
        claims = self._desk.claims
        self._keep(claims)
        return Ledgers(
            claims,
            tuple[Arrival, ...](self._copies.look()),
            tuple[Told, ...](item for call in self._reports.look() for item in call),
            {each.id: each for each in records},
        )

    def _settled(self) -> bool:
        """Whether nothing moves any more; what rests with an operator is let go."""
        if not self._service.alive:
            raise NotProven(f"the service ended by itself: {self._service.tail()}")
        records = self._api.records()
        for account in {each["account_id"] for each in records if each["state"] == "uncertain"}:
            self._api.resend_uncertain(account)
        return all(each["state"] in ENDS and each["reported_ts"] is not None for each in records)

    def _known(self, record: Mapping[str, Any], copies: int) -> Known:
        """What the service knows of a message, with its timeline if that tells of more."""
        history = () if plain(record, copies) else self._api.history(record["id"])
        return known(record, history)

    def _keep(self, claims: Claims) -> None:
        """Write down what was accepted, beside the other ledgers."""
        lines = [*claims.accepted, *claims.taken_back]
        (self._settings.directory / "accepted.jsonl").write_bytes(
            b"".join(msgspec.json.encode(each) + b"\n" for each in lines)
        )

    def _wait(self, condition: Callable[[], bool], patience: float, step: float = STEP) -> bool:
        """
        Wait for *condition*. :return: whether it came true in *patience* seconds.

        :raises Stopped: the run was stopped.
        """
        end = time.monotonic() + patience
        while True:
            try:
                if condition():
                    return True
            except NoAnswer:
                pass
            if time.monotonic() > end:
                return False
            self._pause.pause(step)
