"""What a board keeps of its checkpoints' contents, and how the rest goes.

    kept ── rule, nothing needs it ──> dropped ── refs let go ──> released ── collect ──> disk

A checkpoint's row is for good: number, summary, tests, digest, so the history reads on and
still proves itself. Its content (files, artifacts, a large state) goes when neither rule of
the board asks for it and nothing needs it, see ``Needed``. The output of attempts goes with
the contents of their checkpoints.

Each card is one short transaction under the card's lock, the one that rewinding, forking,
adopting, naming and remarking take: whoever comes first wins, and the other sees it. What is
dropped there is released after it, from the rows as they are, so a kill at any moment costs
nothing but another pass.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import Max, Sum
from django.db.models.functions import Length
from django.utils import timezone

from boards import cards, placing
from boards.models import Attempt, Board, Card
from checkpoints import artifacts, logs
from checkpoints.git import GitFailed
from checkpoints.models import (
    Artifact,
    ArtifactLink,
    Checkpoint,
    Keeping,
    Line,
    LogChunk,
    Merge,
    Salvage,
)
from checkpoints.snapshots import Busy
from checkpoints.stores import store_of
from events import log
from goals.models import Decision, Evidence
from kernel.digests import canonical
from kernel.errors import NotFound
from kernel.tx import transition

#: A smaller state stays in its row, and with it the proof of the whole content.
STATE_BYTES = 2048
#: Snapshots younger than this are left alone: a worker may be about to record them.
SETTLED = timedelta(hours=1)
#: What nothing refers to stays on disk for so long.
UNREFERENCED = timedelta(days=1)
#: An uploaded artifact that no checkpoint, salvage or evidence has named for so long goes.
UNUSED = timedelta(days=14)
COLLECT_EVERY = timedelta(hours=6)
MEASURE_EVERY = timedelta(minutes=30)
SHARDS_AT_ONCE = 16
_CARDS_AT_ONCE = 50
_CHUNKS_AT_ONCE = 1000

logger = logging.getLogger(__name__)


# ── the rule ─────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class Needed:
    """A card's checkpoints by number, and why those stay that no rule asks for.

    Each line's end and each success, what lines and forks start from, what a person named,
    remarked on, merged or adopted, the first one after each decision, all of a live attempt;
    and for each of these that holds no files the nearest one before it that does.
    """

    points: dict[int, Checkpoint]
    why: dict[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, card: Card) -> Needed:
        rows = Checkpoint.objects.filter(card=card).defer("state").order_by("number")
        found = cls({point.number: point for point in rows})
        if not found.points:
            return found
        by_id = {point.pk: point.number for point in found.points.values()}
        found._ends(card)
        found._named(card)
        origins = Line.objects.filter(origin__card=card).values_list("origin", flat=True)
        forks = Card.objects.filter(origin_checkpoint__in=list(by_id))
        found.need("something started from it", [by_id[pk] for pk in origins])
        found.need(
            "a card was forked from it",
            [by_id[pk] for pk in forks.values_list("origin_checkpoint", flat=True) if pk],
        )
        merged = Merge.objects.filter(card=card).values_list("checkpoint", flat=True)
        found.need("it was merged", [by_id[pk] for pk in merged])
        for number in sorted(found.why):
            found._with_files(number, by_id)
        return found

    def need(self, reason: str, numbers: Iterable[int]) -> None:
        for number in numbers:
            if number in self.points:
                self.why.setdefault(number, reason)

    def _ends(self, card: Card) -> None:
        newest: dict[int, int] = {}
        last: dict[UUID, int] = {}
        for number, point in self.points.items():
            newest[point.line] = last[point.attempt_id] = number
        self.need("a line ends there", newest.values())
        attempts = card.attempts.filter(pk__in=list(last)).only("pk", "status", "resumed_from")
        for attempt in attempts:
            if attempt.status == Attempt.Status.SUCCEEDED:
                self.need("an attempt succeeded there", [last[attempt.pk]])
        for live in card.attempts.filter(status=Attempt.Status.RUNNING):
            mine = [n for n, point in self.points.items() if point.attempt_id == live.pk]
            self.need("an attempt is at it", [*mine, live.resumed_from or 0])
        if card.carried:
            self.need("the next attempt starts there", [card.carried.get("resumed_from") or 0])

    def _named(self, card: Card) -> None:
        self.need("it has a name", [n for n, point in self.points.items() if point.tag])
        for place in card.messages.filter(place__isnull=False).values_list("place", flat=True):
            told = [(place or {}).get(name) for name in ("checkpoint", "from")]
            self.need("somebody remarked on it", [n for n in told if isinstance(n, int)])
        adopted = Salvage.objects.filter(attempt__card=card, adopted_as__isnull=False)
        self.need("it was adopted", adopted.values_list("adopted_as__number", flat=True))
        decided = list(Decision.objects.filter(card_id=card.pk).values_list("at", flat=True))
        for at in decided:
            later = (n for n, point in self.points.items() if point.at >= at)
            self.need("a decision was taken there", [next(later, 0)])

    def _with_files(self, number: int, by_id: dict[UUID, int]) -> None:
        here: int | None = number
        while here is not None and not _commit_of(self.points[here]):
            parent = self.points[here].parent_id
            here = by_id.get(parent) if parent else None
        if here is not None:
            self.need("a later one goes on with its files", [here])


def too_old(card: Card, rule: Keeping, now: datetime) -> list[Checkpoint]:
    """Return the card's checkpoints whose content the rule lets go and nothing needs."""
    if rule.keeps_all:
        return []
    needed = Needed.of(card)
    numbers = sorted(needed.points)
    kept = set(needed.why)
    if rule.keep_last is not None:
        kept |= set(numbers[-rule.keep_last :])
    if rule.keep_days is not None:
        since = now - timedelta(days=rule.keep_days)
        kept |= {n for n, point in needed.points.items() if point.at >= since}
    rest = (point for n, point in needed.points.items() if n not in kept)
    return [point for point in rest if point.dropped_at is None and _is_heavy(point)]


def _is_heavy(point: Checkpoint) -> bool:
    return bool(_commit_of(point) or point.artifacts or _large(point.state))


def _large(state: Any) -> int:
    """Return the size of a state that goes, 0 for one that stays."""
    size = len(canonical(state)) if state is not None else 0
    return size if size > STATE_BYTES else 0


def _commit_of(point: Checkpoint) -> str:
    return str((point.workspace or {}).get("commit") or "")


# ── a card ───────────────────────────────────────────────────────────────────────────────


def drop(card_id: UUID, rule: Keeping) -> list[int]:
    """Let go of what the rule doesn't keep of a card; return the checkpoints' numbers.

    Their artifacts are no longer the card's, unless something kept has them too.
    """
    now = timezone.now()
    with transition():
        try:
            card = cards.lock(card_id)
        except NotFound:
            return []
        points = too_old(card, rule, now)
        if not points:
            return []
        for point in points:
            point.dropped_at = now
            if size := _large(point.state):
                point.state, point.state_bytes = None, size
        Checkpoint.objects.bulk_update(points, ["dropped_at", "state", "state_bytes"], 200)
        _unlink(card, {a["sha256"] for point in points for a in point.artifacts})
        numbers = [point.number for point in points]
        placing.note(card, "checkpoints.dropped", "system:retention", checkpoints=numbers)
    return numbers


def _unlink(card: Card, dropped: set[str]) -> None:
    """Take the artifacts from the card that nothing kept of it names."""
    if not dropped:
        return
    lists = [
        *Checkpoint.objects.kept().filter(card=card).values_list("artifacts", flat=True),
        *Salvage.objects.filter(attempt__card=card).values_list("artifacts", flat=True),
    ]
    named = {a["sha256"] for files in lists for a in files}
    shown = set(Evidence.objects.filter(artifact__in=dropped).values_list("artifact", flat=True))
    ArtifactLink.objects.filter(card=card, artifact__in=dropped - named - shown).delete()


def drop_output(card: Card, rule: Keeping) -> int:
    """Replace the output of attempts whose checkpoints' contents are gone by a word about it;
    return how many attempts that is. A few rows at a time: it may be a lot of text."""
    if rule.keeps_all:
        return 0
    ended = card.attempts.exclude(status=Attempt.Status.RUNNING)
    if rule.keep_days is not None:
        ended = ended.filter(finished_at__lt=timezone.now() - timedelta(days=rule.keep_days))
    if rule.keep_last is not None:
        ended = ended.filter(number__lte=card.fence - rule.keep_last)
    kept = Checkpoint.objects.kept().filter(card=card).values("attempt")
    there = LogChunk.objects.exclude(stream=logs.GONE).values("attempt")
    chosen = list(ended.exclude(pk__in=kept).filter(pk__in=there))
    for attempt in chosen:
        _drop_output_of(attempt)
    return len(chosen)


def _drop_output_of(attempt: Attempt) -> None:
    text = LogChunk.objects.filter(attempt=attempt).exclude(stream=logs.GONE)
    # The last piece of each step stays to the end, to say which steps there were.
    last = list(
        text.order_by().values("step_key").annotate(n=Max("id")).values_list("n", flat=True)
    )
    while True:
        some = text.exclude(pk__in=last).order_by("id")[:_CHUNKS_AT_ONCE]
        if not LogChunk.objects.filter(pk__in=list(some.values_list("pk", flat=True))).delete()[0]:
            break
    keys = text.filter(pk__in=last).order_by("id").values_list("step_key", flat=True)
    word = "[The output is no longer kept.]\n"
    logs.replace(attempt.pk, [(key, logs.GONE, word) for key in keys])


def release(card: Card) -> int:
    """Let the store forget the snapshots of what was dropped; return how many refs went.

    Raises GitFailed. What it works from are the rows, so it may be repeated.
    """
    points = Checkpoint.objects.filter(card=card)
    pending = points.filter(dropped_at__isnull=False, released_at=None)
    numbers = list(pending.values_list("number", flat=True))
    if not numbers:
        return 0
    before = (timezone.now() - SETTLED).timestamp()
    went = store_of(card.board_id).release(card.key, set(_commits(card=card)), before)
    pending.filter(number__in=numbers).update(released_at=timezone.now())
    return went


def _commits(**of: Any) -> Iterator[str]:
    """Yield every snapshot that something kept of the card or board names."""
    points = Checkpoint.objects.kept().filter(**of)
    salvages = Salvage.objects.filter(**{f"attempt__{name}": value for name, value in of.items()})
    for rows in (points, salvages):
        for workspace in rows.values_list("workspace", flat=True).iterator():
            if isinstance(workspace, dict):
                yield from (str(workspace[n]) for n in ("commit", "base") if workspace.get(n))


# ── passes ───────────────────────────────────────────────────────────────────────────────


@dataclass
class Retention:
    """One process's passes over all boards; ``work`` is a slice of one."""

    after: dict[UUID, UUID] = field(default_factory=dict)  # the last card seen, by board
    shard: int = 0

    def work(self, until: float) -> int:
        """Go on until the monotonic clock says ``until``; return how many contents went."""
        dropped = 0
        for rule in Keeping.objects.select_related("board").order_by("pk"):
            if time.monotonic() >= until:
                return dropped
            try:
                dropped += self._board(rule, until)
            except (GitFailed, OSError) as error:
                logger.warning("%s could not be tidied: %s", rule.board.key, error)
        every = list(artifacts.shards())
        for _ in range(SHARDS_AT_ONCE):
            if time.monotonic() >= until:
                break
            artifacts.collect(every[self.shard % len(every)], timezone.now() - UNUSED)
            self.shard += 1
        for board in Board.objects.order_by("pk"):
            if time.monotonic() >= until:
                break
            _measure_now_and_then(board)
        return dropped

    def _board(self, rule: Keeping, until: float) -> int:
        dropped = 0
        for card in self._next(rule):
            if time.monotonic() >= until:
                return dropped
            dropped += len(drop(card.pk, rule))
            drop_output(card, rule)
            self.after[rule.board_id] = card.pk
        left = Checkpoint.objects.filter(
            card__board=rule.board_id, dropped_at__isnull=False, released_at=None
        )
        for card in Card.objects.filter(pk__in=left.values("card"))[:_CARDS_AT_ONCE]:
            if time.monotonic() >= until:
                return dropped
            release(card)
        collect(rule)
        return dropped

    def _next(self, rule: Keeping) -> list[Card]:
        """Return the next few of the board's cards, from the first one on after the last."""
        if rule.keeps_all:
            return []
        rows = Card.objects.filter(board=rule.board_id, fence__gte=1).order_by("pk")
        last = self.after.pop(rule.board_id, None)
        found = list((rows.filter(pk__gt=last) if last else rows)[:_CARDS_AT_ONCE])
        if found:
            self.after[rule.board_id] = found[0].pk
        return found


def collect(rule: Keeping, *, now: bool = False) -> bool:
    """Free the disk of what was released, at most every few hours; return whether it did."""
    since = rule.collected_at
    if not now and since is not None and timezone.now() - since < COLLECT_EVERY:
        return False
    released = Checkpoint.objects.filter(card__board=rule.board_id, released_at__isnull=False)
    if since is not None:
        # What went last time may only now be old enough.
        released = released.filter(released_at__gte=since - 2 * UNREFERENCED)
    if not released.exists():
        return False
    keep = _commits(card__board=rule.board_id)
    try:
        store_of(rule.board_id).collect(keep, int(UNREFERENCED.total_seconds()))
    except Busy:
        return False
    Keeping.objects.filter(pk=rule.pk).update(collected_at=timezone.now())
    return True


# ── what it takes up ─────────────────────────────────────────────────────────────────────


def rule_of(board: Board) -> Keeping:
    """Return the board's rule and what it takes up; one without a row keeps everything."""
    return Keeping.objects.filter(pk=board.pk).first() or Keeping(board=board)


def set_rule(board: Board, actor: str, changes: dict[str, int | None]) -> Keeping:
    """Return the board's rule with the changes made; the next passes go by it."""
    with transition():
        rule, _ = Keeping.objects.get_or_create(board=board)
        for name, value in changes.items():
            setattr(rule, name, value)
        rule.save(update_fields=list(changes))
        cards.note_board(board, "board.edited", actor)
    return rule


def measured(board: Board) -> Keeping:
    """Return the board's rule with what it takes up, measured now where it never was."""
    rule = rule_of(board)
    return rule if rule.measured_at else measure(board)


def measure(board: Board) -> Keeping:
    """Measure what the board takes up, keep the figures and return them."""
    on_board = ArtifactLink.objects.filter(board=board).values("artifact")
    stored = Artifact.objects.filter(pk__in=on_board)
    text = LogChunk.objects.filter(attempt__board=board)
    found: dict[str, Any] = {
        "snapshots_bytes": store_of(board.pk).size_bytes(),
        "artifacts_bytes": stored.aggregate(n=Sum("size_bytes"))["n"] or 0,
        "events_bytes": log.size_bytes(board.pk),
        "logs_bytes": text.aggregate(n=Sum(Length("text")))["n"] or 0,
        "workspaces_bytes": _size_of_workspaces(board),
        "measured_at": timezone.now(),
    }
    rule, _ = Keeping.objects.update_or_create(board=board, defaults=found)
    return rule


def _measure_now_and_then(board: Board) -> None:
    rule = rule_of(board)
    if rule.measured_at is None or timezone.now() - rule.measured_at > MEASURE_EVERY:
        try:
            measure(board)
        except (GitFailed, OSError) as error:
            logger.warning("%s could not be measured: %s", board.key, error)


def _size_of_workspaces(board: Board) -> int:
    root = Path(settings.WORKSPACES_DIR)
    names = (p for p in (root.iterdir() if root.is_dir() else ()))
    mine = [p for p in names if p.name.rpartition("-")[0] == board.key]
    total = 0
    for here, _, files in (step for folder in mine for step in os.walk(folder)):
        for name in files:
            try:
                total += os.lstat(os.path.join(here, name)).st_blocks * 512
            except OSError:
                continue  # a worker removed it meanwhile
    return total


def counts(board: Board) -> dict[str, int]:
    """Return how many of the board's checkpoints have their content, and how many don't."""
    points = Checkpoint.objects.filter(card__board=board)
    dropped = points.filter(dropped_at__isnull=False).count()
    return {"kept": points.count() - dropped, "dropped": dropped}


# ── names ────────────────────────────────────────────────────────────────────────────────


def name(card_id: UUID, number: int, actor: str, tag: str) -> Checkpoint:
    """Return the checkpoint, called ``tag`` and kept for good; an empty one takes that back.

    Raises NotFound.
    """
    with transition():
        card = cards.lock(card_id)
        point = Checkpoint.objects.filter(card=card, number=number).first()
        if point is None:
            raise NotFound(f"{card.key} has no checkpoint {number}.")
        if point.tag != tag:
            point.tag = tag
            point.save(update_fields=["tag"])
            placing.note(card, "checkpoint.named", actor, checkpoint=number, tag=tag)
    return point
