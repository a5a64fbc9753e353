"""
Tells the service manager how far the service is, as sd_notify(3) describes.

A manager that wants to know names a socket in ``NOTIFY_SOCKET``; without it nothing happens.
"""

from __future__ import annotations

import os
import socket

from twisted.logger import Logger

_log = Logger()

#: What is said: mail is taken; no more mail is taken.
READY, STOPPING = "READY=1", "STOPPING=1"


def tell(state: str) -> None:
    """
    Say *state* to the manager that started this process, if it wants to know.

    That it could not be said is logged: the manager will do what it does without.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    # A name that begins with @ is in the abstract namespace (unix(7)).
    where = f"\0{address[1:]}" if address.startswith("@") else address
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.setblocking(False)
            sender.sendto(state.encode("ascii"), where)
    except OSError as error:
        _log.warn("cannot tell the service manager: {error}", error=error)
