"""Makes steps of one whose matrix takes its values from what an earlier step handed on.

The values are on record with that step, and keys are made of nothing but them: whoever goes on
with the card, however often it was cut off, has the same steps under the same keys.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from boards import expressions
from boards.expressions import Unusable
from boards.workflows.reading import Reader
from boards.workflows.steps import KEY, MAX_INSTANCES, MAX_TITLE_CHARS, Step

MAX_PART_CHARS = 80  # of a value within a key
MAX_VALUE_CHARS = 2000
_ODD = re.compile(r"[^A-Za-z0-9._/-]+")


def values_of(step: Step, name: str, found: Any) -> list[Any]:
    """Return the values of one of the step's lists, given what its expression came to.

    Raises Unusable.
    """
    said = f"{step.matrix[name]} came to"
    if not isinstance(found, list):
        shown = "nothing" if found is None else f"{expressions.text_of(found)[:60]!r}"
        raise Unusable(
            f"{said} {shown}, which is no list; have its step write a line such as "
            '{"name": ["a", "b"]} to $HOLDFAST_OUTPUT.'
        )
    if len(found) > MAX_INSTANCES:
        raise Unusable(f"{said} {len(found)} values; {MAX_INSTANCES} are allowed.")
    seen: set[str] = set()
    for n, one in enumerate(found):
        if isinstance(one, bool) or not isinstance(one, str | int):
            raise Unusable(f"{said} a list whose value {n + 1} is neither text nor a whole number.")
        text = expressions.text_of(one)
        if not text.strip() or len(text) > MAX_VALUE_CHARS:
            raise Unusable(
                f"{said} a list whose value {n + 1} is empty or has more than {MAX_VALUE_CHARS} "
                "characters."
            )
        if text in seen:
            raise Unusable(f"{said} a list in which {text[:60]!r} stands twice.")
        seen.add(text)
    return list(found)


def unfolded(step: Step, lists: Mapping[str, Sequence[Any]], taken: Collection[str]) -> list[Step]:
    """Return the steps that a step makes of these values, whose keys are none of those ``taken``.

    Raises Unusable.
    """
    count = 1
    for values in lists.values():
        count *= len(values)
    if count > MAX_INSTANCES:
        raise Unusable(f"makes {count} steps of this one; {MAX_INSTANCES} are allowed.")
    made = [
        _made(step, dict(zip(lists, chosen, strict=True)))
        for chosen in itertools.product(*lists.values())
    ]
    keys = [one.key for one in made]
    for n, key in enumerate(keys):
        if key in taken or key in keys[:n]:
            raise Unusable(f"makes the key {key}, which another step has.")
    return made


def _made(step: Step, values: dict[str, Any]) -> Step:
    key = ":".join([step.key, *map(_part, values.values())])
    if not KEY.fullmatch(key):
        raise Unusable(f"makes the key {key[:60]}…, which has more than 200 characters.")
    reader = Reader()

    def text(written: str) -> str:
        return expressions.filled(
            written, lambda one: expressions.text_of(one.value({"matrix": values}))
        )

    cwd = reader.path(text(step.cwd), "cwd", "a folder")
    junit = reader.path(text(step.junit), "junit", "a report file") if step.junit else None
    artifacts = reader.artifacts([text(one) for one in step.artifacts], "artifacts")
    for place, sentences in reader.errors.items():
        raise Unusable(f"makes a step whose {place} {sentences[0]}")
    return replace(
        step,
        key=key,
        title=text(step.title)[:MAX_TITLE_CHARS],
        cwd=cwd or ".",
        junit=junit,
        artifacts=artifacts,
        matrix=MappingProxyType(values),
        of=step.key,
    )


def _part(value: Any) -> str:
    """Return what stands for the value in a key: itself, or what is legible of it and a digest."""
    text = expressions.text_of(value)
    if len(text) <= MAX_PART_CHARS and KEY.fullmatch(text):
        return text
    legible = _ODD.sub("-", text)[: MAX_PART_CHARS // 2].strip("-")
    return f"{legible}@{hashlib.sha256(text.encode('utf-8', 'backslashreplace')).hexdigest()[:8]}"
