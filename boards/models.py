from __future__ import annotations

import json
from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from django.conf import settings
from django.db import connection, models
from django.db.models import F, Q
from django.db.models.expressions import RawSQL
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

import boards.notices.models
import boards.planning.models
import boards.secrets.models  # noqa: F401
from boards import needs
from boards.faults import Fault
from goals.models import Goal
from kernel.access import Role
from kernel.ids import uuid7

if TYPE_CHECKING:
    from django_stubs_ext.db.models.manager import RelatedManager


class BoardQuerySet(models.QuerySet["Board"]):
    def visible_to(self, boards: frozenset[UUID] | None) -> BoardQuerySet:
        return self if boards is None else self.filter(pk__in=boards)


class Board(models.Model):
    """Where one team's or product's cards are, and the rules they live under."""

    class Pull(models.TextChoices):
        MANUAL = "manual"  # workers take what a person put in progress
        AUTO = "auto"  # workers may pull from the backlog while WIP allows

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    key = models.CharField(max_length=10, unique=True)
    name = models.CharField(max_length=100)
    repository = models.CharField(max_length=1000, blank=True)
    pull = models.CharField(max_length=8, choices=Pull, default=Pull.MANUAL)
    allow_commands = models.BooleanField(default=False)
    allow_network = models.BooleanField(default=False)  # for those commands
    enforce_dead_ends = models.BooleanField(default=False)
    answer_by_link = models.BooleanField(default=False)  # without signing in, see notices.links
    defaults = models.JSONField(default=dict, blank=True)
    budgets = models.JSONField(default=dict, blank=True)
    over = models.CharField(max_length=300, blank=True, editable=False)  # see boards.bounds
    #: Its weight where boards take turns; see ``boards.choice`` for this and what follows.
    share = models.PositiveSmallIntegerField(default=1)
    max_running = models.PositiveIntegerField(null=True, blank=True)
    #: ``{"labels": {label: n}, "workers": {pattern: n}, "each_worker": n}``
    caps = models.JSONField(default=dict, blank=True)
    ageing_seconds = models.PositiveIntegerField(null=True, blank=True)
    turn_started = models.FloatField(default=0, editable=False)
    turn_ended = models.FloatField(default=0, editable=False)
    goal_turns = models.JSONField(default=dict, blank=True, editable=False)
    last_card_number = models.PositiveIntegerField(default=0, editable=False)
    version = models.PositiveIntegerField(default=1)
    archived_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = BoardQuerySet.as_manager()

    if TYPE_CHECKING:
        columns: RelatedManager[Column]
        cards: RelatedManager[Card]

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(key__regex=r"^[A-Z][A-Z0-9]{1,9}$"), name="board_key_shape"
            ),
            models.CheckConstraint(condition=Q(share__gte=1), name="board_share_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.key} {self.name}"


class Column(models.Model):
    """A place on a board. Its kind, which never changes, says what standing there means."""

    class Kind(models.TextChoices):
        BACKLOG = "backlog", _("Backlog")
        IN_PROGRESS = "in_progress", _("In progress")
        BLOCKED = "blocked", _("Blocked")
        REVIEW = "review", _("Review")
        COMPLETED = "completed", _("Completed")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    board = models.ForeignKey(Board, models.CASCADE, related_name="columns")
    name = models.CharField(max_length=60)
    kind = models.CharField(max_length=16, choices=Kind)
    wip_limit = models.PositiveIntegerField(null=True, blank=True)
    position = models.PositiveSmallIntegerField()

    if TYPE_CHECKING:
        board_id: UUID
        cards: RelatedManager[Card]

    class Meta:
        ordering = ["position"]
        constraints = [
            models.CheckConstraint(
                condition=Q(wip_limit=None) | Q(wip_limit__gte=1), name="column_wip_positive"
            ),
            models.CheckConstraint(
                condition=Q(kind__in=["backlog", "in_progress", "blocked", "review", "completed"]),
                name="column_kind_known",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class CardQuerySet(models.QuerySet["Card"]):
    def visible_to(self, boards: frozenset[UUID] | None) -> CardQuerySet:
        return self if boards is None else self.filter(board_id__in=boards)

    def ready(self, now: datetime) -> CardQuerySet:
        """Cards a worker may be given now, as far as their own rows tell.

        The conditions of the partial index ``card_claim_order`` come first, word for word.
        """
        return self.filter(state=Card.State.WAITING, paused=False, unmet_dependencies=0).filter(
            Q(not_before=None) | Q(not_before__lte=now)
        )

    def within(self, capabilities: Collection[str]) -> CardQuerySet:
        """Cards whose every requirement is among ``capabilities``."""
        have = json.dumps(sorted(set(capabilities)))
        if connection.vendor == "postgresql":
            sql = '"boards_card"."requires" <@ %s::jsonb'
        else:
            sql = (
                'NOT EXISTS (SELECT 1 FROM json_each("boards_card"."requires") AS need'
                " WHERE need.value NOT IN (SELECT value FROM json_each(%s)))"
            )
        return self.filter(Q(requires=[]) | Q(RawSQL(sql, [have], models.BooleanField())))

    def without_steps(
        self, words: Collection[str], boards: Collection[UUID] | None = None
    ) -> CardQuerySet:
        """Cards without a step that one of the ``needs`` words names, or of none of the boards."""
        if not words:
            return self
        sql, values = needs.condition('"boards_card"."workflow"', connection.vendor, words)
        without = Q(RawSQL(sql, values, models.BooleanField()))
        return self.filter(without if boards is None else ~Q(board_id__in=boards) | without)

    def carrying(self, labels: Collection[str]) -> RawSQL:
        """The condition that a card has one of these labels."""
        wanted = json.dumps(list(labels))
        if connection.vendor == "postgresql":
            sql = (
                'EXISTS (SELECT 1 FROM jsonb_array_elements("boards_card"."labels") AS one'
                " WHERE %s::jsonb @> one)"
            )
        else:
            sql = (
                'EXISTS (SELECT 1 FROM json_each("boards_card"."labels")'
                " WHERE value IN (SELECT value FROM json_each(%s)))"
            )
        return RawSQL(sql, [wanted], models.BooleanField())

    def labelled(self, label: str) -> CardQuerySet:
        """Cards that carry exactly this label."""
        if connection.vendor == "postgresql":
            return self.filter(labels__contains=[label])
        sql = 'EXISTS (SELECT 1 FROM json_each("boards_card"."labels") WHERE value = %s)'
        return self.filter(RawSQL(sql, [label], models.BooleanField()))

    def in_claim_order(self) -> CardQuerySet:
        return self.order_by("priority", "rank", "id")


class Card(models.Model):
    """One piece of work. Its row is the lock for its state and its attempts.

    ``fence`` counts the claims ever made; it is the number of the newest attempt.
    ``state`` is kept by the transitions and agrees with the kind of ``column``.
    """

    class State(models.TextChoices):
        BACKLOG = "backlog", _("Backlog")
        WAITING = "waiting", _("Waiting")  # in progress, no worker yet
        RUNNING = "running", _("Running")  # in progress, exactly one live attempt
        BLOCKED = "blocked", _("Blocked")
        REVIEW = "review", _("In review")
        COMPLETED = "completed", _("Completed")
        CANCELLED = "cancelled", _("Cancelled")

    #: The kind of column in which a card of each state stands.
    KIND_OF = {
        State.BACKLOG: Column.Kind.BACKLOG,
        State.WAITING: Column.Kind.IN_PROGRESS,
        State.RUNNING: Column.Kind.IN_PROGRESS,
        State.BLOCKED: Column.Kind.BLOCKED,
        State.REVIEW: Column.Kind.REVIEW,
        State.COMPLETED: Column.Kind.COMPLETED,
        State.CANCELLED: Column.Kind.COMPLETED,
    }

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    board = models.ForeignKey(Board, models.CASCADE, related_name="cards")
    number = models.PositiveIntegerField()
    key = models.CharField(max_length=24, unique=True)
    goal = models.ForeignKey(Goal, models.SET_NULL, null=True, blank=True, related_name="cards")
    column = models.ForeignKey(Column, models.PROTECT, related_name="cards")
    state = models.CharField(max_length=16, choices=State, default=State.BACKLOG)
    rank = models.BigIntegerField()

    title = models.CharField(max_length=300)
    description = models.TextField(blank=True)
    priority = models.PositiveSmallIntegerField(default=3)  # 0 urgent … 4 none
    labels = models.JSONField(default=list, blank=True)
    requires = models.JSONField(default=list, blank=True)
    workflow = models.JSONField(null=True, blank=True)
    inputs = models.JSONField(default=dict, blank=True)
    max_attempts = models.PositiveSmallIntegerField(default=3)
    review_required = models.BooleanField(default=False)
    due_at = models.DateTimeField(null=True, blank=True)
    estimate = models.PositiveSmallIntegerField(null=True, blank=True)  # in the board's own unit
    covers = models.JSONField(default=list, blank=True)  # numbers of the goal's criteria
    planned_as = models.CharField(max_length=80, blank=True, editable=False)  # ref in its plan
    budgets = models.JSONField(default=dict, blank=True)
    #: Which of its budgets is used up, in words; see ``boards.bounds``.
    over = models.CharField(max_length=300, blank=True, editable=False)

    depends_on: models.ManyToManyField[Card, Dependency] = models.ManyToManyField(
        "self", through="Dependency", symmetrical=False, related_name="dependents"
    )
    unmet_dependencies = models.PositiveIntegerField(default=0, editable=False)
    paused = models.BooleanField(default=False)
    not_before = models.DateTimeField(null=True, blank=True)
    failures = models.PositiveSmallIntegerField(default=0)  # since somebody last made progress
    blocked_reason = models.TextField(blank=True)

    fence = models.PositiveIntegerField(default=0, editable=False)
    line = models.PositiveIntegerField(default=1, editable=False)
    origin_checkpoint = models.UUIDField(null=True, blank=True, editable=False)
    race = models.ForeignKey(
        "Race",
        models.SET_NULL,
        null=True,
        blank=True,
        editable=False,
        db_column="race",
        db_index=False,  # a partial one, see below
        related_name="cards",
    )
    part_of = models.ForeignKey(
        "Split",
        models.SET_NULL,
        null=True,
        blank=True,
        editable=False,
        db_index=False,  # a partial one, see below
        related_name="parts",
    )
    #: What the first attempt on a new line starts with; None once one has started.
    carried = models.JSONField(null=True, blank=True, editable=False)

    version = models.PositiveIntegerField(default=1, editable=False)
    created_by = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(default=timezone.now)
    state_since = models.DateTimeField(default=timezone.now)
    archived_at = models.DateTimeField(null=True, blank=True)

    objects = CardQuerySet.as_manager()

    if TYPE_CHECKING:
        board_id: UUID
        goal_id: UUID | None
        column_id: UUID
        race_id: UUID | None
        part_of_id: int | None
        attempts: RelatedManager[Attempt]
        messages: RelatedManager[Message]
        dependencies: RelatedManager[Dependency]

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["board", "number"], name="card_number_per_board"),
            models.UniqueConstraint(fields=["column", "rank"], name="card_rank_per_column"),
            models.CheckConstraint(
                condition=Q(
                    state__in=[
                        "backlog",
                        "waiting",
                        "running",
                        "blocked",
                        "review",
                        "completed",
                        "cancelled",
                    ]
                ),
                name="card_state_known",
            ),
            models.CheckConstraint(condition=Q(priority__lte=4), name="card_priority_range"),
            models.CheckConstraint(condition=Q(max_attempts__gte=1), name="card_max_attempts_min"),
            models.CheckConstraint(
                condition=~Q(state="running") | Q(fence__gte=1), name="card_runs_under_a_fence"
            ),
        ]
        indexes = [
            models.Index(
                fields=["origin_checkpoint"],
                condition=Q(origin_checkpoint__isnull=False),
                name="forks_of_a_checkpoint",
            ),
            models.Index(fields=["race"], condition=Q(race__isnull=False), name="cards_of_a_race"),
            models.Index(
                fields=["part_of"], condition=Q(part_of__isnull=False), name="parts_of_a_split"
            ),
            models.Index(
                fields=["board", "priority", "rank", "id"],
                condition=Q(state="waiting", paused=False, unmet_dependencies=0),
                name="card_claim_order",
            ),
            models.Index(
                fields=["priority", "rank", "id"],
                condition=Q(state="waiting", paused=False, unmet_dependencies=0),
                name="card_claim_order_all",
            ),
            models.Index(
                fields=["board", "goal", "priority", "rank", "id"],
                condition=Q(state="waiting", paused=False, unmet_dependencies=0),
                name="card_claim_order_of_goal",
            ),
            models.Index(
                fields=["board", "priority", "state_since"],
                condition=Q(state="waiting", paused=False, unmet_dependencies=0),
                name="card_waiting_longest",
            ),
            models.Index(
                fields=["board", "priority", "rank", "id"],
                condition=Q(
                    state="waiting",
                    paused=False,
                    unmet_dependencies=0,
                    workflow__isnull=False,
                ),
                name="card_work_order",
            ),
            models.Index(
                fields=["board", "priority", "rank", "id"],
                condition=Q(state="backlog"),
                name="card_pull_order",
            ),
            models.Index(fields=["board", "state"], name="card_of_state"),
            models.Index(fields=["board"], condition=~Q(over=""), name="card_over_budget"),
        ]

    def __str__(self) -> str:
        return f"{self.key} {self.title}"

    @property
    def needs_built_in_worker(self) -> bool:
        """True when the card brings a workflow that built-in workers can carry out."""
        return bool(self.workflow)

    def newest_checkpoint(self, latest: Attempt | None) -> int:
        """Return the number of its newest checkpoint, given its newest attempt; 0 for none.

        What was joined or adopted since is no attempt's yet.
        """
        if latest is None:
            return 0
        given = (self.carried or {}).get("checkpoint_number", 0)
        return max(latest.checkpoint_number, int(given))

    @property
    def overspent(self) -> str:
        """Which budget of the card, its goal or its board is used up, in words; empty if none.

        Goal and board are asked only where they are loaded: it costs no statement.
        """
        loaded = self._state.fields_cache
        owners = (self, loaded.get("goal"), loaded.get("board"))
        return next((str(owner.over) for owner in owners if owner and owner.over), "")


class Race(models.Model):
    """Cards that start from one checkpoint and compete; see ``boards.races``.

    It is under way until ``decided_at``. ``checkpoint`` is the number that the ``source`` card's
    has; ``score`` is the command that gives a finisher its number.
    """

    class Choose(models.TextChoices):
        FIRST = "first"  # whoever is completed first
        PERSON = "person"  # whom a person chooses
        SCORE = "score"  # the highest number

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    board = models.ForeignKey(Board, models.CASCADE, related_name="+")
    source = models.ForeignKey(Card, models.SET_NULL, null=True, related_name="races")
    checkpoint = models.PositiveIntegerField(null=True)
    choose = models.CharField(max_length=8, choices=Choose, default=Choose.FIRST)
    score = models.TextField(blank=True)
    deadline_at = models.DateTimeField(null=True, blank=True)
    started_by = models.CharField(max_length=200, blank=True)
    started_at = models.DateTimeField(default=timezone.now, editable=False)
    winner = models.ForeignKey(Card, models.SET_NULL, null=True, related_name="+")
    decided_at = models.DateTimeField(null=True, blank=True)
    decided_by = models.CharField(max_length=200, blank=True)

    if TYPE_CHECKING:
        cards: RelatedManager[Card]
        source_id: UUID | None
        winner_id: UUID | None

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(choose="score") & ~Q(score="") | ~Q(choose="score") & Q(score=""),
                name="race_scored_by_a_command",
            ),
        ]
        indexes = [
            models.Index(fields=["choose"], condition=Q(decided_at=None), name="race_under_way"),
        ]

    def __str__(self) -> str:
        return f"race decided by {self.choose}"


class Racer(models.Model):
    """What a card is in its race: how it is to be gone about, what it scored, why it lost."""

    card = models.OneToOneField(Card, models.CASCADE, primary_key=True, related_name="racer")
    number = models.PositiveSmallIntegerField()
    approach = models.TextField(blank=True)  # as it was declared when the race began
    score = models.FloatField(null=True, blank=True)
    problem = models.CharField(max_length=500, blank=True)  # why it has no score
    lost = models.CharField(max_length=300, blank=True)  # why, in a sentence

    if TYPE_CHECKING:
        card_id: UUID

    def __str__(self) -> str:
        return f"racer {self.number}"


class Split(models.Model):
    """A card's work handed to part-cards; it goes on once what they ended with is joined.

    The parts start from the card's ``checkpoint``, a number. ``joined_as`` is the number of the
    one that they were joined in, ``files`` are those that more than one of them changed in the
    same place. One that was given up has ``joined_at`` alone.
    """

    id = models.BigAutoField(primary_key=True)
    card = models.ForeignKey(Card, models.CASCADE, related_name="splits")
    checkpoint = models.PositiveIntegerField()
    actor = models.CharField(max_length=200)
    at = models.DateTimeField(default=timezone.now, editable=False)
    joined_at = models.DateTimeField(null=True, blank=True)
    joined_as = models.PositiveIntegerField(null=True, blank=True)
    files = models.JSONField(default=list, blank=True)

    if TYPE_CHECKING:
        card_id: UUID
        parts: RelatedManager[Card]

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["card"], condition=Q(joined_at=None), name="one_open_split_per_card"
            ),
        ]

    def __str__(self) -> str:
        return f"split at C{self.checkpoint}"


class Dependency(models.Model):
    """``card`` waits until ``depends_on`` is completed."""

    card = models.ForeignKey(Card, models.CASCADE, related_name="dependencies")
    depends_on = models.ForeignKey(Card, models.CASCADE, related_name="+")

    class Meta:
        verbose_name_plural = "dependencies"
        constraints = [
            models.UniqueConstraint(fields=["card", "depends_on"], name="dependency_once"),
            models.CheckConstraint(
                condition=~Q(card=F("depends_on")), name="dependency_not_on_itself"
            ),
        ]
        indexes = [models.Index(fields=["depends_on"], name="dependents_of")]

    def __str__(self) -> str:
        return f"{self.card_id} after {self.depends_on_id}"


class AttemptQuerySet(models.QuerySet["Attempt"]):
    def live(self) -> AttemptQuerySet:
        return self.filter(status=Attempt.Status.RUNNING)

    def held(self, pk: UUID) -> AttemptQuerySet:
        """The guard of every write by a worker: it filters on the attempt's own row alone."""
        return self.live().filter(pk=pk)

    def lapsed(self, now: datetime) -> AttemptQuerySet:
        return self.live().filter(lease_expires_at__lte=now)

    def unreplaced(self) -> AttemptQuerySet:
        """Those that ended because their lease lapsed, and whose card is still as they left it.

        Nobody has the card and no person has decided about it: a late call brings them back. It
        waits, or is blocked because too many workers before had stopped answering, too.
        """
        left = Q(card__state=Card.State.WAITING) | Q(
            card__state=Card.State.BLOCKED, card__blocked_reason__endswith=Attempt.STOPPED
        )
        waiting = self.filter(
            left,
            status=Attempt.Status.EXPIRED,
            reason=Attempt.LAPSED,
            number=F("card__fence"),
            line=F("card__line"),
            card__carried__isnull=True,
            card__unmet_dependencies=0,
            board__archived_at=None,
        )
        return waiting.filter(Q(card__goal=None) | Q(card__goal__status=Goal.Status.ACTIVE))


class Attempt(models.Model):
    """One worker's try at a card, held under a lease.

    ``number`` is the fencing token: it rises by one with each claim of the card. The
    counters ``step_number`` and ``checkpoint_number`` are the newest numbers given out on
    the card, and ``steps_recorded`` counts what its line has done; they are carried from
    attempt to attempt, so that recording work writes no other row and nothing is counted.
    """

    class Status(models.TextChoices):
        RUNNING = "running", _("running")
        SUCCEEDED = "succeeded", _("succeeded")
        FAILED = "failed", _("failed")
        EXPIRED = "expired", _("lease expired")
        RELEASED = "released", _("handed over")
        CANCELLED = "cancelled", _("cancelled")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    board = models.ForeignKey(Board, models.CASCADE, related_name="+")
    card = models.ForeignKey(Card, models.CASCADE, related_name="attempts")
    number = models.PositiveIntegerField()
    line = models.PositiveIntegerField(default=1)
    worker = models.CharField(max_length=100)
    token = models.ForeignKey(
        "Token", models.SET_NULL, null=True, blank=True, related_name="attempts"
    )
    status = models.CharField(max_length=16, choices=Status, default=Status.RUNNING)
    started_at = models.DateTimeField(default=timezone.now)
    lease_seconds = models.PositiveIntegerField(default=60)
    lease_expires_at = models.DateTimeField()
    last_seen_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True, blank=True)

    note = models.CharField(max_length=500, blank=True)
    percent = models.PositiveSmallIntegerField(null=True, blank=True)
    approach = models.TextField(blank=True)
    differs = models.TextField(blank=True)
    outcome = models.TextField(blank=True)  # summary of a completion or a handover
    next_step = models.TextField(blank=True)
    reason = models.CharField(max_length=200, blank=True)
    error = models.TextField(blank=True)
    fault = models.CharField(max_length=16, blank=True, choices=Fault)
    lesson = models.TextField(blank=True)
    result = models.JSONField(null=True, blank=True)

    step_number = models.PositiveIntegerField(default=0)
    checkpoint_number = models.PositiveIntegerField(default=0)
    steps_recorded = models.PositiveIntegerField(default=0)  # succeeded, on the card's line
    steps_done = models.PositiveIntegerField(default=0)  # finished by this attempt
    follow_ups = models.PositiveIntegerField(default=0)
    # What the newest checkpoint says of tests and files; None where it says nothing.
    tests_passed = models.PositiveIntegerField(null=True, blank=True)
    tests_failed = models.PositiveIntegerField(null=True, blank=True)
    additions = models.PositiveIntegerField(null=True, blank=True)
    deletions = models.PositiveIntegerField(null=True, blank=True)
    resumed_from = models.PositiveIntegerField(null=True, blank=True)  # checkpoint number
    checkpoints_before = models.PositiveIntegerField(default=0)  # newest number when it began
    messages_seen = models.BigIntegerField(default=0)

    input_tokens = models.BigIntegerField(default=0)
    output_tokens = models.BigIntegerField(default=0)
    cost_usd = models.DecimalField(max_digits=14, decimal_places=6, default=0)
    briefing_sha256 = models.CharField(max_length=64, blank=True)
    briefing_tokens = models.PositiveIntegerField(default=0)

    objects = AttemptQuerySet.as_manager()

    if TYPE_CHECKING:
        board_id: UUID
        card_id: UUID
        token_id: UUID | None

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["card", "number"], name="attempt_number_per_card"),
            models.UniqueConstraint(
                fields=["card"], condition=Q(status="running"), name="one_live_attempt_per_card"
            ),
            models.CheckConstraint(
                condition=Q(status="running", finished_at=None)
                | (~Q(status="running") & Q(finished_at__isnull=False)),
                name="attempt_finished_iff_not_running",
            ),
            models.CheckConstraint(condition=Q(number__gte=1), name="attempt_number_from_one"),
            models.CheckConstraint(
                condition=Q(percent=None) | Q(percent__lte=100), name="attempt_percent_range"
            ),
        ]
        indexes = [
            models.Index(
                fields=["lease_expires_at"], condition=Q(status="running"), name="attempt_lapse"
            ),
            models.Index(
                fields=["board", "worker"], condition=Q(status="running"), name="attempt_live_of"
            ),
        ]

    #: The reason of those that ended because their lease lapsed.
    LAPSED = "lease lapsed"
    #: How the reason ends why a card is blocked whose attempts expired too often.
    STOPPED = "stopped answering."
    #: What the board shows of the newest checkpoint.
    FACTS = ("tests_passed", "tests_failed", "additions", "deletions")

    def __str__(self) -> str:
        return f"attempt {self.number}"

    @property
    def actor(self) -> str:
        """How the log names whoever writes under this attempt."""
        return f"worker:{self.worker}"


class Spending(models.Model):
    """What the attempts that are over have used up, summed for a card, a goal or a board.

    ``owner_id`` is a plain id: what a goal has cost stays known when a card of it is deleted.
    Live attempts are not in it; ``boards.bounds`` adds them.
    """

    owner_id = models.UUIDField(primary_key=True)
    board_id = models.UUIDField()
    cost_usd = models.DecimalField(max_digits=18, decimal_places=6, default=0)
    input_tokens = models.BigIntegerField(default=0)
    output_tokens = models.BigIntegerField(default=0)
    seconds = models.FloatField(default=0)
    attempts = models.PositiveIntegerField(default=0)
    follow_ups = models.PositiveIntegerField(default=0)

    class Meta:
        verbose_name_plural = "spending"

    def __str__(self) -> str:
        return f"{self.attempts} attempts, {self.cost_usd} USD"


class Message(models.Model):
    """Something said about a card: a person's note, a worker's question, an answer to it."""

    class Kind(models.TextChoices):
        NOTE = "note"
        QUESTION = "question"
        ANSWER = "answer"
        REVIEW = "review"

    class Asks(models.TextChoices):
        TEXT = "text"  # options, if there are any, are suggestions
        CHOICE = "choice"
        APPROVE = "approve"  # yes or no, with a reason, to what stands in ``detail``
        NUMBER = "number"
        DATE = "date"
        SECRET = "secret"  # kept sealed under the one name in options; its answer is the name

    class OnTimeout(models.TextChoices):
        DEFAULT = "default"  # it is answered by its default
        FAIL = "fail"  # it is closed, and the card stays blocked
        STAY = "stay"  # it stays open

    id = models.BigAutoField(primary_key=True)
    card = models.ForeignKey(Card, models.CASCADE, related_name="messages")
    kind = models.CharField(max_length=16, choices=Kind, default=Kind.NOTE)
    actor = models.CharField(max_length=200)
    text = models.TextField()
    options = models.JSONField(default=list, blank=True)
    answers = models.ForeignKey(
        "self", models.CASCADE, null=True, blank=True, related_name="answered_by"
    )
    attempt = models.ForeignKey(
        Attempt, models.SET_NULL, null=True, blank=True, related_name="messages"
    )
    closed_at = models.DateTimeField(null=True, blank=True)  # a question that is settled
    # The terms of a question, see ``boards.questions``; ``detail`` of an answer is its reason.
    asks = models.CharField(max_length=8, choices=Asks, blank=True)
    detail = models.TextField(blank=True)
    default = models.TextField(blank=True)
    on_timeout = models.CharField(max_length=8, choices=OnTimeout, blank=True)
    due_at = models.DateTimeField(null=True, blank=True)
    lapsed_at = models.DateTimeField(null=True, blank=True)  # when its time was found to be up
    via = models.CharField(max_length=8, blank=True)  # how an answer came: api, browser, link …
    pinned = models.BooleanField(default=False)  # every briefing tells it before other notes
    #: What a remark in a review stands beside: {"checkpoint", "from", "path", "side", "line"}.
    place = models.JSONField(null=True, blank=True)
    at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(answers=None) | Q(kind="answer"), name="message_answers_iff_answer"
            )
        ]
        indexes = [
            models.Index(fields=["card", "id"], name="message_of_card"),
            models.Index(fields=["card", "id"], condition=Q(pinned=True), name="pinned_message"),
            models.Index(
                fields=["due_at"],
                condition=Q(closed_at=None, lapsed_at=None, due_at__isnull=False),
                name="question_due",
            ),
        ]

    def __str__(self) -> str:
        return self.text[:80]


class Token(models.Model):
    """What an agent or script proves itself with. Only a keyed hash of it is kept."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=100)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, null=True, blank=True, related_name="tokens"
    )
    digest = models.CharField(max_length=64, unique=True, editable=False)
    hint = models.CharField(max_length=16, editable=False)  # the last characters, for people
    everywhere = models.PositiveSmallIntegerField(
        null=True, blank=True, choices=[(r.value, r.label) for r in Role]
    )
    #: Whether a worker elsewhere may be told its board's secrets with it, see ``workers.trusting``.
    carries_secrets = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)

    def __str__(self) -> str:
        return f"{self.name} (…{self.hint})"


class Membership(models.Model):
    """What a user or a token may do on a board."""

    board = models.ForeignKey(Board, models.CASCADE, related_name="memberships")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, null=True, blank=True, related_name="memberships"
    )
    token = models.ForeignKey(
        Token, models.CASCADE, null=True, blank=True, related_name="memberships"
    )
    role = models.PositiveSmallIntegerField(choices=[(r.value, r.label) for r in Role])

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(user=None, token__isnull=False) | Q(user__isnull=False, token=None),
                name="membership_of_user_or_token",
            ),
            models.UniqueConstraint(
                fields=["board", "user"],
                condition=Q(user__isnull=False),
                name="one_membership_per_user",
            ),
            models.UniqueConstraint(
                fields=["board", "token"],
                condition=Q(token__isnull=False),
                name="one_membership_per_token",
            ),
        ]

    def __str__(self) -> str:
        return f"{Role(self.role).label} on {self.board_id}"


class SavedView(models.Model):
    """A board's filter, sorting and lanes under a name, as they stand in the address."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    board = models.ForeignKey(Board, models.CASCADE, related_name="views")
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="views")
    name = models.CharField(max_length=60)
    query = models.CharField(max_length=1000, blank=True)
    shared = models.BooleanField(default=False)  # seen by everybody on the board
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["name", "id"]
        constraints = [
            models.UniqueConstraint(fields=["board", "owner", "name"], name="view_name_per_owner")
        ]

    def __str__(self) -> str:
        return self.name


class WorkflowTemplate(models.Model):
    """A workflow that a board keeps under a name: cards are made from it.

    ``source`` is as it was written, ``workflow`` the same as JSON with every default.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    board = models.ForeignKey(Board, models.CASCADE, related_name="workflow_templates")
    name = models.CharField(max_length=60)
    description = models.CharField(max_length=300, blank=True)
    source = models.TextField()
    workflow = models.JSONField(editable=False)
    version = models.PositiveIntegerField(default=1, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    if TYPE_CHECKING:
        board_id: UUID

    class Meta:
        ordering = ["name", "id"]
        constraints = [
            models.UniqueConstraint(fields=["board", "name"], name="template_name_per_board")
        ]

    def __str__(self) -> str:
        return self.name


class Presence(models.Model):
    """One open page of a board; gone when nobody has heard of it for a while."""

    id = models.BigAutoField(primary_key=True)
    board = models.ForeignKey(Board, models.CASCADE, related_name="presences")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    page = models.CharField(max_length=36)  # made up by the page itself
    card_id = models.UUIDField(null=True)  # the card it has open
    seen_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["board", "page"], name="one_presence_per_page")
        ]
        indexes = [models.Index(fields=["board", "seen_at"], name="present_on_board")]

    def __str__(self) -> str:
        return f"{self.user_id} on {self.board_id}"
