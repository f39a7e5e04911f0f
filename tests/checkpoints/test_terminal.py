"""What a terminal would show, by the cases that the browser's drawing is held to as well."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkpoints import terminal

CASES = json.loads((Path(__file__).parent.parent / "terminal.json").read_text())


@pytest.mark.parametrize("case", CASES, ids=lambda case: ascii(case["text"]))
def test_what_is_visible_and_what_stays_on(case):
    assert terminal.plain(case["text"]) == case["plain"]
    assert terminal.style_after(case.get("style", ""), case["text"]) == case["after"]


@given(st.text(alphabet="ab \t\x1b[]0123;:mKGHP\\\x07\x08\r\n\x00\x9b", max_size=80))
def test_nothing_but_text_is_left_and_lines_stay_lines(text):
    seen = terminal.plain(text)
    assert not terminal.CONTROLS.search(seen)
    assert seen.count("\n") == text.count("\n")
    style = terminal.style_after("", text)
    assert terminal.style_after(style, "") == style
    assert terminal.style_after("", f"\x1b[{style}m") == style
    assert terminal.style_after(style, "\x1b[0m") == ""
