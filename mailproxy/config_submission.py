"""What is said of the SMTP door: where it is, with which certificate, and who needs no login."""

from __future__ import annotations

from pathlib import Path

import attrs

from mailproxy.config_sources import setting
from mailproxy.config_values import File, Networks, Whole, check_endpoint
from mailproxy.doors import described
from mailproxy.submitters import UNIX


@attrs.frozen
class Doors:
    """Endpoint strings, separated by white space; whether each is one, Twisted's parser decides."""

    says: str = "endpoint descriptions, separated by spaces (tcp:, tls:, systemd:, haproxy:)"

    def read(self, text: str, base: Path) -> tuple[str, ...]:
        parts = text.split()
        for part in parts:
            check_endpoint(described(part).endpoint)
        return tuple(parts)


@attrs.frozen
class Peers:
    """Networks; ``unix`` among them stands for local sockets: who may open one may send."""

    says: str = "list of IP addresses and CIDR blocks, and the word unix for local sockets"

    def read(self, text: str, base: Path) -> tuple[str, ...]:
        parts = [part.strip() for part in text.split(",")]
        blocks = [part for part in parts if part != UNIX]
        found = Networks().read(",".join(blocks), base) if blocks else ()
        return (*found, UNIX) if len(blocks) < len(parts) else found


# Without slots: Settings has another base that has them.
@attrs.frozen(kw_only=True, slots=False)
class SubmissionSettings:
    """The part of :class:`mailproxy.config.Settings` that is about mail handed in by SMTP."""

    smtp_listen: tuple[str, ...] = setting(
        "smtp.listen",
        Doors(),
        (),
        "Where programs hand mail in by SMTP; nowhere without it.",
    )
    smtp_tls_cert: Path | None = setting(
        "smtp.tls_cert",
        File(),
        None,
        "Certificate for STARTTLS and tls: doors, in PEM, with its chain; read again when changed.",
    )
    smtp_tls_key: Path | None = setting("smtp.tls_key", File(), None, "Its private key, in PEM.")
    smtp_allow: tuple[str, ...] = setting(
        "smtp.allow",
        Peers(),
        (),
        "Networks that hand mail in without a login, as the tenant default.",
    )
    smtp_plaintext_auth: tuple[str, ...] = setting(
        "smtp.plaintext_auth", Peers(), (), "Networks that may log in without TLS."
    )
    smtp_max_connections: int = setting(
        "smtp.max_connections", Whole(1, 1_000_000), 2000, "Open SMTP connections, in total."
    )
    smtp_max_per_peer: int = setting(
        "smtp.max_per_peer", Whole(1, 1_000_000), 100, "The same from one address."
    )
