"""A card split into parts that start from its checkpoint, and joined again."""

from __future__ import annotations

import pytest

from boards import cards, leases, splits
from boards.models import Attempt, Card
from checkpoints import briefing, joining, lines, merging, recovery, steps
from checkpoints.models import Checkpoint
from checkpoints.stores import store_of
from events.models import Event
from goals.models import Discovery
from kernel.errors import Invalid, LeaseLost, NotClaimable, TransitionRefused
from tests.checkpoints.test_merging import Place
from tests.factories import claimed, column_of, make_card, make_checkpoint, make_step, now_is

pytestmark = pytest.mark.django_db
State = Card.State
PARTS = [{"title": "The reader"}, {"title": "The writer", "description": "In chunks."}]


@pytest.fixture
def place(tmp_path, settings) -> Place:
    settings.SNAPSHOTS_DIR = tmp_path / "snapshots"
    return Place(tmp_path)


def begun(place, files=None, **fields) -> Attempt:
    """Return a live attempt whose checkpoint has these files."""
    attempt = claimed(make_card(place.board, **fields))
    make_step(attempt, "plan", result={"parts": 2})
    place.changes(attempt, files or {"app.py": "one\ntwo\nthree\n"}, "Planned it.")
    return attempt


def done(place, part, files) -> None:
    attempt = claimed(now_is(part), f"w-{part.key}")
    place.changes(attempt, files)
    leases.complete(attempt.pk, f"{part.title} is written.", result={"files": sorted(files)})


def files_of(card) -> dict[str, str]:
    head = recovery.head(card.pk, now_is(card).line)
    store = store_of(card.board_id)
    names = store.line("ls-tree", "-r", "--name-only", head.workspace["commit"]).splitlines()
    return {n: store.run("show", f"{head.workspace['commit']}:{n}").decode() for n in names}


def test_parts_start_from_the_checkpoint_and_the_card_goes_on_with_what_all_of_them_did(place):
    live = begun(place)
    card = live.card
    reader, writer = joining.split(card.pk, "user:ann", PARTS)
    with pytest.raises(LeaseLost):
        make_step(live, "late")
    assert (now_is(card).state, now_is(card).unmet_dependencies) == (State.WAITING, 3)
    with pytest.raises(NotClaimable, match="waits for"):
        claimed(now_is(card))
    told = briefing.build(now_is(writer)).markdown
    assert f"Part 2 of 2 of {card.key}" in told
    assert "The others: The reader" in told
    assert "In chunks." in told
    attempt = claimed(now_is(writer), "w")
    assert (attempt.resumed_from, attempt.steps_recorded) == (1, 0)
    assert not steps.begin(attempt.pk, "plan").replay
    leases.release(attempt.pk, "later", "all of it")

    done(place, reader, {"reader.py": "read\n", "app.py": "ONE\ntwo\nthree\n"})
    assert joining.tick() == 0
    done(place, writer, {"writer.py": "write\n", "app.py": "one\ntwo\nTHREE\n"})
    assert now_is(card).unmet_dependencies == 1
    with pytest.raises(NotClaimable):
        claimed(now_is(card))
    assert joining.tick() == 1
    assert joining.tick() == 0

    assert files_of(card) == {
        "README.md": "hello\n",
        "app.py": "ONE\ntwo\nTHREE\n",
        "reader.py": "read\n",
        "writer.py": "write\n",
    }
    again = claimed(now_is(card))
    point = Checkpoint.objects.get(card=card, number=again.resumed_from)
    assert (point.number, point.parent.number, recovery.intact(point)) == (2, 1, True)
    assert [p["result"] for p in point.state["parts"]] == [
        {"files": ["app.py", "reader.py"]},
        {"files": ["app.py", "writer.py"]},
    ]
    assert steps.begin(again.pk, "plan").replay
    told = briefing.build(now_is(card)).markdown
    assert f"The parts {reader.key}, {writer.key} are joined." in told
    assert "The writer is written." in told
    assert make_checkpoint(again).number == 3


def test_what_two_parts_changed_in_the_same_place_is_named_marked_and_keeps_it_from_a_merge(place):
    live = begun(place, review_required=False)
    card = live.card
    reader, writer = joining.split(card.pk, "user:ann", PARTS)
    done(place, reader, {"app.py": "one\nREAD\nthree\n"})
    done(place, writer, {"app.py": "one\nWRITE\nthree\n"})
    assert joining.tick() == 1
    text = files_of(card)["app.py"]
    ours, theirs = f"<<<<<<< tags/{reader.key}", f">>>>>>> tags/{writer.key}"
    assert text == f"one\n{ours}\nREAD\n=======\nWRITE\n{theirs}\nthree\n"
    head = recovery.head(card.pk, now_is(card).line)
    assert head.next_step == "Resolve the conflict markers in app.py, then go on."
    assert "app.py" in Discovery.objects.get(card_id=card.pk).title
    assert splits.newest(card).files == ["app.py"]
    leases.complete(claimed(now_is(card)).pk, "Looks fine to me.")
    with pytest.raises(merging.MergeConflict, match=r"still marked in app\.py"):
        merging.push(now_is(card))


def test_a_workflow_is_not_let_loose_on_markers(place):
    live = begun(place, workflow={"steps": [{"key": "a", "run": "true"}]})
    reader, writer = joining.split(live.card_id, "user:ann", PARTS)
    assert reader.workflow is None
    done(place, reader, {"app.py": "READ\n"})
    done(place, writer, {"app.py": "WRITE\n"})
    joining.tick()
    card = now_is(live.card)
    assert card.state == State.BLOCKED
    assert "app.py" in card.blocked_reason
    assert card.newest_checkpoint(card.attempts.get()) == 2
    cards.retry(card.pk, "user:ann")
    assert claimed(now_is(card)).resumed_from == 2


def test_a_part_that_was_cancelled_is_said_and_can_be_left_out(place):
    live = begun(place)
    reader, writer = joining.split(live.card_id, "user:ann", PARTS)
    done(place, reader, {"reader.py": "read\n"})
    cards.cancel(writer.pk, "user:ann")
    joining.tick()
    loaded = Card.objects.prefetch_related("dependencies__depends_on").get(pk=live.card_id)
    why = cards.why_waiting(loaded)
    assert why[0] == "dependency"
    assert f"{writer.key} (cancelled)" in why[1]
    cards.edit(live.card_id, "user:ann", {"depends_on": [now_is(reader)]})
    assert joining.tick() == 1
    assert "writer.py" not in files_of(live.card)
    assert [p.joins for p in splits.parts_of(splits.newest(live.card))] == [True, False]


def test_parts_without_files_bring_their_results(place):
    live = claimed(make_card(place.board))
    make_checkpoint(live, summary="Planned", state={"n": 1})
    for part in joining.split(live.card_id, "user:ann", PARTS):
        leases.complete(claimed(now_is(part), part.key).pk, "done", result={"of": part.title})
    assert joining.tick() == 1
    head = recovery.head(live.card_id, 1)
    assert head.state["before"] == {"n": 1}
    assert [p["result"]["of"] for p in head.state["parts"]] == ["The reader", "The writer"]


def test_an_earlier_checkpoint_can_be_split_and_going_back_gives_the_split_up(place):
    live = begun(place)
    place.changes(live, {"app.py": "wrong\n"}, "Went wrong.")
    reader, writer = joining.split(live.card_id, "user:ann", PARTS, 1)
    card = now_is(live.card)
    assert (card.line, recovery.head(card.pk, card.line).number) == (2, 1)
    with pytest.raises(TransitionRefused, match="split already"):
        joining.split(card.pk, "user:ann", PARTS)
    lines.rewind(card.pk, 1, "user:ann")
    assert now_is(card).unmet_dependencies == 0
    assert claimed(now_is(card)).resumed_from == 1
    for part in (reader, writer):
        done(place, part, {f"{part.number}": "x"})
    assert joining.tick() == 0


def test_a_bad_split_makes_nothing(place):
    live = begun(place)
    bare = make_card(place.board)
    before = Card.objects.count()
    for card, parts, number in (
        (live.card, PARTS[:1], None),
        (live.card, PARTS, 9),
        (live.card, PARTS * 11, None),
        (bare, PARTS, None),
    ):
        with pytest.raises(Invalid):
            joining.split(card.pk, "user:ann", parts, number)
    leases.complete(live.pk, "done")
    with pytest.raises(TransitionRefused, match="completed"):
        joining.split(live.card_id, "user:ann", PARTS)
    assert Card.objects.count() == before
    kinds = Event.objects.filter(board_id=place.board.pk).values_list("kind", flat=True)
    assert "card.split" not in kinds


def test_files_that_are_not_here_hold_it_up_and_say_so(place):
    live = begun(place)
    reader, writer = joining.split(live.card_id, "user:ann", PARTS)
    done(place, reader, {"reader.py": "read\n"})
    attempt = claimed(now_is(writer), "far")
    make_checkpoint(attempt, workspace={"commit": "c" * 40, "tree": "d" * 40})
    leases.complete(attempt.pk, "done")
    assert joining.tick() == 0
    card = now_is(live.card)
    assert card.state == State.BLOCKED
    assert f"The files of {writer.key} are not in this host's snapshots" in card.blocked_reason


def split_and_done(place) -> Card:
    """Return a card without files whose parts are all done."""
    live = claimed(make_card(place.board))
    make_checkpoint(live, summary="Planned")
    for part in joining.split(live.card_id, "user:ann", PARTS):
        leases.complete(claimed(now_is(part), part.key).pk, "done")
    return now_is(live.card)


def test_a_join_that_breaks_is_told_on_its_card_and_keeps_no_other_waiting(place, monkeypatch):
    broken, other = split_and_done(place), split_and_done(place)
    real, tried = joining._joined, []

    def join(made, head, parts):
        tried.append(made.card.key)
        if made.card_id == broken.pk:
            raise OSError(28, "No space left on device")
        return real(made, head, parts)

    monkeypatch.setattr(joining, "_joined", join)
    assert joining.tick() == 1
    assert now_is(other).unmet_dependencies == 0
    assert now_is(broken).state == State.BLOCKED
    assert "No space left on device" in now_is(broken).blocked_reason
    assert joining.tick() == 0
    assert tried == [broken.key, other.key]
    monkeypatch.setattr(joining, "_joined", real)
    cards.retry(broken.pk, "user:ann")
    assert joining.tick() == 1


def test_a_card_that_was_put_aside_is_joined_once_it_is_back(place):
    card = split_and_done(place)
    cards.move(card.pk, "user:ann", column_of(card.board, "backlog").pk)
    assert joining.tick() == 0
    assert now_is(card).unmet_dependencies == 1
    cards.move(card.pk, "user:ann", column_of(card.board, "in_progress").pk)
    assert joining.tick() == 1
