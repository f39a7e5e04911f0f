"""Killed with SIGKILL while it races cards, splits them and joins them: a race is decided or is
not, parts are joined or are not, and whoever comes next brings either to its end.

``FULL=1`` kills 100 times.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

from boards import leases, races
from boards.models import Attempt, Card, Race, Racer, Split
from boards.races import Score
from checkpoints import joining, lines
from checkpoints.models import Checkpoint
from checkpoints.stores import store_of
from checkpoints.verifying import verify
from tests.checkpoints.killing import killed, paced, say
from tests.checkpoints.test_merging import Place
from tests.factories import claimed, make_card

KILLS = 100 if os.environ.get("FULL") else 10
SEED = int(os.environ.get("SEED") or 7)
#: One card from its claim to its end.
QUICK_SECONDS = 0.3
State = Card.State
WORKFLOW = {"steps": [{"key": "a", "run": "true"}]}

pytestmark = [pytest.mark.chaos, pytest.mark.django_db(transaction=True)]


def work(place: Place, told: Path, seed: int) -> None:
    """Go on with what is there, then race and split, until killed."""
    rng = random.Random(seed)
    while True:
        bring_to_an_end(place, told, rng)
        races_it = rng.random() < 0.5
        attempt = claimed(make_card(place.board, workflow=WORKFLOW if races_it else None))
        place.changes(attempt, {"app.py": "one\ntwo\nthree\n"})
        if races_it:
            terms = lines.Terms("score", score="true")
            lines.fork(
                attempt.card_id, 1, "user:ann", count=3, approaches=["a", "b", "c"], terms=terms
            )
            leases.complete(attempt.pk, "done")
        else:
            joining.split(attempt.card_id, "user:ann", [{"title": "upper"}, {"title": "lower"}])


def bring_to_an_end(place: Place, told: Path, rng: random.Random) -> None:
    """Do all that can be done, as workers and the sweep would."""
    for live in Attempt.objects.live():
        leases.expire(live.pk, actor="system:test")
    Card.objects.update(not_before=None, failures=0)
    while True:
        races.tick()
        joining.tick()
        card = Card.objects.filter(state=State.WAITING, unmet_dependencies=0).first()
        if card is None:
            return
        attempt = claimed(card, f"w-{card.key}")
        name = rng.choice(["app.py", "a.py", "b.py"])
        place.changes(attempt, {name: f"{card.key}\n"})
        score = Score(rng.choice([1.0, 2.0, 3.0])) if card.race_id else None
        leases.complete(attempt.pk, "done", score=score)
        say(told, "ended", card.key)
        for race in Race.objects.exclude(winner=None).select_related("winner"):
            say(told, "decided", race.pk, race.winner and race.winner.key)
        for split in Split.objects.exclude(joined_at=None).select_related("card"):
            say(told, "joined", split.pk, split.card.key, split.joined_as)


def look(told: Path) -> None:
    """Pass only if what was decided and joined stays so, whole, and nothing is half done."""
    for word, *rest in map(str.split, told.read_text().splitlines()):
        if word == "decided":
            assert Race.objects.get(pk=rest[0]).winner == Card.objects.get(key=rest[1])
        elif word == "joined":
            assert Split.objects.get(pk=rest[0]).joined_as == int(rest[2])
    for race in Race.objects.all():
        states = {c.pk: c.state for c in Card.objects.filter(race=race)}
        assert len(states) == 3
        if race.winner_id is None:
            assert State.COMPLETED not in states.values()
            assert not Racer.objects.filter(card__race=race).exclude(lost="").exists()
        else:
            assert states.pop(race.winner_id) == State.COMPLETED
            assert set(states.values()) == {State.CANCELLED}
            losers = Racer.objects.filter(card__race=race).exclude(card=race.winner_id)
            assert all(losers.values_list("lost", flat=True))
    for split in Split.objects.all():
        assert split.parts.count() == 2
        points = Checkpoint.objects.filter(card=split.card)
        assert (split.joined_at is None) == (split.joined_as is None)
        assert points.count() == 1 or split.joined_as is not None
        if split.joined_as is not None:
            assert points.get(number=split.joined_as).workspace is not None
    for card in Card.objects.all():
        verdict = verify(card)
        assert verdict.intact, (card.key, verdict.faults)


def test_races_and_parts_are_brought_to_an_end_whenever_it_is_killed(
    tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.DATA_DIR = tmp_path
    settings.SNAPSHOTS_DIR = tmp_path / "snapshots"
    monkeypatch.setattr("checkpoints.workspaces.LOCK_WAIT_SECONDS", 0.5)
    place = Place(tmp_path)
    place.board.allow_commands = True
    place.board.save(update_fields=["allow_commands"])
    told = tmp_path / "told"
    told.touch()
    rng = random.Random(SEED)

    def once() -> None:
        attempt = claimed(make_card(place.board))
        place.changes(attempt, {"first.py": "first\n"})
        leases.complete(attempt.pk, "done")

    pace = paced(once, QUICK_SECONDS)
    for number in range(1, KILLS + 1):
        seed = SEED * 10_000 + number
        killed(lambda seed=seed: work(place, told, seed), told, rng, pace=pace)  # type: ignore[misc]
        if number % 5 == 0:
            look(told)
    bring_to_an_end(place, told, rng)
    look(told)
    assert not Race.objects.filter(winner=None).exists()
    assert not Split.objects.filter(joined_at=None).exists()
    assert not Card.objects.filter(state__in=[State.WAITING, State.RUNNING]).exists()
    said = told.read_text()
    assert "decided" in said
    assert "joined" in said
    store_of(place.board.pk).run("fsck", "--full", "--strict", "--no-dangling")
