"""Nobody overwrites what they have not seen."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
import time_machine

from tests.api.world import Answer, World, state_digest

THINGS = ["card", "goal", "board"]


def path_of(world: World, thing: str) -> str:
    return {
        "card": f"/cards/{world.here.cards['backlog'].key}",
        "goal": f"/goals/{world.here.goal.pk}",
        "board": "/boards/HERE",
    }[thing]


def edit(world: World, thing: str, **headers: Any) -> Answer:
    name = "name" if thing == "board" else "title"
    return world.operator.patch(path_of(world, thing), {name: "New"}, **headers)


@pytest.mark.parametrize("thing", THINGS)
def test_everything_that_is_edited_carries_its_version_as_an_etag(thing: str, world: World) -> None:
    seen = world.operator.get(path_of(world, thing))
    assert seen.headers["ETag"] == f'"{seen["version"]}"'
    edited = edit(world, thing, If_Match=seen.headers["ETag"])
    assert edited.status == 200
    assert edited["version"] == seen["version"] + 1
    assert edited.headers["ETag"] == f'"{edited["version"]}"'


@pytest.mark.parametrize("thing", THINGS)
def test_an_edit_of_an_old_version_gets_the_current_one(thing: str, world: World) -> None:
    seen = world.operator.get(path_of(world, thing))
    edit(world, thing)
    before = state_digest()
    with time_machine.travel(dt.datetime.now(dt.UTC), tick=False):  # a live attempt costs by time
        refused = edit(world, thing, If_Match=seen.headers["ETag"])
        assert refused.refusal == (412, "stale_version")
        assert refused["current"] == world.operator.get(path_of(world, thing)).json
    assert state_digest() == before


def test_a_move_by_someone_who_saw_an_old_version_is_refused(world: World) -> None:
    path = path_of(world, "card")
    tag = world.member.get(path).headers["ETag"]
    assert world.member.post(f"{path}/move", {"column": "review"}, If_Match=tag).status == 200
    refused = world.member.post(f"{path}/move", {"column": "blocked"}, If_Match=tag)
    assert refused.refusal == (412, "stale_version")
    assert refused["current"]["kind"] == "review"
    assert world.operator.delete(path, If_Match=tag).refusal == (412, "stale_version")


def test_a_patch_that_also_moves_asks_for_one_version_only(world: World) -> None:
    path = path_of(world, "card")
    tag = world.member.get(path).headers["ETag"]
    body = {"title": "Both", "column": "review"}
    assert world.member.patch(path, body, If_Match=tag)["kind"] == "review"


@pytest.mark.parametrize("tag", ["*", None])
def test_without_a_version_the_last_edit_wins(tag: str | None, world: World) -> None:
    options = {"If_Match": tag} if tag else {}
    assert edit(world, "card", **options).status == 200


@pytest.mark.parametrize("tag", ["x", "-1", "\xb2", "", "1.5", "0x1", '"1', '"1" "2"', '"1",'])
@pytest.mark.parametrize("thing", THINGS)
def test_what_is_no_tag_is_malformed(thing: str, tag: str, world: World) -> None:
    refused = edit(world, thing, If_Match=tag)
    assert refused.refusal == (400, "malformed")
    assert list(refused["errors"]) == ["If-Match"]


@pytest.mark.parametrize("tag", ['"x"', '"\xb3"', "9" * 12, '""', '"0"', '"7", "8"', '"1.5"'])
@pytest.mark.parametrize("thing", THINGS)
def test_a_tag_nobody_gave_out_is_of_no_current_version(thing: str, tag: str, world: World) -> None:
    refused = edit(world, thing, If_Match=tag)
    assert refused.refusal == (412, "stale_version")
    assert refused.headers["ETag"] == f'"{refused["current"]["version"]}"'


@pytest.mark.parametrize("form", ["{}", "W/{}", '"0", {}', '{}, "stale"'])
def test_any_of_several_tags_may_be_the_current_one(form: str, world: World) -> None:
    tag = world.member.get(path_of(world, "card")).headers["ETag"]
    assert edit(world, "card", If_Match=form.format(tag)).status == 200


def test_a_card_seen_before_needs_no_second_reading(world: World) -> None:
    path = path_of(world, "card")
    tag = world.viewer.get(path).headers["ETag"]
    unchanged = world.viewer.get(path, If_None_Match=tag)
    assert (unchanged.status, unchanged.raw) == (304, b"")
    world.member.patch(path, {"title": "New"})
    assert world.viewer.get(path, If_None_Match=tag).status == 200
