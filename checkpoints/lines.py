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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import F, Max, UUIDField, Value
from django.utils import timezone

from boards import approaches, bounds, cards, placing, splits
from boards.models import Attempt, Card, Column, Message, Race, Racer
from checkpoints import differences, recovery
from checkpoints.models import Checkpoint, Line, Step, StepQuerySet
from kernel.access import SYSTEM
from kernel.errors import Invalid, NotFound, TransitionRefused
from kernel.tx import transition

MAX_FORKS = 10
RACERS = 3  # where a person asked for a race says no more
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
        point = point_of(card, number)
        revoked = placing.revoke(card, reason=f"rewound to C{number} by {actor}")
        left = card.line
        splits.give_up(card)
        open_at(card, point, actor)
        card.failures = 0
        card.not_before = None
        card.blocked_reason = ""
        if card.state != State.BACKLOG:
            placing.place(card, State.WAITING)
        bounds.charge(revoked)
        placing.note(
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


def open_at(card: Card, point: Checkpoint, actor: str) -> None:
    """Open a line of the locked card at its checkpoint, with all that was recorded up to it."""
    steps_before, checkpoints_before = _take_next_line(card)
    _open(card, point, actor, steps_before=steps_before, checkpoints_before=checkpoints_before)


def begin_again(card: Card, point: Checkpoint, actor: str) -> None:
    """Open a line of the locked card at its checkpoint that has its files and none of its steps:
    what was recorded before counts for them no longer, so all of them are done again."""
    steps_before, checkpoints_before = _take_next_line(card)
    Line.objects.create(card=card, number=card.line, parent=point.line, origin=point, actor=actor)
    card.carried = {
        "step_number": steps_before,
        "checkpoint_number": checkpoints_before,
        "steps_recorded": 0,
        "resumed_from": point.number,
        **recovery.facts({"tests": None, "workspace": point.workspace}),
    }
    card.save(update_fields=["line", "carried"])


def _take_next_line(card: Card) -> tuple[int, int]:
    """Put the card on a line that it never had; return the numbers that it gave out before."""
    given = _numbers_given(card)
    opened = Line.objects.filter(card=card).aggregate(n=Max("number"))["n"]
    card.line = max(card.line, opened or 1) + 1
    return given


def work_anew(card: Card, **_signal: object) -> None:
    """Let the steps of a reopened card's workflow be done again, on the files they ended with.

    Else each would answer with what it recorded, and the card come back as it went. A card that
    no workflow drives is its worker's: what that finds recorded, it decides about itself.
    """
    if not card.workflow or card.carried is not None:  # a line was opened for it just now
        return
    point = recovery.head(card.pk, card.line)
    if point is not None:
        begin_again(card, point, SYSTEM.actor)


@dataclass(frozen=True, slots=True)
class Terms:
    """How a race is decided, see ``boards.races``; ``score`` is the command that gives a number."""

    choose: str = Race.Choose.FIRST
    score: str = ""
    deadline_seconds: int | None = None

    def check(self, source: Card, count: int) -> None:
        """Pass if the card can be raced like this. Raises Invalid."""
        scores = self.choose == Race.Choose.SCORE
        if count == 1 and (self.choose != Race.Choose.FIRST or self.score):
            raise Invalid.field("choose", "is for a race; fork more than one card.")
        if scores != bool(self.score.strip()):
            raise Invalid.field(
                "score",
                "is needed: a command that prints a number, such as 'python bench.py'."
                if scores
                else "is for races with choose: score.",
            )
        if self.deadline_seconds is not None and not scores:
            raise Invalid.field("deadline_seconds", "is for races with choose: score.")
        if scores and not source.needs_built_in_worker:
            raise Invalid.field(
                "choose",
                f"{source.key} has no workflow, so no built-in worker can run a scoring command; "
                "let a person choose.",
            )
        if scores and not source.board.allow_commands:
            raise Invalid.field(
                "choose", "commands are off for the board; allow them or let a person choose."
            )


def fork(
    card_id: UUID,
    number: int,
    actor: str,
    *,
    title: str = "",
    approach: str = "",
    approaches: Sequence[str] = (),
    count: int = 1,
    terms: Terms = Terms(),
    budgets: Mapping[str, Any] | None = None,
) -> list[Card]:
    """Return ``count`` new cards, in progress, that start from the card's checkpoint ``number``.

    More than one is a race on ``terms``. ``approaches`` gives each its own; every one is told
    those of the others. All have the same ``budgets``: the card's own unless told. Raises Invalid.
    """
    if not 1 <= count <= MAX_FORKS:
        raise Invalid.field("count", f"must be 1 to {MAX_FORKS}.")
    if approaches and len(approaches) != count:
        raise Invalid.field("approaches", f"must name one for each of the {count} forks.")
    own = list(approaches) or [approach] * count
    with transition():
        source = cards.lock(card_id)  # so that the point's content is not let go meanwhile
        terms.check(source, count)
        point = point_of(source, number)
        if source.archived_at is not None:
            raise TransitionRefused(f"{source.key} is archived; restore it before forking it.")
        race = _race(source, number, actor, terms) if count > 1 else None
        same = {field: getattr(source, field) for field in SAME}
        if budgets is not None:
            same["budgets"] = dict(budgets)
        place = in_progress(source.board_id)
        forks = []
        for n in range(count):
            name = title or source.title
            made = cards.create(
                source.board,
                actor,
                title=name if race is None else f"{name[:280]} · {n + 1} of {count}",
                column=place,
                goal=source.goal,
                line=2,
                origin_checkpoint=point.pk,
                race=race,
                **same,
            )
            _open(made, point, actor, steps_before=0, checkpoints_before=point.number)
            if race is not None:
                Racer.objects.create(card=made, number=n + 1, approach=own[n])
            Message.objects.create(
                card=made,
                kind=Message.Kind.NOTE,
                actor=actor,
                text=_why(source, point, own[n]),
                pinned=True,
            )
            forks.append(made)
        placing.note(
            source,
            "card.forked",
            actor,
            checkpoint=number,
            forks=[made.key for made in forks],
            race=str(race.pk) if race else None,
        )
    return forks


def race_if_answered(card: Card, question: Message, answer: Message, **_signal: object) -> None:
    """Race the locked card from its last checkpoint and pause it, if that is what was answered.

    Each line of the answer's reason is the approach of one racer; without two of them there are
    RACERS, told that they must differ. Raises Invalid where there is nothing to begin at.
    """
    if answer.text.strip() != approaches.RACE or approaches.HOW_TO_RACE not in question.text:
        return
    point = recovery.head(card.pk, card.line)
    if point is None:
        raise Invalid.field("text", "can't be: the card has no checkpoint left to race from.")
    own = [line.strip() for line in answer.detail.splitlines() if line.strip()]
    count = len(own) if len(own) > 1 else RACERS
    differ = "Go about it otherwise than what was tried, and than the rivals: say how first."
    racers = fork(
        card.pk,
        point.number,
        answer.actor,
        approaches=own if len(own) > 1 else [*own, *[differ] * (count - len(own))],
        count=count,
    )
    Message.objects.create(
        card=card,
        kind=Message.Kind.NOTE,
        actor=answer.actor,
        text=f"Raced by {', '.join(racer.key for racer in racers)}. Resume it to go on here, too.",
    )
    cards.hold(card, answer.actor)


def _race(source: Card, number: int, actor: str, terms: Terms) -> Race:
    now = timezone.now()
    seconds = terms.deadline_seconds
    return Race.objects.create(
        board_id=source.board_id,
        source=source,
        checkpoint=number,
        choose=terms.choose,
        score=terms.score.strip(),
        deadline_at=now + timedelta(seconds=seconds) if seconds is not None else None,
        started_by=actor,
        started_at=now,
    )


def in_progress(board_id: UUID) -> Column | None:
    """Return the column where new work on the board goes."""
    columns = Column.objects.filter(board_id=board_id, kind=Column.Kind.IN_PROGRESS)
    return columns.order_by("position").first()


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


def point_of(card: Card, number: int) -> Checkpoint:
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


def _why(source: Card, point: Checkpoint, approach: str) -> str:
    """Return what a fork's workers are told of where it comes from."""
    said = [f"Forked from {source.key} at its checkpoint C{point.number}."]
    if approach:
        said.append(f"Approach to take here: {approach}")
    tried = (
        Attempt.objects.filter(card_id=point.card_id, started_at__gt=point.at)
        .exclude(lesson="")
        .order_by("-number")
        .values_list("lesson", flat=True)[:3]
    )
    if tried:
        said.append("Learnt there after that point: " + "; ".join(lesson[:500] for lesson in tried))
    return "\n\n".join(said)
