from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.errors import Invalid, Malformed
from kernel.limits import (
    MAX_DEPTH,
    MAX_STRING_CHARS,
    check_json,
    check_text,
    load_json,
    whole_number,
)


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


@pytest.mark.parametrize("raw", [b"", b"{", b"nul", b"'a'", b"\xff", b"{}{}", b"\xef\xbb\xbf{}"])
def test_what_is_no_json_is_malformed(raw):
    with pytest.raises(Malformed):
        load_json(raw)


@pytest.mark.parametrize("raw", [b"NaN", b"[Infinity]", b'{"a": -Infinity}'])
def test_numbers_that_json_does_not_have_are_malformed(raw):
    with pytest.raises(Malformed):
        load_json(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"[1e400]",
        b"[9223372036854775808]",
        b"[-9223372036854775809]",
        b"[" + b"9" * 5000 + b"]",
        b'["\\u0000"]',
        b'{"\\u0000": 1}',
        b'["\\ud800"]',
        b'{"\\udfff": 1}',
        nested(MAX_DEPTH + 1),
        nested(100_000),
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'["' + b"x" * (MAX_STRING_CHARS + 1) + b'"]',
    ],
    ids=lambda raw: raw[:24],
)
def test_what_no_store_takes_is_refused_with_its_path(raw):
    with pytest.raises(Invalid) as refusal:
        load_json(raw)
    (path,) = refusal.value.errors
    assert len(path) <= 200
    path.encode()


@pytest.mark.parametrize(
    "raw",
    [
        b"[9223372036854775807, -9223372036854775808]",
        nested(MAX_DEPTH),
        b'["' + b"[" * 1000 + b'"]',
        b'["\\\\", "[[[", "\\"[["]' + b" " * 100,
        b'["\\ud83d\\ude00"]',
        b'{"a": {"b": [null, true, 1.5, "x"]}}',
        b'["' + b"x" * MAX_STRING_CHARS + b'"]',
    ],
    ids=lambda raw: raw[:24],
)
def test_what_can_be_stored_is_taken_as_it_is(raw):
    assert load_json(raw) == json.loads(raw)


def test_the_offending_path_is_named():
    with pytest.raises(Invalid) as refusal:
        load_json(b'{"a": {"b": [1, "\\u0000"]}}')
    assert list(refusal.value.errors) == ["a.b[1]"]


def test_what_is_no_json_value_at_all_is_refused():
    with pytest.raises(Invalid):
        check_json({"a": object()})


def test_text_is_held_to_the_same_rules():
    assert check_text("plain", "title") == "plain"
    for text in ("\x00", "\ud800", "x" * (MAX_STRING_CHARS + 1)):
        with pytest.raises(Invalid):
            check_text(text, "title")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_a_refusal(raw):
    try:
        value = load_json(raw)
    except (Malformed, Invalid):
        return
    json.dumps(value, ensure_ascii=False).encode("utf-8")


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))


@given(st.recursive(st.none() | TEXT, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner)))
def test_a_bracket_in_a_string_is_no_nesting(value):
    assert load_json(json.dumps([value, "[" * 200]).encode()) == [value, "[" * 200]


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("007", 7), ("9" * 9, 999_999_999)]
    + [(text, None) for text in ("", "1" * 10, "-1", "+1", " 1", "1_0", "1.0", "٣", "²", "x")],
)
def test_a_whole_number_is_plain_digits_and_not_too_many(text, number):
    assert whole_number(text) == number
