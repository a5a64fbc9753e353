"""
Dying on purpose, for proofs: at a named crash point, and only where the environment asks for it.

``MAILPROXY_CRASHPOINT=intent:3`` makes the process send itself SIGKILL at its third passing of the
crash point ``intent``: nothing is flushed, closed or told. Without the variable nobody watches the
crash points. It is no setting: no file and no option has it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping

from twisted.logger import Logger

from mailproxy.errors import ConfigurationError
from mailproxy.interfaces import CRASHPOINTS, observe_crashpoints

#: Names the crash point, and after a colon the passing at which to die (without it: the first).
VARIABLE = "MAILPROXY_CRASHPOINT"

_log = Logger()


def die() -> None:
    """End this process at once, as a lost power supply of it alone would."""
    os.kill(os.getpid(), signal.SIGKILL)


def wanted(environ: Mapping[str, str]) -> tuple[str, int] | None:
    """
    Where the environment asks this process to die: the crash point, and at which passing.

    :raises ConfigurationError: the variable names no crash point, or no whole number from 1.
    """
    text = environ.get(VARIABLE, "").strip()
    if not text:
        return None
    name, colon, count = text.partition(":")
    if name not in CRASHPOINTS:
        raise ConfigurationError(VARIABLE, f"{name!r} is none of {', '.join(CRASHPOINTS)}")
    if not colon:
        return name, 1
    if not (count.isascii() and count.isdigit() and int(count)):
        raise ConfigurationError(VARIABLE, f"{count!r} is not a whole number from 1")
    return name, int(count)


def arm(environ: Mapping[str, str], act: Callable[[], None] = die) -> Callable[[], None]:
    """
    Watch the crash points, if the environment asks for it.

    :param act: what happens at the passing that was asked for.
    :return: what ends the watching.
    :raises ConfigurationError: as :func:`wanted`.
    """
    asked = wanted(environ)
    if asked is None:
        return lambda: None
    point, left = asked
    _log.warn("{variable} is set: dying at {point}", variable=VARIABLE, point=point)

    def passed(name: str) -> None:
        # A crash point is passed in one thread only: nobody else counts.
        nonlocal left
        if name == point:
            left -= 1
            if left == 0:
                act()

    return observe_crashpoints(passed)
