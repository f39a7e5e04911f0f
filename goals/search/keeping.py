"""The triggers that keep the index, and the slices in which it takes in what was there before.

They are no part of a migration: SQLite loses a table's triggers whenever a migration rebuilds
the table, and refuses to rename one that a trigger names. So ``migrate`` drops them all before
and makes them afresh after, from what is registered then.
"""

from __future__ import annotations

import time
from typing import Any

from django.db import connection, transaction

from goals.search.models import Filled, Pending
from goals.search.sources import SOURCES, Source
from kernel.digests import sha256

TABLE, INDEX, PENDING = "goals_entry", "goals_search", "goals_pending"
#: Rows taken in by one transaction: a worker that waits for it waits for no longer than a blink.
SLICE = 200
#: What PostgreSQL's parser would take for a file, a host or a sign; FTS5 parts words there too.
_PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
_UPDATED = ("title", "body", "tags", "actor", "at", "goal_id", "card_id", "number")


def create_index() -> list[str]:
    """Return the statements that make the index beside the table of entries."""
    if connection.vendor == "postgresql":
        return [
            f"ALTER TABLE {TABLE} ADD COLUMN words tsvector",
            f"CREATE INDEX {INDEX} ON {TABLE} USING gin (words)",
        ]
    return [
        f"CREATE VIRTUAL TABLE {INDEX} USING fts5(title, body, tags, content='{TABLE}',"
        " content_rowid='id', tokenize='unicode61 remove_diacritics 2')",
        f"CREATE TRIGGER {INDEX}_added AFTER INSERT ON {TABLE} BEGIN {_into('NEW')} END",
        f"CREATE TRIGGER {INDEX}_gone AFTER DELETE ON {TABLE} BEGIN {_out_of('OLD')} END",
        f"CREATE TRIGGER {INDEX}_changed AFTER UPDATE ON {TABLE}"
        f" BEGIN {_out_of('OLD')} {_into('NEW')} END",
    ]


def drop_index() -> list[str]:
    """Return the statements that undo ``create_index``."""
    if connection.vendor == "postgresql":
        return [f"ALTER TABLE {TABLE} DROP COLUMN words"]
    triggers = [f"DROP TRIGGER {INDEX}_{name}" for name in ("added", "gone", "changed")]
    return [*triggers, f"DROP TABLE {INDEX}"]


def _into(r: str) -> str:
    return (
        f"INSERT INTO {INDEX}(rowid, title, body, tags)"  # noqa: S608 — names of our own
        f" VALUES ({r}.id, {r}.title, {r}.body, {r}.tags);"
    )


def _out_of(r: str) -> str:
    return (
        f"INSERT INTO {INDEX}({INDEX}, rowid, title, body, tags)"  # noqa: S608 — names of our own
        f" VALUES ('delete', {r}.id, {r}.title, {r}.body, {r}.tags);"
    )


# ── triggers ─────────────────────────────────────────────────────────────────────────────


def drop_triggers(**_: Any) -> None:
    """Take away every trigger of a source, known now or registered before."""
    _execute(*_standing())


def make_triggers(**_: Any) -> None:
    """Have every registered table keep its entries, and fill in anew what is indexed otherwise
    than before."""
    tables = set(connection.introspection.table_names())
    if TABLE not in tables:
        return
    sources = [s for s in SOURCES.values() if s.table in tables and s.texts_exist()]
    known = dict(Filled.objects.values_list("kind", "definition"))
    wanted = {source.kind: _definition(source) for source in sources}
    standing = _standing()
    with transaction.atomic():
        # A flush empties tables and leaves their triggers.
        if len(standing) != 3 * len(sources) or any(
            known.get(kind, digest) != digest for kind, digest in wanted.items()
        ):
            _execute(*standing, *(sql for source in sources for sql in _triggers(source)))
        for source in sources:
            digest = wanted[source.kind]
            if known.get(source.kind) != digest:
                done = not _any_row(source)
                new = {"definition": digest, "upto": "", "done": done}
                Filled.objects.update_or_create(kind=source.kind, defaults=new)


def _any_row(source: Source) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT 1 FROM {source.table} LIMIT 1")  # noqa: S608 — our own names
        return cursor.fetchone() is not None


def _definition(source: Source) -> str:
    return sha256("\n".join([*_triggers(source), _upsert(source, "r", "")]).encode())


def _standing() -> list[str]:
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                "SELECT tgname, tgrelid::regclass::text FROM pg_trigger WHERE NOT tgisinternal"
                " AND tgname LIKE 'keep_%%_found%%'"
                " AND tgrelid IN (SELECT oid FROM pg_class WHERE pg_table_is_visible(oid))"
            )
            return [f"DROP TRIGGER {name} ON {table}" for name, table in cursor.fetchall()]
        cursor.execute(
            "SELECT name FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'keep_%_found%'"
        )
        return [f"DROP TRIGGER {name}" for (name,) in cursor.fetchall()]


def _execute(*statements: str) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def _triggers(source: Source) -> list[str]:
    name, table = f"keep_{source.kind}_found", source.table
    wanted, changed = source.wanted.format(r="NEW"), ", ".join(source.texts)
    later = "INSERT INTO {pending} (kind, key) VALUES ('{kind}', {r}.id)"
    later = later.replace("{pending}", PENDING).replace("{kind}", source.kind)
    gone = f"DELETE FROM {TABLE} WHERE ref = {source.ref('OLD')}"  # noqa: S608 — our own names
    gone = later.format(r="OLD") if source.later else gone
    if connection.vendor == "postgresql":
        write = later.format(r="NEW") if source.later else _upsert(source, "NEW", "")
        differ = ", ".join(f"{{r}}.{column}" for column in source.texts)
        differs = f"({differ.format(r='NEW')}) IS DISTINCT FROM ({differ.format(r='OLD')})"
        return [
            f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$"
            f" BEGIN IF TG_OP = 'DELETE' THEN {gone}; ELSE {write}; END IF; RETURN NULL; END $$",
            f"CREATE TRIGGER {name}_added AFTER INSERT ON {table} FOR EACH ROW"
            f" WHEN ({wanted}) EXECUTE FUNCTION {name}()",
            f"CREATE TRIGGER {name}_changed AFTER UPDATE OF {changed} ON {table} FOR EACH ROW"
            f" WHEN ({wanted} AND {differs}) EXECUTE FUNCTION {name}()",
            f"CREATE TRIGGER {name}_gone AFTER DELETE ON {table} FOR EACH ROW"
            f" EXECUTE FUNCTION {name}()",
        ]
    differs = " OR ".join(f"NEW.{column} IS NOT OLD.{column}" for column in source.texts)
    write = later.format(r="NEW") if source.later else _upsert(source, "NEW", " WHERE 1")
    return [
        f"CREATE TRIGGER {name}_added AFTER INSERT ON {table} WHEN {wanted} BEGIN {write}; END",
        f"CREATE TRIGGER {name}_changed AFTER UPDATE OF {changed} ON {table}"
        f" WHEN {wanted} AND ({differs}) BEGIN {write}; END",
        f"CREATE TRIGGER {name}_gone AFTER DELETE ON {table} BEGIN {gone}; END",
    ]


def _upsert(source: Source, r: str, rest: str) -> str:
    """Return the statement that writes the entries of rows named ``r``."""
    values = {**source.columns(r), "tags": source.tagged(r)}
    updated = list(_UPDATED)
    if connection.vendor == "postgresql":
        # Computed from the values once, in a row of their own.
        inner = ", ".join(f"{sql} AS {name}" for name, sql in values.items())
        outer = ", ".join(f"e.{name}" for name in values)
        blanks = " " * len(_PUNCTUATION)
        punctuation = _PUNCTUATION.replace("'", "''")
        words = " || ".join(
            [
                f"setweight(to_tsvector('simple', translate(e.title, '{punctuation}', '{blanks}')),"
                " 'A')",
                f"to_tsvector('simple', translate(e.body, '{punctuation}', '{blanks}'))",
                "array_to_tsvector(ARRAY(SELECT '=' || tag FROM"
                " unnest(string_to_array(e.tags, ' ')) AS tag WHERE tag <> ''))",
            ]
        )
        columns = ", ".join([*values, "words"])
        select = f"SELECT {outer}, {words} FROM (SELECT {inner}{rest}) AS e"  # noqa: S608
        updated.append("words")
    else:
        columns = ", ".join(values)
        select = f"SELECT {', '.join(values.values())}{rest}"
    sets = ", ".join(f"{name} = excluded.{name}" for name in updated)
    return f"INSERT INTO {TABLE} ({columns}) {select} ON CONFLICT (ref) DO UPDATE SET {sets}"


# ── what is not found yet ────────────────────────────────────────────────────────────────


def tick(seconds: float = 0.25) -> int:
    """Take in what was written of late, then what was there before the triggers, for at most
    about so long; return how many rows that was."""
    ends = time.monotonic() + seconds
    taken = 0
    while time.monotonic() < ends:
        more = catch_up() or fill()
        if not more:
            break
        taken += more
    return taken


def catch_up() -> int:
    """Take in a slice of what was written of late; return how many rows of it there were.

    Safe to run anywhere, twice, and to be killed.
    """
    with transaction.atomic():
        oldest = Pending.objects.order_by("pk")
        if connection.features.has_select_for_update_skip_locked:
            oldest = oldest.select_for_update(skip_locked=True)
        rows = list(oldest[:SLICE])
        by_kind: dict[str, set[str]] = {}
        for row in rows:
            by_kind.setdefault(row.kind, set()).add(row.key)
        for kind, keys in by_kind.items():
            if source := SOURCES.get(kind):
                _read_again(source, sorted(keys))
        Pending.objects.filter(pk__in=[row.pk for row in rows]).delete()
    return len(rows)


def _read_again(source: Source, keys: list[str]) -> None:
    """Write the entries of these rows as the rows are now; none for those that are gone."""
    letter = source.letter
    refs = [f"{letter}{key.replace('-', '') if source.key_is_uuid else key}" for key in keys]
    slots = ", ".join(["%s"] * len(keys))
    _write(source, f"r.id IN ({slots})", [_as_key(source, key) for key in keys])
    still = f"SELECT {source.ref('r')} FROM {source.table} AS r WHERE r.id IN ({slots})"  # noqa: S608
    sql = f"DELETE FROM {TABLE} WHERE ref IN ({slots}) AND ref NOT IN ({still})"  # noqa: S608
    with connection.cursor() as cursor:
        cursor.execute(sql, [*refs, *(_as_key(source, key) for key in keys)])


def _write(source: Source, condition: str, params: list[Any]) -> int:
    """Write the entries of the rows ``r`` under the condition; return how many."""
    rows = f" FROM {source.table} AS r WHERE {condition} AND {source.wanted.format(r='r')}"
    if connection.vendor == "postgresql":
        # Whoever changes or deletes one of these meanwhile comes before us, or after.
        rows += " FOR SHARE OF r"
    sql = _upsert(source, "r", "{rows}").replace("%", "%%").replace("{rows}", rows)
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return int(cursor.rowcount)


# ── what was there before ────────────────────────────────────────────────────────────────


def begin_anew() -> None:
    """Have everything taken in again, by ``fill`` or the sweep; what is found meanwhile stays."""
    Filled.objects.update(upto="", done=False)


def fill() -> int:
    """Take in a slice of what no trigger has seen; return how many rows were looked at.

    Safe to run anywhere, twice, and to be killed: a slice is one transaction.
    """
    for unfinished in Filled.objects.filter(done=False, kind__in=list(SOURCES)).order_by("kind"):
        if looked := _take(SOURCES[unfinished.kind], unfinished.upto):
            return looked
    return 0


def _take(source: Source, upto: str) -> int:
    after = "id > %s" if upto else "1 = 1"
    params = [_as_key(source, upto)] if upto else []
    sql = f"SELECT id FROM {source.table} WHERE {after} ORDER BY id LIMIT {SLICE}"  # noqa: S608
    with transaction.atomic():
        mine = Filled.objects.filter(kind=source.kind, upto=upto, done=False)
        with connection.cursor() as cursor:
            cursor.execute(sql, params)
            keys = [str(key) for (key,) in cursor.fetchall()]
        # Somebody else takes it where nothing is changed.
        if mine.update(upto=keys[-1] if keys else upto, done=not keys) and keys:
            _read_again(source, keys)
    return len(keys)


def _as_key(source: Source, text: str) -> Any:
    return text if source.key_is_uuid else int(text)
