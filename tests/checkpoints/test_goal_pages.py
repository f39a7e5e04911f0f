"""The goal's page, the list of goals, and the output behind a piece of evidence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from boards import cards, leases
from boards.models import Attempt, Board, Card, Dependency, Membership
from checkpoints import goal_pages
from goals import checks, criteria, memory
from goals.models import CheckRun, Criterion, Evidence, Goal, Regression
from kernel.access import Role
from tests.factories import (
    claimed,
    make_board,
    make_card,
    make_checkpoint,
    make_goal,
    make_user,
    now_is,
)

pytestmark = pytest.mark.django_db
MOST_STATEMENTS = 26


@pytest.fixture
def person() -> Client:
    client = Client()
    client.force_login(make_user("ann", is_staff=True, is_superuser=True))
    return client


def test_a_goal_is_shown_as_it_was_meant_with_what_shows_that_it_is_met(person: Client) -> None:
    board = make_board()
    goal = make_goal(
        board,
        title="Faster <b>sums</b>",
        intent="Sums are slow.\n  Make them  quick & right.",
        constraints=["No new dependency"],
        criteria=[{"text": "fast", "check": "make bench"}, "right", "nobody knows"],
    )
    card = make_card(board, goal=goal, title="speed up")
    attempt = claimed(card)
    make_checkpoint(attempt)
    leases.describe(attempt.pk, "unroll the loop")
    evidence = [
        {"criterion": 1, "met": True, "detail": "took 3 ms", "step": "bench"},
        {"criterion": 2, "met": False, "detail": "off by one"},
    ]
    leases.complete(attempt.pk, "done", evidence=evidence)
    page = person.get(f"/goals/{goal.pk}").text
    assert "Faster &lt;b&gt;sums&lt;/b&gt;" in page
    assert "Sums are slow.\n  Make them  quick &amp; right." in page
    assert "No new dependency" in page
    for words in ("met</span>", "not met</span>", "not known</span>", "took 3 ms", "make bench"):
        assert words in page
    # Who, which card, attempt and checkpoint; the output is one click away.
    step = f"/cards/{card.key}?tab=log&amp;attempt=1&amp;step=bench"
    assert step in page
    assert f"/cards/{card.key}?tab=checkpoints&amp;c=1" in page
    shown = Evidence.objects.get(criterion__number=1)
    whole = person.get(f"/goals/{goal.pk}/evidence/{shown.pk}")
    assert "took 3 ms" in whole.text
    assert person.get(f"/goals/{goal.pk}/evidence/{shown.pk + 99}").status_code == 404
    assert person.get(f"/goals/{make_goal(board).pk}/evidence/{shown.pk}").status_code == 404
    tries = person.get(f"/goals/{goal.pk}?tab=approaches").text
    assert "unroll the loop" in tries
    # A criterion that asks for something else is open again, and says that it was met before.
    kept = [{"text": "fast", "check": "make bench2"}, {"text": "right"}]
    memory.edit(goal.pk, "user:ann", {"criteria": kept})
    assert now_is(goal).criteria.get(number=1).met is None
    page = person.get(f"/goals/{goal.pk}").text
    assert "took 3 ms" not in page
    assert "nobody knows" not in page


def test_the_list_is_a_tree_with_how_far_each_goal_is(person: Client) -> None:
    board = make_board()
    top = make_goal(board, title="Top")
    low = make_goal(board, title="Low", parent=top)
    make_card(board, goal=low)
    done = make_card(board, goal=low)
    leases.complete(claimed(done).pk, "x")
    page = person.get(f"/boards/{board.key}/goals").text
    assert page.index("Top") < page.index("Low")
    assert '"d1 active"' in page
    assert page.count("50 percent done") == 2
    below = person.get(f"/goals/{low.pk}").text
    assert f"/goals/{top.pk}" in below
    above = person.get(f"/goals/{top.pk}").text
    assert f"/goals/{low.pk}" in above


def test_only_who_sees_the_board_sees_the_goal_and_only_members_may_change_it() -> None:
    board = make_board()
    goal = make_goal(board, title="Hidden one", criteria=["good"])
    addresses = [f"/goals/{goal.pk}", f"/boards/{board.key}/goals"]
    assert Client().get(addresses[0]).status_code == 302
    user = make_user()
    client = Client()
    client.force_login(user)
    for address in addresses:
        assert client.get(address).status_code == 404
    Membership.objects.create(board=board, user=user, role=Role.VIEWER)
    page = client.get(addresses[0]).text
    assert "Hidden one" in page
    assert "data-edit" not in page
    assert "data-check" not in page
    assert "data-word" not in page


@pytest.mark.parametrize(
    "query",
    ["?tab=x", "?tab=attempts&before=x", "?tab=attempts&before=%00", "?tab=activity&before=-1"],
)
def test_a_bad_query_is_no_error(person: Client, query: str) -> None:
    assert person.get(f"/goals/{make_goal().pk}{query}").status_code == 200


def grown(count: int, attempts: int) -> Goal:
    """Return a goal with so many cards, each after the one before, and attempts at each."""
    board = make_board()
    goal = make_goal(board, criteria=[f"criterion {n}" for n in range(5)])
    first = make_card(board, goal=goal, title="first " + "long " * 40)
    fields = {f.name: getattr(first, f.name) for f in Card._meta.concrete_fields}
    rows = [
        Card(**{**fields, "id": None, "number": n, "key": f"{board.key}-{n}", "rank": n * 1000})
        for n in range(2, count + 1)
    ]
    for row in rows:
        row.pk = Card._meta.pk.get_default()
    Card.objects.bulk_create(rows)
    every = [first, *rows]
    Dependency.objects.bulk_create(
        Dependency(card=every[n], depends_on=every[n // 3]) for n in range(1, count)
    )
    now = timezone.now()
    Attempt.objects.bulk_create(
        Attempt(
            board_id=board.pk,
            card=card,
            number=n,
            worker="w",
            status="failed",
            finished_at=now,
            lease_expires_at=now,
            approach="again",
            error="boom " * 50,
        )
        for card in every
        for n in range(1, attempts + 1)
    )
    for number in range(1, 6):
        for n in range(attempts):
            row = {"criterion": number, "met": True, "detail": f"run {n} " + "x" * 500}
            criteria.record_evidence(goal.pk, [row], actor="w", card_id=first.pk)
    return goal


@pytest.mark.parametrize("tab", ["cards", "attempts", "approaches", "activity"])
def test_a_page_takes_the_same_statements_and_has_a_bounded_size(person: Client, tab: str) -> None:
    counted: list[int] = []
    size = 0
    for goal in (grown(3, 1), grown(300, 8)):
        address = f"/goals/{goal.pk}?tab={tab}"
        person.get(address)
        with CaptureQueriesContext(
            connection,
        ) as queries:
            page = person.get(address)
        counted.append(len(queries))
        size = len(page.content)
    most = MOST_STATEMENTS + (4 if tab == "activity" else 0)
    assert counted[0] == counted[1] <= most, counted
    assert size < 260_000


def test_cards_that_wait_for_each_other_are_drawn_in_layers(person: Client) -> None:
    board = make_board()
    goal = make_goal(board)
    base = make_card(board, goal=goal, title="base")
    for n in range(3):
        made = make_card(board, goal=goal, title=f"part {n}", depends_on=[base])
    other = make_card(board, goal=make_goal(board), title="for another goal")
    make_card(board, goal=goal, title="last", depends_on=[made, other])
    lone = make_card(board, goal=goal, title="by itself")
    page = person.get(f"/goals/{goal.pk}").text
    drawing = page[page.index("data-lanes") : page.index("</svg>", page.index("data-lanes"))]
    assert drawing.count('class="node') == 5
    assert lone.key not in drawing
    assert other.key not in drawing
    assert drawing.count('class="dep critical"') == 2
    assert f"{made.key} part 2, Waiting; after {base.key}" in drawing
    cards.cancel(lone.pk, "user:ann")
    assert lone.key in person.get(f"/goals/{goal.pk}").text


def test_a_run_and_its_output_are_shown(person: Client) -> None:
    goal = make_goal(criteria=[{"text": "green", "check": "true"}])
    run = checks.request(goal, "user:ann")
    assert "Waiting for a built-in worker" in person.get(f"/goals/{goal.pk}").text
    taken = checks.begin(run.pk, "w")
    assert taken is not None
    checks.give_up(taken, "no repository <b>")
    page = person.get(f"/goals/{goal.pk}").text
    assert "no repository &lt;b&gt;" in page
    assert CheckRun.objects.get().status == "failed"


def test_of_attempts_that_began_at_one_moment_none_is_lost_between_pages(person: Client) -> None:
    goal = make_goal()
    card = make_card(Board.objects.get(pk=goal.board_id), goal=goal)
    at = timezone.now()
    Attempt.objects.bulk_create(
        Attempt(
            board_id=goal.board_id,
            card=card,
            number=n,
            worker="w",
            status="failed",
            started_at=at,
            finished_at=at,
            lease_expires_at=at,
        )
        for n in range(1, goal_pages.ROWS * 2 + 2)
    )
    seen: list[int] = []
    before = ""
    for _ in range(3):
        shown = person.get(f"/goals/{goal.pk}?tab=attempts&before={before}").context
        seen += [attempt.number for attempt, *_ in shown["tries"]]
        before = str(shown["older"])
    assert sorted(seen) == list(range(1, goal_pages.ROWS * 2 + 2))
    assert before == "None"


def test_each_criterion_shows_its_own_regression_however_often_another_broke(
    person: Client,
) -> None:
    goal = make_goal(criteria=[{"text": w, "check": "true"} for w in ("steady", "fragile")])
    steady, fragile = goal.criteria.order_by("number")
    run = checks.request(goal, "user:ann")
    Criterion.objects.filter(goal=goal).update(met=False)
    Regression.objects.create(criterion=steady, check_run=run, good="a", bad="b")
    for _ in range(20):
        Regression.objects.create(criterion=fragile, check_run=run, good="a", bad="b")
    first, second = goal_pages.shown_criteria(goal)
    assert first.regressed
    assert second.regressed


def test_unknown_goals_are_not_found(person: Client) -> None:
    assert person.get("/goals/00000000-0000-7000-8000-000000000000").status_code == 404
    made: Callable[..., Any] = make_goal
    assert person.get(f"/goals/{made().pk}/evidence/99999999999999999999").status_code == 404
