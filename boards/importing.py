"""Plans from elsewhere made into goals and cards of a board, all of it or nothing.

The files are read by the same readers that the command line has; a card keeps its name in the
source as ``source`` among its inputs, by which a second import finds it again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from boards import cards
from boards.models import Board, Card
from goals import memory
from goals.models import Goal
from holdfast.transfer import sources
from holdfast.transfer.plan import Plan, SourceError
from kernel.errors import Invalid
from kernel.tx import transition

FORMATS = list(sources.READERS)
LONGEST = 1024 * 1024
#: What one import may make; the command line takes more, card by card.
MOST_CARDS = 500
TOLD = 50


@dataclass(frozen=True)
class Source:
    """A plan and the format it was read as."""

    format: str
    plan: Plan


def read(files: Sequence[Mapping[str, str]], format: str | None = None) -> Source:
    """Return what the files plan. Raises Invalid naming ``files`` when nothing of it can be read.

    Several files are a folder of Backlog.md.
    """
    if not files:
        raise Invalid.field("files", "is empty; add a file or paste its text.")
    with TemporaryDirectory(prefix="holdfast-import-") as folder:
        root = Path(folder)
        chosen = format or ("backlog" if _is_task(files[0]["text"]) or len(files) > 1 else None)
        try:
            if chosen == "backlog":
                path = root
                _lay_out(root, files)
            else:
                path = root / _harmless(files[0]["name"])
                path.write_text(files[0]["text"], encoding="utf-8", errors="replace")
            chosen = chosen or sources.detect(path)
            plan = sources.read(path, chosen, _name(files, chosen))
        except SourceError as error:
            raise Invalid.field("files", _shown(str(error), root)) from None
        plan.problems[:] = [_shown(sentence, root) for sentence in plan.problems]
        plan.warnings[:] = [_shown(sentence, root) for sentence in plan.warnings]
    if len(plan.cards) > MOST_CARDS:
        raise Invalid.field(
            "files",
            f"plans {len(plan.cards)} cards; {MOST_CARDS} can be imported here at a time. "
            "`holdfast import` takes more.",
        )
    return Source(chosen, plan)


def carry_out(
    board: Board, actor: str, source: Source, *, dry_run: bool = False, keep_going: bool = False
) -> dict[str, Any]:
    """Return what is made, or with ``dry_run`` would be; what is there already stays as it is.

    Raises Invalid naming ``files`` when part of the plan can't be kept, unless ``keep_going``.
    """
    plan = source.plan
    if plan.problems and not (dry_run or keep_going):
        raise Invalid.field(
            "files", f"{plan.problems[0]} Mend it, or leave out what can't be kept."
        )
    with transition():
        there = _there(board, plan)
        known = set(there)
        if not dry_run:
            _make(board, actor, plan, there)
    listed = [
        {
            "ref": card.ref,
            "key": there[card.ref].key if card.ref in there else None,
            "title": card.title,
            "kind": card.kind,
            "priority": card.priority,
            "goal": card.goal,
            "depends_on": list(card.depends_on),
            "there": card.ref in known,
        }
        for card in plan.cards.values()
    ]
    return {
        "format": source.format,
        "dry_run": dry_run,
        "goals": [goal.title for goal in plan.goals.values()],
        "cards": listed,
        "problems": plan.problems[:TOLD],
        "warnings": plan.warnings[:TOLD],
    }


def _there(board: Board, plan: Plan) -> dict[str, Card]:
    """Return the board's cards that the plan names, by ref."""
    refs = set(plan.cards)
    found = {}
    for card in board.cards.filter(inputs__has_key="source").only("key", "inputs", "board"):
        ref = card.inputs.get("source")
        if isinstance(ref, str) and ref in refs:
            found[ref] = card
    keys = [ref.removeprefix("holdfast:") for ref in refs if ref.startswith("holdfast:")]
    for card in board.cards.filter(key__in=keys).only("key", "board"):
        found[f"holdfast:{card.key}"] = card
    return found


def _make(board: Board, actor: str, plan: Plan, there: dict[str, Card]) -> None:
    goals = {goal.title: goal for goal in Goal.objects.filter(board_id=board.pk)}
    for planned in plan.goals.values():
        goal = goals.get(planned.title)
        if goal is None:
            goal = memory.create(
                board.pk,
                actor,
                title=planned.title,
                intent=planned.intent,
                criteria=[{"text": text[:2000]} for text in planned.criteria[:100]],
            )
            goals[planned.title] = goal
    columns = {column.kind: column for column in reversed(board.columns.order_by("position"))}
    for card in plan.cards.values():
        if card.ref in there:
            continue
        there[card.ref] = cards.create(
            board,
            actor,
            title=card.title,
            description=card.description,
            column=columns[card.kind],
            priority=card.priority,
            labels=list(card.labels),
            goal=goals[plan.goals[card.goal].title] if card.goal else None,
            depends_on=[there[ref] for ref in card.depends_on],
            inputs={"source": card.ref},
        )


def _lay_out(root: Path, files: Sequence[Mapping[str, str]]) -> None:
    """Put the files where Backlog.md has them: by the last folder of their names."""
    (root / "tasks").mkdir()
    for file in files:
        parts = file["name"].replace("\\", "/").split("/")
        part = next((p for p in reversed(parts[:-1]) if p in ("completed", "decisions")), "tasks")
        (root / part).mkdir(exist_ok=True)
        (root / part / _harmless(parts[-1])).write_text(
            file["text"], encoding="utf-8", errors="replace"
        )


def _harmless(name: str) -> str:
    plain = re.sub(r"[^\w.() -]+", "-", name.replace("\\", "/").rsplit("/", 1)[-1])
    plain = plain.strip(". ")[-80:]
    return plain or "plan"


def _name(files: Sequence[Mapping[str, str]], format: str) -> str:
    parts = files[0]["name"].replace("\\", "/").split("/")
    return parts[0] if format == "backlog" and len(parts) > 1 else parts[-1]


def _is_task(text: str) -> bool:
    """True for a file of Backlog.md: front matter with an id."""
    return bool(re.match(r"---\r?\n(?:.*\r?\n)*?id:", text[:4096]))


def _shown(sentence: str, root: Path) -> str:
    return sentence.replace(f"{root}/", "").replace(str(root), "The folder")
