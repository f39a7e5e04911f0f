from __future__ import annotations

from django.urls import path

from workers import pages, views
from workers.mcp.view import mcp

app_name = "workers"

urlpatterns = [
    path("mcp", mcp, name="mcp"),
    path("boards/<str:key>/workers", pages.workers, name="workers"),
    path("boards/<str:key>/workers/<path:name>", pages.worker, name="worker"),
    path("boards/<str:key>/drain", pages.drain, name="drain"),
    path("boards/<str:key>/sandbox", pages.sandbox, name="sandbox"),
    path("boards/<str:key>/connect", views.connect, name="connect"),
    path("boards/<str:key>/connect/calls", views.connect_calls, name="connect_calls"),
    path("boards/<str:key>/connect/tokens/<uuid:token>/revoke", views.revoke, name="revoke"),
]
