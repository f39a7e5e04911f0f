"""What snapshots of a real repository of 10,000 files cost, against git's own ways in the same run.

    python bench/snapshots.py                 fetches a wheel of many files from the package index
    SNAPSHOT_TREE=/path python bench/snapshots.py     takes the files of a folder instead

Each case is done by turns with git's own way, on the same files with the same edits; a row gives
the median milliseconds of both and their ratio, and the bench fails where an incremental snapshot
takes more than BUDGET of a commit. ``commit`` is `git add -A && git commit`, once as
git is set up (it leaves new objects to the page cache) and once told to flush them, as snapshots
are flushed. Where the files can't be had, a row says so.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

PACKAGE = "ansible==9.13.0"
FILES = 10_000
ROUNDS = 15
EDITED = 20
MANY = 5_000
BUDGET = 1.3
DURABLE = ("-c", "core.fsync=all,-index")


def main() -> None:
    place = Path(tempfile.mkdtemp(prefix="holdfast-bench-"))
    try:
        tree = files(place)
        if tree is None:
            say(
                case="all", skipped="the package index can't be reached, and SNAPSHOT_TREE is unset"
            )
            return
        os.environ.setdefault("DATA_DIR", str(place / "data"))
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "runtime_site.settings")
        import django

        django.setup()
        measure(place, tree)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def files(place: Path) -> Path | None:
    """Return a folder with FILES real files, or None where they can't be had."""
    tree = place / "tree"
    tree.mkdir()
    if given := os.environ.get("SNAPSHOT_TREE"):
        source = Path(given)
        names = sorted(p.relative_to(source) for p in source.rglob("*") if p.is_file())[:FILES]
        for name in names:
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, tree / name)
        return tree
    fetched = subprocess.run(
        [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps",
         "--only-binary=:all:", "--dest", str(place), PACKAGE],
        capture_output=True, check=False,
    )  # fmt: skip
    wheels = list(place.glob("*.whl"))
    if fetched.returncode or not wheels:
        return None
    with zipfile.ZipFile(wheels[0]) as wheel:
        names = sorted(name for name in wheel.namelist() if not name.endswith("/"))[:FILES]
        wheel.extractall(tree, names)
    return tree


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(
        ["git", "-c", "gc.auto=0", "-c", "user.name=b", "-c", "user.email=b@b", *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1"},
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def commit(folder: Path, *settings: str) -> None:
    git(folder, *settings, "add", "-A")
    git(folder, *settings, "commit", "-q", "-m", "work")


def timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000


def edit(folder: Path, seed: int, count: int) -> None:
    """Change, add and delete files; the same in every folder for a seed."""
    rng = random.Random(seed)
    names = sorted(
        str(p.relative_to(folder))
        for p in folder.rglob("*.py")
        if p.is_file() and ".git" not in p.parts
    )
    for n, name in enumerate(rng.sample(names, count)):
        if n % 4 == 3:
            (folder / name).unlink()
        else:
            with (folder / name).open("a") as file:
                file.write(f"# {seed} {n}\n")
        if n % 4 == 0:
            (folder / f"{name}.{seed}.new").write_text(f"{seed} {n}\n" * 20)


def say(**row: object) -> None:
    print(json.dumps({"bench": "snapshots", **row}), flush=True)


def compare(case: str, ours: list[float], theirs: dict[str, list[float]]) -> dict[str, float]:
    """Say a row and return its ratios."""
    mine = statistics.median(ours)
    others = {name: statistics.median(times) for name, times in theirs.items()}
    ratio = {name: round(mine / ms, 2) for name, ms in others.items()}
    git_ms = {name: round(ms, 1) for name, ms in others.items()}
    say(case=case, ms=round(mine, 1), git_ms=git_ms, ratio=ratio)
    return ratio


def measure(place: Path, tree: Path) -> None:
    from checkpoints import differences
    from checkpoints.snapshots import SnapshotStore
    from checkpoints.workspaces import Workspace
    from kernel.globs import Globs

    upstream = place / "upstream"
    shutil.copytree(tree, upstream)
    git(upstream, "init", "-q")
    count = sum(1 for p in tree.rglob("*") if p.is_file())
    say(case="files", files=count, bytes=sum(p.stat().st_size for p in tree.rglob("*.*")))

    commit(upstream)
    store = SnapshotStore(place / "store" / "board.git")
    made: list[Workspace] = []
    began = timed(
        lambda: made.append(
            Workspace.prepare(
                place / "work",
                store,
                card_key="B-1",
                attempt_number=1,
                repository=str(upstream),
            )
        )
    )
    cloned = timed(lambda: git(place, "clone", "-q", "--no-hardlinks", str(upstream), "clone"))
    compare("workspace made from a repository", [began], {"clone": [cloned]})
    workspace = made[0]
    folders = {name: place / name for name in ("stash", "commit", "flushed")}
    for folder in folders.values():
        git(place, "clone", "-q", "--no-hardlinks", str(upstream), folder.name)

    incremental: list[float] = []
    theirs: dict[str, list[float]] = {name: [] for name in folders}
    unchanged: list[float] = []
    commits = [workspace.snapshot("base").commit]
    for n in range(ROUNDS):
        for folder in (workspace.tree, *folders.values()):
            edit(folder, n, EDITED)
        incremental.append(
            timed(lambda n=n: commits.append(workspace.snapshot(f"step {n}").commit))  # type: ignore[misc]
        )
        theirs["stash"].append(timed(lambda: git(folders["stash"], "stash", "create")))
        theirs["commit"].append(timed(lambda: commit(folders["commit"])))
        theirs["flushed"].append(timed(lambda: commit(folders["flushed"], *DURABLE)))
        commit(folders["stash"])
        unchanged.append(timed(lambda: workspace.snapshot("nothing changed")))
    ratio = compare("incremental snapshot", incremental[1:], {k: v[1:] for k, v in theirs.items()})
    compare("snapshot, nothing changed", unchanged[1:], {"commit": theirs["commit"][1:]})

    for rule in (["**/node_modules"], ["build/*.cache"]):
        workspace._keep_ignored = Globs(rule)
        ours, git_own = [], []
        for n in range(ROUNDS // 2):
            for folder in (workspace.tree, folders["commit"]):
                edit(folder, 1000 * len(rule[0]) + n, EDITED)
            ours.append(timed(lambda: workspace.snapshot("a rule")))
            git_own.append(timed(lambda: commit(folders["commit"])))
        compare(f"incremental snapshot, {rule[0]} kept", ours[1:], {"commit": git_own[1:]})
    workspace._keep_ignored = Globs()
    commits.append(workspace.snapshot("no rule").commit)

    restored, reset = [], []
    for n in range(ROUNDS):
        for folder in (workspace.tree, folders["commit"]):
            edit(folder, 100 + n, EDITED)
        restored.append(timed(lambda: workspace.restore(commits[-1])))

        def back() -> None:
            git(folders["commit"], "reset", "-q", "--hard")
            git(folders["commit"], "clean", "-q", "-f", "-d")

        reset.append(timed(back))
    # A restore keeps what it undoes, so git's own way is to stash it.
    compare("restore", restored[1:], {"reset --hard && clean": reset[1:]})

    for folder in (workspace.tree, folders["commit"]):
        edit(folder, 999, MANY)
    last = workspace.snapshot("many").commit
    commit(folders["commit"])
    diff_ours, diff_git = [], []
    for _ in range(3):

        def look() -> None:
            changed = store.changes(commits[-1], last)
            store.fill_in(
                commits[-1],
                last,
                changed[: differences.PATCHED_FILES],
                differences.PATCH_CHARS,
                differences.ALL_PATCHES_CHARS,
            )

        diff_ours.append(timed(look))
        diff_git.append(timed(lambda: git(folders["commit"], "diff", "HEAD~1", "HEAD")))
    compare(f"difference of {MANY} files", diff_ours, {"diff": diff_git})
    workspace.close()
    first(place, tree)
    if ratio["commit"] > BUDGET:
        sys.exit(f"An incremental snapshot took {ratio['commit']} of a commit; {BUDGET} at most.")


def first(place: Path, tree: Path) -> None:
    """A folder that git has never seen, as `git add` of every file of it."""
    from checkpoints.snapshots import SnapshotStore
    from checkpoints.workspaces import Workspace

    ours, plain, durable = [], [], []
    for n in range(2):
        store = SnapshotStore(place / f"first-{n}" / "board.git")
        workspace = Workspace.prepare(
            place / f"first-{n}" / "work", store, card_key="B-1", attempt_number=1
        )
        shutil.copytree(tree, workspace.tree, dirs_exist_ok=True)
        ours.append(timed(lambda w=workspace: w.snapshot("first")))  # type: ignore[misc]
        workspace.close()
        for times, settings in ((plain, ()), (durable, DURABLE)):
            folder = place / f"first-git-{n}"
            shutil.copytree(tree, folder)
            git(folder, "init", "-q")
            times.append(timed(lambda f=folder, s=settings: commit(f, *s)))  # type: ignore[misc]
            shutil.rmtree(folder)
        shutil.rmtree(place / f"first-{n}")
    compare("first snapshot", ours, {"commit": plain, "commit, flushed": durable})


if __name__ == "__main__":
    main()
