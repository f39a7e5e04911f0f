"""Several approaches from one point, and which of them is kept."""

from __future__ import annotations

from datetime import timedelta

import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from boards import cards, leases, races, standings
from boards.models import Card, Racer
from boards.races import Score
from checkpoints import briefing, lines
from events.models import Event
from kernel.errors import Invalid, TransitionRefused
from tests.factories import (
    claimed,
    make_board,
    make_card,
    make_checkpoint,
    now_is,
)

pytestmark = pytest.mark.django_db
State = Card.State
WORKFLOW = {"steps": [{"key": "a", "run": "true"}]}
APPROACHES = ["by hand", "generated", "borrowed"]


def raced(choose="first", *, approaches=APPROACHES, source=None, **terms):
    """Return the racers of a new race; each starts from the first checkpoint of one card."""
    if source is None:
        board = make_board(allow_commands=True)
        fields = {"workflow": WORKFLOW} if choose == "score" else {}
        source = claimed(make_card(board, budgets={"attempts": 4}, **fields))
        make_checkpoint(source, summary="Parsed")
    if choose == "score":
        terms = {"score": "python bench.py", **terms}
    return lines.fork(
        source.card_id,
        1,
        "user:ann",
        count=len(approaches),
        approaches=approaches,
        terms=lines.Terms(choose, **terms),
    )


def finished(card, score=None, **content):
    attempt = claimed(now_is(card), f"w-{card.key}")
    make_checkpoint(attempt, summary=f"{card.key} got this far", **content)
    return leases.complete(attempt.pk, "done", score=score)


def states(made):
    return [now_is(card).state for card in made]


def told(card):
    return briefing.build(now_is(card), max_tokens=6000).markdown


class TestAPersonChooses:
    def test_all_stop_in_review_and_what_is_chosen_is_kept(self):
        made = raced("person")
        finished(made[0])
        finished(made[1])
        assert states(made) == [State.REVIEW, State.REVIEW, State.WAITING]
        cards.choose(made[1].pk, "user:ann")
        assert states(made) == [State.CANCELLED, State.COMPLETED, State.CANCELLED]
        field = standings.of_race(made[0].race_id)
        assert (field.race.winner, field.race.decided_by) == (made[1], "user:ann")
        why = f"ann chose {made[1].key}."
        assert [r.lost for r in field.racers] == [why, "", why]
        ended = Event.objects.get(kind="card.cancelled", subject_id=made[2].pk)
        assert ended.data["because"] == why

    def test_nobody_chooses_what_is_not_done_or_runs_in_no_race(self):
        made = raced("person")
        with pytest.raises(TransitionRefused, match="stands in review"):
            cards.choose(made[0].pk, "user:ann")
        with pytest.raises(TransitionRefused, match="no race"):
            cards.choose(make_card().pk, "user:ann")
        finished(made[0])
        cards.choose(made[0].pk, "user:ann")
        with pytest.raises(TransitionRefused, match="decided"):
            cards.choose(made[0].pk, "user:ann")

    def test_one_that_is_sent_back_runs_on(self):
        made = raced("person")
        finished(made[0])
        cards.reject(made[0].pk, "user:ann", "Not like that.")
        finished(made[0])
        assert states(made) == [State.REVIEW, State.WAITING, State.WAITING]


class TestTheHighestScore:
    def test_it_wins_once_all_have_ended(self):
        made = raced("score")
        finished(made[0], Score(2.0))
        finished(made[1], Score(3.5))
        assert states(made) == [State.REVIEW, State.REVIEW, State.WAITING]
        finished(made[2], Score(None, "The scoring command printed nothing."))
        assert states(made) == [State.CANCELLED, State.COMPLETED, State.CANCELLED]
        lost = [r.lost for r in Racer.objects.filter(card__race=made[0].race_id).order_by("number")]
        assert lost == [
            f"It scored 2; {made[1].key} scored 3.5.",
            "",
            "The scoring command printed nothing.",
        ]
        kinds = Event.objects.filter(subject_id=made[2].pk).order_by("seq")
        assert list(kinds.values_list("data__state", flat=True))[-1] == State.CANCELLED

    def test_of_equal_ones_the_first_of_the_cards_wins_and_the_others_are_told(self):
        made = raced("score")
        for card in reversed(made):
            finished(card, Score(2.0))
        assert states(made) == [State.COMPLETED, State.CANCELLED, State.CANCELLED]
        lost = Racer.objects.get(card=made[1]).lost
        assert lost == f"It scored 2, no more than {made[0].key}."

    def test_of_equal_ones_the_first_made_and_a_review_still_stands_before_it(self):
        board = make_board(allow_commands=True)
        source = claimed(make_card(board, workflow=WORKFLOW, review_required=True))
        make_checkpoint(source)
        made = raced("score", source=source)
        for card in reversed(made):
            finished(card, Score(1.0))
        assert states(made) == [State.REVIEW, State.CANCELLED, State.CANCELLED]
        cards.approve(made[0].pk, "user:ann")
        assert states(made)[0] == State.COMPLETED

    def test_one_that_failed_for_good_has_ended_but_one_that_asks_has_not(self):
        made = raced("score", approaches=["a", "b"])
        finished(made[0], Score(1.0))
        asking = claimed(now_is(made[1]))
        leases.block(asking.pk, "Which?", question="Which?")
        assert states(made) == [State.REVIEW, State.BLOCKED]
        races.tick()
        assert states(made) == [State.REVIEW, State.BLOCKED]
        cards.say(made[1].pk, "user:ann", "This.", answers=made[1].messages.get(kind="question").pk)
        leases.fail(claimed(now_is(made[1])).pk, "broken", retryable=False)
        assert states(made) == [State.COMPLETED, State.CANCELLED]

    def test_a_deadline_decides_among_those_there_are(self):
        with time_machine.travel(timezone.now(), tick=False) as clock:
            made = raced("score", deadline_seconds=60)
            clock.shift(timedelta(seconds=61))
            assert races.tick() == 0  # nobody has a score yet
            finished(made[0], Score(-4.0))
            assert states(made) == [State.COMPLETED, State.CANCELLED, State.CANCELLED]
            made = raced("score", deadline_seconds=60)
            finished(made[2], Score(1.0))
            assert races.tick() == 0
            clock.shift(timedelta(seconds=61))
            assert races.tick() == 1
            assert states(made) == [State.CANCELLED, State.CANCELLED, State.COMPLETED]

    def test_one_that_nobody_can_win_keeps_no_other_waiting(self, monkeypatch):
        monkeypatch.setattr(races, "AT_ONCE", 1)
        with time_machine.travel(timezone.now(), tick=False) as clock:
            for card in raced("score", approaches=["a", "b"]):
                cards.cancel(card.pk, "user:ann")
            made = raced("score", deadline_seconds=60)
            finished(made[1], Score(1.0))
            clock.shift(timedelta(seconds=61))
            assert races.tick() == 1
            assert states(made) == [State.CANCELLED, State.COMPLETED, State.CANCELLED]

    def test_without_any_score_it_is_left_to_a_person(self):
        made = raced("score", approaches=["a", "b"])
        for card in made:
            finished(card, Score(None, "It broke."))
        assert races.tick() == 0
        assert states(made) == [State.REVIEW, State.REVIEW]
        cards.choose(made[1].pk, "user:ann")
        assert states(made) == [State.CANCELLED, State.COMPLETED]

    def test_cancelling_the_last_one_decides_it(self):
        made = raced("score", approaches=["a", "b"])
        finished(made[0], Score(1.0))
        cards.cancel(made[1].pk, "user:ann")
        assert states(made) == [State.COMPLETED, State.CANCELLED]


class TestTerms:
    def test_what_can_not_be_scored_is_refused(self):
        source = claimed(make_card(make_board()))
        make_checkpoint(source)
        for field, count, terms in (
            ("choose", 1, lines.Terms("person")),
            ("score", 2, lines.Terms("score")),
            ("score", 2, lines.Terms("first", "true")),
            ("deadline_seconds", 2, lines.Terms("person", deadline_seconds=9)),
            ("choose", 2, lines.Terms("score", "true")),
        ):
            with pytest.raises(Invalid) as refused:
                lines.fork(source.card_id, 1, "user:ann", count=count, terms=terms)
            assert list(refused.value.errors) == [field]
        assert not Card.objects.filter(race__isnull=False).exists()

    def test_all_have_the_same_budget(self):
        made = raced()
        assert [card.budgets for card in made] == [{"attempts": 4}] * 3


class TestBriefing:
    def test_each_is_told_the_approaches_of_the_others_also_those_said_later(self):
        made = raced()
        assert "Approach to take here: by hand" in told(made[0])
        section = told(made[0]).partition("## The race")[2].partition("\n## ")[0]
        assert "generated" in section
        assert "borrowed" in section
        assert "by hand" not in section
        leases.describe(claimed(made[1]).pk, "with a table of 300 rows")
        section = told(made[0]).partition("## The race")[2].partition("\n## ")[0]
        assert "with a table of 300 rows" in section
        assert "generated" not in section

    def test_what_lost_is_told_to_the_winner_and_to_whoever_starts_there_next(self):
        made = raced()
        leases.fail(claimed(made[0]).pk, "broke", lesson="Regexes can't count brackets")
        attempt = claimed(made[2])
        make_checkpoint(attempt, summary="Half of the grammar stands")
        finished(made[1])
        again = raced(source=made[0].race.source.attempts.get())
        for reader in (made[1], again[0], made[0].race.source):
            section = told(reader).partition("## Tried in a race and lost")[2].partition("\n## ")[0]
            assert "Regexes can't count brackets" in section
            assert "Half of the grammar stands" in section
            assert f"{made[1].key} was completed first." in section
            assert "by hand" in section
        assert "## The race" not in told(made[1])

    def test_it_stays_within_its_budget(self):
        made = raced(approaches=[f"{n} " + "very long words " * 200 for n in range(10)])
        for card in made[1:]:
            leases.fail(claimed(card).pk, "broke", lesson="Long lesson. " * 300, retryable=False)
        finished(made[0])
        built = briefing.build(now_is(made[0]), max_tokens=1500)
        assert built.tokens <= 1500
        assert "## Tried in a race and lost" in built.markdown


def test_the_standings_cost_the_same_however_many_run():
    counts = []
    for size in (2, 9):
        made = raced(approaches=[str(n) for n in range(size)])
        for card in made:
            make_checkpoint(claimed(card), tests={"passed": 3, "failed": 1})
        with CaptureQueriesContext(connection) as sent:
            field = standings.of_race(made[0].race_id)
            assert [r.latest.tests_passed for r in field.racers] == [3] * size
            assert field.racers[0].checkpoint == 2
        counts.append(len(sent))
    assert counts[0] == counts[1] <= 4
