"""Real connections, real commits, real locks; run on SQLite and on PostgreSQL alike.

Where the order matters it is staged: one side holds its locks until the other waits for them.
On SQLite that comes to one after the other, since writers queue for the file.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from unittest.mock import patch

import pytest
from django.db import OperationalError, connection, transaction
from django.db.models import QuerySet
from django.utils import timezone

from boards import bounds, cards, leases, placing, ranks
from boards.models import Attempt, Card
from checkpoints import recovery, steps
from checkpoints.models import Step
from events.models import Event
from events.receipts import Answer, once
from goals.models import Criterion
from kernel.errors import Invalid, LeaseLost, NotClaimable, TransitionRefused
from kernel.tx import retrying
from tests.concurrency import at_once, blocked_behind, failures, wait_until_blocked
from tests.factories import (
    claimed,
    column_of,
    make_board,
    make_card,
    make_goal,
    now_is,
)

pytestmark = pytest.mark.django_db(transaction=True)
ON_POSTGRESQL = connection.vendor == "postgresql"


# ── claiming ─────────────────────────────────────────────────────────────────────────────


def test_of_a_hundred_claimers_of_one_card_one_wins():
    card = make_card()
    calls = [lambda n=n: leases.claim(f"w{n}") for n in range(100)]
    results = [r for batch in range(0, 100, 25) for r in at_once(*calls[batch : batch + 25])]
    assert failures(results) == []
    (winner,) = [r for r in results if r]
    assert Attempt.objects.get() == winner
    assert now_is(card).fence == 1


def test_caps_hold_however_many_claim_at_once_by_whatever_way():
    boards = [make_board(max_running=3, share=n, caps={"labels": {"gpu": 1}}) for n in (1, 2)]
    goal = make_goal(boards[0], max_running=1)
    named = [make_card(boards[0], goal=goal) for _ in range(4)]
    for board in boards:
        for _ in range(4):
            make_card(board, labels=["gpu"])
    scope = frozenset(board.pk for board in boards)
    calls = [lambda n=n: leases.claim(f"w{n}", boards=scope) for n in range(8)]
    calls += [lambda c=c: leases.claim("named", card_id=c.pk) for c in named]
    # These lock a board and then a card of it.
    calls += [lambda c=c: cards.edit(c.pk, "user:ann", {"depends_on": []}) for c in named]
    results = at_once(*calls)
    assert all(isinstance(e, NotClaimable) for e in failures(results)), results
    running = Card.objects.filter(state="running", board__in=boards)
    for board in boards:
        here = running.filter(board=board)
        assert here.count() <= 3
        assert here.labelled("gpu").count() == 1
    assert running.filter(goal=goal).count() <= 1
    assert running.count() == 3


def test_ten_workers_claim_five_cards_once_each():
    board = make_board()
    for _ in range(5):
        make_card(board)
    results = at_once(*[lambda n=n: leases.claim(f"w{n}") for n in range(10)])
    assert failures(results) == []
    taken = [a.card_id for a in results if a]
    assert len(taken) == len(set(taken)) == 5


def test_two_workers_cannot_both_take_the_last_place_under_a_wip_limit():
    board = make_board()
    column = column_of(board, "in_progress")
    column.wip_limit = 1
    column.save()
    for _ in range(4):
        make_card(board)
    results = at_once(*[lambda n=n: leases.claim(f"w{n}") for n in range(4)])
    assert failures(results) == []
    assert Card.objects.filter(state="running").count() == 1


def test_claims_that_find_lapsed_leases_do_not_deadlock_with_their_late_holders():
    """A claim ends lapsed attempts while their workers may still be writing."""
    board = make_board()
    held = [claimed(make_card(board), worker=f"w{n}") for n in range(6)]
    Attempt.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=1))

    def claim(n: int) -> Answer:
        def effect() -> Answer:
            leases.claim(f"new{n}", boards=frozenset([board.pk]))
            return Answer(200, {})

        return once("token:x", f"key-{n}", "same", effect)

    results = at_once(
        *[lambda n=n: claim(n) for n in range(6)],
        *[lambda a=a: steps.record(a.pk, "s", "succeeded") for a in held],
    )
    assert [type(e) for e in failures(results) if not isinstance(e, LeaseLost)] == []


# ── ending ───────────────────────────────────────────────────────────────────────────────


def test_complete_and_cancel_take_their_locks_in_one_order():
    board = make_board()
    for _ in range(10):
        card = make_card(board)
        attempt = claimed(card)
        lost = failures(
            at_once(
                lambda a=attempt: leases.complete(a.pk, "done"),
                lambda c=card: cards.cancel(c.pk, "user:ann"),
            )
        )
        assert [type(e) for e in lost] in ([LeaseLost], [TransitionRefused])


def test_one_of_two_finishers_wins():
    attempt = claimed()
    results = at_once(
        lambda: leases.complete(attempt.pk, "done"),
        lambda: leases.fail(attempt.pk, "boom"),
    )
    assert [type(e) for e in failures(results)] == [LeaseLost]
    assert now_is(attempt).status in ("succeeded", "failed")


def test_two_parents_that_complete_at_once_each_free_their_child_of_one():
    board = make_board()
    for _ in range(5):
        parents = [make_card(board), make_card(board)]
        child = make_card(board, depends_on=parents)
        held = [claimed(parent) for parent in parents]
        assert failures(at_once(*[lambda a=a: leases.complete(a.pk, "done") for a in held])) == []
        assert now_is(child).unmet_dependencies == 0


def test_a_card_moved_meanwhile_is_still_found_by_whoever_waited_for_it():
    """A lock that joins the column drops the row when the column changed during the wait."""
    card = make_card()
    attempt = claimed(card)

    def complete(pause: Callable[[], None]) -> None:
        with transaction.atomic():
            leases.complete(attempt.pk, "done")
            pause()

    _, late = blocked_behind(complete, lambda: cards.cancel(card.pk, "user:ann"))
    assert isinstance(late, TransitionRefused)


LATE = {
    "completed": lambda a: leases.complete(a.pk, "slow but done"),
    "blocked": lambda a: leases.block(a.pk, "stuck"),
    "backlog": lambda a: cards.follow_up(a.pk, title="Another"),
}


@pytest.mark.parametrize(("kind", "call"), LATE.items(), ids=LATE)
def test_a_late_call_that_brings_its_attempt_back_takes_its_locks_in_the_common_order(kind, call):
    """Who has the column goes on to the sums and the log, which the late call must not have."""
    board = make_board()
    late, other = claimed(make_card(board)), claimed(make_card(board))
    Attempt.objects.filter(pk=late.pk).update(lease_expires_at=timezone.now() - timedelta(1))
    assert leases.expire_lapsed() == 1
    leases.release(other.pk, "so far")

    def place_another(pause: Callable[[], None]) -> None:
        with transaction.atomic():
            ranks.lock(column_of(board, kind).pk)
            pause()
            bounds.charge(now_is(other))
            placing.note(other.card, "card.edited", "user:ann")

    assert failures(blocked_behind(place_another, lambda: call(late))) == []
    assert now_is(late).status != "expired"
    assert Event.objects.filter(kind="attempt.reinstated").count() == 1


# ── writing while somebody steers ────────────────────────────────────────────────────────


def checkpoint_against_cancel() -> list[object]:
    """A checkpoint holds the attempt; a cancel holds the card and waits for it."""
    card = make_card()
    attempt = claimed(card)
    begun, cancel_waits = threading.Event(), threading.Event()

    def checkpoint() -> None:
        with transaction.atomic():
            held = leases.hold(attempt.pk, add={"checkpoint_number": 1})
            begun.set()
            cancel_waits.wait(60)
            recovery.insert(held, {"summary": "half way"}, after_step=0)

    def cancel() -> None:
        begun.wait(60)
        cards.cancel(card.pk, "user:ann")

    def referee() -> None:
        begun.wait(60)
        wait_until_blocked()
        cancel_waits.set()

    return at_once(checkpoint, cancel, referee)


def test_a_checkpoint_and_a_cancel_do_not_deadlock():
    assert failures(checkpoint_against_cancel()) == []
    assert Card.objects.get().state == "cancelled"


def test_on_postgresql_a_plain_for_update_deadlocks_with_a_checkpoint(monkeypatch):
    """Why the locks are ``no_key``: a foreign key waits for a plain one."""
    locking = QuerySet.select_for_update
    monkeypatch.setattr(
        QuerySet, "select_for_update", lambda rows, **kw: locking(rows, **{**kw, "no_key": False})
    )
    errors = failures(checkpoint_against_cancel())
    assert [type(e) for e in errors] == [OperationalError] * ON_POSTGRESQL
    assert all("deadlock" in str(e) for e in errors)


def test_steps_and_cancels_at_once_leave_no_step_without_a_live_attempt():
    board = make_board()
    for _ in range(10):
        card = make_card(board)
        attempt = claimed(card)
        results = at_once(
            lambda a=attempt: steps.record(
                a.pk, "s", "succeeded", checkpoint={"summary": "half way"}
            ),
            lambda c=card: cards.cancel(c.pk, "user:ann"),
        )
        assert [type(e) for e in failures(results)] in ([], [LeaseLost])
        recorded = Step.objects.filter(card=card).exists()
        assert recorded == (not failures(results))
        if recorded:
            ended = Event.objects.get(subject_id=card.pk, kind="card.cancelled").seq
            assert Event.objects.get(subject_id=card.pk, kind="step.succeeded").seq < ended


def expire_while_waiting(guard: Callable[[Attempt], QuerySet[Attempt]]) -> int:
    """Return how many rows ``guard`` still renews when an expiry commits while it waits."""
    attempt = claimed()

    def expire(pause: Callable[[], None]) -> None:
        with transaction.atomic():
            Attempt.objects.update(status="expired", finished_at=timezone.now())
            pause()

    _, renewed = blocked_behind(
        expire, lambda: guard(attempt).update(lease_expires_at=timezone.now())
    )
    assert isinstance(renewed, int)
    return renewed


def test_a_guard_on_its_own_table_is_checked_again_after_the_wait():
    assert expire_while_waiting(lambda a: Attempt.objects.held(a.pk)) == 0


def test_on_postgresql_a_guard_that_joins_is_not_checked_again():
    """Why ``held`` must not join: Django turns it into ``id IN (SELECT …)``."""
    joining = {"card__board__archived_at": None}
    renewed = expire_while_waiting(lambda a: Attempt.objects.held(a.pk).filter(**joining))
    assert renewed == (1 if ON_POSTGRESQL else 0)


def test_a_write_that_waited_for_an_expiry_is_refused():
    attempt = claimed()

    def expire(pause: Callable[[], None]) -> None:
        with transaction.atomic():
            leases.expire(attempt.pk, actor="system:test")
            pause()

    _, late = blocked_behind(expire, lambda: steps.record(attempt.pk, "s", "succeeded"))
    assert isinstance(late, LeaseLost)
    assert not Step.objects.exists()


def test_a_lease_renewed_under_the_sweep_survives(monkeypatch):
    """The worker is heard from after the sweep saw that its lease had lapsed."""
    attempt = claimed()
    Attempt.objects.update(lease_expires_at=timezone.now())
    expire = leases.expire

    def late(*args: object, **options: object) -> bool:
        leases.heartbeat(attempt.pk)
        return expire(*args, **options)

    monkeypatch.setattr(leases, "expire", late)
    assert leases.expire_lapsed() == 0
    assert now_is(attempt).status == "running"


# ── dependencies ─────────────────────────────────────────────────────────────────────────


def test_a_dependency_taken_away_while_its_parent_completes_is_counted_once():
    board = make_board()
    parent = make_card(board)
    child = make_card(board, depends_on=[parent])
    attempt = claimed(parent)

    def take_away(pause: Callable[[], None]) -> None:
        with transaction.atomic():
            cards.edit(child.pk, "user:ann", {"depends_on": []})
            pause()

    results = blocked_behind(take_away, lambda: leases.complete(attempt.pk, "done"))
    assert failures(results) == []
    assert now_is(child).unmet_dependencies == 0


def test_a_parent_that_completes_while_a_card_begins_to_wait_for_it_is_met():
    board = make_board()
    parent, child = make_card(board), make_card(board)
    attempt = claimed(parent)

    def complete(pause: Callable[[], None]) -> None:
        with transaction.atomic():
            leases.complete(attempt.pk, "done")
            pause()

    results = blocked_behind(
        complete, lambda: cards.edit(child.pk, "user:ann", {"depends_on": [parent]})
    )
    assert failures(results) == []
    assert now_is(child).unmet_dependencies == 0


def test_a_child_being_finished_and_its_parent_completing_do_not_deadlock():
    """Both end in the same column; the parent also writes the child's row."""
    board = make_board()
    parent = make_card(board)
    child = make_card(board, depends_on=[parent])
    attempt = claimed(parent)
    done = column_of(board, "completed")
    real = ranks.locked

    def move_child(pause: Callable[[], None]) -> None:
        def lock(column):
            if threading.current_thread() is mover:
                pause()
            return real(column)

        mover = threading.current_thread()
        with patch.object(ranks, "locked", lock):
            cards.move(child.pk, "user:ann", done.pk)

    assert failures(blocked_behind(move_child, lambda: leases.complete(attempt.pk, "x"))) == []
    assert now_is(child).state == now_is(parent).state == "completed"
    assert now_is(child).unmet_dependencies == 0


def test_two_edits_at_once_cannot_close_a_circle():
    board = make_board()

    def wait_for(card: Card, parent: Card) -> Callable[[], Card]:
        return lambda: cards.edit(card.pk, "user:ann", {"depends_on": [parent]})

    for _ in range(5):
        a, b, c, d = (make_card(board, kind="backlog") for _ in range(4))
        wait_for(a, b)()
        wait_for(c, d)()
        results = at_once(wait_for(b, c), wait_for(d, a))
        assert [type(e) for e in failures(results)] == [Invalid]


# ── places ───────────────────────────────────────────────────────────────────────────────


def test_fifty_moves_at_once_give_no_place_twice():
    board = make_board()
    todo, target = column_of(board, "backlog"), column_of(board, "in_progress")
    anchor, *others = [make_card(board) for _ in range(5)]
    moving = [make_card(board, kind="backlog") for _ in range(45)] + others
    results = at_once(
        *[
            lambda c=c: retrying(lambda: cards.move(c.pk, "user:ann", target.pk, before=anchor))
            for c in moving
        ]
    )
    assert failures(results) == []
    ordered = list(Card.objects.filter(column=target).order_by("rank"))
    assert len({c.rank for c in ordered}) == len(ordered) == 50
    assert ordered[-1] == anchor
    assert not Card.objects.filter(column=todo).exists()


def test_numbering_a_column_anew_does_not_deadlock_with_a_move_within_it():
    board = make_board()
    column = column_of(board, "in_progress")
    first, second, third = (make_card(board) for _ in range(3))
    Card.objects.filter(pk=second.pk).update(rank=first.rank + 1)  # no room between them
    moved = make_card(board, kind="backlog")
    real = ranks.locked

    def move_within(pause: Callable[[], None]) -> None:
        mover = threading.current_thread()

        def lock(column):
            if threading.current_thread() is mover:
                pause()
            return real(column)

        with patch.object(ranks, "locked", lock):
            cards.move(third.pk, "user:ann", column.pk)

    results = blocked_behind(
        move_within, lambda: cards.move(moved.pk, "user:ann", column.pk, after=first)
    )
    assert failures(results) == []
    order = list(Card.objects.filter(column=column).order_by("rank"))
    assert order[:3] == [first, moved, second]


def test_a_column_cannot_go_while_a_card_comes():
    board = make_board(columns=[])
    extra = cards.edit_board(
        board.pk,
        "user:ann",
        {"columns": [*column_entries(board), {"name": "Doing", "kind": "in_progress"}]},
    ).columns.get(name="Doing")
    card = make_card(board)
    results = at_once(
        lambda: cards.move(card.pk, "user:ann", extra.pk),
        lambda: cards.edit_board(
            board.pk, "user:ann", {"columns": column_entries(board, without=extra.pk)}
        ),
    )
    assert [type(e) for e in failures(results)] == [Invalid]


def column_entries(board, without=None):
    return [
        {"id": c.pk, "name": c.name} for c in board.columns.order_by("position") if c.pk != without
    ]


def test_of_two_boards_with_one_key_one_is_made():
    results = at_once(lambda: make_board(key="PAY"), lambda: make_board(key="PAY"))
    assert [type(e) for e in failures(results)] == [Invalid]


# ── memory, repeats and the log ──────────────────────────────────────────────────────────


def test_evidence_for_the_same_criteria_in_other_order_does_not_deadlock():
    board = make_board()
    goal = make_goal(board, criteria=["fast", "small"])
    attempt = claimed(make_card(board, goal=goal))
    shown = [{"criterion": "small", "met": True}, {"criterion": "fast", "met": True}]

    def write_both(pause: Callable[[], None]) -> None:
        with transaction.atomic():
            goal.criteria.filter(text="fast").update(met=False)
            pause()
            goal.criteria.filter(text="small").update(met=False)

    results = blocked_behind(
        write_both, lambda: leases.complete(attempt.pk, "done", evidence=shown)
    )
    assert failures(results) == []
    assert list(Criterion.objects.values_list("met", flat=True)) == [True, True]


def test_a_key_used_twice_at_once_has_one_effect():
    board = make_board()

    def ask() -> Answer:
        def effect() -> Answer:
            return Answer(201, {"key": make_card(board).key})

        return once("token:x", "key-1", "same", effect)

    results = at_once(*[ask] * 8)
    answers = [r for r in results if isinstance(r, Answer)]
    assert {type(e).__name__ for e in failures(results)} <= {"KeyBusy"}
    assert len({a.body["key"] for a in answers}) == 1
    assert [a.replayed for a in answers].count(False) == 1
    assert Card.objects.count() == 1


def test_event_numbers_have_no_gap_under_eight_writers_some_of_whom_roll_back():
    board = make_board()
    held = [claimed(make_card(board), worker=f"w{n}") for n in range(8)]

    class Change(Exception):
        pass

    def write(attempt: Attempt) -> None:
        for n in range(12):
            try:
                with transaction.atomic():
                    steps.record(attempt.pk, f"s{n}", "succeeded")
                    if n % 4 == 3:
                        raise Change
            except Change:
                pass

    assert failures(at_once(*[lambda a=a: write(a) for a in held])) == []
    seqs = list(Event.objects.of_board(board.pk).order_by("id").values_list("seq", flat=True))
    assert sorted(seqs) == list(range(1, len(seqs) + 1))
    assert Event.objects.filter(kind="step.succeeded").count() == 8 * 9
