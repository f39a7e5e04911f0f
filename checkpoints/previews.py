"""Files that can be looked at on a page: pictures of a few raster kinds, notebooks as text.

Nothing is shown for what it is called or says it is. A picture's first bytes decide; whatever can
hold a script (SVG, HTML, PDF) is only ever a download.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from django.utils.safestring import SafeString

from boards import markup
from boards.models import Card
from checkpoints import artifacts, differences, terminal
from checkpoints.git import GitFailed
from checkpoints.models import Artifact
from checkpoints.stores import store_of
from kernel.access import hidden
from kernel.errors import NotFound

MAX_PICTURE_BYTES = 20 * 1024 * 1024
MAX_NOTEBOOK_BYTES = 10 * 1024 * 1024
MAX_FILE_BYTES = 200 * 1024 * 1024
MAX_CELLS = 500
MAX_CELL_CHARS = 50_000
MAX_EMBEDDED_BYTES = 2 * 1024 * 1024
_COMMIT = re.compile(r"[0-9a-f]{40,64}")
#: Names that pictures go by, to offer them; see ``picture_type`` for what is shown.
PICTURES = {".png", ".jpg", ".jpeg", ".gif", ".webp"}


def picture_type(head: bytes) -> str | None:
    """Return the media type of the picture that begins so; None where it is none to show."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    return None


def looks_like_a_picture(path: str) -> bool:
    """True for a name that pictures go by."""
    return PurePosixPath(path).suffix.lower() in PICTURES


def looks_like_a_notebook(path: str) -> bool:
    """True for a name that Jupyter notebooks go by."""
    return PurePosixPath(path).suffix.lower() == ".ipynb"


@dataclass(frozen=True, slots=True)
class Kept:
    """An artifact as a checkpoint lists it: what it is called, how large it is, how it is shown."""

    name: str
    sha256: str
    size_bytes: int
    kind: str  # picture, notebook or file


def kept(listed: Sequence[Mapping[str, Any]]) -> list[Kept]:
    """Return the artifacts of a checkpoint that are still there, in its order."""
    rows = Artifact.objects.filter(pk__in={a["sha256"] for a in listed})
    sizes = dict(rows.values_list("pk", "size_bytes"))
    return [
        Kept(a["name"], a["sha256"], sizes[a["sha256"]], _kind(a["name"], a["sha256"], sizes))
        for a in listed
        if a["sha256"] in sizes
    ]


def _kind(name: str, sha256: str, sizes: Mapping[str, int]) -> str:
    if looks_like_a_notebook(name):
        return "notebook" if sizes[sha256] <= MAX_NOTEBOOK_BYTES else "file"
    if sizes[sha256] <= MAX_PICTURE_BYTES:
        try:
            with artifacts.path_of(sha256).open("rb") as file:
                return "picture" if picture_type(file.read(16)) else "file"
        except OSError:
            pass
    return "file"


def artifact(found: Artifact, most: int) -> bytes:
    """Return the artifact's content. Raises NotFound where it has more than ``most`` bytes."""
    try:
        if found.size_bytes <= most:
            return artifacts.path_of(found.pk).read_bytes()
    except OSError:
        raise hidden("artifact") from None
    raise NotFound(f"It is larger than {most} bytes; download it.")


def file(card: Card, number: int, path: str, most: int, *, base: bool = False) -> bytes:
    """Return a file as the card's checkpoint has it, or as it was where the card began.

    Raises NotFound where there is no such file, or one of more than ``most`` bytes.
    """
    point = differences.named(card, number)
    commit = (point.workspace or {}).get("base" if base else "commit") or ""
    store = store_of(card.board_id)
    missing = NotFound(f"C{number} has no file of this name here.")
    # What a worker says of its workspace is not to be taken for git's options.
    if not _COMMIT.fullmatch(commit) or not path or "\x00" in path or point.dropped_at:
        raise missing
    if not store.has(commit):
        raise missing
    try:
        if int(store.line("cat-file", "-s", f"{commit}:{path}")) > most:
            raise NotFound(f"It is larger than {most} bytes.")
        return store.run("cat-file", "blob", f"{commit}:{path}")
    except (GitFailed, ValueError):
        raise missing from None


def picture(data: bytes) -> str:
    """Return the media type of a picture that may be shown. Raises NotFound for anything else."""
    found = picture_type(data[:16])
    if found is None:
        raise NotFound("It is no picture that is shown here; download it.")
    return found


@dataclass(slots=True)
class Output:
    """What a cell put out: text, a picture as a data URL, or what is not shown."""

    text: str = ""
    picture: str = ""
    left_out: str = ""
    failed: bool = False


@dataclass(slots=True)
class Cell:
    """A cell of a notebook: prose, already rendered, or code with what it put out."""

    number: int
    prose: SafeString | None = None
    source: str = ""
    count: str = ""
    outputs: list[Output] = field(default_factory=list)


@dataclass(slots=True)
class Notebook:
    cells: list[Cell]
    left_out: int


def notebook(data: bytes) -> Notebook:
    """Return the notebook's cells as text. Raises NotFound for what is none."""
    try:
        told = json.loads(data)
        cells = told["cells"] if "cells" in told else told["worksheets"][0]["cells"]
        if not isinstance(cells, list):
            raise TypeError("cells")
        budget = [MAX_EMBEDDED_BYTES]
        read = [_cell(n, c, budget) for n, c in enumerate(cells[:MAX_CELLS], 1)]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise NotFound("It is no notebook that can be read; download it.") from None
    return Notebook(read, max(0, len(cells) - MAX_CELLS))


def _cell(number: int, cell: Mapping[str, Any], budget: list[int]) -> Cell:
    source = _text(cell.get("source", cell.get("input")))
    if cell.get("cell_type") in ("markdown", "heading"):
        return Cell(number, prose=markup.markdown(source))
    count = cell.get("execution_count", cell.get("prompt_number"))
    outputs = cell.get("outputs")
    return Cell(
        number,
        source=source,
        count=str(count)[:10] if isinstance(count, int) else "",
        outputs=list(_outputs(outputs if isinstance(outputs, list) else [], budget)),
    )


def _outputs(outputs: list[Any], budget: list[int]) -> Iterator[Output]:
    for output in outputs[:100]:
        kind = output.get("output_type")
        if kind == "stream":
            yield Output(_plain(output.get("text")), failed=output.get("name") == "stderr")
        elif kind in ("error", "pyerr"):
            yield Output(_plain(output.get("traceback"), "\n"), failed=True)
        else:
            data = output.get("data")
            yield _shown(data if isinstance(data, dict) else {}, budget)


def _shown(data: Mapping[str, Any], budget: list[int]) -> Output:
    """Return the one way of several in which an output is shown: a picture, else text."""
    for kind in ("image/png", "image/jpeg"):
        if kind in data:
            url = _embedded(_text(data[kind]), budget)
            if url:
                return Output(picture=url)
    if "text/plain" in data:
        return Output(_plain(data["text/plain"]))
    return Output(left_out=", ".join(sorted(map(str, data)))[:200])


def _embedded(encoded: str, budget: list[int]) -> str:
    try:
        raw = base64.b64decode("".join(encoded.split()), validate=True)
    except (binascii.Error, ValueError):
        return ""
    found = picture_type(raw[:16])
    if found is None or len(raw) > budget[0]:
        return ""
    budget[0] -= len(raw)
    return f"data:{found};base64,{base64.b64encode(raw).decode()}"


def _plain(value: Any, between: str = "") -> str:
    return terminal.plain(_text(value, between))


def _text(value: Any, between: str = "") -> str:
    if isinstance(value, list):
        value = between.join(str(part) for part in value)
    return str(value)[:MAX_CELL_CHARS] if value is not None else ""
