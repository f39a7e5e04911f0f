"""How people come in: by a one-time link or by password.

A link is signed and names the moment of the account's last sign-in. Signing in moves that
moment in one guarded write, so of all links given out for an account the first one used is
the last one that works, and nothing has to be stored for it.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from django.conf import settings
from django.contrib.auth import (
    authenticate,
    get_user_model,
    login,
    logout,
    update_session_auth_hash,
)
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.decorators import login_required
from django.contrib.auth.forms import PasswordChangeForm, SetPasswordForm
from django.core import signing
from django.core.cache import cache
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render, resolve_url
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET, require_http_methods, require_POST

SALT = "holdfast.signin"
#: Written out, so that printing a link needs none of the addresses' views.
ENTER_PATH = "/accounts/enter/"
BACKEND = "django.contrib.auth.backends.ModelBackend"
MAX_FAILURES = 8
FAILURES_FORGOTTEN_SECONDS = 300


def link(user: AbstractBaseUser) -> str:
    """Return a path that signs ``user`` in, once, within ``SIGNIN_LINK_SECONDS``."""
    token = signing.dumps([str(user.pk), _moment(user)], salt=SALT)
    return f"{ENTER_PATH}{token}"


def redeem(token: str) -> AbstractBaseUser | None:
    """Return the account the token is for and use the token up, or None if it is no good."""
    try:
        pk, moment = signing.loads(token, salt=SALT, max_age=settings.SIGNIN_LINK_SECONDS)
    except (signing.BadSignature, ValueError, TypeError):
        return None
    users = get_user_model().objects
    user = users.filter(pk=pk, is_active=True).first()
    if user is None or _moment(user) != moment:
        return None
    now = timezone.now()
    if not users.filter(pk=pk, last_login=user.last_login).update(last_login=now):
        return None
    user.last_login = now
    return user


def _moment(user: Any) -> str:
    return user.last_login.isoformat() if user.last_login else ""


@never_cache
@require_GET
def enter(request: HttpRequest, token: str) -> HttpResponse:
    """Sign in by a one-time link."""
    user = redeem(token)
    if user is None:
        if request.user.is_authenticated:
            return redirect(_next(request))
        return _page(
            request,
            status=403,
            problem="This link was used or is too old. Start Holdfast again, or run "
            "`manage.py signin_link`, for a new one.",
        )
    login(request, user, backend=BACKEND)
    return redirect(_next(request))


@never_cache
@sensitive_post_parameters("password")
@require_http_methods(["GET", "POST"])
def signin(request: HttpRequest) -> HttpResponse:
    """Sign in by password. After several failures for a name from an address it has to wait."""
    if request.method == "GET":
        if request.user.is_authenticated:
            return redirect(_next(request))
        return _page(request)
    name = request.POST.get("username", "")[:150]
    tried = f"{request.META.get('REMOTE_ADDR', '')} {name.lower()}"
    bucket = f"signin:{sha256(tried.encode()).hexdigest()}"
    failures = cache.get_or_set(bucket, 0, FAILURES_FORGOTTEN_SECONDS)
    if failures is not None and failures >= MAX_FAILURES:
        response = _page(
            request, status=429, name=name, problem="Too many tries. Wait five minutes."
        )
        response["Retry-After"] = str(FAILURES_FORGOTTEN_SECONDS)
        return response
    user = None
    if "\x00" not in name:
        user = authenticate(request, username=name, password=request.POST.get("password", ""))
    if user is None:
        try:
            cache.incr(bucket)
        except ValueError:  # it was forgotten in between
            cache.set(bucket, 1, FAILURES_FORGOTTEN_SECONDS)
        return _page(request, status=403, name=name, problem="This name and password don't match.")
    cache.delete(bucket)
    login(request, user)
    return redirect(_next(request))


@require_POST
def signout(request: HttpRequest) -> HttpResponse:
    """End the session."""
    logout(request)
    return redirect("signin")


@never_cache
@sensitive_post_parameters()
@login_required
@require_http_methods(["GET", "POST"])
def password(request: HttpRequest) -> HttpResponse:
    """Set the first password of an account that came by link, or change it."""
    form_class = PasswordChangeForm if request.user.has_usable_password() else SetPasswordForm
    form = form_class(request.user, request.POST or None)
    if request.method == "POST" and form.is_valid():
        update_session_auth_hash(request, form.save())
        return redirect(settings.LOGIN_REDIRECT_URL)
    return render(
        request, "password.html", {"form": form}, status=422 if request.method == "POST" else 200
    )


def _page(
    request: HttpRequest, *, status: int = 200, name: str = "", problem: str = ""
) -> HttpResponse:
    context = {"name": name, "problem": problem, "next": _next(request)}
    return render(request, "signin.html", context, status=status)


def _next(request: HttpRequest) -> str:
    """Return where to go on to; only a path of this site."""
    wanted = request.POST.get("next") or request.GET.get("next") or ""
    if url_has_allowed_host_and_scheme(wanted, {request.get_host()}, request.is_secure()):
        return wanted
    return resolve_url(settings.LOGIN_REDIRECT_URL)
