"""The hook as command lines run it: recorded events on stdin, a real server behind it."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import holdfast
from holdfast.hooks.dialects import DIALECTS, Dialect
from holdfast.hooks.keeper import Keeper
from holdfast.hooks.notes import Notes
from holdfast.hooks.server import Server
from holdfast.hooks.snippets import INSTRUCTIONS, snippets
from tests.client.desk import Desk
from tests.serving import ROOT, until

JSON = dict[str, Any]
RUN = [sys.executable, "-c", "from holdfast.cli import main; main()", "hook"]

# What each command line wrote on the stdin of its hooks, as recorded, less what is not read. The
# tool's answer stands as the server gave it; ``told`` is its text.
AFTER_CLAIM: dict[str, Callable[[str], JSON]] = {
    # Claude Code 2.1.197
    "claude": lambda told: {
        "hook_event_name": "PostToolUse",
        "permission_mode": "acceptEdits",
        "tool_name": "mcp__holdfast__claim_card",
        "tool_input": {"worker": "agent-1"},
        "tool_response": told,
    },
    # Codex 0.169.0
    "codex": lambda told: {
        "hook_event_name": "PostToolUse",
        "turn_id": "01a20622-5e37-7113-a9dd-2b32ab3e6535",
        "tool_name": "mcp__holdfast__claim_card",
        "tool_input": {"worker": "agent-1"},
        "tool_response": {
            "content": [{"type": "text", "text": told}],
            "structuredContent": json.loads(told),
        },
    },
    # Gemini CLI 0.61.0
    "gemini": lambda told: {
        "hook_event_name": "AfterTool",
        "tool_name": "mcp_holdfast_claim_card",
        "tool_input": {"worker": "agent-1"},
        "tool_response": {
            "llmContent": [{"text": f"<untrusted_context>\n{told}\n</untrusted_context>"}],
            "returnDisplay": "",
        },
    },
    # Qwen Code 0.15.10
    "qwen": lambda told: {
        "hook_event_name": "PostToolUse",
        "tool_name": "mcp__holdfast__claim_card",
        "tool_input": {"worker": "agent-1"},
        "tool_response": {"llmContent": [{"text": told}], "returnDisplay": told},
    },
    # OpenCode 1.18.33, by our plugin
    "opencode": lambda told: {
        "hook_event_name": "PostToolUse",
        "tool_name": "holdfast_claim_card",
        "tool_input": {"worker": "agent-1"},
        "tool_response": {"content": [{"type": "text", "text": told}]},
    },
    # Cursor, as documented
    "cursor": lambda told: {
        "hook_event_name": "postToolUse",
        "tool_name": "MCP:claim_card",
        "tool_input": json.dumps({"worker": "agent-1"}),
        "tool_output": json.dumps({"content": [{"type": "text", "text": told}]}),
    },
}
AFTER_SHELL: dict[str, JSON] = {
    cli: {
        "hook_event_name": event,
        "tool_name": tool,
        "tool_input": {"command": "echo hi > hello.txt"},
        "tool_response": {"stdout": "", "stderr": ""},
    }
    for cli, event, tool in (
        ("claude", "PostToolUse", "Bash"),
        ("codex", "PostToolUse", "Bash"),
        ("gemini", "AfterTool", "run_shell_command"),
        ("qwen", "PostToolUse", "run_shell_command"),
        ("opencode", "PostToolUse", "bash"),
        ("cursor", "postToolUse", "Shell"),
    )
}
# Qwen Code says that a stop hook is active when none has run yet.
STOP: dict[str, JSON] = {
    "claude": {"hook_event_name": "Stop", "stop_hook_active": False},
    "codex": {"hook_event_name": "Stop", "stop_hook_active": False},
    "gemini": {"hook_event_name": "AfterAgent", "prompt": "Work.", "stop_hook_active": False},
    "qwen": {"hook_event_name": "Stop", "stop_hook_active": True},
    "opencode": {"hook_event_name": "Stop"},
    "cursor": {"hook_event_name": "stop", "status": "completed", "loop_count": 0},
}
END: dict[str, JSON] = {
    "claude": {"hook_event_name": "SessionEnd", "reason": "other"},
    "codex": {"hook_event_name": "SessionEnd", "reason": "other"},
    "gemini": {"hook_event_name": "SessionEnd", "reason": "exit"},
    "qwen": {"hook_event_name": "SessionEnd", "reason": "other"},
    "opencode": {"hook_event_name": "SessionEnd"},
    "cursor": {"hook_event_name": "sessionEnd", "reason": "completed"},
}
LAST_WORDS = {"gemini": "prompt_response"}


@dataclass
class Session:
    """One session of a command line that works on one card of a board."""

    desk: Desk
    cli: str
    folder: Path
    card: str = ""
    attempt: str = ""
    url: str = ""
    token: str = ""
    said: list[str] = field(default_factory=list)  # on stderr, for whoever looks

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def work(self) -> Path:
        return self.folder / "work"

    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "XDG_STATE_HOME": str(self.state),
            "PYTHONPATH": str(ROOT),
            "HOLDFAST_URL": self.url or self.desk.url,
            "HOLDFAST_TOKEN": self.token or self.desk.token,
        }

    def raw(self, stdin: bytes, *words: str) -> bytes:
        """Return what the hook prints for these bytes. It must end well, whatever they are."""
        done = subprocess.run(
            [*RUN, *(words or (self.cli,))],
            input=stdin,
            env=self.environment(),
            cwd=self.work,
            capture_output=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert b"Traceback" not in done.stderr
        self.said.append(done.stderr.decode())
        return done.stdout

    def tell(self, event: JSON) -> JSON:
        """Return the hook's answer to the event, empty for silence."""
        session = "conversation_id" if self.cli == "cursor" else "session_id"
        told = {session: "ad484746-4db9", "cwd": str(self.work), **event}
        printed = self.raw(json.dumps(told).encode())
        return dict(json.loads(printed)) if printed.strip() else {}

    def call(self, tool: str, **args: Any) -> str:
        """Return the text of the tool's answer, as the agent calls it."""
        params = {"name": tool, "arguments": args}
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        answer = self.desk.site.call("POST", "/mcp", body, token=self.desk.token)
        return str(answer.body["result"]["content"][0]["text"])

    def claim(self, lease_seconds: int = 60) -> None:
        """Claim the card as the agent does, and tell the hook."""
        told = self.call(
            "claim_card", worker="agent-1", card=self.card, lease_seconds=lease_seconds
        )
        self.attempt = json.loads(told)["attempt_id"]
        assert self.tell(AFTER_CLAIM[self.cli](told)) == {}

    def use(self, tool: str, **args: Any) -> JSON:
        """Use a tool of ours as the agent does, and return the hook's answer to that."""
        given = {"attempt_id": self.attempt, **args}
        event = AFTER_CLAIM[self.cli](self.call(tool, **given))
        named = str(event["tool_name"]).replace("claim_card", tool)
        return self.tell({**event, "tool_name": named, "tool_input": given})

    def stop(self, words: str = "I think I am done.") -> JSON:
        said = {LAST_WORDS.get(self.cli, "last_assistant_message"): words}
        return self.tell({**STOP[self.cli], **said})

    @property
    def status(self) -> str:
        return str(self.desk.attempts(self.card)[0]["status"])

    def checkpoints(self) -> list[JSON]:
        return list(self.desk.get(f"/cards/{self.card}/checkpoints")["results"])


def texts(answer: JSON) -> str:
    """Return what the agent reads of an answer, in whichever field its command line wants it."""
    return json.dumps(answer, ensure_ascii=False)


@pytest.fixture
def session(request: pytest.FixtureRequest, desk: Desk, tmp_path: Path) -> Session:
    """A session of the command line in ``request.param``, of Claude Code unless told."""
    new = Session(desk, getattr(request, "param", "claude"), tmp_path, card=desk.card("Count"))
    new.work.mkdir()
    for words in (["init", "-q", "-b", "trunk"], ["add", "-A"]):
        subprocess.run(["git", *words], cwd=new.work, check=True)
    return new


every_cli = pytest.mark.parametrize("session", list(DIALECTS), indirect=True)


# ── the end ──────────────────────────────────────────────────────────────────────────────────


@every_cli
def test_an_agent_that_forgets_is_asked_once_and_leaves_a_handover(session: Session) -> None:
    session.claim()
    (session.work / "hello.txt").write_text("hi\n")
    assert session.tell(AFTER_SHELL[session.cli]) == {}

    asked = session.stop()
    expected = {"cursor": "followup_message", "opencode": "followup"}.get(session.cli, "reason")
    assert session.card in asked[expected]
    assert session.attempt in asked[expected]
    if expected == "reason":
        assert asked["decision"] == "block"
    assert session.status == "running"

    assert session.stop("I will not.") == {}  # never a loop
    assert session.tell(END[session.cli]) == {}
    until(lambda: session.status == "released")
    (checkpoint,) = session.checkpoints()
    assert "hello.txt" in checkpoint["summary"]
    assert "I will not." in checkpoint["summary"]
    assert checkpoint["workspace"]["changed_files"] == 1
    attempt = session.desk.attempts(session.card)[0]
    assert attempt["outcome"] == checkpoint["summary"]
    assert attempt["reason"] == "session_ended"
    until(lambda: not list(session.state.rglob("*.json")))


@every_cli
def test_an_agent_that_ends_its_card_is_left_alone(session: Session) -> None:
    session.claim()
    assert session.use("complete_card", summary="Counted.") == {}
    assert session.stop() == {}
    assert session.tell(END[session.cli]) == {}
    assert session.status == "succeeded"
    assert session.checkpoints() == []


def test_an_ending_tool_that_was_refused_ends_nothing(session: Session) -> None:
    session.claim()
    session.use("complete_card")  # without a summary
    session.use("save_checkpoint")  # nor this
    assert session.card in session.stop()["reason"]
    session.tell(END["claude"])
    until(lambda: session.status == "released")
    assert len(session.checkpoints()) == 1


def test_the_agents_own_checkpoint_stays_the_last_one(session: Session) -> None:
    session.claim()
    session.stop()
    session.use("save_checkpoint", summary="Half", next_step="Count on", state={"at": 7})
    assert session.stop() == {}
    session.tell(END[session.cli])
    until(lambda: session.status == "released")
    assert [c["summary"] for c in session.checkpoints()] == ["Half"]
    assert session.desk.attempts(session.card)[0]["next_step"] == "Count on"


def test_what_an_earlier_checkpoint_knew_is_carried_on(session: Session) -> None:
    session.claim()
    session.use("save_checkpoint", summary="Half", next_step="Count on", state={"at": 7})
    (session.work / "more.txt").write_text("8\n")
    session.tell(AFTER_SHELL[session.cli])
    session.tell(END[session.cli])
    until(lambda: session.status == "released")
    newest, agents = session.checkpoints()
    assert agents["summary"] == "Half"
    assert "more.txt" in newest["summary"]
    assert newest["next_step"].endswith("Count on")
    assert newest["state"] == {"at": 7}


def test_a_checkpoint_that_was_rewound_past_is_not_carried_on(session: Session) -> None:
    session.claim()
    for at in (1, 2):
        session.use("save_checkpoint", summary=f"At {at}", next_step=f"Do {at}", state={"at": at})
    session.use("release_card", summary="Off", next_step="Look")
    rewound = session.desk.site.call(
        "POST", f"/api/v1/cards/{session.card}/rewind", {"checkpoint": 1}
    )
    assert rewound.status == 200, rewound.body
    session.claim()
    session.tell(AFTER_SHELL["claude"])
    session.tell(END["claude"])
    until(lambda: session.status == "released")
    newest = session.checkpoints()[0]
    assert newest["number"] == 3
    assert newest["state"] == {"at": 1}
    assert newest["next_step"].endswith("Do 1")


def test_a_stop_after_a_stop_with_another_sight_still_hands_over(session: Session) -> None:
    session.claim()
    session.stop()
    session.stop("One")
    session.use("save_checkpoint", summary="Half", next_step="Count on", state={"at": 7})
    session.tell(AFTER_SHELL["claude"])
    session.stop("One")  # what is to be seen is as before, what is to be carried on is not
    session.tell(END["claude"])
    until(lambda: session.status == "released")
    assert session.checkpoints()[0]["state"] == {"at": 7}


def test_a_turn_that_was_broken_off_or_waits_for_its_own_work_is_not_asked(
    session: Session,
) -> None:
    session.claim()
    assert session.tell({**STOP["claude"], "background_tasks": [{"id": "b1"}]}) == {}
    assert session.tell({"hook_event_name": "stop", "status": "aborted"}) == {}
    assert session.stop()["decision"] == "block"


def test_a_session_without_a_card_is_left_alone(session: Session) -> None:
    assert session.tell(AFTER_SHELL["claude"]) == {}
    assert session.stop() == {}
    assert session.tell(END["claude"]) == {}
    assert session.desk.attempts(session.card) == []


# ── the heartbeat ────────────────────────────────────────────────────────────────────────────


def told_of_a_pause(session: Session, event: JSON) -> str:
    """Return what the agent is told once a heartbeat has fetched it."""
    return texts(until(lambda: session.tell(event)))


@every_cli
def test_a_heartbeat_brings_messages_and_a_pause_to_the_agent(session: Session) -> None:
    session.claim(lease_seconds=3)
    said = session.desk.site.call(
        "POST", f"/api/v1/cards/{session.card}/messages", {"text": "Mind the rounding – ½."}
    )
    assert said.status == 201
    session.desk.steer(session.card, "pause")
    first = told_of_a_pause(session, AFTER_SHELL[session.cli])
    assert "Mind the rounding – ½." in first
    assert f"a person paused {session.card}" in first
    again = told_of_a_pause(session, AFTER_SHELL[session.cli])
    assert "Mind the rounding" not in again  # told once
    assert f"a person paused {session.card}" in again  # true for as long as it lasts


def takeover(other: holdfast.Client, session: Session) -> holdfast.Attempt | None:
    """Return the session's card under another's lease, as soon as its own has lapsed."""
    return other.claim("bob", boards=[session.desk.board], lease_seconds=600)


class Counting(Server):
    """A server that counts its heartbeats."""

    beats = 0

    def call(self, tool: str, **args: Any) -> JSON:
        self.beats += tool == "heartbeat"
        return super().call(tool, **args)


def test_a_heart_beats_once_in_a_third_of_the_lease_and_once_a_minute(session: Session) -> None:
    claude: Dialect = DIALECTS["claude"]
    for lease_seconds, between in ((90, 30), (900, 60)):
        session.card = session.desk.card()
        told = session.call(
            "claim_card", worker="agent-1", card=session.card, lease_seconds=lease_seconds
        )
        server = Counting(session.desk.url, session.desk.token, 5)
        clock = [1_000_000.0]
        keeper = Keeper(claude, Notes(), server, lambda now=clock: now[0])  # type: ignore[misc]
        start = claude.event({"session_id": "s", **AFTER_CLAIM["claude"](told)})
        work = claude.event({"session_id": "s", **AFTER_SHELL["claude"]})
        assert start is not None
        assert work is not None
        keeper.handle(start)
        for _ in range(between * 4):
            clock[0] += 1
            keeper.handle(work)
        assert server.beats == 4
        clock[0] -= 5000  # set back: better one beat too many than none for an hour
        keeper.handle(work)
        assert server.beats == 5
        server.close()


def test_long_work_without_a_checkpoint_is_reminded_of_one_now_and_then(session: Session) -> None:
    claude: Dialect = DIALECTS["claude"]
    told = session.call("claim_card", worker="agent-1", card=session.card, lease_seconds=3600)
    server = Server(session.desk.url, session.desk.token, 5)
    clock = [1_000_000.0]
    keeper = Keeper(claude, Notes(), server, lambda: clock[0])

    def reminders(minutes: int) -> int:
        """Return how often the agent is reminded in so many minutes of using its tools."""
        event = claude.event({"session_id": "s", **AFTER_SHELL["claude"]})
        assert event is not None
        answers = []
        for _ in range(minutes * 2):
            clock[0] += 30
            answers.append(texts(keeper.handle(event) or {}))
        return sum("call save_checkpoint now" in answer for answer in answers)

    for text, tool, given in (
        (told, "claim_card", {}),
        ('{"checkpoint": 1, "new": true}', "save_checkpoint", {}),
        ("invalid: no summary", "save_checkpoint", {}),
    ):
        given["attempt_id"] = json.loads(told)["attempt_id"]
        named = {"tool_name": f"mcp__holdfast__{tool}", "tool_input": given}
        event = claude.event({"session_id": "s", **AFTER_CLAIM["claude"](text), **named})
        assert event is not None
        keeper.handle(event)
        # A checkpoint that was refused is none.
        assert reminders(9) == (0 if not text.startswith("invalid") else 1)
    assert reminders(30) == 3
    server.close()


def test_a_stale_attempt_is_told_once_and_touches_nothing_of_its_successor(
    session: Session,
) -> None:
    session.claim(lease_seconds=2)
    other = session.desk.client()
    successor = until(lambda: takeover(other, session))
    told = told_of_a_pause(session, AFTER_SHELL["claude"])
    assert f"{session.card} is no longer yours" in told
    assert session.tell(AFTER_SHELL["claude"]) == {}
    assert session.stop() == {}
    session.tell(END["claude"])
    assert session.status == "running"
    assert session.checkpoints() == []
    successor.release("Seen.")
    other.close()


def test_a_stale_attempt_is_not_asked_about_at_the_stop(session: Session) -> None:
    session.claim(lease_seconds=2)
    with session.desk.client() as other:
        successor = until(lambda: takeover(other, session))
        assert session.stop() == {}
        successor.release("Seen.")


# ── trouble ──────────────────────────────────────────────────────────────────────────────────


def test_a_server_that_is_down_costs_neither_agent_nor_card_anything(session: Session) -> None:
    session.claim()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        session.url = f"http://127.0.0.1:{free.getsockname()[1]}"
        assert session.stop() == {}  # what it was asked for it could not do
        assert "gives no answer" in session.said[-1]
    session.url = ""
    assert session.attempt in session.stop()["reason"]
    session.tell(END["claude"])
    until(lambda: session.status == "released")


def test_a_server_that_never_answers_holds_the_agent_up_for_seconds_only(session: Session) -> None:
    session.claim(lease_seconds=2)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        session.url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        until(lambda: session.tell(AFTER_SHELL["claude"]) == {} and "no answer" in session.said[-1])


def test_a_token_that_is_refused_is_said_and_forgets_nothing(session: Session) -> None:
    session.claim()
    session.token = "holdfast_" + "x" * 38
    session.stop()
    assert "refuses HOLDFAST_TOKEN" in session.said[-1]
    assert list(session.state.rglob("*.json"))


@pytest.mark.parametrize(
    "stdin",
    [
        b"",
        b"\xff\xfe\x00",
        b"null",
        b"[]",
        b"{}",
        b'{"hook_event_name": 5, "session_id": []}',
        b'{"hook_event_name": "PostToolUse", "session_id": "s", "tool_name": ["claim_card"]}',
        b'{"hook_event_name": "PostToolUse", "session_id": "s", "tool_name": "x_claim_card",'
        b' "tool_response": "\\ud800 {\\"attempt_id\\": 7}"}',
        b'{"hook_event_name": "Stop", "session_id": "s", "cwd": "/nowhere\\u0000"}',
        b"[" * 200_000,
        b'{"hook_event_name": "PostToolUse", "session_id": "s", "tool_name": "claim_card",'
        b' "tool_response": ' + b'{"a":' * 500 + b"1" + b"}" * 500 + b"}",
    ],
)
def test_garbage_on_stdin_is_met_with_silence(session: Session, stdin: bytes) -> None:
    assert session.raw(stdin) == b""


@pytest.mark.parametrize("words", [("bogus",), (), ("claude", "--loud"), ("claude", "a", "b")])
def test_no_mistake_in_the_settings_ends_in_an_exit_code_that_blocks(
    session: Session, words: tuple[str, ...]
) -> None:
    done = subprocess.run(
        [*RUN, *words], input=b"{}", env=session.environment(), capture_output=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, b"")


def test_the_notes_are_for_the_user_alone_and_hold_no_token(session: Session) -> None:
    session.claim()
    (notes,) = session.state.rglob("*.json")
    assert stat.S_IMODE(notes.stat().st_mode) == 0o600
    assert stat.S_IMODE(notes.parent.stat().st_mode) == 0o700
    assert session.attempt in notes.read_text()
    assert session.desk.token not in notes.read_text()


def test_spoilt_notes_are_as_none(session: Session) -> None:
    session.claim()
    (notes,) = session.state.rglob("*.json")
    notes.write_text('{"held": {"x": 5}}')
    assert session.stop() == {}
    # A later tool of ours names the attempt, and it is held again.
    session.use("save_checkpoint", summary="Half")
    assert session.attempt in session.stop()["reason"]


def test_another_servers_tool_of_a_like_name_is_no_news(session: Session) -> None:
    given = {"attempt_id": "01a20622-5475-7483-bb74-8173f8506722"}
    event = {**AFTER_SHELL["claude"], "tool_name": "mcp__gym__heartbeat", "tool_input": given}
    assert session.tell(event) == {}
    assert session.stop() == {}
    assert not list(session.state.rglob("*.json"))


def test_hooks_at_once_lose_nothing(session: Session) -> None:
    session.claim(lease_seconds=3)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: session.tell(AFTER_SHELL["claude"]), range(12)))
    assert session.attempt in session.stop()["reason"]


# ── the lines to paste ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("cli", list(DIALECTS))
def test_each_snippet_runs_the_hook_on_events_that_it_knows(cli: str, session: Session) -> None:
    first, *_, last = snippets(cli)
    assert last.text == INSTRUCTIONS
    printed = session.raw(b"", cli, "--snippet").decode()
    assert first.path in printed
    assert first.text in printed
    if cli == "opencode":
        assert '["hook", "opencode"]' in first.text
        return
    hooks = json.loads(first.text)["hooks"]
    assert f"holdfast hook {cli}" in first.text
    for event in hooks:
        assert DIALECTS[cli].event({"hook_event_name": event, "session_id": "s"}) is not None
