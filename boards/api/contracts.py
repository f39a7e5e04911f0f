"""What the board side of the API takes (``…In``) and gives (``…Out``): shapes, no rules."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from boards import cards, setup
from boards.models import Attempt, Board, Card, Column, Message
from events.endpoint import Body, Choice, JSONObject, JSONValue, Line, Shaped, Text, Words
from goals.api.contracts import AtOnce, Share
from kernel import globs
from kernel.access import Principal, Role
from kernel.addresses import shown_to_all

MAX_TEXT = 200_000


# ── in ───────────────────────────────────────────────────────────────────────────────────


class NewColumnIn(Body):
    name = Line(60)
    kind = Choice(Column.Kind.choices, required=False)
    wip_limit = serializers.IntegerField(
        min_value=1, max_value=10_000, required=False, allow_null=True
    )


class ColumnIn(NewColumnIn):
    id = serializers.UUIDField(required=False)


class KeptPaths(Words):
    """Paths within a workspace, by name or by pattern, see ``kernel.globs``."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_items=20, max_chars=200, **kwargs)

    def to_internal_value(self, data: Any) -> Any:
        found = [path.strip().rstrip("/") for path in super().to_internal_value(data)]
        wrong = [f"{path or '/'} {why}." for path in found if (why := globs.problem(path))]
        if wrong:
            raise serializers.ValidationError(wrong)
        return found


class DefaultsIn(Body):
    max_attempts = serializers.IntegerField(min_value=1, max_value=1000, required=False)
    review_required = serializers.BooleanField(required=False)
    lease_seconds = serializers.IntegerField(min_value=2, max_value=3600, required=False)
    follow_ups = serializers.IntegerField(min_value=0, max_value=1000, required=False)
    start_from_parents = serializers.BooleanField(
        required=False, help_text="A card starts from what the cards it depends on ended with."
    )
    test_command = Line(
        1000, help_text="What criteria that name tests are checked with: `python -m pytest -q`."
    )
    same_failures = serializers.IntegerField(
        min_value=1,
        max_value=100,
        required=False,
        help_text="So many failures of one kind in a row ask for another approach; 3 unless told.",
    )
    enforce_decisions = serializers.BooleanField(
        required=False, help_text="Refuse a decision that resembles one in force and says nothing."
    )
    memory_mb = serializers.IntegerField(
        min_value=16, max_value=2**24, required=False, help_text="For all processes of a command."
    )
    processes = serializers.IntegerField(min_value=1, max_value=2**22, required=False)
    keep_ignored = KeptPaths(
        help_text="Files and folders that git ignores and snapshots hold all the same, up to "
        "256 MiB: build state worth keeping, such as `node_modules/.cache`, `build/*.cache` or "
        "`**/node_modules`."
    )
    output_mb = serializers.IntegerField(
        min_value=1, max_value=1024, required=False, help_text="Of a command's output that is kept."
    )


class Caps(serializers.DictField):
    """How many cards may run at once, by label or by pattern of workers' names."""

    def __init__(self, **kwargs: Any) -> None:
        most = serializers.IntegerField(min_value=0, max_value=10_000)
        super().__init__(child=most, required=False, **kwargs)

    def to_internal_value(self, data: Any) -> Any:
        found = super().to_internal_value(data)
        if len(found) > 100:
            raise serializers.ValidationError("has more than 100 entries.")
        if not all(name.strip() and len(name) <= 100 and "\x00" not in name for name in found):
            raise serializers.ValidationError("names must be 1 to 100 characters.")
        return found


class CapsIn(Body):
    labels = Caps()
    workers = Caps(
        help_text="By pattern of names (`ada-*`), or `built_in` or `agent`: those together."
    )
    each_worker = serializers.IntegerField(min_value=1, max_value=10_000, required=False)


class BoardEdit(Body):
    name = Line(100, required=True)
    repository = Line(1000)
    pull = Choice(Board.Pull.choices, required=False)
    allow_commands = serializers.BooleanField(required=False)
    allow_network = serializers.BooleanField(
        required=False, help_text="Whether commands reach a network, where they can be kept off it."
    )
    enforce_dead_ends = serializers.BooleanField(required=False)
    answer_by_link = serializers.BooleanField(
        required=False,
        help_text="Whether the link in somebody's own letter answers without signing in.",
    )
    defaults = DefaultsIn(required=False)
    budgets = JSONObject(4096)
    share = Share()
    max_running = AtOnce()
    caps = CapsIn(required=False)
    ageing_seconds = serializers.IntegerField(
        min_value=60,
        max_value=365 * 86_400,
        required=False,
        allow_null=True,
        help_text="A card that waited so long counts one priority higher, and so on.",
    )
    columns = ColumnIn(many=True, required=False, max_length=50)
    archived = serializers.BooleanField(required=False)


class BoardIn(BoardEdit):
    key = Shaped(r"^[A-Z][A-Z0-9]{1,9}$", "must be 2 to 10 capitals and digits, a letter first.")
    columns = NewColumnIn(many=True, required=False, max_length=50)
    template = Choice(
        list(setup.TEMPLATES), required=False, help_text="What the board has in it at first."
    )
    archived = None


class Estimate(serializers.IntegerField):
    """How much work a card is thought to be, in the board's own unit."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(min_value=0, max_value=1000, required=False, allow_null=True, **kwargs)


class Covers(serializers.ListField):
    """Numbers of the goal's criteria that the card is for."""

    def __init__(self, **kwargs: Any) -> None:
        number = serializers.IntegerField(min_value=1, max_value=10_000)
        super().__init__(child=number, max_length=200, required=False, **kwargs)


class CardEdit(Body):
    column = Line(64)
    goal = serializers.UUIDField(required=False, allow_null=True)
    title = Line(300, required=True)
    description = Text(MAX_TEXT)
    priority = serializers.IntegerField(min_value=0, max_value=4, required=False)
    labels = Words()
    requires = Words()
    depends_on = Words(max_items=200)
    workflow = JSONValue(1024 * 1024)
    inputs = JSONObject()
    max_attempts = serializers.IntegerField(min_value=1, max_value=1000, required=False)
    review_required = serializers.BooleanField(required=False)
    due_at = serializers.DateTimeField(required=False, allow_null=True)
    estimate = Estimate()
    covers = Covers()
    budgets = JSONObject(4096)


class CardIn(CardEdit):
    board = Line(64, required=True)
    template = Line(64, help_text="A workflow template of the board, which inputs are for.")


class MoveIn(Body):
    """A place; with ``goal`` or ``priority``, a place in the lane of those that share it."""

    column = Line(64, required=True)
    before = Line(64)
    after = Line(64)
    goal = serializers.UUIDField(required=False, allow_null=True)
    priority = serializers.IntegerField(min_value=0, max_value=4, required=False)


class MessageIn(Body):
    text = Text(MAX_TEXT, required=True)
    answers = serializers.IntegerField(
        min_value=1, max_value=2**63 - 1, required=False, allow_null=True
    )
    reason = Text(20_000, help_text="Why the answer is so; goes with `answers`.")
    pinned = serializers.BooleanField(required=False)


class RejectIn(Body):
    reason = Text(MAX_TEXT, required=True)


class NothingIn(Body):
    """A body with nothing in it."""


class TokenIn(Body):
    name = Line(100, required=True)
    board = Line(64, required=True)
    role = Choice(["viewer", "member", "operator"], default="member")
    expires_at = serializers.DateTimeField(required=False, allow_null=True)
    carries_secrets = serializers.BooleanField(
        default=False, help_text="Workers on other hosts are told the board's secrets with it."
    )


class CardQuery(serializers.Serializer[Any]):
    board = serializers.CharField(required=False, max_length=64)
    goal = serializers.UUIDField(required=False)
    column = serializers.CharField(required=False, max_length=64)
    kind = Choice(Column.Kind.choices, required=False)
    state = Choice(Card.State.choices, required=False)
    label = serializers.CharField(required=False, max_length=100)
    q = serializers.CharField(required=False, max_length=200)


# ── out ──────────────────────────────────────────────────────────────────────────────────


class ColumnOut(serializers.Serializer[Column]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    kind = serializers.CharField()
    wip_limit = serializers.IntegerField(allow_null=True)


class BoardOut(serializers.Serializer[Board]):
    id = serializers.UUIDField()
    key = serializers.CharField()
    name = serializers.CharField()
    repository = serializers.SerializerMethodField(
        help_text="Its password and user are left out for all but operators of the board."
    )
    pull = serializers.CharField()
    allow_commands = serializers.BooleanField()
    allow_network = serializers.BooleanField()
    enforce_dead_ends = serializers.BooleanField()
    answer_by_link = serializers.BooleanField()
    defaults = serializers.JSONField()
    budgets = serializers.JSONField()
    over_budget = serializers.CharField(source="over")
    share = serializers.IntegerField()
    max_running = serializers.IntegerField(allow_null=True)
    caps = serializers.JSONField()
    ageing_seconds = serializers.IntegerField(allow_null=True)
    archived_at = serializers.DateTimeField(allow_null=True)
    columns = serializers.SerializerMethodField()
    version = serializers.IntegerField()
    created_at = serializers.DateTimeField()

    def get_repository(self, board: Board) -> str:
        principal: Principal = self.context["principal"]
        if principal.role_on(board.pk) == Role.OPERATOR:
            return board.repository
        return shown_to_all(board.repository)

    def get_columns(self, board: Board) -> list[dict[str, Any]]:
        columns = sorted(board.columns.all(), key=lambda c: c.position)
        return list(ColumnOut(columns, many=True).data)


class UsageOut(serializers.Serializer[Any]):
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    cost_usd = serializers.DecimalField(max_digits=14, decimal_places=6)


class AttemptOut(serializers.Serializer[Attempt]):
    id = serializers.UUIDField()
    card = serializers.UUIDField(source="card_id")
    number = serializers.IntegerField()
    line = serializers.IntegerField()
    worker = serializers.CharField()
    status = serializers.CharField()
    started_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)
    last_seen_at = serializers.DateTimeField()
    lease_expires_at = serializers.DateTimeField()
    note = serializers.CharField()
    percent = serializers.IntegerField(allow_null=True)
    approach = serializers.CharField()
    differs = serializers.CharField()
    outcome = serializers.CharField()
    next_step = serializers.CharField()
    reason = serializers.CharField()
    error = serializers.CharField()
    fault = serializers.CharField()
    lesson = serializers.CharField()
    result = serializers.JSONField(allow_null=True)
    resumed_from = serializers.IntegerField(allow_null=True)
    steps_done = serializers.IntegerField()
    usage = UsageOut(source="*")
    briefing_sha256 = serializers.CharField()


class CountsOut(serializers.Serializer[Any]):
    attempts = serializers.IntegerField()
    steps = serializers.IntegerField()
    checkpoints = serializers.IntegerField()
    failures = serializers.IntegerField()


class CardOut(serializers.Serializer[Card]):
    """A card with the newest attempt in ``latest``, see ``with_latest``."""

    id = serializers.UUIDField()
    key = serializers.CharField()
    board = serializers.UUIDField(source="board_id")
    goal = serializers.UUIDField(source="goal_id", allow_null=True)
    title = serializers.CharField()
    description = serializers.CharField()
    column = serializers.UUIDField(source="column_id")
    kind = serializers.CharField(source="column.kind")
    state = serializers.CharField()
    reason = serializers.SerializerMethodField()
    why_waiting = serializers.SerializerMethodField()
    paused = serializers.BooleanField()
    blocked_reason = serializers.CharField()
    priority = serializers.IntegerField()
    labels = serializers.ListField(child=serializers.CharField())
    requires = serializers.ListField(child=serializers.CharField())
    depends_on = serializers.SerializerMethodField()
    workflow = serializers.JSONField(allow_null=True)
    inputs = serializers.JSONField()
    max_attempts = serializers.IntegerField()
    review_required = serializers.BooleanField()
    budgets = serializers.JSONField()
    over_budget = serializers.CharField(source="overspent")
    due_at = serializers.DateTimeField(allow_null=True)
    estimate = serializers.IntegerField(allow_null=True)
    covers = serializers.ListField(child=serializers.IntegerField())
    not_before_at = serializers.DateTimeField(source="not_before", allow_null=True)
    fence = serializers.IntegerField()
    line = serializers.IntegerField()
    origin_checkpoint = serializers.UUIDField(allow_null=True)
    race = serializers.UUIDField(source="race_id", allow_null=True)
    choose = serializers.CharField(
        source="race.choose",
        default=None,
        allow_null=True,
        help_text="Who wins its race: `first`, `person` or `score`.",
    )
    part_of = serializers.CharField(
        source="part_of.card.key",
        default=None,
        allow_null=True,
        help_text="The card that it was split from, and that it is joined with.",
    )
    attempt = serializers.SerializerMethodField()
    counts = serializers.SerializerMethodField()
    version = serializers.IntegerField()
    created_by = serializers.CharField()
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()
    state_since_at = serializers.DateTimeField(source="state_since")

    def get_reason(self, card: Card) -> str | None:
        return cards.why_waiting(card)[0] if card.state == Card.State.WAITING else None

    def get_why_waiting(self, card: Card) -> str | None:
        return cards.why_waiting(card)[1] if card.state == Card.State.WAITING else None

    def get_depends_on(self, card: Card) -> list[str]:
        return [d.depends_on.key for d in card.dependencies.all()]

    def get_attempt(self, card: Card) -> dict[str, Any] | None:
        latest = latest_of(card)
        if latest is None or latest.status != Attempt.Status.RUNNING:
            return None
        return dict(AttemptOut(latest).data)

    def get_counts(self, card: Card) -> dict[str, int]:
        latest = latest_of(card)
        return {
            "attempts": card.fence,
            "steps": latest.step_number if latest else 0,
            "checkpoints": card.newest_checkpoint(latest),
            "failures": card.failures,
        }


class MessageOut(serializers.Serializer[Message]):
    id = serializers.IntegerField()
    card = serializers.UUIDField(source="card_id")
    kind = serializers.CharField()
    actor = serializers.CharField()
    text = serializers.CharField()
    options = serializers.JSONField()
    question_kind = serializers.CharField(source="asks")
    detail = serializers.SerializerMethodField(help_text="What a question is about, verbatim.")
    default = serializers.CharField()
    on_timeout = serializers.CharField()
    due_at = serializers.DateTimeField(allow_null=True)
    lapsed_at = serializers.DateTimeField(allow_null=True)
    reason = serializers.SerializerMethodField(help_text="Of an answer.")
    via = serializers.CharField(
        help_text="How an answer came: `api`, `browser`, `link`, `timeout`."
    )
    answers = serializers.IntegerField(source="answers_id", allow_null=True)
    attempt = serializers.UUIDField(source="attempt_id", allow_null=True)
    closed_at = serializers.DateTimeField(allow_null=True)
    pinned = serializers.BooleanField()
    place = serializers.JSONField(allow_null=True)
    at = serializers.DateTimeField()

    def get_detail(self, message: Message) -> str:
        return "" if message.kind == Message.Kind.ANSWER else message.detail

    def get_reason(self, message: Message) -> str:
        return message.detail if message.kind == Message.Kind.ANSWER else ""


def with_latest(found: list[Card]) -> list[Card]:
    """Give each card its newest attempt as ``latest``, in one read for all of them."""
    fences = {c.pk: c.fence for c in found if c.fence}
    latest: dict[Any, Attempt] = {}
    if fences:
        numbered = Attempt.objects.filter(card_id__in=fences, number__in=set(fences.values()))
        latest = {a.card_id: a for a in numbered if a.number == fences[a.card_id]}
    for card in found:
        card.latest = latest.get(card.pk)  # type: ignore[attr-defined]
    return found


def latest_of(card: Card) -> Attempt | None:
    """Return the card's newest attempt, read once."""
    if not hasattr(card, "latest"):
        with_latest([card])
    latest: Attempt | None = card.latest  # type: ignore[attr-defined]
    return latest


def card_out(card: Card) -> dict[str, Any]:
    """Return the card as the API shows it, read afresh with what it needs."""
    fresh = loaded().get(pk=card.pk)
    return dict(CardOut(fresh).data)


def loaded() -> Any:
    """Return all cards with what ``CardOut`` reads loaded."""
    above = Card.objects.select_related("column", "goal", "board", "race", "part_of__card")
    return above.defer("goal__intent", "goal__constraints").prefetch_related(
        "dependencies__depends_on"
    )
