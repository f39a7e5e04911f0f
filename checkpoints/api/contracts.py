"""What the API takes and gives about steps, checkpoints and artifacts."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from boards import splits
from boards.api.contracts import CardOut, UsageOut, card_out
from boards.models import Race, Split
from boards.standings import Field, Standing
from checkpoints import joining, lines, merging, retention
from checkpoints.differences import Difference, Files
from checkpoints.loglines import Line as LogLine
from checkpoints.loglines import Match as LogMatch
from checkpoints.models import Briefing, Brought, Checkpoint, Keeping, Merge, Salvage, Step
from checkpoints.snapshots import FileChange
from checkpoints.verifying import Fault, Verdict
from events.endpoint import Body, Choice, JSONObject, JSONValue, Line, Number, Shaped, Text, Words
from goals.api.contracts import DecisionIn, DiscoveryIn, Environment

MAX_TEXT = 200_000
KEY_CHARS = r"^[A-Za-z0-9._:@/-]{1,200}$"
KEY_SHAPE = "must be 1 to 200 of the characters A-Z a-z 0-9 . _ : @ / and -."
MAX_COUNT = 2**31 - 1


class Key(Shaped):
    """A step's or checkpoint's key."""

    def __init__(self, **options: Any) -> None:
        super().__init__(KEY_CHARS, KEY_SHAPE, **options)


class Sha256(Shaped):
    """An artifact's name."""

    def __init__(self, **options: Any) -> None:
        super().__init__(r"^[0-9a-f]{64}$", "must be 64 lower-case hexadecimal digits.", **options)


class UsageIn(Body):
    input_tokens = serializers.IntegerField(
        min_value=0, max_value=2**53, required=False, allow_null=True
    )
    output_tokens = serializers.IntegerField(
        min_value=0, max_value=2**53, required=False, allow_null=True
    )
    cost_usd = serializers.DecimalField(
        max_digits=12, decimal_places=6, min_value=0, required=False, allow_null=True
    )
    model = Line(100)


class TestsIn(Body):
    passed = serializers.IntegerField(min_value=0, max_value=MAX_COUNT, required=False)
    failed = serializers.IntegerField(min_value=0, max_value=MAX_COUNT, required=False)
    skipped = serializers.IntegerField(min_value=0, max_value=MAX_COUNT, required=False)
    failing = Words(max_items=1000, max_chars=500)
    passing = Words(max_items=2000, max_chars=500)


class Left(JSONValue):
    """A path that a workspace's snapshot leaves out, alone or with the reason."""

    def __init__(self, **options: Any) -> None:
        super().__init__(4096, allow_null=False, **options)

    def to_internal_value(self, data: Any) -> Any:
        said = super().to_internal_value(data)
        words = said.values() if isinstance(said, dict) and set(said) <= {"path", "reason"} else ()
        if not isinstance(said, str) and not (words and all(isinstance(w, str) for w in words)):
            raise serializers.ValidationError("must be a path, or {'path': …, 'reason': …}.")
        return said


class WorkspaceIn(Body):
    commit = Line(64)
    tree = Line(64)
    base = Line(64)
    changed_files = serializers.IntegerField(min_value=0, max_value=MAX_COUNT, required=False)
    additions = serializers.IntegerField(min_value=0, max_value=MAX_COUNT, required=False)
    deletions = serializers.IntegerField(min_value=0, max_value=MAX_COUNT, required=False)
    skipped = serializers.ListField(
        child=Left(),
        required=False,
        max_length=1000,
        help_text="What is not in it: paths, or objects with `path` and `reason`.",
    )
    files = Words(max_items=1000, max_chars=1000, help_text="The paths that were changed.")
    environment = Environment(
        help_text="What its commands stand on: `python`, `platform`, digests of lock files, …"
    )


class ArtifactRefIn(Body):
    name = Line(500, required=True)
    sha256 = Shaped(r"^[0-9a-f]{64}$", "must be 64 lower-case hexadecimal digits.")


class CheckpointIn(Body):
    key = Key(required=False, allow_null=True)
    summary = Text(MAX_TEXT, required=True)
    next_step = Text(MAX_TEXT)
    state = JSONValue(1024 * 1024)
    tests = TestsIn(required=False, allow_null=True)
    workspace = WorkspaceIn(required=False, allow_null=True)
    artifacts = ArtifactRefIn(many=True, required=False, max_length=200)
    decisions = DecisionIn(many=True, required=False, max_length=50)
    discoveries = DiscoveryIn(many=True, required=False, max_length=50)


class SalvageIn(Body):
    summary = Text(MAX_TEXT, required=True)
    workspace = WorkspaceIn(required=False, allow_null=True)
    bundle = Sha256(
        required=False,
        allow_null=True,
        help_text="An uploaded git bundle with the files, in place of `workspace`.",
    )
    artifacts = ArtifactRefIn(many=True, required=False, max_length=200)


class FinishIn(Body):
    status = Choice(["succeeded", "failed"])
    result = JSONValue(1024 * 1024)
    error = Text(MAX_TEXT)
    usage = UsageIn(required=False, allow_null=True)
    checkpoint = CheckpointIn(required=False, allow_null=True)


class StepIn(FinishIn):
    key = Key()
    status = Choice(
        ["succeeded", "failed", "skipped"],
        required=False,
        allow_null=True,
        help_text="`skipped` is a workflow's word; its `error` says why.",
    )
    title = Line(300)
    kind = Line(40)
    input = JSONValue()
    depends_on_input = serializers.BooleanField(required=False)
    continues = serializers.BooleanField(
        required=False, help_text="Begun again it is not in doubt: it knows what it has done."
    )
    seconds = Number(
        min_value=0,
        max_value=31_536_000,
        required=False,
        help_text="How long it took, with a status.",
    )


class AdoptIn(Body):
    next_step = Text(MAX_TEXT, help_text="What the next attempt is told to do with it.")


class NameIn(Body):
    tag = Line(60, required=True, allow_blank=True, help_text="Empty takes the name away.")


class KeepingIn(Body):
    keep_last = serializers.IntegerField(
        min_value=1, max_value=MAX_COUNT, required=False, allow_null=True
    )
    keep_days = serializers.IntegerField(
        min_value=0, max_value=36_500, required=False, allow_null=True
    )


class BundleIn(Body):
    artifact = Shaped(r"^[0-9a-f]{64}$", "must be 64 lower-case hexadecimal digits.")


class RewindIn(Body):
    checkpoint = serializers.IntegerField(min_value=1, max_value=MAX_COUNT)


class ForkIn(Body):
    checkpoint = serializers.IntegerField(min_value=1, max_value=MAX_COUNT)
    title = Line(300)
    approach = Text(4000)
    approaches = Words(max_items=lines.MAX_FORKS, max_chars=4000)
    count = serializers.IntegerField(
        min_value=1, max_value=lines.MAX_FORKS, required=False, allow_null=True
    )
    choose = Choice(
        Race.Choose.choices,
        default=Race.Choose.FIRST,
        help_text="Who wins a race: the `first` to be completed, whom a `person` chooses, or "
        "the highest `score`.",
    )
    score = Text(
        64 * 1024,
        help_text="A command that is run in each finisher's workspace; the last line it prints is "
        "its number.",
    )
    deadline_seconds = serializers.IntegerField(
        min_value=1,
        max_value=365 * 86_400,
        required=False,
        allow_null=True,
        help_text="The best score by then wins, though others have not ended.",
    )
    budgets = JSONObject(4096, help_text="Of each card; the forked card's own unless told.")


class PartIn(Body):
    """A part of a card; what it leaves out is as it is for the card, but for the workflow."""

    title = Line(300, required=True)
    description = Text(MAX_TEXT)
    priority = serializers.IntegerField(min_value=0, max_value=4, required=False)
    labels = Words()
    requires = Words()
    workflow = JSONValue(1024 * 1024)
    inputs = JSONObject()
    max_attempts = serializers.IntegerField(min_value=1, max_value=1000, required=False)
    review_required = serializers.BooleanField(required=False)
    budgets = JSONObject(4096)


class SplitIn(Body):
    parts = PartIn(many=True, max_length=joining.MAX_PARTS)
    checkpoint = serializers.IntegerField(
        min_value=1,
        max_value=MAX_COUNT,
        required=False,
        allow_null=True,
        help_text="Where the parts start; the newest unless told.",
    )


class PieceIn(Body):
    step = Key(required=False, allow_null=True)
    stream = Choice(["stdout", "stderr", "log", "note"])
    text = Text(1_000_000, required=True, allow_blank=True)


class LogIn(Body):
    step = Key(required=False, allow_null=True)
    stream = Choice(["stdout", "stderr", "log"], required=False)
    text = Text(1_000_000)
    pieces = PieceIn(
        many=True, required=False, max_length=1000, help_text="Several at once, in place of these."
    )


class RawLogQuery(serializers.Serializer[Any]):
    """Which output: of one step, or all of the attempt's."""

    step = Key(required=False, help_text="A step's key; all of the attempt unless told.")


class LogQuery(RawLogQuery):
    """Which stretch of the output."""

    line = serializers.IntegerField(
        min_value=1, max_value=MAX_COUNT, default=1, help_text="The first line, 1 unless told."
    )
    limit = serializers.IntegerField(
        min_value=1,
        max_value=1000,
        default=200,
        help_text="1 to 1000 lines, 200 unless told; fewer come where they are very long.",
    )
    tail = serializers.IntegerField(
        min_value=1, max_value=1000, required=False, help_text="The last so many lines instead."
    )
    plain = serializers.BooleanField(
        default=False, help_text="Without control sequences, as a terminal would leave it."
    )


class LogSearchQuery(RawLogQuery):
    """What to look for in the output."""

    q = serializers.CharField(
        max_length=200, trim_whitespace=False, help_text="The words as they stand, no pattern."
    )
    line = serializers.IntegerField(
        min_value=1, max_value=MAX_COUNT, default=1, help_text="Where to begin; see `next_line`."
    )
    case = serializers.BooleanField(default=False, help_text="Whether capitals matter.")
    texts = serializers.BooleanField(
        default=False, help_text="Whether to tell the lines themselves; then 200 at a time."
    )


class LogLineOut(serializers.Serializer[LogLine]):
    line = serializers.IntegerField()
    step = serializers.CharField()
    stream = serializers.CharField()
    at = serializers.DateTimeField()
    text = serializers.CharField()
    style = serializers.CharField(
        help_text="The graphic rendition that is on when the line begins, such as `1;31`."
    )


class LogOut(serializers.Serializer[Any]):
    results = LogLineOut(many=True)
    next_line = serializers.IntegerField(allow_null=True)
    total_lines = serializers.IntegerField()
    ended = serializers.BooleanField(help_text="No more will come: the attempt is over.")


class LogMatchOut(serializers.Serializer[LogMatch]):
    line = serializers.IntegerField()
    text = serializers.CharField()


class LogMatchesOut(serializers.Serializer[Any]):
    results = serializers.ListField(child=serializers.IntegerField())
    texts = LogMatchOut(many=True)
    next_line = serializers.IntegerField(
        allow_null=True, help_text="Look on from here; null when all was looked through."
    )


class StepUsageOut(serializers.Serializer[Step]):
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    cost_usd = serializers.DecimalField(max_digits=14, decimal_places=6)
    model = serializers.CharField()


class ToldOut(serializers.Serializer[Briefing]):
    sha256 = serializers.CharField()
    markdown = serializers.CharField()
    tokens = serializers.IntegerField()


class StepOut(serializers.Serializer[Step]):
    id = serializers.IntegerField()
    card = serializers.UUIDField(source="card_id")
    attempt = serializers.UUIDField(source="attempt_id")
    line = serializers.IntegerField()
    number = serializers.IntegerField()
    key = serializers.CharField()
    title = serializers.CharField()
    kind = serializers.CharField()
    status = serializers.CharField()
    in_doubt = serializers.BooleanField()
    superseded = serializers.BooleanField()
    inherited = serializers.BooleanField()
    input = serializers.JSONField(allow_null=True)
    result = serializers.JSONField(allow_null=True)
    error = serializers.CharField()
    usage = StepUsageOut(source="*")
    started_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)


class CheckpointOut(serializers.Serializer[Checkpoint]):
    id = serializers.UUIDField()
    card = serializers.UUIDField(source="card_id")
    attempt = serializers.UUIDField(source="attempt_id")
    line = serializers.IntegerField()
    number = serializers.IntegerField()
    parent = serializers.UUIDField(source="parent_id", allow_null=True)
    after_step = serializers.IntegerField()
    key = serializers.CharField()
    summary = serializers.CharField()
    next_step = serializers.CharField()
    state = serializers.JSONField(allow_null=True)
    tests = serializers.JSONField(allow_null=True)
    workspace = serializers.JSONField(allow_null=True)
    artifacts = serializers.JSONField()
    digest = serializers.CharField()
    at = serializers.DateTimeField()
    tag = serializers.CharField()
    kept = serializers.SerializerMethodField(
        help_text="False once its files, artifacts and large state are no longer kept."
    )
    dropped_at = serializers.DateTimeField(allow_null=True)

    def get_kept(self, checkpoint: Checkpoint) -> bool:
        return checkpoint.dropped_at is None


class BroughtOut(serializers.Serializer[Brought]):
    sha256 = serializers.CharField()
    cards = serializers.DictField(
        child=serializers.CharField(), help_text="The new cards' keys by the ones they had."
    )
    actor = serializers.CharField()
    at = serializers.DateTimeField()


class HeldOut(serializers.Serializer[Any]):
    kept = serializers.IntegerField()
    dropped = serializers.IntegerField()


class KeepingOut(serializers.Serializer[Keeping]):
    keep_last = serializers.IntegerField(allow_null=True, help_text="Contents of each card.")
    keep_days = serializers.IntegerField(allow_null=True)
    snapshots_bytes = serializers.IntegerField()
    artifacts_bytes = serializers.IntegerField()
    logs_bytes = serializers.IntegerField()
    events_bytes = serializers.IntegerField(help_text="Of the board's log, about.")
    workspaces_bytes = serializers.IntegerField()
    measured_at = serializers.DateTimeField(allow_null=True)
    checkpoints = serializers.SerializerMethodField()

    @extend_schema_field(HeldOut)
    def get_checkpoints(self, keeping: Keeping) -> dict[str, int]:
        return retention.counts(keeping.board)


class FileChangeOut(serializers.Serializer[FileChange]):
    path = serializers.CharField()
    status = Choice(["added", "deleted", "modified", "type_changed"])
    additions = serializers.IntegerField()
    deletions = serializers.IntegerField()
    binary = serializers.BooleanField()
    patch = serializers.CharField(allow_null=True)
    truncated = serializers.BooleanField()


class FilesOut(serializers.Serializer[Files]):
    changed_files = serializers.IntegerField()
    additions = serializers.IntegerField()
    deletions = serializers.IntegerField()
    files = FileChangeOut(many=True)
    files_left_out = serializers.IntegerField()


class MemoryOut(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    title = serializers.CharField()


class DifferenceOut(serializers.Serializer[Difference]):
    workspace = serializers.SerializerMethodField()
    note = serializers.CharField()
    state = serializers.ListField(child=serializers.DictField())
    state_truncated = serializers.BooleanField(source="state_cut")
    tests = serializers.SerializerMethodField()
    environment = serializers.ListField(
        child=serializers.DictField(child=serializers.CharField()),
        help_text="By `name`, where both have a fingerprint: `from`, `to`.",
    )
    decisions = MemoryOut(many=True)
    discoveries = MemoryOut(many=True)

    @extend_schema_field(FilesOut(allow_null=True))
    def get_workspace(self, found: Difference) -> Any:
        return FilesOut(found).data if found.files is not None else None

    def get_tests(self, found: Difference) -> dict[str, list[str]]:
        names = ("newly_failing", "newly_passing", "flaky")
        return {name: getattr(found, name) for name in names}

    def get_fields(self) -> dict[str, Any]:
        return {
            "from": serializers.IntegerField(source="old.number", default=None, allow_null=True),
            "to": serializers.IntegerField(source="new.number"),
            **super().get_fields(),
        }


class SalvageOut(serializers.Serializer[Salvage]):
    id = serializers.IntegerField()
    attempt = serializers.UUIDField(source="attempt_id")
    attempt_number = serializers.IntegerField(source="attempt.number")
    worker = serializers.CharField(source="attempt.worker")
    summary = serializers.CharField()
    workspace = serializers.JSONField(allow_null=True)
    artifacts = serializers.JSONField()
    by_itself = serializers.SerializerMethodField(
        help_text="Kept from a built-in worker's folder, not told by a worker."
    )
    at = serializers.DateTimeField()
    adopted_as = serializers.IntegerField(
        source="adopted_as.number", default=None, allow_null=True, help_text="A checkpoint."
    )
    adopted_by = serializers.CharField()
    adopted_at = serializers.DateTimeField(allow_null=True)

    def get_by_itself(self, salvage: Salvage) -> bool:
        return bool(salvage.commit)


class SalvageDifferenceOut(serializers.Serializer[Files]):
    """How a salvage's files differ from what the card would otherwise go on from."""

    workspace = serializers.SerializerMethodField()
    note = serializers.CharField()

    @extend_schema_field(FilesOut(allow_null=True))
    def get_workspace(self, found: Files) -> Any:
        return FilesOut(found).data if found.files is not None else None


class ForksOut(CardOut):
    """The first new card, and under ``cards`` all of them."""

    cards = CardOut(many=True)


class RacerOut(serializers.Serializer[Standing]):
    """One card of a race, as it stands."""

    card = serializers.CharField(source="card.key")
    title = serializers.CharField(source="card.title")
    number = serializers.IntegerField()
    state = serializers.CharField(source="card.state")
    approach = serializers.CharField()
    attempt = serializers.IntegerField(source="latest.number", default=None, allow_null=True)
    worker = serializers.CharField(source="latest.worker", default="")
    checkpoint = serializers.IntegerField(allow_null=True)
    steps_recorded = serializers.IntegerField(source="latest.steps_recorded", default=0)
    tests_passed = serializers.IntegerField(
        source="latest.tests_passed", default=None, allow_null=True
    )
    tests_failed = serializers.IntegerField(
        source="latest.tests_failed", default=None, allow_null=True
    )
    additions = serializers.IntegerField(source="latest.additions", default=None, allow_null=True)
    deletions = serializers.IntegerField(source="latest.deletions", default=None, allow_null=True)
    usage = UsageOut(source="spent")
    seconds = serializers.FloatField(help_text="Of work, all attempts together.")
    score = serializers.FloatField(allow_null=True)
    problem = serializers.CharField(help_text="Why it has no score.")
    lost = serializers.CharField(help_text="Why, in a sentence; empty while nobody won.")


class RaceOut(serializers.Serializer[Field]):
    """A race with its racers side by side, in the order in which they were made."""

    id = serializers.UUIDField(source="race.pk")
    source = serializers.CharField(source="race.source.key", default=None, allow_null=True)
    checkpoint = serializers.IntegerField(source="race.checkpoint", allow_null=True)
    choose = serializers.CharField(source="race.choose")
    score = serializers.CharField(
        source="race.score", help_text="The command that gives a finisher its number."
    )
    deadline_at = serializers.DateTimeField(source="race.deadline_at", allow_null=True)
    started_by = serializers.CharField(source="race.started_by")
    started_at = serializers.DateTimeField(source="race.started_at")
    winner = serializers.CharField(source="race.winner.key", default=None, allow_null=True)
    decided_at = serializers.DateTimeField(source="race.decided_at", allow_null=True)
    decided_by = serializers.CharField(source="race.decided_by")
    racers = RacerOut(many=True)


class PartOut(serializers.Serializer[splits.Part]):
    card = serializers.CharField(source="card.key")
    title = serializers.CharField(source="card.title")
    state = serializers.CharField(source="card.state")
    blocked_reason = serializers.CharField(source="card.blocked_reason")
    outcome = serializers.CharField()
    joins = serializers.BooleanField(help_text="False where the card no longer waits for it.")


class SplitOut(serializers.Serializer[Split]):
    """A card's newest split, and how its parts stand."""

    card = serializers.CharField(source="card.key")
    checkpoint = serializers.IntegerField()
    actor = serializers.CharField()
    at = serializers.DateTimeField()
    joined_at = serializers.DateTimeField(allow_null=True)
    joined_as = serializers.IntegerField(
        allow_null=True, help_text="The checkpoint that holds what all parts changed."
    )
    files = serializers.ListField(
        child=serializers.CharField(), help_text="Changed by several parts in the same place."
    )
    parts = serializers.SerializerMethodField()

    @extend_schema_field(PartOut(many=True))
    def get_parts(self, made: Split) -> Any:
        return PartOut(splits.parts_of(made), many=True).data


class PartsOut(CardOut):
    """The card that was split, and under ``parts`` the new cards."""

    parts = CardOut(many=True)


class MergeIn(Body):
    strategy = Choice(choices=merging.STRATEGIES, default="auto")
    into = Line(250, help_text="A branch; empty is the one that the repository shows first.")
    message = Text(20_000, help_text="The commit message of a merge or squash.")
    checkpoint = serializers.IntegerField(
        min_value=1,
        max_value=MAX_COUNT,
        required=False,
        allow_null=True,
        help_text="Refused with 412 where the card has a newer one.",
    )
    approve = serializers.BooleanField(default=True)
    on_conflict = Choice(
        choices=("refuse", "send_back"),
        default="refuse",
        help_text="`send_back`: the card goes on from both sides joined, conflicts marked.",
    )
    reason = Text(5000, help_text="What the next worker is told where it is sent back.")
    with_secrets = serializers.BooleanField(
        default=False,
        help_text="Even if files hold a secret of the board, which is refused otherwise: 409 "
        "`secret_in_files`.",
    )


class JoinedOut(serializers.Serializer[Any]):
    """A card that was sent back: where it goes on, and where the conflicts are."""

    into = serializers.CharField()
    files = serializers.ListField(child=serializers.CharField())
    checkpoint = serializers.IntegerField()
    card = CardOut()


class MergeOut(serializers.ModelSerializer[Merge]):
    checkpoint = serializers.IntegerField(source="checkpoint.number")
    card = serializers.SerializerMethodField()

    class Meta:
        model = Merge
        fields = (
            "id",
            "checkpoint",
            "strategy",
            "branch",
            "into",
            "commit",
            "actor",
            "at",
            "card",
        )

    @extend_schema_field(CardOut)
    def get_card(self, merge: Merge) -> dict[str, Any]:
        return card_out(merge.card)


class FaultOut(serializers.Serializer[Fault]):
    checkpoint = serializers.IntegerField(allow_null=True)
    problem = serializers.CharField()


class VerdictOut(serializers.Serializer[Verdict]):
    card = serializers.CharField(source="card.key")
    intact = serializers.BooleanField()
    head = serializers.CharField()
    checkpoints = serializers.IntegerField()
    workspaces = serializers.IntegerField()
    elsewhere = serializers.IntegerField()
    dropped = serializers.IntegerField(help_text="Contents that the board no longer keeps.")
    artifacts = serializers.IntegerField()
    faults = FaultOut(many=True)


class RemarkIn(Body):
    text = Text(MAX_TEXT, required=True)
    checkpoint = serializers.IntegerField(min_value=1, max_value=MAX_COUNT)
    path = Line(1000, required=True)
    side = Choice(
        ["new", "base"],
        default="new",
        help_text="The checkpoint's own file, or what the card started from.",
    )
    line = serializers.IntegerField(min_value=1, max_value=MAX_COUNT)


class ResolveIn(Body):
    resolved = serializers.BooleanField()
