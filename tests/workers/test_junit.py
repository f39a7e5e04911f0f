from __future__ import annotations

import os
from pathlib import Path

import pytest

from workers import junit

REPORT = """<?xml version="1.0" encoding="utf-8"?>
<testsuites><testsuite name="pytest" errors="1" failures="1" skipped="1" tests="4">
  <testcase classname="tests.test_pay" name="test_ok" time="0.001"/>
  <testcase classname="tests.test_pay" name="test_total[1-2]">
    <failure message="assert 1 == 2">long text</failure></testcase>
  <testcase classname="tests.test_pay" name="test_setup"><error message="boom"/></testcase>
  <testcase classname="tests.test_pay" name="test_slow"><skipped message="slow"/></testcase>
</testsuite></testsuites>
"""


def written(folder: Path, text: str, name: str = "report.xml") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_a_report_is_counted_and_names_what_failed(tmp_path: Path) -> None:
    report = junit.read(written(tmp_path, REPORT), "report.xml")
    assert report.reason is None
    assert report.tests == {
        "passed": 1,
        "failed": 2,
        "skipped": 1,
        "failing": ["tests.test_pay::test_total[1-2]", "tests.test_pay::test_setup"],
    }
    assert len(report.passing) == 1
    assert report.passing[0].startswith("tests.test_pay::")


def test_a_single_suite_without_testsuites_around_it_is_read(tmp_path: Path) -> None:
    text = "<testsuite xmlns='urn:x'><testcase name='a'/></testsuite>"
    report = junit.read(written(tmp_path, text), "report.xml")
    assert report.tests == {"passed": 1, "failed": 0, "skipped": 0, "failing": []}


def test_an_empty_suite_is_zero_tests_not_an_error(tmp_path: Path) -> None:
    report = junit.read(written(tmp_path, "<testsuites/>"), "report.xml")
    assert report.tests == {"passed": 0, "failed": 0, "skipped": 0, "failing": []}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not JUnit XML"),
        ("<testsuite><testcase name='a'>", "not JUnit XML"),
        ("<html><body/></html>", "not a JUnit report"),
        ("<testsuite>" + "<a>" * 500 + "</a>" * 500 + "</testsuite>", "nests deeper"),
        ("<?xml version='1.0' encoding='no-such'?><testsuite/>", "not JUnit XML"),
        (
            "<!DOCTYPE t [<!ENTITY a 'ha'><!ENTITY b '&a;&a;&a;'>]><testsuite>&b;</testsuite>",
            "entities or a document type",
        ),
        (
            "<!DOCTYPE t [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><testsuite>&x;</testsuite>",
            "entities or a document type",
        ),
    ],
)
def test_a_report_that_can_not_be_used_gives_a_reason(
    tmp_path: Path, text: str, reason: str
) -> None:
    report = junit.read(written(tmp_path, text), "report.xml")
    assert report.tests is None
    assert reason in (report.reason or "")


def test_a_missing_report_gives_a_reason(tmp_path: Path) -> None:
    assert "wrote no report at out/report.xml" in (
        junit.read(tmp_path, "out/report.xml").reason or ""
    )


def test_only_the_first_failing_names_are_kept(tmp_path: Path) -> None:
    cases = "".join(f"<testcase name='{'n' * 400}{n}'><failure/></testcase>" for n in range(300))
    report = junit.read(written(tmp_path, f"<testsuite>{cases}</testsuite>"), "report.xml")
    assert report.tests is not None
    assert report.tests["failed"] == 300
    assert len(report.tests["failing"]) == junit.MAX_FAILING
    assert max(map(len, report.tests["failing"])) == junit.MAX_NAME_CHARS


def test_a_report_over_the_size_limit_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(junit, "MAX_BYTES", 1000)
    text = "<testsuite>" + "<testcase name='a'/>" * 200 + "</testsuite>"
    assert "larger than" in (junit.read(written(tmp_path, text), "report.xml").reason or "")


def test_a_report_that_is_a_link_a_pipe_or_a_folder_is_refused(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    written(outside, REPORT)
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link.xml").symlink_to(outside / "report.xml")
    (inside / "folder").symlink_to(outside)
    os.mkfifo(inside / "pipe.xml")
    for name in (
        "link.xml",
        "folder/report.xml",
        "pipe.xml",
        "../outside/report.xml",
        ".",
    ):
        report = junit.read(inside, name)
        assert report.tests is None
        assert report.reason
