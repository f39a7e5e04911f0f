"""What can be looked at of checkpoints: pictures by their bytes, notebooks as text, no more."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from boards.models import Attempt, Board, Card, Membership
from checkpoints import artifacts, previews, recovery
from checkpoints.models import Checkpoint
from checkpoints.stores import store_of
from checkpoints.workspaces import Workspace
from kernel.access import Role
from kernel.errors import NotFound
from tests.factories import claimed, make_board, make_card, make_user
from tests.repositories import git

pytestmark = pytest.mark.django_db


def png(red: int = 255) -> bytes:
    """A picture of one dot."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    dot = zlib.compress(bytes([0, red, 0, 0]))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", dot) + chunk(b"IEND", b"")


NOTEBOOK: dict[str, Any] = {
    "nbformat": 4,
    "cells": [
        {"cell_type": "markdown", "source": ["# Sums\n", "<script>alert(1)</script>"]},
        {
            "cell_type": "code",
            "execution_count": 7,
            "source": "print('<b>6</b>')",
            "outputs": [
                {"output_type": "stream", "name": "stdout", "text": ["\x1b[31m<b>6</b>\x1b[0m\n"]},
                {
                    "output_type": "display_data",
                    "data": {
                        "image/png": base64.b64encode(png()).decode(),
                        "text/html": "<script>alert(2)</script>",
                    },
                },
                {"output_type": "display_data", "data": {"text/html": "<script>3</script>"}},
                {"output_type": "display_data", "data": {"image/png": "PHN2Zz4="}},
                {"output_type": "error", "traceback": ["\x1b[1mZeroDivisionError\x1b[0m"]},
            ],
        },
    ],
}


def member(board: Board) -> Client:
    user = make_user()
    Membership.objects.create(board=board, user=user, role=Role.VIEWER)
    client = Client()
    client.force_login(user)
    return client


def uploaded(attempt: Attempt, name: str, content: bytes, said: str = "image/png") -> str:
    """Return the digest of a file that a checkpoint of the attempt lists."""
    stored, _ = artifacts.store([content], content_type=said, principal="token:x")
    listed = [{"name": name, "sha256": stored.pk}]
    recovery.save(attempt.pk, {"summary": name, "artifacts": listed})
    return stored.pk


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (png(), "image/png"),
        (b"\xff\xd8\xff\xe0JFIF", "image/jpeg"),
        (b"GIF89a...", "image/gif"),
        (b"RIFF\x10\x00\x00\x00WEBPVP8 ", "image/webp"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'>", None),
        (b"<!doctype html>", None),
        (b" \x89PNG\r\n\x1a\n", None),
        (b"%PDF-1.7", None),
        (b"BM", None),
        (b"", None),
    ],
)
def test_the_first_bytes_say_what_is_a_picture(head: bytes, kind: str | None):
    assert previews.picture_type(head) == kind


def test_a_picture_is_shown_as_what_it_is_and_can_do_nothing():
    card = make_card()
    attempt, client = claimed(card), member(card.board)
    shown = uploaded(attempt, "plot.png", png())
    answer = client.get(f"/artifacts/{shown}/picture")
    assert answer.content == png()
    assert answer["Content-Type"] == "image/png"
    assert answer["Content-Disposition"] == "inline"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Content-Security-Policy"] == "sandbox; default-src 'none'"
    for name, content in (("evil.png", b"<svg onload='alert(1)'/>"), ("x.png", b"<html>")):
        refused = client.get(f"/artifacts/{uploaded(attempt, name, content)}/picture")
        assert refused.status_code == 404, name
    assert member(make_board()).get(f"/artifacts/{shown}/picture").status_code == 404
    assert Client().get(f"/artifacts/{shown}/picture").status_code == 302


def test_a_checkpoint_lists_what_it_keeps_by_kind_and_size():
    card = make_card()
    attempt, client = claimed(card), member(card.board)
    for name, content in (
        ("plot.txt", png()),
        ("evil.png", b"<svg/>"),
        ("sums.ipynb", json.dumps(NOTEBOOK).encode()),
    ):
        uploaded(attempt, name, content)
    kinds = [
        kept.kind
        for c in Checkpoint.objects.order_by("number")
        for kept in previews.kept(c.artifacts)
    ]
    assert kinds == ["picture", "file", "notebook"]
    page = client.get(f"/cards/{card.key}?tab=checkpoints&c=1").content.decode()
    assert 'alt="plot.txt"' in page
    assert "69\xa0bytes" in page
    page = client.get(f"/cards/{card.key}?tab=checkpoints&c=2").content.decode()
    assert "<img" not in page
    assert "evil.png" in page
    assert "Look inside" in client.get(f"/cards/{card.key}?tab=checkpoints&c=3").content.decode()


def test_a_notebook_is_text_cells_and_nothing_of_it_runs():
    card = make_card()
    attempt, client = claimed(card), member(card.board)
    sha = uploaded(attempt, "sums.ipynb", json.dumps(NOTEBOOK).encode())
    page = client.get(f"/artifacts/{sha}/notebook").content.decode()
    assert "<script" not in page
    assert "<h1>Sums</h1>" in page
    assert "print(&#x27;&lt;b&gt;6&lt;/b&gt;&#x27;)" in page
    assert "&lt;b&gt;6&lt;/b&gt;\n" in page
    assert "\x1b" not in page
    assert page.count('src="data:image/png;base64,') == 1
    assert "text/html is not shown here" in page
    assert '<pre tabindex="0" role="region" aria-label="Output of cell 2" class="failed">' in page
    for content in (b"{}", b"[]", b"null", b"\xff", b'{"cells": [1]}', b"[" * 100_000):
        refused = client.get(f"/artifacts/{uploaded(attempt, 'x.ipynb', content)}/notebook")
        assert refused.status_code == 404, content[:20]


@pytest.fixture
def pictured(tmp_path: Path, settings: Any) -> Card:
    """A card whose checkpoint changed a picture and a notebook of its board's repository."""
    settings.DATA_DIR = tmp_path / "data"
    git(tmp_path, "init", "-q", "repository")
    repository = tmp_path / "repository"
    (repository / "dot.png").write_bytes(png(255))
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "Begin")
    card = make_card(make_board(repository=str(repository)))
    attempt = claimed(card)
    files = Workspace.prepare(
        tmp_path / "workspaces",
        store_of(card.board_id),
        card_key=card.key,
        attempt_number=1,
        repository=str(repository),
    )
    (files.tree / "dot.png").write_bytes(png(10))
    (files.tree / "new & odd.gif").write_bytes(b"GIF89a\x01\x00\x01\x00\x00\x00\x00")
    (files.tree / "sums.ipynb").write_text(json.dumps(NOTEBOOK))
    (files.tree / "tool.bin").write_bytes(b"\x00\x01\x02" * 50)
    recovery.save(
        attempt.pk, {"summary": "redrawn", "workspace": files.snapshot("redrawn").as_json()}
    )
    files.close()
    return card


def test_changed_pictures_stand_side_by_side_and_other_files_are_downloads(pictured: Card):
    client = member(pictured.board)
    page = client.get(f"/cards/{pictured.key}?tab=checkpoints&against=base").content.decode()
    at = f"/cards/{pictured.key}/checkpoints/1/picture"
    assert f'src="{at}?base=1&amp;path=dot.png"' in page
    assert f'src="{at}?path=dot.png"' in page
    assert f"{at}?path=new%20%26%20odd.gif" in page
    assert f"{at}?base=1&amp;path=new" not in page
    assert client.get(f"{at}?base=1&path=dot.png").content == png(255)
    assert client.get(f"{at}?path=dot.png").content == png(10)
    assert client.get(f"{at}?path=new %26 odd.gif")["Content-Type"] == "image/gif"
    cells = client.get(f"/cards/{pictured.key}/checkpoints/1/notebook?path=sums.ipynb")
    assert "<h1>Sums</h1>" in cells.content.decode()
    raw = client.get(f"/api/v1/cards/{pictured.key}/checkpoints/1/file?path=tool.bin")
    assert raw.content == b"\x00\x01\x02" * 50
    assert raw["Content-Disposition"] == 'attachment; filename="tool.bin"'
    for path in ("tool.bin", "sums.ipynb", "", "nowhere.png", "../dot.png", "/dot.png", "%00"):
        assert client.get(f"{at}?path={path}").status_code == 404, path
    assert client.get(at.replace("/1/", "/9/") + "?path=dot.png").status_code == 404
    assert member(make_board()).get(f"{at}?path=dot.png").status_code == 404


@pytest.mark.parametrize("commit", ["--batch", "HEAD", "main", "a" * 39, "", "f" * 40])
def test_what_a_worker_calls_its_commit_is_no_option_of_git(pictured: Card, commit: str):
    Checkpoint.objects.update(workspace={"commit": commit})
    with pytest.raises(NotFound):
        previews.file(pictured, 1, "dot.png", 1000)


def test_what_is_too_large_is_not_shown(pictured: Card):
    with pytest.raises(NotFound, match="larger than 10 bytes"):
        previews.file(pictured, 1, "dot.png", 10)
