"""Blots secrets out of what commands print, before anybody stores or sees it."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

MARK = "[redacted]"
MIN_CHARS = 8  # shorter ones would blot out ordinary words

_SOUNDS_SECRET = re.compile(r"SECRET|TOKEN|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|API_?KEY|PRIVATE")


def secrets_in(env: Mapping[str, str]) -> list[str]:
    """Return the values in ``env`` whose names say that they are secret."""
    return [value for name, value in env.items() if _SOUNDS_SECRET.search(name.upper())]


class Redactor:
    """Knows some secrets and finds them as they are, in base64, in a URL or in JSON.

    What it can't find: a secret that was encrypted, compressed, reversed or spelled out
    letter by letter. It guards against accidents, not against a command that means to leak.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = tuple(secrets)
        spellings: set[str] = set()
        for secret in self._secrets:
            for line in {secret, *secret.splitlines()}:
                spellings |= _spellings(line.strip())
        self._spellings = sorted(spellings, key=lambda text: (-len(text), text))
        self._pattern = re.compile("|".join(map(re.escape, self._spellings)) or r"(?!)")

    def knowing(self, secret: str) -> Redactor:
        """Return one that knows this secret, too."""
        return Redactor([*self._secrets, secret])

    def redact(self, text: str) -> str:
        """Return ``text`` with every known secret blotted out."""
        return self._pattern.sub(MARK, text) if self._spellings else text

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

    def held_back(self, text: str) -> int:
        """Return how long the end of ``text`` is that could be the beginning of a secret."""
        longest = 0
        for spelling in self._spellings:
            for size in range(min(len(spelling) - 1, len(text)), longest, -1):
                if text.endswith(spelling[:size]):
                    longest = size
                    break
        return longest


class RedactedStream:
    """Redacts a stream, also where a secret is cut between two pieces."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._held = ""

    def feed(self, text: str) -> str:
        """Return what can be shown; the possible beginning of a secret waits for the rest."""
        whole = self._redactor.redact(self._held + text)
        keep = self._redactor.held_back(whole)
        self._held = whole[len(whole) - keep :]
        return whole[: len(whole) - keep]

    def close(self) -> str:
        rest, self._held = self._held, ""
        return rest


def _spellings(secret: str) -> set[str]:
    if len(secret) < MIN_CHARS:
        return set()
    data = secret.encode("utf-8", "surrogateescape")
    found = {secret, quote(secret, safe=""), quote(secret), quote_plus(secret)}
    found.add(json.dumps(secret)[1:-1])
    for shift in range(3):
        # Base64 of a longer text that holds the secret: its middle depends on where it starts.
        for alphabet in (base64.b64encode, base64.urlsafe_b64encode):
            coded = alphabet(b"\x00" * shift + data).decode().rstrip("=")
            start = (0, 2, 3)[shift]
            whole = len(coded) - (0 if (shift + len(data)) % 3 == 0 else 1)
            found.add(coded[start:whole])
    return {text for text in found if len(text) >= MIN_CHARS}
