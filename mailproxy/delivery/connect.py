"""
Connections: the name resolved, every address tried in turn and a little in parallel, TLS if the
account wants it from the first byte.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import IProtocol

from mailproxy.delivery.session import SessionFactory
from mailproxy.hostnames import endpoint_of
from mailproxy.model import Account
from mailproxy.states import TlsMode


class Connector:
    """
    Connects sessions; ``Connector(reactor)`` is what a :class:`mailproxy.delivery.pool.Pool` takes
    as its *connect*.

    :param reactor: resolves names, and connects.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def __call__(self, account: Account, factory: SessionFactory) -> Deferred[IProtocol]:
        """
        :return: fires once connected, before anything was said; cancel it to give up.
        """
        endpoint = endpoint_of(self._reactor, account.host, account.port, account.timeout)
        if account.tls_mode is TlsMode.IMPLICIT and factory.tls is not None:
            endpoint = wrapClientTLS(factory.tls, endpoint)
        return endpoint.connect(factory)
