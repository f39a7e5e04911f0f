from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast.transfer import sources
from holdfast.transfer.plan import Plan, SourceError

ISSUES = [
    {"id": "bd-1", "title": "Ship", "issue_type": "epic", "status": "open"},
    {
        "id": "bd-2",
        "title": "Write",
        "status": "in_progress",
        "priority": 0,
        "dependencies": [
            {"issue_id": "bd-2", "depends_on_id": "bd-1", "type": "parent-child"},
            {"issue_id": "bd-2", "depends_on_id": "bd-3", "type": "blocks"},
            {"issue_id": "bd-2", "depends_on_id": "bd-9", "type": "discovered-from"},
        ],
    },
    {"id": "bd-3", "title": "Read", "status": "closed"},
]


def _read(folder: Path, text: str | bytes, name: str = "todo.md", **options: str) -> Plan:
    file = folder / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return sources.read(file, **options)


def _beads(folder: Path, issues: list[object]) -> Plan:
    return _read(folder, "\n".join(map(json.dumps, issues)), "issues.jsonl")


def test_a_checklist_gives_goals_and_what_waits_for_what(tmp_path: Path) -> None:
    plan = _read(
        tmp_path, "\ufeff# Ship\r\n- [ ] A\r\n  why\r\n  - [x] B\r\n```\r\n- [ ] no\r\n```\r\n"
    )
    assert [(c.title, c.kind, c.goal) for c in plan.cards.values()] == [
        ("B", "completed", "Ship"),
        ("A", "backlog", "Ship"),
    ]
    assert plan.cards["markdown:todo.md:Ship:A"].depends_on == ("markdown:todo.md:Ship:B",)
    assert plan.cards["markdown:todo.md:Ship:A"].description == "why"


def test_a_line_put_in_above_changes_no_reference(tmp_path: Path) -> None:
    before = _read(tmp_path, "- [ ] A\n- [ ] A\n")
    after = _read(tmp_path, "- [ ] new\n- [ ] A\n- [ ] A\n")
    assert set(before.cards) < set(after.cards)


def test_beads_give_epics_as_goals_and_only_blocks_as_dependencies(tmp_path: Path) -> None:
    plan = _beads(tmp_path, ISSUES)
    assert not plan.problems
    assert list(plan.goals) == ["Ship"]
    write = plan.cards["beads:bd-2"]
    assert (write.kind, write.priority, write.goal) == ("in_progress", 0, "Ship")
    assert write.depends_on == ("beads:bd-3",)
    assert list(plan.cards) == ["beads:bd-3", "beads:bd-2"]


def test_github_leaves_pull_requests_out(tmp_path: Path) -> None:
    url = "https://github.com/o/r/issues/4"
    plan = _read(
        tmp_path,
        json.dumps(
            [
                {
                    "number": 4,
                    "title": "T",
                    "state": "OPEN",
                    "url": url,
                    "labels": [{"name": "P1"}],
                    "milestone": {"title": "M"},
                },
                {"number": 5, "title": "P", "state": "open", "pull_request": {}},
            ]
        ),
        "issues.json",
    )
    card = plan.cards["github:o/r:4"]
    assert (card.priority, card.goal, card.kind) == (1, "M", "backlog")
    assert len(plan.cards) == 1
    assert "1 pull requests are left out" in plan.warnings[0]


def test_backlog_reads_tasks_and_decisions(tmp_path: Path) -> None:
    tasks, decisions = tmp_path / "backlog/tasks", tmp_path / "backlog/decisions"
    tasks.mkdir(parents=True)
    decisions.mkdir()
    (tasks / "a.md").write_text("---\nid: task-1\ntitle: A\nstatus: Done\n---\nWhy\n")
    (tasks / "b.md").write_text(
        "---\nid: TASK-2\ntitle: 'B: b'\nstatus: To Do\npriority: high\n"
        "created_date: 2025-01-01\ndependencies: [task-1]\n---\n"
        "<!-- AC:BEGIN -->\n- [ ] #1 ok\n<!-- AC:END -->\n"
    )
    (decisions / "d.md").write_text("---\nid: decision-1\ntitle: Use X\n---\nBecause\n")
    plan = sources.read(tmp_path, name="p")
    assert not plan.problems
    assert plan.cards["backlog:p:task-2"].depends_on == ("backlog:p:task-1",)
    assert plan.cards["backlog:p:task-2"].priority == 1
    assert plan.cards["backlog:p:task-2"].description == "- [ ] #1 ok"
    assert plan.cards["backlog:p:task-1"].kind == "completed"
    assert plan.goals["p"].decisions[0].title == "Use X"


def test_circles_and_what_is_missing_are_told_with_file_and_line(tmp_path: Path) -> None:
    def issue(key: str, other: str) -> dict[str, object]:
        return {"id": key, "title": key, "dependencies": [{"depends_on_id": other}]}

    plan = _beads(tmp_path, [issue("a", "b"), issue("b", "a"), issue("c", "zzz")])
    assert any("issues.jsonl:3: beads:c depends on beads:zzz" in p for p in plan.problems)
    assert any("issues.jsonl:1: the dependencies go in a circle" in p for p in plan.problems)
    assert len(plan.cards) == 3


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty"),
        (b"- [ ] a\n\xff\xfe\n", ":2 is not text in UTF-8"),
        (b"- [ ] a\n\n\0", ":3 has a NUL"),
        (b"plain\n", "has no checklist"),
        (b"[" * 100_000, "nests too deep"),
        (b'[\n{"number": 1,\n"title" 2}]', ":3 is no JSON"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, content: bytes, told: str) -> None:
    with pytest.raises(SourceError, match=told):
        _read(tmp_path, content)


def test_wrong_json_on_a_late_line_is_named(tmp_path: Path) -> None:
    lines = [json.dumps({"id": f"b-{n}", "title": "t"}) for n in range(5002)]
    plan = _read(tmp_path, "\n".join([*lines, "{"]), "issues.jsonl")
    assert len(plan.problems) == 1
    assert "issues.jsonl:5003 is no JSON" in plan.problems[0]


@pytest.mark.parametrize(
    "head", ["a: &a [1]\nb: *a", "a: !!python/object/apply:os.getcwd []", "- 1"]
)
def test_front_matter_is_plain_data(tmp_path: Path, head: str) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "a.md").write_text(f"---\n{head}\n---\n")
    plan = sources.read(tmp_path)
    assert "a.md:" in plan.problems[0]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "id",
                    "number",
                    "title",
                    "status",
                    "state",
                    "dependencies",
                    "labels",
                    "type",
                    "priority",
                    "depends_on_id",
                    "issue_type",
                    "milestone",
                    "assignees",
                    "items",
                ]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=200)
    | st.text(alphabet='-*[] x/!?#`~>\n\t<{}"a1:', max_size=200).map(str.encode)
    | st.lists(_JSON, max_size=4).map(lambda v: json.dumps(v).encode())
    | st.lists(_JSON, max_size=4).map(lambda v: "\n".join(map(json.dumps, v)).encode()),
    format=st.sampled_from([None, "markdown", "beads", "github"]),
)
def test_no_input_crashes_a_reader(tmp_path: Path, content: bytes, format: str | None) -> None:
    file = tmp_path / "input"
    file.write_bytes(content)
    try:
        plan = sources.read(file, format)
    except SourceError as error:
        assert str(file) in str(error)
    else:
        done: set[str] = set()
        for card in plan.cards.values():
            assert done.issuperset(card.depends_on)
            done.add(card.ref)
