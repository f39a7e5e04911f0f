"""From a request to a Principal: bearer token for agents, session and CSRF for browsers."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.middleware.csrf import CsrfViewMiddleware
from rest_framework import exceptions
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.request import Request

from boards import attempt_tokens, tokens
from boards.models import Membership
from kernel.access import Principal, Role


def principal_of_bearer(plaintext: str) -> Principal | None:
    """Return who a bearer token stands for, an API token or one of an attempt; None if nobody."""
    return attempt_tokens.principal_of(plaintext) or tokens.principal_of(plaintext)


class TokenAuthentication(BaseAuthentication):
    """``Authorization: Bearer …``; anything else is left to the next class."""

    def authenticate(self, request: Request) -> tuple[Principal, str] | None:
        header = get_authorization_header(request)
        if header[:7].lower() != b"bearer ":
            if header:
                raise exceptions.AuthenticationFailed("Send Authorization: Bearer <token>.")
            return None
        principal = principal_of_bearer(header[7:].strip().decode("latin-1"))
        if principal is None:
            raise exceptions.AuthenticationFailed(
                "The token is unknown, revoked or expired; ask an operator for a new one."
            )
        return principal, "token"

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="holdfast"'


class SessionAuthentication(BaseAuthentication):
    """A signed-in browser; unsafe methods need the CSRF token as well."""

    def authenticate(self, request: Request) -> tuple[Principal, str] | None:
        user = getattr(request._request, "user", None)
        if user is None or not user.is_authenticated or not user.is_active:
            return None
        reason = _Csrf(lambda _: None).refusal(request._request)  # type: ignore[arg-type]
        if reason:
            raise exceptions.PermissionDenied(f"CSRF check failed: {reason}")
        return principal_of_user(user), "session"


class _Csrf(CsrfViewMiddleware):
    def refusal(self, request: Any) -> str | None:
        self.process_request(request)
        # The answer of the rejection is the reason itself, see _reject.
        return self.process_view(request, None, (), {})  # type: ignore[return-value,arg-type]

    def _reject(self, request: Any, reason: str) -> Any:
        return reason


def principal_of_user(user: AbstractBaseUser) -> Principal:
    """Return the principal of a signed-in user; a superuser is an operator everywhere."""
    everywhere = Role.OPERATOR if getattr(user, "is_superuser", False) else None
    rows = Membership.objects.filter(user_id=user.pk).values_list("board_id", "role")
    return Principal(
        kind="user",
        id=str(user.pk),
        name=user.get_username(),
        boards={board: Role(role) for board, role in rows},
        everywhere=everywhere,
    )
