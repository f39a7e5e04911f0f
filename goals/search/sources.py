"""Which tables are looked through. Each app registers its own: an index at the bottom knows
none of the apps above it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from django.db import connection

from goals.search.models import Entry

#: So much of a text is found: its beginning and its end, where the last line of an error is.
HEAD, TAIL = 3_000, 1_000
#: JSON longer than this is read as it is written, not value by value.
MAX_JSON = 50_000
TITLE = 200
_VALUES_POSTGRESQL = (
    "(SELECT CASE WHEN pg_column_size({column}) > {most} THEN {column}::text"
    " ELSE (SELECT string_agg(one #>> '{}', ' ') FROM jsonb_path_query({column},"
    " 'strict $.**') AS one WHERE jsonb_typeof(one) IN ('string', 'number')) END)"
).replace("{most}", str(MAX_JSON))
_VALUES_SQLITE = (
    "(SELECT CASE WHEN length({column}) > {most} THEN {column}"
    " ELSE (SELECT group_concat(atom, ' ') FROM json_tree({column})"
    " WHERE type IN ('text', 'integer', 'real')) END)"
).replace("{most}", str(MAX_JSON))


@dataclass(frozen=True, slots=True)
class Source:
    """A table and how each of its rows is found.

    Everything but ``table``, ``key`` and ``texts`` is SQL over a row named ``{r}``. ``texts``
    are the columns whose change makes the entry be written again; ``json`` names those that hold
    JSON, of which the values are found. ``letter`` makes the references unique.
    """

    kind: Entry.Kind
    letter: str
    table: str
    texts: tuple[str, ...]
    title: str
    body: tuple[str, ...]
    board: str
    actor: str
    at: str
    json: tuple[str, ...] = ()
    card: str = "NULL"
    goal: str = "NULL"
    number: str = "NULL"
    #: More to narrow a search by: the tag's letter and the SQL of a word.
    tags: tuple[tuple[str, str], ...] = ()
    #: Which rows are found at all.
    wanted: str = "1 = 1"
    key_is_uuid: bool = True
    #: Written so often that it is found a moment later, see ``Pending``.
    later: bool = False

    @property
    def on_postgresql(self) -> bool:
        return connection.vendor == "postgresql"

    def texts_exist(self) -> bool:
        """Return whether the table has the columns: migrations may be half-way, or undone."""
        with connection.cursor() as cursor:
            # Django's introspection parses the table's whole definition on SQLite.
            cursor.execute(f"SELECT * FROM {self.table} LIMIT 0")  # noqa: S608 — our own names
            there = {name for name, *_ in cursor.description}
        return {*self.texts, *self.body} <= there

    def ref(self, r: str) -> str:
        """Return the SQL of the row's reference."""
        key = f"{r}.id"
        if not self.on_postgresql:
            return f"'{self.letter}' || {key}"
        return f"'{self.letter}' || {_bare(key) if self.key_is_uuid else key}"

    def columns(self, r: str) -> dict[str, str]:
        """Return the SQL of every column of the entry."""

        def sql(expression: str) -> str:
            return expression.format(r=r)

        pieces = [self._text(r, name) for name in self.body]
        actor = sql(self.actor)
        values = {
            "ref": self.ref(r),
            "kind": f"'{self.kind}'",
            "board_id": sql(self.board),
            "goal_id": sql(self.goal),
            "card_id": sql(self.card),
            "number": sql(self.number),
            "actor": actor,
            "title": sql(self.title),
            "body": " || ' ' || ".join(pieces),
            "at": sql(self.at),
        }
        if self.on_postgresql:
            for name in ("goal_id", "card_id"):
                values[name] = f"({values[name]})::uuid"
            values["number"] = f"({values['number']})::bigint"
        return values

    def tagged(self, r: str, columns: Iterable[str] = ("board_id", "card_id", "goal_id")) -> str:
        """Return the SQL of the words that narrow a search, one blank between them."""
        values = self.columns(r)
        found = [f"'k{self.kind}'"]
        for name in columns:
            if values[name] not in ("NULL", "(NULL)::uuid"):
                word = _bare(values[name]) if self.on_postgresql else values[name]
                found.append(f"COALESCE('{name[0]}' || {word}, '')")
        name = values["actor"]
        if self.on_postgresql:
            who = f"regexp_replace({name}, '^[a-z]+:', '')"
            found.append(f"'a' || encode(convert_to({who}, 'UTF8'), 'hex')")
        else:
            found.append(f"'a' || lower(hex(substr({name}, instr({name}, ':') + 1)))")
        found += [f"'{letter}' || {sql.format(r=r)}" for letter, sql in self.tags]
        return " || ' ' || ".join(found)

    def _text(self, r: str, name: str) -> str:
        """Return the SQL of a column as text, bounded."""
        text = f"{r}.{name}"
        if name in self.json:
            text = self._values(text)
        cut = f"substr({text}, 1, {HEAD}) || ' … ' || " + (
            f"right({text}, {TAIL})" if self.on_postgresql else f"substr({text}, -{TAIL})"
        )
        return f"CASE WHEN length({text}) > {HEAD + TAIL} THEN {cut} ELSE COALESCE({text}, '') END"

    def _values(self, column: str) -> str:
        """Return the SQL of all values in the column's JSON, a blank between them."""
        sql = _VALUES_POSTGRESQL if self.on_postgresql else _VALUES_SQLITE
        return sql.replace("{column}", column)


def _bare(uuid: str) -> str:
    return f"replace(({uuid})::text, '-', '')"


SOURCES: dict[str, Source] = {}


def register(*sources: Source) -> None:
    """Have the tables looked through, from the next ``migrate`` on."""
    SOURCES.update({source.kind: source for source in sources})


register(
    Source(
        Entry.Kind.DECISION,
        "d",
        "goals_decision",
        texts=("title", "rationale", "alternatives", "files", "superseded_by_id"),
        title="{r}.title",
        body=("context", "rationale", "consequences", "alternatives", "files"),
        json=("alternatives", "files"),
        board="{r}.board_id",
        goal="{r}.goal_id",
        card="{r}.card_id",
        actor="{r}.actor",
        at="{r}.at",
        tags=(
            (
                "s",
                "CASE WHEN {r}.superseded_by_id IS NULL THEN 'inforce' ELSE 'superseded' END",
            ),
        ),
    ),
    Source(
        Entry.Kind.DISCOVERY,
        "f",
        "goals_discovery",
        texts=("title", "detail", "resolution", "status", "kind"),
        title="{r}.title",
        body=("detail", "resolution"),
        board="{r}.board_id",
        goal="{r}.goal_id",
        card="{r}.card_id",
        actor="{r}.actor",
        at="{r}.at",
        tags=(("k", "replace({r}.kind, '_', '')"), ("s", "replace({r}.status, '_', '')")),
    ),
)
