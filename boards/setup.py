"""Templates of boards: what a new one has in it on its first day."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from boards import cards
from boards.models import Board, Card, Column
from goals import memory
from kernel.access import Principal
from kernel.errors import Invalid
from kernel.tx import transition

Words = str | Promise
Kind = Column.Kind


@dataclass(frozen=True)
class Example:
    """A card to begin with; ``after`` counts the cards of the template from 0.

    ``run`` are commands that built-in workers carry out where the board allows any.
    """

    title: Words
    description: Words = ""
    labels: tuple[str, ...] = ()
    priority: int = 3
    kind: Kind = Kind.BACKLOG
    after: tuple[int, ...] = ()
    run: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Template:
    """The columns, the goal and the first cards of a kind of work."""

    name: str
    title: Words
    summary: Words
    columns: tuple[tuple[Words, Kind, int | None], ...]
    goal: Words = ""
    intent: Words = ""
    criteria: tuple[Words, ...] = ()
    cards: tuple[Example, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)

    @property
    def column_names(self) -> list[Words]:
        """The columns from left to right, to be shown."""
        return [name for name, *_ in self.columns]


def make_board(principal: Principal, template: str, **fields: Any) -> Board:
    """Return a new board with what its template has; columns that are named replace its own.

    Raises Invalid naming ``key`` when it is taken and ``template`` when there is none such.
    """
    chosen = TEMPLATES.get(template)
    if chosen is None:
        raise Invalid.field("template", f"is none of {', '.join(TEMPLATES)}.")
    with transition():
        fields["columns"] = fields.get("columns") or [
            {"name": str(name), "kind": kind, "wip_limit": limit}
            for name, kind, limit in chosen.columns
        ]
        fields["defaults"] = {**chosen.defaults, **(fields.get("defaults") or {})}
        board = cards.create_board(principal, **fields)
        _fill(board, chosen, principal.actor)
    return board


def _fill(board: Board, template: Template, actor: str) -> None:
    goal = None
    if template.goal:
        goal = memory.create(
            board.pk,
            actor,
            title=str(template.goal),
            intent=str(template.intent),
            criteria=[{"text": str(text)} for text in template.criteria],
        )
    made: list[Card] = []
    columns = {column.kind: column for column in reversed(board.columns.order_by("position"))}
    for example in template.cards:
        more: dict[str, Any] = {}
        if board.allow_commands and example.run:
            steps = [{"key": key, "run": command} for key, command in example.run]
            more["workflow"] = {"steps": steps}
        made.append(
            cards.create(
                board,
                actor,
                title=str(example.title),
                description=str(example.description),
                labels=list(example.labels),
                priority=example.priority,
                column=columns[example.kind],
                depends_on=[made[n] for n in example.after],
                goal=goal,
                **more,
            )
        )


def _columns(
    names: tuple[Words, Words, Words, Words, Words], wip: int = 3, review: int = 5
) -> tuple[tuple[Words, Kind, int | None], ...]:
    limits = (None, wip, None, review, None)
    return tuple(zip(names, Kind, limits, strict=True))


_USUAL = (_("Backlog"), _("In progress"), _("Blocked"), _("Review"), _("Completed"))

TEMPLATES = {
    template.name: template
    for template in (
        Template(
            "software",
            _("Software project"),
            _("Features and fixes through review, a goal that says when it is done."),
            _columns(_USUAL),
            _("Ship the first version"),
            _("Somebody else can install it and do the one thing it is for."),
            (
                _("The tests pass on a clean checkout"),
                _("The README gets a newcomer to a first result in five minutes"),
            ),
            (
                Example(
                    _("Write down what the first version does, and what it does not"),
                    _(
                        "One page:\n\n- [ ] who it is for\n- [ ] the one thing it does\n"
                        "- [ ] what waits for later"
                    ),
                    ("plan",),
                    1,
                ),
                Example(
                    _("Set up tests that run with one command"),
                    _("The command goes into the README; the board's workers use it, too."),
                    ("test",),
                    1,
                    run=(
                        ("look", "git status --short && ls"),
                        ("test", "python -m pytest -q || true"),
                    ),
                ),
                Example(
                    _("Build the first feature end to end"),
                    _("Thin, but whole: from what somebody types to what they get."),
                    ("feature",),
                    2,
                    after=(0, 1),
                ),
                Example(_("Write the README"), "", ("docs",), 3, after=(2,)),
            ),
            {"review_required": True},
        ),
        Template(
            "bugs",
            _("Bug hunt"),
            _("Reports are reproduced first, fixed second, and each fix brings a test."),
            _columns(
                (_("Reported"), _("Fixing"), _("Needs information"), _("Verifying"), _("Fixed")),
                wip=2,
            ),
            _("No known crash is left"),
            _("Whoever reported something can see that it no longer happens."),
            (_("Every fix has a test that failed before"), _("No open report is urgent")),
            (
                Example(
                    _("Example: crash when the list is empty"),
                    _(
                        "**Steps**\n1. Open the list\n2. Remove the last entry\n\n"
                        "**Expected**: an empty list\n**Seen**: a crash\n\n"
                        "- [ ] a failing test\n- [ ] the fix\n- [ ] the test passes"
                    ),
                    ("crash",),
                    0,
                ),
                Example(_("Sort the open reports by how many people they hit"), "", ("triage",), 1),
                Example(
                    _("Find tests that sometimes fail"),
                    _("Run the tests ten times; each that fails once becomes a card."),
                    ("flaky",),
                    2,
                    run=(("runs", "for n in 1 2 3; do python -m pytest -q || true; done"),),
                ),
            ),
            {"review_required": True, "max_attempts": 3},
        ),
        Template(
            "research",
            _("Research"),
            _("Questions, sources and findings; what was learned is kept for the next worker."),
            _columns(
                (
                    _("Questions"),
                    _("Looking into it"),
                    _("Stuck"),
                    _("To be checked"),
                    _("Answered"),
                )
            ),
            _("Answer the question"),
            _("A recommendation with the evidence for and against it."),
            (_("Every claim names its source"), _("What could not be found out is said")),
            (
                Example(_("Write the question in one sentence"), "", ("plan",), 1),
                Example(
                    _("Collect ten sources and judge each in a line"),
                    "",
                    ("sources",),
                    2,
                    after=(0,),
                ),
                Example(
                    _("Compare the three best answers"),
                    _("A table: what speaks for it, what against, what it costs."),
                    ("compare",),
                    2,
                    after=(1,),
                ),
                Example(_("Write the recommendation"), "", ("report",), 1, after=(2,)),
            ),
        ),
        Template(
            "content",
            _("Content"),
            _("From idea over draft to published, with an editor's eye before it goes out."),
            _columns(
                (_("Ideas"), _("Drafting"), _("Waiting"), _("Editing"), _("Published")),
                wip=3,
                review=3,
            ),
            _("Publish the first four pieces"),
            _("Readers come back for the fifth."),
            (_("Four pieces are out"), _("Each was read by somebody other than its author")),
            (
                Example(
                    _("Say who reads this and why"),
                    _("Three sentences that every draft is held against."),
                    ("plan",),
                    1,
                ),
                Example(_("List twenty ideas and keep four"), "", ("ideas",), 2, after=(0,)),
                Example(_("Draft the first piece"), "", ("draft",), 2, after=(1,)),
            ),
            {"review_required": True},
        ),
        Template(
            "empty",
            _("Empty"),
            _("Five columns and nothing in them."),
            _columns(_USUAL, wip=5),
        ),
    )
}
