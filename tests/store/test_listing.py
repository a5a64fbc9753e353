"""Pages of a listing are bounded in bytes as well."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mailproxy.records import ListQuery, MessageRecord
from mailproxy.store.listing import PAGE_BYTES
from tests.build import account_spec, new_message
from tests.fakes import FakeClock, result
from tests.store.opened import Opened, fresh


class PageBytesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = FakeClock()
        self.opened = Opened(fresh(self), self.clock)
        self.addCleanup(self.opened.close)
        self.store = self.opened.store
        result(self.store.put_account(account_spec(), self.clock.now()))

    def post(self, *sizes: float) -> None:
        """Messages ``0``, ``1``, ..., whose texts are these parts of a page."""
        messages = [
            new_message(id=str(n), priority=n % 2, text="x" * int(size * PAGE_BYTES))
            for n, size in enumerate(sizes)
        ]
        result(self.store.enqueue(messages, self.clock.now(), 5.0))

    def pages(self, limit: int) -> list[list[str]]:
        found: list[list[str]] = []
        page: list[MessageRecord] = []
        while page or not found:
            after = page[-1].cursor if page else None
            page = result(self.store.messages(ListQuery(limit=limit, after=after)))
            found.append([each.id for each in page])
        return found[:-1]

    def test_a_page_ends_by_its_bytes(self) -> None:
        """A page whose messages are large has fewer; the next one goes on where it ended."""
        self.post(0.6, 0.6, 0.6, 0.1, 0.6)
        self.assertEqual([["0", "2"], ["4", "1"], ["3"]], self.pages(10))

    def test_one_message_larger_than_a_page(self) -> None:
        """A message larger than a page is one by itself."""
        self.post(1.5, 0.0, 1.5)
        self.assertEqual([["0"], ["2"], ["1"]], self.pages(10))

    def test_a_page_ends_by_its_number(self) -> None:
        """Small messages fill a page by their number."""
        self.post(*[0.0] * 5)
        self.assertEqual([["0", "2", "4"], ["1", "3"]], self.pages(3))
