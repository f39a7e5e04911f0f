"""Carries out ``python`` steps: a function from an installed package or an operator's folder."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import holdfast.workflows
from boards.workflows import OUTPUT_NAME
from holdfast.workflows import NAME
from kernel.errors import Invalid
from kernel.limits import check_json
from workers.executors.contract import Assignment, Ending, Lacking, Refuse
from workers.executors.python.clerk import Clerk, NotInstalled
from workers.executors.shell.executor import detail, told

ROOM = "holdfast-python"
MAX_FILES = 500
TICK_SECONDS = 0.25
_FIELDS = ("workflow", "version", "inputs")
_SDK = Path(holdfast.workflows.__file__).parent
#: Last on the path of modules: where the whole package is installed, that one counts.
_START = (
    "import sys; sys.path.append(sys.argv[1] + '/sdk'); "
    "from holdfast.workflows.child import main; sys.exit(main(sys.argv[1]))"
)
_PACKAGE = re.compile(r"[A-Za-z0-9_]+(\.py)?")


class Python:
    """A step that is a Python workflow; it succeeds if the function returns."""

    kind = "python"
    capabilities = ("python",)
    continues = True
    commands = ()

    def read(self, value: Any, refuse: Refuse) -> Any:
        given = {"workflow": value} if isinstance(value, str) else value
        if not isinstance(given, Mapping):
            refuse("", "must be the name of a workflow, or {'workflow': …, 'inputs': {…}}.")
            return None
        for name in given:
            if name not in _FIELDS:
                refuse(
                    str(name)[:80], f"is no field of a Python workflow; use {', '.join(_FIELDS)}."
                )
                return None
        name = given.get("workflow")
        if not isinstance(name, str) or not NAME.fullmatch(name):
            refuse("workflow", "must be a name of letters, digits, . _ and -, such as 'release'.")
            return None
        inputs = given.get("inputs")
        if inputs is not None and not isinstance(inputs, Mapping):
            refuse("inputs", "must be an object of names and values.")
            return None
        try:
            check_json(dict(inputs or {}))
        except Invalid as error:
            refuse("inputs", f"can't be used: {error.detail}")
            return None
        found: dict[str, Any] = {"workflow": name, "inputs": dict(inputs or {})}
        version = given.get("version")
        if version is not None:
            if isinstance(version, bool) or not isinstance(version, int) or version < 1:
                refuse("version", "must be a whole number from 1 on.")
                return None
            found["version"] = version
        return found

    def available(self) -> str | None:
        return None

    def carry_out(self, assignment: Assignment) -> Ending:
        room = _room(assignment)
        clerk = Clerk(assignment, room)
        clerk.start()
        try:
            argv = [sys.executable, "-P", "-c", _START, str(room)]
            result = assignment.process(
                f"exec {shlex.join(argv)}",
                env={**assignment.env, "HOLDFAST_WORKFLOW": assignment.given["workflow"]},
                on_text=clerk.look,
                tick_seconds=TICK_SECONDS,
            )
        except NotInstalled as error:
            raise _lacking(assignment, error) from None
        finally:
            clerk.close()
        try:
            clerk.look()
        except NotInstalled as error:
            raise _lacking(assignment, error) from None
        said = clerk.ended or {}
        kept = detail(result)
        if said.get("op") == "done":
            gave = assignment.redacted(said.get("result"))
            return Ending(
                True,
                f"succeeded in {result.duration_seconds:.1f} s",
                last_words=result.output_tail,
                detail=kept,
                outputs=_outputs(gave),
            )
        how, words = told(result, assignment.timeout_seconds), result.output_tail
        if said.get("op") == "failed":
            problem = str(assignment.redacted(str(said.get("error"))))[:1000]
            how = f"failed: {problem.rstrip('.')}"
            words = f"{words.rstrip()}\n{assignment.redacted(str(said.get('trace')))}"
        return Ending(False, how, last_words=words, detail=kept)


def _lacking(assignment: Assignment, error: NotInstalled) -> Lacking:
    name = assignment.given["workflow"]
    return Lacking(f"python.workflow={name}", str(error), Invalid(str(error)))


def _outputs(gave: Any) -> dict[str, Any]:
    if isinstance(gave, dict) and all(OUTPUT_NAME.fullmatch(name) for name in gave):
        return gave
    return {} if gave is None else {"result": gave}


def _room(assignment: Assignment) -> Path:
    """Return a folder with all that the process needs, wherever it can't see the originals: the
    way to write workflows, the operator's own, and two pipes."""
    room = assignment.tmp / ROOM
    shutil.rmtree(room, ignore_errors=True)
    (room / "sdk" / "holdfast").mkdir(parents=True)
    shutil.copytree(
        _SDK, room / "sdk" / "holdfast" / "workflows", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(_SDK.parent / "__init__.py", room / "sdk" / "holdfast" / "__init__.py")
    own = room / "workflows"
    own.mkdir()
    if assignment.host.workflows_dir:
        _copy_modules(Path(assignment.host.workflows_dir), own)
    for name in ("up", "down"):
        os.mkfifo(room / name, 0o600)
    return room


def _copy_modules(source: Path, target: Path) -> None:
    """Copy the folder's modules, and packages beside them."""
    if not source.is_dir():
        raise Invalid(f"WORKFLOWS_DIR names {source}, which is no folder on this host.")
    count = 0
    for folder, folders, files in os.walk(source):
        folders[:] = [n for n in folders if _PACKAGE.fullmatch(n) and n != "__pycache__"]
        for name in files:
            if name.endswith(".py"):
                count += 1
                if count > MAX_FILES:
                    raise Invalid(f"{source} has more than {MAX_FILES} modules.")
                to = target / Path(folder).relative_to(source) / name
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(Path(folder) / name, to)


EXECUTOR = Python()
