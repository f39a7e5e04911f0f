from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kernel import globs
from kernel.globs import Globs
from tests.repositories import git


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("/etc", "within the workspace"),
        ("a/../b", "within the workspace"),
        ("a//b", "within the workspace"),
        (".", "within the workspace"),
        ("", "within the workspace"),
        ("a/.Git/hooks", "git's own"),
        (":(exclude)a", "begins with :"),
        ("!a", "begins with !"),
        ("a\\*", "has a \\"),
        ("a**/b", "not a whole part"),
        ("a[b", "without its ]"),
        ("a[]", "without its ]"),
        ("a[é]", "without its ]"),
        ("**/*", "everything"),
    ],
)
def test_what_names_no_paths_is_told_why(pattern: str, said: str) -> None:
    assert said in (globs.problem(pattern) or "")


@pytest.mark.parametrize(
    "pattern", ["node_modules/.cache", "**/node_modules", "target", "build/*.cache", "a[!0-9]?/**"]
)
def test_what_names_paths_is_taken(pattern: str) -> None:
    assert globs.problem(pattern) is None


def test_a_path_belongs_to_the_uppermost_folder_that_is_named() -> None:
    rule = Globs(["**/node_modules", "build/*.cache"])
    assert rule.place_of(b"a/node_modules/b/node_modules/c") == b"a/node_modules"
    assert rule.place_of(b"node_modules/") == b"node_modules"
    assert rule.place_of(b"build/x.cache") == b"build/x.cache"
    assert rule.place_of(b"build/deep/x.cache") is None
    assert rule.place_of(b"node_modules.txt") is None


NAMES = [b"a", b"ab", b"b-", b"a/b", b"a/ab/b", b"b/a", b"b/b/a", b"b/b/ab/a", b"[", b"^/a"]


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose index has every one of NAMES."""
    folder = tmp_path_factory.mktemp("listed")
    git(folder, "init", "-q")
    blob = git(folder, "hash-object", "-w", "-t", "blob", "/dev/null")
    for name in NAMES:
        # No name may be a folder of another's.
        git(folder, "update-index", "--add", "--cacheinfo", f"100644,{blob},{name.decode()}.")
    return folder


PARTS = st.sampled_from(
    [
        "**",
        "*",
        "?",
        "a",
        "a*",
        "*b",
        "[ab]?",
        "[!a]*",
        "[^b]",
        "[a-b]*",
        "^",
        "[b-a]",
        "[!b-a]",
        "[a--]",
    ]
)


@settings(max_examples=60, deadline=None)
@example(parts=["**", "b", "**"], last="a.")
@given(parts=st.lists(PARTS, max_size=3), last=st.sampled_from(["a.", "*.", "ab.", "?.", "**"]))
def test_a_pattern_names_what_git_says_it_does(listed: Path, parts: list[str], last: str) -> None:
    pattern = "/".join([*parts, last])
    if globs.problem(pattern):
        return
    specs = [f":(glob){pattern}", f":(glob){pattern}/**"]
    said = subprocess.run(
        ["git", "ls-files", "-z", "--", *specs], cwd=listed, capture_output=True, check=True
    ).stdout
    rule = Globs([pattern])
    ours = {name + b"." for name in NAMES if rule.place_of(name + b".") is not None}
    assert ours == set(said.split(b"\x00")) - {b""}, pattern
