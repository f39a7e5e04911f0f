"""What applying a plan would do to the cards that there are, and which criteria nobody covers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from boards.models import Card, Dependency
from boards.planning import drafts
from boards.planning.drafts import Item
from boards.planning.models import Plan
from goals import criteria, rewording

State = Card.State
OVER = (State.COMPLETED, State.CANCELLED)
#: What an item says of a card; what it leaves empty stays.
FIELDS = (
    "title",
    "description",
    "covers",
    "estimate",
    "labels",
    "priority",
    "workflow",
    "requires",
)


@dataclass(slots=True)
class Entry:
    """One item beside its card: ``new``, ``changed``, ``kept``, or ``dropped`` from the plan."""

    item: Item
    did: str
    card: Card | None = None
    #: By field: what it is and what it becomes.
    changes: dict[str, tuple[Any, Any]] = field(default_factory=dict)

    @property
    def is_running(self) -> bool:
        return self.card is not None and self.card.state == State.RUNNING


@dataclass(slots=True)
class Comparison:
    """A plan beside the cards of its goal."""

    entries: list[Entry]
    #: Cards that an earlier plan made and this one doesn't name, not over yet.
    gone: list[Card]
    #: ``{"number", "text", "met", "by", "earlier"}`` for each criterion of the goal: what covers
    #: it, and what was for an earlier text of it.
    coverage: list[dict[str, Any]]

    def in_words(self) -> list[str]:
        """Return what nobody covers, a sentence each."""
        return [
            f"No card covers criterion {c['number']}."
            + (f" For an earlier text of it: {', '.join(c['earlier'])}." if c["earlier"] else "")
            for c in self.coverage
            if not c["by"]
        ]

    @property
    def uncovered(self) -> list[int]:
        return [c["number"] for c in self.coverage if not c["by"]]


def compared(plan: Plan, items: Sequence[Item] | None = None) -> Comparison:
    """Return what the plan would change, in a fixed number of statements."""
    items = plan.items if items is None else items
    cards = drafts.matches(plan.goal, items)
    keys = {ref: card.key for ref, card in cards.items()}
    planned = set(keys.values())
    needs: dict[Any, list[str]] = {}
    rows = Dependency.objects.filter(card__in=[card.pk for card in cards.values()])
    for pk, key in rows.values_list("card_id", "depends_on__key").order_by("depends_on__number"):
        needs.setdefault(pk, []).append(key)
    entries = []
    for item in items:
        card = cards.get(item["ref"])
        if item["dropped"]:
            entries.append(Entry(item, "dropped", card))
        elif card is None:
            entries.append(Entry(item, "new"))
        else:
            changes = {} if card.state in OVER else _changes(item, card)
            was = needs.get(card.pk, [])
            # What waits for cards outside of the plan goes on doing so.
            kept = [key for key in was if key not in planned]
            becomes = [*kept, *(keys.get(d, d) for d in item["depends_on"])]
            if card.state not in OVER and set(was) != set(becomes):
                changes["depends_on"] = (was, list(dict.fromkeys(becomes)))
            entries.append(Entry(item, "changed" if changes else "kept", card, changes))
    there = {card.pk for ref, card in cards.items()}
    dropped = {e.card.pk for e in entries if e.did == "dropped" and e.card}
    others = Card.objects.filter(goal=plan.goal).exclude(state__in=OVER).exclude(planned_as="")
    gone = [
        card for card in others.order_by("number") if card.pk not in there or card.pk in dropped
    ]
    return Comparison(entries, gone, _coverage(plan, entries, {card.pk for card in gone}))


def _changes(item: Item, card: Card) -> dict[str, tuple[Any, Any]]:
    return {
        name: (getattr(card, name), item[name])
        for name in FIELDS
        if item[name] not in (None, "", []) and item[name] != getattr(card, name)
    }


def _coverage(plan: Plan, entries: Sequence[Entry], gone: set[Any]) -> list[dict[str, Any]]:
    """Return each criterion with what covers it: items by ref, other cards of the goal by key."""
    by: dict[int, list[str]] = {}
    told = set(gone)
    for entry in entries:
        if entry.did == "dropped":
            continue
        covers = entry.item["covers"] or (entry.card.covers if entry.card else [])
        if entry.card is not None:
            told.add(entry.card.pk)
        for number in covers:
            by.setdefault(number, []).append(entry.item["ref"])
    rest = Card.objects.filter(goal=plan.goal).exclude(state=State.CANCELLED).exclude(covers=[])
    for pk, key, covers in rest.values_list("pk", "key", "covers"):
        for number in covers if pk not in told else []:
            by.setdefault(number, []).append(key)
    earlier: dict[int, list[str]] = {}
    for number, stands in rewording.now(rewording.rows(plan.goal.criteria.all())).items():
        if number != stands:
            earlier.setdefault(stands, []).extend(by.get(number, []))
    return [
        {
            "number": c.number,
            "text": c.text,
            "met": c.met,
            "by": by.get(c.number, []),
            "earlier": list(dict.fromkeys(earlier.get(c.number, []))),
        }
        for c in criteria.standing(plan.goal_id)
    ]
