"""Workers and servers that are killed, told to end, and forked."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import holdfast
from tests import serving
from tests.client.desk import Desk, new_desk
from tests.serving import until

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
CLIENT = (ROOT / "docs" / "client.md").read_text()


@pytest.fixture
def start(tmp_path: Path, desk: Desk) -> Iterator[object]:
    """Start a worker's source in a process of its own."""
    started: list[subprocess.Popen[str]] = []

    def go(source: str, desk: Desk = desk) -> subprocess.Popen[str]:
        (tmp_path / "worker.py").write_text(textwrap.dedent(source))
        process = subprocess.Popen(
            [sys.executable, "worker.py"],
            cwd=tmp_path,
            env={
                **os.environ,
                "HOLDFAST_URL": desk.url,
                "HOLDFAST_TOKEN": desk.token,
                "BOARD": desk.board,
                "PYTHONPATH": str(ROOT),
                "PYTHONUNBUFFERED": "1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield go
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def said(process: subprocess.Popen[str], seconds: float = 120) -> str:
    """Return what the process said until it ended."""
    out, _ = process.communicate(timeout=seconds)
    return out


@pytest.mark.chaos
def test_the_worker_of_the_readme_survives_kill_9(desk: Desk, start, tmp_path: Path):
    (source,) = re.findall(r"```python\n(# worker\.py.*?)```", README, re.DOTALL)
    assert len(source.splitlines()) <= 20
    (making,) = re.findall(r"python -c '(from holdfast.*?)'\n", README, re.DOTALL)
    desk = dataclasses.replace(desk, token=desk.site.token)
    maker = start(making, desk)
    assert maker.wait(60) == 0, said(maker)
    key = "COUNT-1"

    worker = start(source, desk)
    until(lambda: [status for _, status in desk.steps(key)] == ["succeeded"] * 2 + ["started"])
    worker.kill()
    worker.wait()
    before = Counter((tmp_path / "counted.txt").read_text().splitlines())
    recorded = [key for key, status in desk.steps(key) if status == "succeeded"]
    assert len(recorded) >= 2
    again = start(source, desk)
    until(lambda: desk.get(f"/cards/{key}")["state"] == "completed", 180)
    again.terminate()
    assert again.wait(60) == 0, said(again)

    counted = Counter((tmp_path / "counted.txt").read_text().splitlines())
    assert set(counted) == {f"part {n}" for n in range(1, 9)}
    for part in list(before)[: len(recorded)]:
        assert counted[part] == 1
    assert sum(counted.values()) - 8 <= 1  # the one that was cut off, if it was that far
    assert [status for _, status in desk.steps(key)] == ["succeeded"] * 8
    attempts = desk.attempts(key)
    assert [a["status"] for a in attempts] == ["succeeded", "expired"]
    steps = desk.get(f"/cards/{key}/steps")["results"]
    assert Counter(s["attempt"] for s in steps if s["status"] == "succeeded") == {
        attempts[1]["id"]: len(recorded),
        attempts[0]["id"]: 8 - len(recorded),
    }
    (point,) = desk.get(f"/cards/{key}/checkpoints")["results"]
    assert point["state"] == [n * n for n in range(1, 9)]


STEADY = """
    import time, holdfast
    with holdfast.Client() as client:
        for attempt in client.work("steady", lease_seconds=30, wait_seconds=1):
            with attempt:
                for n in range(600):
                    attempt.step(f"s-{n}", time.sleep, 0.1)
                attempt.complete("done")
    print("left in good order")
"""


ASYNC_STEADY = """
    import asyncio, holdfast
    async def main():
        async with holdfast.AsyncClient() as client:
            async for attempt in client.work("steady", lease_seconds=30, wait_seconds=1):
                async with attempt:
                    for n in range(600):
                        await attempt.step(f"s-{n}", asyncio.sleep, 0.1)
                    await attempt.complete("done")
    asyncio.run(main())
    print("left in good order")
"""


@pytest.mark.chaos
@pytest.mark.parametrize("source", [STEADY, ASYNC_STEADY], ids=["sync", "async"])
def test_sigterm_hands_the_card_over_and_ends_the_loop(desk: Desk, start, source: str):
    key = desk.card()
    worker = start(source)
    until(lambda: len(desk.steps(key)) > 2)
    worker.terminate()
    out = said(worker)
    assert worker.returncode == 0, out
    assert out == "left in good order\n"
    (attempt,) = desk.attempts(key)
    assert attempt["status"] == "released"
    assert all(status == "succeeded" for _, status in desk.steps(key))
    assert "asked to end before step" in desk.get(f"/cards/{key}/briefing")["markdown"]
    with desk.client() as client:  # at once
        assert client.claim(worker="next", card=key)


@pytest.mark.chaos
def test_ctrl_c_releases_and_leaves_the_step_in_doubt(desk: Desk, start):
    key = desk.card()
    worker = start(
        """
        import time, holdfast
        with holdfast.Client() as client:
            with client.claim(worker="hasty") as attempt:
                attempt.step("long", time.sleep, 600)
        """
    )
    until(lambda: desk.steps(key) == [("long", "started")])
    worker.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in said(worker)
    assert desk.attempts(key)[0]["status"] == "released"
    with desk.client() as client:
        attempt = client.claim(worker="next", card=key)
        assert attempt is not None
        assert attempt.in_doubt == ["long"]


@pytest.mark.chaos
def test_forked_children_end_nothing_and_no_exit_hangs(desk: Desk, start):
    key = desk.card()
    worker = start(
        """
        import os, sys, threading, time, holdfast
        client = holdfast.Client()
        attempt = client.claim(worker="forker", lease_seconds=2)
        with attempt:
            time.sleep(1)
            if (child := os.fork()) == 0:
                for n in range(40):
                    assert "last" in attempt.log(f"from the child {n}")
                sys.exit(7)                      # through the block
            for n in range(40):                  # on a socket of its own
                assert attempt.step(f"mine-{n}", lambda: n) == n
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
            attempt.step("mine", lambda: 1)
            attempt.complete("done")
        board = os.environ["BOARD"]
        client.post("/cards", {"board": board, "title": "2", "column": "in_progress"})
        client.claim(worker="forker", lease_seconds=2).__enter__()   # never left
        print("the end")
        """
    )
    out = said(worker)
    # A heartbeat may have had to say that it was not answered in time.
    assert (worker.returncode, out.splitlines()[-1:]) == (0, ["the end"]), out
    assert "Traceback" not in out
    assert [a["status"] for a in desk.attempts(key)] == ["succeeded"]


@pytest.mark.chaos
@pytest.mark.parametrize("store", ["sqlite", serving.POSTGRESQL])
def test_a_server_that_is_killed_again_and_again_costs_nothing_and_doubles_nothing(store: str):
    with serving.new_site(store) as site:
        web = site.serve()
        desk = new_desk(site)
        key = desk.card()
        port, ran, stop = web.port, Counter[int](), threading.Event()

        def kill() -> None:
            for _ in range(3):
                time.sleep(0.7)
                site.web.kill()
                time.sleep(0.3)
                site.serve(port=port)
            stop.set()

        killer = threading.Thread(target=kill)
        done = 0
        with holdfast.Client(web.origin, desk.token, patience=120, timeout=20) as client:
            with client.claim(worker="ada", card=key, lease_seconds=60) as attempt:
                killer.start()
                while not stop.is_set() or done < 30:
                    attempt.step(f"s-{done}", ran.update, [done])
                    attempt.log(f"line {done}", stream="stdout")
                    client.post("/cards", {"board": desk.board, "title": f"card {done}"})
                    done += 1
                attempt.complete("done")
            killer.join()
            events = Counter(
                (event["kind"], event["data"].get("step"))
                for event in _all_events(client, desk.board)
            )
            titles = Counter(card["title"] for card in client.pages("/cards", board=desk.board))
        assert titles == dict.fromkeys(["a card", *(f"card {n}" for n in range(done))], 1)
        assert ran == dict.fromkeys(range(done), 1)
        for n in range(done):
            assert events["step.started", f"s-{n}"] == 1
            assert events["step.succeeded", f"s-{n}"] == 1
        assert len(desk.attempts(key)) == 1


def _all_events(client: holdfast.Client, board: str) -> Iterator[dict[str, object]]:
    last = client.get("/events", board=board, limit=1)["last_seq"]
    for event in client.events(board):
        yield event
        if event["seq"] == last:
            return


@pytest.mark.chaos
def test_events_go_on_without_a_gap_when_the_server_comes_back():
    with serving.new_site("sqlite") as site:
        web = site.serve()
        desk = new_desk(site)
        seen: list[int] = []
        with holdfast.Client(web.origin, desk.token) as client:
            following = client.events(desk.board, wait_seconds=2)
            seen.append(next(following)["seq"])
            desk.card()
            web.kill()
            starter = threading.Timer(1, lambda: (site.serve(port=web.port), desk.card()))
            starter.start()
            seen += [next(following)["seq"] for _ in range(2)]
            starter.join()
        assert seen == [1, 2, 3]


def test_the_examples_of_the_docs_are_python_that_compiles():
    blocks = re.findall(r"```python\n(.*?)```", CLIENT, re.DOTALL)
    assert len(blocks) == 4
    for block in blocks:
        compile(f"async def example():\n{textwrap.indent(block, '    ')}", "client.md", "exec")
    table = CLIENT.split("| raised | when |")[1].split("\n\n")[0]
    for name in re.findall(r"`([A-Z]\w+)`", table):
        assert issubclass(getattr(holdfast, name), holdfast.Error)
