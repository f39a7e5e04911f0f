"""That every word is translated, and that what is served is what was translated."""

from __future__ import annotations

import gettext
import re
import subprocess
from pathlib import Path

import pytest
from django.db.models import Choices
from django.test import Client
from django.utils.functional import Promise

from boards.models import Attempt, Card, Column
from goals.models import Discovery, Goal
from goals.search.models import Entry
from tests.factories import make_board, make_user

FOLDER = Path(__file__).parent.parent / "locale" / "de" / "LC_MESSAGES"
QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')


def entries(domain: str) -> dict[str, list[str]]:
    """Return what the .po says: message → its forms."""
    found: dict[str, list[str]] = {}
    text = (FOLDER / f"{domain}.po").read_text()
    assert ", fuzzy" not in text
    for block in text.split("\n\n")[1:]:
        parts: dict[str, str] = {}
        name = ""
        for line in block.splitlines():
            if line.startswith("#"):
                continue
            name = line.split(" ", 1)[0] if line.startswith("msg") else name
            parts[name] = parts.get(name, "") + "".join(QUOTED.findall(line))
        if "msgid" in parts:
            found[parts["msgid"]] = [v for k, v in parts.items() if k.startswith("msgstr")]
    return found


@pytest.mark.parametrize("domain", ["django", "djangojs"])
def test_every_message_is_translated_and_keeps_its_blanks(domain: str) -> None:
    blanks = re.compile(r"\{\w+\}|%\(\w+\)s")
    said = entries(domain)
    assert len(said) > 200
    for message, forms in said.items():
        for form in forms:
            assert form, message
            assert set(blanks.findall(form)) <= set(blanks.findall(message)) | {"{n}", "%(n)s"}, (
                message
            )


@pytest.mark.parametrize("domain", ["django", "djangojs"])
def test_what_is_served_is_what_was_translated(domain: str) -> None:
    with (FOLDER / f"{domain}.mo").open("rb") as file:
        compiled = gettext.GNUTranslations(file)
    for message, forms in entries(domain).items():
        plain = message.encode().decode("unicode_escape").encode("latin-1", "ignore")
        if "\\" in message or len(forms) > 1 or not plain:
            continue
        assert compiled.gettext(message) == forms[0].replace("\\", "")


@pytest.mark.django_db
def test_pages_and_scripts_speak_the_readers_language() -> None:
    client = Client()
    client.force_login(make_user(is_superuser=True))
    board = make_board()
    german = {"HTTP_ACCEPT_LANGUAGE": "de"}
    html = client.get(f"/boards/{board.key}", **german).content.decode()
    assert "Suchen oder ausführen" in html
    words = client.get("/words.json", **german).json()["catalog"]
    assert words["Undo"] == "Rückgängig"
    assert words["{n} card"] == ["{n} Karte", "{n} Karten"]
    assert client.get("/words.json").json()["catalog"].get("Undo", "Undo") == "Undo"
    client.post("/language", {"language": "de", "next": "/"})
    assert '<html lang="de"' in client.get(f"/boards/{board.key}").content.decode()


def test_no_message_of_a_template_or_script_is_missing(tmp_path: Path) -> None:
    root = FOLDER.parent.parent.parent
    said = entries("djangojs")
    scripts = [*(root / "static" / "js").rglob("*.js")]
    out = tmp_path / "found.po"
    command = ["xgettext", "--language=JavaScript", "--from-code=UTF-8", "-o", str(out)]
    try:
        subprocess.run([*command, *map(str, scripts)], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("xgettext is not installed")
    found = set(re.findall(r'^msgid "((?:[^"\\]|\\.)+)"$', out.read_text(), re.MULTILINE))
    assert found
    assert not found - set(said)


@pytest.mark.parametrize(
    "choices",
    [
        Attempt.Status,
        Card.State,
        Column.Kind,
        Discovery.Kind,
        Discovery.Severity,
        Discovery.Status,
        Entry.Kind,
        Goal.Status,
    ],
)
def test_what_pages_show_of_a_code_is_in_the_readers_language(choices: type[Choices]) -> None:
    assert all(isinstance(label, Promise) for label in choices.labels)
