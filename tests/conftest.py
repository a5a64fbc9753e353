"""In which order the whole suite runs, and what its collector need not look at."""

from __future__ import annotations

import gc

import pytest

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

_RANK = {name: rank for rank, name in enumerate(LONGEST)}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put :data:`LONGEST` before all others, whose order stays."""
    items.sort(key=lambda item: _RANK.get(item.nodeid, len(LONGEST)))


def pytest_collection_finish() -> None:
    """What is there once all modules are imported stays for ever."""
    gc.collect()
    gc.freeze()
