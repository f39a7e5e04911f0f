"""What the log says of a board must be what the tables said at that moment, whatever happened."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from typing import Any

import pytest
import time_machine
from django.utils import timezone
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, multiple, rule, run_state_machine_as_test

from boards import cards, leases
from boards.insights import flow, fold
from boards.models import Attempt, Card
from checkpoints import lines, recovery, steps
from checkpoints.models import Checkpoint, Step
from events import log
from events.models import Event
from tests.boards.test_lease_machine import ANN, INDEX, LeaseMachine
from tests.factories import claimed, column_of, make_board, make_card, make_goal, make_step

Picture = dict[str, Any]


def tables(board_id: Any) -> Picture:
    """Return what the tables say of the board now, in the words of the ledger."""
    rows = list(Card.objects.filter(board=board_id))
    attempts = Attempt.objects.filter(card__in=rows).select_related("card")
    costs = Step.objects.filter(card__in=rows, inherited=False)
    spent: Counter[str] = Counter()
    for key, usd in costs.values_list("card__key", "cost_usd"):
        spent[key] += round(usd * 1_000_000)
    return {
        "cards": {
            c.key: (
                c.state,
                str(c.column_id),
                str(c.goal_id) if c.goal_id else None,
                tuple(c.labels),
                c.archived_at is not None,
                c.title,
            )
            for c in rows
        },
        "attempts": {(a.card.key, a.number, a.worker, a.status) for a in attempts},
        "spent": +spent,
        "places": +Counter(c.state for c in rows if _on_board(c)),
    }


def _on_board(card: Card) -> bool:
    return card.state == "completed" or (card.state != "cancelled" and card.archived_at is None)


def told(ledger: fold.Ledger, until: float) -> Picture:
    """Return what the ledger says of the board at an instant."""
    standing = {c: c.standing(until) for c in ledger.cards}
    there = {c: s for c, s in standing.items() if s is not None}
    spent: Counter[str] = Counter()
    for used in ledger.spent:
        if used.at <= until and ledger.cards[used.card] in there:
            spent[ledger.cards[used.card].key] += used.micro_usd
    (sample,) = flow._samples(ledger, ledger.cards, [until])
    return {
        "cards": {
            c.key: (s.state, s.column, s.goal, s.labels, s.archived, c.title(until))
            for c, s in there.items()
        },
        "attempts": {
            (c.key, t.number, t.worker, t.status(until))
            for c in there
            for t in c.tries
            if t.started_at <= until
        },
        "spent": +spent,
        "places": +Counter(sample.counts),
    }


class HistoryMachine(LeaseMachine):
    """Everything that workers and people do, and what files cards otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.goals = [None, make_goal(self.board), make_goal(self.board)]
        self.pictures: dict[int, Picture] = {}
        self.moments: dict[float, Picture] = {}

    @rule(index=INDEX, goal=st.integers(0, 2), labels=st.sets(st.sampled_from("xyz"), max_size=2))
    def file(self, index: int, goal: int, labels: set[str]) -> None:
        changes = {"goal": self.goals[goal], "labels": sorted(labels), "title": f"now {goal}"}
        self.person_calls(lambda: cards.edit(self.cards[index].pk, ANN, changes))

    @rule(attempt=LeaseMachine.attempts, model=st.sampled_from(["", "large"]), n=st.integers(0, 3))
    def spend(self, attempt: Attempt, model: str, n: int) -> None:
        usage = {"model": model, "input_tokens": 10 * n, "cost_usd": n / 8}
        key = f"step {n}".replace(" ", "-")
        self.worker_calls(attempt, lambda: steps.record(attempt.pk, key, "failed", usage=usage))

    @rule(target=LeaseMachine.attempts, goal=st.integers(0, 2))
    def add(self, goal: int) -> Any:
        make_card(self.board, goal=self.goals[goal], labels=["x"])
        return multiple()

    @rule()
    def delete_the_newest(self) -> None:
        newest = Card.objects.filter(board=self.board).latest("number")
        if newest.pk not in {c.pk for c in self.cards}:
            self.person_calls(lambda: cards.delete(newest.pk, ANN))

    @rule(index=INDEX)
    def rewind(self, index: int) -> None:
        point = Checkpoint.objects.filter(card=self.cards[index].pk).first()
        if point is not None:
            self.person_calls(lambda: lines.rewind(self.cards[index].pk, point.number, ANN))

    @rule(index=INDEX, count=st.integers(1, 2))
    def fork(self, index: int, count: int) -> None:
        point = Checkpoint.objects.filter(card=self.cards[index].pk).first()
        if point is not None:
            self.person_calls(
                lambda: lines.fork(self.cards[index].pk, point.number, ANN, count=count)
            )

    @rule(index=INDEX, back=st.booleans())
    def archive(self, index: int, back: bool) -> None:
        call = cards.unarchive if back else cards.archive
        self.person_calls(lambda: call(self.cards[index].pk, ANN))

    @invariant()
    def everything_that_is_always_true(self) -> None:
        if hasattr(self, "pictures"):
            picture = tables(self.board.pk)
            self.pictures[log.last_seq(self.board.pk)] = picture
            self.moments[timezone.now().timestamp()] = picture

    def teardown(self) -> None:
        try:
            ledger = fold.Ledger(self.board.pk)
            for seq, picture in self.pictures.items():
                ledger.catch_up(through=seq)
                assert told(ledger, float("inf")) == picture
            at_once = fold.Ledger(self.board.pk)
            at_once.catch_up()
            for moment, picture in self.moments.items():
                assert told(at_once, moment) == picture == told(ledger, moment)
        finally:
            super().teardown()


@pytest.mark.django_db
def test_the_log_folds_into_what_the_tables_said_at_every_moment() -> None:
    usual = settings()
    run_state_machine_as_test(
        HistoryMachine,
        settings=settings(usual, max_examples=usual.max_examples // 2, stateful_step_count=30),
    )


@pytest.mark.django_db
def test_each_way_of_ending_and_filing_is_folded() -> None:
    """What random histories may miss: every kind of event once, compared after each."""
    board = make_board()
    goal = make_goal(board)
    backlog, doing = (column_of(board, kind) for kind in ("backlog", "in_progress"))
    moved, cancelled, rewound = (make_card(board, max_attempts=1) for _ in range(3))
    reviewed = make_card(board, review_required=True)
    ledger = fold.Ledger(board.pk)

    def race() -> None:
        attempt = claimed(rewound)
        recovery.save(attempt.pk, {"summary": "half way"})
        first, _second = lines.fork(rewound.pk, 1, ANN, count=2)
        leases.complete(claimed(first).pk, "won")

    for change in (
        lambda: claimed(moved),
        lambda: cards.move(moved.pk, ANN, backlog.pk),
        lambda: cards.move(moved.pk, ANN, doing.pk),
        lambda: leases.fail(claimed(moved).pk, "boom"),
        lambda: cards.retry(moved.pk, ANN),
        lambda: leases.expire(claimed(moved).pk, actor=ANN),
        lambda: cards.retry(moved.pk, ANN),
        lambda: leases.block(claimed(moved).pk, "stuck", question="Which?"),
        lambda: claimed(cancelled),
        lambda: cards.cancel(cancelled.pk, ANN),
        lambda: cards.archive(cancelled.pk, ANN),
        lambda: cards.retry(cards.unarchive(cancelled.pk, ANN).pk, ANN),
        lambda: leases.release(claimed(cancelled).pk, "so far"),
        race,
        lambda: lines.rewind(rewound.pk, 1, ANN),
        lambda: leases.complete(claimed(reviewed).pk, "done"),
        lambda: cards.reject(reviewed.pk, ANN, "not yet"),
        lambda: leases.complete(claimed(reviewed).pk, "done"),
        lambda: cards.approve(reviewed.pk, ANN),
        lambda: cards.archive(reviewed.pk, ANN),
        lambda: cards.edit(reviewed.pk, ANN, {"goal": goal, "labels": ["x"]}),
        lambda: cards.edit(reviewed.pk, ANN, {"goal": None, "title": "Other"}),
        lambda: cards.delete(reviewed.pk, ANN),
    ):
        change()
        ledger.catch_up()
        assert told(ledger, float("inf")) == tables(board.pk)


@pytest.mark.django_db
def test_an_attempt_that_came_back_was_expired_for_a_while() -> None:
    with time_machine.travel(dt.datetime(2026, 1, 1, tzinfo=dt.UTC), tick=False) as clock:
        board = make_board()
        attempt = claimed(make_card(board))
        pictures = {}
        for change in (
            lambda: leases.heartbeat(attempt.pk),
            leases.expire_lapsed,
            lambda: leases.heartbeat(attempt.pk),
            leases.expire_lapsed,
            lambda: leases.complete(attempt.pk, "done"),
        ):
            change()
            pictures[timezone.now().timestamp()] = tables(board.pk)
            clock.shift(61)
    ledger = fold.Ledger(board.pk)
    ledger.catch_up()
    stood = [status for p in pictures.values() for *_, status in p["attempts"]]
    assert stood == ["running", "expired", "running", "expired", "succeeded"]
    assert {at: told(ledger, at) for at in pictures} == pictures


@pytest.mark.django_db
def test_a_deleted_card_was_there_until_it_was_deleted() -> None:
    with time_machine.travel(dt.datetime(2026, 1, 1, tzinfo=dt.UTC), tick=False) as clock:
        board = make_board()
        card = make_card(board, title="Gone")
        attempt = claimed(card)
        make_step(attempt, usage={"model": "large", "cost_usd": 0.5})
        leases.complete(attempt.pk, "done")
        clock.shift(60)
        cards.delete(card.pk, ANN)
        now = timezone.now().timestamp()
    ledger = fold.Ledger(board.pk)
    ledger.catch_up()
    (story,) = ledger.cards
    assert story.standing(now) is None
    before = story.standing(now - 1)
    assert before is not None
    assert (before.state, story.title(now - 1)) == ("completed", "Gone")
    # What was finished has been finished, and what it cost is spent.
    assert story.finished_at(now) == now - 60
    assert [s.micro_usd for s in ledger.spent] == [500_000]


@pytest.mark.django_db
def test_a_log_from_before_goals_were_told_takes_those_of_today() -> None:
    board = make_board()
    goal = make_goal(board)
    card = make_card(board, goal=goal, labels=["old"])
    for event in Event.objects.of_board(board.pk):
        bare = {k: v for k, v in event.data.items() if k not in ("goal", "labels", "columns")}
        Event.objects.filter(pk=event.pk).update(data=bare)
    with fold.of_board(board.pk) as ledger:
        standing = ledger.cards[0].standing(timezone.now().timestamp())
    assert standing is not None
    assert (standing.goal, standing.labels) == (str(goal.pk), ("old",))
    assert standing.column == str(card.column_id)


@pytest.mark.django_db
def test_what_is_kept_goes_on_with_new_events_and_notices_another_log() -> None:
    board = make_board()
    make_card(board)
    with fold.of_board(board.pk) as ledger:
        assert len(ledger.cards) == 1
    make_card(board)
    with fold.of_board(board.pk) as again:
        assert again is ledger
        assert len(again.cards) == 2
    # A backup is restored: another event has the number that was folded last.
    Event.objects.of_board(board.pk).filter(seq__gt=2).delete()
    card = make_card(board)
    cards.edit(card.pk, ANN, {"title": "After the restore"})
    with fold.of_board(board.pk) as restored:
        assert [c.title(float("inf")) for c in restored.cards] == [
            "Write the parser",
            "After the restore",
        ]


@pytest.mark.django_db
def test_a_clock_that_runs_back_puts_no_event_before_the_one_recorded_before() -> None:
    with time_machine.travel(dt.datetime(2026, 1, 1, tzinfo=dt.UTC), tick=False) as clock:
        board = make_board()
        card = make_card(board, kind="backlog")
        clock.shift(-30)
        cards.move(card.pk, ANN, column_of(board, "in_progress").pk)
    ledger = fold.Ledger(board.pk)
    ledger.catch_up()
    first, second = ledger.cards[0].stays
    assert first.at == second.at
    assert ledger.cards[0].standing(second.at).state == "waiting"  # type: ignore[union-attr]


@pytest.mark.django_db
def test_a_checkpoint_and_output_change_nothing_that_is_counted() -> None:
    board = make_board()
    attempt = claimed(make_card(board))
    ledger = fold.Ledger(board.pk)
    ledger.catch_up()
    before = told(ledger, float("inf"))
    recovery.save(attempt.pk, {"summary": "half way"})
    steps.begin(attempt.pk, "a")
    ledger.catch_up()
    assert told(ledger, float("inf")) == before
