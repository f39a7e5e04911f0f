from __future__ import annotations

from typing import Any

import pytest
import time_machine
from django.test import Client
from django.utils import timezone

from events import tail
from runtime_site import health
from workers import pulses

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _all_is_well(settings: Any, monkeypatch: Any) -> None:
    settings.WORKERS = 2
    monkeypatch.setattr(tail, "is_running", lambda: True)
    monkeypatch.setattr(health, "_migrated", False)
    pulses.beat("sweep")
    pulses.beat("workers:host:1")


def faults() -> list[str]:
    response = Client().get("/readyz")
    checks = response.json()["checks"]
    failed = [name for name, check in checks.items() if not check["ok"]]
    assert response.status_code == (503 if failed else 200)
    assert response.json()["ready"] is not failed
    return failed


def test_a_process_that_answers_is_healthy_whatever_the_store_does() -> None:
    assert Client().get("/healthz").json() == {"ok": True}


def test_it_is_ready_when_everything_runs() -> None:
    assert faults() == []


def test_it_is_not_ready_without_the_tail(monkeypatch: Any) -> None:
    monkeypatch.setattr(tail, "is_running", lambda: False)
    assert faults() == ["tail"]


def test_a_part_that_fell_silent_counts_as_gone() -> None:
    with time_machine.travel(timezone.now() + 2 * health.SILENT, tick=False):
        assert faults() == ["sweep", "workers"]


def test_workers_are_missed_only_where_there_should_be_some(settings: Any) -> None:
    pulses.forget("workers:host:1")
    assert faults() == ["workers"]
    settings.WORKERS = 0
    assert faults() == []


def test_waiting_migrations_are_seen(monkeypatch: Any) -> None:
    monkeypatch.setattr(health.MigrationExecutor, "migration_plan", lambda self, targets: ["one"])
    assert faults() == ["migrations"]


def test_a_beat_renews_the_pulse_and_keeps_its_detail() -> None:
    pulses.beat("sweep", round=7)
    row = pulses.Pulse.objects.get(name="sweep")
    assert row.detail == {"round": 7}
    age = pulses.age("sweep")
    assert age is not None
    assert age.total_seconds() < 5
    assert pulses.age("nobody") is None
