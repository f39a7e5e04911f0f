from __future__ import annotations

import base64
import html
import json
import random
import string
import textwrap
import time
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.redaction import MARK, MOST_HELD, Redactor, secrets_in

SECRET = "hf_live/9s+K2jQx&77zP=="


def spellings() -> list[str]:
    around = [b"", b"a", b"ab", b"abc"]
    coded = [base64.b64encode(x + SECRET.encode() + y).decode() for x in around for y in around]
    urls = [base64.urlsafe_b64encode(x + SECRET.encode() + b"!").decode() for x in around]
    return [
        SECRET,
        quote(SECRET, safe=""),
        json.dumps({"key": SECRET + "\n"}),
        json.dumps(json.dumps({"key": SECRET})),
        html.escape(SECRET),
        SECRET.encode().hex(),
        *coded,
        *urls,
    ]


@pytest.mark.parametrize("text", spellings())
def test_a_secret_is_blotted_out_however_it_is_spelled(text: str) -> None:
    assert MARK in Redactor([SECRET]).redact(f"before {text} after")


@pytest.mark.parametrize("text", spellings())
def test_a_secret_is_blotted_out_wherever_the_stream_is_cut(text: str) -> None:
    redactor = Redactor([SECRET, "another-secret"])
    whole = f"before {text} after"
    expected = redactor.redact(whole)
    for cut in range(len(whole) + 1):
        stream = redactor.stream()
        pieces = [stream.feed(whole[:cut]), stream.feed(whole[cut:]), stream.close()]
        assert "".join(pieces) == expected
    stream = redactor.stream()
    assert "".join([*map(stream.feed, whole), stream.close()]) == expected


def test_text_without_a_secret_comes_through_at_once() -> None:
    stream = Redactor([SECRET]).stream()
    assert stream.feed("progress 10 %\r") == "progress 10 %\r"
    assert stream.close() == ""


def test_short_values_and_no_secrets_change_nothing() -> None:
    assert Redactor(["true", ""]).redact("it is true") == "it is true"
    assert Redactor([]).redact("x") == "x"


def test_each_line_of_a_secret_of_many_lines_is_a_secret() -> None:
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBg\n-----END KEY-----"
    assert "MIIEvQIBADANBg" not in Redactor([key]).redact("x MIIEvQIBADANBg y")


def test_names_tell_which_variables_are_secret() -> None:
    env = {
        "NPM_TOKEN": "a",
        "DB_PASSWORD": "b",
        "API_KEY": "c",
        "PATH": "d",
        "MONKEY": "e",
    }
    assert secrets_in(env) == ["a", "b", "c"]


LONG = "".join(random.Random(7).choices(string.ascii_letters + string.digits, k=300))
#: As base64 and other programs break what they print.
BROKEN = {
    "folded": "\n".join(textwrap.wrap(LONG, 60)),
    "indented": "key: |\n" + textwrap.indent("\n".join(textwrap.wrap(LONG, 40)), "    "),
    "base64": base64.encodebytes(f"PASS={LONG}\n".encode()).decode(),
    "base64 in JSON": json.dumps(base64.encodebytes(LONG.encode()).decode()),
    "base64 in JSON in JSON": json.dumps(json.dumps(base64.encodebytes(LONG.encode()).decode())),
    "hexadecimal": "\n".join(textwrap.wrap(LONG.encode().hex(), 60)),
}


def left_of(text: str) -> int:
    """Return the length of the longest word in a text: of a secret that was blotted out, none."""
    return max(map(len, text.replace("\\n", " ").split()))


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_secret_is_blotted_out_however_it_is_broken_into_lines(text: str) -> None:
    assert left_of(Redactor([LONG]).redact(f"before {text} after")) <= 20
    for size in (1, 7, 64):
        stream = Redactor([LONG]).stream()
        pieces = [stream.feed(text[n : n + size]) for n in range(0, len(text), size)]
        assert left_of("".join([*pieces, stream.close()])) <= 20


@given(
    st.lists(st.text("ab\n", min_size=8, max_size=14), min_size=1, max_size=3),
    st.lists(st.text("ab \n", max_size=16), max_size=6),
    st.data(),
)
def test_what_is_cut_anywhere_shows_no_more_than_what_is_whole(
    secrets: list[str], around: list[str], data: st.DataObject
) -> None:
    redactor = Redactor(secrets)
    whole = "".join(piece + data.draw(st.sampled_from(secrets)) for piece in around)
    stream, shown, at = redactor.stream(), "", 0
    while at < len(whole):
        size = data.draw(st.integers(1, 9))
        shown += stream.feed(whole[at : at + size])
        at += size
    shown += stream.close()
    for secret in secrets:
        squeezed = "".join(secret.split())
        assert len(squeezed) < 8 or squeezed not in "".join(shown.split())


def test_a_secret_that_a_longer_one_begins_with_is_no_reason_to_show_the_rest() -> None:
    stream = Redactor(["abcdefgh", "abcdefgh-and-more"]).stream()
    assert stream.feed("x abcdefgh") + stream.feed("-and-more y") == f"x {MARK} y"
    stream = Redactor(["abcdefgh", "abcdefgh-and-more"]).stream()
    assert stream.feed("x abcdefgh") + stream.feed("-or less") == f"x {MARK}-or less"
    stream = Redactor(["abcdefgh", "abcdefgh-and-more"]).stream()
    assert stream.feed("x abcdefgh") + stream.close() == f"x {MARK}"


def test_a_line_is_not_held_back_from_whoever_must_answer_it() -> None:
    stream = Redactor(["}secret-of-nobody"]).stream()
    assert stream.feed('{"id": 1}\n') == '{"id": 1}\n'
    assert stream.feed("secret-of-") == ""
    assert stream.feed("nobody.") == f"{MARK}."


def test_what_is_held_back_is_bounded() -> None:
    stream = Redactor([SECRET]).stream()
    shown = stream.feed(SECRET[:-1])
    for _ in range(3):
        shown += stream.feed(" " * MOST_HELD)
    assert len(shown) >= MOST_HELD


def test_words_that_only_look_like_a_secret_come_through() -> None:
    text = f"{SECRET[:12]} {SECRET[4:]} {SECRET[::-1]} hf_live"
    assert Redactor([SECRET]).redact(text) == text


def test_a_key_within_json_is_a_secret_line_by_line() -> None:
    account = json.dumps({"private_key": "-----BEGIN KEY-----\nMIIEvQIBADANBg\n-----END KEY-----"})
    assert "MIIEvQIBADANBg" not in Redactor([account]).redact("x\nMIIEvQIBADANBg\ny")


def test_the_cost_is_bounded_whatever_the_board_has() -> None:
    rnd = random.Random(5)
    letters = string.ascii_letters + string.digits

    def text(size: int) -> str:
        return "".join(rnd.choices(letters, k=size))

    lines = ["\n".join(text(64) for _ in range(80)) for _ in range(100)]
    log = "\n".join(" ".join(text(7) for _ in range(10)) for _ in range(13_000))
    began = time.process_time()
    stream = Redactor(lines).stream()
    for n in range(0, len(log), 4096):
        stream.feed(log[n : n + 4096])
    assert f"{stream.feed(lines[50])}{stream.close()}".endswith(MARK)
    # A second; comparing each spelling with each place took minutes.
    assert time.process_time() - began < 10
