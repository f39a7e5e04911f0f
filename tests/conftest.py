from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import hypothesis
import pytest
from django.db import connection
from pytest_django import DjangoDbBlocker

from tests import emptying, schema

# Examples drawn while processes start and databases commit take as long as they take. CI draws
# the same ones each time, so that a change is to blame for what fails there; at a desk each run
# looks elsewhere, and `--hypothesis-profile=deep` looks for long.
_slow = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
hypothesis.settings.register_profile("desk", max_examples=50, **_slow)
hypothesis.settings.register_profile("ci", max_examples=50, derandomize=True, **_slow)
hypothesis.settings.register_profile("deep", max_examples=2000, **_slow)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "desk")


# In the background of a script, Ctrl-C is ignored, and whatever is started here would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--database-only",
        action="store_true",
        help="run only what a store is under: the part that another DATABASE_URL can change",
    )


@pytest.fixture(scope="session")
def django_db_keepdb(request: pytest.FixtureRequest, django_db_modify_db_settings: None) -> bool:
    """On SQLite the test store begins as a copy, and goes with the folder of this run."""
    if connection.vendor == "sqlite":
        schema.copy_to(Path(connection.settings_dict["TEST"]["NAME"]))
        return True
    return bool(request.config.getvalue("reuse_db"))


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> None:
    """The test store is there, and quickly emptied."""
    with django_db_blocker.unblock():
        emptying.quickly()


#: Stages of their own: a test in one of them runs once, whatever store the unit tests are on.
STAGES = ("browser", "chaos", "acceptance")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Browser tests are skipped where there is no browser; see also ``--database-only``."""
    for item in items:
        marked = [name for name in STAGES if item.get_closest_marker(name)]
        for name in marked:  # tests/run finds the files of a stage so
            assert f"mark.{name}" in item.path.read_text(), f"{item.path} must mark {name} itself"
        if "site" in getattr(item, "fixturenames", ()) and not marked:
            item.add_marker(pytest.mark.system)  # a server of its own, on a store of its own
    if not os.environ.get("CHROMIUM"):
        os.environ["CHROMIUM"] = shutil.which("chromium") or shutil.which("google-chrome") or ""
    if not os.environ["CHROMIUM"]:
        for item in items:
            if item.get_closest_marker("browser"):
                item.add_marker(pytest.mark.skip(reason="no Chromium; name one with CHROMIUM"))
    if config.getoption("--database-only"):
        config.hook.pytest_deselected(items=[item for item in items if not _has_store(item)])
        items[:] = [item for item in items if _has_store(item)]


def _has_store(item: pytest.Item) -> bool:
    """Return whether the test opens the store of this run, and another might show another thing."""
    if item.get_closest_marker("once"):
        return False
    fixtures = getattr(item, "fixturenames", ())
    return any(item.get_closest_marker(name) for name in ("django_db", "store")) or any(
        name in fixtures for name in ("db", "transactional_db", "django_db_setup")
    )
