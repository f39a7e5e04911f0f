"""The addresses of WebSockets."""

from __future__ import annotations

from django.urls import re_path

from boards.consumers import BoardConsumer, Nowhere

websocket_urlpatterns = [
    re_path(r"^ws/boards/(?P<board>[^/]+)/?$", BoardConsumer.as_asgi()),
    re_path(r"", Nowhere.as_asgi()),
]
