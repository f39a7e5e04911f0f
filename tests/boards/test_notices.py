"""What becomes a notice, for whom, once, and until when."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from boards import cards, leases
from boards.api.notices import KindsIn
from boards.models import Attempt, Board, Card, Membership
from boards.notices import raising, rules
from boards.notices.models import Letter, Notice, NoticeCursor, NoticeRules
from events.models import Event
from kernel.access import Role
from tests.factories import claimed, make_board, make_card, make_goal, make_step, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def board() -> Board:
    return make_board(key="PAY")


def member(board: Board, name: str = "bea", role: Role = Role.MEMBER, **fields: Any) -> Any:
    user = make_user(name, **fields)
    Membership.objects.create(board=board, user=user, role=role)
    return user


def kinds_of(user: Any) -> list[str]:
    """Return the kinds of the person's notices that are open and true, oldest first."""
    found = Notice.objects.filter(user=user).unsettled().true().order_by("id")
    return list(found.values_list("kind", flat=True))


def asked(card: Card, question: str = "Which way?") -> Attempt:
    attempt = claimed(card)
    leases.block(attempt.pk, "unsure", question=question, options=["Left", "Right"])
    return attempt


def test_a_question_reaches_everybody_who_can_answer_it(board: Board) -> None:
    bea, ann = member(board), member(board, "ann")
    viewer, stranger = member(board, "vic", Role.VIEWER), make_user("sam")
    root = make_user("root", is_superuser=True)
    asked(make_card(board))
    assert raising.tick() == 3
    assert [kinds_of(u) for u in (bea, ann, root)] == [["question"]] * 3
    assert [kinds_of(u) for u in (viewer, stranger)] == [[], []]
    notice = Notice.objects.get(user=bea)
    assert notice.text == "Which way?"
    assert notice.message is not None
    assert notice.message.options == ["Left", "Right"]


def test_a_notice_is_made_once_however_often_the_log_is_read(board: Board) -> None:
    bea = member(board)
    asked(make_card(board))
    assert raising.tick() == 1
    assert raising.tick() == 0
    NoticeCursor.objects.update(seq=0)  # as if the cursor had been lost
    assert raising.tick() == 0
    assert Notice.objects.filter(user=bea).count() == 1


def test_who_finds_the_cursor_moved_writes_nothing(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    member(board)
    asked(make_card(board))
    read = raising.facts_of

    def overtaken(*args: Any) -> Any:
        facts = read(*args)
        NoticeCursor.objects.update(seq=Event.objects.filter(board_id=board.pk).count())
        return facts

    monkeypatch.setattr(raising, "facts_of", overtaken)
    assert raising.tick() == 0
    assert not Notice.objects.exists()


def test_an_answer_settles_the_question_at_once_and_for_good(board: Board) -> None:
    bea = member(board)
    card = make_card(board)
    asked(card)
    raising.tick()
    question = Notice.objects.get(user=bea).message
    assert question is not None
    cards.say(card.pk, "user:ann", "Left", answers=question.pk)
    assert kinds_of(bea) == []  # true at once, whatever the rounds do
    raising.tick()
    assert Notice.objects.get(user=bea).settled_at is not None


def test_a_review_is_open_until_it_is_decided(board: Board) -> None:
    bea = member(board)
    card = make_card(board, review_required=True)
    leases.complete(claimed(card).pk, "All green")
    raising.tick()
    assert kinds_of(bea) == ["review"]
    cards.reject(card.pk, "user:ann", "Not yet")
    assert kinds_of(bea) == []
    leases.complete(claimed(card).pk, "Now really")
    raising.tick()
    assert kinds_of(bea) == ["review"]
    assert Notice.objects.filter(user=bea, settled_at=None).get().text == "Now really"
    cards.approve(card.pk, "user:ann")
    raising.tick()
    assert not Notice.objects.filter(settled_at=None).exists()


def test_a_card_that_failed_for_good_is_told_and_one_that_backs_off_is_not(board: Board) -> None:
    bea = member(board)
    card = make_card(board, max_attempts=2)
    leases.fail(claimed(card).pk, "no disk")
    raising.tick()
    assert kinds_of(bea) == []
    Card.objects.update(not_before=None)
    leases.fail(claimed(card).pk, "no disk")
    raising.tick()
    assert kinds_of(bea) == ["blocked"]
    assert "no disk" in Notice.objects.get(user=bea).text
    cards.retry(card.pk, "user:ann")
    assert kinds_of(bea) == []


def test_what_was_over_before_anybody_looked_is_not_told(board: Board) -> None:
    member(board)
    card = make_card(board)
    asked(card)
    cards.say(card.pk, "user:ann", "Left", answers=card.messages.get().pk)
    assert raising.tick() == 0


def test_an_old_board_begins_at_its_newest_event(board: Board) -> None:
    member(board)
    asked(make_card(board))
    Board.objects.update(created_at=timezone.now() - timedelta(days=3))
    assert raising.tick() == 0
    asked(make_card(board))
    assert raising.tick() == 1


def test_a_silent_worker_is_told_once_per_silence(board: Board) -> None:
    bea = member(board)
    card = make_card(board)
    with time_machine.travel(timezone.now(), tick=False) as clock:
        attempt = claimed(card, lease_seconds=60)
        clock.shift(44)
        raising.tick()
        assert kinds_of(bea) == []
        clock.shift(2)
        assert raising.tick() == 1
        assert raising.tick() == 0
        assert kinds_of(bea) == ["stalled"]
        clock.shift(1)
        leases.heartbeat(attempt.pk)
        assert kinds_of(bea) == []
        clock.shift(46)
        raising.tick()
        assert kinds_of(bea) == ["stalled"]
        clock.shift(20)
        leases.expire_lapsed()
        raising.tick()
        assert kinds_of(bea) == ["stalled"]  # still nobody at it
        claimed(card, "eve")
        assert kinds_of(bea) == []


def test_a_mention_reaches_a_viewer_as_well_and_nobody_hears_of_himself(board: Board) -> None:
    vic, bea = member(board, "vic", Role.VIEWER), member(board)
    card = make_card(board)
    cards.say(card.pk, "user:bea", "Ask @vic. And @bea, and vic@example.org, @nobody")
    raising.tick()
    assert kinds_of(vic) == ["mention"]
    assert kinds_of(bea) == []


def test_a_budget_is_told_when_the_attempts_together_pass_it(board: Board) -> None:
    bea = member(board)
    card = make_card(board, budgets={"cost_usd": "1.00", "nonsense": "x", "tokens": True})
    first = claimed(card)
    make_step(first, "a", usage={"cost_usd": "0.60"})
    leases.release(first.pk, "half")
    raising.tick()
    assert kinds_of(bea) == []
    make_step(claimed(card), "b", usage={"cost_usd": "0.60"})
    raising.tick()
    assert kinds_of(bea) == ["budget"]
    notice = Notice.objects.get(user=bea)
    assert notice.text == f"{card.key} has used 1.2 of 1 USD. Raise the budget to let work go on."
    assert raising.tick() == 0
    cards.edit(card.pk, "user:ann", {"budgets": {"cost_usd": 5}})
    raising.tick()
    assert kinds_of(bea) == []


def test_a_goals_budget_counts_all_of_its_cards(board: Board) -> None:
    bea = member(board)
    goal = make_goal(board, budgets={"tokens": 100})
    for _ in range(2):
        attempt = claimed(make_card(board, goal=goal))
        make_step(attempt, "a", usage={"input_tokens": 30, "output_tokens": 30})
    raising.tick()
    assert kinds_of(bea) == ["budget"]
    assert "Ship it has used 120 of 100 tokens" in Notice.objects.get(user=bea).text


def test_minutes_run_out_without_any_event(board: Board) -> None:
    bea = member(board)
    with time_machine.travel(timezone.now(), tick=False) as clock:
        attempt = claimed(make_card(board, budgets={"minutes": 5}), lease_seconds=600)
        raising.tick()
        clock.shift(301)
        leases.heartbeat(attempt.pk)
        raising.tick()
        assert kinds_of(bea) == ["budget"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, True),
        ({"kinds": {"question": None}}, False),
        ({"scope": "chosen", "boards": []}, False),
        ({"scope": "mine"}, False),
    ],
)
def test_rules_say_what_one_hears_of(board: Board, changes: dict[str, Any], told: bool) -> None:
    bea = member(board)
    rules.change(bea, changes)
    asked(make_card(board))
    raising.tick()
    assert bool(kinds_of(bea)) is told


def test_mine_are_the_cards_i_made_watch_or_was_mentioned_on(board: Board) -> None:
    bea = member(board)
    rules.change(bea, {"scope": "mine"})
    made, watched, spoken, other = (make_card(board) for _ in range(4))
    Card.objects.filter(pk=made.pk).update(created_by="user:bea")
    rules.watch(bea, watched, True)
    cards.say(spoken.pk, "user:ann", "@bea see here")
    raising.tick()
    for card in (made, watched, spoken, other):
        asked(card)
    raising.tick()
    told = Notice.objects.filter(user=bea, kind="question").values_list("card__key", flat=True)
    assert set(told) == {made.key, watched.key, spoken.key}


def test_a_muted_card_is_silent_even_when_it_speaks_of_me(board: Board) -> None:
    bea = member(board)
    card = make_card(board)
    rules.watch(bea, card, False)
    cards.say(card.pk, "user:ann", "@bea see here")
    asked(card)
    raising.tick()
    assert not Notice.objects.exists()
    rules.watch(bea, card, None)
    cards.say(card.pk, "user:ann", "@bea again")
    raising.tick()
    assert kinds_of(bea) == ["mention"]


def test_e_mail_waits_for_the_end_of_quiet_hours_unless_it_is_urgent(board: Board) -> None:
    bea = member(board, email="bea@example.org")
    everything = {kind: ["email"] for kind in ("question", "review")}
    changes = {"kinds": everything, "quiet_from": "22:00", "quiet_to": "07:00"}
    rules.change(bea, {**changes, "time_zone": "Europe/Berlin"})
    card = make_card(board, review_required=True)
    with time_machine.travel("2026-01-10T23:00:00Z", tick=False):
        asked(make_card(board))
        leases.complete(claimed(card).pk, "done")
        raising.tick()
        due = {str(at)[:16] for at in Letter.objects.values_list("due_at", flat=True)}
        assert due == {"2026-01-11 06:00"}
        assert len(set(Letter.objects.values_list("batch", flat=True))) == 1
        rules.change(bea, {"urgent_passes": True})
        asked(make_card(board))
        raising.tick()
        assert Letter.objects.filter(due_at__lte=timezone.now()).count() == 1


def test_a_round_with_nothing_new_costs_a_few_statements_however_much_there_is(
    board: Board,
) -> None:
    member(board)
    for n in range(3):
        make_board(key=f"X{n}")
    raising.tick()

    def cost() -> int:
        with CaptureQueriesContext(connection) as captured:
            raising.tick()
        return len(captured)

    first = cost()
    for _ in range(20):
        asked(make_card(board))
    raising.tick()
    assert cost() == first <= 8


def test_rules_without_a_row_are_the_defaults() -> None:
    user = make_user()
    found = rules.of(user)
    assert isinstance(found, NoticeRules)
    assert rules.channels(found, "question") == ("browser",)


def test_rules_can_be_given_for_every_kind_of_notice():
    assert set(KindsIn().fields) == set(Notice.Kind.values)
