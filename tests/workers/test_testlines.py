"""Reports of lines are told apart by what is in them, and hold only what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from workers import junit

GO = [
    {"Action": "start", "Package": "ex/pay"},
    {"Action": "run", "Package": "ex/pay", "Test": "TestAdd"},
    {"Action": "output", "Package": "ex/pay", "Test": "TestAdd", "Output": "--- PASS\n"},
    {"Action": "pass", "Package": "ex/pay", "Test": "TestAdd", "Elapsed": 0.01},
    {"Action": "fail", "Package": "ex/pay", "Test": "TestSum/negative"},
    {"Action": "fail", "Package": "ex/pay", "Test": "TestSum"},
    {"Action": "skip", "Package": "ex/pay", "Test": "TestSlow"},
    {"Action": "fail", "Package": "ex/pay", "Elapsed": 0.2},
    {"Action": "fail", "Package": "ex/broken"},
]
TAP = """TAP version 14
1..5
ok 1 - adds
not ok 2 - sums # of negatives
  ---
  message: boom
  ...
    ok 1 - a part of the third
ok 3 - parts
not ok 4 - later # TODO write it
ok 5 # SKIP no network
"""
PYTEST = """============ test session starts ============
collected 5 items

tests/test_pay.py .Fsx                  [100%]

========= FAILURES ==========
FAILED because of this: no result
=========== short test summary info ===========
PASSED tests/test_pay.py::test_ok
PASSED tests/test_pay.py::test_total[a - b]
SKIPPED [2] tests/test_pay.py:9: no network
XFAIL tests/test_pay.py::test_known - later
FAILED tests/test_pay.py::test_sum[1-2] - assert 1 == 2
ERROR tests/test_other.py - ImportError: gone
"""


def read(folder: Path, text: str) -> junit.Report:
    (folder / "report").write_text(text)
    return junit.read(folder, "report")


@pytest.mark.parametrize(
    ("text", "tests"),
    [
        (
            "\n".join(json.dumps(event) for event in GO),
            (1, 3, 1, ["ex/pay::TestSum/negative", "ex/pay::TestSum", "ex/broken"]),
        ),
        (TAP, (2, 1, 2, ["sums # of negatives"])),
        ("ok 1 - a\nnot ok 2\n1..2\n", (1, 1, 0, ["test 2"])),
        ("1..3\nok 1 - a\nBail out! no disk\nok 3 - c\n", (1, 1, 0, ["Bail out! no disk"])),
        (PYTEST, (2, 2, 3, ["tests/test_pay.py::test_sum[1-2]", "tests/test_other.py"])),
    ],
    ids=["go", "tap", "tap, the plan last", "tap, bailed out", "pytest"],
)
def test_each_kind_is_counted(tmp_path: Path, text: str, tests: tuple[Any, ...]) -> None:
    report = read(tmp_path, text)
    assert report.reason is None
    assert report.tests == dict(zip(("passed", "failed", "skipped", "failing"), tests, strict=True))


@pytest.mark.parametrize(
    "text",
    [
        "hello\n" * 10,
        '{"Action": "pass"',
        "okay then\n",
        "[" * 100_000,
        "x" * 3_000_000,
    ],
)
def test_what_is_no_report_is_said_to_be_none(tmp_path: Path, text: str) -> None:
    report = read(tmp_path, text)
    counted = report.tests or {}
    assert report.reason or not any(counted[n] for n in ("passed", "failed", "skipped"))


def test_a_broken_line_costs_only_itself(tmp_path: Path) -> None:
    lines = [json.dumps(GO[3]), '{"Action": ' + "[" * 5000, '{"Action": 7}', '"Action"', "[1]"]
    report = read(tmp_path, "\n".join([*lines, json.dumps(GO[6])]))
    assert report.tests == {"passed": 1, "failed": 0, "skipped": 1, "failing": []}
