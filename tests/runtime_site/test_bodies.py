"""Request bodies against a real web process, byte by byte where it matters."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from runtime_site import bodies
from tests.serving import Site, Web, new_site

SLOW_SECONDS = 2
MEBI = 1024 * 1024


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with new_site("sqlite") as site:
        site.serve(SLOW_BODY_SECONDS=str(SLOW_SECONDS))
        yield site


@dataclass
class Said:
    """One answer on a connection, and whether the server then hung up."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> Any:
        assert self.headers["content-type"] == "application/problem+json"
        return json.loads(self.body)


def connect(web: Web) -> socket.socket:
    return socket.create_connection(("127.0.0.1", web.port), timeout=60)


def head(site: Site, method: str, path: str, *lines: str) -> bytes:
    first = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {site.token}"]
    return ("\r\n".join([*first, *lines]) + "\r\n\r\n").encode()


def listen(connection: socket.socket) -> Said:
    """Read one answer. Raises OSError when the server hangs up first."""
    file = connection.makefile("rb")
    first = file.readline()
    if not first:
        raise ConnectionResetError("hung up without an answer")
    headers = {}
    while (line := file.readline().strip()) != b"":
        name, _, value = line.decode().partition(":")
        headers[name.lower()] = value.strip()
    body = file.read(int(headers.get("content-length", 0)))
    return Said(int(first.split()[1]), headers, body)


def send(site: Site, request: bytes, *more: bytes) -> Said:
    with connect(site.web) as connection:
        connection.sendall(request)
        for piece in more:
            connection.sendall(piece)
        return listen(connection)


def boards(site: Site) -> list[str]:
    return [board["name"] for board in site.call("GET", "/api/v1/boards").body["results"]]


JSON = "Content-Type: application/json"
CHUNKED = b'17\r\n{"key":"CH","name":"ch"}\r\n0\r\n\r\n'


def test_a_chunked_body_is_refused_and_stores_nothing(site: Site) -> None:
    request = head(site, "POST", "/api/v1/boards", JSON, "Transfer-Encoding: chunked")
    said = send(site, request, CHUNKED)
    assert (said.status, said.problem["code"]) == (411, "length_required")
    assert "ch" not in boards(site)


def test_a_chunked_patch_is_never_read_as_empty(site: Site) -> None:
    board = site.new_board()
    request = head(
        site, "PATCH", f"/api/v1/boards/{board['id']}", JSON, "Transfer-Encoding: chunked"
    )
    assert send(site, request, CHUNKED).status == 411
    assert site.call("GET", f"/api/v1/boards/{board['id']}").body["version"] == board["version"]


def test_an_encoded_body_is_refused(site: Site) -> None:
    request = head(
        site, "POST", "/api/v1/boards", JSON, "Content-Encoding: gzip", "Content-Length: 3"
    )
    said = send(site, request, b"abc")
    assert (said.status, said.problem["code"]) == (415, "unsupported_media_type")


def test_a_large_body_is_refused_before_it_is_sent(site: Site) -> None:
    request = head(site, "POST", "/api/v1/boards", JSON, f"Content-Length: {20 * MEBI}")
    said = send(site, request)  # and not a byte more
    assert (said.status, said.problem["code"]) == (413, "too_large")


def test_a_client_that_sends_a_large_body_anyway_can_read_why_it_was_refused(site: Site) -> None:
    request = head(site, "POST", "/api/v1/boards", JSON, f"Content-Length: {20 * MEBI}")
    said = send(site, request, b"x" * (20 * MEBI))
    assert said.status == 413


def test_a_client_that_asks_first_is_told_before_it_sends(site: Site) -> None:
    lines = [JSON, f"Content-Length: {20 * MEBI}", "Expect: 100-continue"]
    assert send(site, head(site, "POST", "/api/v1/boards", *lines)).status == 413
    lines = [JSON, "Content-Length: 20", "Expect: 100-continue"]
    assert send(site, head(site, "POST", "/api/v1/boards", *lines)).status == 100


def test_a_post_without_any_body_is_taken(site: Site) -> None:
    said = send(site, head(site, "POST", "/api/v1/boards", JSON))
    assert said.status == 422  # read as an empty object, whose fields are missing


def test_a_connection_serves_one_request_after_another(site: Site) -> None:
    with connect(site.web) as connection:
        for _ in range(3):
            connection.sendall(head(site, "GET", "/healthz"))
            said = listen(connection)
            assert (said.status, json.loads(said.body)) == (200, {"ok": True})


@pytest.mark.parametrize(
    "beginning",
    [b"", b"POST /api/v1/bo", b"POST /api/v1/boards HTTP/1.1\r\nHost: localhost\r\nX-A: b"],
    ids=["nothing", "half a request line", "half of the headers"],
)
def test_a_request_that_does_not_come_is_cut(site: Site, beginning: bytes) -> None:
    with connect(site.web) as connection:
        connection.sendall(beginning)
        began = time.monotonic()
        while connection.recv(4096):
            pass
        assert time.monotonic() - began < SLOW_SECONDS + 30


def test_a_body_that_drips_is_cut_though_it_never_stops(site: Site) -> None:
    lines = [JSON, "Content-Length: 1000"]
    with connect(site.web) as connection:
        connection.sendall(head(site, "POST", "/api/v1/boards", *lines))
        began = time.monotonic()
        connection.settimeout(0.2)
        while time.monotonic() - began < SLOW_SECONDS + 30:
            try:
                connection.sendall(b" ")
                said = listen(connection)
                break
            except TimeoutError:
                continue
        else:
            pytest.fail("it was not cut")
        assert (said.status, said.problem["code"]) == (408, "request_timeout")


def test_slow_clients_hold_up_nobody_else(site: Site) -> None:
    slow = []
    try:
        for _ in range(100):
            connection = connect(site.web)
            connection.sendall(head(site, "POST", "/api/v1/boards", JSON, "Content-Length: 10"))
            slow.append(connection)
        began = time.monotonic()
        assert site.call("GET", "/api/v1/boards").status == 200
        assert time.monotonic() - began < 30
    finally:
        for connection in slow:
            connection.close()


@pytest.mark.parametrize(
    ("request_line", "status"),
    [(b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", 400), (b"GET /\xff HTTP/1.1\r\n\r\n", 400)],
)
def test_strange_requests_get_no_page_of_the_server_s_own(
    site: Site, request_line: bytes, status: int
) -> None:
    with connect(site.web) as connection:
        connection.sendall(request_line)
        said = listen(connection)
    assert said.status == status
    assert b"Daphne" not in said.body


@pytest.mark.parametrize("handler", ["stock"])
def test_the_rules_hold_under_django_s_own_handler(site: Site, handler: str) -> None:
    web = site.serve(HTTP_HANDLER=handler)
    try:
        with connect(web) as connection:
            lines = [JSON, "Transfer-Encoding: chunked"]
            connection.sendall(head(site, "POST", "/api/v1/boards", *lines) + CHUNKED)
            assert listen(connection).status == 411
        body = {"key": "STK", "name": "stock"}
        assert site.call("POST", "/api/v1/boards", body, web=web).status == 201
    finally:
        web.stop()


def test_artifacts_may_be_larger_than_json() -> None:
    assert bodies.limit("/api/v1/artifacts") > bodies.limit("/api/v1/cards")
    assert bodies.limit("/api/v1/artifacts/../cards") == bodies.limit("/api/v1/cards")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"transfer_encoding": "chunked"}, 411),
        ({"length": str(3 * MEBI)}, 413),
        ({"length": "12", "content_encoding": "br"}, 415),
        ({"length": "12", "content_encoding": "Identity"}, None),
        ({"length": "12"}, None),
        ({}, None),
    ],
)
def test_bodies_are_judged_by_their_headers(headers: dict[str, str], status: int | None) -> None:
    told = {"length": "", "transfer_encoding": "", "content_encoding": "", **headers}
    refused = bodies.refusal("PATCH", "/api/v1/cards/x", **told)
    assert (refused.status if refused else None) == status
