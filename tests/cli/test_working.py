"""A script as a worker: claim, steps, ends; and the loop that runs a command for each card."""

from __future__ import annotations

import os
import shlex
import signal
import sys

import pytest

from holdfast.cli.exits import Exit
from tests.processes import carrying, odd_sleep
from tests.serving import until


def python(code: str) -> list[str]:
    return ["--", sys.executable, "-c", code]


def test_claim_prints_what_makes_a_shell_speak_for_the_attempt(desk):
    card = desk.card()
    lines = desk("claim", "--shell").stdout.splitlines()
    told = dict(shlex.split(line)[1].split("=", 1) for line in lines)
    assert set(told) == {"HOLDFAST_ATTEMPT", "HOLDFAST_LEASE", "HOLDFAST_CARD"}
    assert told["HOLDFAST_CARD"] == card
    assert desk("heartbeat", **told).stdout == "continue\n"


@pytest.mark.parametrize(
    ("words", "status"),
    [((), Exit.NOTHING), (("--card", "NO-1"), Exit.NOT_FOUND), (("--lease", "x"), Exit.USAGE)],
)
def test_a_refused_claim_ends_the_eval_with_its_status(desk, words, status):
    printed = desk("claim", "--shell", *words, status=status).stdout
    with desk.spawn(
        ["sh", "-c", f"HOLDFAST_LEASE=old; eval {shlex.quote(printed)} || exit"]
    ) as ran:
        assert ran.wait(60) == status
        ran.communicate()
    assert "unset HOLDFAST_ATTEMPT HOLDFAST_LEASE" in printed


def test_everything_a_worker_says_arrives(desk):
    goal = desk.json("goal", "add", "Ship", "--criterion", "It is shipped.")["id"]
    card = desk.card(goal=goal)
    told = desk.claimed("--card", card, "--worker", "sh-1")
    desk("heartbeat", "--note", "packing", "--percent", "40", **told)
    attempt = desk.get(f"/cards/{card}")["attempt"]
    assert (attempt["note"], attempt["percent"], attempt["worker"]) == ("packing", 40, "sh-1")
    saved = desk.json(
        "checkpoint",
        "Half.",
        "--next",
        "Rest.",
        "--state",
        '{"n": 3}',
        "--tests",
        '{"passed": 2}',
        **told,
    )
    assert (saved["number"], saved["state"], saved["tests"]["passed"]) == (1, {"n": 3}, 2)
    desk("log", "one line", **told)
    desk("log", input="from a pipe\n", **told)
    desk("approach", "Pack it by hand", "--differs", "no tool this time", **told)
    desk("decide", "Use tar", "It is there.", "--alternative", "zip", **told)
    desk("discover", "fact", "Disks are full", "--severity", "high", **told)
    desk("propose", "Buy disks", "--label", "ops", **told)
    assert [d["title"] for d in desk.get(f"/goals/{goal}/decisions")["results"]] == ["Use tar"]
    assert [d["severity"] for d in desk.get(f"/goals/{goal}/discoveries")["results"]] == ["high"]
    assert [c["title"] for c in desk.json("card", "list", "--label", "ops")] == ["Buy disks"]
    done = desk.json("complete", "Shipped.", "--result", "[1]", "--met", "It is shipped.", **told)
    assert done["attempt"]["result"] == [1]
    assert desk.get(f"/goals/{goal}")["criteria"][0]["met"] is True


@pytest.mark.parametrize(
    ("words", "state"),
    [
        (("fail", "No disk.", "--lesson", "Buy one.", "--final"), "blocked"),
        (("block", "Which?", "--question", "A or B?"), "blocked"),
        (("release", "Half.", "--next", "Rest."), "waiting"),
    ],
)
def test_an_attempt_ends_in_the_way_it_says(desk, words, state):
    card = desk.card()
    assert desk.json(*words, **desk.claimed())["card"]["state"] == state
    assert desk.get(f"/cards/{card}")["state"] == state


def test_a_heartbeat_hears_that_a_person_paused_the_card(desk):
    card = desk.card()
    told = desk.claimed()
    desk("message", card, "Mind the gap.")
    desk("card", "pause", card)
    heard = desk("heartbeat", status=Exit.ASKED_TO_STOP, **told).stdout
    assert heard.startswith("pause\n")
    assert "Mind the gap." in heard
    ran = desk("step", "run", "a", *python("print(1)"), status=Exit.ASKED_TO_STOP, **told)
    assert ran.stdout == ""
    assert desk.steps(card) == []


def test_a_step_is_begun_and_finished_once(desk):
    card = desk.card()
    told = desk.claimed()
    desk("step", "begin", "pack", **told)
    desk("step", "finish", "pack", "--result", '{"size": 3}', "--checkpoint", "Packed.", **told)
    assert desk.json("step", "begin", "pack", status=Exit.NOTHING, **told)["replay"] is True
    assert desk("step", "begin", "pack", status=Exit.NOTHING, **told).stdout.split() == [
        "{",
        '"size":',
        "3",
        "}",
    ]
    assert desk.get(f"/cards/{card}/checkpoints")["results"][0]["summary"] == "Packed."
    desk("step", "finish", "pack", "--failed", "no", "--result", "1", status=Exit.USAGE, **told)
    desk("step", "finish", "pack", "--result", "4", status=Exit.REFUSED, **told)


def test_a_command_that_is_recorded_is_not_run_again(desk):
    card = desk.card()
    told = desk.claimed()
    mark = desk.home / "mark"
    code = (
        f"open({str(mark)!r}, 'a').write('x'); print('größe 3'); import sys; sys.stderr.write('hm')"
    )
    first = desk("step", "run", "measure", "--checkpoint", "Measured.", *python(code), **told)
    assert (first.stdout, first.stderr) == ("größe 3\n", "hm")
    again = desk("step", "run", "measure", *python(code), **told)
    assert (again.stdout, again.stderr) == ("größe 3\n", "")
    assert mark.read_text() == "x"
    assert desk.steps(card) == [("measure", "succeeded")]
    assert desk.get(f"/cards/{card}/checkpoints")["results"][0]["summary"] == "Measured."


def test_bytes_come_back_as_they_were(desk):
    desk.card()
    told = desk.claimed()
    code = "import sys; sys.stdout.buffer.write(bytes(range(256)))"
    first = desk("step", "run", "bytes", *python(code), **told).stdout_bytes
    assert first == bytes(range(256))
    assert desk("step", "run", "bytes", *python(code), **told).stdout_bytes == first


def test_of_much_output_the_end_is_kept_and_that_is_said(desk):
    desk.card()
    told = desk.claimed()
    code = "print('a' * 300_000); print('end')"
    assert len(desk("step", "run", "much", *python(code), **told).stdout) > 300_000
    again = desk("step", "run", "much", *python(code), **told)
    assert len(again.stdout_bytes) == 128 * 1024
    assert again.stdout.endswith("a\nend\n")
    assert "only the end" in again.stderr


def test_a_command_that_fails_fails_its_step_with_its_last_words(desk):
    card = desk.card()
    told = desk.claimed()
    code = "import sys; print('on it'); sys.exit('disk full')"
    ran = desk("step", "run", "pack", *python(code), status=Exit.COMMAND_FAILED, **told)
    assert "exit status 1" in ran.stderr
    (step,) = desk.get(f"/cards/{card}/steps")["results"]
    assert step["status"] == "failed"
    assert "disk full" in step["error"]
    desk("step", "run", "pack", *python("1"), status=Exit.COMMAND_FAILED, **told)
    missing = desk("step", "run", "other", "--", "no-such-command", status=9, **told)
    assert "no-such-command" in missing.stderr


def test_a_step_in_doubt_is_run_again_or_left_to_be_looked_at(desk):
    card = desk.card()
    first = desk.claimed("--lease", "2")
    desk("step", "begin", "deploy", **first)
    desk("step", "begin", "notify", **first)
    desk("release", "Fell over.", **first)
    second = desk.claimed("--card", card)
    stop = ("step", "run", "deploy", "--in-doubt", "stop", *python("print('again')"))
    assert desk(*stop, status=Exit.IN_DOUBT, **second).stdout == ""
    desk("step", "begin", "notify", status=Exit.IN_DOUBT, **second)
    ran = desk("step", "run", "deploy", *python("print('again')"), **second)
    assert ran.stdout == "again\n"


def test_a_command_is_ended_when_the_lease_is_lost(desk):
    card = desk.card()
    told = desk.claimed("--lease", "2")
    mark = desk.home / "late"
    code = f"import time; print('up', flush=True); time.sleep(600); open({str(mark)!r}, 'w')"
    with desk.start("step", "run", "slow", *python(code), **told) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        desk("card", "cancel", card)
        assert process.wait(60) == Exit.LEASE_LOST
        process.communicate()
    assert not mark.exists()


def test_work_completes_a_card_with_the_last_line_of_its_command(desk):
    card = desk.card(description="Mind the gap.")
    code = "import sys; told = sys.stdin.read(); print('Mind the gap.' in told); print('Did it.')"
    desk("work", "--once", "--worker", "w", *python(code))
    (attempt,) = desk.get(f"/cards/{card}/attempts")["results"]
    assert (attempt["status"], attempt["outcome"]) == ("succeeded", "Did it.")
    desk("work", "--once", *python(code), status=Exit.NOTHING)


def test_work_fails_a_card_with_the_last_words_of_its_command(desk):
    card = desk.card(max_attempts=1)
    code = "import sys; sys.exit('disk full')"
    desk("work", "--card", card, *python(code), status=Exit.COMMAND_FAILED)
    (attempt,) = desk.get(f"/cards/{card}/attempts")["results"]
    assert attempt["status"] == "failed"
    assert attempt["error"] == "exit status 1\ndisk full"


def test_a_command_of_work_may_end_the_attempt_itself(desk):
    card = desk.card()
    ends = (
        "import subprocess, sys; subprocess.run([sys.executable, '-m', 'holdfast', {!r}, 'Later.'])"
    )
    told = {"PYTHONPATH": os.getcwd()}
    for verb, state in (("release", "waiting"), ("complete", "completed")):
        desk(
            "work",
            "--card",
            card,
            *python(ends.format(verb)),
            status=9 * (verb == "release"),
            **told,
        )
        assert desk.get(f"/cards/{card}")["state"] == state


def test_work_stops_its_command_when_a_person_pauses_the_card(desk):
    card = desk.card()
    with desk.start("work", "--once", "--lease", "2", "--", "sleep", "600") as process:
        until(lambda: desk.get(f"/cards/{card}")["state"] == "running")
        desk("card", "pause", card)
        assert process.wait(60) == Exit.ASKED_TO_STOP
        process.communicate()
    (attempt,) = desk.get(f"/cards/{card}/attempts")["results"]
    assert attempt["status"] == "released"


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, Exit.TERMINATED), (signal.SIGINT, Exit.INTERRUPTED)]
)
def test_work_hands_its_card_over_when_it_is_told_to_end(desk, number, status):
    card = desk.card()
    begun = desk.home / "begun"
    with desk.start("work", "--lease", "30", "--", "sh", "-c", "> begun; sleep 600") as process:
        until(begun.exists)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == status, err
    assert b"Traceback" not in err
    (attempt,) = desk.get(f"/cards/{card}/attempts")["results"]
    assert attempt["status"] == "released"


@pytest.mark.chaos
def test_a_command_goes_with_the_worker_that_is_killed(desk):
    desk.card()
    told = desk.claimed()
    word = odd_sleep()
    nested = f"sleep {word} & sh -c 'sleep {word}; true'"
    with desk.start("step", "run", "slow", "--", "sh", "-c", nested, **told) as process:
        until(lambda: len(carrying(word)) >= 4)
        process.kill()
        process.communicate()
    until(lambda: not carrying(word))


SCRIPT = """
eval "$($HOLDFAST claim --card "$1" --worker "$2" --lease 2 --wait 60 --shell)" || exit
one=$($HOLDFAST step run one -- sh -c 'echo one >> log; echo first') || exit
$HOLDFAST step run two --checkpoint 'Two is done.' -- sh -c 'echo two >> log' || exit
echo "got $one"
$HOLDFAST step run three -- sh -c 'echo three >> log; test -e go || sleep 600' || exit
$HOLDFAST complete 'All three.'
"""


@pytest.mark.chaos
def test_a_script_that_is_killed_is_gone_on_with_by_another(desk):
    card = desk.card()
    log = desk.home / "log"
    with desk.spawn(["sh", "-c", SCRIPT, "sh", card, "first"]) as killed:
        until(lambda: log.exists() and "three" in log.read_text())
        os.killpg(killed.pid, signal.SIGKILL)
        killed.communicate()
    (desk.home / "go").touch()
    with desk.spawn(["sh", "-c", SCRIPT, "sh", card, "second"]) as second:
        out, err = second.communicate(timeout=180)
    assert second.returncode == 0, err
    assert b"got first" in out
    assert b"step three is in doubt" in err
    assert log.read_text().split() == ["one", "two", "three", "three"]
    attempts = desk.get(f"/cards/{card}/attempts")["results"]
    assert [(a["worker"], a["status"]) for a in attempts] == [
        ("second", "succeeded"),
        ("first", "expired"),
    ]
    assert attempts[0]["resumed_from"] == 1
