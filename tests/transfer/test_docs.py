"""The examples of docs/import.md, imported as written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from holdfast.transfer import sources

PAGE = (Path(__file__).parents[2] / "docs" / "import.md").read_text()
EXAMPLES = dict(re.findall(r"^## (.+?)\n.*?^```\w+\n(.*?)^```", PAGE, re.M | re.S))


@pytest.mark.parametrize(
    ("heading", "file", "format", "titles"),
    [
        (
            "A Markdown checklist",
            "todo.md",
            "markdown",
            ["Collect the changes", "Tag the release", "Write the notes"],
        ),
        ("A Backlog.md folder", "backlog/tasks/task-1 - Notes.md", "backlog", ["Write the notes"]),
        ("Beads", "issues.jsonl", "beads", ["Write the notes"]),
        ("GitHub issues", "issues.json", "github", ["Write the notes"]),
    ],
)
def test_the_example_reads_as_the_page_says(
    tmp_path: Path, heading: str, file: str, format: str, titles: list[str]
) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(EXAMPLES[heading])
    source = tmp_path if format == "backlog" else path
    assert sources.detect(source) == format
    plan = sources.read(source)
    assert not plan.problems
    assert sorted(card.title for card in plan.cards.values()) == titles
