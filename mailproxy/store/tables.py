"""What all tables are made with."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Column, Integer, MetaData, text

metadata = MetaData()

#: 64 bits on both; SQLite wants the word INTEGER to make it the row's own number.
Pk = BigInteger().with_variant(Integer, "sqlite")


def key(name: str = "pk") -> Column[int]:
    return Column(name, Pk, primary_key=True, autoincrement=False)


def partial(condition: str) -> dict[str, Any]:
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}
