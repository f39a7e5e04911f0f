"""A real project with a real bug, not made up: tabulate 0.8.8 and the tests of 0.8.9.

0.8.8 took "126,000" for a number and then failed to format it; it was withdrawn three days later,
and 0.8.9 brought a test for that.
"""

from __future__ import annotations

import shutil
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.acceptance.project import download
from tests.repositories import git

NAME = "tabulate"
BROKEN = ("0.8.8", "26f2589d80d332fefd2371d396863dedeb806f51b54bdb4b264579270b621e92")
MENDED = ("0.8.9", "eb1d13f25760052e8931f2ef80aaf6045a6cceb47514db8beab24cded16f13a7")
FILE = "tabulate.py"
FAILING = "test_string_with_comma_between_digits_without_floatfmt_grouping_option"
PASSED = 156  # of the tests, in the end; others want packages that are not here
WRONG = """\
    if isinstance(string, (_text_type)) and "," in string and (
        _isconvertible(float, string.replace(",",""))
    ):
        return True
    elif not _isconvertible(float, string):
        return False
"""
RIGHT = """\
    if not _isconvertible(float, string):
        return False
"""


def make(folder: Path) -> Path:
    """Return a repository of the broken version with the later tests. Raises Unavailable."""
    with ThreadPoolExecutor() as pool:
        archives = pool.map(lambda which: download(folder, NAME, *which), (BROKEN, MENDED))
    for archive in archives:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
    repository = folder / f"{NAME}-{BROKEN[0]}"
    assert (repository / FILE).read_text().count(WRONG) == 1
    git(repository, "init", "--quiet")
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message", f"{NAME} {BROKEN[0]}")
    shutil.rmtree(repository / "test")
    shutil.copytree(folder / f"{NAME}-{MENDED[0]}" / "test", repository / "test")
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message", f"The tests of {NAME} {MENDED[0]}")
    return repository
