"""What an export holds of a board that was worked on, and what it never holds."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Desk


def worked_on(desk: Desk) -> str:
    """Return a card that has a goal, an attempt, a step, a checkpoint and a secret."""
    goal = desk.json("goal", "add", "Ship", "--intent", "Take cards")["id"]
    key = str(desk.json("card", "add", "Parse", "--start", "--goal", goal)["key"])
    steps = [{"key": "x", "run": "true", "env": {"API_KEY": "hunter2-secret"}}]
    desk.site.call("PATCH", f"/api/v1/cards/{key}", {"workflow": {"steps": steps}})
    desk("card", "add", "Elsewhere")
    grant = desk.site.call(
        "POST", "/api/v1/claims", {"worker": "ada", "card": key}, token=desk.token
    ).body
    body = {"key": "plan", "status": "succeeded", "result": {"files": 3}}
    body["checkpoint"] = {
        "summary": "Planned",
        "decisions": [{"title": "A queue", "rationale": "It is there"}],
    }
    done = desk.site.call(
        "POST",
        f"/api/v1/attempts/{grant['attempt']['id']}/steps",
        body,
        token=desk.token,
        headers={"Lease-Token": grant["lease"]["token"]},
    )
    assert done.status == 201
    assert desk.site.call("POST", f"/api/v1/cards/{key}/pause").status == 200
    desk("message", key, "Mind the gap")
    return key


def test_json_holds_the_whole_history_and_no_secret(desk: Desk) -> None:
    key = worked_on(desk)
    text = desk("export", "-b", desk.board).stdout
    whole = json.loads(text)
    assert (whole["format"], whole["version"]) == ("holdfast", 1)
    card = next(card for card in whole["cards"] if card["key"] == key)
    assert [step["key"] for step in card["steps"]] == ["plan"]
    assert [point["summary"] for point in card["checkpoints"]] == ["Planned"]
    assert [attempt["worker"] for attempt in card["attempts"]] == ["ada"]
    assert [said["text"] for said in card["messages"]] == ["Mind the gap"]
    assert [decided["title"] for decided in whole["goals"][0]["decisions"]] == ["A queue"]
    numbers = [event["seq"] for event in whole["events"]]
    assert numbers == list(range(1, len(numbers) + 1))
    for secret in ("hunter2-secret", desk.token, "hfl_"):
        assert secret not in text


def test_one_goal_is_exported_alone(desk: Desk) -> None:
    key = worked_on(desk)
    whole = json.loads(desk("export", "-b", desk.board, "--goal", "Ship").stdout)
    assert [card["key"] for card in whole["cards"]] == [key]
    assert len(whole["goals"]) == 1


def test_a_file_is_replaced_whole_or_not_at_all(desk: Desk, tmp_path: Path) -> None:
    worked_on(desk)
    file = tmp_path / f"{desk.board}.json"
    file.write_text("the last good one")
    desk("export", "-b", desk.board, "-o", str(file), status=6, HOLDFAST_URL="http://127.0.0.1:9")
    assert file.read_text() == "the last good one"
    desk("export", "-b", desk.board, "-o", str(tmp_path))
    assert json.loads(file.read_text())["board"]["key"] == desk.board
    assert [path.name for path in tmp_path.glob(f"*{desk.board}*")] == [file.name]
