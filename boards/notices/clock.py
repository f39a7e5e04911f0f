"""Quiet hours and digests by the clock on a person's wall, whatever the clocks are put to.

A day may lack an hour or have one twice. A time that is skipped counts as the moment of the
skip; one that comes twice counts both times.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo


def is_between(now: datetime, start: time, end: time, zone: ZoneInfo) -> bool:
    """True if the wall clock stands at ``start`` or later and before ``end``, past midnight too."""
    wall = now.astimezone(zone).time()
    if start <= end:
        return start <= wall < end
    return wall >= start or wall < end


def next_at(after: datetime, wall: time, zone: ZoneInfo) -> datetime:
    """Return the first moment later than ``after`` at which the wall clock reaches ``wall``."""
    first = after.astimezone(zone).date() - timedelta(days=1)
    moments = (m for n in range(4) for m in _moments(first + timedelta(days=n), wall, zone))
    return min(m for m in moments if m > after)


def next_hour(after: datetime) -> datetime:
    """Return the next full hour of UTC."""
    return after.astimezone(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)


def _moments(day: date, wall: time, zone: ZoneInfo) -> Iterator[datetime]:
    first, second = (
        datetime.combine(day, wall, tzinfo=zone).replace(fold=fold).astimezone(UTC)
        for fold in (0, 1)
    )
    if second < first:
        # Skipped: read by the old offset it lies behind the skip, by the new one before it.
        yield _skip(second, first, zone)
        return
    yield first
    if second != first:
        yield second


def _skip(before: datetime, behind: datetime, zone: ZoneInfo) -> datetime:
    """Return the moment between two at which the clocks are put forward, to the second."""
    offset = before.astimezone(zone).utcoffset()
    while behind - before > timedelta(seconds=1):
        middle = (before + (behind - before) / 2).replace(microsecond=0)
        if middle.astimezone(zone).utcoffset() == offset:
            before = middle
        else:
            behind = middle
    return behind
