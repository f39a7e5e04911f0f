from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest

from workers.redaction import MARK, Redactor, secrets_in

SECRET = "hf_live/9s+K2jQx&77zP=="


def spellings() -> list[str]:
    around = [b"", b"a", b"ab", b"abc"]
    coded = [base64.b64encode(x + SECRET.encode() + y).decode() for x in around for y in around]
    urls = [base64.urlsafe_b64encode(x + SECRET.encode() + b"!").decode() for x in around]
    return [
        SECRET,
        quote(SECRET, safe=""),
        json.dumps({"key": SECRET + "\n"}),
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
