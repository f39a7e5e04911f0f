"""Decisions: short records of what was chosen and why. Superseded, never edited.

Whoever records one that is about the same thing as one in force, or touches its files, hears so.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from django.db.models import Q

from events import log
from goals import likeness
from goals.models import Decision
from goals.search import finding
from goals.search.finding import Narrowing, tag
from kernel.errors import Contradiction, Invalid
from kernel.tx import transition

#: Of those that look alike by a word or two, so many are compared.
COMPARED = 40
#: So many that are in force are told with an answer.
TOLD = 10
#: Decisions in force with files: so many of a goal are compared with what a checkpoint changed.
WITH_FILES = 200


def decide(
    board_id: UUID,
    goal_id: UUID | None,
    actor: str,
    *,
    title: str,
    context: str = "",
    rationale: str = "",
    alternatives: Sequence[Any] = (),
    consequences: str = "",
    files: Sequence[str] = (),
    supersedes: UUID | None = None,
    differs: str = "",
    card_id: UUID | None = None,
    attempt_id: UUID | None = None,
    checkpoint_id: UUID | None = None,
    pinned: bool = False,
) -> Decision:
    """Return the decision, now in force; the one it supersedes no longer is."""
    with transition():
        decision = Decision.objects.create(
            board_id=board_id,
            goal_id=goal_id,
            card_id=card_id,
            attempt_id=attempt_id,
            checkpoint_id=checkpoint_id,
            actor=actor,
            title=title,
            context=context,
            rationale=rationale,
            alternatives=list(alternatives),
            consequences=consequences,
            files=list(dict.fromkeys(files)),
            differs=differs,
            pinned=pinned,
        )
        if supersedes is not None:
            same = _of(goal_id, card_id)
            if not (
                Decision.objects.filter(same, pk=supersedes, superseded_by=None)
                .exclude(pk=decision.pk)
                .update(superseded_by=decision)
            ):
                raise Invalid.field("supersedes", "names no decision in force on this goal.")
        log.record(
            "decision.recorded",
            board_id=board_id,
            subject_id=card_id or goal_id or decision.pk,
            actor=actor,
            decision=str(decision.pk),
            title=title[:200],
            **({"goal": str(goal_id)} if goal_id else {}),
        )
    return decision


def _of(goal_id: UUID | None, card_id: UUID | None) -> Q:
    return Q(goal_id=goal_id) if goal_id else Q(card_id=card_id)


def resembling(
    goal_id: UUID | None, card_id: UUID | None, text: str, files: Collection[str] = ()
) -> list[dict[str, Any]]:
    """Return the decisions in force that are about what the text is about, or about these files,
    the most alike first: ``{id, title, rationale, files, similarity, because}``."""
    narrowing = Narrowing()
    narrowing.to([tag("g", goal_id) if goal_id else tag("c", card_id or UUID(int=0))])
    narrowing.to([tag("k", "decision")])
    narrowing.to([tag("s", "inforce")])
    wanted = likeness.terms(text)
    refs = finding.newest(wanted, narrowing, COMPARED) if wanted else []
    named = {decision.pk: decision for decision in touching(goal_id, card_id, files)}
    ids = {UUID(ref[1:]) for ref in refs} - named.keys()
    found = []
    for decision in [*named.values(), *Decision.objects.filter(pk__in=ids, superseded_by=None)]:
        alike = max(
            likeness.about_the_same(text, decision.title), likeness.alike(text, decision.title)
        )
        shared = sorted(set(files) & set(decision.files))
        if alike or shared:
            found.append((len(shared), alike, decision))
    found.sort(key=lambda row: (-row[0], -row[1], -row[2].at.timestamp()))
    return [_told(d, set(files), alike) for _, alike, d in found[:TOLD]]


def touching(goal_id: UUID | None, card_id: UUID | None, files: Collection[str]) -> list[Decision]:
    """Return the decisions in force that are about one of these files."""
    if not files:
        return []
    with_files = Decision.objects.filter(_of(goal_id, card_id), superseded_by=None)
    newest = with_files.exclude(files=[]).order_by("-at")[:WITH_FILES]
    paths = set(files)
    return [d for d in newest if any(_covers(path, paths) for path in d.files)]


def _covers(path: str, paths: set[str]) -> bool:
    """Return whether the path, or what lies in the folder that it names, is among the paths."""
    folder = path if path.endswith("/") else f"{path}/"
    return path in paths or any(other.startswith(folder) for other in paths)


def notices(goal_id: UUID | None, card_id: UUID, files: Collection[str]) -> list[dict[str, Any]]:
    """Return a notice for each decision in force that is about a file that was changed."""
    return [
        {"kind": "decision_in_force", **_told(d, set(files), 0.0)}
        for d in touching(goal_id, card_id, files)[:TOLD]
    ]


def _told(decision: Decision, files: set[str], alike: float) -> dict[str, Any]:
    shared = [path for path in decision.files if _covers(path, files)]
    return {
        "id": str(decision.pk),
        "title": decision.title,
        "rationale": decision.rationale[:1_000],
        "files": shared,
        "similarity": round(alike, 2),
        "because": "files" if shared else "words",
    }


def contradiction(found: list[dict[str, Any]]) -> Contradiction:
    """Return the refusal of a decision that may contradict those in force."""
    return Contradiction(
        "Decisions in force are about the same thing; name the one it replaces in 'supersedes', or"
        " say in 'differs' why both can stand.",
        extra={"in_force": found},
    )
