"""Keys, retries, patience and errors: the same for both clients, against a scripted server."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

import holdfast
from tests.client.conftest import Scripted
from tests.client.desk import Desk

OK = (200, {"Content-Type": "application/json"}, b'{"ok": true}')


def problem(status: int, code: str, headers: dict[str, str] | None = None, **more: Any) -> Any:
    body = {"status": status, "code": code, "detail": "So it is.", **more}
    return status, {"Content-Type": "application/problem+json", **(headers or {})}, _json(body)


def _json(body: Any) -> bytes:
    return json.dumps(body).encode()


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest, scripted: Scripted) -> Any:
    """Make a call with either client and return what it gives."""

    def sync_ask(
        method: str, *args: Any, patience: float = 5, timeout: float = 5, **more: Any
    ) -> Any:
        with holdfast.Client(scripted.url, "t0ken", patience=patience, timeout=timeout) as client:
            return getattr(client, method)(*args, **more)

    def async_ask(
        method: str, *args: Any, patience: float = 5, timeout: float = 5, **more: Any
    ) -> Any:
        async def go() -> Any:
            async with holdfast.AsyncClient(
                scripted.url, "t0ken", patience=patience, timeout=timeout
            ) as client:
                return await getattr(client, method)(*args, **more)

        return asyncio.run(go())

    return sync_ask if request.param == "sync" else async_ask


def keys(scripted: Scripted) -> list[str | None]:
    return [said.headers.get("Idempotency-Key") for said in scripted.got]


def test_every_post_has_a_key_of_its_own(ask, scripted):
    scripted.will(OK, OK, OK)
    ask("post", "/things", {"a": 1})
    ask("post", "/things", {"a": 1})
    ask("post", "/things", {"a": 1}, key="mine")
    first, second, third = keys(scripted)
    assert first
    assert second
    assert first != second
    assert third == "mine"
    assert scripted.got[0].path == "/api/v1/things"
    assert scripted.got[0].headers["Authorization"] == "Bearer t0ken"


@pytest.mark.parametrize(
    "trouble",
    [
        None,
        1.5,
        problem(503, "unavailable", {"Retry-After": "0"}),
        problem(503, "unavailable", {"Retry-After": "Mon, 23 Nov 2020 02:00:00 GMT"}),
        problem(503, "unavailable", {"Retry-After": "soon"}),
        problem(429, "throttled", {"Retry-After": "0"}),
        problem(409, "idempotency_key_busy", {"Retry-After": "0"}),
        (502, {}, b"<h1>Bad gateway</h1>"),
        (504, {}, b""),
    ],
    ids=[
        "hung up",
        "silent",
        "503",
        "503 till a date",
        "503 till soon",
        "429",
        "busy key",
        "502",
        "504",
    ],
)
def test_trouble_that_passes_is_met_with_the_same_request_again(ask, scripted, trouble):
    scripted.will(trouble, trouble, OK)
    assert ask("post", "/things", {"a": 1}, timeout=1) == {"ok": True}
    assert len(scripted.got) == 3
    assert len(set(keys(scripted))) == 1
    assert {said.body for said in scripted.got} == {b'{"a": 1}'}


def test_retry_after_is_waited_for(ask, scripted):
    scripted.will(problem(503, "unavailable", {"Retry-After": "2"}), OK)
    began = time.monotonic()
    ask("get", "/things")
    assert time.monotonic() - began >= 2


def test_patience_bounds_all_of_it(ask, scripted):
    scripted.will(*[problem(503, "unavailable", {"Retry-After": "3600"})] * 9)
    began = time.monotonic()
    with pytest.raises(holdfast.Unreachable) as refused:
        ask("get", "/things", patience=5)
    assert refused.value.status == 503
    assert len(scripted.got) == 1
    assert time.monotonic() - began < 5


def test_a_server_that_is_not_there_is_named():
    with pytest.raises(holdfast.Unreachable, match=r"http://127\.0\.0\.1:1 gives no answer"):
        with holdfast.Client("http://127.0.0.1:1", "t", patience=0.5) as client:
            client.get("/me")


def test_a_change_that_has_no_key_is_not_sent_twice_when_nobody_knows(ask, scripted):
    scripted.will(None)
    with pytest.raises(holdfast.Unreachable):
        ask("patch", "/cards/X-1", {"title": "new"})
    assert len(scripted.got) == 1


def test_a_change_that_was_surely_not_made_is_sent_again(ask, scripted):
    scripted.will(problem(503, "unavailable", {"Retry-After": "0"}), OK)
    assert ask("patch", "/cards/X-1", {"title": "new"}) == {"ok": True}


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "malformed", holdfast.Refused),
        (401, "not_authenticated", holdfast.Unauthorized),
        (403, "forbidden", holdfast.Forbidden),
        (404, "not_found", holdfast.NotFound),
        (409, "not_claimable", holdfast.Conflict),
        (409, "lease_lost", holdfast.LeaseLost),
        (412, "stale_version", holdfast.Conflict),
        (422, "invalid", holdfast.Refused),
        (500, "error", holdfast.ApiError),
    ],
)
def test_refusals_are_told_apart_and_not_repeated(ask, scripted, status, code, kind):
    scripted.will(problem(status, code, errors={"a": ["is wrong."]}))
    with pytest.raises(holdfast.ApiError, match="So it is") as refused:
        ask("post", "/things", {})
    assert type(refused.value) is kind
    assert (refused.value.status, refused.value.code) == (status, code)
    assert refused.value.errors == {"a": ["is wrong."]}
    assert len(scripted.got) == 1


def test_something_that_is_not_holdfast_is_seen_through(ask, scripted):
    scripted.will(
        (200, {}, b"<html>Welcome"),
        (302, {"Location": "https://else.where/"}, b""),
        (404, {}, b"nope"),
    )
    with pytest.raises(holdfast.Error, match="did not answer with JSON"):
        ask("get", "/me")
    with pytest.raises(holdfast.Error, match="moved to https://else"):
        ask("get", "/me")
    with pytest.raises(holdfast.NotFound, match="the address of a Holdfast"):
        ask("get", "/me")


def test_an_empty_answer_is_none(ask, scripted):
    scripted.will((204, {}, b""))
    assert ask("delete", "/cards/X-1") is None


def test_what_is_not_json_is_not_sent(ask, scripted):
    for ugly in (object(), float("nan"), {1, 2}):
        with pytest.raises(holdfast.Error, match="plain data"):
            ask("post", "/things", {"a": ugly})
    with pytest.raises(holdfast.Error, match="slash"):
        ask("get", "things")
    assert scripted.got == []


@pytest.mark.parametrize("url", ["ftp://x", "x", "http://", "http://x:port", ":8000"])
def test_an_address_that_can_not_be_is_refused_at_once(url):
    with pytest.raises(holdfast.Error, match="HOLDFAST_URL"):
        holdfast.Client(url, "t")


def test_a_token_that_can_not_be_is_refused_and_none_is_shown():
    with pytest.raises(holdfast.Error, match="HOLDFAST_TOKEN"):
        holdfast.Client("http://127.0.0.1", "a\nb")
    assert "s3cret" not in repr(vars(holdfast.Client("http://127.0.0.1", "s3cret"))["_where"])


def test_the_environment_says_where_and_who(scripted, monkeypatch):
    monkeypatch.setenv("HOLDFAST_URL", scripted.url + "/")
    monkeypatch.setenv("HOLDFAST_TOKEN", "from-outside\n")
    scripted.will(OK)
    with holdfast.Client() as client:
        client.get("/me")
    assert scripted.got[0].path == "/api/v1/me"
    assert scripted.got[0].headers["Authorization"] == "Bearer from-outside"


# Against the real server.


def test_a_wrong_token_says_what_to_set(desk: Desk):
    with holdfast.Client(desk.url, "wrong") as client:
        with pytest.raises(holdfast.Unauthorized, match="HOLDFAST_TOKEN"):
            client.get("/me")


def test_another_board_is_not_there(desk: Desk, client: holdfast.Client):
    other = desk.site.new_board()["key"]
    with pytest.raises(holdfast.NotFound):
        client.get(f"/boards/{other}")


def test_pages_come_to_an_end_with_everything(desk: Desk, client: holdfast.Client):
    wanted = {desk.card(f"card {n}") for n in range(7)}
    found = [card["key"] for card in client.pages("/cards", board=desk.board, limit=3)]
    assert len(found) == 7
    assert set(found) == wanted


async def test_pages_and_events_come_to_an_async_client_too(desk: Desk):
    wanted = {desk.card(f"card {n}") for n in range(5)}
    async with desk.aclient() as client:
        found = [c["key"] async for c in client.pages("/cards", board=desk.board, limit=2)]
        assert set(found) == wanted
        seen = []
        async for event in client.events(desk.board):
            seen.append(event["seq"])
            if len(seen) == 6:
                break
    assert seen == [1, 2, 3, 4, 5, 6]


def test_the_same_key_changes_something_once(desk: Desk, client: holdfast.Client):
    wanted = {"board": desk.board, "title": "once"}
    first = client.request("POST", "/cards", wanted, key="k-1")
    again = client.request("POST", "/cards", wanted, key="k-1")
    assert first.json() == again.json()
    assert again.headers["Idempotent-Replay"] == "true"
    assert first.headers["ETag"] == '"1"'


def test_a_worker_that_is_told_to_stop_hands_over(scripted: Scripted):
    granted = {
        "attempt": {"id": "a", "number": 1},
        "lease": {"token": "l", "ttl_seconds": 60},
        "card": {"key": "X-1"},
        "goal": None,
        "resume": {"checkpoint": None, "steps_done": 0, "in_doubt": []},
        "briefing": {"markdown": ""},
    }
    beat = {"ttl_seconds": 60, "directive": "stop", "messages": [], "notices": []}
    scripted.will((201, {}, _json(granted)), (200, {}, _json(beat)), OK)
    with holdfast.Client(scripted.url, "t") as client:
        with pytest.raises(holdfast.Handover) as asked:
            with client.claim(worker="ada") as attempt:
                assert attempt.heartbeat()["directive"] == "stop"
                attempt.step("next", lambda: 1)
    assert asked.value.reason == "stop"
    _, heartbeat, release = scripted.got
    assert (heartbeat.path, release.path) == (
        "/api/v1/attempts/a/heartbeat",
        "/api/v1/attempts/a/release",
    )
    assert release.headers["Lease-Token"] == "l"
    assert heartbeat.headers["Idempotency-Key"] is None  # a day of answers nobody asks for
