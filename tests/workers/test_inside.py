from __future__ import annotations

from pathlib import Path

from workers.inside import find_inside


def grow(root: Path, *files: str) -> Path:
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return root


def test_patterns_match_names_folders_and_whole_trees(tmp_path: Path) -> None:
    grow(
        tmp_path,
        "dist/a.whl",
        "dist/b.tar.gz",
        "dist/sub/c.whl",
        "report.xml",
        "dist/.hidden.whl",
    )
    assert list(find_inside(tmp_path, "dist/*.whl")) == ["dist/a.whl"]
    assert set(find_inside(tmp_path, "**/*.whl")) == {"dist/a.whl", "dist/sub/c.whl"}
    assert set(find_inside(tmp_path, "dist")) == {
        "dist/.hidden.whl",
        "dist/a.whl",
        "dist/b.tar.gz",
        "dist/sub/c.whl",
    }
    assert set(find_inside(tmp_path, "dist/**")) == {
        "dist/a.whl",
        "dist/b.tar.gz",
        "dist/sub/c.whl",
    }
    assert list(find_inside(tmp_path, "report.xml")) == ["report.xml"]
    assert list(find_inside(tmp_path, "dist/.*.whl")) == ["dist/.hidden.whl"]
    assert list(find_inside(tmp_path, "nothing/*")) == []


def test_links_are_neither_followed_nor_found(tmp_path: Path) -> None:
    outside = grow(tmp_path / "outside", "secret.txt")
    inside = grow(tmp_path / "inside", "own.txt")
    (inside / "link.txt").symlink_to(outside / "secret.txt")
    (inside / "folder").symlink_to(outside)
    assert list(find_inside(inside, "**/*.txt")) == ["own.txt"]
    assert list(find_inside(inside, "folder/*")) == []
    assert list(find_inside(inside, "../outside/*")) == []


def test_a_pattern_of_many_double_stars_ends_soon_and_finds_each_file_once(
    tmp_path: Path,
) -> None:
    grow(tmp_path, *("/".join("a" * n) + "/x.txt" for n in range(1, 12)))
    found = list(find_inside(tmp_path, "/".join(["**", "a"] * 8) + "/**/x.txt"))
    assert len(found) == len(set(found)) == 4
