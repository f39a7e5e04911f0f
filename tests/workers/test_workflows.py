"""Workflows carried out by a worker: order, skips, outputs, pauses, and work done in rounds."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.utils import timezone

from boards import cards, leases, workflows
from boards.asking import NoAnswer
from boards.models import Attempt, Card, Message
from checkpoints import steps
from checkpoints.models import Checkpoint, Step
from events.models import Event
from goals.models import Criterion, Evidence
from kernel.access import SYSTEM
from kernel.errors import Invalid
from tests.factories import make_goal
from tests.workbench import Bench, logged
from workers import executors, runner
from workers.executors.contract import Ending
from workers.runner import Outcome

pytestmark = pytest.mark.django_db(transaction=True)


def ended(card: Card) -> dict[str, str]:
    """Return how each counting step of the card ended, in the order in which they did."""
    rows = Step.objects.filter(card=card, superseded=False).order_by("number")
    return dict(rows.values_list("key", "status"))


# ── order, conditions, values ──


def test_a_workflow_with_needs_a_matrix_conditions_and_outputs_is_carried_out(
    bench: Bench,
) -> None:
    hostile = "1.0; echo hacked `id` $(id) 'x"
    card = bench.card(
        {
            "key": "publish",
            "needs": ["test"],
            "if": "inputs.channel == 'stable'",
            "run": "exit 1",
        },
        {"key": "tell", "needs": ["publish"], "run": "exit 1"},
        {
            "key": "build",
            "outputs": ["version", "parts", "n"],
            "run": "cat > v <<'END'\nversion=" + hostile + "\nEND\n"
            'cat v >> "$HOLDFAST_OUTPUT"; echo \'{"parts": ["a", "b"], "n": 2}\' >> '
            '"$HOLDFAST_OUTPUT"',
        },
        {
            "key": "test",
            "matrix": {"python": ["3.11", "3.12"]},
            "env": {"SEEN": "${{ steps.build.outputs.parts[1] }}"},
            "if": "steps.build.outputs.n == 2",
            "run": 'echo "on ${{ matrix.python }}: $SEEN of ${{ steps.build.outputs.version }}"',
        },
        inputs={"channel": "beta"},
    )
    assert bench.run(card) == Outcome.COMPLETED
    assert ended(card) == {
        "build": "succeeded",
        "test:3.11": "succeeded",
        "test:3.12": "succeeded",
        "publish": "skipped",
        "tell": "skipped",
    }
    assert f"on 3.11: b of {hostile}\n" in logged(card)
    assert "hacked\n" not in logged(card)
    publish, tell = Step.objects.filter(status="skipped").order_by("number")
    assert publish.result == {"skipped": "Its condition does not hold: inputs.channel == 'stable'"}
    assert tell.result == {"skipped": "It needs publish, which was skipped."}
    assert Event.objects.filter(kind="step.skipped").count() == 2
    assert Step.objects.get(key="build").result["outputs"]["parts"] == ["a", "b"]


def test_a_step_that_breaks_its_promise_fails_and_says_so(bench: Bench) -> None:
    card = bench.card({"key": "build", "run": "true", "outputs": ["version"]})
    assert bench.run(card) == Outcome.FAILED
    assert "promised the output version" in card.attempts.get().error
    card = bench.card({"key": "build", "run": 'echo nonsense >> "$HOLDFAST_OUTPUT"'})
    assert bench.run(card) == Outcome.FAILED
    assert "Line 1 of its outputs is neither name=value" in card.attempts.get().lesson.replace(
        "\n", " "
    )
    card = bench.card({"key": "build", "run": """echo '{"version": ' >> "$HOLDFAST_OUTPUT\""""})
    assert bench.run(card) == Outcome.FAILED
    said = card.attempts.get().lesson.replace("\n", " ")
    assert "Line 1 of its outputs can't be used: it is not JSON" in said


def test_outputs_are_read_from_a_plain_file_alone(bench: Bench) -> None:
    card = bench.card({"key": "a", "run": 'ln -s /etc/passwd "$HOLDFAST_OUTPUT"'})
    assert bench.run(card) == Outcome.FAILED
    assert "outputs can't be read" in card.attempts.get().lesson


def test_secrets_in_outputs_and_inputs_are_kept_from_view(bench: Bench) -> None:
    secret = "s3cr3t-canary-0123456789"
    card = bench.card(
        {
            "key": "a",
            "env": {"API_TOKEN": "${{ inputs.token }}"},
            "run": 'echo "$API_TOKEN"; echo "token=$API_TOKEN" >> "$HOLDFAST_OUTPUT"',
        },
        inputs={"token": secret},
    )
    assert bench.run(card) == Outcome.COMPLETED
    step = Step.objects.get(card=card)
    assert secret not in f"{logged(card)}{step.input}{step.result}"
    assert step.result["outputs"] == {"token": "[redacted]"}


def test_declared_inputs_are_checked_and_their_defaults_used(bench: Bench) -> None:
    declared = {
        "channel": {"options": ["stable", "beta"], "default": "beta"},
        "count": {"type": "number", "required": True},
    }
    todo = {"inputs": declared, "steps": [{"key": "a", "run": "echo ${{ inputs.channel }}"}]}
    card = bench.card(workflow=todo, inputs={"count": 3})
    assert bench.run(card) == Outcome.COMPLETED
    assert logged(card) == "beta\n"
    with pytest.raises(Invalid, match="count is needed"):
        bench.card(workflow=todo)
    # No door lets such a card in; it may be there from before the workflow asked.
    card = bench.card(workflow=todo, inputs={"count": 1})
    Card.objects.filter(pk=card.pk).update(inputs={})
    card.refresh_from_db()
    assert bench.run(card) == Outcome.BLOCKED
    assert "inputs.count is needed" in card.blocked_reason


def test_a_condition_that_makes_no_sense_of_its_values_blocks_the_card(bench: Bench) -> None:
    card = bench.card({"key": "a", "run": "true", "if": "inputs.list < 3"}, inputs={"list": [1]})
    assert bench.run(card) == Outcome.BLOCKED
    assert "[1] and 3 have no order" in card.blocked_reason


def test_workers_killed_between_steps_do_each_once_in_order(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that dies is replaced until the card is done, wherever it died."""
    dice = random.Random(7)
    order = bench.effects / "order"
    keys = [f"s{n}" for n in range(6)]
    todo: list[dict[str, Any]] = []
    for n, key in enumerate(keys):
        needs = sorted(dice.sample(keys[n + 1 :], min(len(keys) - n - 1, 2)))
        todo.append({"key": key, "run": f"echo {key} >> {order}", "needs": needs})
    todo[4]["if"] = "inputs.nothing"
    card = bench.card(*todo, max_attempts=50)

    class Killed(BaseException):
        pass

    for name in ("begin", "finish", "skip"):
        real = getattr(steps, name)

        def dying(*args: Any, real: Any = real, **kwargs: Any) -> Any:
            if dice.random() < 0.15:
                raise Killed
            done = real(*args, **kwargs)
            if dice.random() < 0.15:
                raise Killed
            return done

        monkeypatch.setattr(steps, name, dying)
    outcome = None
    kills = 0
    while outcome != Outcome.COMPLETED:
        attempt = bench.claim(card)
        try:
            outcome = runner.run_slice(attempt)
        except Killed:
            kills += 1
            leases.expire(attempt.pk, actor=SYSTEM.actor)
        assert kills < 100
    assert kills
    fates = ended(card)
    recorded = {key for key, status in fates.items() if status == "succeeded"}
    ran = order.read_text().split()
    assert recorded == set(ran)
    for step in todo:
        for needed in step["needs"]:
            if step["key"] in recorded:
                assert ran.index(needed) < ran.index(step["key"])
    # A step recorded is never run again; one whose worker died before that may be.
    doubtful = set(Step.objects.filter(card=card, in_doubt=True).values_list("key", flat=True))
    assert [key for key in recorded - doubtful if ran.count(key) != 1] == []


# ── pauses ──


def test_a_wait_frees_the_worker_and_survives_restarts(bench: Bench) -> None:
    card = bench.card("true", {"key": "rest", "wait": 3600}, bench.mark("after"))
    began = timezone.now()
    with time_machine.travel(began, tick=True) as clock:
        assert bench.run(card) == Outcome.RELEASED
        attempt = card.attempts.get()
        assert attempt.reason == "wait"
        assert attempt.outcome.startswith("1 of 3 steps are done. It waits until ")
        card.refresh_from_db()
        assert card.not_before is not None
        assert timedelta(minutes=59) < card.not_before - began < timedelta(minutes=61)
        clock.shift(1800)
        assert bench.run(card) == Outcome.RELEASED  # whoever looks early begins no new wait
        card.refresh_from_db()
        assert card.not_before - began < timedelta(minutes=61)
        clock.shift(1900)
        assert bench.run(card) == Outcome.COMPLETED
    assert bench.count("after") == 1
    rest = Step.objects.get(key="rest", superseded=False)
    assert not rest.in_doubt
    assert card.failures == 0


def test_a_wait_can_be_until_a_moment_that_comes_from_a_step(bench: Bench) -> None:
    past = {"key": "a", "run": 'echo "at=2020-01-31T09:00:00Z" >> "$HOLDFAST_OUTPUT"'}
    card = bench.card(past, {"key": "b", "wait": {"until": "${{ steps.a.outputs.at }}"}})
    assert bench.run(card) == Outcome.COMPLETED
    assert Step.objects.get(key="b").result["until"] == "2020-01-31T09:00:00+00:00"
    card = bench.card({"key": "b", "wait": {"seconds": "${{ inputs.n }}"}}, inputs={"n": "soon"})
    assert bench.run(card) == Outcome.FAILED
    assert "makes no sense once filled in" in card.attempts.get().error


def test_an_ask_blocks_the_card_until_a_person_answers(bench: Bench) -> None:
    card = bench.card(
        {"key": "which", "ask": {"question": "Ship ${{ card.key }}?", "options": ["Yes", "No"]}},
        {"key": "ship", "if": "steps.which.outputs.answer == 'Yes'", "run": bench.mark("ship")},
        {"key": "keep", "if": "steps.which.outputs.answer == 'No'", "run": bench.mark("keep")},
    )
    assert bench.run(card) == Outcome.BLOCKED
    question = Message.objects.get(card=card, kind="question")
    assert (question.text, question.options) == (f"Ship {card.key}?", ["Yes", "No"])
    cards.retry(card.pk, SYSTEM.actor)
    assert bench.run(card) == Outcome.BLOCKED  # nobody answered, and it is not put twice
    assert Message.objects.filter(kind="question").count() == 1
    with pytest.raises(NoAnswer, match="“Yes”, “No”"):
        cards.say(card.pk, "user:ann", "maybe", answers=question.pk)
    cards.say(card.pk, "user:ann", " yes ", answers=question.pk)
    card.refresh_from_db()
    assert card.state == Card.State.WAITING
    assert bench.run(card) == Outcome.COMPLETED
    assert ended(card) == {"which": "succeeded", "ship": "succeeded", "keep": "skipped"}
    assert Step.objects.get(key="which", superseded=False).result["answer"] == "Yes"


# ── verify, then complete ──

#: Does better with each round, as something that reads what it is told would.
WORKER = (
    'echo "round $HOLDFAST_ROUND" >> work; test -z "$HOLDFAST_FEEDBACK" || cat "$HOLDFAST_FEEDBACK"'
)


def worked(bench: Bench, **more: Any) -> dict[str, Any]:
    return {"key": "fix", "run": f"{bench.mark('work')}; {WORKER}", "until": ["tests"], **more}


def checked(bench: Bench, needed: int, **more: Any) -> dict[str, Any]:
    found = "echo found $(wc -l < work) rounds; test $(wc -l < work) -ge"
    run = f"{bench.mark('check')}; {found} {needed}"
    return {"key": "tests", "check": run, **more}


def test_red_checks_go_back_with_their_output_until_they_are_green(bench: Bench) -> None:
    goal = make_goal(bench.board, criteria=["It is done well"])
    card = bench.card(worked(bench), checked(bench, 3, criterion=1), goal=goal)
    assert bench.run(card) == Outcome.COMPLETED
    assert ended(card) == {
        "fix": "succeeded",
        "fix/1.1": "succeeded",
        "fix/1.1:tests": "failed",
        "fix/1.2": "succeeded",
        "fix/1.2:tests": "failed",
        "fix/1.3": "succeeded",
        "fix/1.3:tests": "succeeded",
        "tests": "succeeded",
    }
    assert (bench.count("work"), bench.count("check")) == (3, 3)
    text = logged(card)
    assert "Check" not in text
    assert "Step tests failed with exit code 1" in text
    assert text.count("found 2 rounds") == 2  # printed, and told to the third round
    evidence = Evidence.objects.get()
    assert evidence.met
    assert "found 3 rounds" in evidence.detail
    fix = Step.objects.get(key="fix")
    assert (fix.result["round"], fix.result["rounds"]) == ("fix/1.3", 3)
    assert card.attempts.get().result == {"steps": 2}


def test_rounds_are_bounded_and_end_in_a_lesson_and_evidence(bench: Bench) -> None:
    goal = make_goal(bench.board, criteria=["It is done well"])
    card = bench.card(worked(bench, rounds=2), checked(bench, 5, criterion=1), goal=goal)
    assert bench.run(card) == Outcome.FAILED
    attempt = card.attempts.get()
    assert attempt.error == "Step fix is not done after 2 rounds: tests red."
    assert "found 2 rounds" in attempt.lesson
    assert (bench.count("work"), bench.count("check")) == (2, 2)
    red = Evidence.objects.get()
    assert not red.met
    assert "found 2 rounds" in red.detail
    assert Criterion.objects.get().met is False
    # The next attempt begins anew, from the files of the last round.
    assert bench.run(card) == Outcome.FAILED
    assert "found 4 rounds" in card.attempts.get(number=2).lesson
    assert bench.run(card) == Outcome.COMPLETED
    assert Criterion.objects.get().met is True
    assert set(ended(card)) >= {"fix/1.2:tests", "fix/2.2:tests", "fix/3.1:tests"}


def test_killed_anywhere_no_round_and_no_check_is_done_twice(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    fuse = {"left": 0}
    for name in ("begin", "record", "finish"):
        real = getattr(steps, name)

        def dying(*args: Any, real: Any = real, **kwargs: Any) -> Any:
            done = real(*args, **kwargs)
            fuse["left"] -= 1
            if fuse["left"] == 0:
                raise Killed
            return done

        monkeypatch.setattr(steps, name, dying)
    card = bench.card(worked(bench), checked(bench, 2), max_attempts=50)
    outcome, writes = None, 0
    while outcome != Outcome.COMPLETED:
        # Every worker begins the step; some then get to one or two writes more.
        writes += 1
        fuse["left"] = 1 + writes % 3
        attempt = bench.claim(card)
        try:
            outcome = runner.run_slice(attempt)
        except Killed:
            leases.expire(attempt.pk, actor=SYSTEM.actor)
        assert writes < 40
    assert writes > 4
    # Each died right after a write, so nothing was done that is not recorded.
    assert (bench.count("work"), bench.count("check")) == (2, 2)
    assert ended(card)["fix/1.2:tests"] == "succeeded"


def test_a_check_runs_again_if_something_was_done_since_its_round(bench: Bench) -> None:
    card = bench.card(worked(bench), "echo more >> work", checked(bench, 1))
    assert bench.run(card) == Outcome.COMPLETED
    assert bench.count("check") == 2
    assert Step.objects.get(key="tests").result["output"]["tail"] == "found 2 rounds\n"


def test_work_that_fails_itself_ends_as_a_step_does(bench: Bench) -> None:
    card = bench.card(
        {"key": "fix", "run": "echo no; exit 4", "until": ["tests"]}, checked(bench, 1)
    )
    assert bench.run(card) == Outcome.FAILED
    assert card.attempts.get().error.startswith("Step fix failed with exit code 4")
    assert bench.count("check") == 0


class Model:
    """Says that it is done; in ``does`` what it really does."""

    kind = "model"
    capabilities = ("model",)
    model_driven = True
    does = "true"

    def read(self, value: Any, refuse: Any) -> Any:
        return value

    def available(self) -> None:
        return None

    def carry_out(self, assignment: Any) -> Ending:
        assignment.process(self.does)
        return Ending(True, "is done, it says", summary="All good.")


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    from boards.workflows import steps

    made = Model()
    monkeypatch.setitem(executors.known(), "model", made)
    monkeypatch.setitem(steps._kinds, "model", made.read)
    return made


def test_nothing_is_done_on_a_models_word(bench: Bench, model: Model) -> None:
    goal = make_goal(
        bench.board,
        criteria=["It is there", {"text": "It is 2", "check": "test $(wc -l < work) -ge 2"}],
    )
    model.does = bench.mark("work") + "; " + WORKER
    card = bench.card({"key": "do", "model": "Do it."}, goal=goal)
    assert bench.run(card) == Outcome.COMPLETED
    assert bench.count("work") == 2
    assert ended(card)["criterion:2"] == "succeeded"
    assert list(goal.criteria.order_by("number").values_list("met", flat=True)) == [None, True]
    # Where other steps follow, the checks come after them, and red ones fail the attempt.
    card = bench.card({"key": "do", "model": "Do it."}, "rm work", goal=goal)
    assert bench.run(card) == Outcome.FAILED
    assert card.attempts.get().error.startswith("Step criterion:2 (It is 2) failed")
    assert goal.criteria.get(number=2).met is False


def test_a_workflow_of_commands_alone_gets_no_further_checks(bench: Bench) -> None:
    goal = make_goal(bench.board, criteria=[{"text": "It is 2", "check": "exit 1"}])
    card = bench.card("true", goal=goal)
    assert bench.run(card) == Outcome.COMPLETED
    assert not Checkpoint.objects.filter(card=card, summary__contains="criterion").exists()
    assert Attempt.objects.filter(card=card).count() == 1


def test_an_approval_is_of_the_very_command_and_silence_gives_its_default(bench: Bench) -> None:
    card = bench.card(
        {"key": "what", "run": "echo 'cmd=rm -r build' >> \"$HOLDFAST_OUTPUT\""},
        {
            "key": "go",
            "ask": {
                "question": "Run it?",
                "kind": "approve",
                "detail": "${{ steps.what.outputs.cmd }}",
                "timeout_seconds": 600,
                "default": False,
            },
        },
        {
            "key": "said",
            "run": "echo ${{ steps.go.outputs.answer }} ${{ steps.go.outputs.reason }}",
        },
    )
    assert bench.run(card) == Outcome.BLOCKED
    question = Message.objects.get(card=card, kind="question")
    assert (question.asks, question.detail) == ("approve", "rm -r build")
    assert (question.default, question.on_timeout) == ("no", "default")
    Message.objects.filter(pk=question.pk).update(detail="rm -r dist")
    cards.say(card.pk, "user:ann", "yes", answers=question.pk)
    assert bench.run(card) == Outcome.BLOCKED  # that was approved of another command
    again = Message.objects.get(card=card, kind="question", closed_at=None)
    cards.say(card.pk, "user:ann", "Yes", answers=again.pk, reason="it is old")
    assert bench.run(card) == Outcome.COMPLETED
    assert logged(card).endswith("yes it is old\n")


@pytest.mark.parametrize(
    ("ask", "place"),
    [
        ({"question": "?", "kind": "guess"}, "kind"),
        ({"question": "?", "kind": "choice"}, "options"),
        ({"question": "?", "timeout_seconds": "soon"}, "timeout_seconds"),
        ({"question": "?", "timeout_seconds": 60, "default": "c", "options": ["a"]}, "default"),
        ({"question": "?", "kind": "approve", "timeout_seconds": 9, "default": "yes"}, "default"),
        ({"question": "?", "until": 3}, "until"),
    ],
)
def test_an_ask_that_can_t_be_carried_out_names_the_place(ask: dict[str, Any], place: str) -> None:
    with pytest.raises(Invalid) as refused:
        workflows.parse({"steps": [{"key": "a", "ask": ask}]})
    assert any(place in name for name in refused.value.errors)


def test_whoever_reviews_reads_what_was_done_and_what_the_checks_showed(bench: Bench) -> None:
    report = '<testsuite><testcase name="a"/></testsuite>'
    said = """echo 'summary=Mended the sum.' >> "$HOLDFAST_OUTPUT"; true"""
    card = bench.card(
        {"key": "fix", "run": said},
        {"key": "test", "check": f"echo '{report}' > r.xml", "junit": "r.xml"},
        {"key": "lint", "check": "true"},
    )
    assert bench.run(card) == Outcome.COMPLETED
    told = "All 3 steps are done. fix: Mended the sum. test: 1 passed, 0 failed. lint: green."
    assert Attempt.objects.get(card=card).outcome == told
    card = bench.card("true")
    assert bench.run(card) == Outcome.COMPLETED
    assert Attempt.objects.get(card=card).outcome == "Its one step is done."
