"""How many files and sockets the process may have open at once."""

from __future__ import annotations

import resource
from contextlib import suppress

#: Descriptors that are left for everything but mail coming in by SMTP: connections to the API
#: (1000 at most), sessions with upstreams, the store, attachments and logs.
RESERVE = 2048


def make_room(connections: int) -> int:
    """
    Raise the process's own limit, within what the system allows, so that *connections* fit beside
    the :data:`RESERVE`.

    :return: how many fit: *connections*, or fewer where the system allows no more.
    """
    wanted = connections + RESERVE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if _holds(soft, wanted):
        return connections
    raised = wanted if _holds(hard, wanted) else hard
    with suppress(ValueError, OSError):  # some systems allow less than they say
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
        soft = raised
    return connections if _holds(soft, wanted) else max(1, soft - min(RESERVE, soft // 2))


def _holds(limit: int, wanted: int) -> bool:
    return limit == resource.RLIM_INFINITY or limit >= wanted
