"""The server's tools, called as the agent calls them: by the attempt's id, with its token."""

from __future__ import annotations

import json
from typing import Any, TypeVar

import httpx

JSON = dict[str, Any]
T = TypeVar("T")


class Refused(Exception):
    """The server answered, and said no; ``code`` is its word for why."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class Silent(Exception):
    """No answer that could be understood; whether the call had an effect is unknown."""


class Server:
    """One server, spoken to with one token for as long as a hook may take."""

    def __init__(self, url: str, token: str, timeout_seconds: float) -> None:
        self._http = httpx.Client(
            base_url=url.rstrip("/"),
            headers={"Authorization": f"Bearer {token}"},
            timeout=timeout_seconds,
        )

    def close(self) -> None:
        """Let go of the connection."""
        self._http.close()

    def call(self, tool: str, **args: Any) -> JSON:
        """Return what the tool answers. Raises Refused or Silent."""
        result = self._result("tools/call", name=tool, arguments=args)
        try:
            text = str(result["content"][0]["text"])
        except (KeyError, IndexError, TypeError) as error:
            raise Silent("the server's answer is none of MCP") from error
        if result.get("isError"):
            raise Refused(text.partition(":")[0], text)
        return _object(text)

    def head(self, card: str) -> JSON | None:
        """Return the checkpoint at which the card's next attempt resumes; empty without one.

        None where it is not to be had here: too old, or another card's. Raises Refused or Silent.
        """
        number = self._read(f"card/{card}", dict).get("checkpoint")
        if number is None:
            return {}
        newest = self._read(f"card/{card}/checkpoints", list)
        return next((c for c in newest if isinstance(c, dict) and c.get("number") == number), None)

    def _read(self, name: str, kind: type[T]) -> T:
        result = self._result("resources/read", uri=f"holdfast://{name}")
        try:
            found = json.loads(result["contents"][0]["text"])
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise Silent("the server's answer is none of MCP") from error
        if not isinstance(found, kind):
            raise Silent("the server's answer is none of MCP")
        return found

    def _result(self, method: str, **params: Any) -> JSON:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        try:
            response = self._http.post("/mcp", json=body)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise Silent(f"the server gives no answer ({error})") from error
        if response.status_code in (401, 403):
            raise Refused("not_authenticated", "the server refuses HOLDFAST_TOKEN")
        told = _object(response.text)
        if isinstance(refusal := told.get("error"), dict):
            raise Refused("error", str(refusal.get("message")))
        if not isinstance(result := told.get("result"), dict):
            raise Silent(f"HTTP {response.status_code} without an MCP answer")
        return result


def _object(text: str) -> JSON:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise Silent("the server's answer is no JSON") from error
    if not isinstance(found, dict):
        raise Silent("the server's answer is no object")
    return found
