"""What ``search_history`` finds: one card's history in order, or anything by its words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import Q, TextField
from django.db.models.functions import Cast

from boards import searching
from boards.models import Attempt, Card, Message
from checkpoints.models import Checkpoint, Step
from goals.models import Decision, Discovery
from kernel.access import Principal
from kernel.digests import canonical
from kernel.errors import Invalid

KINDS = ["steps", "checkpoints", "attempts", "messages", "decisions", "discoveries"]
SNIPPET_CHARS = 300

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

Shape = Callable[[Any], dict[str, Any]]


def searched(principal: Principal, args: Mapping[str, Any]) -> dict[str, Any]:
    """Return what has the words, best first."""
    names = {name: [args[name]] for name in ("board", "goal", "card") if args.get(name)}
    if not names and not args.get("query"):
        raise Invalid.field("query", "say what to look for, or name a card, goal or board.")
    found = searching.search(
        principal,
        args.get("query") or "",
        names=names,
        kinds=[args["what"]] if args.get("what") else [],
        limit=args.get("limit") or 20,
        cursor=args.get("cursor") or None,
    )
    out: dict[str, Any] = {"results": [_hit(hit) for hit in found.hits]}
    if found.following:
        out["next"] = found.following
    if found.partly:
        out["note"] = "Nothing has all of these words; these have some of them."
    return out


def _hit(hit: searching.Hit) -> dict[str, Any]:
    entry = hit.entry
    return {
        "kind": entry.kind,
        "card": hit.card.key if hit.card else None,
        "number": entry.number,
        "id": searching.id_of(entry),
        "title": hit.title.text,
        "text": hit.piece.text,
        "actor": entry.actor,
        "at": entry.at,
    }


def listed(
    card: Card, what: str, query: str | None, before: int | None, limit: int
) -> dict[str, Any]:
    """Return one kind of the card's history, newest first."""
    rows, order, fields, represent = _history(card, what)
    if query:
        rows = rows.annotate(**{f"{f}_text": Cast(f, TextField()) for f in fields})
        match = Q()
        for name in fields:
            match |= Q(**{f"{name}_text__icontains": query})
        rows = rows.filter(match)
    if before:
        rows = rows.filter(**{f"{order}__lt": _place(order, before)})
    found = list(rows.order_by(f"-{order}")[: limit + 1])
    more = len(found) > limit
    found = found[:limit]
    out: dict[str, Any] = {"results": [represent(row) for row in found]}
    if more:
        last = getattr(found[-1], order)
        out["next"] = (last - EPOCH) // MICROSECOND if order == "at" else last
    return out


def _place(order: str, before: int) -> Any:
    """Return the value of the order's field that ``next`` stood for. Raises Invalid."""
    if order != "at":
        return before
    try:
        return EPOCH + before * MICROSECOND
    except OverflowError:
        raise Invalid.field("before", "must be `next` of the last call.") from None


def _history(card: Card, what: str) -> tuple[Any, str, list[str], Shape]:
    """Return the rows of one kind of history: queryset, order field, searched fields, shape."""
    memory = Q(goal_id=card.goal_id) if card.goal_id else Q(card_id=card.pk)
    kinds: Mapping[str, tuple[Any, str, list[str], Shape]] = {
        "steps": (
            Step.objects.filter(card=card),
            "number",
            ["key", "title", "result", "error"],
            lambda s: {
                "number": s.number,
                "key": s.key,
                "status": s.status,
                "in_doubt": s.in_doubt,
                "result": snippet(s.result),
                "error": snippet(s.error),
            },
        ),
        "checkpoints": (
            Checkpoint.objects.filter(card=card),
            "number",
            ["summary", "next_step", "state"],
            lambda p: {
                "number": p.number,
                "summary": snippet(p.summary),
                "next_step": snippet(p.next_step),
                "tests": p.tests,
                "state": snippet(p.state),
            },
        ),
        "attempts": (
            Attempt.objects.filter(card=card),
            "number",
            ["worker", "approach", "outcome", "error", "lesson"],
            lambda a: {
                "number": a.number,
                "worker": a.worker,
                "status": a.status,
                "approach": snippet(a.approach),
                "outcome": snippet(a.outcome),
                "error": snippet(a.error),
                "lesson": snippet(a.lesson),
            },
        ),
        "messages": (
            Message.objects.filter(card=card),
            "id",
            ["text"],
            lambda m: {"id": m.pk, "kind": m.kind, "actor": m.actor, "text": snippet(m.text)},
        ),
        "decisions": (
            Decision.objects.filter(memory),
            "at",
            ["title", "rationale"],
            lambda d: {
                "id": str(d.pk),
                "title": d.title,
                "rationale": snippet(d.rationale),
                "in_force": d.superseded_by_id is None,
            },
        ),
        "discoveries": (
            Discovery.objects.filter(memory),
            "at",
            ["title", "detail"],
            lambda d: {
                "id": str(d.pk),
                "kind": d.kind,
                "title": d.title,
                "detail": snippet(d.detail),
                "status": d.status,
            },
        ),
    }
    return kinds[what]


def snippet(value: Any, most: int = SNIPPET_CHARS) -> Any:
    """Return a value short enough for a model: long ones as their first and last part."""
    if value is None or value == "":
        return value
    text = value if isinstance(value, str) else canonical(value).decode()
    if len(text) <= most:
        return value
    half = most // 2
    return f"{text[:half]} …[{len(text)} characters]… {text[-half:]}"
