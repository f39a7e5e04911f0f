"""Secrets of boards: sealed for one board and one name, set and removed, never shown."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from boards import members
from boards.models import Board
from boards.secrets import keeping, sealing
from boards.secrets.models import Secret
from events.models import Event
from kernel.access import Role
from kernel.addresses import credentials_in, shown_to_all
from kernel.errors import Invalid, NotFound, TransitionRefused
from tests.factories import make_board, make_user

pytestmark = pytest.mark.django_db

VALUE = "correct horse battery staple"


@pytest.fixture
def board() -> Board:
    return make_board(key="PAY")


def test_a_secret_opens_for_its_board_and_is_nowhere_in_the_store(board: Board) -> None:
    secret, new = keeping.put(board.pk, "user:ann", "DEPLOY_KEY", VALUE)
    assert new
    opened = keeping.opened(board.pk)
    assert opened.values == {"DEPLOY_KEY": VALUE}
    assert "horse" not in repr(opened)
    rows = [*Secret.objects.values(), *Event.objects.values()]
    assert "horse" not in json.dumps(rows, default=str)
    assert "sealed" in Secret.objects.values().get()
    replaced, new = keeping.put(board.pk, "user:bob", "DEPLOY_KEY", VALUE[::-1])
    assert not new
    assert (replaced.pk, replaced.set_by) == (secret.pk, "user:bob")
    assert keeping.opened(board.pk).values == {"DEPLOY_KEY": VALUE[::-1]}


def test_the_same_value_is_sealed_otherwise_each_time(board: Board) -> None:
    sealed = {sealing.seal(board.pk, "A", VALUE) for _ in range(3)}
    assert len(sealed) == 3


def test_a_row_that_is_copied_to_another_board_or_name_does_not_open(board: Board) -> None:
    other = make_board(key="OPS")
    keeping.put(board.pk, "user:ann", "DEPLOY_KEY", VALUE)
    row = Secret.objects.values().get()
    del row["id"]
    Secret.objects.create(**{**row, "board_id": other.pk})
    Secret.objects.create(**{**row, "name": "PUBLISHED"})
    assert keeping.opened(other.pk) == keeping.Opened({}, ("DEPLOY_KEY",))
    assert keeping.opened(board.pk) == keeping.Opened({"DEPLOY_KEY": VALUE}, ("PUBLISHED",))


def test_setting_and_removing_are_on_record_by_name(board: Board) -> None:
    keeping.put(board.pk, "user:ann", "DEPLOY_KEY", VALUE)
    keeping.remove(board.pk, "user:bob", "DEPLOY_KEY")
    told = Event.objects.filter(kind__startswith="secret.").order_by("seq")
    assert [(e.kind, e.actor, e.data) for e in told] == [
        ("secret.set", "user:ann", {"name": "DEPLOY_KEY"}),
        ("secret.removed", "user:bob", {"name": "DEPLOY_KEY"}),
    ]
    with pytest.raises(NotFound):
        keeping.remove(board.pk, "user:bob", "DEPLOY_KEY")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "1ST",
        "A-B",
        "A B",
        "A=B",
        "A\n",
        "Ä",
        "A" * 101,
        "PATH",
        "HOME",
        "LD_PRELOAD",
        "HOLDFAST_URL",
        "GIT_SSH_COMMAND",
        "PYTHONPATH",
        "BASH_ENV",
    ],
)
def test_a_name_that_is_no_variable_or_one_that_programs_live_by_is_refused(
    board: Board, name: str
) -> None:
    with pytest.raises(Invalid) as refused:
        keeping.put(board.pk, "user:ann", name, VALUE)
    assert list(refused.value.errors) == ["name"]
    assert not Secret.objects.exists()


@pytest.mark.parametrize("name", ["A" * 100, "_x9", "http_proxy", "GITHUB_TOKEN", "OPENAI_API_KEY"])
def test_other_names_of_variables_can_be_used(board: Board, name: str) -> None:
    assert keeping.put(board.pk, "user:ann", name, VALUE)[1]


@pytest.mark.parametrize(
    "value",
    ["", "short", "a b c d", " " * 40, "with\x00nul-in-it", "lone \ud800 surrogate", "x" * 32_769],
)
def test_a_value_that_cannot_be_kept_out_of_logs_or_in_a_variable_is_refused(
    board: Board, value: str
) -> None:
    with pytest.raises(Invalid) as refused:
        keeping.put(board.pk, "user:ann", "DEPLOY_KEY", value)
    assert list(refused.value.errors) == ["value"]
    assert not value or value not in str(refused.value.errors)


def test_a_board_has_so_many_and_so_much_and_another_one_as_well(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(16):
        keeping.put(board.pk, "user:ann", f"BIG_{n}", "x" * 32_768)
    with pytest.raises(TransitionRefused, match="larger than 512 KiB together"):
        keeping.put(board.pk, "user:ann", "ONE_MORE", VALUE)
    keeping.put(board.pk, "user:ann", "BIG_3", VALUE)  # smaller than what it replaces
    monkeypatch.setattr(keeping, "MAX_SECRETS", 17)
    keeping.put(board.pk, "user:ann", "ONE_MORE", VALUE)
    with pytest.raises(TransitionRefused, match="has 17 secrets"):
        keeping.put(board.pk, "user:ann", "YET_ONE_MORE", VALUE)
    keeping.put(board.pk, "user:ann", "ONE_MORE", VALUE)
    keeping.put(make_board().pk, "user:ann", "ONE_MORE", VALUE)


# ── another key ──


def test_secrets_outlive_a_new_key_as_long_as_the_old_one_is_named(
    board: Board, settings: Any
) -> None:
    old, new = settings.SECRET_KEY, "another key of this installation, long enough"
    keeping.put(board.pk, "user:ann", "DEPLOY_KEY", VALUE)
    settings.SECRET_KEY = new
    assert keeping.opened(board.pk) == keeping.Opened({}, ("DEPLOY_KEY",))
    assert keeping.reseal() == 0
    settings.SECRET_KEY_FALLBACKS = [old]
    assert keeping.opened(board.pk).values == {"DEPLOY_KEY": VALUE}
    assert keeping.reseal() == 1
    assert keeping.reseal() == 0
    settings.SECRET_KEY_FALLBACKS = []
    assert keeping.opened(board.pk).values == {"DEPLOY_KEY": VALUE}
    assert Event.objects.filter(kind="secret.set").count() == 1


def test_the_command_seals_anew_and_names_what_does_not_open(board: Board, settings: Any) -> None:
    old = settings.SECRET_KEY
    keeping.put(board.pk, "user:ann", "DEPLOY_KEY", VALUE)
    settings.SECRET_KEY = "a key that nobody kept, of some length"
    keeping.put(board.pk, "user:ann", "LOST_KEY", VALUE)
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "the newest key of them all", [old]
    said = StringIO()
    call_command("reseal_secrets", stdout=said)
    assert said.getvalue() == "1 sealed anew.\nPAY LOST_KEY does not open; set it again.\n"


def test_what_is_set_while_others_are_sealed_anew_stays_as_it_was_set(
    board: Board, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeping.put(board.pk, "user:ann", "DEPLOY_KEY", VALUE)
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another key of this installation, long enough"
    opened = sealing.opened

    def set_meanwhile(*sealed: Any) -> str:
        keeping.put(board.pk, "user:ann", "DEPLOY_KEY", "what came later")
        return opened(*sealed)

    monkeypatch.setattr(sealing, "opened", set_meanwhile)
    assert keeping.reseal() == 0
    monkeypatch.undo()
    assert keeping.opened(board.pk).values == {"DEPLOY_KEY": "what came later"}


# ── pages ──


def test_the_admin_shows_no_value_and_removes_on_record(board: Board, client: Client) -> None:
    client.force_login(get_user_model().objects.create_superuser("olga"))
    secret, _ = keeping.put(board.pk, "user:ann", "DEPLOY_KEY", VALUE)
    sealed = Secret.objects.values_list("sealed", flat=True).get()
    for name, args in (("changelist", []), ("change", [secret.pk]), ("delete", [secret.pk])):
        page = client.get(reverse(f"admin:boards_secret_{name}", args=args))
        assert page.status_code == 200
        assert "DEPLOY_KEY" in page.text
        assert "horse" not in page.text
        assert sealed not in page.text
    assert client.get(reverse("admin:boards_secret_add")).status_code == 403
    client.post(reverse("admin:boards_secret_delete", args=[secret.pk]), {"post": "yes"})
    assert not Secret.objects.exists()
    assert Event.objects.get(kind="secret.removed").actor == "user:olga"


def test_only_operators_of_the_board_see_the_part_of_its_settings(
    board: Board, client: Client
) -> None:
    keeping.put(board.pk, "user:ann", "DEPLOY_KEY", VALUE)
    Board.objects.filter(pk=board.pk).update(repository="https://bot:hunter2@example.org/a.git")
    ann, bob = make_user("ann"), make_user("bob")
    members.grant(board.pk, "system", Role.OPERATOR, user_id=ann.pk)
    members.grant(board.pk, "system", Role.MEMBER, user_id=bob.pk)
    client.force_login(ann)
    page = client.get("/boards/PAY/settings").text
    assert "DEPLOY_KEY" in page
    assert "hunter2" in page
    client.force_login(bob)
    page = client.get("/boards/PAY/settings").text
    assert "DEPLOY_KEY" not in page
    assert "hunter2" not in page
    assert "https://example.org/a.git" in page


@pytest.mark.parametrize(
    ("address", "secret", "shown"),
    [
        ("https://bot:pa%40ss@example.org/a", ["pa%40ss", "pa@ss"], "https://example.org/a"),
        ("https://ghp_0123@example.org/a", ["ghp_0123"], "https://example.org/a"),
        ("ssh://git@example.org/a", [], "ssh://git@example.org/a"),
        ("git@example.org:a.git", [], "git@example.org:a.git"),
        ("/srv/a@b:c", [], "/srv/a@b:c"),
        ("", [], ""),
    ],
)
def test_what_opens_a_repository_is_told_from_its_address(
    address: str, secret: list[str], shown: str
) -> None:
    assert credentials_in(address) == secret
    assert shown_to_all(address) == shown
