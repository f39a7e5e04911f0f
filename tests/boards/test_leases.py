from __future__ import annotations

import datetime as dt
from uuid import uuid4

import pytest
import time_machine
from django.db import IntegrityError, transaction
from django.utils import timezone

from boards import cards, faults, leases
from boards.models import Attempt, Board, Card, Column, Message, Spending
from checkpoints import steps
from events.models import Event
from goals import memory
from goals.models import Criterion
from kernel.errors import BudgetExceeded, DeadEnd, Invalid, LeaseLost, NotClaimable, NotFound
from kernel.tx import enclosing
from tests.factories import (
    claimed,
    column_of,
    make_board,
    make_card,
    make_checkpoint,
    make_goal,
    make_step,
    now_is,
)

pytestmark = pytest.mark.django_db
T0 = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@pytest.fixture
def clock():
    with time_machine.travel(T0, tick=False) as traveller:
        yield traveller


def state_of(card: Card) -> str:
    return now_is(card).state


# ── claiming ─────────────────────────────────────────────────────────────────────────────


def test_a_claim_makes_the_card_run_under_a_new_fence():
    card = make_card()
    attempt = leases.claim("ada")
    assert (attempt.card, attempt.number, attempt.status) == (card, 1, "running")
    card = now_is(card)
    assert (card.state, card.fence, card.column.kind) == ("running", 1, "in_progress")


def test_nothing_to_do_is_none():
    assert leases.claim("ada") is None
    make_card(kind="backlog")
    assert leases.claim("ada") is None


def test_the_most_urgent_card_comes_first_then_the_highest():
    board = make_board()
    low, first, second = (make_card(board, priority=p) for p in (4, 0, 0))
    third = make_card(board, priority=0)
    cards.move(third.pk, "user:ann", column_of(board, "in_progress").pk, before=first)
    taken = [leases.claim(f"w{n}").card for n in range(4)]
    assert taken == [third, first, second, low]


def test_a_claim_keeps_to_the_boards_it_was_given():
    mine, other = make_board(), make_board()
    make_card(other)
    card = make_card(mine)
    assert leases.claim("ada", boards=frozenset([mine.pk])).card == card
    assert leases.claim("ada", boards=frozenset([mine.pk])) is None
    assert leases.claim("ada", boards=frozenset()) is None


def test_an_archived_board_hands_out_nothing():
    board = make_board(pull=Board.Pull.AUTO)
    card, waiting = make_card(board, kind="backlog"), make_card(board)
    cards.edit_board(board.pk, "user:ann", {"archived": True})
    assert leases.claim("ada") is None
    for one in (card, waiting):
        with pytest.raises(NotClaimable, match="archived"):
            leases.claim("ada", card_id=one.pk)
    cards.edit_board(board.pk, "user:ann", {"archived": False})
    assert leases.claim("ada").card == waiting


def test_a_card_goes_only_to_a_worker_who_can_do_all_it_requires():
    card = make_card(requires=["python", "gpu"])
    assert leases.claim("ada", capabilities=["python"]) is None
    assert leases.claim("bob", capabilities=["gpu", "python", "shell"]).card == card


def test_a_paused_card_is_not_handed_out():
    card = make_card()
    cards.pause(card.pk, "user:ann")
    assert leases.claim("ada") is None
    cards.resume(card.pk, "user:ann")
    assert leases.claim("ada").card == card


def test_a_card_waits_for_what_it_depends_on():
    board = make_board()
    parent = make_card(board, kind="backlog")
    child = make_card(board, depends_on=[parent])
    assert leases.claim("ada") is None
    cards.move(parent.pk, "user:ann", column_of(board, "completed").pk)
    assert leases.claim("ada").card == child


@pytest.mark.parametrize("status", ["achieved", "abandoned"])
def test_a_card_of_a_goal_that_is_over_is_not_handed_out(status):
    board = make_board()
    goal = make_goal(board)
    card = make_card(board, goal=goal)
    memory.edit(goal.pk, "user:ann", {"status": status})
    assert leases.claim("ada") is None
    with pytest.raises(NotClaimable, match=status):
        leases.claim("ada", card_id=card.pk)


def test_a_claim_can_be_for_one_goal():
    board = make_board()
    goal = make_goal(board)
    make_card(board)
    card = make_card(board, goal=goal)
    assert leases.claim("ada", goal_id=goal.pk).card == card
    assert leases.claim("ada", goal_id=goal.pk) is None


def test_a_backlog_is_pulled_from_only_where_the_board_says_so():
    board = make_board(pull="auto")
    card = make_card(board, kind="backlog")
    attempt = leases.claim("ada")
    assert attempt.card == card
    assert now_is(card).column.kind == "in_progress"


def test_pulling_stops_at_the_wip_limit_and_so_do_workers():
    board = make_board(pull="auto")
    Column.objects.filter(board=board, kind="in_progress").update(wip_limit=1)
    first, second = make_card(board, kind="backlog"), make_card(board, kind="backlog")
    assert leases.claim("ada").card == first
    assert leases.claim("bob") is None
    cards.move(second.pk, "user:ann", column_of(board, "in_progress").pk)  # people are only warned
    assert leases.claim("bob") is None
    with pytest.raises(NotClaimable, match="WIP limit"):
        leases.claim("bob", card_id=second.pk)


def test_a_named_card_that_cannot_be_had_says_why():
    board = make_board()
    running, backlog = make_card(board), make_card(board, kind="backlog")
    picky = make_card(board, requires=["gpu"])
    claimed(running)
    for card, why in ((running, "running"), (backlog, "backlog"), (picky, "gpu")):
        with pytest.raises(NotClaimable, match=why):
            leases.claim("bob", card_id=card.pk)
    with pytest.raises(NotFound):
        leases.claim("bob", card_id=uuid4())
    with pytest.raises(NotFound):
        leases.claim("bob", card_id=running.pk, boards=frozenset([make_board().pk]))


def test_a_refused_pull_by_name_leaves_the_card_in_the_backlog():
    board = make_board(pull="auto")
    card = make_card(board, kind="backlog", requires=["gpu"])
    with pytest.raises(NotClaimable):
        leases.claim("ada", card_id=card.pk)
    assert state_of(card) == "backlog"


def test_a_card_never_has_two_live_attempts():
    attempt = claimed()
    with pytest.raises(IntegrityError), transaction.atomic():
        Attempt.objects.create(
            board_id=attempt.board_id,
            card_id=attempt.card_id,
            number=2,
            worker="eve",
            lease_expires_at=T0,
        )


# ── leases and clocks ────────────────────────────────────────────────────────────────────


def test_a_stale_owner_cannot_finish_a_card_that_was_reclaimed(clock):
    card = make_card()
    stale = leases.claim("ada")
    clock.shift(61)
    fresh = leases.claim("bob")
    with pytest.raises(LeaseLost):
        leases.complete(stale.pk, "done")
    assert fresh.number == stale.number + 1
    assert state_of(card) == "running"
    assert [a.status for a in card.attempts.order_by("number")] == ["expired", "running"]


def test_a_lapsed_lease_is_still_held_until_someone_takes_it(clock):
    attempt = claimed()
    clock.shift(3600)
    leases.heartbeat(attempt.pk)
    assert leases.expire_lapsed() == 0
    assert leases.claim("bob") is None


@pytest.mark.parametrize("seconds", [0, 0.5, 0.999999])
def test_a_lease_lasts_its_seconds_from_the_last_sign_of_life(clock, seconds):
    clock.shift(seconds)  # stores write instants with and without a fraction
    attempt = claimed(lease_seconds=10)
    clock.shift(9.9)
    assert leases.expire_lapsed() == 0
    leases.heartbeat(attempt.pk)
    clock.shift(9.9)
    assert leases.expire_lapsed() == 0
    clock.shift(0.2)
    assert leases.expire_lapsed() == 1


def test_every_write_renews_the_lease(clock):
    attempt = claimed(lease_seconds=10)
    for write in (
        lambda: steps.begin(attempt.pk, "s"),
        lambda: steps.finish(attempt.pk, "s", "succeeded"),
        lambda: make_checkpoint(attempt),
        lambda: leases.describe(attempt.pk, "by hand"),
    ):
        clock.shift(9)
        write()
        assert now_is(attempt).lease_expires_at == clock_now() + dt.timedelta(seconds=10)


def clock_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def test_expiry_is_visible_and_safe_to_repeat(clock):
    card = make_card()
    attempt = leases.claim("ada")
    clock.shift(61)
    assert leases.expire_lapsed() == 1
    assert leases.expire_lapsed() == 0
    assert not leases.expire(attempt.pk, actor="user:ann")
    attempt = now_is(attempt)
    assert (attempt.status, attempt.finished_at) == ("expired", clock_now())
    assert state_of(card) == "waiting"
    assert Event.objects.filter(subject_id=card.pk, kind="attempt.expired").count() == 1


WAYS_ON = {
    "a heartbeat": lambda a: leases.heartbeat(a.pk),
    "a step": lambda a: steps.record(a.pk, "late", "succeeded", result=1),
    "a completion": lambda a: leases.complete(a.pk, "done"),
    "a failure": lambda a: leases.fail(a.pk, "boom"),
    "a question": lambda a: leases.block(a.pk, "stuck", question="Which?"),
    "a handover": lambda a: leases.release(a.pk, "so far"),
}


@pytest.mark.parametrize("call", WAYS_ON.values(), ids=WAYS_ON)
def test_a_late_call_is_taken_though_the_sweep_has_ended_the_attempt(clock, call):
    attempt = claimed()
    clock.shift(61)
    leases.expire_lapsed()
    call(attempt)
    assert now_is(attempt).status != "expired"
    assert Event.objects.filter(kind="attempt.reinstated").count() == 1
    assert now_is(attempt.card).failures == (now_is(attempt).status == "failed")


def test_what_a_late_call_did_is_told_after_that_it_was_taken(clock):
    attempt = claimed()
    clock.shift(61)
    leases.expire_lapsed()
    leases.complete(attempt.pk, "done")
    told = Event.objects.filter(subject_id=attempt.card_id).order_by("seq")
    seen = [(e.kind, e.data["state"], e.data["version"]) for e in told][-3:]
    version = now_is(attempt.card).version
    assert seen == [
        ("attempt.expired", "waiting", version - 2),
        ("attempt.reinstated", "running", version - 1),
        ("card.completed", "completed", version),
    ]


@pytest.mark.parametrize("call", WAYS_ON.values(), ids=WAYS_ON)
def test_a_late_call_is_taken_though_the_lapse_blocked_the_card(clock, call):
    attempt = claimed(make_card(max_attempts=1))
    clock.shift(61)
    leases.expire_lapsed()
    assert state_of(attempt.card) == "blocked"
    call(attempt)
    card, attempt = now_is(attempt.card), now_is(attempt)
    assert attempt.status != "expired"
    assert card.column.kind == Card.KIND_OF[card.state]
    assert "stopped answering" not in card.blocked_reason
    assert (card.state == "running") == (attempt.status == "running")
    told = Event.objects.get(kind="attempt.reinstated").data
    if card.state == "running":
        assert (told["state"], told["column"]) == ("running", str(card.column_id))


def test_what_a_reinstated_attempt_used_counts_once_while_its_late_call_is_judged(clock):
    card = make_card(budgets={"tokens": 150, "minutes": 2})
    attempt = claimed(card)
    steps.record(attempt.pk, "a", "succeeded", usage={"input_tokens": 100})
    clock.shift(61)
    leases.expire_lapsed()
    assert steps.begin(attempt.pk, "b").step.status == "started"
    assert not Spending.objects.exclude(attempts=0, input_tokens=0).exists()
    steps.finish(attempt.pk, "b", "succeeded", usage={"input_tokens": 50})
    with pytest.raises(BudgetExceeded):
        steps.begin(attempt.pk, "c")
    leases.release(attempt.pk, "so far")
    assert set(Spending.objects.values_list("input_tokens", "attempts")) == {(150, 1)}


def test_a_reinstated_attempt_holds_its_card_again(clock):
    attempt = claimed(lease_seconds=10)
    clock.shift(11)
    leases.expire_lapsed()
    leases.heartbeat(attempt.pk)
    attempt = now_is(attempt)
    assert (attempt.status, attempt.finished_at, attempt.reason) == ("running", None, "")
    assert attempt.lease_expires_at == clock_now() + dt.timedelta(seconds=10)
    assert state_of(attempt.card) == "running"
    assert leases.claim("bob") is None
    assert not Spending.objects.exclude(attempts=0).exists()
    clock.shift(11)
    assert leases.expire_lapsed() == 1
    assert set(Spending.objects.values_list("attempts", flat=True)) == {1}


DECIDED = {
    "taken over": lambda card: leases.claim("bob"),
    "moved away": lambda card: cards.move(card.pk, "user:ann", column_of(card.board, "backlog").pk),
    "blocked": lambda card: cards.move(card.pk, "user:ann", column_of(card.board, "blocked").pk),
    "cancelled": lambda card: cards.cancel(card.pk, "user:ann"),
    "made to wait": lambda card: cards.edit(
        card.pk, "user:ann", {"depends_on": [make_card(card.board)]}
    ),
}


@pytest.mark.parametrize("decide", DECIDED.values(), ids=DECIDED)
def test_no_late_call_undoes_what_has_become_of_the_card_since(clock, decide):
    attempt = claimed()
    clock.shift(61)
    leases.expire_lapsed()
    decide(now_is(attempt.card))
    before = now_is(attempt.card).version
    with pytest.raises(LeaseLost):
        leases.heartbeat(attempt.pk)
    with pytest.raises(LeaseLost):
        leases.complete(attempt.pk, "done")
    assert (now_is(attempt).status, now_is(attempt.card).version) == ("expired", before)


def test_an_operator_may_end_a_lease_that_has_not_lapsed():
    attempt = claimed()
    assert leases.expire(attempt.pk, actor="user:ann")
    assert now_is(attempt).status == "expired"
    with pytest.raises(LeaseLost):
        leases.heartbeat(attempt.pk)


def test_a_card_whose_workers_die_without_progress_is_blocked_in_the_end(clock):
    card = make_card(max_attempts=2)
    for _ in range(2):
        assert leases.claim("ada").card == card
        clock.shift(61)
    assert leases.claim("ada") is None
    card = now_is(card)
    assert (card.state, card.column.kind) == ("blocked", "blocked")
    assert "ada" in card.blocked_reason


@pytest.mark.parametrize("progress", [make_step, make_checkpoint])
def test_a_worker_that_got_somewhere_before_it_died_gives_the_card_its_tries_back(clock, progress):
    card = make_card(max_attempts=2)
    leases.claim("ada")
    clock.shift(61)
    progress(leases.claim("bob"))
    clock.shift(61)
    leases.claim("cay")
    clock.shift(61)
    leases.expire_lapsed()
    assert (state_of(card), now_is(card).failures) == ("waiting", 1)


def test_inside_a_request_with_a_key_a_claim_ends_no_other_attempt(clock):
    claimed()
    clock.shift(61)
    with enclosing():
        assert leases.claim("bob") is None
    assert leases.claim("bob") is not None


def test_a_lease_token_opens_its_own_attempt_alone(settings):
    one, two = claimed(), claimed()
    token = leases.token_of(one.pk, one.board_id)
    assert leases.board_of_token(one.pk, token) == one.board_id
    for attempt, wrong in ((two, token), (one, token[:-1] + "0x"[token[-1] == "0"]), (one, "")):
        with pytest.raises(LeaseLost):
            leases.board_of_token(attempt.pk, wrong)
    settings.LEASE_EPOCH += 1  # a backup was restored
    with pytest.raises(LeaseLost):
        leases.board_of_token(one.pk, token)


# ── while holding ────────────────────────────────────────────────────────────────────────


def test_a_heartbeat_is_told_to_pause_with_its_card():
    attempt = claimed()
    assert leases.heartbeat(attempt.pk).directive == "continue"
    cards.pause(attempt.card_id, "user:ann")
    assert leases.heartbeat(attempt.pk).directive == "pause"


def test_messages_come_again_until_they_are_acknowledged():
    card = make_card()
    cards.say(card.pk, "user:ann", "before the claim")
    attempt = claimed(card)
    said = cards.say(card.pk, "user:ann", "use the other parser")
    cards.say(card.pk, attempt.actor, "my own words")
    assert leases.heartbeat(attempt.pk).messages == [said]
    assert leases.heartbeat(attempt.pk).messages == [said]
    assert leases.heartbeat(attempt.pk, seen_message=said.pk).messages == []


def test_which_messages_are_new_is_no_question_of_clocks(clock):
    attempt = claimed()
    clock.shift(-30)  # said on a server whose clock is behind
    said = cards.say(attempt.card_id, "user:ann", "stop using eval")
    assert leases.heartbeat(attempt.pk).messages == [said]


def test_a_heartbeat_tells_that_the_goal_was_amended(clock):
    board = make_board()
    goal = make_goal(board, intent="fast")
    attempt = claimed(make_card(board, goal=goal))
    clock.shift(1)
    memory.edit(goal.pk, "user:ann", {"intent": "fast and small"})
    (notice,) = leases.heartbeat(attempt.pk).notices
    assert (notice["kind"], notice["changed"]) == ("goal_amended", ["intent"])


def test_a_heartbeat_keeps_note_and_percent_and_is_no_event():
    attempt = claimed()
    before = Event.objects.count()
    leases.heartbeat(attempt.pk, note="reading", percent=40)
    leases.heartbeat(attempt.pk)
    attempt = now_is(attempt)
    assert (attempt.note, attempt.percent) == ("reading", 40)
    assert Event.objects.count() == before


def test_an_approach_is_compared_with_those_that_failed():
    card = make_card(max_attempts=9)
    first = claimed(card)
    leases.describe(first.pk, "rewrite the parser with regular expressions")
    leases.fail(first.pk, "catastrophic backtracking", lesson="no regex")
    Card.objects.update(not_before=None)
    second = claimed(card)
    (alike,) = leases.describe(second.pk, "rewrite the parser with regular expression")
    assert (alike["attempt"], alike["lesson"]) == (1, "no regex")
    assert leases.describe(second.pk, "a hand-written state machine") == []


def test_a_board_may_refuse_dead_ends_unless_the_difference_is_said():
    card = make_card(make_board(enforce_dead_ends=True), max_attempts=9)
    first = claimed(card)
    leases.describe(first.pk, "use regular expressions")
    leases.fail(first.pk, "boom")
    Card.objects.update(not_before=None)
    second = claimed(card)
    with pytest.raises(DeadEnd):
        leases.describe(second.pk, "use regular expressions")
    assert now_is(second).approach == ""
    leases.describe(second.pk, "use regular expressions", differs="possessive quantifiers")
    assert now_is(second).approach == "use regular expressions"


# ── ending ───────────────────────────────────────────────────────────────────────────────


def test_completing_puts_the_card_on_top_of_completed():
    board = make_board()
    for _ in range(2):
        leases.complete(claimed(make_card(board)).pk, "done", result={"sha": "abc"})
    column = column_of(board, "completed")
    assert [c.number for c in column.cards.order_by("rank")] == [2, 1]
    assert Attempt.objects.latest("started_at").result == {"sha": "abc"}


def test_done_means_recorded():
    attempt = claimed()
    with pytest.raises(Invalid):
        leases.complete(attempt.pk, "  ")
    assert now_is(attempt).status == "running"


def test_a_card_that_wants_review_is_not_completed_by_its_worker():
    board = make_board()
    card = make_card(board, review_required=True)
    child = make_card(board, depends_on=[card])
    leases.complete(claimed(card).pk, "done")
    assert state_of(card) == "review"
    assert now_is(child).unmet_dependencies == 1
    cards.approve(card.pk, "user:ann")
    assert now_is(child).unmet_dependencies == 0


def test_evidence_meets_criteria_or_nothing_is_completed():
    board = make_board()
    goal = make_goal(board, criteria=["fast", "small"])
    card = make_card(board, goal=goal)
    attempt = claimed(card)
    with pytest.raises(Invalid):
        leases.complete(attempt.pk, "done", evidence=[{"criterion": "round", "met": True}])
    assert state_of(card) == "running"
    leases.complete(
        attempt.pk,
        "done",
        evidence=[
            {"criterion": "fast", "met": True, "detail": "12 ms"},
            {"criterion": 2, "met": False},
        ],
    )
    assert list(Criterion.objects.order_by("number").values_list("met", flat=True)) == [True, False]


def test_a_failure_backs_off_and_then_the_card_can_be_had_again(clock):
    card = make_card(max_attempts=3)
    leases.fail(claimed(card).pk, "boom", lesson="mind the gap")
    assert state_of(card) == "waiting"
    assert leases.claim("bob") is None
    with pytest.raises(NotClaimable, match="backs off"):
        leases.claim("bob", card_id=card.pk)
    clock.shift(faults.terms("").first_seconds)
    assert leases.claim("bob").number == 2


@pytest.mark.parametrize("fault", ["", *faults.Fault])
def test_backing_off_doubles_and_is_bounded(fault):
    base, most = faults.terms(fault).first_seconds, faults.terms(fault).longest_seconds
    for failures, longest in ((1, base), (2, 2 * base), (3, 4 * base), (50, most)):
        for _ in range(20):
            seconds = faults.backoff(fault, failures).total_seconds()
            assert 0.6 * longest <= seconds <= longest


def fail_again(card, **kind):
    Card.objects.filter(pk=card.pk).update(not_before=None)
    leases.fail(claimed(card).pk, "boom", **kind)
    return now_is(card)


def test_what_the_world_did_counts_only_after_many_in_a_row(clock):
    card = make_card(max_attempts=1)
    waits = []
    for _ in range(faults.UNCOUNTED):
        card = fail_again(card, fault="infrastructure")
        assert (card.state, card.failures) == ("waiting", 0)
        waits.append((card.not_before - timezone.now()).total_seconds())
    assert waits[-1] > 100 > 15 >= waits[0]
    assert fail_again(card, fault="infrastructure").state == "blocked"


def test_another_kind_of_failure_begins_the_row_anew(clock):
    card = make_card(max_attempts=2)
    for _ in range(faults.UNCOUNTED):
        fail_again(card, fault="rate_limited")
    assert fail_again(card, fault="transient").failures == 1
    assert fail_again(card, fault="rate_limited").failures == 1
    card = fail_again(card, fault="red_checks")
    assert (card.state, card.failures) == ("blocked", 2)


def test_a_card_is_blocked_when_its_attempts_are_used_up():
    card = make_card(max_attempts=2)
    for n in range(2):
        Card.objects.update(not_before=None)
        leases.fail(claimed(card).pk, f"boom {n}")
    card = now_is(card)
    assert card.state == "blocked"
    assert "boom 1" in card.blocked_reason


def test_a_failure_that_no_retry_mends_blocks_at_once():
    card = make_card(max_attempts=9)
    leases.fail(claimed(card).pk, "no such repository", retryable=False)
    assert state_of(card) == "blocked"


def test_blocking_asks_a_person_and_counts_as_no_failure():
    card = make_card()
    leases.block(claimed(card).pk, "need a decision", question="Which?", options=["a", "b"])
    card = now_is(card)
    assert (card.state, card.blocked_reason, card.failures) == ("blocked", "need a decision", 0)
    question = Message.objects.get(card=card)
    assert (question.kind, question.text, question.options) == ("question", "Which?", ["a", "b"])


def test_a_handover_is_claimable_at_once_and_no_failure():
    card = make_card(max_attempts=1)
    leases.release(claimed(card).pk, "got half way", "do the rest")
    assert (state_of(card), now_is(card).failures) == ("waiting", 0)
    assert leases.claim("bob").number == 2


def test_a_handover_may_ask_for_time(clock):
    leases.release(claimed().pk, "rate limited", reason="rate_limited", retry_after_seconds=60)
    assert leases.claim("bob") is None
    clock.shift(60)
    assert leases.claim("bob") is not None


@pytest.mark.parametrize(
    "end",
    [
        lambda pk: leases.complete(pk, "done"),
        lambda pk: leases.fail(pk, "boom"),
        lambda pk: leases.block(pk, "stuck", question="Why?"),
        lambda pk: leases.release(pk, "half way", reason="rate_limited"),
    ],
)
def test_ending_an_attempt_again_in_the_same_way_changes_nothing(end):
    attempt = claimed()
    first = end(attempt.pk)
    card, events = now_is(attempt.card), Event.objects.count()
    assert end(attempt.pk) == first
    assert now_is(attempt.card).version == card.version
    assert Event.objects.count() == events
    assert Message.objects.count() <= 1


ENDS = {
    "complete": lambda pk: leases.complete(pk, "done"),
    "fail": lambda pk: leases.fail(pk, "boom"),
    "block": lambda pk: leases.block(pk, "stuck"),
    "release": lambda pk: leases.release(pk, "half way"),
    "heartbeat": leases.heartbeat,
    "describe": lambda pk: leases.describe(pk, "by hand"),
    "begin": lambda pk: steps.begin(pk, "s"),
    "finish": lambda pk: steps.finish(pk, "s", "succeeded"),
    "record": lambda pk: steps.record(pk, "s", "succeeded"),
    "follow_up": lambda pk: cards.follow_up(pk, title="more"),
}


@pytest.mark.parametrize("write", list(ENDS))
def test_a_cancelled_worker_can_write_nothing_more(write):
    attempt = claimed()
    cards.cancel(attempt.card_id, "user:ann")
    events = Event.objects.count()
    with pytest.raises(LeaseLost):
        ENDS[write](attempt.pk)
    assert Event.objects.count() == events
    assert Attempt.objects.filter(pk=attempt.pk).values().get() == vars_of(attempt.pk)
    assert Card.objects.count() == 1


def vars_of(pk):
    attempt = Attempt.objects.get(pk=pk)
    assert attempt.status == "cancelled"
    return {f.attname: getattr(attempt, f.attname) for f in attempt._meta.concrete_fields}


@pytest.mark.parametrize("write", list(ENDS))
def test_nobody_writes_under_an_attempt_that_never_was(write):
    with pytest.raises(LeaseLost):
        ENDS[write](uuid4())


def test_what_a_card_lives_through_is_logged_in_order():
    card = make_card()
    leases.fail(claimed(card).pk, "boom")
    Card.objects.update(not_before=None)
    leases.release(claimed(card).pk, "half way")
    leases.complete(claimed(card).pk, "done")
    log = Event.objects.filter(subject_id=card.pk).order_by("seq")
    assert [(e.kind, e.data["state"]) for e in log] == [
        ("card.created", "waiting"),
        ("card.claimed", "running"),
        ("attempt.failed", "waiting"),
        ("card.claimed", "running"),
        ("attempt.released", "waiting"),
        ("card.claimed", "running"),
        ("card.completed", "completed"),
    ]
