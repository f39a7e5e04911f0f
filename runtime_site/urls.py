"""Every address, app by app. Apps own what is below their prefix; this file only joins them."""

from __future__ import annotations

from importlib.util import find_spec

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path
from django.views.i18n import JSONCatalog, set_language
from drf_spectacular.views import SpectacularJSONAPIView

from runtime_site import health, problems, signin
from runtime_site.openapi import DocsView

APPS = ("workers", "checkpoints", "boards", "goals", "events")
API_APPS = ("workers", "checkpoints", "boards")

urlpatterns: list[URLPattern | URLResolver] = [
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("accounts/signin", signin.signin, name="signin"),
    path("accounts/enter/<str:token>", signin.enter, name="enter"),
    path("accounts/signout", signin.signout, name="signout"),
    path("accounts/password", signin.password, name="password"),
    path("language", set_language, name="set_language"),
    path("words.json", JSONCatalog.as_view(packages=["runtime_site"]), name="words"),
    path("admin/", admin.site.urls),
    path("api/v1/openapi.json", SpectacularJSONAPIView.as_view(), name="openapi"),
    path("api/v1/docs", DocsView.as_view(url_name="openapi"), name="docs"),
]
# An app has pages (urls.py), an API (api/urls.py), both or neither.
urlpatterns += [path("api/v1/", include(f"{app}.api.urls")) for app in API_APPS]
urlpatterns += [path("", include(f"{app}.urls")) for app in APPS if find_spec(f"{app}.urls")]

handler400 = problems.bad_request
handler403 = problems.permission_denied
handler404 = problems.not_found
handler500 = problems.server_error
