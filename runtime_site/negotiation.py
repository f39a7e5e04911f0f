"""What a client is answered in."""

from __future__ import annotations

from typing import Any

from rest_framework.negotiation import BaseContentNegotiation


class JSONAlways(BaseContentNegotiation):
    """Answers in the view's first renderer whatever ``Accept`` says, and parses by content type.

    A client that asks for HTML or anything else is better served by JSON than by a 406, and
    ``text/event-stream`` is a view's own affair.
    """

    def select_parser(self, request: Any, parsers: Any) -> Any:
        if not request.content_type:
            return parsers[0]
        sent = request.content_type.split(";", 1)[0].strip().lower()
        return next((parser for parser in parsers if parser.media_type in (sent, "*/*")), None)

    def select_renderer(self, request: Any, renderers: Any, format_suffix: Any = None) -> Any:
        return renderers[0], renderers[0].media_type
