"""A card's work handed to part-cards that start from its checkpoint, and joined again.

    C4 of PAY-7 ──┬── PAY-8 ── completed ──┐
                  ├── PAY-9 ── completed ──┼── joined: C5 of PAY-7, which can be claimed now
                  └── PAY-10 ─ completed ──┘

A split card waits for its parts as for any card it depends on, and once more until they are
joined, so that nobody goes on without what they did. Joining is git's work: it is done outside of
any transaction, by the sweep, and recorded in one; whoever does it twice finds it done. Where two
parts changed the same lines both sides stand marked in the files, whose names are the joined
checkpoint's next step and a discovery. A workflow can't resolve that: its card is blocked.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from django.db import InterfaceError, OperationalError
from django.utils import timezone

from boards import bounds, cards, placing, splits
from boards.models import Attempt, Card, Dependency, Message, Split
from boards.splits import Part
from checkpoints import lines, merging, recovery
from checkpoints.git import GitFailed
from checkpoints.models import Checkpoint, Line
from checkpoints.snapshots import Description, Snapshot
from checkpoints.stores import store_of
from goals import memory
from goals.models import Discovery
from kernel.errors import Invalid, TransitionRefused
from kernel.tx import transition

log = logging.getLogger(__name__)

MAX_PARTS = 20
JOINED_PER_PASS = 5
NAMED = 20
SIDES_NAMED = 3
State = Card.State

#: What a part takes over from the card that is split, unless it says otherwise.
SAME = ("priority", "labels", "requires", "max_attempts", "review_required")


def split(
    card_id: UUID, actor: str, parts: Sequence[Mapping[str, Any]], number: int | None = None
) -> list[Card]:
    """Return a new card in progress for each of the parts, which start from the card's checkpoint
    ``number``, else its newest one; the card waits for them to be joined.

    A live attempt ends. The parts have the checkpoint's files and none of its recorded steps.
    Raises Invalid and TransitionRefused.
    """
    if not 2 <= len(parts) <= MAX_PARTS:
        raise Invalid.field("parts", f"must be 2 to {MAX_PARTS}.")
    with transition():
        cards.lock_board(Card.objects.values_list("board_id", flat=True).get(pk=card_id))
        card = cards.lock(card_id)
        if card.archived_at is not None or card.state in (State.COMPLETED, State.CANCELLED):
            gone = "archived" if card.archived_at else card.state
            raise TransitionRefused(f"{card.key} is {gone}; there is nothing to split.")
        if splits.under_way(card) is not None:
            raise TransitionRefused(f"{card.key} is split already; its parts come first.")
        head = recovery.head(card.pk, card.line)
        if head is None:
            raise Invalid.field(
                "checkpoint",
                f"{card.key} has none to split at; save one first, or make cards it waits for.",
            )
        point = lines.point_of(card, number) if number is not None else head
        revoked = placing.revoke(card, reason=f"split by {actor}")
        if point.pk != head.pk:
            lines.open_at(card, point, actor)
        card.failures = 0
        card.not_before = None
        card.blocked_reason = ""
        placing.place(card, State.WAITING)
        bounds.charge(revoked)
        made = Split.objects.create(card=card, checkpoint=point.number, actor=actor)
        new = [_part(made, card, point, actor, n, parts) for n in range(len(parts))]
        parents = [d.depends_on for d in card.dependencies.select_related("depends_on")]
        cards.depend(card, [*parents, *new])
        placing.note(
            card,
            "card.split",
            actor,
            checkpoint=point.number,
            parts=[part.key for part in new],
            revoked=revoked.number if revoked else None,
        )
    return new


def _part(
    made: Split, card: Card, point: Checkpoint, actor: str, n: int, parts: Sequence[Any]
) -> Card:
    """Make one part, on a line that begins at the point."""
    wanted = dict(parts[n])
    part = cards.create(
        card.board,
        actor,
        title=wanted.pop("title"),
        column=lines.in_progress(card.board_id),
        goal=card.goal,
        line=2,
        origin_checkpoint=point.pk,
        part_of=made,
        **{**{field: getattr(card, field) for field in SAME}, **wanted},
    )
    Line.objects.create(card=part, number=2, parent=point.line, origin=point, actor=actor)
    part.carried = {
        "step_number": 0,
        "checkpoint_number": point.number,
        "steps_recorded": 0,
        "resumed_from": point.number,
        **recovery.facts({"tests": point.tests, "workspace": point.workspace}),
    }
    part.save(update_fields=["carried"])
    others = "; ".join(str(other["title"]) for i, other in enumerate(parts) if i != n)
    Message.objects.create(
        card=part,
        kind=Message.Kind.NOTE,
        actor=actor,
        text=f"Part {n + 1} of {len(parts)} of {card.key}, {card.title}, from its checkpoint "
        f"C{point.number}. Do this part alone: what all parts change is joined there afterwards. "
        f"The others: {others}",
        pinned=True,
    )
    return part


# ── joining ──────────────────────────────────────────────────────────────────────────────


def tick() -> int:
    """Join the parts of split cards where all are done; return how many cards can go on.

    Only a card that waits: one that a person has put elsewhere is joined once it is back, and one
    that could not be joined is blocked, so that none is tried again with each pass.
    """
    waiting = Split.objects.filter(joined_at=None, card__state=State.WAITING)
    unmet = Dependency.objects.exclude(depends_on__state=State.COMPLETED).values("card")
    ready = waiting.exclude(card__in=unmet).select_related("card__board").order_by("pk")
    return sum(_join(made) for made in ready[:JOINED_PER_PASS])


def _join(made: Split) -> bool:
    card = made.card
    head = recovery.head(card.pk, card.line)
    done = [part for part in splits.parts_of(made) if part.joins]
    if head is None:
        return False
    try:
        snapshot, files = _joined(made, head, [part.card for part in done])
        return _record(made, head, done, snapshot, files)
    except (GitFailed, TransitionRefused) as error:
        log.warning("%s: its parts can't be joined: %s", card.key, error)
        _hold_up(card, str(error))
    except (OperationalError, InterfaceError):
        raise  # the store does not answer, which is no fault of the card
    except Exception as error:
        log.exception("%s: its parts can't be joined", card.key)
        _hold_up(card, f"{type(error).__name__}: {error}".rstrip(".") + ".")
    return False


def _joined(
    made: Split, head: Checkpoint, parts: Sequence[Card]
) -> tuple[Snapshot | None, list[str]]:
    """Return the head's files with what each part changed, and the names of those in conflict.

    None where no part has files. Raises GitFailed, and TransitionRefused where those of one are
    not on this host.
    """
    store = store_of(made.card.board_id)
    works = [merging.work_of(part) for part in parts if _has_files(part)]
    if not works:
        return None, []
    at = Checkpoint.objects.get(card=made.card, number=made.checkpoint)
    start = str((at.workspace or {}).get("commit") or works[0].base)
    commit = str((head.workspace or {}).get("commit") or start)
    files: set[str] = set()
    with merging.scratch(store) as clone:
        tree, base = clone.tree_of(commit), clone.tree_of(start)
        # What markers call the other side: whose changes are in it, while those are few.
        sides = [] if commit == start else [made.card.key]
        for work in works:
            known = "+".join(sides) if len(sides) <= SIDES_NAMED else ""
            tree, named = clone.marked(tree, base, work, known or made.card.key)
            files |= set(named)
            sides.append(work.card.key)
        store.take_over(clone.path, tree)
    was = store.describe(commit)
    told = Description(was.base or commit, was.repository_commit, was.skipped, kept=was.kept)
    keys = " and ".join(work.card.key for work in works)
    joined = store.commit(tree, told.message(f"Joined from {keys}"), parent=commit)
    store.keep(f"refs/holdfast/{made.card.key}/joined-{joined}", joined)
    return store.snapshot_of(joined), sorted(files)


def _has_files(part: Card) -> bool:
    head = recovery.head(part.pk, part.line)
    return bool(head and (head.workspace or {}).get("commit"))


def _record(
    made: Split,
    head: Checkpoint,
    done: Sequence[Part],
    snapshot: Snapshot | None,
    files: Sequence[str],
) -> bool:
    """Save what was joined as the card's next checkpoint; return whether it can go on."""
    keys = ", ".join(part.card.key for part in done)
    named = ", ".join(files[:NAMED]) + (f" and {len(files) - NAMED} more" if files[NAMED:] else "")
    with transition():
        card = cards.lock(made.card_id)
        made = Split.objects.get(pk=made.pk)
        now = recovery.head(card.pk, card.line)
        still = {part.card.pk for part in splits.parts_of(made) if part.joins}
        moved_on = now is None or now.pk != head.pk or still != {part.card.pk for part in done}
        if made.joined_at is not None or card.state == State.RUNNING or moved_on:
            return False
        summary = f"The parts {keys} are joined."
        if snapshot is None:
            summary += " None of them has files here; their results stand in the state."
        if files:
            summary += f" More than one of them changed the same lines of {named}."
        point = recovery.put(
            card,
            head,
            head.attempt,
            f"{merging.PARTS}{made.pk}",
            {
                "summary": summary,
                "next_step": f"Resolve the conflict markers in {named}, then go on."
                if files
                else head.next_step,
                "state": {"before": head.state, "parts": _results(done)},
                "workspace": snapshot.as_json() if snapshot else head.workspace,
            },
        )
        made.joined_at, made.joined_as, made.files = timezone.now(), point.number, list(files)
        made.save(update_fields=["joined_at", "joined_as", "files"])
        cards.depend(card, [d.depends_on for d in card.dependencies.select_related("depends_on")])
        stuck = bool(files and card.workflow)
        if stuck:
            card.blocked_reason = (
                f"The parts {keys} changed the same lines of {named}. Both sides stand marked "
                "there; resolve it in a part, or retry the card to go on with the markers."
            )[:2000]
            placing.place(card, State.BLOCKED)
        if files:
            memory.discover(
                card.board_id,
                card.goal_id,
                "system:sweep",
                kind=Discovery.Kind.NEW_REQUIREMENT,
                title=f"Parts of {card.key} both changed {named}"[:300],
                detail=f"Found when {keys} were joined as C{point.number}; the conflicts are "
                "marked in the files.",
                card_id=card.pk,
            )
        placing.note(
            card, "card.joined", "system:sweep", checkpoint=point.number, files=list(files[:NAMED])
        )
        cards.nudge_if_claimable(card)
    return not stuck


def _results(done: Sequence[Part]) -> list[dict[str, Any]]:
    ended = Attempt.objects.filter(
        card__in=[part.card.pk for part in done], status=Attempt.Status.SUCCEEDED
    )
    results = dict(ended.order_by("number").values_list("card_id", "result"))
    return [
        {
            "card": part.card.key,
            "title": part.card.title,
            "outcome": part.outcome,
            "result": results.get(part.card.pk),
        }
        for part in done
    ]


def _hold_up(card: Card, why: str) -> None:
    """Block a card whose parts can't be joined until a person has looked."""
    with transition():
        card = cards.lock(card.pk)
        if card.state == State.WAITING:
            card.blocked_reason = f"Its parts can't be joined: {why} Then retry the card."[:2000]
            placing.place(card, State.BLOCKED)
            placing.note(card, "card.blocked", "system:sweep", reason=card.blocked_reason[:300])
