"""What goes out as gzip: static text and pages, to who takes it, and nothing that machines read."""

from __future__ import annotations

import gzip
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib.staticfiles import finders
from django.contrib.staticfiles.storage import staticfiles_storage
from django.test import Client

from runtime_site import static_files

pytestmark = pytest.mark.django_db

GZIP = {"Accept-Encoding": "gzip, br"}


def static(name: str, **asked: str) -> tuple[int, Any, bytes]:
    """Return the status, the headers and the body with which a static file is answered."""
    with closing(Client().get(f"/static/{name}", **asked)) as answer:  # type: ignore[arg-type]
        return answer.status_code, answer.headers, b"".join(answer)


def test_static_text_goes_out_as_gzip_and_is_asked_for_but_once() -> None:
    _, plain, text = static("app.css")
    _, packed, sent = static("app.css", HTTP_ACCEPT_ENCODING="gzip, br")
    assert packed["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain
    assert plain["Vary"] == packed["Vary"] == "Accept-Encoding"
    assert gzip.decompress(sent) == text
    assert int(packed["Content-Length"]) == len(sent) < len(text) / 3
    status, _, _ = static("app.css", HTTP_IF_NONE_MATCH=packed["ETag"])
    assert status == 304


def test_what_is_packed_already_goes_out_as_it_is() -> None:
    _, headers, _ = static("vendor/inter.woff2", HTTP_ACCEPT_ENCODING="gzip, br")
    assert "Content-Encoding" not in headers


def test_static_text_is_served_where_no_copy_can_be_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(static_files.os, "stat", full)
    assert static_files._copy_of("/nowhere/app.css") == ""


def fetched(address: str) -> tuple[int, str, bytes]:
    """Return the status, how long it may be kept, and what came."""
    with closing(Client().get(address)) as answer:
        body = b"".join(answer) if answer.streaming else answer.content
        return answer.status_code, answer.get("Cache-Control", ""), body


def test_what_a_page_names_is_kept_by_browsers_until_it_changes() -> None:
    named = staticfiles_storage.url("js/board.js")
    text = (django_settings.SHARE_DIR / "static/js/board.js").read_bytes()
    assert fetched(named) == (200, "max-age=31536000, public, immutable", text)
    # A page from before an upgrade goes on, and asks whether what it has is still so.
    asked_each_time = fetched("/static/js/board.js")
    assert fetched(named.replace(static_files.version(), "0" * 16)) == asked_each_time
    assert asked_each_time == (200, "max-age=0, public", text)
    assert fetched(named.replace("board.js", "none.js"))[0] == 404


def test_the_version_follows_what_the_files_hold(
    settings: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    request.addfinalizer(static_files.version.cache_clear)
    settings.STATICFILES_DIRS = [tmp_path]
    seen = []
    for text in ("a", "b", "a"):
        (tmp_path / "a.js").write_text(text)
        static_files.version.cache_clear()
        finders.get_finder.cache_clear()
        seen.append(static_files.version())
    finders.get_finder.cache_clear()
    assert seen[0] == seen[2] != seen[1]


def test_pages_go_out_as_gzip_and_answers_to_machines_do_not() -> None:
    client = Client()
    page, packed = client.get("/accounts/signin"), client.get("/accounts/signin", headers=GZIP)
    assert "Content-Encoding" not in page.headers
    assert packed["Content-Encoding"] == "gzip"
    assert int(packed["Content-Length"]) == len(packed.content) < len(page.content)
    assert b"<title>" in gzip.decompress(packed.content)
    assert "Content-Encoding" not in client.get("/api/v1/schema", headers=GZIP).headers
