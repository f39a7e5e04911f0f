"""What changed from one checkpoint to another: files, state, tests, memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Q

from boards.models import Card
from checkpoints import fingerprints
from checkpoints.git import GitFailed
from checkpoints.models import Checkpoint
from checkpoints.snapshots import FileChange
from checkpoints.stores import store_of
from goals.models import Decision, Discovery
from kernel.errors import NotFound

#: Files whose lines are shown; the others are counted and named.
PATCHED_FILES = 200
PATCH_CHARS = 100_000
ALL_PATCHES_CHARS = 1_000_000
NAMED_FILES = 5_000
STATE_CHANGES = 1_000
MEMORIES = 200
COMPARED_FOR_FLAKES = 500
MAX_DEPTH = 64


@dataclass(slots=True, kw_only=True)
class Files:
    """How the files of two snapshots differ.

    ``files`` is None where there are no two to compare, and ``note`` says why.
    """

    files: list[FileChange] | None = None
    files_left_out: int = 0
    note: str = ""

    @property
    def changed_files(self) -> int:
        return len(self.files or ()) + self.files_left_out

    @property
    def additions(self) -> int:
        return sum(file.additions for file in self.files or ())

    @property
    def deletions(self) -> int:
        return sum(file.deletions for file in self.files or ())


@dataclass(slots=True)
class Difference(Files):
    """From one checkpoint (None: from before the first) to another of the same board."""

    old: Checkpoint | None
    new: Checkpoint
    state: list[dict[str, Any]] = field(default_factory=list)
    state_cut: bool = False
    newly_failing: list[str] = field(default_factory=list)
    newly_passing: list[str] = field(default_factory=list)
    flaky: list[str] = field(default_factory=list)  # of these, with the same files both ways
    decisions: list[Decision] = field(default_factory=list)
    discoveries: list[Discovery] = field(default_factory=list)
    environment: list[dict[str, str]] = field(default_factory=list)


def named(card: Card, number: int) -> Checkpoint:
    """Return the card's checkpoint, its own or the one it was forked from. Raises NotFound."""
    own = Q(card=card, number=number)
    if card.origin_checkpoint is not None:
        own |= Q(pk=card.origin_checkpoint, number=number)
    found = Checkpoint.objects.select_related("parent").filter(own).first()
    if found is None:
        raise NotFound(f"{card.key} has no checkpoint {number}.")
    return found


def between(card: Card, old: Checkpoint | None, new: Checkpoint) -> Difference:
    """Return the difference; ``old`` may be the later one, then it reads backwards."""
    found = Difference(old, new)
    _compare_files(card, found)
    lost = any(point.state_bytes is not None for point in (old, new) if point)
    changes = _compare(old.state if old else None, new.state, "", 0) if not lost else iter(())
    for change in changes:
        if len(found.state) == STATE_CHANGES:
            found.state_cut = True
            break
        found.state.append(change)
    then, now = (_environment(point) for point in (old, new))
    found.environment = list(fingerprints.changes(then, now)) if then and now else []
    failing = [set(_failing(point)) for point in (old, new)]
    found.newly_failing = sorted(failing[1] - failing[0])
    found.newly_passing = sorted(failing[0] - failing[1]) if new.tests else []
    changed = {*found.newly_failing, *found.newly_passing}
    found.flaky = sorted(changed & _flaky(card)) if changed else []
    since, until = sorted([old.at, new.at]) if old else (None, new.at)
    window = Q(card_id=card.pk, at__lte=until)
    if since is not None:
        window &= Q(at__gt=since)
    found.decisions = list(Decision.objects.filter(window).order_by("at")[:MEMORIES])
    found.discoveries = list(Discovery.objects.filter(window).order_by("at")[:MEMORIES])
    return found


def _environment(point: Checkpoint | None) -> dict[str, str]:
    """Return the checkpoint's fingerprint, empty where none was taken."""
    return ((point.workspace or {}).get("environment") or {}) if point else {}


def _flaky(card: Card) -> set[str]:
    """Return the tests that failed at one checkpoint and not at another one with the same files."""
    rows = Checkpoint.objects.filter(card=card, tests__isnull=False, workspace__isnull=False)
    outcomes: dict[str, list[set[str]]] = {}
    newest = rows.order_by("-number").values_list("workspace", "tests")[:COMPARED_FOR_FLAKES]
    for workspace, tests in newest:
        if tree := (workspace or {}).get("tree"):
            outcomes.setdefault(tree, []).append(set((tests or {}).get("failing") or ()))
    return {
        name
        for same in outcomes.values()
        for name in set().union(*same)
        if not all(name in failing for failing in same)
    }


def _failing(point: Checkpoint | None) -> list[str]:
    tests = point.tests if point else None
    return list((tests or {}).get("failing") or [])


def _compare_files(card: Card, found: Difference) -> None:
    new = found.new.workspace or {}
    old = (found.old.workspace or {}) if found.old else {}
    for point in filter(None, (found.old, found.new)):
        if point.dropped_at is not None:
            found.note = f"The contents of C{point.number} are no longer kept."
            return
    start = old.get("commit") or ("" if found.old else new.get("base") or "")
    compared = of_files(card.board_id, start, new.get("commit") or "")
    found.files, found.files_left_out = compared.files, compared.files_left_out
    found.note = compared.note


def of_files(board_id: object, start: str, to: str) -> Files:
    """Return how the files of snapshot ``to`` differ from those of ``start``."""
    if not to or not start:
        return Files(
            note="No files to compare: at least one of the two was saved without a workspace."
        )
    store = store_of(board_id)
    if not (store.has(to) and store.has(start)):
        return Files(
            note="The files are not in this host's snapshots; they stay where the worker is."
        )
    try:
        files = store.changes(start, to)
        shown = files[:NAMED_FILES]
        store.fill_in(start, to, shown[:PATCHED_FILES], PATCH_CHARS, ALL_PATCHES_CHARS)
    except GitFailed as error:
        return Files(note=f"The files can't be compared: {error}.")
    return Files(files=shown, files_left_out=max(0, len(files) - NAMED_FILES))


def _compare(old: Any, new: Any, path: str, depth: int) -> Iterator[dict[str, Any]]:
    """Yield the changes of a JSON value, each at its JSON Pointer (RFC 6901)."""
    if depth < MAX_DEPTH and isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            here = f"{path}/{key.replace('~', '~0').replace('/', '~1')}"
            if key not in old:
                yield {"path": here, "op": "add", "to": new[key]}
            elif key not in new:
                yield {"path": here, "op": "remove", "from": old[key]}
            else:
                yield from _compare(old[key], new[key], here, depth + 1)
    elif depth < MAX_DEPTH and isinstance(old, list) and isinstance(new, list):
        for n, (a, b) in enumerate(zip(old, new, strict=False)):
            yield from _compare(a, b, f"{path}/{n}", depth + 1)
        for n in range(len(old), len(new)):
            yield {"path": f"{path}/{n}", "op": "add", "to": new[n]}
        for n in range(len(new), len(old)):
            yield {"path": f"{path}/{n}", "op": "remove", "from": old[n]}
    elif old == new and type(old) is type(new):
        return
    elif old is None:
        yield {"path": path, "op": "add", "to": new}
    elif new is None:
        yield {"path": path, "op": "remove", "from": old}
    else:
        yield {"path": path, "op": "replace", "from": old, "to": new}
