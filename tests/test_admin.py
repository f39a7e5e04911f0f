"""The admin: every page answers, states move only by transitions, nothing is run as markup."""

from __future__ import annotations

import re
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from boards import cards, leases, members, tokens
from boards.models import (
    Attempt,
    Board,
    Card,
    Column,
    Dependency,
    Membership,
    Message,
    Race,
    Racer,
    Split,
    Token,
)
from checkpoints import logs, salvaging, steps
from checkpoints.models import Artifact, ArtifactLink, Briefing, Brought, Checkpoint, Keeping, Line
from events.models import Event, Receipt, Stream
from goals import criteria, memory
from goals.models import Discovery, Goal
from kernel.access import SYSTEM, Role
from workers import pulses, registry

OURS = {"boards", "checkpoints", "events", "goals", "workers"}
PAYLOAD = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{7*7}}"

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _no_dispatch(settings):
    settings.DISPATCH = False


@pytest.fixture
def operator():
    return get_user_model().objects.create_superuser("olga", password=None)


@pytest.fixture
def browser(client, operator):
    client.force_login(operator)
    return client


def populate(text: str = "plain", key: str = "ADM") -> SimpleNamespace:
    """Return a board on which everything there is has happened at least once."""
    board = cards.create_board(SYSTEM, key=key, name=text, repository=text)
    goal = memory.create(
        board.pk,
        "system:test",
        title=text,
        intent=text,
        constraints=[text],
        criteria=[{"text": text, "check": text}],
    )
    memory.edit(goal.pk, "user:olga", {"intent": f"{text}, amended"})
    doing = board.columns.get(kind=Column.Kind.IN_PROGRESS)
    parent = cards.create(board, "user:olga", title=text, labels=[text])
    waits = cards.create(board, "user:olga", title=text, column=doing, depends_on=[parent])
    card = cards.create(
        board,
        "user:olga",
        title=text,
        description=text,
        goal=goal,
        column=doing,
        workflow={"steps": [{"key": "a", "run": text}]},
        inputs={"a": text},
    )
    issued = tokens.issue(text, roles={board.pk: Role.MEMBER})
    registry.seen(text, token_id=issued.token.pk, capabilities=[text])
    gone = leases.claim(text, card_id=card.pk, token_id=issued.token.pk)
    steps.begin(gone.pk, "a", title=text, input={"a": text})
    leases.expire(gone.pk, actor=text)
    attempt = leases.claim(text, card_id=card.pk, token_id=issued.token.pk)
    steps.record(
        attempt.pk,
        "a",
        "succeeded",
        title=text,
        result={"a": text},
        checkpoint={
            "summary": text,
            "next_step": text,
            "state": {"a": text},
            "tests": {"passed": 3, "failed": 0, "failing": [text]},
            "decisions": [{"title": text, "rationale": text, "alternatives": [text]}],
            "discoveries": [{"kind": "fact", "title": text, "detail": text}],
        },
    )
    salvaging.salvage(gone.pk, {"summary": text})
    Keeping.objects.create(board=board, keep_last=3)
    Brought.objects.create(board=board, sha256="0" * 64, cards={text: key}, actor=text)
    logs.append(attempt.pk, [("a", "stdout", text)])
    criteria.record_evidence(
        goal.pk, [{"criterion": 1, "met": True, "detail": text}], actor=text, card_id=card.pk
    )
    cards.say(card.pk, text, text)
    artifact = Artifact.objects.create(sha256=f"{key:0<64}", size_bytes=1, content_type=text)
    ArtifactLink.objects.create(artifact=artifact, board=board, card=card, name=text)
    Briefing.objects.create(sha256=f"{key:1<64}", markdown=text, tokens=1)
    Line.objects.create(
        card=card, number=2, parent=1, origin=Checkpoint.objects.get(card=card), actor=text
    )
    race = Race.objects.create(board=board, source=card, checkpoint=1, started_by=text)
    Racer.objects.create(card=waits, number=1, approach=text, lost=text)
    race.cards.add(waits)
    Split.objects.create(card=card, checkpoint=1, actor=text, files=[text])
    Receipt.objects.create(principal=text, key=key, fingerprint="f", status=200, body={"a": text})
    Stream.objects.get_or_create(board_id=board.pk)
    pulses.beat(f"{key}:{text}"[:100], note=text)
    return SimpleNamespace(
        board=board,
        goal=goal,
        card=card,
        waits=waits,
        attempt=attempt,
        token=issued.token,
        plaintext=issued.plaintext,
        discovery=Discovery.objects.get(goal=goal, test=""),
    )


def our_pages():
    return [p for m, p in admin.site._registry.items() if m._meta.app_label in OURS]


def listing(model, **params):
    url = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    return url + ("?" + "&".join(f"{k}={v}" for k, v in params.items()) if params else "")


def detail(row):
    opts = row._meta
    return reverse(f"admin:{opts.app_label}_{opts.model_name}_change", args=[row.pk])


def act(browser, action, *rows):
    """Carry out an admin action on rows and return the messages that it left."""
    answer = browser.post(
        listing(type(rows[0])),
        {"action": action, "_selected_action": [str(row.pk) for row in rows]},
        follow=True,
    )
    assert answer.status_code == 200
    return [str(m) for m in answer.context["messages"]]


def form_of(browser, url):
    """Return what a browser would send back from the page as it stands."""
    context = browser.get(url).context
    forms = [context["adminform"].form]
    for formset in context["inline_admin_formsets"]:
        forms += [formset.formset.management_form, *formset.formset.forms]
    sent = {}
    for form in forms:
        for bound in form:
            value = bound.value()
            if value is None or value is False or bound.field.disabled:
                continue
            sent[bound.html_name] = "on" if value is True else str(value)
    return sent


# ── every page ───────────────────────────────────────────────────────────────────────────


def test_every_model_of_ours_has_a_page():
    from django.apps import apps

    registered = {m for m in admin.site._registry if m._meta.app_label in OURS}
    assert registered == {m for m in apps.get_models() if m._meta.app_label in OURS}
    for page in our_pages():
        assert page.search_fields, page
        assert page.show_full_result_count is False, page


def test_every_list_search_filter_and_detail_answers(browser):
    populate()
    for page in our_pages():
        url = listing(page.model)
        answer = browser.get(url)
        assert answer.status_code == 200, url
        assert page.model._default_manager.count() == answer.context["cl"].result_count, url
        for query in ("plain", "ADM-3", "ADM-3 x", "é'\"%"):
            assert browser.get(f"{url}?q={query}").status_code == 200, (url, query)
        for spec in answer.context["cl"].filter_specs:
            for choice in spec.choices(answer.context["cl"]):
                found = browser.get(url + choice["query_string"])
                assert found.status_code == 200, (url, choice)
        if page.date_hierarchy:
            year = timezone.now().year
            assert browser.get(f"{url}?{page.date_hierarchy}__year={year}").status_code == 200
        for row in page.model._default_manager.all():
            assert browser.get(detail(row)).status_code == 200, row


@pytest.mark.parametrize(
    "address",
    [
        "boards/card/?state__exact=%00",
        "boards/card/?q=a%00b",
        "boards/card/?board__id__exact=no-id",
        "boards/card/?no_such=1",
        "boards/card/?p=999999999999999999999",
        "boards/card/%00/change/",
        "goals/goal/?created_at__year=99999999",
        "autocomplete/?app_label=boards&model_name=card&field_name=goal&term=%00",
    ],
)
def test_a_bent_address_is_no_error_of_ours(browser, address):
    assert browser.get(reverse("admin:index") + address).status_code < 500


def test_every_link_on_a_page_leads_somewhere(browser):
    world = populate()
    for row in (world.board, world.goal, world.card, world.attempt, world.token):
        text = browser.get(detail(row)).content.decode()
        for href in re.findall(
            r'href="(/admin/(?:boards|checkpoints|events|goals|workers)[^"]*)"', text
        ):
            assert browser.get(href.replace("&amp;", "&")).status_code == 200, href


def test_a_list_costs_the_same_however_many_rows_it_shows(browser):
    populate(key="AA")
    pages = our_pages()

    def cost(page):
        with CaptureQueriesContext(
            connection,
        ) as queries:
            assert browser.get(listing(page.model)).status_code == 200
        return len(queries)

    for page in pages:
        cost(page)  # content types and the like are read once
    few = {page: cost(page) for page in pages}
    for n in range(4):
        populate(key=f"B{n}")
    for page, before in few.items():
        assert cost(page) <= before, page
        assert before <= 15, (page, before)


def test_a_long_list_is_counted_only_so_far(browser, monkeypatch):
    from events.admin_base import BoundedPaginator

    populate()
    monkeypatch.setattr(BoundedPaginator, "MAX_COUNT", 3)
    assert browser.get(listing(Event)).context["cl"].result_count == 3


def test_hostile_text_is_shown_and_never_markup(browser):
    populate(PAYLOAD)
    for page in our_pages():
        rows = list(page.model._default_manager.all())
        for url in (listing(page.model), *(detail(row) for row in rows)):
            text = browser.get(url).content.decode()
            assert "<script>alert" not in text, url
            assert "<img src=x" not in text, url


def test_pages_have_no_inline_script_or_style(browser):
    """The content security policy would refuse them."""
    world = populate()
    urls = [reverse("admin:index"), reverse("admin:boards_token_add")]
    urls += [listing(page.model) for page in our_pages()]
    urls += [detail(row) for row in (world.board, world.goal, world.card, world.attempt)]
    for url in urls:
        answer = browser.get(url)
        assert "script-src 'self'" in answer["Content-Security-Policy"]
        text = answer.content.decode()
        assert not re.search(r"<script(?![^>]*\bsrc=)", text), url
        assert not re.search(r"<style|<[^>]+\s(style|on\w+)=", text), url


# ── who comes in ─────────────────────────────────────────────────────────────────────────


def test_the_admin_has_no_password_form_of_its_own(client):
    answer = client.get(reverse("admin:index"), follow=True)
    assert answer.redirect_chain[-1][0] == f"{reverse('signin')}?next=/admin/"
    assert (
        client.post(reverse("admin:login"), {"username": "x", "password": "y"}).status_code == 302
    )
    away = client.get(reverse("admin:login") + "?next=https://elsewhere.example/")
    assert "elsewhere" not in away["Location"]


def test_somebody_who_is_no_staff_is_told_so(client):
    client.force_login(get_user_model().objects.create_user("ned"))
    assert client.get(reverse("admin:index"), follow=True).status_code == 403


@pytest.fixture
def clerk(client):
    """A member of staff who may look at everything and change cards, boards and tokens."""
    user = get_user_model().objects.create_user("clara", is_staff=True)
    grants = Permission.objects.filter(content_type__app_label__in=OURS)
    looks = grants.filter(codename__startswith="view_")
    does = grants.filter(
        codename__in=["change_board", "add_board", "add_token", "change_token", "add_membership"]
    )
    user.user_permissions.set([*looks, *does])
    client.force_login(user)
    return client


def test_somebody_who_may_only_look_gets_no_actions(clerk):
    world = populate()
    for page in our_pages():
        assert clerk.get(listing(page.model)).status_code == 200
    for row in (world.goal, world.card, world.attempt):
        assert clerk.get(detail(row)).status_code == 200
    assert act(clerk, "cancel", world.card) == []  # no such action
    assert Card.objects.get(pk=world.card.pk).state == Card.State.RUNNING


def test_only_a_superuser_lets_a_board_run_commands(clerk, settings):
    settings.ALLOW_COMMANDS = False
    world = populate()
    sent = form_of(clerk, detail(world.board))
    clerk.post(detail(world.board), {**sent, "name": "New", "allow_commands": "on"})
    board = Board.objects.get(pk=world.board.pk)
    assert (board.name, board.allow_commands) == ("New", False)


def test_only_a_superuser_hands_out_a_role_on_every_board(clerk):
    sent = form_of(clerk, reverse("admin:boards_token_add"))
    sent |= {"name": "mine", "everywhere": str(Role.OPERATOR.value)}
    assert clerk.post(reverse("admin:boards_token_add"), sent).status_code == 200
    assert not Token.objects.exists()  # a token for nothing
    board = cards.create_board(SYSTEM, key="ONE", name="One")
    sent |= {"boards": [str(board.pk)], "role": str(Role.MEMBER.value)}
    refused = clerk.post(reverse("admin:boards_token_add"), sent)  # nor one on this board
    assert "you may not see it" in refused.content.decode()
    assert not Token.objects.exists()
    clara = get_user_model().objects.get(username="clara")
    members.grant(board.pk, "user:olga", Role.OPERATOR, user_id=clara.pk)
    assert clerk.post(reverse("admin:boards_token_add"), sent).status_code == 200
    assert Token.objects.get(name="mine").everywhere is None


# ── actions call the transitions ─────────────────────────────────────────────────────────


def test_cards_are_steered_row_by_row(browser):
    world = populate()
    said = act(browser, "pause", world.card, world.waits)
    assert said == [f"{world.card}: paused.", f"{world.waits}: paused."]
    assert Card.objects.filter(paused=True).count() == 2
    assert Event.objects.filter(kind="card.paused", actor="user:olga").count() == 2

    act(browser, "resume", world.card)
    assert not Card.objects.get(pk=world.card.pk).paused

    act(browser, "cancel", world.card)
    assert Card.objects.get(pk=world.card.pk).state == Card.State.CANCELLED
    assert Attempt.objects.get(pk=world.attempt.pk).status == Attempt.Status.CANCELLED

    said = act(browser, "cancel", world.card, world.waits)
    assert said == [
        f"{world.card}: {world.card.key} is cancelled already.",
        f"{world.waits}: cancelled.",
    ]

    act(browser, "retry", world.waits)
    assert Card.objects.get(pk=world.waits.pk).state == Card.State.WAITING


def test_an_attempt_is_expired_at_once_and_only_once(browser):
    world = populate()
    (said,) = act(browser, "expire", world.attempt)
    assert said == f"{world.card.key} attempt 2: expired; the card may be claimed again."
    assert Card.objects.get(pk=world.card.pk).state == Card.State.WAITING
    assert Event.objects.filter(kind="attempt.expired", actor="user:olga").count() == 1
    (said,) = act(browser, "expire", world.attempt)
    assert said.endswith("it is over already.")


def test_a_revoked_token_opens_nothing(browser):
    world = populate()
    assert tokens.principal_of(world.plaintext) is not None
    act(browser, "revoke", world.token)
    assert tokens.principal_of(world.plaintext) is None
    assert "revoked" in browser.get(listing(Token)).content.decode()


def test_a_discovery_is_resolved_once(browser):
    world = populate()
    (said,) = act(browser, "resolve", world.discovery)
    assert said == "plain: resolved."
    (said,) = act(browser, "resolve", world.discovery)
    assert said == "plain: The discovery is resolved already."


def test_an_action_on_too_many_rows_does_nothing(browser, monkeypatch):
    world = populate()
    monkeypatch.setattr("events.admin_base.MAX_ROWS_PER_ACTION", 1)
    assert act(browser, "pause", world.card, world.waits) == ["Choose at most 1 rows."]
    assert not Card.objects.filter(paused=True).exists()


# ── forms call the transitions ───────────────────────────────────────────────────────────


def test_history_has_no_form(browser):
    world = populate()
    for model in (Event, Receipt, Checkpoint, Attempt, Artifact, Briefing, Message, Dependency):
        page = admin.site._registry[model]
        row = model._default_manager.first()
        url = detail(row)
        assert browser.post(url, {}).status_code == 403, url
        assert browser.post(url.replace("change", "delete"), {"post": "yes"}).status_code == 403
        assert browser.get(listing(model) + "add/").status_code == 403
        assert "delete_selected" not in page.get_actions(browser.get(listing(model)).wsgi_request)
    for row in (world.board, world.goal, world.card, world.token):
        assert browser.post(detail(row).replace("change", "delete")).status_code == 403


def test_a_state_is_not_editable(browser):
    world = populate()
    for row, names in (
        (world.card, ("state", "column", "fence", "failures", "paused", "version", "board")),
        (world.goal, ("version", "board_id", "created_by")),
        (world.board, ("version", "last_card_number", "key", "archived_at")),
        (world.token, ("name", "everywhere", "digest", "revoked_at", "owner")),
    ):
        form = browser.get(detail(row)).context["adminform"].form
        assert not set(names) & set(form.fields), row
    sent = form_of(browser, detail(world.card))
    browser.post(detail(world.card), {**sent, "state": "completed", "title": "renamed"})
    card = Card.objects.get(pk=world.card.pk)
    assert (card.title, card.state) == ("renamed", Card.State.RUNNING)


@pytest.mark.parametrize(
    ("name", "kind", "field"),
    [
        ("card", "card.edited", "title"),
        ("goal", "goal.amended", "intent"),
        ("board", "board.edited", "name"),
    ],
)
def test_an_edit_is_recorded_like_any_other(browser, name, kind, field):
    row = getattr(populate(), name)
    before = type(row).objects.get(pk=row.pk).version
    sent = form_of(browser, detail(row))
    assert browser.post(detail(row), {**sent, field: "said anew"}).status_code == 302
    now = type(row).objects.get(pk=row.pk)
    assert (getattr(now, field), now.version) == ("said anew", before + 1)
    assert Event.objects.filter(kind=kind, actor="user:olga", subject_id=row.pk).exists()


def test_saving_without_a_change_records_nothing(browser):
    world = populate()
    events = Event.objects.count()
    for row in (world.card, world.goal, world.board):
        assert browser.post(detail(row), form_of(browser, detail(row))).status_code == 302
    assert Event.objects.count() == events


def test_an_edit_of_an_old_version_is_refused_and_keeps_what_was_typed(browser):
    world = populate()
    sent = form_of(browser, detail(world.card))
    cards.edit(world.card.pk, "user:bob", {"title": "Bob was here"})
    answer = browser.post(detail(world.card), {**sent, "title": "typed for an hour"})
    assert answer.status_code == 200
    text = answer.content.decode()
    assert "load it again" in text
    assert "typed for an hour" in text
    assert Card.objects.get(pk=world.card.pk).title == "Bob was here"


def test_a_refused_edit_says_why(browser):
    world, other = populate(), populate(key="OTHER")
    sent = form_of(browser, detail(world.card)) | {"goal": str(other.goal.pk)}
    answer = browser.post(detail(world.card), sent)
    assert "belongs to another board" in answer.content.decode()
    assert Card.objects.get(pk=world.card.pk).goal_id == world.goal.pk


def test_a_new_board_has_its_columns_and_its_maker(browser, operator):
    url = reverse("admin:boards_board_add")
    sent = form_of(browser, url) | {"key": "NEW", "name": "New", "pull": "manual"}
    assert browser.post(url, sent).status_code == 302
    board = Board.objects.get(key="NEW")
    assert board.columns.count() == 5
    assert board.memberships.get().user == operator
    assert browser.post(url, sent).status_code == 200  # taken
    assert browser.post(url, {**sent, "key": "bad key"}).status_code == 200
    assert Board.objects.count() == 1


def test_members_are_added_changed_and_removed_on_the_record(browser, operator):
    world = populate()
    sent = form_of(browser, detail(world.board))
    at = "memberships-0-"
    row = Membership.objects.get(board=world.board)
    total = int(sent["memberships-TOTAL_FORMS"])
    sent |= {
        f"{at}role": str(Role.VIEWER.value),
        "memberships-TOTAL_FORMS": str(total + 1),
        f"memberships-{total}-user": str(operator.pk),
        f"memberships-{total}-role": str(Role.OPERATOR.value),
        f"memberships-{total}-board": str(world.board.pk),
    }
    assert browser.post(detail(world.board), sent).status_code == 302
    row.refresh_from_db()
    assert row.role == Role.VIEWER
    assert Membership.objects.get(user=operator).role == Role.OPERATOR

    sent = form_of(browser, detail(world.board)) | {f"{at}DELETE": "on"}
    assert browser.post(detail(world.board), sent).status_code == 302
    last = Membership.objects.get(user=operator)
    refused = browser.post(
        reverse("admin:boards_membership_delete", args=[last.pk]), {"post": "yes"}, follow=True
    )
    assert "without an operator" in refused.content.decode()
    assert Membership.objects.filter(pk=last.pk).exists()
    kinds = Event.objects.filter(kind__startswith="member.").order_by("seq")
    assert [e.kind for e in kinds] == ["member.added", "member.changed", "member.removed"]

    url = reverse("admin:boards_membership_add")
    browser.post(url, {"board": world.board.pk, "token": world.token.pk, "role": 1})
    assert members.Membership.objects.filter(token=world.token).exists()
    assert browser.post(url, {"board": world.board.pk, "role": 1}).status_code == 200  # of nobody


# ── tokens ───────────────────────────────────────────────────────────────────────────────


def test_a_new_token_is_shown_once_and_kept_nowhere(browser):
    world = populate()
    url = reverse("admin:boards_token_add")
    sent = form_of(browser, url) | {
        "name": "deploy bot",
        "expires_at_0": (timezone.now() + timedelta(days=1)).date().isoformat(),
        "expires_at_1": "00:00:00",
        "boards": [str(world.board.pk)],
        "role": str(Role.MEMBER.value),
    }
    answer = browser.post(url, sent)
    assert answer.status_code == 200
    assert "no-store" in answer["Cache-Control"]
    (plaintext,) = set(re.findall(r"holdfast_\w{38}", answer.content.decode()))
    who = tokens.principal_of(plaintext)
    assert who is not None
    assert who.boards == {world.board.pk: Role.MEMBER}
    assert who.everywhere is None

    token = Token.objects.get(name="deploy bot")
    assert token.hint == plaintext[-4:]
    for page in (detail(token), listing(Token), reverse("admin:index")):
        assert plaintext not in browser.get(page).content.decode()
    assert all(plaintext not in morsel.value for morsel in answer.client.cookies.values())
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT * FROM "{table}"')
            assert plaintext not in str(cursor.fetchall()), table


def test_a_token_is_not_edited(browser):
    world = populate()
    sent = form_of(browser, detail(world.token)) | {"name": "other", "everywhere": "3"}
    assert browser.post(detail(world.token), sent).status_code == 302
    token = Token.objects.get(pk=world.token.pk)
    assert (token.name, token.everywhere) == ("plain", None)


def test_goals_are_found_by_the_fields_that_pick_one(browser):
    world = populate("needle")
    populate(key="OTHER")
    found = browser.get(
        reverse("admin:autocomplete"),
        {"app_label": "boards", "model_name": "card", "field_name": "goal", "term": "needle"},
    ).json()
    assert [r["id"] for r in found["results"]] == [str(world.goal.pk)]


def test_goals_are_narrowed_to_a_board_by_its_key(browser):
    populate()
    world = populate(key="OTHER")
    answer = browser.get(listing(Goal, on_board="OTHER"))
    assert [g.pk for g in answer.context["cl"].result_list] == [world.goal.pk]
