"""Random histories of workers, clocks and people must keep what is always true.

Each rule is one call as anybody might make it at any moment, late ones included. A call that
is refused has changed nothing, whoever made it; that is checked for every one of them.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
import time_machine
from django.db import transaction
from django.db.models import Model
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from boards import cards, leases
from boards.models import Attempt, Card, Column, Dependency, Message
from checkpoints import logs, recovery, steps
from checkpoints.models import Checkpoint, LogChunk, Step
from events.models import Event
from kernel.errors import DomainError, LeaseLost, NotClaimable
from tests.factories import column_of, make_board, make_card

ANN = "user:ann"
KINDS = st.sampled_from(list(Column.Kind))
KEYS = st.sampled_from(["a", "b", "c"])
INDEX = st.integers(0, 3)
STORED: tuple[type[Model], ...] = (
    Card,
    Attempt,
    Step,
    Checkpoint,
    LogChunk,
    Message,
    Dependency,
    Event,
)


class LeaseMachine(RuleBasedStateMachine):
    attempts = Bundle("attempts")

    def __init__(self) -> None:
        super().__init__()
        self.block = transaction.atomic()
        self.block.__enter__()
        self.travel = time_machine.travel(dt.datetime(2026, 1, 1, tzinfo=dt.UTC), tick=False)
        self.clock = self.travel.start()
        self.board = make_board()
        self.cards = [
            make_card(self.board, max_attempts=2),
            make_card(self.board, review_required=True),
        ]
        self.cards.append(make_card(self.board, depends_on=self.cards[:2], max_attempts=1))
        self.cards.append(make_card(self.board, kind="backlog", depends_on=[self.cards[0]]))
        self.first_results: dict[tuple[Any, ...], Any] = {}

    def teardown(self) -> None:
        self.travel.stop()
        transaction.set_rollback(True)
        self.block.__exit__(None, None, None)

    # ── workers ──────────────────────────────────────────────────────────────────────────

    def worker_calls(self, attempt: Attempt, call: Callable[[], Any]) -> Any:
        """Make the call; it must change nothing at all if the attempt is over and was not
        just given up, with nobody in its place."""
        asked = Attempt.objects.filter(pk=attempt.pk)
        live = asked.live().exists() or asked.unreplaced().exists()
        before = stored()
        try:
            answer = call()
        except DomainError as refusal:
            assert stored() == before
            assert live or isinstance(refusal, LeaseLost)
            return None
        # An attempt that is over may say again how it ended, and is told that it did.
        assert live or stored() == before
        return answer

    @rule(target=attempts, worker=st.sampled_from(["ada", "bob"]))
    def claim(self, worker: str) -> Any:
        attempt = leases.claim(worker, boards=frozenset([self.board.pk]))
        return multiple() if attempt is None else attempt

    @rule(target=attempts, worker=st.sampled_from(["ada", "bob"]), index=INDEX)
    def claim_by_name(self, worker: str, index: int) -> Any:
        try:
            return leases.claim(worker, card_id=self.cards[index].pk)
        except NotClaimable:
            return multiple()

    @rule(attempt=attempts)
    def heartbeat(self, attempt: Attempt) -> None:
        self.worker_calls(attempt, lambda: leases.heartbeat(attempt.pk, note="busy"))

    @rule(attempt=attempts, key=KEYS)
    def begin_step(self, attempt: Attempt, key: str) -> None:
        self.worker_calls(attempt, lambda: steps.begin(attempt.pk, key))

    @rule(
        attempt=attempts,
        key=KEYS,
        status=st.sampled_from(["succeeded", "failed"]),
        result=st.integers(0, 1),
        saved=st.booleans(),
        at_once=st.booleans(),
    )
    def finish_step(
        self, attempt: Attempt, key: str, status: str, result: int, saved: bool, at_once: bool
    ) -> None:
        call = steps.record if at_once else steps.finish
        checkpoint = {"summary": f"after {key}"} if saved else None
        self.worker_calls(
            attempt, lambda: call(attempt.pk, key, status, result=result, checkpoint=checkpoint)
        )

    @rule(attempt=attempts, key=st.sampled_from(["", "k"]), state=st.integers(0, 1))
    def checkpoint(self, attempt: Attempt, key: str, state: int) -> None:
        content = {"summary": "half way", "state": state, "key": key}
        self.worker_calls(attempt, lambda: recovery.save(attempt.pk, content))

    @rule(attempt=attempts)
    def log(self, attempt: Attempt) -> None:
        self.worker_calls(attempt, lambda: logs.append(attempt.pk, [("a", "stdout", "x")]))

    @rule(attempt=attempts)
    def complete(self, attempt: Attempt) -> None:
        self.worker_calls(attempt, lambda: leases.complete(attempt.pk, "done"))

    @rule(attempt=attempts, retryable=st.booleans())
    def fail(self, attempt: Attempt, retryable: bool) -> None:
        self.worker_calls(attempt, lambda: leases.fail(attempt.pk, "boom", retryable=retryable))

    @rule(attempt=attempts)
    def ask(self, attempt: Attempt) -> None:
        self.worker_calls(attempt, lambda: leases.block(attempt.pk, "stuck", question="Which?"))

    @rule(attempt=attempts, seconds=st.sampled_from([0, 30]))
    def release(self, attempt: Attempt, seconds: int) -> None:
        self.worker_calls(
            attempt, lambda: leases.release(attempt.pk, "so far", retry_after_seconds=seconds)
        )

    @rule(attempt=attempts)
    def follow_up(self, attempt: Attempt) -> None:
        self.worker_calls(attempt, lambda: cards.follow_up(attempt.pk, title="more"))

    # ── time ─────────────────────────────────────────────────────────────────────────────

    @rule(seconds=st.integers(1, 90))
    def time_passes(self, seconds: int) -> None:
        self.clock.shift(seconds)

    @rule()
    def sweep(self) -> None:
        leases.expire_lapsed()

    @rule(attempt=attempts)
    def an_operator_ends_the_lease(self, attempt: Attempt) -> None:
        leases.expire(attempt.pk, actor=ANN)

    # ── people ───────────────────────────────────────────────────────────────────────────

    def person_calls(self, call: Callable[[], Any]) -> None:
        before = stored()
        try:
            call()
        except DomainError:
            assert stored() == before

    @rule(index=INDEX, kind=KINDS, beside=INDEX, above=st.sampled_from([True, False, None]))
    def move(self, index: int, kind: str, beside: int, above: bool | None) -> None:
        column = column_of(self.board, kind)
        anchor = Card.objects.get(pk=self.cards[beside].pk)
        place = {} if above is None else {"before" if above else "after": anchor}
        self.person_calls(lambda: cards.move(self.cards[index].pk, ANN, column.pk, **place))

    @rule(index=INDEX, verb=st.sampled_from(["cancel", "pause", "resume", "retry", "approve"]))
    def steer(self, index: int, verb: str) -> None:
        self.person_calls(lambda: getattr(cards, verb)(self.cards[index].pk, ANN))

    @rule(index=INDEX)
    def reject(self, index: int) -> None:
        self.person_calls(lambda: cards.reject(self.cards[index].pk, ANN, "not yet"))

    @rule(index=INDEX)
    def answer(self, index: int) -> None:
        question = cards.open_questions(self.cards[index]).first()
        answers = question.pk if question else None
        self.person_calls(lambda: cards.say(self.cards[index].pk, ANN, "left", answers=answers))

    @rule(index=INDEX, parents=st.sets(INDEX, max_size=2))
    def depend(self, index: int, parents: set[int]) -> None:
        wanted = [self.cards[n] for n in sorted(parents)]
        self.person_calls(lambda: cards.edit(self.cards[index].pk, ANN, {"depends_on": wanted}))

    @invariant()
    def everything_that_is_always_true(self) -> None:
        facts = Facts(self)
        for always in ALWAYS:
            always(facts)


# ── what is always true ──────────────────────────────────────────────────────────────────


class Facts:
    """What is stored, read once for all checks; rows by their card, in order of number."""

    def __init__(self, machine: LeaseMachine) -> None:
        self.first_results = machine.first_results
        self.cards = list(Card.objects.select_related("column"))
        self.states = {c.pk: c.state for c in self.cards}
        self.attempts = by_card(Attempt)
        self.steps = by_card(Step)
        self.checkpoints = by_card(Checkpoint)
        self.parents = defaultdict(list)
        for link in Dependency.objects.all():
            self.parents[link.card_id].append(link.depends_on_id)
        self.seqs = list(Event.objects.of_board(machine.board.pk).values_list("seq", flat=True))


def by_card(model: type[Model]) -> dict[Any, list[Any]]:
    rows = defaultdict(list)
    for row in model._default_manager.order_by("number"):
        rows[row.card_id].append(row)
    return rows


def a_card_runs_exactly_while_one_attempt_does(facts: Facts) -> None:
    for card in facts.cards:
        live = [a for a in facts.attempts[card.pk] if a.status == "running"]
        assert len(live) == (card.state == "running")


def a_card_stands_where_its_state_says(facts: Facts) -> None:
    for card in facts.cards:
        assert card.column.kind == Card.KIND_OF[Card.State(card.state)]
        assert card.column.board_id == card.board_id


def fences_have_no_gap_and_only_the_newest_attempt_lives(facts: Facts) -> None:
    for card in facts.cards:
        attempts = facts.attempts[card.pk]
        assert [a.number for a in attempts] == list(range(1, card.fence + 1))
        assert all(a.status != "running" for a in attempts[:-1])


def the_first_result_of_a_step_stays(facts: Facts) -> None:
    for tries in facts.steps.values():
        for step in tries:
            if step.status == "succeeded":
                place = (step.card_id, step.line, step.key)
                first = facts.first_results.setdefault(place, (step.pk, step.result))
                assert (step.pk, step.result) == first


def counters_agree_with_what_they_count(facts: Facts) -> None:
    for card in facts.cards:
        tries = facts.steps[card.pk]
        for attempt in facts.attempts[card.pk]:
            own = [s for s in tries if s.attempt_id == attempt.pk]
            assert attempt.steps_done == sum(s.status != "started" for s in own)
        for newest in facts.attempts[card.pk][-1:]:
            assert newest.step_number == len(tries)
            assert newest.steps_recorded == sum(s.status == "succeeded" for s in tries)
            assert newest.checkpoint_number == len(facts.checkpoints[card.pk])


def a_step_is_tried_once_at_a_time(facts: Facts) -> None:
    for tries in facts.steps.values():
        assert [s.number for s in tries] == list(range(1, len(tries) + 1))
        counting = [s.key for s in tries if not s.superseded]
        assert len(counting) == len(set(counting))


def a_card_counts_the_parents_that_are_not_done(facts: Facts) -> None:
    for card in facts.cards:
        unmet = [p for p in facts.parents[card.pk] if facts.states[p] != "completed"]
        assert card.unmet_dependencies == len(unmet)


def checkpoints_form_one_unbroken_chain(facts: Facts) -> None:
    for chain in facts.checkpoints.values():
        digests = {c.pk: c.digest for c in chain}
        assert [c.number for c in chain] == list(range(1, len(chain) + 1))
        assert [c.parent_id for c in chain] == [None, *digests][: len(chain)]
        for c in chain:
            content = {name: getattr(c, name) for name in recovery.CONTENT}
            assert c.digest == recovery.digest_of(content, digests.get(c.parent_id, ""))


def events_are_numbered_without_gap(facts: Facts) -> None:
    assert sorted(facts.seqs) == list(range(1, len(facts.seqs) + 1))


def no_two_cards_share_a_place(facts: Facts) -> None:
    places = [(c.column_id, c.rank) for c in facts.cards]
    assert len(places) == len(set(places))


def what_has_failed_too_often_is_not_handed_out(facts: Facts) -> None:
    for card in facts.cards:
        assert card.failures < card.max_attempts or card.state not in ("waiting", "running")


ALWAYS = (
    a_card_runs_exactly_while_one_attempt_does,
    a_card_stands_where_its_state_says,
    fences_have_no_gap_and_only_the_newest_attempt_lives,
    the_first_result_of_a_step_stays,
    counters_agree_with_what_they_count,
    a_step_is_tried_once_at_a_time,
    a_card_counts_the_parents_that_are_not_done,
    checkpoints_form_one_unbroken_chain,
    events_are_numbered_without_gap,
    no_two_cards_share_a_place,
    what_has_failed_too_often_is_not_handed_out,
)


def stored() -> list[Any]:
    """Return everything that a transition may write."""
    return [list(model._default_manager.order_by("pk").values_list()) for model in STORED]


@pytest.mark.django_db
def test_any_history_keeps_what_is_always_true() -> None:
    usual = settings()
    run_state_machine_as_test(
        LeaseMachine,
        settings=settings(usual, max_examples=usual.max_examples // 2, stateful_step_count=30),
    )
