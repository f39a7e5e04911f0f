"""Refusals that come from around the views: every one a problem document."""

from __future__ import annotations

import sqlite3

import pytest
from django.db import OperationalError

from boards import cards
from events import receipts
from kernel.errors import KeyBusy
from tests.api.contract import operations
from tests.api.world import Caller, World


def test_an_address_that_is_none_is_404(world: World) -> None:
    for path in ("/nothing", "/cards/", "/cards//", "//cards", "/attempts/7/heartbeat", "/"):
        assert world.root.get(path).refusal == (404, "not_found"), path


def test_another_method_is_405_and_says_which_there_are(world: World) -> None:
    paths: dict[str, set[str]] = {}
    for operation in operations():
        paths.setdefault(operation.path, set()).add(operation.method)
    for operation in operations():
        path, taken = world.here.fill(operation), paths[operation.path]
        for method in {"get", "post", "put", "patch", "delete"} - taken:
            lease = world.here.lease if path.startswith("/attempts") else None
            refused = world.member(method, path, {} if method != "get" else None, lease=lease)
            assert refused.refusal == (405, "method_not_allowed"), (method, path)
            assert {m.lower() for m in refused.headers["Allow"].split(", ")} >= taken


def test_a_body_past_the_limit_is_413(world: World) -> None:
    refused = world.member("post", "/cards", b" " * (2 * 1024 * 1024 + 1))
    assert refused.refusal == (413, "too_large")


def test_a_compressed_body_is_415(world: World) -> None:
    refused = world.member("post", "/cards", b"\x1f\x8b", Content_Encoding="gzip")
    assert refused.refusal == (415, "unsupported_media_type")


@pytest.mark.parametrize("accept", ["text/html", "application/xml", "*/*", "nonsense", ""])
def test_whatever_is_accepted_the_answer_is_json(accept: str, world: World) -> None:
    assert world.member.get("/me", Accept=accept).type == "application/json"
    assert world.member.get("/cards/NO-1", Accept=accept).refusal == (404, "not_found")


def test_the_page_of_the_reference_is_refused_as_all_else_is(world: World) -> None:
    for accept in ("text/html", "*/*"):
        refused = Caller()("get", "/docs", Accept=accept)
        assert refused.refusal == (401, "not_authenticated")


def test_a_word_that_is_none_of_a_few_is_told_which_there_are(world: World) -> None:
    refused = world.operator.patch("/boards/HERE", {"pull": "sometimes"})
    assert refused["errors"] == {"pull": ['"sometimes" is not one of manual, auto.']}
    asked = world.member.get("/cards?state=odd" + "x" * 300)
    assert len(asked["errors"]["state"][0]) < 250
    assert "waiting" in asked["detail"]


def test_a_workflow_that_cant_work_is_named_with_its_place(world: World) -> None:
    workflow = {"steps": [{"key": "a b", "run": "true"}]}
    body = {"board": "HERE", "title": "x", "workflow": workflow}
    assert list(world.member.post("/cards", body)["errors"]) == ["workflow.steps[0].key"]
    refused = world.member.post("/cards", {**body, "workflow": "]"})
    assert list(refused["errors"]) == ["workflow"]


def test_a_busy_store_is_503_with_a_hint_when_to_ask_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: object, **__: object) -> None:
        cause = sqlite3.OperationalError("database is locked")
        cause.sqlite_errorcode = sqlite3.SQLITE_BUSY
        raise OperationalError("database is locked") from cause

    monkeypatch.setattr(cards, "create", busy)
    world.member.lenient = True
    try:
        refused = world.member.post("/cards", {"board": "HERE", "title": "x"})
    finally:
        world.member.lenient = False
    assert refused.refusal == (503, "store_busy")
    assert int(refused.headers["Retry-After"]) > 0


def test_a_key_whose_first_request_still_runs_is_409_with_a_hint(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: object, **__: object) -> None:
        raise KeyBusy("The first request is still running.", retry_after_seconds=1)

    monkeypatch.setattr(receipts, "once", busy)
    refused = world.member.post("/cards", {"board": "HERE", "title": "x"}, key="k")
    assert refused.refusal == (409, "idempotency_key_busy")
    assert refused.headers["Retry-After"] == "1"


def test_a_fault_of_ours_says_nothing_about_itself(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the secret is 42")

    monkeypatch.setattr(cards, "create", broken)
    world.member.lenient = True
    world.member.client.raise_request_exception = False
    try:
        answer = world.member.post("/cards", {"board": "HERE", "title": "x"})
    finally:
        world.member.lenient = False
    assert answer.refusal == (500, "internal_error")
    assert b"42" not in answer.raw
