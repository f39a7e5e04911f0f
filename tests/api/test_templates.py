"""Workflow templates: kept by operators, used by members, checked at every door."""

from __future__ import annotations

import pytest

from boards.models import Card
from events.models import Event
from tests.api.world import World

pytestmark = pytest.mark.django_db

SOURCE = """\
inputs:
  version: {type: text, required: true, help: "As in the changelog"}
  channel: {options: [stable, beta], default: beta}
  dry: {type: boolean}
  tries: {type: number, default: 2}
steps:
  - key: build
    run: make build VERSION="${{ inputs.version }}"
  - key: publish
    needs: [build]
    if: inputs.channel == 'stable' && !inputs.dry
    run: make publish
"""


def test_a_card_is_made_from_a_template_with_its_inputs_checked(world: World) -> None:
    path = f"/boards/{world.here.board.key}/templates"
    made = world.operator.post(path, {"name": "Release", "source": SOURCE})
    assert made.status == 201
    assert [(i["name"], i["type"], i["required"]) for i in made["inputs"]] == [
        ("version", "text", True),
        ("channel", "choice", False),
        ("dry", "boolean", False),
        ("tries", "number", False),
    ]
    body = {"board": world.here.board.key, "title": "1.2", "template": "Release"}
    refused = world.member.post("/cards", body)
    assert refused.refusal == (422, "invalid")
    assert refused["errors"] == {"inputs.version": ["is needed."]}
    wrong = {"version": 3, "channel": "nightly", "dry": "perhaps", "tries": "many", "other": 1}
    errors = world.member.post("/cards", {**body, "inputs": wrong})["errors"]
    assert errors == {
        "inputs.other": ["is not asked for; there are: version, channel, dry, tries."],
        "inputs.version": ["must be text."],
        "inputs.channel": ["must be one of stable, beta."],
        "inputs.dry": ["must be true or false."],
        "inputs.tries": ["must be a number."],
    }
    card = world.member.post("/cards", {**body, "inputs": {"version": "1.2", "tries": "3"}})
    assert card["inputs"] == {"version": "1.2", "channel": "beta", "dry": False, "tries": 3}
    assert [step["key"] for step in card["workflow"]["steps"]] == ["build", "publish"]
    # The card has a copy: nothing that becomes of the template changes it.
    edited = world.operator.patch(f"{path}/Release", {"source": "steps: [{key: a, run: b}]"})
    assert edited["version"] == 2
    assert len(Card.objects.get(key=card["key"]).workflow["steps"]) == 2
    again = world.member.patch(f"/cards/{card['key']}", {"inputs": {"version": "", "dry": True}})
    assert again["errors"] == {"inputs.version": ["is needed."]}
    assert world.operator.delete(f"{path}/{made['id']}").status == 204
    assert world.member.post("/cards", {**body, "inputs": {}}).status == 404
    kinds = Event.objects.filter(board_id=world.here.board.pk, kind__startswith="template.")
    assert list(kinds.order_by("seq").values_list("kind", flat=True))[-3:] == [
        "template.saved",
        "template.saved",
        "template.deleted",
    ]


def test_what_can_not_work_in_a_template_is_refused_with_its_line(world: World) -> None:
    path = f"/boards/{world.here.board.key}/templates"
    source = SOURCE.replace("needs: [build]", "needs: [bild]").replace("type: number", "type: int")
    refused = world.operator.post(path, {"name": "Release", "source": source})
    assert refused.refusal == (422, "invalid")
    assert refused["errors"]["source.inputs.tries.type"] == [
        "must be one of text, number, boolean, choice. (line 5)"
    ]
    source = SOURCE.replace("needs: [build]", "needs: [bild]")
    errors = world.operator.post(path, {"name": "Release", "source": source})["errors"]
    assert errors["source.steps[1].needs"] == [
        "names bild, but the steps are: build, publish. (line 10)"
    ]
    broken = world.operator.post(path, {"name": "Release", "source": "steps: [{key: a"})
    assert "is not YAML in line" in broken["errors"]["source.workflow"][0]


def test_names_are_one_of_a_board_and_versions_are_seen(world: World) -> None:
    path = f"/boards/{world.here.board.key}/templates"
    body = {"name": "Release", "source": SOURCE}
    assert world.member.post(path, body).status == 403
    assert world.operator.post(path, body).status == 201
    assert world.operator.post(path, body)["errors"] == {
        "name": ["is taken by another template of this board."]
    }
    taken = world.operator.patch(f"{path}/Nightly", {"name": "Release"})
    assert "name" in taken["errors"]
    first = world.operator.patch(f"{path}/Release", {"description": "x"}, If_Match='"1"')
    assert first.status == 200
    stale = world.operator.patch(f"{path}/Release", {"description": "y"}, If_Match='"1"')
    assert stale.status == 412
    both = {
        "board": world.here.board.key,
        "title": "a",
        "template": "Release",
        **{"workflow": {"steps": [{"key": "a", "run": "b"}]}},
    }
    assert "workflow" in world.member.post("/cards", both)["errors"]
