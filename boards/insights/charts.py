"""The figures drawn as SVG on the server: no script is needed to see them.

Every mark carries its values in a ``<title>``; ``static/js/insights.js`` shows them at once on
hover and gives each chart one tab stop, from which the arrow keys walk its marks. Colours and
sizes of text are the stylesheet's, so coordinates leave room for text half as large again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo

from django.utils.formats import date_format
from django.utils.functional import Promise
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from boards.insights.flow import DAY, HOUR, PERCENTILES, PLACES, Bin, Finished, Report
from boards.insights.fold import IN_PROGRESS
from boards.insights.tables import WORDS, moment, span

WIDTH, HEIGHT = 520.0, 236.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 10.0, 16.0, 26.0
FLOOR = HEIGHT - BOTTOM
#: More dots than this can't be told apart; the newest are drawn.
MOST_DOTS = 400
_DURATIONS = (1, 10, 60, 600, HOUR, 4 * HOUR, DAY, 3 * DAY, 7 * DAY, 30 * DAY, 90 * DAY, 365 * DAY)


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing with its words. ``label`` is what it says, for who can't see it."""

    name: str
    title: str
    note: str
    label: str
    svg: SafeString
    legend: list[tuple[str, str | Promise]]


def charts(report: Report, zone: tzinfo) -> dict[str, Chart]:
    """Return every chart of the report by the name of its table."""
    draw = _Drawing(report, zone)
    return {
        "flow": draw.flow(),
        "cycle": draw.scatter("cycle", _("Cycle time"), lambda f: f.cycle, report.cycle),
        "lead": draw.scatter("lead", _("Lead time"), lambda f: f.lead, report.lead),
        "ageing": draw.ageing(),
        "throughput": draw.bars(
            "throughput",
            _("Finished"),
            report.throughput,
            ("first", "more", "by hand"),
            lambda n: str(int(n)),
        ),
        "wip": draw.in_progress(),
        "waiting": draw.bars(
            "waiting", _("Waiting on a person"), report.waiting, ("blocked", "review"), span
        ),
        "attempts": draw.bars(
            "attempts",
            _("How attempts ended"),
            report.attempts,
            ("succeeded", "failed", "expired", "released", "cancelled"),
            lambda n: str(int(n)),
        ),
    }


class _Drawing:
    """Draws one report on one scale of time."""

    def __init__(self, report: Report, zone: tzinfo) -> None:
        self.report, self.zone = report, zone
        self.length = max(report.until - report.since, 1.0)

    def x(self, at: float) -> float:
        return LEFT + (at - self.report.since) / self.length * (WIDTH - LEFT - RIGHT)

    # ── cumulative flow and work in progress ─────────────────────────────────────────────

    def flow(self) -> Chart:
        """Draw how many cards were in each place, one band above the other."""
        samples = self.report.samples
        top = nice(max((sum(s.counts.values()) for s in samples), default=0))
        bands = []
        below = [0.0] * len(samples)
        for place in reversed(PLACES):
            above = [b + s.counts[place] for b, s in zip(below, samples, strict=True)]
            upper = [(self.x(s.at), y(v, top)) for s, v in zip(samples, above, strict=True)]
            lower = [(self.x(s.at), y(v, top)) for s, v in zip(samples, below, strict=True)]
            bands.append(
                format_html(
                    '<g class="{}"><polygon class="area" points="{}"/>'
                    '<polyline class="edge" points="{}"/></g>',
                    css(place),
                    points([*upper, *reversed(lower)]),
                    points(upper),
                )
            )
            below = above
        words = [
            ", ".join(f"{WORDS[p]} {s.counts[p]}" for p in PLACES if s.counts[p]) for s in samples
        ]
        last = samples[-1].counts
        svg = [grid(top), *bands, self.dates(), self.slices(words)]
        return Chart(
            "flow",
            _("Cumulative flow"),
            "",
            _("Cumulative flow. At the end: {counts}.").format(
                counts=", ".join(f"{WORDS[p]} {last[p]}" for p in PLACES)
            ),
            whole(svg),
            [(css(p), WORDS[p]) for p in PLACES],
        )

    def in_progress(self) -> Chart:
        """Draw the work in progress, the running part of it and the WIP limit."""
        samples = self.report.samples
        limits = [s.limit for s in samples if s.limit is not None]
        top = nice(max((s.in_progress for s in samples), default=0))
        if limits and max(limits) <= 2 * top:
            top = nice(max(top, *limits))
        lines = [
            self.stepped([s.in_progress for s in samples], top, "p-waiting", filled=True),
            self.stepped([s.counts["running"] for s in samples], top, "p-running", filled=True),
        ]
        legend: list[tuple[str, str | Promise]] = [
            ("p-waiting", _("In progress")),
            ("p-running", WORDS["running"]),
        ]
        if limits and max(limits) <= top:
            allowed = [float("nan") if s.limit is None else s.limit for s in samples]
            lines.append(self.stepped(allowed, top, "p-failed", filled=False))
            legend.append(("p-failed", _("WIP limit")))
        words = [
            _("{n} in progress, {running} running").format(
                n=s.in_progress, running=s.counts["running"]
            )
            for s in samples
        ]
        average = sum(s.in_progress for s in samples) / len(samples)
        return Chart(
            "wip",
            _("Work in progress"),
            _("{n} on average").format(n=f"{average:.1f}"),
            _("Work in progress over time: {n} on average, {last} at the end.").format(
                n=f"{average:.1f}", last=samples[-1].in_progress
            ),
            whole([grid(top), *lines, self.dates(), self.slices(words)]),
            legend,
        )

    def stepped(self, values: Sequence[float], top: float, cls: str, *, filled: bool) -> SafeString:
        """Draw values that hold until the next sample; a gap where there is no number."""
        path, pen = [], False
        xs = [self.x(s.at) for s in self.report.samples]
        for n, value in enumerate(values):
            if math.isnan(value):
                pen = False
                continue
            path.append(f"{'H' if pen else 'M'}{num(xs[n])}{'' if pen else ' '}")
            path.append(f"V{num(y(value, top))}" if pen else num(y(value, top)))
            pen = True
        line = "".join(path)
        area = f"{line}V{num(FLOOR)}H{num(xs[0])}Z" if filled else ""
        return format_html(
            '<g class="{}">{}<path class="edge{}" d="{}"/></g>',
            cls,
            format_html('<path class="area" d="{}"/>', area) if filled else "",
            "" if filled else " dashed",
            line,
        )

    def slices(self, words: Sequence[str]) -> SafeString:
        """Lay a mark over each sample that tells its values."""
        samples = self.report.samples
        xs = [self.x(s.at) for s in samples]
        marks = []
        for n, (at, said) in enumerate(zip(xs, words, strict=True)):
            left = (xs[n - 1] + at) / 2 if n else at
            right = (at + xs[n + 1]) / 2 if n + 1 < len(xs) else at
            rule = format_html('<path class="rule" d="M{} {}V{}"/>', num(at), num(TOP), num(FLOOR))
            marks.append(
                mark(
                    f"{self.when(samples[n].at)}: {said}",
                    format_html(
                        '<rect class="hit" x="{}" y="{}" width="{}" height="{}"/>{}',
                        num(left),
                        num(TOP),
                        num(max(right - left, 0.5)),
                        num(FLOOR - TOP),
                        rule,
                    ),
                )
            )
        return SafeString("".join(marks))

    # ── cycle and lead time ──────────────────────────────────────────────────────────────

    def scatter(
        self,
        name: str,
        title: str,
        value: Callable[[Finished], float],
        percentiles: Mapping[int, float],
    ) -> Chart:
        """Draw each finished card by when it was finished and how long it took."""
        finished = self.report.finished
        drawn = finished[-MOST_DOTS:]
        low, high, ticks = durations([value(f) for f in drawn])
        rows = [_row(at, spelled_short(at), low, high) for at in ticks]
        dots = []
        for card in drawn:
            taken = value(card)
            cx, cy = self.x(card.at), log_y(taken, low, high)
            tries = ngettext("{n} attempt", "{n} attempts", card.attempts).format(n=card.attempts)
            said = f"{card.key} {card.title[:80]} · {span(taken)} · {tries}, {self.when(card.at)}"
            shape = (
                format_html('<circle class="dot1" cx="{}" cy="{}" r="3.4"/>', num(cx), num(cy))
                if card.attempts <= 1
                else format_html(
                    '<path class="dot2" d="M{} {}l4 4-4 4-4-4z"/>', num(cx), num(cy - 4)
                )
            )
            dots.append(mark(said, shape, href=f"/cards/{card.key}"))
        lines, free = [], HEIGHT
        for percent in PERCENTILES:
            if percent in percentiles:
                at = log_y(percentiles[percent], low, high)
                text = _("{percent} % within {span}").format(
                    percent=percent, span=span(percentiles[percent])
                )
                free = min(at - 4, free - 13)  # lines may lie close, words may not
                lines.append(
                    format_html(
                        '<path class="mean" d="M{} {}H{}"/><text class="strong" x="{}" y="{}"'
                        ' text-anchor="end">{}</text>',
                        num(LEFT),
                        num(at),
                        num(WIDTH - RIGHT),
                        num(WIDTH - RIGHT),
                        num(free),
                        text,
                    )
                )
        many = ngettext("{n} card", "{n} cards", len(finished)).format(n=len(finished))
        if len(drawn) < len(finished):
            many = _("{many}, the newest {n} drawn").format(many=many, n=len(drawn))
        said = ", ".join(
            _("{percent} % within {span}").format(percent=p, span=span(v))
            for p, v in percentiles.items()
        )
        return Chart(
            name,
            title,
            many,
            f"{title}, {many}. {said}",
            whole([*rows, *dots, *lines, self.dates()]),
            [("p-first", WORDS["first"]), ("p-more diamond", _("needed another attempt"))],
        )

    # ── age of work in progress ──────────────────────────────────────────────────────────

    def ageing(self) -> Chart:
        """Draw each card in progress by its state and age, above the ages of past cards."""
        aged, bands = self.report.ageing, self.report.bands
        ages = [a.age for a in aged] + [v for pair in bands.values() for v in pair]
        low, high, ticks = durations(ages)
        room = (WIDTH - LEFT - RIGHT) / len(IN_PROGRESS)
        parts = [_row(at, spelled_short(at), low, high) for at in ticks]
        for n, state in enumerate(IN_PROGRESS):
            left, wide = LEFT + n * room + 2, room - 4
            parts.append(_band(left, wide, bands.get(state), low, high))
            here = [a for a in aged if a.state == state]
            parts.append(
                format_html(
                    '<text class="strong" x="{}" y="{}" text-anchor="middle">{} {}</text>',
                    num(left + wide / 2),
                    num(HEIGHT - 6),
                    WORDS[state],
                    len(here),
                )
            )
            places = [
                (left + wide * (i + 0.5) / len(here), log_y(card.age, low, high))
                for i, card in enumerate(here)
            ]
            taken = [(cx - 4, cx + 4, cy) for cx, cy in places]
            for card, (cx, cy) in zip(here, places, strict=True):
                said = _("{key} {title}: {age} old, {here} in this state").format(
                    key=card.key, title=card.title[:80], age=span(card.age), here=span(card.here)
                )
                text = SafeString("")
                begin, end = cx + 7, cx + 9 + 7.2 * len(card.key)
                free = not any(
                    begin < right and end > first and abs(cy - other) < 12
                    for first, right, other in taken
                )
                # The old ones are called by name where nothing lies in the way.
                if card.band == 2 and free and end < WIDTH:
                    taken.append((begin, end, cy))
                    text = format_html(
                        '<text class="strong minor" x="{}" y="{}">{}</text>',
                        num(begin),
                        num(cy + 4),
                        card.key,
                    )
                shape = format_html(
                    '<circle class="age{}" cx="{}" cy="{}" r="4"/>{}',
                    card.band,
                    num(cx),
                    num(cy),
                    text,
                )
                parts.append(mark(said, shape, href=f"/cards/{card.key}"))
        old = sum(1 for a in aged if a.band == 2)
        return Chart(
            "ageing",
            _("Age of work in progress"),
            _("bands: 50 % and 85 % of past cards") if bands else "",
            ngettext(
                "{n} card in progress, {old} older than 85 % of past cards were there.",
                "{n} cards in progress, {old} older than 85 % of past cards were there.",
                len(aged),
            ).format(n=len(aged), old=old),
            whole(parts),
            [("b-half", _("usual")), ("b-most", _("slow")), ("b-old", _("slower than 85 %"))]
            if bands
            else [],
        )

    # ── bars ─────────────────────────────────────────────────────────────────────────────

    def bars(
        self,
        name: str,
        title: str,
        bins: Sequence[Bin],
        names: Sequence[str],
        said: Callable[[float], str],
    ) -> Chart:
        """Draw what happened in each stretch of time, stacked by name."""
        durations_shown = said is span
        most = max((b.total for b in bins), default=0.0)
        top = nice_duration(most) if durations_shown else nice(most)
        parts = [grid(top, spelled_short if durations_shown else None)]
        labelled = len(bins) <= 16 and not durations_shown
        for one in bins:
            left, right = self.x(one.begin), self.x(one.end)
            gap = min(6.0, (right - left) * 0.2)
            floor, inner = 0.0, []
            for part in names:
                value = one.counts.get(part, 0)
                if not value:
                    continue
                high = y(floor + value, top)
                inner.append(
                    format_html(
                        '<rect class="bar {}" x="{}" y="{}" width="{}" height="{}"/>',
                        css(part),
                        num(left + gap / 2),
                        num(high),
                        num(max(right - left - gap, 0.8)),
                        num(max(y(floor, top) - high, 0.5)),
                    )
                )
                floor += value
            if labelled and floor:
                inner.append(
                    format_html(
                        '<text class="strong" x="{}" y="{}" text-anchor="middle">{}</text>',
                        num((left + right) / 2),
                        num(y(floor, top) - 5),
                        said(floor),
                    )
                )
            values = ", ".join(
                f"{WORDS[part]} {said(one.counts[part])}" for part in names if one.counts.get(part)
            )
            hit = format_html(
                '<rect class="hit" x="{}" y="{}" width="{}" height="{}"/>',
                num(left),
                num(TOP),
                num(max(right - left, 0.5)),
                num(FLOOR - TOP),
            )
            parts.append(
                mark(f"{self.when(one.begin)}: {values or _('none')}", join([hit, *inner]))
            )
        parts.append(self.dates())
        total = sum(b.total for b in bins)
        return Chart(
            name,
            title,
            self.per(bins),
            f"{title}: {said(total)}. "
            + ", ".join(f"{WORDS[n]} {said(sum(b.counts.get(n, 0) for b in bins))}" for n in names),
            whole(parts),
            [(css(n), WORDS[n]) for n in names],
        )

    def per(self, bins: Sequence[Bin]) -> str:
        """Say how wide the bins are."""
        if self.report.step < HOUR:
            return _("per quarter of an hour")
        if self.report.step < DAY:
            return _("per hour")
        return _("per day") if self.report.step == DAY else _("per week")

    # ── time ─────────────────────────────────────────────────────────────────────────────

    def when(self, at: float) -> str:
        """Return an instant in words."""
        return moment(at, self.zone, 0.0 if self.report.step < DAY else DAY)

    def dates(self) -> SafeString:
        """Write when the stretch began and ended, and instants between."""
        texts = []
        for n in range(4):
            at = self.report.since + self.length * n / 3
            then = datetime.fromtimestamp(at, self.zone)
            words = date_format(then, "j M H:i" if self.length <= 3 * DAY else "j M")
            anchor = ("start", "middle", "middle", "end")[n]
            texts.append(
                format_html(
                    '<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>',
                    "minor" if n in (1, 2) else "",
                    num(self.x(at)),
                    num(HEIGHT - 6),
                    anchor,
                    words,
                )
            )
        return join(texts)


# ── the pen ──────────────────────────────────────────────────────────────────────────────


def num(value: float) -> str:
    """Return a coordinate as SVG wants it, whatever the page's language."""
    return f"{value:.1f}".removesuffix(".0")


def points(pairs: Iterable[tuple[float, float]]) -> str:
    """Return points as a polygon wants them."""
    return " ".join(f"{num(a)},{num(b)}" for a, b in pairs)


def join(parts: Iterable[SafeString]) -> SafeString:
    """Return the parts one after the other."""
    return format_html_join("", "{}", ((part,) for part in parts))


def whole(parts: Iterable[SafeString]) -> SafeString:
    """Return the drawing; the figure around it says what it shows."""
    return format_html(
        '<svg viewBox="0 0 {} {}" aria-hidden="true" focusable="false">{}</svg>',
        num(WIDTH),
        num(HEIGHT),
        join(parts),
    )


def mark(said: str, inner: SafeString, *, href: str = "") -> SafeString:
    """Return a part of the drawing that tells its values, and leads to a card."""
    return format_html(
        '<g class="mark"{}><title>{}</title>{}</g>',
        format_html(' data-href="{}"', href) if href else "",
        said,
        inner,
    )


def css(name: str) -> str:
    """The colour class of a place, an ending or a kind of throughput."""
    return f"p-{name.replace(' ', '-')}"


def y(value: float, top: float) -> float:
    """Return the height of a value on a scale from nothing to ``top``."""
    return FLOOR - (FLOOR - TOP) * value / top


def nice(most: float) -> float:
    """Return a round number not below ``most`` to end an axis with, at least 4."""
    if most <= 4:
        return 4.0
    power = 10.0 ** math.floor(math.log10(most))
    return next(n * power for n in (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10) if n * power >= most)


def nice_duration(most: float) -> float:
    """Return a round number of seconds not below ``most`` to end an axis with."""
    unit = next((u for u in (60.0, HOUR, DAY) if most <= 60 * u), DAY)
    return nice(most / unit) * unit


def grid(top: float, said: Callable[[float], str] | None = None) -> SafeString:
    """Return lines across the drawing at quarters of the scale, with their values."""
    lines = []
    for n in range(5):
        value = top * n / 4
        words = said(value) if said else f"{value:g}"
        if said is None and value != int(value):
            continue
        at = y(value, top)
        lines.append(_line(at, words, minor=n in (1, 3)))
    return join(lines)


def _line(at: float, words: str, *, minor: bool = False) -> SafeString:
    return format_html(
        '<path class="grid" d="M{} {}H{}"/><text{} x="{}" y="{}" text-anchor="end">{}</text>',
        num(LEFT),
        num(at),
        num(WIDTH - RIGHT),
        SafeString(' class="minor"') if minor else "",
        num(LEFT - 6),
        num(at + 4),
        words,
    )


def _row(seconds: float, words: str, low: float, high: float) -> SafeString:
    return _line(log_y(seconds, low, high), words)


def _band(
    left: float, wide: float, pair: tuple[float, float] | None, low: float, high: float
) -> SafeString:
    """Return the backdrop of one state: up to half of past cards, up to 85 %, above."""
    if pair is None:
        edges = [(FLOOR, TOP, "b-none")]
    else:
        half, most = (log_y(v, low, high) for v in pair)
        edges = [(FLOOR, half, "b-half"), (half, most, "b-most"), (most, TOP, "b-old")]
    return format_html_join(
        "",
        '<rect class="{}" x="{}" y="{}" width="{}" height="{}"/>',
        ((c, num(left), num(up), num(wide), num(max(down - up, 0))) for down, up, c in edges),
    )


def durations(values: Sequence[float]) -> tuple[float, float, list[float]]:
    """Return the ends of a logarithmic scale that holds the values, and where it has lines."""
    least = max(min(values, default=60.0), 1.0)
    most = max(max(values, default=HOUR), 10.0)
    low = max((d for d in _DURATIONS if d <= least), default=1.0)
    high = min((d for d in _DURATIONS if d >= most * 1.25), default=_DURATIONS[-1] * 4)
    ticks = [d for d in _DURATIONS if low <= d <= high]
    return low, high, ticks if len(ticks) <= 6 else ticks[::2]


def log_y(seconds: float, low: float, high: float) -> float:
    """Return the height of a duration on a logarithmic scale."""
    inside = min(max(seconds, low), high)
    return FLOOR - (FLOOR - TOP) * math.log(inside / low) / math.log(high / low)


def spelled_short(seconds: float) -> str:
    """Return a duration in one unit, for an axis."""
    for unit, size in (("d", DAY), ("h", HOUR), ("m", 60.0)):
        if seconds >= size:
            return (
                f"{seconds / size:g} {unit}"
                if seconds % size == 0
                else f"{seconds / size:.1f} {unit}"
            )
    return f"{seconds:g} s" if seconds else "0"
