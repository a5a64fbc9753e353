"""What must be true of a world once it has come to rest."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import attrs

from mailproxy.acts import DOUBT
from mailproxy.states import EventKind, MessageState
from tests.fake_store_rows import MessageRow
from tests.simulation.story import Story
from tests.simulation.tenant import Tenant

if TYPE_CHECKING:
    from tests.simulation.world import World


@attrs.frozen
class Intent:
    """
    An attempt that was committed.

    :param version: of the content at that time.
    :param clock: when it began by the clock of the service, in Unix seconds.
    """

    at: float
    tenant: str
    id: str
    version: int
    clock: float


def judge(world: World) -> None:
    """Blame *world* for every promise that was broken in it."""
    for tenant in world.tenants:
        rows = _rows(world, tenant)
        _servers_saw_their_own(world, tenant)
        _intents_first(world, tenant)
        _suspended(world, tenant)
        _within_limits(world, tenant)
        _events_are_stored(world, tenant, rows)
        for story in tenant.stories.values():
            _came_to_its_end(world, tenant, story, rows.get(story.id, []))
            _copies(world, tenant, story, rows.get(story.id, []))
            _not_when_taken_back(world, tenant, story)
        _by_smtp(world, tenant)


def _rows(world: World, tenant: Tenant) -> dict[str, list[MessageRow]]:
    """Every row there ever was, by id, the present one last."""
    disk = world.disk
    found: dict[str, list[MessageRow]] = {}
    for row in [*disk.messages.removed, *disk.messages.values()]:  # type: ignore[attr-defined]
        if row.tenant_id == tenant.id:
            found.setdefault(row.id, []).append(row)
    return found


def _servers_saw_their_own(world: World, tenant: Tenant) -> None:
    """I5: mail of a tenant goes through its own account."""
    for copy in tenant.upstream.copies:
        if copy.tenant != tenant.id:
            world.blame(f"the server of {tenant.id} got {copy}")
        story = tenant.stories.get(copy.id)
        if story is None or not any(copy.address in each for each in story.versions):
            world.blame(f"nobody asked for {copy}")


def _intents_first(world: World, tenant: Tenant) -> None:
    """I7: no body begins before its intent is committed."""
    begun: Counter[str] = Counter()
    for body in sorted(tenant.upstream.begun, key=lambda each: each.at):
        begun[body.id] += 1
        before = [
            each
            for each in world.intents.values()
            if (each.tenant, each.id) == (tenant.id, body.id) and each.at <= body.at
        ]
        if len(before) < begun[body.id]:
            world.blame(f"a body began before its intent: {body}")
        elif body.version not in {each.version for each in before}:
            world.blame(f"a body is not what its intent was for: {body}")


def _suspended(world: World, tenant: Tenant) -> None:
    """I3: nothing begins after a suspension was acknowledged."""
    for since, until in tenant.suspended:
        for intent in world.intents.values():
            if intent.tenant == tenant.id and since < intent.at < until:
                world.blame(f"{intent} while suspended from {since} to {until}")


def _within_limits(world: World, tenant: Tenant) -> None:
    """No more attempts begin in any stretch of so many seconds than the limits allow."""
    mine = [each for each in world.intents.values() if each.tenant == tenant.id]
    for seconds, (most, until) in tenant.limits.items():
        begun = sorted(each.clock for each in mine if each.at < until)
        for first, beyond in zip(begun, begun[most:], strict=False):
            if beyond - first < seconds - 0.001:
                world.blame(f"more than {most} in {seconds} s of {tenant.id}: at {beyond}")


def _events_are_stored(world: World, tenant: Tenant, rows: dict[str, list[MessageRow]]) -> None:
    """I7: what is told is stored, and has one name for ever; a generation ends once."""
    stored = {event.event_id for each in rows.values() for row in each for event in row.events}
    for event_id, item in tenant.offered.items():
        if event_id not in stored:
            world.blame(f"an event that is not stored was told: {item}")
    for (id, generation), event_ids in tenant.finals.items():
        story = tenant.stories[id]
        if len(event_ids) > 1 and not story.closed:
            world.blame(f"generation {generation} of {tenant.id}/{id} ended {len(event_ids)} times")


def _not_when_taken_back(world: World, tenant: Tenant, story: Story) -> None:
    """I3: nothing begins of what was deleted, nor of an older version than that acknowledged."""
    mine = [
        each for each in world.intents.values() if (each.tenant, each.id) == (tenant.id, story.id)
    ]
    for since, until in story.taken_back:
        for intent in mine:
            if since < intent.at < until:
                world.blame(f"{intent} though deleted at {since}")
    if story.muddled:
        return
    for since, version in story.newest:
        for intent in mine:
            if intent.at > since and intent.version < version:
                world.blame(f"{intent} though replaced by version {version} at {since}")


def _came_to_its_end(world: World, tenant: Tenant, story: Story, rows: list[MessageRow]) -> None:
    """I1, I4: what was accepted ended, and the application knows how."""
    taken = tenant.taken.get(story.id, [])
    if not story.promised:
        return
    if not rows:
        world.blame(f"{tenant.id}/{story.id} was accepted and is nowhere")
        return
    row = rows[-1]
    if not taken:
        world.blame(f"{tenant.id}/{story.id} is {row.state} and was never reported")
        return
    last = taken[-1]
    ended = last["sent_ts"] is not None
    if row.before is None and ended != (row.state is MessageState.SENT):
        world.blame(f"{tenant.id}/{story.id} is {row.state}, but was last reported as {last}")
    if last["generation"] != row.generation:
        world.blame(f"generation {row.generation} of {tenant.id}/{story.id} was not reported")
    if ended and not story.closed:
        for said in last["recipients"]:
            got = any(
                (each.id, each.address) == (story.id, said["address"])
                for each in tenant.upstream.copies
            )
            if not got:
                world.blame(f"{said} of {tenant.id}/{story.id} is a lie")


def _copies(world: World, tenant: Tenant, story: Story, rows: list[MessageRow]) -> None:
    """I2: a second copy only where the timeline admits a doubt."""
    copies = Counter(each.address for each in tenant.upstream.copies if each.id == story.id)
    doubts = 0
    for event in {event.event_id: event for row in rows for event in row.events}.values():
        said = event.data.get("recipients", ()) if isinstance(event.data, dict) else ()
        doubts += event.kind is EventKind.UNCERTAIN or any(
            (each.get("reply") or "").startswith(DOUBT) for each in said
        )
    for address, count in copies.items():
        if count > 1 + doubts:
            world.blame(
                f"{address} got {count} copies of {tenant.id}/{story.id}, {doubts} in doubt"
            )


def _by_smtp(world: World, tenant: Tenant) -> None:
    """What came by SMTP leaves as it came, and not more often than it was handed in."""
    taken = Counter(each.of for each in tenant.stories.values() if each.of)
    for sheet in () if tenant.legacy is None else tenant.legacy.sheets.values():
        name = sheet.story.id
        if not sheet.given and taken[name] > sheet.letter.written:
            world.blame(f"{name} was written {sheet.letter.written} times, taken {taken[name]}")
    for copy in tenant.upstream.copies:
        story = tenant.stories.get(copy.id)
        name = copy.id if story is None or not story.of else story.of
        said = tenant.stories[name].letters if name in tenant.stories else []
        if not said:
            continue
        head, _, text = copy.text.partition(b"\r\n\r\n")
        if text != said[copy.version - 1].partition(b"\r\n\r\n")[2]:
            world.blame(f"the text of {copy} is not what was handed in")
        if b"hidden@" in head or b"X-Mailproxy" in head:
            world.blame(f"{copy} tells what nobody should see")
