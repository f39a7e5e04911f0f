"""Which request bodies are taken, decided from the headers alone.

The server asks before it reads a body (``server.py``) and the middleware asks again, so that
the rules also hold under another ASGI server. REST framework reads a body without a length
as empty: a chunked PATCH would be answered 200 and store nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings

ARTIFACTS_PATH = "/api/v1/artifacts"
_BODILESS = {"GET", "HEAD", "OPTIONS", "TRACE"}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a body is not taken."""

    status: int
    detail: str


def limit(path: str) -> int:
    """Return how many bytes a body sent to ``path`` may have."""
    if path.rstrip("/") == ARTIFACTS_PATH:
        return int(settings.MAX_ARTIFACT_BYTES)
    return int(settings.MAX_BODY_BYTES)


def refusal(
    method: str, path: str, *, length: str, transfer_encoding: str, content_encoding: str
) -> Refusal | None:
    """Return why the body that these headers announce is not taken, or None if it is.

    Headers are passed as sent, empty when absent.
    """
    if transfer_encoding:
        return Refusal(411, "Send the body with a Content-Length, not in chunks.")
    size = int(length) if length.isascii() and length.isdigit() else 0
    if size > limit(path):
        return Refusal(
            413,
            f"The body has {size} bytes; {limit(path)} are taken here. "
            f"Upload large content with POST {ARTIFACTS_PATH}.",
        )
    if method.upper() in _BODILESS:
        return None
    if content_encoding.strip().lower() not in ("", "identity"):
        return Refusal(
            415, f"Content-Encoding {content_encoding[:40]} is not taken; send it as it is."
        )
    return None
