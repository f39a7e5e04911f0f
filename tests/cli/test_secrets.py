"""Secrets from the command line: in through standard input, and never out."""

from __future__ import annotations

import pytest

from holdfast.cli.exits import Exit

VALUE = "-----BEGIN KEY-----\nabcdefgh\n-----END KEY-----"


@pytest.fixture
def operators(desk):
    """The desk with the token of an operator of its board."""
    desk.token = desk.site.new_token(desk.board, "operator")["token"]
    return desk


def test_a_secret_is_set_listed_and_removed_and_never_printed(operators):
    said = operators("secrets", "set", operators.board, "DEPLOY_KEY", input=f"{VALUE}\n").output
    assert (
        said == f"Set DEPLOY_KEY on {operators.board}. Commands that begin from now on have it.\n"
    )
    said += str(operators.json("secrets", "set", operators.board, "DEPLOY_KEY", input=VALUE))
    rows = operators.json("secrets", "list", operators.board)
    assert [set(row) for row in rows] == [{"name", "set_by", "set_at"}]
    said += operators("secrets", "list", operators.board).output
    assert "DEPLOY_KEY" in said
    assert "abcdefgh" not in f"{said}{rows}"
    operators("secrets", "rm", operators.board, "DEPLOY_KEY")
    assert operators.json("secrets", "list", operators.board) == []
    refused = operators("secrets", "rm", operators.board, "DEPLOY_KEY", status=Exit.NOT_FOUND)
    assert "no such secret" in refused.output


def test_what_cannot_be_a_secret_is_refused_with_its_reason(operators):
    board = operators.board
    assert "no value" in operators("secrets", "set", board, "A_KEY", input="\n", status=2).output
    refused = operators(
        "secrets", "set", board, "A_KEY", input="hunter2", status=Exit.REFUSED
    ).output
    assert "fewer than 8 characters" in refused
    assert "hunter2" not in refused
    refused = operators("secrets", "set", board, "LD_PRELOAD", input="hunter2-hunter2", status=4)
    assert "use another name" in refused.output
    # No value is taken from the command line, where others could see it.
    operators("secrets", "set", board, "A_KEY", "hunter2-hunter2", status=2)


def test_a_member_sees_names_and_sets_nothing(desk):
    assert desk.json("secrets", "list", desk.board) == []
    refused = desk(
        "secrets", "set", desk.board, "A_KEY", input="hunter2-hunter2", status=Exit.NOT_ALLOWED
    )
    assert "operator" in refused.output


def test_a_token_for_a_worker_elsewhere_is_made_on_demand(desk):
    words = ("token", "create", "host", "--board", desk.board)
    made = desk.json(*words, "--carries-secrets", HOLDFAST_TOKEN=desk.site.token)
    assert made["carries_secrets"] is True
    assert desk.json(*words, HOLDFAST_TOKEN=desk.site.token)["carries_secrets"] is False


def test_a_secret_that_a_card_asks_for_is_read_and_becomes_the_board_s(operators):
    card = operators.card()
    told = operators.claimed("--card", card)
    asked = ("--question", "Which key?", "--kind", "secret", "--option", "SHOP_KEY")
    operators("block", "It is not set.", *asked, **told)
    nobody = operators("answer", card, status=2)
    assert "read it from standard input" in nobody.stderr
    said = operators("answer", card, "-", input=VALUE).output
    assert "Answered" in said
    assert [row["name"] for row in operators.json("secrets", "list", operators.board)] == [
        "SHOP_KEY"
    ]
    said += operators("briefing", card).output + operators("card", "show", card).output
    assert "abcdefgh" not in said
    assert "SHOP_KEY" in said
