"""From a goal to cards: plans that are reviewed, compared with what there is, and applied."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from boards import cards, tokens
from boards.authentication import principal_of_user
from boards.models import Board, Card, Membership
from boards.notices import inbox, raising
from boards.planning import applying, comparing, drafts, proposing
from boards.planning.models import Plan
from goals import memory
from goals.models import Goal
from kernel.access import Role
from kernel.errors import Invalid, LeaseLost, Stale, TransitionRefused
from tests.api.world import Caller
from tests.factories import claimed, make_board, make_card, make_goal, make_user, now_is

pytestmark = pytest.mark.django_db
ANN = "user:ann"
PLAN = """\
# Ship it
- [ ] Write the parser
  Reads every line.
  Covers: 1, 2
  Estimate: 3
  - [ ] Agree on the grammar
    Labels: docs
- [x] Buy a whale
- [ ] Measure it
  After: Write the parser
  Covers: 2
"""


@pytest.fixture
def board() -> Board:
    return make_board(key="PAY")


@pytest.fixture
def goal(board: Board) -> Goal:
    return make_goal(board, criteria=["it parses", "it is fast", "it is pretty"])


def planned(goal: Goal, *titles: str, **fields: Any) -> Plan:
    return applying.create(goal, ANN, [{"title": title, **fields} for title in titles])


def dids(plan: Plan) -> dict[str, str]:
    return {e.item["ref"]: e.did for e in comparing.compared(plan).entries}


def done(plan: Plan) -> dict[str, str]:
    return {receipt["ref"]: receipt["did"] for receipt in plan.outcome}


# ── what a plan may hold ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("items", "field", "words"),
    [
        ([{"title": " "}], "items[0].title", "is needed"),
        ([{"title": "a", "ref": "x"}, {"title": "b", "ref": "x"}], "items[1].ref", "another"),
        ([{"title": "a", "covers": [9]}], "items[0].covers", "no criterion 9; it has 1, 2, 3"),
        ([{"title": "a", "labels": ["x"] * 51}], "items[0].labels", "at most 50"),
        ([{"title": "a", "labels": ["x" * 101]}], "items[0].labels", "100 characters"),
        ([{"title": "a", "depends_on": ["?"]}], "items[0].depends_on[0]", "no item of the plan"),
        ([{"title": "a", "card": "PAY-99"}], "items[0].card", "no card of this goal"),
        ([{"title": "a", "workflow": {"steps": 3}}], "items[0].workflow", "steps"),
        (
            [
                {"title": "a", "depends_on": ["c"]},
                {"title": "b", "depends_on": ["a"]},
                {"title": "c", "depends_on": ["B"]},
            ],
            "items",
            "in a circle: a → c → b → a",
        ),
    ],
)
def test_what_can_t_become_cards_is_refused_by_name(
    goal: Goal, items: list[dict[str, Any]], field: str, words: str
) -> None:
    with pytest.raises(Invalid) as refused:
        applying.create(goal, ANN, items)
    assert words in refused.value.errors[field][0]
    assert not Plan.objects.exists()


def test_a_line_that_says_no_number_stays_in_the_description() -> None:
    (item,) = drafts.from_markdown("- [ ] Parse\n  Covers: all of it\n  Estimate: a lot\n")
    assert item["description"] == "Covers: all of it\nEstimate: a lot"
    assert "covers" not in item
    with pytest.raises(Invalid, match=r"plan\.md:1: a card without a title\."):
        drafts.from_markdown("- [ ] \n")


def test_an_item_for_a_criterion_that_was_reworded_hears_its_number(goal: Goal) -> None:
    plan = planned(goal, "Parse", covers=[2])
    texts = [c.text for c in goal.criteria.order_by("number")]
    texts[1] = "Quite another text"
    memory.edit(goal.pk, ANN, {"criteria": [{"text": text} for text in texts]})
    (reworded,) = [c for c in comparing.compared(plan).coverage if c["number"] == 4]
    assert (reworded["by"], reworded["earlier"]) == ([], [plan.items[0]["ref"]])
    with pytest.raises(Invalid, match="criterion 2 was reworded and is 4 now"):
        applying.apply(plan.pk, ANN)


def test_a_circle_through_cards_that_there_are_is_named(board: Board, goal: Goal) -> None:
    outside = make_card(board, title="Outside", goal=goal)
    inside = make_card(board, title="Inside", goal=goal)
    cards.edit(outside.pk, ANN, {"depends_on": [inside]})
    with pytest.raises(Invalid, match=f"inside → {outside.key} → inside"):
        planned(goal, "Inside", depends_on=[outside.key])


def test_a_markdown_plan_says_what_it_covers_and_waits_for(goal: Goal) -> None:
    plan = applying.create(goal, ANN, drafts.from_markdown(PLAN), source="markdown")
    by_ref = {item["ref"]: item for item in plan.items}
    assert list(by_ref) == ["agree-on-the-grammar", "measure-it", "write-the-parser"]
    parser = by_ref["write-the-parser"]
    assert (parser["covers"], parser["estimate"]) == ([1, 2], 3)
    assert parser["description"] == "Reads every line."
    assert parser["depends_on"] == ["agree-on-the-grammar"]
    assert by_ref["measure-it"]["depends_on"] == ["write-the-parser"]
    assert by_ref["agree-on-the-grammar"]["labels"] == ["docs"]
    assert comparing.compared(plan).uncovered == [3]


# ── applying ─────────────────────────────────────────────────────────────────────────────


def test_a_plan_becomes_cards_in_order_once(board: Board, goal: Goal) -> None:
    plan = applying.create(goal, ANN, drafts.from_markdown(PLAN))
    applied = applying.apply(plan.pk, ANN, expected_version=1)
    assert set(done(applied).values()) == {"created"}
    parser = Card.objects.get(title="Write the parser")
    assert (parser.covers, parser.estimate, parser.column.kind) == ([1, 2], 3, "backlog")
    assert [d.depends_on.title for d in parser.dependencies.all()] == ["Agree on the grammar"]
    assert Card.objects.get(title="Measure it").unmet_dependencies == 1
    with pytest.raises(TransitionRefused, match="applied by ann already"):
        applying.apply(plan.pk, ANN)
    assert Card.objects.count() == 3


def test_only_what_is_accepted_is_made(goal: Goal) -> None:
    plan = planned(goal, "One", "Two")
    with pytest.raises(Invalid, match="“three” is no item"):
        applying.apply(plan.pk, ANN, accept=["three"])
    with pytest.raises(Stale):
        applying.apply(plan.pk, ANN, expected_version=7)
    applied = applying.apply(plan.pk, ANN, accept=["two"])
    assert done(applied) == {"one": "left", "two": "created"}
    assert [card.title for card in Card.objects.all()] == ["Two"]


def test_a_second_plan_changes_what_differs_and_cancels_what_it_leaves_out(
    board: Board, goal: Goal
) -> None:
    applying.apply(planned(goal, "One", "Two", "Three", "Four").pk, ANN)
    by_hand = make_card(board, title="By hand", goal=goal)
    four = Card.objects.get(title="Four")
    cards.move(four.pk, ANN, board.columns.get(kind="completed").pk)
    second = applying.create(
        goal,
        ANN,
        [
            {"title": "One"},
            {"title": "Second", "ref": "two", "estimate": 5, "depends_on": ["five"]},
            {"title": "Five", "covers": [3]},
        ],
    )
    assert dids(second) == {"one": "kept", "two": "changed", "five": "new"}
    found = comparing.compared(second)
    assert [card.title for card in found.gone] == ["Three"]
    (changed,) = [e for e in found.entries if e.did == "changed"]
    assert changed.changes["title"] == ("Two", "Second")
    assert changed.changes["depends_on"] == ([], ["five"])
    applied = applying.apply(second.pk, ANN)
    assert done(applied) == {
        "one": "kept",
        "two": "changed",
        "five": "created",
        "three": "cancelled",
    }
    two = Card.objects.get(planned_as="two")
    assert (two.title, two.estimate) == ("Second", 5)
    assert [d.depends_on.title for d in two.dependencies.all()] == ["Five"]
    assert now_is(by_hand).state == "waiting"
    assert now_is(four).state == "completed"
    # Under another ref a card is known by its title.
    third = dids(planned(goal, "One", "Five", "Second"))
    assert third == {"one": "kept", "five": "kept", "second": "changed"}  # it waits no more


def test_a_running_card_is_touched_only_where_it_is_named(board: Board, goal: Goal) -> None:
    applying.apply(planned(goal, "One", "Two").pk, ANN)
    place = board.columns.get(kind="in_progress")
    one, two = Card.objects.order_by("number")
    attempts = [claimed(cards.move(card.pk, ANN, place.pk)[0]) for card in (one, two)]
    again = applying.create(goal, ANN, [{"ref": "one", "title": "One", "estimate": 9}])
    applied = applying.apply(again.pk, ANN)
    assert done(applied) == {"one": "left", "two": "left"}
    assert all("running" in receipt["why"] for receipt in applied.outcome)
    assert [now_is(a).status for a in attempts] == ["running", "running"]
    sure = applying.create(goal, ANN, [{"ref": "one", "title": "One", "estimate": 9}])
    applied = applying.apply(sure.pk, ANN, confirm=[one.key, two.key])
    assert done(applied) == {"one": "changed", "two": "cancelled"}
    assert now_is(one).estimate == 9
    assert [now_is(a).status for a in attempts] == ["running", "cancelled"]


def test_a_plan_that_fails_half_way_has_made_nothing(goal: Goal, monkeypatch: Any) -> None:
    plan = planned(goal, "One", "Two")
    real = cards.create

    def breaking(*args: Any, **fields: Any) -> Card:
        if fields["title"] == "Two":
            raise RuntimeError("the store is away")
        return real(*args, **fields)

    monkeypatch.setattr(cards, "create", breaking)
    with pytest.raises(RuntimeError):
        applying.apply(plan.pk, ANN)
    assert not Card.objects.exists()
    assert now_is(plan).status == "open"


# ── through agents ───────────────────────────────────────────────────────────────────────


def test_proposals_are_collected_until_a_person_looked_at_them(board: Board, goal: Goal) -> None:
    memory.edit(goal.pk, ANN, {"plans_first": True})
    card = make_card(board, goal=goal, title="Think")
    attempt = claimed(card)
    assert isinstance(proposing.propose(attempt.pk, title="One", covers=[1]), Plan)
    plan = proposing.propose(
        attempt.pk, title="Two", depends_on=["One"], description="Do it.\n\nEstimate: 2 days"
    )
    assert isinstance(plan, Plan)
    plan = proposing.propose(attempt.pk, title="One", covers=[2])
    assert isinstance(plan, Plan)
    assert [(i["ref"], i["covers"], i["estimate"]) for i in plan.items] == [
        ("one", [2], None),
        ("two", [], 2),
    ]
    assert Card.objects.count() == 1
    made = proposing.propose(attempt.pk, plan=False, title="At once", estimate=1)
    assert isinstance(made, Card)
    assert made.estimate == 1
    whole = proposing.propose_plan(attempt.pk, [{"title": "All"}], "so")
    assert (whole.pk, whole.note, len(whole.items)) == (plan.pk, "so", 1)
    cards.cancel(card.pk, ANN)
    with pytest.raises(LeaseLost):
        proposing.propose(attempt.pk, title="Late")
    with pytest.raises(LeaseLost):
        proposing.propose_plan(attempt.pk, [{"title": "Late"}])


def test_an_agent_is_asked_by_a_card_that_proposes(board: Board, goal: Goal) -> None:
    card = proposing.ask(board, ANN, goal, {"agent": {"cli": "claude"}})
    assert card.workflow is not None
    assert "propose_plan" in card.workflow["steps"][0]["agent"]["prompt"]
    assert (card.state, card.review_required) == ("waiting", True)
    plan = proposing.propose(claimed(card).pk, title="One")
    assert isinstance(plan, Plan)
    with pytest.raises(Invalid):
        proposing.ask(board, ANN, goal, {"agent": {"cli": "nobody"}})
    plain = proposing.ask(board, ANN, goal)
    assert plain.workflow is None


def test_an_agent_does_not_apply_its_own_plan(board: Board, goal: Goal) -> None:
    worker = tokens.issue("worker", roles={board.pk: Role.OPERATOR})
    other = tokens.issue("other", roles={board.pk: Role.OPERATOR}).plaintext
    member = tokens.issue("member", roles={board.pk: Role.MEMBER}).plaintext
    card = make_card(board, goal=goal)
    attempt = claimed(card, token_id=worker.token.pk)
    plan = proposing.propose_plan(attempt.pk, [{"title": "One"}])
    path = f"/plans/{plan.pk}/apply"
    for token in (worker.plaintext, member):
        assert Caller(token).post(path).refusal == (403, "forbidden")
    applied = Caller(other).post(path, {}, key="once")
    assert (applied["status"], applied["outcome"][0]["did"]) == ("applied", "created")
    assert Caller(other).post(path, {}, key="once")["outcome"] == applied["outcome"]
    assert Card.objects.filter(title="One").count() == 1


def test_the_page_shows_what_would_change_and_what_nobody_covers(board: Board, goal: Goal) -> None:
    user = make_user("bea")
    Membership.objects.create(board=board, user=user, role=Role.MEMBER)
    applying.apply(planned(goal, "One").pk, ANN)
    plan = applying.create(
        goal, ANN, [{"title": "One", "estimate": 3, "covers": [1]}, {"title": "<b>Two</b>"}]
    )
    client = Client()
    client.force_login(user)
    page = client.get(f"/plans/{plan.pk}").content.decode()
    assert "&lt;b&gt;Two&lt;/b&gt;" in page
    assert "No card covers criterion 2" in page
    assert "changed" in page
    assert client.get(f"/goals/{goal.pk}/plans").status_code == 200
    applying.discard(plan.pk, ANN)
    assert "discarded" in client.get(f"/plans/{plan.pk}").content.decode()
    stranger = Client()
    stranger.force_login(make_user("sam"))
    assert stranger.get(f"/plans/{plan.pk}").status_code == 404


def test_a_new_requirement_asks_people_and_the_page_for_another_plan(goal: Goal) -> None:
    bea = make_user("bea")
    board = Board.objects.get(pk=goal.board_id)
    Membership.objects.create(board=board, user=bea, role=Role.MEMBER)
    card = make_card(board, goal=goal)
    attempt = claimed(card)
    page = Client()
    page.force_login(bea)
    assert "goal-replan" not in page.get(f"/goals/{goal.pk}").text

    def found_out() -> None:
        memory.discover(
            board.pk,
            goal.pk,
            attempt.actor,
            kind="new_requirement",
            title="Amounts in yen",
            card_id=card.pk,
        )

    found_out()
    raising.tick()
    (notice,) = inbox.current(principal_of_user(bea))
    assert (notice.kind, notice.card_id) == ("goal", card.pk)
    assert "has a new requirement: Amounts in yen" in notice.text
    shown = page.get(f"/goals/{goal.pk}").text
    assert "Amounts in yen" in shown
    assert "data-replan" in shown
    # Other news of the goal does not push it away, nor does the same discovery tell it twice.
    found_out()
    raising.tick()
    assert inbox.count(principal_of_user(bea)) == 1
    asked = proposing.ask(board, "user:bea", goal)
    assert "New since the last plan:\n- Amounts in yen" in asked.description
    assert f"{asked.key} plans again" in page.get(f"/goals/{goal.pk}").text
    plan = applying.create(goal, "user:bea", [{"title": "Count yen"}])
    assert f"Review plan {plan.number}" in page.get(f"/goals/{goal.pk}").text
    assert inbox.count(principal_of_user(bea)) == 1
    applying.apply(plan.pk, "user:bea")
    assert inbox.count(principal_of_user(bea)) == 0
    assert "goal-replan" not in page.get(f"/goals/{goal.pk}").text
