"""The demo board: made once, by transitions only, and every card does what it says."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import yaml
from django.conf import settings
from django.core.management import call_command
from django_q.models import OrmQ

from boards import cards, leases, workflows
from boards.models import Attempt, Board, Card, Column, Message
from checkpoints import recovery
from checkpoints.models import Checkpoint, Step
from events.models import Event
from goals.models import Criterion
from kernel.errors import LeaseLost
from runtime_site.demo import making, survey
from workers import runner

BASE = Path(settings.BASE_DIR)
PLAN = yaml.safe_load(making.PLAN.read_text())

pytestmark = pytest.mark.django_db


@pytest.fixture
def board():
    board = making.make()
    assert board is not None
    return board


def card(slug):
    """Return the card that the plan calls by this name: keys follow its order."""
    number = [entry["slug"] for entry in PLAN["cards"]].index(slug) + 1
    return Card.objects.get(key=f"DEMO-{number}")


def test_a_second_call_changes_nothing(capsys):
    call_command("demo")
    before = (Event.objects.count(), Card.objects.count(), OrmQ.objects.count())
    call_command("demo")
    assert (Event.objects.count(), Card.objects.count(), OrmQ.objects.count()) == before
    said = capsys.readouterr().out
    assert said.splitlines() == [
        "Made the board DEMO with 12 cards.",
        "There is a board DEMO already; nothing was changed.",
    ]


def test_a_board_cut_short_is_not_there_at_all(monkeypatch):
    def fall_over(card):
        raise LeaseLost("killed")

    monkeypatch.setattr(making, "_ask", fall_over)
    with pytest.raises(LeaseLost):
        making.make()
    assert not Board.objects.exists()
    assert not Event.objects.exists()


def test_without_a_checkout_there_is_no_demo(settings, tmp_path, capsys):
    settings.BASE_DIR = tmp_path
    call_command("demo")
    assert not Board.objects.exists()
    assert "no demo" in capsys.readouterr().out


def test_the_board_shows_every_state_that_a_card_can_wait_in(board):
    assert board.allow_commands
    assert {slug: card(slug).state for slug in ("tools", "commands", "question", "long")} == {
        "tools": "completed",
        "commands": "review",
        "question": "blocked",
        "long": "backlog",
    }
    assert card("wheel").unmet_dependencies == 2
    assert {c.kind for c in Column.objects.filter(cards__board=board)} == set(Column.Kind.values)


def test_one_card_starts_by_itself_and_no_other(board):
    nudges = [nudge.task for nudge in OrmQ.objects.all()]
    works = [task["args"] for task in nudges if task["func"] == "workers.tasks.work"]
    assert works == [(str(card("count").pk),)]


def test_the_history_was_made_by_transitions(board):
    events = Event.objects.of_board(board.pk).order_by("seq")
    assert [e.seq for e in events] == list(range(1, len(events) + 1))
    kinds = [e.kind for e in events if e.subject_id == card("tools").pk]
    assert kinds[:2] == ["card.created", "card.claimed"]
    assert kinds[-1] == "card.completed"
    assert not Attempt.objects.live().exists()
    for checkpoint in Checkpoint.objects.all():
        assert recovery.intact(checkpoint)
    assert Step.objects.filter(status="succeeded").count() == Step.objects.count() == 5


def test_its_evidence_is_what_was_found(board):
    met = Criterion.objects.get(number=1).met
    assert met is all(making._version(name) for name in making.TOOLS)
    assert not Criterion.objects.exclude(number=1).exclude(met=None).exists()


def test_the_question_waits_for_a_person(board):
    question = Message.objects.get(card=card("question"))
    assert (question.kind, question.closed_at) == (Message.Kind.QUESTION, None)
    assert len(question.options) == 2


@pytest.mark.parametrize("known_to_git", [True, False])
def test_every_workflow_can_be_used(monkeypatch, known_to_git):
    monkeypatch.setattr(making, "repository", lambda: str(BASE) if known_to_git else "")
    board = making.make()
    assert board.repository == (str(BASE) if known_to_git else "")
    for found in board.cards.exclude(workflow__isnull=True):
        workflow = workflows.parse(found.workflow)
        assert (workflow.steps[0].key == "copy") is not known_to_git
        assert workflow.env["PATH"].startswith(str(Path(sys.executable).parent))


def test_the_long_card_has_twelve_steps(board):
    steps = workflows.parse(card("long").workflow).steps
    assert len(steps) == 12
    assert steps[-1].key == "check"


def test_commands_name_only_files_that_are_there(board):
    for found in board.cards.exclude(workflow__isnull=True):
        for step in workflows.parse(found.workflow).steps:
            for path in re.findall(r"(?:tests|runtime_site)/[\w/.-]+", step.given):
                assert (BASE / path).exists(), (found.title, path)


def test_the_survey_knows_what_was_counted_twice_or_not_at_all(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(survey, "SECONDS_PER_PART", 0)
    for name in "abcde":
        (tmp_path / f"{name}.py").write_text("def f():\n    pass\n")
    survey.survey(1, 2)
    assert survey.check() == 1
    assert "missing: b.py, d.py" in capsys.readouterr().out
    survey.survey(2, 2)
    assert survey.check() == 0
    survey.survey(2, 2)
    assert survey.check() == 1
    assert "surveyed twice: b.py, d.py" in capsys.readouterr().out


@pytest.mark.acceptance
@pytest.mark.django_db(transaction=True)
def test_every_card_does_what_it_says(settings, tmp_path):
    for name in ("ARTIFACTS_DIR", "WORKSPACES_DIR", "SNAPSHOTS_DIR"):
        setattr(settings, name, tmp_path / name.lower())
    board = making.make()
    doing = board.columns.get(kind=Column.Kind.IN_PROGRESS)

    def carried_out(slug):
        work = card(slug)
        if work.state == Card.State.BACKLOG:
            cards.move(work.pk, "user:ann", doing.pk)
        while card(slug).state == Card.State.WAITING:
            Card.objects.filter(pk=work.pk).update(not_before=None)  # no waiting out of a backoff
            runner.run_slice(leases.claim("tester", card_id=work.pk))
        return card(slug).state

    def must_complete(slug, state=Card.State.COMPLETED):
        found = carried_out(slug)
        lessons = Attempt.objects.filter(card=card(slug)).values_list("lesson", flat=True)
        assert found == state, (slug, *lessons)

    for slug in ("count", "compile", "tests", "migrations"):
        must_complete(slug)
    must_complete("wheel", Card.State.REVIEW)
    tested = Checkpoint.objects.get(card=card("tests")).tests
    assert (tested["failed"], tested["passed"] > 50) == (0, True)
    built = Checkpoint.objects.filter(card=card("wheel")).order_by("number").first()
    assert [a["name"].rpartition(".")[2] for a in built.artifacts] == ["whl"]

    assert carried_out("fails") == Card.State.BLOCKED
    tries = list(Step.objects.filter(card=card("fails")).values_list("key", flat=True))
    assert sorted(tries) == ["compare", "compare", "measure"]
    assert "No such file" in Attempt.objects.get(card=card("fails"), number=2).lesson
    must_complete("lint")
