"""Statements for many rows do what the same statement does row by row."""

from __future__ import annotations

import random
import sqlite3

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, Float, Integer, MetaData, Table, Text, select, update
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.clock import Names
from mailproxy.store.compiling import bulk, compiled, inserting, p
from mailproxy.store.options import StoreOptions
from mailproxy.store.transaction import Transaction

_KEPT = Table(
    "kept",
    MetaData(),
    Column("pk", Integer, primary_key=True),
    Column("n", Integer, primary_key=True),
    Column("at", Float),
    Column("said", Text),
)
_ADD = inserting(_KEPT)
_SET = bulk(
    compiled(
        update(_KEPT)
        .values(at=_KEPT.c.at + p("more"), said=p("said"))
        .where(_KEPT.c.pk == p("key"), _KEPT.c.n == p("number")),
        "more",
        "said",
        "key",
        "number",
    )
)
_VALUES = st.tuples(st.floats(0, 2e9), st.none() | st.text(max_size=5))


class BulkTests(SynchronousTestCase):
    @settings(deadline=None, max_examples=60)
    @given(st.lists(st.tuples(_VALUES, _VALUES), max_size=200))
    def test_as_row_by_row(self, pairs: list[tuple[tuple[float, str | None], ...]]) -> None:
        """Any number of rows is written as if each had a statement of its own, bit for bit."""
        added = [(n, -n, *first) for n, (first, _) in enumerate(pairs)]
        changed = [(*second, n, -n) for n, (_, second) in enumerate(pairs)]
        stored = []
        for together in (True, False):
            connection = sqlite3.connect(":memory:", isolation_level=None)
            connection.execute(
                "CREATE TABLE kept (pk INTEGER, n INTEGER, at FLOAT, said TEXT, PRIMARY KEY(pk,n))"
            )
            tx = Transaction(connection.cursor(), Names(random.Random(1)), "node", StoreOptions())
            write = tx.add if together else tx.many
            write(_ADD, added)
            write(_SET, changed)
            stored.append(tx.all(compiled(select(_KEPT).order_by(_KEPT.c.pk))))
            connection.close()

        self.assertEqual(stored[1], stored[0])
        self.assertEqual(len(pairs), len(stored[0]))

    def test_what_it_is_not_for(self) -> None:
        """A statement that is neither an INSERT of a row nor an UPDATE by a key is refused."""
        self.assertRaises(AssertionError, bulk, compiled(update(_KEPT).values(at=p("at")), "at"))
        self.assertRaises(AssertionError, bulk, compiled(select(_KEPT)))
