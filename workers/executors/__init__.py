"""Executors: who carries out steps, a folder for each kind of step. See ``contract``."""

from __future__ import annotations

import functools
import importlib
import logging
import pkgutil
from importlib.metadata import entry_points

from boards import needs
from workers.executors.contract import Executor, trait

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


def word(kind: str, given: object) -> str:
    """Return the word of ``boards.needs`` that says most narrowly what carries such a step out."""
    executor = known().get(kind)
    variants = trait(executor, "variants") if executor is not None else ()
    return next((one for one in variants if needs.is_of(one, {kind: given})), kind)


@functools.cache
def lacking() -> dict[str, frozenset[str]]:
    """Return what this host can't carry out, in words of ``boards.needs``, each with the
    capabilities by which hosts are known that can."""
    found: dict[str, frozenset[str]] = {}
    for executor in known().values():
        if executor.available() is not None:
            found[executor.kind] = frozenset(executor.capabilities)
            continue
        for word, capability in trait(executor, "variants").items():
            if capability not in executor.capabilities:
                found[word] = frozenset([capability])
    return found
