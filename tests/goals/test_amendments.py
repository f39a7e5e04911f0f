"""Amendments: what was asked stays readable, and each change can be taken back."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.test import Client
from django.utils import timezone

from boards.models import Membership
from checkpoints import briefing
from events.models import Event
from goals import amendments, memory
from goals.criteria import record_evidence
from goals.models import Evidence, Goal
from kernel.access import Role
from kernel.errors import NotFound, Stale, TransitionRefused
from tests.api.world import Caller
from tests.factories import (
    claimed,
    make_board,
    make_card,
    make_checkpoint,
    make_goal,
    make_token,
    make_user,
    now_is,
)

pytestmark = pytest.mark.django_db
ANN = "user:ann"


@pytest.fixture
def goal() -> Goal:
    return make_goal(intent="fast", criteria=["under 3 ms", "no lost write"], constraints=["SQL"])


def criteria(goal: Goal) -> list[tuple[int, str, bool | None]]:
    rows = goal.criteria.filter(retired_at=None).order_by("number")
    return [(c.number, c.text, c.met) for c in rows]


def amend(goal: Goal, **changes: Any) -> None:
    memory.edit(goal.pk, ANN, changes, reason="we learnt")


def test_a_withdrawal_restores_the_words_the_criteria_and_their_evidence(goal: Goal) -> None:
    record_evidence(goal.pk, [{"criterion": 1, "met": True}], actor=ANN)
    texts = [{"text": "under 9 ms"}, {"text": "no lost write"}]
    amend(goal, intent="small", criteria=texts)
    assert criteria(goal) == [(2, "no lost write", None), (3, "under 9 ms", None)]
    assert Evidence.objects.get().criterion.text == "under 3 ms"  # readable, for the older text
    restored = amendments.withdraw(goal.pk, 1, "user:bob", "it was fine")
    assert (restored.intent, restored.version) == ("fast", 3)
    assert criteria(goal) == [(1, "under 3 ms", True), (2, "no lost write", None)]
    one = goal.amendments.get()
    assert (one.reason, one.withdrawn_by, one.withdrawn_because) == (
        "we learnt",
        "user:bob",
        "it was fine",
    )
    assert one.before["intent"] == "fast"
    with pytest.raises(TransitionRefused, match="withdrawn already"):
        amendments.withdraw(goal.pk, 1, ANN)
    assert Event.objects.filter(kind="amendment.withdrawn").count() == 1


def test_what_a_later_amendment_touched_is_refused_in_words_and_the_rest_is_not(
    goal: Goal,
) -> None:
    amend(goal, intent="small", constraints=["NoSQL"])
    amend(goal, intent="tiny")
    amend(goal, criteria=[{"text": "under 3 ms"}, {"text": "pretty"}])
    with pytest.raises(TransitionRefused, match="Amendment 2 changed the intent again"):
        amendments.withdraw(goal.pk, 1, ANN)
    amendments.withdraw(goal.pk, 2, ANN)
    assert now_is(goal).intent == "small"
    amendments.withdraw(goal.pk, 1, ANN)
    kept = now_is(goal)
    assert (kept.intent, kept.constraints) == ("fast", ["SQL"])
    assert [text for _, text, _ in criteria(goal)] == ["under 3 ms", "pretty"]


def test_criteria_of_two_amendments_are_told_apart(goal: Goal) -> None:
    amend(goal, criteria=[{"text": t} for t in ("under 3 ms", "no lost write", "pretty")])
    amend(goal, criteria=[{"text": t} for t in ("no lost write", "pretty")])
    amendments.withdraw(goal.pk, 1, ANN)
    assert criteria(goal) == [(2, "no lost write", None)]
    amendments.withdraw(goal.pk, 2, ANN)
    assert [text for _, text, _ in criteria(goal)] == ["under 3 ms", "no lost write"]


def test_what_was_changed_without_an_amendment_is_not_overwritten(goal: Goal) -> None:
    amend(goal, intent="small")
    memory.edit(goal.pk, ANN, {"status": "abandoned"})
    memory.edit(goal.pk, ANN, {"intent": "gone"})
    with pytest.raises(TransitionRefused, match="make it active"):
        amendments.withdraw(goal.pk, 1, ANN)
    memory.edit(goal.pk, ANN, {"status": "active"})
    with pytest.raises(TransitionRefused, match="The intent was changed since"):
        amendments.withdraw(goal.pk, 1, ANN)
    with pytest.raises(NotFound):
        amendments.withdraw(goal.pk, 7, ANN)
    with pytest.raises(Stale):
        amendments.withdraw(goal.pk, 1, ANN, expected_version=1)
    assert now_is(goal).intent == "gone"


def test_every_call_of_a_running_worker_tells_it_what_changed() -> None:
    board = make_board()
    goal = make_goal(board, intent="fast")
    token = make_token(roles={board.pk: Role.MEMBER})
    card = make_card(board, goal=goal)
    worker = Caller(token)
    grant = worker.post("/claims", {"worker": "ada", "card": card.key}).json
    lease = {"lease": grant["lease"]["token"]}
    path = f"/attempts/{grant['attempt']['id']}"
    step = {"key": "a", "status": "succeeded"}
    assert "notices" not in worker.post(f"{path}/steps", step, **lease).json
    amend(goal, intent="small")
    calls = {
        "/steps": {"key": "b"},
        "/steps/b/finish": {"status": "succeeded"},
        "/checkpoints": {"summary": "half"},
        "/decisions": {"title": "a queue"},
        "/discoveries": {"kind": "fact", "title": "slow"},
        "/log": {"stream": "log", "text": "x"},
        "/cards": {"title": "more"},
        "/heartbeat": {},
    }
    for call, body in calls.items():
        (notice,) = worker.post(path + call, body, **lease)["notices"]
        told = (notice["kind"], notice["number"], notice["changed"], notice["reason"])
        assert told == ("goal_amended", 1, ["intent"], "we learnt"), call
    amendments.withdraw(goal.pk, 1, ANN, "no")
    told = worker.patch(path, {"approach": "slowly"}, **lease)["notices"]
    assert [n["kind"] for n in told] == ["goal_amended", "amendment_withdrawn"]
    assert worker.post(f"{path}/complete", {"summary": "done"}, **lease)["notices"] == [
        {**n, "at": n["at"]} for n in told
    ]


def test_what_was_made_for_an_older_text_says_so() -> None:
    board = make_board()
    goal = make_goal(board, intent="fast")
    card = make_card(board, goal=goal)
    start = timezone.now()
    with time_machine.travel(start) as clock:
        make_checkpoint(claimed(card))
        clock.shift(60)
        amend(goal, intent="small")
        clock.shift(60)
        told = briefing.build(card).markdown
        assert "Made before amendment 1 of the goal" in told
        user = make_user("bea")
        Membership.objects.create(board=board, user=user, role=Role.MEMBER)
        reader = Client()
        reader.force_login(user)
        page = reader.get(f"/cards/{card.key}?tab=checkpoints").content.decode()
        assert "Made before amendment 1 of the goal." in page
        assert "for an older goal" in page
        page = reader.get(f"/goals/{goal.pk}/amendments").content.decode()
        assert "we learnt" in page
        assert "<del>fast</del><ins>small</ins>" in page
        assert 'data-withdraw="1"' in page
        amendments.withdraw(goal.pk, 1, ANN)
        assert "Made before" not in briefing.build(card).markdown
    seen = amendments.of(goal.pk)
    between = start + timedelta(seconds=90)
    assert amendments.made_before(seen, between) == ["the withdrawal of amendment 1"]
    page = reader.get(f"/goals/{goal.pk}/amendments").content.decode()
    assert 'data-withdraw="1"' not in page


def test_amendments_are_listed_and_withdrawn_over_the_api() -> None:
    board = make_board()
    goal = make_goal(board, intent="fast")
    caller = Caller(make_token(roles={board.pk: Role.MEMBER}))
    path = f"/goals/{goal.pk}"
    assert caller.patch(path, {"intent": "small", "reason": "they asked"}).status == 200
    (one,) = caller.get(f"{path}/amendments")["results"]
    assert (one["changed"], one["reason"], one["withdrawn_at"]) == (["intent"], "they asked", None)
    assert caller.post(f"{path}/amendments/9/withdraw").refusal == (404, "not_found")
    told = caller.post(f"{path}/amendments/1/withdraw", {"reason": "no"}, key="k")
    assert (told.status, told["intent"]) == (200, "fast")
    assert caller.post(f"{path}/amendments/1/withdraw", {"reason": "no"}, key="k").status == 200
    again = caller.post(f"{path}/amendments/1/withdraw")
    assert again.refusal == (409, "transition_refused")


def test_of_many_the_last_to_change_are_told(goal: Goal, monkeypatch: pytest.MonkeyPatch) -> None:
    began = goal.created_at
    for intent in ("small", "tiny", "none"):
        amend(goal, intent=intent)
    monkeypatch.setattr(amendments, "TOLD", 2)
    assert [told["number"] for told in amendments.since(goal.pk, began)] == [2, 3]


def test_however_many_there_are_a_page_has_some_of_them_and_takes_the_same(
    django_assert_num_queries: Any,
) -> None:
    goal = make_goal(intent="0", criteria=["fast"])
    record_evidence(goal.pk, [{"criterion": 1, "met": True}] * 30, actor=ANN)
    amend(goal, criteria=[{"text": "faster"}])
    for n in range(44):
        amend(goal, intent=str(n + 1))
    with django_assert_num_queries(1):
        newest, older = amendments.history(goal)
    assert [entry["amendment"].number for entry in newest] == list(range(45, 25, -1))
    assert older == 26
    middle, older = amendments.history(goal, before=older)
    with django_assert_num_queries(3):
        oldest, end = amendments.history(goal, before=older)
    assert [e["amendment"].number for e in [*middle, *oldest]] == list(range(25, 0, -1))
    assert end is None
    (gone,) = oldest[-1]["removed"][0]["criteria"]
    assert (gone.pieces, len(gone.newest)) == (30, amendments.EVIDENCE)
    reader = Client()
    reader.force_login(make_user(is_superuser=True))
    page = reader.get(f"/goals/{goal.pk}/amendments?before=6").text
    assert 'id="amendment-5"' in page
    assert 'id="amendment-6"' not in page
    assert "The newest amendments" in page
    assert reader.get(f"/goals/{goal.pk}/amendments?before=x").status_code == 200


def test_a_list_says_which_of_its_lines_came_and_went() -> None:
    assert amendments.parted(["a", "b"], ["b", "c"]) == (["a"], ["c"])
    assert amendments.parted(["a", "b"], ["b", "a"]) == (["a", "b"], ["b", "a"])
    assert amendments.parted("", "so") == ([], ["so"])
    assert amendments.parted(None, 3) == ([], ["3"])
