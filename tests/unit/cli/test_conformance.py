"""`forebay conformance` shows its checks without a target, and says plainly what is wrong with what it was given."""

import json

import pytest
from click.testing import CliRunner, Result

from forebay.cli.root import main


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["conformance", *arguments])


@pytest.mark.parametrize("service", ["predictor", "scheduler", "autoscaler", "metrics"])
def test_the_checks_of_every_service_are_listed_without_asking_anybody(service: str) -> None:
    result = run(service, "--target", "nobody", "--list", "--json")
    assert result.exit_code == 0
    checks = json.loads(result.output)
    assert len(checks) > 40
    assert {tuple(one) for one in checks} == {("area", "name", "promise")}
    assert all(one["promise"].endswith(".") for one in checks)


def test_the_list_is_a_table_for_readers() -> None:
    result = run("autoscaler", "--target", "nobody", "--list", "--only", "setmode")
    assert result.exit_code == 0
    assert "promise" in result.output
    assert "SetBounds" not in result.output


def test_only_looks_into_rpcs_and_names_whatever_the_case() -> None:
    result = run("scheduler", "--target", "nobody", "--list", "--json", "--only", "SAME LEASE")
    assert [one["area"] for one in json.loads(result.output)] == ["Place"]


def test_a_text_that_no_check_has_is_refused() -> None:
    result = run("scheduler", "--target", "nobody", "--only", "nonsense")
    assert result.exit_code == 2
    assert result.output == "Error: no check of scheduler has 'nonsense' in its RPC or name; see: --list\n"


def test_a_service_that_nobody_knows_is_refused() -> None:
    result = run("gateway", "--target", "nobody")
    assert result.exit_code == 2
    assert "'predictor', 'scheduler', 'autoscaler', 'metrics'" in result.output
