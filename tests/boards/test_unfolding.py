"""A matrix whose values an earlier step hands on: which steps it makes, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from boards import plans, workflows
from boards.expressions import Unusable
from boards.plans import Move, Over
from boards.workflows import Workflow
from kernel.errors import Invalid

FIND = {"key": "find", "run": "find"}
FILES = "${{ steps.find.outputs.files }}"


def flow(*steps: dict[str, Any]) -> Workflow:
    return workflows.parse({"steps": [{"run": "true", **step} for step in steps]})


def each(**more: Any) -> Workflow:
    return flow(FIND, {"key": "each", "matrix": {"file": FILES}, **more}, {"key": "last"})


def found(files: Any) -> dict[str, Over]:
    return {"find": Over("succeeded", {"outputs": {"files": files}})}


def keys(workflow: Workflow, over: dict[str, Over]) -> list[str]:
    return [step.key for step in plans.unfolded(workflow, over, {}).steps]


def test_it_becomes_several_as_soon_as_the_values_are_there() -> None:
    workflow = each(title="Look at ${{ matrix.file }}", junit="out/${{ matrix.file }}.xml")
    assert keys(workflow, {}) == ["find", "each", "last"]
    unfolded = plans.unfolded(workflow, found(["a", 7]), {})
    assert [step.key for step in unfolded.steps] == ["find", "each:a", "each:7", "last"]
    one = unfolded.named("each")[1]
    assert (one.title, one.junit, one.matrix) == ("Look at 7", "out/7.xml", {"file": 7})
    assert plans.coming(workflow, found(["a"]), {}) == Move(
        plans.unfolded(workflow, found(["a"]), {}).steps[1]
    )
    assert plans.unfolded(unfolded, found(["a", 7]), {}) is unfolded


def test_it_is_kept_as_it_was_written() -> None:
    workflow = each()
    assert workflows.parse(workflows.canonical(workflow)) == workflow
    assert workflows.canonical(workflow)["steps"][1]["matrix"] == {"file": FILES}


def test_with_fixed_values_beside_it() -> None:
    workflow = flow(FIND, {"key": "t", "matrix": {"py": ["3.11", "3.12"], "file": FILES}})
    assert keys(workflow, found(["a", "b"]))[1:] == [
        "t:3.11:a",
        "t:3.11:b",
        "t:3.12:a",
        "t:3.12:b",
    ]


def test_one_fan_out_after_the_other() -> None:
    second = {"key": "next", "needs": ["each"], "matrix": {"of": "${{ steps.last.outputs.of }}"}}
    workflow = flow(FIND, {"key": "each", "matrix": {"file": FILES}}, {"key": "last"}, second)
    over = found(["a"]) | {"last": Over("succeeded", {"outputs": {"of": ["x"]}})}
    assert keys(workflow, over) == ["find", "each:a", "last", "next:x"]


def test_a_value_that_makes_no_key_has_one_that_stays_the_same() -> None:
    names = ["src/a b.py", "ä", "x" * 300]
    made = keys(each(), found(names))[1:-1]
    assert made == keys(each(), found(names))[1:-1]
    assert made[0].startswith("each:src/a-b.py@")
    assert len(set(made)) == 3
    assert all(workflows.KEY.fullmatch(key) for key in made)
    assert [s.matrix["file"] for s in plans.unfolded(each(), found(names), {}).named("each")] == (
        names
    )


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ("a b", "'a b', which is no list"),
        (None, "nothing, which is no list"),
        ({"a": 1}, "which is no list"),
        (["a", 1.5], "value 2 is neither text nor a whole number"),
        ([["a"]], "value 1 is neither text"),
        ([True], "value 1 is neither text"),
        ([""], "value 1 is empty"),
        (["a", "b", "a"], "'a' stands twice"),
        (["x"] * 101, "101 values; 100 are allowed"),
    ],
)
def test_what_no_steps_can_be_made_of_is_refused_with_its_place(files: Any, said: str) -> None:
    with pytest.raises(Unusable) as refused:
        plans.coming(each(), found(files), {})
    assert str(refused.value).startswith("Step each, steps[1]: matrix.file: ${{ steps.find.")
    assert said in str(refused.value)


def test_bounds_and_clashes() -> None:
    two = flow(FIND, {"key": "each", "matrix": {"a": FILES, "b": FILES}})
    with pytest.raises(Unusable, match="matrix: makes 121 steps"):
        plans.unfolded(two, found([str(n) for n in range(11)]), {})
    with pytest.raises(Unusable, match="key each:a, which another step has"):
        plans.unfolded(flow(*_steps_of(each()), {"key": "each:a"}), found(["a"]), {})
    with pytest.raises(Unusable, match="cwd must stay inside"):
        plans.unfolded(each(cwd="src/${{ matrix.file }}"), found(["../.."]), {})
    many = [{"key": f"s{n}"} for n in range(450)]
    with pytest.raises(Unusable, match="551 steps of it; 500 are allowed"):
        plans.unfolded(flow(*_steps_of(each())[:2], *many), found([str(n) for n in range(100)]), {})


def _steps_of(workflow: Workflow) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = workflows.canonical(workflow)["steps"]
    return steps


@pytest.mark.parametrize(
    ("over", "more", "because"),
    [
        (found([]), {}, "Its matrix has no values"),
        ({"find": Over("skipped")}, {}, "Its matrix takes values from find, which was skipped."),
        ({"find": Over("skipped")}, {"needs": ["find"]}, "It needs find, which was skipped."),
        (found(None), {"if": "steps.find.outputs.files"}, "Its condition does not hold"),
    ],
)
def test_without_values_it_is_skipped_as_a_whole(
    over: dict[str, Over], more: dict[str, Any], because: str
) -> None:
    workflow = each(**more)
    move = plans.coming(workflow, over, {})
    assert move is not None
    assert (move.step.key, move.because.startswith(because)) == ("each", True)
    done = over | {"each": Over("skipped")}
    after = plans.coming(workflow, done, {})
    assert after is not None
    assert after.step.key == "last"


def test_a_condition_leaves_some_of_them_out_and_what_needs_them_waits_for_all() -> None:
    workflow = flow(
        FIND,
        {"key": "each", "matrix": {"file": FILES}, "if": "matrix.file != 'b'"},
        {"key": "sum", "needs": ["each"], "if": "steps.each.status == 'succeeded'"},
    )
    over, order = found(["a", "b"]), []
    while (move := plans.coming(workflow, over, {})) is not None:
        order.append((move.step.key, bool(move.because)))
        over[move.step.key] = Over("skipped" if move.because else "succeeded")
    assert order == [("each:a", False), ("each:b", True), ("sum", False)]


@pytest.mark.parametrize(
    ("matrix", "place", "said"),
    [
        ({"file": "a"}, "steps[1].matrix.file", "must be a list"),
        ({"file": "x ${{ steps.find.outputs.a }}"}, "steps[1].matrix.file", "must be a list"),
        ({"file": "${{ inputs.files }}"}, "steps[1].matrix.file", "must be a list"),
        ({"file": "${{ steps.find.outputs. }}"}, "steps[1].matrix.file", "ends too early"),
        ({"file": "${{ steps.last.outputs.a }}"}, "steps[1].matrix.file", "not over by then"),
        ({"file": "${{ steps.nope.outputs.a }}"}, "steps[1].matrix.file", "no such step"),
        ({"file": "${{ steps.each.outputs.a }}"}, "steps[1].matrix.file", "not over by then"),
    ],
)
def test_what_can_not_work_is_refused_when_the_card_is_made(
    matrix: dict[str, Any], place: str, said: str
) -> None:
    with pytest.raises(Invalid) as refused:
        flow(FIND, {"key": "each", "matrix": matrix}, {"key": "last"})
    assert said in " ".join(refused.value.errors[place])


def test_a_promised_output_is_known_by_name_and_checks_have_fixed_values() -> None:
    with pytest.raises(Invalid) as refused:
        flow({**FIND, "outputs": ["parts"]}, {"key": "each", "matrix": {"file": FILES}})
    assert "step find promises parts" in str(refused.value)
    with pytest.raises(Invalid) as refused:
        flow(FIND, {"key": "work", "until": ["each"]}, {"key": "each", "matrix": {"file": FILES}})
    assert "give it a list of values" in str(refused.value)
    with pytest.raises(Invalid) as refused:
        each(title="${{ matrix.nope.x }} ${{ inputs.a }}")
    assert "steps[1].title" in refused.value.errors
