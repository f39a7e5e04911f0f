"""Search finds the same by every door, and by each only what one may see."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.test import Client

from boards.models import Board, Membership
from goals import memory
from goals.search import keeping
from kernel.access import Role
from tests.factories import (
    claimed,
    make_board,
    make_card,
    make_checkpoint,
    make_goal,
    make_step,
    make_token,
    make_user,
)

pytestmark = pytest.mark.django_db


def remembered(key: str) -> Board:
    """Return a board that remembers a walrus in every way."""
    board = make_board(key=key)
    goal = make_goal(board)
    attempt = claimed(make_card(board, goal=goal, title=f"walrus card {key}"))
    make_step(attempt, "look", title=f"walrus step {key}", result={"output": "tusks"})
    make_checkpoint(attempt, summary=f"walrus checkpoint {key}")
    where = (board.pk, goal.pk, "user:ann")
    memory.decide(*where, title=f"walrus decision {key}")
    memory.discover(*where, kind="dead_end", title=f"walrus dead end {key}")
    return board


def by_rest(token: str, text: str) -> list[str]:
    client = Client(headers={"Authorization": f"Bearer {token}"})
    found = client.get("/api/v1/search", {"q": text}).json()
    assert found["count"] == len(found["results"])
    return sorted(one["url"] for one in found["results"])


def by_mcp(token: str, text: str) -> list[str]:
    call = {"name": "search_history", "arguments": {"query": text, "limit": 50}}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
    told: Any = Client().post(
        "/mcp",
        body,
        content_type="application/json",
        headers={
            "Authorization": f"Bearer {token}",
            "Accept": "application/json, text/event-stream",
        },
    )
    result = json.loads(told.content)["result"]
    return sorted(one["title"] for one in result["structuredContent"]["results"])


def by_page(user: Any, text: str) -> tuple[list[str], str]:
    client = Client()
    client.force_login(user)
    page = client.get("/search", {"q": text}).text
    hrefs = re.findall(r'class="hit" href="([^"]+)"', page)
    (count,) = re.findall(r'role="status">([^<]*)<', page)
    return sorted(href.replace("&amp;", "&") for href in hrefs), count.strip()


@pytest.mark.parametrize("text", ["walrus", "walrus kind:decision", '"walrus step"', "walr*"])
def test_two_of_different_rights_find_their_own_by_every_door(text: str) -> None:
    boards = {key: remembered(key) for key in ("ONE", "TWO")}
    keeping.tick(30)
    found: dict[str, list[str]] = {}
    for name, sees in (("few", ["ONE"]), ("many", ["ONE", "TWO"])):
        token = make_token(name, {boards[key].pk: Role.VIEWER for key in sees})
        user = make_user(name)
        for key in sees:
            Membership.objects.create(board=boards[key], user=user, role=Role.VIEWER)
        rest, (page, count) = by_rest(token, text), by_page(user, text)
        titles = by_mcp(token, text)
        assert page == rest
        assert count == f"{len(rest)} found"
        assert len(titles) == len(rest)
        assert {title[-3:] for title in titles if title[-3:].isupper()} <= set(sees)
        found[name] = rest
    assert len(found["many"]) == 2 * len(found["few"]) > 0
    assert set(found["few"]) < set(found["many"])
