from __future__ import annotations

import pytest
from django.db import IntegrityError, transaction
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from boards import cards, leases
from checkpoints import recovery
from checkpoints.models import Checkpoint, Line
from goals.models import Decision, Discovery
from kernel.errors import Invalid, LeaseLost, StepConflict
from kernel.ids import uuid7
from tests.factories import (
    claimed,
    make_board,
    make_card,
    make_checkpoint,
    make_goal,
    make_step,
    now_is,
)

pytestmark = pytest.mark.django_db

FULL = {
    "summary": "half way",
    "next_step": "the other half",
    "state": {"cursor": 7, "seen": ["a", "é", None], "rate": 0.25},
    "tests": {"passed": 3, "failed": 0, "skipped": 1, "failing": []},
    "workspace": {"commit": "abc", "changed_files": 2},
}


@pytest.fixture
def attempt():
    return claimed()


def test_checkpoints_are_numbered_and_each_knows_its_parent(attempt):
    first, second = make_checkpoint(attempt), make_checkpoint(attempt)
    leases.expire(attempt.pk, actor="system:test")
    third = make_checkpoint(claimed(attempt.card))
    assert [c.number for c in (first, second, third)] == [1, 2, 3]
    assert [c.parent for c in (first, second, third)] == [None, first, second]
    assert recovery.head(attempt.card_id, 1) == third


def test_a_checkpoint_says_which_steps_came_before_it(attempt):
    make_step(attempt, "a")
    make_step(attempt, "b")
    assert make_checkpoint(attempt).after_step == 2


def test_a_card_without_checkpoints_has_no_head(attempt):
    assert recovery.head(attempt.card_id, 1) is None


def test_a_new_line_begins_at_its_origin(attempt):
    first, _ = make_checkpoint(attempt), make_checkpoint(attempt)
    Line.objects.create(card=attempt.card, number=2, parent=1, origin=first, actor="user:ann")
    assert recovery.head(attempt.card_id, 2) == first


def test_the_next_attempt_knows_where_it_resumes(attempt):
    make_checkpoint(attempt)
    make_checkpoint(attempt)
    leases.release(attempt.pk, "half way")
    assert claimed(attempt.card).resumed_from == 2


def test_a_key_saves_once(attempt):
    first, new = recovery.save(attempt.pk, {**FULL, "key": "half"})
    again, renewed = recovery.save(attempt.pk, {**FULL, "key": "half"})
    assert (new, renewed, again) == (True, False, first)
    assert now_is(attempt).checkpoint_number == 1
    with pytest.raises(StepConflict):
        recovery.save(attempt.pk, {**FULL, "key": "half", "summary": "other"})
    assert make_checkpoint(attempt).number == 2


def test_a_history_changed_afterwards_no_longer_adds_up(attempt):
    first, second = make_checkpoint(attempt, **FULL), make_checkpoint(attempt, **FULL)
    assert first.digest != second.digest  # the same content under another parent
    assert recovery.intact(now_is(first))
    assert recovery.intact(now_is(second))
    Checkpoint.objects.filter(pk=first.pk).update(summary="all done")
    assert not recovery.intact(now_is(first))
    Checkpoint.objects.filter(pk=first.pk).update(summary="half way", digest="0" * 64)
    assert not recovery.intact(now_is(second))


def test_decisions_and_discoveries_are_kept_with_the_checkpoint_or_not_at_all():
    board = make_board()
    goal = make_goal(board)
    attempt = claimed(make_card(board, goal=goal))
    content = {
        "summary": "chose",
        "decisions": [{"title": "use a queue", "rationale": "it is durable"}],
        "discoveries": [{"kind": "fact", "title": "it is slow"}],
    }
    unknown = [{"name": "log", "sha256": "0" * 64}]
    with pytest.raises(Invalid):
        recovery.save(attempt.pk, {**content, "artifacts": unknown})
    assert not Decision.objects.exists()
    recovery.save(attempt.pk, content)
    decision, discovery = Decision.objects.get(), Discovery.objects.get()
    assert (decision.goal, decision.attempt_id, decision.card_id) == (
        goal,
        attempt.pk,
        attempt.card_id,
    )
    assert (discovery.status, discovery.actor) == ("open", "worker:ada")


def test_two_checkpoints_cannot_have_one_number(attempt):
    twin = make_checkpoint(attempt)
    twin.pk = uuid7()
    with pytest.raises(IntegrityError), transaction.atomic():
        twin.save(force_insert=True)


def test_nobody_saves_under_an_attempt_that_is_over(attempt):
    cards.cancel(attempt.card_id, "user:ann")
    with pytest.raises(LeaseLost):
        make_checkpoint(attempt)
    with pytest.raises(LeaseLost):
        recovery.record_memory(attempt.pk, decisions=[{"title": "use a queue"}])
    assert not Checkpoint.objects.exists()
    assert not Decision.objects.exists()


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abé", max_size=5), inner),
    max_leaves=12,
)


class AnyState(TestCase):
    @given(JSON)
    def test_whatever_is_stored_still_adds_up_when_it_is_read(self, state):
        checkpoint = make_checkpoint(claimed(), state=state)
        assert recovery.intact(now_is(checkpoint))
