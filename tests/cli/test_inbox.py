"""What waits for a person, at the terminal."""

from __future__ import annotations

from tests.cli.conftest import Desk

_TOLD = """
import django
django.setup()
from boards.notices import raising
raising.tick()
"""


def test_what_waits_is_listed_until_it_is_answered(desk: Desk) -> None:
    assert "Nothing waits" in desk("inbox", status=3).output
    key = desk.json("card", "add", "Write the parser", "--start")["key"]
    grant = desk.site.call(
        "POST", "/api/v1/claims", {"worker": "ada", "card": key}, token=desk.token
    ).body
    lease = {"Lease-Token": grant["lease"]["token"]}
    block = f"/api/v1/attempts/{grant['attempt']['id']}/block"
    body = {"reason": "unsure", "question": "Which \x1b[31mway?"}
    assert desk.site.call("POST", block, body, token=desk.token, headers=lease).status == 200
    desk.site.run(_TOLD)
    listed = desk("inbox", "--kind", "question").stdout
    assert key in listed
    assert "way?" in listed
    assert "\x1b[31m" not in listed
    (found,) = desk.json("inbox")
    assert (found["card"], found["kind"]) == (key, "question")
    desk("inbox", "--kind", "review", status=3)
    desk("answer", key, "Left")
    desk("inbox", status=3)
