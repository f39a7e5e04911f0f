"""A board's flow metrics as JSON: the figures of the page, unrounded."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from boards import lookup
from boards.insights import asking, flow, fold
from boards.insights.flow import Report
from boards.insights.forecast import TRIALS
from boards.insights.tables import iso, tables
from events.endpoint import Endpoint
from events.receipts import Answer

#: Rows of one table that an answer holds at most, the newest; the CSV has all.
MOST_ROWS = 1000


class PercentilesOut(serializers.Serializer[Any]):
    """Nearest-rank percentiles; null where nothing was measured."""

    p50 = serializers.FloatField(allow_null=True)
    p85 = serializers.FloatField(allow_null=True)
    p95 = serializers.FloatField(allow_null=True)


class LittleOut(serializers.Serializer[Any]):
    """Both sides of Little's law: ``in_progress`` against ``throughput_per_day * cycle_days``."""

    in_progress = serializers.FloatField()
    throughput_per_day = serializers.FloatField()
    cycle_days = serializers.FloatField()


class ForecastOut(serializers.Serializer[Any]):
    """When the remaining cards are done, by Monte Carlo; nothing where history is too short."""

    remaining = serializers.IntegerField()
    trials = serializers.IntegerField()
    unit_seconds = serializers.IntegerField()
    sampled_units = serializers.IntegerField()
    sampled_finished = serializers.IntegerField()
    enough_history = serializers.BooleanField()
    done_in_seconds = PercentilesOut()


class InsightsOut(serializers.Serializer[Any]):
    since = serializers.DateTimeField()
    until = serializers.DateTimeField()
    finished_cards = serializers.IntegerField()
    cycle_seconds = PercentilesOut()
    lead_seconds = PercentilesOut()
    first_attempt_rate = serializers.FloatField(allow_null=True)
    retry_rate = serializers.FloatField(allow_null=True)
    failure_rate = serializers.FloatField(allow_null=True)
    waited_seconds_median = serializers.FloatField(allow_null=True)
    cost_usd = serializers.FloatField()
    littles_law = LittleOut(allow_null=True)
    forecast = ForecastOut()
    flow = serializers.ListField(child=serializers.DictField())
    throughput = serializers.ListField(child=serializers.DictField())
    finished = serializers.ListField(child=serializers.DictField())
    ageing = serializers.ListField(child=serializers.DictField())
    wip = serializers.ListField(child=serializers.DictField())
    waiting = serializers.ListField(child=serializers.DictField())
    attempts = serializers.ListField(child=serializers.DictField())
    costs = serializers.ListField(child=serializers.DictField())


ASKED = [
    OpenApiParameter("at", str, description="The figures as they were then; now, unless told."),
    OpenApiParameter("from", str, description="A date or an instant to begin at."),
    OpenApiParameter("to", str, description="A date, to its end, or an instant to end at."),
    OpenApiParameter("days", str, description="How many days up to the end, or `all`; 30."),
    OpenApiParameter("goal", str, description="Only cards of this goal."),
    OpenApiParameter("label", str, description="Only cards with this label."),
    OpenApiParameter("worker", str, description="Only cards that this worker has had."),
    OpenApiParameter("tz", str, description="Whose days and weeks to count by; UTC."),
]


class InsightsView(Endpoint):
    """The board's flow over a stretch of time, as it was known at the end of it."""

    @extend_schema(operation_id="get_insights", parameters=ASKED, responses=InsightsOut)
    def get(self, request: Request, board: str) -> Response:
        found = lookup.board(self.principal, board)
        wanted = asking.asked(request.query_params)
        goals = asking.goal_titles(found)
        with fold.of_board(found.pk) as ledger:
            report = flow.report(ledger, wanted)
        return self.respond(Answer(200, insights_out(report, goals)))


def insights_out(report: Report, goals: dict[str, str]) -> dict[str, Any]:
    """Return the report as the API gives it."""
    waited = [card.waited for card in report.finished]
    little = report.little
    return {
        "since": iso(report.since),
        "until": iso(report.until),
        "finished_cards": len(report.finished),
        "cycle_seconds": _percentiles(report.cycle),
        "lead_seconds": _percentiles(report.lead),
        "first_attempt_rate": report.first_rate,
        "retry_rate": report.retry_rate,
        "failure_rate": report.failure_rate,
        "waited_seconds_median": flow.percentile(waited, 50) if waited else None,
        "cost_usd": report.usd,
        "littles_law": little
        and {
            "in_progress": little.in_progress,
            "throughput_per_day": little.throughput,
            "cycle_days": little.cycle,
        },
        "forecast": _forecast(report),
        **{name: t.records()[:MOST_ROWS] for name, t in tables(report, goals).items()},
    }


def _forecast(report: Report) -> dict[str, Any]:
    cast, unit = report.forecast, report.forecast_step
    after = {p: n * unit if n is not None else None for p, n in cast.after.items()}
    return {
        "remaining": cast.remaining,
        "trials": TRIALS,
        "unit_seconds": int(unit),
        "sampled_units": cast.sampled,
        "sampled_finished": cast.finished,
        "enough_history": bool(cast.after) or not cast.remaining,
        "done_in_seconds": _percentiles(after),
    }


def _percentiles(values: dict[int, float] | dict[int, float | None]) -> dict[str, Any]:
    return {f"p{percent}": values.get(percent) for percent in flow.PERCENTILES}
