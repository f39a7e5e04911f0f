from __future__ import annotations

from uuid import uuid4

import pytest

from events.models import Event
from goals import criteria, discoveries, memory
from goals.models import Amendment, Criterion, Decision, Evidence, Goal
from kernel.errors import Invalid, NotFound, Stale, TransitionRefused
from tests.factories import make_board, make_goal, now_is

pytestmark = pytest.mark.django_db
ANN = "user:ann"


@pytest.fixture
def board():
    return make_board()


@pytest.fixture
def goal(board):
    return make_goal(board, intent="fast", criteria=["under 3 ms", "no lost write"])


def standing(goal: Goal) -> list[tuple[int, str, bool | None]]:
    rows = goal.criteria.filter(retired_at=None).order_by("number")
    return [(c.number, c.text, c.met) for c in rows]


# ── what is asked for ────────────────────────────────────────────────────────────────────


def test_a_new_goal_is_active_and_its_criteria_are_numbered(goal):
    assert goal.status == "active"
    assert standing(goal) == [(1, "under 3 ms", None), (2, "no lost write", None)]


def test_changing_what_an_active_goal_asks_for_is_an_amendment(goal):
    memory.edit(goal.pk, ANN, {"intent": "fast and small"})
    amendment = Amendment.objects.get()
    assert (amendment.number, amendment.before["intent"]) == (1, "fast")
    assert amendment.after["intent"] == "fast and small"
    assert Event.objects.filter(kind="goal.amended").count() == 1


@pytest.mark.parametrize("changes", [{"budgets": {"usd": 1}}, {"intent": "fast"}])
def test_what_asks_for_nothing_new_is_no_amendment(goal, changes):
    memory.edit(goal.pk, ANN, changes)
    assert not Amendment.objects.exists()


def test_a_goal_that_is_over_is_edited_without_amendment(goal):
    memory.edit(goal.pk, ANN, {"status": "achieved"})
    memory.edit(goal.pk, ANN, {"intent": "x"})
    assert not Amendment.objects.exists()


def test_an_edit_of_an_old_version_is_refused(goal):
    memory.edit(goal.pk, ANN, {"title": "New"}, expected_version=1)
    with pytest.raises(Stale):
        memory.edit(goal.pk, ANN, {"title": "Newer"}, expected_version=1)
    assert now_is(goal).title == "New"


def test_a_criterion_that_stays_keeps_number_and_evidence(goal):
    criteria.record_evidence(goal.pk, [{"criterion": 2, "met": True}], actor=ANN)
    memory.edit(goal.pk, ANN, {"criteria": [{"text": "small"}, {"text": "no lost write"}]})
    assert standing(goal) == [(2, "no lost write", True), (3, "small", None)]
    assert Criterion.objects.get(number=1).retired_at is not None


def test_criteria_with_one_text_are_told_apart(board):
    goal = make_goal(board, criteria=["green", "green"])
    memory.edit(goal.pk, ANN, {"criteria": [{"text": "green"}, {"text": "green", "check": "x"}]})
    assert standing(goal) == [(1, "green", None), (2, "green", None)]
    memory.edit(goal.pk, ANN, {"criteria": [{"text": "green"}]})
    assert standing(goal) == [(1, "green", None)]


def test_goals_nest_on_one_board_without_a_circle(board, goal):
    child = make_goal(board, parent=goal)
    grandchild = make_goal(board, parent=child)
    for parent in (goal, grandchild):
        with pytest.raises(Invalid):
            memory.edit(goal.pk, ANN, {"parent": parent})
    with pytest.raises(Invalid):
        memory.edit(child.pk, ANN, {"parent": make_goal()})
    with pytest.raises(Invalid):
        make_goal(make_board(), parent=goal)


def test_a_circle_that_two_edits_closed_does_not_hold_up_a_third(board, goal):
    other = make_goal(board, parent=goal)
    Goal.objects.filter(pk=goal.pk).update(parent=other)
    third = make_goal(board)
    assert memory.edit(third.pk, ANN, {"parent": goal}).parent == goal


# ── evidence ─────────────────────────────────────────────────────────────────────────────


def test_evidence_names_its_criterion_by_id_number_or_text(goal):
    first, second = goal.criteria.order_by("number")
    for name in (first.pk, str(first.pk), 1, "1", "under 3 ms"):
        criteria.record_evidence(goal.pk, [{"criterion": name, "met": True}], actor=ANN)
    assert Evidence.objects.filter(criterion=first).count() == 5
    assert now_is(second).met is None


def test_the_newest_evidence_decides_and_the_old_stays(goal):
    for met in (True, False):
        criteria.record_evidence(goal.pk, [{"criterion": 1, "met": met, "detail": "x"}], actor=ANN)
    assert standing(goal)[0][2] is False
    assert Evidence.objects.count() == 2


def test_of_two_entries_for_one_criterion_the_last_decides(goal):
    entries = [{"criterion": 1, "met": True}, {"criterion": 1, "met": False}]
    criteria.record_evidence(goal.pk, entries, actor=ANN)
    assert standing(goal)[0][2] is False


def test_evidence_for_what_nobody_asked_is_refused(goal):
    with pytest.raises(Invalid) as refusal:
        criteria.record_evidence(
            goal.pk, [{"criterion": 1, "met": True}, {"criterion": 9, "met": True}], actor=ANN
        )
    assert list(refusal.value.errors) == ["evidence[1].criterion"]
    with pytest.raises(Invalid):
        criteria.record_evidence(None, [{"criterion": 1, "met": True}], actor=ANN)


# ── decisions and discoveries ────────────────────────────────────────────────────────────


def decide(goal, **fields):
    return memory.decide(goal.board_id, goal.pk, ANN, **{"title": "use a queue", **fields})


def test_a_decision_is_in_force_until_another_supersedes_it(goal):
    first = decide(goal)
    second = decide(goal, title="use a table", supersedes=first.pk)
    assert list(Decision.objects.filter(superseded_by=None)) == [second]
    assert now_is(first).superseded_by == second


def test_only_a_decision_in_force_on_the_same_goal_is_superseded(board, goal):
    old = decide(goal)
    decide(goal, supersedes=old.pk)
    elsewhere = decide(make_goal(board))
    for wrong in (old.pk, elsewhere.pk, uuid4()):
        with pytest.raises(Invalid):
            decide(goal, supersedes=wrong)
    assert Decision.objects.count() == 3


def test_a_card_without_goal_remembers_by_itself(board):
    card_id = uuid4()
    first = memory.decide(board.pk, None, ANN, title="a", card_id=card_id)
    memory.decide(board.pk, None, ANN, title="b", card_id=card_id, supersedes=first.pk)
    with pytest.raises(Invalid):
        memory.decide(board.pk, None, ANN, title="c", card_id=uuid4(), supersedes=first.pk)


def test_a_discovery_is_open_until_it_is_resolved_once(goal):
    found = memory.discover(goal.board_id, goal.pk, ANN, kind="fact", title="it is slow")
    assert (found.status, found.severity) == ("open", "medium")
    done = memory.resolve(found.pk, ANN, "added an index")
    assert (done.status, done.resolution) == ("resolved", "added an index")
    with pytest.raises(TransitionRefused):
        memory.resolve(found.pk, ANN)
    with pytest.raises(NotFound):
        memory.resolve(uuid4(), ANN)
    assert Event.objects.filter(kind="discovery.resolved").count() == 1


def test_what_may_be_the_same_in_other_words_is_told_with_a_discovery() -> None:
    goal = make_goal()
    where = (goal.board_id, goal.pk, "worker:ada")
    first = memory.discover(*where, kind="architecture_issue", title="Two modules write the ledger")
    memory.discover(*where, kind="fact", title="Two modules write the ledger")  # of another kind
    memory.discover(*where, kind="architecture_issue", title="Two modules read the ledger")
    memory.discover(*where, kind="architecture_issue", title="The outbox has no index")
    again = memory.discover(
        *where, kind="architecture_issue", title="Writing the ledger: two modules do it"
    )
    alike = discoveries.resembling(again)
    assert (alike[0]["id"], alike[0]["seen"]) == (str(first.pk), 1)
    assert {one["title"] for one in alike} <= {first.title, "Two modules read the ledger"}
    kept = discoveries.merge(again.pk, first.pk, "user:ann")
    assert (kept.pk, kept.seen, discoveries.resembling(kept)) == (first.pk, 2, [])


def test_what_becomes_of_both_is_kept_where_two_are_made_one() -> None:
    goal = make_goal()
    where = (goal.board_id, goal.pk, "worker:ada")
    seen_to, card = memory.discover(*where, kind="fact", title="The outbox has no index"), uuid4()
    discoveries.propose(seen_to.pk, ANN, card, "PAY-1")
    kept = memory.discover(*where, kind="fact", title="Slow outbox")
    discoveries.merge(seen_to.pk, kept.pk, ANN)
    assert (now_is(kept).status, now_is(kept).proposed_card_id) == ("proposed", card)
    dead = memory.discover(*where, kind="dead_end", title="Cache it in memory")
    discoveries.revive(dead.pk, ANN, "there is more memory")
    same = memory.discover(*where, kind="dead_end", title="A cache in the process")
    discoveries.merge(same.pk, dead.pk, ANN)
    assert (now_is(dead).status, now_is(dead).seen) == ("revived", 2)
    assert now_is(dead).revived_because == "there is more memory"


def test_what_it_can_be_made_one_with_is_open_and_of_the_goal_the_most_alike_first() -> None:
    board = make_board()
    goal = make_goal(board)
    where = (goal.board_id, goal.pk, "worker:ada")
    alike = memory.discover(*where, kind="fact", title="Two modules write the ledger")
    other = memory.discover(*where, kind="dead_end", title="A lock per row")
    over = memory.discover(*where, kind="fact", title="Two modules write one ledger file")
    discoveries.resolve(over.pk, ANN)
    elsewhere = make_goal(board)
    memory.discover(goal.board_id, elsewhere.pk, "worker:ada", kind="fact", title="Of another")
    again = memory.discover(*where, kind="fact", title="The ledger: two modules write it")
    assert discoveries.mergeable(again) == ([alike], [other])


def test_evidence_for_what_is_no_criterion_any_more_hears_which_there_are() -> None:
    goal = make_goal(criteria=["It builds", "It is fast"])
    memory.edit(goal.pk, "user:ann", {"criteria": [{"text": "It builds twice"}]})
    for named in ("It builds", "1"):
        with pytest.raises(Invalid, match=r"Criterion 1 was reworded and is 3 now"):
            criteria.record_evidence(goal.pk, [{"criterion": named, "met": True}], actor="x")
    with pytest.raises(Invalid, match=r"as they are now: 3\. It builds twice\.$"):
        criteria.record_evidence(
            goal.pk, [{"criterion": "It is fast", "met": True}], actor="worker:ada"
        )
