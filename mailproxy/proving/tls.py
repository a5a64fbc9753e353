"""The server side of the sink's TLS: with which certificate, in which versions."""

from __future__ import annotations

from typing import Any

from twisted.internet.ssl import (
    AcceptableCiphers,
    CertificateOptions,
    PrivateCertificate,
    TLSVersion,
)

from mailproxy.proving import certificate
from mailproxy.proving.certificate import Identity

_VERSIONS = {
    "1.0": TLSVersion.TLSv1_0,
    "1.1": TLSVersion.TLSv1_1,
    "1.2": TLSVersion.TLSv1_2,
    "1.3": TLSVersion.TLSv1_3,
}

#: Days for which an expired certificate has been one, and for which it was valid.
_EXPIRED, _VALID = 10, 30

_DAY = 86400.0


def identities(good: Identity, now: float) -> dict[str, Identity]:
    """
    The certificates a scenario can choose from, by name.

    ``expired`` and ``wrong-name`` are issued by *good*, so that whoever trusts that finds fault
    with just what is wrong with them; ``stranger`` is its own root.
    """
    past = now - (_EXPIRED + _VALID) * _DAY
    return {
        "good": good,
        "expired": certificate.make(past, days=_VALID, issuer=good),
        "wrong-name": certificate.make(now, ("elsewhere.invalid",), issuer=good),
        "stranger": certificate.make(now),
    }


def context(identity: Identity, version: str = "") -> Any:
    """
    Makes TLS connections with *identity*.

    :param version: the only one, such as ``1.2``, however old; empty: any that is safe.
    """
    loaded = PrivateCertificate.loadPEM((identity.certificate + identity.key).encode())
    if not version:
        return loaded.options()
    only = _VERSIONS[version]
    return CertificateOptions(
        privateKey=loaded.privateKey.original,
        certificate=loaded.original,
        insecurelyLowerMinimumTo=only,
        lowerMaximumSecurityTo=only,
        acceptableCiphers=AcceptableCiphers.fromOpenSSLCipherString("ALL:@SECLEVEL=0"),
    )
