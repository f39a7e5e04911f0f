from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

import holdfast
from tests import serving
from tests.client.desk import Desk, new_desk
from tests.client.elsewhere import Elsewhere, new_elsewhere


@pytest.fixture(scope="session", params=[serving.STORE])
def site(request: pytest.FixtureRequest) -> Iterator[serving.Site]:
    """A running site; tests make boards of their own on it."""
    with serving.new_site(request.param) as site:
        site.serve()
        yield site


@pytest.fixture
def desk(site: serving.Site) -> Desk:
    return new_desk(site)


@pytest.fixture
def elsewhere(site: serving.Site) -> Iterator[Elsewhere]:
    here = new_elsewhere(site)
    yield here
    here.close()


@pytest.fixture
def client(desk: Desk) -> Iterator[holdfast.Client]:
    with desk.client() as client:
        yield client


class Sent(logging.Handler):
    """Every request that httpx has sent: method, last words of the path, status."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[tuple[str, str, int]] = []

    def emit(self, record: logging.LogRecord) -> None:
        assert isinstance(record.args, tuple)
        method, url, _, status, _ = record.args
        path = str(url).split("?")[0].rpartition("/attempts/")[2]
        self.all.append((str(method), path.partition("/")[2], int(str(status))))

    def work(self) -> list[tuple[str, str, int]]:
        """What the worker itself sent, without the beats of its heart."""
        return [sent for sent in self.all if sent[1] != "heartbeat"]


@pytest.fixture
def sent() -> Iterator[Sent]:
    log, handler = logging.getLogger("httpx"), Sent()
    before = log.level
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    yield handler
    log.removeHandler(handler)
    log.setLevel(before)


@dataclass
class Said:
    """One request that the scripted server got."""

    method: str
    path: str
    headers: Any
    body: bytes


@dataclass
class Scripted:
    """A server that answers what it was told to, for corners that a real one shows rarely."""

    url: str
    got: list[Said] = field(default_factory=list)
    script: list[Any] = field(default_factory=list)

    def will(self, *answers: Any) -> None:
        """Answer with each in turn: (status, headers, body), None to hang up, seconds to keep
        silent for so long before that."""
        self.script += answers


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            told.got.append(Said(self.command, self.path, self.headers, body))
            answer = told.script.pop(0)
            if answer is None or isinstance(answer, float):
                time.sleep(answer or 0)
                self.close_connection = True
                return
            status, headers, content = answer
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        told = Scripted(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, args=[0.02], daemon=True)
        thread.start()
        yield told
        server.shutdown()
        thread.join()
