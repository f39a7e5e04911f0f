"""The one JSON parser behind every REST endpoint."""

from __future__ import annotations

from typing import Any

from rest_framework.parsers import BaseParser

from kernel.errors import Malformed
from kernel.limits import load_json


class StrictJSONParser(BaseParser):
    """Parses a JSON body and refuses what can't be stored, see ``kernel.limits``."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:
        raw = stream.read()
        value = load_json(raw) if raw.strip() else {}
        if not isinstance(value, dict):
            raise Malformed("The body must be a JSON object.")
        return value
