"""What the worker side of the API takes and gives."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from boards import asking
from boards.api.contracts import AttemptOut, CardOut, Covers, Estimate, MessageOut
from boards.api.plans import PlannedIn
from boards.faults import Fault
from boards.leases import MAX_LEASE_SECONDS, MIN_LEASE_SECONDS
from boards.models import Message
from boards.planning import drafts
from checkpoints.api.contracts import MAX_TEXT, CheckpointOut, Key, Sha256, StepOut
from events.endpoint import Body, Choice, JSONObject, JSONValue, Line, Number, Shaped, Text, Words
from goals.api.contracts import EvidenceIn, GoalOut
from workers.models import Host, Worker

MAX_WAIT_SECONDS = 60


class Commit(Shaped):
    """A snapshot's name."""

    def __init__(self, **options: Any) -> None:
        super().__init__(r"^[0-9a-f]{40}$", "must be 40 lower-case hexadecimal digits.", **options)


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
    workflows = serializers.BooleanField(
        default=False,
        help_text="Only cards whose workflow this worker carries out, of boards with commands on.",
    )
    kinds = Words(
        max_items=200, allow_null=True, help_text="The kinds of steps it carries out; all if unset."
    )
    lacks = Words(
        max_items=200,
        help_text="What this host can't do: a kind of step, such as `llm`, or what one field of it "
        "says, such as `agent.cli=codex`. Cards with such a step are left to others.",
    )


class HeartbeatIn(Body):
    note = Line(500)
    percent = serializers.IntegerField(min_value=0, max_value=100, required=False, allow_null=True)
    seen_message = serializers.IntegerField(
        min_value=0, max_value=2**63 - 1, required=False, allow_null=True
    )


class DescribeIn(Body):
    approach = Text(MAX_TEXT, required=True, help_text="How it goes about the card.")
    differs = Text(MAX_TEXT, help_text="What is different from a like one that failed.")


class FollowUpIn(Body):
    title = Line(300, required=True)
    description = Text(MAX_TEXT)
    priority = serializers.IntegerField(min_value=0, max_value=4, required=False)
    labels = Words()
    requires = Words()
    depends_on = Words(max_items=200, max_chars=300)
    inputs = JSONObject()
    step = Key(
        required=False,
        allow_null=True,
        help_text="Record it as this step: the card is added once, however often it is asked for.",
    )
    covers = Covers()
    estimate = Estimate()
    plan = serializers.BooleanField(
        required=False,
        allow_null=True,
        help_text="Into the card's plan, for a person to review, rather than onto the board; as "
        "the goal says unless told. It may then wait for items of the plan by title or ref.",
    )
    ref = Line(drafts.MAX_REF, help_text="Names an item of a plan: the same again replaces it.")
    workflow = JSONValue(256 * 1024, help_text="Of an item of a plan.")


class ProposePlanIn(Body):
    items = PlannedIn(many=True, max_length=drafts.MAX_ITEMS, allow_empty=False)
    note = Text(20_000, help_text="What a reviewer should know.")


class ScoreIn(Body):
    value = Number(required=True, allow_null=True)
    problem = Line(300)


class CompleteIn(Body):
    summary = Text(MAX_TEXT, required=True)
    result = JSONValue(1024 * 1024)
    evidence = EvidenceIn(many=True, required=False, max_length=200)
    score = ScoreIn(
        required=False, allow_null=True, help_text="What the files score, in a race with a score."
    )


class FailIn(Body):
    error = Text(MAX_TEXT, required=True)
    lesson = Text(MAX_TEXT)
    retryable = serializers.BooleanField(default=True)
    fault = Choice(
        Fault.choices,
        required=False,
        help_text="What kind of failure: decides how long the card waits, and whether it counts.",
    )
    evidence = EvidenceIn(many=True, required=False, max_length=200)


class BlockIn(Body):
    reason = Text(MAX_TEXT, required=True)
    question = Text(MAX_TEXT)
    options = Words(max_items=20, max_chars=300)
    question_kind = Choice(
        Message.Asks.choices,
        required=False,
        help_text="What answers it takes; without a kind options are suggestions. `approve`: yes "
        "or no to the command or diff in `detail`.",
    )
    detail = Text(asking.MAX_DETAIL_CHARS, help_text="What is to be approved, verbatim.")
    timeout_seconds = serializers.IntegerField(
        min_value=asking.MIN_TIMEOUT_SECONDS,
        max_value=asking.MAX_TIMEOUT_SECONDS,
        required=False,
        allow_null=True,
    )
    on_timeout = Choice(
        Message.OnTimeout.choices,
        required=False,
        help_text="When nobody answers in time: `default` answers so, `fail` closes the question "
        "and leaves the card blocked, `stay` leaves it open.",
    )
    default = Text(asking.MAX_DEFAULT_CHARS, help_text="The answer when the time is up.")


class ReleaseIn(Body):
    summary = Text(MAX_TEXT, required=True)
    next_step = Text(MAX_TEXT)
    reason = Line(200)
    retry_after_seconds = serializers.IntegerField(
        min_value=0, max_value=7 * 24 * 3600, required=False, allow_null=True
    )


class RecordedQuery(serializers.Serializer[Any]):
    """Which steps: all, unless told."""

    key = serializers.ListField(
        child=Key(), default=list, max_length=200, help_text="Those of these keys; repeatable."
    )
    below = Line(200, help_text="Those whose keys begin so.")
    tries = serializers.BooleanField(
        default=False, help_text="Every try, those that no longer count included."
    )


class AnswerIn(Body):
    step = Key(required=False, allow_null=True)
    question = Text(10_000, required=True)
    same_words = serializers.BooleanField(default=False)
    options = Words(max_items=20, max_chars=300)
    question_kind = Choice(Message.Asks.choices, required=False)
    detail = Text(asking.MAX_DETAIL_CHARS)


class AnswerOut(serializers.Serializer[Any]):
    answer = serializers.CharField(allow_null=True)
    reason = serializers.CharField()
    question = serializers.CharField(help_text="What is to be asked while there is no answer.")
    open = serializers.BooleanField(help_text="The question stands on the card, unanswered.")


class ToldIn(Body):
    max_tokens = serializers.IntegerField(min_value=200, max_value=50_000, required=True)


class TellingOut(serializers.Serializer[Any]):
    markdown = serializers.CharField()
    tokens = serializers.IntegerField()


class StartIn(Body):
    have = serializers.ListField(
        child=Commit(), required=True, max_length=50, help_text="Snapshots that the worker has."
    )


class StartOut(serializers.Serializer[Any]):
    commit = serializers.CharField(allow_null=True)
    bundle = serializers.CharField(allow_null=True, help_text="The artifact that holds it.")
    parents = serializers.ListField(child=serializers.CharField())


class BundledIn(Body):
    bundle = Sha256(help_text="An uploaded git bundle of the snapshot and its base.")


class BundledOut(serializers.Serializer[Any]):
    commit = serializers.CharField()
    tree = serializers.CharField()
    base = serializers.CharField()
    changed_files = serializers.IntegerField()
    additions = serializers.IntegerField()
    deletions = serializers.IntegerField()
    skipped = serializers.ListField(child=serializers.DictField())


class CriterionOut(serializers.Serializer[Any]):
    number = serializers.IntegerField()
    text = serializers.CharField()
    check = serializers.CharField()


class TermsOut(serializers.Serializer[Any]):
    """What a worker needs to carry the card's workflow out, besides the claim's answer."""

    board = serializers.CharField()
    repository = serializers.CharField()
    commands = serializers.BooleanField()
    network = serializers.BooleanField()
    memory_mb = serializers.IntegerField(allow_null=True)
    processes = serializers.IntegerField(allow_null=True)
    output_mb = serializers.IntegerField(allow_null=True)
    keep_ignored = serializers.ListField(child=serializers.CharField())
    max_artifact_bytes = serializers.IntegerField()
    criteria = CriterionOut(many=True, allow_null=True)
    score = serializers.CharField(help_text="The command that scores the files, in a race.")
    program_token = serializers.CharField(
        help_text="Opens this attempt for the programs that it starts, while it lasts."
    )
    secrets = serializers.DictField(
        child=serializers.CharField(),
        help_text="Variables for commands, told only to a token that may carry them.",
    )
    closed = serializers.ListField(
        child=serializers.CharField(), help_text="Names of secrets that can't be opened."
    )
    withheld = serializers.ListField(
        child=serializers.CharField(), help_text="What this token may not be told."
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
    directive = Choice(["continue", "checkpoint_now", "pause", "stop"])
    messages = MessageOut(many=True)
    notices = serializers.ListField(child=serializers.DictField())
    resting = serializers.ListField(
        child=serializers.CharField(),
        help_text="The steps that a worker on another host is not to begin for now, in words such "
        "as `llm` or `agent.cli=codex`: they failed one card after the other there.",
    )


class BegunOut(StepOut):
    replay = serializers.BooleanField(required=False)


class RecordedOut(StepOut):
    attempt_number = serializers.IntegerField(source="attempt.number")


class RestOut(serializers.Serializer[Host]):
    kind = serializers.CharField(
        help_text="The steps, in a word: `run`, or `agent.cli=codex`; empty for all that the host "
        "does."
    )
    until_at = serializers.DateTimeField(source="rests_until")
    why = serializers.CharField()


class WorkerOut(serializers.Serializer[Worker]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    kind = serializers.CharField()
    capabilities = serializers.JSONField()
    first_seen_at = serializers.DateTimeField()
    last_seen_at = serializers.DateTimeField()
    draining = serializers.BooleanField(help_text="It begins nothing until it is let again.")
    rests = RestOut(
        many=True,
        help_text="What its host begins none of for now: it failed card after card.",
    )
    attempts = serializers.SerializerMethodField()

    def get_attempts(self, worker: Worker) -> list[dict[str, Any]]:
        """The live attempts it holds, on boards the caller sees."""
        return list(AttemptOut(getattr(worker, "holding", []), many=True).data)


class DrainedOut(serializers.Serializer[Any]):
    worker = serializers.CharField(allow_null=True, help_text="Null where a host is meant.")
    host = serializers.CharField(allow_null=True, help_text="All of its built-in workers.")
    draining = serializers.BooleanField()
