"""What holds for every request: rules for bodies, headers for safety, one shape for errors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponseBase
from django.middleware.gzip import GZipMiddleware
from django.utils import translation
from django.utils.cache import patch_vary_headers

from kernel.errors import DomainError
from runtime_site import bodies, problems

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "manifest-src 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'self'",
    )
)
_MACHINES = ("/api/", "/mcp", "/healthz", "/readyz")
_ENGLISH = "en"
_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


class _Middleware:
    """A middleware for both of Django's handlers that never itself waits for anything."""

    sync_capable = async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self.is_async:
            return self._respond_async(request)
        return self.before(request) or self.after(request, self.get_response(request))

    async def _respond_async(self, request: HttpRequest) -> HttpResponseBase:
        return self.before(request) or self.after(request, await self.get_response(request))

    def before(self, request: HttpRequest) -> HttpResponseBase | None:
        return None

    def after(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        return response


class BodyRules(_Middleware):
    """Refuses bodies that could not be read whole, before anything reads them."""

    def before(self, request: HttpRequest) -> HttpResponseBase | None:
        meta = request.META
        length = meta.get("CONTENT_LENGTH") or ""
        refused = bodies.refusal(
            request.method or "",
            request.path,
            length=length,
            transfer_encoding=meta.get("HTTP_TRANSFER_ENCODING", ""),
            content_encoding=meta.get("HTTP_CONTENT_ENCODING", ""),
        )
        if not refused and not length and _has_body(request):
            refused = bodies.Refusal(411, "Send the body with a Content-Length.")
        if refused:
            return problems.refuse(request, refused.status, refused.detail)
        return None


class Language(_Middleware):
    """Shows pages in the reader's language; machines are always answered in English."""

    def before(self, request: HttpRequest) -> HttpResponseBase | None:
        machine = request.path_info.startswith(_MACHINES)
        language = _ENGLISH if machine else translation.get_language_from_request(request)
        translation.activate(language)
        request.LANGUAGE_CODE = language
        return None

    def after(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if not request.path_info.startswith(_MACHINES):
            response.headers.setdefault("Content-Language", request.LANGUAGE_CODE)
            patch_vary_headers(response, ("Accept-Language",))
        return response


class Compressed(GZipMiddleware):
    """Sends pages as gzip to who takes it; what machines read stays as its ETag says."""

    def process_response(
        self, request: HttpRequest, response: HttpResponseBase
    ) -> HttpResponseBase:
        if not response.headers.get("Content-Type", "").startswith("text/html"):
            return response
        return super().process_response(request, response)


class SafetyHeaders(_Middleware):
    """Sets the security headers that the view has not set otherwise."""

    def after(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        return response


class Problems(_Middleware):
    """Turns refusals and store trouble in plain views into answers; the innermost middleware."""

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponseBase | None:
        foreseen = (
            isinstance(error, DomainError)
            or problems.is_store_busy(error)
            or problems.is_storage_full(error)
        )
        return problems.answer(request, error) if foreseen else None


def _has_body(request: HttpRequest) -> bool:
    stream = getattr(request, "_stream", None)
    if stream is None or not getattr(stream, "seekable", lambda: False)():
        return False
    found = bool(stream.read(1))
    stream.seek(0)
    return found
