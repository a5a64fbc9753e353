"""Limits that were declared before they came into force."""

from __future__ import annotations

import shutil
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mailproxy.store import migrate as migrating
from mailproxy.store.database import connect
from mailproxy.store.migrate import migrate
from tests.store.opened import fresh


class MigratedTests(SynchronousTestCase):
    def test_declared_before(self) -> None:
        """What accounts and tenants had declared is in force from the migration on."""
        folder = fresh(self)
        folder.mkdir()
        before = folder / "migrations"
        shutil.copytree(Path(migrating.__file__).with_name("migrations"), before)
        for later in before.glob("versions/[0-9]*.py"):
            if later.name > "0004":
                later.unlink()
        connection = connect(str(folder / "mail.db"))
        self.addCleanup(connection.close)
        self.assertEqual("0003", migrate(connection, before))
        for pk, options, deleted in (
            (7, '{"limit_per_minute":5,"limit_per_day":100,"limit_behavior":"reject"}', None),
            (8, '{"limit_per_hour":1}', 1.0),
            (9, "{}", None),
        ):
            connection.execute(
                "INSERT INTO accounts (pk, tenant_id, id, host, port, tls_mode, timeout, ttl,"
                " max_sessions, on_uncertain, created_at, updated_at, options, deleted_at)"
                " VALUES (?, 't', ?, 'h', 25, 'plain', 30, 300, 8, 'retry', 0, 0, ?, ?)",
                (pk, f"a{pk}", options, deleted),
            )
        connection.execute(
            "INSERT INTO tenants (id, rate_limits, created_at, updated_at)"
            """ VALUES ('t', '{"hourly":50,"daily":null}', 0, 0)"""
        )

        migrate(connection)

        found = connection.execute(
            "SELECT tenant_id, account_pk, seconds, most, used, until FROM rates"
            " ORDER BY account_pk, seconds"
        ).fetchall()
        self.assertEqual(
            [
                ("t", 0, 3600, 50, "[]", None),
                ("t", 7, 60, 5, "[]", None),
                ("t", 7, 86_400, 100, "[]", None),
            ],
            found,
        )
