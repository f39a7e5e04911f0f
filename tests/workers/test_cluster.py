from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from django_q.models import OrmQ

from tests.serving import ROOT, STORE, Site, new_site, until
from workers import cluster
from workers.cluster import Places, TaskQueue, Watchdog

_ENQUEUE = """
import sys, django
django.setup()
from django_q.tasks import async_task
for line in sys.stdin:
    name, *args = line.split()
    async_task(f"tests.workers.cluster_tasks.{name}", *args)
    print("sent", flush=True)
"""

_KNOWN = """
import django
django.setup()
from workers import presence
from workers.models import Worker
presence.expire_attempts_of_the_dead()
print(*Worker.objects.values_list("name", flat=True))
"""


#: What the log says of each kind of member once it is there, and how many there are.
MEMBERS = {"ready for work": 2, "pushing tasks": 1, "monitoring": 1}


class Cluster:
    """A real cluster of two workers on a store of its own."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.notes = site.folder / "notes"
        self.log = site.folder / "cluster.log"
        self._sender = site.python(_ENQUEUE)
        self.start()

    def start(self) -> None:
        self.log.unlink(missing_ok=True)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "workers"],
                env=self.site.environment(WORKERS="2"),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        # Who of them comes first is up to the machine.
        for role, count in MEMBERS.items():
            until(lambda role=role, count=count: len(self.pids(role)) == count)  # type: ignore[misc]

    def send(self, name: str, *args: object) -> None:
        """Enqueue a task of ``cluster_tasks`` and return once it is committed."""
        assert self._sender.stdin is not None
        assert self._sender.stdout is not None
        self._sender.stdin.write(" ".join([name, str(self.notes), *map(str, args)]) + "\n")
        self._sender.stdin.flush()
        assert self._sender.stdout.readline() == "sent\n"

    def said(self) -> list[str]:
        return self.notes.read_text().split("\n")[:-1] if self.notes.exists() else []

    def words(self) -> list[str]:
        return [line.split()[0] for line in self.said()]

    def carries_out(self, *words: str) -> None:
        """Pass once each of these words was said exactly once."""
        for word in words:
            self.send("say", word)
        until(lambda: set(words) <= set(self.words()))
        assert all(self.words().count(word) == 1 for word in words)

    def pids(self, role: str) -> list[int]:
        """Return the living members of which the log says this."""
        found = re.findall(rf"{role} at (\d+)", self.log.read_text())
        return [int(pid) for pid in found if int(pid) in self.members()]

    def members(self) -> set[int]:
        """Return every living process of the cluster."""
        found = set()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError, IndexError):
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                    if int(fields[3]) == self.process.pid and fields[0] not in "ZX":
                        found.add(int(entry.name))
        return found

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._sender.kill()
        self._sender.communicate()


@pytest.fixture(scope="module", params=[STORE])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    with new_site(request.param) as site:
        yield site


@pytest.fixture
def real(site: Site) -> Iterator[Cluster]:
    (site.folder / "notes").unlink(missing_ok=True)
    made = Cluster(site)
    yield made
    made.close()


def test_it_carries_out_what_was_sent_and_stops_when_asked(real: Cluster) -> None:
    real.carries_out("one", "two", "three")
    real.process.terminate()
    assert real.process.wait(60) == 0
    assert real.members() == set()


def test_idle_workers_are_known_by_their_names_until_they_are_gone(real: Cluster) -> None:
    def known() -> list[int]:
        """Return the processes that are known as workers."""
        names = real.site.run(_KNOWN).split()
        return sorted(int(name.split("-")[-2]) for name in names)

    until(lambda: known() == sorted(real.pids("ready for work")))
    real.process.terminate()
    assert real.process.wait(60) == 0
    assert known() == []


@pytest.mark.chaos
def test_killing_idle_workers_again_and_again_wedges_nothing(real: Cluster) -> None:
    for number in range(6):
        workers = real.pids("ready for work")
        os.kill(workers[number % 2], signal.SIGKILL)
        until(lambda w=workers: set(real.pids("ready for work")) - set(w))  # type: ignore[misc]
        real.carries_out(*(f"{number}.{n}" for n in range(3)))
    real.process.terminate()
    assert real.process.wait(60) == 0


@pytest.mark.chaos
def test_all_workers_ended_at_once_are_all_replaced(real: Cluster) -> None:
    ended = set(real.pids("ready for work"))
    for pid in ended:
        os.kill(pid, signal.SIGTERM)
    # What one of them takes while it ends is lost, as all that a worker had in hand.
    until(lambda: not ended & real.members())
    real.carries_out("one", "two", "three")
    until(lambda: len(set(real.pids("ready for work")) - ended) == 2)


@pytest.mark.chaos
def test_a_worker_killed_at_work_leaves_the_other_one_going(real: Cluster) -> None:
    real.send("hold", real.site.folder / "never")
    until(lambda: real.words() == ["began"])
    os.kill(int(real.said()[0].split()[1]), signal.SIGKILL)
    real.carries_out("one", "two", "three")
    assert real.words().count("began") == 1, "a nudge is not repeated by the queue"


@pytest.mark.chaos
@pytest.mark.parametrize("role", ["pushing tasks", "monitoring"])
def test_pusher_and_monitor_are_replaced(real: Cluster, role: str) -> None:
    (pid,) = real.pids(role)
    os.kill(pid, signal.SIGKILL)
    real.carries_out("one", "two", "three")
    until(lambda: set(real.pids(role)) - {pid})


@pytest.mark.chaos
@pytest.mark.parametrize("who", ["main", "sentinel"])
def test_without_its_head_no_member_lives_on(real: Cluster, who: str) -> None:
    head = real.process.pid
    if who == "sentinel":
        children = Path(f"/proc/{head}/task/{head}/children").read_text().split()
        head = int(children[0])
    os.kill(head, signal.SIGKILL)
    until(lambda: not real.members())
    assert real.process.wait(60) != 0
    # And the next cluster is not disturbed by what the first one left in the table.
    real.start()
    real.carries_out("after")


def test_nothing_waits_behind_busy_workers(real: Cluster) -> None:
    go = real.site.folder / "go"
    go.unlink(missing_ok=True)
    for _ in range(2):
        real.send("hold", go)
    until(lambda: real.words() == ["began", "began"])
    real.send("say", "later")
    time.sleep(0.5)
    # It lies in the table, unlocked: any other host may take it.
    code = (
        "import django; django.setup(); from django.utils import timezone\n"
        "from django_q.models import OrmQ\n"
        "print(OrmQ.objects.filter(lock__lte=timezone.now()).count())"
    )
    assert real.site.run(code) == "1"
    go.touch()
    until(lambda: "later" in real.words())


def test_workers_asked_to_stop_hand_over_at_once(real: Cluster) -> None:
    real.send("hold", real.site.folder / "never")
    until(lambda: real.words() == ["began"])
    began = time.monotonic()
    real.process.terminate()
    assert real.process.wait(60) == 0
    assert time.monotonic() - began < 20
    assert real.words() == ["began", "asked"]


# -- the watchdog --------------------------------------------------------------------------------


@pytest.fixture
def places() -> Places:
    made = Places(4)
    made.enter()
    return made


@pytest.mark.django_db
class TestWatchdog:
    def test_a_nudge_that_lies_beside_an_idle_worker_is_a_stall(self, places: Places) -> None:
        dog = Watchdog(places, TaskQueue())
        old = timezone.now() - timedelta(seconds=cluster.STALL_SECONDS + 1)
        OrmQ.objects.create(key="holdfast", payload="x", lock=old)
        assert not dog.stalled(100)
        assert not dog.stalled(100 + cluster.STALL_SECONDS - 1)
        assert dog.stalled(100 + cluster.STALL_SECONDS)

    def test_a_nudge_that_was_taken_after_all_is_none(self, places: Places) -> None:
        dog = Watchdog(places, TaskQueue())
        old = timezone.now() - timedelta(seconds=cluster.STALL_SECONDS + 1)
        row = OrmQ.objects.create(key="holdfast", payload="x", lock=old)
        assert not dog.stalled(100)
        row.delete()
        assert not dog.stalled(100 + cluster.STALL_SECONDS)
        OrmQ.objects.create(key="holdfast", payload="x", lock=old)
        assert not dog.stalled(200)

    def test_nudges_may_wait_while_everybody_works(self, places: Places) -> None:
        places.mark(True)
        old = timezone.now() - timedelta(hours=3)
        OrmQ.objects.create(key="holdfast", payload="x", lock=old)
        dog = Watchdog(places, TaskQueue())
        assert not dog.stalled(100)
        assert not dog.stalled(1000)

    def test_a_task_that_nobody_takes_from_the_pipe_is_a_stall(self, places: Places) -> None:
        tasks: Any = TaskQueue()
        tasks.put({"name": "x"})
        until(tasks.holds_messages)
        dog = Watchdog(places, tasks)
        assert not dog.stalled(100)
        assert dog.stalled(100 + cluster.STALL_SECONDS)
        tasks.get()


def test_places_count_the_living(places: Places) -> None:
    assert places.counted() == (1, 0)
    places.mark(True)
    assert places.counted() == (0, 1)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    places._pids[1] = gone.pid
    assert places.counted() == (0, 1)
