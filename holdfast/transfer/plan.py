"""What an import is about to make, whatever it was read from."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from holdfast.errors import Error

TITLE, TEXT, LABEL, DEPENDENCIES = 300, 200_000, 100, 200
KINDS = ("backlog", "in_progress", "blocked", "review", "completed")


class SourceError(Error):
    """What was to be imported can't be read; the sentence names file and line."""


@dataclass(frozen=True)
class Place:
    file: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True)
class PlannedDecision:
    title: str
    rationale: str


@dataclass
class PlannedGoal:
    ref: str
    title: str
    intent: str = ""
    criteria: list[str] = field(default_factory=list)
    decisions: list[PlannedDecision] = field(default_factory=list)


@dataclass(frozen=True)
class PlannedCard:
    """``ref`` names it in its source, for good; ``depends_on`` holds refs."""

    ref: str
    title: str
    place: Place
    description: str = ""
    kind: str = "backlog"
    priority: int = 3
    labels: tuple[str, ...] = ()
    goal: str | None = None
    depends_on: tuple[str, ...] = ()


@dataclass
class Plan:
    """Goals and cards by ref, in the order of the source."""

    goals: dict[str, PlannedGoal] = field(default_factory=dict)
    cards: dict[str, PlannedCard] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add(self, card: PlannedCard) -> None:
        """Take the card in, cut to what the server takes; a second of the ref is a problem."""
        if card.ref in self.cards:
            first = self.cards[card.ref].place
            self.problems.append(f"{card.place}: {card.ref} is there already, at {first}.")
            return
        title = " ".join(harmless(card.title).split())
        if not title:
            self.problems.append(f"{card.place}: a card without a title.")
            return
        description = harmless(card.description)
        if len(title) > TITLE:
            self.warnings.append(f"{card.place}: the title was cut to {TITLE} characters.")
            description = f"{title}\n\n{description}".rstrip()
            title = title[: TITLE - 1] + "…"
        if len(description) > TEXT:
            self.warnings.append(f"{card.place}: the description was cut to {TEXT} characters.")
            description = description[: TEXT - 1] + "…"
        labels = (" ".join(harmless(label).split())[:LABEL] for label in card.labels)
        self.cards[card.ref] = replace(
            card,
            title=title,
            description=description,
            labels=tuple(dict.fromkeys(filter(None, labels)))[:50],
            depends_on=tuple(dict.fromkeys(card.depends_on)),
        )

    def goal(self, title: str) -> str:
        """Return the ref of the goal with this title, made unless there."""
        title = " ".join(harmless(title).split())[:TITLE] or "Imported"
        return self.goals.setdefault(title, PlannedGoal(title, title)).ref

    def settle(self) -> None:
        """Put each card behind what it depends on; drop, and name, what can't be kept."""
        for card in list(self.cards.values()):
            known = []
            for ref in card.depends_on:
                if ref == card.ref:
                    self.problems.append(f"{card.place}: {card.ref} depends on itself.")
                elif ref not in self.cards:
                    self.problems.append(
                        f"{card.place}: {card.ref} depends on {ref}, which is not there."
                    )
                else:
                    known.append(ref)
            if len(known) > DEPENDENCIES:
                self.problems.append(
                    f"{card.place}: {card.ref} has {len(known)} dependencies; "
                    f"a card takes {DEPENDENCIES}."
                )
            self.cards[card.ref] = replace(card, depends_on=tuple(known[:DEPENDENCIES]))
        self._sort()

    def _sort(self) -> None:
        left = {ref: len(card.depends_on) for ref, card in self.cards.items()}
        dependents: dict[str, list[str]] = {ref: [] for ref in self.cards}
        for ref, card in self.cards.items():
            for other in card.depends_on:
                dependents[other].append(ref)
        ready = deque(ref for ref, count in left.items() if not count)
        done: dict[str, PlannedCard] = {}
        order, at = list(self.cards), 0
        while len(done) < len(self.cards):
            if not ready:
                while order[at] in done:
                    at += 1
                circle = self._circle(order[at], done)
                card = self.cards[circle[0]]
                self.problems.append(
                    f"{card.place}: the dependencies go in a circle: "
                    + " → ".join([*circle[:10], "…"] if len(circle) > 10 else [*circle, circle[0]])
                    + "."
                )
                kept = tuple(other for other in card.depends_on if other in done)
                self.cards[card.ref] = replace(card, depends_on=kept)
                left[card.ref] = 0
                ready.append(card.ref)
            ref = ready.popleft()
            if ref in done:
                continue
            done[ref] = self.cards[ref]
            for dependent in dependents[ref]:
                left[dependent] -= 1
                if left[dependent] == 0 and dependent not in done:
                    ready.append(dependent)
        self.cards = done

    def _circle(self, ref: str, done: dict[str, PlannedCard]) -> list[str]:
        """Return the circle that one comes to from ``ref``."""
        path: dict[str, None] = {}
        while ref not in path:
            path[ref] = None
            ref = next(other for other in self.cards[ref].depends_on if other not in done)
        walked = list(path)
        return walked[walked.index(ref) :]


def harmless(text: str) -> str:
    """Return the text without NUL and lone surrogates, which the server refuses."""
    return text.replace("\0", "").encode("utf-8", "replace").decode().replace("\r\n", "\n")


def reference(*parts: str) -> str:
    """Return a name of at most 200 characters that is the same for the same parts."""
    name = ":".join(" ".join(harmless(part).split()) for part in parts)
    if len(name) <= 200:
        return name
    return f"{name[:150]}…{hashlib.sha256(name.encode()).hexdigest()[:40]}"


def priority_in(words: Iterable[str]) -> int:
    """Return what labels such as ``P1`` or ``priority: high`` say, 3 when they say nothing."""
    for word in words:
        last = word.casefold().replace("/", ":").split(":")[-1].strip()
        if last in PRIORITIES and (last[:1] == "p" or "prio" in word.casefold()):
            return PRIORITIES[last]
    return 3


PRIORITIES = {
    **{f"p{n}": n for n in range(5)},
    "critical": 0,
    "urgent": 0,
    "high": 1,
    "medium": 2,
    "low": 3,
    "none": 4,
}
