from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boards import expressions
from boards.expressions import Refused, Unusable

CONTEXT = {
    "inputs": {"channel": "beta", "count": 3, "quick": False, "tags": ["a", "b"], "empty": ""},
    "steps": {
        "build": {"status": "succeeded", "outputs": {"version": "1.10", "changed": "false"}},
        "test:3.11": {"status": "failed", "outputs": {}},
        "a-b": {"status": "skipped"},
    },
    "env": {"MODE": "fast"},
    "matrix": {"python": "3.11"},
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("inputs.channel == 'beta'", True),
        ('inputs.channel != "beta"', False),
        ("steps.build.status == 'succeeded' && env.MODE == 'fast'", True),
        ("steps['test:3.11'].status == 'failed' and not inputs.quick", True),
        ("steps.a-b.status", "skipped"),
        ("!inputs.quick || false", True),
        ("not not not true", False),
        ("inputs.nothing.below", None),
        ("inputs.nothing || 'default'", "default"),
        ("inputs.count && 'many'", "many"),
        ("inputs.tags[1]", "b"),
        ("inputs.count > 2", True),
        ("steps.build.outputs.version > 1.2", False),  # a number: 1.1
        ("steps.build.outputs.version == 1.1", True),
        ("inputs.count == '3'", True),
        ("inputs.nothing > 1", False),
        ("inputs.nothing <= 1", False),
        ("'a' < 'b'", True),
        ("1 == true", False),
        ("null == inputs.nothing", True),
        ("contains(inputs.tags, 'a')", True),
        ("contains(inputs.channel, 'et')", True),
        ("starts_with(env.MODE, 'fa') && ends_with(env.MODE, 'st')", True),
        ("(false || true) && true", True),
        ("false || true && false", False),
        (r"'it\'s' == " + '"it' + "'" + 's"', True),
        ("-3 < 2", True),
    ],
)
def test_what_an_expression_comes_to(text: str, value: Any) -> None:
    assert expressions.read(text).value(CONTEXT) == value


@pytest.mark.parametrize("text", ["steps.build.outputs.changed", "'0'", "0", "''", "inputs.empty"])
def test_what_a_command_writes_for_false_is_false(text: str) -> None:
    assert not expressions.read(text).holds(CONTEXT)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "is empty"),
        ("channel == 'beta'", "names channel"),
        ("inputs.channel = 'beta'", "can't be read from"),
        ("inputs.channel == ", "ends too early"),
        ("inputs.channel 'beta'", "is an operator missing"),
        ("(inputs.channel", "where ')' belongs"),
        ("open('/etc/passwd')", "calls open"),
        ("contains(inputs.tags)", "it takes 2"),
        ("inputs.__class__.__mro__[x]", "in brackets"),
        ("__import__('os')", "calls __import__"),
        ("'open", "can't be read"),
        ("x" * 2001, "is longer than"),
        ("(" * 40 + "true" + ")" * 40, "nests deeper"),
        ("1 == 2 == 3", "is an operator missing"),
    ],
)
def test_what_is_no_expression_is_refused_in_words(text: str, part: str) -> None:
    with pytest.raises(Refused) as refused:
        expressions.read(text)
    assert part in str(refused.value)


def test_what_has_no_order_is_said() -> None:
    with pytest.raises(Unusable, match="have no order"):
        expressions.read("inputs.tags < 3").value(CONTEXT)


def test_attributes_of_objects_are_out_of_reach() -> None:
    assert expressions.read("inputs.__class__").value(CONTEXT) is None
    assert expressions.read("env['keys']").value(CONTEXT) is None


def test_placeholders_are_found_whatever_stands_in_their_quotes() -> None:
    text = "a ${{ inputs.channel }} b ${{ '}} ${{' }} c"
    assert expressions.filled(text, lambda e: str(e.value(CONTEXT))) == "a beta b }} ${{ c"
    assert expressions.alone(" ${{ inputs.count }} ") is not None
    assert expressions.alone("v${{ inputs.count }}") is None
    with pytest.raises(Refused, match="without its"):
        expressions.placeholders("echo ${{ inputs.count")


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        expression = expressions.read(text)
    except Refused:
        return
    try:
        expression.value(CONTEXT)
    except Unusable:
        pass


LEAVES = st.sampled_from(
    ["true", "false", "null", "1", "2.5", "'a'", "inputs.count", "steps.build.status", "env.X"]
)
TEXTS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["&&", "||", "and", "or", "==", "!="]), inner).map(
            lambda t: f"({t[0]} {t[1]} {t[2]})"
        ),
        inner.map(lambda t: f"(!({t}))"),
        st.tuples(inner, inner).map(lambda t: f"contains({t[0]}, {t[1]})"),
    ),
    max_leaves=12,
)


@given(TEXTS)
def test_not_turns_every_expression_around(text: str) -> None:
    holds = expressions.read(text).holds(CONTEXT)
    assert expressions.read(f"not ({text})").holds(CONTEXT) is not holds
