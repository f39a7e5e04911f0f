"""The API's description: its page, and what holds for every operation, said once."""

from __future__ import annotations

from typing import Any

from drf_spectacular.views import SpectacularSwaggerSplitView
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from runtime_site import problems


class DocsView(SpectacularSwaggerSplitView):
    """The document as a page; refusals are problem documents, as everywhere in the API."""

    def finalize_response(
        self, request: Request, response: Response, *args: Any, **kwargs: Any
    ) -> Response:
        response = super().finalize_response(request, response, *args, **kwargs)
        if response.exception:
            response.accepted_renderer = JSONRenderer()
        return response


PROBLEM = {
    "type": "object",
    "description": "A refusal (RFC 9457). `code` is stable; `errors` goes with 400 and 422.",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "errors": {
            "type": "object",
            "additionalProperties": {"type": "array", "items": {"type": "string"}},
        },
    },
    "required": ["type", "title", "status", "detail", "code"],
}
REFUSED = {
    "description": "Refused; nothing was changed.",
    "content": {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}


def finish(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Return the document with every refusal described and every nullable value satisfiable."""
    result["components"]["schemas"]["Problem"] = PROBLEM
    for methods in result["paths"].values():
        for operation in methods.values():
            operation["responses"]["default"] = REFUSED
    loosened: dict[str, Any] = _loosen(result)
    return loosened


def _loosen(node: Any) -> Any:
    """Replace ``oneOf: [anything, null]`` by anything: null matches both, so it fitted neither."""
    if isinstance(node, list):
        return [_loosen(inner) for inner in node]
    if not isinstance(node, dict):
        return node
    if {} in node.get("oneOf", ()):
        node = {name: inner for name, inner in node.items() if name != "oneOf"}
    return {name: _loosen(inner) for name, inner in node.items()}
