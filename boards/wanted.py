"""Which cards of a board somebody wants to see, and in which order, as an address says it."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar
from urllib.parse import urlencode
from uuid import UUID

from django.db.models import (
    BigIntegerField,
    BooleanField,
    Case,
    CharField,
    DateTimeField,
    DecimalField,
    Exists,
    F,
    Func,
    IntegerField,
    OuterRef,
    Q,
    Subquery,
    Value,
    When,
)
from django.db.models.functions import Cast, Coalesce, Round
from django.utils import timezone

from boards.models import Attempt, Card, CardQuerySet
from goals.models import Goal

State = Card.State
#: What is longer in an address is cut off.
MAX_TEXT = 200
MAX_WORDS = 12
PRIORITIES = ("urgent", "high", "medium", "low", "none")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Where cards without a due date stand; a browser's numbers still tell it from its neighbours.
_NEVER = datetime(2200, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_WORD = re.compile(r'(?:(\w+):)?(?:"([^"]*)"?|(\S+))')


@dataclass(frozen=True, slots=True)
class Pulse:
    """What the live attempts tell of their cards, read once for a page."""

    silent: frozenset[UUID] = frozenset()
    #: Running for more than an hour.
    long: frozenset[UUID] = frozenset()


class _Label(Func):
    """True where one of a list of labels is LIKE the pattern; letters match in either case."""

    output_field = BooleanField()
    conditional = True

    def as_sql(self, compiler: Any, connection: Any, *_: Any, **context: Any) -> Any:
        labels, pattern = (compiler.compile(e) for e in self.source_expressions)
        sql = (
            f"EXISTS (SELECT 1 FROM jsonb_array_elements_text({labels[0]}) AS one(label)"  # noqa: S608
            f" WHERE UPPER(one.label) LIKE UPPER({pattern[0]}))"
        )
        return sql, (*labels[1], *pattern[1])

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        labels, pattern = (compiler.compile(e) for e in self.source_expressions)
        sql = (
            f"EXISTS (SELECT 1 FROM json_each({labels[0]})"  # noqa: S608
            f" WHERE value LIKE {pattern[0]} ESCAPE '\\')"
        )
        return sql, (*labels[1], *pattern[1])


def labelled(label: str, *, within: bool = False) -> Q:
    """Return the condition that a card has this label, or one that has this within it."""
    pattern = re.sub(r"([\\%_])", r"\\\1", label)
    pattern = f"%{pattern}%" if within else pattern
    return Q(_Label(F("labels"), Value(pattern, output_field=CharField())))


def newest_attempt() -> Any:
    """Return the newest attempt at the card of the query around it."""
    return Attempt.objects.filter(card=OuterRef("pk"), number=OuterRef("fence"))


def holder() -> Subquery:
    """Return, in SQL, who has or last had a card."""
    return Subquery(newest_attempt().values("worker")[:1], output_field=CharField())


def running_first() -> Case:
    """Return, in SQL, 0 for running cards and 1 for the others of their column."""
    return Case(
        When(state=State.RUNNING, then=Value(0)), default=Value(1), output_field=IntegerField()
    )


def _failing() -> Q:
    there = ~Q(state__in=(State.COMPLETED, State.CANCELLED, State.BACKLOG)) & Q(fence__gt=0)
    return there & Q(Exists(newest_attempt().filter(tests_failed__gt=0)))


#: What ``show`` may name: attention first, then plain states.
SHOWS: Mapping[str, Callable[[Pulse], Q]] = {
    "needs": lambda pulse: Q(state=State.BLOCKED),
    "stalled": lambda pulse: Q(pk__in=pulse.silent),
    "running": lambda pulse: Q(state=State.RUNNING),
    "review": lambda pulse: Q(state=State.REVIEW),
    "failing": lambda pulse: _failing(),
    "trouble": lambda pulse: Q(pk__in=pulse.silent) | _failing(),
    "long": lambda pulse: Q(pk__in=pulse.long),
    "waiting": lambda pulse: Q(state=State.WAITING),
    "paused": lambda pulse: Q(paused=True),
    "dependent": lambda pulse: Q(unmet_dependencies__gt=0),
    "backlog": lambda pulse: Q(state=State.BACKLOG),
    "completed": lambda pulse: Q(state=State.COMPLETED),
    "cancelled": lambda pulse: Q(state=State.CANCELLED),
}
DUES = ("overdue", "week", "none")


def _due(due: str) -> Q:
    now = timezone.now()
    over = Q(state__in=(State.COMPLETED, State.CANCELLED))
    if due == "overdue":
        return Q(due_at__lt=now) & ~over
    if due == "week":
        return Q(due_at__lt=now + timedelta(days=7)) & ~over
    return Q(due_at=None)


@dataclass(frozen=True, slots=True)
class Key:
    """One element of the order of cards: in SQL, and as the number that scripts compare.

    ``down`` turns it around; the number is then the negative one, so that smaller comes first.
    """

    name: str
    expression: Any = None
    down: bool = False
    number: Callable[[Any], int] = int
    value: Callable[[int], Any] = int

    def of(self, card: Any) -> int:
        found = card
        for part in self.name.split("__"):
            found = getattr(found, part)
        return -self.number(found) if self.down else self.number(found)

    def beyond(self, number: int) -> Q:
        value = self.value(-number if self.down else number)
        return Q(**{f"{self.name}__{'lt' if self.down else 'gt'}": value})

    def at(self, number: int) -> Q:
        return Q(**{self.name: self.value(-number if self.down else number)})


def _micros(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND


def _instant(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)


def _of_time(name: str, expression: Any = None, down: bool = False) -> Key:
    return Key(name, expression, down, _micros, _instant)


def _cost() -> Any:
    """Return the cost of the newest attempt in millionths, a number that both stores compare."""
    money = DecimalField(max_digits=20, decimal_places=6)
    cost = Subquery(newest_attempt().values("cost_usd")[:1], output_field=money)
    whole = Round(Coalesce(cost, Value(Decimal(0)), output_field=money) * Value(1_000_000))
    return Cast(whole, BigIntegerField())


#: What cards are sorted by; with a minus before it the other way round.
SORTS: Mapping[str, Callable[[], Key]] = {
    "priority": lambda: Key("priority"),
    "newest": lambda: Key("number", down=True),
    "updated": lambda: _of_time("updated_at", down=True),
    "due": lambda: _of_time("due", Coalesce("due_at", Value(_NEVER, DateTimeField()))),
    "age": lambda: _of_time("state_since"),
    "cost": lambda: Key("millionths", _cost(), down=True),
}
LANES = ("goal", "worker", "priority")
#: The lane of cards without a goal or a worker.
NO_LANE = "none"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which cards of the board somebody wants to see, and how; the default is all, as ranked."""

    q: str = ""
    show: str = ""
    goal: UUID | None = None
    label: str = ""
    worker: str = ""
    prio: tuple[int, ...] = ()
    due: str = ""
    archived: bool = False
    sort: str = ""
    lanes: str = ""
    listed: bool = False

    NARROWING: ClassVar = ("q", "show", "goal", "label", "worker", "prio", "due")

    def __bool__(self) -> bool:
        """True if some cards are left out."""
        return any(getattr(self, name) for name in self.NARROWING)

    @property
    def query(self) -> str:
        """The whole of it as it stands in an address."""
        return urlencode(self._fields(), safe=":,")

    @property
    def arranged(self) -> bool:
        """True if there is something worth keeping under a name."""
        return bool(self or self.sort or self.lanes)

    def but(self, **changes: Any) -> str:
        """Return the address of the same with ``changes``, for a link."""
        return "?" + replace(self, **changes).query

    def _fields(self) -> dict[str, str]:
        fields = {
            "q": self.q,
            "show": self.show,
            "goal": str(self.goal or ""),
            "label": self.label,
            "worker": self.worker,
            "prio": ",".join(map(str, self.prio)),
            "due": self.due,
            "archived": "1" if self.archived else "",
            "sort": self.sort,
            "lanes": self.lanes,
            "as": "list" if self.listed else "",
        }
        return {name: value for name, value in fields.items() if value}

    def condition(self, pulse: Pulse) -> Q:
        """Return the filter as a condition on cards."""
        found = Q()
        for name, value in _tokens(self.q):
            found &= _token(name, value, pulse)
        if self.show:
            found &= SHOWS[self.show](pulse)
        if self.goal:
            found &= Q(goal_id=self.goal)
        if self.label:
            found &= labelled(self.label)
        if self.worker:
            found &= _held_by(self.worker)
        if self.prio:
            found &= Q(priority__in=self.prio)
        if self.due:
            found &= _due(self.due)
        return found

    def order(self) -> list[Key]:
        """Return what cards are sorted by; the last element tells any two of them apart."""
        name = self.sort.removeprefix("-")
        running = Key("grp", running_first())
        if not name:
            column = [Key("column__position")] if self.listed else []
            return [*column, running, Key("rank")]
        key = SORTS[name]()
        key = replace(key, down=not key.down) if self.sort.startswith("-") else key
        number = Key("number", down=key.name == "number" and key.down)
        first = [] if self.listed else [running]
        return [*first, key, number] if key.name != "number" else [*first, number]


def asked(parameters: Mapping[str, str]) -> Wanted:
    """Return what an address asks for; what makes no sense in it is left out."""

    def text(name: str) -> str:
        return str(parameters.get(name, ""))[:MAX_TEXT].replace("\x00", "").strip()

    def one_of(name: str, values: Collection[str]) -> str:
        return value if (value := text(name)) in values else ""

    sort = text("sort")
    return Wanted(
        q=text("q"),
        show=one_of("show", SHOWS),
        goal=_uuid(text("goal")),
        label=text("label"),
        worker=text("worker"),
        prio=_priorities(text("prio")),
        due=one_of("due", DUES),
        archived=text("archived") == "1",
        sort=sort if sort.removeprefix("-") in SORTS else "",
        lanes=one_of("lanes", LANES),
        listed=text("as") == "list",
    )


def ordered(cards: CardQuerySet, wanted: Wanted) -> CardQuerySet:
    """Return the cards in their order, each with what ``place_of`` reads."""
    keys = wanted.order()
    made: Any = cards.annotate(**{k.name: k.expression for k in keys if k.expression is not None})
    made = made.order_by(*(F(k.name).desc() if k.down else F(k.name).asc() for k in keys))
    found: CardQuerySet = made
    return found


def place_of(card: Card, wanted: Wanted) -> list[int]:
    """Return where an ``ordered`` card stands: smaller places come first, element by element."""
    return [key.of(card) for key in wanted.order()]


def below(cards: CardQuerySet, wanted: Wanted, place: list[int]) -> CardQuerySet:
    """Return those of the ``ordered`` cards that come after a place. ValueError if it is none."""
    keys = wanted.order()
    found, same = Q(), Q()
    try:
        for key, number in zip(keys, place, strict=True):
            found |= same & key.beyond(number)
            same &= key.at(number)
    except OverflowError:
        raise ValueError("no such place") from None
    return cards.filter(found)


def _tokens(q: str) -> list[tuple[str, str]]:
    found = []
    for name, quoted, plain in _WORD.findall(q)[:MAX_WORDS]:
        value, name = (quoted or plain).strip(), name.lower()
        if not value:
            continue
        if name in ("label", "goal", "worker", "prio", "is", "due"):
            found.append((name, value))
        else:
            found.append(("", f"{name}:{value}" if name else value))
    return found


def _token(name: str, value: str, pulse: Pulse) -> Q:
    if name == "label":
        return labelled(value)
    if name == "worker":
        return _held_by(value)
    if name == "goal":
        pk = _uuid(value)
        goals = Goal.objects.filter(title__icontains=value).values("pk")
        return Q(goal_id=pk) if pk else Q(goal__in=goals)
    if name == "prio":
        levels = _priorities(value)
        return Q(priority__in=levels) if levels else Q()
    if name == "is":
        return SHOWS[value.lower()](pulse) if value.lower() in SHOWS else Q()
    if name == "due":
        return _due(value.lower()) if value.lower() in DUES else Q()
    return (
        Q(title__icontains=value)
        | Q(key__iexact=value)
        | Q(description__icontains=value)
        | labelled(value, within=True)
    )


def _held_by(worker: str) -> Q:
    return Q(fence__gt=0) & Q(Exists(newest_attempt().filter(worker__iexact=worker)))


def _priorities(text: str) -> tuple[int, ...]:
    named = (PRIORITIES.index(w) if w in PRIORITIES else w for w in text.lower().split(","))
    return tuple(sorted({int(w) for w in named if str(w) in ("0", "1", "2", "3", "4")}))


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text) if len(text) in (32, 36) else None
    except ValueError:
        return None
