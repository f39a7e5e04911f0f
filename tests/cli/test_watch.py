"""``holdfast watch`` in a pipe: every event once, in order, whatever the server goes through."""

from __future__ import annotations

import json
import signal

from holdfast.cli.exits import Exit


def ended(process) -> bytes:
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == Exit.INTERRUPTED
    assert b"Traceback" not in said
    return said


def test_it_begins_with_what_comes_next(desk):
    desk.card("before")
    with desk.start("watch", desk.board) as process:
        # The first line is there once it listens; until then, what happens is before.
        for n in range(100):
            desk.card(f"after {n}")
            if lines := _ready(process):
                break
        assert b"before" not in lines
        assert b"card.created" in lines
        ended(process)


def _ready(process) -> bytes:
    import select

    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], 0.3)
    return process.stdout.readline() if readable else b""


def test_every_event_comes_once_although_the_server_is_killed_and_started_anew(desk):
    first = desk.card("one")
    with desk.start("watch", desk.board, "--json", "--after", "0") as process:
        assert process.stdout is not None
        events = [json.loads(process.stdout.readline()) for _ in range(2)]
        web = desk.site.web
        web.kill()
        # Away for longer than a request has patience.
        assert process.stderr is not None
        assert b"Trying again" in process.stderr.readline()
        desk.site.serve(port=web.port)
        second = desk.card("two \x1b[2J")
        desk("card", "pause", first)
        while not events or events[-1]["data"].get("card") != second:
            line = process.stdout.readline()
            assert line.isascii()
            events.append(json.loads(line))
        ended(process)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    cards = [event["data"].get("card") for event in events if event["kind"] == "card.created"]
    assert cards == [first, second]


def test_a_line_says_who_did_what_to_which_card(desk):
    card = desk.card("Say so")
    told = desk.claimed("--worker", "ada")
    desk("step", "begin", "pack", **told)
    with desk.start("watch", desk.board, "--after", "0") as process:
        assert process.stdout is not None
        lines = []
        while not lines or b"step.started" not in lines[-1]:
            lines.append(process.stdout.readline())
        ended(process)
    assert f"{card} step.started pack worker:ada".encode() in lines[-1]
    assert any(f"{card} card.claimed running worker:ada".encode() in line for line in lines)


def test_it_ends_when_nobody_reads_on(desk):
    desk.card()
    with desk.start("watch", desk.board, "--after", "0") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.wait(60) == Exit.BROKEN_PIPE
        assert process.stderr.read() == b""


def test_a_board_that_is_not_there_is_said_at_once(desk):
    desk("watch", "NOBOARD", status=Exit.NOT_FOUND)
