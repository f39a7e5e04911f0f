"""Emptying the test store after a test that commits, in milliseconds on PostgreSQL too."""

from __future__ import annotations

from typing import Any

from django.db import connection

#: What follows from the code alone: Django would make it anew after every test.
_STAYS = {"django_content_type", "auth_permission"}


def quickly() -> None:
    """From here on a flush deletes the rows there are.

    Django's TRUNCATE on PostgreSQL makes new files for all tables and indexes and has each of them
    reach the disk, some hundred in all. Triggers rest meanwhile, as they do for TRUNCATE; only a
    superuser may have that, so for others nothing changes.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('is_superuser')")
            if cursor.fetchone() != ("on",):
                return
    usual = connection.ops.sql_flush

    def sql_flush(style: Any, tables: list[str], **options: Any) -> list[str]:
        names = {table: connection.ops.quote_name(table) for table in set(tables) - _STAYS}
        looks = (
            f"SELECT '{table}' WHERE EXISTS (SELECT 1 FROM {name})" for table, name in names.items()
        )
        with connection.cursor() as cursor:
            cursor.execute(" UNION ALL ".join(looks))
            filled = [table for (table,) in cursor.fetchall()]
        if connection.vendor != "postgresql":
            return list(usual(style, filled, **options)) if filled else []
        deletes = [f"DELETE FROM {names[table]}" for table in filled]
        return ["SET LOCAL session_replication_role = replica", *deletes] if filled else []

    connection.ops.sql_flush = sql_flush
