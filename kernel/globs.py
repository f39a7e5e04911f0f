"""Paths named by pattern, as git's ``:(glob)`` pathspecs do.

    build/*.cache      * and ? stand for anything but a slash, [ab] for a or b, [!ab] for neither
    **/node_modules    ** for any number of folders, none included

A pattern names a file, or a folder with all in it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

_PART = re.compile(r"(?:[^\[]|\[[!^]?(?![!^])[ -.0-Z^-~]+\])+")  # in brackets, plain characters
_WILD = re.compile(r"[*?\[]")


def problem(pattern: str) -> str | None:
    """Return what keeps the text from naming paths within a folder, if anything does."""
    parts = pattern.split("/")
    if any(part in ("", ".", "..") for part in parts):
        return "is no path within the workspace: no /, . or .. in front, between or alone"
    if any(part.lower() == ".git" for part in parts):
        return "is in .git, which is git's own"
    if pattern[0] in ":!":
        return f"begins with {pattern[0]}, which is not taken here"
    if "\\" in pattern:
        return "has a \\ in it"
    if any("**" in part and part != "**" for part in parts):
        return "has a ** that is not a whole part, as in **/node_modules"
    if not all(map(_PART.fullmatch, parts)):
        return "has a [ without its ], or other than plain characters between"
    if not re.sub(r"[*?/]", "", pattern):
        return "names everything"
    return None


class Globs:
    """The paths that any of some patterns names."""

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        self.patterns = tuple(sorted(set(patterns)))
        self._match = re.compile(b"|".join(map(_regex, self.patterns)) or b"(?!)", re.DOTALL)
        self._places: dict[bytes, bytes | None] = {b"": None}

    def __bool__(self) -> bool:
        return bool(self.patterns)

    @property
    def rooted(self) -> list[str]:
        """Pathspecs for the patterns of which one knows in which folder to look."""
        return _pathspecs(p for p in self.patterns if not _WILD.search(p.split("/")[0]))

    @property
    def floating(self) -> list[str]:
        """Pathspecs for the patterns that may match anywhere."""
        return _pathspecs(p for p in self.patterns if _WILD.search(p.split("/")[0]))

    def place_of(self, path: bytes) -> bytes | None:
        """Return what a pattern names of the path: itself or the uppermost folder above it."""
        path = path.rstrip(b"/")
        if path not in self._places:
            above = self.place_of(path.rpartition(b"/")[0])
            itself = path if self._match.fullmatch(path) else None
            self._places[path] = above or itself
        return self._places[path]


def _pathspecs(patterns: Iterable[str]) -> list[str]:
    return [f":(glob){pattern}{below}" for pattern in patterns for below in ("", "/**")]


def _regex(pattern: str) -> bytes:
    parts = pattern.split("/")
    found = b""
    for n, part in enumerate(parts):
        last = n == len(parts) - 1
        if part == "**":
            found += b".+" if last else b"(?:.*/)?"
        else:
            found += _regex_of_part(part) + (b"" if last else b"/")
    return found


def _regex_of_part(part: str) -> bytes:
    found = b""
    for token in re.findall(r"\[[^\]]*\]|.", part, re.DOTALL):
        if token == "*":
            found += b"[^/]*"
        elif token == "?":
            found += b"[^/]"
        elif len(token) > 1:
            found += _regex_of_class(token[1:-1])
        else:
            found += re.escape(os.fsencode(token))
    return found


def _regex_of_class(inside: str) -> bytes:
    negated = inside[0] in "!^"
    ranges = re.findall(r"(.)-(.)|(.)", inside[negated:])
    found = ""
    for low, high, one in ranges:
        if one or low > high:  # git takes a range that runs backwards for its first character
            found += re.escape(one or low)
        else:
            found += f"{re.escape(low)}-{re.escape(high)}"
    if negated:
        return f"[^/{found}]".encode()
    return f"[{found}]".encode()
