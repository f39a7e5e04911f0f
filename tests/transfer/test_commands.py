from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Desk


def _checklist(folder: Path, count: int = 3) -> Path:
    file = folder / "todo.md"
    items = "".join(f"- [ ] Item {n}\n  > text {n}\n  > - [ ] no item\n" for n in range(count))
    file.write_text(f"# Ship\n\n{items}- [x] Last <!-- tail\n  - [!] Under\n")
    return file


def test_a_second_import_makes_and_changes_nothing(desk: Desk, tmp_path: Path) -> None:
    file = _checklist(tmp_path)
    assert desk.json("import", str(file), "-b", desk.board)["made"]["cards"] == 5
    before = desk("export", "-b", desk.board).stdout
    again = desk.json("import", str(file), "-b", desk.board)
    assert again["made"] == {"goals": 0, "cards": 0, "decisions": 0}
    assert again["there"]["cards"] == 5
    assert desk("export", "-b", desk.board).stdout == before


def test_a_deleted_card_is_made_again(desk: Desk, tmp_path: Path) -> None:
    file = _checklist(tmp_path)
    desk("import", str(file), "-b", desk.board)
    assert desk.site.call("DELETE", f"/api/v1/cards/{desk.board}-1").status == 204
    assert desk.json("import", str(file), "-b", desk.board)["made"]["cards"] == 1
    assert len(json.loads(desk("export", "-b", desk.board).stdout)["cards"]) == 5


def test_what_is_wrong_anywhere_keeps_all_of_it_out(desk: Desk, tmp_path: Path) -> None:
    file = tmp_path / "issues.jsonl"
    file.write_text('{"id": "a", "title": "A"}\n{"id": ')
    ran = desk("import", str(file), "-b", desk.board, status=2)
    assert "issues.jsonl:2" in ran.stderr.replace("\n", "")
    assert desk.get(f"/cards?board={desk.board}")["results"] == []
    kept = desk.json("import", str(file), "-b", desk.board, "--keep-going")
    assert kept["made"]["cards"] == 1


def test_a_dry_run_writes_nothing(desk: Desk, tmp_path: Path) -> None:
    shown = desk("import", str(_checklist(tmp_path)), "-b", desk.board, "--dry-run")
    assert "Item 1" in shown.stdout
    assert desk.get(f"/cards?board={desk.board}")["results"] == []


def test_a_checklist_that_was_exported_reads_back(desk: Desk, tmp_path: Path) -> None:
    desk("import", str(_checklist(tmp_path)), "-b", desk.board)
    out = tmp_path / "out.md"
    desk("export", "-b", desk.board, "--format", "markdown", "-o", str(out))
    other = desk.site.new_board()["key"]
    token = desk.site.token
    desk("import", str(out), "-b", other, HOLDFAST_TOKEN=token)
    assert desk.json("import", str(out), "-b", desk.board)["made"]["cards"] == 0

    def told(board: str) -> list[object]:
        cards = desk.get(f"/cards?board={board}&limit=200")["results"]
        title = {card["key"]: card["title"] for card in cards}
        return sorted(
            [c["title"], c["description"], c["kind"], [title[k] for k in c["depends_on"]]]
            for c in cards
        )

    assert told(other) == told(desk.board)


def test_csv_has_a_row_for_each_card(desk: Desk, tmp_path: Path) -> None:
    desk("import", str(_checklist(tmp_path)), "-b", desk.board)
    rows = desk("export", "-b", desk.board, "--format", "csv").stdout.splitlines()
    assert rows[0].startswith("key,title,kind,state")


@pytest.mark.chaos
def test_an_import_killed_half_way_is_completed_by_the_next(desk: Desk, tmp_path: Path) -> None:
    file = _checklist(tmp_path, 300)
    with desk.start("import", str(file), "-b", desk.board) as process:
        deadline = time.monotonic() + 60
        while len(desk.get(f"/cards?board={desk.board}&limit=200")["results"]) < 5:
            assert time.monotonic() < deadline
        process.kill()
    written = desk.json("import", str(file), "-b", desk.board)
    assert 0 < written["made"]["cards"] < 302
    cards = json.loads(desk("export", "-b", desk.board).stdout)["cards"]
    assert len(cards) == len({card["title"] for card in cards}) == 302
