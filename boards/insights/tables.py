"""The figures as tables: what the page shows beside each chart, what CSV and the API give."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any

from django.utils.formats import date_format, number_format
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy

from boards import selectors
from boards.insights.flow import DAY, ENDINGS, PLACES, Report

#: The first characters with which a spreadsheet takes a text for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class Column:
    """``kind`` says what the values are: time, seconds, count, usd, card or text."""

    name: str
    words: str | Promise
    kind: str = "count"


@dataclass(frozen=True, slots=True)
class Table:
    """Figures by column, each a plain value."""

    columns: tuple[Column, ...]
    rows: list[tuple[Any, ...]]

    def records(self) -> list[dict[str, Any]]:
        """Return the rows as JSON objects."""
        return [
            {c.name: _plain(c, value) for c, value in zip(self.columns, row, strict=True)}
            for row in self.rows
        ]

    def as_csv(self) -> str:
        """Return the table as CSV (RFC 4180); no text in it can run as a formula."""
        out = io.StringIO()
        writer = csv.writer(out)
        writer.writerow([c.name for c in self.columns])
        for row in self.rows:
            writer.writerow(
                [_safe(_plain(c, value)) for c, value in zip(self.columns, row, strict=True)]
            )
        return out.getvalue()

    def shown(self, zone: tzinfo, step: float, most: int) -> list[list[tuple[str, str]]]:
        """Return the first rows in words for people, each value with its kind."""
        return [
            [(shown(c.kind, v, zone, step), c.kind) for c, v in zip(self.columns, row, strict=True)]
            for row in self.rows[:most]
        ]


#: What each state or place of a card is called in the charts.
WORDS: dict[str, str | Promise] = {
    "backlog": lazy("Backlog"),
    "waiting": lazy("Waiting"),
    "running": lazy("Running"),
    "blocked": lazy("Blocked"),
    "review": lazy("Review"),
    "completed": lazy("Completed"),
    "first": lazy("first attempt"),
    "more": lazy("more than one"),
    "by hand": lazy("by hand"),
    "succeeded": lazy("succeeded"),
    "failed": lazy("failed"),
    "expired": lazy("lease expired"),
    "released": lazy("handed over"),
    "cancelled": lazy("cancelled"),
}
NAMES = ("flow", "throughput", "finished", "ageing", "wip", "waiting", "attempts", "costs")
_BY = ("first", "more", "by hand")
_FROM = Column("from", lazy("From"), "time")
_TO = Column("to", lazy("To"), "time")


def tables(report: Report, goals: dict[str, str]) -> dict[str, Table]:
    """Return every table of the report by its name; ``goals`` are the titles of goals by id."""
    return {
        "flow": Table(
            (
                Column("at", lazy("At"), "time"),
                *(Column(place, WORDS[place]) for place in PLACES),
            ),
            [(s.at, *(s.counts[place] for place in PLACES)) for s in report.samples],
        ),
        "throughput": Table(
            (
                _FROM,
                _TO,
                Column("first", lazy("First attempt")),
                Column("more", lazy("More than one")),
                Column("by_hand", lazy("By hand")),
                Column("finished", lazy("Finished")),
            ),
            [
                (b.begin, b.end, *(int(b.counts[n]) for n in _BY), int(b.total))
                for b in report.throughput
            ],
        ),
        "finished": Table(
            (
                Column("card", lazy("Card"), "card"),
                Column("title", lazy("Title"), "text"),
                Column("finished_at", lazy("Finished"), "time"),
                Column("cycle_seconds", lazy("Cycle time"), "seconds"),
                Column("lead_seconds", lazy("Lead time"), "seconds"),
                Column("attempts", lazy("Attempts")),
                Column("waited_seconds", lazy("Waited for a person"), "seconds"),
                Column("cost_usd", lazy("Cost"), "usd"),
            ),
            [
                (f.key, f.title, f.at, f.cycle, f.lead, f.attempts, f.waited, f.usd)
                for f in reversed(report.finished)
            ],
        ),
        "ageing": Table(
            (
                Column("card", lazy("Card"), "card"),
                Column("title", lazy("Title"), "text"),
                Column("state", lazy("State"), "word"),
                Column("age_seconds", lazy("Age"), "seconds"),
                Column("in_state_seconds", lazy("In this state"), "seconds"),
                Column("band", lazy("Older than"), "band"),
            ),
            [(a.key, a.title, a.state, a.age, a.here, (0, 50, 85)[a.band]) for a in report.ageing],
        ),
        "wip": Table(
            (
                Column("at", lazy("At"), "time"),
                Column("in_progress", lazy("In progress")),
                Column("running", lazy("Running")),
                Column("limit", lazy("WIP limit")),
            ),
            [(s.at, s.in_progress, s.counts["running"], s.limit) for s in report.samples],
        ),
        "waiting": Table(
            (
                _FROM,
                _TO,
                Column("blocked_seconds", lazy("Blocked"), "seconds"),
                Column("review_seconds", lazy("In review"), "seconds"),
            ),
            [(b.begin, b.end, b.counts["blocked"], b.counts["review"]) for b in report.waiting],
        ),
        "attempts": Table(
            (_FROM, _TO, *(Column(ending, WORDS[ending]) for ending in ENDINGS)),
            [(b.begin, b.end, *(int(b.counts[e]) for e in ENDINGS)) for b in report.attempts],
        ),
        "costs": Table(
            (
                Column("by", lazy("By"), "text"),
                Column("name", lazy("Name"), "text"),
                Column("cost_usd", lazy("Cost"), "usd"),
                Column("input_tokens", lazy("Tokens in")),
                Column("output_tokens", lazy("Tokens out")),
                Column("cards", lazy("Cards")),
            ),
            [
                (by, named(by, c.name, goals), c.usd, c.input_tokens, c.output_tokens, c.cards)
                for by, costs in report.costs.items()
                for c in costs
            ],
        ),
    }


def named(by: str, name: str, goals: dict[str, str]) -> str:
    """Return what a goal, worker or model is called; nothing is called that way."""
    if not name:
        return ""
    return goals.get(name, name) if by == "goal" else name


def shown(kind: str, value: Any, zone: tzinfo, step: float = 0.0) -> str:
    """Return a value in words for people."""
    if value is None:
        return "–"
    if kind == "time":
        return moment(value, zone, step)
    if kind == "seconds":
        return span(value)
    if kind == "usd":
        return usd(value)
    if kind == "word":
        return str(WORDS[value])
    if kind == "band":
        return _("{percent} % of past cards").format(percent=value) if value else "–"
    if kind == "count":
        return str(number_format(value))
    return str(value)


def span(seconds: float) -> str:
    """Return a duration in one or two units."""
    if seconds < 0.05:
        return "0 s"
    if seconds < DAY:
        return selectors.spelled(seconds)
    hours = round(seconds / 3600)
    days, rest = divmod(hours, 24)
    if not rest or days >= 10:
        return _("{days} d").format(days=round(seconds / DAY))
    return _("{days} d {hours} h").format(days=days, hours=rest)


def usd(value: float) -> str:
    """Return an amount of money, small ones to the tenth of a cent."""
    return f"${value:,.2f}" if value >= 0.1 or not value else f"${value:.3f}"


def tokens(count: int) -> str:
    """Return a number of tokens as people say it: 950, 12 k, 3.4 M."""
    if count < 1000:
        return str(count)
    if count < 1_000_000:
        return f"{count / 1000:.0f} k"
    return f"{count / 1_000_000:.1f} M"


def moment(at: float, zone: tzinfo, step: float = 0.0) -> str:
    """Return an instant on the reader's calendar, as exact as bins of that width need it."""
    then = datetime.fromtimestamp(at, zone)
    if step >= DAY:
        return str(date_format(then, "j M Y"))
    return str(date_format(then, "j M H:i"))


def iso(at: float) -> str:
    """Return an instant as the API gives it."""
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")


def _plain(column: Column, value: Any) -> Any:
    if column.kind == "time":
        return iso(value)
    if column.kind == "seconds":
        return round(value, 3) if math.isfinite(value) else None
    return value


def _safe(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value
