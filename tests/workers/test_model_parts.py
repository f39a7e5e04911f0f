"""The parts of a step at a model: its history within bounds, its files, its forms."""

from __future__ import annotations

import os
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.messages import (
    ModelResponse,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
)

from workers.executors.contract import Entry
from workers.executors.model import conversation, files, given, schemas
from workers.executors.model.conversation import Conversation, call_key, turn_key
from workers.executors.model.files import Mistake
from workers.inside import NotInside, write_inside

# ── what is sent of a long conversation ──────────────────────────────────────────────────


def answer(n: int, chars: int = 3_000) -> ModelResponse:
    return ModelResponse(
        parts=[
            ThinkingPart("thought " * 50, id=f"rs_{n}", signature="s"),
            TextPart(f"Turn {n}."),
            ToolCallPart(
                "write_file", {"path": f"{n}.py", "content": "c" * chars}, f"id{n}", id="x"
            ),
        ]
    )


def bare(messages: list[Any]) -> list[Any]:
    """Return of dumped messages what a provider gets."""
    return [
        [(part["part_kind"], part.get("content"), part.get("args")) for part in message["parts"]]
        for message in messages
    ]


def long_talk(turns: int, limit: int = 6_000) -> tuple[Conversation, list[list[Any]]]:
    """Return a conversation, and what was sent before each turn."""
    talk = Conversation([conversation.opening("sys", "Do it.")], limit)
    sent = []
    for n in range(1, turns + 1):
        sent.append(conversation.dump(talk.messages()))
        turn = talk.add(answer(n))
        turn.results[0] = {"title": f"write_file {n}.py", "content": "r" * 3_000}
    sent.append(conversation.dump(talk.messages()))
    return talk, sent


def chars(messages: list[Any]) -> int:
    return sum(len(str(part)) for message in messages for part in message["parts"])


def test_what_is_sent_stays_within_its_limit_however_long_the_conversation() -> None:
    _, sent = long_talk(200)
    assert max(chars(messages) for messages in sent) < 6_000 * 3 * 2
    assert chars(sent[-1]) < 1.5 * max(chars(messages) for messages in sent[:20])
    assert "are left out. The files" in str(sent[-1][0])
    assert "turn 150: write_file 150.py" in str(sent[-1][0])
    assert "turn 3:" not in str(sent[-1][0])


def test_each_call_that_is_sent_has_its_result_and_the_newest_are_whole() -> None:
    _, sent = long_talk(60)
    for messages in sent:
        loaded = conversation.load(messages)
        for before, after in zip(loaded[1::2], loaded[2::2], strict=True):
            calls = [p.tool_call_id for p in before.parts if isinstance(p, ToolCallPart)]
            results = [p.tool_call_id for p in after.parts if isinstance(p, ToolReturnPart)]
            assert calls == results
    newest = conversation.load(sent[-1])[-1].parts[0]
    assert newest.content == "r" * 3_000
    _, sent = long_talk(9, limit=14_000)
    older = conversation.load(sent[-1])[1]
    assert not [part for part in older.parts if isinstance(part, ThinkingPart)]
    assert [part.id for part in older.parts if isinstance(part, ToolCallPart)] == [None]


def test_what_is_sent_begins_as_before_for_many_turns() -> None:
    _, sent = long_talk(100, limit=40_000)
    kept = sum(bare(later)[: len(sooner)] == bare(sooner) for sooner, later in pairwise(sent))
    assert kept >= 85


def test_who_takes_over_sends_what_the_one_before_would_have_sent() -> None:
    talk, sent = long_talk(60)
    opening = conversation.dump([conversation.opening("sys", "Do it.")])
    entries = {
        "opening": Entry("opening", True, result={"messages": opening}),
    }
    for turn in talk.turns:
        key = turn_key(turn.number)
        entries[key] = Entry(key, True, result={"message": conversation.dump([turn.response])[0]})
        key = call_key(turn.number, 0)
        entries[key] = Entry(key, True, result=turn.results[0])
    again = Conversation.recorded([entries], 6_000)
    assert again is not None

    assert bare(conversation.dump(again.messages())) == bare(sent[-1])


def test_a_model_that_takes_less_is_sent_less() -> None:
    talk, _ = long_talk(20, limit=100_000)
    before = talk.tokens()
    talk.shrink()
    assert talk.tokens() < 0.7 * before


# ── files ────────────────────────────────────────────────────────────────────────────────


def test_files_are_read_in_lines_and_changed_where_they_say(tmp_path: Path) -> None:
    assert files.write(tmp_path, "a/b.txt", "one\ntwo\ntwo\n") == "a/b.txt is written, 12 bytes."
    assert files.read(tmp_path, "a/b.txt", 2, 1) == "a/b.txt, lines 2 to 2 of 3:\ntwo"
    with pytest.raises(Mistake, match="2 times"):
        files.edit(tmp_path, "a/b.txt", "two", "2")
    assert files.edit(tmp_path, "a/b.txt", "two", "2", every=True).endswith("in 2 places.")
    with pytest.raises(Mistake, match="does not hold"):
        files.edit(tmp_path, "a/b.txt", "two", "2")
    assert (tmp_path / "a/b.txt").read_text() == "one\n2\n2\n"
    os.chmod(tmp_path / "a/b.txt", 0o755)
    files.write(tmp_path, "a/b.txt", "x")
    assert (tmp_path / "a/b.txt").stat().st_mode & 0o777 == 0o755
    assert os.listdir(tmp_path / "a") == ["b.txt"]


@pytest.mark.parametrize(
    "path",
    ["../out", "/etc/passwd", "link", "folder/inside", ".git/hooks/pre-commit", "", "a\x00b"],
)
def test_nothing_leaves_the_workspace_by_name_or_by_link(tmp_path: Path, path: str) -> None:
    root, outside = tmp_path / "tree", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (root / "link").symlink_to(outside / "secret")
    (root / "folder").symlink_to(outside)
    with pytest.raises(Mistake):
        files.write(root, path, "taken over")
    if path != ".git/hooks/pre-commit":
        with pytest.raises(Mistake):
            files.read(root, path)
    assert (outside / "secret").read_text() == "secret"
    assert os.listdir(outside) == ["secret"]
    assert files.names(root, "**") == "No file matches **."
    assert files.search(root, "secret", "**") == "Nothing in ** matches."
    with pytest.raises(Mistake):
        files.names(root, "../*")


def test_a_pipe_in_the_way_is_refused_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotInside):
        write_inside(tmp_path, "pipe", b"x")
    with pytest.raises(Mistake):
        files.read(tmp_path, "pipe")


def test_a_bad_expression_is_ended_and_a_wrong_one_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "SEARCH_SECONDS", 0.2)
    (tmp_path / "a").write_text("a" * 1_900 + "!")
    began = time.monotonic()
    assert "narrow it" in files.search(tmp_path, r"(?:a|a?)+(?:a|a?)+$", "**")
    assert time.monotonic() - began < 20
    with pytest.raises(Mistake, match="no regular expression"):
        files.search(tmp_path, "(", "**")


def test_what_is_no_text_or_too_large_is_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 100)
    (tmp_path / "binary").write_bytes(b"\x00\x01")
    (tmp_path / "large").write_text("x" * 101)
    for name in ("binary", "large"):
        with pytest.raises(Mistake):
            files.read(tmp_path, name)
    with pytest.raises(Mistake, match="would have 101"):
        files.write(tmp_path, "new", "x" * 101)


# ── forms ────────────────────────────────────────────────────────────────────────────────

FORM = {
    "type": "object",
    "properties": {
        "n": {"type": "integer", "minimum": 1, "maximum": 5},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 3}, "maxItems": 2},
        "maybe": {"type": ["string", "null"]},
    },
    "required": ["n"],
}


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        ({"n": 1}, []),
        ({"n": 5, "tags": ["a", "b"], "maybe": None}, []),
        ({}, ["n is missing"]),
        ({"n": True}, ["n must be of the type integer"]),
        ({"n": 6}, ["n must be at most 5"]),
        ({"n": 0}, ["n must be at least 1"]),
        ({"n": 1, "tags": ["four"]}, ["tags[0] must have at most 3 characters"]),
        ({"n": 1, "tags": ["a", "b", "c"]}, ["tags must have at most 2 items"]),
        ({"n": 1, "x": 1}, ["x is unknown; there are n, tags, maybe"]),
        ([], ["it must be of the type object"]),
    ],
)
def test_a_value_is_held_against_its_form(value: Any, wrong: list[str]) -> None:
    assert schemas.problems(FORM, value) == wrong


@pytest.mark.parametrize(
    ("form", "place"),
    [
        ({"type": "thing"}, "type"),
        ({"type": "object", "oneOf": []}, "oneOf"),
        ({"type": "object", "properties": {"a": {"type": "x"}}}, "properties.a.type"),
        ({"type": "object", "required": ["a"]}, "required"),
        ({"type": "string", "maxLength": -1}, "maxLength"),
        ({"type": "array", "items": []}, "items"),
        ([], ""),
    ],
)
def test_a_form_that_could_not_be_checked_is_refused(form: Any, place: str) -> None:
    refused: list[str] = []
    assert not schemas.check(form, lambda at, _: refused.append(at))
    assert refused == [place]


def test_a_step_reads_the_same_with_every_default_written_out() -> None:
    def refuse(place: str, sentence: str) -> None:
        raise AssertionError((place, sentence))

    short = given.read({"model": "anthropic:claude", "prompt": "Do it.", "output": FORM}, refuse)
    assert short is not None
    assert given.read(short, refuse) == short
    assert short["model"]["provider"] == "anthropic"
    assert short["tools"] == ["files", "search", "shell", "runtime"]
