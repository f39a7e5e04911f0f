from __future__ import annotations

from django.urls import path

from workers.mcp.view import mcp

app_name = "workers"

urlpatterns = [path("mcp", mcp, name="mcp")]
