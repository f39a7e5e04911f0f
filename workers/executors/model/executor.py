"""Carries out ``llm`` steps: a task for a language model with tools."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from workers.executors.contract import Assignment, Ending, Refuse
from workers.executors.model import given

PACKAGES = ("pydantic_ai", "openai", "anthropic", "regex")


class Model:
    """A step that a language model works at, turn by turn, until it answers."""

    kind = "llm"
    capabilities = ("llm",)
    model_driven = True

    def read(self, value: Any, refuse: Refuse) -> Any:
        return given.read(value, refuse)

    def available(self) -> str | None:
        missing = [name for name in PACKAGES if find_spec(name) is None]
        if missing:
            return (
                f"the Python package {missing[0]} is not installed; `make model` in a checkout, or "
                "`pip install holdfast[model]`, installs all that is needed"
            )
        return None

    def carry_out(self, assignment: Assignment) -> Ending:
        # The library takes seconds and 60 MB to load: only who works with it pays for it.
        from workers.executors.model.loop import Work

        return Work(assignment).run()


EXECUTOR = Model()
