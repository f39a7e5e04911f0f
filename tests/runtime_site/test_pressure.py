"""Clients that do not read: what they cost the server, and what becomes of them."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving import Site, Web, new_site, until

MEBI = 1024 * 1024


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with new_site("sqlite") as site:
        yield site


def memory(web: Web) -> int:
    """Return the bytes that the process has in memory."""
    for line in Path(f"/proc/{web.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


def ask(site: Site, web: Web, path: str, *lines: str) -> socket.socket:
    """Return a connection on which this was asked, with little room for the answer."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
    connection.settimeout(30)
    connection.connect(("127.0.0.1", web.port))
    head = [f"GET {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {site.token}"]
    connection.sendall(("\r\n".join([*head, *lines]) + "\r\n\r\n").encode())
    return connection


def upload(site: Site, web: Web, content: bytes) -> str:
    with socket.create_connection(("127.0.0.1", web.port), timeout=60) as connection:
        head = (
            f"POST /api/v1/artifacts HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            f"Authorization: Bearer {site.token}\r\n"
            f"Content-Type: application/octet-stream\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        connection.sendall(head.encode() + content)
        answer = connection.makefile("rb").read()
    assert b" 201 " in answer.split(b"\r\n", 1)[0], answer[:500]
    return answer.partition(b'"sha256":"')[2][:64].decode()


def test_large_files_are_sent_no_faster_than_they_are_read(site: Site) -> None:
    web = site.serve()
    content = os.urandom(MEBI) * 40
    digest = upload(site, web, content)
    before = memory(web)
    waiting = [ask(site, web, f"/api/v1/artifacts/{digest}") for _ in range(4)]
    try:
        time.sleep(1.5)
        assert memory(web) - before < 40 * MEBI  # of 160
        # And nobody else waits for them.
        began = time.monotonic()
        assert site.call("GET", "/api/v1/boards", web=web).status == 200
        assert time.monotonic() - began < 10
        # Whoever reads after all gets it whole.
        slow = waiting[0].makefile("rb")
        while slow.readline().strip():
            pass
        assert slow.read(len(content)) == content
    finally:
        for connection in waiting:
            connection.close()
        web.stop()


def test_a_socket_that_is_not_read_costs_little(site: Site) -> None:
    web = site.serve()
    board = site.new_board()
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    lines = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", key]
    connection = ask(site, web, f"/ws/boards/{board['key']}?after=0", *lines)
    try:
        assert b" 101 " in connection.recv(4096).split(b"\r\n", 1)[0]
        before = memory(web)
        title = "long " * 30
        for _ in range(300):
            assert site.new_card(board["key"], title, web=web).status == 201
        assert memory(web) - before < 50 * MEBI
    finally:
        # Reset, so that the server learns at once.
        linger = struct.pack("ii", 1, 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        connection.close()
    until(lambda: site.call("GET", "/healthz", web=web).status == 200)
    web.stop()
