"""Reading, writing and searching files of the workspace for a model, all of it bounded.

Every function returns what the model is told; what it did wrong comes as a Mistake. Nothing
here follows a link, and nothing leaves the folder, see ``workers.inside``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path, PurePosixPath

from workers.inside import NotInside, find_inside, open_inside, write_inside

MAX_FILE_BYTES = 2 * 1024 * 1024
MAX_LINES = 2_000
MAX_LINE_CHARS = 2_000
MAX_NAMES = 500
MAX_HITS = 200
MAX_SEARCHED_BYTES = 256 * 1024 * 1024
SEARCH_SECONDS = 5.0
BINARY_LOOK_BYTES = 8192


class Mistake(Exception):
    """The call can't be carried out as it was made. A sentence for the model."""


def read(root: Path, path: str, first: int = 1, lines: int = MAX_LINES) -> str:
    """Return lines of a text file under a heading that says how many there are."""
    text = _text(root, path)
    every = text.splitlines()
    if not every:
        return f"{path} is empty."
    shown = every[first - 1 : first - 1 + lines]
    if not shown:
        raise Mistake(f"{path} has only {len(every)} lines.")
    body = "\n".join(line[:MAX_LINE_CHARS] for line in shown)
    return f"{path}, lines {first} to {first + len(shown) - 1} of {len(every)}:\n{body}"


def write(root: Path, path: str, content: str) -> str:
    """Make the file hold exactly this."""
    data = _bytes(content)
    _put(root, path, data)
    return f"{path} is written, {len(data)} bytes."


def edit(root: Path, path: str, old: str, new: str, *, every: bool = False) -> str:
    """Replace a passage that stands in the file once, or each time it does with ``every``."""
    text = _text(root, path, exact=True)
    if not old:
        raise Mistake("old must not be empty; use write_file for a whole file.")
    count = text.count(old)
    if count == 0:
        raise Mistake(f"{path} does not hold that passage; read it again, spaces count.")
    if count > 1 and not every:
        raise Mistake(f"{path} holds that passage {count} times; give more of what is around it.")
    _put(root, path, _bytes(text.replace(old, new)))
    return f"{path} is changed in {count} {'place' if count == 1 else 'places'}."


def names(root: Path, pattern: str) -> str:
    """Return the files whose paths match, one a line."""
    found = list(islice(_found(root, pattern), MAX_NAMES + 1))
    if not found:
        return f"No file matches {pattern}."
    more = f"\n[more than {MAX_NAMES} files match]" if len(found) > MAX_NAMES else ""
    return "\n".join(found[:MAX_NAMES]) + more


def search(root: Path, pattern: str, where: str) -> str:
    """Return the lines that match a regular expression as ``path:line: text``.

    The expression is the model's, so each try has a time limit, during which other threads
    go on: the one that keeps the lease must not wait for a bad expression.
    """
    import regex

    try:
        wanted = regex.compile(pattern)
    except regex.error as error:
        raise Mistake(f"That is no regular expression: {error}.") from None
    until = time.monotonic() + SEARCH_SECONDS
    hits: list[str] = []
    left = MAX_SEARCHED_BYTES
    for path in _found(root, where):
        try:
            with open_inside(root, path) as file:
                data = file.read(MAX_FILE_BYTES)
        except (NotInside, OSError):
            continue
        left -= len(data)
        if _is_binary(data):
            continue
        for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
            remaining = until - time.monotonic()
            try:
                if remaining <= 0:
                    raise TimeoutError
                hit = wanted.search(line[:MAX_LINE_CHARS], timeout=remaining, concurrent=True)
            except TimeoutError:
                hits.append(f"[the search was ended after {SEARCH_SECONDS:g} s; narrow it]")
                return "\n".join(hits)
            if hit:
                hits.append(f"{path}:{number}: {line[:300].strip()}")
                if len(hits) >= MAX_HITS:
                    return "\n".join([*hits, f"[only the first {MAX_HITS} lines are shown]"])
        if left <= 0:
            hits.append("[the files are too large to be searched to the end; narrow it]")
            break
    return "\n".join(hits) or f"Nothing in {where} matches."


def _found(root: Path, pattern: str) -> Iterator[str]:
    path = PurePosixPath(pattern)
    if path.is_absolute() or ".." in path.parts:
        raise Mistake(f"{pattern} leads out of the workspace; paths are relative to it.")
    if pattern in ("", "."):
        pattern = "**"
    if ".git" in path.parts:
        raise Mistake("What is in .git is git's; use git in a command.")
    return find_inside(root, pattern)


def _text(root: Path, path: str, *, exact: bool = False) -> str:
    try:
        with open_inside(root, path) as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise Mistake(f"There is no file {path}.") from None
    except (NotInside, OSError) as error:
        raise Mistake(str(error)) from None
    if len(data) > MAX_FILE_BYTES:
        raise Mistake(f"{path} is larger than {MAX_FILE_BYTES} bytes; use search or a command.")
    if _is_binary(data):
        raise Mistake(f"{path} is not text.")
    try:
        return data.decode("utf-8", "strict" if exact else "replace")
    except UnicodeDecodeError:
        raise Mistake(f"{path} is not UTF-8; use a command to change it.") from None


def _put(root: Path, path: str, data: bytes) -> None:
    if ".git" in PurePosixPath(path).parts:
        raise Mistake("What is in .git is git's; use git in a command.")
    if len(data) > MAX_FILE_BYTES:
        raise Mistake(f"A file may have {MAX_FILE_BYTES} bytes; this would have {len(data)}.")
    try:
        write_inside(root, path, data)
    except (NotInside, OSError) as error:
        raise Mistake(str(error)) from None


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _is_binary(data: bytes) -> bool:
    return b"\x00" in data[:BINARY_LOOK_BYTES]
