"""What the streams of all accounts have in common."""

from __future__ import annotations

import random
from collections.abc import Callable

import attrs

from mailproxy.dispatch.activity import Activity
from mailproxy.dispatch.judge import Rules
from mailproxy.dispatch.recorder import Recorder
from mailproxy.dispatch.ways import Surroundings
from mailproxy.interfaces import IClock, ICourier, IStore
from mailproxy.metrics import Metrics


@attrs.define
class Shared:
    """What all streams of one dispatcher share."""

    store: IStore
    courier: ICourier
    clock: IClock
    rng: random.Random
    metrics: Metrics
    recorder: Recorder
    activity: Activity
    rules: Rules
    batch_size: int = 50
    stopping: bool = False
    #: In test mode, nothing that fell due after this instant is claimed; None outside of it.
    gate: float | None = None
    #: What mail needs that goes through other accounts than its own.
    surroundings: Surroundings | None = None
    #: Told the pk of an account that works again.
    reopened: Callable[[int], None] = lambda _: None

    def horizon(self) -> float:
        """Until when a message must have fallen due to be claimed now."""
        return self.clock.now() if self.gate is None else self.gate
