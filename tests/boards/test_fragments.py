"""What is made once for many pages is never stale, and never somebody else's."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest
from django.test import Client
from django.utils import translation

from boards import cards, fragments, selectors
from boards.models import Column, Membership
from boards.wanted import Wanted
from checkpoints import steps
from events import log
from kernel.access import Role
from tests.factories import claimed, column_of, make_board, make_card, make_user

ANN = "user:ann"
WRITER, READER = {"may_write": True}, {"may_write": False}

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def nothing_kept() -> None:
    fragments._cards.clear()


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The cards that were drawn rather than taken from what is kept."""
    really, found = fragments.render_to_string, list[Any]()

    def draw(name: str, context: dict[str, Any]) -> str:
        found.append(context["face"].card.pk)
        return str(really(name, context))

    monkeypatch.setattr(fragments, "render_to_string", draw)
    return found


def face_of(card: Any, wanted: Wanted | None = None) -> selectors.Face:
    board = card.board
    (face,) = selectors.some(board, [card.pk], wanted or Wanted(), selectors.pulse_of(board))
    return face


class TestCards:
    def test_an_unchanged_card_is_drawn_once(self, drawn: list[Any]) -> None:
        card = make_card(title="Once")
        pages = {fragments.card(face_of(card), WRITER) for _ in range(5)}
        assert len(pages) == len(drawn) == 1
        assert "Once" in pages.pop()

    @pytest.mark.parametrize(
        "change",
        [
            lambda card: cards.edit(card.pk, ANN, {"title": "Another"}),
            lambda card: cards.edit(card.pk, ANN, {"priority": 0}),
            lambda card: cards.edit(card.pk, ANN, {"labels": ["new"]}),
            lambda card: cards.pause(card.pk, ANN),
            lambda card: claimed(card),
            lambda card: cards.move(card.pk, ANN, column_of(card.board, Column.Kind.REVIEW).pk),
        ],
    )
    def test_every_change_is_seen(self, drawn: list[Any], change: Any) -> None:
        card = make_card()
        before = fragments.card(face_of(card), WRITER)
        change(card)
        assert fragments.card(face_of(card), WRITER) != before
        assert len(drawn) == 2

    def test_what_only_the_attempt_says_is_seen_though_the_card_has_its_old_version(self) -> None:
        card = make_card()
        attempt = claimed(card)
        before, version = fragments.card(face_of(card), WRITER), face_of(card).card.version
        steps.record(attempt.pk, "one", "succeeded", checkpoint={"summary": "So far"})
        assert face_of(card).card.version == version
        assert fragments.card(face_of(card), WRITER) != before

    def test_who_may_only_look_gets_no_buttons(self) -> None:
        card = make_card()
        assert "data-menu" in fragments.card(face_of(card), WRITER)
        assert "data-menu" not in fragments.card(face_of(card), READER)
        assert "data-menu" in fragments.card(face_of(card), WRITER)

    def test_each_language_has_its_own(self, drawn: list[Any]) -> None:
        card = make_card()
        for language in ("en", "de", "en", "de"):
            with translation.override(language):
                fragments.card(face_of(card), WRITER)
        assert len(drawn) == 2

    def test_cards_alike_in_all_but_their_key_are_not_mixed_up(self) -> None:
        board = make_board()
        one, two = (make_card(board, title="The same") for _ in range(2))
        assert one.key in fragments.card(face_of(one), WRITER)
        assert two.key in fragments.card(face_of(two), WRITER)

    def test_nothing_of_who_asks_gets_into_it(self) -> None:
        """Two people's pages get the same fragment, from a context without a request."""
        board, pages = make_board(), []
        card = make_card(board)
        for name in ("ann", "bob"):
            user, client = make_user(name), Client()
            Membership.objects.create(board=board, user=user, role=Role.MEMBER)
            client.force_login(user)
            told = client.get(f"/boards/{board.key}/changes?ids={card.pk}").json()
            pages.append(told["cards"][0]["html"])
        assert pages[0] == pages[1]
        stranger = Client()
        stranger.force_login(make_user("eve"))
        assert stranger.get(f"/boards/{board.key}/changes?ids={card.pk}").status_code == 404

    def test_it_keeps_so_many_and_no_more(self) -> None:
        kept: fragments.Recent[int] = fragments.Recent(3, 60)
        for n in range(5):
            kept.put(n, n, 10.0**9)
        assert [kept.get(n) for n in range(5)] == [None, None, 2, 3, 4]


class TestShared:
    def test_an_answer_serves_all_who_have_seen_no_more(self) -> None:
        shared: fragments.Shared[str] = fragments.Shared()
        made = iter(["first", "second"])
        ask = lambda at, newest: shared.get("x", at, lambda: newest, lambda: next(made))  # noqa: E731
        assert ask(7, 9) == "first"
        assert ask(9, 9) == "first"
        assert ask(8, 12) == "first"
        assert ask(10, 12) == "second"

    def test_without_a_number_it_is_always_made(self) -> None:
        shared: fragments.Shared[int] = fragments.Shared()
        made = iter(range(9))
        assert [shared.get("x", None, lambda: 5, lambda: next(made)) for _ in range(3)] == [0, 1, 2]

    def test_it_is_soon_forgotten(self, monkeypatch: pytest.MonkeyPatch) -> None:
        now = [100.0]
        monkeypatch.setattr(fragments, "time", SimpleNamespace(monotonic=lambda: now[0]))
        shared: fragments.Shared[int] = fragments.Shared()
        made = iter(range(9))
        assert shared.get("x", 1, lambda: 5, lambda: next(made)) == 0
        now[0] += fragments.ANSWER_SECONDS - 0.1
        assert shared.get("x", 1, lambda: 5, lambda: next(made)) == 0
        now[0] += 0.2
        assert shared.get("x", 1, lambda: 5, lambda: next(made)) == 1

    def test_one_makes_it_while_the_others_wait(self) -> None:
        shared: fragments.Shared[int] = fragments.Shared()
        begun, go, made = threading.Event(), threading.Event(), list[int]()

        def make() -> int:
            made.append(1)
            begun.set()
            assert go.wait(60)
            return len(made)

        got: list[int] = []
        asking = [
            threading.Thread(target=lambda: got.append(shared.get("x", 3, lambda: 3, make)))
            for _ in range(8)
        ]
        for thread in asking:
            thread.start()
        assert begun.wait(60)
        go.set()
        for thread in asking:
            thread.join(60)
        assert got == [1] * 8
        assert not shared._making

    def test_one_that_fails_leaves_the_next_to_make_it(self) -> None:
        shared: fragments.Shared[int] = fragments.Shared()
        with pytest.raises(ZeroDivisionError):
            shared.get("x", 1, lambda: 1, lambda: 1 // 0)
        assert shared.get("x", 1, lambda: 1, lambda: 4) == 4

    def test_counts_are_as_new_as_the_page_has_seen(self) -> None:
        board, client = make_board(), Client()
        client.force_login(make_user(is_superuser=True))
        card = make_card(board, kind="backlog")
        path = f"/boards/{board.key}/changes?at="

        def counts() -> Any:
            return client.get(f"{path}{log.last_seq(board.pk)}").json()["counts"]

        assert counts() == {str(card.column_id): 1}
        review = column_of(board, Column.Kind.REVIEW)
        cards.move(card.pk, ANN, review.pk)
        assert counts() == {str(review.pk): 1}

    def test_filters_and_boards_are_kept_apart(self) -> None:
        client = Client()
        client.force_login(make_user(is_superuser=True))
        one, two = make_board(), make_board()
        make_card(one, kind="review")
        make_card(two, kind="backlog")

        def total(board: Any, query: str = "") -> int:
            told = client.get(f"/boards/{board.key}/changes?at=0{query}").json()
            return sum(told["counts"].values())

        assert (total(one), total(two)) == (1, 1)
        assert (total(one, "&show=running"), total(one)) == (0, 1)

    @pytest.mark.parametrize("at", ["x", "-1", "1" * 40, "", "٣"])
    def test_nonsense_is_no_number(self, at: str) -> None:
        client, board = Client(), make_board()
        client.force_login(make_user(is_superuser=True))
        assert client.get(f"/boards/{board.key}/changes?at={at}").status_code == 200

    def test_what_many_pages_ask_for_is_read_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fragments, "time", SimpleNamespace(monotonic=lambda: 100.0))
        board = make_board()
        card, asked = make_card(board, kind="backlog", title="One"), list[Any]()
        really = selectors.some
        monkeypatch.setattr(selectors, "some", lambda *given: asked.append(given) or really(*given))
        people = []
        for name, role in (("ann", Role.MEMBER), ("bob", Role.MEMBER), ("eve", Role.VIEWER)):
            user, client = make_user(name), Client()
            Membership.objects.create(board=board, user=user, role=role)
            client.force_login(user)
            people.append(client)

        def shown(client: Client, at: int | str) -> str:
            told = client.get(f"/boards/{board.key}/changes?ids={card.pk}&at={at}").json()
            return str(told["cards"][0]["html"])

        ann, bob, eve = people
        seen = log.last_seq(board.pk)
        assert shown(ann, seen) == shown(bob, seen)
        assert len(asked) == 1
        assert "data-menu" not in shown(eve, seen)
        assert len(asked) == 2
        cards.edit(card.pk, ANN, {"title": "Another"})
        assert "Another" in shown(bob, log.last_seq(board.pk))
        assert "Another" in shown(ann, "")
        assert len(asked) == 4

    def test_tapes_are_as_new_as_the_page_has_seen_and_end_with_the_newest(self) -> None:
        attempt, client = claimed(), Client()
        board = attempt.card.board
        client.force_login(make_user(is_superuser=True))

        def tape() -> Any:
            path = f"/boards/{board.key}/tapes?at={log.last_seq(board.pk)}"
            return client.get(path).json()["cards"][str(attempt.card_id)]

        for n in range(30):
            steps.record(attempt.pk, f"step-{n}", "succeeded", title=f"Step {n}")
        assert tape()["now"] == "Step 29"
        assert len(tape()["tape"]) == 24
        steps.record(attempt.pk, "last", "failed", title="The last", error="no")
        assert (tape()["now"], tape()["tape"][-1]) == ("The last", "f")
