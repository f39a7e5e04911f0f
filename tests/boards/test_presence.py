"""Who looks at a board: over several web processes, told only when it changes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from websockets.asyncio.client import ClientConnection, connect

from boards import presence
from boards.models import Presence
from tests.browser.conftest import viewer
from tests.factories import make_board, make_user
from tests.serving import Site, Web

# -- what is written and read ----------------------------------------------------------------


def here(board: UUID, user: Any, **fields: Any) -> Presence:
    fields.setdefault("page", str(uuid4()))
    return Presence(board_id=board, user_id=str(user.pk), **fields)


@pytest.mark.django_db
def test_fifty_pages_cost_no_more_statements_than_one():
    board, other = make_board().pk, make_board().pk
    people = [make_user() for _ in range(50)]
    counts = []
    for users in (people[:1], people):
        with CaptureQueriesContext(
            connection,
        ) as seen:
            beats = [here(board if n % 2 else other, user) for n, user in enumerate(users)]
            presence._exchange(beats, [], {board, other})
        counts.append(len(seen))
    assert counts[0] == counts[1] <= 5
    with CaptureQueriesContext(connection) as seen:
        found = presence._exchange([], [], {board, other})
    assert len(seen) == 1
    assert sum(len(viewers) for viewers in found.values()) == 50


@pytest.mark.django_db
def test_a_page_that_was_not_heard_of_counts_no_longer():
    board, ann, bob = make_board().pk, make_user("ann"), make_user("bob")
    long_ago = timezone.now() - timedelta(seconds=presence.KEPT_SECONDS + 1)
    here(board, ann, seen_at=long_ago).save()
    assert presence._exchange([], [], {board}) == {}
    found = presence._exchange([here(board, bob)], [], {board})
    assert [viewer["name"] for viewer in found[board]] == ["bob"]
    assert Presence.objects.count() == 1


@pytest.mark.django_db
def test_a_person_counts_once_with_all_cards_that_are_open():
    board, ann = make_board().pk, make_user("ann")
    one, two = uuid4(), uuid4()
    beats = [here(board, ann, card_id=card) for card in (one, two, two, None)]
    found = presence._exchange(beats, [], {board})
    assert [(v["name"], v["cards"]) for v in found[board]] == [("ann", [str(one), str(two)])]
    found = presence._exchange([], [beat.page for beat in beats[1:]], {board})
    assert [v["cards"] for v in found[board]] == [[str(one)]]


@pytest.mark.django_db(transaction=True)
def test_somebody_who_is_deleted_hides_nobody_else():
    board, ann, bob = make_board().pk, make_user("ann"), make_user("bob")
    beats = [here(board, ann), here(board, bob)]
    ann.delete()
    found = presence._exchange(beats, [], {board})
    assert [viewer["name"] for viewer in found[board]] == ["bob"]


# -- what is told ----------------------------------------------------------------------------


@asynccontextmanager
async def look(
    web: Web, board: str, query: str = "&presence=1", **headers: str
) -> AsyncIterator[ClientConnection]:
    async with connect(
        f"ws://127.0.0.1:{web.port}/ws/boards/{board}?after=0{query}",
        additional_headers={"Origin": web.origin, **headers},
        proxy=None,
        ping_interval=None,  # a test may be slow to read
    ) as opened:
        yield opened


async def told(live: ClientConnection, seconds: float = 60) -> Any:
    """Return who is there, as the socket says next."""
    async with asyncio.timeout(seconds):
        while True:
            frame = json.loads(await live.recv())
            if frame.get("type") == "presence":
                assert set(frame) == {"type", "me", "viewers"}
                return frame


def names(frame: Any) -> set[str]:
    return {viewer["name"] for viewer in frame["viewers"]}


async def until(live: ClientConnection, wanted: set[str]) -> Any:
    while names(frame := await told(live)) != wanted:
        pass
    return frame


async def test_people_on_two_processes_see_each_other(site: Site) -> None:
    board = site.new_board()["key"]
    eve = await asyncio.to_thread(viewer, site, board)
    here, there = site.web, await asyncio.to_thread(site.serve)
    try:
        async with look(here, board, Cookie=site.cookie) as ada_sees:
            assert names(await told(ada_sees)) == {"ada"}
            async with look(there, board, Cookie=eve) as eve_sees:
                both = {"ada", f"viewer-{board}"}
                await until(ada_sees, both)
                frame = await until(eve_sees, both)
                me = {viewer["id"]: viewer["name"] for viewer in frame["viewers"]}
                assert me[frame["me"]] == f"viewer-{board}"
                card = str(uuid4())
                await eve_sees.send(json.dumps({"looking": card}))
                cards: list[Any] = []
                while cards != [[card]]:
                    viewers = (await told(ada_sees))["viewers"]
                    cards = [v["cards"] for v in viewers if v["name"] != "ada"]
            await until(ada_sees, {"ada"})
    finally:
        there.stop()


async def test_without_asking_for_it_the_socket_says_only_events(site: Site) -> None:
    board = site.new_board()["key"]
    eve = await asyncio.to_thread(viewer, site, board)
    async with (
        look(site.web, board, query="", Cookie=site.cookie) as plain,
        look(site.web, board, Authorization=f"Bearer {site.token}") as token,
        look(site.web, board, Cookie=eve) as eve_sees,
    ):
        # Neither the page that did not ask nor the token is anybody who looks.
        assert names(await told(eve_sees)) == {f"viewer-{board}"}
        for live in (plain, token):
            assert json.loads(await live.recv())["kind"] == "board.created"
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await live.recv()


@pytest.mark.parametrize(
    "junk", ["", "{", "[]", "7", '{"looking": {}}', '{"looking": "x"}', "[" * 5000]
)
async def test_nonsense_changes_nothing(site: Site, junk: str) -> None:
    board = site.new_board()["key"]
    async with look(site.web, board, Cookie=site.cookie) as live:
        first = await told(live)
        await live.send(junk)
        card = str(uuid4())
        await live.send(json.dumps({"looking": card}))
        second = await told(live)
        assert first["viewers"][0]["cards"] == []
        assert second["viewers"][0]["cards"] == [card]
