from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest
import time_machine
from django.contrib.auth import get_user_model
from django.core.cache import cache
from django.test import Client

from runtime_site import signin, starting

pytestmark = pytest.mark.django_db

T0 = datetime(2030, 1, 1, 12, tzinfo=UTC)
PASSWORD = "a long enough phrase"


@pytest.fixture(autouse=True)
def _quick(settings: Any) -> Any:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.LOGIN_REDIRECT_URL = "/healthz"
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def ada() -> Any:
    return get_user_model().objects.create_user("ada", password=PASSWORD)


def is_signed_in(client: Client) -> bool:
    return "_auth_user_id" in client.session


def test_a_link_signs_in_once(client: Client, ada: Any) -> None:
    link = signin.link(ada)
    response = client.get(link)
    assert (response.status_code, response.headers["Location"]) == (302, "/healthz")
    assert is_signed_in(client)
    other = Client()
    assert other.get(link).status_code == 403
    assert not is_signed_in(other)


def test_whoever_is_signed_in_is_not_stopped_by_a_used_link(client: Client, ada: Any) -> None:
    link = signin.link(ada)
    client.get(link)
    assert client.get(link).status_code == 302


def test_of_two_links_the_first_one_used_is_the_last_that_works(ada: Any) -> None:
    first, second = signin.link(ada), signin.link(ada)
    assert Client().get(second).status_code == 302
    assert Client().get(first).status_code == 403


def test_a_link_ends_after_its_time(ada: Any, settings: Any) -> None:
    with time_machine.travel(T0, tick=False) as clock:
        link = signin.link(ada)
        clock.shift(settings.SIGNIN_LINK_SECONDS + 1)
        assert Client().get(link).status_code == 403


@pytest.mark.parametrize("spoil", [lambda t: t[:-1], lambda t: "x" + t, lambda t: "x", str.upper])
def test_a_link_that_was_tampered_with_is_refused(ada: Any, spoil: Any) -> None:
    token = signin.link(ada).removeprefix(signin.ENTER_PATH)
    assert Client().get(f"{signin.ENTER_PATH}{spoil(token)}").status_code == 403


def test_a_link_opens_no_closed_account(ada: Any) -> None:
    link = signin.link(ada)
    ada.is_active = False
    ada.save(update_fields=["is_active"])
    assert Client().get(link).status_code == 403


def test_looking_at_a_link_does_not_use_it_up(ada: Any) -> None:
    link = signin.link(ada)
    assert Client().head(link).status_code == 405
    assert Client().get(link).status_code == 302


def test_a_password_signs_in_and_leads_on(client: Client, ada: Any) -> None:
    sent = {"username": "ada", "password": PASSWORD, "next": "/readyz"}
    response = client.post("/accounts/signin", sent)
    assert response.headers["Location"] == "/readyz"
    assert is_signed_in(client)


@pytest.mark.parametrize("elsewhere", ["https://evil.example/", "//evil.example", "javascript:1"])
def test_signing_in_leads_nowhere_else(client: Client, ada: Any, elsewhere: str) -> None:
    sent = {"username": "ada", "password": PASSWORD, "next": elsewhere}
    assert client.post("/accounts/signin", sent).headers["Location"] == "/healthz"


def test_the_session_is_a_new_one_after_signing_in(client: Client, ada: Any) -> None:
    client.session.save()
    before = client.session.session_key
    client.post("/accounts/signin", {"username": "ada", "password": PASSWORD})
    assert client.session.session_key != before


def test_the_form_needs_its_csrf_token(ada: Any) -> None:
    strict = Client(enforce_csrf_checks=True)
    assert strict.get("/accounts/signin").status_code == 200
    sent = {"username": "ada", "password": PASSWORD}
    assert strict.post("/accounts/signin", sent).status_code == 403
    sent["csrfmiddlewaretoken"] = strict.cookies["csrftoken"].value
    assert strict.post("/accounts/signin", sent).status_code == 302


def test_many_wrong_passwords_for_a_name_have_to_wait(client: Client, ada: Any) -> None:
    wrong = {"username": "ada", "password": "wrong"}
    for _ in range(signin.MAX_FAILURES):
        assert client.post("/accounts/signin", wrong).status_code == 403
    response = client.post("/accounts/signin", {"username": "ADA", "password": PASSWORD})
    assert response.status_code == 429
    assert int(response.headers["Retry-After"]) > 0
    other = {"username": "bob", "password": "wrong"}
    assert client.post("/accounts/signin", other).status_code == 403


def test_a_name_with_a_nul_is_merely_wrong(client: Client) -> None:
    sent = {"username": "a\x00", "password": "x"}
    assert client.post("/accounts/signin", sent).status_code == 403


def test_signing_out_needs_a_post(client: Client, ada: Any) -> None:
    client.get(signin.link(ada))
    assert client.get("/accounts/signout").status_code == 405
    client.post("/accounts/signout")
    assert not is_signed_in(client)


def test_an_operator_without_a_password_sets_the_first_one(client: Client) -> None:
    operator: Any = starting.operator()
    assert not operator.has_usable_password()
    client.get(signin.link(operator))
    sent = {"new_password1": PASSWORD, "new_password2": PASSWORD}
    assert client.post("/accounts/password", sent).status_code == 302
    assert is_signed_in(client)
    operator.refresh_from_db()
    assert operator.check_password(PASSWORD)
    # From now on changing it takes the old one.
    assert client.post("/accounts/password", sent).status_code == 422


def test_there_is_one_first_operator_however_often_it_is_asked_for() -> None:
    assert starting.operator() == starting.operator()
    assert get_user_model().objects.filter(is_superuser=True).count() == 1


def test_the_pages_load_nothing_from_elsewhere_and_run_no_inline_script(client: Client) -> None:
    response = client.get("/accounts/signin")
    policy = response.headers["Content-Security-Policy"]
    assert "script-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy
    assert response.headers["X-Frame-Options"] == "DENY"
    html = response.content.decode()
    assert not re.search(r"<script(?! src=\"/static/[^\"]*\"></script>)", html)
    assert not re.search(r"""(?:src|href)=["'](?!/(?!/))""", html)
    assert "style=" not in html
