"""Notices by e-mail, against a server that speaks SMTP."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import time_machine
from django.test import Client
from django.utils import timezone

from boards import cards, leases
from boards.models import Board, Card, Membership
from boards.notices import clock, letters, raising, rules
from boards.notices.models import Letter
from kernel.access import Role
from tests.boards.mailbox import Mailbox, mailbox
from tests.factories import claimed, make_board, make_card, make_user

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture
def box(settings: Any, db: None) -> Iterator[Mailbox]:
    with mailbox() as found:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_URL = f"smtp://127.0.0.1:{found.port}"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", found.port
        settings.DEFAULT_FROM_EMAIL = "Holdfast <board@example.org>"
        settings.BASE_URL = "https://board.example.org"
        yield found


@pytest.fixture
def board(db: None) -> Board:
    return make_board(key="PAY", name="Payments")


@pytest.fixture
def bea(board: Board) -> Any:
    user = make_user("bea", email="bea@example.net")
    Membership.objects.create(board=board, user=user, role=Role.MEMBER)
    rules.change(user, {"kinds": {kind: ["email"] for kind in ("question", "review", "mention")}})
    return user


def asked(board: Board, question: str = "Which way?", title: str = "Write the parser") -> Card:
    card = make_card(board, title=title)
    leases.block(claimed(card).pk, "unsure", question=question)
    return card


def test_a_question_comes_as_a_letter_with_links_and_a_way_out(
    box: Mailbox, board: Board, bea: Any
) -> None:
    card = asked(board, "Is <b>5 < 6</b> & so?", title="Über\nall <script>")
    raising.tick()
    assert letters.deliver() == 1
    assert letters.deliver() == 0
    (letter,) = box.letters
    assert letter["To"] == "bea@example.net"
    assert letter["From"] == "Holdfast <board@example.org>"
    assert letter["Subject"].strip() == f"[PAY] {card.key} asks a question: Über all <script>"
    assert letter["References"] == f"<{card.pk.hex}.card@example.org>"
    assert letter["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    plain = letter.get_body(("plain",))
    html = letter.get_body(("html",))
    assert plain is not None
    assert html is not None
    assert "Is <b>5 < 6</b> & so?" in plain.get_content()
    assert f"https://board.example.org/cards/{card.key}" in plain.get_content()
    assert "Is &lt;b&gt;5 &lt; 6&lt;/b&gt; &amp; so?" in html.get_content()
    assert "<script>" not in html.get_content()


def test_letters_of_one_card_are_one_thread(box: Mailbox, board: Board, bea: Any) -> None:
    card = asked(board)
    cards.say(card.pk, "user:ann", "@bea what now?")
    raising.tick()
    letters.deliver()
    threads = {letter["References"] for letter in box.letters}
    assert len(box.letters) == 2
    assert len(threads) == 1
    assert len({letter["Message-ID"] for letter in box.letters}) == 2


def test_what_was_answered_before_it_left_does_not_leave(
    box: Mailbox, board: Board, bea: Any
) -> None:
    card = asked(board)
    raising.tick()
    cards.say(card.pk, "user:ann", "Left", answers=card.messages.get().pk)
    assert letters.deliver() == 0
    assert box.letters == []
    assert Letter.objects.get().state == "dropped"


def test_who_left_the_board_gets_no_letter(box: Mailbox, board: Board, bea: Any) -> None:
    asked(board)
    raising.tick()
    Membership.objects.filter(user=bea).delete()
    letters.deliver()
    assert box.letters == []


def test_quiet_hours_hold_letters_back_and_send_them_as_one(
    box: Mailbox, board: Board, bea: Any
) -> None:
    rules.change(bea, {"quiet_from": time(22), "quiet_to": time(7), "time_zone": "Europe/Berlin"})
    with time_machine.travel("2026-01-10T23:00:00Z", tick=False) as moment:
        for _ in range(3):
            asked(board)
        raising.tick()
        assert letters.deliver() == 0
        moment.move_to("2026-01-11T06:00:01Z")
        assert letters.deliver() == 1
    (letter,) = box.letters
    assert letter["Subject"] == "3 things need you"
    body = letter.get_body(("plain",))
    assert body is not None
    assert body.get_content().count("/cards/PAY-") == 3
    assert Letter.objects.filter(state="sent").count() == 3


def test_a_daily_digest_leaves_at_its_time(box: Mailbox, board: Board, bea: Any) -> None:
    rules.change(
        bea, {"digest": "daily", "digest_at": time(8, 30), "time_zone": "America/New_York"}
    )
    with time_machine.travel("2026-06-10T20:00:00Z", tick=False) as moment:
        asked(board)
        asked(board)
        raising.tick()
        moment.move_to("2026-06-11T12:29:00Z")
        assert letters.deliver() == 0
        moment.move_to("2026-06-11T12:30:00Z")
        assert letters.deliver() == 1
    assert len(box.letters) == 1


def test_a_server_that_is_busy_is_tried_again_later_and_one_that_refuses_is_not(
    box: Mailbox, board: Board, bea: Any
) -> None:
    box.rcpt = "451 later"
    asked(board)
    raising.tick()
    with time_machine.travel(timezone.now(), tick=False) as moment:
        assert letters.deliver() == 0
        letter = Letter.objects.get()
        assert (letter.state, letter.tries) == ("waiting", 1)
        assert "later" in letter.error
        assert letters.deliver() == 0
        moment.shift(60)
        box.rcpt = "250 ok"
        assert letters.deliver() == 1
        box.rcpt = "550 nobody here"
        asked(board)
        raising.tick()
        letters.deliver()
        assert Letter.objects.filter(state="failed").count() == 1


def test_a_server_that_is_away_is_given_up_visibly(
    box: Mailbox, board: Board, bea: Any, settings: Any
) -> None:
    settings.EMAIL_PORT = 1
    asked(board)
    raising.tick()
    with time_machine.travel(timezone.now(), tick=False) as moment:
        for _ in range(letters.MAX_TRIES):
            letters.deliver()
            moment.shift(2 * letters.LONGEST_PAUSE_SECONDS)
    assert Letter.objects.get().state == "failed"
    client = Client()
    client.force_login(bea)
    shown = client.get("/inbox/settings").content.decode()
    assert "The last letter could not be sent" in shown


def test_a_letter_whose_sender_was_killed_leaves_after_its_lease_under_the_same_id(
    box: Mailbox, board: Board, bea: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked(board)
    raising.tick()

    class Killed(BaseException):
        pass

    send = letters.EmailMultiAlternatives.send

    def sent_and_killed(self: Any, *args: Any) -> None:
        send(self, *args)
        raise Killed

    with time_machine.travel(timezone.now(), tick=False) as moment:
        with monkeypatch.context() as patch:
            patch.setattr(letters.EmailMultiAlternatives, "send", sent_and_killed)
            with pytest.raises(Killed):
                letters.deliver()
        assert letters.deliver() == 0
        moment.shift(letters.LEASE_SECONDS + 1)
        assert letters.deliver() == 1
    first, second = box.letters
    assert first["Message-ID"] == second["Message-ID"]


def test_the_link_in_a_letter_stops_e_mail_without_signing_in(
    box: Mailbox, board: Board, bea: Any
) -> None:
    asked(board)
    raising.tick()
    letters.deliver()
    link = box.letters[0]["List-Unsubscribe"].strip(" <>").removeprefix("https://board.example.org")
    client = Client(enforce_csrf_checks=True)
    assert client.get(link).status_code == 200
    assert "email" in rules.channels(rules.of(bea), "question")  # looking changes nothing
    assert client.post(link, {"List-Unsubscribe": "One-Click"}).status_code == 200
    assert "email" not in rules.channels(rules.of(bea), "question")
    assert client.post(f"{link}x").status_code == 404


def test_without_a_server_nothing_is_tried(board: Board, bea: Any, settings: Any) -> None:
    settings.EMAIL_URL = ""
    asked(board)
    raising.tick()
    assert letters.deliver() == 0
    assert Letter.objects.get().state == "waiting"


def test_no_secret_is_in_a_letter(box: Mailbox, board: Board, bea: Any, settings: Any) -> None:
    asked(board)
    raising.tick()
    letters.deliver()
    assert settings.SECRET_KEY not in box.letters[0].as_string()
    assert "hfl_" not in box.letters[0].as_string()


# ── the wall clock ───────────────────────────────────────────────────────────────────────


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("after", "wall", "moment"),
    [
        ("2026-01-10T23:00", time(7), "2026-01-11T06:00"),
        ("2026-07-10T23:00", time(7), "2026-07-11T05:00"),
        # 29 March 2026: 02:00 becomes 03:00 at 01:00 UTC.
        ("2026-03-28T23:00", time(7), "2026-03-29T05:00"),
        ("2026-03-28T23:00", time(2, 30), "2026-03-29T01:00"),
        ("2026-03-28T23:00", time(3), "2026-03-29T01:00"),
        # 25 October 2026: 03:00 becomes 02:00 at 01:00 UTC; 02:30 comes twice.
        ("2026-10-24T23:00", time(7), "2026-10-25T06:00"),
        ("2026-10-24T23:00", time(2, 30), "2026-10-25T00:30"),
        ("2026-10-25T00:30", time(2, 30), "2026-10-25T01:30"),
        ("2026-10-25T01:30", time(2, 30), "2026-10-26T01:30"),
    ],
)
def test_the_end_of_quiet_hours_is_where_the_wall_clock_says(
    after: str, wall: time, moment: str
) -> None:
    assert clock.next_at(at(after), wall, BERLIN) == at(moment)


@pytest.mark.parametrize("day", ["2026-03-28", "2026-10-24", "2026-06-01"])
@pytest.mark.parametrize("end", [time(2, 30), time(3), time(7)])
def test_what_is_held_back_leaves_as_soon_as_it_is_no_longer_quiet(day: str, end: time) -> None:
    start = time(22)
    moment = at(f"{day}T18:00")
    for _ in range(24 * 6):
        moment += timedelta(minutes=10)
        if clock.is_between(moment, start, end, BERLIN):
            leaves = clock.next_at(moment, end, BERLIN)
            assert not clock.is_between(leaves, start, end, BERLIN)
            assert clock.is_between(leaves - timedelta(minutes=1), start, end, BERLIN)
