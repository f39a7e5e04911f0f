"""JSON-RPC over one POST endpoint (MCP streamable HTTP, answers as plain JSON).

Sources: modelcontextprotocol.io, specification 2026-07-28 (stateless: version and capabilities
in ``_meta``, mirrored in headers; ``server/discover``) and 2025-11-25 (``initialize``).
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from rest_framework import exceptions
from rest_framework.utils.encoders import JSONEncoder

from boards import lookup, news
from boards.authentication import principal_of_bearer
from boards.models import Card
from checkpoints import briefing, recovery
from checkpoints.api.contracts import CheckpointOut
from goals.api.contracts import goal_out
from kernel.access import Principal
from kernel.errors import DomainError
from kernel.limits import load_json
from workers.mcp.schema import schema_of
from workers.mcp.tools import TOOLS, Tool
from workers.striking import struck_out

logger = logging.getLogger(__name__)

STATELESS = ("2026-07-28",)
HANDSHAKE = ("2025-11-25", "2025-06-18", "2025-03-26")
SERVER = {"name": "holdfast", "title": "Holdfast", "version": "1"}
#: For an agent that a built-in worker runs.
AGENT_INSTRUCTIONS = (
    "You work for attempt {attempt}: pass it as attempt_id. You hold its card already. Say with "
    "state_approach how you go about it. Record what the next worker must know: begin_step and "
    "finish_step, save_checkpoint, record_decision, record_discovery. Say with complete_card that "
    "you are done, with block_card that a person must decide; the worker that runs you checks your "
    "work and ends the attempt."
)
INSTRUCTIONS = (
    "Claim one card with claim_card, read its briefing, and say with state_approach how you go "
    "about it. Begin each step before you do it and "
    "finish it after; save a checkpoint whenever somebody else could go on from there. End with "
    "complete_card, block_card (to ask a person), fail_card or release_card. A lease_lost answer "
    "means another worker has the card: stop working on it."
)
CAPABILITIES: dict[str, Any] = {"tools": {}, "resources": {}, "prompts": {}}
_META = "io.modelcontextprotocol/"
_NAMED = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
_CACHE = {"ttlMs": 60_000, "cacheScope": "private"}
_FRESH = {"ttlMs": 0, "cacheScope": "private"}

PARSE_ERROR, INVALID_REQUEST, NO_METHOD, INVALID_PARAMS = -32700, -32600, -32601, -32602
HEADER_MISMATCH, UNSUPPORTED_VERSION = -32020, -32022


class RpcError(Exception):
    """A JSON-RPC error and the HTTP status it travels under."""

    def __init__(self, code: int, message: str, status: int = 200, data: Any = None) -> None:
        super().__init__(message)
        self.code, self.message, self.status, self.data = code, message, status, data


@csrf_exempt
def mcp(request: HttpRequest) -> HttpResponse:
    """Answer one JSON-RPC request. 401 without a good token, 403 for a foreign Origin."""
    if not _same_origin(request):
        return _problem(403, "forbidden", "This Origin may not call this server.")
    if request.method != "POST":
        refusal = _problem(405, "method_not_allowed", "This server is called by POST alone.")
        refusal["Allow"] = "POST"
        return refusal
    if request.content_type != "application/json":
        return _problem(415, "unsupported_media_type", "Send Content-Type: application/json.")
    principal = _principal(request)
    if principal is None:
        refusal = _problem(401, "not_authenticated", "Send Authorization: Bearer <token>.")
        refusal["WWW-Authenticate"] = 'Bearer realm="holdfast", error="invalid_token"'
        return refusal
    rpc_id: Any = None
    try:
        body = _body(request)
        if "id" not in body:
            return HttpResponse(status=202)
        rpc_id = body["id"]
        result = _dispatch(principal, body, request)
        return _json({"jsonrpc": "2.0", "id": rpc_id, "result": result})
    except RpcError as error:
        problem: dict[str, Any] = {"code": error.code, "message": error.message}
        if error.data is not None:
            problem["data"] = error.data
        return _json({"jsonrpc": "2.0", "id": rpc_id, "error": problem}, error.status)


def _body(request: HttpRequest) -> dict[str, Any]:
    try:
        body = load_json(request.body)
    except DomainError as error:
        raise RpcError(PARSE_ERROR, error.detail, 400) from None
    if not isinstance(body, dict):
        raise RpcError(INVALID_REQUEST, "Send one JSON-RPC request, not a batch.", 400)
    if not isinstance(body.get("method"), str) or not isinstance(body.get("params", {}), dict):
        raise RpcError(INVALID_REQUEST, "A request has a method and an object of params.", 400)
    if body.get("jsonrpc") != "2.0":
        raise RpcError(INVALID_REQUEST, 'A request says "jsonrpc": "2.0".', 400)
    if not isinstance(body.get("id", 0), str | int) or isinstance(body.get("id"), bool):
        raise RpcError(INVALID_REQUEST, "An id is a string or a number.", 400)
    return body


def _dispatch(principal: Principal, body: dict[str, Any], request: HttpRequest) -> dict[str, Any]:
    method, params = body["method"], body.get("params") or {}
    version = request.headers.get("MCP-Protocol-Version", "")
    if version and version not in HANDSHAKE:
        return _stateless(principal, method, params, version, request)
    if method == "initialize":
        wanted = params.get("protocolVersion")
        return {
            "protocolVersion": wanted if wanted in HANDSHAKE else HANDSHAKE[0],
            "capabilities": CAPABILITIES,
            "serverInfo": SERVER,
            "instructions": _instructions(principal),
        }
    if method == "ping":
        return {}
    return _method(method)(principal, params)


def _stateless(
    principal: Principal, method: str, params: dict[str, Any], version: str, request: HttpRequest
) -> dict[str, Any]:
    meta = params.get("_meta") if isinstance(params.get("_meta"), dict) else {}
    assert isinstance(meta, dict)
    if f"{_META}protocolVersion" not in meta or f"{_META}clientCapabilities" not in meta:
        raise RpcError(
            INVALID_PARAMS, "params._meta lacks protocolVersion or clientCapabilities.", 400
        )
    if meta[f"{_META}protocolVersion"] != version or request.headers.get("Mcp-Method") != method:
        raise RpcError(HEADER_MISMATCH, "The headers and the body do not agree.", 400)
    if method in _NAMED and _decoded(request.headers.get("Mcp-Name", "")) != params.get(
        _NAMED[method]
    ):
        raise RpcError(HEADER_MISMATCH, "Mcp-Name and the body do not agree.", 400)
    if version not in STATELESS:
        known = [*STATELESS, *HANDSHAKE]
        raise RpcError(
            UNSUPPORTED_VERSION,
            "Unsupported protocol version",
            400,
            {"supported": known, "requested": version},
        )
    if method == "server/discover":
        result: dict[str, Any] = {
            "supportedVersions": list(STATELESS),
            "capabilities": CAPABILITIES,
            "serverInfo": SERVER,
            "instructions": _instructions(principal),
            **_CACHE,
        }
    else:
        result = _method(method, 404)(principal, params)
    return {"resultType": "complete", **result, "_meta": {f"{_META}serverInfo": SERVER}}


def _method(name: str, status: int = 200) -> Callable[[Principal, dict[str, Any]], dict[str, Any]]:
    found = METHODS.get(name)
    if found is None:
        raise RpcError(NO_METHOD, f"There is no method {name[:100]}.", status)
    return found


# ── methods ──────────────────────────────────────────────────────────────────────────────


def _list_tools(principal: Principal, params: Mapping[str, Any]) -> dict[str, Any]:
    return {"tools": [_spec(t) for t in TOOLS.values() if _offered(principal, t)], **_CACHE}


def _offered(principal: Principal, tool: Tool) -> bool:
    return principal.scope is None or tool.for_attempts


def _instructions(principal: Principal) -> str:
    if principal.scope is None:
        return INSTRUCTIONS
    return AGENT_INSTRUCTIONS.format(attempt=principal.scope.attempt)


def _spec(tool: Tool) -> dict[str, Any]:
    return {
        "name": tool.name,
        "description": tool.description,
        "inputSchema": schema_of(tool.contract()),
        "annotations": {
            "readOnlyHint": tool.read_only,
            "idempotentHint": tool.idempotent,
            "destructiveHint": False,
            "openWorldHint": False,
        },
    }


def _call_tool(principal: Principal, params: Mapping[str, Any]) -> dict[str, Any]:
    tool = TOOLS.get(str(params.get("name")))
    if tool is None:
        raise RpcError(INVALID_PARAMS, f"There is no tool {str(params.get('name'))[:100]}.")
    if not _offered(principal, tool):
        return _refused(f"forbidden: {tool.name} is not for you. {_instructions(principal)}")
    try:
        args = tool.contract(data=params.get("arguments") or {})
        args.is_valid(raise_exception=True)
        out = _told(tool, principal, struck_out(principal, dict(args.validated_data)))
    except exceptions.ValidationError as error:
        return _refused(f"invalid: {_spelled(error.detail)} Mend the arguments and call again.")
    except DomainError as error:
        more = json.dumps(error.extra, cls=JSONEncoder) if error.extra else ""
        return _refused(f"{error.code}: {error.detail} {more}".strip())
    text = json.dumps(out, cls=JSONEncoder, ensure_ascii=False)
    return {"content": [{"type": "text", "text": text}], "structuredContent": json.loads(text)}


def _told(tool: Tool, principal: Principal, args: dict[str, Any]) -> dict[str, Any]:
    """Return what the tool gives, with what has changed under the worker where something has."""
    attempt_id = args.get("attempt_id")
    news.forget()
    out = tool.call(principal, args)
    if attempt_id is not None and (told := news.told(attempt_id)):
        said = out.setdefault("notices", [])
        said += [notice for notice in told if notice not in said]
    return out


def _spelled(detail: Any, path: str = "") -> str:
    """Return what is wrong with the arguments as sentences, each with the field's name."""
    if isinstance(detail, dict):
        inner = detail.items()
        return " ".join(_spelled(v, f"{path}.{k}" if path else str(k)) for k, v in inner)
    if isinstance(detail, list) and any(isinstance(one, dict) for one in detail):
        return " ".join(_spelled(one, f"{path}[{n}]") for n, one in enumerate(detail) if one)
    words = " ".join(map(str, detail)) if isinstance(detail, list) else str(detail)
    return f"{path}: {words}"


def _refused(text: str) -> dict[str, Any]:
    """Return a refusal that the model can read and act on."""
    return {"content": [{"type": "text", "text": text}], "isError": True}


def _list_resources(principal: Principal, params: Mapping[str, Any]) -> dict[str, Any]:
    if principal.scope is not None:
        cards = Card.objects.filter(pk=principal.scope.card)
    else:
        cards = Card.objects.visible_to(principal.visible()).filter(
            state__in=[Card.State.WAITING, Card.State.RUNNING], archived_at=None
        )
    return {
        "resources": [
            {
                "uri": f"holdfast://card/{card.key}/briefing",
                "name": f"{card.key} briefing",
                "title": card.title,
                "mimeType": "text/markdown",
            }
            for card in cards.in_claim_order()[:50]
        ],
        **_FRESH,
    }


def _list_templates(principal: Principal, params: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "resourceTemplates": [
            {"uriTemplate": f"holdfast://{what}", "name": name, "mimeType": mime}
            for what, name, mime in (
                ("card/{card}", "Card", "application/json"),
                ("card/{card}/briefing", "Briefing", "text/markdown"),
                ("card/{card}/checkpoints", "Checkpoints", "application/json"),
                ("goal/{goal}", "Goal", "application/json"),
            )
        ],
        **_CACHE,
    }


def _read_resource(principal: Principal, params: Mapping[str, Any]) -> dict[str, Any]:
    uri = str(params.get("uri"))
    kind, _, rest = uri.removeprefix("holdfast://").partition("/")
    name, _, part = rest.partition("/")
    try:
        mime, text = _resource(principal, kind, name, part)
    except DomainError as error:
        message = f"Resource not found: {error.detail}"
        raise RpcError(INVALID_PARAMS, message, data={"uri": uri}) from None
    return {"contents": [{"uri": uri, "mimeType": mime, "text": text}], **_FRESH}


def _resource(principal: Principal, kind: str, name: str, part: str) -> tuple[str, str]:
    if kind == "goal" and not part:
        return "application/json", _dumps(goal_out(lookup.goal(principal, name)))
    card = lookup.card(principal, name) if kind == "card" else None
    if card is not None and part == "briefing":
        return "text/markdown", briefing.build(card).markdown
    if card is not None and part == "checkpoints":
        newest = card.checkpoints.order_by("-number")[:20]
        return "application/json", _dumps(CheckpointOut(newest, many=True).data)
    if card is not None and not part:
        head = recovery.head(card.pk, card.line)
        body = {"key": card.key, "title": card.title, "state": card.state}
        return "application/json", _dumps({**body, "checkpoint": head.number if head else None})
    raise RpcError(INVALID_PARAMS, "Resource not found", data={"uri": f"{kind}/{name}/{part}"})


PROMPT = {
    "name": "work_on_next_card",
    "title": "Work on the next card",
    "description": "Claim the next card and carry it through, step by step.",
    "arguments": [
        {"name": "board", "description": "A board's key; any board unless given."},
        {"name": "worker", "description": "The name to work under."},
    ],
}


def _list_prompts(principal: Principal, params: Mapping[str, Any]) -> dict[str, Any]:
    return {"prompts": [PROMPT], **_CACHE}


def _get_prompt(principal: Principal, params: Mapping[str, Any]) -> dict[str, Any]:
    if params.get("name") != PROMPT["name"]:
        raise RpcError(INVALID_PARAMS, "There is no such prompt.")
    args = params.get("arguments") or {}
    if not isinstance(args, dict):
        raise RpcError(INVALID_PARAMS, "The arguments of a prompt are an object.")
    board = f" on board {args['board']}" if args.get("board") else ""
    worker = f" as worker {args['worker']}" if args.get("worker") else ""
    text = f"Claim the next card{board}{worker} with claim_card. {INSTRUCTIONS}"
    message = {"role": "user", "content": {"type": "text", "text": text}}
    return {"description": PROMPT["description"], "messages": [message]}


METHODS: dict[str, Callable[[Principal, dict[str, Any]], dict[str, Any]]] = {
    "tools/list": _list_tools,
    "tools/call": _call_tool,
    "resources/list": _list_resources,
    "resources/templates/list": _list_templates,
    "resources/read": _read_resource,
    "prompts/list": _list_prompts,
    "prompts/get": _get_prompt,
}


# ── the edge ─────────────────────────────────────────────────────────────────────────────


def _principal(request: HttpRequest) -> Principal | None:
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    return principal_of_bearer(value.strip()) if scheme.lower() == "bearer" else None


def _same_origin(request: HttpRequest) -> bool:
    """True without an Origin (no browser) or with this server's own."""
    origin = request.headers.get("Origin")
    if origin is None:
        return True
    try:
        return urlsplit(origin).netloc == request.get_host() or (
            origin in settings.CSRF_TRUSTED_ORIGINS
        )
    except (DisallowedHost, ValueError):
        return False


def _decoded(header: str) -> str:
    """Return a header value, decoded where it is in the form for what ASCII can't hold."""
    if header.startswith("=?base64?") and header.endswith("?="):
        try:
            return base64.b64decode(header[9:-2], validate=True).decode()
        except (binascii.Error, ValueError):
            return ""
    return header


def _dumps(value: Any) -> str:
    return json.dumps(value, cls=JSONEncoder, ensure_ascii=False)


def _json(body: Any, status: int = 200) -> HttpResponse:
    return JsonResponse(body, status=status, encoder=JSONEncoder)


def _problem(status: int, code: str, detail: str) -> HttpResponse:
    body = {"type": "about:blank", "title": detail, "status": status, "code": code}
    body["detail"] = detail
    return JsonResponse(body, status=status, content_type="application/problem+json")
