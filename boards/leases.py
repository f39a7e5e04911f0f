"""Who may work on a card, and for how long.

    waiting ── claim ──> running ── complete ──> review | completed
       ^                    │ ├──── fail ──────> waiting (backing off) | blocked
       │                    │ ├──── block ─────> blocked
       ├── release ─────────┘ ├──── expire ────> waiting | blocked
       └──────────────────────┘      revoke ───> wherever a person put the card

    waiting or blocked, its attempt expired ── a late call ──> running again

Rules that keep every path safe:

* A change to a card locks the Card row first and then those of the cards that wait for it,
  writes its Attempt, then the Column whose ranks it needs, then the sums of what was spent, the
  board's event counter last. What needs those two earlier is postponed: ``kernel.tx.postpone``.
  What changes dependencies, and a claim on a board with caps or shares, locks the board before
  all; parents come before their children.
  Locks are ``no_key``: a plain FOR UPDATE waits on the foreign keys of a checkpoint inserted
  meanwhile, and deadlocks.
* An attempt is live while its *status* says so. The clock only makes it eligible for
  expiry: skew can cost a retry but never admits two owners, and a late write by a holder
  nobody has replaced is still taken, the sweep's expiry undone.
* Every write by a worker is one transaction that begins with ``hold``, a guarded UPDATE of
  the attempt's own row. Zero rows mean the lease is lost; the row stays locked until
  commit, so nothing written after it can be overtaken by an expiry.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from itertools import takewhile
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection
from django.db.models import Max
from django.utils import timezone
from django.utils.crypto import constant_time_compare, salted_hmac

from boards import (
    approaches,
    asking,
    bounds,
    choice,
    dispatch,
    faults,
    needs,
    news,
    questions,
    races,
    ranks,
)
from boards.choice import Asking, Chosen, Lack
from boards.models import (
    Attempt,
    Board,
    Card,
    Message,
)
from boards.placing import end, enter, enter_state, note, place, standing
from boards.races import Score
from events import log
from goals import amendments, criteria, discoveries
from goals.models import Goal
from kernel.access import hidden
from kernel.errors import Invalid, LeaseLost, NotClaimable
from kernel.sql import locks_rows
from kernel.tx import enclosed, postpone, transition

MIN_LEASE_SECONDS = 2
MAX_LEASE_SECONDS = 3600
#: Failures further back change nothing any more.
IN_A_ROW_AT_MOST = 20
#: How many lapsed attempts a claim ends before it looks for a card.
CLAIM_EXPIRES = 8

Status = Attempt.Status
State = Card.State


# ── the lease token ──────────────────────────────────────────────────────────────────────


_TOKEN = re.compile(r"hfl_([0-9a-f]{32})([0-9a-f]{48})")


def token_of(attempt_id: UUID, board_id: UUID) -> str:
    """Return the attempt's lease token.

    Derived, never stored: a dump of the database opens nothing, and a repeated claim can
    be answered with the same token. It names the board, so that the right to it is checked
    without a look at the store. ``LEASE_EPOCH`` is raised after restoring a backup: tokens
    given out after the backup was made are then worthless.
    """
    text = f"{settings.LEASE_EPOCH}:{attempt_id.hex}:{board_id.hex}"
    mac = salted_hmac("boards.leases.token", text, algorithm="sha256")
    return f"hfl_{board_id.hex}{mac.hexdigest()[:48]}"


def board_of_token(attempt_id: UUID, token: str) -> UUID:
    """Return the attempt's board if this is its lease token. Raises LeaseLost otherwise."""
    match = _TOKEN.fullmatch(token)
    if match is not None:
        board_id = UUID(match.group(1))
        if constant_time_compare(token, token_of(attempt_id, board_id)):
            return board_id
    raise LeaseLost("This Lease-Token does not open this attempt. Stop working on it.")


# ── holding ──────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Hold:
    """The attempt as the guard left it: proof, within this transaction, of being the holder."""

    attempt_id: UUID
    board_id: UUID
    card_id: UUID
    token_id: UUID | None
    worker: str
    number: int
    line: int
    lease_seconds: int
    lease_expires_at: datetime
    step_number: int
    checkpoint_number: int
    follow_ups: int
    started_at: datetime
    #: Whether the card's goal has been amended since the attempt began.
    amended: bool = False
    #: Whether the card, its goal or its board has a budget; known where it was asked for.
    bounded: bool = False

    @property
    def actor(self) -> str:
        return f"worker:{self.worker}"


_HOLD_FIELDS = (
    "id, board_id, card_id, token_id, worker, number, line, lease_seconds,"
    " lease_expires_at, step_number, checkpoint_number, follow_ups, started_at"
)
#: Whether what the goal asks for has changed since, told by the same statement.
_AMENDED = """, EXISTS (
    SELECT 1 FROM boards_card ac JOIN goals_amendment am ON am.goal_id = ac.goal_id
    WHERE ac.id = boards_attempt.card_id
    AND (am.at > boards_attempt.started_at OR am.withdrawn_at > boards_attempt.started_at)
)"""
#: Read by the statement that renews the lease, so that work without budgets pays for no other.
_BOUNDED = """, (
    SELECT c.budgets <> {nothing} OR b.budgets <> {nothing}
        OR COALESCE(g.budgets <> {nothing}, {no})
    FROM boards_card c
    JOIN boards_board b ON b.id = c.board_id
    LEFT JOIN goals_goal g ON g.id = c.goal_id
    WHERE c.id = boards_attempt.card_id
)"""
_IS_BOUNDED = {
    "postgresql": _BOUNDED.format(nothing="'{}'::jsonb", no="false"),
    "sqlite": _BOUNDED.format(nothing="'{}'", no="0"),
}
_EXPIRES = {
    "postgresql": "%(now)s::timestamptz + lease_seconds * interval '1 second'",
    "sqlite": "strftime('%%Y-%%m-%%d %%H:%%M:%%f', %(now)s, '+' || lease_seconds || ' seconds')",
}
_COUNTERS = ("step_number", "checkpoint_number", "steps_recorded", "steps_done", "follow_ups")
_USAGE = ("input_tokens", "output_tokens", "cost_usd")
_NOTES = ("note", "percent", "approach", "differs", "messages_seen", *Attempt.FACTS)


def hold(
    attempt_id: UUID,
    *,
    add: Mapping[str, int] | None = None,
    usage: Mapping[str, Any] | None = None,
    notes: Mapping[str, Any] | None = None,
    ask_bounded: bool = False,
) -> Hold:
    """Renew the lease and return it, raising counters and adding usage in the same statement.

    With ``ask_bounded`` it says whether the work has a budget. Raises LeaseLost when the attempt
    is over. Must run inside the transaction of the write that it fences.
    """
    vendor = "postgresql" if connection.vendor == "postgresql" else "sqlite"
    now = timezone.now()
    params: dict[str, Any] = {
        "now": connection.ops.adapt_datetimefield_value(now),
        "id": attempt_id if vendor == "postgresql" else attempt_id.hex,
    }
    sets = [f"lease_expires_at = {_EXPIRES[vendor]}", "last_seen_at = %(now)s"]
    for names, values, sums in (
        (_COUNTERS, add, True),
        (_USAGE, usage, True),
        (_NOTES, notes, False),
    ):
        for name in names:
            value = (values or {}).get(name)
            if value is None:
                continue
            if isinstance(value, Decimal) and vendor == "sqlite":
                value = float(value)
            params[name] = value
            sets.append(f"{name} = {name} + %({name})s" if sums else f"{name} = %({name})s")
    sql = (
        f"UPDATE boards_attempt SET {', '.join(sets)}"  # noqa: S608 — names from the tuples above
        f" WHERE id = %(id)s AND status = 'running' RETURNING {_HOLD_FIELDS}{_AMENDED}"
    )
    if ask_bounded:
        sql += _IS_BOUNDED[vendor]
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        rows = cursor.fetchall()
        if not rows and _is_back(attempt_id):
            cursor.execute(sql, params)
            rows = cursor.fetchall()
    if not rows:
        raise LeaseLost(f"Attempt {attempt_id} is over or was replaced. Stop working on it.")
    held = _as_hold(rows[0])
    news.noticed(held.amended)
    return held


def _is_back(attempt_id: UUID) -> bool:
    """Reinstate the attempt if it lapsed and nobody has replaced it; return whether it was."""
    if not Attempt.objects.unreplaced().filter(pk=attempt_id).exists():
        return False
    _, attempt = _lock_both(attempt_id)
    return attempt.status == Status.RUNNING


def _as_hold(row: Sequence[Any]) -> Hold:
    values = list(row)
    for n in (0, 1, 2, 3):
        if isinstance(values[n], str):
            values[n] = UUID(values[n])
    for n in (8, 12):
        at = values[n]
        at = datetime.fromisoformat(at) if isinstance(at, str) else at
        values[n] = at if at.tzinfo else at.replace(tzinfo=UTC)
    return Hold(*values[:13], *map(bool, values[13:]))


# ── claiming ─────────────────────────────────────────────────────────────────────────────


def claim(
    worker: str,
    *,
    boards: frozenset[UUID] | None = None,
    token_id: UUID | None = None,
    capabilities: Collection[str] = (),
    goal_id: UUID | None = None,
    card_id: UUID | None = None,
    ours: bool = False,
    lacks: Sequence[Lack] = (),
    lease_seconds: int = 60,
) -> Attempt | None:
    """Lease the most urgent claimable card to ``worker``, or return None when there is none.

    ``boards`` bounds the choice (None: every board), and so does ``ours``: to what built-in
    workers carry out; ``lacks`` says which steps are not for this one. Which card it is where
    there are caps and shares, ``choice`` says. A lapsed lease counts as claimable, so correctness
    needs no reaper. With ``card_id`` it is that card or NotClaimable, saying why.

    Within ``enclosing`` the caller ends lapsed attempts before: ending one takes the event
    counter, the last of all locks, and claiming another card after that could deadlock.
    """
    if not enclosed():
        expire_lapsed(limit=CLAIM_EXPIRES, boards=boards, card_id=card_id)
    now = timezone.now()
    can = frozenset(capabilities)
    asking = Asking(worker, token_id, boards, can, goal_id, ours, tuple(lacks))
    with transition():
        chosen = choice.best(asking, now) if card_id is None else _named(card_id, asking, now)
        if chosen is None:
            return None
        if chosen.column is not None:
            enter(chosen.card, chosen.column, State.WAITING, ranks.bottom(chosen.column))
        if chosen.turn is not None:
            chosen.turn.take(chosen.card)
        return _begin(chosen.card, worker, token_id, lease_seconds, now)


def _named(card_id: UUID, asking: Asking, now: datetime) -> Chosen:
    """Return the card, locked. Raises NotClaimable, saying why, if this worker can't start it."""
    cards = Card.objects.visible_to(asking.boards).filter(pk=card_id)
    board_id = cards.values_list("board_id", flat=True).first()
    board = choice.lock_if_capped(board_id) if board_id else None
    card = choice.locked(cards, skip=False).first()
    if card is None:
        raise hidden("card")
    if card.board.archived_at is not None:
        raise NotClaimable(f"{card.key} can't be claimed now: its board is archived.")
    if card.state == State.BACKLOG and card.board.pull == Board.Pull.AUTO:
        column = choice.room_to_pull(card.board)
        if column is None:
            raise NotClaimable(f"{card.key} can't be pulled: In progress is at its WIP limit.")
        enter(card, column, State.WAITING, ranks.bottom(column))
    why = why_not_claimable(card, now)
    missing = sorted(set(card.requires) - set(asking.capabilities))
    if why is None and missing:
        why = f"it requires {', '.join(missing)}, which this worker lacks"
    words = {word for lack in asking.lacks if lack.boards is None for word in lack.words}
    if why is None and (unable := needs.among(card.workflow, words)):
        why = f"it has steps that this worker can't carry out: {', '.join(unable)}"
    if why is None and card.column_id in choice.full_columns(frozenset([card.board_id])):
        why = "its column is at the WIP limit for workers"
    if why is None and board is not None:
        why = choice.why_no_room(card, board, asking.worker, asking.token_id)
    if why is not None:
        raise NotClaimable(f"{card.key} can't be claimed now: {why}.")
    return Chosen(card)


def why_not_claimable(card: Card, now: datetime) -> str | None:
    """Return in words why no worker may have the card now, or None when one may."""
    if card.state == State.RUNNING:
        return "another attempt is running"
    if card.state != State.WAITING:
        return f"it is {card.state}; move it to In progress first"
    if card.paused:
        return "it is paused; resume it first"
    if card.unmet_dependencies:
        return f"it waits for {card.unmet_dependencies} other card(s) to be completed"
    if card.not_before is not None and card.not_before > now:
        seconds = int((card.not_before - now).total_seconds()) + 1
        return f"it backs off for another {seconds} s after a failure"
    if card.goal is not None and card.goal.status != Goal.Status.ACTIVE:
        return f"its goal is {card.goal.status}"
    over = bounds.used_up(card.pk)
    if over is not None:
        return f"{over.why} Raise the budget first"
    return None


def _begin(
    card: Card, worker: str, token_id: UUID | None, lease_seconds: int, now: datetime
) -> Attempt:
    start = carried(card)
    card.fence += 1
    enter_state(card, State.RUNNING, now)
    card.not_before = None
    card.carried = None
    card.save(
        update_fields=[
            "fence",
            "state",
            "state_since",
            "not_before",
            "carried",
            "version",
            "updated_at",
        ]
    )
    attempt = Attempt.objects.create(
        board_id=card.board_id,
        card=card,
        number=card.fence,
        line=card.line,
        worker=worker,
        token_id=token_id,
        started_at=now,
        last_seen_at=now,
        lease_seconds=lease_seconds,
        lease_expires_at=now + timedelta(seconds=lease_seconds),
        messages_seen=card.messages.aggregate(newest=Max("id"))["newest"] or 0,
        checkpoints_before=start["checkpoint_number"],
        **start,
    )
    note(card, "card.claimed", attempt.actor, attempt=attempt.number, worker=worker)
    return attempt


def carried(card: Card) -> dict[str, Any]:
    """Return the numbers that the card's next attempt goes on from, and the facts that hold."""
    if card.carried is not None:
        return dict(card.carried)
    names = ("step_number", "checkpoint_number", "steps_recorded")
    if not card.fence:
        return {**dict.fromkeys(names, 0), "resumed_from": None}
    last = card.attempts.filter(number=card.fence).values(
        *names, *Attempt.FACTS, "checkpoints_before", "resumed_from"
    )
    if not last:
        return {**dict.fromkeys(names, 0), "resumed_from": None}
    (left,) = last
    saved = left["checkpoint_number"] > left["checkpoints_before"]
    return {
        **{name: left[name] for name in (*names, *Attempt.FACTS)},
        "resumed_from": left["checkpoint_number"] if saved else left["resumed_from"],
    }


# ── while holding ────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Beat:
    """What a worker hears when it says that it is alive."""

    hold: Hold
    directive: str
    messages: list[Message]
    notices: list[dict[str, Any]]


MAX_MESSAGES_PER_BEAT = 50


def heartbeat(
    attempt_id: UUID,
    *,
    note: str | None = None,
    percent: int | None = None,
    seen_message: int | None = None,
) -> Beat:
    """Renew the lease and return what has changed under the worker.

    Messages said since the claim come again until ``seen_message`` acknowledges them: a lost
    answer loses none, and no clock decides which are new. No event is recorded; a heartbeat
    is not news.
    """
    notes = {"note": note, "percent": percent, "messages_seen": seen_message}
    with transition():
        held = hold(attempt_id, notes=notes, ask_bounded=True)
        card = Card.objects.only("paused", "goal_id").get(pk=held.card_id)
        over = held.bounded and bounds.stops(held.card_id)
        seen = Attempt.objects.values_list("messages_seen", flat=True).get(pk=attempt_id)
        messages = list(
            Message.objects.filter(card_id=held.card_id, id__gt=seen)
            .exclude(actor=held.actor)
            .order_by("id")[:MAX_MESSAGES_PER_BEAT]
        )
        notices = amendments.since(card.goal_id, held.started_at) if card.goal_id else []
    directive = "pause" if card.paused or over else "continue"
    return Beat(held, directive, messages, notices)


def describe(attempt_id: UUID, approach: str, differs: str = "") -> list[dict[str, Any]]:
    """Record how the attempt goes about it; return failed approaches that look alike."""
    with transition():
        held = hold(attempt_id, notes={"approach": approach, "differs": differs})
        card = Card.objects.select_related("board").get(pk=held.card_id)
        alike = approaches.similar(card, approach)
        refusal = approaches.dead_end(alike)
        if refusal and card.board.enforce_dead_ends and not differs:
            raise refusal
        log.record(
            "attempt.described",
            board_id=held.board_id,
            subject_id=held.card_id,
            actor=held.actor,
            attempt=held.number,
            approach=approach[:200],
        )
    return alike


# ── ending ───────────────────────────────────────────────────────────────────────────────


def complete(
    attempt_id: UUID,
    summary: str,
    *,
    result: Any = None,
    evidence: Sequence[Mapping[str, Any]] = (),
    score: Score | None = None,
) -> Attempt:
    """End the attempt in success; the card goes to Review where that is asked, else Completed.

    A racer that others are yet to be compared with stops in Review, too, with what it scored.
    Repeating it returns the same attempt. Raises LeaseLost if the attempt ended otherwise.
    """
    if not summary.strip():
        raise Invalid.field("summary", "say what was done; done means recorded.")
    with transition():
        card, attempt = _lock_both(attempt_id)
        if attempt.status == Status.SUCCEEDED:
            return attempt
        end(
            Attempt.objects.held(attempt_id),
            attempt,
            Status.SUCCEEDED,
            outcome=summary,
            result=result,
        )
        _keep_evidence(card, attempt, evidence)
        if card.goal is not None:
            criteria.check_completion(card.goal, card.pk)
        card.failures = 0
        card.blocked_reason = ""
        waits = races.holds(card)
        place(card, State.REVIEW if waits or card.review_required else State.COMPLETED)
        races.scored(card, score)
        races.settle(card, attempt.actor, ended=attempt)
        note(
            card,
            "card.submitted" if card.state == State.REVIEW else "card.completed",
            attempt.actor,
            attempt=attempt.number,
            summary=summary[:300],
        )
        if card.state == State.COMPLETED:
            discoveries.settle_of_card(card.pk, card.key, attempt.actor)
    return attempt


def fail(
    attempt_id: UUID,
    error: str,
    *,
    lesson: str = "",
    retryable: bool = True,
    fault: str = "",
    evidence: Sequence[Mapping[str, Any]] = (),
) -> Attempt:
    """End the attempt in failure; the card waits out a backoff, or is blocked when attempts
    are used up or another try is pointless. What kind of failure it was, ``fault``, decides how
    long the wait is and whether it counts; ``evidence`` is what red checks showed."""
    with transition():
        card, attempt = _lock_both(attempt_id)
        if attempt.status == Status.FAILED:
            return attempt
        end(
            Attempt.objects.held(attempt_id),
            attempt,
            Status.FAILED,
            error=error,
            lesson=lesson,
            fault=fault,
        )
        _keep_evidence(card, attempt, evidence)
        in_a_row = _in_a_row(attempt)
        card.failures += faults.counts(fault, in_a_row)
        if retryable and card.failures < card.max_attempts:
            same = approaches.repeated(card, attempt)
            if same > approaches.allowed(card):
                how, options = approaches.asked_how(attempt)
                card.blocked_reason = approaches.QUESTION.format(n=same)
                place(card, State.BLOCKED)
                questions.put(
                    card,
                    attempt,
                    f"{card.blocked_reason} The last error: {error[:500]}\n\n{how}",
                    asking.checked("?", options),
                )
            else:
                card.not_before = timezone.now() + faults.backoff(fault, in_a_row)
                place(card, State.WAITING)
        else:
            card.blocked_reason = (
                f"Attempt {attempt.number} failed: {error}"
                if not retryable or card.max_attempts == 1
                else f"All {card.max_attempts} attempts failed, the last with: {error}"
            )[:2000]
            place(card, State.BLOCKED)
        races.settle(card, attempt.actor, ended=attempt)
        note(
            card,
            "attempt.failed",
            attempt.actor,
            attempt=attempt.number,
            error=error[:300],
            retryable=retryable,
            fault=fault,
        )
        if card.state == State.WAITING:
            dispatch.nudge(card)
    return attempt


def block(
    attempt_id: UUID,
    reason: str,
    *,
    question: str = "",
    options: Sequence[str] = (),
    **terms: Any,
) -> Attempt:
    """End the attempt and ask a person, on the ``terms`` of ``asking.checked``.

    Counts as no failure. Raises Invalid for a question that can't be asked like this.
    """
    asked = asking.checked(question, options, **terms)
    with transition():
        card, attempt = _lock_both(attempt_id)
        if attempt.status == Status.RELEASED and attempt.reason == "blocked":
            return attempt
        end(
            Attempt.objects.held(attempt_id),
            attempt,
            Status.RELEASED,
            outcome=reason,
            reason="blocked",
        )
        card.blocked_reason = reason[:2000]
        place(card, State.BLOCKED)
        if question:
            questions.put(card, attempt, question, asked)
        races.settle(card, attempt.actor, ended=attempt)
        note(
            card,
            "card.blocked",
            attempt.actor,
            attempt=attempt.number,
            reason=reason[:300],
            question=question[:300],
        )
    return attempt


def release(
    attempt_id: UUID,
    summary: str,
    next_step: str = "",
    *,
    reason: str = "",
    retry_after_seconds: int = 0,
) -> Attempt:
    """Hand the card over cleanly: claimable at once, or after the given seconds."""
    with transition():
        card, attempt = _lock_both(attempt_id)
        if attempt.status == Status.RELEASED and attempt.reason == reason:
            return attempt
        end(
            Attempt.objects.held(attempt_id),
            attempt,
            Status.RELEASED,
            outcome=summary,
            next_step=next_step,
            reason=reason,
        )
        if retry_after_seconds:
            card.not_before = timezone.now() + timedelta(seconds=retry_after_seconds)
        place(card, State.WAITING)
        bounds.charge(attempt)
        note(
            card,
            "attempt.released",
            attempt.actor,
            attempt=attempt.number,
            reason=reason,
            summary=summary[:300],
        )
        dispatch.nudge(card)
    return attempt


def expire_lapsed(
    limit: int = 100, *, boards: frozenset[UUID] | None = None, card_id: UUID | None = None
) -> int:
    """End lapsed attempts, oldest first. Returns how many. Safe to run anywhere, twice."""
    lapsed = Attempt.objects.lapsed(timezone.now()).order_by("lease_expires_at")
    if boards is not None:
        lapsed = lapsed.filter(board_id__in=boards)
    if card_id is not None:
        lapsed = lapsed.filter(card_id=card_id)
    return sum(
        expire(pk, actor="system:sweep", only_lapsed=True)
        for pk in list(lapsed.values_list("pk", flat=True)[:limit])
    )


def expire(attempt_id: UUID, *, actor: str, only_lapsed: bool = False) -> bool:
    """End a live attempt whose worker is gone, and say whether it was this call that did.

    With ``only_lapsed`` a lease renewed meanwhile survives, and an attempt or card that
    somebody is writing this moment is left for the next pass; until somebody takes the waiting
    card over, a late call reinstates the attempt. An attempt that got somewhere leaves the
    card its full number of attempts.
    """
    with transition():
        held = Attempt.objects.held(attempt_id)
        cards = Card.objects.filter(pk__in=list(held.values_list("card_id", flat=True)))
        card = choice.locked(cards, skip=only_lapsed).first()
        if card is None:
            return False
        if only_lapsed:
            held = held.lapsed(timezone.now())
        # A worker who is writing now is not gone, and has locks that we would wait for.
        attempt = held.select_for_update(no_key=True, skip_locked=only_lapsed).first()
        if attempt is None:
            return False
        reason = Attempt.LAPSED if only_lapsed else "worker gone"
        end(Attempt.objects.held(attempt_id), attempt, Status.EXPIRED, reason=reason)
        card.failures = 0 if _progressed(attempt) else card.failures + 1
        if card.failures >= card.max_attempts:
            card.blocked_reason = (
                f"{card.failures} attempts ended without progress; the last worker, "
                f"{attempt.worker}, {Attempt.STOPPED}"
            )
            place(card, State.BLOCKED)
        else:
            place(card, State.WAITING)
        bounds.charge(attempt)
        note(card, "attempt.expired", actor, attempt=attempt.number, worker=attempt.worker)
        if card.state == State.WAITING:
            dispatch.nudge(card)
    return True


def _progressed(attempt: Attempt) -> bool:
    return bool(attempt.steps_done) or attempt.checkpoint_number > attempt.checkpoints_before


def _reinstate(card: Card, attempt: Attempt) -> None:
    """Let a lapsed attempt that nobody has replaced go on, on its locked card.

    What takes the last locks is postponed: the call itself is yet to take those before.
    """
    lapsed = Attempt.objects.unreplaced().filter(pk=attempt.pk)
    if attempt.status != Status.EXPIRED or not lapsed.exists():
        return
    postpone(bounds.TakeBack.of(card, attempt))
    attempt.status, attempt.finished_at, attempt.reason = Status.RUNNING, None, ""
    attempt.save(update_fields=["status", "finished_at", "reason"])
    if not _progressed(attempt):
        card.failures = max(0, card.failures - 1)
    card.blocked_reason = ""
    enter_state(card, State.RUNNING, timezone.now())
    card.save(
        update_fields=[
            "state",
            "state_since",
            "failures",
            "blocked_reason",
            "version",
            "updated_at",
        ]
    )
    postpone(partial(_tell_reinstated, attempt, standing(card)))


def _tell_reinstated(attempt: Attempt, then: dict[str, Any]) -> None:
    """Record that the attempt runs again, its card back from where the lapse had put it."""
    card = Card.objects.select_related("board", "column", "goal").get(pk=attempt.card_id)
    if card.state == State.RUNNING and card.column.kind != Card.KIND_OF[State.RUNNING]:
        place(card, State.RUNNING)
        then = standing(card)
    said = {"attempt": attempt.number, "worker": attempt.worker}
    note(card, "attempt.reinstated", attempt.actor, **then, **said)


def _lock_both(attempt_id: UUID) -> tuple[Card, Attempt]:
    """Lock the attempt's card, with its rivals in a race, and return both rows.

    An attempt that lapsed and was not replaced is reinstated: whoever asks is its worker.
    """
    card, attempt = _locked(attempt_id)
    _reinstate(card, attempt)
    return card, attempt


def _locked(attempt_id: UUID) -> tuple[Card, Attempt]:
    if not locks_rows():
        whole = Attempt.objects.select_related("card__column", "card__board", "card__goal")
        attempt = whole.filter(pk=attempt_id).first()
        if attempt is None:
            raise LeaseLost(f"There is no attempt {attempt_id}.")
        return attempt.card, attempt
    found = Attempt.objects.filter(pk=attempt_id).values_list("card_id", "card__race").first()
    if found is None:
        raise LeaseLost(f"There is no attempt {attempt_id}.")
    card_id, race = found
    if race is not None:
        races.lock(card_id)
    card = choice.locked(Card.objects.filter(pk=card_id), skip=False).first()
    if card is None:
        raise LeaseLost(f"There is no attempt {attempt_id}.")
    return card, Attempt.objects.get(pk=attempt_id)


def _keep_evidence(card: Card, attempt: Attempt, evidence: Sequence[Mapping[str, Any]]) -> None:
    """Keep what the ended attempt shows of the goal's criteria, if it does."""
    if evidence:
        criteria.record_evidence(
            card.goal_id,
            evidence,
            actor=attempt.actor,
            card_id=card.pk,
            attempt_id=attempt.pk,
            checkpoint=attempt.checkpoint_number or None,
        )


def _in_a_row(attempt: Attempt) -> int:
    """Return how many attempts up to this one failed in the same way, one after the other."""
    before = Attempt.objects.filter(card_id=attempt.card_id, number__lt=attempt.number)
    newest = before.order_by("-number").values_list("status", "fault")[:IN_A_ROW_AT_MOST]
    same = takewhile(lambda row: row == (Status.FAILED, attempt.fault), newest)
    return 1 + sum(1 for _ in same)
