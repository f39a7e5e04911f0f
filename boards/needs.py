"""What the steps of a workflow take of whoever carries them out, and how that is said in a word.

A word is a kind of step, ``llm``, or a kind and what one field of such a step says,
``agent.cli=codex``. Whoever claims a card says what it lacks by such words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kernel.errors import Invalid

_WORD = re.compile(r"([A-Za-z_][A-Za-z0-9_-]{0,63})(?:\.([A-Za-z_][A-Za-z0-9_]{0,63})=(.{1,200}))?")


@dataclass(frozen=True, slots=True)
class Word:
    """A kind of step, all of them or those whose field has the value."""

    kind: str
    field: str = ""
    value: str = ""

    def is_of(self, step: Mapping[str, Any]) -> bool:
        """True if the step is such a one. Its kind's field may have the value in short, too."""
        if self.kind not in step:
            return False
        given = step[self.kind]
        said = given.get(self.field) if isinstance(given, Mapping) else given
        return not self.field or said == self.value


def checked(words: Collection[str], field: str) -> frozenset[str]:
    """Return the words. Raises Invalid, naming the field, for what is none."""
    for word in words:
        if _WORD.fullmatch(word) is None:
            raise Invalid.field(
                field, f"{word[:80]!r} must be a kind of step, such as llm, or agent.cli=codex."
            )
    return frozenset(words)


def is_word(text: str) -> bool:
    """True if it is such a word."""
    return _WORD.fullmatch(text) is not None


def kind_of(word: str) -> str:
    """Return the kind of step that the word is of."""
    return word.partition(".")[0]


def is_of(word: str, step: Any) -> bool:
    """True if the step, ``{kind: what it is told}``, is one of the word."""
    return isinstance(step, Mapping) and _read(word).is_of(step)


def among(workflow: Any, words: Collection[str]) -> list[str]:
    """Return those of the words that a step of the workflow, as it is kept, is of."""
    steps = list(_steps(workflow)) if words else []
    return sorted(word for word in words if any(map(_read(word).is_of, steps)))


def condition(column: str, vendor: str, words: Collection[str]) -> tuple[str, list[str]]:
    """Return SQL, with its parameters, that is true where no step is of one of the words."""
    read = [_read(word) for word in sorted(words)]
    if vendor == "postgresql":
        told = " || ".join(_json_path(word) for word in read)
        exists = f"jsonb_path_exists({column}, %s::jsonpath)"
        paths = [f"{steps} ? ({told})" for steps in ("$.steps[*]", "$")]
        return f"NOT COALESCE({exists} OR {exists}, false)", paths
    told = " OR ".join(_json_one(word) for word in read)
    values = [value for word in read for value in _values(word)]
    # What is put together here are names and placeholders; all that was said comes as values.
    steps = f"SELECT value FROM json_each({column}, '$.steps') UNION ALL SELECT {column}"  # noqa: S608
    none = f"NOT EXISTS (SELECT 1 FROM ({steps}) AS one WHERE {told})"  # noqa: S608
    # A text that has none of the words needn't be read as JSON, which takes ten times as long.
    nowhere = " AND ".join(f"instr({column}, %s) = 0" for _ in read)
    return f"(({nowhere}) OR {none})", [json.dumps(w.value or w.kind) for w in read] + values


def _steps(workflow: Any) -> Iterator[Mapping[str, Any]]:
    """Yield what may be a step: a workflow that is one Python function is written without."""
    if isinstance(workflow, Mapping):
        yield workflow
        yield from (one for one in workflow.get("steps") or () if isinstance(one, Mapping))


def _read(word: str) -> Word:
    match = _WORD.fullmatch(word)
    assert match is not None
    return Word(match[1], match[2] or "", match[3] or "")


def _json_path(word: Word) -> str:
    kind, value = f"@.{json.dumps(word.kind)}", json.dumps(word.value)
    if not word.field:
        return f"exists({kind})"
    return f"{kind}.{json.dumps(word.field)} == {value} || {kind} == {value}"


def _json_one(word: Word) -> str:
    if not word.field:
        return "json_type(one.value, %s) IS NOT NULL"
    return "json_extract(one.value, %s) = %s OR json_extract(one.value, %s) = %s"


def _values(word: Word) -> list[str]:
    kind = f'$."{word.kind}"'
    if not word.field:
        return [kind]
    return [f'{kind}."{word.field}"', word.value, kind, word.value]
