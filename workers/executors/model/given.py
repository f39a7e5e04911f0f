"""What an ``llm`` step says, read and checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from boards.workflows import ENV_NAME, storable
from workers.executors.contract import Refuse
from workers.executors.model import schemas

#: Protocols, each with the variables that hold its key and its address.
PROVIDERS = {
    "openai": ("OPENAI_API_KEY", "OPENAI_BASE_URL", "https://api.openai.com/v1"),
    "openai-responses": ("OPENAI_API_KEY", "OPENAI_BASE_URL", "https://api.openai.com/v1"),
    "anthropic": ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "https://api.anthropic.com"),
}
TOOLS = ("files", "search", "shell", "runtime")
MAX_PROMPT_BYTES = 64 * 1024
MAX_TURNS, DEFAULT_TURNS = 1000, 50
MIN_HISTORY_TOKENS, MAX_HISTORY_TOKENS, DEFAULT_HISTORY_TOKENS = 1_000, 2_000_000, 60_000
MAX_OUTPUT_TOKENS = 1_000_000
MAX_USD_PER_MILLION = 100_000

_NAME = re.compile(r"[^\s\x00-\x1f]{1,200}")
_FIELDS = (
    "model",
    "prompt",
    "system",
    "tools",
    "max_turns",
    "max_tokens",
    "temperature",
    "history_tokens",
    "briefing",
    "output",
)
_MODEL_FIELDS = (
    "provider",
    "name",
    "base_url",
    "api_key_env",
    "input_usd_per_million",
    "output_usd_per_million",
)


def read(value: Any, refuse: Refuse) -> dict[str, Any] | None:
    """Return the field with every default written out, or None after refusing."""
    if not isinstance(value, Mapping):
        refuse("", "must be an object, {model: 'openai:…', prompt: '…'}.")
        return None
    reader = _Reader(value, refuse)
    reader.unknown(value, _FIELDS, "")
    tools = value.get("tools")
    read = {
        "model": reader.model(value.get("model")),
        "prompt": reader.text("prompt", required=True),
        "system": reader.text("system"),
        "tools": list(TOOLS) if tools is None else reader.tools(tools),
        "max_turns": reader.number("max_turns", 1, MAX_TURNS, DEFAULT_TURNS),
        "max_tokens": reader.number("max_tokens", 1, MAX_OUTPUT_TOKENS, None),
        "temperature": reader.number("temperature", 0, 2, None, whole=False),
        "history_tokens": reader.number(
            "history_tokens", MIN_HISTORY_TOKENS, MAX_HISTORY_TOKENS, DEFAULT_HISTORY_TOKENS
        ),
        "briefing": reader.yes_or_no("briefing", default=True),
        "output": reader.output(value.get("output")),
    }
    return None if reader.refused else read


class _Reader:
    def __init__(self, value: Mapping[Any, Any], refuse: Refuse) -> None:
        self._value, self._refuse = value, refuse
        self.refused = False

    def refuse(self, place: str, sentence: str) -> None:
        self.refused = True
        self._refuse(place, sentence)

    def unknown(self, item: Mapping[Any, Any], known: tuple[str, ...], prefix: str) -> None:
        for name in item:
            if name not in known:
                place = str(name).encode("utf-8", "replace").decode().replace("\x00", "?")[:100]
                self.refuse(f"{prefix}{place}", f"is no field of it; use {', '.join(known)}.")

    def text(self, name: str, *, required: bool = False) -> str:
        value = self._value.get(name)
        if value is None and not required:
            return ""
        if not isinstance(value, str) or (required and not value.strip()):
            self.refuse(name, "must be text.")
        elif storable(value, lambda _, sentence: self.refuse(name, sentence)):
            if len(value.encode()) <= MAX_PROMPT_BYTES:
                return value
            self.refuse(name, f"is longer than {MAX_PROMPT_BYTES} bytes; put it in a file.")
        return ""

    def number(
        self, name: str, low: int, high: int, default: int | None, *, whole: bool = True
    ) -> int | float | None:
        value = self._value.get(name)
        if value is None:
            return default
        kinds = int if whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
            kind = "a whole number" if whole else "a number"
            self.refuse(name, f"must be {kind} from {low} to {high}.")
            return default
        return value

    def yes_or_no(self, name: str, *, default: bool) -> bool:
        value = self._value.get(name)
        if value is not None and not isinstance(value, bool):
            self.refuse(name, "must be true or false, without quotes.")
        return default if value is None else value is True

    def tools(self, value: Any) -> list[str]:
        if not isinstance(value, list) or not all(item in TOOLS for item in value):
            self.refuse("tools", f"must be a list of {', '.join(TOOLS)}; [] for none.")
            return []
        return [name for name in TOOLS if name in value]

    def output(self, value: Any) -> Any:
        if value is None:
            return None
        sound = schemas.check(value, lambda at, said: self.refuse(f"output.{at}".rstrip("."), said))
        if sound and value["type"] != "object":
            self.refuse("output.type", "must be object; name what you want as its properties.")
        return value

    def model(self, value: Any) -> dict[str, Any]:
        if isinstance(value, str):
            before, found, after = value.partition(":")
            value = {"provider": before, "name": after} if found else {"name": value}
        if not isinstance(value, Mapping):
            self.refuse("model", "must be 'provider:name' or an object {provider, name, …}.")
            return {}
        self.unknown(value, _MODEL_FIELDS, "model.")
        provider, name = value.get("provider"), value.get("name")
        if provider not in PROVIDERS:
            self.refuse(
                "model", f"must say the provider, one of {', '.join(PROVIDERS)}: 'openai:gpt-…'."
            )
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            self.refuse("model", "must name the model: 'openai:gpt-…'.")
        elif not storable(name, lambda _, sentence: self.refuse("model.name", sentence)):
            name = ""
        return {
            "provider": provider,
            "name": name,
            "base_url": self._address(value.get("base_url")),
            "api_key_env": self._variable(value.get("api_key_env")),
            **{
                price: self._price(value.get(price), f"model.{price}")
                for price in ("input_usd_per_million", "output_usd_per_million")
            },
        }

    def _address(self, value: Any) -> str | None:
        if value is None:
            return None
        if isinstance(value, str) and len(value) <= 500 and _NAME.fullmatch(value[:200]):
            try:
                parts = urlsplit(value)
                fits = parts.scheme in ("http", "https") and parts.hostname and not parts.username
                fits = fits and value.isascii() and not parts.query and not parts.fragment
                if fits and (parts.port is None or parts.port > 0):
                    return value.rstrip("/")
            except ValueError:
                pass
        self.refuse("model.base_url", "must be an address such as http://127.0.0.1:11434/v1.")
        return None

    def _variable(self, value: Any) -> str | None:
        if value is None:
            return None
        if isinstance(value, str) and ENV_NAME.fullmatch(value):
            return value
        self.refuse("model.api_key_env", "must name the variable that holds the key.")
        return None

    def _price(self, value: Any, place: str) -> float | None:
        if value is None:
            return None
        numeric = isinstance(value, int | float) and not isinstance(value, bool)
        if numeric and 0 <= value <= MAX_USD_PER_MILLION:
            return float(value)
        self.refuse(place, f"must be US dollars from 0 to {MAX_USD_PER_MILLION}.")
        return None
