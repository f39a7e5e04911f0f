"""What a terminal would show of a line of output: its visible text, and the style it leaves on.

``static/js/terminal.js`` draws by the same rules; ``tests/terminal.json`` holds both to them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

#: Where the first of these is missing, a text is what it looks like.
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
#: What changes a line that was already written: a carriage return, backspace, "erase in line",
#: and the way back to the first column.
_MOVES = re.compile(r"\r|\x08|\x1b\[[0-2]?K|\x1b\[[01]?G")
#: Everything else that is never seen: titles and links, other strings, sequences, lone controls.
_UNSEEN = re.compile(
    r"\x1b\][^\x07\x1b\n]*(?:\x07|\x1b\\)?"
    r"|\x1b[PX^_][^\x1b\n]*(?:\x1b\\)?"
    r"|\x1b\[[0-?]*[ -/]*[@-~]?"
    r"|\x1b[ -/]*[0-~]?"
    r"|[\x00-\x07\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f]"
)
_TOKENS = re.compile(f"({_MOVES.pattern})|{_UNSEEN.pattern}")
_STYLES = re.compile(r"\x1b\[([0-9;:]*)m")

#: What switches an attribute on, and what switches it off again.
_ATTRIBUTES = {"1": "22", "2": "22", "3": "23", "4": "24", "7": "27", "8": "28", "9": "29"}
MAX_STYLE_CHARS = 100


def plain(text: str) -> str:
    """Return what is visible of lines of output once they are all written."""
    if not CONTROLS.search(text):
        return text
    text = text.replace("\r\n", "\n").rstrip("\r")
    if not _MOVES.search(text):
        return _UNSEEN.sub("", text)
    return "\n".join(_settled(line) for line in text.split("\n"))


def _settled(line: str) -> str:
    """Return a line as it stands after everything that wrote over it."""
    if not _MOVES.search(line):
        return _UNSEEN.sub("", line)
    cells: list[str] = []
    column = written = 0
    for token in _TOKENS.finditer(line):
        column = _write(cells, column, line[written : token.start()])
        written = token.end()
        move = token.group(1)
        if move is None:
            continue
        if move == "\x08":
            column = max(0, column - 1)
        elif not move.endswith("K"):
            column = 0
        elif move == "\x1b[2K":
            cells.clear()
        elif move == "\x1b[1K":
            cells[: column + 1] = [" "] * min(column + 1, len(cells))
        else:
            del cells[column:]
    _write(cells, column, line[written:])
    return "".join(cells)


def _write(cells: list[str], column: int, text: str) -> int:
    if text:
        cells.extend(" " * (column - len(cells)))
        cells[column : column + len(text)] = text
    return column + len(text)


def style_after(style: str, text: str) -> str:
    """Return the style that is on after ``text``, where ``style`` was before it.

    A style is the numbers of "select graphic rendition" that bring it about, in one order:
    ``1;4;31``, empty for none.
    """
    if "\x1b[" not in text:
        return style
    on: dict[str, str] = {}
    _apply(on, style)
    for found in _STYLES.finditer(text):
        _apply(on, found.group(1))
    said = ";".join(on[name] for name in sorted(on))
    return said if len(said) <= MAX_STYLE_CHARS else ""


def _apply(on: dict[str, str], codes: str) -> None:
    parts = iter(codes.split(";"))
    for part in parts:
        code, _, rest = part.partition(":")
        code = code.lstrip("0") or "0"
        if code == "0":
            on.clear()
        elif code in _ATTRIBUTES:
            on[f"a{code}"] = code
            if code == "4" and rest == "0":
                del on["a4"]
        elif code in ("21", "5", "6"):
            if code == "21":  # underlined twice
                on["a4"] = "4"
        elif code in _ATTRIBUTES.values():
            for begun, ended in _ATTRIBUTES.items():
                if ended == code:
                    on.pop(f"a{begun}", None)
        elif code in ("38", "48", "58"):
            colour = _colour(rest.split(":") if rest else None, parts)
            if colour and code != "58":
                on["f" if code == "38" else "g"] = f"{code};{colour}"
        elif code in ("39", "49"):
            on.pop("f" if code == "39" else "g", None)
        elif len(code) <= 3 and code.isdecimal():
            number = int(code)
            if 30 <= number <= 37 or 90 <= number <= 97:
                on["f"] = code
            elif 40 <= number <= 47 or 100 <= number <= 107:
                on["g"] = code


def _colour(given: list[str] | None, following: Iterator[str]) -> str:
    """Return ``5;n`` or ``2;r;g;b`` of an extended colour; empty where it is none."""
    kind = given[0] if given else next(following, "")
    wanted = {"5": 1, "2": 3}.get(kind, 0)
    numbers = given[1:][-wanted:] if given and wanted else []
    if given is None:
        numbers = [next(following, "") for _ in range(wanted)]
    values = [int(n or "0") if len(n) <= 3 else 256 for n in numbers]
    if not wanted or len(values) != wanted or max(values) > 255:
        return ""
    return ";".join([kind, *map(str, values)])
