"""Workflow templates: workflows that a board keeps under a name, with what they ask for.

A card that is made from one gets a copy: what the template becomes later changes no card.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.db.models import QuerySet

from boards import documents, inputs, workflows
from boards.inputs import Input
from boards.models import Board, WorkflowTemplate
from events import log
from kernel.access import hidden
from kernel.errors import Invalid, Stale, TransitionRefused
from kernel.sql import insert_or_skip
from kernel.tx import transition

MAX_TEMPLATES = 100


def of_board(board: Board) -> QuerySet[WorkflowTemplate]:
    """The board's templates by name."""
    return WorkflowTemplate.objects.filter(board=board).order_by("name", "id")


def find(board: Board, name: str) -> WorkflowTemplate:
    """Return the board's template of that id or name. Raises NotFound."""
    try:
        found = of_board(board).filter(pk=UUID(name)).first()
    except ValueError:
        found = of_board(board).filter(name=name).first()
    if found is None:
        raise hidden("template")
    return found


def asked(template: WorkflowTemplate) -> tuple[Input, ...]:
    """Return what the template asks of whoever makes a card from it."""
    # In the order in which they are written: PostgreSQL's JSON keeps none.
    return workflows.parse(template.source).inputs


def make(
    board: Board, actor: str, *, name: str, source: str, description: str = ""
) -> WorkflowTemplate:
    """Return the new template. Raises Invalid naming the place in ``source`` that can't work."""
    workflow = _read(source)
    with transition():
        if of_board(board).count() >= MAX_TEMPLATES:
            raise TransitionRefused(f"The board has {MAX_TEMPLATES} templates; delete one first.")
        template = WorkflowTemplate(
            board=board,
            name=_named(name),
            description=description,
            source=source,
            workflow=workflow,
        )
        if not insert_or_skip(template):
            raise _taken()
        _note(template, "template.saved", actor)
    return template


def edit(
    template_id: UUID,
    actor: str,
    changes: Mapping[str, Any],
    *,
    expected_version: int | None = None,
) -> WorkflowTemplate:
    """Return the template with ``changes`` made. Raises Invalid, and Stale on an old version."""
    changes = dict(changes)
    if "source" in changes:
        changes["workflow"] = _read(changes["source"])
    with transition():
        template = WorkflowTemplate.objects.select_for_update(no_key=True).get(pk=template_id)
        if expected_version is not None and template.version != expected_version:
            raise Stale(f"The template is at version {template.version}; load it again.")
        if "name" in changes:
            changes["name"] = _named(changes["name"])
            twins = WorkflowTemplate.objects.filter(
                board_id=template.board_id, name=changes["name"]
            )
            if twins.exclude(pk=template_id).exists():
                raise _taken()
        for name, value in changes.items():
            setattr(template, name, value)
        template.version += 1
        template.save(update_fields=[*changes, "version", "updated_at"])
        _note(template, "template.saved", actor)
    return template


def delete(template: WorkflowTemplate, actor: str) -> None:
    """Forget the template; cards that were made from it keep their workflow."""
    with transition():
        _note(template, "template.deleted", actor)
        WorkflowTemplate.objects.filter(pk=template.pk).delete()


def filled(template: WorkflowTemplate, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the workflow and inputs of a card made from the template. Raises Invalid."""
    return {
        "workflow": template.workflow,
        "inputs": inputs.checked(asked(template), given or {}),
    }


def _read(source: str) -> dict[str, Any]:
    try:
        return workflows.canonical(workflows.parse(source))
    except Invalid as refusal:
        lines = documents.lines(source)
        raise Invalid(
            refusal.detail,
            errors={
                f"source.{place}": [_at_line(lines, place, sentence) for sentence in sentences]
                for place, sentences in refusal.errors.items()
            },
        ) from None


def _at_line(lines: Mapping[str, int], place: str, sentence: str) -> str:
    while place and place not in lines:
        place = place.rpartition("[" if place.endswith("]") else ".")[0]
    return f"{sentence} (line {lines[place]})" if place else sentence


def _named(name: str) -> str:
    if not name.strip():
        raise Invalid.field("name", "is needed.")
    return name.strip()


def _taken() -> Invalid:
    return Invalid.field("name", "is taken by another template of this board.")


def _note(template: WorkflowTemplate, kind: str, actor: str) -> None:
    log.record(
        kind,
        board_id=template.board_id,
        subject_id=template.pk,
        actor=actor,
        template=template.name,
        version=template.version,
    )
