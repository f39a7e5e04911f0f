"""Going on from an earlier checkpoint: rewind a card, fork it, or race several forks.

    C1 ── C2 ── C3 ── C4          line 1, history from now on
           ├── C5 ── C6           line 2: the card was rewound to C2
           └── C3' (other card)   a fork of C2

A line begins with what its origin's line had recorded up to the origin: those results are
inherited as rows of its own, so that looking one up costs the same however often a card was
rewound. Nothing is taken away: the line that was left stays as history.

A forked card begins on line 2. Its line 1 stands for what it took over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import F, Max, UUIDField, Value

from boards import bounds, cards, leases
from boards.models import Attempt, Card, Column, Message
from checkpoints import differences, recovery
from checkpoints.models import Checkpoint, Line, Step, StepQuerySet
from kernel.errors import Invalid, NotFound, TransitionRefused
from kernel.ids import uuid7
from kernel.tx import transition

MAX_FORKS = 10
State = Card.State

#: What a fork takes over from its card as it is.
SAME = (
    "description",
    "priority",
    "labels",
    "requires",
    "workflow",
    "inputs",
    "max_attempts",
    "review_required",
    "budgets",
)


def rewind(card_id: UUID, number: int, actor: str) -> Card:
    """Return the card, its next attempt to go on from checkpoint ``number``.

    Later checkpoints stay in history, off the line. A person wins: a live attempt ends. The
    card becomes claimable again unless it is in the backlog, paused, or waits for others.
    Raises Invalid for a checkpoint that the card does not go back to.
    """
    with transition():
        card = cards.lock(card_id)
        point = _point(card, number)
        revoked = leases.revoke(card, reason=f"rewound to C{number} by {actor}")
        numbers = _numbers_given(card)
        opened = Line.objects.filter(card=card).aggregate(n=Max("number"))["n"]
        left, card.line = card.line, max(card.line, opened or 1) + 1
        _open(card, point, actor, steps_before=numbers[0], checkpoints_before=numbers[1])
        card.failures = 0
        card.not_before = None
        card.blocked_reason = ""
        if card.state != State.BACKLOG:
            leases.place(card, State.WAITING)
        bounds.charge(revoked)
        leases.note(
            card,
            "card.rewound",
            actor,
            checkpoint=number,
            line=card.line,
            left=left,
            revoked=revoked.number if revoked else None,
        )
        cards.nudge_if_claimable(card)
    return card


def begin_again(card: Card, point: Checkpoint, actor: str) -> None:
    """Open a line of the locked card at its checkpoint that has its files and none of its steps:
    what was recorded before counts for them no longer, so all of them are done again."""
    steps_before, checkpoints_before = _numbers_given(card)
    opened = Line.objects.filter(card=card).aggregate(n=Max("number"))["n"]
    card.line = max(card.line, opened or 1) + 1
    Line.objects.create(card=card, number=card.line, parent=point.line, origin=point, actor=actor)
    card.carried = {
        "step_number": steps_before,
        "checkpoint_number": checkpoints_before,
        "steps_recorded": 0,
        "resumed_from": point.number,
        **recovery.facts({"tests": None, "workspace": point.workspace}),
    }
    card.save(update_fields=["line", "carried"])


def fork(
    card_id: UUID,
    number: int,
    actor: str,
    *,
    title: str = "",
    approach: str = "",
    approaches: Sequence[str] = (),
    count: int = 1,
) -> list[Card]:
    """Return ``count`` new cards, in progress, that start from the card's checkpoint ``number``.

    More than one is a race: the first to be completed wins and the others are cancelled.
    ``approaches`` gives each its own; every one is told those of the others. Raises Invalid.
    """
    if not 1 <= count <= MAX_FORKS:
        raise Invalid.field("count", f"must be 1 to {MAX_FORKS}.")
    if approaches and len(approaches) != count:
        raise Invalid.field("approaches", f"must name one for each of the {count} forks.")
    own = list(approaches) or [approach] * count
    race = uuid7() if count > 1 else None
    with transition():
        source = cards.lock(card_id)  # so that the point's content is not let go meanwhile
        point = _point(source, number)
        if source.archived_at is not None:
            raise TransitionRefused(f"{source.key} is archived; restore it before forking it.")
        column = (
            Column.objects.filter(board_id=source.board_id, kind=Column.Kind.IN_PROGRESS)
            .order_by("position")
            .first()
        )
        forks = []
        for n in range(count):
            name = title or source.title
            made = cards.create(
                source.board,
                actor,
                title=name if race is None else f"{name[:280]} · {n + 1} of {count}",
                column=column,
                goal=source.goal,
                line=2,
                origin_checkpoint=point.pk,
                race=race,
                **{field: getattr(source, field) for field in SAME},
            )
            _open(made, point, actor, steps_before=0, checkpoints_before=point.number)
            others = [a for i, a in enumerate(own) if i != n and a and race]
            Message.objects.create(
                card=made,
                kind=Message.Kind.NOTE,
                actor=actor,
                text=_why(source, point, own[n], others, n, count),
                pinned=True,
            )
            forks.append(made)
        leases.note(
            source,
            "card.forked",
            actor,
            checkpoint=number,
            forks=[made.key for made in forks],
            race=str(race) if race else None,
        )
    return forks


def _numbers_given(card: Card) -> tuple[int, int]:
    """Return the newest step's and checkpoint's number on the card, inherited ones included."""
    if card.carried is not None:  # nobody has begun on the line that was opened last
        return card.carried["step_number"], card.carried["checkpoint_number"]
    newest = card.attempts.order_by("-number").values_list("step_number", "checkpoint_number")
    return newest.first() or (0, 0)


def redone(card: Card, point: Checkpoint) -> list[str]:
    """Return the keys of recorded steps that the card would do again after a rewind there."""
    kept = _recorded_by(point).values("key")
    here = Step.objects.on_line(card.pk, card.line).filter(status=Step.Status.SUCCEEDED)
    return list(here.exclude(key__in=kept).order_by("number").values_list("key", flat=True))


def _recorded_by(point: Checkpoint) -> StepQuerySet:
    """The steps whose result the checkpoint stands on.

    One that was begun before it and ended after it is none of them.
    """
    steps = Step.objects.on_line(point.card_id, point.line)
    return steps.filter(
        status=Step.Status.SUCCEEDED, number__lte=point.after_step, finished_at__lte=point.at
    )


def _point(card: Card, number: int) -> Checkpoint:
    """Return the card's checkpoint, or the one it was forked from. Raises Invalid."""
    try:
        point = differences.named(card, number)
    except NotFound as error:
        raise Invalid.field("checkpoint", str(error)) from None
    if point.dropped_at is not None:
        raise Invalid.field("checkpoint", f"The contents of C{number} are no longer kept.")
    return point


def _open(
    card: Card, point: Checkpoint, actor: str, *, steps_before: int, checkpoints_before: int
) -> None:
    """Begin the card's current line at ``point`` and say what its next attempt starts with."""
    Line.objects.create(card=card, number=card.line, parent=point.line, origin=point, actor=actor)
    inherited = _inherit(card, point, steps_before)
    card.carried = {
        "step_number": steps_before + point.after_step,
        "checkpoint_number": checkpoints_before,
        "steps_recorded": inherited,
        "resumed_from": point.number,
        **recovery.facts({"tests": point.tests, "workspace": point.workspace}),
    }
    card.save(update_fields=["line", "carried"])


def _inherit(card: Card, point: Checkpoint, shift: int) -> int:
    """Copy what the point stands on to the card's line; return how many steps that is.

    One statement, whatever their number.
    """
    own: dict[str, Any] = {
        "card": Value(card.pk, UUIDField()),
        "line": Value(card.line),
        "number": F("number") + shift,
        "inherited": Value(True),
    }
    fields = [field for field in Step._meta.concrete_fields if not field.primary_key]
    chosen = _recorded_by(point).values_list(*(own.get(f.name, F(f.name)) for f in fields))
    select, parameters = chosen.query.sql_with_params()
    columns = ", ".join(f'"{field.column}"' for field in fields)
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO checkpoints_step ({columns}) {select}", parameters)
        return int(cursor.rowcount)


def _why(
    source: Card, point: Checkpoint, approach: str, others: Sequence[str], n: int, count: int
) -> str:
    """Return what a fork's workers are told of where it comes from."""
    said = [f"Forked from {source.key} at its checkpoint C{point.number}."]
    if count > 1:
        said.append(
            f"This is {n + 1} of {count} that race from there: the first to be completed wins."
        )
    if approach:
        said.append(f"Approach to take here: {approach}")
    if others:
        said.append("The others take these, so take none of them: " + "; ".join(others))
    tried = (
        Attempt.objects.filter(card_id=point.card_id, started_at__gt=point.at)
        .exclude(lesson="")
        .order_by("-number")
        .values_list("lesson", flat=True)[:3]
    )
    if tried:
        said.append("Learnt there after that point: " + "; ".join(lesson[:500] for lesson in tried))
    return "\n\n".join(said)
