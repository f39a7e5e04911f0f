"""What a card, a goal or a board may use up, and what happens when it has.

    within ── a bound is reached ──> over: no further step is begun, no card of it is claimed
       ^                              │
       └──── the bound is raised ─────┘

A budget is a JSON object such as ``{"cost_usd": "5", "attempts": 4}``. Attempts count what they
use on their own row, in the statement that fences each write; one that ends adds itself to the
``Spending`` of its card, goal and board. So a sum is a row and the live attempts, however long
the history, and a step of a card without budgets pays for none of it.

What decides is the sum, read by whoever begins a step or claims a card. ``over`` on the owner is
its sign for people and for claims, which pass such owners over without adding up anything; it is
put up and taken down by ``look``, after whatever may have changed it and now and then.

A step under way may always say how it ended: what it used is used. So workers at one goal can
pass its bound together, each by the step it is in.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import F, Q
from django.utils import timezone

from boards.models import Attempt, Board, Card, Spending
from events import log
from goals.models import Goal
from kernel.errors import BudgetExceeded
from kernel.tx import postponed, transition

#: What may be bounded, by the names that people give it.
NAMES = {
    "cost_usd": "cost_usd",
    "usd": "cost_usd",
    "tokens": "tokens",
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "minutes": "minutes",
    "attempts": "attempts",
    "follow_ups": "follow_ups",
    "cards": "follow_ups",
}
UNITS = {
    "cost_usd": "USD",
    "tokens": "tokens",
    "input_tokens": "input tokens",
    "output_tokens": "output tokens",
    "minutes": "minutes",
    "attempts": "attempts",
    "follow_ups": "follow-up cards",
}
#: Sums that a running attempt adds to with its steps; the others bound something else.
OF_STEPS = ("cost_usd", "tokens", "input_tokens", "output_tokens", "minutes")
_OWNERS: dict[str, Any] = {"card": Card, "goal": Goal, "board": Board}


def limits_of(budgets: Any) -> dict[str, Decimal]:
    """Return the bounds that can be held against a sum; what is no number is left out."""
    found = {}
    for name, value in (budgets if isinstance(budgets, dict) else {}).items():
        kind = NAMES.get(str(name))
        if kind is None or isinstance(value, bool):
            continue
        try:
            limit = Decimal(str(value))
        except InvalidOperation:
            continue
        if limit.is_finite() and limit >= 0:
            found[kind] = limit
    return found


@dataclass(frozen=True, slots=True)
class Standing:
    """How a card, goal or board stands against its budget."""

    kind: str
    owner_id: UUID
    name: str
    limits: dict[str, Decimal]
    used: dict[str, Decimal]
    over: str

    def reached(self, names: Iterable[str]) -> str | None:
        """Return the first of these bounds that is used up, or None.

        A bound of 0 forbids what costs something, not what is free.
        """
        for name in names:
            limit = self.limits.get(name)
            if limit is None or self.used[name] < limit:
                continue
            if self.used[name] or name == "attempts":
                return name
        return None

    def words(self, name: str) -> str:
        """Return in one sentence how far a bound is used up."""
        used, limit = _amount(self.used[name]), _amount(self.limits[name])
        return f"{self.name[:200]} has used {used} of {limit} {UNITS[name]}."

    @property
    def why(self) -> str:
        """Why no further attempt may begin, in one sentence; empty if one may."""
        name = self.reached((*OF_STEPS, "attempts"))
        return self.words(name) if name else ""

    def refusal(self, name: str, advice: str) -> BudgetExceeded:
        """Return the error for a bound that is used up."""
        return BudgetExceeded(
            f"{self.words(name)} {advice}",
            extra={
                "budget": {
                    "of": self.kind,
                    "id": str(self.owner_id),
                    "name": name,
                    "used": f"{self.used[name]:f}",
                    "limit": f"{self.limits[name]:f}",
                }
            },
        )


# One statement: the owners that have budgets, what their ended attempts used, and their live ones.
_STANDING = """
WITH owner AS (
    SELECT 'card' AS kind, c.id, c.key AS name, c.budgets, c.over, c.board_id, 1 AS n
    FROM boards_card c WHERE c.id = %(card)s
    UNION ALL
    SELECT 'goal', g.id, g.title, g.budgets, g.over, g.board_id, 2
    FROM goals_goal g
    WHERE g.id = COALESCE(%(goal)s, (SELECT goal_id FROM boards_card WHERE id = %(card)s))
        AND g.status = 'active'
    UNION ALL
    SELECT 'board', b.id, b.name, b.budgets, b.over, b.id, 3
    FROM boards_board b
    WHERE b.id = COALESCE(%(board)s, (SELECT board_id FROM boards_card WHERE id = %(card)s))
)
SELECT o.kind, o.id, o.name, o.budgets, o.over,
    COALESCE(MAX(s.cost_usd), 0) + COALESCE(SUM(a.cost_usd), 0),
    COALESCE(MAX(s.input_tokens), 0) + COALESCE(SUM(a.input_tokens), 0),
    COALESCE(MAX(s.output_tokens), 0) + COALESCE(SUM(a.output_tokens), 0),
    COALESCE(MAX(s.seconds), 0) + COALESCE(SUM({lasted}), 0),
    COALESCE(MAX(s.attempts), 0) + COUNT(a.id),
    COALESCE(MAX(s.follow_ups), 0) + COALESCE(SUM(a.follow_ups), 0)
FROM owner o
LEFT JOIN boards_spending s ON s.owner_id = o.id
LEFT JOIN (
    SELECT live.*, c.goal_id FROM boards_attempt live
    JOIN boards_card c ON c.id = live.card_id
    WHERE live.status = 'running'
) a ON a.board_id = o.board_id
    AND (CASE o.kind WHEN 'card' THEN a.card_id WHEN 'goal' THEN a.goal_id ELSE a.board_id END)
        = o.id
WHERE o.over <> '' OR o.budgets <> {nothing}
GROUP BY o.kind, o.id, o.name, o.budgets, o.over, o.n
ORDER BY o.n
"""
_LASTED = {
    "postgresql": "EXTRACT(EPOCH FROM %(now)s - a.started_at)::double precision",
    "sqlite": "(julianday(%(now)s) - julianday(a.started_at)) * 86400.0",
}
_NOTHING = {"postgresql": "'{}'::jsonb", "sqlite": "'{}'"}
_CAST = {"postgresql": "::uuid", "sqlite": ""}


def standing(
    *, card: UUID | None = None, goal: UUID | None = None, board: UUID | None = None
) -> list[Standing]:
    """Return how the card, its goal and its board stand, or the one goal or board that is given.

    Only those with a budget, or with a sign that they are over one. One statement, whose cost
    grows with the live attempts of the board alone.
    """
    vendor = _vendor()
    params: dict[str, Any] = {"now": connection.ops.adapt_datetimefield_value(timezone.now())}
    sql = _STANDING.format(lasted=_LASTED[vendor], nothing=_NOTHING[vendor])
    if vendor == "postgresql":
        sql = sql.replace("%(now)s", "%(now)s::timestamptz")
    for name, value in (("card", card), ("goal", goal), ("board", board)):
        sql = sql.replace(f"%({name})s", f"%({name})s{_CAST[vendor]}")
        params[name] = value if value is None or vendor == "postgresql" else value.hex
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        found = [_standing(row) for row in cursor.fetchall()]
    for later in postponed():
        if isinstance(later, TakeBack):
            later.leave_out(found)
    return found


def _standing(row: Any) -> Standing:
    kind, pk, name, budgets, over, cost, read, written, seconds, attempts, follow_ups = row
    read, written = Decimal(read), Decimal(written)
    return Standing(
        kind,
        pk if isinstance(pk, UUID) else UUID(pk),
        name,
        limits_of(json.loads(budgets) if isinstance(budgets, str) else budgets),
        {
            # SQLite adds money up in binary; six digits are what is kept of it.
            "cost_usd": round(Decimal(str(cost)), 6),
            "input_tokens": read,
            "output_tokens": written,
            "tokens": read + written,
            "minutes": Decimal(str(seconds)) / 60,
            "attempts": Decimal(attempts),
            "follow_ups": Decimal(follow_ups),
        },
        over,
    )


def _vendor() -> str:
    return "postgresql" if connection.vendor == "postgresql" else "sqlite"


# ── what is refused ──────────────────────────────────────────────────────────────────────


def check_step(card_id: UUID, spending: Mapping[str, Any] | None = None) -> None:
    """Pass if another step of the card may be begun. Raises BudgetExceeded.

    ``spending`` is what the step itself has used, counted already where it is told at once with
    its beginning: its own use is no reason to refuse it. If it was the last, that is signed.
    """
    own = {name: Decimal(value) for name, value in (spending or {}).items()}
    own["tokens"] = own.get("input_tokens", Decimal(0)) + own.get("output_tokens", Decimal(0))
    for found in standing(card=card_id):
        if found.reached(OF_STEPS):
            look_later(card=card_id)
        for name, value in own.items():
            found.used[name] -= value
        reached = found.reached(OF_STEPS)
        if reached is not None:
            raise found.refusal(
                reached, "Hand the card over; it can go on when somebody raises the budget."
            )


def check_follow_up(card_id: UUID) -> None:
    """Pass if the follow-up card that the attempt has just counted is allowed."""
    for found in standing(card=card_id):
        limit = found.limits.get("follow_ups")
        if limit is not None and found.used["follow_ups"] > limit:
            raise found.refusal("follow_ups", "Finish, or ask a person for more.")


def stops(card_id: UUID) -> bool:
    """True if a worker of the card should hand it over."""
    return any(found.reached(OF_STEPS) for found in standing(card=card_id))


def used_up(card_id: UUID) -> Standing | None:
    """Return which budget forbids a further attempt at the card, or None."""
    for found in standing(card=card_id):
        if found.why:
            return found
    return None


# ── adding up ────────────────────────────────────────────────────────────────────────────

# Cards' rows first, then goals', then the board's: in one order for everybody.
_CHARGE = """
INSERT INTO boards_spending AS s (owner_id, board_id, {sums})
SELECT CASE o.n WHEN 1 THEN a.card_id WHEN 2 THEN c.goal_id ELSE a.board_id END AS owner,
    a.board_id, SUM(a.cost_usd), SUM(a.input_tokens), SUM(a.output_tokens), SUM({lasted}),
    COUNT(*), SUM(a.follow_ups)
FROM boards_attempt a
JOIN boards_card c ON c.id = a.card_id
CROSS JOIN (SELECT 1 AS n UNION ALL SELECT 2 UNION ALL SELECT 3) o
WHERE {which} AND (o.n <> 2 OR c.goal_id IS NOT NULL)
GROUP BY owner, a.board_id, o.n
ORDER BY o.n, owner
ON CONFLICT (owner_id) DO UPDATE SET {added}
"""
_SUMS = ("cost_usd", "input_tokens", "output_tokens", "seconds", "attempts", "follow_ups")
_TOOK = {
    "postgresql": "GREATEST(EXTRACT(EPOCH FROM a.finished_at - a.started_at), 0)",
    "sqlite": "MAX((julianday(a.finished_at) - julianday(a.started_at)) * 86400.0, 0)",
}


def charge(*attempts: Attempt | None) -> None:
    """Add what attempts that have just ended used to the sums of their cards, goals and board.

    After the column and before the event counter, in the order of locks. None adds nothing.
    """
    ended = [attempt for attempt in attempts if attempt is not None]
    if ended:
        _sum_up(ended)


@dataclass(frozen=True, slots=True)
class TakeBack:
    """Takes an ended attempt that goes on out of the sums again; while it lives it is added.

    Postponed, since the sums are locked after what the call that brought it back still locks;
    until then ``leave_out`` keeps it from counting twice.
    """

    owners: tuple[UUID, ...]
    used: Mapping[str, Any]

    @classmethod
    def of(cls, card: Card, attempt: Attempt) -> TakeBack:
        """Return it for an attempt that is still as it was when it was added to the sums."""
        took = attempt.finished_at - attempt.started_at if attempt.finished_at else timedelta()
        used = {
            "cost_usd": attempt.cost_usd,
            "input_tokens": attempt.input_tokens,
            "output_tokens": attempt.output_tokens,
            "seconds": max(took.total_seconds(), 0.0),
            "attempts": 1,
            "follow_ups": attempt.follow_ups,
        }
        return cls(tuple(pk for pk in (card.pk, card.goal_id, card.board_id) if pk), used)

    def __call__(self) -> None:
        for owner in self.owners:  # in the order in which everybody locks them
            Spending.objects.filter(owner_id=owner).update(
                **{name: F(name) - value for name, value in self.used.items()}
            )
        look_later(card=self.owners[0])

    def leave_out(self, standings: Iterable[Standing]) -> None:
        for found in standings:
            if found.owner_id not in self.owners:
                continue
            for name in ("cost_usd", "input_tokens", "output_tokens", "attempts", "follow_ups"):
                found.used[name] -= self.used[name]
            found.used["tokens"] -= self.used["input_tokens"] + self.used["output_tokens"]
            found.used["minutes"] -= Decimal(str(self.used["seconds"])) / 60


def _sum_up(ended: Sequence[Attempt]) -> None:
    with connection.cursor() as cursor:
        on_postgresql = _vendor() == "postgresql"
        ids = [a.pk if on_postgresql else a.pk.hex for a in ended]
        cursor.execute(charging(f"a.id IN ({', '.join(['%s'] * len(ids))})"), ids)
    for attempt in ended:
        look_later(card=attempt.card_id)


def charging(which: str) -> str:
    """Return the statement that adds up the ended attempts, ``a``, that ``which`` narrows to."""
    return _CHARGE.format(
        sums=", ".join(_SUMS),
        lasted=_TOOK[_vendor()],
        which=which,
        added=", ".join(f"{name} = s.{name} + excluded.{name}" for name in _SUMS),
    )


# ── the sign for people and claims ───────────────────────────────────────────────────────


def look_later(**of: UUID) -> None:
    """Have ``look`` do its work when this transaction has committed."""
    transaction.on_commit(partial(look, **of), robust=True)


def look(**of: UUID) -> int:
    """Put up or take down the sign that a card, goal or board is over a budget; say how often.

    Takes what ``standing`` takes. A bound on attempts is reached when another one is wanted.
    """
    changed = 0
    for found in standing(**of):
        name = found.reached(OF_STEPS)
        if name is None and found.reached(("attempts",)):
            name = "attempts" if found.over or _waits(of.get("card")) else None
        over = found.words(name) if name else ""
        if bool(over) != bool(found.over):
            changed += _sign(found, name, over)
    return changed


def _waits(card_id: UUID | None) -> bool:
    if card_id is None:
        return False
    return Card.objects.filter(pk=card_id, state=Card.State.WAITING).exists()


def _sign(found: Standing, name: str | None, over: str) -> int:
    """Write the sign and say so in the log, unless somebody else just did."""
    model = _OWNERS[found.kind]
    with transition():
        changes: dict[str, Any] = {"over": over, "version": F("version") + 1}
        if found.kind != "board":
            changes["updated_at"] = timezone.now()
        changed = model.objects.filter(pk=found.owner_id, over=found.over).update(**changes)
        if changed:
            _note(model.objects.get(pk=found.owner_id), found, name)
    return int(changed)


def _note(owner: Any, found: Standing, name: str | None) -> None:
    from_card: dict[str, Any] = {}
    if isinstance(owner, Card):
        from_card = {
            "card": owner.key,
            "column": str(owner.column_id),
            "state": owner.state,
            "rank": owner.rank,
        }
    log.record(
        "budget.exhausted" if name else "budget.restored",
        board_id=owner.pk if isinstance(owner, Board) else owner.board_id,
        subject_id=owner.pk,
        actor="system:budget",
        of=found.kind,
        said=found.words(name) if name else f"{found.name[:200]} is within its budget again.",
        version=owner.version,
        **from_card,
    )


def tick() -> int:
    """Look at whatever may have passed a bound without anybody saying so. Safe to run anywhere."""
    held = Card.objects.filter(attempts__status=Attempt.Status.RUNNING, over="")
    changed = sum(look(card=card.pk) for card in with_budget(held.only("pk")))
    for kind, model in _OWNERS.items():
        over = model.objects.exclude(over="").values_list("pk", flat=True)
        changed += sum(look(**{kind: pk}) for pk in over)
    return changed


def with_budget(cards: Collection[Card]) -> list[Card]:
    """Return those of the cards that a budget bounds: their own, their goal's or their board's."""
    ids = [card.pk for card in cards]
    of_goal = Q(goal__isnull=False) & ~Q(goal__budgets={})
    bounded = Card.objects.filter(~Q(budgets={}) | of_goal | ~Q(board__budgets={}), pk__in=ids)
    found = set(bounded.values_list("pk", flat=True)) if ids else ()
    return [card for card in cards if card.pk in found]


def _amount(value: Decimal) -> str:
    return f"{value.quantize(Decimal('0.01')):f}".rstrip("0").rstrip(".")
