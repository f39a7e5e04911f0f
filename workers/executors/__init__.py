"""Executors: who carries out steps, a folder for each kind of step. See ``contract``."""

from __future__ import annotations

import functools
import importlib
import logging
import pkgutil
from importlib.metadata import entry_points

from workers.executors.contract import Executor

log = logging.getLogger(__name__)

GROUP = "holdfast.executors"


@functools.cache
def known() -> dict[str, Executor]:
    """Return every executor by its kind: the folders here, then installed packages' own.

    A package that can't be loaded, or whose kind is taken, is left out and logged.
    """
    found: dict[str, Executor] = {}
    for module in pkgutil.iter_modules(__path__):
        if module.ispkg:
            executor = importlib.import_module(f"{__name__}.{module.name}.executor").EXECUTOR
            found[executor.kind] = executor
    for entry in entry_points(group=GROUP):
        try:
            executor = entry.load()
            if executor.kind in found:
                log.error("executor %s: steps of kind %s have one", entry.value, executor.kind)
            else:
                found[executor.kind] = executor
        except Exception:
            log.exception("the executor %s can't be loaded and is left out", entry.value)
    return found


@functools.cache
def capabilities() -> tuple[str, ...]:
    """Return what built-in workers on this host can do, for cards that require something."""
    able = {c for e in known().values() if e.available() is None for c in e.capabilities}
    return tuple(sorted({"git", "python", *able}))
