"""What failed before is recognised all over the goal, and the same again is stopped."""

from __future__ import annotations

from uuid import UUID

import pytest

from boards import approaches, cards, leases
from boards.models import Board, Card, Race, Racer
from checkpoints import briefing, recovery
from goals import discoveries, memory
from kernel.errors import Contradiction, DeadEnd, NotClaimable, TransitionRefused
from tests.factories import claimed, make_board, make_card, make_checkpoint, make_goal, now_is

pytestmark = pytest.mark.django_db


@pytest.fixture
def board():
    return make_board(key="LED")


@pytest.fixture
def goal(board):
    return make_goal(board, constraints=["no new services", "python 3.11"])


@pytest.fixture
def card(board, goal):
    return make_card(board, goal=goal, title="Migrate the ledger", max_attempts=20)


def tried(card: Card, approach: str, error: str = "deadlock", **more: str) -> None:
    """Fail at the card with this approach."""
    Card.objects.filter(pk=card.pk).update(not_before=None)
    attempt = claimed(card)
    leases.describe(attempt.pk, approach)
    leases.fail(attempt.pk, error, **more)


# ── alike ────────────────────────────────────────────────────────────────────────────────


def test_what_failed_at_another_card_of_the_goal_is_told(board, goal, card):
    other = make_card(board, goal=goal)
    stranger = make_card(board, goal=make_goal(board))
    tried(other, "Copy rows with a database trigger", lesson="triggers lock too early")
    tried(stranger, "Copy rows with a database trigger")
    (alike,) = leases.describe(claimed(card).pk, "copy the rows with database triggers, a trigger")
    assert (alike["kind"], alike["card"], alike["attempt"]) == ("attempt", other.key, 1)
    assert (alike["error"], alike["lesson"]) == ("deadlock", "triggers lock too early")
    assert alike["because"] == ""


def test_a_worker_that_vanished_elsewhere_says_nothing_against_an_approach(board, goal, card):
    attempt = claimed(make_card(board, goal=goal))
    leases.describe(attempt.pk, "copy rows with a database trigger")
    leases.expire(attempt.pk, actor="x")
    assert leases.describe(claimed(card).pk, "copy rows with a database trigger") == []


def test_a_dead_end_is_refused_until_it_is_one_no_more(board, goal, card):
    Board.objects.filter(pk=board.pk).update(enforce_dead_ends=True)
    found = memory.discover(
        board.pk, goal.pk, "worker:ada", kind="dead_end", title="advisory locks", detail="starve"
    )
    attempt = claimed(card)
    approach = "hold advisory locks around each batch"
    with pytest.raises(DeadEnd) as refused:
        leases.describe(attempt.pk, approach)
    (alike,) = refused.value.extra["similar_failed"]
    assert (alike["kind"], alike["discovery"], alike["error"]) == (
        "dead_end",
        str(found.pk),
        "starve",
    )
    assert leases.describe(attempt.pk, approach, "one batch at a time") == [alike]
    discoveries.revive(found.pk, "user:ann", "the pooler is gone")
    (alike,) = leases.describe(attempt.pk, approach)
    assert alike["because"] == "the pooler is gone"
    shown = briefing.build(now_is(card)).markdown
    assert "Perhaps worth another try: “advisory locks”" in shown
    assert "the pooler is gone" in shown
    again = memory.discover(
        board.pk, goal.pk, "worker:ada", kind="dead_end", title="Advisory locks"
    )
    assert (again.pk, again.seen, again.status) == (found.pk, 2, "open")
    with pytest.raises(TransitionRefused):
        discoveries.revive(memory.resolve(found.pk, "user:ann").pk, "user:ann", "x")


def test_a_refusal_says_what_failed_and_how_and_another_choice_is_none(board, goal, card):
    Board.objects.filter(pk=board.pk).update(enforce_dead_ends=True)
    tried(card, "Write the parser with lark", "grammar is ambiguous", lesson="lark needs LALR")
    Card.objects.filter(pk=card.pk).update(not_before=None)
    attempt = claimed(card)
    with pytest.raises(DeadEnd) as refused:
        leases.describe(attempt.pk, "writing a parser with lark")
    said = str(refused.value)
    assert f"“Write the parser with lark” (attempt 1 at {card.key}: lark needs LALR)" in said
    assert "say in 'differs'" in said
    (alike,) = leases.describe(attempt.pk, "Write the parser with pyparsing")
    assert alike["instead"] == "pyparsing instead of lark"


def test_a_dead_end_revives_when_what_it_rested_on_changes(board, goal, card):
    where = (board.pk, goal.pk, "worker:ada")
    rests = {"environment": {"python": "3.11", "uv.lock": "aa"}}
    on_python = memory.discover(*where, kind="dead_end", title="task groups", rests_on=rests)
    on_goal = memory.discover(
        *where, kind="dead_end", title="a broker", rests_on={"requirement": "no new services"}
    )
    on_nothing = memory.discover(*where, kind="dead_end", title="threads")
    memory.discover(*where, kind="fact", title="same", environment={"python": "3.11", "os": "x"})
    assert now_is(on_python).status == "open"
    memory.discover(*where, kind="fact", title="new lock file", environment={"uv.lock": "bb"})
    assert now_is(on_python).revived_because == "uv.lock was aa and is bb"
    memory.edit(goal.pk, "user:ann", {"constraints": ["No new services", "python 3.13"]})
    assert now_is(on_goal).status == "open"
    memory.edit(goal.pk, "user:ann", {"constraints": ["python 3.13"]})
    assert "no longer asks for" in now_is(on_goal).revived_because
    assert now_is(on_nothing).status == "open"


def test_an_amendment_is_said_with_what_failed_before_it(goal, card):
    Board.objects.filter(pk=card.board_id).update(enforce_dead_ends=True)
    tried(card, "a table of its own")
    memory.edit(goal.pk, "user:ann", {"intent": "Tables are fine."})
    Card.objects.update(not_before=None)
    (alike,) = leases.describe(claimed(card).pk, "a table of its own")
    assert "amended" in alike["because"]


def test_the_briefing_tells_what_failed_elsewhere_where_it_is_about_the_same(board, goal, card):
    other = make_card(board, goal=goal, title="Migrate the invoices")
    tried(other, "migrate the ledger by logical replication", "slots fill the disk")
    tried(make_card(board, goal=goal), "repaint the buttons", "wrong green")
    shown = briefing.build(now_is(card)).markdown
    assert f"At {other.key}, attempt 1 failed" in shown
    assert "slots fill the disk" in shown
    assert "wrong green" not in shown


# ── the same again and again ─────────────────────────────────────────────────────────────


def test_the_same_failure_asks_for_another_approach_and_then_for_a_person(card):
    for n in range(3):
        assert "Another approach" not in briefing.build(now_is(card)).markdown
        tried(card, f"way {n}", f"pid {n}: lock timed out")
    built = briefing.build(now_is(card))
    assert built.sections[0]["name"] == "Another approach is wanted"
    assert "The last 3 attempts failed in one way" in built.markdown
    tried(card, "yet another way", "pid 9: lock timed out")
    card = now_is(card)
    assert card.state == Card.State.BLOCKED
    assert "4 attempts in a row failed in the same way" in card.blocked_reason
    question = card.messages.get(kind="question")
    assert question.options == list(approaches.OPTIONS)
    assert "lock timed out" in question.text
    cards.say(card.pk, "user:ann", "take a queue", answers=question.pk)
    assert "Another approach" not in briefing.build(now_is(card)).markdown
    tried(card, "a queue", "pid 3: lock timed out")
    assert now_is(card).state == Card.State.WAITING


def looped(card):
    """Return the question of a card that failed in one way too often, after a checkpoint."""
    for n in range(4):
        Card.objects.filter(pk=card.pk).update(not_before=None)
        attempt = claimed(now_is(card))
        make_checkpoint(attempt, summary=f"As far as {n}")
        leases.fail(attempt.pk, "lock timed out")
    return card.messages.get(kind="question")


def test_the_answer_that_races_makes_the_racers_and_pauses_the_card(card):
    question = looped(card)
    assert approaches.RACE in question.options
    reason = "a queue\n\n a table of its own \n"
    cards.say(card.pk, "user:ann", approaches.RACE, answers=question.pk, reason=reason)
    race = Race.objects.get(source=card)
    assert (race.checkpoint, race.started_by) == (4, "user:ann")
    racers = list(Racer.objects.filter(card__race=race).order_by("number"))
    assert [racer.approach for racer in racers] == ["a queue", "a table of its own"]
    assert {racer.card.state for racer in racers} == {Card.State.WAITING}
    card = now_is(card)
    assert (card.state, card.paused) == (Card.State.WAITING, True)
    assert racers[1].card.key in card.messages.get(kind="note").text
    assert leases.claim("ada", card_id=racers[0].card_id).resumed_from == 4
    with pytest.raises(NotClaimable, match="paused"):
        leases.claim("bob", card_id=card.pk)


def test_a_race_without_approaches_asks_its_racers_to_differ(card):
    question = looped(card)
    cards.say(card.pk, "user:ann", approaches.RACE, answers=question.pk)
    racers = Racer.objects.filter(card__race__source=card)
    assert len(racers) == 3
    assert all("otherwise" in racer.approach for racer in racers)


def test_the_same_words_to_another_question_race_nothing(card):
    attempt = claimed(card)
    make_checkpoint(attempt)
    leases.block(attempt.pk, "unsure", question="How?", options=[approaches.RACE])
    question = card.messages.get(kind="question")
    cards.say(card.pk, "user:ann", approaches.RACE, answers=question.pk)
    assert not Race.objects.exists()
    assert not now_is(card).paused


def test_other_failures_and_those_of_a_service_are_no_loop(board, card):
    Board.objects.filter(pk=board.pk).update(defaults={"same_failures": 2})
    for _n in range(5):
        tried(card, "a", "the network is away", fault="infrastructure")
    for word in ("one", "two", "three", "one"):
        tried(card, "a", f"{word} is missing")
    assert now_is(card).state == Card.State.WAITING
    for _ in range(2):
        tried(card, "a", "one is missing")
    assert now_is(card).state == Card.State.BLOCKED


# ── decisions ────────────────────────────────────────────────────────────────────────────


def test_who_decides_against_what_is_in_force_hears_so(board, goal, card):
    first = memory.decide(
        board.pk,
        goal.pk,
        "user:ann",
        title="Write events through the outbox table",
        files=["events/", "boards/leases.py"],
    )
    memory.decide(board.pk, goal.pk, "user:ann", title="Keep money as decimals")
    attempt = claimed(card)
    (kept,) = recovery.record_memory(
        attempt.pk, decisions=[{"title": "Write the events past the outbox", "rationale": "fast"}]
    )
    (beside,) = recovery.in_force_beside(kept)
    assert (beside["id"], beside["because"]) == (str(first.pk), "words")
    (told,) = (
        d
        for d in approaches.in_force(attempt.pk, "write events into the outbox table by hand")
        if d["id"] == str(first.pk)
    )
    assert told["title"] == first.title
    content = {"summary": "s", "workspace": {"files": ["events/log.py", "README.md"]}}
    saved, _ = recovery.save(attempt.pk, content)
    (notice,) = recovery.notices(saved, content)
    assert (notice["kind"], notice["id"], notice["files"]) == (
        "decision_in_force",
        str(first.pk),
        ["events/"],
    )
    assert recovery.notices(saved, {"summary": "s"}) == []


def test_a_board_may_refuse_what_says_nothing_to_a_decision_in_force(board, goal, card):
    Board.objects.filter(pk=board.pk).update(defaults={"enforce_decisions": True})
    first = memory.decide(board.pk, goal.pk, "user:ann", title="queue", files=["a.py"])
    attempt = claimed(card)
    new = {"title": "something else", "files": ["a.py"]}
    with pytest.raises(Contradiction) as refused:
        recovery.record_memory(attempt.pk, decisions=[new])
    assert refused.value.extra["in_force"][0]["files"] == ["a.py"]
    recovery.record_memory(attempt.pk, decisions=[{**new, "differs": "another function"}])
    (kept,) = recovery.record_memory(attempt.pk, decisions=[{**new, "supersedes": first.pk}])
    assert now_is(first).superseded_by == kept


def test_a_decision_knows_the_checkpoint_that_it_was_saved_with(card):
    saved = make_checkpoint(claimed(card), decisions=[{"title": "a"}])
    (decision,) = card.goal.decisions.all()
    assert decision.checkpoint_id == saved.pk
    assert isinstance(saved.pk, UUID)


# ── discoveries ──────────────────────────────────────────────────────────────────────────


def test_failing_tests_open_and_close_by_themselves(board, goal, card):
    attempt = claimed(card)
    red = {"passed": 3, "failed": 2, "failing": ["test_a", "test_b"]}
    make_checkpoint(attempt, tests=red)
    saved = make_checkpoint(
        attempt, tests={**red, "failed": 1, "failing": ["test_a"], "passing": ["test_b", "test_c"]}
    )
    assert saved.tests == {**red, "failed": 1, "failing": ["test_a"]}
    known = {d.test: d for d in goal.discoveries.all()}
    assert {name: (d.status, d.seen) for name, d in known.items()} == {
        "test_a": ("open", 2),
        "test_b": ("resolved", 1),
    }
    make_checkpoint(attempt, tests={"failed": 4})  # which ones is not said
    assert now_is(known["test_a"]).status == "open"
    other = claimed(make_card(board, goal=goal))
    make_checkpoint(other, tests={"passed": 1, "failed": 0, "passing": ["test_a"]})
    assert now_is(known["test_a"]).status == "open"  # that card may not have it
    make_checkpoint(attempt, tests={"passed": 9, "failed": 0, "failing": []})
    assert now_is(known["test_a"]).status == "open"  # it may not have been run
    both = {"passed": 1, "failed": 1, "failing": ["test_a"], "passing": ["test_a"]}
    make_checkpoint(attempt, tests=both)
    assert now_is(known["test_a"]).status == "open"
    make_checkpoint(attempt, tests={"passed": 9, "failed": 0, "passing": ["test_a"]})
    assert now_is(known["test_a"]).status == "resolved"


def test_a_card_made_of_a_discovery_settles_it_once_completed(goal, card):
    found = memory.discover(
        goal.board_id, goal.pk, "worker:ada", kind="architecture_issue", title="x", card_id=card.pk
    )
    made = cards.of_discovery(found, "user:ann")
    assert (made.goal_id, made.state, made.title) == (goal.pk, "backlog", "x")
    assert card.key in made.description
    count = Card.objects.count()
    with pytest.raises(TransitionRefused):
        cards.of_discovery(now_is(found), "user:ann")
    assert Card.objects.count() == count
    assert now_is(found).status == "proposed"
    cards.edit(made.pk, "user:ann", {"column": goal_column(made)})
    leases.complete(claimed(now_is(made)).pk, "done")
    assert (now_is(found).status, now_is(found).resolution) == (
        "resolved",
        f"{made.key} is completed.",
    )


def goal_column(card: Card):
    return card.board.columns.get(kind="in_progress")


def test_what_is_the_same_can_be_made_one(board, goal):
    where = (board.pk, goal.pk, "worker:ada")
    one = memory.discover(*where, kind="fact", title="it is slow", detail="3 s")
    other = memory.discover(*where, kind="fact", title="slowness", detail="4 s", severity="high")
    kept = discoveries.merge(other.pk, one.pk, "user:ann")
    assert (kept.seen, kept.severity, kept.detail) == (2, "high", "3 s\n\n4 s")
    assert now_is(other).status == "resolved"
    with pytest.raises(TransitionRefused):
        discoveries.merge(other.pk, one.pk, "user:ann")
    given_up = discoveries.resolve(one.pk, "user:ann", "never mind", wont_do=True)
    assert given_up.status == "wont_do"
