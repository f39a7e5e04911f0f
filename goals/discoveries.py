"""Discoveries and what becomes of them.

    open ──> proposed ──> resolved     a card sees to it
     │  └──────────────> wont_do
     └─ dead end ──> revived           what it rested on has changed

What is the same, by kind and title, is one discovery that was seen more than once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from django.db.models import F, Q, QuerySet
from django.utils import timezone

from events import log
from goals import likeness
from goals.models import Discovery, Goal
from kernel import sql
from kernel.digests import sha256
from kernel.errors import Invalid, NotFound, TransitionRefused
from kernel.tx import transition

Status = Discovery.Status
Kind = Discovery.Kind

#: Neither settled nor given up.
STANDING = (Status.OPEN, Status.PROPOSED, Status.REVIVED)
#: Failing tests of one checkpoint that are kept as discoveries; what fails by hundreds is one
#: thing, not hundreds.
FAILING = 50
MAX_DETAIL = 20_000
#: Of those that stand the newest are compared with a new one, and so many that look alike told.
COMPARED, TOLD = 100, 5
_SEVERITIES: list[str] = list(Discovery.Severity.values)


def discover(
    board_id: UUID,
    goal_id: UUID | None,
    actor: str,
    *,
    kind: str,
    title: str,
    detail: str = "",
    severity: str = "",
    card_id: UUID | None = None,
    attempt_id: UUID | None = None,
    pinned: bool = False,
    rests_on: Mapping[str, Any] | None = None,
    environment: Mapping[str, Any] | None = None,
    test: str = "",
) -> Discovery:
    """Return the discovery, open until somebody resolves it.

    One of this kind and title that stands already is seen once more instead: what is new in
    ``detail`` is added, and it is as severe as the severest. A dead end met again is one again. A
    fact about the ``environment`` revives the dead ends that rested on another.
    """
    signature = signature_of(kind, title)
    with transition():
        known = _known(goal_id, card_id, signature)
        if known is not None:
            discovery = _seen(known, detail, severity, card_id, pinned)
        else:
            discovery = Discovery.objects.create(
                board_id=board_id,
                goal_id=goal_id,
                card_id=card_id,
                attempt_id=attempt_id,
                actor=actor,
                kind=kind,
                title=title,
                detail=detail,
                severity=severity or Discovery.Severity.MEDIUM,
                pinned=pinned,
                signature=signature,
                rests_on=dict(rests_on or {}),
                environment=dict(environment or {}),
                test=test,
            )
        _note("discovery.recorded", discovery, actor, kind=kind, seen=discovery.seen)
        if environment:
            _revive_for_environment(discovery, environment, actor)
    return discovery


def signature_of(kind: str, title: str) -> str:
    """Return what is the same for the same thing: the kind and the words of the title."""
    words = re.findall(r"[^\W_]+", title.casefold())
    return sha256(" ".join([kind, *words]).encode())


def resembling(discovery: Discovery) -> list[dict[str, Any]]:
    """Return the others of its kind that stand and may be the same in other words, the most alike
    first: ``{id, title, seen, similarity}``."""
    if discovery.goal_id is None and discovery.card_id is None:
        return []
    others = _of(discovery.goal_id, discovery.card_id).filter(
        kind=discovery.kind, status__in=STANDING
    )
    newest = others.exclude(pk=discovery.pk).order_by("-at")[:COMPARED]
    found: list[dict[str, Any]] = []
    for pk, title, seen in newest.values_list("pk", "title", "seen"):
        alike = max(
            likeness.alike(discovery.title, title), likeness.about_the_same(discovery.title, title)
        )
        if alike and not likeness.instead(title, discovery.title):
            one = {"id": str(pk), "title": title, "seen": seen, "similarity": round(alike, 2)}
            found.append(one)
    found.sort(key=lambda one: -one["similarity"])
    return found[:TOLD]


def mergeable(discovery: Discovery) -> tuple[list[Discovery], list[Discovery]]:
    """Return the others that it can be made one with: those that look alike, the most alike
    first, and the newest of the rest."""
    scope = Q(goal_id=discovery.goal_id, board_id=discovery.board_id)
    others = Discovery.objects.filter(scope, status__in=STANDING).exclude(pk=discovery.pk)
    named = [UUID(one["id"]) for one in resembling(discovery)]
    alike = others.in_bulk(named)
    rest = others.exclude(pk__in=named).order_by("-at").defer("detail")
    return [alike[pk] for pk in named if pk in alike], list(rest[:COMPARED])


def lock_again(
    goal_id: UUID | None, card_id: UUID, kinds_and_titles: Iterable[tuple[str, str]]
) -> None:
    """Lock those of these discoveries that stand already, in one order for everybody: who
    records several at once would else wait for another with the board's counter in hand."""
    signatures = {signature_of(kind, title) for kind, title in kinds_and_titles}
    if signatures:
        known = _of(goal_id, card_id).filter(signature__in=signatures, status__in=STANDING)
        sql.lock(known.order_by("pk"))


def _of(goal_id: UUID | None, card_id: UUID | None) -> QuerySet[Discovery]:
    """Return the discoveries of the goal, or of the card where it has none."""
    same = Q(goal_id=goal_id) if goal_id else Q(goal_id=None, card_id=card_id)
    return Discovery.objects.filter(same)


def _known(goal_id: UUID | None, card_id: UUID | None, signature: str) -> Discovery | None:
    if goal_id is None and card_id is None:
        return None
    standing = _of(goal_id, card_id).filter(signature=signature, status__in=STANDING)
    return standing.select_for_update(no_key=True).order_by("at").first()


def _seen(
    known: Discovery, detail: str, severity: str, card_id: UUID | None, pinned: bool
) -> Discovery:
    known.seen += 1
    known.last_seen_at = timezone.now()
    if detail and detail not in known.detail:
        known.detail = f"{known.detail}\n\n{detail}".strip()[-MAX_DETAIL:]
    known.severity = max(known.severity, severity or known.severity, key=_SEVERITIES.index)
    known.pinned = known.pinned or pinned
    if known.test:
        known.card_id = card_id
    if known.status == Status.REVIVED:
        known.status, known.revived_because = Status.OPEN, ""
    known.save(
        update_fields=[
            "seen",
            "last_seen_at",
            "detail",
            "severity",
            "pinned",
            "card_id",
            "status",
            "revived_because",
        ]
    )
    return known


# ── what becomes of it ───────────────────────────────────────────────────────────────────


def resolve(
    discovery_id: UUID, actor: str, resolution: str = "", *, wont_do: bool = False
) -> Discovery:
    """Return the discovery, resolved or given up. Raises TransitionRefused if it already was."""
    status = Status.WONT_DO if wont_do else Status.RESOLVED
    with transition():
        changed = Discovery.objects.filter(pk=discovery_id, status__in=STANDING).update(
            status=status, resolution=resolution, resolved_at=timezone.now()
        )
        discovery = _one(discovery_id)
        if not changed:
            raise TransitionRefused("The discovery is resolved already.")
        _note("discovery.resolved", discovery, actor, status=status)
    return discovery


def propose(discovery_id: UUID, actor: str, card_id: UUID, key: str) -> Discovery:
    """Return the discovery, which a card sees to from now on. Raises TransitionRefused."""
    with transition():
        changed = Discovery.objects.filter(
            pk=discovery_id, status__in=(Status.OPEN, Status.REVIVED)
        ).update(status=Status.PROPOSED, proposed_card_id=card_id)
        discovery = _one(discovery_id)
        if not changed:
            raise TransitionRefused("Only of an open discovery a card can be made.")
        _note("discovery.proposed", discovery, actor, card=key)
    return discovery


def settle_of_card(card_id: UUID, key: str, actor: str) -> None:
    """Resolve what the completed card was to see to."""
    proposed = Discovery.objects.filter(proposed_card_id=card_id, status=Status.PROPOSED)
    for pk in list(proposed.order_by("pk").values_list("pk", flat=True)):
        resolve(pk, actor, f"{key} is completed.")


def merge(discovery_id: UUID, into_id: UUID, actor: str) -> Discovery:
    """Return ``into``, which stands for both from now on. Raises Invalid or TransitionRefused."""
    if discovery_id == into_id:
        raise Invalid.field("into", "must be another discovery.")
    with transition():
        both = Discovery.objects.filter(pk__in=[discovery_id, into_id]).order_by("pk")
        rows = {d.pk: d for d in both.select_for_update(no_key=True)}
        gone, kept = rows.get(discovery_id), rows.get(into_id)
        if gone is None or kept is None:
            raise NotFound("There is no such discovery.")
        if gone.goal_id != kept.goal_id or gone.board_id != kept.board_id:
            raise Invalid.field("into", "must be a discovery of the same goal.")
        if gone.status not in STANDING or kept.status not in STANDING:
            raise TransitionRefused("Only discoveries that stand can be merged.")
        seen, stands = gone.seen, (kept.status, kept.revived_because)
        _seen(kept, gone.detail, gone.severity, kept.card_id, gone.pinned)
        kept.seen += seen - 1
        # Nobody met it again: what it had become it still is, and a card of the one is of both.
        kept.status, kept.revived_because = stands
        if gone.status == Status.PROPOSED != kept.status:
            kept.status, kept.proposed_card_id = Status.PROPOSED, gone.proposed_card_id
        kept.save(update_fields=["seen", "status", "revived_because", "proposed_card_id"])
        gone.status, gone.resolved_at = Status.RESOLVED, timezone.now()
        gone.resolution = f"The same as “{kept.title}”."
        gone.save(update_fields=["status", "resolved_at", "resolution"])
        _note("discovery.merged", gone, actor, into=str(into_id))
    return kept


def revive(discovery_id: UUID, actor: str, because: str) -> Discovery:
    """Return the dead end, which may be worth another try for this reason."""
    if not because.strip():
        raise Invalid.field("because", "say what has changed.")
    with transition():
        changed = Discovery.objects.filter(
            pk=discovery_id, kind=Kind.DEAD_END, status=Status.OPEN
        ).update(status=Status.REVIVED, revived_because=because)
        discovery = _one(discovery_id)
        if not changed:
            raise TransitionRefused("Only a dead end that still is one can be revived.")
        _note("discovery.revived", discovery, actor, because=because[:200])
    return discovery


def revive_for_requirements(goal: Goal, after: Mapping[str, Any], actor: str) -> None:
    """Revive the goal's dead ends that rested on something it no longer asks for."""
    asked = " ".join(_asked(after)).casefold()
    for dead_end in _resting(goal.pk, None):
        required = str(dead_end.rests_on.get("requirement") or "").strip()
        if required and required.casefold() not in asked:
            revive(dead_end.pk, actor, f"the goal no longer asks for “{required[:200]}”")


def _asked(after: Mapping[str, Any]) -> list[str]:
    constraints = after["constraints"]
    listed = constraints if isinstance(constraints, list) else [constraints]
    return [
        after["title"],
        after["intent"],
        *(str(c) for c in listed),
        *(c["text"] for c in after["criteria"]),
    ]


def _revive_for_environment(fact: Discovery, now: Mapping[str, Any], actor: str) -> None:
    for dead_end in _resting(fact.goal_id, fact.card_id):
        before = dead_end.rests_on.get("environment") or {}
        changed = [name for name in before if name in now and now[name] != before[name]]
        if changed:
            name = changed[0]
            revive(dead_end.pk, actor, f"{name} was {before[name]} and is {now[name]}")


def _resting(goal_id: UUID | None, card_id: UUID | None) -> list[Discovery]:
    open_ones = _of(goal_id, card_id).filter(kind=Kind.DEAD_END, status=Status.OPEN)
    return [d for d in open_ones.order_by("pk") if d.rests_on]


# ── tests ────────────────────────────────────────────────────────────────────────────────


def heed_tests(
    tests: Mapping[str, Any],
    *,
    board_id: UUID,
    goal_id: UUID | None,
    card_id: UUID,
    attempt_id: UUID,
    actor: str,
) -> None:
    """Open a discovery for each test that fails, and close those of the card whose very test is
    named among the ``passing``: one that nothing is said of may not have been run.

    One statement where nothing is different from before.
    """
    failing: Sequence[str] = tests.get("failing") or ()
    names = list(dict.fromkeys(name[:500] for name in failing))[:FAILING]
    passing = {name[:500] for name in tests.get("passing") or ()} - {n[:500] for n in failing}
    if not names and not passing:
        return
    mine = Discovery.objects.filter(
        card_id=card_id, status__in=(Status.OPEN, Status.PROPOSED)
    ).exclude(test="")
    known = {d.test: d for d in mine}
    for name, discovery in known.items():
        if name in passing:
            resolve(discovery.pk, actor, "The test passes again.")
    for name in names:
        if name not in known:
            discover(
                board_id,
                goal_id,
                actor,
                kind=Kind.FAILING_TEST,
                title=name[:300],
                test=name,
                card_id=card_id,
                attempt_id=attempt_id,
            )
    again = [d.pk for name, d in known.items() if name in names]
    if again:
        Discovery.objects.filter(pk__in=again).update(
            seen=F("seen") + 1, last_seen_at=timezone.now()
        )


# ── words ────────────────────────────────────────────────────────────────────────────────


def _one(discovery_id: UUID) -> Discovery:
    discovery = Discovery.objects.filter(pk=discovery_id).first()
    if discovery is None:
        raise NotFound("There is no such discovery.")
    return discovery


def _note(event: str, discovery: Discovery, actor: str, **data: Any) -> None:
    if "kind" in data:
        data["discovery_kind"] = data.pop("kind")
    if discovery.goal_id:
        data["goal"] = str(discovery.goal_id)
    log.record(
        event,
        board_id=discovery.board_id,
        subject_id=discovery.card_id or discovery.goal_id or discovery.pk,
        actor=actor,
        discovery=str(discovery.pk),
        title=discovery.title[:200],
        **data,
    )
