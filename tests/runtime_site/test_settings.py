"""Settings as a new process reads them."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
_OURS = ("DATABASE_URL", "REDIS_URL", "PUBLIC_URL", "HOST", "PORT", "DEBUG", "ALLOWED_HOSTS")


def start(*command: str, **extra: Any) -> subprocess.Popen[str]:
    plain = {name: value for name, value in os.environ.items() if name not in _OURS}
    return subprocess.Popen(
        [sys.executable, *command],
        env={**plain, **{name: str(value) for name, value in extra.items()}},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*command: str, **extra: Any) -> tuple[int, str, str]:
    process = start(*command, **extra)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def read(names: str, **extra: Any) -> Any:
    code = f"import json; from runtime_site import settings as s; print(json.dumps([{names}]))"
    status, out, err = run("-c", code, **extra)
    assert status == 0, err
    return json.loads(out)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "http"),
        ("WORKERS", "-1"),
        ("DATABASE_URL", "oracle://x/y"),
        ("REDIS_URL", "localhost"),
        ("BOOTSTRAP_TOKEN", "too-short"),
        ("HTTP_HANDLER", "fast"),
        ("DEMO", "perhaps"),
    ],
)
def test_a_wrong_variable_ends_in_one_sentence_that_names_it(
    tmp_path: Path, name: str, value: str
) -> None:
    status, out, err = run("manage.py", "check", DATA_DIR=tmp_path, **{name: value})
    assert status == 1
    assert out == ""
    assert err.startswith(f"holdfast: {name}")
    assert err.count("\n") == 1


def test_a_data_folder_that_can_not_be_used_ends_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    status, _, err = run("manage.py", "check", DATA_DIR=tmp_path / "file" / "data")
    assert status == 1
    assert "can't be used" in err
    assert err.count("\n") == 1


def test_processes_that_start_together_keep_one_key(tmp_path: Path) -> None:
    code = "from runtime_site import settings; print(settings.SECRET_KEY)"
    racing = [start("-c", code, DATA_DIR=tmp_path / "new") for _ in range(8)]
    keys = {process.communicate(timeout=60)[0].strip() for process in racing}
    assert len(keys) == 1
    key = keys.pop()
    assert len(key) > 50
    file = tmp_path / "new" / "secret_key"
    assert file.read_text() == f"{key}\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_half_a_key_is_made_anew_and_a_readable_one_is_closed(tmp_path: Path) -> None:
    file = tmp_path / "secret_key"
    file.write_text("half of a k")
    file.chmod(0o644)
    (key,) = read("s.SECRET_KEY", DATA_DIR=tmp_path)
    assert file.read_text() == f"{key}\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_given_key_is_used_and_none_is_kept(tmp_path: Path) -> None:
    given = "given-" * 10
    assert read("s.SECRET_KEY", DATA_DIR=tmp_path, SECRET_KEY=given) == [given]
    assert not (tmp_path / "secret_key").exists()


def test_earlier_keys_are_told_with_commas_between() -> None:
    assert read("s.SECRET_KEY_FALLBACKS", SECRET_KEY_FALLBACKS="") == [[]]
    earlier = read("s.SECRET_KEY_FALLBACKS", SECRET_KEY_FALLBACKS="one earlier key, another one")
    assert earlier == [["one earlier key", "another one"]]


def test_installations_on_one_machine_do_not_share_a_session_cookie(tmp_path: Path) -> None:
    names = {read("s.SESSION_COOKIE_NAME", DATA_DIR=tmp_path / name)[0] for name in "ab"}
    assert len(names) == 2


def test_only_loopback_names_are_served_unless_more_are_given(tmp_path: Path) -> None:
    (hosts,) = read("s.ALLOWED_HOSTS", DATA_DIR=tmp_path, HOST="0.0.0.0")
    assert hosts == ["127.0.0.1", "localhost", "[::1]"]
    (hosts,) = read("s.ALLOWED_HOSTS", DATA_DIR=tmp_path, ALLOWED_HOSTS="hf.example")
    assert "hf.example" in hosts


def test_behind_tls_cookies_are_secure(tmp_path: Path) -> None:
    names = "s.SESSION_COOKIE_SECURE, s.CSRF_COOKIE_SECURE, s.BASE_URL, s.CSRF_TRUSTED_ORIGINS"
    public = "https://hf.example"
    assert read(names, DATA_DIR=tmp_path, PUBLIC_URL=f"{public}/") == [True, True, public, [public]]
    assert read(names, DATA_DIR=tmp_path)[:3] == [False, False, "http://127.0.0.1:8000"]


def test_deployed_behind_tls_nothing_is_left_to_warn_about(tmp_path: Path) -> None:
    status, _, err = run(
        "manage.py",
        "check",
        "--deploy",
        "--fail-level=WARNING",
        "--tag=security",
        DATA_DIR=tmp_path,
        PUBLIC_URL="https://hf.example",
    )
    assert (status, err) == (0, "")
