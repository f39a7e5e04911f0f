"""Checkpoints compared, a card rewound and forked, at the terminal."""

from __future__ import annotations

from tests.cli.conftest import Desk
from tests.spilled import SPILLED


def walked(desk: Desk) -> str:
    """Return a card with three checkpoints and a live attempt."""
    key = desk.json("card", "add", "Write the parser", "--start")["key"]
    grant = desk.site.call(
        "POST", "/api/v1/claims", {"worker": "ada", "card": key}, token=desk.token
    ).body
    lease = {"Lease-Token": grant["lease"]["token"]}
    steps = f"/api/v1/attempts/{grant['attempt']['id']}/steps"
    for n in (1, 2, 3):
        body = {"key": f"step-{n}", "status": "succeeded"}
        body["checkpoint"] = {"summary": f"Part \x1b[31m{n}", "state": {"part": n}}
        assert desk.site.call("POST", steps, body, token=desk.token, headers=lease).status == 201
    return str(key)


def test_checkpoints_are_listed_and_compared(desk: Desk) -> None:
    key = walked(desk)
    assert [c["number"] for c in desk.json("card", "checkpoints", key)] == [3, 2, 1]
    listed = desk("card", "checkpoints", key).stdout
    assert "C3" in listed
    assert "\x1b[31m" not in listed
    assert "state /part: -1 +3" in desk("card", "diff", key, "3", "--from", "1").stdout
    assert desk.json("card", "diff", key, "2")["from"] == 1
    assert "no checkpoint 9" in desk("card", "diff", key, "9", status=8).output


def test_a_card_is_rewound_and_forked(desk: Desk) -> None:
    key = walked(desk)
    assert f"{key} goes on from C1" in desk("card", "rewind", key, "1").stdout
    assert desk.json("card", "show", key)["line"] == 2
    made = desk.json("card", "fork", key, "2", "--approach", "by hand", "--approach", "generated")
    assert len(made) == 2
    assert made[0]["race"] == made[1]["race"] is not None
    (one,) = desk.json("card", "fork", key, "2", "--title", "Other", "--approach", "slowly")
    assert (one["title"], one["race"]) == ("Other", None)
    assert "no checkpoint 9" in desk("card", "rewind", key, "9", status=4).output


def test_a_race_is_shown_side_by_side_and_a_person_chooses(desk: Desk) -> None:
    key = walked(desk)
    ways = ("--approach", "by hand", "--approach", "generated", "--budget", "attempts=2")
    made = desk.json("card", "fork", key, "2", *ways, "--choose", "person")
    assert [(c["choose"], c["budgets"]) for c in made] == [("person", {"attempts": "2"})] * 2
    race = desk.json("card", "race", made[0]["key"])
    assert (race["source"], race["checkpoint"], race["winner"]) == (key, 2, None)
    assert [r["approach"] for r in race["racers"]] == ["by hand", "generated"]
    assert "generated" in desk("card", "race", made[0]["key"]).stdout
    assert "runs in no race" in desk("card", "race", key, status=8).output
    assert "Only a person may choose" in desk("card", "choose", made[0]["key"], status=7).output
    refused = desk("card", "fork", key, "2", "--count", "2", "--score", "true", status=4).output
    assert "has no workflow" in refused


def test_a_card_is_split_and_its_parts_are_shown(desk: Desk) -> None:
    key = walked(desk)
    assert "never split" in desk("card", "split", key, status=8).output
    made = desk.json("card", "split", key, "--part", "The reader", "--part", "The writer")
    assert [p["part_of"] for p in made["parts"]] == [key, key]
    assert made["why_waiting"] == "Waits for 2 other cards to be completed."
    shown = desk("card", "split", key).stdout
    assert "The reader" in shown
    assert "2 to 20" in desk("card", "split", key, "--part", "One", status=4).output


def test_what_a_card_changed_is_for_people_to_merge(desk: Desk) -> None:
    key = walked(desk)
    assert "has no files" in desk("card", "patch", key, status=4).output
    assert "Only a person may merge" in desk("card", "merge", key, status=7).output


def test_a_history_is_proved_to_be_what_was_written(desk: Desk) -> None:
    key = walked(desk)
    (verdict,) = desk.json("verify", key)
    assert (verdict["intact"], verdict["checkpoints"]) == (True, 3)
    assert "is intact: 3 checkpoints" in desk("verify", key, "--digest", verdict["head"]).stdout
    wrong = desk("verify", key, "--digest", "0" * 64, status=1)
    assert "No checkpoint has the digest 000" in wrong.stdout
    assert "Name a CARD" in desk("verify", status=2).output


def test_what_an_attempt_left_is_listed_and_adopted(desk: Desk) -> None:
    key = desk.json("card", "add", "Write the parser", "--start")["key"]
    grant = desk.site.call(
        "POST", "/api/v1/claims", {"worker": "ada", "card": key}, token=desk.token
    ).body
    path, lease = f"/api/v1/attempts/{grant['attempt']['id']}", grant["lease"]["token"]
    body = {"summary": "half a parser", "workspace": {"commit": "a" * 40}}
    kept = desk.site.call(
        "POST", f"{path}/salvage", body, token=desk.token, headers={"Lease-Token": lease}
    ).body
    assert "half a parser" in desk("card", "salvages", key).stdout
    told = desk("card", "adopt", key, str(kept["id"]), "--next-step", "Mend it.").stdout
    assert f"{key} goes on from C1: Adopted what attempt 1 by ada left" in told
    (listed,) = desk.json("card", "salvages", key)
    assert (listed["adopted_as"], listed["by_itself"]) == (1, False)
    assert "no salvage 99" in desk("card", "adopt", key, "99", status=8).output


def test_a_checkpoint_is_named_and_a_board_says_what_it_keeps(desk: Desk) -> None:
    key = walked(desk)
    assert f"{key} C2 is called green." in desk("card", "name", key, "2", "green").stdout
    assert "green" in desk("card", "checkpoints", key).stdout
    told = desk("board", "storage", desk.board).stdout
    assert "everything" in told
    assert "3 with contents, 0 without" in told
    # Only an operator says otherwise; the desk has a member's token.
    assert desk("board", "storage", desk.board, "--keep-last", "2", status=7)
    root = {"HOLDFAST_TOKEN": desk.site.token}
    assert (
        "the last 2 of each card"
        in desk("board", "storage", desk.board, "--keep-last", "2", **root).stdout
    )
    kept = desk.json("board", "storage", desk.board, "--keep-all", **root)
    assert kept["keep_last"] is None


def test_a_card_is_taken_elsewhere_with_its_history(desk: Desk) -> None:
    key = walked(desk)
    file = desk.home / "card.tar"
    assert f"Wrote {file}." in desk("bundle", "export", key, "--output", str(file)).stdout
    root = {"HOLDFAST_TOKEN": desk.site.token}
    other = desk.site.new_board()["key"]
    told = ("bundle", "import", str(file), "--board", other)
    assert desk(*told, status=8)  # of a board that one doesn't see
    made = desk.json(*told, **root)["cards"][key]
    assert f"{key} is {made} here." in desk(*told, **root).stdout
    assert "is intact: 3 checkpoints" in desk("verify", made, **root).stdout
    file.write_bytes(file.read_bytes().replace(b"step-1", b"step-9"))
    assert "not what was written" in desk(*told, status=4, **root).output
    assert "Name a CARD" in desk("bundle", "export", "--output", str(file), status=2).output


def test_files_with_a_secret_leave_only_if_one_says_so(desk: Desk) -> None:
    wrote = desk.site.run(SPILLED, desk.board, "Spill", "KEY = 'sk-live-0123456789abcdef'\n")
    key, file = wrote.strip(), desk.home / "spilled"
    for words in (("card", "patch", key, "--output"), ("bundle", "export", key, "--output")):
        refused = desk(*words, str(file), status=4)
        assert "app.py holds the secret DEPLOY_KEY" in refused.output
        assert not file.exists()
        desk(*words, str(file), "--with-secrets")
        assert file.stat().st_size > 0
        file.unlink()
