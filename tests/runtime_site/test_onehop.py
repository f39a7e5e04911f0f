from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from django.core.signals import request_started
from django.db import connections

from runtime_site import onehop, waiting
from tests.runtime_site import probe_urls
from tests.runtime_site.asgi_calls import Call, Reply


@pytest.fixture(autouse=True)
def _probes(settings: Any) -> Any:
    settings.ROOT_URLCONF = "tests.runtime_site.probe_urls"
    settings.ALLOWED_HOSTS = ["localhost"]
    probe_urls.held.clear()
    probe_urls.released.clear()
    for seen in (probe_urls.asked, probe_urls.answers, probe_urls.ended):
        seen.clear()
    yield
    probe_urls.released.set()


@pytest.fixture(params=["onehop", "stock"])
def either(request: Any, settings: Any) -> Any:
    """Both handlers: what a client sees must not differ."""
    settings.HTTP_HANDLER = request.param
    return onehop.handler()


@pytest.fixture
def one_hop(settings: Any) -> Any:
    settings.HTTP_HANDLER = "onehop"
    return onehop.handler()


def content(reply: Reply) -> Any:
    return json.loads(reply.body)


async def test_a_body_arrives_whole(either: Any) -> None:
    body = bytes(range(256)) * 4000
    reply = await Call("/echo", method="POST", body=body).of(either)
    assert (reply.status, reply.body) == (200, body)
    assert reply.complete


async def test_an_address_that_is_none_is_a_problem_below_api_and_a_page_elsewhere(
    either: Any,
) -> None:
    reply = await Call("/api/nowhere").of(either)
    assert (reply.status, content(reply)["code"]) == (404, "not_found")
    assert reply.headers["content-type"] == "application/problem+json"
    reply = await Call("/nowhere").of(either)
    assert reply.status == 404
    assert reply.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize("path", ["/api/broken", "/broken"])
async def test_a_bug_answers_500_without_its_details(either: Any, path: str) -> None:
    reply = await Call(path).of(either)
    assert reply.status == 500
    assert b"secret" not in reply.body
    assert b"Traceback" not in reply.body


async def test_a_request_that_can_not_be_decoded_is_refused(either: Any) -> None:
    reply = await Call("/api/x", query=b"\xff\xfe").of(either)
    assert reply.status == 400


async def test_a_client_that_leaves_before_its_body_is_read_is_forgotten(either: Any) -> None:
    call = Call("/echo", method="POST")

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    await either(call.scope, receive, call._send)
    assert call.reply.status == 0


async def test_async_views_run_on_the_event_loop(either: Any) -> None:
    reply = await Call("/on-the-loop").of(either)
    assert content(reply) == {"thread": "MainThread"}
    reply = await Call("/echo-on-the-loop", method="POST", body=b"kept").of(either)
    assert reply.body == b"kept"


@pytest.mark.parametrize("size", [10, 3 * 1024 * 1024])
@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume:Warning")
async def test_files_arrive_whole(either: Any, size: int) -> None:
    reply = await Call("/file", query=f"size={size}".encode()).of(either)
    assert reply.status == 200
    assert len(reply.body) == size


async def test_a_large_file_is_sent_in_pieces(one_hop: Any) -> None:
    reply = await Call("/file", query=b"size=3000000").of(one_hop)
    assert reply.pieces > 10


async def test_a_stream_ends_when_its_client_leaves(either: Any) -> None:
    call = Call("/stream")
    task = asyncio.ensure_future(call.of(either))
    await asyncio.wait_for(call.started.wait(), 60)
    call.leave()
    await asyncio.wait_for(task, 60)
    assert probe_urls.ended == ["stream"]


async def test_requests_share_a_few_lasting_threads(one_hop: Any, settings: Any) -> None:
    replies = await asyncio.gather(*(Call("/thread").of(one_hop) for _ in range(40)))
    names = {content(reply)["thread"] for reply in replies}
    assert len(names) <= settings.HTTP_THREADS
    assert all(name.startswith("read") for name in names)


@pytest.mark.django_db(transaction=True)
async def test_a_request_thread_keeps_its_connection(settings: Any) -> None:
    settings.HTTP_THREADS = 1
    handler = onehop.OneHopHandler()
    seen = {content(await Call("/connected").of(handler))["connection"] for _ in range(5)}
    assert len(seen) == 1
    await handler._hop(handler._reads, connections.close_all)


async def test_views_that_hold_every_thread_delay_no_parked_request(one_hop: Any) -> None:
    parked = [asyncio.ensure_future(_later(one_hop, 120)) for _ in range(50)]
    while len(probe_urls.asked) < 50:
        await asyncio.sleep(0.01)
    # Fifty requests wait, and every thread is free.
    assert (await asyncio.wait_for(Call("/slow").of(one_hop), 60)).status == 200
    probe_urls.answers.append(7)
    waiting.announce()
    replies = await asyncio.wait_for(asyncio.gather(*parked), 60)
    assert {reply.status for reply in replies} == {200}


async def test_a_parked_request_is_answered_when_something_was_committed(
    either: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "LOOK_ANYWAY_SECONDS", 600)  # not by the clock
    later = asyncio.ensure_future(_later(either, 120))
    while not probe_urls.asked:
        await asyncio.sleep(0.01)
    probe_urls.answers.append(7)
    waiting.announce()
    reply = await asyncio.wait_for(later, 60)
    assert content(reply) == {"answer": 7}
    assert probe_urls.asked[0] is None
    assert float(probe_urls.asked[-1] or 0) > 0


async def test_a_parked_request_gets_its_empty_answer_when_its_time_is_over(either: Any) -> None:
    began = time.monotonic()
    reply = await asyncio.wait_for(_later(either, 0.4), 60)
    assert reply.status == 204
    assert time.monotonic() - began > 0.3


async def test_a_parked_request_is_dropped_when_its_client_leaves(one_hop: Any) -> None:
    call = Call("/later", query=b"seconds=20")
    task = asyncio.ensure_future(call.of(one_hop))
    while not probe_urls.asked:
        await asyncio.sleep(0.01)
    call.leave()
    await asyncio.wait_for(task, 60)
    assert call.reply.status == 0


async def test_cancelling_a_request_lets_its_thread_end_first(one_hop: Any) -> None:
    task = asyncio.ensure_future(Call("/hold").of(one_hop))
    while not probe_urls.held.is_set():
        await asyncio.sleep(0.01)
    for _ in range(3):
        await asyncio.sleep(0.05)
        task.cancel()
    await asyncio.sleep(0.05)
    assert not task.done()
    probe_urls.released.set()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 60)


async def test_a_cancelled_request_that_no_thread_has_begun_never_begins(settings: Any) -> None:
    settings.HTTP_THREADS = 1
    handler = onehop.OneHopHandler()
    first = asyncio.ensure_future(Call("/hold").of(handler))
    while not probe_urls.held.is_set():
        await asyncio.sleep(0.01)
    second = asyncio.ensure_future(_later(handler, 20))
    await asyncio.sleep(0.05)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(second, 60)
    probe_urls.released.set()
    assert (await asyncio.wait_for(first, 60)).status == 200
    assert probe_urls.asked == []


async def test_trouble_before_the_first_middleware_still_gets_an_answer(one_hop: Any) -> None:
    def refuse(**_: Any) -> None:
        raise RuntimeError("a secret detail")

    request_started.connect(refuse)
    try:
        reply = await Call("/api/thread").of(one_hop)
    finally:
        request_started.disconnect(refuse)
    assert (reply.status, content(reply)["code"]) == (500, "internal_error")
    assert b"secret" not in reply.body


def _later(handler: Any, seconds: float) -> Any:
    return Call("/later", query=f"seconds={seconds}".encode()).of(handler)
