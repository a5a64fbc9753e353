"""What went wrong with a connection, in one line an operator can act upon."""

from __future__ import annotations

from OpenSSL import SSL
from twisted.internet.error import (
    ConnectError,
    ConnectionAborted,
    ConnectionDone,
    ConnectionRefusedError,
    DNSLookupError,
    TimeoutError,
    UserError,
)
from twisted.python.failure import Failure

from mailproxy.delivery.names import Unresolved
from mailproxy.delivery.replies import readable

_WORDS: tuple[tuple[type[BaseException], str], ...] = (
    (ConnectionDone, "the server closed the connection"),
    (ConnectionAborted, "the connection was cut"),
    (ConnectionRefusedError, "the server refuses connections on this port"),
    (TimeoutError, "no connection in time"),
    (UserError, "the attempt was given up"),
    (DNSLookupError, "the host name cannot be resolved"),
)


def reason(failure: Failure) -> str:
    """Why the connection of *failure* is gone or never was."""
    error = failure.value
    if isinstance(error, Unresolved):
        return f"the host name cannot be resolved: {error.args[0]}"
    for kind, words in _WORDS:
        if isinstance(error, kind):
            return words
    if isinstance(error, SSL.Error):
        return f"TLS failed: {_tls_words(error)}"
    if isinstance(error, ConnectError) and getattr(error, "osError", None):
        return f"no connection: {_line(str(error.osError))}"
    return _line(str(error)) or type(error).__name__


def _tls_words(error: SSL.Error) -> str:
    """OpenSSL reports a list of (library, function, reason)."""
    queue = error.args[0] if error.args else ()
    if isinstance(queue, list | tuple) and queue and all(isinstance(e, tuple) for e in queue):
        return _line("; ".join(dict.fromkeys(str(entry[-1]) for entry in queue)))
    return _line(str(error)) or "the server broke the handshake off"


def _line(text: str) -> str:
    return readable(text.encode("utf-8", "backslashreplace"))[:300]
