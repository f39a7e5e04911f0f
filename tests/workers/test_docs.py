"""docs/workflows.md and docs/executors.md: their examples work as written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from boards import workflows
from checkpoints.models import Step
from tests.workbench import Bench, logged
from workers.executors.python.executor import EXECUTOR as PYTHON
from workers.runner import Outcome

ROOT = Path(__file__).resolve().parents[2]


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("source", blocks("workflows.md", "yaml"))
def test_every_workflow_of_the_page_is_one(source: str) -> None:
    assert workflows.parse(source).steps


@pytest.mark.django_db(transaction=True)
def test_outputs_are_passed_on_as_the_page_says(bench: Bench) -> None:
    (source,) = [text for text in blocks("workflows.md", "yaml") if "key: find" in text]
    card = bench.card(workflow=source)
    assert bench.run(card) == Outcome.COMPLETED
    assert logged(card) == "building docs\n"


@pytest.mark.django_db(transaction=True)
def test_the_python_workflow_of_the_page_works(bench: Bench, tmp_path: Path, settings: Any) -> None:
    (source,) = blocks("workflows.md", "python")
    folder = tmp_path / "flows"
    folder.mkdir()
    around = (
        "def read_version(branch): return f'1.2-{branch}'\n"
        "def run_tests(version): return True\n"
        "def publish(version): print('published', version)\n"
    )
    unhurried = source.replace('ctx.sleep("settle", 600)', 'ctx.sleep("settle", 0)')
    assert unhurried != source
    no_question = re.sub(r'if ctx\.ask\(.*?\) == "yes":', "if True:", unhurried)
    (folder / "release.py").write_text(f"{no_question}\n{around}")
    settings.WORKFLOWS_DIR = str(folder)
    card = bench.card(workflow={"python": "release", "inputs": {"branch": "main"}})
    assert bench.run(card) == Outcome.COMPLETED
    done = Step.objects.get(card=card, key="workflow")
    assert (done.kind, done.result["outputs"]) == (PYTHON.kind, {"version": "1.2-main"})
    assert "published 1.2-main" in logged(card)


def test_an_executor_is_added_by_copying_a_folder_and_passes_the_suite(tmp_path: Path) -> None:
    executor, samples = blocks("executors.md", "python")
    folder = tmp_path / "script"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "executor.py").write_text(executor)
    (folder / "samples.py").write_text(samples)
    suite = [sys.executable, "-m", "pytest", "-q", "-p", "tests.workers.with_example"]
    suite += ["-p", "no:cacheprovider", "-p", "no:xdist"]
    ran = subprocess.run(
        [*suite, "tests/workers/test_executors.py", "-k", "script and not afar"],
        cwd=ROOT,
        env={**os.environ, "EXAMPLE_EXECUTORS": str(tmp_path), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]
    assert "9 passed" in ran.stdout
