"""Test results from a report, as a checkpoint keeps them: JUnit XML, or lines (``testlines``).

The report was written by somebody's command, so it is hostile until read: entities and
document types are refused, size and nesting are bounded, and whatever is wrong with it comes
back as a reason, never as an exception that would end the attempt.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import iterparse

from workers import testlines
from workers.inside import NotInside, open_inside

MAX_BYTES: Final = 64 * 1024 * 1024
MAX_DEPTH: Final = 100
MAX_FAILING: Final = 200
MAX_PASSING: Final = 2000
MAX_NAME_CHARS: Final = 300


@dataclass(frozen=True, slots=True)
class Report:
    """What a report says, or why it says nothing: exactly one of the two is set.

    ``tests`` is ``{passed, failed, skipped, failing}``; an error counts as failed, and
    ``failing`` names the first MAX_FAILING of them. ``passing`` are the names of tests that
    passed, the first MAX_PASSING.
    """

    tests: dict[str, Any] | None
    reason: str | None
    passing: tuple[str, ...] = ()


def read(workspace: Path, relative: str) -> Report:
    """Return what the report at ``relative`` says; nothing in it makes this raise."""
    try:
        with open_inside(workspace, relative) as file:
            beginning = file.read(4096)
            file.seek(0)
            capped = _Capped(file, MAX_BYTES)
            if _may_be_xml(beginning):
                return _parse(capped, relative)
            return _of_lines(capped, relative)
    except FileNotFoundError:
        return _nothing(f"The step wrote no report at {relative}.")
    except NotInside as error:
        return _nothing(str(error))
    except _TooLarge:
        return _nothing(f"{relative} is larger than {MAX_BYTES // 2**20} MiB and was not read.")
    except DefusedXmlException:
        return _nothing(f"{relative} declares entities or a document type, which are refused.")
    except (ParseError, ValueError, LookupError) as error:
        # ValueError and LookupError: an encoding that Python does not know.
        return _nothing(f"{relative} is not JUnit XML: {str(error)[:200]}.")
    except OSError as error:
        return _nothing(f"{relative} can't be read: {error.strerror}.")


def _may_be_xml(beginning: bytes) -> bool:
    text = beginning.lstrip(b"\xef\xbb\xbf \t\r\n")
    # UTF-16 begins with a mark of its own; an empty report is told of as XML, as ever.
    return text[:1] in (b"<", b"") or beginning[:2] in (b"\xff\xfe", b"\xfe\xff")


def _of_lines(file: _Capped, relative: str) -> Report:
    results = testlines.read(_lines(file))
    if results is None:
        return _nothing(
            f"{relative} is no test report: neither JUnit XML, `go test -json`, TAP nor"
            " `pytest -rA`."
        )
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    failing: list[str] = []
    passing: list[str] = []
    for name, how in results:
        counts[how] += 1
        if how == "failed" and len(failing) < MAX_FAILING:
            failing.append(_cleaned(name))
        elif how == "passed" and len(passing) < MAX_PASSING:
            passing.append(_cleaned(name))
    return Report({**counts, "failing": failing}, None, tuple(passing))


def _lines(file: _Capped) -> Iterator[str]:
    """Yield the lines; one that is far too long comes in pieces."""
    rest = b""
    while data := file.read():
        *whole, rest = (rest + data).split(b"\n")
        yield from (line.decode("utf-8", "replace") for line in whole)
        if len(rest) > testlines.MAX_LINE_CHARS:
            yield rest.decode("utf-8", "replace")
            rest = b""
    if rest:
        yield rest.decode("utf-8", "replace")


def _nothing(reason: str) -> Report:
    return Report(tests=None, reason=reason)


class _TooLarge(Exception):
    pass


class _Capped:
    """A file that refuses to be read past its limit, even when it grows meanwhile."""

    def __init__(self, file: IO[bytes], limit: int) -> None:
        self._file, self._left = file, limit

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(64 * 1024 if size < 0 else size)
        self._left -= len(data)
        if self._left < 0:
            raise _TooLarge
        return data


def _parse(file: _Capped, relative: str) -> Report:
    passed = failed = skipped = 0
    failing: list[str] = []
    passing: list[str] = []
    open_elements: list[Element] = []
    root_seen = False
    for event, element in iterparse(file, events=("start", "end"), forbid_dtd=True):
        name = _local(element.tag)
        if event == "start":
            if not root_seen and name not in ("testsuites", "testsuite", "testcase"):
                return _nothing(f"{relative} is XML but not a JUnit report (<{name[:40]}>).")
            root_seen = True
            open_elements.append(element)
            if len(open_elements) > MAX_DEPTH:
                return _nothing(f"{relative} nests deeper than {MAX_DEPTH} elements.")
            continue
        open_elements.pop()
        if name == "testcase":
            outcome = {_local(child.tag) for child in element}
            if outcome & {"failure", "error"}:
                failed += 1
                if len(failing) < MAX_FAILING:
                    failing.append(_name_of(element))
            elif "skipped" in outcome:
                skipped += 1
            else:
                passed += 1
                if len(passing) < MAX_PASSING:
                    passing.append(_name_of(element))
        if open_elements and name not in ("failure", "error", "skipped"):
            # A report of a million cases must not be held in memory whole.
            open_elements[-1].remove(element)
        elif open_elements:
            element.clear()
    tests = {"passed": passed, "failed": failed, "skipped": skipped, "failing": failing}
    return Report(tests, None, tuple(passing))


def _local(tag: object) -> str:
    return str(tag).rpartition("}")[2]


def _name_of(case: Element) -> str:
    parts = [case.get("classname") or "", case.get("name") or ""]
    name = "::".join(part for part in parts if part) or "(unnamed)"
    return _cleaned(name)


def _cleaned(name: str) -> str:
    return name.replace("\x00", "")[:MAX_NAME_CHARS]
