"""The service with its SMTP doors open, before the sink: what programs are tried against."""

from __future__ import annotations

import hashlib
import re
import shutil
import smtplib
import socket
import ssl
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.delivery.certificates import Authority
from tests.scenarios.processes import Service, SinkProcess, account, free_port, http, wait_until

USER, PASSWORD = "erp", "correct horse"

#: An address that needs no login, and one that does.
TRUSTED, STRANGER = "127.0.0.1", "127.0.0.9"

_QUEUED = re.compile(r"queued as ([!-~]+?)(?=[\s\"'\\),;]|$)")


class OpenDoor:
    """
    A service with one door in clear and one in TLS, a certificate, a credential, and its sink.

    :param opened: sockets that are passed on to the service.
    :param settings: of the service; they win over those here.
    :ivar port: of the door with STARTTLS; *tls_port*: of the one with TLS from the first byte.
    :ivar ca: a file with the root that clients trust.
    """

    def __init__(self, opened: Sequence[socket.socket] = (), **settings: str) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="mailproxy-door-"))
        self.directory.chmod(0o755)
        self.authority = Authority()
        self.ca = self.directory / "ca.pem"
        self.ca.write_text(self.authority.pem)
        self.certificate = self.directory / "door.pem"
        self.certificate.write_bytes(self.authority.issue("localhost", "127.0.0.1"))
        self.port, self.tls_port = free_port(), free_port()
        self.sink = SinkProcess(self.directory).start()
        self.service = Service(
            self.directory,
            **{
                "GMP_CLIENT_SYNC_URL": self.sink.sync_url,
                "GMP_SMTP_LISTEN": f"tcp:{self.port}:interface=127.0.0.1 "
                f"tls:tcp:{self.tls_port}:interface=127.0.0.1",
                "GMP_SMTP_TLS_CERT": str(self.certificate),
                "GMP_SMTP_TLS_KEY": str(self.certificate),
                "GMP_SMTP_ALLOW": TRUSTED,
                "GMP_RETRY_DELAYS": "0.3",
                "GMP_LOG_LEVEL": "DEBUG",
                **settings,
            },
        )
        if opened:
            self.service.inherit(opened)
        try:
            self.service.start()
            self.service.call("POST", "/account", account(self.sink.smtp_port))
            self.credential(USER, senders=["@example.test"])
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self.service.end()
        self.sink.end()
        shutil.rmtree(self.directory, ignore_errors=True)

    def credential(self, user: str, **fields: Any) -> None:
        """Make a credential with :data:`PASSWORD`."""
        fields = {"user": user, "password": PASSWORD, **fields}
        made = self.service.call("POST", "/v1/credentials", fields)
        if made.status != 200:
            raise AssertionError(f"no credential: {made.raw!r}")

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.ca))

    def client(self, source: str = STRANGER, *, tls: bool = False) -> smtplib.SMTP:
        """A client from the address *source*; *tls*: with TLS from the first byte."""
        if tls:
            return smtplib.SMTP_SSL(
                *("127.0.0.1", self.tls_port),
                timeout=20,
                source_address=(source, 0),
                context=self.context(),
            )
        return smtplib.SMTP("127.0.0.1", self.port, timeout=20, source_address=(source, 0))

    # -- what came of it -------------------------------------------------------------------

    def copies(self, recipient: str = "") -> list[dict[str, Any]]:
        """The copies at the sink, or those for *recipient*."""
        query = f"?recipient={quote(recipient)}" if recipient else ""
        return list(self.sink.get(f"/messages{query}")["messages"])

    def reports(self) -> list[dict[str, Any]]:
        return [item for report in self.sink.get("/reports")["reports"] for item in report["items"]]

    def pending(self) -> int:
        """Messages that are not final."""
        return int(self.service.call("GET", "/status").body["pending_messages"])

    def arrived(self, recipient: str) -> tuple[dict[str, Any], bytes]:
        """Wait for the one copy for *recipient*: what is known of it, and its bytes."""
        wait_until(lambda: bool(self.copies(recipient)), what=f"the copy for {recipient}")
        (copy,) = self.copies(recipient)
        return copy, http("GET", f"{self.sink.url}/messages/{copy['n']}").raw

    def reported(self, id: str) -> dict[str, Any]:
        """Wait for the report on the message *id*."""
        found: list[dict[str, Any]] = []

        def told() -> bool:
            found[:] = [item for item in self.reports() if item["id"] == id]
            return bool(found)

        wait_until(told, what=f"the report on {id}")
        return found[-1]


def queue_id(said: str) -> str:
    """The id that the answer to a message names, in whatever a program prints of it."""
    found = _QUEUED.findall(said)
    if len(found) != 1:
        raise AssertionError(f"{len(found)} messages were queued: {said[-3000:]}")
    return str(found[0])


def parted(raw: bytes) -> tuple[list[str], bytes]:
    """The names of the fields that were put in front of a message, and the rest of it."""
    names: list[str] = []
    at = 0
    while not names or names[-1] != "Received":
        names.append(raw[at:].partition(b":")[0].decode("ascii"))
        end = re.compile(rb"\r\n(?![ \t])").search(raw, at)
        if end is None:
            raise AssertionError(f"there is no Received in {raw[:500]!r}")
        at = end.end()
    return names, raw[at:]


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
