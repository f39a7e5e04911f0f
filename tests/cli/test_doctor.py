"""``holdfast doctor`` names what is wrong, and what helps; ``holdfast up`` starts a server."""

from __future__ import annotations

import os
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from holdfast.cli.exits import Exit
from tests import ports
from tests.runtime_site.installation import installation


def found(desk, **told) -> dict[str, tuple[str, str]]:
    """What the doctor found: verdict and what it says, by name."""
    ran = desk.real("doctor", "--json", **told)
    import json

    said = json.loads(ran.stdout)
    assert said["ok"] == (ran.returncode == 0)
    return {c["name"]: (c["verdict"], f"{c['detail']} {c['remedy']}") for c in said["checks"]}


def test_where_all_is_well_it_says_so_line_by_line(desk, tmp_path):
    report = found(desk, DATA_DIR=str(tmp_path))
    for name in (
        "python",
        "git",
        "server",
        "store",
        "migrations",
        "tail",
        "version",
        "token",
        "role",
    ):
        assert report[name][0] == "ok", report[name]
    assert f"{desk.board} as member" in report["role"][1]
    # No sweep runs in this site, and the doctor says so.
    assert report["sweep"][0] == "wrong"
    assert "holdfast up" in report["sweep"][1]
    assert desk.real("doctor", DATA_DIR=str(tmp_path)).returncode == Exit.ERROR


def test_a_server_that_is_away_is_named_with_what_helps(desk):
    url = f"http://127.0.0.1:{ports.free()}"
    verdict, said = found(desk, HOLDFAST_URL=url)["server"]
    assert verdict == "wrong"
    assert url in said
    assert "holdfast up" in said


def test_what_answers_and_is_no_holdfast_is_told_apart(desk, httpd):
    verdict, said = found(desk, HOLDFAST_URL=httpd)["server"]
    assert verdict == "wrong"
    assert "no Holdfast server" in said


@pytest.fixture
def httpd():
    """Some other web server, which has no such page."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_tokens_that_do_not_serve_are_named(desk):
    assert found(desk, HOLDFAST_TOKEN="x" * 40)["token"][0] == "wrong"
    verdict, said = found(desk, HOLDFAST_TOKEN="")["token"]
    assert verdict == "wrong"
    assert "holdfast login --local" in said
    viewer = desk.site.new_token(desk.board, "viewer")["token"]
    assert found(desk, HOLDFAST_TOKEN=viewer)["role"][0] == "warning"


def test_tools_and_folders_that_are_missing_are_named(desk, tmp_path):
    bare = tmp_path / "bin"
    bare.mkdir()
    file = tmp_path / "file"
    file.write_text("")
    report = found(desk, PATH=str(bare), DATA_DIR=str(file / "data"))
    assert report["git"][0] == "wrong"
    assert report["sandbox"][0] == "warning"
    assert report["data folder"][0] == "wrong"
    assert "DATA_DIR" in report["data folder"][1]


@pytest.mark.acceptance
def test_up_starts_a_server_that_a_local_login_may_use(desk, tmp_path):
    with installation(tmp_path / "data", WORKERS="0") as place:
        told = {
            "HOLDFAST_URL": f"http://127.0.0.1:{place.port}",
            "DATA_DIR": str(tmp_path / "data"),
            "HOLDFAST_TOKEN": "",
            "DATABASE_URL": "",
        }
        process = desk.start("up", "--port", str(place.port), "--no-demo", "--workers", "0", **told)
        try:
            place.until_ready(process)
            login = desk.real("login", "--local", **told)
            assert login.returncode == 0, login.stderr
            made = desk.real("board", "add", "PAY", "Payments", **told)
            assert made.returncode == 0, made.stderr
            report = found(desk, **told)
            assert report["sweep"][0] == "ok"
            assert "PAY as operator" in report["role"][1]
        finally:
            os.kill(process.pid, signal.SIGTERM)
            process.communicate(timeout=60)
    assert process.returncode in (0, -signal.SIGTERM)
