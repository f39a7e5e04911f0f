"""Criteria whose text was changed: one goes, another takes its place, under a number of its own.

    1 ── reworded ──> 4 ── reworded ──> 7        texts of one criterion; the last one stands

Evidence counts for the text that it was given for. What was planned for an earlier text may still
serve, which nobody knows but whoever looks: it is told, and counts only once somebody says so.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from datetime import datetime

from django.db.models import QuerySet

from goals import likeness
from goals.models import Criterion

#: Pairs of texts that are compared by how alike they are, and of each so many letters: this is
#: done while the goal is locked.
COMPARED, LETTERS = 400, 300


def places(before: Sequence[Criterion], wanted: Sequence[str]) -> dict[int, int]:
    """Return in whose place each new text comes: by its index, the number of the criterion.

    ``before`` are the criteria that stood, in their order. Text beside text where as many come as
    go between two that stay; else by how alike they are.
    """
    texts = [c.text for c in before]
    pairs: dict[int, Criterion] = {}
    fresh, gone = _left(texts, wanted)
    blocks = difflib.SequenceMatcher(None, texts, list(wanted), autojunk=False).get_opcodes()
    for kind, i, j, k, m in blocks:
        if kind == "replace" and j - i == m - k:
            both = zip(range(i, j), range(k, m), strict=True)
            pairs |= {new: before[old] for old, new in both if old in gone and new in fresh}
    taken = {c.pk for c in pairs.values()}
    rest = [before[old] for old in gone if before[old].pk not in taken]
    left = [new for new in fresh if new not in pairs]
    for new in left if len(left) * len(rest) <= COMPARED else ():
        if not rest:
            break
        best = max(rest, key=lambda c: _alike(c.text, wanted[new]))
        if _alike(best.text, wanted[new]):
            pairs[new] = best
            rest.remove(best)
    return {new: criterion.number for new, criterion in pairs.items()}


def _left(texts: Sequence[str], wanted: Sequence[str]) -> tuple[list[int], list[int]]:
    """Return the indices of the texts that are new, and of those that are there no longer."""
    there, asked = list(texts), list(wanted)
    fresh, gone = [], []
    for n, text in enumerate(wanted):
        if text in there:
            there.remove(text)
        else:
            fresh.append(n)
    for n, text in enumerate(texts):
        if text in asked:
            asked.remove(text)
        else:
            gone.append(n)
    return fresh, gone


def _alike(one: str, other: str) -> float:
    one, other = one[:LETTERS], other[:LETTERS]
    return max(likeness.alike(one, other), likeness.about_the_same(one, other))


#: A criterion's number, whose place it took, and when it was no longer asked for.
Row = tuple[int, int | None, datetime | None]


def rows(criteria: QuerySet[Criterion]) -> list[Row]:
    """Return what ``now`` asks of criteria."""
    return list(criteria.order_by().values_list("number", "replaces", "retired_at"))


def now(criteria: Iterable[Row]) -> dict[int, int]:
    """Return, of all criteria of a goal that ever were, the number that each one's text has now,
    by its own number; those without any that stands are left out."""
    first: dict[int, int] = {}
    standing = []
    # What takes a place has the higher number: whoever was there first is known by then.
    for number, replaces, retired_at in sorted(criteria, key=lambda row: row[0]):
        first[number] = first.get(replaces, number) if replaces is not None else number
        if retired_at is None:
            standing.append(number)
    stands = {first[number]: number for number in standing}
    found = {number: stands[one] for number, one in first.items() if one in stands}
    return found | {number: number for number in standing}
