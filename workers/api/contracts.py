"""What the worker side of the API takes and gives."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from boards.api.contracts import AttemptOut, CardOut, MessageOut
from boards.faults import Fault
from boards.leases import MAX_LEASE_SECONDS, MIN_LEASE_SECONDS
from checkpoints.api.contracts import MAX_TEXT, CheckpointOut, StepOut
from events.endpoint import Body, JSONObject, JSONValue, Line, Number, Shaped, Text, Words
from goals.api.contracts import EvidenceIn, GoalOut
from workers.models import Worker

MAX_WAIT_SECONDS = 60


class ClaimIn(Body):
    worker = Shaped(r"^[^\x00-\x1f\x7f]{1,100}$", "must be 1 to 100 printable characters.")
    capabilities = Words(max_items=200)
    boards = Words(max_items=200, allow_null=True)
    goal = serializers.UUIDField(required=False, allow_null=True)
    card = Line(64)
    lease_seconds = serializers.IntegerField(
        min_value=MIN_LEASE_SECONDS, max_value=MAX_LEASE_SECONDS, required=False, allow_null=True
    )
    wait_seconds = Number(min_value=0, max_value=MAX_WAIT_SECONDS, required=False, allow_null=True)
    briefing_tokens = serializers.IntegerField(
        min_value=200, max_value=50_000, required=False, allow_null=True
    )


class HeartbeatIn(Body):
    note = Line(500)
    percent = serializers.IntegerField(min_value=0, max_value=100, required=False, allow_null=True)
    seen_message = serializers.IntegerField(
        min_value=0, max_value=2**63 - 1, required=False, allow_null=True
    )


class DescribeIn(Body):
    approach = Text(MAX_TEXT, required=True)
    differs = Text(MAX_TEXT)


class FollowUpIn(Body):
    title = Line(300, required=True)
    description = Text(MAX_TEXT)
    priority = serializers.IntegerField(min_value=0, max_value=4, required=False)
    labels = Words()
    requires = Words()
    depends_on = Words(max_items=200)
    inputs = JSONObject()


class CompleteIn(Body):
    summary = Text(MAX_TEXT, required=True)
    result = JSONValue(1024 * 1024)
    evidence = EvidenceIn(many=True, required=False, max_length=200)


class FailIn(Body):
    error = Text(MAX_TEXT, required=True)
    lesson = Text(MAX_TEXT)
    retryable = serializers.BooleanField(default=True)
    fault = serializers.ChoiceField(
        Fault.choices,
        required=False,
        help_text="What kind of failure: decides how long the card waits, and whether it counts.",
    )


class BlockIn(Body):
    reason = Text(MAX_TEXT, required=True)
    question = Text(MAX_TEXT)
    options = Words(max_items=20, max_chars=300)


class ReleaseIn(Body):
    summary = Text(MAX_TEXT, required=True)
    next_step = Text(MAX_TEXT)
    reason = Line(200)
    retry_after_seconds = serializers.IntegerField(
        min_value=0, max_value=7 * 24 * 3600, required=False, allow_null=True
    )


class LeaseOut(serializers.Serializer[Any]):
    token = serializers.CharField()
    fence = serializers.IntegerField()
    ttl_seconds = serializers.IntegerField()
    expires_at = serializers.DateTimeField()


class ResumeOut(serializers.Serializer[Any]):
    checkpoint = CheckpointOut(allow_null=True)
    steps_done = serializers.IntegerField()
    in_doubt = serializers.ListField(child=serializers.CharField())


class ClaimOut(serializers.Serializer[Any]):
    attempt = AttemptOut()
    lease = LeaseOut()
    card = CardOut()
    goal = GoalOut(allow_null=True)
    resume = ResumeOut()
    briefing = serializers.DictField()


class HeartbeatOut(serializers.Serializer[Any]):
    ttl_seconds = serializers.IntegerField()
    directive = serializers.ChoiceField(["continue", "checkpoint_now", "pause", "stop"])
    messages = MessageOut(many=True)
    notices = serializers.ListField(child=serializers.DictField())


class BegunOut(StepOut):
    replay = serializers.BooleanField(required=False)


class WorkerOut(serializers.Serializer[Worker]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    kind = serializers.CharField()
    capabilities = serializers.JSONField()
    first_seen_at = serializers.DateTimeField()
    last_seen_at = serializers.DateTimeField()
    attempts = serializers.SerializerMethodField()

    def get_attempts(self, worker: Worker) -> list[dict[str, Any]]:
        """The live attempts it holds, on boards the caller sees."""
        return list(AttemptOut(getattr(worker, "holding", []), many=True).data)
