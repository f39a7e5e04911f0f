"""What an address or a request asks of the figures: the stretch of time, and which cards."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta, tzinfo
from urllib.parse import unquote
from zoneinfo import ZoneInfo

from django.utils import timezone

from boards.insights.flow import Wanted
from boards.lookup import as_uuid
from boards.models import Board
from goals.models import Goal
from kernel.errors import Invalid
from kernel.limits import whole_number

DAYS = 30
MAX_DAYS = 3660
MAX_CHARS = 200
PARAMETERS = ("at", "from", "to", "days", "goal", "label", "worker", "tz")


def asked(parameters: Mapping[str, str], zone: str = "") -> Wanted:
    """Return what the parameters ask for; ``zone`` counts where they name no time zone.

    The stretch ends at ``at`` or ``to`` (now, without) and begins at ``from`` or ``days``
    before. Instants are ISO 8601; a date stands for its midnight in the zone, and as ``to`` for
    the end of that day. Raises Invalid naming the parameter.
    """
    given = {name: parameters.get(name, "").strip() for name in PARAMETERS}
    for name, text in given.items():
        if "\x00" in text or len(text) > MAX_CHARS:
            raise Invalid.field(name, f"must be up to {MAX_CHARS} plain characters.")
    there = _zone(given["tz"]) if given["tz"] else zone_of(zone)
    now = timezone.now()
    if given["at"] and given["to"]:
        raise Invalid.field("to", "says the same as 'at'; give one of them.")
    until = _instant(given["at"], "at", there) if given["at"] else now
    if given["to"]:
        until = _instant(given["to"], "to", there, end=True)
    until = min(until, now)
    since = _since(given, until, there)
    if since is not None and since > until:
        raise Invalid.field("from", "must lie before the end of the stretch, and not after now.")
    goal = as_uuid(given["goal"])
    if given["goal"] and goal is None:
        raise Invalid.field("goal", "must be the id of a goal.")
    return Wanted(until, since, goal, given["label"], given["worker"], there)


def goal_titles(board: Board) -> dict[str, str]:
    """Return the titles of the board's goals by id."""
    goals = Goal.objects.filter(board_id=board.pk).values_list("pk", "title")
    return {str(pk): title for pk, title in goals}


def _since(given: Mapping[str, str], until: datetime, zone: tzinfo) -> datetime | None:
    if given["from"]:
        return _instant(given["from"], "from", zone)
    if given["days"] == "all":
        return None
    days = whole_number(given["days"]) if given["days"] else DAYS
    if days is None or not 1 <= days <= MAX_DAYS:
        raise Invalid.field("days", f"must be a whole number from 1 to {MAX_DAYS}, or 'all'.")
    return until - timedelta(days=days)


def zone_of(name: str) -> tzinfo:
    """Return the time zone of that name, as a browser's cookie has it; UTC for any other text."""
    try:
        return _zone(unquote(name))
    except Invalid:
        return UTC


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError):  # no such zone, or no name of one at all
        raise Invalid.field("tz", "must be the name of a time zone, as Europe/Berlin.") from None


def _instant(text: str, name: str, zone: tzinfo, *, end: bool = False) -> datetime:
    try:
        if len(text) == 10:
            day = date.fromisoformat(text) + timedelta(days=end)
            found = datetime(day.year, day.month, day.day, tzinfo=zone)
        else:
            # A plus sign that was not escaped arrives as a space.
            found = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
            found = found if found.tzinfo else found.replace(tzinfo=zone)
        return found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Invalid.field(
            name, "must be a date (2026-11-23) or an instant (2026-11-23T09:30:00Z)."
        ) from None
