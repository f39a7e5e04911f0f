from __future__ import annotations

import datetime as dt

import pytest
import time_machine

from boards import tokens
from boards.models import Token
from kernel.access import Role
from kernel.errors import Invalid, NotFound
from tests.factories import make_board, make_user

pytestmark = pytest.mark.django_db
T0 = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def test_a_token_stands_for_its_roles():
    here, there = make_board(), make_board()
    issued = tokens.issue("ci", roles={here.pk: Role.MEMBER, there.pk: Role.VIEWER})
    principal = tokens.principal_of(issued.plaintext)
    assert principal.actor == "token:ci"
    assert not principal.is_person
    assert principal.boards == {here.pk: Role.MEMBER, there.pk: Role.VIEWER}
    assert principal.visible() == {here.pk, there.pk}


def test_a_token_may_hold_a_role_everywhere():
    principal = tokens.principal_of(tokens.issue("ci", everywhere=Role.VIEWER).plaintext)
    assert principal.visible() is None
    assert principal.role_on(make_board().pk) == Role.VIEWER


def test_the_plaintext_is_kept_nowhere():
    issued = tokens.issue("ci")
    secret = issued.plaintext.removeprefix(tokens.PREFIX)
    row = Token.objects.filter(pk=issued.token.pk).values().get()
    assert not any(secret[:12] in str(value) for value in row.values())
    assert row["hint"] == issued.plaintext[-4:]


def test_tokens_are_long_and_never_alike():
    plain = [tokens.issue("ci").plaintext for _ in range(20)]
    assert len(set(plain)) == 20
    assert all(p.startswith("holdfast_") and len(p) == 9 + 32 + 6 for p in plain)


@pytest.mark.parametrize("mangle", [str.lower, lambda t: t[:-1], lambda t: f"{t} ", lambda t: ""])
def test_what_is_not_the_token_opens_nothing(mangle):
    assert tokens.principal_of(mangle(tokens.issue("ci").plaintext)) is None


def test_what_cannot_be_a_token_opens_nothing():
    for text in ("", "holdfast_é" * 4, "x" * 10_000, "\x00" * 40):
        assert tokens.principal_of(text) is None


def test_a_revoked_token_opens_nothing_from_then_on():
    issued = tokens.issue("ci")
    tokens.revoke(issued.token.pk)
    assert tokens.principal_of(issued.plaintext) is None
    when = tokens.revoke(issued.token.pk).revoked_at
    assert tokens.revoke(issued.token.pk).revoked_at == when


def test_a_token_that_never_was_is_not_revoked():
    with pytest.raises(NotFound):
        tokens.revoke(make_board().pk)


def test_a_token_expires():
    with time_machine.travel(T0, tick=False) as clock:
        issued = tokens.issue("ci", expires_at=T0 + dt.timedelta(days=1))
        assert tokens.principal_of(issued.plaintext)
        clock.shift(dt.timedelta(days=1))
        assert tokens.principal_of(issued.plaintext) is None


def test_a_token_goes_with_its_owner():
    owner = make_user()
    issued = tokens.issue("ci", owner=owner)
    assert tokens.principal_of(issued.plaintext)
    owner.is_active = False
    owner.save()
    assert tokens.principal_of(issued.plaintext) is None


def test_using_a_token_is_noted_but_not_every_time():
    with time_machine.travel(T0, tick=False) as clock:
        issued = tokens.issue("ci")
        seen = []
        for _ in range(3):
            tokens.principal_of(issued.plaintext)
            seen.append(Token.objects.get().last_used_at)
            clock.shift(40)
    assert seen == [T0, T0, T0 + dt.timedelta(seconds=80)]


def test_a_token_given_at_the_first_start_operates_everything():
    plaintext = "given-by-the-operator-of-this-place"
    assert tokens.bootstrap(plaintext)
    assert tokens.bootstrap(plaintext) is None
    assert tokens.principal_of(plaintext).everywhere == Role.OPERATOR


@pytest.mark.parametrize(
    "plaintext", ["short", "x" * 31, "x" * 201, "é" * 40, "tab\t" * 10, "a space " * 5]
)
def test_a_given_token_must_be_one_that_can_be_sent(plaintext):
    with pytest.raises(Invalid):
        tokens.bootstrap(plaintext)
