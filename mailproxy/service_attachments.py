"""
What the service does about attachments that do not come along: every part, connected.

With :mod:`mailproxy.service` and :mod:`mailproxy.service_parts` it knows all stages.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from twisted.application.service import MultiService

from mailproxy.api.attachments import AttachmentRules
from mailproxy.book import TenantBook
from mailproxy.config import Settings
from mailproxy.crypto import Sealer
from mailproxy.delivery.attachments.cache import Cache, MemoryCache
from mailproxy.delivery.attachments.completion import Completion
from mailproxy.delivery.attachments.disk import DiskCache
from mailproxy.delivery.attachments.endpoint import EndpointSource
from mailproxy.delivery.attachments.exchange import Exchanges
from mailproxy.delivery.attachments.fetcher import Fetcher, FetchOptions
from mailproxy.delivery.attachments.files import FileSource
from mailproxy.delivery.attachments.guard import Guard
from mailproxy.delivery.attachments.http import HttpSource
from mailproxy.delivery.attachments.large import Large
from mailproxy.delivery.attachments.names import system_names
from mailproxy.delivery.attachments.source import Source
from mailproxy.delivery.attachments.uploads import Sweeper, Uploads
from mailproxy.delivery.tls import TlsClients
from mailproxy.filelinks import FileLinks
from mailproxy.interfaces import IClock, IStore
from mailproxy.metrics import Metrics
from mailproxy.threads import Threads

#: Threads of each kind: a directory that hangs must not keep the cache, nor large files, waiting.
THREADS = 4

#: Names that are looked up at once: more than one tenant can keep waiting.
NAMES = 16

_MIB = 1024 * 1024


@attrs.frozen
class Attachments:
    """
    :param threads: to be started before, and stopped after, all that uses them.
    :param completion: for the courier.
    :param rules: for the front door.
    :param exchanges: for other calls to places that clients name.
    :param links: by which the front door knows links to files it gives out.
    """

    threads: MultiService
    completion: Completion
    sweeper: Sweeper
    rules: AttachmentRules
    exchanges: Exchanges
    links: FileLinks


def attachments(
    reactor: Any,
    settings: Settings,
    sealer: Sealer,
    links: FileLinks,
    clock: IClock,
    store: IStore,
    book: TenantBook,
    metrics: Metrics,
    pool: Callable[[Any, str, int], Threads] = Threads,
) -> Attachments:
    """
    Everything, nothing of it started.

    :param pool: makes a pool of threads.
    """
    threads = MultiService()
    reading, caching, putting = (
        pool(reactor, name, THREADS) for name in ("files", "cache", "large files")
    )
    asking = pool(reactor, "names", NAMES)
    for each in (reading, caching, putting, asking):
        each.setServiceParent(threads)
    tls = TlsClients(settings.ca_file.read_text() if settings.ca_file else None)
    exchanges = Exchanges(reactor, system_names(asking), tls)
    tenants = book.reported
    guard = Guard(settings.attachment_allow)
    sources: dict[str, Source] = {
        "http_url": HttpSource(exchanges, guard, tenants, sealer.open),
        "endpoint": EndpointSource(exchanges, tenants, sealer.open),
        "filesystem": FileSource(settings.attachment_roots, reading),
    }
    options = FetchOptions(
        max_bytes=settings.attachment_max_bytes, max_message_bytes=settings.max_message_bytes
    )
    fetcher = Fetcher(sources, _cache(settings, clock, caching), clock, metrics, options)
    book.watch(fetcher.forget)
    uploads = Uploads(store, links, clock, putting)
    completion = Completion(
        store,
        fetcher,
        Large(tenants, uploads),
        clock,
        max_message_bytes=settings.max_message_bytes,
    )
    files_for = frozenset(tenant_id for tenant_id, _ in settings.attachment_roots)
    return Attachments(
        threads,
        completion,
        Sweeper(uploads, clock),
        AttachmentRules(sealer.seal, files_for),
        exchanges,
        links,
    )


def _cache(settings: Settings, clock: IClock, threads: Threads) -> Cache:
    memory = MemoryCache(settings.cache_memory_max_mb * _MIB, settings.cache_memory_ttl_seconds)
    disk = None
    if settings.cache_disk_dir is not None:
        disk = DiskCache(
            settings.cache_disk_dir,
            settings.cache_disk_max_mb * _MIB,
            settings.cache_disk_ttl_seconds,
        )
    return Cache(clock.now, memory, disk, threads)
