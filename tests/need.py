"""
What a test needs of the machine.

Where it is missing, the test is skipped on a person's machine, and fails where ``CI`` is set: what
was never tried there would count as proven.
"""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

from twisted.trial.unittest import SkipTest

#: Where distributions keep programs that are not on every user's path.
_ADMIN = "/usr/local/sbin:/usr/sbin:/sbin"


def need_program(name: str) -> str:
    """
    The path of the program *name*.

    :raises SkipTest: it is not installed.
    :raises AssertionError: the same, in CI.
    """
    path = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{_ADMIN}")
    if path is None:
        missing(f"the program {name}")
    return path


def need_root() -> None:
    """:raises SkipTest: this is not root, so that users cannot be changed."""
    if os.geteuid() != 0:
        raise SkipTest("only root can change users")


def missing(what: str) -> NoReturn:
    """Skip the test for want of *what*; in CI, fail it."""
    if os.environ.get("CI", "").lower() in ("", "0", "false"):
        raise SkipTest(f"needs {what}")
    raise AssertionError(f"needs {what}, which CI has to install (.ci/run)")
