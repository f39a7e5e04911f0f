"""Needs, conditions and matrices: what a workflow refuses, and the order that it keeps."""

from __future__ import annotations

import json
import subprocess
from random import Random
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from boards import plans, workflows
from boards.plans import Over
from boards.workflows import Workflow
from kernel.errors import Invalid

AROUND: dict[str, Any] = {"inputs": {"go": True}, "card": {"key": "PAY-1"}}


def read(*wanted: dict[str, Any], **more: Any) -> Workflow:
    return workflows.parse({"steps": [{"run": "true", **step} for step in wanted], **more})


def refused(*wanted: dict[str, Any], **more: Any) -> dict[str, list[str]]:
    with pytest.raises(Invalid) as refusal:
        read(*wanted, **more)
    return refusal.value.errors


def walk(workflow: Workflow, fate: Any = lambda key: "succeeded") -> dict[str, str]:
    """Return how each step ends, in order, where ``fate`` says how those that run do."""
    over: dict[str, Over] = {}
    while (move := plans.coming(workflow, over, AROUND)) is not None:
        key = move.step.key
        over[key] = Over("skipped" if move.because else fate(key), {"outputs": {"n": key}})
    return {key: one.status for key, one in over.items()}


# ── order ──


def test_steps_come_as_written_but_after_what_they_need() -> None:
    workflow = read({"key": "publish", "needs": ["test"]}, {"key": "lint"}, {"key": "test"})
    assert [step.key for step in workflow.steps] == ["lint", "test", "publish"]
    assert [step.key for step in workflow.written] == ["publish", "lint", "test"]
    assert workflows.parse(workflows.canonical(workflow)) == workflow


def test_a_step_whose_need_was_skipped_is_skipped_and_so_on() -> None:
    workflow = read(
        {"key": "build", "if": "inputs.go == 'no'"},
        {"key": "test", "needs": "build"},
        {"key": "publish", "needs": ["test"]},
        {"key": "tell", "if": "steps.build.status == 'skipped'"},
    )
    assert walk(workflow) == {
        "build": "skipped",
        "test": "skipped",
        "publish": "skipped",
        "tell": "succeeded",
    }
    over = {"build": Over("skipped")}
    move = plans.coming(workflow, over, AROUND)
    assert move is not None
    assert move.because == "It needs build, which was skipped."


def test_what_may_fail_is_told_apart_by_those_that_come_after() -> None:
    workflow = read(
        {"key": "lint", "allow_failure": True},
        {"key": "mend", "needs": ["lint"], "if": "steps.lint.status == 'failed'"},
    )
    assert (
        walk(workflow, lambda key: "failed" if key == "lint" else "succeeded")["mend"] != "skipped"
    )
    assert walk(workflow)["mend"] == "skipped"


@pytest.mark.parametrize(
    ("steps", "place", "part"),
    [
        ([{"key": "a", "needs": ["b"]}], "steps[0].needs", "names b, but the steps are: a."),
        (
            [
                {"key": "a", "needs": ["b"]},
                {"key": "b", "needs": ["c"]},
                {"key": "c", "needs": "a"},
            ],
            "steps[0].needs",
            "goes round in a circle: a needs b needs c needs a",
        ),
        ([{"key": "a", "needs": ["a"]}], "steps[0].needs", "a needs a"),
        ([{"key": "a", "needs": [3]}], "steps[0].needs[0]", "is no such name"),
        ([{"key": "a", "if": "steps.b.status"}], "steps[0].if", "no such step"),
        (
            [{"key": "a", "if": "steps.b.status"}, {"key": "b"}],
            "steps[0].if",
            "is not over by then; add it to 'needs'",
        ),
        ([{"key": "a"}, {"key": "b", "if": "steps.a.state"}], "steps[1].if", "there are status"),
        ([{"key": "a", "if": "nonsense"}], "steps[0].if", "names nonsense"),
        ([{"key": "a", "if": 3}], "steps[0].if", "must be an expression"),
        ([{"key": "a", "run": "echo ${{ matrix.x }}"}], "steps[0].run", "the step has no matrix"),
        ([{"key": "a", "run": "echo ${{ inputs.x"}], "steps[0].run", "without its '}}'"),
        ([{"key": "a", "env": {"A": "${{ steps.z.status }}"}}], "steps[0].env.A", "no such step"),
        ([{"key": "a", "cwd": "${{ inputs.x }}"}], "steps[0].cwd", "of the step's own matrix"),
        ([{"key": "a", "rounds": 2}], "steps[0].rounds", "is for a step with 'until'"),
        ([{"key": "a", "until": ["b"]}, {"key": "b", "wait": 1}], "steps[0].until", "is no check"),
        ([{"key": "a", "until": ["a"]}], "steps[0].until", "is no check"),
        ([{"key": "a", "outputs": ["a b"]}], "steps[0].outputs[0]", "is no such name"),
        (
            [{"key": "a", "outputs": ["x"]}, {"key": "b", "run": "echo ${{ steps.a.outputs.y }}"}],
            "steps[1].run",
            "step a promises x",
        ),
    ],
)
def test_what_can_not_be_ordered_or_known_is_refused_at_its_place(
    steps: list[dict[str, Any]], place: str, part: str
) -> None:
    written = [step if "wait" in step else {"run": "true", **step} for step in steps]
    with pytest.raises(Invalid) as refusal:
        workflows.parse({"steps": written})
    assert list(refusal.value.errors) == [place]
    assert part in refusal.value.errors[place][0]


# ── matrices ──


def test_a_matrix_makes_a_step_of_every_combination() -> None:
    workflow = read(
        {
            "key": "test",
            "title": "On ${{ matrix.python }}",
            "cwd": "${{ matrix.dir }}",
            "matrix": {"python": ["3.11", "3.12"], "dir": ["a", "b"]},
            "if": "matrix.python != '3.12' || matrix.dir == 'a'",
        },
        {"key": "all", "needs": ["test"]},
        {"key": "one", "if": "steps['test:3.12:b'].status == 'skipped'"},
        {"key": "tell", "if": "steps.test.status == 'succeeded'"},
    )
    assert [(s.key, s.title, s.cwd) for s in workflow.steps[:4]] == [
        ("test:3.11:a", "On 3.11", "a"),
        ("test:3.11:b", "On 3.11", "b"),
        ("test:3.12:a", "On 3.12", "a"),
        ("test:3.12:b", "On 3.12", "b"),
    ]
    fates = walk(workflow)
    assert fates["test:3.12:b"] == "skipped"
    assert set(list(fates.values())[4:]) == {"succeeded"}
    assert workflows.parse(workflows.canonical(workflow)) == workflow


def test_a_failed_part_of_a_matrix_shows_in_the_whole() -> None:
    workflow = read(
        {"key": "t", "matrix": {"v": [1, 2]}, "allow_failure": True},
        {"key": "mend", "if": "steps.t.status == 'failed'"},
    )
    assert (
        walk(workflow, lambda key: "failed" if key == "t:2" else "succeeded")["mend"] != "skipped"
    )


@pytest.mark.parametrize(
    ("matrix", "place", "part"),
    [
        ([1], "steps[0].matrix", "must be an object"),
        ({"v": []}, "steps[0].matrix.v", "at least one"),
        ({"v": [3.10]}, "steps[0].matrix.v[0]", "put it in quotes"),
        ({"v": ["a b"]}, "steps[0].matrix.v[0]", "becomes part of a key"),
        ({"v": ["a", "a"]}, "steps[0].matrix.v[1]", "twice"),
        ({"v": [None]}, "steps[0].matrix.v[0]", "must be text"),
        ({"v": list(range(101))}, "steps[0].matrix", "makes 101 steps"),
        ({"v": list(range(11)), "w": list(range(11))}, "steps[0].matrix", "makes 121 steps"),
    ],
)
def test_a_matrix_that_makes_no_sense_is_refused(matrix: Any, place: str, part: str) -> None:
    errors = refused({"key": "t", "matrix": matrix})
    assert list(errors) == [place]
    assert part in errors[place][0]


def test_matrices_together_stay_within_the_number_of_steps() -> None:
    many = [{"key": f"t{n}", "matrix": {"v": list(range(100))}} for n in range(6)]
    assert "makes 600 steps" in refused(*many)["steps"][0]
    assert (
        "already the key"
        in refused({"key": "t", "matrix": {"v": [1]}}, {"key": "t:1"})["steps[1].key"][0]
    )


def test_a_path_made_of_a_matrix_stays_in_the_workspace() -> None:
    errors = refused({"key": "t", "cwd": "${{ matrix.v }}", "matrix": {"v": [".."]}})
    assert "stay inside" in errors["steps[0].cwd"][0]


# ── filling in ──


def fill(step: dict[str, Any], over: dict[str, Over], **inputs: Any) -> plans.Filled:
    workflow = read({"key": "first"}, {"key": "it", **step})
    one = workflow.named("it")[0]
    values = plans.context(workflow, one, over, {"inputs": inputs})
    return plans.filled(
        one,
        values,
        commands=lambda place: place == "",
        read=lambda given: workflows.read_kind("run", given),
    )


@pytest.mark.parametrize("quote", ["", '"'])
@given(value=st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])))
def test_a_value_never_becomes_a_part_of_a_command(quote: str, value: str) -> None:
    filled = fill({"run": f"printf %s x{quote}${{{{ inputs.v }}}}{quote}"}, {}, v=value)
    assert value not in filled.step.given or len(value) < 6
    assert "HOLDFAST_VALUE_1" in filled.step.given


@pytest.mark.parametrize(
    "value",
    ["$(touch hacked)", "`touch hacked`", "; touch hacked", "'\"; touch hacked; '", "$HOME"],
)
def test_the_shell_takes_a_hostile_value_as_text(value: str, tmp_path: Any) -> None:
    filled = fill(
        {"run": 'printf %s "${{ steps.first.outputs.v }}"; : ${{ steps.first.outputs.v }}'},
        {"first": Over("succeeded", {"outputs": {"v": value}})},
    )
    ran = subprocess.run(
        ["/bin/sh", "-c", filled.step.given],
        env=dict(filled.variables),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == value
    assert not list(tmp_path.iterdir())


def test_variables_are_filled_in_as_text() -> None:
    filled = fill(
        {"run": "make", "env": {"V": "v${{ steps.first.outputs.n }}", "W": "plain"}},
        {"first": Over("succeeded", {"outputs": {"n": 3}})},
    )
    assert dict(filled.step.env) == {"V": "v3", "W": "plain"}
    assert not filled.variables


def test_a_value_too_long_for_a_command_is_said() -> None:
    with pytest.raises(plans.Unusable, match="too long for a command"):
        fill({"run": "echo ${{ inputs.v }}"}, {}, v="x" * 130_000)


# ── any workflow at all ──


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, Any]:
    """Workflows whose needs point anywhere: some go round in a circle."""
    count = draw(st.integers(1, 8))
    keys = [f"s{n}" for n in range(count)]
    steps = []
    for key in keys:
        step: dict[str, Any] = {"key": key, "run": "true", "allow_failure": draw(st.booleans())}
        if needs := draw(st.lists(st.sampled_from(keys), max_size=3, unique=True)):
            step["needs"] = needs
            named = draw(st.sampled_from(needs))
            status = draw(st.sampled_from(["succeeded", "failed"]))
            if draw(st.booleans()):
                step["if"] = f"steps.{named}.status == '{status}'"
        if draw(st.integers(0, 3)) == 0:
            step["matrix"] = {"v": ["a", "b"]}
        steps.append(step)
    return {"steps": steps}


@given(graphs(), st.integers(0, 2**32))
def test_any_workflow_is_refused_or_each_step_comes_once_after_what_it_needs(
    document: dict[str, Any], seed: int
) -> None:
    try:
        workflow = workflows.parse(document)
    except Invalid as refusal:
        assert all(place.startswith("steps[") for place in refusal.errors)
        return
    assert workflows.parse(yaml.safe_dump(document)) == workflow
    assert workflows.parse(json.dumps(document)) == workflow
    assert workflows.parse(workflows.canonical(workflow)) == workflow
    random = Random(seed)
    over: dict[str, Over] = {}
    begun: list[str] = []
    while (move := plans.coming(workflow, over, AROUND)) is not None:
        assert move == plans.coming(workflow, dict(over), AROUND)  # whoever asks
        step = move.step
        for key in step.needs:
            for needed in workflow.named(key):
                assert needed.key in over
        if move.because:
            over[step.key] = Over("skipped")
            continue
        begun.append(step.key)
        if random.random() < 0.2:
            begun.pop()  # killed before it was recorded: it comes again
            continue
        may_fail = step.allow_failure and random.random() < 0.5
        over[step.key] = Over("failed" if may_fail else "succeeded")
    assert len(begun) == len(set(begun))
    assert set(over) == {step.key for step in workflow.steps}


JSONISH = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "key",
                    "run",
                    "if",
                    "needs",
                    "matrix",
                    "until",
                    "rounds",
                    "wait",
                    "ask",
                    "outputs",
                    "x",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@given(JSONISH, st.lists(JSONISH, max_size=3))
def test_whatever_is_sent_is_read_or_refused_with_a_place(top: Any, steps: list[Any]) -> None:
    for document in (top, {"steps": steps}, {"inputs": top, "steps": [{"key": "a", "run": "b"}]}):
        try:
            workflow = workflows.parse(document)
        except Invalid as refusal:
            assert refusal.errors
        else:
            assert workflows.parse(workflows.canonical(workflow)) == workflow
