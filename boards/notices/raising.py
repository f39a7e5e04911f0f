"""Makes notices from what happens on the boards, and settles them when their cause is gone.

    log ── cursor ────────────────> facts ─┬─> one notice per person, kind and cause
    clock ── stalls, sums, lacking goals ──┘     └─> letters, deliveries

A round reads without locks and then, in one small transaction, moves the board's cursor from
where it stood and writes the notices. Whoever finds the cursor moved has been overtaken, and
writes nothing; whoever is killed has moved nothing. So each event is told once, on any number
of hosts. What the clock says has no event: its causes name rows, and are unique as well.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Exists, F, Max, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce
from django.utils import timezone

from boards import bounds, missing, progress, selectors
from boards.models import Attempt, Board, Card, Message
from boards.notices import links, rules
from boards.notices.models import MISSING, REQUIREMENT, Letter, Notice, NoticeCursor
from boards.notices.rules import Reader
from boards.planning.models import unplanned
from events import log, webhooks
from events.models import Event
from goals.models import CheckRun, Discovery, Goal
from kernel.sql import insert_or_skip
from kernel.tx import transition

Kind = Notice.Kind

#: Events looked at in one transaction.
SLICE = 500
#: How long one round may take before others get their turn.
BUDGET_SECONDS = 1.0
#: A board older than this that was never looked at starts at its newest event.
NEW_BOARD = timedelta(days=1)
MAX_TEXT = 500
_MENTION = re.compile(r"(?<![\w@./])@([\w.+-]{1,150})")


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that readers of a board are to know."""

    kind: str
    card: Card | None
    cause: str
    text: str
    actor: str
    at: datetime
    message: Message | None = None
    attempt: Attempt | None = None
    only: frozenset[str] | None = None  # names, in lower case, where not everybody is meant
    goal: Goal | None = None

    @property
    def about(self) -> Card | Goal:
        """What readers choose by: the card, or the goal of which it tells."""
        about = self.card or self.goal
        assert about is not None
        return about


class _Overtaken(Exception):
    """Somebody else has moved the cursor meanwhile."""


def tick(*, settling: bool = True) -> int:
    """Do one round: what is new in the logs, stalls, sums, and what is settled.

    Without ``settling``, goals are not looked at, and what is settled only where something
    happened: readers leave out what is no longer true anyway. Returns how many notices were
    made. Safe to run anywhere, twice.
    """
    ends = time.monotonic() + BUDGET_SECONDS
    made = _lacking() if settling else 0
    for board, cursor, newest in behind():
        while cursor < newest and time.monotonic() < ends:
            try:
                cursor, more = _advance(board, cursor)
            except _Overtaken:
                break
            made += more
            settling = True
    made += _stalls()
    if settling:
        settle()
    return made


def behind() -> list[tuple[Board, int, int]]:
    """Return the boards with events that nobody has looked at, with cursor and newest number."""
    newest = Event.objects.filter(board_id=OuterRef("pk")).order_by("-seq").values("seq")[:1]
    cursor = NoticeCursor.objects.filter(board=OuterRef("pk")).values("seq")[:1]
    rows: Any = Board.objects.annotate(
        newest=Coalesce(Subquery(newest), 0), looked=Subquery(cursor)
    ).filter(Q(looked=None) | Q(looked__lt=F("newest")))
    found = []
    for board in rows:
        if board.looked is None:
            old = board.created_at < timezone.now() - NEW_BOARD
            start = NoticeCursor(board=board, seq=board.newest if old else 0)
            with transition():
                insert_or_skip(start)
            found.append((board, start.seq, board.newest))
        else:
            found.append((board, board.looked, board.newest))
    return found


def _advance(board: Board, cursor: int) -> tuple[int, int]:
    """Tell what the next events say; return the new cursor and how many notices were made."""
    events = list(Event.objects.of_board(board.pk).after(cursor)[:SLICE])
    facts = facts_of(board, events)
    people = rules.readers(board, _cards_of(facts)) if facts else []
    reached = events[-1].seq if events else log.last_seq(board.pk)
    with transition():
        moved = NoticeCursor.objects.filter(board=board, seq=cursor).update(seq=reached)
        if not moved:
            raise _Overtaken
        _settle_hosts(events)
        return reached, sum(_raise(fact, people) for fact in facts)


# ── what events say ──────────────────────────────────────────────────────────────────────


def facts_of(board: Board, events: Sequence[Event]) -> list[Fact]:
    """Return what the events make worth knowing, as far as it is still true."""
    of_goals = [fact for event in events if event.kind in _OF_GOALS for fact in _goal(event)]
    wanted = [fact for event in events if _asks_for_more(event) for fact in _requirement(event)]
    return of_goals + wanted + _of_hosts(events) + _of_cards(events)


#: What is told of goals, and how the sentence goes on.
_OF_GOALS = {
    "criterion.regressed": "is met no more:",
    "goal.achieved": "is achieved:",
    "goal.met": "may be achieved:",
}


def _goal(event: Event) -> Iterable[Fact]:
    """Yield what people hear of a goal, with the card that did it or came to it last, if any."""
    cards = Card.objects.filter(board_id=event.board_id, archived_at=None)
    named = cards.filter(key=event.data.get("card") or "").first()
    card = named or cards.filter(goal=event.subject_id).order_by("-state_since").first()
    goal = Goal.objects.filter(pk=event.subject_id).first()
    if goal is not None:
        data = event.data
        text = data.get("said", "")
        if event.kind == "criterion.regressed":
            text = f"{data.get('text', '')} {text}"
        told = f"{data.get('title', '')} {_OF_GOALS[event.kind]} {text}"
        yield Fact(Kind.GOAL, card, str(event.seq), told, event.actor, event.at, goal=goal)


#: What is told of hosts at rest, and how it begins and ends.
_RESTED = {
    "host.rested": "The host {host} rests",
    "executor.rested": "{steps} steps rest on {host}",
}
_RECOVERED = frozenset(
    f"{what}.{how}" for what in ("host", "executor") for how in ("recovered", "forgotten")
)


def _of_hosts(events: Sequence[Event]) -> list[Fact]:
    """Return which hosts, or kinds of steps there, have come to rest and have not recovered."""
    recovered = {_place(event): event.seq for event in events if event.kind in _RECOVERED}
    trips = [e for e in events if e.kind in _RESTED and e.data.get("rests") == 1]
    last = [event for event in trips if recovered.get(_place(event), 0) < event.seq]
    cards = Card.objects.in_bulk([event.subject_id for event in last])
    found = []
    for event in last:
        card = cards.get(event.subject_id)
        if card is not None and card.archived_at is None:
            said = {"host": event.data.get("host"), "steps": event.data.get("steps")}
            text = f"{_RESTED[event.kind].format(**said)}: {event.data.get('error', '')}"
            cause = f"{_place(event)}@{event.data.get('since', '')}"
            found.append(Fact(Kind.HOST, card, cause, text, event.actor, event.at))
    return found


def _place(event: Event) -> str:
    """Return the host of the event, or the steps there: HOST/STEPS. A worker on another host,
    which names itself, goes by its id."""
    steps, host = event.data.get("steps"), event.data.get("host", "")
    return f"{event.data.get('worker') or host}{f'/{steps}' if steps else ''}"


def _settle_hosts(events: Sequence[Event]) -> None:
    """Settle what is open of hosts that recovered, on all boards."""
    for place in {_place(event) for event in events if event.kind in _RECOVERED}:
        open_ = Notice.objects.unsettled().filter(kind=Kind.HOST, cause__startswith=f"{place}@")
        open_.update(settled_at=timezone.now())


def _asks_for_more(event: Event) -> bool:
    new = event.data.get("discovery_kind") == Discovery.Kind.NEW_REQUIREMENT
    return event.kind == "discovery.recorded" and new


def _requirement(event: Event) -> Iterable[Fact]:
    """Yield that a goal is to be planned again, with the card that found out or came to the goal
    last, if any, while no plan knows of it."""
    found = unplanned().filter(pk=event.data["discovery"]).select_related("goal").first()
    if found is None or found.goal is None or found.goal.status != Goal.Status.ACTIVE:
        return
    cards = Card.objects.filter(board_id=event.board_id, goal=found.goal, archived_at=None)
    own = cards.filter(pk=found.card_id).first() if found.card_id else None
    card = own or cards.order_by("-state_since").first()
    text = f"{found.goal.title} has a new requirement: {found.title}. Plan it again."
    cause = f"{REQUIREMENT}{found.pk}"
    yield Fact(Kind.GOAL, card, cause, text, event.actor, event.at, goal=found.goal)


def _of_cards(events: Sequence[Event]) -> list[Fact]:
    subjects = {e.subject_id for e in events if _may_matter(e)}
    if not subjects:
        return []
    cards = {c.pk: c for c in Card.objects.filter(pk__in=subjects, archived_at=None)}
    questions, said = _messages(events, cards)
    found: list[Fact] = []
    for event in events:
        card = cards.get(event.subject_id)
        if card is None:
            continue
        found += _stuck(event, card, questions)
        found += _mentions(event, card, said)
    spending = {e.subject_id for e in events if _spends(e)} & cards.keys()
    return found + list(over_budget([cards[pk] for pk in spending]))


def _may_matter(event: Event) -> bool:
    return event.kind in _MATTERS or _spends(event)


def _spends(event: Event) -> bool:
    return event.kind in _SPENDS or "usage" in event.data


#: Kinds that leave a card blocked for good, where its state is that.
_GAVE_UP = frozenset({"attempt.failed", "attempt.expired", "question.lapsed"})
_SPENDS = frozenset({"attempt.failed", "attempt.released", "attempt.expired", "card.claimed"})
_MATTERS = _SPENDS | {
    "card.answered",
    "card.blocked",
    "card.completed",
    "card.moved",
    "card.rejected",
    "card.submitted",
    "message.posted",
    "question.lapsed",
}


def _messages(
    events: Iterable[Event], cards: Collection[UUID]
) -> tuple[dict[tuple[UUID, int], Message], dict[int, Message]]:
    """Return the open questions by card and attempt number, and what was said by its id."""
    asked = [e.subject_id for e in events if e.kind == "card.blocked" and e.subject_id in cards]
    questions = {}
    if asked:
        rows = Message.objects.filter(
            card_id__in=asked, kind=Message.Kind.QUESTION, attempt__isnull=False, closed_at=None
        )
        for row in rows.select_related("attempt").order_by("id"):
            assert row.attempt is not None
            questions[row.card_id, row.attempt.number] = row
    ids = [e.data.get("message") for e in events if e.kind in ("message.posted", "card.answered")]
    said = {m.pk: m for m in Message.objects.filter(pk__in=ids)} if ids else {}
    return questions, said


def _stuck(
    event: Event, card: Card, questions: Mapping[tuple[UUID, int], Message]
) -> Iterable[Fact]:
    """Yield what waits for a person since the event: a question, a review, a card that is stuck."""
    data, state = event.data, event.data.get("state")
    cause, kind, text, message = str(event.seq), None, "", None
    if event.kind == "card.blocked":
        message = questions.get((card.pk, data.get("attempt", 0)))
        if message is not None:
            kind, text = Kind.QUESTION, message.text
        elif not data.get("question"):
            kind, text = Kind.BLOCKED, str(data.get("reason", ""))
    elif event.kind == "card.submitted":
        kind, text = Kind.REVIEW, str(data.get("summary", ""))
    elif event.kind == "card.moved" and state == "review" and data.get("from") != data.get("to"):
        kind, text = Kind.REVIEW, ""
    elif event.kind in _GAVE_UP and state == "blocked" and data.get("then", "fail") == "fail":
        kind, text = Kind.BLOCKED, card.blocked_reason
    elif event.kind == "attempt.expired" and state == "waiting":
        # Nobody was told before, where the lease was shorter than a round of ours.
        attempt = card.attempts.filter(number=data.get("attempt", 0)).first()
        if attempt is not None and card.state == "waiting" and card.fence == attempt.number:
            yield _stalled(attempt, card, event.at)
        return
    wanted = "review" if kind == Kind.REVIEW else "blocked"
    if kind is not None and card.state == wanted:
        yield Fact(kind, card, cause, text, event.actor, event.at, message)


def _mentions(event: Event, card: Card, said: Mapping[int, Message]) -> Iterable[Fact]:
    message = said.get(event.data.get("message", 0))
    text = message.text if message else ""
    if event.kind == "card.rejected":
        text = str(event.data.get("reason", ""))
    names = mentioned(text)
    if names:
        yield Fact(
            Kind.MENTION,
            card,
            str(event.seq),
            text,
            event.actor,
            event.at,
            message,
            only=names,
        )


def mentioned(text: str) -> frozenset[str]:
    """Return the names after an ``@`` in the text, in lower case; a dot may end a sentence."""
    found = {name.lower() for name in _MENTION.findall(text)}
    return frozenset(found | {name.rstrip(".-+") for name in found})


# ── what the clock says ──────────────────────────────────────────────────────────────────


def _stalls() -> int:
    """Tell of workers that have been silent for long, and of minutes that are used up."""
    now = timezone.now()
    since = now - timedelta(seconds=selectors.STALLED_AT_LEAST_SECONDS)
    live = Attempt.objects.live().filter(last_seen_at__lt=since).select_related("card", "board")
    facts: dict[UUID, list[Fact]] = {}
    boards: dict[UUID, Board] = {}
    for attempt in live:
        if selectors.is_silent(attempt) and attempt.card.archived_at is None:
            facts.setdefault(attempt.board_id, []).append(_stalled(attempt, attempt.card, now))
            boards[attempt.board_id] = attempt.board
    timed = Attempt.objects.live().select_related("card", "board")
    timed = timed.filter(
        Q(card__budgets__has_key="minutes")
        | Q(card__goal__budgets__has_key="minutes")
        | Q(board__budgets__has_key="minutes")
    )
    clocked = list(timed.filter(card__archived_at=None))
    for fact in over_budget([a.card for a in clocked]):
        facts.setdefault(fact.about.board_id, []).append(fact)
    boards |= {a.board_id: a.board for a in clocked}
    return sum(_tell_new(boards[board_id], found) for board_id, found in facts.items())


def _tell_new(board: Board, facts: Sequence[Fact]) -> int:
    """Tell those of the facts that nobody was told of; return how many notices were made."""
    new = _untold(board.pk, facts)
    if not new:
        return 0
    people = rules.readers(board, _cards_of(new))
    with transition():
        return sum(_raise(fact, people) for fact in new)


def _cards_of(facts: Iterable[Fact]) -> set[Card]:
    return {fact.card for fact in facts if fact.card is not None}


def _stalled(attempt: Attempt, card: Card, at: datetime) -> Fact:
    return Fact(
        Kind.STALLED,
        card,
        # A worker that is heard of again and then falls silent again is another stall.
        f"{attempt.pk}:{attempt.last_seen_at.timestamp():.0f}",
        f"{attempt.worker} was last heard of {selectors.spelled(at - attempt.last_seen_at)} ago.",
        attempt.actor,
        at,
        attempt=attempt,
    )


def _untold(board_id: UUID, facts: Sequence[Fact]) -> list[Fact]:
    """Leave out what somebody has been told already: these are looked at in every round."""
    told = set(
        Notice.objects.filter(board_id=board_id, cause__in={f.cause for f in facts}).values_list(
            "kind", "cause"
        )
    )
    return [f for f in facts if (f.kind, f.cause) not in told]


# ── goals that nothing brings further ────────────────────────────────────────────────────

#: A goal that is left alone for so long is forgotten …
FORGOTTEN = timedelta(hours=1)
#: … and one whose last card is done for so long is not about to be shown to be met.
DONE = timedelta(minutes=2)
#: What was left alone for longer than this is no news.
OLD = timedelta(days=30)
#: Goals that are looked at in a round, the newest first.
GOALS_READ = 500
_OF_DONE = (missing.Kind.PROOF, missing.Kind.CRITERIA)


def _lacking() -> int:
    """Tell what goals lack that nothing under way will bring: their owner, or everybody where all
    is done but nothing shows it."""
    now = timezone.now()
    live = CheckRun.objects.filter(
        goal=OuterRef("pk"), status__in=[CheckRun.Status.QUEUED, CheckRun.Status.RUNNING]
    )
    newest = Goal.objects.filter(~Exists(live), status=Goal.Status.ACTIVE, met_at=None)
    newest = newest.filter(updated_at__gt=now - OLD, updated_at__lt=now - DONE)
    goals = list(newest.order_by("-pk")[:GOALS_READ])
    lacking = missing.of(progress.of(goals).values())
    if not lacking:
        return 0
    cards = Card.objects.filter(goal__in=list(lacking)).values_list("goal")
    moved = dict(cards.annotate(at=Max("state_since")).order_by())
    facts: dict[UUID, list[Fact]] = {}
    for goal in goals:
        found = lacking.get(goal.pk)
        if found is None:
            continue
        since = max(goal.updated_at, moved.get(goal.pk, goal.updated_at))
        if since < now - (DONE if found.kind in _OF_DONE else FORGOTTEN):
            facts.setdefault(goal.board_id, []).append(_lacks(goal, found, since))
    boards = Board.objects.in_bulk(list(facts))
    return sum(_tell_new(boards[board_id], found) for board_id, found in facts.items())


def _lacks(goal: Goal, found: missing.Missing, since: datetime) -> Fact:
    cause = f"{MISSING}{found.kind}:{goal.pk}"
    if found.kind in _OF_DONE:
        cause += f":{since:%Y%m%d%H%M%S}"  # cards that are done again are news again
    kind, _, name = goal.created_by.partition(":")
    mine = kind == "user" and found.kind not in _OF_DONE
    return Fact(
        Kind.GOAL,
        None,
        cause,
        f"{goal.title}: {found}",
        "system:goals",
        since,
        only=frozenset({name.lower()}) if mine else None,
        goal=goal,
    )


def _gone_missing() -> list[UUID]:
    """Return the open notices of something that their goal lacks no more."""
    told = Notice.objects.unsettled().filter(kind=Kind.GOAL, cause__startswith=MISSING)
    rows = list(told.select_related("goal")[:GOALS_READ])
    if not rows:
        return []
    goals = {notice.goal_id: notice.goal for notice in rows if notice.goal is not None}
    lacking = missing.of(progress.of(list(goals.values())).values())
    return [n.pk for n in rows if n.goal is None or not _still(n, lacking.get(n.goal.pk))]


def _still(notice: Notice, found: missing.Missing | None) -> bool:
    return found is not None and notice.cause.startswith(f"{MISSING}{found.kind}:")


# ── sums ─────────────────────────────────────────────────────────────────────────────────


def over_budget(cards: Collection[Card]) -> Iterable[Fact]:
    """Yield which budgets of the cards, of their goals and boards are used up."""
    now = timezone.now()
    seen: set[str] = set()
    for card in bounds.with_budget(cards):
        done = card.state in (Card.State.COMPLETED, Card.State.CANCELLED)
        wanting = card.state == Card.State.WAITING
        for found in bounds.standing(card=card.pk):
            if done and found.kind == "card":
                continue
            # A bound on attempts is reached when another one is wanted.
            names = (*bounds.OF_STEPS, "attempts") if wanting else bounds.OF_STEPS
            for name in names:
                if found.reached((name,)) is None:
                    continue
                cause = f"{found.owner_id}:{name}:{found.limits[name].normalize():f}"[:120]
                if cause not in seen:
                    seen.add(cause)
                    text = f"{found.words(name)} Raise the budget to let work go on."
                    yield Fact(Kind.BUDGET, card, cause, text, "system:budget", now)


# ── writing ──────────────────────────────────────────────────────────────────────────────


def _raise(fact: Fact, people: Iterable[Reader]) -> int:
    """Write the notice for everybody who wants it, with what leaves by other ways; return how many.

    Nobody is told of what they did themselves.
    """
    made = 0
    now = timezone.now()
    for reader in people:
        named = fact.only is None or reader.user.get_username().lower() in fact.only
        if not named or reader.actor == fact.actor or not reader.wants(fact.kind, fact.about):
            continue
        if fact.kind in (Kind.REVIEW, Kind.BLOCKED, Kind.GOAL) and not _is_requirement(fact):
            # The newest stands for the card or goal; what was asked before is asked no more.
            older = Notice.objects.unsettled().filter(user_id=reader.user.pk, kind=fact.kind)
            same = Q(goal=fact.goal) if fact.goal is not None else Q(card=fact.card)
            older = older.filter(same).exclude(cause__startswith=REQUIREMENT)
            older.exclude(cause=fact.cause).update(settled_at=now)
        if fact.kind == Kind.HOST and _knows(reader, fact):
            continue
        notice = Notice(
            user_id=reader.user.pk,
            board_id=fact.about.board_id,
            card=fact.card,
            goal=fact.goal,
            kind=fact.kind,
            cause=fact.cause,
            message=fact.message,
            attempt=fact.attempt,
            actor=fact.actor,
            text=fact.text[:MAX_TEXT],
            at=fact.at,
        )
        if insert_or_skip(notice):
            _send(notice, reader, now)
            made += 1
    return made


def _is_requirement(fact: Fact) -> bool:
    """True if it stays beside other news of the goal until a plan knows of it."""
    return fact.cause.startswith(REQUIREMENT)


def _knows(reader: Reader, fact: Fact) -> bool:
    """True if the reader was told on another board: a host works for all of them."""
    told = Notice.objects.filter(user_id=reader.user.pk, kind=fact.kind, cause=fact.cause)
    return told.exclude(board=fact.about.board_id).exists()


def _send(notice: Notice, reader: Reader, now: datetime) -> None:
    """Put the notice where the deliverers find it, for when the reader wants it."""
    ways = rules.channels(reader.rules, notice.kind)
    if "email" in ways and rules.address_of(reader.user):
        due, batch = rules.leaves_at(reader.rules, notice.kind, now)
        Letter.objects.create(notice=notice, user_id=reader.user.pk, batch=batch, due_at=due)
    if "webhook" in ways:
        hook = rules.personal_webhook(reader.user)
        if hook is not None and hook.active:
            due, _ = rules.leaves_at(reader.rules, notice.kind, now)
            webhooks.queue(hook, f"notice_{notice.pk.hex}", "notice.raised", told(notice), due)


def told(notice: Notice) -> dict[str, Any]:
    """Return the notice as a personal webhook is told of it."""
    return {
        "id": str(notice.pk),
        "kind": notice.kind,
        "card": notice.key or None,
        "goal": str(notice.goal_id) if notice.goal_id else None,
        "title": notice.title,
        "actor": notice.actor,
        "text": notice.text,
        "at": notice.at.isoformat(),
        **(_asked(notice) if notice.kind == Kind.QUESTION and notice.message else {}),
    }


def _asked(notice: Notice) -> dict[str, Any]:
    question = notice.message
    assert question is not None
    return {
        "message": question.pk,
        "question_kind": question.asks,
        "options": question.options,
        "default": question.default,
        "on_timeout": question.on_timeout,
        "due_at": question.due_at.isoformat() if question.due_at else None,
        "answer_url": links.to_answer(notice),
    }


def settle() -> int:
    """Settle every notice whose cause is gone, and return how many."""
    now = timezone.now()
    open_ = Notice.objects.unsettled()
    gone = list(open_.exclude(pk__in=open_.true().values("pk")).values_list("pk", flat=True)[:500])
    budgets = open_.filter(kind=Kind.BUDGET).select_related("card")
    held = list(budgets)
    if held:
        over = {fact.cause for fact in over_budget({n.card for n in held if n.card})}
        gone += [n.pk for n in held if n.cause not in over and n.pk not in gone]
    gone += [pk for pk in _gone_missing() if pk not in gone]
    if not gone:
        return 0
    with transition():
        return Notice.objects.filter(pk__in=gone, settled_at=None).update(settled_at=now)
