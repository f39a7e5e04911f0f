"""A board as JSON, as a checklist, or as CSV; the same bytes while nothing changes."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from typing import Any

from holdfast.client import Client
from holdfast.protocol import JSON, segment
from holdfast.transfer.sources import MARKS

VERSION = 1
COLUMNS = (
    "key",
    "title",
    "kind",
    "state",
    "priority",
    "labels",
    "goal",
    "depends_on",
    "description",
    "due_at",
    "created_at",
    "updated_at",
)
_MARK_OF = {kind: mark for mark, kind in MARKS.items()}
_USERINFO = re.compile(r"(?<=://)[^/@\s]+@")
#: What changes with the clock alone.
_PASSING = ("why_waiting", "reason", "attempt")


def _encoded(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, allow_nan=False)


def _card(card: JSON) -> JSON:
    """Return the card without what passes and without the values of environments."""
    found = {name: value for name, value in card.items() if name not in _PASSING}
    workflow = found.get("workflow")
    if isinstance(workflow, dict) and isinstance(workflow.get("steps"), list):
        found["workflow"] = {
            **workflow,
            "steps": [
                {**step, "env": dict.fromkeys(step["env"], "")}
                if isinstance(step, dict) and isinstance(step.get("env"), dict)
                else step
                for step in workflow["steps"]
            ],
        }
    return found


def _listed(name: str, rows: Iterator[Any]) -> Iterator[str]:
    yield f',\n"{name}": ['
    separator = "\n"
    for row in rows:
        yield f"{separator}{_encoded(row)}"
        separator = ",\n"
    yield "]"


def as_json(client: Client, board: str, goal: str | None) -> Iterator[str]:
    """Yield the whole board or goal piece by piece; no more than a page is held at once."""
    head = client.get(f"/boards/{segment(board)}")
    head["repository"] = _USERINFO.sub("", head["repository"] or "")
    yield f'{{"format": "holdfast", "version": {VERSION},\n"board": {_encoded(head)}'
    yield from _listed("goals", _goals(client, board, goal))
    yield from _listed("cards", _cards(client, board, goal))
    if goal is None:
        yield from _listed("events", _events(client, board))
    yield "}\n"


def _goals(client: Client, board: str, goal: str | None) -> Iterator[JSON]:
    found = [client.get(f"/goals/{goal}")] if goal else client.pages("/goals", board=board)
    for each in found:
        for part in ("decisions", "discoveries"):
            each[part] = list(client.pages(f"/goals/{each['id']}/{part}"))
        yield each


def _cards(client: Client, board: str, goal: str | None) -> Iterator[JSON]:
    for card in client.pages("/cards", board=board, goal=goal):
        path = f"/cards/{segment(card['key'])}"
        found = _card(card)
        found["messages"] = list(client.pages(f"{path}/messages"))
        worked_on = card["counts"]["attempts"] or card["origin_checkpoint"]
        for part in ("attempts", "steps", "checkpoints"):
            found[part] = list(client.pages(f"{path}/{part}")) if worked_on else []
        yield found


def _events(client: Client, board: str) -> Iterator[JSON]:
    after = 0
    while page := client.get("/events", board=board, after=after, limit=200)["results"]:
        yield from page
        after = page[-1]["seq"]


def as_csv(client: Client, board: str, goal: str | None) -> Iterator[str]:
    """Yield a row for each card, the newest first."""
    titles = {each["id"]: each["title"] for each in client.pages("/goals", board=board)}
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(COLUMNS)
    for card in client.pages("/cards", board=board, goal=goal):
        row = {
            **card,
            "labels": " ".join(card["labels"]),
            "depends_on": " ".join(sorted(card["depends_on"])),
            "goal": titles.get(card["goal"], ""),
        }
        rows.writerow([_cell(row[name]) for name in COLUMNS])
        yield out.getvalue()
        out.seek(0)
        out.truncate()
    yield out.getvalue()


def _cell(value: Any) -> Any:
    """Return what a spreadsheet shows and never runs."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return value


def as_markdown(client: Client, board: str, goal: str | None) -> Iterator[str]:
    """Yield a checklist that an import reads back: title, text, place, needs, goal, labels."""
    cards: dict[str | None, list[JSON]] = {}
    for card in client.pages("/cards", board=board, goal=goal):
        if card["state"] != "cancelled":
            cards.setdefault(card["goal"], []).append(card)
    known = {card["key"] for listed in cards.values() for card in listed}
    for card in reversed(cards.get(None, [])):
        yield _item(card, known)
    goals = [client.get(f"/goals/{goal}")] if goal else client.pages("/goals", board=board)
    for each in reversed(list(goals)):
        note = {"intent": each["intent"], "criteria": [c["text"] for c in each["criteria"]]}
        yield f"\n## {each['title']}\n<!-- goal {_hidden(note)} -->\n\n"
        for card in reversed(cards.get(each["id"], [])):
            yield _item(card, known)


def _hidden(note: Any) -> str:
    return _encoded(note).replace(">", "\\u003e")


def _item(card: JSON, known: set[str]) -> str:
    note = {
        "id": card["key"],
        "priority": card["priority"],
        "labels": card["labels"],
        "depends_on": sorted(key for key in card["depends_on"] if key in known),
    }
    lines = [f"- [{_MARK_OF[card['kind']]}] {card['title']} <!-- card {_hidden(note)} -->"]
    if card["description"]:
        lines += [f"  > {line}" for line in card["description"].split("\n")]
    return "\n".join(lines) + "\n"


WRITERS = {"json": as_json, "markdown": as_markdown, "csv": as_csv}
SUFFIXES = {"json": "json", "markdown": "md", "csv": "csv"}
