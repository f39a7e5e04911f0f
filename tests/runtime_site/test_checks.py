from __future__ import annotations

from typing import Any

import pytest

from runtime_site import checks


def ids(found: list[Any]) -> list[str]:
    return [message.id for message in found]


def test_on_loopback_a_developer_may_have_it_easy(settings: Any) -> None:
    settings.HOST, settings.DEBUG, settings.ALLOWED_HOSTS = "127.0.0.1", True, ["*"]
    assert checks.exposed() == []


def test_beyond_loopback_debug_and_any_host_are_refused(settings: Any) -> None:
    settings.HOST, settings.DEBUG, settings.ALLOWED_HOSTS = "0.0.0.0", True, ["*"]
    assert ids(checks.exposed()) == ["runtime_site.E001", "runtime_site.E002"]


@pytest.mark.parametrize("key", ["short", "a" * 64])
def test_a_key_that_can_be_guessed_is_refused(settings: Any, key: str) -> None:
    settings.SECRET_KEY = key
    assert ids(checks.keys_and_clocks()) == ["runtime_site.E003"]


def test_clocks_that_contradict_each_other_are_refused(settings: Any) -> None:
    assert checks.keys_and_clocks() == []
    settings.Q_CLUSTER = {**settings.Q_CLUSTER, "retry": 10, "timeout": 20}
    assert ids(checks.keys_and_clocks()) == ["runtime_site.E004", "runtime_site.E005"]


@pytest.mark.parametrize(
    ("version", "affected"),
    [
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 52, 0), False),
    ],
)
def test_sqlite_versions_with_the_wal_reset_bug_are_known(
    version: tuple[int, int, int], affected: bool
) -> None:
    assert checks.sqlite_can_lose_a_wal(version) is affected
