"""
The service in a world with names of its own: ``python -m tests.scenarios.named NAMES serve``.

NAMES is JSON: host names, each with its addresses, or with one of the faults that a scenario may
name. Every other name is looked up as ever.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from typing import Any

from mailproxy.__main__ import main

#: Seconds that a name server which says nothing is waited for.
MUTE = 0.5

_ERRORS = {
    "nxdomain": socket.EAI_NONAME,
    "servfail": socket.EAI_FAIL,
    "timeout": socket.EAI_AGAIN,
    "empty": socket.EAI_NODATA,
}


def answer_for(names: dict[str, list[str]]) -> None:
    """Have the system's resolver answer for *names*."""
    ask = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *args: Any, **kwargs: Any) -> list[Any]:
        name = host.decode() if isinstance(host, bytes) else host
        if name not in names:
            return list(ask(host, port, *args, **kwargs))
        if names[name][0] in _ERRORS:
            if names[name][0] == "timeout":
                time.sleep(MUTE)
            raise socket.gaierror(_ERRORS[names[name][0]], "as the scenario has it")
        return [each for address in names[name] for each in ask(address, port, *args, **kwargs)]

    socket.getaddrinfo = getaddrinfo


if __name__ == "__main__":
    answer_for(json.loads(sys.argv[1]))
    sys.argv = ["mailproxy", *sys.argv[2:]]
    main()
