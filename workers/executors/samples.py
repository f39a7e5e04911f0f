"""What an executor gives the suite that all executors pass, ``tests/workers/test_executors.py``.

An executor's folder has a module ``samples`` with ``SAMPLES``: what to put into the field of
its kind so that a step behaves in a certain way. What must run meanwhile, such as a scripted
model, is started by ``around``, a context manager.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


def _nothing(folder: Path) -> AbstractContextManager[Mapping[str, str]]:
    return nullcontext({})


@dataclass(frozen=True, slots=True)
class Samples:
    """Steps of one kind by how they behave.

    ``succeeds`` shows ``prints`` in the live log; ``fails`` leaves ``complains`` in the lesson;
    ``hangs`` prints "begun" and then never ends by itself, nor do processes it starts;
    ``leaks`` would show the step's variable SAMPLE_TOKEN; each of ``refused`` is no such step.
    ``pieces`` records several pieces of work in its journal, or is None where there are none:
    killed between two, none is done again. Each piece does ``echo x >> "$PIECES/N"``.
    ``around`` gets an empty folder and yields variables for the steps.
    """

    succeeds: Any
    prints: str
    fails: Any
    complains: str
    hangs: Any
    leaks: Any
    refused: tuple[Any, ...]
    pieces: Any = None
    around: Callable[[Path], AbstractContextManager[Mapping[str, str]]] = field(default=_nothing)
