"""
Connections: the name resolved, every address tried in turn and a little in parallel, TLS if the
account wants it from the first byte.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import IProtocol
from twisted.python.failure import Failure

from mailproxy.delivery.names import Knowing, Names, Unresolved
from mailproxy.delivery.session import SessionFactory
from mailproxy.hostnames import endpoint_of
from mailproxy.model import Account
from mailproxy.states import TlsMode


class Connector:
    """
    Connects sessions; ``Connector(reactor, names)`` is what a
    :class:`mailproxy.delivery.pool.Pool` takes as its *connect*.

    :param reactor: connects.
    :param names: resolves names; None: the reactor does.
    """

    def __init__(self, reactor: Any, names: Names | None = None) -> None:
        self._reactor = reactor if names is None else Knowing(reactor, names)
        self._names = names

    def __call__(self, account: Account, factory: SessionFactory) -> Deferred[IProtocol]:
        """
        :return: fires once connected, before anything was said; cancel it to give up.
        """
        endpoint = endpoint_of(self._reactor, account.host, account.port, account.timeout)
        if account.tls_mode is TlsMode.IMPLICIT and factory.tls is not None:
            endpoint = wrapClientTLS(factory.tls, endpoint)
        connecting: Deferred[IProtocol] = endpoint.connect(factory)
        return connecting.addErrback(self._explained, account.host)

    def _explained(self, failure: Failure, host: str) -> Any:
        if failure.check(DNSLookupError) and self._names is not None:
            raise Unresolved(self._names.missing(host) or "it has no address") from None
        return failure
