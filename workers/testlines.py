"""Test results from reports of lines: `go test -json`, TAP, and what `pytest -rA` prints.

As hostile as a JUnit report: what is no such line is passed over, sizes are bounded, and a text
without a single result comes back as none at all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Any, Final

MAX_LINE_CHARS: Final = 1_000_000
LOOKED_AT: Final = 200  # first lines, to tell what a report is

#: A test's name and how it ended: "passed", "failed" or "skipped".
Result = tuple[str, str]

_TAP = re.compile(r"(?P<indent>\s*)(?P<not>not )?ok\b\s*(?P<number>\d+)?\s*(?:- )?(?P<name>.*)")
_DIRECTIVE = re.compile(r"(?:^|\s)#\s*(?P<what>todo|skip)", re.IGNORECASE)
_PYTEST = re.compile(
    r"(?P<how>PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)\s+(?:\[(?P<count>\d+)\]\s+)?"
    r"(?P<name>\S+?\.py(?:::.*?|:\d+)?)(?: - .*|: .*)?$"
)
_GO = {"pass": "passed", "fail": "failed", "skip": "skipped"}
_PYTEST_ENDS = {
    "PASSED": "passed",
    "XPASS": "passed",
    "XFAIL": "skipped",
    "SKIPPED": "skipped",
    "FAILED": "failed",
    "ERROR": "failed",
}


def read(lines: Iterable[str]) -> Iterator[Result] | None:
    """Return the results that the lines tell, None where they are of no known kind."""
    every = (line[:MAX_LINE_CHARS].rstrip("\r\n") for line in lines)
    first = list(islice(every, LOOKED_AT))
    whole = chain(first, every)
    for tells, reader in _READERS:
        if any(map(tells, first)):
            return reader(whole)
    # Of pytest only the end counts: its summary comes after everything else.
    found = _pytest(whole)
    one = next(found, None)
    return chain([one], found) if one is not None else None


def _is_go(line: str) -> bool:
    return line.startswith("{") and '"Action"' in line


def _go(lines: Iterable[str]) -> Iterator[Result]:
    """Yield each test's own end; a package's end counts where none of its tests failed."""
    failed: set[str] = set()
    for line in lines:
        if not _is_go(line):
            continue
        try:
            event: Any = json.loads(line)
        except (ValueError, RecursionError):
            continue
        how = _GO.get(str(event.get("Action"))) if isinstance(event, dict) else None
        if how is None:
            continue
        package, test = str(event.get("Package") or ""), event.get("Test")
        if test:
            if how == "failed":
                failed.add(package)
            yield f"{package}::{test}", how
        elif how == "failed" and package not in failed:
            yield package, how  # it did not build, or ended by itself


def _is_tap(line: str) -> bool:
    return bool(re.match(r"TAP version \d+$|1\.\.\d+\b", line))


def _tap(lines: Iterable[str]) -> Iterator[Result]:
    """Yield the outermost tests; what is indented belongs to one of them."""
    for line in lines:
        if line.startswith("Bail out!"):
            yield line, "failed"
            return
        match = _TAP.fullmatch(line)
        if match is None or match["indent"]:
            continue
        directive = _DIRECTIVE.search(match["name"])
        name = match["name"][: directive.start()] if directive else match["name"]
        name = name.strip() or f"test {match['number'] or ''}".strip()
        if directive:
            yield name, "skipped"
        else:
            yield name, "failed" if match["not"] else "passed"


def _pytest(lines: Iterable[str]) -> Iterator[Result]:
    for line in lines:
        match = _PYTEST.fullmatch(line)
        if match is not None:
            for _ in range(min(int(match["count"] or 1), 100_000)):
                yield match["name"], _PYTEST_ENDS[match["how"]]


_READERS: tuple[tuple[Callable[[str], bool], Callable[[Iterable[str]], Iterator[Result]]], ...] = (
    (_is_go, _go),
    (_is_tap, _tap),
)
