"""
What descriptions of endpoints say, without opening any.

``tls:`` in front of the description of an SMTP door means TLS from the first byte (RFC 8314), with
the certificate of the configuration, whatever the endpoint is: ``tls:tcp:465``,
``tls:systemd:domain=INET:index=0``, ``tls:haproxy:tcp:465``. Twisted's own ``tls:DIRECTORY:PORT``
stays what it is. Pure.
"""

from __future__ import annotations

import re

import attrs

#: Kinds of endpoint that ``tls:`` may stand before. A directory of certificates with such a name
#: can be written as ``tls:./tcp:465``.
KINDS = ("tcp", "tcp6", "unix", "systemd", "haproxy")


@attrs.frozen
class DoorDescription:
    """
    :param endpoint: what Twisted's parser takes.
    :param implicit: TLS from the first byte, with the certificate of the configuration.
    :param proxied: a balancer says with its first bytes, in clear, who the peer is.
    """

    endpoint: str
    implicit: bool = False
    proxied: bool = False

    @property
    def encrypted(self) -> bool:
        """Whether TLS is there from the first byte, from whatever certificate."""
        kind = self.endpoint.removeprefix("haproxy:").partition(":")[0]
        return self.implicit or kind in ("ssl", "tls")


def described(text: str) -> DoorDescription:
    """Read one description; whether its endpoint is one is not looked at."""
    first, _, rest = text.partition(":")
    implicit = first == "tls" and rest.partition(":")[0] in KINDS
    endpoint = rest if implicit else text
    return DoorDescription(endpoint, implicit, endpoint.startswith("haproxy:"))


def words(endpoint: str) -> list[str]:
    """The parts of an endpoint description between its colons; ``\\:`` is no such colon."""
    return [re.sub(r"\\(.)", r"\1", part) for part in re.split(r"(?<!\\):", endpoint)]
