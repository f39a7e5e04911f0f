"""Documents that people write in YAML or JSON: read, with what no store takes refused."""

from __future__ import annotations

from typing import Any

import yaml

from kernel.errors import Invalid

MAX_DOCUMENT_BYTES = 1024 * 1024
MAX_YAML_DEPTH = 10


def shown(name: object) -> str:
    """Return a name from a document as it can be shown."""
    return str(name).encode("utf-8", "replace").decode().replace("\x00", "?")[:100]


# The C parser reads the same language ten times faster; it is absent where libyaml is.
_BaseLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_BaseLoader):  # type: ignore[misc]  # the base is chosen at run time
    """A safe loader that refuses a field given twice instead of keeping the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int):
                raise _RefusedYaml(f"line {key_node.start_mark.line + 1} has a key that is no text")
            if key in seen:
                raise _RefusedYaml(
                    f"line {key_node.start_mark.line + 1} gives {shown(key)!r} a second time"
                )
            seen.add(key)
        result: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return result


class _RefusedYaml(Exception):
    """Well-formed YAML that may not be used."""


def _line(event: yaml.Event) -> str:
    return f"line {event.start_mark.line + 1}" if event.start_mark else "the text"


def load(text: str, field: str = "workflow") -> Any:
    """Return the document in ``text``. Raises Invalid of the field; anchors are refused (a
    kilobyte of nested aliases expands to gigabytes)."""
    try:
        too_long = len(text.encode()) > MAX_DOCUMENT_BYTES
    except UnicodeEncodeError:
        raise Invalid.field(field, "contains half of a surrogate pair.") from None
    if too_long:
        raise Invalid.field(
            field,
            f"is longer than {MAX_DOCUMENT_BYTES} bytes; put scripts in files.",
        )
    try:
        depth = 0
        for event in yaml.parse(text, Loader=_BaseLoader):
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                raise _RefusedYaml(f"{_line(event)} uses an anchor or alias; write it out")
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            if depth > MAX_YAML_DEPTH:
                raise _RefusedYaml(f"{_line(event)} nests too deep")
        return yaml.load(text, Loader=_Loader)  # a subclass of the safe loader
    except _RefusedYaml as error:
        raise Invalid.field(field, f"{error}.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it can't be read"
        raise Invalid.field(
            field,
            f"is not YAML{where}: {shown(problem)}. Check the indentation and quotes.",
        ) from None


def lines(text: str) -> dict[str, int]:
    """Return the line of each place in a YAML text, ``steps[1].run``; nothing if it is none."""
    found: dict[str, int] = {}
    try:
        todo = [("", yaml.compose(text, Loader=_BaseLoader))]
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}
    while todo:
        place, node = todo.pop()
        if node is None or len(place) > 1000:
            continue
        if place:
            found.setdefault(place, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                name = f"{place}.{key.value}" if place else str(key.value)
                found[name] = key.start_mark.line + 1
                todo.append((name, value))
        elif isinstance(node, yaml.SequenceNode):
            todo += [(f"{place}[{n}]", value) for n, value in enumerate(node.value)]
    return found
