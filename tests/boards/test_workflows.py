from __future__ import annotations

import json
from typing import Any

import pytest

from boards import workflows
from kernel.errors import Invalid


def errors_of(source: Any) -> dict[str, list[str]]:
    with pytest.raises(Invalid) as refused:
        workflows.parse(source)
    return {path: list(sentences) for path, sentences in refused.value.errors.items()}


def with_step(**fields: Any) -> dict[str, Any]:
    return {"steps": [{"key": "a", "run": "true", **fields}]}


def test_yaml_and_json_describe_the_same_workflow() -> None:
    text = """
    env:
      PORT: 8000
    steps:
      - key: test
        run: |
          set -e
          python -m pytest -q
        env: {LEVEL: "3"}
        junit: out/report.xml
        artifacts: ["dist/*.whl"]
      - {key: build, run: make, timeout_seconds: 30, retries: 2, allow_failure: true, cwd: ./src/}
    """
    value = {
        "env": {"PORT": "8000"},
        "steps": [
            {
                "key": "test",
                "run": "set -e\npython -m pytest -q\n",
                "env": {"LEVEL": "3"},
                "junit": "out/report.xml",
                "artifacts": ["dist/*.whl"],
            },
            {
                "key": "build",
                "run": "make",
                "timeout_seconds": 30,
                "retries": 2,
                "allow_failure": True,
                "cwd": "src",
            },
        ],
    }
    workflow = workflows.parse(text)
    assert workflow == workflows.parse(value) == workflows.parse(json.dumps(value))
    test, build = workflow.steps
    assert dict(test.env) == {"PORT": "8000", "LEVEL": "3"}
    assert (test.timeout_seconds, test.retries, test.allow_failure, test.cwd) == (
        600,
        0,
        False,
        ".",
    )
    assert (build.timeout_seconds, build.retries, build.allow_failure, build.cwd) == (
        30,
        2,
        True,
        "src",
    )


def test_the_canonical_form_reads_back_as_itself_and_has_a_stable_digest() -> None:
    workflow = workflows.parse("steps: [{key: a, run: 'true', env: {A: '1', B: '2'}}]")
    again = workflows.parse(workflows.canonical(workflow))
    assert again == workflow
    assert workflows.digest(again) == workflows.digest(workflow)
    reordered = workflows.parse(
        {"steps": [{"run": "true", "env": {"B": "2", "A": "1"}, "key": "a"}]}
    )
    assert workflows.digest(reordered) == workflows.digest(workflow)
    other = workflows.parse(with_step(timeout_seconds=601))
    assert workflows.digest(other) != workflows.digest(workflow)


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"timeout_seconds": 0}, "steps[0].timeout_seconds"),
        ({"timeout_seconds": 21_601}, "steps[0].timeout_seconds"),
        ({"timeout_seconds": "60"}, "steps[0].timeout_seconds"),
        ({"timeout_seconds": True}, "steps[0].timeout_seconds"),
        ({"timeout_seconds": 1.5}, "steps[0].timeout_seconds"),
        ({"retries": 11}, "steps[0].retries"),
        ({"retries": -1}, "steps[0].retries"),
        ({"allow_failure": "yes"}, "steps[0].allow_failure"),
        ({"allow_failure": 1}, "steps[0].allow_failure"),
        ({"criterion": 0}, "steps[0].criterion"),
        ({"criterion": "tests pass"}, "steps[0].criterion"),
        ({"cwd": "/etc"}, "steps[0].cwd"),
        ({"cwd": "a/../../b"}, "steps[0].cwd"),
        ({"cwd": "~root"}, "steps[0].cwd"),
        ({"cwd": "a\\b"}, "steps[0].cwd"),
        ({"cwd": ""}, "steps[0].cwd"),
        ({"junit": "../report.xml"}, "steps[0].junit"),
        ({"junit": "a\x00b"}, "steps[0].junit"),
        ({"artifacts": "dist/*"}, "steps[0].artifacts"),
        ({"artifacts": ["ok", "/abs"]}, "steps[0].artifacts[1]"),
        ({"artifacts": [None]}, "steps[0].artifacts[0]"),
        ({"artifacts": ["x"] * 101}, "steps[0].artifacts"),
        ({"env": ["A=1"]}, "steps[0].env"),
        ({"env": {"A-B": "1"}}, "steps[0].env.A-B"),
        ({"env": {"A": None}}, "steps[0].env.A"),
        ({"env": {"A": True}}, "steps[0].env.A"),
        ({"env": {"A": 1.5}}, "steps[0].env.A"),
        ({"env": {"A": "x\x00"}}, "steps[0].env.A"),
        ({"env": {"A": "x" * 40_000}}, "steps[0].env.A"),
        ({"env": {"HOLDFAST_CARD": "PAY-1"}}, "steps[0].env.HOLDFAST_CARD"),
        ({"env": {f"A{n}": "" for n in range(101)}}, "steps[0].env"),
        ({"title": 3}, "steps[0].title"),
        ({"title": "t" * 201}, "steps[0].title"),
        ({"title": "\ud800"}, "steps[0].title"),
        ({"run": ""}, "steps[0].run"),
        ({"run": ["make"]}, "steps[0].run"),
        ({"run": "x" * 65_537}, "steps[0].run"),
        ({"key": "a b"}, "steps[0].key"),
        ({"key": ""}, "steps[0].key"),
        ({"key": "x" * 201}, "steps[0].key"),
        ({"key": "a\n"}, "steps[0].key"),
        ({"key": 1}, "steps[0].key"),
        ({"comand": "x"}, "steps[0].comand"),
    ],
)
def test_a_bad_field_is_refused_by_its_path_alone(fields: dict[str, Any], path: str) -> None:
    errors = errors_of(with_step(**fields))
    assert list(errors) == [path]
    assert all(sentence.endswith(".") for sentence in errors[path])


def test_every_error_is_reported_at_once() -> None:
    errors = errors_of(
        {
            "steps": [
                {"key": "a"},
                {"run": "x"},
                {"key": "b", "run": "x", "retries": 99},
            ],
            "name": 1,
        }
    )
    assert set(errors) == {"name", "steps[0].run", "steps[1].key", "steps[2].retries"}


def test_a_key_used_twice_names_the_first_place() -> None:
    step = {"key": "same", "run": "true"}
    errors = errors_of({"steps": [step, {"key": "other", "run": "true"}, step]})
    assert "steps[0]" in errors["steps[2].key"][0]


@pytest.mark.parametrize("source", [None, [], "- a", 3, {}, {"steps": []}, {"steps": {"a": 1}}, ""])
def test_what_is_no_workflow_at_all_is_refused(source: Any) -> None:
    assert set(errors_of(source)) <= {"workflow", "steps"}


def test_more_than_500_steps_are_refused() -> None:
    steps = [{"key": f"s{n}", "run": "true"} for n in range(501)]
    assert "501 steps" in errors_of({"steps": steps})["steps"][0]
    assert len(workflows.parse({"steps": steps[:500]}).steps) == 500


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("steps: [", "is not YAML in line"),
        ("a: &x 1\nb: *x", "line 1 uses an anchor"),
        ("steps: []\nsteps: []", "line 2 gives 'steps' a second time"),
        ("[" * 3000, "nests too deep"),
        ("{" * 3000, "nests too deep"),
        ("x: !!python/object/apply:os.system ['id']", "is not YAML"),
        ("? [a, b]\n: 1", "a key that is no text"),
        ("a: \ud800", "surrogate"),
        ("a: \x07", "is not YAML"),
        ("steps: []\n---\nsteps: []", "is not YAML"),
        ("a: 2024-99-99", "is not YAML"),
        ("#" * (1024 * 1024 + 1), "longer than"),
        ("a: " + "9" * 5000, "is not YAML"),
    ],
)
def test_hostile_or_broken_yaml_is_refused_with_a_sentence(text: str, part: str) -> None:
    assert part in errors_of(text)["workflow"][0]
