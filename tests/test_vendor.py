"""Vendored files are what their README says they are, and call nobody."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

VENDOR = Path(__file__).resolve().parent.parent / "static" / "vendor"
LINES = re.findall(
    r"^\| `([^`]+\.(?:js|woff2))` \|.*`([0-9a-f]{64})` \|$",
    (VENDOR / "README.md").read_text(encoding="utf-8"),
    re.MULTILINE,
)


def test_the_readme_names_every_vendored_file():
    kept = {path.name for path in VENDOR.iterdir() if path.suffix in (".js", ".woff2")}
    kept -= {"pragmatic-dnd.entry.js"}
    assert {name for name, _ in LINES if "/" not in name} == kept


@pytest.mark.parametrize(("name", "digest"), LINES)
def test_a_vendored_file_is_the_one_that_was_read(name, digest):
    content = (VENDOR / name).read_bytes()
    assert hashlib.sha256(content).hexdigest() == digest
    assert b"sourceMappingURL" not in content
    assert list((VENDOR / name).parent.glob(re.split(r"[.]|-ext", Path(name).name)[0] + ".LICENSE"))


def test_the_drag_and_drop_bundle_exports_what_its_entry_lists():
    entry = (VENDOR / "pragmatic-dnd.entry.js").read_text(encoding="utf-8")
    listed = {name for names in re.findall(r"\{([^}]*)\}", entry) for name in names.split(",")}
    bundle = (VENDOR / "pragmatic-dnd.js").read_text(encoding="utf-8")
    exported = re.findall(r"\w+ as (\w+)", bundle[bundle.rindex("export{") :])
    assert set(exported) == {name.strip() for name in listed}
