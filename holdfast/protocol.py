"""How to talk to the server, without any input or output.

A conversation is a generator: it yields a ``Call`` to have it sent and gets the response, or the
failure, back; it yields a number to have so many seconds slept. ``Client`` and ``AsyncClient``
carry conversations out, each in its own way, and hold no rule of their own.
"""

from __future__ import annotations

import email.utils
import itertools
import json
import logging
import os
import random
import threading
import time
import uuid
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict, TypeVar
from urllib.parse import quote

import httpx

from holdfast.errors import (
    ApiError,
    Conflict,
    Error,
    Forbidden,
    LeaseLost,
    NotFound,
    Refused,
    Unauthorized,
    Unreachable,
)

T = TypeVar("T")
JSON = dict[str, Any]
Outcome = httpx.Response | httpx.RequestError | None

DEFAULT_URL = "http://127.0.0.1:8000"
PREFIX = "/api/v1"
FIRST_DELAY_SECONDS = 0.1
LONGEST_DELAY_SECONDS = 5.0
EVENT_WAIT_SECONDS = 25.0
PAGE = 200
STOP_WITHIN_SECONDS = 0.2
#: What a request that never reached anybody fails with.
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
AWAY = frozenset({502, 503, 504})

logger = logging.getLogger("holdfast")


@dataclass(frozen=True)
class Call:
    """One request, the same each time that it is sent."""

    method: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    content: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    #: Seconds the server may take to answer, beyond what the client allows any request.
    wait_seconds: float = 0.0
    #: True when sending it twice does no more than sending it once.
    repeatable: bool = False


Talk = Generator[Call | float, Outcome, T]


class Wish(TypedDict, total=False):
    """What a worker may ask of a claim, see POST /claims of the API."""

    boards: Sequence[str]
    goal: str
    card: str
    capabilities: Sequence[str]
    lease_seconds: int
    wait_seconds: float
    briefing_tokens: int


def call(
    method: str,
    path: str,
    body: Any = None,
    *,
    params: Mapping[str, Any] | None = None,
    content: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    key: str | None = None,
    wait_seconds: float = 0.0,
    repeatable: bool = False,
) -> Call:
    """Return the call; a POST gets an Idempotency-Key, ``key`` or a new one.

    One that is ``repeatable`` by nature goes without. Raises Error for a path that is not
    relative to the API, or a body that is not JSON.
    """
    if not path.startswith("/"):
        raise Error(f"The path {path!r} is not relative to {PREFIX}; begin it with a slash.")
    sent = {"Accept": "application/json", **(headers or {})}
    if method == "POST" and not repeatable:
        sent.setdefault("Idempotency-Key", key or uuid.uuid4().hex)
    if content is None and method in ("POST", "PATCH", "PUT"):
        content = encoded({} if body is None else body)
        sent["Content-Type"] = "application/json"
    wanted = {name: value for name, value in (params or {}).items() if value is not None}
    repeatable = repeatable or method in ("GET", "POST")
    return Call(method, path, wanted, content, sent, wait_seconds, repeatable)


def encoded(value: Any) -> bytes:
    """Return ``value`` as JSON. Raises Error when it is not plain data."""
    try:
        return json.dumps(value, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise Error(f"This can't be sent as JSON: {error}. Use plain data.") from error


def segment(name: str) -> str:
    """Return ``name`` as one segment of a path, such as a step's key."""
    return name.replace(".", "%2E") if name in (".", "..") else quote(name, safe="")


def exchange(request: Call, patience: float) -> Talk[httpx.Response]:
    """Send ``request`` until it is answered for good; return the answer.

    Trouble that passes (no connection, a busy store, a limit of rate, the first request with
    this key still running) is waited for, no longer than ``patience`` in all. Raises ApiError.
    """
    ends = time.monotonic() + patience
    for tries in itertools.count():
        outcome = yield request
        if isinstance(outcome, httpx.Response) and outcome.is_success:
            return outcome
        trouble, passes = judged(request, outcome)
        delay = wait_of(outcome, tries)
        if not passes or time.monotonic() + delay > ends:
            raise trouble
        logger.info("%s %s: %s Again in %.1f s.", request.method, request.path, trouble, delay)
        yield delay
    raise AssertionError("patience without end")  # pragma: no cover


def judged(request: Call, outcome: Outcome) -> tuple[ApiError, bool]:
    """Return what is wrong, and whether the same request may be sent again in a while."""
    if isinstance(outcome, httpx.RequestError):
        return unreachable(outcome), request.repeatable or isinstance(outcome, NOT_SENT)
    assert outcome is not None
    trouble = refusal(outcome)
    # 429 and 503 say that nothing was done.
    return trouble, outcome.status_code in (429, 503) or (
        request.repeatable
        and (outcome.status_code in AWAY or trouble.code == "idempotency_key_busy")
    )


def wait_of(outcome: Outcome, tries: int) -> float:
    """Return how long to wait after so many failures; hardly ever the same for two clients."""
    asked = asked_to_wait(outcome) if isinstance(outcome, httpx.Response) else None
    if asked is not None:
        return asked + random.uniform(0, FIRST_DELAY_SECONDS)
    doubled = FIRST_DELAY_SECONDS * 2.0 ** min(tries, 20)
    return min(LONGEST_DELAY_SECONDS, doubled) * random.uniform(0.5, 1.0)


def asked_to_wait(response: httpx.Response) -> float | None:
    """Return the seconds of ``Retry-After``, if there is a readable one."""
    text = response.headers.get("Retry-After", "").strip()
    try:
        if text.isdigit():
            return float(text)
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def unreachable(error: httpx.RequestError) -> Unreachable:
    """Return the sentence for a request that got no answer."""
    url = error.request.url
    where = f"{url.scheme}://{url.netloc.decode()}"
    why = str(error) or type(error).__name__
    trouble = Unreachable(
        f"{where} gives no answer ({why}). Is the server running, and is HOLDFAST_URL right?"
    )
    trouble.__cause__ = error
    return trouble


_BY_STATUS: dict[int, type[ApiError]] = {
    400: Refused,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    412: Conflict,
    413: Refused,
    415: Refused,
    422: Refused,
    **dict.fromkeys(AWAY, Unreachable),
}


def refusal(response: httpx.Response) -> ApiError:
    """Return the error that a response without success stands for."""
    status = response.status_code
    try:
        problem = response.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict) or "detail" not in problem:
        said = f"{response.url} answered {status}"
        if response.has_redirect_location:
            detail = (
                f"{said}: it moved to {response.headers['Location']}. Set HOLDFAST_URL to that."
            )
        else:
            detail = f"{said} without saying why. Is HOLDFAST_URL the address of a Holdfast server?"
        problem = {}
    else:
        detail = str(problem["detail"])
    if status == 401:
        detail = f"{detail} Set HOLDFAST_TOKEN to a valid token." if problem else detail
    kind = _BY_STATUS.get(status, ApiError)
    if problem.get("code") == "lease_lost":
        kind = LeaseLost
    return kind(detail, status=status, problem=problem)


def parsed(response: httpx.Response) -> Any:
    """Return the JSON of an answer, None for an empty one. Raises Error when it is neither."""
    if not response.content:
        return None
    try:
        return response.json()
    except ValueError as error:
        raise Error(
            f"{response.url} did not answer with JSON. Is HOLDFAST_URL the address of a Holdfast"
            " server?"
        ) from error


def fetch(request: Call, patience: float) -> Talk[Any]:
    """Return the parsed answer to ``request``."""
    response = yield from exchange(request, patience)
    return parsed(response)


@dataclass(frozen=True)
class Where:
    """Which server, and as whom."""

    url: str
    token: str = field(repr=False)

    @classmethod
    def of(cls, url: str | None, token: str | None) -> Where:
        """Return what was said, else what the environment says. Raises Error for what can't be."""
        url = (url or os.environ.get("HOLDFAST_URL") or DEFAULT_URL).strip().rstrip("/")
        token = (token or os.environ.get("HOLDFAST_TOKEN") or "").strip()
        try:
            address = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise Error(f"HOLDFAST_URL is not an address: {error}.") from error
        if address.scheme not in ("http", "https") or not address.host:
            raise Error(f"HOLDFAST_URL must look like {DEFAULT_URL}, not {url!r}.")
        if not token.isascii() or not token.isprintable():
            raise Error("HOLDFAST_TOKEN has characters that no token has. Copy it once more.")
        return cls(url.removesuffix(PREFIX), token)

    def settings(self, timeout: float) -> dict[str, Any]:
        """Return what httpx's clients are made with."""
        headers = {"User-Agent": "holdfast-python"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        return {"base_url": self.url + PREFIX, "headers": headers, "timeout": timeout}


def claim(worker: str, wish: Wish) -> Call:
    """Return the call that claims a card."""
    wait_seconds = wish.get("wait_seconds", 0.0)
    return call("POST", "/claims", {"worker": worker, **wish}, wait_seconds=wait_seconds)


def next_claim(
    worker: str, wish: Wish, patience: float, stop: threading.Event
) -> Talk[JSON | None]:
    """Claim until there is a card, and return it; None once ``stop`` is set."""
    while not stop.is_set():
        asked_at = time.monotonic()
        response = yield from exchange(claim(worker, wish), patience)
        granted: JSON | None = parsed(response)
        if granted is not None:
            return granted
        rested_at = asked_at + (asked_to_wait(response) or LONGEST_DELAY_SECONDS)
        while (rest := rested_at - time.monotonic()) > 0 and not stop.is_set():
            yield min(rest, STOP_WITHIN_SECONDS)
    return None


def events(board: str, after: int, wait_seconds: float) -> Call:
    """Return the call for the events past ``after``, waiting for one if there is none yet."""
    asked = {"board": board, "after": after, "limit": PAGE, "wait_seconds": wait_seconds}
    return call("GET", "/events", params=asked, wait_seconds=wait_seconds)
