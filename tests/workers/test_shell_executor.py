from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.processes import carrying, odd_sleep
from workers.executors.shell import (
    Command,
    Execution,
    Limits,
    Result,
    ensure_dead,
    environment,
    mode,
)
from workers.executors.shell.mode import bubblewrap
from workers.executors.shell.output import Output
from workers.redaction import Redactor

ROOT = Path(__file__).resolve().parents[2]
#: Every way of running commands that this machine offers.
SANDBOXES = ["plain", *(["auto"] if bubblewrap() else [])]


class Heard:
    """Collects what a command prints."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, str]] = []

    def __call__(self, batch: Sequence[tuple[str, str]]) -> None:
        self.batches += batch

    def of(self, stream: str) -> str:
        return "".join(text for name, text in self.batches if name == stream)


def command(folder: Path, run: str, **terms: Any) -> Command:
    env = environment(home=folder, tmp=folder, extra=terms.pop("extra", {}))
    terms.setdefault("sandbox", "plain")
    return Command(run=run, cwd=folder, folder=folder, env=env, **terms)


def run(folder: Path, line: str, heard: Heard | None = None, **terms: Any) -> Result:
    return Execution(command(folder, line, **terms), heard or Heard()).run()


def wait_for(what: Any, seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.01)


@pytest.fixture
def word() -> Iterator[str]:
    """A sleep of a length that only this test uses; nothing of it may be left afterwards."""
    number = odd_sleep()
    yield number
    with contextlib.suppress(AssertionError):  # a keeper may be ending its command this moment
        wait_for(lambda: not carrying(number))
    left = carrying(number)
    for pid in left:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    assert not left


# ── output and outcome ──


@pytest.mark.parametrize("sandbox", SANDBOXES)
def test_a_command_ends_with_its_output_and_exit_code(tmp_path: Path, sandbox: str) -> None:
    heard = Heard()
    result = run(tmp_path, "echo out; echo err >&2; exit 3", heard, sandbox=sandbox)
    assert (result.exit_code, result.signal, result.succeeded) == (3, None, False)
    assert (heard.of("stdout"), heard.of("stderr")) == ("out\n", "err\n")
    assert set(result.output_tail.split()) == {"out", "err"}
    assert result.output_bytes == 8
    assert run(tmp_path, "true", sandbox=sandbox).succeeded
    assert list((tmp_path / "processes").iterdir()) == []


def test_a_command_ended_by_a_signal_says_which(tmp_path: Path) -> None:
    result = run(tmp_path, "kill -SEGV $$")
    assert (result.exit_code, result.signal) == (None, signal.SIGSEGV)


def test_output_arrives_while_the_command_runs(tmp_path: Path) -> None:
    heard = Heard()
    gate = tmp_path / "gate"
    execution = Execution(
        command(tmp_path, f"echo early; while [ ! -e {gate} ]; do sleep 0.02; done"),
        heard,
    )
    thread = threading.Thread(target=execution.run)
    thread.start()
    wait_for(lambda: heard.of("stdout") == "early\n")
    gate.touch()
    thread.join(60)
    assert not thread.is_alive()


def test_output_that_is_no_utf8_is_shown_as_far_as_it_is_text(tmp_path: Path) -> None:
    heard = Heard()
    run(tmp_path, r"printf 'a\377b\000c\342\202'; sleep 0.4; printf '\254 d\303'", heard)
    assert heard.of("stdout") == "a\ufffdb\ufffdc€ d\ufffd"


def test_a_missing_folder_or_shell_command_is_an_outcome_not_an_exception(
    tmp_path: Path,
) -> None:
    gone = Command(run="true", cwd=tmp_path / "gone", folder=tmp_path, sandbox="plain")
    result = Execution(gone, Heard()).run()
    assert result.exit_code == 126
    assert "could not be started" in result.output_tail
    assert run(tmp_path, "no-such-command-here").exit_code == 127
    lost = Command(run="true", cwd=tmp_path, folder=tmp_path / "lost", sandbox="plain")
    assert "could not be started" in (Execution(lost, Heard()).run().error or "")


def test_a_secret_never_reaches_the_callback_or_the_tail(tmp_path: Path) -> None:
    heard, redactor = Heard(), Redactor(["canary-4711-canary"])
    line = "printf canary-47; sleep 0.5; echo 11-canary"
    result = Execution(command(tmp_path, line), heard, new_filter=redactor.stream).run()
    assert heard.of("stdout") == "[redacted]\n"
    assert "4711" not in result.output_tail


def test_an_output_past_the_cap_keeps_its_end_and_says_what_is_missing() -> None:
    heard = Heard()
    output = Output(heard, cap_chars=100, tail_chars=50, flush_chars=10)
    for n in range(1000):
        output.feed("stdout", f"line {n}\n".encode())
    output.close()
    everything = "".join(text for _, text in heard.batches)
    assert everything.startswith("line 0\n")
    assert everything.endswith("line 999\n")
    assert len(heard.of("stdout")) == 150
    assert "characters of output were not stored" in heard.of("note")
    assert output.truncated
    assert len(output.tail()) == 50


def test_batches_are_bounded_in_time_and_size() -> None:
    heard = Heard()
    output = Output(heard, flush_seconds=3600, flush_chars=1000)
    for _ in range(999):
        output.feed("stdout", b"x")
    assert heard.batches == []
    output.feed("stdout", b"x")
    assert [len(text) for _, text in heard.batches] == [1000]


def test_a_flood_of_200_mb_is_drained_in_bounded_memory(tmp_path: Path) -> None:
    script = f"""
        import resource, sys
        sys.path.insert(0, {str(ROOT)!r})
        from pathlib import Path
        from workers.executors.shell import Command, Execution
        stored = 0
        def on_output(batch):
            global stored
            stored += sum(len(text) for _, text in batch)
        folder = Path({str(tmp_path)!r})
        line = "head -c 200000000 /dev/zero | tr '\\\\0' x; echo; echo the end"
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        command = Command(run=line, cwd=folder, folder=folder, env={{"PATH": "/usr/bin:/bin"}})
        result = Execution(command, on_output, cap_chars=2_000_000).run()
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        print(result.output_bytes, stored, grown // 1024, result.output_tail[-8:].strip())
    """
    shown = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout.split()
    assert int(shown[0]) == 200_000_009
    assert int(shown[1]) < 2_020_000
    assert int(shown[2]) < 60, f"grew by {shown[2]} MB"
    assert shown[3:] == ["the", "end"]


# ── terms ──


def test_the_environment_is_an_allowlist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    canary = "canary-of-the-server"
    for name in (
        "SECRET_KEY",
        "DATABASE_URL",
        "BOOTSTRAP_TOKEN",
        "AWS_PROFILE",
        "SSH_AUTH_SOCK",
    ):
        monkeypatch.setenv(name, canary)
    monkeypatch.setenv("LETTERS", "abc")
    heard = Heard()
    own = environment(home=tmp_path / "home", tmp=tmp_path, extra={"A": "1"}, also=["LETTERS"])
    Execution(
        Command(run="env; cat /proc/$PPID/environ", cwd=tmp_path, folder=tmp_path, env=own),
        heard,
    ).run()
    names = {line.partition("=")[0] for line in heard.of("stdout").splitlines() if "\0" not in line}
    assert {"PATH", "HOME", "TMPDIR", "LANG", "TERM", "A", "LETTERS"} <= names
    assert canary not in heard.of("stdout")
    assert f"HOME={tmp_path}/home\n" in heard.of("stdout")


def test_limits_hold_for_the_command(tmp_path: Path) -> None:
    limits = Limits(fsize=1024 * 1024)
    result = run(tmp_path, "ulimit -c; head -c 5000000 /dev/zero > big", limits=limits)
    assert not result.succeeded
    assert (tmp_path / "big").stat().st_size == 1024 * 1024
    assert result.output_tail.startswith("0\n")
    soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    assert soft != 1024 * 1024  # the worker's own are as they were


def test_a_command_reads_nothing_and_holds_no_descriptor_of_the_worker(
    tmp_path: Path,
) -> None:
    heard = Heard()
    with open(tmp_path / "held", "w") as held:
        os.set_inheritable(held.fileno(), True)
        run(tmp_path, "cat; ls /proc/self/fd | wc -l", heard)
    assert int(heard.of("stdout")) == 4  # the three, and the folder that ls reads


# ── endings ──


@pytest.mark.parametrize("sandbox", SANDBOXES)
def test_a_command_past_its_time_is_asked_then_killed(
    tmp_path: Path, word: str, sandbox: str
) -> None:
    heard = Heard()
    line = f"trap 'echo asked' TERM; (trap '' TERM; sleep {word}) & while :; do sleep 0.05; done"
    terms = {"timeout_seconds": 2, "grace_seconds": 0.5, "sandbox": sandbox}
    result = run(tmp_path, line, heard, **terms)
    assert (result.timed_out, result.cancelled, result.signal) == (
        True,
        False,
        signal.SIGKILL,
    )
    assert "asked" in heard.of("stdout")
    assert 2.5 <= result.duration_seconds < 60
    assert result.survivors == 0


def test_a_command_that_heeds_the_signal_ends_within_its_grace(tmp_path: Path) -> None:
    line = "trap 'echo tidied; exit 7' TERM; while :; do sleep 0.02; done"
    result = run(tmp_path, line, timeout_seconds=2, grace_seconds=120)
    assert (result.timed_out, result.exit_code) == (True, 7)
    assert result.duration_seconds < 60
    assert "tidied" in result.output_tail


@pytest.mark.parametrize("sandbox", SANDBOXES)
def test_nothing_in_the_background_outlives_its_command(
    tmp_path: Path, word: str, sandbox: str
) -> None:
    line = (
        f"sleep {word} & setsid sleep {word} & "
        f"nohup setsid sh -c '(sleep {word} &) ; sleep {word}' >/dev/null 2>&1 & "
        "sleep 0.3; echo done"
    )
    result = run(tmp_path, line, sandbox=sandbox)
    assert result.succeeded
    assert not carrying(word)


def test_a_fork_bomb_is_ended(tmp_path: Path, word: str) -> None:
    line = f"f() {{ sleep {word} & (f2 &) ; }}; f2() {{ sleep 0.02; f; }}; f; f; f; sleep {word}"
    result = run(tmp_path, line, timeout_seconds=1, grace_seconds=0)
    assert result.timed_out
    assert result.survivors == 0
    assert not carrying(word)


@pytest.mark.parametrize("at_once", [True, False])
def test_cancelling_from_another_thread_ends_the_command(
    tmp_path: Path, word: str, at_once: bool
) -> None:
    heard = Heard()
    line = f"trap '' TERM; setsid sleep {word} & echo up; sleep {word}"
    execution = Execution(command(tmp_path, line, grace_seconds=0.5), heard)
    results: list[Result] = []
    thread = threading.Thread(target=lambda: results.append(execution.run()))
    thread.start()
    wait_for(lambda: "up" in heard.of("stdout"))
    execution.cancel(at_once=at_once)
    execution.cancel(at_once=at_once)
    thread.join(60)
    (result,) = results
    assert (result.cancelled, result.timed_out, result.succeeded) == (
        True,
        False,
        False,
    )
    assert not carrying(word)


def test_a_command_cancelled_before_it_began_never_runs(tmp_path: Path) -> None:
    execution = Execution(command(tmp_path, "touch ran"), Heard())
    execution.cancel()
    assert execution.run().cancelled
    assert not (tmp_path / "ran").exists()


def test_a_callback_that_refuses_ends_the_command_and_is_heard(tmp_path: Path, word: str) -> None:
    class LeaseOver(Exception):
        pass

    def refuse(batch: Sequence[tuple[str, str]]) -> None:
        raise LeaseOver

    with pytest.raises(LeaseOver):
        Execution(command(tmp_path, f"echo x; setsid sleep {word}"), refuse).run()
    assert not carrying(word)
    assert list((tmp_path / "processes").iterdir()) == []


def test_a_stopped_command_is_ended_all_the_same(tmp_path: Path, word: str) -> None:
    line = f"sleep {word} & kill -STOP $!; kill -STOP $$"
    result = run(tmp_path, line, timeout_seconds=0.5, grace_seconds=0.2)
    assert result.timed_out
    assert not carrying(word)


@pytest.mark.parametrize("sandbox", SANDBOXES)
def test_a_command_that_kills_its_keeper_is_ended_too(
    tmp_path: Path, word: str, sandbox: str
) -> None:
    line = f"setsid sleep {word} & sleep {word} & kill -9 $PPID; sleep {word}"
    result = run(tmp_path, line, sandbox=sandbox)
    assert result.error
    assert not result.succeeded
    assert not carrying(word)


# ── the death of the worker ──

WORKER = """
    import os, sys
    sys.path.insert(0, {root!r})
    from pathlib import Path
    from workers.executors.shell import Command, Execution
    folder = Path({folder!r})
    command = Command(run={line!r}, cwd=folder, folder=folder,
                      env={{"PATH": os.environ["PATH"]}}, sandbox={sandbox!r})
    Execution(command, lambda batch: None).run()
"""


def start_worker(folder: Path, line: str, sandbox: str) -> subprocess.Popen[bytes]:
    source = WORKER.format(root=str(ROOT), folder=str(folder), line=line, sandbox=sandbox)
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(source)])


def keepers(worker: int) -> list[int]:
    children = Path(f"/proc/{worker}/task/{worker}/children").read_text().split()
    return [int(pid) for pid in children]


def naps(word: str) -> list[int]:
    """Return the processes that are just the sleep."""
    found = []
    for pid in carrying(word):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/cmdline").read_bytes() == f"sleep\0{word}\0".encode():
                found.append(pid)
    return found


STUBBORN = (
    "trap '' TERM HUP INT; setsid sh -c 'trap \"\" TERM; touch up; sleep {word}; :' & "
    "(sleep {word} &) ; sleep {word}"
)


@pytest.mark.chaos
@pytest.mark.parametrize("sandbox", SANDBOXES)
def test_a_command_never_outlives_its_killed_worker(
    tmp_path: Path, word: str, sandbox: str
) -> None:
    worker = start_worker(tmp_path, STUBBORN.format(word=word), sandbox)
    wait_for((tmp_path / "up").exists)
    worker.kill()
    worker.wait()
    wait_for(lambda: not carrying(word))


@pytest.mark.chaos
@pytest.mark.parametrize("delay", [0, 0.01, 0.02, 0.03, 0.05, 0.08])
def test_a_worker_killed_while_it_starts_a_command_leaves_nothing(
    tmp_path: Path, word: str, delay: float
) -> None:
    worker = start_worker(tmp_path, STUBBORN.format(word=word), "plain")
    wait_for(lambda: (tmp_path / "processes").exists())
    time.sleep(delay)
    worker.kill()
    worker.wait()
    wait_for(lambda: not carrying(word))


@pytest.mark.chaos
@pytest.mark.parametrize("sandbox", SANDBOXES)
def test_the_next_attempt_ends_what_a_killed_worker_and_keeper_left(
    tmp_path: Path, word: str, sandbox: str
) -> None:
    worker = start_worker(tmp_path, STUBBORN.format(word=word), sandbox)
    wait_for((tmp_path / "up").exists)
    for pid in [worker.pid, *keepers(worker.pid)]:
        os.kill(pid, signal.SIGSTOP)
    for pid in [*keepers(worker.pid), worker.pid]:
        os.kill(pid, signal.SIGKILL)
    worker.wait()
    if sandbox == "plain":
        assert carrying(word), "else this test shows nothing"
    ensure_dead(tmp_path)
    assert not carrying(word)
    assert ensure_dead(tmp_path) == 0


@pytest.mark.chaos
def test_a_stopped_worker_and_keeper_are_no_hindrance_to_the_next_attempt(
    tmp_path: Path, word: str
) -> None:
    worker = start_worker(tmp_path, STUBBORN.format(word=word), "plain")
    wait_for(lambda: len(naps(word)) == 3)
    stopped = [worker.pid, *keepers(worker.pid)]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    assert ensure_dead(tmp_path) >= 4
    assert carrying(word) == [worker.pid]
    os.kill(worker.pid, signal.SIGCONT)
    assert worker.wait(60) == 0  # it hears that its command is over, and goes on


def test_a_process_that_was_given_a_recorded_id_later_is_left_alone(
    tmp_path: Path,
) -> None:
    bystander = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        (tmp_path / "processes").mkdir()
        (tmp_path / "processes/x.json").write_text(
            json.dumps(
                {
                    "id": "x",
                    "boot": boot,
                    "leader": [bystander.pid, "1"],
                    "command": [bystander.pid, "1"],
                }
            )
        )
        (tmp_path / "processes/broken.json").write_text("{")
        assert ensure_dead(tmp_path) == 0
        assert bystander.poll() is None
        assert list((tmp_path / "processes").iterdir()) == []
    finally:
        bystander.kill()
        bystander.wait()


def test_the_mode_says_what_it_does_not_block() -> None:
    assert mode("plain").does_not_block
    assert mode().name in ("namespace", "subreaper", "group")


@pytest.mark.parametrize("sandbox", SANDBOXES)
def test_a_command_is_talked_to_line_by_line(tmp_path: Path, sandbox: str) -> None:
    ask = "while read -r line; do echo \"got $line\"; done; echo 'no more'"
    heard: list[str] = []

    def answer(line: Execution, stream: str, text: str) -> None:
        heard.append(text)
        if "got one" in text:
            line.send("two\n")
        if "got two" in text:
            line.hang_up(60)

    done = Execution(
        command(tmp_path, ask, sandbox=sandbox, opening="one\n"), Heard(), on_text=answer
    ).run()
    assert (done.exit_code, done.cancelled) == (0, False)
    assert "".join(heard) == "got one\ngot two\nno more\n"


def test_what_does_not_end_when_hung_up_on_is_ended(tmp_path: Path, word: str) -> None:
    def answer(line: Execution, stream: str, text: str) -> None:
        line.hang_up(0.1)

    run = f"echo hello; sleep {word}"
    done = Execution(command(tmp_path, run, opening=""), Heard(), on_text=answer).run()
    assert done.cancelled
    assert done.duration_seconds < 30


def test_who_listens_is_called_in_silence_too_and_may_end_it(tmp_path: Path, word: str) -> None:
    class Enough(Exception):
        pass

    calls: list[str] = []

    def answer(line: Execution, stream: str, text: str) -> None:
        calls.append(text)
        if len(calls) == 3:
            raise Enough

    quiet = command(tmp_path, f"sleep {word}")
    with pytest.raises(Enough):
        Execution(quiet, Heard(), on_text=answer, tick_seconds=0.05).run()
    assert calls == ["", "", ""]


def test_a_command_that_reads_nothing_blocks_nobody(tmp_path: Path) -> None:
    opening = "x" * 1_000_000
    done = Execution(command(tmp_path, "sleep 0.2; echo out", opening=opening), Heard()).run()
    assert (done.exit_code, done.output_tail) == (0, "out\n")


def test_a_listener_hears_what_is_past_the_cap(tmp_path: Path) -> None:
    heard, handed_on = [], Heard()
    line = "for n in 1 2 3 4 5 6 7 8 9; do echo $n$n$n$n$n$n$n$n; done"
    Execution(
        command(tmp_path, line),
        handed_on,
        on_text=lambda _, stream, text: heard.append(text),
        cap_chars=20,
        tail_chars=5,
    ).run()
    assert "".join(heard) == "".join(f"{n * 8}\n" for n in "123456789")
    assert len(handed_on.of("stdout")) < 30
