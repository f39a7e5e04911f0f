"""Runs one workflow in a process of its own and tells its worker, over two pipes, what it does.

A message is a line of JSON. This side asks, the worker answers, one at a time. The worker alone
writes anything down; no store and no token is within reach here.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import threading
import traceback
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from holdfast import workflows
from holdfast.workflows import Context, Stopped, WorkflowError

GROUP = "holdfast.workflows"
TRACE_LINES = 30


class Pipes:
    """The way to the worker. Any thread may ask."""

    def __init__(self, folder: Path) -> None:
        self._up = (folder / "up").open("w", encoding="utf-8")
        self._down = (folder / "down").open(encoding="utf-8")
        self._lock = threading.Lock()
        self._over = False

    def ask(self, op: str, **said: Any) -> dict[str, Any]:
        with self._lock:
            if self._over:
                raise Stopped
            self._up.write(json.dumps({"op": op, **said}) + "\n")
            self._up.flush()
            line = self._down.readline()
            answer: dict[str, Any] = json.loads(line) if line else {"stop": True}
            if answer.get("stop"):
                self._over = True
                raise Stopped
        if "error" in answer:
            raise WorkflowError(answer["error"])
        return answer


def main(folder: str) -> int:
    """Run the workflow that the worker names; return the process's exit code."""
    pipes = Pipes(Path(folder))
    name = os.environ["HOLDFAST_WORKFLOW"]
    problems = find(name, Path(folder) / "workflows")
    try:
        versions = sorted(workflows.known().get(name, {}))
        there = sorted(workflows.known())
        told = pipes.ask("hello", versions=versions, there=there, problems=problems)
        return _run(pipes, name, told)
    except Stopped:
        return 0


def _run(pipes: Pipes, name: str, told: Mapping[str, Any]) -> int:
    function = workflows.known()[name][told["version"]]
    try:
        result = function(Context(pipes, told))
        said = json.loads(json.dumps(result, allow_nan=False))
    except Exception as error:
        lines = traceback.format_exc().rstrip().splitlines()
        traceback.print_exc()
        ours = isinstance(error, WorkflowError)
        told_of = str(error) if ours else f"{type(error).__name__}: {error}"
        pipes.ask("failed", error=told_of, trace="\n".join(lines[-TRACE_LINES:]))
        return 1
    pipes.ask("done", result=said)
    return 0


def find(name: str, folder: Path) -> list[str]:
    """Import what may hold the workflow; return what could not be imported, in sentences.

    Entry points are named as the workflow is, or as the workflow and something after an ``@``.
    """
    problems: list[str] = []
    entries = list(entry_points(group=GROUP))
    named = [entry for entry in entries if entry.name.partition("@")[0] == name]
    for entry in named or entries:
        try:
            entry.load()
        except Exception as error:
            problems.append(f"{entry.value}: {type(error).__name__}: {error}")
    sys.path.insert(0, str(folder))
    for path in sorted(folder.glob("*.py")):
        if path.name.startswith("_"):
            continue
        try:
            spec = importlib.util.spec_from_file_location(path.stem, path)
            assert spec is not None
            assert spec.loader is not None
            module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        except Exception as error:
            problems.append(f"{path.name}: {type(error).__name__}: {error}")
    return problems
