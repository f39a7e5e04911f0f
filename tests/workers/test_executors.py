"""The suite that every executor passes: whoever adds one by adding a folder runs it as it is.

Each test of a step at work runs twice: for a worker with the database, and for one on another
host, which has the server's address and a token.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from boards import cards, leases, workflows
from boards.models import Attempt, Card
from checkpoints.models import Step
from kernel.access import SYSTEM
from kernel.errors import Invalid
from tests.processes import working_for
from tests.workbench import Afar, Bench, keep_files_in, logged, wait_for
from workers import executors
from workers.executors.contract import Executor
from workers.executors.samples import Samples
from workers.runner import Outcome

pytestmark = pytest.mark.django_db(transaction=True)

FOLDERS = sorted(m.name for m in pkgutil.iter_modules(executors.__path__) if m.ispkg)


class Kind:
    """One executor at the bench, with the samples its folder brings."""

    def __init__(self, bench: Bench, executor: Executor, samples: Samples, env: Any) -> None:
        self.bench, self.executor, self.samples = bench, executor, samples
        self.env = dict(env)

    def step(self, given: Any, **terms: Any) -> dict[str, Any]:
        env = {**self.env, **terms.pop("env", {})}
        return {"key": "it", self.executor.kind: given, "env": env, **terms}

    def card(self, given: Any, **terms: Any) -> Card:
        return self.bench.card(self.step(given, **terms))


#: What the other host asks of the server is under each store in ``tests/api``.
@pytest.fixture(params=["here", pytest.param("afar", marks=pytest.mark.once)])
def bench(request: pytest.FixtureRequest, tmp_path: Path, settings: Any) -> Iterator[Bench]:
    keep_files_in(tmp_path, settings)
    if request.param == "here":
        yield Bench(tmp_path)
        return
    settings.BASE_URL = request.getfixturevalue("live_server").url
    afar = Afar(tmp_path, settings.BASE_URL)
    yield afar
    afar.close()


def brought(folder: str) -> tuple[Executor, Samples]:
    """Return what an executor's folder brings."""
    package = f"{executors.__name__}.{folder}"
    executor: Executor = importlib.import_module(f"{package}.executor").EXECUTOR
    samples: Samples = importlib.import_module(f"{package}.samples").SAMPLES
    return executor, samples


@pytest.fixture(params=FOLDERS)
def kind(
    request: pytest.FixtureRequest, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Kind]:
    executor, samples = brought(request.param)
    assert executor.available() is None
    around = tmp_path / "around"
    around.mkdir()
    with samples.around(around) as env:
        # A host offers what is on its own PATH, before it knows of any step's.
        monkeypatch.setenv("PATH", env.get("PATH", os.environ["PATH"]))
        _look_again()
        yield Kind(bench, executor, samples, env)
    _look_again()


def _look_again() -> None:
    executors.capabilities.cache_clear()
    executors.lacking.cache_clear()


def test_a_step_that_goes_well_is_recorded_with_its_output_and_a_checkpoint(kind: Kind) -> None:
    card = kind.card(kind.samples.succeeds)
    assert kind.bench.run(card) == Outcome.COMPLETED
    assert kind.samples.prints in logged(card)
    step = Step.objects.get(card=card, key="it")
    assert (step.status, step.kind) == ("succeeded", kind.executor.kind)
    assert step.result["workspace"]["commit"]
    last = card.checkpoints.order_by("-number").first()
    assert last is not None
    assert last.after_step == step.number


def test_a_step_that_goes_wrong_fails_the_attempt_with_a_lesson(kind: Kind) -> None:
    card = kind.card(kind.samples.fails)
    assert kind.bench.run(card) == Outcome.FAILED
    attempt = Attempt.objects.get(card=card)
    assert attempt.error.startswith("Step it ")
    assert kind.samples.complains in attempt.lesson
    assert Step.objects.get(card=card, key="it").status == "failed"


def test_cancelling_the_card_ends_everything_that_the_step_started(kind: Kind) -> None:
    card = kind.card(kind.samples.hangs)
    work = kind.bench.start(card)
    wait_for(lambda: "begun" in logged(card), 60)
    assert working_for(str(work.attempt.pk))
    cards.cancel(card.pk, SYSTEM.actor)
    assert work.result() == Outcome.LOST
    assert not working_for(str(work.attempt.pk))
    assert Step.objects.get(card=card, key="it").status == "started"


def test_a_shutdown_hands_the_card_over_within_seconds(kind: Kind) -> None:
    card = kind.card(kind.samples.hangs)
    work = kind.bench.start(card)
    wait_for(lambda: "begun" in logged(card), 60)
    with kind.bench.stop():
        assert work.result() == Outcome.RELEASED
    card.refresh_from_db()
    assert card.state == Card.State.WAITING
    assert not working_for(str(work.attempt.pk))


def test_a_step_past_its_timeout_fails(kind: Kind) -> None:
    card = kind.card(kind.samples.hangs, timeout_seconds=3)
    assert kind.bench.run(card) == Outcome.FAILED
    attempt = Attempt.objects.get(card=card)
    assert "timeout" in attempt.error
    assert not working_for(str(attempt.pk))


def test_secrets_of_the_step_are_seen_by_nobody(kind: Kind) -> None:
    secret = "s3cr3t-canary-0123456789"
    card = kind.card(kind.samples.leaks, env={"SAMPLE_TOKEN": secret})
    kind.bench.run(card)
    assert "[redacted]" in logged(card)
    kept = [logged(card), *map(str, Step.objects.filter(card=card).values_list("result", "input"))]
    kept += map(str, card.checkpoints.values_list("summary", "state"))
    assert not [text for text in kept if secret in text]


@pytest.mark.once
@pytest.mark.parametrize("folder", FOLDERS)
def test_what_is_no_such_step_is_refused_with_its_place(folder: str) -> None:
    executor, samples = brought(folder)
    for value in samples.refused:
        with pytest.raises(Invalid) as refusal:
            workflows.parse({"steps": [{"key": "it", executor.kind: value}]})
        place = f"steps[0].{executor.kind}"
        assert all(where.startswith(place) for where in refusal.value.errors), value


@pytest.mark.once
@pytest.mark.parametrize("folder", FOLDERS)
def test_what_is_read_once_reads_the_same_again(folder: str) -> None:
    executor, samples = brought(folder)
    for given in (samples.succeeds, samples.fails, samples.hangs):
        once = workflows.parse({"steps": [{"key": "it", executor.kind: given}]})
        assert workflows.parse(workflows.canonical(once)) == once


def test_a_killed_step_does_no_recorded_piece_of_work_again(kind: Kind) -> None:
    if kind.samples.pieces is None:
        card = kind.card(kind.samples.succeeds)
        assert kind.bench.run(card) == Outcome.COMPLETED
        assert not Step.objects.filter(card=card, key__startswith="it/").exists()
        return
    pieces = kind.bench.effects
    card = kind.card(kind.samples.pieces, env={"PIECES": str(pieces)})
    work = kind.bench.start(card)
    wait_for(lambda: len(list(pieces.iterdir())) >= 2, 60)
    leases.expire(work.attempt.pk, actor=SYSTEM.actor)
    assert work.result() == Outcome.LOST
    rows = Step.objects.filter(card=card, key__startswith="it/", status="succeeded")
    recorded = set(rows.values_list("key", flat=True))
    assert recorded
    assert kind.bench.run(card) == Outcome.COMPLETED
    tries = Step.objects.filter(card=card, key__in=recorded)
    assert tries.count() == len(recorded)
    done = {path.name: len(path.read_text().splitlines()) for path in pieces.iterdir()}
    # One piece may have been under way: done, and not yet recorded.
    assert sorted(done.values())[:-1] == [1] * (len(done) - 1)
    assert max(done.values()) <= 2
