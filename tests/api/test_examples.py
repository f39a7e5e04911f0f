"""The examples that the other tests here build on fill every field of every body."""

from __future__ import annotations

import pytest

from tests.api.contract import Operation, faults, operations, places
from tests.api.world import FOR_OPERATORS, FOR_PEOPLE, World, undone

TAKES_JSON = [o for o in operations() if o.body is not None]


@pytest.mark.parametrize("operation", TAKES_JSON, ids=str)
def test_the_example_fills_every_field_the_document_names(
    operation: Operation, world: World
) -> None:
    example = world.example(operation.id)
    assert example is not None, f"world.example needs a body for {operation.id}"
    assert operation.body is not None
    assert not faults(operation.body, example)
    for at, _ in places(operation.body):
        where = example
        for step in at:
            assert where, f"{at} is left out"
            assert isinstance(step, int) or step in where, f"{at} is left out"
            where = where[step]


@pytest.mark.parametrize("operation", operations(), ids=str)
def test_the_call_with_its_example_succeeds_as_documented(
    operation: Operation, world: World
) -> None:
    caller = world.member
    if operation.id in FOR_OPERATORS:
        caller = world.root
    if operation.id in FOR_PEOPLE:
        caller = world.person
    with undone():
        answer = world.call(caller, operation)
    assert 200 <= answer.status < 300, answer
