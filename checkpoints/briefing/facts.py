"""What is known about a card, read in a bounded number of statements.

Every read has a LIMIT over an index and takes the ends of long texts only, so that the cost
does not hang on how much was ever recorded, said or tried. What lies further back is counted:
by the attempt's and card's own counters, or by an index up to MANY.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import (
    BooleanField,
    Exists,
    F,
    Func,
    IntegerField,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    TextField,
)
from django.db.models.expressions import RawSQL
from django.db.models.functions import Cast
from django.db.models.sql.compiler import SQLCompiler

from boards import approaches
from boards.models import Attempt, Card, Dependency, Message, Race, Racer
from checkpoints.briefing.quoting import Excerpt
from checkpoints.models import Checkpoint, Line, Step
from goals import amendments
from goals.models import Amendment, Criterion, Decision, Discovery, Evidence

Row = dict[str, Any]

#: Questions that are shown with their answer.
#: What is settled: an answered question, a resolved remark.
_ANSWERED = Q(closed_at__isnull=False) & (Q(kind=Message.Kind.QUESTION) | Q(place__isnull=False))

#: Counting stops here; a briefing says "1,000 or more" then.
MANY = 1_000
CRITERIA = 200
MESSAGES = 30
#: The newest messages are looked through this far back for answers and reviews.
LOOK_BACK = 200
DOUBTS = 20
STEPS = 30
DECISIONS = 40
DISCOVERIES = 40
SEVERE = 15
#: Of what is pinned, the newest so many come before all else of its kind.
PINNED = 15
ATTEMPTS = 60
PARENTS = 40
REVIVED = 5
ELSEWHERE = 5
RACERS = 30
AMENDMENTS = 20

#: How much of a text is read, at its beginning and at its end.
LONG = (16_000, 8_000)
SHORT = (2_400, 1_200)


@dataclass(slots=True)
class Facts:
    """Rows as dictionaries, their texts as excerpts."""

    card: Row
    criteria: list[Row] = field(default_factory=list)
    messages: list[Row] = field(default_factory=list)
    head: Row | None = None
    doubts: list[Row] = field(default_factory=list)
    steps: list[Row] = field(default_factory=list)
    decisions: list[Row] = field(default_factory=list)
    discoveries: list[Row] = field(default_factory=list)
    dead_ends: list[Row] = field(default_factory=list)
    revived: list[Row] = field(default_factory=list)
    attempts: list[Row] = field(default_factory=list)
    elsewhere: list[Row] = field(default_factory=list)
    parents: list[Row] = field(default_factory=list)
    racers: list[Row] = field(default_factory=list)
    #: What has changed in what the goal asks for since the newest checkpoint, in words.
    changed_since: list[str] = field(default_factory=list)


def read(card: Card) -> Facts:
    """Return what is known about the card now."""
    memory = Q(goal_id=card.goal_id) if card.goal_id else Q(card_id=card.pk)
    decisions = Decision.objects.filter(memory, superseded_by=None)
    discoveries = Discovery.objects.filter(memory, status=Discovery.Status.OPEN)
    revived = Discovery.objects.filter(memory, status=Discovery.Status.REVIVED)
    facts = Facts(_card(card, decisions, discoveries, revived))
    if card.goal_id:
        facts.criteria = _criteria(card.goal_id)
    # What there is none of costs no statement: the card's row came with how much there is.
    there = facts.card
    if there["messages_count"]:
        facts.messages = _messages(card, there["pinned_messages"])
    facts.attempts = _attempts(card)
    facts.head = _head(card)
    if there["doubts_count"]:
        facts.doubts = _doubts(card)
    facts.steps = _steps(card)
    if there["decisions_count"]:
        facts.decisions = _decisions(decisions, there["pinned_decisions"])
    if there["discoveries_count"] or there["dead_ends_count"]:
        facts.discoveries, facts.dead_ends = _discoveries(discoveries, there)
    if there["has_revived"]:
        facts.revived = _revived(revived)
    facts.elsewhere = _elsewhere(card, facts.attempts)
    if there["parents_count"]:
        facts.parents = _parents(card)
    if card.race_id or card.origin_checkpoint or facts.card["raced"]:
        facts.racers = _racers(card)
    if card.goal_id and facts.card["amendments_count"] and facts.head is not None:
        facts.changed_since = _changed_since(card.goal_id, facts.head["at"])
    return facts


def as_json(text: Excerpt) -> Excerpt:
    """Return JSON as people read it, where it was read whole and is JSON."""
    if not text.missing:
        try:
            value = json.loads(text.head + text.tail)
        except ValueError:
            return text
        if value is None:
            return Excerpt("")
        return Excerpt(json.dumps(value, ensure_ascii=False, sort_keys=True))
    return text


# ── one statement each ───────────────────────────────────────────────────────────────────


def _card(
    card: Card, decisions: QuerySet[Any], discoveries: QuerySet[Any], revived: QuerySet[Any]
) -> Row:
    dead_end = Q(kind=Discovery.Kind.DEAD_END)
    standing = Criterion.objects.filter(goal=OuterRef("goal_id"), retired_at=None)
    messages = Message.objects.filter(card_id=card.pk).exclude(_ANSWERED)
    rows = Card.objects.filter(pk=card.pk).annotate(
        decisions_count=_Count(decisions),
        discoveries_count=_Count(discoveries.exclude(dead_end)),
        dead_ends_count=_Count(discoveries.filter(dead_end)),
        messages_count=_Count(messages),
        pinned_messages=Exists(messages.filter(pinned=True)),
        pinned_decisions=Exists(decisions.filter(pinned=True)),
        pinned_discoveries=Exists(discoveries.filter(pinned=True)),
        has_revived=Exists(revived),
        parents_count=_Count(Dependency.objects.filter(card_id=card.pk)),
        doubts_count=_Count(_in_doubt(card)),
        criteria_count=_Count(standing),
        amendments_count=_Count(Amendment.objects.filter(goal=OuterRef("goal_id"))),
        goal_title=F("goal__title"),
        goal_status=F("goal__status"),
        goal_author=F("goal__created_by"),
        goal_constraints=F("goal__constraints"),
        board_defaults=F("board__defaults"),
        race_choose=F("race__choose"),
        race_decided_at=F("race__decided_at"),
        race_winner=F("race__winner__key"),
        raced=Exists(Race.objects.filter(source=OuterRef("pk"))),
    )
    plain = (
        "key title state priority labels due_at created_by fence failures max_attempts paused"
        " review_required blocked_reason goal_id goal_title goal_status goal_author"
        " goal_constraints decisions_count discoveries_count dead_ends_count messages_count"
        " parents_count doubts_count criteria_count amendments_count race_id race_choose"
        " race_decided_at race_winner raced board_defaults pinned_messages pinned_decisions"
        " pinned_discoveries has_revived covers"
    )
    (row,) = _rows(
        rows,
        *plain.split(),
        description=LONG,
        inputs=(Cast("inputs", TextField()), SHORT),
        intent=("goal__intent", LONG),
    )
    return row


def _criteria(goal_id: UUID) -> list[Row]:
    counts = Evidence.objects.filter(criterion=OuterRef("pk"), at__gte=OuterRef("changed_at"))
    newest = counts.order_by("-pk")
    rows = Criterion.objects.filter(goal_id=goal_id, retired_at=None).annotate(
        shown_at=Subquery(newest.values("at")[:1]), shown_by=Subquery(newest.values("actor")[:1])
    )
    return _rows(
        rows.order_by("number")[:CRITERIA],
        "number",
        "met",
        "replaces",
        "shown_at",
        "shown_by",
        text=(600, 200),
        check=("check_command", (300, 100)),
        evidence=(Subquery(newest.values("detail")[:1]), (600, 200)),
    )


def _messages(card: Card, any_pinned: bool) -> list[Row]:
    """The newest answer or review, open remarks on lines, what is pinned, the other answers
    and reviews, open questions, then notes; the newest first among each."""
    said = Message.objects.filter(card_id=card.pk).exclude(_ANSWERED).order_by("-pk")
    plain = said.values("pk", "kind", "actor", "pinned", "place")
    pinned = list(plain.filter(pinned=True)[:PINNED]) if any_pinned else []
    recent: list[Any] = list({m["pk"]: m for m in [*pinned, *plain[:LOOK_BACK]]}.values())
    decided = (Message.Kind.ANSWER, Message.Kind.REVIEW)
    decisive = [m["pk"] for m in recent if m["kind"] in decided and not m["place"]]
    newest = max(decisive, default=None)

    def order(m: Row) -> tuple[int, bool, int]:
        if m["pk"] == newest:
            rank = 0
        elif m["place"]:
            rank = 1
        elif m["pinned"]:
            rank = 2
        else:
            rank = 3 if m["kind"] in decided else 4 if m["kind"] == Message.Kind.QUESTION else 5
        return rank, not m["actor"].startswith("user:"), -m["pk"]

    recent.sort(key=order)
    wanted = [m["pk"] for m in recent[:MESSAGES]]
    rows = _rows(
        Message.objects.filter(pk__in=wanted),
        "pk",
        "kind",
        "actor",
        "at",
        "pinned",
        "place",
        asker=F("answers__actor"),
        text=SHORT,
        question=("answers__text", (300, 200)),
        about=("answers__detail", (300, 200)),
        reason=("detail", (600, 200)),
    )
    by_pk = {row["pk"]: row for row in rows}
    return [by_pk[pk] for pk in wanted if pk in by_pk]


def _attempts(card: Card) -> list[Row]:
    return _rows(
        Attempt.objects.filter(card_id=card.pk).order_by("-number")[:ATTEMPTS],
        "pk",
        "number",
        "status",
        "worker",
        "started_at",
        "finished_at",
        "reason",
        "fault",
        "steps_recorded",
        approach=(600, 200),
        error=SHORT,
        lesson=(1200, 400),
        outcome=LONG,
        next_step=SHORT,
    )


def _head(card: Card) -> Row | None:
    """The checkpoint that the next attempt goes on from, as ``recovery.head`` finds it."""
    chosen = Checkpoint.objects.filter(card_id=card.pk, line=card.line).order_by("-number")
    found = _checkpoint(chosen[:1])
    if found is None and card.line > 1:
        origin = Line.objects.filter(card_id=card.pk, number=card.line).values("origin")
        found = _checkpoint(Checkpoint.objects.filter(pk__in=origin))
    return found


def _checkpoint(rows: QuerySet[Any]) -> Row | None:
    found = _rows(
        rows,
        "number",
        "after_step",
        "at",
        "tests",
        "workspace",
        worker=F("attempt__worker"),
        attempt=F("attempt__number"),
        summary=LONG,
        next_step=LONG,
        state=(Cast("state", TextField()), LONG),
        artifacts=(Cast("artifacts", TextField()), SHORT),
    )
    return found[0] if found else None


def _changed_since(goal_id: UUID, at: datetime) -> list[str]:
    later = Q(at__gt=at) | Q(withdrawn_at__gt=at)
    rows = Amendment.objects.filter(later, goal_id=goal_id).order_by("number")[:AMENDMENTS]
    rows = rows.only("number", "at", "withdrawn_at")
    return amendments.made_before(rows, at)


def _in_doubt(card: Card) -> QuerySet[Step]:
    """Steps that an attempt now over began and never finished."""
    over = ~Exists(Attempt.objects.live().filter(pk=OuterRef("attempt_id")))
    begun = Step.objects.on_line(card.pk, card.line).filter(status=Step.Status.STARTED)
    return begun.filter(over)


def _doubts(card: Card) -> list[Row]:
    rows = _in_doubt(card).order_by("-number")[:DOUBTS]
    return _rows(rows, "key", "title", "started_at", attempt=F("attempt__number"))


def _steps(card: Card) -> list[Row]:
    """The newest tries on the line that count."""
    rows = _rows(
        Step.objects.filter(card_id=card.pk).order_by("-number")[:STEPS],
        "key",
        "status",
        "line",
        "superseded",
        "finished_at",
        error=(600, 600),
        worker=F("attempt__worker"),
    )
    return [r for r in rows if r["line"] == card.line and not r["superseded"]]


def _decisions(in_force: QuerySet[Decision], any_pinned: bool) -> list[Row]:
    """The pinned decisions, then the newest."""

    def newest(rows: QuerySet[Decision], most: int) -> list[Row]:
        rows = rows.order_by("-at", "-pk")[:most]
        return _rows(rows, "pk", "title", "actor", "at", "pinned", "files", rationale=SHORT)

    pinned = newest(in_force.filter(pinned=True), PINNED) if any_pinned else []
    found = {row["pk"]: row for row in [*pinned, *newest(in_force, DECISIONS)]}
    return list(found.values())


def _discoveries(open_ones: QuerySet[Discovery], there: Row) -> tuple[list[Row], list[Row]]:
    """The pinned, worst and newest open discoveries, and the newest dead ends, as far as
    ``there`` says that there are any."""

    def newest(rows: QuerySet[Discovery], most: int) -> list[Row]:
        return _rows(
            rows.order_by("-at", "-pk")[:most],
            "pk",
            "kind",
            "severity",
            "title",
            "actor",
            "at",
            "pinned",
            "seen",
            detail=SHORT,
        )

    dead_end = Discovery.Kind.DEAD_END
    pinned = newest(open_ones.filter(pinned=True), PINNED) if there["pinned_discoveries"] else []
    dead_ends: list[Row] = []
    if there["dead_ends_count"]:
        dead_ends = newest(open_ones.filter(kind=dead_end), DISCOVERIES)
    worst = {Discovery.Severity.CRITICAL: 0, Discovery.Severity.HIGH: 1}
    # Word for word as in the index ``severe_of_goal``, or SQLite does not take it.
    is_severe = RawSQL("\"severity\" IN ('high', 'critical')", [], BooleanField())
    severe = newest(open_ones.filter(is_severe), SEVERE)
    found = {row["pk"]: row for row in [*pinned, *severe, *newest(open_ones, DISCOVERIES)]}
    others = [row for row in found.values() if row["kind"] != dead_end]
    others.sort(key=lambda row: (not row["pinned"], worst.get(row["severity"], 2)))
    first = [row for row in pinned if row["kind"] == dead_end]
    dead_ends = list({row["pk"]: row for row in [*first, *dead_ends]}.values())
    return others, dead_ends


def _revived(revived: QuerySet[Discovery]) -> list[Row]:
    """Dead ends that may be none any more, the newest."""
    return _rows(
        revived.order_by("-at", "-pk")[:REVIVED],
        "title",
        "actor",
        "at",
        because=("revived_because", (600, 200)),
    )


def _elsewhere(card: Card, attempts: list[Row]) -> list[Row]:
    """Failed attempts at the goal's other cards that went about something like this one."""
    approach = next((a["approach"].head for a in attempts if a["approach"]), "")
    wanted = approaches.elsewhere(card, f"{card.title} {approach}", ELSEWHERE)
    if not wanted:
        return []
    rows = _rows(
        Attempt.objects.filter(pk__in=wanted),
        "pk",
        "number",
        "worker",
        "finished_at",
        key=F("card__key"),
        approach=(600, 200),
        error=(600, 200),
        lesson=(600, 200),
    )
    return sorted(rows, key=lambda row: wanted.index(row["pk"]))


def _parents(card: Card) -> list[Row]:
    """The cards this one waits or waited for, each with how its last attempt ended it."""
    last = Attempt.objects.filter(
        card_id=OuterRef("depends_on_id"),
        number=OuterRef("depends_on__fence"),
        status=Attempt.Status.SUCCEEDED,
    )
    rows = Dependency.objects.filter(card_id=card.pk).annotate(
        finished_at=Subquery(last.values("finished_at")[:1]),
        worker=Subquery(last.values("worker")[:1]),
    )
    return _rows(
        rows.order_by("-pk")[:PARENTS],
        "finished_at",
        "worker",
        key=F("depends_on__key"),
        title=F("depends_on__title"),
        state=F("depends_on__state"),
        outcome=(Subquery(last.values("outcome")[:1]), SHORT),
        result=(Subquery(last.values(as_text=Cast("result", TextField()))[:1]), SHORT),
    )


def _racers(card: Card) -> list[Row]:
    """The other cards of races that matter here, the newest race first: of the one that the card
    runs, of those that began at it, and of those that the card it was forked from knows."""
    near = Q(pk=card.race_id) | Q(source=card.pk)
    if card.origin_checkpoint is not None:
        origin = Checkpoint.objects.filter(pk=card.origin_checkpoint).values("card")
        near |= Q(source__in=origin) | Q(cards__in=origin)
    newest = Attempt.objects.filter(card_id=OuterRef("card_id")).order_by("-number")
    saved = Checkpoint.objects.filter(card_id=OuterRef("card_id"))
    rows = Racer.objects.filter(card__race__in=Race.objects.filter(near).values("pk"))
    return _rows(
        rows.exclude(card=card.pk).order_by("-card__race__started_at", "number")[:RACERS],
        "lost",
        "score",
        "problem",
        key=F("card__key"),
        state=F("card__state"),
        race=F("card__race_id"),
        decided_at=F("card__race__decided_at"),
        choose=F("card__race__choose"),
        winner=F("card__race__winner__key"),
        declared_by=F("card__race__started_by"),
        worker=Subquery(newest.values("worker")[:1]),
        declared=("approach", (600, 200)),
        approach=(Subquery(newest.exclude(approach="").values("approach")[:1]), (600, 200)),
        lesson=(Subquery(newest.exclude(lesson="").values("lesson")[:1]), (1200, 400)),
        summary=(Subquery(saved.order_by("-number").values("summary")[:1]), (1200, 400)),
    )


# ── how rows are read ────────────────────────────────────────────────────────────────────


class _Count(Subquery):
    """How many rows there are, counted up to MANY."""

    template = "(SELECT COUNT(*) FROM (%(subquery)s) AS counted)"

    def __init__(self, rows: QuerySet[Any]) -> None:
        super().__init__(rows.order_by().values("pk")[:MANY], output_field=IntegerField())


class _Ends(Func):
    """A text if it is short, else its beginning, its length and its end in one.

    The longer of the two is told by its size: more than beginning and end together.
    """

    def __init__(self, text: Any, head: int, tail: int) -> None:
        super().__init__(text, output_field=TextField())
        self.head, self.tail = head, tail

    def as_sql(  # type: ignore[override]
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any
    ) -> tuple[str, tuple[Any, ...]]:
        text, params = compiler.compile(self.get_source_expressions()[0])
        head, tail = self.head, self.tail
        end = f"RIGHT({text}, {tail})"
        if connection.vendor != "postgresql":
            end = f"SUBSTR({text}, -{tail})"
        sql = (
            f"CASE WHEN LENGTH({text}) <= {head + tail} THEN {text}"
            f" ELSE SUBSTR({text}, 1, {head}) || CAST(LENGTH({text}) AS TEXT) || {end} END"
        )
        return sql, (*params,) * 5

    def excerpt(self, value: str | None) -> Excerpt:
        """Return what ``value``, as it was read, stands for."""
        if not value or len(value) <= self.head + self.tail:
            return Excerpt(value or "")
        head, tail = value[: self.head], value[len(value) - self.tail :]
        length = int(value[self.head : len(value) - self.tail])
        return Excerpt(head, tail, length - self.head - self.tail)


def _rows(rows: QuerySet[Any], *plain: str, **more: Any) -> list[Row]:
    """Return the rows with these fields and, as excerpts, these texts.

    A text is given as ``name=(beginning, end)``, with the field or expression before these
    where it goes by another name; anything else is an expression to be read as it is.
    """
    texts: dict[str, _Ends] = {}
    for name, wanted in more.items():
        if isinstance(wanted, tuple):
            source, ends = wanted if isinstance(wanted[1], tuple) else (name, wanted)
            texts[name] = _Ends(F(source) if isinstance(source, str) else source, *ends)
    # Prefixed, because an annotation may not have the name of a field.
    asked = {f"x_{name}": texts.get(name, wanted) for name, wanted in more.items()}
    found = []
    for read in rows.values(*plain, **asked):
        row = {key.removeprefix("x_"): value for key, value in read.items()}
        for name, ends in texts.items():
            row[name] = ends.excerpt(row[name])
        found.append(row)
    return found
