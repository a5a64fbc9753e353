"""No order of acts makes the fake or a real store lose, double or hide a message."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings

from mailproxy.interfaces import IStore
from tests.fake_store import FakeStore
from tests.fakes import FakeClock, result
from tests.store.machine_groups import GroupsMachine
from tests.store.opened import Opened
from tests.store.postgres_opened import Opened as OpenedOnServer


class FakeMachine(GroupsMachine):
    def open_store(self, clock: FakeClock) -> IStore:
        self.fake = FakeStore(clock)
        return self.fake

    def kill_store(self) -> IStore:
        self.fake = self.fake.crash()
        return self.fake


QUICK: dict[str, Any] = {
    "deadline": None,
    "max_examples": 60,
    "stateful_step_count": 40,
    "suppress_health_check": list(HealthCheck),
}

FakeMachineTests = FakeMachine.TestCase
FakeMachineTests.settings = settings(**QUICK)


class EmbeddedMachine(GroupsMachine):
    """The SQLite store on a file, each work run at once."""

    def open_store(self, clock: FakeClock) -> IStore:
        self.folder = tempfile.TemporaryDirectory()
        self.opened = Opened(Path(self.folder.name) / "store", clock, random.Random(7))
        return self.opened.store

    def kill_store(self) -> IStore:
        return self.opened.killed()

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            if hasattr(self, "opened"):
                result(self.opened.close())
                self.folder.cleanup()


EmbeddedMachineTests = EmbeddedMachine.TestCase
# A failing series is shown as it was found: to shrink it takes minutes on a file.
EmbeddedMachineTests.settings = settings(
    **{**QUICK, "max_examples": 20, "phases": (Phase.explicit, Phase.reuse, Phase.generate)}
)


class PostgresMachine(GroupsMachine):
    """The PostgreSQL store on a real server, each work run at once."""

    def open_store(self, clock: FakeClock) -> IStore:
        self.opened = OpenedOnServer(clock, random.Random(7))
        return self.opened.store

    def kill_store(self) -> IStore:
        return self.opened.killed()

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            if hasattr(self, "opened"):
                result(self.opened.close())


PostgresMachineTests = PostgresMachine.TestCase
PostgresMachineTests.settings = settings(
    **{
        **QUICK,
        "max_examples": 5,
        "stateful_step_count": 30,
        "phases": (Phase.explicit, Phase.reuse, Phase.generate),
    }
)
