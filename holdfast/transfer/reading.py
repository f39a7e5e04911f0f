"""Files as text and JSON, with trouble told by file and line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from holdfast.transfer.plan import SourceError

LARGEST = 256 * 1024 * 1024
FRONT_MATTER = 64 * 1024


def text_of(path: Path) -> str:
    """Return the text of a file, without a byte order mark. Raises SourceError."""
    try:
        if not path.is_file():
            raise SourceError(f"{path} is no file.")
        if path.stat().st_size > LARGEST:
            raise SourceError(f"{path} has more than {LARGEST >> 20} MB. Import it in parts.")
        raw = path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path} can't be read ({error.strerror}).") from None
    try:
        found = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise SourceError(f"{path}:{line} is not text in UTF-8. Convert it first.") from None
    if "\0" in found:
        line = found.count("\n", 0, found.index("\0")) + 1
        raise SourceError(f"{path}:{line} has a NUL in it, so it is no text.")
    if not found.strip():
        raise SourceError(f"{path} is empty.")
    return found


def lines_of(text: str) -> Iterator[tuple[int, str]]:
    """Yield each line with its number. Only LF and CRLF end a line."""
    for number, line in enumerate(text.split("\n"), 1):
        yield number, line.removesuffix("\r")


def json_of(text: str, file: str, first: int = 1) -> Any:
    """Return what the JSON says. Raises SourceError."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise SourceError(f"{file}:{first + error.lineno - 1} is no JSON: {error.msg}.") from None
    except (ValueError, RecursionError):
        raise SourceError(
            f"{file}:{first} is JSON that nests too deep or counts too far."
        ) from None


class _Plain(yaml.SafeLoader):
    """Reads plain data: no aliases, which could multiply without end, and dates as text."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:timestamp"]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(
                problem="aliases are not read", problem_mark=event.start_mark
            )
        return super().compose_node(parent, index)


def front_matter(text: str, file: str) -> tuple[dict[str, Any], str]:
    """Return the YAML between the first two lines of ``---``, and what follows it."""
    lines = [line for _, line in lines_of(text)]
    if lines[0].rstrip() != "---":
        raise SourceError(f"{file}:1 does not begin with ---, so it has no front matter.")
    end = next((n for n, line in enumerate(lines[1:], 1) if line.rstrip() == "---"), None)
    if end is None:
        raise SourceError(f"{file}:1 begins front matter that no second --- ends.")
    head = "\n".join(lines[1:end])
    if len(head) > FRONT_MATTER:
        raise SourceError(f"{file}:1 begins front matter of more than {FRONT_MATTER >> 10} kB.")
    try:
        found = yaml.load(head, _Plain)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 2 if error.problem_mark else 2
        raise SourceError(f"{file}:{line} is no YAML that is read: {error.problem}.") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise SourceError(f"{file}:2 is no YAML that is read.") from None
    if not isinstance(found, dict):
        raise SourceError(f"{file}:2 is no list of names and values.")
    return {str(name): value for name, value in found.items()}, "\n".join(lines[end + 1 :])


def word(value: Any) -> str:
    """Return a text or number as text, and nothing for anything else."""
    return str(value).strip() if isinstance(value, str | int | float) else ""


def words(value: Any) -> list[str]:
    """Return a list of texts, whether it was written as a list or as one text."""
    listed = value if isinstance(value, list) else [value]
    return [found for found in map(word, listed) if found]
