"""No order of acts makes the service lose, double or hide a message, whoever says it twice."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings

from mailproxy.clock import Names
from tests.fakes import FakeClock, result
from tests.same_id.machine import SameIdMachine
from tests.same_id.world import Watched
from tests.store.opened import Opened

QUICK: dict[str, Any] = {
    "deadline": None,
    "max_examples": 50,
    "stateful_step_count": 40,
    "suppress_health_check": list(HealthCheck),
}


class FakeSameId(SameIdMachine):
    patient = True

    def open_store(self) -> Callable[..., Any]:
        return Watched


FakeSameIdTests = FakeSameId.TestCase
FakeSameIdTests.settings = settings(**QUICK)


class EmbeddedSameId(SameIdMachine):
    """The SQLite store on a file, each work run at once."""

    def open_store(self) -> Callable[..., Any]:
        self.folder = tempfile.TemporaryDirectory()

        def open_it(clock: FakeClock, names: Names) -> Any:
            self.opened = Opened(Path(self.folder.name) / "store", clock, random.Random(7))
            return self.opened.store

        return open_it

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            if hasattr(self, "opened"):
                result(self.opened.close())
                self.folder.cleanup()


EmbeddedSameIdTests = EmbeddedSameId.TestCase
# A failing series is shown as it was found: to shrink it takes minutes on a file.
EmbeddedSameIdTests.settings = settings(
    **{**QUICK, "max_examples": 20, "phases": (Phase.explicit, Phase.reuse, Phase.generate)}
)
