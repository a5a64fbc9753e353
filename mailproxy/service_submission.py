"""
The SMTP front door of the service: every part, connected.

With :mod:`mailproxy.service` and :mod:`mailproxy.service_parts` it knows all stages.
"""

from __future__ import annotations

from typing import Any

import attrs
from twisted.application.service import MultiService
from twisted.logger import Logger

from mailproxy.book import TenantBook
from mailproxy.clock import Names
from mailproxy.composed import Composed
from mailproxy.config import Settings
from mailproxy.descriptors import make_room
from mailproxy.interfaces import IClock, IControl, InThread, IStore
from mailproxy.metrics import Metrics
from mailproxy.service_machine import Machine
from mailproxy.submission.bouncer import Bouncer
from mailproxy.submission.desk import Desk, Terms
from mailproxy.submission.gate import Gate, GateRules
from mailproxy.submission.intake import Rules, StoreIntake
from mailproxy.submission.listener import Door
from mailproxy.submission.tls import ServerTls
from mailproxy.submitter_book import SubmitterBook

_log = Logger()

#: Threads that check passwords: guessing must not take the threads that mail needs.
LOGINS = 2


@attrs.frozen
class Submission:
    """
    :param book: the credentials, for both front doors.
    :param background: what the door needs: to be started before, and stopped after it.
    :param door: None where none is asked for.
    """

    book: SubmitterBook
    background: MultiService
    door: Door | None


def submission(
    reactor: Any,
    settings: Settings,
    clock: IClock,
    names: Names,
    store: IStore,
    control: IControl,
    tenants: TenantBook,
    helpers: InThread,
    metrics: Metrics,
    machine: Machine,
    composed: Composed,
) -> Submission:
    """
    Everything, nothing of it started.

    :param names: of what the front doors make.
    :param machine: what it runs on.
    :param composed: where what was composed is kept until it is sent.
    :raises ConfigurationError: the certificate cannot be used.
    """
    book = SubmitterBook(store, clock)
    threads = machine.threads(reactor, "logins", LOGINS)
    background = MultiService()
    threads.setServiceParent(background)
    book.setServiceParent(background)
    bouncer = Bouncer(store, clock, metrics, helpers, settings.helo_name, settings.default_priority)
    bouncer.setServiceParent(background)
    if not settings.smtp_listen:
        return Submission(book, background, None)
    gate = Gate(
        GateRules(
            _most_connections(settings),
            settings.smtp_max_per_peer,
            settings.smtp_allow,
            settings.smtp_plaintext_auth,
        ),
        book,
        tenants.exists,
        clock,
        threads,
        metrics,
    )
    tls = None
    if settings.smtp_tls_cert is not None and settings.smtp_tls_key is not None:
        tls = ServerTls(settings.smtp_tls_cert, settings.smtp_tls_key, clock)
    intake = StoreIntake(
        store,
        control,
        clock,
        names,
        metrics,
        helpers,
        Rules(
            settings.helo_name,
            settings.max_message_bytes,
            settings.default_priority,
            composed,
        ),
    )
    terms = Terms(
        settings.helo_name,
        tls,
        max_size=settings.max_message_bytes,
        max_recipients=settings.max_recipients,
    )
    door = Door(reactor, settings.smtp_listen, Desk(terms, gate, intake, clock))
    return Submission(book, background, door)


def _most_connections(settings: Settings) -> int:
    """Connections by SMTP at once, bounded so that the API and the upstreams keep theirs."""
    wanted = settings.smtp_max_connections
    room = make_room(wanted)
    if room < wanted:
        _log.warn(
            "GMP_SMTP_MAX_CONNECTIONS: {room} instead of {wanted}, more open files are not allowed "
            "(LimitNOFILE of systemd, ulimit -n)",
            room=room,
            wanted=wanted,
        )
    return room
