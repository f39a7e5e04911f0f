"""Races: cards that start from one checkpoint and compete, and how one of them is kept.

    fork, several at once ── running ──┬─ first    the first to be completed wins
                                       ├─ person   all stop in review, where a person chooses
                                       └─ score    all stop in review; the highest number wins,
                                                   once all have ended or the deadline passed

A race is decided in one transaction: the winner is placed, its rivals are cancelled, and their
leases are revoked. Whoever may decide one locks its cards first, all in one order; the Race's own
row is written under those locks alone. A person may always choose: what they complete wins.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Exists, OuterRef
from django.utils import timezone

from boards import bounds
from boards.models import Attempt, Card, Message, Race, Racer
from boards.placing import note, place, revoke
from kernel import sql
from kernel.tx import transition

State = Card.State
#: Races that one pass looks at.
AT_ONCE = 100
Choose = Race.Choose

#: States in which a racer does nothing more by itself; a blocked one that asks may go on.
_ENDED = (State.REVIEW, State.BLOCKED, State.COMPLETED, State.CANCELLED)


@dataclass(frozen=True, slots=True)
class Score:
    """What the scoring command said of a finisher: a number, or in words why there is none."""

    value: float | None
    problem: str = ""


def lock(card_id: UUID) -> None:
    """Lock the cards of the card's race, if it runs one, in one order: nobody who completes a
    rival meanwhile then waits for a card that we hold."""
    of = Card.objects.filter(pk=card_id, race__isnull=False).values("race")
    sql.lock(Card.objects.filter(race__in=of).order_by("pk"))


def under_way(card: Card) -> Race | None:
    """Return the race that the card runs and nobody has won yet; costs nothing without one."""
    if card.race_id is None:
        return None
    return Race.objects.filter(pk=card.race_id, decided_at=None).first()


def holds(card: Card) -> bool:
    """Return whether the card, done, must wait for its rivals before it can be completed."""
    race = under_way(card)
    return race is not None and race.choose != Choose.FIRST


def scored(card: Card, score: Score | None) -> None:
    """Keep what the locked card's finisher scored. It counts only in a race that is scored."""
    race = under_way(card)
    if race is None or race.choose != Choose.SCORE:
        return
    score = score or Score(None, "Whoever completed it could not run the scoring command.")
    Racer.objects.filter(card=card).update(score=score.value, problem=score.problem[:500])


def settle(card: Card, actor: str, *, ended: Attempt | None = None, chosen: bool = False) -> None:
    """Decide the race of a locked card if what it just did decides it. All histories stay.

    The callers have locked the race and placed the card. What its attempt ``ended`` with is added
    up here, together with that of its rivals. ``chosen`` says that a person picked it.
    """
    race = under_way(card)
    if race is None:
        bounds.charge(ended)
        return
    if card.state == State.COMPLETED:
        _decide(race, card.pk, actor, card, ended=ended, chosen=chosen)
    elif race.choose == Choose.SCORE and (best := _best(race, timezone.now())) is not None:
        _decide(race, best, actor, card, ended=ended)
    else:
        bounds.charge(ended)


def tick(now: datetime | None = None) -> int:
    """Decide the scored races that nobody's ending decides: a deadline passed, or the last racer
    was cancelled or lost its worker. Returns how many."""
    now = now or timezone.now()
    scored = Racer.objects.filter(
        card__race=OuterRef("pk"), card__state=State.REVIEW, score__isnull=False
    )
    # Without one there is nobody to choose, now or later: it must not keep others waiting.
    waiting = Race.objects.filter(Exists(scored), decided_at=None, choose=Choose.SCORE)
    return sum(_decide_if_due(race, now) for race in waiting.order_by("pk")[:AT_ONCE])


def _decide_if_due(race: Race, now: datetime) -> bool:
    if _best(race, now) is None:  # as it is without locks: most passes find nothing to do
        return False
    with transition():
        sql.lock(Card.objects.filter(race=race).order_by("pk"))
        race = Race.objects.get(pk=race.pk)
        best = _best(race, now) if race.decided_at is None else None
        if best is None:
            return False
        _decide(race, best, "system:race")
    return True


def _best(race: Race, now: datetime) -> UUID | None:
    """Return the racer with the highest score once it is time; None before, or without a score.

    Of equal ones the one made first. Only who stands in review counts: one that was sent back is
    under way again.
    """
    asked = Message.objects.filter(
        card_id=OuterRef("card_id"), kind=Message.Kind.QUESTION, closed_at=None
    )
    racers = Racer.objects.filter(card__race=race).select_related("card")
    found = list(racers.annotate(asks=Exists(asked)).order_by("number"))
    due = race.deadline_at is not None and race.deadline_at <= now
    going_on = [r for r in found if r.card.state not in _ENDED or _may_go_on(r)]
    if going_on and not due:
        return None
    there = [r for r in found if r.card.state == State.REVIEW and r.score is not None]
    best = max(there, key=lambda r: r.score or 0.0, default=None)
    return best.card_id if best else None


def _may_go_on(racer: Racer) -> bool:
    return racer.card.state == State.BLOCKED and bool(racer.asks)  # type: ignore[attr-defined]


def _decide(
    race: Race,
    winner_id: UUID,
    actor: str,
    at_hand: Card | None = None,
    *,
    ended: Attempt | None = None,
    chosen: bool = False,
) -> None:
    """Keep the winner and cancel its rivals, each told why. ``at_hand`` is the caller's card,
    which is to be as the store has it afterwards."""
    cards = {c.pk: c for c in Card.objects.select_related("column", "board").filter(race=race)}
    if at_hand is not None:
        cards[at_hand.pk] = at_hand
    winner = cards[winner_id]
    race.winner = winner
    race.decided_at = timezone.now()
    race.decided_by = actor
    race.save(update_fields=["winner", "decided_at", "decided_by"])
    racers = {r.card_id: r for r in Racer.objects.filter(card__race=race)}
    if winner.state == State.REVIEW and not winner.review_required:
        place(winner, State.COMPLETED)
    over: list[tuple[Card, Attempt | None]] = []
    for pk in sorted(racers.keys() - {winner.pk}):
        rival, racer = cards[pk], racers[pk]
        racer.lost = _why(race, winner, racers[winner.pk], racer, actor, chosen=chosen)[:300]
        if rival.state in (State.COMPLETED, State.CANCELLED):
            continue
        revoked = revoke(rival, reason=racer.lost[:200])
        rival.paused = False
        place(rival, State.CANCELLED)
        over.append((rival, revoked))
    Racer.objects.bulk_update(racers.values(), ["lost"])
    bounds.charge(ended, *(revoked for _, revoked in over))
    note(winner, "card.won", actor, rivals=[rival.key for rival, _ in over])
    for rival, revoked in over:
        note(
            rival,
            "card.cancelled",
            actor,
            revoked=revoked.number if revoked else None,
            won=winner.key,
            because=racers[rival.pk].lost,
        )


def _why(race: Race, winner: Card, won: Racer, lost: Racer, actor: str, *, chosen: bool) -> str:
    """Return in a sentence why a racer lost."""
    if chosen and race.choose != Choose.FIRST:
        return f"{actor.partition(':')[2] or actor} chose {winner.key}."
    if race.choose != Choose.SCORE:
        return f"{winner.key} was completed first."
    if lost.score is not None and lost.score == won.score:
        return f"It scored {lost.score:g}, no more than {winner.key}."
    if lost.score is not None:
        return f"It scored {lost.score:g}; {winner.key} scored {won.score:g}."
    return lost.problem or f"It had no score when {winner.key} won with {won.score:g}."
