"""What a plan may hold: items with references, criteria they cover, and no circle.

An item is ``{"ref", "title", "description", "covers", "depends_on", "estimate", "labels",
"priority", "workflow", "requires", "inputs", "card", "dropped"}``. ``ref`` names it within its
plan and, on the card that is made of it, for the plans to come; ``depends_on`` holds refs and keys
of cards. Of a card that there is, what an item leaves empty stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from boards import cards, importing
from boards.models import Card, Dependency
from goals import rewording
from goals.models import Goal
from kernel.errors import Invalid

MAX_ITEMS = 200
MAX_REF = 80
MAX_ESTIMATE = 1000
MAX_LABELS, LABEL = 50, 100

_KEY = re.compile(r"[A-Z][A-Z0-9]{1,9}-[1-9][0-9]{0,8}")
_TOLD = re.compile(
    r"^[ \t]*(?:[-*][ \t]+)?\**(covers|criteria|estimate|labels|after)\**[ \t]*:\**[ \t]*(.*)$",
    re.I,
)

Item = dict[str, Any]


def checked(goal: Goal, items: Sequence[Mapping[str, Any]]) -> list[Item]:
    """Return the items as they are kept. Raises Invalid naming ``items[n].field``, and the circle
    where dependencies go in one."""
    if len(items) > MAX_ITEMS:
        raise Invalid.field("items", f"has {len(items)} entries; a plan holds {MAX_ITEMS}.")
    criteria = rewording.rows(goal.criteria.all())
    standing = {number for number, _replaces, retired_at in criteria if retired_at is None}
    found: list[Item] = []
    refs: dict[str, int] = {}
    for n, given in enumerate(items):
        item = _plain(given)
        if not item["title"]:
            raise Invalid.field(f"items[{n}].title", "is needed.")
        item["ref"] = item["ref"] or _free(slug(item["title"]), refs)
        if item["ref"] in refs:
            raise Invalid.field(f"items[{n}].ref", f"{item['ref']} names another item, too.")
        refs[item["ref"]] = n
        if strange := [c for c in item["covers"] if c not in standing]:
            known = ", ".join(map(str, sorted(standing))) or "none"
            why = f"the goal has no criterion {strange[0]}; it has {known}."
            if now := rewording.now(criteria).get(strange[0]):
                why = (
                    f"criterion {strange[0]} was reworded and is {now} now: name that if the item "
                    "still covers it."
                )
            raise Invalid.field(f"items[{n}].covers", why)
        if len(item["labels"]) > MAX_LABELS or any(len(x) > LABEL for x in item["labels"]):
            raise Invalid.field(
                f"items[{n}].labels", f"are at most {MAX_LABELS}, of {LABEL} characters each."
            )
        if item["workflow"] is not None:
            try:
                item["workflow"] = cards.checked_workflow(item["workflow"])
            except Invalid as refusal:
                raise Invalid.field(f"items[{n}].workflow", refusal.detail) from None
        found.append(item)
    _resolve(goal, found)
    if circle := _circle(goal, found):
        raise Invalid.field("items", f"the dependencies go in a circle: {' → '.join(circle)}.")
    return found


def _plain(given: Mapping[str, Any]) -> Item:
    return {
        "ref": str(given.get("ref") or "")[:MAX_REF],
        "title": " ".join(str(given.get("title") or "").split())[:300],
        "description": str(given.get("description") or ""),
        "covers": sorted(set(given.get("covers") or [])),
        "depends_on": list(dict.fromkeys(given.get("depends_on") or [])),
        "estimate": given.get("estimate"),
        "labels": list(given.get("labels") or []),
        "priority": given.get("priority"),
        "workflow": given.get("workflow") or None,
        "requires": list(given.get("requires") or []),
        "inputs": dict(given.get("inputs") or {}),
        "card": given.get("card") or None,
        "dropped": bool(given.get("dropped")),
    }


def slug(title: str) -> str:
    """Return a short name for a title."""
    words = re.sub(r"[^a-z0-9]+", "-", title.casefold().encode("ascii", "ignore").decode())
    return words.strip("-")[: MAX_REF - 4].strip("-") or "item"


def _free(ref: str, taken: Mapping[str, Any]) -> str:
    n = 2
    free = ref
    while free in taken:
        free, n = f"{ref}-{n}", n + 1
    return free


def _resolve(goal: Goal, items: Sequence[Item]) -> None:
    """Have each dependency be a ref or a card's key: items go by their titles, too."""
    titles = {item["title"].casefold(): item["ref"] for item in reversed(items)}
    refs = {item["ref"] for item in items}
    names = {d for item in items for d in item["depends_on"]} | {item["card"] for item in items}
    wanted = [str(name).upper() for name in names if name and _KEY.fullmatch(str(name).upper())]
    there = Card.objects.filter(board_id=goal.board_id, key__in=wanted)
    goals = dict(there.values_list("key", "goal_id"))
    for n, item in enumerate(items):
        needs = []
        for m, name in enumerate(item["depends_on"]):
            ref = name if name in refs else titles.get(str(name).casefold())
            key = str(name).upper()
            if ref is None and key not in goals:
                raise Invalid.field(
                    f"items[{n}].depends_on[{m}]",
                    f"“{str(name)[:80]}” is no item of the plan and no card of the board.",
                )
            needs.append(ref if ref is not None else key)
        item["depends_on"] = list(dict.fromkeys(needs))
        if item["card"] is not None:
            item["card"] = str(item["card"]).upper()
            if goals.get(item["card"]) != goal.pk:
                raise Invalid.field(f"items[{n}].card", "names no card of this goal by its key.")


def matches(goal: Goal, items: Sequence[Item]) -> dict[str, Card]:
    """Return the goal's cards that the items are about, by ref: by the card that an item names,
    by the ref that it was made from, or by the same title."""
    there = list(Card.objects.filter(goal=goal).select_related("column").order_by("number"))
    by_key = {card.key: card for card in there}
    living = [card for card in there if card.state != Card.State.CANCELLED]
    by_ref = {card.planned_as: card for card in living if card.planned_as}
    by_title = {card.title.casefold(): card for card in reversed(living)}
    found: dict[str, Card] = {}
    taken = set()
    ways: tuple[Callable[[Item], Card | None], ...] = (
        lambda item: by_key.get(item["card"]),
        lambda item: by_ref.get(item["ref"]),
        lambda item: by_title.get(item["title"].casefold()),
    )
    for way in ways:
        for item in items:
            card = way(item) if item["ref"] not in found else None
            if card is not None and card.pk not in taken:
                found[item["ref"]] = card
                taken.add(card.pk)
    return found


def _circle(goal: Goal, items: Sequence[Item]) -> list[str]:
    """Return the circle that the dependencies would close, cards that there are included."""
    about = {card.key: ref for ref, card in matches(goal, items).items()}
    edges = {i["ref"]: [about.get(d, d) for d in i["depends_on"]] for i in items}
    frontier = {d for needs in edges.values() for d in needs if d not in edges}
    while frontier:
        rows = Dependency.objects.filter(card__key__in=frontier, card__board_id=goal.board_id)
        above: set[str] = set()
        for key in frontier:
            edges[key] = []
        for key, needed in rows.values_list("card__key", "depends_on__key"):
            edges[key].append(about.get(needed, needed))
            above.add(about.get(needed, needed))
        frontier = above - edges.keys()
    done: set[str] = set()
    for start in edges:
        path: dict[str, None] = {}
        waiting = [(start, iter(edges[start]))] if start not in done else []
        if waiting:
            path[start] = None
        while waiting:
            node, needs = waiting[-1]
            following = next((d for d in needs if d not in done), None)
            if following is None:
                done.add(node)
                path.pop(node)
                waiting.pop()
            elif following in path:
                walked = list(path)
                return [*walked[walked.index(following) :], following]
            else:
                path[following] = None
                waiting.append((following, iter(edges[following])))
    return []


def from_markdown(text: str, name: str = "plan.md") -> list[Item]:
    """Return the items of a checklist, in order. Raises Invalid naming ``markdown``.

    What is ticked is done and left out. Lines such as ``Covers: 1, 3`` below an item are told
    of it; see ``told``.
    """
    try:
        source = importing.read([{"name": name, "text": text}], "markdown")
    except Invalid as refusal:
        raise Invalid.field("markdown", refusal.detail.removeprefix("files: ")) from None
    if source.plan.problems:
        raise Invalid.field("markdown", source.plan.problems[0])
    refs: dict[str, str] = {}
    items: list[Item] = []
    for planned in source.plan.cards.values():
        known = planned.ref.removeprefix("holdfast:")
        item = told({"title": planned.title, "description": planned.description})
        refs[planned.ref] = item["ref"] = _free(slug(planned.title), dict.fromkeys(refs.values()))
        item |= {
            "card": known if known != planned.ref else None,
            "labels": [*planned.labels, *item.get("labels", [])],
            "priority": planned.priority if planned.priority != 3 else None,
            "dropped": planned.kind == "completed",
            "depends_on": [*(refs[r] for r in planned.depends_on), *item.get("depends_on", [])],
        }
        items.append(item)
    done = {item["ref"] for item in items if item["dropped"]}
    for item in items:
        item["depends_on"] = [d for d in item["depends_on"] if d not in done]
    return [item for item in items if not item["dropped"]]


def told(item: Mapping[str, Any]) -> Item:
    """Return the item with what lines of its description say of it, and without them.

    ``Covers: 1, 3`` (criteria), ``Estimate: 5``, ``Labels: api, docs`` and ``After:`` with the
    titles, refs or keys of what it waits for.
    """
    kept: list[str] = []
    found: Item = dict(item)
    for line in str(item.get("description") or "").split("\n"):
        match = _TOLD.match(line)
        if match is None:
            kept.append(line)
            continue
        name, value = match[1].casefold(), match[2].strip().strip("*").strip()
        parts = [part.strip() for part in value.split(",") if part.strip()]
        numbers = [int(number) for number in re.findall(r"\d{1,5}", value)]
        if name in ("covers", "criteria", "estimate") and value and not numbers:
            kept.append(line)  # it says something else, which is not to be lost
        elif name in ("covers", "criteria"):
            found["covers"] = [*found.get("covers", []), *numbers]
        elif name == "estimate":
            found["estimate"] = min(numbers[0], MAX_ESTIMATE) if numbers else None
        else:
            which = "labels" if name == "labels" else "depends_on"
            found[which] = [*found.get(which, []), *parts]
    found["description"] = "\n".join(kept).strip("\n")
    return found
