"""One shape for every error: ``application/problem+json`` (RFC 9457) with a stable ``code``.

Whatever goes wrong below ``/api/`` or ``/mcp``, in a view, in middleware or in the store,
leaves through here; nothing answers with HTML there, and nothing anywhere with a trace.
"""

from __future__ import annotations

import errno
import logging
import sqlite3
import sys
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from django.core.exceptions import (
    PermissionDenied,
    RequestDataTooBig,
    SuspiciousOperation,
    ValidationError,
)
from django.db import DatabaseError, InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from rest_framework import exceptions
from rest_framework.response import Response

from kernel.access import hidden
from kernel.errors import DomainError

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
#: Where an error is answered as JSON, whoever asks.
MACHINE_PREFIXES = ("/api/", "/mcp", "/healthz", "/readyz")
RETRY_AFTER_SECONDS = 2

# The codes of errors that the framework raises, by status; a domain error brings its own.
_CODES = {
    400: "malformed",
    401: "not_authenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    408: "request_timeout",
    411: "length_required",
    413: "too_large",
    415: "unsupported_media_type",
    422: "invalid",
    429: "too_many_requests",
    500: "internal_error",
    503: "store_busy",
    507: "storage_full",
}


def for_machines(path: str) -> bool:
    """Whether errors at ``path`` are answered as problem documents."""
    return path.startswith(MACHINE_PREFIXES)


def document(
    status: int,
    detail: str,
    *,
    code: str = "",
    title: str = "",
    errors: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the problem document; ``extra`` can't overwrite its standard members."""
    body: dict[str, Any] = {
        **(extra or {}),
        "type": "about:blank",
        "title": title or HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code or _CODES.get(status, "error"),
    }
    if not errors and status in (400, 422):
        errors = {"body": [detail]}
    if errors:
        body["errors"] = errors
    return body


# -- REST framework --------------------------------------------------------------------------


def handle(error: Exception, context: dict[str, Any]) -> Response | None:
    """Return the answer to ``error``: REST framework's exception handler.

    An error nobody foresaw becomes a logged 500 here, so that no later layer can turn it
    into HTML.
    """
    body, headers = _describe(error)
    if body["status"] >= 500:
        _log(body["status"], error, context.get("request"))
    return Response(body, status=body["status"], headers=headers, content_type=MEDIA_TYPE)


def _describe(error: Exception) -> tuple[dict[str, Any], dict[str, str]]:
    if isinstance(error, DomainError):
        wait = error.retry_after_seconds
        return (
            document(
                error.status,
                error.detail,
                code=error.code,
                title=error.title,
                errors=error.errors,
                extra=error.extra,
            ),
            {} if wait is None else {"Retry-After": str(wait)},
        )
    if isinstance(error, exceptions.ValidationError):
        errors = _by_field(error.detail)
        detail = next(
            (f"{name}: {found[0]}" if name else found[0] for name, found in errors.items()),
            "The input was refused.",
        )
        return document(422, detail, errors=errors, title="Invalid input"), {}
    if isinstance(error, exceptions.APIException):
        headers = {}
        if scheme := getattr(error, "auth_header", None):
            headers["WWW-Authenticate"] = scheme
        if wait := getattr(error, "wait", None):
            headers["Retry-After"] = str(max(1, round(wait)))
        if isinstance(error, exceptions.MethodNotAllowed):
            return document(405, str(error.detail)), headers
        return document(error.status_code, _sentence(error.detail)), headers
    if isinstance(error, Http404):
        return _describe(hidden("thing here"))
    if isinstance(error, PermissionDenied):
        return document(403, str(error) or "You may not do this."), {}
    if isinstance(error, RequestDataTooBig):
        return document(413, "The body is too large; upload large content as an artifact."), {}
    if isinstance(error, (SuspiciousOperation, ValidationError)):
        return document(400, "The request could not be read."), {}
    return _describe_store(error)


def _describe_store(error: BaseException) -> tuple[dict[str, Any], dict[str, str]]:
    """Describe what only the machine below can be blamed for; anything else is a plain 500."""
    if is_storage_full(error):
        detail = "The disk is full; nothing was stored. Free some space, then try again."
        return document(507, detail), {}
    if is_store_busy(error):
        detail = "The store is busy or away; nothing was changed. Try again shortly."
        return document(503, detail), {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return document(500, "Something went wrong here; it has been logged."), {}


def is_store_busy(error: BaseException) -> bool:
    """Whether the request may succeed unchanged a little later.

    True for a locked SQLite file, a lost or refused connection, a deadlock or a lock wait
    that ran out, and never for a fault of ours, such as a missing table.
    """
    if isinstance(error, InterfaceError):
        return True
    if not isinstance(error, OperationalError):
        return False
    cause = error.__cause__
    if isinstance(cause, sqlite3.Error):
        code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
        return code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    # PostgreSQL: no SQLSTATE is a broken connection; 08, 40, 53, 55, 57 are connections,
    # deadlocks, resources, lock waits and a server going down.
    state = getattr(cause, "sqlstate", None)
    return not state or state[:2] in ("08", "40", "53", "55", "57")


def is_storage_full(error: BaseException) -> bool:
    """Whether a full disk or quota is what stopped the write."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    if isinstance(error, DatabaseError):
        cause = error.__cause__
        if isinstance(cause, sqlite3.Error):
            return getattr(cause, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
        return getattr(cause, "sqlstate", None) == "53100"
    return False


def _by_field(detail: Any, path: str = "") -> dict[str, list[str]]:
    """Return REST framework's nested error detail as one flat ``field path -> sentences``."""
    if isinstance(detail, dict):
        flat: dict[str, list[str]] = {}
        for name, inner in detail.items():
            if isinstance(name, int):  # some lists of errors come as number -> error
                flat |= _by_field(inner, f"{path}[{name}]")
                continue
            step = "" if name == "non_field_errors" else str(name)
            flat |= _by_field(inner, f"{path}.{step}" if path and step else path or step)
        return flat
    if isinstance(detail, list):
        if all(not isinstance(item, (dict, list)) for item in detail):
            return {path or "body": [str(item) for item in detail]}
        flat = {}
        for number, item in enumerate(detail):
            if item:
                flat |= _by_field(item, f"{path}[{number}]")
        return flat
    return {path or "body": [str(detail)]}


def _sentence(detail: Any) -> str:
    if isinstance(detail, dict):
        detail = detail.get("detail", next(iter(detail.values()), ""))
    if isinstance(detail, list):
        detail = detail[0] if detail else ""
    return str(detail)


def _log(status: int, error: BaseException, request: Any) -> None:
    where = f"{request.method} {request.path}" if request is not None else "request"
    if status == 500:
        log.error("%s failed", where, exc_info=error)
    else:
        log.warning("%s answered %s: %s", where, status, str(error).strip().split("\n")[0])


# -- plain Django ----------------------------------------------------------------------------


def refuse(request: HttpRequest, status: int, detail: str, *, code: str = "") -> HttpResponse:
    """Return a refusal in the form that fits the address."""
    return _answer(request, document(status, detail, code=code))


def answer(request: HttpRequest, error: Exception) -> HttpResponse:
    """Return the answer to an exception that left a view or middleware outside REST framework."""
    body, headers = _describe(error)
    if body["status"] >= 500:
        _log(body["status"], error, request)
    return _answer(request, body, headers)


def _answer(
    request: HttpRequest, body: dict[str, Any], headers: Mapping[str, str] | None = None
) -> HttpResponse:
    if for_machines(request.path):
        return JsonResponse(
            body, status=body["status"], content_type=MEDIA_TYPE, headers=dict(headers or {})
        )
    try:
        response = render(None, "problem.html", {"problem": body}, status=body["status"])
    except Exception:
        log.exception("the error page itself failed")
        text = f"{body['status']} {body['title']}. {body['detail']}\n"
        response = HttpResponse(text, status=body["status"], content_type="text/plain")
    for name, value in (headers or {}).items():
        response[name] = value
    return response


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _answer(request, document(400, "The request could not be read."))


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _answer(request, document(403, str(exception) or "You may not do this."))


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    detail = "The page this came from is out of date or from elsewhere; reload it and try again."
    return _answer(request, document(403, detail, code="csrf_failed"))


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _answer(request, document(404, "There is nothing at this address."))


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer an exception nobody caught. Store trouble is recognised even this late."""
    error = sys.exc_info()[1]
    body, headers = _describe_store(error) if error else (document(500, "…"), {})
    return _answer(request, body, headers)


def last_resort(path: str, error: Exception | None) -> HttpResponse:
    """Answer what failed outside Django's own error handling; None: it could not be read."""
    if error is None:
        body = document(400, "The request could not be read.")
    else:
        body, _ = _describe(error)
        log.error("%s failed outside its view", path, exc_info=error)
    if for_machines(path):
        response: HttpResponse = JsonResponse(body, status=body["status"], content_type=MEDIA_TYPE)
    else:
        text = f"{body['status']} {body['title']}. {body['detail']}\n"
        response = HttpResponse(text, status=body["status"], content_type="text/plain")
    response["Content-Length"] = str(len(response.content))
    return response
