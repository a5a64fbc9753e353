"""``/commands/run-now``, ``/commands/suspend`` and ``/commands/activate``."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from mailproxy.api.answers import Answer, Problem, invalid, ok, refused
from mailproxy.api.call import Call, Need, Route
from mailproxy.api.doc import Doc
from mailproxy.api.shapes import BATCH, Suspended
from mailproxy.interfaces import IClock, IControl, IStore
from mailproxy.model import DEFAULT_TENANT
from mailproxy.records import Suspension

#: What ``batch_code`` and the answer call everything.
ALL = "*"

NOT_ALONE = "everything is suspended, not this batch alone"

_control = re.compile(r"[\x00-\x1f\x7f]").search

_Change = Callable[[str | None, str | None, float], Awaitable[Suspension]]


class Commands:
    """What sets the machinery going and stops it."""

    def __init__(self, store: IStore, control: IControl, clock: IClock) -> None:
        self._store = store
        self._control = control
        self._clock = clock

    def routes(self) -> Iterable[Route]:
        about = "Look for due mail, and report, now. Always done; touches no times of messages."
        yield Route("POST", "/commands/run-now", self.run_now, Need.TOKEN, Doc(about))
        about = "Stop sending. After the answer no further body is begun; survives a restart."
        doc = Doc(about, gives=Suspended, query=BATCH)
        yield Route("POST", "/commands/suspend", self.suspend, Need.CONTROL, doc)
        doc = Doc("Send again what was suspended.", gives=Suspended, query=BATCH)
        yield Route("POST", "/commands/activate", self.activate, Need.CONTROL, doc)

    async def run_now(self, call: Call) -> Answer:
        """Never waits, never fails: whoever may call at all is told yes."""
        tenant_id = call.asked_tenant()
        if tenant_id is None or call.tenant_exists(tenant_id):
            self._control.run_now(tenant_id)
        return ok()

    async def suspend(self, call: Call) -> Answer:
        return await self._change(call, self._store.suspend)

    async def activate(self, call: Call) -> Answer:
        if _batch(call) is not None and not (await self._store.suspension(None)).active:
            raise refused(400, NOT_ALONE)
        return await self._change(call, self._store.activate)

    async def _change(self, call: Call, change: _Change) -> Answer:
        tenant_id, batch = call.scope(), _batch(call)
        if batch is not None and tenant_id is None:
            tenant_id = DEFAULT_TENANT
        try:
            suspension = await change(tenant_id, batch, self._clock.now())
        except ValueError:
            raise refused(400, NOT_ALONE) from None
        answer: dict[str, Any] = {"tenant_id": tenant_id}
        if batch is not None:
            answer["batch_code"] = batch
        return ok(
            **answer,
            suspended_batches=suspension.batches,
            pending_messages=suspension.pending,
            in_flight=suspension.in_flight,
            active=suspension.active,
        )


def _batch(call: Call) -> str | None:
    batch = call.query("batch_code")
    if batch is None or batch == ALL:
        return None
    if len(batch) > 64 or _control(batch):
        raise invalid([Problem(("query", "batch_code"), "expected at most 64 characters of text")])
    return batch
