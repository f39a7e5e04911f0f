"""Views of every kind that the HTTP handler must cope with."""

from __future__ import annotations

import asyncio
import io
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from django.db import connection
from django.http import FileResponse, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

released = threading.Event()
asked: list[str | None] = []
#: ``hold`` has a thread.
held = threading.Event()
answers: list[int] = []
ended: list[str] = []


def thread(request: Any) -> JsonResponse:
    return JsonResponse({"thread": threading.current_thread().name})


def hold(request: Any) -> HttpResponse:
    held.set()
    released.wait(60)
    return HttpResponse("released")


def connected(request: Any) -> JsonResponse:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return JsonResponse({"connection": id(connection.connection)})


@csrf_exempt
def echo(request: Any) -> HttpResponse:
    return HttpResponse(request.body, content_type="application/octet-stream")


def broken(request: Any) -> HttpResponse:
    raise RuntimeError("a secret detail")


async def on_the_loop(request: Any) -> JsonResponse:
    await asyncio.sleep(0)
    return JsonResponse({"thread": threading.current_thread().name})


@csrf_exempt
async def echo_on_the_loop(request: Any) -> HttpResponse:
    return HttpResponse(request.body)


def file(request: Any) -> FileResponse:
    return FileResponse(io.BytesIO(b"x" * int(request.GET["size"])), filename="x.bin")


async def _ticks() -> Any:
    try:
        for number in range(100_000):
            yield f"{number}\n"
            await asyncio.sleep(0.005)
    finally:
        ended.append("stream")


def stream(request: Any) -> StreamingHttpResponse:
    return StreamingHttpResponse(_ticks())


@dataclass(frozen=True)
class AnAnswer:
    """What ``later`` waits for."""

    shared: ClassVar[bool] = True

    @staticmethod
    def look(wants: Mapping[AnAnswer, int]) -> dict[AnAnswer, list[int]]:
        return dict.fromkeys(wants, answers)


def later(request: Any) -> HttpResponse:
    """Answer 204 until ``answers`` has something."""
    asked.append(request.META.get("HOLDFAST_WAITED_SECONDS"))
    if answers:
        return JsonResponse({"answer": answers[0]})
    response = HttpResponse(status=204)
    response.ask_again_seconds = float(request.GET["seconds"])  # type: ignore[attr-defined]
    response.ask_again_when = AnAnswer()  # type: ignore[attr-defined]
    return response


def slow(request: Any) -> HttpResponse:
    time.sleep(0.05)
    return HttpResponse("slow")


urlpatterns = [
    path("thread", thread),
    path("hold", hold),
    path("connected", connected),
    path("echo", echo),
    path("api/broken", broken),
    path("broken", broken),
    path("on-the-loop", on_the_loop),
    path("echo-on-the-loop", echo_on_the_loop),
    path("file", file),
    path("stream", stream),
    path("later", later),
    path("slow", slow),
]

handler404 = "runtime_site.problems.not_found"
handler500 = "runtime_site.problems.server_error"
