"""The admin for operators, behind the one sign-in page."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib import admin
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import BadRequest, PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme


class HoldfastAdminSite(admin.AdminSite):
    """Django's admin without doors of its own: the sign-in page knows links and slows guessing."""

    site_title = site_header = "Holdfast"
    index_title = "Operating"

    def login(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        wanted = request.GET.get("next", "")
        if not url_has_allowed_host_and_scheme(wanted, {request.get_host()}, request.is_secure()):
            wanted = reverse("admin:index")
        if self.has_permission(request):
            return redirect(wanted)
        if request.user.is_authenticated:
            raise PermissionDenied("The admin is for staff; ask an operator.")
        return redirect_to_login(wanted, reverse("signin"))

    def admin_view(self, view: Callable[..., Any], cacheable: bool = False) -> Any:
        """Refuse a NUL in the address: PostgreSQL takes none, and filters pass it on."""

        @wraps(view)
        def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if any("\x00" in value for _, values in request.GET.lists() for value in values):
                raise BadRequest("The address contains a NUL character; remove it.")
            return view(request, *args, **kwargs)

        return super().admin_view(checked, cacheable)

    def password_change(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        return redirect("password")
