"""The connect page without a browser: who may what, where the secret stands, what is said live."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from boards.models import Board, Token
from kernel.access import Role
from tests.factories import make_board, make_card, make_token, make_user
from workers.connect.recipes import Connection, Recipe, recipes

pytestmark = pytest.mark.django_db

PAGE = "/boards/PAY/connect"
KINDS = ["claude", "codex", "opencode", "qwen", "gemini", "cursor", "curl", "python"]


@pytest.fixture
def board() -> Board:
    return make_board(key="PAY")


@pytest.fixture
def operator(board: Board) -> Client:
    return signed_in(board, Role.OPERATOR)


def signed_in(board: Board, role: Role | None, **options: Any) -> Client:
    user = make_user()
    if role is not None:
        user.memberships.create(board=board, role=role)  # type: ignore[attr-defined]
    client = Client(**options)
    client.force_login(user)
    return client


def submit(client: Client, **fields: str) -> Any:
    given = {"name": "codex on the laptop", "role": "member", "days": "", **fields}
    return client.post(PAGE, given, HTTP_HX_REQUEST="true")


def create(client: Client, **fields: str) -> str:
    """Return the token that the page's form gives."""
    answer = submit(client, **fields)
    assert answer.status_code == 200
    found = re.search(r"holdfast_\w+", answer.content.decode())
    assert found
    return found[0]


def mcp(token: str, tool: str = "list_cards", **args: Any) -> Any:
    """Return the answer to a tool called with the token."""
    params = {"name": tool, "arguments": args}
    return Client().post(
        "/mcp",
        json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}),
        content_type="application/json",
        HTTP_AUTHORIZATION=f"Bearer {token}",
    )


def calls(client: Client, new: object = "") -> str:
    """Return the words of the part of the page that renews itself."""
    answer = client.get(f"{PAGE}/calls", {"new": new})
    assert answer.status_code == 200
    return " ".join(re.sub(r"<[^>]+>", " ", answer.content.decode()).split())


# ── rights ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("role", [Role.VIEWER, Role.MEMBER])
def test_others_see_the_page_with_the_reason_and_can_create_nothing(
    board: Board, role: Role
) -> None:
    make_token("ci", roles={board.pk: Role.MEMBER})
    reader = signed_in(board, role)
    page = reader.get(PAGE).content.decode()
    assert f"needs the role operator on this board; you are {role.label}" in page
    assert "Create token</button>" not in page
    assert "Revoke" not in page
    assert "&lt;your token&gt;" in page
    assert submit(reader).status_code == 403
    token = Token.objects.get()
    assert reader.post(f"{PAGE}/tokens/{token.pk}/revoke").status_code == 403
    assert Token.objects.get().revoked_at is None


def test_a_board_of_others_is_not_there(board: Board) -> None:
    make_token(roles={board.pk: Role.MEMBER})
    stranger = signed_in(make_board(), Role.OPERATOR)
    for path in (PAGE, f"{PAGE}/calls"):
        assert stranger.get(path).status_code == 404
    assert submit(stranger).status_code == 404
    assert stranger.post(f"{PAGE}/tokens/{Token.objects.get().pk}/revoke").status_code == 404
    assert Token.objects.get().revoked_at is None


def test_nobody_comes_in_unasked(board: Board) -> None:
    assert Client().get(f"{PAGE}/calls").status_code == 401
    for answer in (Client().get(PAGE), submit(Client())):
        assert answer.status_code == 302
        assert answer["Location"].startswith("/accounts/signin")
    assert not Token.objects.exists()


def test_a_token_is_not_made_from_elsewhere(board: Board) -> None:
    checked = signed_in(board, Role.OPERATOR, enforce_csrf_checks=True)
    assert submit(checked).status_code == 403
    assert not Token.objects.exists()


# ── the token ────────────────────────────────────────────────────────────────────────────────


def test_an_operator_gets_a_token_inside_the_lines_this_once(
    board: Board, operator: Client
) -> None:
    answer = submit(operator)
    page = answer.content.decode()
    plaintext = re.findall(r"holdfast_\w+", page)[0]
    token = Token.objects.get()
    assert plaintext.endswith(token.hint)
    member = token.memberships.get()
    assert (member.board_id, member.role, token.everywhere) == (board.pk, Role.MEMBER, None)
    # In the field of its own and in the lines of every kind of agent; nothing says <your token>.
    assert page.count(f"HOLDFAST_TOKEN={plaintext}") == len(KINDS)
    assert "&lt;your token&gt;" not in page
    assert "no-store" in answer["Cache-Control"]
    assert "Location" not in answer
    assert not any("holdfast_" in str(value) for value in answer.cookies.values())
    for path in (PAGE, f"{PAGE}/calls?new={token.pk}"):
        assert plaintext not in operator.get(path).content.decode()


def test_without_scripts_the_whole_page_holds_the_token(board: Board, operator: Client) -> None:
    answer = operator.post(PAGE, {"name": "plain", "role": "viewer", "days": "", "agent": "codex"})
    page = answer.content.decode()
    assert "<html" in page
    assert re.search(r"holdfast_\w{38}", page)
    assert 'id="kind-codex" form="token-form" checked' in page
    assert "no-store" in answer["Cache-Control"]


@pytest.mark.parametrize(
    "fields",
    [{"name": ""}, {"name": "x" * 101}, {"role": "operator"}, {"days": "400"}, {"name": "a\x00b"}],
)
def test_a_form_filled_in_wrongly_comes_back_with_the_reason(
    operator: Client, fields: dict[str, str]
) -> None:
    answer = submit(operator, **fields)
    assert answer.status_code == 422
    assert 'class="problem"' in answer.content.decode()
    assert not Token.objects.exists()


def test_a_name_is_shown_and_not_run(operator: Client) -> None:
    page = submit(operator, name="<script>alert(1)</script>").content.decode()
    assert "<script>alert" not in page


def test_a_token_lives_as_long_as_was_chosen(operator: Client) -> None:
    create(operator, days="1")
    expires = Token.objects.get().expires_at
    assert expires is not None
    assert abs(expires - timezone.now() - timedelta(days=1)) < timedelta(minutes=5)
    assert "until" in calls(operator)


def test_a_revoked_token_is_refused_at_its_next_call(operator: Client) -> None:
    plaintext = create(operator)
    assert mcp(plaintext).status_code == 200
    token = Token.objects.get()
    answer = operator.post(f"{PAGE}/tokens/{token.pk}/revoke", HTTP_HX_REQUEST="true")
    assert answer.status_code == 200
    assert "revoked" in answer.content.decode()
    assert mcp(plaintext).status_code == 401
    # Again changes nothing; without scripts it leads back.
    assert operator.post(f"{PAGE}/tokens/{token.pk}/revoke")["Location"] == PAGE


def test_a_token_of_another_board_too_takes_an_operator_there(
    board: Board, operator: Client
) -> None:
    other = make_board()
    make_token("both", roles={board.pk: Role.MEMBER, other.pk: Role.MEMBER})
    page = operator.get(PAGE).content.decode()
    assert "both" in page
    assert "Revoke it now" not in page
    assert operator.post(f"{PAGE}/tokens/{Token.objects.get().pk}/revoke").status_code == 404


def test_tokens_of_every_board_show_to_whoever_runs_them_all(
    board: Board, operator: Client
) -> None:
    make_token("bootstrap", everywhere=Role.OPERATOR)
    assert "bootstrap" not in calls(operator)
    root = Client()
    root.force_login(make_user(is_superuser=True))
    assert "bootstrap operator" in calls(root)


# ── the lines ────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def to() -> Connection:
    return Connection("https://it's.example:8443/a b", "PAY", "holdfast_x")


@pytest.fixture
def public_url(settings: Any) -> str:
    settings.PUBLIC_URL = "https://cards.example.com"
    return "https://cards.example.com"


def test_the_lines_name_the_address_that_the_reader_came_by(operator: Client) -> None:
    page = operator.get(PAGE, HTTP_HOST="localhost:8123").content.decode()
    assert "http://localhost:8123/mcp" in page
    assert "HOLDFAST_URL=http://localhost:8123 " in page


def test_the_public_address_wins(operator: Client, public_url: str) -> None:
    page = operator.get(PAGE).content.decode()
    assert f"{public_url}/mcp" in page
    assert "testserver" not in page


def by_slug(to: Connection) -> dict[str, Recipe]:
    return {recipe.slug: recipe for recipe in recipes(to)}


def test_there_are_lines_for_every_kind_of_agent(to: Connection) -> None:
    found = by_slug(to)
    assert list(found) == KINDS
    assert [slug for slug in KINDS if not found[slug].hooks] == ["curl", "python"]


@pytest.mark.parametrize("slug", KINDS)
def test_lines_are_what_they_seem_and_no_file_holds_the_token(to: Connection, slug: str) -> None:
    for block in by_slug(to)[slug].blocks:
        if block.path:
            assert to.token not in block.text
        if block.path.endswith(".json"):
            assert json.loads(block.text)
        elif block.path.endswith(".toml"):
            server = tomllib.loads(block.text)["mcp_servers"]["holdfast"]
            assert server["url"] == to.mcp
        elif block.path.endswith(".py"):
            compile(block.text, block.path, "exec")
        else:
            subprocess.run(["sh", "-n", "-c", block.text], check=True)


def test_the_shell_keeps_the_address_whole(to: Connection) -> None:
    line = by_slug(to)["curl"].blocks[0].text
    said = subprocess.run(
        ["sh", "-c", f'{line}; printf "%s|%s" "$HOLDFAST_URL" "$HOLDFAST_TOKEN"'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == f"{to.url}|{to.token}"
    assert line.startswith(" ")  # which most shells leave out of their history


# ── what is said live ────────────────────────────────────────────────────────────────────────


def test_the_first_call_shows_before_anything_was_claimed(operator: Client) -> None:
    plaintext = create(operator, name="laptop")
    new = Token.objects.get().pk
    assert "Waiting for the first call with laptop" in calls(operator, new)
    mcp(plaintext)
    said = calls(operator, new)
    assert re.search(r"laptop called [0-9.]+ s ago\. It has claimed nothing yet", said)
    assert "Waiting" not in said


def test_a_claim_names_worker_and_card(board: Board, operator: Client) -> None:
    plaintext = create(operator)
    card = make_card(board)
    new = Token.objects.get().pk
    claimed = mcp(plaintext, "claim_card", worker="codex-7").json()["result"]["structuredContent"]
    said = calls(operator, new)
    assert re.search(rf"codex-7 called [0-9.]+ s ago: claimed {card.key}", said)
    mcp(plaintext, "complete_card", attempt_id=claimed["attempt_id"], summary="Done")
    assert f"completed {card.key}" in calls(operator, new)


@pytest.mark.parametrize("new", ["", "x", "../..", "00000000-0000-0000-0000-000000000000"])
def test_a_token_that_is_none_is_not_waited_for(operator: Client, new: str) -> None:
    assert "Waiting for the first call" not in calls(operator, new)


def test_calls_elsewhere_stay_elsewhere(board: Board, operator: Client) -> None:
    """A token of two boards claims on the other one: this board's page does not name the card."""
    other = make_board()
    both = make_token("both", roles={board.pk: Role.MEMBER, other.pk: Role.MEMBER})
    card = make_card(other)
    mcp(both, "claim_card", worker="w", card=card.key)
    assert card.key not in calls(operator)


def test_the_part_that_renews_itself_costs_the_same_with_many_tokens(
    board: Board, operator: Client
) -> None:
    def statements() -> int:
        with CaptureQueriesContext(connection) as captured:
            calls(operator)
        return len(captured)

    def work(count: int) -> None:
        for n in range(count):
            token = make_token(f"t{n}", roles={board.pk: Role.MEMBER})
            mcp(token, "claim_card", worker=f"w{n}", card=make_card(board).key)

    work(1)
    few = statements()
    work(9)
    assert statements() == few <= 8
