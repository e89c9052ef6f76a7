"""A check that breaks is one bad line, not the end of all others."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from forebay.cli import doctor
from forebay.cli.state import run_file


def test_every_check_has_its_line(tmp_path: Path) -> None:
    found = [one.check for one in doctor.findings(tmp_path)]
    for check in ("python", "packages", "onnxruntime", "GPU", "Triton", "ports", "database", "data"):
        assert check in found


def test_what_is_not_ok_says_what_to_do(tmp_path: Path) -> None:
    assert all(one.advice for one in doctor.findings(tmp_path) if one.level != doctor.OK)


def test_a_check_that_breaks_is_a_bad_line_and_the_others_go_on() -> None:
    def broken() -> Iterator[doctor.Finding]:
        raise RuntimeError("boom")
        yield

    first, second = doctor.run_checks({"GPU": broken, "python": doctor.check_python})
    assert (first.check, first.level) == ("GPU", doctor.FAIL)
    assert "boom" in first.seen
    assert (second.check, second.level) == ("python", doctor.OK)


def test_a_damaged_run_file_is_found(tmp_path: Path) -> None:
    run_file(tmp_path).write_text("{")
    found = {one.check: one for one in doctor.findings(tmp_path)}
    assert found["ports"].level == doctor.FAIL
    assert "delete it" in found["ports"].seen


def test_a_database_that_cannot_be_opened_fails_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOREBAY_DATABASE_URL", "nosuch://somewhere")
    (found,) = doctor.check_database(tmp_path)
    assert found.level == doctor.FAIL
    assert "FOREBAY_DATABASE_URL" in found.advice
