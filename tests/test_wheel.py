"""The wheel holds everything that Holdfast runs on, not only its modules."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

LOOK = """
from django.contrib.staticfiles import finders
from django.core.management import call_command
from django.template.loader import get_template
import runtime_site
call_command("migrate", verbosity=0)
print(runtime_site.__file__)
print(get_template("signin.html").origin.name)
print(finders.find("vendor/htmx.min.js"))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, unpacked as an installer would."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    subprocess.run([*build, str(ROOT)], check=True, capture_output=True, timeout=120)
    (wheel,) = folder.glob("holdfast-*-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(folder / "site")
    return folder / "site"


def test_it_runs_away_from_the_checkout(installed, tmp_path):
    ran = subprocess.run(
        [sys.executable, str(installed / "holdfast_share" / "manage.py"), "shell", "-c", LOOK],
        cwd=tmp_path,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(installed),
            "DATA_DIR": str(tmp_path / "data"),
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    paths = [line for line in ran.stdout.splitlines() if line.startswith(str(tmp_path.anchor))]
    assert len(paths) == 3
    assert all(path.startswith(str(installed)) for path in paths)


def test_it_leaves_nothing_of_the_checkout_out(installed):
    shipped = (
        "holdfast kernel events goals boards checkpoints workers runtime_site"
        " templates static manage.py"
    )
    kept = subprocess.run(
        ["git", "ls-files", "--cached", *shipped.split()],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    shared = ("templates/", "static/", "manage.py")
    missing = [
        path
        for path in kept
        if not (installed / ("holdfast_share" if path.startswith(shared) else "") / path).exists()
        and (ROOT / path).exists()
    ]
    assert missing == []
