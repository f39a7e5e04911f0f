"""The connect page without a browser: who may what, where the secret stands, what is said live."""

from __future__ import annotations

import re

import pytest
from django.test import Client

from boards.models import Board, Token
from kernel.access import Role
from tests.factories import make_board, make_token, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def board() -> Board:
    return make_board(key="PAY")


def signed_in(board: Board, role: Role | None) -> Client:
    user = make_user()
    if role is not None:
        user.memberships.create(board=board, role=role)  # type: ignore[attr-defined]
    client = Client()
    client.force_login(user)
    return client


def create(client: Client, **fields: str) -> str:
    """Return the token that the page's form gives."""
    answer = client.post(
        "/boards/PAY/connect",
        {"name": "codex on the laptop", "role": "member", "days": "", **fields},
        HTTP_HX_REQUEST="true",
    )
    assert answer.status_code == 200
    found = re.search(r"holdfast_\w+", answer.content.decode())
    assert found
    return found[0]


def test_an_operator_gets_a_token_inside_the_lines_this_once(board: Board) -> None:
    operator = signed_in(board, Role.OPERATOR)
    plaintext = create(operator)
    token = Token.objects.get()
    assert plaintext.endswith(token.hint)
    assert token.memberships.get().board_id == board.pk
    assert plaintext not in operator.get("/boards/PAY/connect").content.decode()


@pytest.mark.parametrize("role", [Role.VIEWER, Role.MEMBER])
def test_others_see_the_page_with_the_reason_and_can_create_nothing(
    board: Board, role: Role
) -> None:
    reader = signed_in(board, role)
    page = reader.get("/boards/PAY/connect")
    assert page.status_code == 200
    assert f"needs the role operator on this board; you are {role.label}" in page.content.decode()
    assert "Create token</button>" not in page.content.decode()
    answer = reader.post("/boards/PAY/connect", {"name": "x", "role": "member"})
    assert answer.status_code == 403
    assert not Token.objects.exists()


def test_a_board_of_others_is_not_there(board: Board) -> None:
    stranger = signed_in(make_board(), Role.OPERATOR)
    for path in ("/boards/PAY/connect", "/boards/PAY/connect/calls"):
        assert stranger.get(path).status_code == 404
    assert stranger.post("/boards/PAY/connect", {"name": "x"}).status_code == 404
    make_token(roles={board.pk: Role.MEMBER})
    revoke = f"/boards/PAY/connect/tokens/{Token.objects.get().pk}/revoke"
    assert stranger.post(revoke).status_code == 404
    assert Token.objects.get().revoked_at is None
