"""The command that starts everything: what it promises, and what is left when it is killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.runtime_site.installation import ROOT, Installation, installation, until

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")

PARTS = {"supervisor", "web", "workers", "sweep"}


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Installation]:
    with installation(tmp_path / "data") as made:
        yield made


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One that stays up, for tests that only look."""
    with installation(tmp_path_factory.mktemp("up") / "data", WORKERS="2") as made:
        made.until_ready(made.start())  # from nothing, as the first start is
        until(lambda: "Ctrl-C stops it" in made.said())
        until_complete(made)
        yield made


def until_complete(made: Installation) -> dict[str, int]:
    """Return the cluster's members once both workers and all others of the tree are there."""
    until(lambda: made.said().count("ready for work") == 2)
    until(lambda: set(made.processes().values()) == PARTS)
    return until(lambda: pool if len(pool := made.pool()) == 4 else {})


def sentence(said: str) -> str:
    """Return the one line that says why it did not start."""
    lines = [line for line in said.splitlines() if not line.startswith("holdfast: warning")]
    assert len(lines) == 1, said
    assert "Traceback" not in said
    return lines[0]


# -- starting ------------------------------------------------------------------------------------


def test_it_shows_where_it_is_and_a_link_that_signs_in_once(running: Installation) -> None:
    assert f"http://127.0.0.1:{running.port}" in running.said()
    opener = urllib.request.build_opener(NoRedirects())
    url = f"http://127.0.0.1:{running.port}{running.link()}"
    assert opener.open(url, timeout=60).status == 302
    assert opener.open(url, timeout=60).status == 403


def test_all_parts_run_and_each_says_its_name(running: Installation) -> None:
    assert set(running.processes().values()) == PARTS
    assert " workers info    django-q: " in running.said()


def test_a_second_start_on_the_same_folder_says_so(running: Installation) -> None:
    before = running.processes()
    status, said = running.fail(PORT="1")
    assert status == 1
    assert "already runs" in sentence(said)
    assert str(running.port) in sentence(said)
    assert running.processes() == before
    assert running.get("/readyz")[0] == 200


def test_a_taken_port_is_named(fresh: Installation) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        status, said = fresh.fail(PORT=port)
    assert status == 1
    assert f"Port {port}" in sentence(said)
    assert "set PORT" in sentence(said)


def test_an_address_of_another_machine_is_named(fresh: Installation) -> None:
    status, said = fresh.fail(HOST="192.0.2.1")
    assert status == 1
    assert "HOST=192.0.2.1" in sentence(said)


@pytest.mark.parametrize("extra", [{}, {"SECRET_KEY": "given-" * 10}])
def test_a_folder_that_can_not_be_used_is_named(tmp_path: Path, extra: dict[str, str]) -> None:
    (tmp_path / "file").touch()
    with installation(tmp_path / "file" / "data", **extra) as made:
        made.log = tmp_path / "log"
        status, said = made.fail()
    assert status == 1
    assert "can't be used" in sentence(said)


def test_debug_beyond_loopback_is_refused(fresh: Installation) -> None:
    status, said = fresh.fail(HOST="0.0.0.0", DEBUG="1")
    assert status == 1
    assert "DEBUG=1" in sentence(said)


def test_an_older_python_is_told_which_one_it_needs() -> None:
    code = (
        "import sys, runpy; sys.version_info = (3, 9, 2, 'final', 0);"
        "runpy.run_path('manage.py', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "holdfast: this is Python 3.9; Holdfast needs Python 3.11 or newer.\n"


def test_a_database_that_is_none_is_named(fresh: Installation) -> None:
    fresh.folder.mkdir()
    (fresh.folder / "holdfast.sqlite3").write_bytes(b"something else entirely\n" * 100)
    status, said = fresh.fail()
    assert status == 1
    assert "holdfast.sqlite3" in sentence(said)


def test_a_database_server_that_is_away_is_named(fresh: Installation) -> None:
    status, said = fresh.fail(DATABASE_URL="postgresql://nobody@127.0.0.1:1/nothing")
    assert status == 1
    assert "127.0.0.1" in sentence(said)


def test_a_newer_schema_is_refused(fresh: Installation) -> None:
    process = fresh.started(WORKERS="0")
    process.terminate()
    assert process.wait(60) == 0
    with sqlite3.connect(fresh.folder / "holdfast.sqlite3") as db:
        db.execute(
            "INSERT INTO django_migrations (app, name, applied)"
            " VALUES ('boards', '9999_from_the_future', '2030-01-01')"
        )
    db.close()
    status, said = fresh.fail()
    assert status == 1
    assert "boards.9999_from_the_future" in sentence(said)


def test_an_extra_host_does_not_run_on_a_store_without_a_schema(fresh: Installation) -> None:
    fresh.folder.mkdir()
    status, said = fresh.fail("--workers-only")
    assert status == 1
    assert "older schema" in sentence(said)


def test_more_web_processes_may_run_beside_it(running: Installation) -> None:
    port = str(running.port)
    second = Installation(running.folder)
    second.log = running.folder.parent / "second.log"
    try:
        process = second.started("--web-only")
        assert str(second.port) != port
        process.terminate()
        assert process.wait(60) == 0
        assert running.get("/readyz")[0] == 200
    finally:
        for started in second._started:
            started.kill()


# -- ending --------------------------------------------------------------------------------------


@pytest.mark.chaos
@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_ends_everything_within_ten_seconds(
    fresh: Installation, asked: signal.Signals
) -> None:
    process = fresh.started()
    began = time.monotonic()
    process.send_signal(asked)
    assert process.wait(60) == 0
    assert time.monotonic() - began < 40  # ten, and what a busy machine adds
    assert fresh.processes() == {}


@pytest.mark.chaos
def test_ctrl_c_in_the_terminal_ends_everything(fresh: Installation) -> None:
    process = fresh.started()
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == 0
    assert fresh.processes() == {}
    assert "Traceback" not in fresh.said()


@pytest.mark.chaos
def test_a_part_that_ignores_the_request_is_made_to_end(fresh: Installation) -> None:
    process = fresh.started()
    os.kill(until(lambda: fresh.pids("sweep"))[0], signal.SIGSTOP)
    began = time.monotonic()
    process.terminate()
    assert process.wait(60) == 0
    assert time.monotonic() - began < 40  # ten, and what a busy machine adds
    assert fresh.processes() == {}


@pytest.mark.chaos
def test_the_supervisor_killed_leaves_no_process_and_a_new_start_works(
    fresh: Installation,
) -> None:
    process = fresh.started()
    process.kill()
    process.wait()
    until(lambda: not fresh.processes())
    fresh.started()


# -- going on ------------------------------------------------------------------------------------


@pytest.mark.chaos
@pytest.mark.parametrize("part", ["web", "sweep", "workers"])
def test_a_part_that_is_killed_is_started_again(fresh: Installation, part: str) -> None:
    process = fresh.started()
    until_complete(fresh)
    leader, before = fresh.pids(part)[0], set(fresh.pids(part))
    os.kill(leader, signal.SIGKILL)
    until(lambda: fresh.pids(part) and leader not in fresh.pids(part))
    until(lambda: not before & set(fresh.pids(part)))  # what it left behind goes as well
    fresh.until_ready(process)
    until(lambda: set(fresh.processes().values()) == PARTS)


@pytest.mark.chaos
@pytest.mark.parametrize("member", ["sentinel", "worker", "pusher", "monitor"])
def test_a_member_of_the_cluster_that_is_killed_is_replaced(
    fresh: Installation, member: str
) -> None:
    process = fresh.started()
    pool = until_complete(fresh)  # all of them, before they are counted
    size = len(fresh.pids("workers"))
    os.kill(pool[member], signal.SIGKILL)
    until(lambda: pool[member] not in fresh.processes())
    until(lambda: len(fresh.pids("workers")) == size)
    fresh.until_ready(process)
    process.terminate()
    assert process.wait(60) == 0
    assert fresh.processes() == {}


def supervise(parts: list[tuple[str, list[str]]]) -> subprocess.CompletedProcess[str]:
    """Run a supervisor over quick parts until it ends."""
    code = (
        "import json, sys; from runtime_site.supervisor import Part, Supervisor\n"
        "parts = [Part(*one, [], pause=0.005) for one in json.loads(sys.argv[1])]\n"
        "sys.exit(Supervisor(parts, '', None).run())"
    )
    return subprocess.run(
        [sys.executable, "-c", code, json.dumps(parts)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.chaos
def test_a_part_that_never_comes_up_ends_it_with_a_sentence() -> None:
    done = supervise(
        [
            ("well", [sys.executable, "-c", "import time; time.sleep(600)"]),
            ("ill", [sys.executable, "-c", "raise SystemExit(3)"]),
        ]
    )
    assert done.returncode == 1
    assert "the part ill does not come up (exit status 3)" in done.stderr


@pytest.mark.chaos
def test_a_part_that_is_killed_from_outside_is_never_given_up(tmp_path: Path) -> None:
    times = tmp_path / "times"
    shot = f"echo x >> {times}; [ $(wc -l < {times}) -gt 5 ] && exit 3; kill -KILL $$"
    done = supervise([("shot", ["/bin/sh", "-c", shot])])
    assert done.stderr.count("(SIGKILL)") == 5
    assert "the part shot does not come up (exit status 3)" in done.stderr


@pytest.mark.chaos
def test_what_a_part_left_behind_ends_with_the_supervisor(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    daemon = f"setsid sleep 300 & echo $! > {note}; wait"
    code = (
        "import sys; from runtime_site.supervisor import Part, Supervisor\n"
        "sys.exit(Supervisor([Part('x', ['/bin/sh', '-c', sys.argv[1]])], '', None).run())"
    )
    process = subprocess.Popen([sys.executable, "-c", code, daemon], cwd=ROOT)
    pid = int(until(lambda: note.exists() and note.read_text().strip()))
    process.terminate()
    assert process.wait(60) == 0
    assert not Path(f"/proc/{pid}").exists()


class NoRedirects(urllib.request.HTTPErrorProcessor):
    """Gives every answer as it is."""

    def http_response(self, request: Any, response: Any) -> Any:
        return response
