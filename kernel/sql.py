"""The statements that the ORM has no word for."""

from __future__ import annotations

from typing import Any

from django.db import connection, models


def locks_rows() -> bool:
    """True on PostgreSQL; where it is False, whoever is in a transaction writes alone."""
    return connection.features.has_select_for_update


def lock(rows: models.QuerySet[Any]) -> None:
    """Lock the rows until commit, one after the other as they come.

    ``no_key``: a plain FOR UPDATE waits for whoever inserts a row that refers to one of them.
    Costs no statement where one writes at a time.
    """
    if locks_rows():
        list(rows.select_for_update(no_key=True).values_list("pk", flat=True))


def insert_or_skip(row: models.Model) -> bool:
    """Insert ``row``, its primary key then set; False if a unique constraint stands against it.

    One statement, ``INSERT … ON CONFLICT DO NOTHING RETURNING``, which leaves the transaction
    usable where an IntegrityError would need a savepoint around it.
    """
    quote = connection.ops.quote_name
    meta = row._meta
    assert meta.pk is not None
    # A key that the database gives out comes back; one with a default is sent like the rest.
    fields = [f for f in meta.concrete_fields if not (f.primary_key and row.pk is None)]
    values: list[Any] = [f.get_db_prep_save(f.pre_save(row, True), connection) for f in fields]
    columns = ", ".join(quote(f.attname if f.column is None else f.column) for f in fields)
    sql = (
        f"INSERT INTO {quote(meta.db_table)} ({columns})"  # noqa: S608 — names from the model
        f" VALUES ({', '.join(['%s'] * len(fields))})"
        f" ON CONFLICT DO NOTHING RETURNING {quote(meta.pk.column or meta.pk.attname)}"
    )
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        rows = cursor.fetchall()
    if not rows:
        return False
    if row.pk is None:
        row.pk = rows[0][0]
    row._state.adding = False
    return True
