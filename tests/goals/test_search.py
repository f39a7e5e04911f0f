"""Everything is found by its words, by whoever may see it, and nothing that is gone."""

from __future__ import annotations

import pytest
from django.core.management import call_command
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from boards import cards, leases, searching
from boards.models import Card
from checkpoints import steps
from checkpoints.models import Step
from goals import memory
from goals.search import keeping, language, marking
from goals.search.models import Entry, Filled, Pending
from kernel.access import SYSTEM, Principal, Role, Scope
from kernel.errors import Invalid, NotFound
from tests.factories import (
    claimed,
    make_board,
    make_card,
    make_checkpoint,
    make_goal,
    make_step,
)

pytestmark = pytest.mark.django_db


def found(text: str, who: Principal = SYSTEM, **options: object) -> list[tuple[str, str | None]]:
    """Return the kinds and cards of what is found, once everything recorded is."""
    keeping.tick(seconds=30)
    hits = searching.search(who, text, **options).hits  # type: ignore[arg-type]
    return [(hit.entry.kind, hit.card.key if hit.card else None) for hit in hits]


@pytest.fixture
def told():
    """A goal whose every kind of memory has the word walrus, each with one of its own."""
    board = make_board(key="PAY")
    goal = make_goal(board, title="Pay out twice")
    card = make_card(board, goal=goal, title="Walrus card", description="tusk")
    attempt = claimed(card)
    leases.describe(attempt.pk, "walrus trigger")
    make_step(attempt, "walrus/build", result={"output": "line\nwalrus\u00e9 exit", "n": 4711})
    make_checkpoint(attempt, summary="walrus is half way", state={"branch": "feature"})
    cards.say(card.pk, "user:ann", "what about the walrus?")
    memory.decide(
        board.pk, goal.pk, "user:ann", title="walrus queue", rationale="durable", card_id=card.pk
    )
    memory.discover(board.pk, goal.pk, "worker:ada", kind="dead_end", title="walrus locks")
    leases.fail(attempt.pk, "walrus deadlock", lesson="triggers lock too early")
    return board, goal, card


def test_every_kind_is_found_by_its_words_and_in_what_it_belongs_to(told):
    _board, goal, card = told
    kinds = {"card", "attempt", "step", "checkpoint", "message", "decision", "discovery"}
    assert {kind for kind, _ in found("WALRUS*")} == kinds
    for text, kind in (
        ("tusk", "card"),
        ("deadlock lesson*", "attempt"),
        ("4711", "step"),
        ("walrusé", "step"),
        ("feature", "checkpoint"),
        ('"about the walrus"', "message"),
        ("durable", "decision"),
        ("walrus kind:dead_ends", "discovery"),
        ("walrus by:ann kind:message,decision after:1h", "message"),
    ):
        assert kind in [k for k, _ in found(text)], text
    assert found('"walrus the about"') == []
    assert found("walrus after:2999-01-01") == []
    other = make_board()
    assert len(found(f"walrus* goal:{goal.pk}")) == len(kinds)
    assert len(found('walrus* goal:"pay OUT"')) == len(kinds)
    assert len(found(f"walrus* card:{card.key}")) == len(kinds) - 1  # the discovery is the goal's
    assert found(f"walrus* board:{other.key}") == found("walrus* board:NOWHERE") == []
    assert found("walrus* goal:nothing") == []
    with pytest.raises(NotFound):
        found("walrus*", names={"goal": ["01a20631-1b0e-7294-bb90-4069687777d8"]})


def test_a_goal_of_very_many_cards_is_looked_through_whole(told, monkeypatch):
    _, goal, _ = told
    few = found(f"walrus* goal:{goal.pk}")
    monkeypatch.setattr(searching, "CARDS_BY_NAME", 0)
    assert found(f"walrus* goal:{goal.pk}") == few


def test_nobody_finds_what_they_may_not_see(told):
    board, goal, card = told
    other = make_board()
    outsider = Principal("token", "x", "eve", {other.pk: Role.OPERATOR})
    member = Principal("token", "y", "ada", {board.pk: Role.VIEWER})
    agent = Principal(
        "attempt", "z", "ada", {board.pk: Role.MEMBER}, scope=Scope(goal.pk, card.pk, goal.pk)
    )
    beside = make_card(board, goal=goal, title="Walrus beside")
    assert found("walrus*", outsider) == []
    assert found("walrus*", Principal("token", "n", "nobody")) == []
    assert len(found("walrus*", member)) == 8
    assert ("card", beside.key) not in (mine := found("walrus*", agent))
    assert len(mine) == 7
    for text in (f"walrus card:{card.key}", f"walrus goal:{goal.pk}", "walrus goal:pay"):
        assert found(text, outsider) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "*",
        '"',
        '""""',
        "AND OR NOT NEAR(",
        "a:b:c",
        "title : x",
        "{title} : x",
        "-x ^y (z",
        "'; DROP TABLE goals_entry; --",
        "%s %(x)s {where} \\",
        "by: kind: after:",
        "card:' goal:\" board:*",
        "💥 🙂",
        "a" * 400,
        " ".join("abcdefghijklmnopqrstuvwxyz" * 7),
        "<script>alert(1)</script>",
        "e\u0301* \u200b \u202e x",
        "& | ! <-> :* 'x'",
    ],
)
def test_whatever_is_typed_finds_something_or_nothing(told, text):
    assert isinstance(found(text), list)


@pytest.mark.parametrize("text", ["kind:walrus", "after:soon", "after:9999w", "x" * 401, "a\x00"])
def test_what_can_not_be_meant_is_said(told, text):
    try:
        found(text)
    except Invalid as refused:
        assert {"q", "kind", "after"} & refused.errors.keys()
    else:
        assert text == "after:9999w"


def test_what_has_some_of_the_words_is_found_where_nothing_has_all(told):
    results = searching.search(SYSTEM, "walrus nonsense")
    assert results.partly
    assert results.hits
    assert not searching.search(SYSTEM, "walrus queue").partly


def test_titles_come_first_and_pages_neither_repeat_nor_skip(told):
    board, goal, _card = told
    for n in range(30):
        memory.discover(
            board.pk, goal.pk, "worker:ada", kind="fact", title=f"fact {n}", detail="a narwhal"
        )
    memory.decide(board.pk, goal.pk, "user:ann", title="narwhal")
    seen: list[int] = []
    cursor = None
    while True:
        page = searching.search(SYSTEM, "narwhal", limit=7, cursor=cursor)
        assert page.count == 31
        seen += [hit.entry.pk for hit in page.hits]
        memory.discover(board.pk, goal.pk, "worker:ada", kind="fact", title="narwhal narwhal")
        if (cursor := page.following) is None:
            break
    assert Entry.objects.get(pk=seen[0]).kind == "decision"
    assert len(seen) == len(set(seen)) == 31
    for odd in ("x", "bm8", "W10", "WzEsMl0", "é", "W" * 300, "WzEsIjIiLDBd", "Wy0xLDIsMF0"):
        with pytest.raises(Invalid):
            searching.search(SYSTEM, "narwhal", cursor=odd)


def test_what_changes_or_goes_is_found_as_it_is_now(told):
    board, goal, card = told
    cards.edit(card.pk, "user:ann", {"title": "Dugong card"})
    assert ("card", card.key) in found("dugong")
    assert ("card", card.key) not in found("walrus kind:card")
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        memory.decide(board.pk, goal.pk, "user:ann", title="manatee")
        raise ZeroDivisionError
    assert found("manatee") == []
    decision = memory.decide(board.pk, goal.pk, "user:ann", title="manatee")
    decision.delete()
    assert found("manatee") == []
    keeping.tick()
    Card.objects.get(pk=card.pk).delete()
    assert {k for k, _ in found("walrus*")} == {"decision", "discovery"}
    assert not Entry.objects.filter(kind__in=["step", "checkpoint", "attempt", "message"]).exists()


def test_a_step_under_way_costs_nothing_and_is_found_once_it_ended():
    attempt = claimed()
    keeping.tick(seconds=30)  # what flushing the tables of an earlier test left
    steps.begin(attempt.pk, "narwhal")
    assert not Pending.objects.exists()
    with CaptureQueriesContext(connection) as seen:
        steps.finish(attempt.pk, "narwhal", "failed", error="no ice")
    writes = [q for q in seen.captured_queries if not q["sql"].startswith(("SAVE", "RELEASE"))]
    assert len(writes) <= 4
    assert Pending.objects.count() == 1
    assert found("narwhal") == [("step", attempt.card.key)]
    assert not Pending.objects.exists()


def test_what_was_there_before_is_taken_in_slice_by_slice(told, monkeypatch, capsys):
    before = set(Entry.objects.values_list("ref", flat=True)) | {
        f"s{pk}" for pk in Step.objects.values_list("pk", flat=True)
    }
    keeping.tick()
    keeping.drop_triggers()
    Entry.objects.all().delete()
    Filled.objects.all().delete()
    keeping.make_triggers()
    assert Filled.objects.filter(done=False).count() == 7
    monkeypatch.setattr(keeping, "SLICE", 1)
    assert keeping.fill() == 1
    assert Entry.objects.count() == 1
    call_command("search_index", "--continue")
    assert before <= set(Entry.objects.values_list("ref", flat=True))
    assert not Filled.objects.filter(done=False).exists()
    call_command("search_index")
    assert "Done" in capsys.readouterr().out
    assert {kind for kind, _ in found("walrus*")} >= {"card", "step"}


def test_a_definition_that_changed_is_taken_in_anew(told):
    Filled.objects.filter(kind="card").update(definition="older")
    keeping.make_triggers()
    (begun,) = Filled.objects.filter(done=False)
    assert begun.kind == "card"


def test_the_piece_that_is_shown_stands_around_what_was_found():
    text = "lorem " * 100 + "the advisory LOCK was held " + "ipsum " * 100
    piece = marking.marked(text, language.parse('lock* "advisory lock"').terms)
    assert len(piece.text) <= marking.LONGEST + 4
    assert [piece.text[a:b] for a, b in piece.marks] == ["advisory LOCK"]
    assert "".join(part for part, _ in piece.parts) == piece.text
    assert marking.marked("blocked", language.parse("lock").terms).marks == []
    assert marking.marked(text, []).text.startswith("lorem")


def test_long_texts_are_found_by_both_their_ends(told):
    _, _, card = told
    cards.say(card.pk, "user:ann", f"beginning {'x ' * 60_000} ending")
    assert found("beginning") == found("ending") == [("message", card.key)]
    assert len(Entry.objects.get(kind="message", body__contains="ending").body) < 4_100
