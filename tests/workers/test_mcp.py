"""The MCP door as its official client uses it, in both eras of the protocol."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client

from tests import ports, serving

TOOLS = {
    "claim_card",
    "get_briefing",
    "heartbeat",
    "state_approach",
    "begin_step",
    "finish_step",
    "save_checkpoint",
    "record_decision",
    "record_discovery",
    "propose_card",
    "complete_card",
    "fail_card",
    "block_card",
    "release_card",
    "search_history",
    "list_cards",
    "fork_card",
    "get_race",
    "split_card",
    "propose_plan",
}
ERAS = ("auto", "legacy")


@pytest.fixture(scope="module")
def site() -> Iterator[serving.Site]:
    with serving.new_site("sqlite") as site:
        site.serve()
        yield site


@asynccontextmanager
async def connected(
    site: serving.Site, mode: str, token: str, origin: str = ""
) -> AsyncIterator[Client]:
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(headers=headers) as http:
        transport = streamable_http_client(f"{origin or site.web.origin}/mcp", http_client=http)
        async with Client(transport, mode=mode) as client:
            yield client


def agent(site: serving.Site) -> tuple[str, str]:
    """Return a new board's key and a token that may work on it."""
    board = site.new_board()["key"]
    return board, site.new_token(board)["token"]


def ready_card(site: serving.Site, board: str, title: str = "Write the parser") -> str:
    answer = site.new_card(board, title)
    key: str = answer.body["key"]
    site.call("POST", f"/api/v1/cards/{key}/move", {"column": "in_progress"})
    return key


def content(result: Any) -> dict[str, Any]:
    assert not result.is_error, result.content
    told: dict[str, Any] = result.structured_content
    assert json.loads(result.content[0].text) == told
    return told


@pytest.mark.parametrize("mode", ERAS)
async def test_an_agent_carries_a_card_through(site: serving.Site, mode: str) -> None:
    board, token = agent(site)
    key = ready_card(site, board)
    async with connected(site, mode, token) as client:
        assert {t.name for t in (await client.list_tools()).tools} == TOOLS

        claimed = content(await client.call_tool("claim_card", {"worker": "ada"}))
        assert (claimed["claimed"], claimed["card"]) == (True, key)
        assert "Write the parser" in claimed["briefing"]
        mine = {"attempt_id": claimed["attempt_id"]}

        begun = content(await client.call_tool("begin_step", {**mine, "key": "plan"}))
        assert begun == {"key": "plan", "status": "started", "replay": False}
        done = await client.call_tool(
            "finish_step",
            {
                **mine,
                "key": "plan",
                "status": "succeeded",
                "result": {"files": 3},
                "checkpoint": {"summary": "Planned.", "next_step": "Write it."},
            },
        )
        assert content(done)["checkpoint"] == 1
        again = content(await client.call_tool("begin_step", {**mine, "key": "plan"}))
        assert (again["replay"], again["result"]) == (True, {"files": 3})

        saved = await client.call_tool("save_checkpoint", {**mine, "summary": "Half written."})
        assert content(saved)["checkpoint"] == 2
        decided = {**mine, "title": "Recursive descent", "rationale": "No dependency."}
        content(await client.call_tool("record_decision", decided))
        found = {**mine, "kind": "fact", "title": "The grammar is ambiguous"}
        content(await client.call_tool("record_discovery", found))
        follow = content(await client.call_tool("propose_card", {**mine, "title": "Fuzz it"}))
        assert follow["card"].startswith(board)
        beat = content(await client.call_tool("heartbeat", {**mine, "note": "still at it"}))
        assert beat["directive"] == "continue"

        wanted = {"card": key, "what": "decisions", "query": "descent"}
        history = content(await client.call_tool("search_history", wanted))
        assert [d["title"] for d in history["results"]] == ["Recursive descent"]
        listed = content(await client.call_tool("list_cards", {"board": board}))
        assert {c["card"] for c in listed["cards"]} == {key, follow["card"]}

        briefed = content(await client.call_tool("get_briefing", {"card": key}))
        assert "Half written." in briefed["briefing"]
        ended = await client.call_tool("complete_card", {**mine, "summary": "Written."})
        assert content(ended)["state"] == "completed"
        repeated = await client.call_tool("complete_card", {**mine, "summary": "Written."})
        assert content(repeated)["state"] == "completed"
        late = await client.call_tool("heartbeat", mine)
        assert late.is_error
        assert late.content[0].text.startswith("lease_lost:")


@pytest.mark.parametrize("mode", ERAS)
async def test_resources_and_the_prompt_are_there(site: serving.Site, mode: str) -> None:
    board, token = agent(site)
    key = ready_card(site, board)
    async with connected(site, mode, token) as client:
        uris = [str(r.uri) for r in (await client.list_resources()).resources]
        assert uris == [f"holdfast://card/{key}/briefing"]
        templates = (await client.list_resource_templates()).resource_templates
        assert len(templates) == 4
        read = await client.read_resource(f"holdfast://card/{key}/briefing")
        assert "Write the parser" in read.contents[0].text
        with pytest.raises(MCPError):
            await client.read_resource("holdfast://card/NOPE-1/briefing")
        prompts = (await client.list_prompts()).prompts
        assert [p.name for p in prompts] == ["work_on_next_card"]
        prompt = await client.get_prompt("work_on_next_card", {"board": board})
        assert board in prompt.messages[0].content.text


async def test_refusals_are_text_that_a_model_can_act_on(site: serving.Site) -> None:
    _, token = agent(site)
    async with connected(site, "auto", token) as client:
        nothing = content(await client.call_tool("claim_card", {"worker": "ada"}))
        assert nothing["claimed"] is False
        wrong = await client.call_tool("begin_step", {"attempt_id": "x", "nope": 1})
        assert wrong.is_error
        assert "nope" in wrong.content[0].text
        hidden = await client.call_tool("get_briefing", {"card": "NOPE-1"})
        assert hidden.content[0].text.startswith("not_found:")


async def test_another_token_of_the_board_cannot_use_the_attempt(site: serving.Site) -> None:
    board, token = agent(site)
    ready_card(site, board)
    other = site.new_token(board)["token"]
    async with connected(site, "auto", token) as ada:
        claimed = content(await ada.call_tool("claim_card", {"worker": "ada"}))
    mine = {"attempt_id": claimed["attempt_id"]}
    async with connected(site, "auto", other) as bob:
        stolen = await bob.call_tool("complete_card", {**mine, "summary": "mine now"})
        assert stolen.content[0].text.startswith("lease_lost:")


async def test_a_repeated_claim_with_its_key_gets_the_same_attempt(site: serving.Site) -> None:
    board, token = agent(site)
    ready_card(site, board)
    ready_card(site, board, "Another")
    args = {"worker": "ada", "idempotency_key": "first"}
    async with connected(site, "auto", token) as client:
        first = content(await client.call_tool("claim_card", args))
        again = content(await client.call_tool("claim_card", args))
        other = content(await client.call_tool("claim_card", {"worker": "ada"}))
    assert first == again
    assert other["attempt_id"] != first["attempt_id"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": "Bearer nonsense"}, 401),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_strangers_are_refused(site: serving.Site, headers: dict[str, str], status: int) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    assert site.call("POST", "/mcp", body, headers=headers).status == status


def test_a_get_is_not_offered(site: serving.Site) -> None:
    assert site.call("GET", "/mcp").status == 405


@pytest.mark.parametrize("body", [[], 7, {"id": 1}, {"id": {}, "method": "ping"}])
def test_what_is_no_request_is_refused(site: serving.Site, body: Any) -> None:
    answer = site.call("POST", "/mcp", body)
    assert answer.status == 400
    assert answer.body["error"]["code"] == -32600


def test_an_unknown_version_names_those_spoken(site: serving.Site) -> None:
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2031-01-01",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}}
    headers = {"MCP-Protocol-Version": "2031-01-01", "Mcp-Method": "tools/list"}
    answer = site.call("POST", "/mcp", body, headers=headers)
    assert answer.body["error"]["code"] == -32022
    assert "2026-07-28" in answer.body["error"]["data"]["supported"]


async def test_it_works_under_uvicorn_too_and_ends_when_asked(site: serving.Site) -> None:
    port = ports.free()
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "runtime_site.asgi:application", "--port", str(port)],
        env=site.environment(PORT=str(port)),
        cwd=serving.ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        board, token = agent(site)
        key = ready_card(site, board)
        await asyncio.to_thread(serving.until, lambda: _listens(port))
        for mode in ERAS:
            async with connected(site, mode, token, f"http://127.0.0.1:{port}") as client:
                assert {t.name for t in (await client.list_tools()).tools} == TOOLS
                listed = content(await client.call_tool("list_cards", {"board": board}))
                assert [card["card"] for card in listed["cards"]] == [key]
        process.terminate()
        assert process.wait(60) in (0, -signal.SIGTERM)
    finally:
        process.kill()
        process.wait(30)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
