from __future__ import annotations

import os
import shutil
import signal

import hypothesis
import pytest

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


#: Stages of their own: a test in one of them runs once, whatever store the unit tests are on.
STAGES = ("browser", "chaos", "acceptance")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Browser tests are skipped where there is no browser; see also ``--database-only``."""
    for item in items:
        staged = any(item.get_closest_marker(name) for name in STAGES)
        if "site" in getattr(item, "fixturenames", ()) and not staged:
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
    """Return whether the test opens the test database or a site on the database of this run."""
    fixtures = getattr(item, "fixturenames", ())
    return any(item.get_closest_marker(name) for name in ("django_db", "postgres")) or any(
        name in fixtures for name in ("db", "transactional_db", "django_db_setup")
    )
