"""The page of a board's figures, and each table of it as CSV."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET

from boards import lookup
from boards.insights import asking, charts, flow, fold
from boards.insights.charts import Chart
from boards.insights.flow import DAY, Report, Wanted
from boards.insights.forecast import TRIALS
from boards.insights.tables import NAMES, Table, moment, span, tables, tokens, usd
from boards.views import for_people, frame, principal
from kernel.errors import NotFound

ROWS = 100
#: What the links above the charts offer; "" is what the page shows unasked.
STRETCHES = (("7", 7), ("", 30), ("90", 90), ("all", 0))


@dataclass(frozen=True, slots=True)
class Kpi:
    """One figure above the charts; ``trend`` is "good", "bad" or ""."""

    words: str
    value: str
    note: str = ""
    trend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """A chart with its table."""

    chart: Chart
    table: Table
    rows: list[list[tuple[str, str]]]
    csv: str

    @property
    def left_out(self) -> int:
        """How many rows only the CSV has."""
        return len(self.table.rows) - len(self.rows)


@require_GET
@for_people
def insights(request: HttpRequest, key: str) -> HttpResponse:
    """The figures of the board over a stretch of time, as they were known at its end."""
    board = lookup.board(principal(request), key)
    wanted = asking.asked(request.GET, request.COOKIES.get("tz", ""))
    goals = asking.goal_titles(board)
    with fold.of_board(board.pk) as ledger:
        report = flow.report(ledger, wanted)
        labels, workers = choices(ledger)
    found = tables(report, goals)
    drawn = charts.charts(report, wanted.zone)
    measure = "lead" if request.GET.get("measure") == "lead" else "cycle"
    query = _query(request)
    panels = {
        name: Panel(
            drawn[chart],
            found[name],
            found[name].shown(wanted.zone, report.step, ROWS),
            f"{name}.csv{query}",
        )
        for name, chart in {**{n: n for n in NAMES if n in drawn}, "finished": measure}.items()
    }
    shown = {
        **frame(request, board),
        "report": report,
        "panels": panels,
        "kpis": kpis(report),
        "costs": found["costs"],
        "cost_bars": cost_bars(report, goals),
        "forecast": told_forecast(report, wanted),
        "facts": facts(report),
        "goals": sorted(goals.items(), key=lambda item: item[1].casefold()),
        "labels": labels,
        "workers": workers,
        "asked": {name: request.GET.get(name, "") for name in (*asking.PARAMETERS, "measure")},
        "filtered": any(request.GET.get(name) for name in ("goal", "label", "worker")),
        "stretches": [
            {
                "words": _("{n} days").format(n=n) if n else _("All"),
                "href": _with(request, days=days),
                "on": request.GET.get("days", "") == days and not request.GET.get("from"),
            }
            for days, n in STRETCHES
        ],
        "measures": [
            {
                "words": words,
                "href": _with(request, measure=name),
                "on": measure == (name or "cycle"),
            }
            for name, words in (("", _("Cycle time")), ("lead", _("Lead time")))
        ],
        "began": moment(report.since, wanted.zone),
        "ended": moment(report.until, wanted.zone),
        "at": _typed(wanted) if request.GET.get("at") or request.GET.get("to") else "",
        "past": bool(request.GET.get("at") or request.GET.get("to")),
        "zone": str(wanted.zone),
        "query": query,
    }
    return render(request, "boards/insights.html", shown)


@require_GET
@for_people
def export(request: HttpRequest, key: str, name: str) -> HttpResponse:
    """One table of the figures as CSV, whole."""
    board = lookup.board(principal(request), key)
    if name not in NAMES:
        raise NotFound(f"There is no table of that name; there are {', '.join(NAMES)}.")
    wanted = asking.asked(request.GET, request.COOKIES.get("tz", ""))
    with fold.of_board(board.pk) as ledger:
        report = flow.report(ledger, wanted)
    text = tables(report, asking.goal_titles(board))[name].as_csv()
    response = HttpResponse(text, content_type="text/csv; charset=utf-8")
    day = datetime.fromtimestamp(report.until, UTC).date()
    response["Content-Disposition"] = f'attachment; filename="{board.key}-{name}-{day}.csv"'
    return response


def choices(ledger: fold.Ledger) -> tuple[list[str], list[str]]:
    """Return the labels that cards ever had and the workers that ever had cards."""
    labels = {label for card in ledger.cards for _at, own in card.labels for label in own}
    workers = {attempt.worker for card in ledger.cards for attempt in card.tries}
    return sorted(labels), sorted(workers)


# ── in words ─────────────────────────────────────────────────────────────────────────────


def kpis(report: Report) -> list[Kpi]:
    """Return the five figures above the charts."""
    finished, before = report.finished, report.before
    tried = [f for f in finished if f.attempts]
    first = sum(1 for f in tried if f.attempts == 1)
    waited = flow.percentile([f.waited for f in finished], 50) if finished else None
    cost = sum(f.usd for f in finished) / len(finished) if finished else None
    return [
        Kpi(
            _("Cycle time, median"),
            span(report.cycle[50]) if report.cycle else "–",
            *_change(report.cycle.get(50), before.cycle),
        ),
        Kpi(
            _("Finished"),
            str(len(finished)),
            _("{n} in the stretch before").format(n=before.finished) if before.finished else "",
            "good" if before.finished and len(finished) > before.finished else "",
        ),
        Kpi(
            _("Done on first attempt"),
            f"{100 * first / len(tried):.0f} %" if tried else "–",
            _("{n} of {all}").format(n=first, all=len(tried)) if tried else "",
        ),
        Kpi(
            _("Waiting on a person"),
            span(waited) if waited is not None else "–",
            *(_change(waited, before.waited, _("median per card")) if finished else ()),
        ),
        Kpi(
            _("Cost per finished card"),
            usd(cost) if cost is not None else "–",
            _("{usd} in all").format(usd=usd(report.usd)),
        ),
    ]


def _change(now: float | None, before: float | None, otherwise: str = "") -> tuple[str, str]:
    """Return how a duration compares with the stretch before, in words and as a trend."""
    if now is None or before is None or abs(now - before) < 1:
        return otherwise, ""
    gap = span(abs(now - before))
    if now < before:
        return _("{gap} less than in the stretch before").format(gap=gap), "good"
    return _("{gap} more than in the stretch before").format(gap=gap), "bad"


def facts(report: Report) -> list[tuple[str, str, str]]:
    """Return rates and Little's law: what it is, the figure, and what it stands on."""
    ended = report.ended
    tried = sum(ended.values()) - ended["cancelled"]
    found = [
        (
            _("Attempts that failed"),
            f"{100 * report.failure_rate:.0f} %" if report.failure_rate is not None else "–",
            ngettext(
                "{failed} failed and {expired} lost their lease, of {n} that ended",
                "{failed} failed and {expired} lost their lease, of {n} that ended",
                tried,
            ).format(failed=ended["failed"], expired=ended["expired"], n=tried),
        ),
        (
            _("Cards that needed another attempt"),
            f"{100 * report.retry_rate:.0f} %" if report.retry_rate is not None else "–",
            _("of the finished ones that workers did"),
        ),
    ]
    little = report.little
    if little is not None:
        found.append(
            (
                _("Little's law"),
                _("{n} in progress").format(n=f"{little.in_progress:.1f}"),
                _(
                    "{rate} finished a day × {cycle} each makes {product}; "
                    "the closer, the steadier the board"
                ).format(
                    rate=f"{little.throughput:.1f}",
                    cycle=span(little.cycle * DAY),
                    product=f"{little.product:.1f}",
                ),
            )
        )
    return found


def told_forecast(report: Report, wanted: Wanted) -> dict[str, Any]:
    """Return the forecast in words."""
    cast = report.forecast
    hourly = report.forecast_step < DAY
    if cast.short == "done":
        return {"short": _("Nothing is left to do.")}
    if cast.short:
        sampled = ngettext("{n} hour", "{n} hours", cast.sampled) if hourly else ""
        sampled = sampled or ngettext("{n} day", "{n} days", cast.sampled)
        return {
            "short": _(
                "Too little history to tell: {finished} finished in {sampled}. It takes 10 "
                "finished cards over at least 10 hours."
            ).format(finished=cast.finished, sampled=sampled.format(n=cast.sampled))
        }
    rows = []
    for percent, after in cast.after.items():
        at = report.until + (after or 0) * report.forecast_step
        rows.append(
            {
                "percent": percent,
                "by": moment(at, wanted.zone, 0.0 if hourly else DAY)
                if after is not None
                else _("not in sight"),
                "in": span(after * report.forecast_step) if after is not None else "",
            }
        )
    unit = _("hours") if hourly else _("days")
    return {
        "remaining": cast.remaining,
        "rows": rows,
        "assumption": _(
            "{trials} trials, each drawing from the last {n} {unit}, in which {finished} cards "
            "were finished, until the {remaining} are done. It assumes that the days ahead are "
            "like those, and that no cards are added."
        ).format(
            trials=f"{TRIALS:,}".replace(",", " "),
            n=cast.sampled,
            unit=unit,
            finished=cast.finished,
            remaining=cast.remaining,
        ),
    }


def cost_bars(report: Report, goals: dict[str, str]) -> list[dict[str, Any]]:
    """Return what was used by goal, worker and model, each with its share of the dearest."""
    nothing = {"goal": _("No goal"), "worker": _("Nobody"), "model": _("Not said")}
    titles = {"goal": _("By goal"), "worker": _("By worker"), "model": _("By model")}
    return [
        {
            "title": titles[by],
            "rows": [
                {
                    "name": (goals.get(c.name, c.name) if by == "goal" else c.name) or nothing[by],
                    "usd": usd(c.usd),
                    "tokens": tokens(c.input_tokens + c.output_tokens),
                    "input": c.input_tokens,
                    "output": c.output_tokens,
                    "width": charts.num(100 * c.usd / costs[0].usd) if costs[0].usd else "0",
                }
                for c in costs[:12]
            ],
            "more": max(0, len(costs) - 12),
        }
        for by, costs in report.costs.items()
    ]


def _typed(wanted: Wanted) -> str:
    """Return the end as the browser's field for it has it: no finer than a millisecond, later."""
    local = wanted.until.astimezone(wanted.zone).replace(tzinfo=None)
    up = -local.microsecond % 1000
    return (local + timedelta(microseconds=up)).isoformat(timespec="milliseconds")


def _query(request: HttpRequest) -> str:
    kept = {n: v for n in asking.PARAMETERS if (v := request.GET.get(n, ""))}
    return f"?{urlencode(kept)}" if kept else ""


def _with(request: HttpRequest, **changed: str) -> str:
    names = (*asking.PARAMETERS, "measure")
    kept = {n: request.GET.get(n, "") for n in names} | changed
    if "days" in changed:
        kept["from"] = ""
    return "?" + urlencode({n: v for n, v in kept.items() if v})
