"""Every MCP tool, one by one: its schema, what it refuses, and that its answers stay short."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import pytest

from tests import serving

HELD = {"attempt_id": "{attempt}"}
#: A good call of every tool, in an order in which each succeeds on one card.
CALLS: dict[str, dict[str, Any]] = {
    "list_cards": {"board": "{board}"},
    "claim_card": {"worker": "ada", "card": "{card}", "lease_seconds": 600},
    "get_briefing": {"card": "{card}"},
    "heartbeat": HELD,
    "state_approach": {**HELD, "approach": "by hand", "differs": "slower"},
    "begin_step": {**HELD, "key": "plan"},
    "finish_step": {**HELD, "key": "plan", "status": "succeeded"},
    "save_checkpoint": {**HELD, "summary": "half way"},
    "record_decision": {**HELD, "title": "a queue", "rationale": "it is there"},
    "record_discovery": {**HELD, "kind": "fact", "title": "it is slow"},
    "propose_card": {**HELD, "title": "measure it"},
    "propose_plan": {**HELD, "items": [{"title": "measure it"}]},
    "search_history": {"card": "{card}", "what": "steps"},
    "fork_card": {"card": "{card}", "checkpoint": 1, "approaches": ["by hand", "generated"]},
    "get_race": {"card": "{racer}"},
    "split_card": {"card": "{racer}", "parts": [{"title": "a"}, {"title": "b"}]},
    "block_card": {**HELD, "reason": "stuck"},
    "fail_card": {**HELD, "error": "it broke"},
    "release_card": {**HELD, "summary": "half", "next_step": "go on"},
    "complete_card": {**HELD, "summary": "done"},
}
ENDS = ("block_card", "fail_card", "release_card", "complete_card")
WRITES = [name for name, args in CALLS.items() if "attempt_id" in args]


@pytest.fixture(scope="module", params=[serving.STORE])
def site(request: pytest.FixtureRequest) -> Iterator[serving.Site]:
    with serving.new_site(request.param) as site:
        site.serve()
        yield site


class Agent:
    """A token of a board with a card in progress, and the attempt it has claimed."""

    def __init__(self, site: serving.Site) -> None:
        self.site = site
        self.board = site.new_board()["key"]
        body = {"board": self.board, "title": "A parser"}
        self.goal = site.call("POST", "/api/v1/goals", body).body["id"]
        made = site.new_token(self.board)
        self.token = made["token"]
        self.card = self.new_card()
        self.attempt = "00000000-0000-7000-8000-000000000000"
        self.racer = self.card

    def new_card(self, title: str = "Write the parser") -> str:
        body = {"board": self.board, "title": title, "goal": self.goal}
        key: str = self.site.call("POST", "/api/v1/cards", body).body["key"]
        self.site.call("POST", f"/api/v1/cards/{key}/move", {"column": "in_progress"})
        return key

    def args(self, tool: str, **changes: Any) -> dict[str, Any]:
        named = {
            "{board}": self.board,
            "{card}": self.card,
            "{attempt}": self.attempt,
            "{racer}": self.racer,
        }
        filled = {k: named.get(v, v) if isinstance(v, str) else v for k, v in CALLS[tool].items()}
        return {**filled, **changes}

    def post(self, body: Any, **headers: str) -> httpx.Response:
        sent = {
            "Authorization": f"Bearer {self.token}",
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return httpx.post(f"{self.site.web.origin}/mcp", content=raw, headers=sent, timeout=60)

    def rpc(self, method: str, params: Any = None, **headers: str) -> Any:
        body = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params or {}}
        answer = self.post(body, **headers)
        assert answer.status_code in (200, 400), answer.text
        return answer.json()

    def call(self, tool: str, args: Any) -> dict[str, Any]:
        answer = self.rpc("tools/call", {"name": tool, "arguments": args})
        result: dict[str, Any] = answer["result"]
        return result

    def good(self, tool: str, **changes: Any) -> dict[str, Any]:
        result = self.call(tool, self.args(tool, **changes))
        assert not result.get("isError"), result
        told: dict[str, Any] = result["structuredContent"]
        return told

    def refused(self, tool: str, args: Any) -> str:
        result = self.call(tool, args)
        assert result.get("isError"), result
        text: str = result["content"][0]["text"]
        assert "Traceback" not in text
        return text

    def claim(self) -> None:
        self.attempt = self.good("claim_card")["attempt_id"]


@pytest.fixture
def agent(site: serving.Site) -> Agent:
    return Agent(site)


def test_the_tools_describe_themselves(agent: Agent) -> None:
    tools = agent.rpc("tools/list")["result"]["tools"]
    assert {tool["name"] for tool in tools} == set(CALLS)
    assert [t["name"] for t in tools] == [
        t["name"] for t in agent.rpc("tools/list")["result"]["tools"]
    ]
    for tool in tools:
        schema = tool["inputSchema"]
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["type"] == "object"
        assert schema.get("additionalProperties") is False, tool["name"]
        assert 30 < len(tool["description"]) < 700, tool["name"]
        jsonschema.validate(agent.args(tool["name"]), schema)
        assert set(schema.get("required", [])) <= set(CALLS[tool["name"]])
        assert tool["annotations"]["readOnlyHint"] is (
            tool["name"] in ("get_briefing", "get_race", "search_history", "list_cards")
        )
    assert len(json.dumps(tools)) < 40_000  # every conversation pays for this


def test_every_tool_answers_a_good_call_shortly(agent: Agent) -> None:
    for name in CALLS:
        if name in ENDS:
            agent.card = agent.new_card()
            agent.claim()
        told = agent.good(name)
        if name == "claim_card":
            agent.attempt = told["attempt_id"]
        if name == "fork_card":
            agent.racer = told["cards"][0]
        assert len(json.dumps(told)) < 20_000


@pytest.mark.parametrize("name", CALLS)
def test_bad_arguments_are_named_and_nothing_happens(agent: Agent, name: str) -> None:
    if name != "claim_card":
        agent.claim()
    state = agent.site.call("GET", f"/api/v1/cards/{agent.card}").body
    good = agent.args(name)
    assert "surprise" in agent.refused(name, {**good, "surprise": 1})
    for field in agent.rpc("tools/list")["result"]["tools"]:
        if field["name"] == name:
            required = field["inputSchema"].get("required", [])
    for field in required:
        assert field in agent.refused(name, {k: v for k, v in good.items() if k != field})
        wrong = agent.refused(name, {**good, field: {"not": ["right"]}})
        assert field in wrong
        assert "Mend the arguments" in wrong
    for text in ("x" * 1_500_000, "nul \x00", "\ud800"):
        target = next(
            (f for f in ("summary", "title", "error", "reason", "worker") if f in good), ""
        )
        if target:
            raw = json.dumps(
                {
                    "jsonrpc": "2.0",
                    "id": 1,
                    "method": "tools/call",
                    "params": {"name": name, "arguments": {**good, target: text}},
                }
            )
            answer = agent.post(raw.encode())
            assert answer.status_code in (200, 400, 413), answer.status_code
            if answer.status_code == 200:
                assert answer.json()["result"]["isError"]
    for shape in ("text", ["list"], 7):
        agent.refused(name, shape)
    now = agent.site.call("GET", f"/api/v1/cards/{agent.card}").body
    assert (now["state"], now["version"]) == (state["state"], state["version"])


@pytest.mark.parametrize("name", CALLS)
def test_what_another_board_has_is_not_there(site: serving.Site, name: str) -> None:
    mine, theirs = Agent(site), Agent(site)
    theirs.claim()
    text = mine.refused(name, theirs.args(name))
    assert "not_found" in text
    assert theirs.card not in text.replace("{card}", "")


@pytest.mark.parametrize("name", WRITES)
def test_a_stale_attempt_is_told_to_stop(agent: Agent, name: str) -> None:
    agent.claim()
    agent.good("begin_step")
    for column in ("backlog", "in_progress"):
        agent.site.call("POST", f"/api/v1/cards/{agent.card}/move", {"column": column})
    text = agent.refused(name, agent.args(name))
    assert text.startswith("lease_lost")
    assert "Stop" in text


@pytest.mark.parametrize("name", CALLS)
def test_a_revoked_or_unknown_token_and_a_foreign_page_are_turned_away(
    agent: Agent, name: str
) -> None:
    body = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": name, "arguments": agent.args(name)},
    }
    for token in ("Bearer nonsense", "Basic x", ""):
        answer = agent.post(body, Authorization=token)
        assert answer.status_code == 401
        assert "WWW-Authenticate" in answer.headers
    assert agent.post(body, Origin="https://evil.example").status_code == 403
    assert agent.post(body, Host="evil.example").status_code in (400, 403, 421)
    assert agent.post(body, Content_Type="text/plain").status_code == 415


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b'[{"jsonrpc": "2.0", "id": 1, "method": "ping"}]',
        b'{"id": 1, "method": "ping"}',
        b'{"jsonrpc": "2.0", "id": true, "method": "ping"}',
        b'{"jsonrpc": "2.0", "id": 1, "method": 5}',
        b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": "x"}',
        b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"n": NaN}}',
    ],
    ids=lambda raw: raw[:48].decode(),
)
def test_what_is_no_request_is_refused_as_one(agent: Agent, body: bytes) -> None:
    answer = agent.post(body)
    assert answer.status_code in (400, 411)
    if answer.status_code == 400:
        assert answer.json()["error"]["code"] in (-32700, -32600)


@pytest.mark.parametrize("arguments", ["text", ["list"], 7])
def test_a_prompt_with_odd_arguments_is_refused(agent: Agent, arguments: Any) -> None:
    asked = {"name": "work_on_next_card", "arguments": arguments}
    assert agent.rpc("prompts/get", asked)["error"]["code"] == -32602


def test_an_unknown_method_and_a_notification(agent: Agent) -> None:
    assert agent.rpc("tools/destroy")["error"]["code"] == -32601
    assert agent.post({"jsonrpc": "2.0", "method": "notifications/initialized"}).status_code == 202
    for method in ("GET", "DELETE", "PUT"):
        answer = httpx.request(method, f"{agent.site.web.origin}/mcp", timeout=60)
        assert answer.status_code == 405


def test_a_long_history_is_read_page_by_page(agent: Agent) -> None:
    agent.claim()
    for n in range(55):
        agent.good("record_decision", title=f"decision {n}")
    seen: list[str] = []
    more: dict[str, Any] = {}
    while True:
        told = agent.good("search_history", what="decisions", limit=20, **more)
        seen += [one["title"] for one in told["results"]]
        if "next" not in told:
            break
        more = {"before": told["next"]}
    assert seen == [f"decision {n}" for n in reversed(range(55))]


def test_a_search_without_a_card_looks_through_all_one_sees(agent: Agent) -> None:
    agent.claim()
    agent.good("record_decision", title="walrus queue", rationale="it is durable")
    for n in range(3):
        agent.good("record_discovery", kind="dead_end", title=f"walrus lock {n}")
    seen: list[str] = []
    more: dict[str, Any] = {"limit": 2}
    while True:
        args = {"query": "walrus", "board": agent.board, **more}
        result = agent.call("search_history", args)
        told = result["structuredContent"]
        assert all(one["card"] == agent.card for one in told["results"])
        seen += [one["title"] for one in told["results"]]
        if "next" not in told:
            break
        more["cursor"] = told["next"]
    assert sorted(seen) == ["walrus lock 0", "walrus lock 1", "walrus lock 2", "walrus queue"]
    assert "query" in agent.refused("search_history", {})
    only = agent.call("search_history", {"query": "walrus", "what": "decisions"})
    assert [one["kind"] for one in only["structuredContent"]["results"]] == ["decision"]


def test_many_cards_are_listed_page_by_page(agent: Agent) -> None:
    keys = {agent.card} | {agent.new_card(f"Card {n}") for n in range(6)}
    listed: list[str] = []
    while True:
        told = agent.good("list_cards", limit=3, skip=len(listed))
        listed += [one["card"] for one in told["cards"]]
        if not told["more"]:
            break
    assert len(listed) == len(keys)
    assert set(listed) == keys


def test_a_long_recorded_result_comes_back_cut_and_says_where_the_rest_is(agent: Agent) -> None:
    agent.claim()
    agent.good("begin_step")
    agent.good("finish_step", result={"log": "line\n" * 40_000})
    again = agent.good("begin_step")
    assert again["replay"] is True
    assert f"GET /api/v1/cards/{agent.card}/steps" in again["cut"]
    assert len(json.dumps(again)) < 30_000


def test_an_approach_that_failed_is_refused_over_mcp_as_well_and_says_how_to_go_on(
    agent: Agent,
) -> None:
    agent.site.call("PATCH", f"/api/v1/boards/{agent.board}", {"enforce_dead_ends": True})
    agent.claim()
    agent.good("state_approach", approach="Write the parser with lark")
    agent.good("fail_card", error="ambiguous grammar", lesson="lark needs LALR")
    agent.card = agent.new_card()
    agent.claim()
    again = agent.args("state_approach", approach="writing the parser with lark")
    said = agent.refused("state_approach", {**again, "differs": ""})
    assert "dead_end" in said
    assert "lark needs LALR" in said
    told = agent.good("state_approach", approach="Write the parser with pyparsing")
    assert told["similar_failed"][0]["instead"] == "pyparsing instead of lark"
