"""Lists come in pages that neither repeat nor skip, whatever happens meanwhile."""

from __future__ import annotations

import base64
import json

import pytest

from boards.models import Card
from tests.api.contract import Operation, operations
from tests.api.world import Answer, World, asking

LISTS = [o for o in operations() if "cursor" in o.query]


def read(world: World, operation: Operation, query: str = "") -> Answer:
    """Return what somebody reads who may read no more than this."""
    path = world.here.fill(operation)
    path = asking(path, query) if query else path
    if operation.under_a_lease:
        return world.member.get(path, lease=world.here.lease)
    return world.viewer.get(path)


def crawl(world: World, operation: Operation, limit: int) -> list[dict[str, object]]:
    found, cursor = [], ""
    while True:
        page = read(world, operation, f"limit={limit}{cursor}")
        assert page.status == 200
        assert len(page["results"]) <= limit
        found += page["results"]
        if page["next"] is None:
            return found
        assert len(page["results"]) == limit, "only the last page may be short"
        cursor = f"&cursor={page['next']}"


@pytest.mark.parametrize("operation", LISTS, ids=str)
def test_pages_add_up_to_the_whole_list(operation: Operation, world: World) -> None:
    whole = read(world, operation)["results"]
    assert whole, "the world holds some of everything"
    assert crawl(world, operation, 1) == whole
    assert crawl(world, operation, 2) == whole


def test_pages_are_stable_while_cards_come_and_go(world: World) -> None:
    before = [c["key"] for c in world.viewer.get("/cards?board=HERE")["results"]]
    first = world.viewer.get("/cards?board=HERE&limit=2")
    assert [c["key"] for c in first["results"]] == before[:2]
    world.member.post("/cards", {"board": "HERE", "title": "newer"})
    world.operator.delete(f"/cards/{before[1]}")  # the very card that the cursor points at
    rest = world.viewer.get(f"/cards?board=HERE&limit=50&cursor={first['next']}")
    assert [c["key"] for c in rest["results"]] == before[2:]


@pytest.mark.parametrize("operation", LISTS, ids=str)
@pytest.mark.parametrize("limit", ["0", "-1", "x", "1.5", "", "%C2%B2", "1e2", "9" * 30, "%00"])
def test_a_page_size_that_cant_be_is_refused(
    operation: Operation, limit: str, world: World
) -> None:
    refused = read(world, operation, f"limit={limit}")
    assert refused.refusal == (422, "invalid")
    assert "limit" in refused["errors"]


def test_a_page_has_50_rows_unless_told_and_200_at_most(world: World) -> None:
    board, column = world.here.board, world.here.columns["backlog"]
    Card.objects.bulk_create(
        Card(board=board, column=column, number=n, key=f"HERE-{n}", rank=n, title=str(n))
        for n in range(100, 330)
    )
    assert len(world.viewer.get("/cards")["results"]) == 50
    assert len(world.viewer.get("/cards?limit=200")["results"]) == 200
    assert len(world.viewer.get("/cards?limit=100000")["results"]) == 200


CURSORS = {
    "no base64": "%%%",
    "not JSON": base64.urlsafe_b64encode(b"{").decode(),
    "a list": base64.urlsafe_b64encode(b"[]").decode(),
    "null": base64.urlsafe_b64encode(b"null").decode(),
    "true": base64.urlsafe_b64encode(b"true").decode(),
    "a float": base64.urlsafe_b64encode(b"1.5").decode(),
    "past 64 bits": base64.urlsafe_b64encode(str(2**70).encode()).decode(),
    "NUL": base64.urlsafe_b64encode(json.dumps("\0").encode()).decode(),
    "half a pair": base64.urlsafe_b64encode(b'"\\ud800"').decode(),
    "digits no one can read": base64.urlsafe_b64encode(b"9" * 5000).decode(),
    "deep": base64.urlsafe_b64encode(b"[" * 3000).decode(),
    "long": base64.urlsafe_b64encode(json.dumps("x" * 5000).encode()).decode(),
}


@pytest.mark.parametrize("cursor", CURSORS.values(), ids=CURSORS)
@pytest.mark.parametrize("operation", LISTS, ids=str)
def test_a_cursor_that_no_list_gave_out_is_refused(
    operation: Operation, cursor: str, world: World
) -> None:
    refused = read(world, operation, f"cursor={cursor}")
    assert refused.refusal == (422, "invalid")
    assert "cursor" in refused["errors"]


def test_a_cursor_of_another_list_does_no_harm(world: World) -> None:
    of_cards = world.viewer.get("/cards?limit=1")["next"]
    of_steps = world.viewer.get(f"/cards/{world.here.cards['running'].key}/steps?limit=1")["next"]
    for operation in LISTS:
        for cursor in (of_cards, of_steps):
            assert read(world, operation, f"cursor={cursor}").status in (200, 422)


def test_a_stream_goes_on_after_an_event_and_nothing_else(world: World) -> None:
    for tag in ("x", "-1", "\xb2", "9" * 5000, "1.0"):
        refused = world.viewer.get(
            "/events?board=HERE", Accept="text/event-stream", Last_Event_ID=tag
        )
        assert refused.refusal == (422, "invalid"), tag
