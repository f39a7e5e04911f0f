"""Questions that outlive every process: what they take, who answers, what follows silence."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.apps import apps
from django.db import connection
from django.test import Client
from django.utils import timezone

from boards import asking, cards, leases, timeouts, tokens
from boards.asking import NoAnswer
from boards.models import Board, Card, Membership, Message
from boards.notices import answering, links, raising
from boards.notices.models import Notice
from boards.secrets import keeping
from events.models import Event
from kernel.access import Role
from kernel.errors import Invalid, TransitionRefused
from tests.api.world import Caller
from tests.factories import (
    claimed,
    make_board,
    make_card,
    make_checkpoint,
    make_token,
    make_user,
    now_is,
)

pytestmark = pytest.mark.django_db


def asked(board: Board | None = None, question: str = "Go on?", **terms: Any) -> Message:
    """Return the question of a card whose worker has saved a checkpoint and stopped."""
    card = make_card(board)
    attempt = claimed(card)
    make_checkpoint(attempt)
    leases.block(attempt.pk, "unsure", question=question, **terms)
    return Message.objects.get(card=card, kind="question")


def member(board: Board, name: str = "bea", role: Role = Role.MEMBER) -> Any:
    user = make_user(name)
    Membership.objects.create(board=board, user=user, role=role)
    return user


# ── what may be asked, and what answers it ───────────────────────────────────────────────


@pytest.mark.parametrize(
    ("terms", "field"),
    [
        ({"question_kind": "choice"}, "options"),
        ({"question_kind": "approve", "options": ["yes"]}, "options"),
        ({"question_kind": "number", "options": ["1"]}, "options"),
        ({"default": "a"}, "default"),
        ({"on_timeout": "fail"}, "on_timeout"),
        ({"timeout_seconds": 0}, "timeout_seconds"),
        ({"timeout_seconds": 10**9}, "timeout_seconds"),
        ({"timeout_seconds": 60, "on_timeout": "default"}, "default"),
        ({"timeout_seconds": 60, "on_timeout": "stay", "default": "a"}, "default"),
        (
            {
                "timeout_seconds": 60,
                "default": "c",
                "question_kind": "choice",
                "options": ["a", "b"],
            },
            "default",
        ),
        ({"timeout_seconds": 60, "default": "yes", "question_kind": "approve"}, "default"),
        ({"question": "", "detail": "rm"}, "detail"),
        ({"question": " \n"}, "question"),
        ({"question_kind": "secret"}, "options"),
        ({"question_kind": "secret", "options": ["A_KEY", "B_KEY"]}, "options"),
        ({"question_kind": "secret", "options": ["PATH"]}, "options"),
        ({"question_kind": "secret", "options": ["a key"]}, "options"),
        (
            {
                "question_kind": "secret",
                "options": ["A_KEY"],
                "timeout_seconds": 60,
                "default": "hunter22hunter22",
            },
            "default",
        ),
    ],
)
def test_a_question_that_can_t_be_carried_out_is_refused_by_name(
    terms: dict[str, Any], field: str
) -> None:
    attempt = claimed()
    with pytest.raises(Invalid) as refused:
        leases.block(attempt.pk, "unsure", **{"question": "Go on?", **terms})
    assert field in refused.value.errors
    assert now_is(attempt).status == "running"


@pytest.mark.parametrize(
    ("terms", "good", "kept", "bad"),
    [
        ({"question_kind": "choice", "options": ["Left", "Right"]}, " left ", "Left", "up"),
        ({"question_kind": "approve", "detail": "rm -r build"}, "NO", "no", "perhaps"),
        ({"question_kind": "number"}, "-1.5", "-1.5", "NaN"),
        ({"question_kind": "date"}, "2030-01-31", "2030-01-31", "2030-02-31"),
        ({"options": ["Left"]}, "up", "up", None),
    ],
)
def test_an_answer_is_of_the_kind_that_was_asked_for(
    terms: dict[str, Any], good: str, kept: str, bad: str | None
) -> None:
    question = asked(**terms)
    if bad is not None:
        with pytest.raises(NoAnswer) as refused:
            cards.say(question.card_id, "user:ann", bad, answers=question.pk)
        assert all(str(o) in refused.value.detail for o in question.options)
        assert now_is(question.card).state == "blocked"
    said = cards.say(question.card_id, "user:ann", good, answers=question.pk, reason="so")
    assert (said.text, said.detail) == (kept, "so")
    card = now_is(question.card)
    assert card.state == "waiting"
    assert claimed(card).resumed_from == 1


def test_who_comes_second_hears_who_was_first() -> None:
    question = asked()
    cards.say(question.card_id, "user:ann", "Yes", answers=question.pk, via="browser")
    with pytest.raises(TransitionRefused, match="ann said “Yes”"):
        cards.say(question.card_id, "user:bob", "No", answers=question.pk)
    assert question.answered_by.count() == 1


def test_no_worker_lets_itself_through() -> None:
    board = make_board()
    asker = tokens.issue("worker", roles={board.pk: Role.OPERATOR})
    others = {
        name: tokens.issue(name, roles={board.pk: role}).plaintext
        for name, role in (("member", Role.MEMBER), ("operator", Role.OPERATOR))
    }
    card = make_card(board)
    attempt = claimed(card, token_id=asker.token.pk)
    leases.block(attempt.pk, "-", question="Run it?", question_kind="approve", detail="rm -r x")
    question = Message.objects.get(card=card)
    path, body = f"/cards/{card.key}/messages", {"text": "yes", "answers": question.pk}
    for token in (asker.plaintext, others["member"]):
        assert Caller(token).post(path, body).refusal == (403, "forbidden")
    wrong = Caller(others["operator"]).post(path, {**body, "text": "maybe"})
    assert (wrong.refusal, wrong["options"]) == ((400, "invalid_answer"), ["yes", "no"])
    told = Caller(others["operator"]).post(path, {**body, "reason": "it is old"})
    assert (told.status, told["via"], told["reason"]) == (201, "api", "it is old")


# ── silence ──────────────────────────────────────────────────────────────────────────────


def test_silence_is_answered_by_the_default_once() -> None:
    question = asked(question_kind="choice", options=["a", "b"], timeout_seconds=3600, default="B")
    assert (question.default, question.on_timeout) == ("b", "default")
    assert timeouts.tick() == 0
    with time_machine.travel(timezone.now() + timedelta(seconds=3601)):
        assert timeouts.tick() == 1
        assert timeouts.tick() == 0
        assert not timeouts.lapse(question.card_id, question.pk)
    (said,) = question.answered_by.all()
    assert (said.text, said.actor, said.via) == ("b", "system:timeout", "timeout")
    assert now_is(question.card).state == "waiting"


def test_silence_leaves_the_card_blocked_where_that_was_said() -> None:
    board = make_board()
    bea = member(board)
    question = asked(board, timeout_seconds=60, on_timeout="fail")
    raising.tick()
    with time_machine.travel(timezone.now() + timedelta(seconds=61)):
        assert timeouts.tick() == 1
        raising.tick()
        card = now_is(question.card)
        assert (card.state, card.blocked_reason) == ("blocked", "Nobody answered in time: Go on?")
        with pytest.raises(TransitionRefused, match="time was up"):
            cards.say(card.pk, "user:ann", "Yes", answers=question.pk)
        still = Notice.objects.filter(user=bea).unsettled().true()
        assert list(still.values_list("kind", flat=True)) == ["blocked"]
        assert cards.retry(card.pk, "user:ann").state == "waiting"


@pytest.mark.parametrize("moved_on", [False, True])
def test_silence_changes_nothing_where_the_question_stays_or_the_card_went_on(
    moved_on: bool,
) -> None:
    question = asked(timeout_seconds=60, **({"default": "Yes"} if moved_on else {}))
    if moved_on:
        cards.retry(question.card_id, "user:ann")
    with time_machine.travel(timezone.now() + timedelta(seconds=61)):
        assert timeouts.tick() == 1
        assert timeouts.tick() == 0
    told = Event.objects.get(kind="question.lapsed").data
    assert told["then"] == ("moved_on" if moved_on else "stay")
    assert now_is(question).closed_at is None
    cards.say(question.card_id, "user:ann", "Late", answers=question.pk)


@pytest.mark.django_db(transaction=True)
def test_two_sweeps_and_a_person_at_once_give_one_answer() -> None:
    question = asked(timeout_seconds=1, default="Yes")
    Message.objects.filter(pk=question.pk).update(due_at=timezone.now() - timedelta(seconds=1))
    start = threading.Barrier(3)
    refused: list[Exception] = []

    def do(work: Any) -> None:
        try:
            start.wait()
            work()
        except TransitionRefused as error:
            refused.append(error)
        finally:
            connection.close()

    works = [
        timeouts.tick,
        timeouts.tick,
        lambda: cards.say(question.card_id, "user:ann", "No", answers=question.pk),
    ]
    threads = [threading.Thread(target=do, args=[work]) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert question.answered_by.count() == 1
    assert Event.objects.filter(kind="card.answered").count() == 1


# ── links in letters ─────────────────────────────────────────────────────────────────────


def linked(board: Board, user: Any, **terms: Any) -> tuple[Message, str]:
    question = asked(board, **terms)
    raising.tick()
    notice = Notice.objects.get(user=user, message=question)
    return question, links.to_answer(notice).partition("/inbox")[2].join(["/inbox", ""])


def test_a_link_answers_without_signing_in_only_where_the_board_allows_it() -> None:
    board = make_board()
    bea = member(board)
    question, link = linked(board, bea, question_kind="approve", detail="rm \u202e-r build")
    visitor = Client()
    assert "/accounts/signin" in visitor.get(link)["Location"]
    assert "/accounts/signin" in visitor.post(link, {"text": "yes"})["Location"]
    Board.objects.filter(pk=board.pk).update(answer_by_link=True)
    page = visitor.get(link)
    assert "rm ⟨U+202E⟩-r build" in page.content.decode()
    assert page["Referrer-Policy"] == "same-origin"
    assert visitor.head(link).status_code == 200
    assert not question.answered_by.exists()
    assert visitor.post(link, {"text": "perhaps"}).status_code == 400
    assert "goes on" in visitor.post(link, {"text": "yes", "reason": "old"}).content.decode()
    said = question.answered_by.get()
    assert (said.actor, said.via, said.detail) == ("user:bea", "link", "old")
    assert visitor.get(link).status_code == 404
    assert visitor.post(link, {"text": "no"}).status_code == 404


@pytest.mark.parametrize(
    ("terms", "said", "words"),
    [
        ({"question_kind": "choice", "options": ["A", "B"]}, "C", "none of the options"),
        ({"question_kind": "approve"}, "perhaps", "neither a yes nor a no"),
        ({"question_kind": "number"}, "a few", "no number, such as 12"),
        ({"question_kind": "date"}, "soon", "no date, such as 2030-01-31"),
        ({}, " \n", "Write or choose an answer first"),
        ({}, "x" * 200_001, "200,001 characters; up to 200,000"),
        ({}, "a\0b", "NUL"),
    ],
)
def test_the_page_of_a_link_says_what_it_takes_and_keeps_what_was_written(
    terms: dict[str, Any], said: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = make_board(answer_by_link=True)
    question, link = linked(board, member(board), **terms)
    said_in_english: list[str] = []
    own = answering._
    monkeypatch.setattr(answering, "_", lambda text: said_in_english.append(text) or own(text))
    refused = Client().post(link, {"text": said, "reason": "because"})
    assert refused.status_code == 400
    assert words in refused.text
    assert said_in_english
    kept = said.strip() if question.asks not in ("choice", "approve") else ""
    assert kept.replace("\0", "�") in refused.text.replace("\0", "�")
    assert not question.answered_by.exists()


def test_the_page_of_a_link_hears_what_became_of_its_question_and_others_hear_nothing() -> None:
    board = make_board()
    bea = member(board)
    question, link = linked(board, bea, options=["A", "B"])

    def standing(who: Client, path: str = link) -> tuple[int, Any]:
        told = who.get(f"{path}?standing")
        return told.status_code, told.json()

    reader, visitor, stranger = Client(), Client(), Client()
    reader.force_login(bea)
    stranger.force_login(make_user("sam"))
    assert standing(reader) == (200, {"open": True, "words": ""})
    assert standing(visitor) == standing(stranger) == (404, {})
    assert standing(reader, link[:-2]) == (404, {})
    cards.say(question.card_id, "user:ann", "A", answers=question.pk)
    assert standing(reader) == (200, {"open": False, "words": "ann has answered: “A”"})
    assert standing(stranger) == (404, {})
    other, link = linked(board, bea)
    cards.retry(other.card_id, "user:ann")
    closed, told = standing(reader, link)
    assert (closed, told["open"]) == (200, False)
    assert "moved on without an answer" in told["words"]


def test_a_long_answer_by_link_is_kept_whole() -> None:
    board = make_board(answer_by_link=True)
    question, link = linked(board, member(board))
    text = "One line\n" * 12_000
    assert Client().post(link, {"text": text.replace("\n", "\r\n")}).status_code == 200
    assert question.answered_by.get().text == text
    # Sent twice it is said once, and both hear that it was.
    assert "goes on" in Client().post(link, {"text": text}).text
    assert question.answered_by.count() == 1
    # Who comes too late hears so, and what they wrote is not thrown away.
    late = Client().post(link, {"text": "Neither; straight on"})
    assert late.status_code == 404
    assert "Neither; straight on" in late.text


def test_a_link_is_revoked_with_the_board_and_grows_old() -> None:
    board = make_board(answer_by_link=True)
    bea, ann, vic = member(board), member(board, "ann"), member(board, "vic", Role.VIEWER)
    _question, link = linked(board, bea)
    other = Client()
    other.force_login(vic)
    assert other.get(link).status_code == 404
    other.force_login(ann)
    assert "answer as ann" in other.get(link).content.decode()
    with time_machine.travel(timezone.now() + links.MAX_AGE + timedelta(seconds=1)):
        assert Client().get(link).status_code == 404
    assert Client().get(link[:-1] + ("a" if link[-1] != "a" else "b")).status_code == 404
    assert Client().get(link).status_code == 200
    Membership.objects.filter(user=bea).delete()
    assert other.get(link).status_code == 404
    assert Client().post(link, {"text": "Yes"}).status_code == 404


def test_a_link_needs_its_own_page_to_be_sent_from() -> None:
    board = make_board(answer_by_link=True)
    _question, link = linked(board, member(board))
    strict = Client(enforce_csrf_checks=True)
    assert strict.post(link, {"text": "Yes"}).status_code == 403
    strict.get(link)
    token = strict.cookies["csrftoken"].value
    assert strict.post(link, {"text": "Yes", "csrfmiddlewaretoken": token}).status_code == 200


def test_the_pages_show_what_is_asked_and_when_its_time_is_up() -> None:
    board = make_board()
    client = Client()
    client.force_login(member(board))
    question = asked(
        board, question_kind="approve", detail="rm -r <b>", timeout_seconds=600, default="no"
    )
    raising.tick()
    for path in (f"/cards/{question.card.key}", "/inbox", f"/boards/{board.key}"):
        page = client.get(path).content.decode()
        assert "rm -r &lt;b&gt;" in page, path
        assert "Without an answer it is “no”" in page, path
        assert 'data-option="yes"' in page, path
    Card.objects.filter(pk=question.card_id).update(title="x")
    Message.objects.filter(pk=question.pk).update(detail="x" * 5000)
    page = client.get(f"/boards/{board.key}").content.decode()
    assert 'data-option="yes"' not in page
    assert "Read it and answer" in page


# ── secrets ──────────────────────────────────────────────────────────────────────────────

VALUE = "xyzzy plugh 4711"
WANTED = {"question_kind": "secret", "options": ["SHOP_KEY"]}


def test_a_secret_given_for_an_answer_is_sealed_and_nobody_reads_more_than_its_name() -> None:
    board = make_board()
    question = asked(board, "Which key opens the shop?", **WANTED)
    path = f"/cards/{question.card.key}/messages"
    operator = Caller(make_token("ops", {board.pk: Role.OPERATOR}))
    told = operator.post(path, {"text": VALUE, "answers": question.pk})
    assert (told.status, told.json["text"]) == (201, "SHOP_KEY")
    assert keeping.opened(board.pk).values == {"SHOP_KEY": VALUE}
    assert Card.objects.get(pk=question.card_id).state == "waiting"
    for model in apps.get_models():
        for row in model.objects.all().values_list():
            assert VALUE not in str(row), model
    with pytest.raises(TransitionRefused, match="SHOP_KEY"):
        cards.say(question.card_id, "user:bea", VALUE, answers=question.pk)


def test_a_value_that_can_t_be_kept_out_of_logs_leaves_the_question_open() -> None:
    question = asked(**WANTED)
    with pytest.raises(NoAnswer, match="fewer than 8") as refusal:
        cards.say(question.card_id, "user:bea", "short", answers=question.pk)
    assert list(refusal.value.errors) == ["text"]
    question.refresh_from_db()
    assert question.closed_at is None
    assert not Message.objects.filter(kind="answer").exists()


def test_only_operators_give_a_secret_and_by_a_link_only_signed_in() -> None:
    board = make_board(answer_by_link=True)
    bea = member(board)
    question, link = linked(board, bea, **WANTED)
    path = f"/cards/{question.card.key}/messages"
    for role in (Role.VIEWER, Role.MEMBER):
        caller = Caller(make_token(role.name.lower(), {board.pk: role}))
        told = caller.post(path, {"text": VALUE, "answers": question.pk})
        assert told.refusal == (403, "forbidden")
    assert Client().get(link).status_code == 302
    as_member = Client()
    as_member.force_login(bea)
    assert as_member.post(link, {"text": VALUE}).status_code == 403
    assert not keeping.of_board(board.pk).exists()
    operator = Client()
    operator.force_login(member(board, "olga", Role.OPERATOR))
    done = operator.post(link, {"text": VALUE})
    assert (done.status_code, VALUE in done.content.decode()) == (200, False)
    assert keeping.opened(board.pk).values == {"SHOP_KEY": VALUE}


def test_a_step_that_asks_for_a_secret_goes_on_with_its_name() -> None:
    question = asked(**WANTED)
    assert asking.accepted("secret", ["SHOP_KEY"], VALUE) == "SHOP_KEY"
    said = cards.say(question.card_id, "user:bea", VALUE, answers=question.pk)
    assert (said.text, said.detail) == ("SHOP_KEY", "")
