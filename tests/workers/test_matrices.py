"""A fan-out over what an earlier step found: carried out, shown, gone on with after any kill."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from boards import leases
from boards.models import Attempt, Card
from checkpoints.models import Step
from tests.factories import make_user
from tests.workbench import Bench, keep_files_in
from workers.database import Database
from workers.runner import Outcome

pytestmark = pytest.mark.django_db(transaction=True)

FILES = "${{ steps.find.outputs.files }}"


@pytest.fixture
def bench(tmp_path: Path, settings: Any) -> Bench:
    keep_files_in(tmp_path, settings)
    return Bench(tmp_path)


def fan_out(bench: Bench, found: Any, **more: Any) -> Card:
    line = json.dumps({"files": found})
    return bench.card(
        {"key": "find", "run": f"{bench.mark('find')}; echo '{line}' >> $HOLDFAST_OUTPUT"},
        {
            "key": "each",
            "matrix": {"file": FILES},
            "title": "Look at ${{ matrix.file }}",
            "run": f'echo "${{{{ matrix.file }}}}" >> {bench.effects}/each',
            **more,
        },
        {"key": "last", "needs": ["each"], "run": bench.mark("last")},
    )


def shown(card: Card) -> str:
    page = Client()
    boss: Any = User.objects.filter(username="boss").first()
    page.force_login(boss or make_user("boss", is_superuser=True))
    return page.get(f"/cards/{card.key}?tab=steps").content.decode()


def recorded(card: Card) -> list[tuple[str, str]]:
    rows = Step.objects.on_line(card.pk, card.line).order_by("number")
    return [(row.key, row.status) for row in rows]


def test_each_value_is_a_step_of_its_own(bench: Bench) -> None:
    card = fan_out(bench, ["a", "b c", 3])
    assert "for each of steps.find.outputs.files" in shown(card)
    assert bench.run(card) == Outcome.COMPLETED
    assert (bench.effects / "each").read_text() == "a\nb c\n3\n"
    keys = [key for key, _ in recorded(card)]
    assert keys[0] == "find"
    assert keys[1] == "each:a"
    assert keys[2].startswith("each:b-c@")
    assert keys[3:] == ["each:3", "last"]


def test_the_page_shows_the_steps_as_they_become_known(bench: Bench) -> None:
    card = fan_out(bench, ["a", "b"], run="exit 1")
    assert bench.run(card) == Outcome.FAILED
    page = shown(card)
    assert "Look at b" in page  # it is still to come
    assert "${{ matrix.file }}" not in page.partition('id="card-tab"')[2].partition("<pre")[0]


@pytest.mark.parametrize(("found", "reason"), [("a b", "no list"), (["a", "a"], "stands twice")])
def test_what_no_steps_can_be_made_of_blocks_the_card_with_the_field(
    bench: Bench, found: Any, reason: str
) -> None:
    card = fan_out(bench, found)
    assert bench.run(card) == Outcome.BLOCKED
    assert f"Step each, steps[1]: matrix.file: {FILES} came to" in card.blocked_reason
    assert reason in card.blocked_reason
    assert (bench.count("find"), bench.count("each")) == (1, 0)


def test_nothing_found_is_a_step_that_is_skipped(bench: Bench) -> None:
    card = fan_out(bench, [])
    assert bench.run(card) == Outcome.COMPLETED
    assert recorded(card) == [("find", "succeeded"), ("each", "skipped"), ("last", "skipped")]


class Killed(BaseException):
    """What ends a worker before it can do anything more."""


@pytest.fixture
def killed_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """Have the worker end right before its n-th write of a step, or right after it."""
    due = {"write": 0, "after": 0}

    def counted(name: str) -> Any:
        real = getattr(Database, name)

        def write(self: Database, *args: Any, **fields: Any) -> Any:
            due["write"] -= 1
            if due["write"] == 0 and not due["after"]:
                raise Killed
            done = real(self, *args, **fields)
            if due["write"] == 0:
                raise Killed
            return done

        return write

    for name in ("begin", "finish", "skip"):
        monkeypatch.setattr(Database, name, counted(name))
    yield due
    due["write"] = 0


@pytest.mark.parametrize("after", [0, 1], ids=["before", "after"])
def test_it_goes_on_after_a_kill_at_any_write(
    bench: Bench, killed_at: dict[str, int], after: int
) -> None:
    whole = [("find", "succeeded"), ("each:a", "succeeded"), ("each:b", "succeeded")]
    for write in range(1, 9):  # find, each:a, each:b and last, each begun and ended
        card = fan_out(bench, ["a", "b"])
        killed_at.update(write=write, after=after)
        with pytest.raises(Killed):
            bench.run(card)
        killed_at.update(write=0)
        leases.expire(Attempt.objects.live().get(card=card).pk, actor="system:sweep")
        assert bench.run(card) == Outcome.COMPLETED
        assert recorded(card) == [*whole, ("last", "succeeded")]
