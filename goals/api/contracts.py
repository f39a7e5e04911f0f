"""What the API takes and gives about goals and their memory."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from events.endpoint import Body, JSONObject, JSONValue, Line, Text
from goals.models import Amendment, Criterion, Decision, Discovery, Goal

MAX_TEXT = 200_000


class Constraints(JSONValue):
    """A text or a list of texts; null counts as none."""

    def validate_empty_values(self, data: Any) -> tuple[bool, Any]:
        return (True, []) if data is None else super().validate_empty_values(data)

    def to_internal_value(self, data: Any) -> Any:
        value = super().to_internal_value(data)
        entries = value if isinstance(value, list) else [value]
        if not all(isinstance(entry, str) for entry in entries):
            raise serializers.ValidationError("must be a text or a list of texts.")
        return value


class CriterionIn(Body):
    text = Line(2000, required=True)
    check = Text(10_000)


class Share(serializers.IntegerField):
    """A weight: who has twice as much gets twice as many turns."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(min_value=1, max_value=1000, required=False, **kwargs)


class AtOnce(serializers.IntegerField):
    """How many cards may run at once; null for as many as there are workers."""

    def __init__(self, **kwargs: Any) -> None:
        bounds = {"min_value": 1, "max_value": 10_000}
        super().__init__(required=False, allow_null=True, **bounds, **kwargs)


class GoalEdit(Body):
    title = Line(300, required=True)
    intent = Text(MAX_TEXT)
    constraints = Constraints(64 * 1024)
    criteria = CriterionIn(many=True, required=False, max_length=200)
    status = serializers.ChoiceField(Goal.Status.choices, required=False)
    parent = serializers.UUIDField(required=False, allow_null=True)
    budgets = JSONObject(4096)
    share = Share()
    max_running = AtOnce()


class GoalIn(GoalEdit):
    board = Line(64, required=True)


class DecisionIn(Body):
    title = Line(300, required=True)
    rationale = Text(MAX_TEXT)
    alternatives = serializers.ListField(child=JSONValue(16 * 1024), required=False, max_length=50)
    supersedes = serializers.UUIDField(required=False, allow_null=True)


class DecisionPost(DecisionIn):
    pinned = serializers.BooleanField(required=False)


class DiscoveryIn(Body):
    kind = serializers.ChoiceField(Discovery.Kind.choices)
    title = Line(300, required=True)
    detail = Text(MAX_TEXT)
    severity = serializers.ChoiceField(Discovery.Severity.choices, required=False)


class DiscoveryPost(DiscoveryIn):
    pinned = serializers.BooleanField(required=False)


class PinIn(Body):
    pinned = serializers.BooleanField()


class ResolveIn(Body):
    resolution = Text(MAX_TEXT)


class EvidenceIn(Body):
    criterion = serializers.CharField(max_length=2000)
    met = serializers.BooleanField()
    detail = Text(MAX_TEXT)
    artifact = Line(64)


class CriterionOut(serializers.Serializer[Criterion]):
    id = serializers.UUIDField()
    number = serializers.IntegerField()
    text = serializers.CharField()
    check = serializers.CharField(source="check_command")
    met = serializers.BooleanField(allow_null=True)
    evidence = serializers.SerializerMethodField()

    def get_evidence(self, criterion: Criterion) -> list[dict[str, Any]]:
        return [
            {
                "met": e.met,
                "detail": e.detail,
                "artifact": e.artifact or None,
                "card": str(e.card_id) if e.card_id else None,
                "attempt": str(e.attempt_id) if e.attempt_id else None,
                "actor": e.actor,
                "at": e.at,
            }
            for e in sorted(criterion.evidence.all(), key=lambda e: -e.pk)[:20]
        ]


class AmendmentOut(serializers.Serializer[Amendment]):
    number = serializers.IntegerField()
    before = serializers.JSONField()
    after = serializers.JSONField()
    actor = serializers.CharField()
    at = serializers.DateTimeField()


class GoalOut(serializers.Serializer[Goal]):
    id = serializers.UUIDField()
    board = serializers.UUIDField(source="board_id")
    title = serializers.CharField()
    intent = serializers.CharField()
    constraints = serializers.JSONField()
    criteria = serializers.SerializerMethodField()
    status = serializers.CharField()
    parent = serializers.UUIDField(source="parent_id", allow_null=True)
    budgets = serializers.JSONField()
    over_budget = serializers.CharField(source="over")
    share = serializers.IntegerField()
    max_running = serializers.IntegerField(allow_null=True)
    amendments = serializers.SerializerMethodField()
    version = serializers.IntegerField()
    created_by = serializers.CharField()
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()

    def get_criteria(self, goal: Goal) -> list[dict[str, Any]]:
        standing = [c for c in goal.criteria.all() if c.retired_at is None]
        return list(CriterionOut(sorted(standing, key=lambda c: c.number), many=True).data)

    def get_amendments(self, goal: Goal) -> list[dict[str, Any]]:
        ordered = sorted(goal.amendments.all(), key=lambda a: a.number)
        return list(AmendmentOut(ordered, many=True).data)


class DecisionOut(serializers.Serializer[Decision]):
    id = serializers.UUIDField()
    goal = serializers.UUIDField(source="goal_id", allow_null=True)
    card = serializers.UUIDField(source="card_id", allow_null=True)
    attempt = serializers.UUIDField(source="attempt_id", allow_null=True)
    title = serializers.CharField()
    rationale = serializers.CharField()
    alternatives = serializers.JSONField()
    superseded_by = serializers.UUIDField(source="superseded_by_id", allow_null=True)
    pinned = serializers.BooleanField()
    actor = serializers.CharField()
    at = serializers.DateTimeField()


class DiscoveryOut(serializers.Serializer[Discovery]):
    id = serializers.UUIDField()
    goal = serializers.UUIDField(source="goal_id", allow_null=True)
    card = serializers.UUIDField(source="card_id", allow_null=True)
    attempt = serializers.UUIDField(source="attempt_id", allow_null=True)
    kind = serializers.CharField()
    title = serializers.CharField()
    detail = serializers.CharField()
    severity = serializers.CharField()
    status = serializers.CharField()
    resolution = serializers.CharField()
    pinned = serializers.BooleanField()
    resolved_at = serializers.DateTimeField(allow_null=True)
    actor = serializers.CharField()
    at = serializers.DateTimeField()


def loaded() -> Any:
    """Return all goals with what ``GoalOut`` reads loaded."""
    return Goal.objects.prefetch_related("criteria__evidence", "amendments")


def goal_out(goal: Goal) -> dict[str, Any]:
    """Return the goal as the API shows it, read afresh."""
    return dict(GoalOut(loaded().get(pk=goal.pk)).data)
