"""
Sending at once what the kernel takes, instead of when the reactor next looks at its sockets.

A transport of Twisted's keeps what is written, asks to be told that the socket is writable, and
sends when it is: two system calls and a turn of the reactor for each reply, though the socket
nearly always has room. Whoever waits for that reply waits for them, too.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.tcp import Connection


def send(transport: Any, data: bytes) -> None:
    """
    Write *data* to *transport*, behind what was written before.

    Only on plain TCP it is sent at once; a failure is the transport's to find and tell, as usual.
    """
    if not (isinstance(transport, Connection) and data and _empty(transport)):
        transport.write(data)
        return
    sent = transport.writeSomeData(data)
    if not isinstance(sent, int):  # it is gone: the transport notices when it tries for itself
        transport.write(data)
    elif sent < len(data):
        transport.write(data[sent:])


def _empty(transport: Any) -> bool:
    """Whether nothing waits to be sent, and nothing stands between it and the socket."""
    usable = transport.connected and not (transport.disconnecting or transport.disconnected)
    return bool(
        usable
        and not transport.TLS
        and not transport._tempDataBuffer
        and transport.offset == len(transport.dataBuffer)
        and not transport.producerPaused
    )
