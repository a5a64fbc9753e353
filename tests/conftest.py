"""
In which order the whole suite runs, what its collector need not look at, that services are forked,
and where files are: in memory, if there is room and ``TMPDIR`` does not say otherwise.

No test cuts the power of the machine it runs on: those of durability watch which syncs are asked
for, or keep what was not synced away from a disk of their own. Waiting for the real disk at each
commit took longer than most of what is tested with it.
"""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.scenarios import forking

#: Tests that take longer than ten seconds: they begin first, or the last of them would keep one
#: process busy when the others have nothing left.
LONGEST = (
    "tests/scenarios/test_torture.py::TortureTests::test_smoke",
    "tests/scenarios/test_described.py::DescribedTests::test_as_described",
    "tests/scenarios/test_shipped.py::ShippedTests::test_table",
    "tests/scenarios/test_torture.py::NodesTests::test_nodes",
    "tests/scenarios/test_described.py::DescribedTests::test_edges_as_described",
    "tests/scenarios/test_storage_faults.py::DamagedTests::test_a_start_is_refused_in_one_line",
    "tests/scenarios/test_power_loss.py::PowerLossTests::test_what_was_promised_is_there",
    "tests/scenarios/test_lost_replies.py::LostRepliesTests::test_each_policy",
    "tests/test_site.py::SiteTests::test_the_site",
)

#: Where files are kept in memory.
MEMORY = Path("/dev/shm")

#: How the folders there are named, before the id of the process they are of.
PREFIX = "mailproxy-tests-"

#: Bytes that have to be free there; some of what tests leave behind stays until all are done.
ROOM = 8 * 2**30

_RANK = {name: rank for rank, name in enumerate(LONGEST)}


def _room() -> bool:
    try:
        found = os.statvfs(MEMORY)
    except OSError:
        return False
    programs = not found.f_flag & os.ST_NOEXEC
    return programs and found.f_bavail * found.f_frsize >= ROOM


def _tidy() -> None:
    """Remove what runs have left there that were killed."""
    for left in MEMORY.glob(f"{PREFIX}*"):
        pid = left.name.removeprefix(PREFIX).partition("-")[0]
        if pid.isdigit() and not Path("/proc", pid).exists():
            shutil.rmtree(left, ignore_errors=True)


def pytest_configure() -> None:
    """Also for programs that tests start, and for the processes that share the tests."""
    forking.allowed = True
    if "TMPDIR" in os.environ or not _room():
        return
    _tidy()
    folder = tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=MEMORY)
    os.chmod(folder, 0o1777)  # some servers give their rights up
    os.environ["TMPDIR"], tempfile.tempdir = folder, None
    # First said, last done: servers that end with this process have their files until then.
    atexit.register(shutil.rmtree, folder, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put :data:`LONGEST` before all others, whose order stays."""
    items.sort(key=lambda item: _RANK.get(item.nodeid, len(LONGEST)))


def pytest_collection_finish() -> None:
    """What is there once all modules are imported stays for ever."""
    gc.collect()
    gc.freeze()
