"""A race whose finishers are scored by a command in their own workspaces."""

from __future__ import annotations

import pytest

from boards import leases
from boards.models import Card, Racer
from checkpoints import lines, steps
from checkpoints.models import Checkpoint
from checkpoints.stores import store_of
from workers.runner import Outcome

pytestmark = pytest.mark.django_db(transaction=True)


def raced(bench, score, *commands):
    """Return racers, each with a last step of its own, and what was done before the fork."""
    source = bench.card("echo 1 > rows", "true")
    assert bench.run(source) is Outcome.COMPLETED
    made = lines.fork(
        source.pk,
        1,
        "user:ann",
        count=len(commands),
        terms=lines.Terms("score", score),
    )
    for card, command in zip(made, commands, strict=True):
        todo = [{"key": "step1", "run": "echo 1 > rows"}, {"key": "go", "run": command}]
        Card.objects.filter(pk=card.pk).update(workflow={"steps": todo})
        card.refresh_from_db()
    return made


def test_the_last_line_of_the_command_is_the_number_and_leaves_no_file(bench) -> None:
    command = f"{bench.mark('scored')}; echo x > report; echo counting; wc -l < rows"
    made = raced(bench, command, "echo 2 >> rows", "seq 9 >> rows", "seq 4 >> rows")
    for card in made:
        assert bench.run(card) is Outcome.COMPLETED
    states = [Card.objects.get(pk=card.pk).state for card in made]
    assert states == ["cancelled", "completed", "cancelled"]
    assert [Racer.objects.get(card=c).score for c in made] == [2.0, 10.0, 5.0]
    assert bench.count("scored") == 3
    newest = Checkpoint.objects.filter(card=made[1]).order_by("-number")[0]
    files = store_of(bench.board.pk).line("ls-tree", "--name-only", newest.workspace["commit"])
    assert files.split() == ["rows"]


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("exit 3", "failed with exit code 3"),
        ("true", "printed nothing"),
        ("echo 7; echo fast", "no number last, but fast"),
        ("echo nan", "nan, which is no score"),
    ],
)
def test_a_command_that_gives_no_number_gives_no_score(bench, command, problem) -> None:
    (first, _) = raced(bench, command, "true", "true")
    assert bench.run(first) is Outcome.COMPLETED
    racer = Racer.objects.get(card=first)
    assert racer.score is None
    assert problem in racer.problem
    assert first.state == "review"


def test_a_score_that_was_recorded_is_not_computed_again(bench, monkeypatch) -> None:
    (first, _) = raced(bench, f"{bench.mark('scored')}; echo 5", "true", "true")
    complete = leases.complete
    monkeypatch.setattr(leases, "complete", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        bench.run(first)
    monkeypatch.setattr(leases, "complete", complete)
    leases.expire(first.attempts.get().pk, actor="system:test")
    assert bench.run(first) is Outcome.COMPLETED
    assert bench.count("scored") == 1
    assert Racer.objects.get(card=first).score == 5.0
    assert steps.recorded(first.pk, 2)["race:score"].result["score"] == 5.0
