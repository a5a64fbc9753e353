"""``/instance``: what the operator calls this service, and whether it sends."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from msgspec import Meta, Struct

import mailproxy
from mailproxy.account_fields import flag, text
from mailproxy.api.answers import Answer, answer, ok
from mailproxy.api.bodies import Fields, read_object
from mailproxy.api.call import Call, Need, Route
from mailproxy.api.doc import Doc
from mailproxy.api.shapes import Done, Yes
from mailproxy.interfaces import IClock, IStore

#: What a service is called that nobody named.
NAME = "mailproxy"

_FIELDS = {"name": text(0, 255), "active": flag}


class InstanceChange(Struct, kw_only=True):
    """What is left out stays; a name that is null is the usual one."""

    name: str | None = None
    active: Annotated[
        bool | int | str | None, Meta(description="As the commands suspend and activate.")
    ] = None


class ShownInstance(Struct, kw_only=True):
    """This service."""

    ok: Yes = True
    id: Annotated[int, Meta(description="There is one in a store.")] = 1
    name: str
    version: str
    active: Annotated[bool, Meta(description="Whether mail is sent: nothing is suspended.")]


class Instance:
    """Shows and names the service."""

    def __init__(self, store: IStore, clock: IClock) -> None:
        self._store = store
        self._clock = clock

    def routes(self) -> Iterable[Route]:
        shown = Doc("Show what this service is called, and whether it sends.", gives=ShownInstance)
        changed = Doc(
            "Name this service, suspend it or let it send.",
            takes=InstanceChange,
            gives=Done,
            example={"name": "mail of the shops"},
        )
        yield Route("GET", "/instance", self.get, Need.ADMIN, shown)
        yield Route("PUT", "/instance", self.put, Need.ADMIN, changed)

    async def get(self, call: Call) -> Answer:
        name = await self._store.instance_name()
        suspension = await self._store.suspension(None)
        return answer(
            ShownInstance(
                name=name or NAME, version=mailproxy.__version__, active=suspension.active
            )
        )

    async def put(self, call: Call) -> Answer:
        fields = Fields()
        found = fields.read(read_object(call), _FIELDS)
        fields.check()
        if "name" in found:
            await self._store.name_instance(found["name"] or "")
        active = found.get("active")
        if active is not None:
            change = self._store.activate if active else self._store.suspend
            await change(None, None, self._clock.now())
        return ok()
