from __future__ import annotations

import json

import pytest

from kernel.digests import canonical, sha256


def test_the_order_of_keys_and_the_space_between_do_not_matter():
    assert canonical({"b": [1, 2], "a": "é"}) == '{"a":"é","b":[1,2]}'.encode()


@pytest.mark.parametrize(
    ("sent", "comes_back"),
    [
        (1e22, 10**22),
        (7.205759403792358e16, 72057594037923580),
        (-0.0, 0.0),
        ({"a": [1e22, "1e+22"]}, {"a": [10**22, "1e+22"]}),
    ],
)
def test_a_number_as_postgresql_returns_it_is_the_same_number(sent, comes_back):
    assert canonical(sent) == canonical(comes_back)


@pytest.mark.parametrize("value", [1, 1.0, 1.5, 1e-7, 5e-324, "1e+22", "-0.0", [True, None]])
def test_other_values_are_written_as_they_are(value):
    assert json.loads(canonical(value)) == value
    assert type(json.loads(canonical(value))) is type(value)


def test_what_is_no_json_number_has_no_digest():
    with pytest.raises(ValueError):
        canonical(float("nan"))


def test_parts_are_told_apart():
    assert sha256(b"ab", b"c") != sha256(b"a", b"bc")
