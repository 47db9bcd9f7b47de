"""The content of a ledger, to be compared."""

from __future__ import annotations

import sqlite3

OWN = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE '%sqlite%' ORDER BY name"


def dump(connection: sqlite3.Connection) -> dict[str, list[tuple[object, ...]]]:
    """All rows of all tables, but for when migrations were applied."""
    tables = [name for (name,) in connection.execute(OWN)]
    assert "runs" in tables
    return {table: sorted(connection.execute(f"SELECT * FROM {table}"), key=repr) for table in tables}


def schema(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """Every table and index, as they were made."""
    return sorted(connection.execute("SELECT name, coalesce(sql, '') FROM sqlite_schema"))
