"""What a claim leaves to others: cards with steps that this worker can't carry out."""

from __future__ import annotations

from typing import Any

import pytest

from boards import choice, leases, needs
from boards.models import Card
from boards.openings import Want
from kernel.errors import Invalid, NotClaimable
from tests.factories import make_board, make_card

pytestmark = pytest.mark.django_db

RUN = {"steps": [{"key": "a", "run": "make llm"}]}
MODEL = {"steps": [{"key": "a", "run": "true"}, {"key": "b", "llm": {"model": "openai:x"}}]}
CODEX = {"steps": [{"key": "a", "agent": {"cli": "codex", "prompt": "claude"}}]}
FLOW = {"python": "release"}


@pytest.mark.parametrize(
    ("words", "left"),
    [
        ((), [RUN, MODEL, CODEX, FLOW]),
        (("llm",), [RUN, CODEX, FLOW]),
        (("llm.model=openai:x",), [RUN, CODEX, FLOW]),
        (("llm.model=openai:y", "agent.cli=claude"), [RUN, MODEL, CODEX, FLOW]),
        (("agent.cli=codex", "python.workflow=release"), [RUN, MODEL]),
        (("run", "agent"), [FLOW]),
        (("agent.cli=co'd\"ex",), [RUN, MODEL, CODEX, FLOW]),
    ],
)
def test_cards_with_steps_that_are_lacking_are_left(
    words: tuple[str, ...], left: list[Any]
) -> None:
    board = make_board()
    flows = [RUN, MODEL, CODEX, FLOW]
    keys = {make_card(board, title=str(n)).pk: flow for n, flow in enumerate(flows)}
    for pk, flow in keys.items():
        Card.objects.filter(pk=pk).update(workflow=flow)
    found = Card.objects.filter(board=board).without_steps(words)
    assert [keys[pk] for pk in found.order_by("number").values_list("pk", flat=True)] == left
    assert [flow for flow in flows if not needs.among(flow, words)] == left
    elsewhere = Card.objects.filter(board=board).without_steps(words, [make_board().pk])
    assert elsewhere.count() == len(flows)


def test_a_claim_passes_over_what_the_worker_lacks() -> None:
    board = make_board()
    first, second = make_card(board, workflow=None), make_card(board, workflow=RUN)
    Card.objects.filter(pk=first.pk).update(workflow=MODEL)
    lacks = (choice.Lack(frozenset(["llm"])),)
    with pytest.raises(NotClaimable, match="can't carry out: llm"):
        leases.claim("ada", card_id=first.pk, lacks=lacks)
    claimed = leases.claim("ada", lacks=lacks)
    assert claimed is not None
    assert claimed.card_id == second.pk
    assert leases.claim("ada", lacks=lacks) is None
    want = Want(lacks=frozenset(["llm"]))
    assert Want.look({want: 1}) == {}
    assert Want.look({Want(): 1}) == {Want(): [first.pk]}


@pytest.mark.parametrize("word", ["", "l l m", "agent.cli", "agent.cli=", ".x=1"])
def test_what_is_no_such_word_is_refused(word: str) -> None:
    with pytest.raises(Invalid) as refusal:
        needs.checked([word], "lacks")
    assert "agent.cli=codex" in str(refusal.value.errors["lacks"])
