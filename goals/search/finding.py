"""What is found, best first: two statements, however much there is to look through.

Of the rows that match, the newest CANDIDATES are ranked: by bm25 on SQLite and ts_rank on
PostgreSQL, a word in a title counting for more. A page's cursor names the newest entry that its
first page looked at, so that what comes in meanwhile moves nothing.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection

from goals.search.keeping import INDEX, TABLE
from goals.search.language import Term
from goals.search.models import Entry
from kernel.errors import Invalid

CANDIDATES = 500
MAX_CURSOR_CHARS = 200


@dataclass(slots=True)
class Narrowing:
    """What is looked through: rows that carry a tag of each group and meet every condition.

    ``where`` is SQL over the entry ``e``, for what there are too many tags of.
    """

    groups: list[frozenset[str]] = field(default_factory=list)
    where: list[tuple[str, list[Any]]] = field(default_factory=list)
    after: datetime | None = None

    def to(self, tags: Iterable[str]) -> None:
        """Narrow to what carries one of the tags."""
        self.groups.append(frozenset(tags))


@dataclass(frozen=True, slots=True)
class Found:
    """A page of entries, how many there are in all (CANDIDATES for more), and where to go on."""

    entries: list[Entry]
    scores: list[float]
    count: int
    following: str | None
    #: True where no row has all the words, so that these have some of them.
    partly: bool = False


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a page begins."""

    skip: int = 0
    top: int = 2**62
    partly: bool = False

    def encoded(self) -> str:
        text = json.dumps([self.skip, self.top, int(self.partly)], separators=(",", ":"))
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @classmethod
    def decoded(cls, cursor: str) -> _Place:
        try:
            if len(cursor) > MAX_CURSOR_CHARS:
                raise ValueError
            padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
            skip, top, partly = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
            if type(skip) is not int or type(top) is not int or partly not in (0, 1):
                raise ValueError
            if not (0 <= skip <= CANDIDATES and 0 <= top <= 2**62):
                raise ValueError
        except (ValueError, TypeError, binascii.Error, RecursionError):
            raise Invalid.field("cursor", "is not one that this list gave out.") from None
        return cls(skip, top, bool(partly))


def tag(letter: str, value: UUID | str) -> str:
    """Return the word that narrows a search: a board (b), card (c), goal (g), actor (a), kind
    (k) or state (s)."""
    if isinstance(value, UUID):
        return letter + value.hex
    return letter + (value.encode().hex() if letter == "a" else value)


def find(
    terms: Sequence[Term],
    narrowing: Narrowing,
    *,
    limit: int = 20,
    cursor: str | None = None,
    any_word: bool = False,
) -> Found:
    """Return the entries that have all the words, best first; without words, newest first.

    Where no row has them all, those that have some. Raises Invalid for a cursor that can't be.
    """
    if any(not group for group in narrowing.groups):
        return Found([], [], 0, None)
    start = _Place.decoded(cursor) if cursor else _Place(partly=any_word)
    partly = start.partly
    hits = _matching(terms, narrowing, start.top, partly)
    if not hits and not cursor and len(terms) > 1 and not partly:
        partly = True
        hits = _matching(terms, narrowing, start.top, partly)
    top = max((pk for pk, _ in hits), default=0)
    hits.sort(key=lambda hit: (hit[1], -hit[0]))
    page = hits[start.skip : start.skip + limit]
    rows = Entry.objects.in_bulk([pk for pk, _ in page])
    kept = [(rows[pk], score) for pk, score in page if pk in rows]
    more = start.skip + limit < len(hits)
    place = _Place(start.skip + limit, min(start.top, top), partly)
    return Found(
        [entry for entry, _ in kept],
        [score for _, score in kept],
        len(hits),
        place.encoded() if more else None,
        partly and len(terms) > 1,
    )


def newest(terms: Sequence[Term], narrowing: Narrowing, most: int) -> list[str]:
    """Return the references of the newest rows that have any of the words, unranked."""
    if any(not group for group in narrowing.groups):
        return []
    hits = _matching(terms, narrowing, 2**62, partly=True, ranked=False, most=most)
    refs = dict(Entry.objects.filter(pk__in=[pk for pk, _ in hits]).values_list("pk", "ref"))
    return [refs[pk] for pk, _ in hits if pk in refs]


def _matching(
    terms: Sequence[Term],
    narrowing: Narrowing,
    top: int,
    partly: bool,
    *,
    ranked: bool = True,
    most: int = CANDIDATES,
) -> list[tuple[int, float]]:
    """Return the ids of the newest matching entries, with a score that is less for better ones."""
    where = list(narrowing.where)
    if narrowing.after is not None:
        adapted = connection.ops.adapt_datetimefield_value(narrowing.after)
        where.append(("e.at >= %s", [adapted]))
    conditions = "".join(f" AND {sql}" for sql, _ in where)
    join = f" CROSS JOIN {TABLE} AS e ON e.id = {INDEX}.rowid" if where else ""
    params = [param for _, given in where for param in given]
    query = _postgresql if connection.vendor == "postgresql" else _sqlite
    with connection.cursor() as cursor:
        sql, first = query(terms, narrowing.groups, partly, ranked)
        cursor.execute(sql.format(where=conditions, join=join), [*first, top, *params, most])
        return [(int(pk), float(score)) for pk, score in cursor.fetchall()]


def _sqlite(
    terms: Sequence[Term], groups: Sequence[frozenset[str]], partly: bool, ranked: bool
) -> tuple[str, list[Any]]:
    parts = [f"(tags : ({' OR '.join(_quoted(t) for t in sorted(group))}))" for group in groups]
    if terms:
        words = [_quoted(" ".join(t.words)) + (" *" if t.begins else "") for t in terms]
        parts.append(f"({{title body}} : ({(' OR ' if partly else ' AND ').join(words)}))")
    score = f"bm25({INDEX}, 4.0, 1.0, 0.0)" if terms and ranked else "0"
    if not parts:
        rows, match, names = f"{TABLE} AS e", "1 = 1", "e.id"
    else:
        rows, match, names = f"{INDEX}{{join}}", f"{INDEX} MATCH %s", f"{INDEX}.rowid"
    sql = (
        f"SELECT {names}, {score} FROM {rows} WHERE {match} AND {names} <= %s{{where}}"  # noqa: S608
        f" ORDER BY {names} DESC LIMIT %s"
    )
    return sql, [" AND ".join(parts)] if parts else []


def _postgresql(
    terms: Sequence[Term], groups: Sequence[frozenset[str]], partly: bool, ranked: bool
) -> tuple[str, list[Any]]:
    narrowed = " & ".join(
        "(" + " | ".join(f"'={t}'" for t in sorted(group)) + ")" for group in groups
    )
    words = (" | " if partly else " & ").join(
        "(" + " <-> ".join(_lexemes(term)) + ")" for term in terms
    )
    parts, params = [], []
    if narrowed:
        parts.append("%s::tsquery")
        params.append(narrowed)
    if words:
        parts.append("to_tsquery('simple', %s)")
        params.append(words)
    match = f"e.words @@ ({' && '.join(parts)})" if parts else "TRUE"
    ranked = ranked and bool(words)
    score = "-ts_rank(e.words, to_tsquery('simple', %s))" if ranked else "0"
    sql = (
        f"SELECT e.id, {score} FROM {TABLE} AS e WHERE {match} AND e.id <= %s{{where}}"  # noqa: S608
        " ORDER BY e.id DESC LIMIT %s"
    )
    return sql, [*([words] if ranked else []), *params]


def _quoted(words: str) -> str:
    return '"' + words.replace('"', '""') + '"'


def _lexemes(term: Term) -> list[str]:
    found = [f"'{word}'" for word in term.words]
    if term.begins:
        found[-1] += ":*"
    return found
