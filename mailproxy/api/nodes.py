"""``/v1/nodes``: the processes that are this service."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from msgspec import Meta, Struct

from mailproxy.api.answers import Answer, answer
from mailproxy.api.call import Call, Need, Route
from mailproxy.api.doc import Doc
from mailproxy.api.shapes import Iso, Yes
from mailproxy.api.times import iso
from mailproxy.interfaces import IClock, IStore


class ShownNode(Struct, kw_only=True):
    """One process, from its start to its end."""

    id: Annotated[str, Meta(description="New with each start; attempts in timelines name it.")]
    host: Annotated[str, Meta(description="The name of its machine.")]
    version: str
    started_at: Iso
    alive: Annotated[bool, Meta(description="Whether it was heard of lately.")]
    alive_until: Annotated[
        Iso, Meta(description="When others take over what it has, if nothing is heard of it.")
    ]
    claims: Annotated[
        int | None, Meta(description="Messages it has at hand; null where that is not counted.")
    ]


class ShownNodes(Struct, kw_only=True):
    """The oldest first; those that died in the last day are among them."""

    ok: Yes = True
    nodes: list[ShownNode]


class Nodes:
    """Shows who works on the queue."""

    def __init__(self, store: IStore, clock: IClock) -> None:
        self._store = store
        self._clock = clock

    def routes(self) -> Iterable[Route]:
        about = "Show the processes that are this service, and which of them live."
        yield Route("GET", "/v1/nodes", self.get, Need.ADMIN, Doc(about, gives=ShownNodes))

    async def get(self, call: Call) -> Answer:
        found = await self._store.nodes(self._clock.now())
        return answer(
            ShownNodes(
                nodes=[
                    ShownNode(
                        id=each.id,
                        host=each.host,
                        version=each.version,
                        started_at=iso(each.started_at),
                        alive=each.alive,
                        alive_until=iso(each.alive_until),
                        claims=each.claims,
                    )
                    for each in found
                ]
            )
        )
