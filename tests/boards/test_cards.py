from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from uuid import uuid4

import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext

from boards import cards, leases
from boards.models import Board, Card, Column, Membership
from checkpoints.models import Checkpoint, Step
from events.models import Event
from kernel.access import Principal, Role
from kernel.errors import (
    BudgetExceeded,
    Invalid,
    LeaseLost,
    NotFound,
    Stale,
    TransitionRefused,
)
from tests.factories import (
    claimed,
    column_of,
    make_board,
    make_card,
    make_checkpoint,
    make_goal,
    make_step,
    make_user,
    now_is,
)

pytestmark = pytest.mark.django_db
ANN = "user:ann"


def place(card: Card) -> tuple[str, str]:
    card = now_is(card)
    return card.state, card.column.kind


# ── boards ───────────────────────────────────────────────────────────────────────────────


def test_a_new_board_has_a_column_of_every_kind():
    board = make_board()
    kinds = [c.kind for c in board.columns.order_by("position")]
    assert kinds == ["backlog", "in_progress", "blocked", "review", "completed"]


def test_whoever_makes_a_board_operates_it():
    user = make_user()
    board = cards.create_board(
        Principal(kind="user", id=str(user.pk), name="x"), key="ABC", name="A"
    )
    assert Membership.objects.get(board=board).role == Role.OPERATOR


def test_two_boards_cannot_share_a_key():
    make_board(key="PAY")
    with pytest.raises(Invalid, match="taken"):
        make_board(key="PAY")
    assert Board.objects.count() == 1


def test_a_board_keeps_a_column_of_every_kind():
    board = make_board()
    entries = [{"id": c.pk} for c in board.columns.order_by("position")]
    with pytest.raises(Invalid, match="completed"):
        cards.edit_board(board.pk, ANN, {"columns": entries[:-1]})
    assert board.columns.count() == 5


def test_only_an_empty_column_can_go():
    board = make_board()
    entries = [{"id": c.pk} for c in board.columns.order_by("position")]
    more = [*entries, {"name": "Doing", "kind": "in_progress", "wip_limit": 2}]
    cards.edit_board(board.pk, ANN, {"columns": more})
    doing = board.columns.get(name="Doing")
    card = make_card(board, column=doing)
    with pytest.raises(Invalid, match="still has cards"):
        cards.edit_board(board.pk, ANN, {"columns": entries})
    cards.delete(card.pk, ANN)
    cards.edit_board(board.pk, ANN, {"columns": entries})
    assert not Column.objects.filter(pk=doing.pk).exists()


def test_the_kind_of_a_column_never_changes():
    board = make_board()
    entries = [{"id": c.pk, "kind": c.kind} for c in board.columns.order_by("position")]
    entries[0]["kind"] = "review"
    with pytest.raises(Invalid, match="never changes"):
        cards.edit_board(board.pk, ANN, {"columns": entries})


def test_an_edit_of_an_old_version_of_a_board_is_refused():
    board = make_board()
    cards.edit_board(board.pk, ANN, {"name": "New"}, expected_version=1)
    with pytest.raises(Stale):
        cards.edit_board(board.pk, ANN, {"name": "Newer"}, expected_version=1)
    assert now_is(board).name == "New"


# ── making and editing ───────────────────────────────────────────────────────────────────


def test_cards_are_numbered_per_board_without_gap():
    one, two = make_board(key="ONE"), make_board(key="TWO")
    keys = [make_card(board).key for board in (one, two, one)]
    assert keys == ["ONE-1", "TWO-1", "ONE-2"]


def test_a_new_card_takes_the_boards_defaults():
    board = make_board(defaults={"max_attempts": 7, "review_required": True})
    card = make_card(board)
    assert (card.max_attempts, card.review_required) == (7, True)
    assert make_card(board, max_attempts=1).max_attempts == 1


def test_a_new_card_goes_to_the_end_of_the_backlog_unless_told_otherwise():
    board = make_board()
    first, second = (cards.create(board, ANN, title="x") for _ in range(2))
    assert place(first) == ("backlog", "backlog")
    assert second.rank > first.rank


def test_a_goal_of_another_board_is_refused():
    with pytest.raises(Invalid):
        make_card(goal=make_goal())
    card = make_card()
    with pytest.raises(Invalid):
        cards.edit(card.pk, ANN, {"goal": make_goal()})


def test_an_edit_changes_what_it_names_and_nothing_else():
    card = make_card(title="Old", priority=1)
    edited = cards.edit(card.pk, ANN, {"title": "New"}, expected_version=card.version)
    assert (edited.title, edited.priority, edited.version) == ("New", 1, card.version + 1)
    with pytest.raises(Stale):
        cards.edit(card.pk, ANN, {"title": "Newer"}, expected_version=card.version)


def test_an_edit_may_move_the_card_too():
    board = make_board()
    card = make_card(board, kind="backlog")
    column = column_of(board, "in_progress")
    card = cards.edit(card.pk, ANN, {"title": "New", "column": column})
    assert (card.title, place(card)) == ("New", ("waiting", "in_progress"))
    assert now_is(card).version == card.version


def test_the_workflow_of_a_running_card_stays():
    attempt = claimed()
    with pytest.raises(TransitionRefused):
        cards.edit(attempt.card_id, ANN, {"workflow": None})


def test_follow_ups_join_the_goal_within_a_budget():
    board = make_board(defaults={"follow_ups": 2})
    goal = make_goal(board)
    attempt = claimed(make_card(board, goal=goal))
    made = [cards.follow_up(attempt.pk, title=f"more {n}") for n in range(2)]
    assert {(c.goal, c.created_by, c.state) for c in made} == {(goal, "worker:ada", "backlog")}
    with pytest.raises(BudgetExceeded):
        cards.follow_up(attempt.pk, title="one too many")
    assert Card.objects.count() == 3
    assert now_is(attempt).follow_ups == 2


def test_a_follow_up_may_wait_for_the_card_it_follows():
    attempt = claimed()
    child = cards.follow_up(attempt.pk, title="then", depends_on=[attempt.card])
    assert child.unmet_dependencies == 1


# ── dependencies ─────────────────────────────────────────────────────────────────────────


def test_a_card_counts_what_it_waits_for():
    board = make_board()
    done, open_one = make_card(board, kind="completed"), make_card(board)
    card = make_card(board, depends_on=[done, open_one])
    assert card.unmet_dependencies == 1
    assert cards.edit(card.pk, ANN, {"depends_on": [done]}).unmet_dependencies == 0
    assert cards.edit(card.pk, ANN, {"depends_on": [open_one]}).unmet_dependencies == 1
    assert cards.edit(card.pk, ANN, {"depends_on": []}).unmet_dependencies == 0


def test_a_card_reopened_is_waited_for_again():
    board = make_board()
    parent = make_card(board, kind="completed")
    card = make_card(board, depends_on=[parent])
    cards.move(parent.pk, ANN, column_of(board, "in_progress").pk)
    assert now_is(card).unmet_dependencies == 1
    cards.move(parent.pk, ANN, column_of(board, "completed").pk)
    assert now_is(card).unmet_dependencies == 0


def test_a_cancelled_card_is_not_done_so_its_children_go_on_waiting():
    board = make_board()
    parent = make_card(board)
    card = make_card(board, depends_on=[parent])
    cards.cancel(parent.pk, ANN)
    assert now_is(card).unmet_dependencies == 1


def test_a_deleted_card_is_waited_for_no_longer():
    board = make_board()
    parent, done = make_card(board), make_card(board, kind="completed")
    card = make_card(board, depends_on=[parent, done])
    cards.delete(done.pk, ANN)
    assert now_is(card).unmet_dependencies == 1
    cards.delete(parent.pk, ANN)
    assert now_is(card).unmet_dependencies == 0


def test_cards_cannot_wait_in_a_circle():
    board = make_board()
    a = make_card(board)
    b = make_card(board, depends_on=[a])
    c = make_card(board, depends_on=[b])
    for parents in ([a], [c], [b, c]):
        with pytest.raises(Invalid, match="itself"):
            cards.edit(a.pk, ANN, {"depends_on": parents})
    assert now_is(a).unmet_dependencies == 0


def test_a_card_waits_only_for_cards_of_its_board():
    with pytest.raises(Invalid, match="another board"):
        make_card(depends_on=[make_card()])


# ── moving ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        ("backlog", "backlog"),
        ("in_progress", "waiting"),
        ("blocked", "blocked"),
        ("review", "review"),
        ("completed", "completed"),
    ],
)
def test_a_column_says_what_standing_there_means(kind, state):
    board = make_board()
    card = make_card(board, kind="review" if kind != "review" else "backlog")
    cards.move(card.pk, ANN, column_of(board, kind).pk)
    assert place(card) == (state, kind)


@pytest.mark.parametrize("kind", ["backlog", "blocked", "review", "completed"])
def test_moving_a_running_card_away_revokes_its_lease(kind):
    board = make_board()
    attempt = claimed(make_card(board))
    cards.move(attempt.card_id, ANN, column_of(board, kind).pk)
    attempt = now_is(attempt)
    assert attempt.status == "cancelled"
    assert ANN in attempt.reason
    with pytest.raises(LeaseLost):
        leases.heartbeat(attempt.pk)


def test_moving_a_running_card_within_in_progress_disturbs_nobody():
    board = make_board()
    entries = [{"id": c.pk} for c in board.columns.order_by("position")]
    cards.edit_board(
        board.pk, ANN, {"columns": [*entries, {"name": "Doing", "kind": "in_progress"}]}
    )
    attempt = claimed(make_card(board))
    cards.move(attempt.card_id, ANN, board.columns.get(name="Doing").pk)
    assert place(attempt.card) == ("running", "in_progress")
    leases.heartbeat(attempt.pk)


def test_a_cancelled_card_stays_cancelled_among_the_completed():
    board = make_board()
    entries = [{"id": c.pk} for c in board.columns.order_by("position")]
    cards.edit_board(board.pk, ANN, {"columns": [*entries, {"name": "Old", "kind": "completed"}]})
    card = make_card(board)
    cards.cancel(card.pk, ANN)
    cards.move(card.pk, ANN, board.columns.get(name="Old").pk)
    assert place(card) == ("cancelled", "completed")


def test_a_move_into_progress_is_a_fresh_start():
    card = make_card(max_attempts=1)
    leases.fail(claimed(card).pk, "boom")
    cards.move(card.pk, ANN, column_of(card.board, "in_progress").pk)
    card = now_is(card)
    assert (card.failures, card.not_before, card.blocked_reason) == (0, None, "")
    assert leases.claim("bob").number == 2


def test_a_wip_limit_warns_people():
    board = make_board()
    Column.objects.filter(board=board, kind="review").update(wip_limit=1)
    column = column_of(board, "review")
    assert cards.move(make_card(board).pk, ANN, column.pk)[1] == []
    assert cards.move(make_card(board).pk, ANN, column.pk)[1] == ["Review now holds 2 of 1."]


def test_a_move_to_another_boards_column_is_refused():
    card = make_card()
    for column_id in (column_of(make_board(), "review").pk, uuid4()):
        with pytest.raises(Invalid):
            cards.move(card.pk, ANN, column_id)


def test_a_move_of_an_old_version_is_refused():
    card = make_card()
    column = column_of(card.board, "review")
    cards.move(card.pk, ANN, column.pk, expected_version=card.version)
    with pytest.raises(Stale):
        cards.move(card.pk, ANN, column.pk, expected_version=card.version)


# ── steering ─────────────────────────────────────────────────────────────────────────────


def test_cancelling_revokes_the_lease_and_is_for_good():
    attempt = claimed()
    cards.cancel(attempt.card_id, ANN)
    assert place(attempt.card) == ("cancelled", "completed")
    assert now_is(attempt).status == "cancelled"
    with pytest.raises(TransitionRefused):
        cards.cancel(attempt.card_id, ANN)
    assert leases.claim("bob") is None


def test_pausing_leaves_the_worker_its_lease():
    attempt = claimed()
    cards.pause(attempt.card_id, ANN)
    leases.release(attempt.pk, "paused")
    assert leases.claim("bob") is None
    cards.resume(attempt.card_id, ANN)
    assert leases.claim("bob") is not None


def test_pausing_twice_is_pausing_once():
    card = make_card()
    cards.pause(card.pk, ANN)
    cards.pause(card.pk, ANN)
    cards.resume(card.pk, ANN)
    cards.resume(card.pk, ANN)
    kinds = Event.objects.filter(subject_id=card.pk).order_by("seq").values_list("kind", flat=True)
    assert list(kinds) == ["card.created", "card.paused", "card.resumed"]


def test_a_retry_gives_a_fresh_set_of_attempts():
    card = make_card(max_attempts=1)
    leases.fail(claimed(card).pk, "boom")
    cards.retry(card.pk, ANN)
    card = now_is(card)
    assert (card.state, card.failures, card.blocked_reason) == ("waiting", 0, "")
    leases.fail(claimed(card).pk, "boom again")
    assert place(card) == ("blocked", "blocked")


def test_a_cancelled_card_can_be_retried_and_a_completed_or_running_one_not():
    card = make_card()
    cards.cancel(card.pk, ANN)
    cards.retry(card.pk, ANN)
    attempt = claimed(card)
    with pytest.raises(TransitionRefused):
        cards.retry(card.pk, ANN)
    leases.complete(attempt.pk, "done")
    with pytest.raises(TransitionRefused):
        cards.retry(card.pk, ANN)


def test_what_is_over_cannot_be_paused():
    card = make_card(kind="completed")
    with pytest.raises(TransitionRefused):
        cards.pause(card.pk, ANN)


def test_only_a_card_in_review_is_approved_or_rejected():
    card = make_card()
    for judge in (lambda: cards.approve(card.pk, ANN), lambda: cards.reject(card.pk, ANN, "no")):
        with pytest.raises(TransitionRefused):
            judge()


def test_a_rejection_sends_the_card_back_with_its_reason():
    card = make_card(review_required=True)
    leases.complete(claimed(card).pk, "done")
    cards.reject(card.pk, ANN, "the tests are missing")
    assert place(card) == ("waiting", "in_progress")
    said = card.messages.get()
    assert (said.kind, said.text) == ("review", "the tests are missing")


# ── talking ──────────────────────────────────────────────────────────────────────────────


def test_answering_the_last_open_question_lets_the_card_go_on():
    card = make_card()
    leases.block(claimed(card).pk, "stuck", question="Which?")
    first = card.messages.get()
    second = card.messages.create(kind="question", actor="worker:ada", text="And when?")
    cards.say(card.pk, ANN, "the left one", answers=first.pk)
    assert place(card) == ("blocked", "blocked")
    cards.say(card.pk, ANN, "a note")
    assert place(card) == ("blocked", "blocked")
    cards.say(card.pk, ANN, "now", answers=second.pk)
    assert place(card) == ("waiting", "in_progress")
    assert now_is(card).blocked_reason == ""


def test_a_question_is_answered_once():
    card = make_card()
    leases.block(claimed(card).pk, "stuck", question="Which?")
    question = card.messages.get()
    cards.say(card.pk, ANN, "left", answers=question.pk)
    with pytest.raises(TransitionRefused):
        cards.say(card.pk, ANN, "right", answers=question.pk)


def test_an_answer_names_a_question_on_its_card():
    card, other = make_card(), make_card()
    leases.block(claimed(other).pk, "stuck", question="Which?")
    note = cards.say(card.pk, ANN, "a note")
    for wrong in (other.messages.get().pk, note.pk, 10**9):
        with pytest.raises(Invalid):
            cards.say(card.pk, ANN, "left", answers=wrong)


# ── deleting ─────────────────────────────────────────────────────────────────────────────


def test_a_deleted_card_takes_its_history_along_but_not_the_log():
    card = make_card()
    attempt = claimed(card)
    make_step(attempt)
    for _ in range(3):
        make_checkpoint(attempt)
    leases.complete(attempt.pk, "done")
    cards.delete(card.pk, ANN)
    assert not Card.objects.exists()
    assert not Step.objects.exists()
    assert not Checkpoint.objects.exists()
    assert Event.objects.filter(subject_id=card.pk, kind="card.deleted").exists()
    with pytest.raises(NotFound):
        cards.delete(card.pk, ANN)


def test_a_running_card_is_not_deleted():
    attempt = claimed()
    with pytest.raises(TransitionRefused):
        cards.delete(attempt.card_id, ANN)


# ── why it waits ─────────────────────────────────────────────────────────────────────────


def test_a_waiting_card_says_why():
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    board = make_board()
    parent = make_card(board)
    reasons = {
        "queue": make_card(board),
        "dependency": make_card(board, depends_on=[parent]),
        "capability": make_card(board, requires=["gpu"]),
        "backoff": make_card(board, not_before=now + dt.timedelta(seconds=5)),
        "paused": make_card(board, paused=True),
    }
    with time_machine.travel(now, tick=False):
        for reason, card in reasons.items():
            assert cards.why_waiting(card)[0] == reason


# ── what it costs ────────────────────────────────────────────────────────────────────────


def selects(call: Callable[[], object]) -> int:
    with CaptureQueriesContext(connection) as seen:
        call()
    return sum(query["sql"].startswith("SELECT") for query in seen.captured_queries)


@pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL has rows to lock")
def test_where_one_writes_at_a_time_nothing_is_read_only_to_be_locked():
    board = make_board()
    first, second, third = (make_card(board) for _ in range(3))
    column = first.column_id
    assert selects(lambda: cards.move(third.pk, ANN, column, after=first)) == 4
    assert selects(lambda: cards.move(third.pk, ANN, column_of(board, "review").pk)) <= 5
    assert selects(lambda: cards.edit(second.pk, ANN, {"title": "another"})) == 1
    assert selects(lambda: leases.claim("ada", card_id=first.pk)) <= 7
    attempt = claimed(second)
    assert selects(lambda: leases.complete(attempt.pk, "done")) == 5
