"""Which ignored files a board's snapshots hold: said over REST, heeded by workers."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from boards.models import Board
from tests.factories import make_board, make_user
from workers import database

pytestmark = pytest.mark.django_db


@pytest.fixture
def person() -> Client:
    client = Client()
    client.force_login(make_user(is_staff=True, is_superuser=True))
    return client


def patch(person: Client, board: Board, paths: Any) -> Any:
    body = {"defaults": {"keep_ignored": paths}}
    return person.patch(f"/api/v1/boards/{board.key}", body, content_type="application/json")


def test_workers_are_told_which_ignored_files_are_kept(person: Client) -> None:
    board = make_board()
    assert database.terms(board).keep_ignored == ()
    answer = patch(person, board, ["node_modules/.cache/", "**/build"])
    assert answer.status_code == 200, answer.content
    board.refresh_from_db()
    assert database.terms(board).keep_ignored == ("node_modules/.cache", "**/build")
    page = person.get(f"/boards/{board.key}/settings").content.decode()
    assert "node_modules/.cache\n**/build</textarea>" in page.replace("&#10;", "\n")


@pytest.mark.parametrize("path", ["/etc", "..", ".git/hooks", ":!a", "a**/b", "a[", "", "**"])
def test_a_path_that_is_none_of_the_workspace_is_refused(person: Client, path: str) -> None:
    board = make_board()
    answer = patch(person, board, [path])
    assert answer.status_code in (400, 422)
    assert "keep_ignored" in str(answer.json()["errors"])
    board.refresh_from_db()
    assert "keep_ignored" not in board.defaults
