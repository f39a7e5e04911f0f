from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction
from django.utils import timezone
from django_q.models import OrmQ
from django_q.tasks import async_task

from workers import qbroker
from workers.qbroker import WakingBroker

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def broker(monkeypatch: Any) -> Any:
    monkeypatch.setattr(qbroker, "OUTAGE_SECONDS", 0.01)
    made = WakingBroker()
    yield made
    if made._wake is not None:
        made._wake.close()


def keys() -> list[int]:
    return list(OrmQ.objects.order_by("id").values_list("id", flat=True))


def taken(broker: WakingBroker) -> int | None:
    found = broker.dequeue()
    return found[0][0] if found else None


def test_tasks_are_taken_in_order_and_once(broker: WakingBroker) -> None:
    for number in range(3):
        broker.enqueue(f"task {number}")
    assert [taken(broker) for _ in range(3)] == keys()
    assert taken(broker) is None


def test_a_task_is_due_again_only_after_its_time(broker: WakingBroker, settings: Any) -> None:
    broker.enqueue("task")
    assert taken(broker) is not None
    (lock,) = OrmQ.objects.values_list("lock", flat=True)
    assert lock > timezone.now() + timedelta(seconds=settings.Q_CLUSTER["timeout"])


def test_a_nudge_rolls_back_with_what_it_was_for(broker: WakingBroker) -> None:
    with transaction.atomic():
        async_task("x.y", "a")
        transaction.set_rollback(True)
    assert taken(broker) is None


def test_a_commit_elsewhere_wakes_it(broker: WakingBroker, monkeypatch: Any) -> None:
    monkeypatch.setattr(qbroker, "LOOK_SECONDS", 600)  # the next regular look is far away
    assert taken(broker) is None  # looked, and waited in vain

    def enqueue() -> None:
        time.sleep(0.2)
        WakingBroker().enqueue("task")
        connection.close()

    other = threading.Thread(target=enqueue)
    other.start()
    began = time.monotonic()
    while (found := taken(broker)) is None:
        assert time.monotonic() - began < 60
    assert found == keys()[0]
    other.join()


def test_nothing_is_taken_while_no_worker_is_idle(broker: WakingBroker, monkeypatch: Any) -> None:
    broker.enqueue("task")
    monkeypatch.setattr(WakingBroker, "has_room", staticmethod(lambda: False))
    assert taken(broker) is None
    monkeypatch.setattr(WakingBroker, "has_room", staticmethod(lambda: True))
    assert taken(broker) == keys()[0]


def test_an_outage_of_the_store_is_sat_out(broker: WakingBroker, monkeypatch: Any) -> None:
    broker.enqueue("task")
    take = broker._take
    failures = iter([OperationalError("server closed the connection"), OSError("gone")])

    def flaky() -> Any:
        for failure in failures:
            raise failure
        return take()

    monkeypatch.setattr(broker, "_take", flaky)
    assert [taken(broker) for _ in range(3)] == [None, None, keys()[0]]


def test_a_done_nudge_that_can_not_be_deleted_stops_nobody(
    broker: WakingBroker, monkeypatch: Any
) -> None:
    def away(*_: Any) -> Any:
        raise OperationalError("away")

    monkeypatch.setattr(qbroker.ORM, "delete", away)
    broker.acknowledge(1)
