"""What a step's commands hand on by name: lines in a file that they are told of.

echo "version=$(cat VERSION)" >> "$HOLDFAST_OUTPUT"
echo '{"packages": ["a", "b"]}' >> "$HOLDFAST_OUTPUT"
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from boards.workflows import OUTPUT_NAME
from kernel.errors import Invalid, Malformed
from kernel.limits import load_json

MAX_BYTES = 64 * 1024
MAX_NAMES = 100


@dataclass(frozen=True, slots=True)
class Outputs:
    """The values by name; ``problem`` says in a sentence why they can't be used."""

    values: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""


def read(path: Path, redact: Callable[[str], str]) -> Outputs:
    """Return what stands in the file, secrets struck out; nothing if there is none."""
    try:
        # Whoever wrote it may have put anything there: a link, a pipe, a gigabyte.
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return Outputs()
    except OSError as error:
        return Outputs(problem=f"Its outputs can't be read: {error.strerror}.")
    with os.fdopen(file, "rb") as stream:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            return Outputs(problem="Its outputs can't be read: they stand in no plain file.")
        data = stream.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        return Outputs(problem=f"Its outputs are longer than {MAX_BYTES} bytes; keep a file.")
    try:
        text = redact(data.decode())
    except UnicodeDecodeError:
        return Outputs(problem="Its outputs are no UTF-8 text.")
    values: dict[str, Any] = {}
    for n, line in enumerate(text.split("\n"), 1):
        if line.strip():
            problem = _take(line.strip(), values)
            if problem:
                return Outputs(problem=f"Line {n} of its outputs {problem}.")
    if len(values) > MAX_NAMES:
        return Outputs(problem=f"It has more than {MAX_NAMES} outputs.")
    return Outputs(values)


def _take(line: str, values: dict[str, Any]) -> str:
    """Add what one line says; return what is wrong with it, if anything."""
    found: dict[str, Any]
    if line.startswith("{"):
        try:
            found = load_json(line.encode())
        except (Malformed, Invalid) as error:
            said = error.detail.rstrip(".").replace("The body ", "it ", 1)
            return f"can't be used: {said}"
    else:
        name, equals, value = line.partition("=")
        if not equals:
            return "is neither name=value nor a JSON object"
        if "\x00" in value:
            return "contains a NUL character"
        found = {name.strip(): value}
    for name in found:
        if not OUTPUT_NAME.fullmatch(name):
            return f"names {name[:80]!r}; use letters, digits, _ and -"
    values.update(found)
    return ""
