"""What an attempt printed, at the terminal."""

from __future__ import annotations

import json

from tests.cli.conftest import Desk


def printed(desk: Desk) -> str:
    """Return a card whose live attempt has printed 1,500 lines in one step and some in another."""
    key = desk.card("Run the tests")
    grant = desk.site.call(
        "POST", "/api/v1/claims", {"worker": "ada", "card": key}, token=desk.token
    ).body
    lease = {"Lease-Token": grant["lease"]["token"]}
    text = "".join(
        f"\x1b[31mFAI\x1b[0mLED {n}\n" if n % 500 == 0 else f"line {n}\n" for n in range(1, 1501)
    )
    for step, more in (("test", text), ("lint", " 10%\r100%\nno line feed")):
        body = {"step": step, "stream": "stdout", "text": more}
        path = f"/api/v1/attempts/{grant['attempt']['id']}/log"
        assert desk.site.call("POST", path, body, token=desk.token, headers=lease).status == 201
    return key


def test_a_log_is_read_by_lines_searched_and_taken_whole(desk: Desk) -> None:
    key = printed(desk)
    last = desk("card", "log", key).stdout.splitlines()
    assert len(last) == 200
    assert last[-2:] == ["100%", "no line feed"]
    assert len(desk("card", "log", key, "--all").stdout.splitlines()) == 1502
    some = desk("card", "log", key, "--step", "test", "--line", "499", "--lines", "2", "-n").stdout
    assert some == "   499  line 499\n   500  FAILED 500\n"
    found = desk("card", "log", key, "--search", "failed").stdout.splitlines()
    assert found == ["   500  FAILED 500", "  1000  FAILED 1000", "  1500  FAILED 1500"]
    desk("card", "log", key, "--search", "failed", "--case", status=1)
    (one,) = desk("card", "log", key, "--line", "1502", "--json").stdout.splitlines()
    assert json.loads(one)["step"] == "lint"
    raw = desk("card", "log", key, "--step", "lint", "--raw").stdout_bytes
    assert raw == b" 10%\r100%\nno line feed"
    assert "no attempt 7" in desk("card", "log", key, "--attempt", "7", status=8).output
    other = desk.card("Nobody has begun it")
    assert "Nobody has worked" in desk("card", "log", other, status=8).output


def test_following_ends_with_the_attempt(desk: Desk) -> None:
    key = printed(desk)
    with desk.start("card", "log", key, "--lines", "2", "--follow") as following:
        assert following.stdout is not None
        assert following.stdout.readline() == b"100%\n"
        assert desk.site.call("POST", f"/api/v1/cards/{key}/cancel").status == 200
        rest, _ = following.communicate(timeout=60)
    assert rest == b"no line feed\n"
    assert following.returncode == 0
