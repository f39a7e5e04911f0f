"""Cards that a host can't carry out are left to those who can, at the claim or soon after."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from boards.models import Attempt, Card
from tests.factories import now_is
from tests.workbench import Afar, keep_files_in
from workers import executors, tasks
from workers.models import Worker
from workers.runner import Outcome

pytestmark = pytest.mark.django_db(transaction=True)

CODEX = {"key": "it", "agent": {"cli": "codex", "prompt": "Mend it"}}
MODEL = {"key": "it", "llm": {"model": "openai:gpt", "prompt": "Mend it"}}
FLOW = {"key": "it", "python": "nowhere"}


@pytest.fixture
def bench(tmp_path: Path, settings: Any, live_server: Any) -> Iterator[Afar]:
    keep_files_in(tmp_path, settings)
    settings.BASE_URL = live_server.url
    bench = Afar(tmp_path, live_server.url)
    yield bench
    bench.close()


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No agent's program is on the PATH, and no model has a key."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    executors.capabilities.cache_clear()
    executors.lacking.cache_clear()
    yield
    executors.capabilities.cache_clear()
    executors.lacking.cache_clear()


def test_an_agent_that_is_not_here_is_no_agent_to_claim_for(bench: Afar) -> None:
    bench.card(CODEX)
    run = bench.card("true")
    worker = bench.worker()
    assert worker.once() == Outcome.COMPLETED
    assert now_is(run).state == Card.State.COMPLETED
    assert worker.once() is None
    assert Attempt.objects.count() == 1


@pytest.mark.parametrize("step", [MODEL, FLOW])
def test_what_shows_itself_to_be_missing_is_left_to_another_host(
    bench: Afar, step: dict[str, Any]
) -> None:
    card = bench.card(step)
    worker = bench.worker()
    assert worker.once() == Outcome.RELEASED
    attempt = Attempt.objects.get(card=card)
    assert (attempt.reason, attempt.fault) == ("unfit", "")
    assert now_is(card).state == Card.State.WAITING
    assert worker.once() is None
    other = bench.worker("other")
    assert other.once() == Outcome.RELEASED  # nothing is known of it there


def test_a_built_in_worker_leaves_what_it_lacks_to_a_host_that_has_it(bench: Afar) -> None:
    card, other = bench.card(CODEX), bench.card("true")
    worker = bench.worker()
    worker.capabilities = [*worker.capabilities, "codex"]
    Card.objects.update(paused=True)
    assert worker.once() is None  # it is known to be here though there was nothing to do
    Card.objects.update(paused=False)
    assert tasks.work(str(card.pk)) == "completed"
    assert now_is(other).state == Card.State.COMPLETED
    assert tasks.work(str(card.pk)) == "not claimable"
    # It is gone: somebody must say what is missing.
    Worker.objects.update(last_seen_at=timezone.now() - timedelta(hours=1))
    assert tasks.work(str(card.pk)) == "blocked"
    assert "no program codex" in now_is(card).blocked_reason
