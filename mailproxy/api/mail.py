"""All endpoints about mail, put together: what goes in, what is there, what becomes of it."""

from __future__ import annotations

from collections.abc import Iterator

from mailproxy.api.acts import MessageActs
from mailproxy.api.acts_bulk import GroupActs
from mailproxy.api.call import Route
from mailproxy.api.commands import Commands
from mailproxy.api.destinations import DestinationCommands
from mailproxy.api.events import EventLog
from mailproxy.api.explain import Explain
from mailproxy.api.imports import SuppressionImport
from mailproxy.api.listing import Listing
from mailproxy.api.message import OneMessageView
from mailproxy.api.messages import Intake, IntakeRules
from mailproxy.api.raw import RawIntake
from mailproxy.api.removal import Removal
from mailproxy.api.suppressions import SuppressionLists
from mailproxy.book import TenantBook
from mailproxy.clock import Names
from mailproxy.interfaces import IClock, IControl, InThread, IStore
from mailproxy.metrics import Metrics


def mail_routes(
    store: IStore,
    control: IControl,
    clock: IClock,
    names: Names,
    metrics: Metrics,
    in_thread: InThread,
    rules: IntakeRules,
    book: TenantBook,
    retention: float,
) -> Iterator[Route]:
    """
    :param in_thread: where large requests are read, and large answers made.
    :param book: the tenants, as far as their mail depends on what they say.
    :param retention: seconds for which ended messages are kept where a tenant says nothing else.
    """
    intake = Intake(store, control, clock, names, metrics, in_thread, rules)
    yield from intake.routes()
    yield from RawIntake(intake).routes()
    yield from Explain(store, intake, clock, in_thread, rules, book).routes()
    yield from Commands(store, control, clock).routes()
    yield from Removal(store, clock, book, retention).routes()
    yield from DestinationCommands(store, clock).routes()
    yield from SuppressionLists(store, clock).routes()
    yield from SuppressionImport(store, clock, in_thread).routes()
    yield from Listing(store, clock, in_thread).routes()
    yield from OneMessageView(store, in_thread).routes()
    yield from MessageActs(store, clock).routes()
    yield from GroupActs(store, clock).routes()
    yield from EventLog(store, clock, in_thread).routes()
