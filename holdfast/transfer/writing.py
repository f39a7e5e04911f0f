"""A plan, posted. A second time it finds everything there and changes nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from holdfast.client import Client
from holdfast.errors import NotFound
from holdfast.protocol import segment
from holdfast.transfer.plan import Plan, PlannedCard, PlannedGoal


@dataclass
class Written:
    """How much was made, and how much was there already."""

    made: dict[str, int] = field(default_factory=lambda: {"goals": 0, "cards": 0, "decisions": 0})
    there: dict[str, int] = field(default_factory=lambda: {"goals": 0, "cards": 0, "decisions": 0})


class Writer:
    """Posts goals, then each card behind what it depends on, whole in one request.

    So a run that ends half-way leaves only whole cards, and the next one goes on. A card keeps
    its name in the source as ``source`` among its inputs, by which it is found again.
    """

    def __init__(self, client: Client, board: str) -> None:
        self.client = client
        self.board = board
        self.written = Written()
        self._key_of: dict[str, str] = {}
        self._goals: dict[str, str] = {}

    def write(self, plan: Plan, tell: Callable[[], None] = lambda: None) -> Written:
        """Make what of the plan is not there yet; call ``tell`` after each card."""
        for card in self.client.pages("/cards", board=self.board):
            self._key_of[f"holdfast:{card['key']}"] = card["key"]
            source = card["inputs"].get("source")
            if isinstance(source, str):
                self._key_of[source] = card["key"]
        titles = {g["title"]: g["id"] for g in self.client.pages("/goals", board=self.board)}
        for goal in plan.goals.values():
            self._write_goal(goal, titles)
        columns: dict[str, str] = {}
        for column in self.client.get(f"/boards/{segment(self.board)}")["columns"]:
            columns.setdefault(column["kind"], column["id"])
        for planned in plan.cards.values():
            self._write_card(planned, columns)
            tell()
        return self.written

    def _count(self, what: str, made: bool) -> None:
        (self.written.made if made else self.written.there)[what] += 1

    def _write_goal(self, goal: PlannedGoal, titles: dict[str, str]) -> None:
        known = titles.get(goal.title)
        if known is None:
            criteria = [{"text": text[:2000]} for text in goal.criteria[:100]]
            body = {
                "board": self.board,
                "title": goal.title,
                "intent": goal.intent,
                "criteria": criteria,
            }
            known = self._post("/goals", goal.ref, body)["id"]
            self._count("goals", True)
        else:
            self._count("goals", False)
        self._goals[goal.ref] = known
        if not goal.decisions:
            return
        path = f"/goals/{known}/decisions"
        there = {decision["title"] for decision in self.client.pages(path)}
        for decision in goal.decisions:
            if decision.title not in there:
                body = {"title": decision.title, "rationale": decision.rationale}
                self._post(path, decision.title, body)
            self._count("decisions", decision.title not in there)

    def _write_card(self, card: PlannedCard, columns: dict[str, str]) -> None:
        if card.ref in self._key_of:
            self._count("cards", False)
            return
        body = {
            "board": self.board,
            "title": card.title,
            "description": card.description,
            "column": columns[card.kind],
            "priority": card.priority,
            "labels": list(card.labels),
            "goal": self._goals[card.goal] if card.goal else None,
            "depends_on": [self._key_of[ref] for ref in card.depends_on],
            "inputs": {"source": card.ref},
        }
        self._key_of[card.ref] = self._post("/cards", card.ref, body, "/cards/{key}")["key"]
        self._count("cards", True)

    def _post(self, path: str, ref: str, body: dict[str, Any], at: str = "/goals/{id}") -> Any:
        """Post once, also when two imports run at once: they send the same key.

        What was deleted since is made anew, though the server remembers the first answer.
        """
        told = json.dumps([self.board, path, ref, body], sort_keys=True)
        key = f"import-{hashlib.sha256(told.encode()).hexdigest()}"
        answer = self.client.request("POST", path, body, key=key)
        found = answer.json()
        if answer.headers.get("Idempotent-Replay") == "true" and not path.endswith("decisions"):
            try:
                self.client.get(at.format(**found))
            except NotFound:
                return self.client.post(path, body)
        return found
