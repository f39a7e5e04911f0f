"""What the API takes and gives about goals and their memory."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db.models import Prefetch
from rest_framework import serializers

from events import outgoing
from events.endpoint import Body, Choice, JSONObject, JSONValue, Line, Text, Words
from goals import amendments
from goals.models import Amendment, CheckRun, Criterion, Decision, Discovery, Evidence, Goal
from kernel.errors import Invalid

MAX_TEXT = 200_000
#: Of each criterion, the newest first.
EVIDENCE_SHOWN = 20


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


class ProbeIn(Body):
    """An address that is to answer; operators alone may name one."""

    url = Line(1000, required=True)
    status = serializers.IntegerField(min_value=100, max_value=599, required=False)
    text = Text(1000, help_text="What the answer is to contain.")
    timeout_seconds = serializers.IntegerField(min_value=1, max_value=60, required=False)

    def validate(self, attrs: Any) -> Any:
        try:
            outgoing.check_url(attrs["url"], private=settings.ALLOW_PRIVATE_PROBES)
        except Invalid as error:
            raise serializers.ValidationError({"url": list(error.errors["url"])}) from None
        usual = {"status": 200, "text": "", "timeout_seconds": 10}
        return {**usual, **attrs}


class CriterionIn(Body):
    """What must hold, and at most one way to find out whether it does."""

    text = Line(2000, required=True)
    check = Text(10_000, help_text="A command, which is to succeed.")
    probe = ProbeIn(required=False, allow_null=True)
    tests = Line(1000, help_text="Which tests: handed to the board's test command.")
    by_person = serializers.BooleanField(required=False, help_text="Only a person can say so.")

    WAYS = ("check", "probe", "tests", "by_person")

    def validate(self, attrs: Any) -> Any:
        ways = [name for name in self.WAYS if attrs.get(name)]
        if len(ways) > 1:
            raise serializers.ValidationError(
                {ways[1]: [f"A criterion is checked in one way; it has {ways[0]}, too."]}
            )
        if any(word.startswith("-") for word in (attrs.get("tests") or "").split()):
            raise serializers.ValidationError({"tests": ["must name tests, not options (-…)."]})
        return attrs


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
    status = Choice(Goal.Status.choices, required=False)
    parent = serializers.UUIDField(required=False, allow_null=True)
    budgets = JSONObject(4096)
    share = Share()
    max_running = AtOnce()
    plans_first = serializers.BooleanField(
        required=False, help_text="What workers propose becomes a plan that a person reviews."
    )
    reason = Text(20_000, help_text="Why, kept with the amendment.")
    evidence_required = serializers.BooleanField(
        required=False, help_text="Cards complete, and it is achieved, only with evidence."
    )
    achieves_itself = serializers.BooleanField(
        required=False, help_text="Once its criteria are shown to be met; else people are asked."
    )
    check_every_seconds = serializers.IntegerField(
        min_value=60, max_value=30 * 86_400, required=False, allow_null=True
    )


class GoalIn(GoalEdit):
    board = Line(64, required=True)
    reason = None


class WithdrawIn(Body):
    reason = Text(20_000)


class DecisionIn(Body):
    title = Line(300, required=True, help_text="What is chosen.")
    context = Text(MAX_TEXT)
    rationale = Text(MAX_TEXT)
    alternatives = serializers.ListField(child=JSONValue(16 * 1024), required=False, max_length=50)
    consequences = Text(MAX_TEXT)
    files = Words(max_items=200, max_chars=1000, help_text="The paths that it is about.")
    supersedes = serializers.UUIDField(required=False, allow_null=True)
    differs = Text(2000, help_text="Why it can stand beside those that it resembles.")


class DecisionPost(DecisionIn):
    pinned = serializers.BooleanField(required=False)


class Environment(serializers.DictField):
    """Names and what they are: a version, a lock file's digest, a setting."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(child=Text(500, required=True), required=False, **kwargs)

    def to_internal_value(self, data: Any) -> Any:
        found = super().to_internal_value(data)
        if len(found) > 50 or not all(name and len(name) <= 200 for name in found):
            raise serializers.ValidationError("has at most 50 names of 1 to 200 characters.")
        if any("\x00" in name for name in found):
            raise serializers.ValidationError("names must be plain text.")
        return found


class RestsOn(Body):
    """What a dead end rests on: where that changes, it may be none any more."""

    requirement = Text(2000, help_text="Words of the goal, a constraint or a criterion.")
    environment = Environment()

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(required=False, allow_null=True, **kwargs)


class DiscoveryIn(Body):
    kind = Choice(Discovery.Kind.choices)
    title = Line(300, required=True)
    detail = Text(MAX_TEXT)
    severity = Choice(Discovery.Severity.choices, required=False)
    rests_on = RestsOn()
    environment = Environment(help_text="What a fact says of versions, lock files' digests, …")


class DiscoveryPost(DiscoveryIn):
    pinned = serializers.BooleanField(required=False)


class PinIn(Body):
    pinned = serializers.BooleanField()


class ResolveIn(Body):
    resolution = Text(MAX_TEXT)
    wont_do = serializers.BooleanField(required=False)


class SameAsIn(Body):
    into = serializers.UUIDField(help_text="The discovery that stands for both from now on.")


class ReviveIn(Body):
    because = Text(2000, required=True, help_text="What has changed.")


class EvidenceIn(Body):
    criterion = serializers.CharField(max_length=2000)
    met = serializers.BooleanField()
    detail = Text(MAX_TEXT)
    artifact = Line(64)
    step = Line(200, help_text="Which step of the attempt showed it.")


class WordIn(Body):
    """A person's word on a criterion."""

    criterion = serializers.CharField(max_length=2000)
    met = serializers.BooleanField()
    detail = Text(MAX_TEXT)


class CriterionOut(serializers.Serializer[Criterion]):
    id = serializers.UUIDField()
    number = serializers.IntegerField()
    text = serializers.CharField()
    kind = Choice(Criterion.Kind.choices)
    check = serializers.CharField(source="check_command")
    probe = serializers.JSONField(allow_null=True)
    tests = serializers.CharField()
    by_person = serializers.BooleanField()
    met = serializers.BooleanField(allow_null=True)
    replaces = serializers.IntegerField(
        allow_null=True, help_text="The number of the one that this is another wording of."
    )
    evidence = serializers.SerializerMethodField()

    def get_evidence(self, criterion: Any) -> list[dict[str, Any]]:
        return [
            {
                "met": e.met,
                "detail": e.detail,
                "artifact": e.artifact or None,
                "card": str(e.card_id) if e.card_id else None,
                "attempt": str(e.attempt_id) if e.attempt_id else None,
                "checkpoint": e.checkpoint,
                "step": e.step or None,
                "check_run": str(e.check_run_id) if e.check_run_id else None,
                "commit": e.commit or None,
                "confirmed_at": e.confirmed_at,
                "actor": e.actor,
                "at": e.at,
            }
            for e in criterion.newest_evidence
        ]


class CheckRunOut(serializers.Serializer[CheckRun]):
    id = serializers.UUIDField()
    goal = serializers.UUIDField(source="goal_id")
    status = Choice(CheckRun.Status.choices)
    why = Choice(CheckRun.Why.choices)
    actor = serializers.CharField()
    commit = serializers.CharField()
    said = serializers.CharField()
    error = serializers.CharField()
    created_at = serializers.DateTimeField()
    ended_at = serializers.DateTimeField(allow_null=True)


class AmendmentOut(serializers.Serializer[Amendment]):
    number = serializers.IntegerField()
    before = serializers.JSONField()
    after = serializers.JSONField()
    changed = serializers.SerializerMethodField()
    reason = serializers.CharField()
    actor = serializers.CharField()
    at = serializers.DateTimeField()
    withdrawn_at = serializers.DateTimeField(allow_null=True)
    withdrawn_by = serializers.CharField()
    withdrawn_because = serializers.CharField()

    def get_changed(self, amendment: Amendment) -> list[str]:
        return amendments.changed(amendment)


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
    plans_first = serializers.BooleanField()
    evidence_required = serializers.BooleanField()
    achieves_itself = serializers.BooleanField()
    check_every_seconds = serializers.IntegerField(allow_null=True)
    met_at = serializers.DateTimeField(allow_null=True)
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
    context = serializers.CharField()
    rationale = serializers.CharField()
    alternatives = serializers.JSONField()
    consequences = serializers.CharField()
    files = serializers.JSONField()
    differs = serializers.CharField()
    checkpoint = serializers.UUIDField(source="checkpoint_id", allow_null=True)
    superseded_by = serializers.UUIDField(source="superseded_by_id", allow_null=True)
    pinned = serializers.BooleanField()
    actor = serializers.CharField()
    at = serializers.DateTimeField()


class DecidedOut(DecisionOut):
    """A decision just recorded, and those in force that it resembles."""

    in_force = serializers.ListField(child=serializers.DictField(), required=False)


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
    seen = serializers.IntegerField()
    last_seen_at = serializers.DateTimeField(allow_null=True)
    proposed_card = serializers.UUIDField(source="proposed_card_id", allow_null=True)
    rests_on = serializers.JSONField()
    environment = serializers.JSONField()
    revived_because = serializers.CharField()
    pinned = serializers.BooleanField()
    resolved_at = serializers.DateTimeField(allow_null=True)
    actor = serializers.CharField()
    at = serializers.DateTimeField()


class DiscoveredOut(DiscoveryOut):
    """A discovery just recorded, and others that may be the same in other words: see ``merge``."""

    alike = serializers.ListField(child=serializers.DictField(), required=False)


def loaded() -> Any:
    """Return all goals with what ``GoalOut`` reads loaded, of the evidence the newest."""
    newest = Evidence.objects.order_by("-id")[:EVIDENCE_SHOWN]
    evidence = Prefetch("criteria__evidence", queryset=newest, to_attr="newest_evidence")
    # However often they were reworded: those that stand.
    standing = Prefetch("criteria", queryset=Criterion.objects.filter(retired_at=None))
    return Goal.objects.prefetch_related(standing, evidence, "amendments")


def goal_out(goal: Goal) -> dict[str, Any]:
    """Return the goal as the API shows it, read afresh."""
    return dict(GoalOut(loaded().get(pk=goal.pk)).data)
