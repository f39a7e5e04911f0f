"""The token of an attempt opens that attempt while it lasts, and nothing else."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from boards import attempt_tokens, leases, tokens
from boards.models import Attempt, Card
from boards.secrets import keeping
from checkpoints.models import Checkpoint, Step
from events.models import Event
from goals.models import Decision, Discovery
from kernel.access import SYSTEM
from tests.factories import make_board, make_card, make_goal
from workers import saying

pytestmark = pytest.mark.django_db(transaction=True)


class Agent:
    """A built-in worker's attempt and the program it runs, calling with the attempt's token."""

    def __init__(self) -> None:
        board = make_board()
        self.goal = make_goal(board)
        self.card = make_card(board, goal=self.goal)
        attempt = leases.claim("builtin-x", card_id=self.card.pk)
        assert attempt is not None
        self.attempt: Attempt = attempt
        self.token = attempt_tokens.token_of(attempt.pk)
        self.client = Client()

    def rest(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        return self.client.generic(
            method,
            f"/api/v1{path}",
            json.dumps(body) if body is not None else "",
            content_type="application/json",
            headers={"Authorization": f"Bearer {self.token}", **headers},
        )

    def own(self, call: str, body: Any) -> Any:
        return self.rest("POST", f"/attempts/{self.attempt.pk}/{call}", body)

    def rpc(self, method: str, params: Any = None) -> Any:
        answer = self.client.post(
            "/mcp",
            json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}}),
            content_type="application/json",
            headers={"Authorization": f"Bearer {self.token}"},
        )
        return answer.json()["result"] if answer.status_code == 200 else answer

    def tool(self, name: str, **args: Any) -> Any:
        args.setdefault("attempt_id", str(self.attempt.pk))
        return self.rpc("tools/call", {"name": name, "arguments": args})


@pytest.fixture
def agent() -> Agent:
    return Agent()


def _api_views() -> list[tuple[str, str]]:
    """Return every path of the API with its view, by module and name."""
    found = []

    def walk(patterns: Any, prefix: str) -> None:
        for pattern in patterns:
            here = prefix + str(pattern.pattern)
            if isinstance(pattern, URLResolver):
                walk(pattern.url_patterns, here)
            elif isinstance(pattern, URLPattern) and here.startswith("api/v1/"):
                view = getattr(pattern.callback, "cls", pattern.callback)
                found.append((here, f"{view.__module__}.{view.__name__}"))

    walk(get_resolver().url_patterns, "")
    return found


#: Open to the token of an attempt, each for what is the attempt's own.
OPEN = {
    "boards.api.search": {"SearchView"},
    "checkpoints.api.views": {"BriefingView", "StepsView", "CheckpointsView"},
    "workers.api.views": {
        *("AttemptView", "HeartbeatView", "StepsView", "FinishView", "CheckpointsView", "LogView"),
        *("DecisionsView", "DiscoveriesView", "FollowUpsView", "ProposePlanView"),
        *("CompleteView", "FailView", "BlockView", "ReleaseView"),
    },
}


def test_every_other_endpoint_of_the_api_is_closed_to_it(agent: Agent) -> None:
    tried = 0
    for path, view in _api_views():
        module, _, name = view.rpartition(".")
        if name in OPEN.get(module, ()) or name.startswith(("Spectacular", "DocsView")):
            continue
        filled = re.sub(r"<uuid:\w+>", str(agent.attempt.pk), path.removeprefix("api/v1"))
        filled = re.sub(r"<int:\w+>", "1", filled)
        filled = re.sub(r"<(?:\w+:)?\w+>", agent.card.key, filled)
        for method in ("GET", "POST", "PATCH", "DELETE"):
            answer = agent.rest(method, filled, {})
            assert answer.status_code == 403, (method, path, view, answer.content)
        tried += 1
    assert tried > 40


def test_it_records_under_its_attempt_through_both_doors(agent: Agent) -> None:
    assert agent.own("heartbeat", {"note": "reading"}).status_code == 200
    assert agent.own("steps", {"key": "look", "status": "succeeded"}).status_code == 201
    assert agent.own("steps", {"key": "edit"}).status_code == 201
    assert agent.own("steps/edit/finish", {"status": "succeeded"}).status_code == 200
    assert agent.own("log", {"stream": "stdout", "text": "x"}).status_code == 201
    assert agent.own("checkpoints", {"summary": "half", "next_step": "more"}).status_code == 201
    assert agent.own("cards", {"title": "More to do"}).status_code == 201
    assert agent.rest("GET", f"/cards/{agent.card.key}/briefing").status_code == 200

    assert "isError" not in agent.tool("begin_step", key="run")
    assert agent.tool("finish_step", key="run", status="succeeded")["structuredContent"] == {
        "key": "run",
        "status": "succeeded",
    }
    agent.tool("record_decision", title="Tabs", rationale="Because")
    agent.tool("record_discovery", kind="fact", title="It is slow")
    keys = Step.objects.filter(card=agent.card).values_list("key", flat=True)
    assert set(keys) == {"@agent/look", "@agent/edit", "@agent/run"}
    assert (Decision.objects.count(), Discovery.objects.count()) == (1, 1)


def test_no_step_checkpoint_or_cost_of_the_workflow_can_be_made_up(agent: Agent) -> None:
    made_up = {"summary": "all green", "tests": {"passed": 9, "failed": 0, "skipped": 0}}
    made_up["workspace"] = {"commit": "a" * 40}
    usage = {"input_tokens": 5, "output_tokens": 5, "cost_usd": "7"}
    agent.own("checkpoints", made_up)
    agent.tool("save_checkpoint", **made_up)
    ended = {"status": "succeeded", "checkpoint": made_up, "usage": usage}
    agent.own("steps", {"key": "tests", **ended})
    agent.tool("begin_step", key="other")
    agent.tool("finish_step", key="other", **ended)
    assert Checkpoint.objects.count() == 4
    for point in Checkpoint.objects.all():
        assert not point.workspace
        assert not point.tests
    agent.attempt.refresh_from_db()
    assert (agent.attempt.tests_passed, agent.attempt.cost_usd) == (None, 0)
    assert not Step.objects.filter(key="tests").exists()


@pytest.mark.parametrize("door", ["rest", "mcp"])
def test_what_it_says_of_the_end_is_noted_and_ends_nothing(agent: Agent, door: str) -> None:
    said = {
        "complete": {"summary": "All done"},
        "fail": {"error": "No idea"},
        "block": {"reason": "Which one?"},
        "release": {"summary": "Half way"},
    }
    for what, fields in said.items():
        for _ in range(2):  # a repetition changes nothing
            if door == "rest":
                assert agent.own(what, fields).status_code == 200
            else:
                assert agent.tool(f"{what}_card", **fields)["structuredContent"]["noted"] == what
        word = saying.last_word(agent.attempt.pk)
        assert word is not None
        assert word["says"] == what
        assert fields.items() <= word.items()
    agent.attempt.refresh_from_db()
    assert agent.attempt.status == "running"
    assert Step.objects.filter(kind="says").count() == 4


def test_other_cards_attempts_and_boards_are_not_there_for_it(agent: Agent) -> None:
    beside = make_card(board=agent.card.board, goal=agent.goal)
    far = make_card(board=make_board(key="FAR", name="Far"))
    for other in (beside, far):
        theirs = leases.claim("builtin-y", card_id=other.pk)
        assert theirs is not None
        for call, body in (("heartbeat", {}), ("complete", {"summary": "x"})):
            lease = leases.token_of(theirs.pk, theirs.board_id)
            for headers in ({}, {"Lease-Token": lease}):
                answer = agent.rest("POST", f"/attempts/{theirs.pk}/{call}", body, **headers)
                assert answer.status_code == 404
        assert agent.rest("GET", f"/cards/{other.key}/briefing").status_code == 404
        for tool, args in (
            ("heartbeat", {"attempt_id": str(theirs.pk)}),
            ("complete_card", {"attempt_id": str(theirs.pk), "summary": "x"}),
        ):
            assert "not_found" in agent.tool(tool, **args)["content"][0]["text"]
        for tool in ("get_briefing", "search_history"):
            asked = {"card": other.key, **({"what": "steps"} if "search" in tool else {})}
            args = {"name": tool, "arguments": asked}
            assert "not_found" in agent.rpc("tools/call", args)["content"][0]["text"]
    listed = agent.rpc("resources/list")["resources"]
    assert [r["uri"] for r in listed] == [f"holdfast://card/{agent.card.key}/briefing"]


def test_it_claims_and_lists_nothing(agent: Agent) -> None:
    make_card(board=agent.card.board)
    names = {tool["name"] for tool in agent.rpc("tools/list")["tools"]}
    assert "save_checkpoint" in names
    assert not names & {"claim_card", "list_cards"}
    refused = agent.rpc("tools/call", {"name": "claim_card", "arguments": {"worker": "me"}})
    assert refused["isError"]
    assert str(agent.attempt.pk) in refused["content"][0]["text"]
    assert agent.rest("POST", "/claims", {"worker": "me"}).status_code == 403
    assert Attempt.objects.count() == 1
    assert str(agent.attempt.pk) in agent.rpc("initialize")["instructions"]


def test_it_is_worth_nothing_once_the_attempt_is_over(agent: Agent) -> None:
    leases.expire(agent.attempt.pk, actor=SYSTEM.actor)
    assert agent.own("heartbeat", {}).status_code == 401
    assert agent.rpc("tools/list").status_code == 401
    again = leases.claim("builtin-z", card_id=agent.card.pk)
    assert again is not None
    assert agent.own("heartbeat", {}).status_code == 401


def test_a_made_up_or_foreign_one_opens_nothing(agent: Agent, settings: Any) -> None:
    good = agent.token
    for bad in (good[:-1] + ("0" if good[-1] != "0" else "1"), good.upper(), "hfa_" + "0" * 80):
        agent.token = bad
        assert agent.own("heartbeat", {}).status_code == 401
    agent.token = good
    Attempt.objects.filter(pk=agent.attempt.pk).update(token=None)
    settings.LEASE_EPOCH = 1
    assert agent.own("heartbeat", {}).status_code == 401


def test_it_ends_with_the_api_token_that_claimed_the_attempt(agent: Agent) -> None:
    issued = tokens.issue("ada")
    Attempt.objects.filter(pk=agent.attempt.pk).update(token=issued.token)
    assert agent.own("heartbeat", {}).status_code == 200
    tokens.revoke(issued.token.pk)
    assert agent.own("heartbeat", {}).status_code == 401
    assert Card.objects.get(pk=agent.card.pk).state == "running"


def test_a_secret_that_an_agent_repeats_is_kept_from_its_record(agent: Agent) -> None:
    keeping.put(agent.card.board_id, "user:ann", "DEPLOY_KEY", "correct horse battery")
    said = {"title": "Sign in with correct horse battery", "rationale": "It works."}
    assert agent.own("decisions", said).status_code == 201
    body = {"key": "look", "status": "succeeded", "result": {"env": ["correct horse battery"]}}
    assert agent.own("steps", body).status_code == 201
    agent.tool("record_discovery", kind="fact", title="It is correct horse battery.")
    agent.tool("complete_card", summary="Deployed with correct horse battery.")
    assert Decision.objects.get().title == "Sign in with [redacted]"
    assert Discovery.objects.get().title == "It is [redacted]."
    kept = [str(row) for row in [*Step.objects.values(), *Event.objects.values()]]
    assert "[redacted]" in "".join(kept)
    assert "horse" not in "".join(kept)
    # Set to something else, that is what is looked for from then on.
    keeping.put(agent.card.board_id, "user:ann", "DEPLOY_KEY", "another battery")
    agent.own("decisions", {"title": "Not correct horse battery but another battery"})
    assert Decision.objects.latest("at").title == "Not correct horse battery but [redacted]"
