from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from runtime_site import env


@pytest.mark.parametrize(
    ("raw", "value"), [("1", True), ("TRUE", True), ("off", False), ("0", False), ("", True)]
)
def test_a_switch_is_read(monkeypatch: Any, raw: str, value: bool) -> None:
    monkeypatch.setenv("DEMO", raw)
    assert env.env_bool("DEMO", True) is value


@pytest.mark.parametrize("raw", ["2", "maybe"])
def test_a_switch_that_is_none_is_refused_by_name(monkeypatch: Any, raw: str) -> None:
    monkeypatch.setenv("DEMO", raw)
    with pytest.raises(ImproperlyConfigured, match=f"DEMO={raw} is not a switch"):
        env.env_bool("DEMO", True)


@pytest.mark.parametrize("raw", ["0", "65536", "80a", "1e3", "-1"])
def test_a_number_out_of_range_is_refused_with_its_range(monkeypatch: Any, raw: str) -> None:
    monkeypatch.setenv("PORT", raw)
    with pytest.raises(ImproperlyConfigured, match=r"set it to 1\.\.65535"):
        env.env_int("PORT", 8000, low=1, high=65535)


def test_an_empty_variable_counts_as_unset(monkeypatch: Any) -> None:
    monkeypatch.setenv("PORT", "  ")
    assert env.env_int("PORT", 8000, low=1, high=65535) == 8000


def test_a_list_drops_blanks(monkeypatch: Any) -> None:
    monkeypatch.setenv("ALLOWED_HOSTS", " a.example, ,b.example,")
    assert env.env_list("ALLOWED_HOSTS") == ["a.example", "b.example"]


@pytest.mark.parametrize("raw", ["redis", "http://h:1", "redis://", "redis://h:port"])
def test_an_address_of_the_wrong_kind_is_refused(monkeypatch: Any, raw: str) -> None:
    monkeypatch.setenv("REDIS_URL", raw)
    with pytest.raises(ImproperlyConfigured, match="REDIS_URL"):
        env.env_url("REDIS_URL", ("redis", "rediss"))


def database(url: str) -> dict[str, Any]:
    return env.database(url, Path("/data/x.sqlite3"), {"timeout": 20})


def test_without_an_address_the_store_is_sqlite_in_the_data_folder() -> None:
    found = database("")
    assert found["ENGINE"].endswith("sqlite3")
    assert found["NAME"] == "/data/x.sqlite3"
    assert database("sqlite:////tmp/y.sqlite3")["NAME"] == "/tmp/y.sqlite3"


def test_a_postgresql_address_is_taken_apart() -> None:
    found = database("postgresql://ad%40a:p%2Fw@db.example:5433/hold%20fast?sslmode=require")
    assert found["USER"] == "ad@a"
    assert found["PASSWORD"] == "p/w"
    assert (found["HOST"], found["PORT"], found["NAME"]) == ("db.example", "5433", "hold fast")
    assert found["OPTIONS"]["sslmode"] == "require"
    assert "lock_timeout" in found["OPTIONS"]["options"]
    assert database("postgres:///hf?host=/run/postgresql")["HOST"] == "/run/postgresql"


@pytest.mark.parametrize(
    "url", ["mysql://h/db", "postgresql://h", "postgresql://h:x/db", "sqlite://", "nonsense"]
)
def test_another_address_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="DATABASE_URL") as refused:
        database(url.replace("://", "://ada:secret@"))
    assert "secret" not in str(refused.value)
