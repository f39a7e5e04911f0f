"""The one application behind every door: HTTP, WebSocket and the process's own life."""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "runtime_site.settings")

import django

django.setup()

from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402

from boards.routing import websocket_urlpatterns  # noqa: E402
from runtime_site import life, onehop, sockets  # noqa: E402

application: Any = life.Alive(
    ProtocolTypeRouter(
        {
            "http": onehop.handler(),
            "websocket": sockets.Authenticated(URLRouter(websocket_urlpatterns)),
            "lifespan": life.lifespan,
        }
    )
)
