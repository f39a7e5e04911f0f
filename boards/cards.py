"""What people do with cards and boards: make, edit, move, steer, review, answer.

A person wins: whatever takes a running card out of In progress revokes its lease in the same
transaction, and the worker hears of it at its next call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import F, RestrictedError
from django.utils import timezone

from boards import bounds, dispatch, inputs, leases, placing, questions, races, ranks, workflows
from boards.models import Board, Card, Column, Dependency, Membership, Message, Split
from events import log
from goals import discoveries
from goals.models import Discovery, Goal
from kernel import sql
from kernel.access import Principal, Role
from kernel.errors import BudgetExceeded, Invalid, NotFound, Stale, TransitionRefused
from kernel.tx import transition

State = Card.State
Kind = Column.Kind

FIRST_COLUMNS: tuple[tuple[str, Kind], ...] = (
    ("Backlog", Kind.BACKLOG),
    ("In progress", Kind.IN_PROGRESS),
    ("Blocked", Kind.BLOCKED),
    ("Review", Kind.REVIEW),
    ("Completed", Kind.COMPLETED),
)
#: The state of a card that a person puts into a column of each kind.
STATE_IN: dict[str, State] = {
    Kind.BACKLOG: State.BACKLOG,
    Kind.IN_PROGRESS: State.WAITING,
    Kind.BLOCKED: State.BLOCKED,
    Kind.REVIEW: State.REVIEW,
    Kind.COMPLETED: State.COMPLETED,
}
#: What ``edit_board`` changes, beside the columns.
BOARD_FIELDS = (
    "name",
    "repository",
    "pull",
    "allow_commands",
    "allow_network",
    "enforce_dead_ends",
    "answer_by_link",
    "defaults",
    "budgets",
    "share",
    "max_running",
    "caps",
    "ageing_seconds",
)
#: How many cards one attempt may add where the board's defaults say nothing.
FOLLOW_UPS_PER_ATTEMPT = 20

EDITABLE = (
    "title",
    "description",
    "goal",
    "priority",
    "labels",
    "requires",
    "workflow",
    "inputs",
    "max_attempts",
    "review_required",
    "due_at",
    "estimate",
    "covers",
    "budgets",
)


# ── boards ───────────────────────────────────────────────────────────────────────────────


def create_board(
    principal: Principal,
    *,
    key: str,
    name: str,
    columns: Sequence[Mapping[str, Any]] = (),
    **fields: Any,
) -> Board:
    """Return a new board with its columns; its maker is an operator of it."""
    with transition():
        board = Board(key=key, name=name, **fields)
        if not sql.insert_or_skip(board):
            raise Invalid.field("key", f"{key} is taken by another board; choose another key.")
        wanted = columns or [{"name": name, "kind": kind} for name, kind in FIRST_COLUMNS]
        _set_columns(board, wanted)
        if principal.kind == "user":
            Membership.objects.create(board=board, user_id=principal.id, role=Role.OPERATOR)
        elif principal.kind == "token":
            Membership.objects.create(board=board, token_id=principal.id, role=Role.OPERATOR)
        note_board(board, "board.created", principal.actor)
    return board


def edit_board(
    board_id: UUID,
    actor: str,
    changes: Mapping[str, Any],
    *,
    expected_version: int | None = None,
) -> Board:
    """Return the board with ``changes`` made. Raises Stale on an old ``expected_version``."""
    with transition():
        board = Board.objects.select_for_update(no_key=True).get(pk=board_id)
        if expected_version is not None and board.version != expected_version:
            raise Stale(f"The board is at version {board.version}; load it again and redo it.")
        for name in BOARD_FIELDS:
            if name in changes:
                setattr(board, name, changes[name])
        if "columns" in changes:
            # Locked, so that no card comes to a column that goes.
            sql.lock(board.columns.order_by("pk"))
            _set_columns(board, changes["columns"])
        if "archived" in changes:
            since = board.archived_at or timezone.now()
            board.archived_at = since if changes["archived"] else None
        board.version += 1
        board.save(update_fields=[*BOARD_FIELDS, "archived_at", "version"])
        if "budgets" in changes:
            bounds.look_later(board=board.pk)
        note_board(board, "board.edited", actor)
    return board


def _set_columns(board: Board, wanted: Sequence[Mapping[str, Any]]) -> None:
    """Make the board's columns what ``wanted`` lists, in its order.

    An entry with the ``id`` of a column changes it, one without makes one; a column that is
    left out goes, which only an empty one can. Every kind must stay.
    """
    existing = {c.pk: c for c in board.columns.all()}
    kinds = set()
    kept: set[UUID] = set()
    for position, entry in enumerate(wanted):
        path = f"columns[{position}]"
        column = existing.get(entry["id"]) if entry.get("id") else None
        if entry.get("id") and column is None:
            raise Invalid.field(f"{path}.id", "is no column of this board.")
        if column is None:
            if not entry.get("kind"):
                raise Invalid.field(f"{path}.kind", "is needed for a new column.")
            column = Column(board=board, kind=entry["kind"])
        elif entry.get("kind") and entry["kind"] != column.kind:
            raise Invalid.field(f"{path}.kind", "never changes; add a column of the other kind.")
        column.name = entry.get("name") or column.name
        if not column.name:
            raise Invalid.field(f"{path}.name", "is needed.")
        if "wip_limit" in entry:
            column.wip_limit = entry["wip_limit"]
        column.position = position
        column.save()
        kinds.add(column.kind)
        kept.add(column.pk)
    for kind in Kind:
        if kind not in kinds:
            raise Invalid.field("columns", f"a board needs a column of kind {kind.value}.")
    for pk, column in existing.items():
        if pk not in kept:
            if column.cards.exists():
                raise Invalid.field("columns", f"{column.name} still has cards; move them first.")
            column.delete()


# ── cards ────────────────────────────────────────────────────────────────────────────────


def create(
    board: Board,
    actor: str,
    *,
    title: str,
    column: Column | None = None,
    goal: Goal | None = None,
    depends_on: Sequence[Card] = (),
    **fields: Any,
) -> Card:
    """Return a new card at the end of ``column`` (default: the board's first backlog)."""
    _check_goal(board.pk, goal)
    if "workflow" in fields:
        fields["workflow"] = checked_workflow(fields["workflow"])
        if asked := _asked_by(fields["workflow"]):
            fields["inputs"] = inputs.checked(asked, fields.get("inputs") or {})
    with transition():
        number = _next_number(board.pk)
        _lock_cards({p.pk for p in depends_on})
        place = ranks.lock(column.pk) if column else _first_column(board, Kind.BACKLOG)
        fields.setdefault("max_attempts", board.defaults.get("max_attempts", 3))
        fields.setdefault("review_required", board.defaults.get("review_required", False))
        card = Card.objects.create(
            board=board,
            number=number,
            key=f"{board.key}-{number}",
            goal=goal,
            column=place,
            state=STATE_IN[place.kind],
            rank=ranks.bottom(place),
            title=title,
            created_by=actor,
            **fields,
        )
        depend(card, depends_on)
        placing.note(card, "card.created", actor, title=title[:200], **_filed(card))
        nudge_if_claimable(card)
    return card


def follow_up(attempt_id: UUID, **fields: Any) -> Card:
    """Return a new backlog card for the goal of the attempt's card. Fenced.

    Raises BudgetExceeded when the attempt has made as many as the board allows, or all attempts
    together as many as a budget of the card, its goal or the board.
    """
    parents: Sequence[Card] = fields.get("depends_on") or ()
    with transition():
        if parents:
            lock_board(parents[0].board_id)
            _lock_cards({p.pk for p in parents})
        held = leases.hold(attempt_id, add={"follow_ups": 1}, ask_bounded=True)
        parent = Card.objects.select_related("board", "goal").get(pk=held.card_id)
        allowed = parent.board.defaults.get("follow_ups", FOLLOW_UPS_PER_ATTEMPT)
        if held.follow_ups > allowed:
            raise BudgetExceeded(
                f"This attempt has proposed its {allowed} cards; finish, or ask a person for more."
            )
        if held.bounded:
            lock_board(parent.board_id)  # or two attempts would both propose the last one
            bounds.check_follow_up(parent.pk)
        return create(parent.board, held.actor, goal=parent.goal, **fields)


def of_discovery(discovery: Discovery, actor: str) -> Card:
    """Return a new backlog card that is to see to the discovery, on the discovery's goal.

    Raises TransitionRefused where a card was made of it already, or it is settled.
    """
    with transition():
        board = Board.objects.get(pk=discovery.board_id)
        kind = discovery.kind.replace("_", " ")
        cards = Card.objects.filter(pk__in=[discovery.card_id] if discovery.card_id else [])
        origin = cards.values_list("key", flat=True).first()
        found = f"Found at {origin}: {kind}." if origin else f"Found: {kind}."
        card = create(
            board,
            actor,
            title=discovery.title,
            goal=discovery.goal,
            description=f"{discovery.detail}\n\n{found}".strip(),
        )
        discoveries.propose(discovery.pk, actor, card.pk, card.key)
    return card


def edit(
    card_id: UUID,
    actor: str,
    changes: Mapping[str, Any],
    *,
    expected_version: int | None = None,
) -> Card:
    """Return the card with ``changes`` made; another ``column`` moves it to the end of that one.

    Raises Stale on an old ``expected_version``.
    """
    if "workflow" in changes:
        changes = {**changes, "workflow": checked_workflow(changes["workflow"])}
    with transition():
        if "depends_on" in changes:
            _lock_parents(card_id, changes["depends_on"])
        card = lock(card_id)
        check_version(card, expected_version)
        if "goal" in changes:
            _check_goal(card.board_id, changes["goal"])
        if "workflow" in changes and card.state == State.RUNNING:
            raise TransitionRefused(
                f"{card.key} is running; pause or move it before changing its workflow."
            )
        column: Column | None = changes.get("column")
        if column is not None and column.pk != card.column_id:
            card, _ = move(card_id, actor, column.pk)
        names = [n for n in EDITABLE if n in changes]
        for name in names:
            setattr(card, name, changes[name])
        asked = _asked_by(card.workflow) if {"workflow", "inputs"} & set(changes) else ()
        if asked:
            card.inputs = inputs.checked(asked, card.inputs or {})
            names = list(dict.fromkeys([*names, "inputs"]))
        if "depends_on" in changes:
            depend(card, changes["depends_on"])
        _touch(card)
        card.save(update_fields=[*names, "unmet_dependencies", "version", "updated_at"])
        told = {name: value for name, value in _filed(card).items() if name in changes}
        if "title" in changes:
            told["title"] = card.title[:200]
        placing.note(card, "card.edited", actor, changed=[*names, *_extra(changes)], **told)
        if {"budgets", "goal"} & set(names):
            bounds.look_later(card=card.pk)
        nudge_if_claimable(card)
    return card


def move(
    card_id: UUID,
    actor: str,
    column_id: UUID,
    *,
    before: Card | None = None,
    after: Card | None = None,
    expected_version: int | None = None,
) -> tuple[Card, list[str]]:
    """Put the card into the column, right above ``before`` or right below ``after``, else last.

    Returns the card and warnings (a WIP limit warns people, it stops only workers). Leaving In
    progress revokes the lease of a running card. Raises Stale on an old ``expected_version``.
    """
    with transition():
        ranks.make_room(column_id, card_id, before=before, after=after)
        races.lock(card_id)
        card = lock(card_id)
        check_version(card, expected_version)
        _refuse_archived(card)
        source = card.column
        target = Column.objects.filter(pk=column_id, board_id=card.board_id).first()
        if target is None:
            raise Invalid.field("column", "belongs to another board.")
        state = State(card.state)
        revoked = None
        if target.kind != source.kind:
            state = STATE_IN[target.kind]
            revoked = placing.revoke(card, reason=f"moved to {target.name} by {actor}")
            card.failures = 0
            card.not_before = None
            blocked = state == State.BLOCKED
            card.blocked_reason = f"Moved here by {_short(actor)}." if blocked else ""
        dependents = placing.lock_dependents(card, state)
        column = ranks.locked(target)
        rank = ranks.beside(column, card, before=before, after=after)
        placing.enter(card, column, state, rank, dependents)
        races.settle(card, actor, ended=revoked, chosen=True)
        placing.note(
            card,
            "card.moved",
            actor,
            **{"from": str(source.pk), "to": str(column.pk)},
            before=before.key if before else None,
            revoked=revoked.number if revoked else None,
        )
        if column.kind != source.kind:
            nudge_if_claimable(card)
        warnings = _wip_warnings(column) if column.pk != source.pk else []
    return card, warnings


def refile(
    card_id: UUID,
    actor: str,
    column_id: UUID,
    changes: Mapping[str, Any],
    *,
    before: Card | None = None,
    after: Card | None = None,
    expected_version: int | None = None,
) -> tuple[Card, list[str]]:
    """Move the card and make ``changes`` to it, both or neither; see ``move`` and ``edit``."""
    with transition():
        card, warnings = move(
            card_id,
            actor,
            column_id,
            before=before,
            after=after,
            expected_version=expected_version,
        )
        if changes:
            card = edit(card_id, actor, changes)
    return card, warnings


def cancel(card_id: UUID, actor: str) -> Card:
    """Stop the card for good and revoke its lease, if any."""
    with transition():
        races.lock(card_id)
        card = lock(card_id)
        if card.state in (State.COMPLETED, State.CANCELLED):
            raise TransitionRefused(f"{card.key} is {card.state} already.")
        revoked = placing.revoke(card, reason=f"cancelled by {actor}")
        card.paused = False
        placing.place(card, State.CANCELLED)
        races.settle(card, actor, ended=revoked)
        placing.note(card, "card.cancelled", actor, revoked=revoked.number if revoked else None)
    return card


def pause(card_id: UUID, actor: str) -> Card:
    """Hold the card: no worker gets it, and one that has it is told to hand it over."""
    with transition():
        card = lock(card_id)
        if card.state in (State.COMPLETED, State.CANCELLED):
            raise TransitionRefused(f"{card.key} is {card.state}; there is nothing to pause.")
        if not card.paused:
            hold(card, actor)
    return card


def hold(card: Card, actor: str) -> None:
    """Pause the locked card."""
    card.paused = True
    _touch(card)
    card.save(update_fields=["paused", "version", "updated_at"])
    placing.note(card, "card.paused", actor)


def resume(card_id: UUID, actor: str) -> Card:
    """Let workers have a paused card again."""
    with transition():
        card = lock(card_id)
        if card.paused:
            card.paused = False
            _touch(card)
            card.save(update_fields=["paused", "version", "updated_at"])
            placing.note(card, "card.resumed", actor)
            nudge_if_claimable(card)
    return card


def retry(card_id: UUID, actor: str) -> Card:
    """Give the card a fresh set of attempts, claimable at once, from its last checkpoint."""
    with transition():
        card = lock(card_id)
        _refuse_archived(card)
        if card.state == State.RUNNING:
            raise TransitionRefused(f"{card.key} is running; cancel or move it first.")
        if card.state == State.COMPLETED:
            raise TransitionRefused(f"{card.key} is completed; move it to In progress to redo it.")
        card.failures = 0
        card.not_before = None
        card.paused = False
        card.blocked_reason = ""
        placing.place(card, State.WAITING)
        placing.note(card, "card.retried", actor)
        nudge_if_claimable(card)
    return card


def approve(card_id: UUID, actor: str) -> Card:
    """Complete a card in review; in a race it is the winner."""
    with transition():
        races.lock(card_id)
        card = lock(card_id)
        if card.state != State.REVIEW:
            raise TransitionRefused(f"{card.key} is {card.state}, not in review.")
        placing.place(card, State.COMPLETED)
        races.settle(card, actor, chosen=True)
        placing.note(card, "card.approved", actor)
        discoveries.settle_of_card(card.pk, card.key, actor)
    return card


def choose(card_id: UUID, actor: str) -> Card:
    """Complete a racer in review as the winner of its race; its rivals are cancelled."""
    with transition():
        races.lock(card_id)
        card = lock(card_id)
        if card.race_id is None:
            raise TransitionRefused(f"{card.key} runs in no race.")
        if races.under_way(card) is None:
            raise TransitionRefused(f"The race of {card.key} is decided already.")
        if card.state != State.REVIEW:
            raise TransitionRefused(
                f"{card.key} is {card.state}; choose a racer that stands in review."
            )
        return approve(card_id, actor)


def reject(card_id: UUID, actor: str, reason: str) -> Card:
    """Send a card in review back to In progress; the reason leads the next briefing."""
    with transition():
        card = lock(card_id)
        if card.state != State.REVIEW:
            raise TransitionRefused(f"{card.key} is {card.state}, not in review.")
        Message.objects.create(card=card, kind=Message.Kind.REVIEW, actor=actor, text=reason)
        card.failures = 0
        card.not_before = None
        placing.place(card, State.WAITING)
        placing.note(card, "card.rejected", actor, reason=reason[:300])
        nudge_if_claimable(card)
    return card


def say(
    card_id: UUID,
    actor: str,
    text: str,
    *,
    answers: int | None = None,
    reason: str = "",
    via: str = "",
    pinned: bool = False,
) -> Message:
    """Return the note or answer, kept on the card; an answer with its ``reason`` and how it came.

    Answering the last open question of a blocked card makes it claimable again. Raises NoAnswer
    for what the question doesn't take; of two who answer at once the second hears of the first.
    """
    with transition():
        if answers is not None and (board_id := questions.sealed_on(answers)):
            lock_board(board_id)  # before the card: setting a secret locks it, too
        card = lock(card_id)
        question = None
        if answers is not None:
            question = card.messages.filter(pk=answers, kind=Message.Kind.QUESTION).first()
            if question is None:
                raise Invalid.field("answers", "names no question on this card.")
            if question.closed_at is not None:
                raise TransitionRefused(questions.why_closed(question))
            text = questions.accepted(question, actor, text)
            question.closed_at = timezone.now()
            question.save(update_fields=["closed_at"])
        message = Message.objects.create(
            card=card,
            kind=Message.Kind.ANSWER if question else Message.Kind.NOTE,
            actor=actor,
            text=text,
            answers=question,
            detail=reason if question else "",
            via=via if question else "",
            pinned=pinned,
        )
        if question:
            placing.answered.send(Card, card=card, question=question, answer=message)
        if question and card.state == State.BLOCKED and not open_questions(card).exists():
            card.blocked_reason = ""
            card.not_before = None
            placing.place(card, State.WAITING)
        placing.note(
            card, "card.answered" if question else "message.posted", actor, message=message.pk
        )
        nudge_if_claimable(card)
    return message


def pin(message: Message, actor: str, pinned: bool) -> Message:
    """Return the message, told before other notes in every briefing or no longer so."""
    with transition():
        changed = Message.objects.filter(pk=message.pk, pinned=not pinned).update(pinned=pinned)
        message.pinned = pinned
        if changed:
            kind = "message.pinned" if pinned else "message.unpinned"
            placing.note(message.card, kind, actor, message=message.pk)
    return message


def delete(card_id: UUID, actor: str, *, expected_version: int | None = None) -> None:
    """Remove the card and its history; the log keeps that it was there."""
    with transition():
        card = lock(card_id)
        check_version(card, expected_version)
        if card.state == State.RUNNING:
            raise TransitionRefused(f"{card.key} is running; cancel it before deleting it.")
        if card.state != State.COMPLETED:
            # Whoever waited for it waits no longer, as if it were done.
            placing.tell_dependents(placing.lock_dependents(card, State.COMPLETED), -1)
        placing.note(card, "card.deleted", actor, title=card.title[:200])
        try:
            card.delete()
        except RestrictedError:
            raise TransitionRefused(
                f"Other cards were forked from {card.key}; delete them first."
            ) from None


def _refuse_archived(card: Card) -> None:
    if card.archived_at is not None:
        raise TransitionRefused(f"{card.key} is archived; restore it first.")


#: States in which a card may be put away: nobody is at it, and nobody waits for it.
ARCHIVABLE = (State.BACKLOG, State.COMPLETED, State.CANCELLED)


def archive(card_id: UUID, actor: str) -> Card:
    """Put the card away, off the board and out of every count, until it is restored."""
    with transition():
        card = lock(card_id)
        if card.archived_at is None:
            if card.state not in ARCHIVABLE:
                raise TransitionRefused(
                    f"{card.key} is {card.state}; finish or cancel it before archiving it."
                )
            card.archived_at = timezone.now()
            _touch(card)
            card.save(update_fields=["archived_at", "version", "updated_at"])
            placing.note(card, "card.archived", actor)
    return card


def unarchive(card_id: UUID, actor: str) -> Card:
    """Bring an archived card back to where it stood."""
    with transition():
        card = lock(card_id)
        if card.archived_at is not None:
            card.archived_at = None
            _touch(card)
            card.save(update_fields=["archived_at", "version", "updated_at"])
            placing.note(card, "card.restored", actor)
    return card


def open_questions(card: Card) -> Any:
    """Return the card's questions that nobody has answered, oldest first."""
    return card.messages.filter(kind=Message.Kind.QUESTION, closed_at=None).order_by("id")


def why_waiting(card: Card, now: datetime | None = None) -> tuple[str, str]:
    """Return why a waiting card has no worker: a reason code and one sentence."""
    now = now or timezone.now()
    if card.paused:
        return "paused", "Paused by a person; resume it to let a worker have it."
    if card.overspent:
        return "paused", f"{card.overspent} Raise the budget to let it go on."
    if card.unmet_dependencies:
        return "dependency", _waits_for(card)
    if card.not_before is not None and card.not_before > now:
        seconds = int((card.not_before - now).total_seconds()) + 1
        return "backoff", f"Backs off for {seconds} s before the next attempt."
    if card.requires:
        return "capability", f"Waits for a worker with {', '.join(card.requires)}."
    return "queue", "Waits for the next free worker."


def _waits_for(card: Card) -> str:
    """Return which cards it waits for; what keeps them, where its dependencies are loaded."""
    count = card.unmet_dependencies
    if "dependencies" in getattr(card, "_prefetched_objects_cache", {}):
        parents = [d.depends_on for d in card.dependencies.all()]
        stuck = [p for p in parents if p.state in (State.CANCELLED, State.BLOCKED)]
        if stuck:
            named = ", ".join(f"{p.key} ({p.state})" for p in stuck[:5])
            return f"Waits for {named}: retry it, or take it from what {card.key} waits for."
        count = sum(p.state != State.COMPLETED for p in parents)
        if not count:
            return "Its parts are done; what they changed is being joined."
    return f"Waits for {count} other card{'s' if count > 1 else ''} to be completed."


def nudge_if_claimable(card: Card) -> None:
    """Wake a built-in worker if the card could be claimed now."""
    if leases.why_not_claimable(card, timezone.now()) is None:
        dispatch.nudge(card)


def lock(card_id: UUID) -> Card:
    """Return the card, its row locked until commit. Raises NotFound.

    Locked alone and read after: PostgreSQL drops a joined row from the result when the card
    went to another column while we waited for it.
    """
    _lock_cards({card_id})
    card = Card.objects.select_related("column", "board", "goal").filter(pk=card_id).first()
    if card is None:
        raise NotFound("There is no such card.")
    return card


def _lock_cards(card_ids: set[UUID]) -> None:
    """Lock the cards until commit."""
    sql.lock(Card.objects.filter(pk__in=card_ids).order_by("pk"))


def lock_board(board_id: UUID) -> None:
    """Lock the board's row until commit: its dependencies change one edit at a time."""
    sql.lock(Board.objects.filter(pk=board_id))


def _lock_parents(card_id: UUID, parents: Sequence[Card]) -> None:
    """Lock what an edit of the card's dependencies reads: the board, then old and new parents.

    Parents come before the card that waits for them, as they do when a parent completes. None
    of them can change its state until we commit, and no other edit can close a circle with us.
    """
    board_id = Card.objects.filter(pk=card_id).values_list("board_id", flat=True).first()
    if board_id is None:
        raise NotFound("There is no such card.")
    lock_board(board_id)
    old = Dependency.objects.filter(card=card_id).values_list("depends_on_id", flat=True)
    _lock_cards({*old, *(p.pk for p in parents)})


def check_version(card: Card, expected: int | None) -> None:
    """Pass only if the caller saw the current version. Raises Stale."""
    if expected is not None and card.version != expected:
        raise Stale(f"{card.key} is at version {card.version}; load it again and redo the change.")


def _touch(card: Card) -> None:
    card.version += 1
    card.updated_at = timezone.now()


def _extra(changes: Mapping[str, Any]) -> list[str]:
    return ["depends_on"] if "depends_on" in changes else []


def _filed(card: Card) -> dict[str, Any]:
    """Return what the log tells of how a card is filed, for whoever counts cards by it."""
    return {"goal": str(card.goal_id) if card.goal_id else None, "labels": card.labels}


def _short(actor: str) -> str:
    return actor.partition(":")[2] or actor


def checked_workflow(source: Any) -> Any:
    """Return a workflow as it is kept: a JSON object as sent, YAML as the object it spells.

    Nothing gives None. Raises Invalid naming the place in it that can't work.
    """
    if source is None or source == "" or source == {}:
        return None
    try:
        workflow = workflows.parse(source)
    except Invalid as error:
        places = {_in_workflow(place): said for place, said in error.errors.items()}
        raise Invalid(error.detail, errors=places) from None
    return source if isinstance(source, dict) else workflows.canonical(workflow)


def _in_workflow(place: str) -> str:
    return place if place == "workflow" else f"workflow.{place}"


def _asked_by(workflow: Any) -> Sequence[inputs.Input]:
    """Return the inputs that a checked workflow declares."""
    if not isinstance(workflow, dict) or "python" in workflow or not workflow.get("inputs"):
        return ()
    return workflows.parse(workflow).inputs


def _check_goal(board_id: UUID, goal: Goal | None) -> None:
    if goal is not None and goal.board_id != board_id:
        raise Invalid.field("goal", "belongs to another board.")


def _first_column(board: Board, kind: Kind) -> Column:
    column = board.columns.filter(kind=kind).order_by("position").first()
    if column is None:
        raise Invalid.field("column", f"the board has no column of kind {kind.value}.")
    return ranks.locked(column)


def _next_number(board_id: UUID) -> int:
    """Return the board's next card number; the row stays locked, so numbers have no twin."""
    Board.objects.filter(pk=board_id).update(last_card_number=F("last_card_number") + 1)
    return Board.objects.values_list("last_card_number", flat=True).get(pk=board_id)


def depend(card: Card, parents: Sequence[Card]) -> None:
    """Make ``parents`` the cards that ``card`` waits for. Raises Invalid on a cycle.

    Parts that are yet to be joined count as one more that it waits for. Callers have locked
    the board, then the parents, then the card.
    """
    wanted = {p.pk: p for p in parents}
    for parent in wanted.values():
        if parent.board_id != card.board_id:
            raise Invalid.field("depends_on", f"{parent.key} is on another board.")
    _refuse_cycle(card, set(wanted))
    Dependency.objects.filter(card=card).exclude(depends_on__in=wanted).delete()
    have = set(Dependency.objects.filter(card=card).values_list("depends_on_id", flat=True))
    Dependency.objects.bulk_create(
        Dependency(card=card, depends_on=p) for pk, p in wanted.items() if pk not in have
    )
    unmet = Card.objects.filter(pk__in=wanted).exclude(state=State.COMPLETED)
    unjoined = Split.objects.filter(card=card, joined_at=None)
    card.unmet_dependencies = unmet.count() + unjoined.count()
    Card.objects.filter(pk=card.pk).update(unmet_dependencies=card.unmet_dependencies)


def _refuse_cycle(card: Card, parents: set[UUID]) -> None:
    seen, frontier = set[UUID](), parents
    while frontier:
        if card.pk in frontier:
            raise Invalid.field("depends_on", "would make the card wait for itself.")
        seen |= frontier
        above = Dependency.objects.filter(card__in=frontier)
        frontier = set(above.values_list("depends_on_id", flat=True)) - seen


def _wip_warnings(column: Column) -> list[str]:
    if column.wip_limit is None:
        return []
    count = column.cards.filter(archived_at=None).count()
    if count <= column.wip_limit:
        return []
    return [f"{column.name} now holds {count} of {column.wip_limit}."]


def note_board(board: Board, kind: str, actor: str) -> None:
    log.record(
        kind,
        board_id=board.pk,
        subject_id=board.pk,
        actor=actor,
        board=board.key,
        version=board.version,
        columns=[
            {"id": str(c.pk), "name": c.name, "kind": c.kind, "wip_limit": c.wip_limit}
            for c in board.columns.order_by("position")
        ],
    )
