"""Reads the Python files of a checkout, slowly and in parts, for the demo's long card.

    python survey.py PART PARTS    append one line per file of the part to survey.csv
    python survey.py --check       add it all up; exit 1 unless every file stands there once

Each part takes a few seconds however fast the machine is, so that there is time to kill it.
A part that was killed half-way has left lines behind: had they not been taken away before the
part ran again, files would stand there twice, and the check would say so.
"""

import ast
import csv
import sys
import time
from collections import Counter
from pathlib import Path

SURVEY = Path("survey.csv")
SECONDS_PER_PART = 6.0
SKIPPED = {".venv", "node_modules", "data", "build", "dist"}


def files() -> list[str]:
    """Return the paths of the Python files here, sorted."""
    found = (path for path in Path().rglob("*.py") if not SKIPPED & set(path.parts))
    return sorted(path.as_posix() for path in found)


def survey(part: int, parts: int) -> None:
    """Append what is in the files of one part, saying so file by file."""
    mine = files()[part - 1 :: parts]
    pause = SECONDS_PER_PART / max(len(mine), 1)
    for done, path in enumerate(mine, start=1):
        tree = ast.parse(Path(path).read_text(encoding="utf-8"), path)
        kinds = Counter(type(node).__name__ for node in ast.walk(tree))
        functions = kinds["FunctionDef"] + kinds["AsyncFunctionDef"]
        with SURVEY.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow([path, functions, kinds["ClassDef"]])
        say(f"part {part} of {parts}  {done:>3}/{len(mine)}  {path}: {functions} functions")
        time.sleep(pause)


def check() -> int:
    """Return 0 if every file was surveyed once."""
    with SURVEY.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    times = Counter(path for path, *_ in rows)
    missing = [path for path in files() if path not in times]
    twice = [path for path, count in times.items() if count > 1]
    say(f"{len(rows)} files, {sum(int(f) for _, f, _ in rows)} functions")
    say(f"missing: {', '.join(missing) or 'none'}")
    say(f"surveyed twice: {', '.join(twice) or 'none'}")
    return 1 if missing or twice else 0


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        sys.exit(check())
    survey(int(sys.argv[1]), int(sys.argv[2]))
