"""Agents that a built-in worker runs: what is recorded of them, how they go on, what ends them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from boards import leases
from boards.models import Attempt, Card, Message
from checkpoints.models import Checkpoint, Step
from kernel.access import SYSTEM
from kernel.errors import LeaseLost
from tests.workbench import Bench, logged, trees, wait_for
from workers import assignments, carrying, runner, saying
from workers.executors.agent_cli.adapters import ADAPTERS, Plan
from workers.executors.agent_cli.events import Kind
from workers.executors.agent_cli.executor import EXECUTOR
from workers.executors.agent_cli.recorder import Meter
from workers.executors.agent_cli.samples import path_with_agents, told
from workers.executors.agent_cli.troubles import Meaning, meaning_of, wait_seconds
from workers.executors.contract import Usage
from workers.runner import Outcome

runs = pytest.mark.django_db(transaction=True)


@pytest.fixture
def env(tmp_path: Path) -> Iterator[Mapping[str, str]]:
    folder = tmp_path / "agents"
    folder.mkdir()
    with path_with_agents(folder) as env:
        yield env


def acp(*script: Mapping[str, Any]) -> dict[str, Any]:
    told_claude = told(*script)
    return {"acp": ["scripted-acp", "--acp"], "prompt": told_claude["prompt"]}


SPEAKERS = {"stream": told, "acp": acp}


def card_for(bench: Bench, env: Mapping[str, str], agent: Any, **step: Any) -> Card:
    return bench.card({"key": "it", "agent": agent, "env": dict(env), **step})


def parts(card: Card) -> list[tuple[str, str]]:
    """Return what the journal counts, by name and status, in order."""
    rows = Step.objects.on_line(card.pk, card.line).filter(key__startswith="it/")
    return [(row.key.rpartition("/")[2], row.status) for row in rows.order_by("number")]


def sessions(card: Card) -> int:
    """Return how many sessions of agents are on record."""
    return sum(name.endswith("-session") for name, _ in parts(card))


def prompt_of(card: Card) -> str:
    (tree,) = trees(card)
    (found,) = (tree.parent / "home" / ".holdfast").glob("*/prompt.md")
    return found.read_text()


# ── what is recorded ─────────────────────────────────────────────────────────────────────


@runs
def test_its_calls_words_costs_and_session_stand_under_the_step(
    bench: Bench, env: Mapping[str, str]
) -> None:
    work = told({"say": "I look."}, {"run": "echo one > f"}, {"run": "false"}, {"end": "Done."})
    card = card_for(bench, env, work)
    assert bench.run(card) == Outcome.COMPLETED
    assert parts(card) == [
        ("0001-session", "succeeded"),
        ("0002-said", "succeeded"),
        ("0003-Bash", "succeeded"),
        ("0004-Bash", "failed"),
        ("done", "succeeded"),
    ]
    step = Step.objects.get(card=card, key="it")
    assert (
        step.result["session"] == Step.objects.get(key__endswith="0001-session").result["session"]
    )
    assert (step.result["tool_calls"], step.result["turns"]) == (2, 1)
    attempt = Attempt.objects.get(card=card)
    assert (attempt.input_tokens, attempt.output_tokens) == (100, 7)  # the run's total, once
    assert str(attempt.cost_usd) == "0.010000"
    first = Checkpoint.objects.filter(card=card).order_by("number")[0]
    assert "echo one > f" in first.summary
    assert first.workspace["changed_files"] == 1


@runs
def test_it_is_told_of_the_card_and_of_its_token_without_a_file_holding_it(
    bench: Bench, env: Mapping[str, str]
) -> None:
    spy = 'test "${HOLDFAST_TOKEN#hfa_}" != "$HOLDFAST_TOKEN" && cp "$HOLDFAST_PROMPT_FILE" told'
    card = card_for(bench, env, told({"run": spy}, {"end": "Done."}), title="t")
    assert bench.run(card) == Outcome.COMPLETED
    (tree,) = trees(card)
    prompt = (tree / "told").read_text()
    attempt = Attempt.objects.get(card=card)
    for known in (card.title, "Do this:", f"pass attempt_id {attempt.pk}", "never push"):
        assert known in prompt
    config = (tree.parent / "home" / ".holdfast").glob("claude-*/mcp.json")
    assert "${HOLDFAST_TOKEN}" in next(iter(config)).read_text()
    found = [p for p in tree.parent.rglob("*") if p.is_file() and b"hfa_" in p.read_bytes()]
    assert not [p for p in found if "hfa_" in p.read_text(errors="replace").replace("#hfa_", "")]


@runs
def test_what_it_says_beside_its_protocol_does_no_harm(
    bench: Bench, env: Mapping[str, str]
) -> None:
    odd = ['{"type": "assistant", "message": 7}', "no JSON", "[1]", '{"type": null}', "{" * 5000]
    work = told(*({"raw": line} for line in odd), {"end": "Done."})
    card = card_for(bench, env, work)
    assert bench.run(card) == Outcome.COMPLETED
    assert "no JSON" in logged(card)


@runs
def test_an_end_without_a_last_word_is_a_failure(bench: Bench, env: Mapping[str, str]) -> None:
    card = card_for(bench, env, told({"run": "true"}, {"exit": 0}))
    assert bench.run(card) == Outcome.FAILED
    assert "without a word on how it went" in Attempt.objects.get(card=card).error


@runs
def test_any_command_is_an_agent_by_template(bench: Bench, env: Mapping[str, str]) -> None:
    command = 'cat > told; echo "model $HOLDFAST_MODEL"; test -n "$HOLDFAST_TOKEN"'
    agent = {"command": command, "model": "m1", "prompt": "Count the words"}
    card = card_for(bench, env, agent)
    assert bench.run(card) == Outcome.COMPLETED
    assert "Count the words" in (trees(card)[0] / "told").read_text()
    assert "model m1" in Step.objects.get(card=card, key="it").result["outputs"]["summary"]
    assert bench.run(card_for(bench, env, {**agent, "command": "exit 4"})) == Outcome.FAILED


# ── going on ─────────────────────────────────────────────────────────────────────────────


@runs
@pytest.mark.parametrize("speaker", SPEAKERS)
def test_a_killed_agents_session_goes_on_from_the_files_of_the_last_checkpoint(
    bench: Bench, env: Mapping[str, str], speaker: str
) -> None:
    started = bench.effects / "started"
    wait = f"test -e {started} || {{ touch {started}; exec sleep 1000; }}"
    script = [{"run": f"echo a > kept; {bench.mark('first')}"}, {"run": wait}, {"end": "Done."}]
    card = card_for(bench, env, SPEAKERS[speaker](*script))
    work = bench.start(card)
    wait_for(lambda: started.exists() and Checkpoint.objects.filter(card=card).exists())
    (tree,) = trees(card)
    (tree / "later").write_text("after the checkpoint")
    leases.expire(work.attempt.pk, actor=SYSTEM.actor)
    assert work.result() == Outcome.LOST

    assert bench.run(card) == Outcome.COMPLETED
    assert bench.count("first") == 1
    assert sorted(p.name for p in tree.iterdir()) == ["kept"]
    names = [name for name, _ in parts(card)]
    assert sum(name.endswith("-session") for name in names) == 1
    interrupted = Step.objects.on_line(card.pk, 1).get(error__startswith="Interrupted")
    assert interrupted.status == "failed"
    told_again = prompt_of(card)
    assert "You were interrupted" in told_again
    assert "The last checkpoint says" in told_again
    assert Attempt.objects.filter(card=card).count() == 2


@runs
@pytest.mark.parametrize("speaker", SPEAKERS)
def test_where_the_session_is_lost_a_new_one_begins_with_the_briefing(
    bench: Bench, env: Mapping[str, str], speaker: str
) -> None:
    started = bench.effects / "started"
    wait = f"test -e {started} || {{ touch {started}; exec sleep 1000; }}"
    card = card_for(bench, env, SPEAKERS[speaker]({"run": wait}, {"end": "Done."}))
    work = bench.start(card)
    wait_for(lambda: started.exists() and sessions(card) == 1)
    leases.expire(work.attempt.pk, actor=SYSTEM.actor)
    assert work.result() == Outcome.LOST
    (tree,) = trees(card)
    shutil.rmtree(tree.parent / "home" / ".scripted")
    assert bench.run(card) == Outcome.COMPLETED
    assert "can't be resumed; a new one begins" in logged(card)
    assert "You were interrupted" not in prompt_of(card)
    assert sessions(card) == 2


@runs
def test_resume_never_begins_afresh(bench: Bench, env: Mapping[str, str]) -> None:
    started = bench.effects / "started"
    wait = f"test -e {started} || {{ touch {started}; exec sleep 1000; }}"
    card = card_for(bench, env, {**told({"run": wait}, {"end": "Done."}), "resume": "never"})
    work = bench.start(card)
    wait_for(lambda: started.exists() and sessions(card) == 1)
    leases.expire(work.attempt.pk, actor=SYSTEM.actor)
    assert work.result() == Outcome.LOST
    assert bench.run(card) == Outcome.COMPLETED
    assert sessions(card) == 2


@runs
def test_an_agent_that_is_done_is_not_run_again_for_a_worker_that_died_after_it(
    bench: Bench, env: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    card = card_for(bench, env, told({"run": bench.mark("done")}, {"end": "Mended it."}))

    def die(*_: Any) -> None:
        raise LeaseLost("killed here")

    with monkeypatch.context() as patched:
        patched.setattr(carrying.Carrier, "_record", die)
        assert bench.run(card) == Outcome.LOST
    leases.expire(Attempt.objects.get(card=card).pk, actor=SYSTEM.actor)
    assert bench.run(card) == Outcome.COMPLETED
    assert bench.count("done") == 1
    last = card.checkpoints.order_by("-number")[0]
    assert "Mended it." in last.summary


# ── waiting, asking, ending ──────────────────────────────────────────────────────────────


@runs
def test_a_limit_of_the_provider_means_to_wait_not_to_fail(
    bench: Bench, env: Mapping[str, str]
) -> None:
    error = "API Error: 429 rate_limit_error; try again in 90 seconds"
    card = card_for(bench, env, told({"run": "true"}, {"error": error}))
    assert bench.run(card) == Outcome.RELEASED
    attempt = Attempt.objects.get(card=card)
    assert attempt.reason == "rate_limited"
    assert attempt.input_tokens == 100  # it was paid for
    wait = (card.not_before - timezone.now()).total_seconds()
    assert 60 < wait <= 91
    assert card.failures == 0


@runs
@pytest.mark.parametrize(
    ("agent", "asked"),
    [
        ({"cli": "qwen", "prompt": "x"}, "there is no program qwen"),
        ({"acp": ["nobody", "--acp"], "prompt": "x"}, "there is no program nobody"),
        (told({"error": "Invalid API key · Please run /login"}), "is not let in"),
    ],
    ids=["no-cli", "no-acp", "no-key"],
)
def test_what_only_a_person_can_mend_is_asked_for(
    bench: Bench, env: Mapping[str, str], agent: Any, asked: str
) -> None:
    folder = env["PATH"].partition(os.pathsep)[0]
    bare = {"PATH": f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin"}
    card = card_for(bench, bare, agent)
    assert bench.run(card) == Outcome.BLOCKED
    assert asked in Message.objects.get(card=card, kind="question").text


@runs
def test_a_program_that_cannot_be_run_is_its_hosts_fault_and_not_the_cards(
    bench: Bench, env: Mapping[str, str]
) -> None:
    program = Path(env["PATH"].partition(os.pathsep)[0]) / "claude"
    program.write_text("#!/no/such/interpreter\n")
    card = card_for(bench, env, told({"end": "Done."}))
    assert bench.run(card) == Outcome.FAILED
    attempt = Attempt.objects.get(card=card)
    assert attempt.fault == "infrastructure"
    assert Step.objects.get(card=card, key="it").result["broken"] == "agent.cli=claude"


@runs
@pytest.mark.parametrize(
    ("script", "model", "whose"),
    [
        ("echo 'settings.json: unexpected token' >&2; exit 3", "", "the host's"),
        ("""echo '{"type":"result","is_error":true,"result":"bad settings"}'""", "", "the host's"),
        ("echo 'unknown model gpt-nine' >&2; exit 2", "gpt-nine", "the card's"),
        ("exec real-claude; exit 3", "", "the card's"),
    ],
    ids=["dies", "says-so", "its-model", "after-a-call"],
)  # fmt: skip
def test_an_agent_that_gets_nowhere_is_no_fault_of_the_card(
    bench: Bench, env: Mapping[str, str], script: str, model: str, whose: str
) -> None:
    program = Path(env["PATH"].partition(os.pathsep)[0]) / "claude"
    program.rename(program.with_name("real-claude"))
    program.write_text(f"#!/bin/sh\n{script}\n".replace("real-claude", 'real-claude "$@"'))
    program.chmod(0o755)
    work = told({"run": "true"}, {"exit": 3}) | ({"model": model} if model else {})
    card = card_for(bench, env, work)
    assert bench.run(card) == Outcome.FAILED
    result = Step.objects.get(card=card, key="it").result
    said = "broken" in result, Attempt.objects.get(card=card).fault == "infrastructure"
    assert said == ((True, True) if whose == "the host's" else (False, False))
    if "settings" in script:
        assert "settings" in result["because"]


@runs
@pytest.mark.parametrize(
    ("script", "whose"),
    [
        ("mkdir .aider.tags.cache.v4; echo x > .aider.tags.cache.v4/db; echo torn", "host"),
        ("echo y >> README.md; echo torn", "card"),
        ("echo y > new.py; echo torn", "card"),
        ("echo 'gpt-x: no such model'", "card"),
    ],
    ids=["did-nothing", "changed", "added", "its-model"],
)  # fmt: skip
def test_of_an_agent_that_tells_nothing_the_files_say_whether_it_did_anything(
    bench: Bench, env: Mapping[str, str], tmp_path: Path, script: str, whose: str
) -> None:
    aider = tmp_path / "agents" / "aider"
    aider.write_text(f"#!/bin/sh\necho Model: gpt-x\n{script}\nexit 3\n")
    aider.chmod(0o755)
    plant = {"key": "plant", "run": "echo hello > README.md"}
    agent = {"cli": "aider", "prompt": "x", "model": "gpt-x"}
    card = bench.card(plant, {"key": "it", "agent": agent, "env": dict(env)})
    assert bench.run(card) == Outcome.FAILED
    result = Step.objects.get(card=card, key="it").result
    said = "broken" in result, Attempt.objects.get(card=card).fault == "infrastructure"
    assert said == ((True, True) if whose == "host" else (False, False))
    if whose == "host":
        assert result["broken"] == "agent.cli=aider"


@runs
def test_an_executor_that_breaks_is_told_apart_from_its_host(
    bench: Bench, env: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def carry_out(assignment: Any) -> Any:
        raise ZeroDivisionError("no division")

    monkeypatch.setattr(EXECUTOR, "carry_out", carry_out, raising=False)
    card = card_for(bench, env, told({"end": "Done."}))
    assert bench.run(card) == Outcome.FAILED
    attempt = Attempt.objects.get(card=card)
    assert (attempt.fault, "no division" in attempt.error) == ("infrastructure", True)
    assert Step.objects.get(card=card, key="it").result["broken"] == "agent.cli=claude"


@runs
def test_files_of_a_repository_that_an_agent_would_obey_are_asked_about(
    bench: Bench, env: Mapping[str, str], tmp_path: Path
) -> None:
    aider = tmp_path / "agents" / "aider"
    aider.write_text("#!/bin/sh\nexec echo edited\n")
    aider.chmod(0o755)
    plant = {"key": "plant", "run": "echo 'test-cmd: evil' > .aider.conf.yml"}
    agent = {"cli": "aider", "prompt": "x"}
    card = bench.card(plant, {"key": "it", "agent": agent, "env": dict(env)})
    assert bench.run(card) == Outcome.BLOCKED
    assert ".aider.conf.yml" in card.blocked_reason
    agent["trust_repository"] = True
    card = bench.card(plant, {"key": "it", "agent": agent, "env": dict(env)})
    assert bench.run(card) == Outcome.COMPLETED


@runs
@pytest.mark.parametrize(
    ("word", "outcome", "what"),
    [
        ({"says": "complete", "summary": "All is well"}, Outcome.COMPLETED, "All is well"),
        ({"says": "fail", "error": "It can't be done"}, Outcome.FAILED, "It can't be done"),
        ({"says": "block", "reason": "Which?", "options": ["a"]}, Outcome.BLOCKED, "Which?"),
        ({"says": "release", "summary": "Half of it"}, Outcome.RELEASED, "Half of it"),
    ],
    ids=lambda value: value["says"] if isinstance(value, dict) else "",
)
def test_what_it_said_of_the_end_is_done_by_its_worker(
    bench: Bench, env: Mapping[str, str], monkeypatch: pytest.MonkeyPatch, word: Any, outcome: Any,
    what: str,
) -> None:  # fmt: skip
    card = card_for(bench, env, told({"run": "true"}, {"end": "I am through."}))
    answers = iter([None, word])
    monkeypatch.setattr(assignments.Assignment, "agents_word", lambda _: next(answers))
    assert bench.run(card) == outcome
    attempt = Attempt.objects.get(card=card)
    kept = [attempt.outcome, attempt.lesson, *card.checkpoints.values_list("summary", flat=True)]
    assert what in " ".join(kept)


@runs
def test_a_word_of_another_step_is_not_taken_for_this_ones(
    bench: Bench, env: Mapping[str, str]
) -> None:
    card = card_for(bench, env, told({"run": "true"}, {"end": "Done."}))
    attempt = bench.claim(card)
    saying.keep(attempt.pk, "block", {"reason": "Said by the step before"})
    assert runner.run_slice(attempt) == Outcome.COMPLETED


# ── what agents say ──────────────────────────────────────────────────────────────────────


def plan(tmp_path: Path, **fields: Any) -> Plan:
    given: dict[str, Any] = {
        "home": tmp_path, "own": tmp_path, "top": tmp_path / "tree",
        "tree": tmp_path / "tree", "prompt": "Do it",
        "prompt_file": tmp_path / "prompt.md", "session": "s-1", "resume": False, "model": "m",
        "args": ("--more",), "env": {}, "url": "http://127.0.0.1:1", "token": "hfa_x",
        "trusted": False, "argv": ("agent", "--acp"), "command": "agent",
    }  # fmt: skip
    return Plan(**{**given, **fields})


def heard(tmp_path: Path, cli: str, *lines: Any) -> list[tuple[Any, ...]]:
    """Return what the adapter makes of the lines, as kind and what matters of it."""
    parser = ADAPTERS[cli].parser(plan(tmp_path))
    found = []
    for line in lines:
        for event in parser.feed(line if isinstance(line, str) else json.dumps(line)):
            if event.kind is Kind.OTHER:
                continue
            usage = event.usage and (event.usage.input_tokens, event.usage.output_tokens)
            said = (event.kind, event.id, event.name, event.text, event.ok, usage)
            found.append(tuple(value for value in said if value not in ("", None, True)))
    return found


def test_codex(tmp_path: Path) -> None:
    item = {"id": "item_1", "type": "command_execution", "command": "bash -lc 'make'"}
    output = {"aggregated_output": "no rule", "exit_code": 2, "status": "failed"}
    tool = {"id": "item_2", "type": "mcp_tool_call", "server": "holdfast", "tool": "heartbeat"}
    answer = {"content": [{"type": "text", "text": "{}"}]}
    assert heard(
        tmp_path,
        "codex",
        {"type": "thread.started", "thread_id": "01a2"},
        {"type": "turn.started"},
        {"type": "item.started", "item": {**item, "exit_code": None, "status": "in_progress"}},
        {"type": "item.completed", "item": {**item, **output}},
        {"type": "item.started", "item": {**tool, "arguments": {"note": "x"}}},
        {"type": "item.completed", "item": {**tool, "result": answer, "status": "completed"}},
        {"type": "item.completed", "item": {"id": "i", "type": "agent_message", "text": "Done."}},
        {"type": "turn.completed", "usage": {"input_tokens": 400, "output_tokens": 40}},
    ) == [
        (Kind.SESSION, "01a2"),
        (Kind.CALLED, "item_1", "shell", "bash -lc 'make'"),
        (Kind.RETURNED, "item_1", "exit code 2\nno rule", False),
        (Kind.CALLED, "item_2", "mcp__holdfast__heartbeat", "note"),
        (Kind.RETURNED, "item_2", "{}"),
        (Kind.SAID, "Done."),
        (Kind.TOTAL, (400, 40)),
        (Kind.OVER, "Done."),
    ]
    failed = {"type": "turn.failed", "error": {"message": "unexpected status 401 Unauthorized"}}
    assert heard(tmp_path, "codex", failed) == [
        (Kind.OVER, "unexpected status 401 Unauthorized", False)
    ]


def test_opencode(tmp_path: Path) -> None:
    state = {"status": "completed", "input": {"command": "make"}, "output": "ok"}
    tool = {"type": "tool", "tool": "bash", "callID": "c1", "state": state}
    tokens = {"input": 100, "output": 10, "reasoning": 1, "cache": {"write": 2, "read": 3}}
    lines = [
        {"type": "tool_use", "part": tool},
        {"type": "step_finish", "part": {"reason": "tool-calls", "tokens": tokens, "cost": 0.5}},
        {"type": "text", "part": {"type": "text", "text": "Done."}},
        {"type": "step_finish", "part": {"reason": "stop", "tokens": {}, "cost": 0}},
    ]
    assert heard(tmp_path, "opencode", *({**line, "sessionID": "ses_1"} for line in lines)) == [
        (Kind.SESSION, "ses_1"),
        (Kind.CALLED, "c1", "bash", "make"),
        (Kind.RETURNED, "c1", "ok"),
        (Kind.SPENT, (105, 11)),
        (Kind.SAID, "Done."),
        (Kind.SPENT, (0, 0)),
        (Kind.OVER, "Done."),
    ]
    data = {"message": "Rate limit", "statusCode": 429}
    error = {"type": "error", "error": {"name": "APIError", "data": data}}
    assert heard(tmp_path, "opencode", error) == [(Kind.OVER, "APIError 429 Rate limit", False)]


def test_gemini(tmp_path: Path) -> None:
    said = {"type": "message", "role": "assistant", "delta": True}
    called = {"type": "tool_use", "tool_name": "run_shell_command", "tool_id": "t1"}
    assert heard(
        tmp_path,
        "gemini",
        {"type": "init", "session_id": "u-1", "model": "gemini-2.5-pro"},
        {"type": "message", "role": "user", "content": "Do it"},
        {**called, "parameters": {"command": "make"}},
        {"type": "tool_result", "tool_id": "t1", "status": "success", "output": "ok"},
        {**said, "content": "All "},
        {**said, "content": "done."},
        {"type": "result", "status": "success", "stats": {"input_tokens": 9, "output_tokens": 2}},
    ) == [
        (Kind.SESSION, "u-1"),
        (Kind.CALLED, "t1", "run_shell_command", "make"),
        (Kind.RETURNED, "t1", "ok"),
        (Kind.SAID, "All done."),
        (Kind.OVER, "All done.", (9, 2)),
    ]


def test_claude_counts_a_message_once_however_many_blocks_it_has(tmp_path: Path) -> None:
    usage = {"input_tokens": 5, "cache_read_input_tokens": 7, "output_tokens": 1}
    message = {"id": "m1", "usage": usage, "content": [{"type": "text", "text": "Look"}]}
    line = {"type": "assistant", "session_id": "s", "message": message}
    assert heard(tmp_path, "claude", line, line)[:3] == [
        (Kind.SESSION, "s"),
        (Kind.SPENT, (12, 0)),
        (Kind.SAID, "Look"),
    ]
    assert len(heard(tmp_path, "claude", line, line)) == 4


def test_an_acp_agent_of_another_version_or_without_a_key_is_refused(tmp_path: Path) -> None:
    parser = ADAPTERS["acp"].parser(plan(tmp_path))
    assert json.loads(parser.opening())["params"]["protocolVersion"] == 1  # type: ignore[union-attr]
    (over,) = parser.feed('{"id": 1, "result": {"protocolVersion": 2}}')
    assert (over.kind, over.ok) == (Kind.OVER, False)
    assert "version 2" in over.text


@pytest.mark.parametrize("cli", ["claude", "codex", "opencode", "qwen", "gemini"])
def test_neither_token_nor_prompt_is_on_the_command_line_or_in_a_file(
    tmp_path: Path, cli: str
) -> None:
    (tmp_path / "tree").mkdir()
    start = ADAPTERS[cli].start(plan(tmp_path))
    words = " ".join(start.argv)
    assert "hfa_x" not in words
    assert "Do it" not in words
    assert start.argv[-1] in ("--more", "-")
    written = [p for p in tmp_path.iterdir() if p.is_file()]
    assert written
    for path in written:
        assert "hfa_x" not in path.read_text()
        assert path.stat().st_mode & 0o077 == 0
    assert not list((tmp_path / "tree").iterdir())


def test_a_workspace_is_no_part_of_a_repository_that_it_stands_in(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    inner = tmp_path / "tree" / "inner"
    inner.mkdir(parents=True)
    assert "--no-git" in ADAPTERS["aider"].start(plan(tmp_path, tree=inner)).argv
    (tmp_path / "tree" / ".git").mkdir()
    assert "--no-git" not in ADAPTERS["aider"].start(plan(tmp_path, tree=inner)).argv


def test_the_repositorys_own_servers_and_hooks_are_left_out_unless_it_is_trusted(
    tmp_path: Path,
) -> None:
    def how(cli: str, *, trusted: bool) -> str:
        start = ADAPTERS[cli].start(plan(tmp_path, trusted=trusted))
        files = "".join(p.read_text() for p in tmp_path.iterdir() if p.is_file())
        return " ".join([*start.argv, *start.env, files])

    for cli, sign in (
        ("claude", "--strict-mcp-config"),
        ("claude", "--setting-sources user"),
        ("opencode", "OPENCODE_DISABLE_PROJECT_CONFIG"),
        ("codex", '"untrusted"'),
        ("gemini", '"allowed"'),
        ("qwen", '"disableAllHooks"'),
    ):
        assert sign in how(cli, trusted=False), cli
        assert sign not in how(cli, trusted=True), cli


# ── what it costs, what errors mean ──────────────────────────────────────────────────────


def test_totals_of_a_resumed_session_count_once() -> None:
    meter = Meter(Usage(400, 40, "0.5"))
    meter.session(Usage(650, 60, "0.7"))
    assert meter.take() == Usage(250, 20, "0.2")
    assert meter.take() is None


def test_a_runs_total_adds_what_its_pieces_left_out() -> None:
    meter = Meter(Usage())
    meter.spend(Usage(10, 0))
    assert meter.take() == Usage(10, 0, "0")
    meter.spend(Usage(20, 0))
    meter.run(Usage(100, 7, "0.01", "m"))
    assert meter.take() == Usage(90, 7, "0.01", "m")


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        ('API Error: 529 {"type":"overloaded_error"}', Meaning.RATE_LIMITED),
        ("Claude AI usage limit reached|1796000000", Meaning.RATE_LIMITED),
        ("You've hit your usage limit. Try again in 3 hours", Meaning.RATE_LIMITED),
        ("[API Error: RESOURCE_EXHAUSTED quota]", Meaning.RATE_LIMITED),
        ("unexpected status 401 Unauthorized: Missing bearer", Meaning.NOT_SIGNED_IN),
        ("Invalid API key · Please run /login", Meaning.NOT_SIGNED_IN),
        ("Please set an Auth method in your settings.json", Meaning.NOT_SIGNED_IN),
        ("No conversation found with session ID: 7", Meaning.SESSION_LOST),
        ("Error: No saved session found with ID x", Meaning.SESSION_LOST),
        ("The build failed with 2 errors", Meaning.FAILED),
        ("", Meaning.FAILED),
    ],
)
def test_what_an_error_asks_for(error: str, meaning: Meaning) -> None:
    assert meaning_of(error) is meaning


def test_how_long_an_error_asks_to_wait() -> None:
    assert wait_seconds("overloaded") == 60
    assert wait_seconds("retry after 12.5 s") == 13
    assert wait_seconds("Please try again in 3 minutes") == 180
    assert wait_seconds("usage limit reached|1796000000", now=1795999000.0) == 1000
    assert wait_seconds("try again in 90 hours") == 6 * 3600


def test_cards_may_require_the_agents_that_are_here(
    env: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", env["PATH"].partition(os.pathsep)[0])
    assert list(EXECUTOR.capabilities) == ["agent", "claude"]
