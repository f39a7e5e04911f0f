"""Blots secrets out of what commands print, before anybody stores or sees it.

A secret is looked for with all white space left out of it and of the text, so that it is found
however a program breaks it into lines. What a text costs depends on its length, hardly on how
many secrets there are: pieces of four letters are looked up in a table, and only where one
could be of a secret's beginning is anything compared.
"""

from __future__ import annotations

import base64
import html
import json
import re
import shlex
from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, quote_plus

MARK = "[redacted]"
MIN_CHARS = 8  # shorter ones would blot out ordinary words

#: Letters of a spelling's beginning that are in the table, those of a piece, and where pieces
#: of a text begin: so far apart that none of the beginnings falls between two.
HEAD, PIECE = MIN_CHARS, 4
STRIDE = HEAD - PIECE + 1
#: Text held back, in case it goes on to be a secret; beyond that it is none.
MOST_HELD = 256 * 1024

_SOUNDS_SECRET = re.compile(r"SECRET|TOKEN|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|API_?KEY|PRIVATE")
_BLANKS = re.compile(r"\s+")
#: White space, also as it stands within JSON, and in JSON within JSON.
_ESCAPED_BLANKS = re.compile(r"(?:\s|\\+(?:[nrt]|\Z))+")
_LINE_ENDS = re.compile(r"[\r\n]|\\+[rn]")


def secrets_in(env: Mapping[str, str]) -> list[str]:
    """Return the values in ``env`` whose names say that they are secret."""
    return [value for name, value in env.items() if _SOUNDS_SECRET.search(name.upper())]


def letters(text: str) -> str:
    """Return the text without its white space: what it is looked for by."""
    return "".join(text.split())


class Redactor:
    """Knows some secrets and finds them: as they are, in base64, in hexadecimal, in a URL, in
    JSON, HTML or a shell's quotes, broken into lines or not.

    What it can't find: a secret that was encrypted, compressed, hashed, reversed, cut short,
    spelled out letter by letter, or that has fewer than MIN_CHARS letters. Of a secret of many
    lines, each line of so many is a secret as well. It guards against accidents, not against a
    command that means to leak.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        self._know({s for secret in secrets for s in _spellings(secret)})

    def _know(self, spellings: Collection[str]) -> None:
        self._spellings = frozenset(spellings)
        self._by_head: dict[str, list[str]] = {}
        for spelling in sorted(spellings, key=lambda text: (-len(text), text)):
            self._by_head.setdefault(spelling[:HEAD], []).append(spelling)
        heads = self._by_head
        self._pieces = {head[n : n + PIECE] for head in heads for n in range(STRIDE)}
        self._beginnings = {head[:n] for head in heads for n in range(1, HEAD)}

    def knowing(self, secret: str) -> Redactor:
        """Return one that knows this secret, too."""
        more = _spellings(secret) - self._spellings
        if not more:
            return self
        made = Redactor([])
        made._know(self._spellings | more)
        return made

    @property
    def knows_nothing(self) -> bool:
        return not self._spellings

    def redact(self, text: str) -> str:
        """Return ``text`` with every known secret blotted out."""
        if self.knows_nothing:
            return text
        return blotted(text, self.find(text, whole=True).spans)

    def redacted(self, value: Any) -> Any:
        """Return JSON with every text in it struck out likewise, names of fields excepted."""
        if isinstance(value, str):
            return self.redact(value)
        if isinstance(value, Mapping):
            return {name: self.redacted(item) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.redacted(item) for item in value]
        return value

    def stream(self) -> RedactedStream:
        """Return a filter for text that arrives in pieces."""
        return RedactedStream(self)

    def find(self, text: str, *, whole: bool = False) -> Found:
        """Return where secrets stand in the text, and where its end may begin one.

        ``whole``: nothing follows, so that nothing begins there.
        """
        found = self._find(_Squeezed(text, _BLANKS), whole)
        if "\\" in text:
            more = self._find(_Squeezed(text, _ESCAPED_BLANKS), whole)
            found = Found.joined(found, more)
        return found

    def _find(self, text: _Squeezed, whole: bool) -> Found:
        spans: list[tuple[int, int]] = []
        squeezed, at = text.squeezed, 0
        pieces, by_head, size = self._pieces, self._by_head, len(text.squeezed)
        for piece in [
            n for n in range(0, size - PIECE + 1, STRIDE) if squeezed[n : n + PIECE] in pieces
        ]:
            for start in range(max(at, piece - STRIDE + 1), piece + 1):
                near = by_head.get(squeezed[start : start + HEAD])
                if near is None:
                    continue
                if not whole and _goes_on(squeezed, start, near):
                    return Found([text.span(*span) for span in spans], text.place(start), HEAD)
                end = next((start + len(s) for s in near if squeezed.startswith(s, start)), start)
                if end > start:
                    spans.append((start, end))
                    at = end
                    break
        found = Found([text.span(*span) for span in spans])
        if not whole:
            for count in range(min(HEAD - 1, size - at), 0, -1):
                if squeezed[size - count :] in self._beginnings:
                    return Found(found.spans, text.place(size - count), count)
        return found


@dataclass(frozen=True, slots=True)
class Found:
    """Where secrets stand in a text, in order.

    From ``open_at`` on it may be the beginning of one, of which ``letters`` are there at least.
    """

    spans: list[tuple[int, int]]
    open_at: int | None = None
    letters: int = 0

    @classmethod
    def joined(cls, one: Found, other: Found) -> Found:
        """Return what both found: the spans before whatever either holds open."""
        spans: list[tuple[int, int]] = []
        for start, end in sorted([*one.spans, *other.spans]):
            if spans and start < spans[-1][1]:
                start, end = spans[-1][0], max(end, spans.pop()[1])
            spans.append((start, end))
        opens = [found for found in (one, other) if found.open_at is not None]
        if not opens:
            return cls(spans)
        first = min(opens, key=lambda found: (found.open_at, -found.letters))
        open_at, count = first.open_at or 0, first.letters
        while spans and spans[-1][1] > open_at:
            # It is looked at again as soon as it is known how the text goes on.
            open_at, count = min(open_at, spans.pop()[0]), HEAD
        return cls(spans, open_at, count)


class RedactedStream:
    """Redacts a stream, also where a secret is cut between two pieces."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._text = ""  # the end of what came, which may be a secret's beginning …
        self._shown = 0  # … and how much of that was shown already

    def feed(self, text: str) -> str:
        """Return what can be shown; the possible beginning of a secret waits for the rest.

        A line that ends with no more than a few letters of one does not: whoever reads it may
        have to answer before anything follows. If the secret goes on, its rest is blotted out.
        """
        if self._redactor.knows_nothing:
            return text
        too_long = len(self._text) > MOST_HELD
        text = self._text + text
        found = self._redactor.find(text, whole=too_long)
        open_at = len(text) if found.open_at is None else found.open_at
        shown = blotted(text[:open_at], found.spans, self._shown)
        self._text, self._shown = text[open_at:], max(0, self._shown - open_at)
        if found.letters < HEAD and ("\n" in self._text or "\r" in self._text):
            shown += self._text[self._shown :]
            self._shown = len(self._text)
        return shown

    def close(self) -> str:
        text, shown = self._text, self._shown
        self._text, self._shown = "", 0
        return blotted(text, self._redactor.find(text, whole=True).spans, shown)


class _Squeezed:
    """A text without what ``blanks`` matches, and the way back from there to the text."""

    def __init__(self, text: str, blanks: re.Pattern[str]) -> None:
        self._text, self._blanks = text, blanks
        self.squeezed = letters(text) if blanks is _BLANKS else blanks.sub("", text)
        self._gaps: tuple[list[int], list[int]] | None = None

    def place(self, n: int) -> int:
        """Return where the letter stands in the text."""
        if len(self.squeezed) == len(self._text):
            return n
        if self._gaps is None:
            # Where each run of letters begins: among the letters, and in the text.
            runs, places, kept, end = [0], [0], 0, 0
            for gap in self._blanks.finditer(self._text):
                kept += gap.start() - end
                end = gap.end()
                runs.append(kept)
                places.append(end)
            self._gaps = runs, places
        runs, places = self._gaps
        run = bisect_right(runs, n) - 1
        return places[run] + n - runs[run]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Return where the letters from ``start`` to before ``end`` stand in the text."""
        return self.place(start), self.place(end - 1) + 1


def blotted(text: str, spans: Iterable[tuple[int, int]], begin: int = 0) -> str:
    """Return the text from ``begin`` on, with a mark for each span that is there."""
    parts, at = [], begin
    for start, end in spans:
        if end > at:
            parts += [text[at:start] if start > at else "", MARK]
            at = end
    return "".join([*parts, text[at:]])


def _goes_on(text: str, start: int, spellings: Iterable[str]) -> bool:
    """Return whether the text ends with the beginning of a spelling, from ``start`` on."""
    left = len(text) - start
    return any(len(s) > left and s.startswith(text[start:]) for s in spellings)


def _spellings(secret: str) -> set[str]:
    """Return how the secret may be spelled, without white space."""
    text = secret.strip()
    found = {*_plain(text), *_coded(text)}
    for line in _LINE_ENDS.split(text):
        if line.strip() != text:
            found |= _plain(line.strip())
    squeezed = {letters(spelling) for spelling in found}
    # As in a text of which escaped white space is left out, too.
    squeezed |= {_ESCAPED_BLANKS.sub("", s) for s in found if "\\" in s}
    return {text for text in squeezed if len(text) >= MIN_CHARS}


def _plain(text: str) -> set[str]:
    """Return the text as programs and formats quote it."""
    quoted = json.dumps(text)[1:-1]
    return {
        text,
        quoted,
        json.dumps(quoted)[1:-1],
        json.dumps(text, ensure_ascii=False)[1:-1],
        repr(text)[1:-1],
        shlex.quote(text).strip("'"),
        html.escape(text),
        quote(text, safe=""),
        quote(text),
        quote_plus(text),
    }


def _coded(text: str) -> set[str]:
    data = text.encode("utf-8", "surrogateescape")
    found = {data.hex(), data.hex().upper()}
    for shift in range(3):
        # Base64 of a longer text that holds the secret: its middle depends on where it starts.
        for alphabet in (base64.b64encode, base64.urlsafe_b64encode):
            coded = alphabet(b"\x00" * shift + data).decode().rstrip("=")
            start = (0, 2, 3)[shift]
            whole = len(coded) - (0 if (shift + len(data)) % 3 == 0 else 1)
            found.add(coded[start:whole])
    return found
