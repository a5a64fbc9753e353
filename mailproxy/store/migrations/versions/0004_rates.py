"""Rate limits come into force: each is a row that counts what was handed over."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_PK = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

_OF_ACCOUNT = {60: "limit_per_minute", 3600: "limit_per_hour", 86_400: "limit_per_day"}
_OF_TENANT = {3600: "hourly", 86_400: "daily"}


def upgrade() -> None:
    rates = op.create_table(
        "rates",
        sa.Column("pk", _PK, autoincrement=False, nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("account_pk", _PK, nullable=False),
        sa.Column("seconds", sa.Integer(), nullable=False),
        sa.Column("most", sa.BigInteger(), nullable=False),
        sa.Column("used", sa.Text(), server_default="[]", nullable=False),
        sa.Column("clear_at", sa.Float()),
        sa.Column("until", sa.Float()),
        sa.PrimaryKeyConstraint("pk"),
    )
    op.create_index("rates_key", "rates", ["tenant_id", "account_pk", "seconds"], unique=True)
    for name, column in (("rates_closed", "until"), ("rates_old", "clear_at")):
        where = sa.text(f"{column} IS NOT NULL")
        op.create_index(name, "rates", [column], sqlite_where=where, postgresql_where=where)
    _declared(rates)


def _declared(rates: sa.Table) -> None:
    """What was declared so far, and had no effect, has one from now on."""
    connection = op.get_bind()
    found: list[tuple[str, int, int, int]] = []
    accounts = "SELECT tenant_id, pk, options FROM accounts WHERE deleted_at IS NULL"
    for tenant_id, pk, options in connection.execute(sa.text(accounts)):
        found += ((tenant_id, pk, *limit) for limit in _limits(options, _OF_ACCOUNT))
    tenants = "SELECT id, rate_limits FROM tenants"
    for tenant_id, limits in connection.execute(sa.text(tenants)):
        found += ((tenant_id, 0, *limit) for limit in _limits(limits, _OF_TENANT))
    if found:
        names = ("pk", "tenant_id", "account_pk", "seconds", "most")
        rows = [dict(zip(names, (n, *row), strict=True)) for n, row in enumerate(found, 1)]
        op.bulk_insert(rates, rows)


def _limits(text: str | None, names: dict[int, str]) -> list[tuple[int, int]]:
    values: dict[str, Any] = json.loads(text or "{}")
    return [(seconds, values[name]) for seconds, name in names.items() if values.get(name)]


def downgrade() -> None:
    op.drop_table("rates")
