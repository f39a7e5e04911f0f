"""The drawing of a card's attempts: what is on it, and that it costs the same at any length."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from boards import leases
from boards.models import Attempt, Card, Membership
from checkpoints import lineage, lines, salvaging, selectors
from checkpoints.models import Checkpoint
from kernel.access import Role
from tests.factories import claimed, make_card, make_checkpoint, make_user, now_is

pytestmark = pytest.mark.django_db


def history(card: Card, count: int, *, saves: bool = True) -> None:
    """Give the card so many ended attempts, each with a checkpoint."""
    begun = timezone.now() - timedelta(hours=count)
    statuses = [Attempt.Status.EXPIRED, Attempt.Status.FAILED, Attempt.Status.RELEASED]
    attempts = [
        Attempt(
            board_id=card.board_id,
            card=card,
            number=n,
            worker="ada",
            status=statuses[n % 3],
            started_at=begun + timedelta(hours=n),
            finished_at=begun + timedelta(hours=n, minutes=20),
            lease_expires_at=begun + timedelta(hours=n),
            resumed_from=n - 1 or None,
        )
        for n in range(1, count + 1)
    ]
    Attempt.objects.bulk_create(attempts)
    if saves:
        Checkpoint.objects.bulk_create(
            Checkpoint(
                card=card,
                number=a.number,
                attempt=a,
                summary=f"part {a.number}",
                digest="0" * 64,
                at=a.started_at + timedelta(minutes=10),
            )
            for a in attempts
        )


def drawing(card: Card, around: str = "") -> lineage.Drawing:
    attempts = list(card.attempts.order_by("-number")[:100])
    return lineage.drawn(card, attempts, selectors.origin_of(card), around)


def test_each_attempt_has_its_lane_and_goes_on_from_where_it_took_over():
    card = make_card()
    first = claimed(card, "swift")
    make_checkpoint(first, summary="half\nway")
    leases.fail(first.pk, "context limit")
    Card.objects.update(not_before=None)
    second = claimed(card, "heron")
    leases.expire(second.pk, actor="system:sweep")
    salvaging.salvage(second.pk, {"summary": "what I had"})
    lines.rewind(card.pk, 1, "user:ann")
    third = claimed(now_is(card), "wren")
    drawn = drawing(card)
    assert [t.attempt.pk for t in drawn.tracks] == [first.pk, second.pk, third.pk]
    assert [t.end for t in drawn.tracks] == ["cross", "bar", "now"]
    assert [t.rewound for t in drawn.tracks] == [False, False, True]
    (mark,) = drawn.tracks[0].marks
    assert mark.says == "Checkpoint C1: half"
    for track in drawn.tracks[1:]:
        assert track.curve.startswith(f"M{mark.x:.1f} {drawn.tracks[0].y}")
    assert drawn.tracks[2].says == "Attempt 3 wren running · step 0, rewound to C1"
    assert drawn.tracks[1].left_says == "Left behind by attempt 2: what I had"
    assert drawn.now
    assert not drawn.buckets


def test_forks_hang_from_their_checkpoint_and_know_where_they_came_from():
    card = make_card()
    make_checkpoint(claimed(card))
    forks = lines.fork(card.pk, 1, "user:ann", count=6)
    (branch,) = drawing(now_is(card)).branches
    assert [k["card"].pk for k in branch.keys] == [f.pk for f in forks[:4]]
    assert branch.more == 2
    claimed(forks[0], "bob")
    origin = drawing(now_is(forks[0])).origin
    assert origin is not None
    assert (origin.card_id, origin.number) == (card.pk, 1)


@pytest.mark.parametrize("around", ["", "1", "250", "500", "x", "99999999999"])
def test_of_500_attempts_a_few_are_drawn_and_all_are_on_the_strip(around: str):
    card = make_card()
    history(card, 500)
    drawn = drawing(card, around)
    assert len(drawn.tracks) == lineage.LANES
    numbers = [t.attempt.number for t in drawn.tracks]
    assert numbers == list(range(drawn.first, drawn.last + 1))
    if around in ("1", "250", "500"):
        assert int(around) in numbers
    else:
        assert drawn.last == 500
    assert len(drawn.buckets) <= lineage.BUCKETS
    covered = [n for b in drawn.buckets for n in range(b.first, b.last + 1)]
    assert covered == list(range(1, 501))
    assert sum(sum(b.ends.values()) for b in drawn.buckets) == 500
    assert any(b.shown for b in drawn.buckets)
    assert bool(drawn.earlier) == (drawn.first > 1)
    assert bool(drawn.later) == (drawn.last < 500)
    for track in drawn.tracks:
        assert 0 <= track.x0 < track.x1 <= lineage.WIDTH
        assert all(track.x0 <= m.x <= track.x1 for m in track.marks)
        wide = track.words_x - track.wide if track.words_before else track.words_x + track.wide
        assert 0 <= wide <= lineage.WIDTH + 1 or track.words_y > track.y + 4


def test_the_drawing_and_the_list_cost_the_same_however_many_attempts_there_are():
    taken: dict[str, list[int]] = {"drawn": [], "listed": []}
    for count in (10, 500):
        card = make_card()
        history(card, count)
        attempts = list(card.attempts.order_by("-number")[:100])
        calls: dict[str, Any] = {
            "drawn": lambda card=card, attempts=attempts: lineage.drawn(card, attempts, None, "3"),
            "listed": lambda card=card: lineage.listed(card),
        }
        for name, call in calls.items():
            with CaptureQueriesContext(connection) as captured:
                call()
            taken[name].append(len(captured))
    assert taken == {"drawn": [4, 5], "listed": [4, 4]}


def test_checkpoints_that_can_t_be_told_apart_are_one_that_says_so():
    card = make_card()
    attempt = claimed(card)
    for n in range(5):
        make_checkpoint(attempt, summary=f"part {n}")
    (track,) = drawing(card).tracks
    assert sum(1 + m.also for m in track.marks) == 5
    assert track.marks[-1].label.startswith("C5")
    assert all(
        b.x - a.x >= lineage.MARK_GAP for a, b in zip(track.marks, track.marks[1:], strict=False)
    )


def test_a_long_lane_shows_a_checkpoint_wherever_there_is_room_for_its_label():
    card = make_card()
    history(card, 1, saves=False)
    attempt = card.attempts.get()
    for n in range(1, 40):
        point = Checkpoint(card=card, number=n, attempt=attempt, summary="x", digest=f"{n:064}")
        point.at = attempt.started_at + timedelta(seconds=30 * n)
        point.save(force_insert=True)
    (track,) = drawing(card).tracks
    assert sum(1 + m.also for m in track.marks) == 39
    assert len(track.marks) >= (track.x1 - track.x0) // lineage.GROUP_GAP - 1
    assert track.marks[-1].label.startswith("C39 +")
    assert 31 not in {m.checkpoint.number for m in track.marks}
    # Where something began is among them.
    make_card(card.board)
    start = Checkpoint.objects.get(number=31).pk
    Card.objects.exclude(pk=card.pk).update(origin_checkpoint=start)
    (track,) = drawing(card).tracks
    assert 31 in {m.checkpoint.number for m in track.marks}
    assert sum(1 + m.also for m in track.marks) == 39
    assert all(
        b.x - a.x >= lineage.GROUP_GAP for a, b in zip(track.marks, track.marks[1:], strict=False)
    )


def test_the_pages_show_them_to_members_alone():
    card = make_card(title="<b>bold</b>")
    attempt = claimed(card, "<i>ada</i>")
    make_checkpoint(attempt, summary="<script>alert(1)</script>")
    fork = lines.fork(card.pk, 1, "user:ann", title="<u>fork</u>")[0]
    user = make_user()
    Membership.objects.create(board=card.board, user=user, role=Role.VIEWER)
    member, stranger = Client(), Client()
    member.force_login(user)
    stranger.force_login(make_user())
    page = member.get(f"/cards/{card.key}?lane=1").content.decode()
    assert "<script>alert(1)" not in page
    assert "Checkpoint C1: &lt;script&gt;" in page
    assert f'href="/cards/{fork.key}"' in page
    listed = member.get(f"/cards/{card.key}/attempts").content.decode()
    assert "&lt;i&gt;ada&lt;/i&gt;" in listed
    assert "?tab=checkpoints&amp;c=1" in listed
    assert stranger.get(f"/cards/{card.key}/attempts").status_code == 404
    assert Client().get(f"/cards/{card.key}/attempts").status_code == 302
