"""Steps of every kind on a host that has only the server's address and a token, though it dies."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from typing import Any

import pytest

from tests.client.desk import Desk
from tests.client.elsewhere import Elsewhere
from tests.serving import until
from tests.workers.model_api import Answer, Request, serving
from workers.executors.agent_cli import samples as agents

pytestmark = pytest.mark.system

#: What a program does at the server's doors with nothing but its attempt's own token.
PROGRAM = """
import json, os, sys, urllib.request
def call(path, body):
    token = os.environ["HOLDFAST_TOKEN"]
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    url = os.environ["HOLDFAST_URL"] + path
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    return json.load(urllib.request.urlopen(request))
def tool(name, **said):
    arguments = {"attempt_id": os.environ["HOLDFAST_ATTEMPT"], **said}
    params = {"name": name, "arguments": arguments}
    told = call("/mcp", {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
    assert not told["result"].get("isError"), told["result"]["content"][0]["text"]
    return told["result"]
"""


def question_of(desk: Desk, card: str) -> dict[str, Any]:
    """Return the open question that blocks the card; its worker is free by then."""
    steps = desk.get(f"/cards/{card}/steps?limit=200")["results"]
    assert desk.get(f"/cards/{card}")["state"] == "blocked", [s["error"] for s in steps]
    said = desk.get(f"/cards/{card}/messages")["results"]
    (question,) = [one for one in said if one["kind"] == "question" and not one["closed_at"]]
    return dict(question)


def answer(desk: Desk, card: str, text: str) -> None:
    body = {"text": text, "answers": question_of(desk, card)["id"]}
    said = desk.site.call("POST", f"/api/v1/cards/{card}/messages", body)
    assert said.status == 201, said.body


def test_a_model_step_goes_on_where_its_killed_host_was_and_asks_no_turn_twice(
    elsewhere: Elsewhere,
) -> None:
    desk, killed = elsewhere.desk, []

    def script(request: Request) -> Answer:
        turn = request.done + 1
        if turn == 4 and not killed:
            killed.append(elsewhere.started[-1].pid)
            os.kill(killed[0], signal.SIGKILL)
            return {"hang": True}
        if turn <= 5:
            command = f"echo {turn} >> done.txt; echo x >> {elsewhere.folder}/turn{turn}"
            return {"calls": [("run_command", {"command": command})]}
        if turn == 6:
            return {"calls": [("ask_person", {"question": "Which channel?"})]}
        return {"text": f"It went to {request.results[-1][1]}"}

    with serving(script) as api:
        env = {name: value for name, value in api.env.items() if name.startswith("OPENAI")}
        given = {"model": "openai:scripted", "prompt": "Release it."}
        card = desk.card(workflow={"steps": [{"key": "release", "llm": given}]})
        worker = elsewhere.worker("--once", "--wait", "60", "--lease", "2", host="first", **env)
        worker.communicate(timeout=180)
        assert worker.returncode == -signal.SIGKILL
        elsewhere.carried_out(host="second", **env)
        answer(desk, card, "stable")
        elsewhere.carried_out(host="third", **env)
        assert desk.get(f"/cards/{card}")["state"] == "completed"
        assert set(Counter(api.answered).values()) == {1}, api.answered
    assert [elsewhere.count(f"turn{n}") for n in range(1, 6)] == [1] * 5
    assert {a["worker"] for a in desk.attempts(card)} == {"first", "second", "third"}
    step = desk.get(f"/cards/{card}/steps?limit=1")["results"][0]
    assert "stable" in str(step["result"])


def test_an_agent_reaches_the_server_from_a_host_and_is_followed_on_another(
    elsewhere: Elsewhere,
) -> None:
    desk, at = elsewhere.desk, elsewhere.folder
    (at / "doors.py").write_text(PROGRAM)
    (at / "ask.py").write_text(
        "from doors import tool\n"
        'tool("record_decision", title="Mend it in place", rationale="It is one line")\n'
        'tool("block_card", reason="Unsure", question="Ship it?", options=["yes-please", "no"])\n'
    )
    bin_ = at / "bin"
    bin_.mkdir()
    python = f"{sys.executable} -S"
    mark = f"test -e first.txt || (echo x >> {at}/firsts; echo one > first.txt)"
    wait = f"echo x >> {at}/up; while [ ! -e {at}/gate ]; do sleep 0.05; done"
    # The answer is in the briefing of whoever goes on.
    ask = f'grep -q "yes-[p]lease" "$HOLDFAST_PROMPT_FILE" || {python} {at}/ask.py'
    goal = desk.site.call("POST", "/api/v1/goals", {"board": desk.board, "title": "Ship"}).body
    with agents.path_with_agents(bin_) as path:
        prompt = agents.told({"run": mark}, {"run": wait}, {"run": ask}, {"end": "It is done"})
        given = {"cli": "claude", "prompt": prompt["prompt"]}
        card = desk.card(goal=goal["id"], workflow={"steps": [{"key": "mend", "agent": given}]})
        worker = elsewhere.worker("--once", "--wait", "60", "--lease", "2", host="first", **path)
        elsewhere.reached("up")
        until(lambda: ("mend/1/0002-Bash", "succeeded") in desk.steps(card))
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()
        (at / "gate").touch()
        elsewhere.carried_out(host="second", **path)
        assert question_of(desk, card)["options"] == ["yes-please", "no"]
        answer(desk, card, "yes-please")
        elsewhere.carried_out(host="third", **path)
    assert desk.get(f"/cards/{card}")["state"] == "completed"
    assert elsewhere.count("firsts") == 1
    decided = desk.get(f"/goals/{goal['id']}/decisions")["results"]
    assert "Mend it in place" in json.dumps(decided)


FLOWS = """
import os
from holdfast.workflows import workflow

@workflow("release")
def release(ctx):
    ctx.step("once", once)
    if ctx.ask("channel", "Which channel?", options=["stable", "beta"]) == "stable":
        return {"channel": "stable"}

def once():
    with open(os.environ["MARK"], "a") as file:
        file.write("x\\n")
"""


def test_questions_and_python_workflows_free_the_host_until_they_are_answered(
    elsewhere: Elsewhere,
) -> None:
    desk, at = elsewhere.desk, elsewhere.folder
    flows = at / "flows"
    flows.mkdir()
    (flows / "release.py").write_text(FLOWS)
    steps = [
        {"key": "ask", "ask": {"question": "Begin?", "options": ["yes", "no"]}},
        {"key": "rest", "wait": 0},
        {"key": "go", "python": "release", "if": "steps.ask.outputs.answer == 'yes'"},
        {"key": "say", "run": "echo went to ${{ steps.go.outputs.channel }} > out.txt"},
    ]
    card = desk.card(workflow={"env": {"MARK": str(at / "once")}, "steps": steps})
    env = {"WORKFLOWS_DIR": str(flows)}
    elsewhere.carried_out(host="first", **env)
    answer(desk, card, "yes")
    elsewhere.carried_out(host="second", **env)
    assert question_of(desk, card)["text"] == "Which channel?"
    answer(desk, card, "stable")
    elsewhere.carried_out(host="first", **env)
    assert desk.get(f"/cards/{card}")["state"] == "completed"
    assert elsewhere.count("once") == 1


def test_a_race_is_run_and_scored_on_another_host(elsewhere: Elsewhere) -> None:
    desk = elsewhere.desk
    write = 'echo "$(cat size.txt 2>/dev/null)1" > size.txt'
    steps = [{"key": "make", "run": "true"}, {"key": "write", "run": write}]
    card = desk.card(workflow={"steps": steps})
    elsewhere.carried_out(host="first")
    fork = {"checkpoint": 1, "approaches": ["One", "Two"], "choose": "score"}
    fork["score"] = "cat size.txt"
    raced = desk.site.call("POST", f"/api/v1/cards/{card}/fork", fork)
    assert raced.status == 201, raced.body
    racers = [one["key"] for one in raced.body["cards"]]
    for host in ("first", "second"):
        elsewhere.carried_out(host=host)
    race = desk.get(f"/cards/{racers[0]}/race")
    assert [racer["score"] for racer in race["racers"]] == [1.0, 1.0], race
    states = {desk.get(f"/cards/{key}")["state"] for key in racers}
    assert states == {"completed", "cancelled"}
