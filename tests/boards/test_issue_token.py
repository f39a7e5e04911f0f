from __future__ import annotations

import pytest
from django.core.management import CommandError, call_command

from boards import cards, tokens
from kernel.access import SYSTEM, Role

pytestmark = pytest.mark.django_db


@pytest.fixture
def pay():
    return cards.create_board(SYSTEM, key="PAY", name="Payments")


def test_a_token_for_a_board_opens_that_board_alone(pay, capsys):
    other = cards.create_board(SYSTEM, key="OPS", name="Operations")
    call_command("issue_token", "ada", "--board", "pay")
    who = tokens.principal_of(capsys.readouterr().out.strip())
    assert who.name == "ada"
    assert who.role_on(pay.pk) == Role.MEMBER
    assert who.role_on(other.pk) is None


def test_a_token_for_everywhere_has_its_role_on_every_board(pay, capsys):
    call_command("issue_token", "watch", "--everywhere", "--role", "viewer")
    who = tokens.principal_of(capsys.readouterr().out.strip())
    assert (who.everywhere, who.role_on(pay.pk)) == (Role.VIEWER, Role.VIEWER)


def test_an_unknown_board_gets_no_token(pay, capsys):
    with pytest.raises(CommandError, match="no board NOPE"):
        call_command("issue_token", "ada", "--board", "PAY", "--board", "NOPE")
    assert capsys.readouterr().out == ""
